"""Lines that are written as they are: their cells, their cuts, their colours, the way to the pager.

For listings, without rich: a pipe must not pay for it. Must not know what is listed.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from unicodedata import category, east_asian_width

from holychat import env
from holychat.core.sanitize import visible
from holychat.screen.theme import color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.core.history import Found

WEIGHTS = {"bold": "1", "dim": "2", "italic": "3"}
NAMED = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;.*?(?:\x1b\\|\x07)")
_AS_EMOJI = "\ufe0f"  # makes the narrow sign before it a wide one, in terminals that know it


def cells(text: str) -> int:
    """Columns of a terminal that the text takes, in the one that gives it the most."""
    if text.isascii():
        return len(text)
    return sum(map(_cell, text))


def _cell(char: str) -> int:
    if char < "\u0300" or char == _AS_EMOJI:
        return 1
    if category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def fit(text: str, room: int) -> str:
    """The text, cut to so many cells."""
    if cells(text) <= room:
        return text
    taken = 0
    for at, char in enumerate(text):
        taken += _cell(char)
        if taken > room - 1:
            return f"{text[:at].rstrip()}…" if room > 0 else ""
    return text


def padded(text: str, room: int, *, right: bool = False) -> str:
    """The text with blanks to so many cells."""
    blanks = " " * (room - cells(text))
    return blanks + text if right else text + blanks


def around(found: Found, room: int) -> tuple[str, str, str]:
    """What stands before a hit, the hit, and what stands after it, fit to be shown.

    Cut at both ends to so many cells, so that the hit stays in sight; 0 cuts nothing.
    """
    before, match, after = (visible(part) for part in (found.before, found.match, found.after))
    if not room or cells(before + match + after) <= room:
        return before, match, after
    match = fit(match, room)
    left = room - cells(match)
    after = fit(after, max(left - cells(before), left - left // 2))
    before = fit(before[::-1], left - cells(after))[::-1]
    return before, match, after


class Pen:
    """Writes listings on stdout as it is. `width` is that of the terminal's lines, 0 for a pipe."""

    def __init__(self, theme: str) -> None:
        self.theme = theme
        self.terminal = env.is_terminal(env.STDOUT)
        self.width = env.width() - 1 if self.terminal else 0
        self.color = env.colour(env.STDOUT, os.environ)
        self._dim, self._accent = (_code(color(theme, role)) for role in ("dim", "accent"))

    def dim(self, text: str) -> str:
        return self._styled(text, self._dim)

    def accent(self, text: str) -> str:
        return self._styled(text, self._accent)

    def bold(self, text: str) -> str:
        return self._styled(text, "1")

    def strong(self, text: str) -> str:
        """What was looked for."""
        return self._styled(text, f"1;{self._accent}")

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text.strip() else text

    def page(self, lines: Sequence[str]) -> None:
        """Write the lines, through the pager where a terminal has fewer rows."""
        text = "".join(f"{line}\n" for line in lines)
        if self.terminal:
            _, rows = env.size()
            wide = self.width + 1
            used = sum(
                max(1, -(-cells(_ESCAPE.sub("", line)) // wide)) for line in text.split("\n")
            )
            if used > rows > 0:
                from holychat.screen.pager import page

                page(text, os.environ)
                return
        env.write(text.encode("utf-8", "replace"))


def _code(name: str) -> str:
    """A colour of the terminal's sixteen, or "dim", as the number in an escape sequence."""
    if name in WEIGHTS:
        return WEIGHTS[name]
    bright = name.startswith("bright_")
    return str((90 if bright else 30) + NAMED.index(name.removeprefix("bright_")))
