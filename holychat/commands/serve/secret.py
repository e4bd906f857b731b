"""The bearer token: made once, kept in a file that only its owner can read.

Owns the file. Must not show a token: whoever starts the relay does, once.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets

from holychat.core.failure import SettingsError

BYTES = 32
NAME = "serve-token"
# What stands in a header as it is; a browser's WebSocket takes no `/`, `+` or `=`, curl does.
_SOUND = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")


def token(path: str) -> str:
    """The token in a file, which is made with a new one where there is none. Raises SettingsError.

    Two that start at once agree: the file appears whole or not at all, and the first one stays.
    """
    try:
        if not os.path.exists(path):
            _make(path)
        with open(path, encoding="utf-8", errors="replace") as file:
            found = file.read(4096).strip()
            open_to = os.fstat(file.fileno()).st_mode & 0o077
    except OSError as error:
        raise SettingsError(f"the token file {path}: {error.strerror}") from error
    if os.name == "posix" and open_to:
        raise SettingsError(f"the token file {path} can be read by others", f"chmod 600 {path}")
    if not _SOUND.fullmatch(found):
        raise SettingsError(
            f"the token file {path} holds no token",
            "It takes one line of 16 letters and digits or more; without the file one is made.",
        )
    return found


def _make(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    draft = f"{path}.{secrets.token_hex(6)}"
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another one was faster: it is that one's
            os.link(draft, path)
    finally:
        os.unlink(draft)
