"""What was typed at the prompt: one JSON string a line, newest last, in a private file.

Several holychats write to it at once: each entry is one O_APPEND write, and a reader passes over
what it cannot read. Must not know prompt_toolkit.
"""

from __future__ import annotations

import json
import os

from holychat.store.files import append_private

NEWEST = 2 * 1024 * 1024  # bytes at the end of the file that are read: thousands of entries


def read(path: str) -> list[str]:
    """The entries, oldest first; an unreadable file has none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - NEWEST))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    if size > NEWEST:
        del lines[0]  # begins in the middle
    entries: list[str] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, str) and entry and (not entries or entries[-1] != entry):
            entries.append(entry)
    return entries


def add(path: str, text: str) -> None:
    """Keep one entry. Raises OSError."""
    # Begins with a newline too: half a line of a writer that was killed does not spoil this one.
    append_private(path, b"\n" + json.dumps(text).encode() + b"\n")
