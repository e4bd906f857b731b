"""What stands around an answer while it grows and when it is done: title, foot, wait, reasoning.

Owns these looks, in rules, as a bar, or bare; nothing of it stands beside the text unless a bar
was asked for, so that copying text copies text. Rows are one cell short of the width: a terminal
that wraps them anew then shows it by its cursor. Must not know time, events or the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.text import Text

from holychat.core.sanitize import one_line, visible
from holychat.screen.theme import theme
from holychat.screen.width import cells, fit, wrap
from holychat.screen.words import seconds

if TYPE_CHECKING:
    from rich.style import Style

    from holychat.screen import Look
    from holychat.screen.draw import Line

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPIN = 0.1  # seconds a spinner step
BAR = "│ "


class Panel:
    """The frame of one answer; every method makes rows for a window of `columns`."""

    def __init__(self, look: Look, title: str) -> None:
        self._kind = look.panel
        self._title = title
        self.theme = theme(look.theme)

    def inner(self, columns: int) -> int:
        """Cells that the text may take."""
        return max(4, columns - len(BAR)) if self._kind == "bar" else columns

    def row(self, line: Line) -> Line:
        """A row of text, framed."""
        return [Segment(BAR, self.theme["dim"]), *line] if self._kind == "bar" else line

    def head(self, columns: int) -> list[Line]:
        """Who answers."""
        if self._kind == "rules":
            return [self._rule(self._title, columns, self.theme["accent"])]
        if self._kind == "bar":
            shown = fit(one_line(self._title, 300), max(1, columns - 3))
            return [[Segment("╭ ", self.theme["dim"]), Segment(shown, self.theme["accent"])]]
        return []

    def foot(self, said: str, columns: int, *, warn: bool = False) -> Line:
        """What is to be said of the answer, now or at its end."""
        style = self.theme["warn" if warn else "dim"]
        if self._kind == "rules":
            return self._rule(said, columns, style, right=True)
        corner = "╰ " if self._kind == "bar" else ""
        shown = fit(one_line(said, 300), max(1, columns - 1 - len(corner)))
        return [Segment(corner, self.theme["dim"]), Segment(shown, style)]

    def note(self, text: str, columns: int) -> Line:
        """A dim line that is not the answer's, cut to the width."""
        return [Segment(fit(one_line(text, 300), max(1, columns - 1)), self.theme["dim"])]

    def notes(self, text: str, columns: int) -> list[Line]:
        """The same in as many rows as it takes: no word of it is lost."""
        said = Text(f"· {one_line(text, 2000)}", end="")
        return [[Segment(row.plain, self.theme["dim"])] for row in wrap(said, max(4, columns - 1))]

    def waiting(self, doing: str, waited: float, said: str, columns: int) -> Line:
        """A spinner, the time, and what else is to be said of it."""
        step = SPINNER[int(waited / SPIN) % len(SPINNER)]
        shown = f"{step} {doing} {seconds(waited)}" + (f" · {said}" if said else "")
        return self.row(self.note(shown, self.inner(columns)))

    def thinking(self, thoughts: list[str], columns: int, room: int) -> list[Line]:
        """The last rows of the reasoning; what is laid out is bounded, however long it is."""
        width = max(4, self.inner(columns) - 1)
        end = ""
        for thought in reversed(thoughts):
            end = thought + end
            if len(end) > width * (room + 2):
                break
        text = Text(visible(end).strip(), end="")
        lines = wrap(text, width)[-max(1, room) :]
        dim = self.theme["dim"]
        return [self.row([Segment(line.plain.rstrip(), dim)]) for line in lines]

    def thought(self, spent: float, size: int, columns: int) -> Line:
        """The reasoning, folded to one line."""
        said = f"· thought for {seconds(spent)} ({size:,} characters)"
        return self.row(self.note(said, self.inner(columns)))

    def _rule(self, label: str, columns: int, style: Style, *, right: bool = False) -> Line:
        """A horizontal rule with a label near one end."""
        room = max(1, columns - 1)
        text = f" {fit(one_line(label, 300), max(1, room - 4))} " if label and room > 4 else ""
        line = Segment("─" * max(1, room - 1 - cells(text)), self.theme["dim"])
        end = Segment("─", self.theme["dim"])
        words = Segment(text, style)
        return [line, words, end] if right else [end, words, line]
