"""A conversation: its history, and one turn at a time.

Owns the history and the fold of events into a Turn. Must not print. Whatever happens to a turn -
failure, cancellation, a crash of the screen - what was typed and what was received stays here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
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
from holychat.core.failure import Failure
from holychat.core.tokens import estimate
from holychat.engine import failover
from holychat.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

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
        used = [exchange.turn.usage for exchange in self.exchanges if exchange.turn.usage]
        return Usage(
            prompt=sum(u.prompt for u in used),
            completion=sum(u.completion for u in used),
            cached=sum(u.cached for u in used),
            reasoning=sum(u.reasoning for u in used),
            estimated=any(u.estimated for u in used),
        )

    def clear(self) -> None:
        """Start afresh: same model, same system prompt, no history; the old one stays kept."""
        self.exchanges.clear()
        self.failed = ""
        self.recorder.new()

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
        before = self.exchanges[:-1] if replaced else self.exchanges
        request = Request(self.model, self.messages(prompt, before), dict(self.params), self.stream)
        fold = Fold(self.provider.name, self.model, request, self.clock)
        turn: Turn | None = None
        try:
            async for notice in self._open(prompt, len(before)):
                yield notice
            async with aclosing(failover.reply(self.client, self.provider, request)) as events:
                async for event in events:
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
            self._keep(prompt, turn, replaced)
            self.recorder.end(turn)
        for notice in self._warnings():
            yield notice
        yield Done(turn)

    async def _open(self, prompt: str, kept: int) -> AsyncGenerator[Notice, None]:
        """Have the prompt on the disk before the request goes out; a store that takes too long
        goes on by itself."""
        opened = self.recorder.begin(
            prompt,
            kept,
            provider=self.provider.name,
            model=self.model,
            system=self.system,
            params=self.params,
        )
        await asyncio.wait([asyncio.wrap_future(opened)], timeout=PATIENCE)
        for notice in self._warnings():
            yield notice

    def _warnings(self) -> list[Notice]:
        warnings = self.recorder.warnings
        return [Notice(warnings.popleft()) for _ in range(len(warnings))]

    def _keep(self, prompt: str, turn: Turn, replaced: Exchange | None) -> None:
        self.latest = turn
        if turn.text:
            if replaced is not None and self.exchanges[-1:] == [replaced]:
                self.exchanges.pop()
            self.exchanges.append(Exchange(prompt, turn))
            self.failed = ""
        elif replaced is None or prompt != replaced.prompt:
            self.failed = prompt


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
