"""Text to the clipboard: a local program where there is one, else OSC 52 through the terminal.

Owns the choice. OSC 52 works through SSH, and through tmux in its passthrough form (and where
tmux has `set-clipboard on`).
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
    code = b"\x1b]52;c;" + base64.b64encode(text.encode()) + b"\x07"
    if environ.get("TMUX"):
        code = b"\x1bPtmux;" + code.replace(b"\x1b", b"\x1b\x1b") + b"\x1b\\"
    env.write(code)
    return "through the terminal (OSC 52)"


def _program(environ: Mapping[str, str]) -> tuple[str, ...]:
    if sys.platform == "darwin":
        return ("pbcopy",)
    if sys.platform == "win32":
        return ("clip",)
    if environ.get("SSH_CONNECTION"):
        return ()  # the clipboard of this machine is not the user's
    for command, needed in _PROGRAMS:
        if environ.get(needed) and shutil.which(command[0]):
            return command
    return ()
