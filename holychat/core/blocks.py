"""Markdown in, pieces out: what is final as it arrives, and the open end as it stands.

A line-by-line CommonMark 0.31 block parser with GFM tables, written for streams: each decision
depends on the text alone and is taken when its last line is complete, so that the pieces are the
same whatever the chunks were, and nothing is ever parsed twice. Containers (quotes, list items)
are paths on the pieces; only a leaf can be open. Inline markup stays text: the screen reads it.

Owns the block structure. Must not know colours, widths or a terminal. Standard library only.

Where a stream asks for another rule than CommonMark, the text still decides:
- a paragraph is cut into pieces of about `CUT` characters, at a blank where no inline construct
  is open (or, from `FORCED` on, at any blank), and such a long one becomes neither a setext
  heading nor the head of a table;
- a link reference definition stays visible as a line of its own, and a reference to it stays as it
  was written: the definition may come long after the rows that would have to change; one that goes
  over several lines is a paragraph;
- math is no Markdown: between `$$` and `$$`, `\\[` and `\\]`, `\\begin{x}` and `\\end{x}` the lines
  stay as they are, until a blank one at the latest, and `math_end` is the same for math in a line;
- `[^name]:` begins a footnote, a container like a list's item: what is indented by 4 belongs to it;
- a byte order mark before the first character is no text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple

CUT = 400  # characters of a paragraph from which on it may be cut, a few rows
FORCED = 2000  # from which on it is cut at any blank
UNBROKEN = 2800  # from which on it is cut anywhere
MARKS = 200  # marks of markup in text that could not be cut, from which on CUT counts as FORCED
LONG = 4000  # characters of a line that are taken before its end has come; of plain text, CUT
NOTE = 4  # columns that what belongs to a footnote is indented by


class Quote(NamedTuple):
    """A block quote. `key` tells one container from the next."""

    key: int


class Item(NamedTuple):
    """A list item: `number` is None for a bullet; `list` is the key of the list it is in.

    Or a footnote: its marker is `[^name]:`, and the notes next to each other are a list.
    """

    key: int
    list: int
    number: int | None
    indent: int  # columns that its content is indented by, seen from its parent
    marker: str  # the character that makes items neighbours of one list: - + * . )

    @property
    def note(self) -> bool:
        return self.marker[0] == "["


Container = Quote | Item
Path = tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the document. `first` and `last`: whether its block begins and ends with it."""

    path: Path
    first: bool = True
    last: bool = True


@dataclass(frozen=True, slots=True)
class Heading(Piece):
    level: int = 1
    text: str = ""


@dataclass(frozen=True, slots=True)
class Paragraph(Piece):
    """`text` keeps the line breaks of the source. An empty one shows an empty item's marker."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Code(Piece):
    """Whole lines of a code block as they were written, tabs too, without their indentation.

    `lines` of the last piece are blank ones, if any: they belong to the code and are not shown.
    `glued`: the first line is the rest of the one before; `more`: the last one may have a rest.
    """

    language: str = ""
    lines: tuple[str, ...] = ()
    fenced: bool = True
    glued: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class Html(Piece):
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Math(Piece):
    """Lines of math with what stands around it, as they were written."""

    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule(Piece):
    """A thematic break."""


@dataclass(frozen=True, slots=True)
class Definition(Piece):
    """A link's definition, as it was written."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Row(Piece):
    """One row of a table: the first piece is its head, the last one has no cells."""

    cells: tuple[str, ...] = ()
    align: tuple[str, ...] = ()


# --- Lines --------------------------------------------------------------------------------------

