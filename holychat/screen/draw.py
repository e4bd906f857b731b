"""Pieces of Markdown to rows of a terminal; the one place that says what a document looks like.

`document` draws a whole source at once; a stream draws the same pieces one by one with a `Drawer`
and gets the same rows: what a row looks like depends on the pieces before it, never on the time.

The look: headings at the left, by weight; lists tight, with their numbers right-aligned; a bar for
quotes; code without padding, so that copying it copies the code; tables without borders, whose
columns shrink by wrapping words and break a word only where nothing else is left; math as it was
written.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from zlib import crc32

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from holychat.core.blocks import (
    Blocks,
    Code,
    Definition,
    Heading,
    Html,
    Item,
    Math,
    Paragraph,
    Piece,
    Quote,
    Row,
    Rule,
)
from holychat.core.sanitize import visible
from holychat.screen.code import Glance, Highlighter
from holychat.screen.inline import closed, inline
from holychat.screen.theme import theme
from holychat.screen.width import cells, fit, fold, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import ConsoleOptions, RenderableType, RenderResult
    from rich.style import Style

    from holychat.core.blocks import Container, Path
    from holychat.screen.theme import Theme

Line = list[Segment]  # one row of the terminal, without its newline

LEAST = 12  # columns that text gets at least, however deep it is nested
GAP = "  "  # between the columns of a table
FULL = 8  # characters a cell from which on a row is full, whatever its width
NAME = 16  # cells of a footnote's name that stand before its text
TASKS = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}

# Rendering a text needs rich's console for its styles only, never to print.
WRAPPER = Console(width=80, color_system=None, legacy_windows=False)


def document(source: str, theme_name: str = "calm", *, clickable: bool = True) -> RenderableType:
    """A whole Markdown document; the streamed screen shows the same rows.

    `clickable`: the terminal opens links; where it does not, addresses are written out.
    """
    return _Document(source, theme_name, clickable)


@dataclass(frozen=True, slots=True)
class _Document:
    source: str
    theme: str
    clickable: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        blocks = Blocks()
        drawer = Drawer(options.max_width, theme(self.theme), clickable=self.clickable)
        for piece in (*blocks.feed(visible(self.source)), *blocks.finish()):
            for line in drawer.draw(piece):
                yield from line
                yield Segment.line()


@dataclass(slots=True)
class _Table:
    """A table that is coming: cells as styled text, rows in order, the head first.

    Its columns are measured as they come, so that its end costs no more than another row.
    """

    path: Path
    align: tuple[str, ...]
    rows: list[list[Text]] = field(default_factory=list)
    wide: list[int] = field(default_factory=list)  # the widest cell of each column
    word: list[int] = field(default_factory=list)  # its longest word

    def add(self, row: list[Text]) -> None:
        self.rows.append(row)
        self.wide = self.wide or [1] * len(row)
        self.word = self.word or [1] * len(row)
        for at, cell in enumerate(row):
            self.wide[at] = max(self.wide[at], *map(cells, cell.plain.split("\n")))
            longest = max(map(cells, cell.plain.split()), default=1)
            self.word[at] = max(self.word[at], longest)


class Drawer:
    """Draws the pieces of one document in their order; `width` may change between two of them."""

    def __init__(self, width: int, looks: Theme | None = None, *, clickable: bool = True) -> None:
        self.width = width
        self._theme = looks or theme()
        self._clickable = clickable
        self._before: Piece | None = None
        self._marked: set[int] = set()  # items whose marker is out
        self._roomy: set[int] = set()  # items that have a gap in them
        self._carry: Text | None = None  # the last row of a paragraph that goes on
        self._code: Highlighter | Glance | None = None
        self._rest: Text | None = None  # the last row of a line of code that goes on
        self._table: _Table | None = None
        self._codes = 0  # code blocks so far that a fence marks: those have numbers
        self._most: int | None = None  # the last rows that somebody wants, where not all

    def draw(self, piece: Piece) -> Iterator[Line]:
        """The rows of a piece, made as they are taken: a large one can be taken in parts."""
        if isinstance(piece, Heading) and not piece.text and self._begun(piece.path):
            return  # a heading without a text
        if piece.first:
            yield from self._gap(piece)
        self._before = piece
        open_ = {container.key for container in piece.path}
        self._marked &= open_
        self._roomy &= open_
        yield from _DRAW[type(piece)](self, piece)

    def tail(self, pieces: Iterable[Piece], rows: int) -> list[Line]:
        """The last rows that the open end of the document has now; changes nothing.

        It is drawn as if what is open in it were closed. Of an open table only the head and the
        last rows are laid out: it may be endless.
        """
        other, most = copy(self), max(1, rows)
        other._most = most  # noqa: SLF001 - of the same kind
        if self._table is not None:
            shown = self._table.rows[:1] + self._table.rows[1:][-rows:]
            other._table = replace(  # noqa: SLF001
                self._table, rows=shown, wide=list(self._table.wide), word=list(self._table.word)
            )
        lines: deque[Line] = deque(maxlen=most)
        for piece in _calm(list(pieces)):
            lines.extend(other.draw(piece))
        return list(lines)

    def __copy__(self) -> Drawer:
        """One that may draw on while this one stays as it is."""
        other = Drawer.__new__(Drawer)
        other.__dict__.update(self.__dict__)
        code = self._code.glance() if isinstance(self._code, Highlighter) else copy(self._code)
        other.__dict__.update(_marked=set(self._marked), _roomy=set(self._roomy), _code=code)
        return other

    # --- Around the pieces ------------------------------------------------------------------

    def _gap(self, piece: Piece) -> Iterator[Line]:
        """The blank row between two blocks, where there is one."""
        before = self._before
        if before is None:
            return
        common = 0
        for mine, other in zip(before.path, piece.path, strict=False):
            if mine.key != other.key:
                break
            common += 1
        old = before.path[common] if common < len(before.path) else None
        new = piece.path[common] if common < len(piece.path) else None
        if isinstance(old, Item) and isinstance(new, Item) and old.list == new.list:
            tight = not any(c.key in self._roomy for c in before.path[common:])
        else:
            nested = isinstance(new, Item) and old is None and isinstance(before, Paragraph)
            defined = isinstance(before, Definition) and isinstance(piece, Definition)
            tight = (nested and bool(before.path)) or defined
        if not tight:
            self._roomy.update(c.key for c in piece.path[:common])
            line = self._prefix(piece.path[:common])
            yield _stripped(line)

    def _begun(self, path: Path) -> bool:
        """Whether all markers in front of a row are out."""
        return all(c.key in self._marked for c in path if isinstance(c, Item))

    def _prefix(self, path: Path) -> Line:
        """What stands in front of a row: bars, indentations, and markers the first time."""
        used, skipped = self._indent(path)
        shown = path[skipped:]
        line: Line = [Segment(" " * (used - sum(map(_cells, shown))))] if skipped else []
        for container in shown:
            if isinstance(container, Quote):
                line.append(Segment("▌ ", self._theme["quote"]))
                continue
            label = "" if container.key in self._marked else _label(container)
            style = self._theme["dim" if container.note else "marker"]
            line.append(Segment(f"{label:>{_cells(container) - 1}} ", style))
        self._marked.update(c.key for c in path if isinstance(c, Item))
        return line

    def _indent(self, path: Path) -> tuple[int, int]:
        """(cells in front of a row, containers that are not shown): text keeps LEAST cells, and
        of a nesting that is deeper than that only the inner levels show."""
        used, skipped, most = sum(map(_cells, path)), 0, max(0, self.width - LEAST)
        if used <= most:
            return used, 0
        while used > most:
            used -= _cells(path[skipped])
            skipped += 1
        return most, skipped

    def _room(self, path: Path) -> int:
        return self.width - self._indent(path)[0]

    def _lines(self, path: Path, texts: Iterable[Text]) -> Iterator[Line]:
        """Rows with what stands in front of them; no blanks at their ends."""
        for text in texts:
            line = self._prefix(path)
            if text.spans:
                line += [_linked(s) for s in text.render(WRAPPER) if s.text]
            elif text.plain:  # render would leave the style of a text without spans out
                line.append(Segment(text.plain, WRAPPER.get_style(text.style)))
            yield _stripped(line)

    # --- The kinds of pieces ----------------------------------------------------------------

    def heading(self, piece: Heading) -> Iterator[Line]:
        base = self._theme[f"h{min(4, piece.level)}"]
        text = inline(piece.text, self._theme, base, clickable=self._clickable)
        yield from self._lines(piece.path, self._wrapped(text, piece.path))

    def paragraph(self, piece: Paragraph) -> Iterator[Line]:
        source, mark = piece.text, ""
        if piece.first and piece.path and isinstance(piece.path[-1], Item):
            mark = TASKS.get(source[:4], "")
            source = source[4:] if mark else source
        text = inline(source, self._theme, self._theme["text"], clickable=self._clickable)
        if mark:
            text = Text.assemble((mark, self._theme["marker"]), text, end="")
        if self._carry is not None:
            text = Text.assemble(self._carry, text, end="")
            self._carry = None
        rows = self._wrapped(text, piece.path)
        if not piece.last:
            self._carry = rows.pop() if self._goes_on(rows, piece.path) else None
            if self._carry is not None and piece.text[-1:].isspace():
                self._carry.rstrip()
                self._carry.append(" ")
        yield from self._lines(piece.path, rows)

    def code(self, piece: Code) -> Iterator[Line]:
        """Its language and number, for /copy and /code, then its lines."""
        room = self._room(piece.path)
        if piece.first:
            self._code, self._rest = Highlighter(piece.language), None
            if piece.fenced:
                self._codes += 1
                yield from self._named(piece)
        if self._code is None:
            return
        if not piece.glued:
            yield from self._lines(piece.path, self._taken_rest())
        if piece.last:
            texts = self._code.finish()
        else:
            lines = tuple(line.expandtabs(4) for line in piece.lines)
            texts = self._code.feed(lines, glued=piece.glued, more=piece.more)
        for number, text in enumerate(texts, 1):
            rows = fold(Text.assemble(*self._taken_rest(), text, end=""), room)
            if piece.more and number == len(texts) and self._goes_on(rows, piece.path):
                self._rest = rows.pop()
            yield from self._lines(piece.path, rows)

    def _named(self, piece: Code) -> Iterator[Line]:
        label = self._dimmed(f"{piece.language or 'code'} {self._codes}")
        yield from self._lines(piece.path, fold(label, self._room(piece.path)))

    def again(self) -> Iterator[Line]:
        """The row that names the code block in which what was drawn ends, if it does: for what is
        gone on with elsewhere on the screen."""
        if isinstance(self._before, Code) and self._before.fenced and not self._before.last:
            yield from self._named(self._before)

    def _goes_on(self, rows: list[Text], path: Path) -> bool:
        """Whether the last row may be written on: one of marks without cells never gets full."""
        return bool(rows) and len(rows[-1]) <= FULL * self._room(path)

    def _taken_rest(self) -> list[Text]:
        rest, self._rest = self._rest, None
        return [] if rest is None else [rest]

    def math(self, piece: Math) -> Iterator[Line]:
        for line in piece.lines:
            text = Text(line.rstrip(), self._theme["math"], end="")
            yield from self._lines(piece.path, fold(text, self._room(piece.path)))

    def html(self, piece: Html) -> Iterator[Line]:
        room = self._room(piece.path)
        for line in piece.lines:
            text = Text(line, self._theme["html"], end="")
            yield from self._lines(piece.path, fold(text, room))

    def _dimmed(self, text: str) -> Text:
        return Text(text, self._theme["dim"], end="")

    def rule(self, piece: Rule) -> Iterator[Line]:
        yield from self._lines(piece.path, [self._dimmed("─" * (self._room(piece.path) - 1))])

    def definition(self, piece: Definition) -> Iterator[Line]:
        folded = fold(self._dimmed(piece.text), self._room(piece.path))
        yield from self._lines(piece.path, folded)

    def row(self, piece: Row) -> Iterator[Line]:
        if piece.first:
            self._table = _Table(piece.path, piece.align)
        table = self._table
        if table is None:
            return
        if piece.cells:
            base = self._theme["table.head"] if piece.first else self._theme["text"]
            table.add(
                [inline(c, self._theme, base, clickable=self._clickable) for c in piece.cells]
            )
        if piece.last:
            self._table = None
            yield from self._tabled(table)

    # --- Wrapping and tables ----------------------------------------------------------------

    def _wrapped(self, text: Text, path: Path) -> list[Text]:
        return wrap(text, self._room(path)) or [Text(end="")]

    def _tabled(self, table: _Table) -> Iterator[Line]:
        room = self._room(table.path)
        columns = len(table.align)
        if room < columns * (1 + len(GAP)):
            yield from self._records(table)
            return
        widths = _widths(table, room - len(GAP) * (columns - 1))

        def row(number: int) -> list[Text]:
            rows = list(_across(table, number, widths))
            if number == 0:
                rows.append(self._dimmed(GAP.join("─" * width for width in widths)))
            return rows

        yield from self._all(table.path, len(table.rows), row)

    def _records(self, table: _Table) -> Iterator[Line]:
        """A table of more columns than the window has room for: a line a cell, with its head."""
        head, columns = table.rows[0], len(table.align)

        def cell(place: int) -> list[Text]:
            number, column = divmod(place, columns)
            name = head[column]
            text = Text.assemble(name, ": " if name else "", table.rows[1 + number][column], end="")
            rows = self._wrapped(text, table.path)
            return [Text(end=""), *rows] if number and not column else rows

        yield from self._all(table.path, (len(table.rows) - 1) * columns, cell)

    def _all(self, path: Path, count: int, make: Callable[[int], list[Text]]) -> Iterator[Line]:
        """The rows of so many parts of a table; where only the last rows are wanted, of the last
        parts."""
        if self._most is None:
            for number in range(count):
                yield from self._lines(path, make(number))
            return
        parts: list[list[Text]] = []
        wanted = self._most
        while wanted > 0 and len(parts) < count:
            parts.append(make(count - 1 - len(parts)))
            wanted -= len(parts[-1])
        if len(parts) < count:
            self._prefix(path)  # a marker stands in front of the first row
        for texts in reversed(parts):
            yield from self._lines(path, texts)


_DRAW: dict[type[Piece], Callable[[Drawer, Piece], Iterator[Line]]] = {
    Heading: Drawer.heading,  # type: ignore[dict-item]
    Paragraph: Drawer.paragraph,  # type: ignore[dict-item]
    Code: Drawer.code,  # type: ignore[dict-item]
    Html: Drawer.html,  # type: ignore[dict-item]
    Math: Drawer.math,  # type: ignore[dict-item]
    Rule: Drawer.rule,  # type: ignore[dict-item]
    Definition: Drawer.definition,  # type: ignore[dict-item]
    Row: Drawer.row,  # type: ignore[dict-item]
}


def _calm(pieces: list[Piece]) -> list[Piece]:
    """The open end, without what would look otherwise in a moment."""
    last = pieces[-1] if pieces else None
    if isinstance(last, Paragraph):
        text = closed(last.text)
        pieces.pop()
        if text or last.path or not last.first:
            pieces.append(replace(last, text=text))
    return pieces


def _label(item: Item) -> str:
    if item.note:
        return fit(item.marker, NAME)
    return "•" if item.number is None else f"{item.number}{item.marker}"


def _cells(container: Container) -> int:
    """How far a container indents its content."""
    if isinstance(container, Quote):
        return 2
    least = 2 if container.number is None else 3
    return max(least, cells(_label(container))) + 1


def _linked(segment: Segment) -> Segment:
    """All rows of a link are one for the terminal, which knows it by its id."""
    if segment.style is None or segment.style.link is None:
        return segment
    return Segment(segment.text, _with_id(segment.style))


@lru_cache(maxsize=256)
def _with_id(style: Style) -> Style:
    style = style.copy()
    style._link_id = f"{crc32((style.link or '').encode()):x}"  # noqa: SLF001 - no other way
    return style


def _stripped(line: Line) -> Line:
    """Without blanks at the end, which a mouse would copy."""
    while line:
        text = line[-1].text.rstrip(" ")
        if text:
            line[-1] = Segment(text, line[-1].style)
            break
        line.pop()
    return line


def _across(table: _Table, number: int, widths: list[int]) -> Iterator[Text]:
    """A row of a table: its cells side by side."""
    wrapped = [
        wrap(cell, width) or [Text(end="")]
        for cell, width in zip(table.rows[number], widths, strict=False)
    ]
    for at in range(max(map(len, wrapped))):
        text = Text(end="")
        for column, lines in enumerate(wrapped):
            cell = lines[at] if at < len(lines) else Text(end="")
            cell.rstrip()
            text.append(GAP if column else "")
            text.append_text(_aligned(cell, widths[column], table.align[column]))
        yield text


def _aligned(cell: Text, width: int, align: str) -> Text:
    space = max(0, width - cells(cell.plain))
    left = {"left": 0, "right": space, "center": space // 2}[align]
    return Text.assemble(" " * left, cell, " " * (space - left), end="")


def _widths(table: _Table, room: int) -> list[int]:
    """The columns' widths: as wide as their cells, else shrunk from the widest down."""
    if sum(table.wide) <= room:
        return table.wide
    least = table.word if sum(table.word) <= room else [1] * len(table.word)
    return _shrunk(table.wide, least, max(room, len(least)))


def _shrunk(wide: list[int], least: list[int], room: int) -> list[int]:
    """Level the widest columns until the sum fits; none below its least."""
    widths = list(wide)
    while sum(widths) > room:
        free = [c for c in range(len(widths)) if widths[c] > least[c]]
        if not free:
            break
        top = max(widths[c] for c in free)
        tops = [c for c in free if widths[c] == top]
        lower = max((widths[c] for c in free if widths[c] < top), default=1)
        floor = max(lower, *(least[c] for c in tops))
        excess = sum(widths) - room
        step = max(1, min(top - floor, excess // len(tops) or 1))
        for c in tops:
            if sum(widths) <= room:
                break
            widths[c] = max(least[c], widths[c] - step)
    return widths
