"""Long texts through the user's pager.

Owns the choice of the program. The caller gives the terminal away first.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from holychat import env

if TYPE_CHECKING:
    from collections.abc import Mapping

# What less does unless the user says otherwise: colours pass, a text that fits is just printed,
# and the screen stays as it was left.
LESS = "FRX"


def page(text: str, environ: Mapping[str, str]) -> None:
    """Show the text in $PAGER, less or more; without any, or without a terminal, print it."""
    command = _program(environ)
    if not command or not env.is_terminal(env.STDOUT):
        env.write(text.encode("utf-8", "replace"))
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's
    try:
        subprocess.run(
            command,
            input=text.encode("utf-8", "replace"),
            env={"LESS": LESS, **environ},
            check=False,
            preexec_fn=_own_signals if os.name == "posix" else None,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def _own_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _program(environ: Mapping[str, str]) -> list[str]:
    wanted = environ.get("PAGER")
    if wanted is not None:
        try:
            words = shlex.split(wanted)
        except ValueError:
            words = []
        return words if words and words[0] != "cat" and shutil.which(words[0]) else []
    return next(([name] for name in ("less", "more") if shutil.which(name)), [])
