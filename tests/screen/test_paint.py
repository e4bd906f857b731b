"""What the painter leaves on a terminal is every final row once, and then the tail; always.

Random frames go to a terminal emulator instead of stdout. After each of them its scrollback and
its screen must hold what a reader expects, cell by cell, in the right colours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyte
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from wcwidth import wcwidth

from holychat import env
from holychat.screen.paint import Painter
from tests.terminal import Row, Screen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Line = list[Segment]
Cell = tuple[str, str, bool, bool]  # text, colour, bold, underlined

STYLES = (
    None,
    Style.null(),
    Style(color="cyan"),
    Style(color="bright_black"),
    Style(bold=True),
    Style(color="red", bold=True, underline=True),
    Style(color="cyan", underline=True, link="https://a.example/"),
)
COLOURS = {"brightblack": "bright_black"}
# Narrow ones and blanks often, so that rows agree in parts; then what is wide, combined or both.
CHARACTERS = (
    *("a", "a", "b", " ", " ", "─", "│", "é", "茶", "한", "e\u0301", "茶\u0301", "ก็"),
    *("🎉", "❤\ufe0f", "👩\u200d💻", "🇫🇷", "\u00ad"),
)


def narrow(text: str) -> int:
    """The cells that rich counts or that the emulator takes, whichever are more."""
    return max(cell_len(text), sum(max(0, wcwidth(character)) for character in text))


# --- What may be painted --------------------------------------------------------------------

parts = st.lists(
    st.tuples(st.lists(st.sampled_from(CHARACTERS), max_size=6), st.sampled_from(STYLES)),
    max_size=3,
)
rows = st.tuples(parts, st.sampled_from((0, 0, 0, 1)))  # and whether it fills the window
Wanted = tuple[list[tuple[list[str], Style | None]], int]


def line(wanted: Wanted, width: int) -> Line:
    """A row that fits; blanks at its end do not count, a full one ends at the window's edge."""
    made: Line = []
    used = 0
    for clusters, style in wanted[0]:
        text = ""
        for cluster in clusters:
            if used + narrow(text + cluster) > width:
                break
            text += cluster
        used += narrow(text)
        if text:
            made.append(Segment(text, style))
    return [*made, Segment("x" * (width - used))] if wanted[1] and used < width else made


@dataclass(frozen=True)
class Step:
    """What becomes of the tail: see `Model.take`."""

    kind: str
    count: int
    rows: list[Wanted]
    foot: Wanted | None  # another foot, or the same


steps = st.builds(
    Step,
    st.sampled_from(
        (
            *("append", "append", "settle", "settle", "scroll", "scroll", "fresh", "change"),
            *("change", "insert", "drop", "double", "same", "end", "erase", "taller"),
        )
    ),
    st.integers(0, 4),
    st.lists(rows, max_size=4),
    st.one_of(st.none(), st.none(), st.tuples(parts, st.just(0))),
)


@dataclass
class Model:
    """What a reader should see, in the simplest words."""

    width: int
    lines: int
    final: list[Line] = field(default_factory=list)
    body: list[Line] = field(default_factory=list)  # the tail above its foot
    foot: Line = field(default_factory=list)
    open: bool = False

    def take(self, step: Step) -> list[Line]:
        """The next tail; returns the rows that became final."""
        new = [line(wanted, self.width) for wanted in step.rows]
        final: list[Line] = []
        if step.foot is not None:
            self.foot = line(step.foot, self.width - 1)  # as the panel makes them
        if step.kind == "settle":  # the first ones are final now, and stay where they are
            final, body = self.body[: step.count], [*self.body[step.count :], *new]
        elif step.kind == "fresh":
            final, body = new[: step.count], new[step.count :]
        elif step.kind == "end":
            final, body = [*self.body, *new], []
        else:
            body = self._rearranged(step.kind, step.count, new)
        self.open = step.kind not in ("end", "erase")
        self.body = body[-(self.lines - 1) :] if self.open else []
        self.final += final
        return final

    def _rearranged(self, kind: str, count: int, new: list[Line]) -> list[Line]:
        body = self.body
        if kind == "append":
            return [*body, *new]
        if kind == "scroll":
            return [*body[count:], *new]
        if kind == "insert":
            return [*body[:count], *new, *body[count:]]
        if kind == "drop":
            return [*body[:count], *body[count + 1 :]]
        if kind == "double":
            return [*body, *body[-1:], *body[-1:]]
        if kind == "change" and body and new:  # one row goes on, or is another
            at = count % len(body)
            grown = [*body[at], *new[0]]
            fits = sum(narrow(segment.text) for segment in grown) <= self.width
            return [*body[:at], grown if fits else new[0], *body[at + 1 :]]
        return body

    def tail(self) -> list[Line]:
        return [*self.body, self.foot] if self.open else []


# --- What is there --------------------------------------------------------------------------


