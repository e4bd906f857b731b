"""Rows on a terminal: what is final scrolls up and stays, what is not is painted over.

Owns the cursor between two frames. A frame is one write, inside synchronized output, from the
first row that differs; where nothing differs there is none. Rows never end in blanks and are
erased before they are written, so that nothing of an old one is left and a full one is not cut.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.color import ColorSystem

from holychat import env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.segment import Segment

# Synchronized output: a terminal that knows it shows a frame whole, others ignore it.
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
ERASE_ROW, ERASE_BELOW = "\x1b[2K", "\x1b[J"


def color_system(environ: Mapping[str, str]) -> ColorSystem:
    """How many colours the terminal says it has."""
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return ColorSystem.TRUECOLOR
    return ColorSystem.EIGHT_BIT if "256" in environ.get("TERM", "") else ColorSystem.STANDARD


class Painter:
    """Writes rows to stdout. Raises env.ReaderLeft and env.OutputFailed."""

    def __init__(self, *, color: bool, environ: Mapping[str, str]) -> None:
        self._color = color
        self._system = color_system(environ)
        self._tail: list[str] = []  # what is painted and not final; the cursor ends the last row
        self._cells: list[int] = []
        self._width = 0

    def size(self) -> tuple[int, int]:
        """(columns, rows) of the terminal, now."""
        try:
            size = os.get_terminal_size(env.STDOUT)
        except OSError:
            return 80, 24
        return max(4, size.columns or 80), max(3, size.lines or 24)

    def frame(self, final: Sequence[list[Segment]], tail: Sequence[list[Segment]]) -> None:
        """Put `final` rows in place of the tail, and a new tail below them."""
        rows = [*map(self._text, final), *map(self._text, tail)]
        columns, lines = self.size()
        old = len(self._tail)
        same = 0
        if columns == self._width:
            while same < min(old, len(rows)) and self._tail[same] == rows[same]:
                same += 1
        elif old:
            # The terminal has wrapped the old rows anew: they take more or fewer rows than before.
            old = min(sum(max(1, -(-cells // columns)) for cells in self._cells), lines)
        moved = self._to_row(same, old)
        if same < max(old, len(rows)) or (old and not tail):
            # Erased first, row by row: behind a full row the cursor would take its last cell along.
            erase = ERASE_BELOW if old > len(rows) else ""
            lines_out = [f"{ERASE_ROW}{row}" for row in rows[same:]]
            end = "\r\n" if not tail and lines_out else ""
            self._write(moved + erase + "\r\n".join(lines_out) + end)
        self._tail = rows[len(final) :]
        self._cells = [sum(cell_len(s.text) for s in line) for line in tail]
        self._width = columns

    @staticmethod
    def _to_row(row: int, old: int) -> str:
        """From the end of the last old row, or from an empty one, to the start of a row."""
        if row >= old:
            return "\r\n" if old else "\r"
        up = old - 1 - row
        return "\r" + (f"\x1b[{up}A" if up else "")

    def erase(self) -> None:
        """Take the tail off the screen."""
        if self._tail:
            up = len(self._tail) - 1
            self._write("\r" + (f"\x1b[{up}A" if up else "") + ERASE_BELOW)
        self._tail = []

    def _write(self, text: str) -> None:
        env.write(f"{BEGIN}{HIDE}{text}{END}".encode("utf-8", "replace"))

    def show_cursor(self) -> None:
        try:
            env.write(SHOW.encode())
        except (env.ReaderLeft, env.OutputFailed):
            pass  # there is no cursor any more

    def _text(self, line: list[Segment]) -> str:
        out: list[str] = []
        for segment in line:
            style = segment.style
            if style is None or not style:
                out.append(segment.text)
            else:
                style = style if self._color else style.without_color
                out.append(style.render(segment.text, color_system=self._system))
        return "".join(out)
