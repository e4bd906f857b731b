"""Syntax colours for code that is still being written.

Owns the way a pygments lexer is fed line by line: its state is kept at the last token
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
    from collections.abc import Iterator, Mapping

State = dict[str, Any]  # of a lexer, behind a token: the stack of its rules, and what it counts

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


# Names that models write, for which pygments has no lexer that can go on in the middle of a text,
# and the one that reads them nearly as well.
_NEAR = {
    "json": "javascript",
    "json5": "javascript",
    "jsonc": "javascript",
    "jsonl": "javascript",
    "make": "basemake",
    "makefile": "basemake",
    "patch": "diff",
    "plpgsql": "sql",
    "postgres": "sql",
    "postgresql": "sql",
    "psql": "sql",
    "pycon": "python",
    "ipython": "python",
    "svelte": "html",
    "yml": "yaml",
}


def _lexer(language: str) -> Any:
    """The lexer of a language, None for an unknown one or one that cannot be continued."""
    if not language:
        return None
    from pygments.lexer import ExtendedRegexLexer, RegexLexer
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    name = language.lower()
    try:
        lexer = get_lexer_by_name(_NEAR.get(name, name), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    if not isinstance(lexer, RegexLexer):
        return None
    if not isinstance(lexer, ExtendedRegexLexer):
        rules = vars(lexer).get("_tokens") or vars(type(lexer))["_tokens"]
        vars(lexer)["_tokens"] = {
            state: [(match, _told(action), then) for match, action, then in each]
            for state, each in rules.items()
        }
    return lexer


def _told(action: Any) -> Any:
    """The action of a rule of a plain lexer, that also moves the context on: `ExtendedRegexLexer`
    hands it one, and some of them do not know of it."""
    from pygments.token import _TokenType

    if action is None or isinstance(action, _TokenType):
        return action

    def told(lexer: Any, match: Any, context: Any = None) -> Iterator[tuple[int, Any, str]]:
        yield from action(lexer, match)
        if context is not None:
            context.pos = match.end()

    return told


def _context(lexer: Any, text: str, state: State) -> Any:
    """Where a lexer reads `text` on behind `state`."""
    from pygments.lexer import LexerContext
    from pygments.lexers.data import YamlLexer, YamlLexerContext

    kind = YamlLexerContext if isinstance(lexer, YamlLexer) else LexerContext  # its own
    context = kind(text, 0)
    vars(context).update(_fresh(state))
    return context


def _fresh(state: Mapping[str, Any]) -> State:
    """A state that stays as it is while the lexer goes on."""
    return {
        name: list(value) if isinstance(value, list) else value
        for name, value in state.items()
        if name not in ("text", "pos", "end")
    }


class Highlighter:
    """Lines in, coloured lines out, some of them later."""

    def __init__(self, language: str) -> None:
        self._lexer = _lexer(language)
        self._state: State = {}
        self._held: list[str] = []
        self._size = 0  # characters of them
        self._due = READ  # the size at which they are read next
        self._waiting: list[Text] | None = None  # how the held lines look, once somebody asked
        self._ended: State = {}  # the state behind them

    def feed(
        self, lines: tuple[str, ...], *, glued: bool = False, more: bool = False
    ) -> list[Text]:
        """The lines that are final now. `glued`: the first one is the rest of a line; `more`: the
        last one may have a rest; both are too long for colours, and never wait."""
        if self._lexer is None:
            return [*self._flush(), *(Text(line, end="") for line in lines)]
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

    def coloured(self, lines: tuple[str, ...], state: State) -> list[Text]:
        """Lines as they look behind `state`; nothing is kept."""
        before = self._state, self._ended
        self._state = state
        try:
            return [text for text, _ in self._read(list(lines))]
        finally:
            self._state, self._ended = before

    def _flush(self) -> list[Text]:
        """All that is held."""
        if not self._held:
            return []
        read = self._read([*self._held, ""])
        self._keep([])
        self._state = read[-1][1] or self._ended
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
        self._state = read[keep][1] or {}
        self._keep(self._held[keep:])
        return [text for text, _ in read[:keep]]

    def _last(self) -> int:
        """From where on the held lines wait on."""
        size, at = 0, len(self._held)
        while at > 0 and len(self._held) - at < HOLD and size < HELD:
            at -= 1
            size += len(self._held[at])
        return at

    def _read(self, lines: list[str]) -> list[tuple[Text, State | None]]:
        """(coloured line, state at its start where no token runs into it)."""
        if self._lexer is not None:
            try:
                return self._coloured(lines)
            except Exception:  # noqa: BLE001 one of 500 lexers, at what a model wrote: words count
                self._lexer = None
        return [(Text(line, end=""), None) for line in lines]

    def _coloured(self, lines: list[str]) -> list[tuple[Text, State | None]]:
        out: list[tuple[Text, State | None]] = [(Text(end=""), self._state)]
        for token, state, value in self._tokens("\n".join(lines)):
            parts = value.split("\n")
            out[-1][0].append(parts[0], _style(token))
            for number, part in enumerate(parts[1:], 2):
                ends = number == len(parts) and not part
                out.append((Text(end=""), state if ends else None))
                out[-1][0].append(part, _style(token))
        return out[: len(lines)]

    def _tokens(self, text: str) -> Iterator[tuple[Any, State | None, str]]:
        """Tokens, and the state behind those that end a line."""
        from pygments.lexer import ExtendedRegexLexer

        context = _context(self._lexer, text, self._state)
        read = ExtendedRegexLexer.get_tokens_unprocessed(self._lexer, context=context)
        last: tuple[Any, str] | None = None
        for _, token, value in read:
            if last is not None:  # only now has the state moved on
                yield last[0], _fresh(vars(context)) if last[1].endswith("\n") else None, last[1]
            last = token, value
        self._ended = _fresh(vars(context))
        if last is not None:
            yield last[0], self._ended, last[1]


class Glance:
    """The open end of a code block as it looks now: the held lines are read once, and only what
    is new behind them again. Its colours may be wrong for a moment, for they are painted over."""

    def __init__(self, parent: Highlighter, waiting: list[Text], state: State) -> None:
        self._parent = parent
        self._lines = list(waiting)
        self._state = state

    def feed(
        self, lines: tuple[str, ...], *, glued: bool = False, more: bool = False
    ) -> list[Text]:
        """Nothing but the rest of a line, before which nothing waits."""
        rest = [Text(line, end="") for line in lines[:1]] if glued else []
        lines = lines[len(rest) :]
        if more or any(len(line) > PLAIN for line in lines):
            self._lines += [Text(line, end="") for line in lines]
        elif lines:
            self._lines += self._parent.coloured(lines, self._state)
        return rest

    def finish(self) -> list[Text]:
        return self._lines