_ATX = re.compile(r"(#{1,6})(?:[ ]+(.*?))??(?:[ ]+#+)?[ ]*$")
_FENCE = re.compile(r"(`{3,})([^`]*)$|(~{3,})(.*)$")
_BULLET = re.compile(r"([-+*])(?: |$)")
_ORDERED = re.compile(r"(\d{1,9})([.)])(?: |$)")
_BREAK = re.compile(r"(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$")
_SETEXT = re.compile(r"(=+|-+) *$")
_DELIMITER = re.compile(r"\|?(?: *:?-+:? *\|)+(?: *:?-+:? *)?$|\|? *:?-+:? *\|?$")
# [label]: destination "title", and nothing else (CommonMark 4.7)
_DEFINITION = re.compile(
    r"\[(?!\^|\s*\])(?:[^\[\]\\]|\\.){1,999}\]: *"
    r"(?:<(?:[^<>\\]|\\.)*>|(?!<)\S+)"
    r"""(?: +(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\((?:[^()\\]|\\.)*\)))?$"""
)
_NOTE = re.compile(r"(\[\^[^\s\[\]]{1,99}\]:)(?= |$)")
# What has to be whole before it is drawn, also in containers: a heading, math.
_WHOLE = re.compile(r"(?:[ >]|[-+*] |\d{1,9}[.)] )*(?:#|\$\$|\\[\[b])")

_TAGS = (
    "address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|"
    "dialog|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|"
    "hr|html|iframe|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|"
    "search|section|summary|table|tbody|td|tfoot|th|thead|title|tr|track|ul"
)
_ATTRIBUTE = r"""\s+[a-zA-Z_:][\w.:-]*(?:\s*=\s*(?:[^\s"'=<>`]+|'[^']*'|"[^"]*"))?"""
_LONE_TAG = rf"(?:<[a-zA-Z][a-zA-Z0-9-]*(?:{_ATTRIBUTE})*\s*/?>|</[a-zA-Z][a-zA-Z0-9-]*\s*>)\s*$"
# (how it starts, what ends it on the same or a later line); None is a blank line. CommonMark 4.6.
_HTML: tuple[tuple[re.Pattern[str], re.Pattern[str] | None], ...] = (
    (
        re.compile(r"<(?:script|pre|style|textarea)(?:\s|>|$)", re.IGNORECASE),
        re.compile(r"</(?:script|pre|style|textarea)>", re.IGNORECASE),
    ),
    (re.compile(r"<!--"), re.compile(r"-->")),
    (re.compile(r"<\?"), re.compile(r"\?>")),
    (re.compile(r"<![a-zA-Z]"), re.compile(r">")),
    (re.compile(r"<!\[CDATA\["), re.compile(r"\]\]>")),
    (re.compile(rf"</?(?:{_TAGS})(?:\s|/?>|$)", re.IGNORECASE), None),
    (re.compile(_LONE_TAG), None),  # must not interrupt a paragraph
)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _from_column(line: str, column: int) -> str:
    """The line from a column on; what is left of a tab that was cut is blanks."""
    at = 0
    for place, character in enumerate(line):
        if at >= column:
            return " " * (at - column) + line[place:]
        at += 4 - at % 4 if character == "\t" else 1
    return " " * (at - column)


def split_row(line: str) -> tuple[str, ...]:
    """The cells of a table's row: pipes split, `\\|` does not, the outer ones do not count."""
    line = line.strip()
    cells = re.split(r"(?<!\\)\|", line)
    if cells and not cells[0].strip() and line.startswith("|"):
        del cells[0]
    if cells and not cells[-1].strip() and line.endswith("|") and not line.endswith("\\|"):
        del cells[-1]
    return tuple(cell.strip().replace("\\|", "|") for cell in cells)


def _alignment(cell: str) -> str:
    left, right = cell.startswith(":"), cell.endswith(":")
    return "center" if left and right else "right" if right else "left"


# --- Math ---------------------------------------------------------------------------------------

MATH = 2000  # characters that math in a line has at most; between single dollars, CUT

# What follows on the line of `\[` may not look like the rest of an escaped bracket.
_MATH_BLOCK = re.compile(r"\$\$|\\\[(?=[\s\\]|[^\]]*$)|\\begin\{([a-zA-Z]+\*?)\}")
_BEGIN = re.compile(r"\\begin\{([a-zA-Z]+\*?)\}")
_DOLLAR = re.compile(r"\$(?!\s)(?:[^$\\]++|\\.)++(?<!\s)\$(?!\d)", re.DOTALL)
_DOLLARS = re.compile(r"\$\$(?:[^$\\]++|\\.|\$(?!\$))++\$\$", re.DOTALL)
_ROUND = re.compile(r"\\\((?:[^\\]++|\\[^)])*+\\\)", re.DOTALL)
_SQUARE = re.compile(r"\\\[(?:[^\\]++|\\[^\]])*+\\\]", re.DOTALL)
_WORDY = re.compile(r"[^\W_]")


