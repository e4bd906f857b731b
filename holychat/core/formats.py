"""A conversation as it travels: all of it as one value, and the JSON document that says the same.

Owns the schema of holychat's own files: `{"format": "holychat", "version": 1, "conversations":
[...]}`. Times are Unix time in milliseconds, messages are numbered from 1 in the order in which
they were written, and what has its default value is left out. Reading is strict: what is written
back is what was read. Must not know SQL, nor the file that a document is in.

A version is added to, never changed: a reader passes over names that it does not know, and what an
older writer did not know to say has its default. Added to version 1 were

- `pinned` of a message: it stays in what is sent
- `summaries` of a conversation: {"parent", "text", "created"}, the last of the messages that one
  stands for, and its text. They are no messages, for a role that a reader does not know is an error
- `cost_picos` of a usage, in turns and in attempts: an integer of 10^-12 US dollars, so that it is
  exact; left out where no price was known, 0 where it was free
- `unpriced` of a turn: some of its tokens have no price, so that its cost is a lower bound
- `role` of an attempt: left out of one that asked for the answer; "hedge" ran beside one that won,
  "shadow" was a copy to compare providers, "summary" made one, "title" too, "import" stands for
  what another program used where something else is beside it: alone it follows from the turn, and
  is left out
- `number` of an attempt in its turn, left out where it is its place in the list, from 1; and `at`,
  the characters of the answer that stood before its part, left out where that is 0
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from holychat.core.failure import UsageError
from holychat.core.history import Conversation, Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

FORMAT = "holychat"
VERSION = 1
ROLES = ("system", "user", "assistant")
_T = TypeVar("_T")
IMPORT = "import"  # the role of an attempt that stands for what another program used
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Figures:
    """How one request went, as the store has it; None where it is not known."""

    started: int = 0
    finish: str = ""
    provider: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False
    cost: int | None = None  # 10^-12 US dollars
    headers: float | None = None  # seconds since the request went out
    first: float | None = None
    total: float | None = None
    kind: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Attempted(Figures):
    """One request of a turn: its number there, what else it was than the answer itself, and the
    character of the answer at which its part begins."""

    number: int = 1
    role: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A turn: `prompt` and `answer` are messages, `attempts` the requests that it took."""

    prompt: int
    answer: int | None
    figures: Figures
    served_model: str = ""
    refusal: bool = False
    unpriced: bool = False  # some of its tokens have no price
    attempts: tuple[Attempted, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """It stands for the message `parent` and for all above it."""

    parent: int
    text: str
    created: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    """A conversation with everything in it. Its messages are numbered from 1, parents first;
    `pinned` are some of these numbers."""

    conversation: Conversation
    messages: tuple[Kept, ...]
    exchanges: tuple[Exchange, ...] = ()
    named: bool = False  # the user gave the title
    pinned: frozenset[int] = frozenset()
    summaries: tuple[Summary, ...] = ()


def plain(whole: Whole) -> Whole:
    """What a document said of it before anything was added to version 1."""
    exchanges = tuple(
        replace(
            each,
            figures=replace(each.figures, cost=None),
            unpriced=False,
            attempts=tuple(
                replace(one, cost=None, number=number, role="", at=0)
                for number, one in enumerate(_asked(each), 1)
            ),
        )
        for each in whole.exchanges
    )
    return replace(whole, exchanges=exchanges, pinned=frozenset(), summaries=())


def _asked(exchange: Exchange) -> list[Attempted]:
    """Without those that only stand for what another program used."""
    return [each for each in exchange.attempts if each.role != IMPORT]


def healed(text: str) -> str:
    """The text as a store can keep it: surrogates that are a pair are joined; a lone one, which
    UTF-8 cannot say, and NUL, which ends a text in SQL, become U+FFFD."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# --- Writing ------------------------------------------------------------------------------------

_USAGE = {
    "prompt": "prompt_tokens",
    "cached": "cached_tokens",
    "completion": "completion_tokens",
    "reasoning": "reasoning_tokens",
    "estimated": "estimated",
    "cost_picos": "cost",
}
_TIMINGS = {name: name for name in ("headers", "first", "total")}
_FAILURE = {"kind": "kind", "what": "failure"}
_GROUPS = {"usage": _USAGE, "timings": _TIMINGS, "failure": _FAILURE}
_PLAIN = ("started", "finish", "provider", "model")
_HEAD = ("id", "title", "created", "updated", "provider", "model", "system", "origin")


def document(wholes: Iterable[Whole]) -> Iterator[str]:
    """The JSON document, one conversation at a time."""
    yield f'{{"format": "{FORMAT}", "version": {VERSION}, "conversations": ['
    for number, whole in enumerate(wholes):
        text = json.dumps(record(whole), ensure_ascii=False, indent=1)
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate in the parameters: \ud800 can say it
            text = json.dumps(record(whole), indent=1)
        yield (",\n" if number else "\n") + text
    yield "\n]}\n"


def record(whole: Whole) -> dict[str, Any]:
    """A conversation as JSON's own types."""
    about = whole.conversation
    return _short(
        {name: getattr(about, name) for name in _HEAD}
        | {
            "named": whole.named,
            "params": dict(about.params),
            "head": about.head,
            "messages": [_message(each, whole.pinned) for each in whole.messages],
            "summaries": [_summary(each) for each in whole.summaries],
            "turns": [_exchange(each) for each in whole.exchanges],
        }
    )


def _short(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Without the defaults. A zero that is known stays one: None is the default of figures."""
    return {
        name: each
        for name, each in pairs.items()
        if each is not None and each is not False and each not in ("", {}, [])
    }


def _message(message: Kept, pinned: frozenset[int]) -> dict[str, Any]:
    return _short(
        {
            "id": message.id,
            "parent": message.parent,
            "role": message.role,
            "text": message.text,
            "reasoning": message.reasoning,
            "created": message.created,
            "pinned": message.id in pinned,
        }
    )


def _summary(summary: Summary) -> dict[str, Any]:
    return _short({name: getattr(summary, name) for name in ("parent", "text", "created")})


def _exchange(exchange: Exchange) -> dict[str, Any]:
    more = {
        "served_model": exchange.served_model,
        "refusal": exchange.refusal,
        "unpriced": exchange.unpriced,
        "attempts": [_attempt(each, place) for place, each in _listed(exchange.attempts)],
    }
    ends = {"prompt": exchange.prompt, "answer": exchange.answer}
    return _short(ends) | _figures(exchange.figures) | _short(more)


def _attempt(attempt: Attempted, place: int) -> dict[str, Any]:
    number = None if attempt.number == place else attempt.number
    more = {"number": number, "role": attempt.role, "at": attempt.at or None}
    return _figures(attempt) | _short(more)


def _figures(figures: Figures) -> dict[str, Any]:
    out = {name: getattr(figures, name) for name in _PLAIN}
    for group, names in _GROUPS.items():
        out[group] = _short({name: getattr(figures, field) for name, field in names.items()})
    return _short(out)


# --- Reading ------------------------------------------------------------------------------------


def decoded(data: bytes, name: str) -> Any:
    """The JSON of a file called `name`. Raises UsageError with line and column."""
    try:
        text = data.decode(json.detect_encoding(data))
        return json.loads(text, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: byte {error.start + 1} is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{name}: line {error.lineno}, column {error.colno}: {error.msg}", "It is no JSON."
        ) from error
    except RecursionError as error:
        raise UsageError(f"{name}: it is nested too deep") from error
    except ValueError as error:  # a number of thousands of digits, NaN
        raise UsageError(f"{name}: {error}") from error


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def is_ours(value: Any) -> bool:
    return isinstance(value, dict) and value.get("format") == FORMAT


def wholes(value: Any, name: str) -> list[Whole]:
    """The conversations of a document. Raises UsageError that says where it is wrong."""
    version = value.get("version")
    if version != VERSION or isinstance(version, bool):
        said = version if isinstance(version, int) else "unknown"
        raise UsageError(
            f"{name} is of version {said} of holychat's format, and this holychat reads {VERSION}",
            "Update holychat, and import it again.",
        )
    listed = value.get("conversations")
    if not isinstance(listed, list):
        raise UsageError(f"{name}: conversations must be a list")
    return [_whole(each, f"{name}: conversation {at}") for at, each in enumerate(listed, 1)]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return healed(value)


def _whole_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
        raise TypeError("a whole number of 64 bits")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
        raise TypeError("a number")
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _objects(value: Any) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise TypeError("a list of objects")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object")
    return value


def _get(raw: Mapping[str, Any], name: str, read: Callable[[Any], Any], other: Any, at: str) -> Any:
    """A field of the right type, `other` where it is not there."""
    value = raw.get(name)
    if value is None:
        return other
    try:
        return read(value)
    except TypeError as error:
        raise UsageError(f"{at}: {name} must be {error}") from error


def _whole(value: Any, at: str) -> Whole:
    if not isinstance(value, dict) or not isinstance(value.get("id"), str) or not value["id"]:
        raise UsageError(f"{at}: it must be an object with an id")
    at = f"{at} ({healed(value['id'])[:40]})"
    listed = _get(value, "messages", _objects, [], at)
    messages, numbers = _messages(listed, at)
    summaries = _get(value, "summaries", _objects, [], at)
    turns = _get(value, "turns", _objects, [], at)
    exchanges = tuple(
        _read_exchange(each, numbers, f"{at}, turn {n}") for n, each in _listed(turns)
    )
    head = _get(value, "head", _whole_number, None, at)
    if head is not None and head not in numbers:
        raise UsageError(f"{at}: head must be one of its messages")
    kinds: dict[str, Any] = {"created": _whole_number, "updated": _whole_number}
    about = {
        name: _get(value, name, kinds.get(name, _text), 0 if name in kinds else "", at)
        for name in _HEAD
    }
    conversation = Conversation(
        **about,
        params=_get(value, "params", _object, {}, at),
        head=None if head is None else numbers[head],
        messages=len(messages),
    )
    return Whole(
        conversation,
        messages,
        exchanges,
        _get(value, "named", _truth, None, at) or False,
        _pinned(listed, at),
        tuple(_read_summary(each, numbers, f"{at}, summary {n}") for n, each in _listed(summaries)),
    )


def _listed(values: Iterable[_T]) -> Iterator[tuple[int, _T]]:
    return enumerate(values, 1)


def _messages(values: list[Any], at: str) -> tuple[tuple[Kept, ...], dict[int, int]]:
    """The messages numbered anew, and how: {their number in the document: ours}."""
    numbers: dict[int, int] = {}
    messages: list[Kept] = []
    for number, raw in _listed(values):
        here = f"{at}, message {number}"
        identity = _get(raw, "id", _whole_number, None, here)
        if identity is None or identity in numbers:
            raise UsageError(f"{here}: it must have an id of its own")
        parent = _get(raw, "parent", _whole_number, None, here)
        if parent is not None and parent not in numbers:
            raise UsageError(f"{here}: its parent must be a message before it")
        role = raw.get("role")
        if role not in ROLES:
            raise UsageError(f"{here}: role must be one of {', '.join(ROLES)}")
        messages.append(
            Kept(
                number,
                None if parent is None else numbers[parent],
                role,
                _get(raw, "text", _text, "", here),
                _get(raw, "reasoning", _text, "", here),
                _get(raw, "created", _whole_number, 0, here),
            )
        )
        numbers[identity] = number
    return tuple(messages), numbers


def _pinned(values: list[Any], at: str) -> frozenset[int]:
    """The messages that are pinned, as we number them."""
    return frozenset(
        number
        for number, raw in _listed(values)
        if _get(raw, "pinned", _truth, None, f"{at}, message {number}")
    )


def _read_summary(raw: dict[str, Any], numbers: Mapping[int, int], at: str) -> Summary:
    parent = _get(raw, "parent", _whole_number, None, at)
    if parent not in numbers:
        raise UsageError(f"{at}: its parent must be one of the messages")
    created = _get(raw, "created", _whole_number, 0, at)
    return Summary(numbers[parent], _get(raw, "text", _text, "", at), created)


def _read_exchange(raw: dict[str, Any], numbers: Mapping[int, int], at: str) -> Exchange:
    prompt = _get(raw, "prompt", _whole_number, None, at)
    answer = _get(raw, "answer", _whole_number, None, at)
    if prompt not in numbers or (answer is not None and answer not in numbers):
        raise UsageError(f"{at}: prompt and answer must be messages of its conversation")
    attempts = _get(raw, "attempts", _objects, [], at)
    return Exchange(
        numbers[prompt],
        None if answer is None else numbers[answer],
        Figures(**_read_figures(raw, at)),
        _get(raw, "served_model", _text, "", at),
        _get(raw, "refusal", _truth, None, at) or False,
        _get(raw, "unpriced", _truth, None, at) or False,
        tuple(_read_attempt(each, n, f"{at}, attempt {n}") for n, each in _listed(attempts)),
    )


def _read_attempt(raw: dict[str, Any], place: int, at: str) -> Attempted:
    return Attempted(
        **_read_figures(raw, at),
        number=_get(raw, "number", _whole_number, place, at),
        role=_get(raw, "role", _text, "", at),
        at=_get(raw, "at", _whole_number, 0, at),
    )


_READERS: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _whole_number,
    "int | None": _whole_number,
    "float | None": _seconds,
    "bool": _truth,
}
# {the field of Figures: (how it is read, its default)}
_FIGURES = {each.name: (_READERS[str(each.type)], each.default) for each in fields(Figures)}


def _read_figures(raw: dict[str, Any], at: str) -> dict[str, Any]:
    """The fields of Figures."""
    values = {name: _get(raw, name, *_FIGURES[name], at) for name in _PLAIN}
    for group, names in _GROUPS.items():
        part = _get(raw, group, _object, {}, at)
        for name, field in names.items():
            values[field] = _get(part, name, *_FIGURES[field], f"{at}, {group}")
    return values


def finite(value: float | None) -> float | None:
    """JSON has no word for what is not finite."""
    return value if value is None or math.isfinite(value) else None
