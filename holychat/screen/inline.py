"""Inline Markdown to styled text: emphasis, code, links, images, breaks.

markdown-it reads it, rich carries the styles. Owns what inline markup looks like; knows no block.
The text is foreign, also behind entities (`&#27;` is ESC): controls are made visible last of all,
and nothing in it is taken for rich's own markup.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from rich.style import Style
from rich.text import Text

from holychat.core.sanitize import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

    from holychat.screen.theme import Theme

_OPEN = {"strong_open": "strong", "em_open": "emphasis", "s_open": "strike"}
_CLOSE = {"strong_close", "em_close", "s_close"}


@cache
def _parser() -> MarkdownIt:
    # Whatever a model writes as an address is shown; nobody is sent there by a click unasked.
    return MarkdownIt("commonmark").enable("strikethrough")


def inline(text: str, theme: Theme, base: Style, *, clickable: bool) -> Text:
    """The text with its markup as styles. Line breaks of the source become blanks.

    `clickable`: the terminal opens links; where it does not, the address stands behind the text.
    """
    out = Text(style=base, end="")
    tokens = _parser().parseInline(text)[0].children or []
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
    return out


def _leaf(out: Text, token: Token, theme: Theme, style: Style, *, clickable: bool) -> None:
    if token.type == "softbreak":
        out.append(" ", style)
    elif token.type == "hardbreak":
        out.append("\n", style)
    elif token.type == "code_inline":
        out.append(visible(token.content), style + theme["code"])
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


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(token.content or _plain(token.children or ()) for token in tokens)


def _same(text: str, address: str) -> bool:
    return text in (address, address.removeprefix("mailto:"))
