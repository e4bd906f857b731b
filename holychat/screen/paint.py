"""Rows on a terminal: what is final scrolls up and stays, what is not is painted over.

Owns the cursor between two frames. A frame is one write, inside synchronized output, of what
differs from the last one; where nothing differs there is none. The cursor rests in the last row:
when the window's width has changed, its column there tells whether the terminal wrapped the rows
anew or cut them, and so how many rows there are to go up. Scrollback is never cleared.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.color import ColorSystem

from holychat import env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.segment import Segment

    Line = list[Segment]

# Synchronized output: a terminal that knows it shows a frame whole, others ignore it.
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
ERASE_REST = "\x1b[K"
# Seconds that the size must stay the same before anything is painted again. tmux lays its screen
# out at once and tells us a second change only after a quarter of a second.
SETTLE, SETTLE_TMUX = 0.05, 0.3

# The cursor rests so many cells before the window's end: where the window is halved, also with a
# border between the halves, a row that is wrapped anew does not end where one that is cut does.
PARK = 3

# Characters about whose width every terminal agrees with us: Latin, punctuation, lines, CJK.
_SURE = re.compile("[ -~\u00a0-\u02ff\u2010-\u2027\u2500-\u259f\u3000-\u9fff\uac00-\ud7a3]*")


def color_system(environ: Mapping[str, str]) -> ColorSystem:
    """How many colours the terminal says it has."""
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return ColorSystem.TRUECOLOR
    return ColorSystem.EIGHT_BIT if "256" in environ.get("TERM", "") else ColorSystem.STANDARD


def _cuts(environ: Mapping[str, str]) -> bool:
    """Whether this looks like one of the few terminals that do not wrap old rows anew."""
    term = environ.get("TERM", "")
    if environ.get("TMUX"):
        return False
    return term == "linux" or term.startswith("screen") or "XTERM_VERSION" in environ


@dataclass(slots=True)
class _Size:
    """The window's size, and since when it has been so."""

    columns: int
    lines: int
    since: float = 0.0