def math_end(text: str, at: int) -> int:
    """Where the math that begins at `at` ends; 0 where none does. In it, markup is none.

    `$...$` by pandoc's rule: no blank inside next to the dollars, no digit behind the last one.
    What has neither letter nor digit is no math but escapes.
    """
    two = text[at : at + 2]
    if two == "$$":
        found = _closed(_DOLLARS, text, at, "$$")
    elif two[:1] == "$":
        found = _DOLLAR.match(text, at, at + CUT)
        if found and text[found.end() : found.end() + 1].isdigit():  # where the look ended
            found = None
    elif two == "\\(":
        found = _closed(_ROUND, text, at, "\\)")
    elif two == "\\[":
        found = _closed(_SQUARE, text, at, "\\]")
    elif two == "\\b" and (begin := _BEGIN.match(text, at, at + 40)):
        closer = f"\\end{{{begin[1]}}}"
        end = text.find(closer, at, at + MATH)
        return end + len(closer) if end > 0 else 0
    else:
        return 0
    return found.end() if found and _WORDY.search(found.group()) else 0


def _closed(pattern: re.Pattern[str], text: str, at: int, closer: str) -> re.Match[str] | None:
    if text.find(closer, at + 2, at + MATH) < 0:  # many openers without one must stay cheap
        return None
    return pattern.match(text, at, at + MATH)


def _math_closer(words: str) -> str:
    """What ends the block of math that begins here; empty where none does, or where it ends too."""
    found = _MATH_BLOCK.match(words)
    if found is None:
        return ""
    closer = {"$$": "$$", "\\[": "\\]"}.get(found[0]) or f"\\end{{{found[1]}}}"
    return "" if closer in words[found.end() :] else closer


def _math_interrupts(words: str, held: list[str]) -> bool:
    """Whether the line begins math in an open paragraph: it stands alone, and none is open."""
    if words.strip() not in ("$$", "\\[") and not words.startswith("\\begin{"):
        return False
    text = "\n".join(held)
    return text.count("$$") % 2 == 0 and text.count("\\[") <= text.count("\\]")


# --- The parser ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Leaf:
    """The open leaf. `held` is what of it is not final yet; `begun` that a piece of it is out."""

    kind: str  # paragraph, fence, indented, html, math, table
    path: Path
    held: list[str] = field(default_factory=list)
    begun: bool = False
    size: int = 0  # characters of held
    look: int = CUT  # the size at which a place to cut is looked for
    language: str = ""
    fence: str = ""
    indent: int = 0
    end: re.Pattern[str] | None = None
    closer: str = ""
    glued: bool = False  # the first line held is the rest of one
    align: tuple[str, ...] = ()


