"""The fold of a turn's events into the Turn, with what each attempt took and cost.

Owns that, at any moment of a turn. Must not fetch or store; how a model counts and what it costs
comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from holychat.core.chat import (
    Attempt,
    Delta,
    Event,
    Failed,
    Finish,
    Lost,
    Request,
    Timings,
    Tried,
    Turn,
    Usage,
)
from holychat.core.failure import Failure, Kind
from holychat.core.tokens import DOCUMENTED, Ratios, features
from holychat.core.tokens import request as request_tokens

Price = Callable[[str, str, Usage], int | None]  # provider, model, tokens -> 10^-12 dollars
Counted = Callable[[str, str], Ratios]  # provider, model -> how it counts


class Fold:
    """Events in, the Turn out, at any moment."""

    def __init__(
        self,
        provider: str,
        model: str,
        request: Request,
        clock: Callable[[], float],
        price: Price = lambda *_: None,
        ratios: Counted = lambda *_: DOCUMENTED,
    ) -> None:
        self.request = request
        self.aside: list[Tried] = []  # what was asked beside it, and is paid for with it
        self._clock = clock
        self._price = price
        self._ratios = ratios
        self._start = clock()
        self._tried: list[Tried] = []
        self._leg = Leg(provider, model, "", self._start, clock)
        self._running = True  # an attempt has not ended yet
        self._anew = False  # it begins anew, and nothing came of it yet
        self._texts: list[str] = []  # of the attempts before
        self._thoughts: list[str] = []
        self._first: float | None = None

    @property
    def ended(self) -> tuple[Tried, ...]:
        """What was asked so far, but for the attempt that runs."""
        return (*self.aside, *self._tried)

    @property
    def spoken(self) -> bool:
        """Whether some of the answer has come."""
        return bool(self._texts or self._leg.texts)

    def add(self, event: Event) -> bool:
        """Returns whether an answer has begun anew, so that what came before does not count."""
        anew = False
        if isinstance(event, Attempt):
            self._anew = bool(self._tried) and len(event.partial) <= len(self.request.partial)
            at = self._clock()
            self._leg = Leg(event.provider, event.model, event.partial, at, self._clock)
            self._leg.sent = True
            self._running = True
        elif isinstance(event, Failed):
            self._failed(event)
        elif isinstance(event, Lost):
            self._lost(event)
        elif isinstance(event, Delta):
            called = event.more is not None and event.calls
            anew = self._anew and bool(event.text or called)
            if anew:  # not before: where the new attempt brings nothing, the old part stands
                self._anew = False
                self._texts.clear()
                self._thoughts.clear()
            self._leg.add(event)
            if self._first is None and event.token:
                self._first = self._clock() - self._start
        return anew

    def _failed(self, event: Failed) -> None:
        leg, failure = self._leg, event.failure
        if not self._running:  # it was not even asked: no key, no room
            started = self._clock() - self._start
            self._tried.append(
                Tried(event.provider, "", Finish.FAILED, leg.at, started, failure=failure)
            )
            return
        self._running = False
        tried = self._ended(Finish.CUT if leg.texts else Finish.FAILED, failure)
        if failure.kind is Kind.OUTRUN:
            tried = replace(tried, role="hedge")
        self._tried.append(tried)
        self._texts += leg.texts
        self._thoughts += leg.thoughts
        leg.texts, leg.thoughts = [], []

    def _lost(self, event: Lost) -> None:
        """It was sent, so its prompt is paid for, if it did not fail."""
        leg = Leg(event.provider, event.model, "", self._start + event.started, self._clock)
        leg.sent = True
        finish = Finish.FAILED if event.failure else Finish.INTERRUPTED
        usage = self._used(leg, event.failure)
        self._tried.append(
            Tried(
                event.provider,
                event.model,
                finish,
                0,
                event.started,
                usage,
                failure=event.failure,
                role="hedge",
            )
        )

    def _ended(self, finish: Finish, failure: Failure | None) -> Tried:
        """How the attempt that runs ended, or stands; without a model where it was never sent."""
        leg = self._leg
        return Tried(
            leg.provider,
            leg.model if leg.sent else "",
            finish,
            leg.at,
            leg.start - self._start,
            self._used(leg, failure),
            leg.timings(),
            failure,
        )

    def _used(self, leg: Leg, failure: Failure | None) -> Usage | None:
        """The tokens of an attempt, with what they cost by the price list, where the server does
        not say it itself."""
        usage = leg.used(self.request, failure, self._ratios(leg.provider, leg.model))
        if usage is None or usage.cost is not None:
            return usage
        cost = self._price(leg.provider, leg.model, usage)
        if cost is None and (served := leg.served_model()):
            cost = self._price(leg.provider, served, usage)
        return usage if cost is None else replace(usage, cost=cost)

    def turn(self, finish: Finish | None = None, failure: Failure | None = None) -> Turn:
        """The turn as it stands; `[DONE]` without a finish_reason counts as STOP."""
        leg = self._leg
        text = "".join(self._texts + leg.texts)
        if failure is not None:
            finish = Finish.CUT if text else Finish.FAILED
        finish = finish or leg.finish or Finish.STOP
        last = self._ended(finish, failure)
        last_too = [last] if self._running or not self._tried else []
        tried = (*self.ended, *last_too)
        used = [one.usage for one in tried if one.usage]
        return Turn(
            text=text,
            reasoning="".join(self._thoughts + leg.thoughts),
            finish=finish,
            provider=leg.provider,
            model=leg.model,
            usage=sum(used, Usage()) if used else None,
            timings=replace(last.timings, first=self._first, total=self._clock() - self._start),
            failure=failure,
            refusal=leg.refusal,
            served_model=leg.served_model(),
            attempts=tried,
        )


class Leg:
    """One attempt, while it runs; `partial` is the answer that it goes on with."""

    def __init__(
        self, provider: str, model: str, partial: str, start: float, clock: Callable[[], float]
    ) -> None:
        self.provider = provider
        self.model = model
        self.start = start
        self.sent = False
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self._calls: list[str] = []  # of tools: no text, but tokens
        self.finish: Finish | None = None
        self.refusal = False
        self._partial = partial
        self._clock = clock
        self._served = ""
        self._usage: Usage | None = None
        self._headers: float | None = None
        self._first: float | None = None

    @property
    def at(self) -> int:
        """How many characters of the answer stood before it."""
        return len(self._partial)

    def add(self, delta: Delta) -> None:
        if self._first is None:
            now = self._clock() - self.start
            self._headers = now if self._headers is None else self._headers
            if delta.token:
                self._first = now
        if delta.text:
            self.texts.append(delta.text)
        if delta.reasoning:
            self.thoughts.append(delta.reasoning)
        if delta.more is not None and delta.calls:
            said = delta.more["delta"]
            self._calls += _words([said.get("tool_calls"), said.get("function_call")])
        self.finish = delta.finish or self.finish
        self._usage = delta.usage or self._usage
        self._served = delta.model or self._served
        self.refusal = self.refusal or delta.refusal

    def timings(self) -> Timings:
        return Timings(self._headers, self._first, self._clock() - self.start)

    def served_model(self) -> str:
        """What the server says answered, where that is another name."""
        own = ("", self.model, f"{self.provider}/{self.model}")
        return "" if self._served in own else self._served

    def used(self, request: Request, failure: Failure | None, ratios: Ratios) -> Usage | None:
        """The tokens: the server's own counts, else estimated. None for a request that never went
        out or was refused: it costs nothing."""
        if self._usage is not None:
            return self._usage
        text, thoughts = "".join(self.texts + self._calls), "".join(self.thoughts)
        refused = failure is not None and not failure.verdict.billed
        if not (text or thoughts) and (refused or not self.sent):
            return None
        sent = [each.content for each in request.messages]
        sent += [self._partial] if self._partial else []
        thought = ratios.estimate(features(thoughts))
        return Usage(
            prompt=request_tokens(sent, ratios),
            completion=ratios.estimate(features(text)) + thought,
            reasoning=thought,
            estimated=True,
        )


def _words(called: object) -> list[str]:
    """All that a piece of a tool call says, but for its id and its type, which no model wrote."""
    if isinstance(called, str):
        return [called]
    if isinstance(called, list):
        return [word for one in called for word in _words(one)]
    if isinstance(called, dict):
        own = (one for name, one in called.items() if name not in ("id", "type"))
        return [word for one in own for word in _words(one)]
    return []
