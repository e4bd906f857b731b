"""A conversation: its history, and one turn at a time.

Owns the history and the fold of events into a Turn. Must not print. Whatever happens to a turn -
failure, cancellation, a crash of the screen - what was typed and what was received stays here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from holychat.core.chat import (
    Attempt,
    Delta,
    Done,
    Event,
    Finish,
    Message,
    Notice,
    Request,
    Timings,
    Turn,
    Usage,
)
from holychat.core.failure import Failure, UsageError
from holychat.core.history import title_of
from holychat.core.seam import Seam
from holychat.core.tokens import estimate
from holychat.engine import failover
from holychat.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from holychat.core.history import Conversation, Kept
    from holychat.core.provider import Provider
    from holychat.net.client import Client


PATIENCE = 1.0  # seconds that a request waits for its prompt to be kept


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user said and what came of it."""

    prompt: str
    turn: Turn


@dataclass(slots=True)
class Chat:
    """One conversation. Fields may be changed between turns: /model, /system and /set do.

    `failed` is the prompt of a turn that brought no text at all: it is not part of the history
    (a question without an answer confuses models), but it is kept for /retry. `latest` is the
    last turn however it ended, also one that was cancelled before its Done could be yielded.
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
    stream: bool = True
    recorder: Recorder = field(default_factory=lambda: Recorder(None))
    clock: Callable[[], float] = time.monotonic

    def messages(
        self, prompt: str, exchanges: Sequence[Exchange] | None = None
    ) -> tuple[Message, ...]:
        """What is sent: the system prompt, every exchange that has an answer, the new prompt."""
        out = [Message("system", self.system)] if self.system else []
        for exchange in self.exchanges if exchanges is None else exchanges:
            out.append(Message("user", exchange.prompt))
            out.append(Message("assistant", exchange.turn.text))
        return (*out, Message("user", prompt))

    @property
    def last(self) -> Turn | None:
        """The last turn that brought an answer, whole or in part."""
        return self.exchanges[-1].turn if self.exchanges else None

    def usage(self) -> Usage:
        """The sum over the conversation; estimated as soon as one part of it is."""
        used = (exchange.turn.usage for exchange in self.exchanges)
        return sum((usage for usage in used if usage), Usage())

    def clear(self) -> None:
        """Start afresh: same model, same system prompt, no history; the old one stays kept."""
        self.exchanges.clear()
        self.failed = self.title = ""
        self.recorder.new()

    def enter(self, conversation: Conversation, path: Sequence[Kept]) -> None:
        """Go on with a conversation from the store: its messages and its system prompt."""
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
                exchanges.append(Exchange(prompt.text, turn))
                kept += (prompt, answer)
        self.exchanges, self.failed, self.latest = exchanges, "", None
        self.system = conversation.system or self.system
        self.title = conversation.title
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
        before = self.exchanges[:-1] if replaced else self.exchanges
        request = Request(
            self.model,
            self.messages(prompt, before),
            dict(self.params),
            self.stream,
            partial.text if partial else "",
        )
        fold = Fold(self.provider.name, self.model, request, self.clock)
        events = failover.reply(self.client, self.provider, request)
        joint = Joint(partial.text, self._exact) if partial else None
        turn: Turn | None = None
        try:
            async for notice in self._open(prompt, len(before), joined=joint is not None):
                yield notice
            async with aclosing(joint.of(events) if joint else events) as parts:
                async for event in parts:
                    fold.add(event)
                    if isinstance(event, Delta):
                        self.recorder.add(event.text, event.reasoning)
                    yield event
            turn = fold.turn()
        except Failure as failure:
            turn = fold.turn(failure=failure)
        finally:
            # Also when the turn was cancelled or its reader went away in the middle.
            turn = turn or fold.turn(Finish.INTERRUPTED)
            if partial is not None and joint is not None:
                turn = joint.turn(partial, turn)
            self.recorder.end(turn)
            if partial is not None and turn.text:
                turn = replace(turn, usage=_sum(partial.usage, turn.usage))
            self._keep(prompt, turn, replaced)
        for warning in self._warnings():
            yield warning
        yield Done(turn)

    async def _open(self, prompt: str, kept: int, *, joined: bool) -> AsyncGenerator[Notice, None]:
        """Have the prompt on the disk before the request goes out; a store that takes too long
        goes on by itself."""
        opened = self.recorder.begin(
            prompt,
            kept,
            provider=self.provider.name,
            model=self.model,
            system=self.system,
            params=self.params,
            joined=joined,
        )
        await asyncio.wait([asyncio.wrap_future(opened)], timeout=PATIENCE)
        for notice in self._warnings():
            yield notice

    def _exact(self) -> bool:
        """Whether the provider itself goes on with the beginning of an answer."""
        name = self.provider.name
        return bool(self.client.quirks.get(name, self.provider.quirks).prefix)

    def _warnings(self) -> list[Notice]:
        warnings = self.recorder.warnings
        return [Notice(warnings.popleft()) for _ in range(len(warnings))]

    def _keep(self, prompt: str, turn: Turn, replaced: Exchange | None) -> None:
        self.latest = turn
        if turn.text:
            if replaced is not None and self.exchanges[-1:] == [replaced]:
                self.exchanges.pop()
            self.exchanges.append(Exchange(prompt, turn))
            self.title = self.title or title_of(prompt)
            self.failed = ""
        elif replaced is None or prompt != replaced.prompt:
            self.failed = prompt


class Joint:
    """Where an answer is gone on with: the events of the continuation, without what it says for
    the second time, and the turn that comes of the two parts.

    `exact` is asked when the first delta is there: only then it is known how the provider took it.
    """

    def __init__(self, before: str, exact: Callable[[], bool]) -> None:
        self._before = before
        self._exact = exact
        self._seam: Seam | None = None

    async def of(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        async with aclosing(events) as parts:
            try:
                async for event in parts:
                    if isinstance(event, Delta):
                        seam = self._seam = self._seam or Seam(self._before, self._exact())
                        event.text = seam.feed(event.text) if event.text else ""
                    yield event
            except Failure:
                if rest := self._rest(cut=True):
                    yield Delta(rest)
                raise
        if rest := self._rest():
            yield Delta(rest)
        if self._seam is not None and self._seam.diverged:
            yield Notice("the model began another answer instead of going on: it stands below")

    def turn(self, partial: Turn, more: Turn) -> Turn:
        """Both parts as one; without text where no more came, unless that is the end of it."""
        text = more.text
        if more.finish is Finish.INTERRUPTED:
            text += self._rest(cut=True)
        if not text and more.finish is not Finish.STOP:
            return more
        thoughts = "\n\n".join(filter(None, (partial.reasoning, more.reasoning)))
        return replace(more, text=partial.text + text, reasoning=thoughts)

    def _rest(self, *, cut: bool = False) -> str:
        return self._seam.finish(cut=cut) if self._seam is not None else ""


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    return one + other if one and other else one or other


class Fold:
    """Events in, the Turn out, at any moment."""

    def __init__(
        self, provider: str, model: str, request: Request, clock: Callable[[], float]
    ) -> None:
        self._provider = provider
        self._model = model
        self._request = request
        self._clock = clock
        self._start = clock()
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._served = ""
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._refusal = False
        self._timings = Timings()

    def add(self, event: Event) -> None:
        if isinstance(event, Attempt):
            self._provider, self._model = event.provider, event.model
            self._start = self._clock()
            self._timings = Timings()
        elif isinstance(event, Delta):
            self._add(event)

    def _add(self, delta: Delta) -> None:
        if self._timings.headers is None:
            self._timings = replace(self._timings, headers=self._clock() - self._start)
        if self._timings.first is None and (delta.text or delta.reasoning):
            self._timings = replace(self._timings, first=self._clock() - self._start)
        if delta.text:
            self._texts.append(delta.text)
        if delta.reasoning:
            self._thoughts.append(delta.reasoning)
        self._finish = delta.finish or self._finish
        self._usage = delta.usage or self._usage
        self._served = delta.model or self._served
        self._refusal = self._refusal or delta.refusal

    def turn(self, finish: Finish | None = None, failure: Failure | None = None) -> Turn:
        """The turn as it stands; `[DONE]` without a finish_reason counts as STOP."""
        text, reasoning = "".join(self._texts), "".join(self._thoughts)
        if failure is not None:
            finish = Finish.CUT if text else Finish.FAILED
        return Turn(
            text=text,
            reasoning=reasoning,
            finish=finish or self._finish or Finish.STOP,
            provider=self._provider,
            model=self._model,
            usage=self._usage or self._estimate(text, reasoning),
            timings=replace(self._timings, total=self._clock() - self._start),
            failure=failure,
            refusal=self._refusal,
            served_model="" if self._served in self._own_names() else self._served,
        )

    def _own_names(self) -> tuple[str, ...]:
        return "", self._model, f"{self._provider}/{self._model}"

    def _estimate(self, text: str, reasoning: str) -> Usage | None:
        if not (text or reasoning):
            return None
        thought = estimate(reasoning)
        return Usage(
            prompt=sum(estimate(message.content) + 4 for message in self._request.messages),
            completion=estimate(text) + thought,
            reasoning=thought,
            estimated=True,
        )
