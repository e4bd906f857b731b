"""What a conversation is called. Pure text."""

from __future__ import annotations


def title_of(prompt: str, most: int = 60) -> str:
    """A title from the first words of a prompt."""
    words = " ".join(prompt.split())
    if len(words) <= most:
        return words
    cut = words[: most + 1].rsplit(" ", 1)[0] if " " in words[: most + 1] else words[:most]
    return f"{cut[:most].rstrip(' ,.;:')}…"
