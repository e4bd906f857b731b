"""Writing small private files so that no crash, race or other user can spoil them.

Owns the manner (0600 in a 0700 folder, whole or not at all). Must not know what is in them.
"""

from __future__ import annotations

import contextlib
import os
import stat


def write_private(path: str, data: bytes) -> None:
    """Replace the file by `data` atomically; others may not read it. Raises OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def append_private(path: str, data: bytes) -> None:
    """Append `data` in one write, so that lines of several processes do not mix. Raises OSError.

    O_APPEND makes each write land at the end whole on local file systems (POSIX write).
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        tighten(path, 0o600)
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def tighten(path: str, mode: int) -> None:
    """Take from others what they may do with the file or folder; only with what is our own.

    Nothing is said where it cannot be done: it is as it was.
    """
    if not hasattr(os, "geteuid"):
        return  # Windows keeps a user's files by its folder
    with contextlib.suppress(OSError):
        found = os.stat(path)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & ~mode:
            os.chmod(path, stat.S_IMODE(found.st_mode) & mode)
