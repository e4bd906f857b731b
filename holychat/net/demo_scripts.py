"""What the demo provider answers: which of its texts, by the prompt or by the turn.

Owns the choice, the filler of `long-N` and nothing of HTTP, models or time; the words are
demo_texts'. Pure: a history in, an Answer out.
"""

from __future__ import annotations

import re
from enum import Enum
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from holychat.net import demo_texts as texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Characters that are written without spaces between words.
WIDE = "\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef"


class End(Enum):
    """How an answer ends."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"  # an error object inside the stream
    CUT = "cut"  # the connection breaks
    SILENCE = "silence"  # nothing more comes, and the connection stays open


class Said(NamedTuple):
    """One message as it was received."""

    role: str
    text: str


class Answer(NamedTuple):
    """What is sent, exactly, and how it ends."""

    text: str
    reasoning: str = ""
    end: End = End.STOP


def by_prompt(history: Sequence[Said]) -> Answer:
    """By the words of the prompt, and where none is known by the turn."""
    asked = [said.text for said in history if said.role == "user"] or [""]
    turn = len(asked) - 1
    by_turn = TOUR[0] if not turn else TOUR[1 + (turn - 1) % (len(TOUR) - 1)]
    script = next((script for words, script in ROWS if words.search(asked[-1])), by_turn)
    said = script(history)
    # Who opens a conversation learns in the first sentence who speaks.
    if turn or said.text == texts.GREETING:
        return said
    return said._replace(text=texts.SCRIPT + said.text)


def _remember(history: Sequence[Said]) -> Answer:
    """What was received: the proof that the conversation is sent."""
    asked = [said.text for said in history if said.role == "user"]
    if len(asked) < 2:
        return Answer(texts.NO_HISTORY)
    names = {"system": "from the system prompt", "user": "from you", "assistant": "of mine"}
    counts = {name: sum(said.role == role for said in history) for role, name in names.items()}
    roles = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    previous = asked[-2] if len(asked[-2]) <= 500 else asked[-2][:500] + " …"
    quote = "\n".join("> " + line for line in previous.splitlines() or [""])
    count = f"{len(history)} messages"
    return Answer(texts.HISTORY.format(count=count, roles=roles, quote=quote))


def aloud(history: Sequence[Said]) -> Answer:
    first = sum(said.role == "user" for said in history) < 2
    return Answer((texts.SCRIPT if first else "") + texts.REASONING, texts.THOUGHT)


def always(text: str, reasoning: str = "") -> Callable[[Sequence[Said]], Answer]:
    return lambda _: Answer(text, reasoning)


_THINK = always(texts.REASONING, texts.THOUGHT)
# Without a known word: the tour, a stop a turn. After the last it goes round, past the greeting.
TOUR = (
    always(texts.GREETING),
    always(texts.EVERYTHING),
    always(texts.CODE),
    _THINK,
    always(texts.TABLE),
    always(texts.CJK),
    always(texts.SETUP),
)
# The first row that finds one of its words in the prompt answers.
ROWS = tuple(
    (re.compile(pattern, re.IGNORECASE), script)
    for pattern, script in (
        (r"\bwhat did i (say|ask|write)\b|\b(history|remember|previous|previously)\b", _remember),
        (r"\b(who|what|how) are you\b", always(texts.GREETING)),
        (r"\b(code|python|program|function)\b", always(texts.CODE)),
        (r"\b(tables?|compare|comparison|prices?|costs?|models?)\b", always(texts.TABLE)),
        (rf"\b(chinese|japanese|korean|cjk|unicode|emoji)\b|[{WIDE}]", always(texts.CJK)),
        (r"\b(think|why|reason|reasoning|maths?|explain)\b", _THINK),
        (r"\b(markdown|everything|features?)\b", always(texts.EVERYTHING)),
        (r"\b(help|how|keys?|set-?up|set up|config|configure|install)\b", always(texts.SETUP)),
        (r"\b(hello|hi|hey|good (morning|day|evening))\b", always(texts.GREETING)),
    )
)


# --- Length ---------------------------------------------------------------------------------------

_WORDS = (
    "stream", "token", "window", "river", "answer", "quiet", "margin", "signal", "letter", "copper",
    "harbour", "lantern", "orbit", "thread", "meadow", "ledger", "compass", "winter", "ribbon",
    "engine", "shadow", "pepper", "mirror",
)  # fmt: skip
_LONG_START = "This is filler, written by a script, and long on purpose."


def long(words: int) -> str:
    """Markdown of exactly `words` pieces between white space, the same each time."""
    blocks: list[str] = []
    left = words
    for block in _blocks():
        size = len(block.split())
        if size > left:
            break
        blocks.append(block)
        left -= size
    if left:
        blocks.append(" ".join(_filler(left, 3)))
    return "\n\n".join(blocks) + "\n"


def _filler(count: int, seed: int) -> list[str]:
    size = len(_WORDS)
    return [_WORDS[(seed * 7 + i * (1 + seed % 5) + i // size) % size] for i in range(count)]


def _blocks() -> Iterator[str]:
    """Blocks of every kind, without end."""
    yield _LONG_START
    for number, kind in enumerate(cycle(_KINDS)):
        yield kind(number, _filler(48, number))


def _heading(number: int, words: list[str]) -> str:
    return f"## {number // len(_KINDS) + 1}. {' '.join(words[:3]).capitalize()}"


def _paragraph(_: int, words: list[str]) -> str:
    words = [*words]
    words[4], words[19], words[30] = f"**{words[4]}**", f"`{words[19]}`", f"*{words[30]}*,"
    return " ".join(words).capitalize() + "."


def _list(_: int, words: list[str]) -> str:
    w = words
    nested = f"- {w[0]} {w[1]}\n  - {w[2]} *{w[3]}* {w[4]}\n"
    return f"{nested}- {' '.join(w[5:20])}\n- `{w[20]}` {w[21]}"


def _code(number: int, words: list[str]) -> str:
    head = f"def {words[0]}_{number}(x: int) -> int:"
    return f"```python\n{head}\n    return x * {number}  # {words[1]}\n```"


def _table(number: int, words: list[str]) -> str:
    rows = "\n".join(f"| {words[i]} | {number * 37 + i} | 数据 {i} |" for i in range(4))
    return f"| {words[5]} | {words[6]} | 表 |\n| --- | ---: | :---: |\n{rows}"


def _quote(_: int, words: list[str]) -> str:
    return f"> {' '.join(words[:18]).capitalize()}.\n>\n> — {words[20].title()}"


_KINDS = (_heading, _paragraph, _list, _paragraph, _code, _paragraph, _table, _paragraph, _quote)
