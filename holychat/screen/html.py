"""Conversations as one HTML page that needs nothing else: no script, no font, no image.

Owns every tag of the page. What a model or a user wrote becomes text: nothing of it is ever markup,
its links lead to http, https or mailto, and its images are links. The page's own policy (CSP)
forbids the rest, should this file be wrong. Blocks are read as on the terminal, so nothing that
was shown there is missing here.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt

from holychat.core.blocks import (
    Blocks,
    Code,
    Definition,
    Heading,
    Html,
    Item,
    Math,
    Paragraph,
    Row,
    Rule,
)
from holychat.core.markdown import branch
from holychat.core.sanitize import visible
from holychat.screen.words import ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from markdown_it.token import Token

    from holychat.core.blocks import Container, Path, Piece
    from holychat.core.formats import Whole
    from holychat.core.history import Conversation, Kept

MOST = 200_000  # characters of code that are coloured; more would take long, whatever it is
_TASKS = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}
_SAFE = re.compile(r"https?://[^/]|mailto:[^?]", re.IGNORECASE)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(
    listed: Sequence[Conversation], wholes: Iterable[Whole], date: Callable[[int], str]
) -> Iterator[str]:
    """The page in parts. `wholes` are the conversations that `listed` announces; `date` writes
    Unix time in milliseconds."""
    title = _title(listed[0]) if len(listed) == 1 else f"{len(listed)} conversations"
    yield (
        '<!DOCTYPE html>\n<html lang="">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="generator" content="holychat">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_CSS}{_colours()}</style>\n</head>\n<body>\n"
    )
    if len(listed) > 1:
        yield f"<nav>\n<h1>{_text(title)}</h1>\n<ol>\n"
        for each in listed:
            yield f'<li><a href="#{_anchor(each)}">{_text(_title(each))}</a></li>\n'
        yield "</ol>\n</nav>\n"
    for whole in wholes:
        yield from _conversation(whole, date)
    yield "</body>\n</html>\n"


def _title(about: Conversation) -> str:
    return about.title or "Untitled"


def _anchor(about: Conversation) -> str:
    return "c-" + re.sub(r"[^a-z0-9]", "", about.id.lower())


def _conversation(whole: Whole, date: Callable[[int], str]) -> Iterator[str]:
    about, path = whole.conversation, branch(whole)
    facts = (date(about.created), about.model, about.origin and f"from {about.origin}")
    yield f'<main id="{_anchor(about)}">\n<header>\n<h1>{_text(_title(about))}</h1>\n'
    yield f"<p>{' · '.join(map(_text, filter(None, facts)))}</p>\n</header>\n"
    if about.system:
        yield _folded("System prompt", about.system)
    for message in path:
        yield _message(message, date)
    notes = ["not answered"] if path and path[-1].role == "user" else []
    if left := len(whole.messages) - len(path):
        notes.append(f"left out: {left} of other branches")
    yield "".join(f'<p class="note">{note}</p>\n' for note in notes)
    yield "</main>\n"


def _message(message: Kept, date: Callable[[int], str]) -> str:
    model = message.turn.model if message.turn else ""
    who = "You" if message.role == "user" else model or "Answer"
    head = f"<b>{_text(who)}</b> <time>{_text(date(message.created))}</time>"
    why = ending(message.turn) if message.turn else ""
    note = f'<p class="note">{_text(why)}</p>\n' if why else ""
    thought = _folded("Reasoning", message.reasoning) if message.reasoning.strip() else ""
    kind = "user" if message.role == "user" else "answer"
    return (
        f'<article class="{kind}">\n<h2>{head}</h2>\n{thought}<div>\n{body(message.text)}</div>\n'
        f"{note}</article>\n"
    )


def _folded(name: str, text: str) -> str:
    return f"<details>\n<summary>{name}</summary>\n{body(text)}</details>\n"


def _text(text: str) -> str:
    """Foreign text as text: no markup, no control, nothing that turns the reading around."""
    return escape(visible(text))


# --- Blocks -------------------------------------------------------------------------------------


def body(source: str) -> str:
    """Markdown as HTML."""
    blocks = Blocks(whole=True)
    text = visible(source.replace("\r\n", "\n").replace("\r", "\n"))
    pieces = [*blocks.feed(text), *blocks.finish()]
    environment: dict[str, Any] = {}
    for piece in pieces:
        if isinstance(piece, Definition):
            _parser().parse(piece.text, environment)
    weaver = _Weaver(environment)
    for piece in pieces:
        weaver.add(piece)
    return weaver.finish()


class _Weaver:
    """Pieces in, HTML out: opens and closes what they are in."""

    def __init__(self, environment: dict[str, Any]) -> None:
        self._out: list[str] = []
        self._path: Path = ()
        self._environment = environment  # the addresses that references lead to
        self._code: list[str] = []

    def add(self, piece: Piece) -> None:
        self._enter(piece.path)
        self._out.append(_WRITE[type(piece)](self, piece))

    def finish(self) -> str:
        self._enter(())
        return "".join(self._out)

    def _enter(self, path: Path) -> None:
        """Close what is left, open what is entered. Neighbouring items stay in one list."""
        same = 0
        while same < min(len(self._path), len(path)) and self._path[same].key == path[same].key:
            same += 1
        left, entered = self._path[same:], path[same:]
        goes_on = bool(left and entered) and _list(left[0]) == _list(entered[0]) != 0
        for depth in range(len(left) - 1, -1, -1):
            self._out.append(_end(left[depth], whole=depth > 0 or not goes_on))
        for depth, container in enumerate(entered):
            self._out.append(_begin(container, whole=depth > 0 or not goes_on))
        self._path = path

    # --- The kinds of pieces: each gives its HTML ---------------------------------------------

    def inline(self, text: str) -> str:
        return _inline(_parser().parseInline(text, self._environment)[0].children or ())

    def heading(self, piece: Heading) -> str:
        level = min(6, piece.level + 2)  # below the page's own
        return f"<h{level}>{self.inline(piece.text)}</h{level}>\n"

    def paragraph(self, piece: Paragraph) -> str:
        text, mark = piece.text, ""
        if piece.first and piece.path and isinstance(piece.path[-1], Item):
            mark = _TASKS.get(text[:4], "")
            text = text[4:] if mark else text
        blank = "" if piece.last or not text[-1:].isspace() else " "
        begin, end = "<p>" if piece.first else "", "</p>\n" if piece.last else ""
        return f"{begin}{mark}{self.inline(text)}{blank}{end}"

    def code(self, piece: Code) -> str:
        if not piece.last:  # the last one has blank lines only
            self._code += piece.lines
            return ""
        code, self._code = "\n".join(self._code), []
        label = f'<span class="label">{_text(piece.language)}</span>' if piece.language else ""
        return f"<pre>{label}<code>{highlighted(code, piece.language)}\n</code></pre>\n"

    def html(self, piece: Html | Math) -> str:
        begin, end = '<pre class="raw">' if piece.first else "", "</pre>\n" if piece.last else ""
        return begin + "".join(f"{_text(line)}\n" for line in piece.lines) + end

    def rule(self, _: Rule) -> str:
        return "<hr>\n"

    def definition(self, piece: Definition) -> str:
        return f'<p class="definition">{_text(piece.text)}</p>\n'

    def row(self, piece: Row) -> str:
        begin = '<div class="table"><table>\n' if piece.first else ""
        end = "</table></div>\n" if piece.last else ""
        tag = "th" if piece.first else "td"
        cells = "".join(
            f'<{tag} class="{align}">{self.inline(cell)}</{tag}>'
            for cell, align in zip(piece.cells, piece.align, strict=False)
        )
        return begin + (f"<tr>{cells}</tr>\n" if cells else "") + end


_WRITE: dict[type[Piece], Callable[[_Weaver, Any], str]] = {
    Heading: _Weaver.heading,
    Paragraph: _Weaver.paragraph,
    Code: _Weaver.code,
    Html: _Weaver.html,
    Math: _Weaver.html,  # as it was written, like raw HTML
    Rule: _Weaver.rule,
    Definition: _Weaver.definition,
    Row: _Weaver.row,
}


def _list(container: Container) -> int:
    """The list that it is an item of; 0 for a quote."""
    return container.list if isinstance(container, Item) else 0


def _begin(container: Container, *, whole: bool) -> str:
    if not isinstance(container, Item):
        return "<blockquote>\n"
    if not whole:
        return "<li>"
    number = container.number
    if number is None:
        return "<ul>\n<li>"
    return f'<ol start="{number}">\n<li>' if number != 1 else "<ol>\n<li>"


def _end(container: Container, *, whole: bool) -> str:
    if not isinstance(container, Item):
        return "</blockquote>\n"
    tag = "ul" if container.number is None else "ol"
    return f"</li>\n</{tag}>\n" if whole else "</li>\n"


# --- Inline markup ------------------------------------------------------------------------------

_TAGS = {
    "strong_open": "<strong>", "strong_close": "</strong>", "em_open": "<em>",
    "em_close": "</em>", "s_open": "<s>", "s_close": "</s>", "link_close": "</a>",
    "hardbreak": "<br>\n", "softbreak": "\n",
}  # fmt: skip


class _Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - its name there
        return safe(url)


@cache
def _parser() -> MarkdownIt:
    return _Parser("commonmark", {"html": False}).enable("strikethrough")


def safe(address: str) -> bool:
    """Whether a link may lead there; any other stays the text that it was written as."""
    return _SAFE.match(address) is not None


def _inline(tokens: Sequence[Token]) -> str:
    out: list[str] = []
    links: list[tuple[str, int]] = []
    for token in tokens:
        if token.type == "link_open":
            links.append((str(token.attrs.get("href", "")), len(out)))
            out.append(_link(links[-1][0]))
        elif token.type == "link_close":
            address, start = links.pop()
            said = "".join(out[start + 1 :])
            out.append("</a>")
            # A text that looks like another address than the one it leads to is a lie.
            if "://" in said and said != _text(address):
                out.append(f" ({_text(address)})")
        elif token.type == "image":
            address = str(token.attrs.get("src", ""))
            out.append(f"{_link(address)}🖼 {_text(_plain(token.children or ())) or 'image'}</a>")
        elif token.type == "code_inline":
            out.append(f"<code>{_text(token.content)}</code>")
        else:
            out.append(_TAGS.get(token.type) or _text(token.content))
    return "".join(out)


def _link(address: str) -> str:
    if not safe(address):  # cannot be: the parser asks first
        return "<a>"
    return f'<a href="{_text(address)}" rel="noopener noreferrer nofollow">'


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(token.content or _plain(token.children or ()) for token in tokens)


# --- Code ---------------------------------------------------------------------------------------


def highlighted(code: str, language: str) -> str:
    """Code with its colours as classes; as plain text where nothing knows the language."""
    if not language or len(code) > MOST:
        return _text(code)
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return _text(code)
    code = visible(code)
    tokens = list(lexer.get_tokens(code))
    if "".join(value for _, value in tokens) != code:
        return _text(code)
    out = StringIO()
    HtmlFormatter(nowrap=True).format(tokens, out)
    return out.getvalue().removesuffix("\n")


@cache
def _colours() -> str:
    """The colours of code, for light pages and for dark ones."""
    from pygments.formatters import HtmlFormatter

    def of(style: str) -> str:
        rules: Any = HtmlFormatter(style=style)
        lines = rules.get_style_defs("pre").splitlines()
        return "\n".join(line for line in lines if line.startswith("pre ."))

    light, dark = of("default"), of("github-dark")
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


_CSS = """\
:root { color-scheme: light dark; --text: #1c1e21; --dim: #5f6670; --back: #fff;
  --soft: #f4f5f7; --line: #dcdfe4; --link: #0b5cc4; }
@media screen and (prefers-color-scheme: dark) { :root { --text: #e3e5e8; --dim: #9aa1ab;
  --back: #16181c; --soft: #202329; --line: #363b44; --link: #7ab4ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 48rem; color: var(--text);
  background: var(--back); font: 1rem/1.6 system-ui, sans-serif; overflow-wrap: anywhere; }
header, nav { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem; }
header p, time, .note, summary, .definition, .label { color: var(--dim); font-size: .875rem; }
main + main { margin-top: 4rem; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: .5rem 0; }
h2 { font-size: .875rem; margin: 0 0 .5rem; font-weight: normal; }
h3, h4, h5, h6 { line-height: 1.3; margin: 1.5rem 0 .5rem; }
h3 { font-size: 1.25rem; } h4 { font-size: 1.125rem; } h5, h6 { font-size: 1rem; }
article { margin: 0 0 2rem; }
article.user { background: var(--soft); border-radius: .5rem; padding: .75rem 1rem; }
p, li, h1, h3, h4, h5, h6, th, td, blockquote { unicode-bidi: plaintext; }
p { margin: .75rem 0; } li > p { margin: .25rem 0; }
article > div > :first-child { margin-top: 0; } article > div > :last-child { margin-bottom: 0; }
ul, ol { padding-left: 1.75rem; }
a { color: var(--link); }
code, pre { font: .875em/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
:not(pre) > code { background: var(--soft); border-radius: .25rem; padding: .1em .3em; }
article.user :not(pre) > code, article.user pre { background: var(--back); }
pre { background: var(--soft); border-radius: .5rem; padding: .75rem 1rem; overflow-x: auto;
  overflow-wrap: normal; tab-size: 4; }
pre code { font-size: 1em; }
.label { display: block; user-select: none; font-family: system-ui, sans-serif; }
.raw { color: var(--dim); white-space: pre-wrap; }
blockquote { border-left: 3px solid var(--line); margin: .75rem 0; padding-left: 1rem; }
.table { overflow-x: auto; } table { border-collapse: collapse; margin: .75rem 0; }
th, td { border: 1px solid var(--line); padding: .3rem .6rem; text-align: left;
  vertical-align: top; overflow-wrap: normal; }
.right { text-align: right; } .center { text-align: center; }
details { border-left: 3px solid var(--line); padding-left: 1rem; margin: .75rem 0; }
summary { cursor: pointer; } .note { font-style: italic; }
hr { border: 0; border-top: 1px solid var(--line); margin: 1.5rem 0; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; } h2, h3, h4 { break-after: avoid; }
  article.user, pre { border: 1px solid var(--line); } }
"""