class Painter:
    """Writes rows to stdout. Raises env.ReaderLeft and env.OutputFailed.

    `typed` takes the keys that come while the terminal is asked for the cursor's place.
    """

    def __init__(
        self,
        *,
        color: bool,
        environ: Mapping[str, str],
        typed: Callable[[bytes], None] | None = None,
    ) -> None:
        self._color = color
        self._system = color_system(environ)
        self._typed = typed
        self._tail: list[Line] = []  # what is painted and not final
        self._columns = 0  # of the window, as it was painted for
        self._seen = _Size(*self.size())
        self.settle = SETTLE_TMUX if environ.get("TMUX") else SETTLE
        self._hidden = False
        self._lost = ""  # text of the tail that left through the window's top
        self._parked = 1  # the cursor's column
        self._reflows = not _cuts(environ)  # a guess, until the terminal has shown it
        self._known = False  # and now it has
        self._answers = True  # it has not left a question unanswered

    def size(self) -> tuple[int, int]:
        """(columns, rows) of the terminal, now."""
        try:
            size = os.get_terminal_size(env.STDOUT)
        except OSError:
            return 80, 24
        return max(4, size.columns or 80), max(3, size.lines or 24)

    def steady(self, now: float) -> bool:
        """Whether the window keeps its size; while it is dragged nothing should be painted."""
        columns, lines = self.size()
        if (columns, lines) != (self._seen.columns, self._seen.lines):
            self._seen = _Size(columns, lines, now)
        return now - self._seen.since >= self.settle

    def frame(self, final: Sequence[Line], tail: Sequence[Line]) -> None:
        """Put `final` rows in place of the tail, and a new tail below them."""
        columns, lines = self.size()
        old, out = self._tail, ""
        if old and (columns != self._columns or len(old) > lines):
            old, out = [], self._back()
            columns, lines = self.size()
        final = self._not_lost(final)
        rows = [*final, *tail]
        changes = out + "".join(self._changes(old, rows, lines))
        if changes or (old and not tail):
            hide = "" if self._hidden else HIDE
            end = "\r\n" if rows and not tail else ""
            if tail:
                self._parked = max(1, min(columns - PARK, _cells(tail[-1]) + 1))
                end = f"\x1b[{self._parked}G"
            env.write(f"{BEGIN}{hide}{changes}{end}{END}".encode("utf-8", "replace"))
            self._hidden = True
        self._tail = list(tail)
        self._columns = columns

    def erase(self) -> None:
        """Take the tail off the screen."""
        if self._tail:
            env.write(f"{BEGIN}{self._back()}{END}".encode())
        self._tail = []

    def show_cursor(self) -> None:
        self._hidden = False
        try:
            env.write(SHOW.encode())
        except (env.ReaderLeft, env.OutputFailed):
            pass  # there is no cursor any more

    # --- Finding the tail again ---------------------------------------------------------------

    def _back(self) -> str:
        """To the start of the tail, or to the window's top, and nothing is left from there on."""
        columns, row = self.size()
        counts = [1] * len(self._tail)
        if columns != self._columns:
            columns, place = self._asked()
            if place is not None:
                row = place[0]
                self._learn(columns, place[1])
            if self._reflows:
                counts = [len(_wrapped(_text(line), columns)) for line in self._tail]
        below = counts[-1] - 1 - (self._parked - 1) // columns
        up = sum(counts) - 1 - max(0, below)
        if up >= row:
            self._lose(counts, columns, up + 1 - row)
            up = row - 1
        return _moved(up, 0) + _wiped(sum(counts) - 1)

    def _asked(self) -> tuple[int, tuple[int, int] | None]:
        """(the window's columns, where the cursor is in it), if the terminal says it."""
        for _ in range(3):
            size = self.size()
            place = env.cursor(self._typed) if self._answers else None
            self._answers = place is not None
            if self.size() == size:
                break  # else it may have answered before that or afterwards
        return size[0], place

    def _learn(self, columns: int, column: int) -> None:
        """Whether the terminal wraps rows anew, by the cursor's column where that tells it.

        The first sign holds: later ones can only contradict it by chance, when a window that was
        narrower for a moment has cut the row at a misleading place.
        """
        if self._known:
            return
        wrapped, cut = (self._parked - 1) % columns + 1, min(self._parked, columns)
        if column == wrapped == cut:
            return  # the same in both kinds
        self._reflows = column == wrapped
        self._known = True

    def _lose(self, counts: Sequence[int], columns: int, above: int) -> None:
        """Note the text of the tail's first rows, which left through the window's top."""
        lost = ""
        for line, count in zip(self._tail, counts, strict=True):
            rows = _wrapped(_text(line), columns) if count > 1 else [_text(line)]
            lost += _dense("".join(rows[: max(0, above)]))
            above -= count
        self._lost = max(self._lost, lost, key=len)

    def _not_lost(self, final: Sequence[Line]) -> Sequence[Line]:
        """Without what stands in the scrollback already, where nobody can erase it."""
        for number, line in enumerate(final):
            text = _dense(_text(line))
            if not self._lost.startswith(text) or not self._lost:
                lost, self._lost = self._lost, ""
                rest = _without(line, len(lost)) if lost and text.startswith(lost) else line
                return [rest, *final[number + 1 :]]
            self._lost = self._lost[len(text) :]
        return []

    # --- What a frame writes ------------------------------------------------------------------

    def _changes(self, old: Sequence[Line], rows: Sequence[Line], lines: int) -> Iterator[str]:
        """From old rows, in the last of which the cursor is, to new ones; it is there again."""
        if old == rows:
            return
        start, place, same = _kept(old, rows)
        before = same if start == place else 0  # rows at the top that stay where they are
        room = max(len(rows) - len(old) + 1, len(rows) - before)
        # The foot is moved and not written, if what changes is on the screen when room was made.
        if old and rows and old[-1] == rows[-1] and room < lines:
            yield from self._shifted(old, rows, start, place)
        else:
            yield from self._written(old, rows, before)

    def _shifted(
        self, old: Sequence[Line], rows: Sequence[Line], start: int, place: int
    ) -> Iterator[str]:
        """The old rows from `start` on move to `place`, and the foot to its own: rows are deleted
        and inserted above them, and what is new is written."""
        foot, more = len(old) - 1, len(rows) - len(old)
        above = place - start
        below = more - above
        if more > 0:
            yield "\r\n" * more + _moved(more, 0)
        at = foot
        for where, count, how in (
            (foot + below, -below, "M"),
            (place, -above, "M"),
            (start, above, "L"),
            (foot + above, below, "L"),
        ):
            if count > 0:
                yield _moved(at, where) + f"\x1b[{count}{how}"
                at = where
        for number in range(len(rows) - 1):
            was = number if number < place else number - above
            kept = was < start if number < place else was < foot + min(0, below)
            before = old[was] if kept else []
            if before != rows[number]:
                yield _moved(at, number) + self._row(before, rows[number])
                at = number
        yield _moved(at, len(rows) - 1)

    def _written(self, old: Sequence[Line], rows: Sequence[Line], same: int) -> Iterator[str]:
        """Everything from the first row that differs."""
        at = len(old) - 1
        if len(old) > len(rows):  # first, for behind a full row it would take its last cell along
            yield _moved(at, len(rows)) + _wiped(at - len(rows))
            at, same = len(rows), min(same, max(0, len(rows) - 1))  # the cursor ends the last one
        if same >= len(old):
            yield "\r\n" if old else "\r"
        else:
            yield _moved(at, same)
        for number in range(same, len(rows)):
            before = old[number] if number < min(len(old), len(rows)) else []
            yield self._row(before, rows[number])
            if number < len(rows) - 1:
                yield "\r\n"

    def _row(self, old: Line, new: Line) -> str:
        """A row over an old one, from the first cell that differs; the cursor is in it."""
        cells, rest = _differ(old, new)
        place = "\r" + (f"\x1b[{cells}C" if cells else "")
        longer = bool(old) and cells < _cells(old)
        return place + (ERASE_REST if longer else "") + self._styled(rest)

    def _styled(self, line: Sequence[Segment]) -> str:
        out: list[str] = []
        for segment in line:
            style = segment.style
            if style is None or not style:
                out.append(segment.text)
            else:
                style = style if self._color else style.without_color
                out.append(style.render(segment.text, color_system=self._system))
        return "".join(out)