class Blocks:
    """Feed text, get pieces; `tail` shows the open end, `finish` closes it.

    Text comes cleaned: lines end with LF alone.
    """

    __slots__ = (
        "_empty",
        "_fresh",
        "_glued",
        "_keys",
        "_leaf",
        "_more",
        "_out",
        "_partial",
        "_path",
        "_raw",
        "_whole",
    )

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole  # lines are never taken in portions: the source, not the screen
        self._raw = ""  # the line as it was written, where it has tabs
        self._partial = ""  # the unfinished line, or what is left of a long one
        self._glued = False  # it goes on a line whose beginning was taken already
        self._more = False  # what is taken now is not the whole line
        self._fresh = True  # nothing came yet
        self._path: Path = ()
        self._leaf: _Leaf | None = None
        self._keys = 0
        self._empty: Path = ()  # an item that has nothing in it yet
        self._out: list[Piece] = []

    def feed(self, text: str) -> list[Piece]:
        """The pieces that `text` makes final."""
        if self._fresh and text:
            self._fresh = False
            text = text.removeprefix("\ufeff")
        lines = (self._partial + text).split("\n")
        self._partial = lines.pop()
        for line in lines:
            rest = self._portions(line)
            if rest or not self._glued:
                self._take(rest)
            self._glued = False
        self._partial = self._portions(self._partial)
        out, self._out = self._out, []
        return out

    def finish(self) -> list[Piece]:
        """The rest: the document ends here."""
        if self._partial:
            self._take(self._partial)
        self._partial, self._glued = "", False
        self._close_leaf()
        self._leave(0)
        out, self._out = self._out, []
        return out

    def tail(self) -> list[Piece]:
        """What `finish` would return if the document ended here; changes nothing.

        But what may be the head of a table, or the end of a fence, in a moment is not shown.
        """
        copy = Blocks(whole=self._whole)
        copy._partial, copy._glued = self._partial, self._glued
        copy._path, copy._keys, copy._empty = self._path, self._keys, self._empty
        copy._leaf = self._leaf and replace(self._leaf, held=list(self._leaf.held))
        copy._hold_back()
        return copy.finish()

    def _hold_back(self) -> None:
        leaf, words = self._leaf, self._partial.strip()
        if self._glued:
            return
        if leaf is None:
            if words[:1] == "|":
                self._partial = ""
        elif leaf.kind == "fence":
            if words and not words.strip(leaf.fence[0]):
                self._partial = ""
        elif leaf.kind == "paragraph" and not leaf.begun and not words.strip("|:- "):
            head = leaf.held[0]
            if len(leaf.held) == 1 and head[:1] == "|" and len(head) < CUT:
                self._leaf, self._partial = None, ""

    def _portions(self, line: str) -> str:
        """Take whole portions of a long line; returns what is left of it."""
        while not self._whole and len(line) >= (size := self._portion(line)):
            self._more = True
            self._take(line[:size])
            self._more, self._glued = False, True
            line = line[size:]
        return line

    def _portion(self, line: str) -> int:
        """How much of a long line may be taken before its end: a row of a table, a heading or
        math has to be whole, plain text has not."""
        if len(line) < CUT:
            return CUT
        kind = self._leaf.kind if self._leaf is not None else "paragraph"
        plain = self._glued or not ("|" in line[:CUT] or _WHOLE.match(line))
        return CUT if kind == "paragraph" and plain else LONG

    def _take(self, line: str) -> None:
        leaf = self._leaf
        if self._glued and leaf is not None and leaf.kind == "paragraph":
            self._add_text(line, glue=True)
        elif self._glued and leaf is not None and leaf.kind in ("fence", "indented"):
            self._raw = ""
            self._code_line(leaf, line, glue=True)
        elif self._glued and leaf is not None and leaf.kind == "math":
            self._math_line(leaf, line)
        else:
            self._line(line)

    # --- One line ---------------------------------------------------------------------------

    def _line(self, line: str) -> None:
        self._raw, line = (line if "\t" in line else ""), line.expandtabs(4)
        depth, rest = self._matched(line)
        leaf = self._leaf
        if leaf is not None and depth == len(self._path) and self._goes_on(leaf, rest):
            return
        text = leaf is not None and leaf.kind == "paragraph"
        depth, rest, done = self._starts(depth, rest, text)
        if done:
            return
        if self._leaf is leaf and text and depth < len(self._path) and rest.strip():
            self._add_text(rest)  # lazy continuation (CommonMark 5.1)
            return
        self._leave(depth)
        self._add(rest)

    def _matched(self, line: str) -> tuple[int, str]:
        """How many open containers the line continues, and what is left of it."""
        depth = 0
        for container in self._path:
            indent = _indent(line)
            if isinstance(container, Quote):
                if indent > 3 or line[indent : indent + 1] != ">":
                    break
                line = line[indent + 1 :].removeprefix(" ")
            elif not line.strip():
                if self._path[: depth + 1] == self._empty:
                    break  # an item may begin with one blank line at most
            elif indent >= container.indent:
                line = line[container.indent :]
            else:
                break
            depth += 1
        return depth, line

    def _starts(self, depth: int, rest: str, text: bool) -> tuple[int, str, bool]:
        """Open what begins here: containers, and maybe a leaf. `text`: a paragraph is open.

        Returns the depth reached, what is left of the line, and whether a leaf took it.
        """
        while True:
            indent = _indent(rest)
            words = rest[indent:]
            if not words or indent > 3:
                return depth, rest, False
            if words[0] == ">":
                self._enter(depth, Quote(self._key()))
                rest = words[1:].removeprefix(" ")
            elif self._leaf_starts(depth, words, indent, text):
                return depth, rest, True
            elif item := self._item(depth, words, indent, text):
                self._enter(depth, item)
                self._empty = self._path
                rest = words[len(item.marker) :].lstrip(" ") if item.note else rest[item.indent :]
            else:
                return depth, rest, False
            depth, text = len(self._path), False

    def _leaf_starts(self, depth: int, words: str, indent: int, text: bool) -> bool:
        """Take the line, if it begins a leaf other than text and indented code."""
        first = words[0]
        if first == "#" and (heading := _ATX.match(words)):
            self._leave(depth, leaf=True)
            self._emit(Heading(self._path, level=len(heading[1]), text=heading[2] or ""))
        elif first in "=-|:" and self._underlines(depth, words):
            pass
        elif first in "*-_" and _BREAK.match(words):
            self._leave(depth, leaf=True)
            self._emit(Rule(self._path))
        elif first in "`~" and (fence := _FENCE.match(words)):
            self._leave(depth, leaf=True)
            leaf = self._open("fence")
            leaf.fence, leaf.indent = fence[1] or fence[3], indent
            leaf.language = ((fence[2] or fence[4] or "").split() or [""])[0]
            self._flush_code(leaf)
        elif first in "$\\" and self._math_starts(depth, words, indent, text):
            pass
        elif first == "<" and (kind := _html_kind(words, text)):
            self._leave(depth, leaf=True)
            leaf = self._open("html")
            leaf.end = kind[1]
            self._html_line(leaf, " " * indent + words)
        else:
            return False
        return True

    def _math_starts(self, depth: int, words: str, indent: int, text: bool) -> bool:
        closer = _math_closer(words)
        if not closer:
            return False
        if text and self._leaf is not None and not _math_interrupts(words, self._leaf.held):
            return False
        self._leave(depth, leaf=True)
        leaf = self._open("math")
        self._math_line(leaf, " " * indent + words)
        leaf.closer = closer
        return True

    def _underlines(self, depth: int, words: str) -> bool:
        """A setext underline, or a table's delimiter row, below an open paragraph."""
        leaf = self._leaf
        if leaf is None or leaf.kind != "paragraph" or depth < len(self._path) or leaf.begun:
            return False
        if _SETEXT.match(words):
            self._leaf = None
            text = "\n".join(leaf.held).strip()
            self._emit(Heading(leaf.path, level=1 if words[0] == "=" else 2, text=text))
            return True
        cells, head = split_row(words), split_row(leaf.held[-1])
        piped = "|" in words or "|" in leaf.held[-1]
        if not (piped and _DELIMITER.match(words) and len(cells) == len(head)):
            return False
        leaf.held.pop()
        if leaf.held:
            self._close_leaf()
        table = self._open("table")
        table.align = tuple(map(_alignment, cells))
        self._emit(Row(self._path, last=False, cells=head, align=table.align))
        return True

    def _item(self, depth: int, words: str, indent: int, text: bool) -> Item | None:
        """The list item that begins here, if one does."""
        found = _BULLET.match(words) or _ORDERED.match(words)
        if found is None:
            return self._note(depth, words, text)
        marker = found[found.lastindex or 1]
        number = int(found[1]) if found.lastindex == 2 else None
        width = len(found[1]) + (number is not None)
        padding = _indent(words[width:])
        blank = len(words) == width + padding
        if text and depth == len(self._path) and (blank or number not in (None, 1)):
            return None  # what may interrupt a paragraph: "1." and bullets, with content
        before = self._path[depth] if depth < len(self._path) else None
        key = self._key()
        start = key
        if isinstance(before, Item) and before.marker == marker:
            start = before.list
            number = None if before.number is None else before.number + 1
        spaces = 1 if blank or padding > 4 else padding
        return Item(key, start, number, indent + width + spaces, marker)

    def _note(self, depth: int, words: str, text: bool) -> Item | None:
        """The footnote that begins here, if one does."""
        found = _NOTE.match(words)
        interrupts = text and depth == len(self._path)
        if found is None or (interrupts and not words[found.end() :].strip()):
            return None
        before = self._path[depth] if depth < len(self._path) else None
        key = self._key()
        start = before.list if isinstance(before, Item) and before.note else key
        return Item(key, start, None, NOTE, found[1])

    # --- Leaves -----------------------------------------------------------------------------

    def _goes_on(self, leaf: _Leaf, rest: str) -> bool:
        """Give the line to the open leaf, if it takes whatever comes."""
        if leaf.kind == "fence":
            words = rest.strip()
            closes = len(words) >= len(leaf.fence) and not words.strip(leaf.fence[0])
            if closes and _indent(rest) < 4:
                self._close_leaf()
            else:
                self._code_line(leaf, rest[min(leaf.indent, _indent(rest)) :])
        elif leaf.kind == "math" and rest.strip():
            self._math_line(leaf, rest)
        elif leaf.kind == "html" and (leaf.end is not None or rest.strip()):
            self._html_line(leaf, rest)
        elif leaf.kind == "indented" and (_indent(rest) >= 4 or not rest.strip()):
            self._code_line(leaf, rest[4:])
        else:
            return False
        return True

    def _add(self, rest: str) -> None:
        """A line that begins nothing: blank, a table's row, text, or indented code."""
        leaf = self._leaf
        if not rest.strip():
            self._close_leaf()
        elif leaf is not None and leaf.kind == "table":
            cells = split_row(rest)[: len(leaf.align)]  # as many as the head has (GFM)
            cells += ("",) * (len(leaf.align) - len(cells))
            self._emit(Row(leaf.path, first=False, last=False, cells=cells, align=leaf.align))
        elif leaf is not None and leaf.kind == "paragraph":
            self._add_text(rest)
        elif _indent(rest) >= 4:
            self._close_leaf()
            self._code_line(self._open("indented"), rest[4:])
        else:
            self._close_leaf()
            if _DEFINITION.match(rest.strip()):
                self._emit(Definition(self._path, text=rest.strip()))
            else:
                self._open("paragraph")
                self._add_text(rest)

    def _add_text(self, text: str, *, glue: bool = False) -> None:
        leaf = self._leaf
        if leaf is None:
            return
        if glue and leaf.held:
            leaf.held[-1] += text
        else:
            leaf.held.append(text.lstrip(" "))
        leaf.size += len(text) + 1
        while leaf.size > leaf.look:
            joined = "\n".join(leaf.held)
            cut = _cut(joined)
            if not cut:
                leaf.look += CUT // 4
                continue
            self._emit(Paragraph(leaf.path, first=not leaf.begun, last=False, text=joined[:cut]))
            leaf.begun, leaf.look = True, CUT
            leaf.held, leaf.size = joined[cut:].split("\n"), len(joined) - cut

    def _code_line(self, leaf: _Leaf, line: str, *, glue: bool = False) -> None:
        """Blank lines wait for the next one: at the end of a block they are not shown."""
        if self._raw:
            line = _from_column(self._raw, len(self._raw.expandtabs(4)) - len(line))
        if glue and leaf.held:
            leaf.held[-1] += line
        else:
            leaf.glued = leaf.glued or (glue and not leaf.held)
            leaf.held.append(line)
        if line.strip():
            self._flush_code(leaf)

    def _flush_code(self, leaf: _Leaf, *, last: bool = False) -> None:
        fenced, lines = leaf.kind == "fence", tuple(leaf.held)
        place = (leaf.path, not leaf.begun, last)
        self._emit(Code(*place, leaf.language, lines, fenced, leaf.glued, self._more))
        leaf.begun = True
        leaf.held, leaf.glued = [], False

    def _math_line(self, leaf: _Leaf, line: str) -> None:
        self._emit(Math(leaf.path, first=not leaf.begun, last=False, lines=(line,)))
        leaf.begun = True
        if leaf.closer and leaf.closer in line:
            self._close_leaf()

    def _html_line(self, leaf: _Leaf, line: str) -> None:
        self._emit(Html(leaf.path, first=not leaf.begun, last=False, lines=(line,)))
        leaf.begun = True
        if leaf.end is not None and leaf.end.search(line):
            self._close_leaf()

    # --- Opening and closing ----------------------------------------------------------------

    def _open(self, kind: str) -> _Leaf:
        self._leaf = leaf = _Leaf(kind, self._path)
        self._empty = ()
        return leaf

    def _close_leaf(self) -> None:
        leaf, self._leaf = self._leaf, None
        if leaf is None:
            return
        if leaf.kind == "paragraph":
            text = "\n".join(leaf.held).rstrip()
            self._emit(Paragraph(leaf.path, first=not leaf.begun, text=text))
        elif leaf.kind in ("fence", "indented"):
            self._flush_code(leaf, last=True)
        elif leaf.kind == "html":
            self._emit(Html(leaf.path, first=not leaf.begun))
        elif leaf.kind == "math":
            self._emit(Math(leaf.path, first=not leaf.begun))
        else:
            self._emit(Row(leaf.path, first=False, align=leaf.align))

    def _leave(self, depth: int, *, leaf: bool = False) -> None:
        """Close the containers below `depth`, and the open leaf if it is in one, or if asked."""
        if leaf or depth < len(self._path):
            self._close_leaf()
        if len(self._empty) > depth:
            self._emit(Paragraph(self._empty))  # an empty item still has its marker
        self._path = self._path[:depth]

    def _enter(self, depth: int, container: Container) -> None:
        self._leave(depth, leaf=True)
        self._path = (*self._path, container)

    def _emit(self, piece: Piece) -> None:
        self._empty = ()
        self._out.append(piece)

    def _key(self) -> int:
        self._keys += 1
        return self._keys


