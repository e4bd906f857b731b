"""What the command line asks of a chat: one value, from the options to the fronts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Wish:
    """Empty strings and None mean that nothing was said, and the settings hold.

    `form` is a name in screen.WRITERS, `reasoning` "show" or "hide", `timeout` seconds of silence.
    `session` names a conversation to go on with, `again` means the last one; never both.
    """

    prompt: str | None = None
    model: str = ""
    provider: str = ""
    form: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    stream: bool = True
    quiet: bool = False
    no_color: bool = False
    no_stdin: bool = False
    reasoning: str = ""
    timeout: float | None = None
    session: str = ""
    again: bool = False
    dry: bool = False  # show what would be sent
