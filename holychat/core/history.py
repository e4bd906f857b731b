"""The values of the past: conversations, their messages and turns, as the store keeps them.

Owns the vocabulary between the store and everyone who shows, exports or goes on with a
conversation. Times are Unix time in milliseconds. Must not know SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.core.chat import Role, Turn

SHORT = 8  # characters of an id that are shown; any unique beginning of 4 or more is enough
LEAST = 4


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row of the list. `head` is the message at the end of the branch that is gone on with."""

    id: str
    title: str = ""
    created: int = 0
    updated: int = 0
    provider: str = ""
    model: str = ""
    system: str = ""
    params: Mapping[str, object] = field(default_factory=dict)
    head: int | None = None
    messages: int = 0  # of all branches
    origin: str = ""  # the conversation that it was forked from, or the program it came from

    @property
    def short(self) -> str:
        return self.id[:SHORT]


@dataclass(frozen=True, slots=True)
class Kept:
    """One message of the tree; `parent` is the message that it answers or follows."""

    id: int
    parent: int | None
    role: Role
    text: str
    reasoning: str = ""
    created: int = 0
    turn: Turn | None = None  # how an answer came to be, where that is known


@dataclass(frozen=True, slots=True)
class Found:
    """A message that a search found. `before`, `match`, `after` are the words around the hit."""

    conversation: Conversation
    message: int
    role: Role
    created: int
    before: str
    match: str
    after: str


@dataclass(frozen=True, slots=True)
class Orphan:
    """An answer whose writer died: what came is kept as its answer, marked as interrupted."""

    conversation: Conversation
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class Open:
    """What came until now of an answer that is still being written, or whose writer died."""

    prompt: int  # the message that it answers
    onto: int | None  # the answer that it goes on with, and whose text it does not repeat
    text: str
    reasoning: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list or a search is narrowed to; empty strings and None do not narrow."""

    since: int | None = None  # Unix time in milliseconds
    until: int | None = None
    provider: str = ""
    model: str = ""  # a part of its name


def path_to(messages: Mapping[int, Kept], head: int | None) -> list[Kept]:
    """The branch that ends at `head`, from its first message on."""
    path: list[Kept] = []
    while head is not None and head in messages and len(path) < len(messages):
        path.append(messages[head])
        head = messages[head].parent
    return path[::-1]


def as_json(value: Any) -> Any:
    """A value as JSON can say it; None and empty fields are left out."""
    from dataclasses import fields, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, as_json(getattr(value, f.name))) for f in fields(value))
        return {name: each for name, each in pairs if each not in (None, "", {}, [], False)}
    if hasattr(value, "_asdict"):  # a named tuple is one too, not a list
        return as_json(value._asdict())
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    if hasattr(value, "items"):
        return {str(name): as_json(each) for name, each in value.items()}
    return str(value) if isinstance(value, str) else value