def _html_kind(words: str, text: bool) -> tuple[re.Pattern[str], re.Pattern[str] | None] | None:
    """How an HTML block that begins here ends; None where none does. The last kind is too weak to
    interrupt a paragraph."""
    kinds = _HTML[:-1] if text else _HTML
    return next((kind for kind in kinds if kind[0].match(words)), None)


# --- Where a long paragraph may be cut ----------------------------------------------------------

_MARKS = re.compile(
    r"(?P<math>\\[(\[]|\\begin\{|\$+)|\\.|`+|\*+|_+|~~|\[|\]\([^)\s]*|\]|<[a-zA-Z/!?][^>]*>|\s",
    re.DOTALL,
)


def _cut(text: str) -> int:
    """Where to cut: behind a blank from CUT on at which nothing is open, from FORCED on behind any
    blank, from UNBROKEN on anywhere. 0 where the text has no such place yet.

    Text that is full of marks and has something open is cut as if it were longer: to read it takes
    time that grows faster than its length.
    """
    full = 2 * text.count("[") + text.count("*") + text.count("_") > MARKS
    forced, unbroken = (CUT, 2 * CUT) if full else (FORCED, UNBROKEN)
    open_marks: list[str] = []
    at = math = 0  # until where math goes on: there is no place in it
    while mark := _MARKS.search(text, at):
        found, at = mark.group(), mark.end()
        if at > unbroken:
            break
        if mark["math"]:
            if not _in_code(open_marks) and mark.start() >= math:
                math = _math_until(text, mark.start())
        elif not found.isspace():
            if mark.start() >= math:
                _toggle(open_marks, found, text[at : at + 1])
        elif at >= forced or (at >= CUT and at > math and not open_marks):
            return at
    return unbroken if len(text) >= unbroken else 0


def _math_until(text: str, at: int) -> int:
    """Where the math that begins here ends, or may: 0 where none begins."""
    if end := math_end(text, at):
        return end
    dollar = text[at] == "$" and text[at : at + 2] != "$$"
    most = CUT if dollar else MATH
    rest = text[at + 1 : at + most]
    hopeless = len(text) - at >= most or (dollar and (rest[:1].isspace() or "$" in rest))
    return 0 if hopeless else len(text)


def _in_code(open_marks: list[str]) -> bool:
    return bool(open_marks) and open_marks[-1][0] == "`"


def _toggle(open_marks: list[str], found: str, after: str) -> None:
    """Open or close an inline construct; roughly, for the place of a cut."""
    if found[0] in "\\<" or (_in_code(open_marks) and found != open_marks[-1]):
        return
    if found[0] == "]":
        while open_marks and open_marks.pop() != "[":
            pass
    elif found in open_marks:
        del open_marks[open_marks.index(found) :]
    elif found[0] in "`[" or (after and not after.isspace()):
        open_marks.append(found)
