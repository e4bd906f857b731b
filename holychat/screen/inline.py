"""Inline Markdown to styled text: emphasis, code, links, images, breaks.

markdown-it reads it, rich carries the styles. Owns what inline markup looks like; knows no block.
The text is foreign, also behind entities (`&#27;` is ESC): controls are made visible last of all,
and nothing in it is taken for rich's own markup.

Exceptions from CommonMark, for what models write:
- math (`math_end` says what that is) stays as it is;
- Chinese, Japanese and Korean have no blanks between words, so `**注意：**请` is strong: next to
  such a character, punctuation does not keep an asterisk from opening or closing;
- `<br>` breaks the line, all other HTML is text.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt, helpers
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_inline.state_inline import Scanned, StateInline
from rich.style import Style
from rich.text import Text

from holychat.core.blocks import math_end
from holychat.core.sanitize import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it.token import Token

    from holychat.screen.theme import Theme

_OPEN = {"strong_open": "strong", "em_open": "emphasis", "s_open": "strike"}
_CLOSE = {"strong_close", "em_close", "s_close"}


# Marks that are read together. What a reader of brackets does about them grows with their square;
# real text has far fewer in a paragraph.
MOST = 60
_MARK = re.compile(r"!?\[|[*_~]+")
_BR = re.compile(r"<br\s*/?>", re.IGNORECASE)


# --- The reader ---------------------------------------------------------------------------------


@cache
def _parser() -> MarkdownIt:
    # Whatever a model writes as an address is shown; nobody is sent there by a click unasked.
    parser = MarkdownIt()
    parser.inline = _Inline()
    parser.configure("commonmark").enable("strikethrough")
    parser.helpers = _Helpers()  # type: ignore[assignment]
    parser.inline.ruler.before("escape", "math", _math)
    return parser


class _Helpers:
    """markdown-it's, but that a bracket which nothing closes is seen at once."""

    parseLinkDestination = staticmethod(helpers.parseLinkDestination)  # noqa: N815 - theirs
    parseLinkTitle = staticmethod(helpers.parseLinkTitle)  # noqa: N815

    @staticmethod
    def parseLinkLabel(state: StateInline, start: int, disableNested: bool = False) -> int:  # noqa: N802, N803
        if state.src.find("]", start, state.posMax) < 0:
            return -1
        return helpers.parseLinkLabel(state, start, disableNested)


