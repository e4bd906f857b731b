"""Whole answers, drawn at once: for `--render`, the pager, and everything that shows the past.

Owns the way from a Markdown source to the characters of a terminal. The same rows as the live
screen leaves behind.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.console import Console

from holychat import env
from holychat.core.chat import Done, Notice
from holychat.screen.draw import document

if TYPE_CHECKING:
    from holychat.core.chat import Event
    from holychat.screen import Look


def rendered(source: str, look: Look, width: int) -> str:
    """The document as text for a terminal of that width, with its escape sequences if coloured."""
    console = Console(
        width=width,
        force_terminal=look.color,
        no_color=not look.color,
        highlight=False,
        legacy_windows=False,
    )
    with console.capture() as drawn:
        whole = document(source, look.theme, clickable=env.clickable(os.environ))
        console.print(whole, end="")
    return drawn.get()


class RenderWriter:
    """`--render` where nothing can be painted: the whole answer, at its end."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def show(self, event: Event) -> None:
        if isinstance(event, Done) and event.turn.text:
            drawn = rendered(event.turn.text, self._look, env.width())
            env.write(drawn.encode("utf-8", "replace"))
        elif isinstance(event, Notice) and not self._look.quiet:
            env.err(event.text, dim=True)

    def close(self) -> None:
        """Nothing is held open."""
