"""A conversation: its history, and one turn at a time.

Owns the history; `fold` makes a Turn of the events. Must not print. Whatever happens to a turn -
failure, cancellation, a crash of the screen - what was typed and what was received stays here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import cycle, pairwise
from typing import TYPE_CHECKING

from holychat.core.chat import (
    Delta,
    Done,
    Event,
    Finish,
    Message,
    Notice,
    Request,
    Role,
    Turn,
    Usage,
)
from holychat.core.context import Summary, pair
from holychat.core.failure import Failure, UsageError
from holychat.core.route import Rules
from holychat.core.titles import title_of
from holychat.core.tokens import DOCUMENTED
from holychat.engine import failover
from holychat.engine.context import Asked, Fitting
from holychat.engine.fold import Counted, Fold, Price
from holychat.engine.tries import Tries
from holychat.store.ids import new_id
from holychat.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Collection, Sequence

    from holychat.core.history import Conversation, Kept
    from holychat.core.provider import Provider
    from holychat.engine.context import Plan
    from holychat.engine.health import Board
    from holychat.engine.purse import Purse
    from holychat.net.client import Client


SPEAKERS: tuple[Role, Role] = ("user", "assistant")
PATIENCE = 1.0  # seconds that a request waits for its prompt to be kept


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user said and what came of it; `pinned`: it stays in what is sent."""

    prompt: str
    turn: Turn
    pinned: bool = False