def _kept(old: Sequence[Line], rows: Sequence[Line]) -> tuple[int, int, int]:
    """(start, place, how many): old rows that stay on the screen, at `place` of the new ones.

    Above a last row that is the same. Either the top rows are the same, or it has been scrolled,
    or something came in above it.
    """
    old, rows = old[:-1], rows[:-1]
    start = place = 0
    if old and rows and old[0] != rows[0]:
        if rows[0] in old:
            start = old.index(rows[0])
        elif old[0] in rows:
            place = rows.index(old[0])
    pairs = zip(old[start:], rows[place:], strict=False)
    return start, place, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _moved(start: int, end: int) -> str:
    """Between two rows of the tail; the column is whoever writes there to say."""
    if start == end:
        return ""
    return f"\x1b[{start - end}A" if end < start else f"\x1b[{end - start}B"


def _wiped(below: int) -> str:
    """The cursor's row erased, and the rows below it if there are any; the cursor at its start.

    Row by row, for tmux takes erasing from the window's first cell for clearing it, and would keep
    what is erased in its scrollback.
    """
    return "\r\x1b[2K" + ("\x1b[B\x1b[J\x1b[A" if below else "")


def _differ(old: Line, new: Line) -> tuple[int, Line]:
    """(cells that may stay, what is to be written behind them).

    Only behind characters whose width is sure, and never between a character and what combines
    with it.
    """
    cells = 0
    for at, segment in enumerate(new):
        before = old[at] if at < len(old) else None
        text = segment.text
        sure = _sure(text)
        if before == segment and sure == len(text):
            cells += cell_len(text)
            continue
        if before is None or before.style != segment.style:
            return cells, new[at:]
        agreed = min(sure, _common(before.text, text))
        if any(_sure(rest) == 0 for t in (before.text, text) if (rest := t[agreed : agreed + 1])):
            agreed = max(0, agreed - 1)
        return cells + cell_len(text[:agreed]), [
            segment._replace(text=text[agreed:]),
            *new[at + 1 :],
        ]
    return cells, []


def _common(one: str, other: str) -> int:
    """How many characters at the start are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _sure(text: str) -> int:
    """How many characters at the start have a width that is sure."""
    found = _SURE.match(text)
    return found.end() if found else 0


def _wrapped(text: str, columns: int) -> list[str]:
    """The rows that a terminal of that width makes of a text: one at least."""
    rows, at = [""], 0
    for character in text:
        wide = cell_len(character)
        if at + wide > columns:
            rows.append("")
            at = 0
        rows[-1] += character
        at += wide
    return rows


def _without(line: Line, size: int) -> Line:
    """The row without its first `size` characters that can be seen."""
    rest: Line = []
    for segment in line:
        text = segment.text
        while size and text:
            size -= text[0] != " "
            text = text[1:]
        if text:
            rest.append(segment._replace(text=text if rest else text.lstrip(" ")))
    return rest


def _text(line: Line) -> str:
    return "".join(segment.text for segment in line)


def _cells(line: Line) -> int:
    return sum(cell_len(segment.text) for segment in line)


def _dense(text: str) -> str:
    """Without blanks: it stays the same however rows are wrapped."""
    return text.replace(" ", "")
