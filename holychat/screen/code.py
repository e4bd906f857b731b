"""Syntax colours for code that is still being written.

Owns the way a pygments lexer is fed line by line: its state stack is kept at the last token
boundary that stands at the start of a line, some lines back, so that each line is read about
twice and colours never change once they are out. Which lines wait depends on the lines alone.
A line that nobody reads for its colours (minified code) has none: it could not wait.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD = 6  # lines that wait for what follows: the reach of most multi-line tokens
BATCH = 12  # lines that come together before they are read
FORCE = 200  # lines in one token before it is cut
# The same in characters, for long lines.
HELD = 400
READ = 1200
FORCED = 3600
PLAIN = 800  # characters of a line that has no colours

# pygments' token groups to the terminal's own colours: readable on light and dark.
_COLOURS: tuple[tuple[str, str], ...] = (
    ("Token.Comment", "bright_black"),
    ("Token.Keyword.Constant", "magenta"),
    ("Token.Keyword", "blue"),
    ("Token.Literal.String", "green"),
    ("Token.Literal.Number", "magenta"),
    ("Token.Name.Function", "cyan"),
    ("Token.Name.Class", "cyan"),
    ("Token.Name.Decorator", "yellow"),
    ("Token.Name.Builtin", "cyan"),
    ("Token.Name.Tag", "blue"),
    ("Token.Operator.Word", "blue"),
    ("Token.Generic.Deleted", "red"),
    ("Token.Generic.Inserted", "green"),
    ("Token.Generic.Heading", "bold"),
    ("Token.Error", "red"),
)


@cache
def _style(token: Any) -> Style:
    name = str(token)
    return next((Style.parse(s) for group, s in _COLOURS if name.startswith(group)), Style.null())


def _lexer(language: str) -> Any:
    """The lexer of a language, None for an unknown one or one that cannot be continued."""
    if not language:
        return None
    from pygments.lexer import RegexLexer
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    usual = type(lexer).get_tokens_unprocessed is RegexLexer.get_tokens_unprocessed
    return lexer if usual else None


class Highlighter:
    """Lines in, coloured lines out, some of them later."""

    def __init__(self, language: str) -> None:
        self._lexer = _lexer(language)
        self._stack: list[str] = ["root"]
        self._held: list[str] = []
        self._size = 0  # characters of them
        self._due = READ  # the size at which they are read next
        self._waiting: list[Text] | None = None  # how the held lines look, once somebody asked
        self._ended: list[str] = ["root"]  # the state behind them

    def feed(
        self, lines: tuple[str, ...], *, glued: bool = False, more: bool = False
    ) -> list[Text]:
        """The lines that are final now. `glued`: the first one is the rest of a line; `more`: the
        last one may have a rest; both are too long for colours, and never wait."""
        if self._lexer is None:
            return [Text(line, end="") for line in lines]
        out: list[Text] = []
        for number, line in enumerate(lines):
            part = (glued and number == 0) or (more and number == len(lines) - 1)
            if part or len(line) > PLAIN:
                out += [*self._flush(), Text(line, end="")]
                continue
            self._held.append(line)
            self._size += len(line) + 1
            self._waiting = None
            batch = len(self._held) >= BATCH and len(self._held) % HOLD == 0
            if batch or self._size >= self._due:
                out += self._settle()
        return out

    def finish(self) -> list[Text]:
        """The rest."""
        return self._flush()

    def glance(self) -> Glance:
        """How the end looks now, for painting over; this one goes on unchanged."""
        if self._waiting is None:
            self._waiting = [text for text, _ in self._read(self._held)]
        return Glance(self, self._waiting, self._ended)

    def coloured(self, lines: tuple[str, ...], stack: list[str]) -> list[Text]:
        """Lines as they look behind `stack`; nothing is kept."""
        before = self._stack, self._ended
        self._stack = stack
        try:
            return [text for text, _ in self._read(list(lines))]
        finally:
            self._stack, self._ended = before

    def _flush(self) -> list[Text]:
        """All that is held."""
        if not self._held:
            return []
        read = self._read([*self._held, ""])
        self._keep([])
        self._stack = read[-1][1] or list(self._ended)
        return [text for text, _ in read[:-1]]

    def _keep(self, lines: list[str]) -> None:
        self._held, self._waiting = lines, None
        self._size = sum(map(len, lines)) + len(lines)
        self._due = max(READ, self._size + HELD)

    def _settle(self) -> list[Text]:
        read = self._read(self._held)
        last = keep = self._last()
        while keep > 0 and read[keep][1] is None:
            keep -= 1
        if keep <= 0:
            if len(read) < FORCE and self._size < FORCED:
                self._due = self._size + HELD
                return []
            keep = max(1, last)
        self._stack = read[keep][1] or ["root"]
        self._keep(self._held[keep:])
        return [text for text, _ in read[:keep]]

    def _last(self) -> int:
        """From where on the held lines wait on."""
        size, at = 0, len(self._held)
        while at > 0 and len(self._held) - at < HOLD and size < HELD:
            at -= 1
            size += len(self._held[at])
        return at

    def _read(self, lines: list[str]) -> list[tuple[Text, list[str] | None]]:
        """(coloured line, state stack at its start where no token runs into it)."""
        if self._lexer is None:
            return [(Text(line, end=""), None) for line in lines]
        out: list[tuple[Text, list[str] | None]] = [(Text(end=""), list(self._stack))]
        for token, stack, value in self._tokens("\n".join(lines)):
            self._ended = stack()
            parts = value.split("\n")
            out[-1][0].append(parts[0], _style(token))
            for number, part in enumerate(parts[1:], 2):
                ends = number == len(parts) and not part
                out.append((Text(end=""), stack() if ends else None))
                out[-1][0].append(part, _style(token))
        return out[: len(lines)]

    def _tokens(self, text: str) -> Iterator[tuple[Any, Any, str]]:
        """Tokens with a look at the state behind each of them."""
        from pygments.lexer import ExtendedRegexLexer, LexerContext

        context = LexerContext(text, 0, stack=list(self._stack))
        tokens = list[tuple[Any, str]]()
        stacks: list[list[str]] = []
        for _, token, value in ExtendedRegexLexer.get_tokens_unprocessed(
            self._lexer, context=context
        ):
            stacks.append(list(context.stack))  # as it was before this token
            tokens.append((token, value))
        stacks.append(list(context.stack))
        for number, (token, value) in enumerate(tokens, 1):
            yield token, lambda at=number: stacks[at], value


class Glance:
    """The open end of a code block as it looks now: the held lines are read once, and only what
    is new behind them again. Its colours may be wrong for a moment, for they are painted over."""

    def __init__(self, parent: Highlighter, waiting: list[Text], stack: list[str]) -> None:
        self._parent = parent
        self._lines = list(waiting)
        self._stack = stack

    def feed(
        self, lines: tuple[str, ...], *, glued: bool = False, more: bool = False
    ) -> list[Text]:
        """Nothing but the rest of a line, before which nothing waits."""
        rest = [Text(line, end="") for line in lines[:1]] if glued else []
        lines = lines[len(rest) :]
        if more or any(len(line) > PLAIN for line in lines):
            self._lines += [Text(line, end="") for line in lines]
        elif lines:
            self._lines += self._parent.coloured(lines, list(self._stack))
        return rest

    def finish(self) -> list[Text]:
        return self._lines