def cells_of(wanted: Line) -> list[Cell]:
    """A row as an emulator keeps it."""
    out: list[Cell] = []
    for text, style, _ in wanted:
        colour = style.color.name if style and style.color else "default"
        bold, under = (bool(style and style.bold), bool(style and style.underline))
        for character in text:
            width = wcwidth(character)
            if width <= 0:
                at = -1 if out[-1][0] else -2
                out[at] = (out[at][0] + character, *out[at][1:])
                continue
            out.append((character, colour, bold, under))
            if width == 2:
                out.append(("", colour, bold, under))
    return ended(out)


def cells_on(row: Row) -> list[Cell]:
    """The same of what was painted."""
    return ended(
        (c.data, COLOURS.get(c.fg, c.fg), c.bold, c.underscore)
        for c in (row[x] for x in range(max(row, default=-1) + 1))
    )


def ended(cells: Iterable[Cell]) -> list[Cell]:
    """Without the blanks at the end; and a blank has no colour."""
    out = [(" ", "", False, cell[3]) if cell[0] == " " else cell for cell in cells]
    while out and out[-1] == (" ", "", False, False):
        out.pop()
    return out


class Exact(Screen):
    """pyte leaves a row as it is where one that was never written should take its place."""

    def delete_lines(self, count: int | None = None) -> None:
        self._fill()
        super().delete_lines(count)

    def insert_lines(self, count: int | None = None) -> None:
        self._fill()
        super().insert_lines(count)

    def _fill(self) -> None:
        for y in range(self.lines):
            self.buffer.setdefault(y, Row())


class Stage:
    """A painter before an emulator; `above` rows stand there already."""

    def __init__(self, patch: pytest.MonkeyPatch, columns: int, lines: int, above: int) -> None:
        self.screen = Exact(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.columns, self.lines = columns, lines
        patch.setattr(env, "write", self._write)
        patch.setattr(os, "get_terminal_size", self._size)
        self._write(b"".join(b"%d.\r\n" % number for number in range(above)))
        self.above = [cells_of([Segment(f"{number}.")]) for number in range(above)]
        self.painter = Painter(color=True, environ={"TERM": "xterm"})

    def _write(self, data: bytes, _: int = 1) -> None:
        self.written = data
        self._stream.feed(data)

    def _size(self, _: int) -> os.terminal_size:
        return os.terminal_size((self.columns, self.lines))

    def heighten(self, by: int) -> None:
        self.lines += by
        self.screen.resize(self.lines, self.columns)

    def shows(self) -> list[list[Cell]]:
        found = [cells_on(row) for row in self.screen._all()]
        while found and not found[-1]:
            found.pop()
        return found

    def should_show(self, model: Model) -> list[list[Cell]]:
        wanted = self.above + [cells_of(row) for row in (*model.final, *model.tail())]
        while wanted and not wanted[-1]:
            wanted.pop()
        return wanted


def play(columns: int, lines: int, above: int, script: Sequence[Step]) -> None:
    model = Model(columns, lines)
    with pytest.MonkeyPatch.context() as patch:
        stage = Stage(patch, columns, lines, above)
        for number, step in enumerate(script):
            if step.kind == "taller":
                stage.heighten(step.count)
                model.lines = stage.lines
            final, was_open = model.take(step), stage.painter._tail
            stage.written = b""
            if step.kind == "erase":
                stage.painter.erase()
            else:
                stage.painter.frame(final, model.tail())
                if was_open == model.tail() and not final:
                    assert not stage.written, f"step {number} changes nothing and writes"
            assert stage.shows() == stage.should_show(model), f"step {number}, {step.kind}"
            assert b"\x1b[2J" not in stage.written
            assert b"\x1b[3J" not in stage.written
            below = stage.screen.cursor.y + len(stage.screen.history.top)
            count = above + len(model.final) + len(model.tail())
            assert below == count - bool(model.tail()), f"the cursor, step {number}, {step.kind}"


plain = ([(["a"], None)], 0)
other = ([(["b"], None)], 0)
full = ([(["茶"], None)], 1)
heart = ([(["❤\ufe0f"], STYLES[2])], 0)  # two cells for rich, one for the emulator


@settings(max_examples=300, deadline=None)
@given(
    columns=st.integers(4, 14),
    lines=st.sampled_from((3, 3, 4, 5, 6, 8, 12)),
    above=st.sampled_from((0, 1, 2, 4, 13)),
    script=st.lists(steps, min_size=2, max_size=12),
)
@example(4, 3, 0, [Step("append", 0, [full, full], plain), Step("settle", 1, [full], None)])
@example(4, 3, 13, [Step("append", 0, [full, plain], other), Step("end", 0, [full, full], None)])
@example(9, 4, 2, [Step("append", 0, [plain] * 3, other), Step("scroll", 1, [plain], None)])
@example(9, 4, 2, [Step("append", 0, [heart, plain], other), Step("change", 0, [other], None)])
def test_scrollback_and_screen_are_the_final_rows_and_the_tail(
    columns: int, lines: int, above: int, script: list[Step]
) -> None:
    play(columns, lines, above, script)
