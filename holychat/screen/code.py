"""Syntax colours for code that is still being written.

Owns the way a pygments lexer is fed line by line: its state stack is kept at the last token
boundary that stands at the start of a line, some lines back, so that each line is read about
twice and colours never change once they are out. Which lines wait depends on the lines alone.
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
        self._waiting: list[Text] | None = None  # how the held lines look, once somebody asked
        self._ended: list[str] = ["root"]  # the state behind them

    def feed(self, lines: tuple[str, ...]) -> list[Text]:
        """The lines that are final now."""
        if self._lexer is None:
            return [Text(line, end="") for line in lines]
        out: list[Text] = []
        for line in lines:
            self._held.append(line)
            self._waiting = None
            if len(self._held) >= BATCH and len(self._held) % HOLD == 0:
                out += self._settle()
        return out

    def finish(self) -> list[Text]:
        """The rest."""
        held, self._held = self._held, []
        return [text for text, _ in self._read(held)]

    def __copy__(self) -> Glance:
        """How the end looks now, for painting over; this one goes on unchanged."""
        if self._waiting is None:
            self._waiting = [text for text, _ in self._read(self._held)]
        return Glance(self, self._waiting, self._ended)

    def glance(self, lines: tuple[str, ...], stack: list[str]) -> list[Text]:
        """Lines as they look behind `stack`; nothing is kept."""
        before = self._stack, self._ended
        self._stack = stack
        try:
            return [text for text, _ in self._read(list(lines))]
        finally:
            self._stack, self._ended = before

    def _settle(self) -> list[Text]:
        read = self._read(self._held)
        keep = len(read) - HOLD
        while keep > 0 and read[keep][1] is None:
            keep -= 1
        if keep <= 0 and len(read) < FORCE:
            return []
        keep = keep if keep > 0 else len(read) - HOLD
        self._stack = read[keep][1] or ["root"]
        self._held = self._held[keep:]
        return [text for text, _ in read[:keep]]

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

    def feed(self, lines: tuple[str, ...]) -> list[Text]:
        if lines:
            self._lines += self._parent.glance(lines, list(self._stack))
        return []

    def finish(self) -> list[Text]:
        return self._lines