class _Inline(ParserInline):
    def parse(self, src: str, md: MarkdownIt, env: Any, tokens: list[Token]) -> list[Token]:
        state = _State(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


class _State(StateInline):
    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:  # noqa: N802, N803 - theirs
        """Which ends a run of `*` or `~` can be; next to CJK, as the "CJK-friendly" rule has it."""
        found = super().scanDelims(start, canSplitWord)
        before = self.src[start - 1] if start else " "
        end = start + found.length
        after = self.src[end] if end < self.posMax else " "
        if not canSplitWord or not (_cjk(before) or _cjk(after)):
            return found
        opens = not isWhiteSpace(ord(after)) and (not _hard(after) or _loose(before))
        closes = not isWhiteSpace(ord(before)) and (not _hard(before) or _loose(after))
        return Scanned(opens, closes, found.length)


@lru_cache(maxsize=1024)
def _cjk(character: str) -> bool:
    wide = character > "\u10ff" and unicodedata.east_asian_width(character) in "WFH"
    return wide and unicodedata.category(character) != "So"  # no emoji


def _punctuation(character: str) -> bool:
    return isMdAsciiPunct(ord(character)) or isPunctChar(character)


def _hard(character: str) -> bool:
    return _punctuation(character) and not _cjk(character)


def _loose(character: str) -> bool:
    return isWhiteSpace(ord(character)) or _punctuation(character) or _cjk(character)


def _math(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    end = math_end(state.src, state.pos)
    if not state.pos < end <= state.posMax:
        return False
    if not silent:
        state.push("math", "", 0).content = state.src[state.pos : end]
    state.pos = end
    return True


# --- To styled text -----------------------------------------------------------------------------


def inline(text: str, theme: Theme, base: Style, *, clickable: bool) -> Text:
    """The text with its markup as styles. Line breaks of the source become blanks.

    `clickable`: the terminal opens links; where it does not, the address stands behind the text.
    """
    out = Text(style=base, end="")
    for part in _parts(text):
        _styled(out, part, theme, clickable=clickable)
    return out


def _parts(text: str) -> Iterator[str]:
    """The text in parts of at most MOST marks, split at blanks where there are any."""
    start = 0
    if len(text) > MOST:
        for number, mark in enumerate(_MARK.finditer(text), 1):
            if number % MOST == 0:
                place = text.rfind(" ", start, mark.start()) + 1 or mark.start()
                yield text[start:place]
                start = place
    yield text[start:]


def _styled(out: Text, source: str, theme: Theme, *, clickable: bool) -> None:
    tokens = _parser().parseInline(source)[0].children or []
    styles: list[Style] = []
    links: list[tuple[str, int]] = []
    for token in tokens:
        kind = token.type
        if kind in _OPEN:
            styles.append(theme[_OPEN[kind]])
        elif kind in _CLOSE:
            styles.pop()
        elif kind == "link_open":
            address = visible(str(token.attrs.get("href", "")))
            links.append((address, len(out)))
            styles.append(theme["link"] + Style(link=address if clickable else None))
        elif kind == "link_close":
            styles.pop()
            address, start = links.pop()
            text = out.plain[start:]
            # A text that looks like another address than the one it leads to is a lie.
            if not _same(text, address) and (not clickable or "://" in text):
                out.append(f" ({address})", theme["address"])
        else:
            _leaf(out, token, theme, sum(styles, Style.null()), clickable=clickable)


def _leaf(out: Text, token: Token, theme: Theme, style: Style, *, clickable: bool) -> None:
    if token.type == "softbreak":
        out.append(" ", style)
    elif token.type == "hardbreak":
        out.append("\n", style)
    elif token.type == "code_inline":
        out.append(visible(token.content), style + theme["code"])
    elif token.type == "math":
        lines = token.content if token.content[:2] in ("$$", "\\[", "\\b") else _flat(token.content)
        out.append(visible(lines), style + theme["math"])
    elif token.type == "html_inline" and _BR.fullmatch(token.content):
        out.append("\n", style)
    elif token.type == "html_inline":
        out.append(visible(token.content), style + theme["html"])
    elif token.type == "image":
        address = visible(str(token.attrs.get("src", "")))
        alt = visible(_plain(token.children or ())) or "image"
        out.append(alt, style + theme["link"] + Style(link=address if clickable else None))
        if not clickable:
            out.append(f" ({address})", theme["address"])
    else:
        out.append(visible(token.content), style)


def _flat(text: str) -> str:
    return text.replace("\n", " ")


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(token.content or _plain(token.children or ()) for token in tokens)


def _same(text: str, address: str) -> bool:
    return text in (address, address.removeprefix("mailto:"))


# --- The open end -------------------------------------------------------------------------------

_UNFINISHED = re.compile(r"!?\[([^\[\]]*)\]\([^()\n]*$")
_ENDS = re.compile(r"\\.|`+|\*+|~~|_+", re.DOTALL)


def closed(text: str) -> str:
    """The text as it will look when what is open at its end is closed; for the screen's tail.

    `**bold` is bold already, and of `[text](https://exam` only the text shows. A guess: what is
    final is drawn from what came.
    """
    text = _UNFINISHED.sub(r"\1", text)
    marks: list[str] = []
    for mark in _ENDS.finditer(text):
        found, before = mark.group(), text[max(0, mark.start() - 1) : mark.start()]
        if found[0] == "\\" or (marks and marks[-1][0] == "`" != found[0]):
            continue
        if found in marks and (found[0] == "`" or not before.isspace()):
            del marks[marks.index(found) :]
        elif mark.end() == len(text):  # not yet clear which end, and of what
            text = text[: mark.start()]
        elif found[0] == "`" or not (
            text[mark.end()].isspace() or (found[0] == "_" and before.isalnum())
        ):
            marks.append(found)
    return text.rstrip() + "".join(reversed(marks)) if marks else text
