"""What the chat says beside the answers: lines, notes, errors, documents, and in what looks.

Owns how these reach the terminal: what is not ours is made visible, colours are a theme's and only
where there are any. Must not know a conversation.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.sanitize import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from holychat.core.wish import Wish
    from holychat.screen import Look, Writer
    from holychat.settings import Settings


class Voice:
    """Speaks on stdout. `reasoning` and `theme` are the user's and may be changed at any time."""

    def __init__(self, settings: Settings, wish: Wish) -> None:
        self.settings = settings
        self.wish = wish
        self.reasoning = (wish.reasoning or settings["ui.reasoning"]) == "show"
        self.theme: str = settings["ui.theme"]
        self.color = env.colour(env.STDOUT, os.environ, wish.no_color)

    def say(self, text: str) -> None:
        """A line of a command's output."""
        env.out(text)

    def show(self, *parts: tuple[str, str]) -> None:
        """A line of texts, each with its roles in the theme: ("needle", "accent strong")."""
        env.write(f"{''.join(self._styled(*part) for part in parts)}\n".encode("utf-8", "replace"))

    def _styled(self, text: str, roles: str) -> str:
        text = visible(text)
        if not (self.color and roles and text.strip()):
            return text
        from rich.color import ColorSystem
        from rich.style import Style

        from holychat.screen.theme import theme

        looks = theme(self.theme)
        style = Style.combine(looks[role] for role in roles.split())
        return style.render(text, color_system=ColorSystem.STANDARD)  # themes know no others

    def note(self, text: str) -> None:
        """Dim lines about what was done, or what to do; wrapped, so that no word of it is lost."""
        self._tell(text, "\x1b[2m")

    def complain(self, what: str, hint: str = "") -> None:
        """An error: what happened, and what to do."""
        self._tell(what, "\x1b[31m")
        if hint:
            self.note(hint)

    def _tell(self, text: str, color: str) -> None:
        from textwrap import wrap

        words = f"· {one_line(text, 2000)}"
        for line in wrap(words, max(20, env.width() - 1), subsequent_indent="  ") or [words]:
            shown = f"{color}{line}\x1b[m" if self.color else line
            env.write(f"{shown}\n".encode("utf-8", "replace"))

    def drawn(self, source: str) -> str:
        """A document, drawn as answers are."""
        from holychat.screen.render import rendered

        return rendered(source, self._look(), env.width())

    def in_pager(self, sources: tuple[str, ...], released: AbstractContextManager[None]) -> None:
        """Documents in the user's pager, to which the terminal is `released`."""
        from holychat.screen.pager import page

        text = "\n".join(map(self.drawn, sources))
        with released:
            page(text, os.environ)

    def writer(self, typed: Callable[[bytes], None]) -> Writer:
        """Where an answer is painted; `typed` takes the keys that come in between."""
        from holychat.screen import writer

        kind = "live" if env.can_move_cursor(os.environ) else "plain"
        return writer(kind, self._look(typed))

    def _look(self, typed: Callable[[bytes], None] | None = None) -> Look:
        from holychat.screen import Look

        return Look(
            color=self.color,
            terminal=True,
            reasoning=self.reasoning,
            quiet=self.wish.quiet,
            panel=self.settings["ui.panel"],
            theme=self.theme,
            fps=self.settings["ui.fps"],
            typed=typed,
            passing="Ctrl-N",
            cash=self.settings.cash,
        )