@dataclass(slots=True)
class Chat:
    """One conversation. Fields may be changed between turns: /model, /system and /set do.

    `failed` is the prompt of a turn that brought no text at all: it is not part of the history
    (a question without an answer confuses models), but it is kept for /retry. `latest` is the
    last turn however it ended, also one that was cancelled before its Done could be yielded.

    `id` is what the store calls it, known before its first prompt: `place` gives it to a provider
    by it, before each turn, and returns what is to be said of that; `placed` is its own note.
    """

    client: Client
    provider: Provider
    model: str
    system: str = ""
    params: dict[str, object] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    title: str = ""  # as the store has it; before that, the first words of the first prompt
    failed: str = ""
    latest: Turn | None = None
    used: Usage = field(default_factory=Usage)  # by all of its turns, the replaced ones too
    stream: bool = True
    recorder: Recorder = field(default_factory=lambda: Recorder(None))
    pinned: bool = False  # nobody else is asked, whatever happens
    others: Callable[[str], Sequence[str]] = lambda _: ()  # who is asked after whom
    resolve: Callable[[str], Awaitable[failover.Candidate]] | None = None  # one of them
    rules: Rules = field(default_factory=Rules)
    board: Board | None = None
    handed: asyncio.Event = field(default_factory=asyncio.Event)  # set: hand the turn on
    hedged: bool = False  # a second provider is asked when the first one is late
    id: str = field(default_factory=new_id)
    place: Callable[[], Awaitable[list[str]]] | None = None
    placed: str = ""
    waits: bool = True  # for the prompt to be kept, before it is sent
    hear: Callable[[], Awaitable[None]] | None = None  # of the store, where it answers in time
    ended: Callable[[Request, Turn], None] | None = None  # told of each turn that did
    price: Price = lambda *_: None
    ratios: Counted = lambda *_: DOCUMENTED
    clock: Callable[[], float] = time.monotonic
    fitting: Fitting = field(default_factory=Fitting)
    purse: Purse | None = None  # what may be used
    summary: Summary | None = None  # of the first turns, which are not sent

    def messages(
        self, prompt: str, exchanges: Sequence[Exchange] | None = None, plan: Plan | None = None
    ) -> tuple[Message, ...]:
        """What is sent: the system prompt, the summary of what is left out, every exchange that is
        not and has an answer, the new prompt."""
        exchanges = self.exchanges if exchanges is None else exchanges
        plan = plan or self.fitting.planned(self, Asked(prompt, exchanges))
        out = [Message("system", self.system)] if self.system else []
        texts = [*pair(self.summary)] if plan.done else []
        for number, exchange in enumerate(exchanges):
            if number >= plan.cut or exchange.pinned:
                texts += (exchange.prompt, exchange.turn.text)
        out += (Message(role, text) for role, text in zip(cycle(SPEAKERS), texts, strict=False))
        return (*out, Message("user", prompt))

    @property
    def last(self) -> Turn | None:
        """The last turn that brought an answer, whole or in part."""
        return self.exchanges[-1].turn if self.exchanges else None

    def clear(self) -> None:
        """Start afresh: same model, same system prompt, no history; the old one stays kept."""
        self.exchanges.clear()
        self.summary = None
        self.failed = self.title = ""
        self.used = Usage()
        self.id = new_id()
        self.recorder.new()

    def enter(
        self,
        conversation: Conversation,
        path: Sequence[Kept],
        pins: Collection[int] = (),
        summary: tuple[int, str] | None = None,
    ) -> None:
        """Go on with a conversation from the store: its messages and its system prompt, what is
        pinned of them, and the last message that a summary stands for, with its text."""
        kept: list[Kept] = []
        exchanges: list[Exchange] = []
        for prompt, answer in pairwise(path):
            if prompt.role == "user" and answer.role == "assistant":
                turn = answer.turn or Turn(
                    answer.text,
                    answer.reasoning,
                    Finish.STOP,
                    conversation.provider,
                    conversation.model,
                )
                pinned = prompt.id in pins or answer.id in pins
                exchanges.append(Exchange(prompt.text, turn, pinned))
                kept += (prompt, answer)
        self.exchanges, self.failed, self.latest = exchanges, "", None
        self.used = sum((one.turn.usage for one in exchanges if one.turn.usage), Usage())
        ends = [message.id for message in kept]
        self.summary = None
        if summary and summary[0] in ends[1::2]:
            self.summary = Summary(summary[1], ends.index(summary[0]) // 2 + 1)
        self.system = conversation.system or self.system
        self.title = conversation.title
        self.id, self.placed = conversation.id, ""
        self.recorder.enter(conversation, kept)

    def take_back(self) -> str:
        """Remove the last exchange, or the failed prompt; returns the prompt ("" if none)."""
        if self.failed:
            prompt, self.failed = self.failed, ""
            return prompt
        if not self.exchanges:
            return ""
        prompt = self.exchanges.pop().prompt
        self.recorder.rewind(len(self.exchanges))
        return prompt

    def pin(self, number: int, *, pinned: bool = True) -> None:
        """Have exchange `number`, from 0, stay in what is sent, or no more."""
        self.exchanges[number] = replace(self.exchanges[number], pinned=pinned)
        self.recorder.pin(number, pinned=pinned)

    def prompt_again(self) -> str:
        """The last prompt, answered or failed, for /retry and /edit; nothing is taken back yet."""
        return self.failed or (self.exchanges[-1].prompt if self.exchanges else "")

    async def send(self, prompt: str, *, again: bool = False) -> AsyncGenerator[Event, None]:
        """One turn. The last event is Done; on cancellation the part that came is kept.

        `again`: in place of the last exchange, which goes only when the new answer has text.
        """
        replaced = self.exchanges[-1] if again and self.exchanges and not self.failed else None
        async with aclosing(self._turn(prompt, replaced, None)) as events:
            async for event in events:
                yield event

    async def carry_on(self) -> AsyncGenerator[Event, None]:
        """Go on with the last answer where it broke off; the two become one answer.

        Raises UsageError where there is none, or where it is complete.
        """
        if not self.exchanges:
            raise UsageError("there is no answer to go on with")
        last = self.exchanges[-1]
        if last.turn.finish.complete:
            raise UsageError("the last answer is complete", "Ask for more in your own words.")
        async with aclosing(self._turn(last.prompt, last, last.turn)) as events:
            async for event in events:
                yield event

    async def _turn(
        self, prompt: str, replaced: Exchange | None, partial: Turn | None
    ) -> AsyncGenerator[Event, None]:
        """An answer to the prompt in place of `replaced`; going on with `partial`, if given."""
        before = self.exchanges[: -1 if replaced else None]
        asking = Asked(prompt, before, partial.text if partial else "")
        self.fitting.refuse(self, asking)
        messages = self.messages(prompt, before)
        request = self.request(messages, asking.partial)
        asked = (self.provider.name, self.model)
        fold = self._fold(request)
        turn: Turn | None = None
        try:
            async for notice in self._open(prompt, len(before), joined=partial is not None):
                yield notice
            if (self.provider.name, self.model) != asked:  # it was placed elsewhere
                fold = self._fold(replace(request, model=self.model))
            tries = Tries(self, asking, fold)
            async for reply in tries.replies():
                if isinstance(reply, Notice):
                    yield reply
                    continue
                with tries.judged(reply):
                    async with aclosing(reply.events()) as events:
                        async for event in events:
                            self._hear(fold, event)
                            yield event
            turn = fold.turn()
            self.fitting.report(self, turn)
        except Failure as failure:
            turn = fold.turn(failure=failure)
        finally:
            # Also when the turn was cancelled or its reader went away in the middle.
            turn = self._closed(fold, turn, partial)
            self._keep(prompt, turn, replaced)
        for warning in self._warnings():
            yield warning
        if self.ended is not None:
            self.ended(fold.request, turn)
        yield Done(turn)

    def _hear(self, fold: Fold, event: Event) -> None:
        if fold.add(event):
            self.recorder.restart()
        if isinstance(event, Delta):
            self.recorder.add(event.text, event.reasoning)

    async def _open(self, prompt: str, kept: int, *, joined: bool) -> AsyncGenerator[Notice, None]:
        """Have the prompt on the disk before the request goes out; a store that takes too long
        goes on by itself."""
        said: list[str] = []
        try:
            said = await self.place() if self.place else []
        finally:  # also where it is stopped meanwhile: the prompt is kept
            opened = self.recorder.begin(
                prompt,
                kept,
                provider=self.provider.name,
                model=self.model,
                system=self.system,
                params=self.params,
                joined=joined,
                fresh=self.id,
            )
        late: set[asyncio.Future[None]] = set()
        if self.waits or self.purse is not None:  # that reserves for the turn in the file
            _, late = await asyncio.wait([asyncio.wrap_future(opened)], timeout=PATIENCE)
        if self.hear is not None and not late:
            await self.hear()
        for notice in (*map(Notice, said), *self._warnings()):
            yield notice

    def _closed(self, fold: Fold, turn: Turn | None, partial: Turn | None) -> Turn:
        """The turn, one that was stopped (None) too, with what it went on with; and recorded."""
        if turn is None:
            turn = fold.turn(Finish.INTERRUPTED)
        self.used += turn.usage or Usage()
        if self.purse is not None:
            self.purse.used(turn.usage)
        if partial is not None:
            turn = _joined(partial, turn)
        self.recorder.end(turn)
        if partial is not None and turn.text:
            turn = replace(turn, usage=_sum(partial.usage, turn.usage))
        return turn

    def _fold(self, request: Request) -> Fold:
        name = self.provider.name
        return Fold(name, self.model, request, self.clock, self.price, self.ratios)

    def request(self, messages: tuple[Message, ...], partial: str) -> Request:
        """What is asked, before anything is left out of it."""
        return Request(self.model, messages, dict(self.params), self.stream, partial)

    def way(self) -> failover.Way:
        """Who may be asked, and by which rules."""
        first = failover.Candidate(self.provider, self.model)
        return failover.Way(
            self.client,
            first,
            () if self.pinned else self.others(self.provider.name),
            self.resolve,
            self.rules,
            self.board,
            self.handed,
            self.hedged,
            self.clock,
        )

    def _warnings(self) -> list[Notice]:
        return [Notice(warning) for warning in self.recorder.heard()]

    def _keep(self, prompt: str, turn: Turn, replaced: Exchange | None) -> None:
        self.latest = turn
        if turn.text:
            if replaced is not None and self.exchanges[-1:] == [replaced]:
                self.exchanges.pop()
            pinned = replaced is not None and replaced.pinned and prompt == replaced.prompt
            self.exchanges.append(Exchange(prompt, turn, pinned))
            self.title = self.title or title_of(prompt)
            self.failed = ""
        elif replaced is None or prompt != replaced.prompt:
            self.failed = prompt


def _joined(partial: Turn, more: Turn) -> Turn:
    """Both parts as one; without text where no more came, unless that is the end of it."""
    if not more.text and more.finish is not Finish.STOP:
        return more
    thoughts = "\n\n".join(filter(None, (partial.reasoning, more.reasoning)))
    return replace(more, text=partial.text + more.text, reasoning=thoughts)


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    return one + other if one and other else one or other
