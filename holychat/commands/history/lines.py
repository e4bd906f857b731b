"""What a line of a listing looks like, and the way to the pager.

Owns columns, cuts and colours of listings, without rich: a pipe must not pay for it. A terminal's
lines fit into it; a pipe gets them whole.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from unicodedata import category, east_asian_width

from holychat import env
from holychat.commands.history.times import when
from holychat.core.sanitize import one_line
from holychat.screen.theme import color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.core.history import Conversation

GAP = "  "
TITLE = 24  # cells that a title should have; columns that leave it less are left out
MODEL = 24  # cells that a model's name has at most
WEIGHTS = {"bold": "1", "dim": "2", "italic": "3"}
NAMED = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;.*?(?:\x1b\\|\x07)")


def cells(text: str) -> int:
    """Columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cell, text))


def _cell(char: str) -> int:
    if char < "\u0300":
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

    def around(self, before: str, match: str, after: str, room: int) -> tuple[str, str, str]:
        """The three in so many cells, the match in the middle; 0 cuts nothing."""
        if not room or cells(before + match + after) <= room:
            return before, match, after
        match = fit(match, room)
        left = room - cells(match)
        behind = max(left - cells(before), left - left // 2)
        after = fit(after, behind)
        before = fit(before[::-1], left - cells(after))[::-1]
        return before, match, after

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


def data(value: Any) -> None:
    """A value as JSON on stdout."""
    from json import dumps

    env.out(dumps(value, ensure_ascii=False, indent=2))


# --- Conversations ------------------------------------------------------------------------------


def titled(conversation: Conversation) -> str:
    """Its title on one line."""
    return one_line(conversation.title, 1000) or "(no title)"


def about(conversation: Conversation, pen: Pen, said: str) -> str:
    """One conversation as a heading: short id, title, and something behind it."""
    room = pen.width - len(conversation.short) - len(said) - 2 * len(GAP)
    title = fit(titled(conversation), max(8, room)) if pen.width else titled(conversation)
    return GAP.join((pen.accent(conversation.short), pen.bold(title), pen.dim(said)))


def table(conversations: Sequence[Conversation], pen: Pen, at: int) -> list[str]:
    """A line for each: id, age, title, model, number of messages; in a narrow window the first."""
    columns = [
        [each.short for each in conversations],
        [when(each.updated, at) for each in conversations],
        [titled(each) for each in conversations],
        [one_line(each.model, 200) or "-" for each in conversations],
        [f"{each.messages:,} msg" for each in conversations],
    ]
    if pen.width:
        columns[3] = [fit(model.rpartition("/")[2], MODEL) for model in columns[3]]
    wide = [max(map(cells, column), default=0) for column in columns]
    shown = _shown(wide, pen.width)
    if pen.width:
        others = sum(wide[at] + len(GAP) for at in shown if at != 2)
        wide[2] = max(1, min(wide[2], pen.width - others))
        columns[2] = [fit(title, wide[2]) for title in columns[2]]
    styles = (pen.accent, pen.dim, str, pen.dim, pen.dim)
    return [
        GAP.join(
            styles[column](padded(line[column], wide[column], right=column == 4))
            for column in shown
        ).rstrip()
        for line in zip(*columns, strict=True)
    ]


def _shown(wide: Sequence[int], width: int) -> list[int]:
    """The columns that leave room for the title."""
    shown = [0, 1, 2, 3, 4]
    for least in (3, 4, 1):
        others = sum(wide[at] + len(GAP) for at in shown if at != 2)
        if not width or width - others >= min(TITLE, wide[2]):
            break
        shown.remove(least)
    return shown
