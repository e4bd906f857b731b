"""The values that flow: messages in, deltas and events out, one turn at the end.

Owns the vocabulary that every other room speaks. Must not know a provider, a screen or a file.
Everything is frozen: a value that has been handed on does not change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.core.failure import Failure

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation, as it is sent."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a provider: the model, the whole history, the sampling parameters.

    `params` holds the user's own (`temperature`, `top_p`, `max_tokens`, ...), in OpenAI's names;
    `wire` translates them to the provider's. `partial` is the beginning of the answer, where it is
    to be gone on with. `raw` is the body of a client that speaks the protocol itself (the relay):
    it goes out as it is, and `messages` are its texts, for whoever counts them.
    """

    model: str
    messages: tuple[Message, ...]
    params: Mapping[str, object] = field(default_factory=dict)
    stream: bool = True
    partial: str = ""
    raw: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, and their cost. `cached` is a part of `prompt`, `reasoning` a part of
    `completion`.

    `estimated` marks counts that did not come from the server; they are shown with `≈`. `cost` is
    in 10^-12 US dollars, an integer, so that sums are exact (see `core.price`); None where no price
    is known. `unpriced`: tokens are in a sum whose cost is not known, so the cost is a lower bound.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    estimated: bool = False
    cost: int | None = None
    unpriced: bool = False

    @property
    def partly(self) -> bool:
        """Whether some of these tokens have no price."""
        return self.unpriced or (self.cost is None and bool(self.prompt or self.completion))

    def __add__(self, other: Usage) -> Usage:
        costs = [one.cost for one in (self, other) if one.cost is not None]
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
            self.estimated or other.estimated,
            sum(costs) if costs else None,
            bool(costs) and (self.partly or other.partly),
        )


class Finish(StrEnum):
    """Why an answer ended. Only `STOP` is a complete answer."""

    STOP = "stop"
    LENGTH = "length"
    FILTERED = "content_filter"
    TOOL_CALLS = "tool_calls"
    OVERLOADED = "overloaded"  # the server gave up in mid-answer and said so
    CUT = "cut"  # the stream ended without an end
    INTERRUPTED = "interrupted"  # the user stopped it
    FAILED = "failed"

    @property
    def complete(self) -> bool:
        return self is Finish.STOP


@dataclass(slots=True)
class Delta:
    """A piece of an answer as it arrived; every field may be empty.

    Not frozen only because creating a frozen one takes four times as long and this is made for
    every read of the socket; nobody changes one after `wire` made it.

    `more` is what else a chunk said, for a client that wants all of it (`Request.raw`): the fields
    of its "delta", "choice" and "chunk" that are none of ours, and the "finish" as it was spelled.
    """

    text: str = ""
    reasoning: str = ""
    finish: Finish | None = None
    usage: Usage | None = None
    model: str = ""  # the model that the server says answered
    refusal: bool = False  # `text` is the model's refusal
    more: dict[str, Any] | None = None

    @property
    def token(self) -> bool:
        """Whether a piece of the answer is in it: text, reasoning, or part of a tool call."""
        return bool(self.text or self.reasoning or (self.more and "delta" in self.more))

    @property
    def calls(self) -> bool:
        """Whether part of a tool call is in it, which no other provider can go on with."""
        said = self.more.get("delta", {}) if self.more else {}
        return "tool_calls" in said or "function_call" in said


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds since the request went out; None where it never came to that."""

    headers: float | None = None
    first: float | None = None  # first token, of reasoning or text
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt of a turn, as it ended: one request to one provider, with what it cost.

    `at` is how many characters of the answer stood before it, `started` the seconds since the turn
    began; its own timings count from there. `role` is "hedge" for one that ran beside another.
    """

    provider: str
    model: str
    finish: Finish
    at: int = 0
    started: float = 0.0
    usage: Usage | None = None
    timings: Timings = Timings()
    failure: Failure | None = None
    role: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished exchange, however it ended. `failure` says why when it is not complete.

    `provider` and `model` are who ended it; `usage` is the sum over its attempts, for all of them
    are paid for; `timings` are those of who waits for it, from the first attempt on.
    """

    text: str
    reasoning: str
    finish: Finish
    provider: str
    model: str
    usage: Usage | None = None
    timings: Timings = Timings()
    failure: Failure | None = None
    refusal: bool = False
    served_model: str = ""  # what the server says it was, where that differs
    attempts: tuple[Tried, ...] = ()

    @property
    def seams(self) -> tuple[int, ...]:
        """Where in the text another attempt went on."""
        return tuple(dict.fromkeys(one.at for one in self.attempts if one.at))


# --- The events of a turn, in the order in which they may come ---------------------------------


class Attempt(NamedTuple):
    """A request goes out; with `partial`, to go on with that beginning of an answer.

    Without one after some of the answer came, it begins anew, and what came does not count.
    `usual` is when the first token comes from this provider as a rule, in seconds; `then` is who
    the user may hand the turn to meanwhile. None and "": not known, nobody.
    """

    provider: str
    model: str
    partial: str = ""
    usual: float | None = None
    then: str = ""


class Failed(NamedTuple):
    """An attempt failed. `then` is who is asked next (empty: nobody), `wait` seconds from now;
    `other` is who the user may have asked in its place meanwhile."""

    provider: str
    failure: Failure
    then: str = ""
    wait: float = 0.0
    other: str = ""


class Lost(NamedTuple):
    """A second attempt that ran beside the first from `started` on (seconds since that one began)
    and did not win: it was slower, or it failed."""

    provider: str
    model: str
    started: float
    failure: Failure | None = None


class Queued(NamedTuple):
    """The request waits for its turn at a provider: its place in the line, the seconds expected;
    `other` is who the user may have asked in its place. Comes when the place changes."""

    provider: str
    position: int
    seconds: float
    other: str = ""


class Notice(NamedTuple):
    """One line that the user should see beside the answer; not part of it."""

    text: str


class Done(NamedTuple):
    """The last event of every turn, also of one that failed or was stopped."""

    turn: Turn


Event = Attempt | Failed | Lost | Queued | Delta | Notice | Done
