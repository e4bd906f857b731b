"""Text to the clipboard: a local program where there is one, else OSC 52 through the terminal.

Owns the choice. OSC 52 works through SSH; tmux is asked by its own program, which needs none of
its options; nobody answers an OSC 52, so it is only said to have been sent.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from holychat import env

if TYPE_CHECKING:
    from collections.abc import Mapping

# (program with arguments, the environment variable without which it cannot work)
_PROGRAMS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("wl-copy",), "WAYLAND_DISPLAY"),
    (("xclip", "-selection", "clipboard"), "DISPLAY"),
    (("xsel", "--clipboard", "--input"), "DISPLAY"),
)


def copy(text: str, environ: Mapping[str, str]) -> str:
    """Copy; returns how, for the user ("with xclip"). Raises OSError where nothing works."""
    command = _program(environ)
    if command:
        try:
            subprocess.run(command, input=text.encode(), check=True, timeout=5, capture_output=True)
            return f"with {command[0]}"
        except (OSError, subprocess.SubprocessError):
            pass  # a display that is gone: the terminal may still do it
    if not env.is_terminal(env.STDOUT):
        raise OSError("there is no clipboard program and no terminal")
    env.write(_wrapped(b"\x1b]52;c;" + base64.b64encode(text.encode()) + b"\x07", environ))
    return "through the terminal (OSC 52), where it allows that"


def _wrapped(code: bytes, environ: Mapping[str, str]) -> bytes:
    """GNU screen passes a sequence on in parts of 768 bytes at most, as device control strings."""
    if environ.get("TMUX") or not environ.get("STY"):
        return code
    parts = (code[at : at + 760] for at in range(0, len(code), 760))
    return b"".join(b"\x1bP" + part + b"\x1b\\" for part in parts)


def _program(environ: Mapping[str, str]) -> tuple[str, ...]:
    if sys.platform == "darwin":
        return ("pbcopy",)
    if sys.platform == "win32":
        return ("clip",)
    if environ.get("TMUX") and shutil.which("tmux"):
        return ("tmux", "load-buffer", "-w", "-")  # its own buffer, and the terminal's around it
    if environ.get("SSH_CONNECTION"):
        return ()  # the clipboard of this machine is not the user's
    for command, needed in _PROGRAMS:
        if environ.get(needed) and shutil.which(command[0]):
            return command
    return ()
