"""The attempts loop: one request goes to a provider, or to several, and one answer comes back.

Owns who is asked and when, by the rules of `core.route`: the waits, the admission by health and
pace, the joints where another attempt goes on with an answer. Shows nothing, stores no answer.
This is the only place in the program that tries anything twice (but for what the protocol itself
asks for, see `net.client`).
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING
from unicodedata import category

from holychat.core.chat import Attempt, Delta, Failed, Finish, Notice, Queued
from holychat.core.failure import Failure, HolychatError, Kind, keyless
from holychat.core.provider import DEMO
from holychat.core.route import Past, Rules, following, outcome, step
from holychat.core.tokens import request as request_tokens
from holychat.engine.health import Closed
from holychat.engine.health import Queued as InLine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
    from typing import Protocol

    from holychat.core.chat import Event, Request
    from holychat.core.provider import Provider
    from holychat.core.seam import Seam
    from holychat.engine.health import Board, Ticket
    from holychat.engine.hedge import Runner
    from holychat.net.client import Client

    Asked = tuple[Provider, Request, list[str]]  # with what is to be said of it

    class Allow(Protocol):
        """The request as it may be sent, and what is to be said of it; `beside`: while another one
        of the turn runs. Raises Failure of Kind.LIMIT where it may not."""

        def __call__(
            self, request: Request, who: Candidate, *, beside: bool = False
        ) -> Awaitable[tuple[Request, list[str]]]: ...


LOOK = 1.0  # seconds at most between two looks at the line that a request stands in


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who may be asked, and for which model."""

    provider: Provider
    model: str


@dataclass(slots=True)
class Way:
    """What a turn may use: who is asked first, the names of the others in their order, the rules,
    and what is known of the providers' health (None: nothing, everybody is asked).

    `hedged`: a second one is asked when the first is later than it nearly always is.
    `resolve` makes a candidate of a name, only when it is needed: its key may be a command to run.
    It raises HolychatError. `handed` is set by the user to hand a turn that waits to the next one.
    `allow` is asked before each attempt; what it refuses ends the turn.
    """

    client: Client
    first: Candidate
    others: Sequence[str] = ()
    resolve: Callable[[str], Awaitable[Candidate]] | None = None
    rules: Rules = field(default_factory=Rules)
    board: Board | None = None
    handed: asyncio.Event = field(default_factory=asyncio.Event)
    hedged: bool = False
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    allow: Allow | None = None


class Reply:
    """One answer, however many attempts it takes."""

    def __init__(self, way: Way, request: Request) -> None:
        self._way = way
        self._request = request
        first = way.first.provider.name
        self._names = [first, *(name for name in way.others if name != first)]
        self._known = {first: way.first}
        self._asking = first
        self._past: list[Past] = []
        self._said: list[str] = [request.partial] if request.partial else []
        self._wait = 0.0  # seconds before the next attempt
        self._waited = 0.0
        self._seam: Seam | None = None  # of the attempt that goes on now
        self._plain: set[str] = set()  # who turned out not to go on with a beginning
        self._line: InLine | None = None  # where this request waits for its turn
        self._ticket: Ticket | None = None
        self._called = False  # part of a tool call came: nobody can go on with that

    @property
    def asked(self) -> Candidate:
        """Who is asked, or was last."""
        return self._known[self._asking]

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of the answer. Raises Failure at the end of the road, after what came.

        A token passes through here, `_attempt` and the client: each generator on its way costs as
        much as all that is done with it.
        """
        try:
            while True:
                try:
                    async with aclosing(self._let_in()) as events:
                        async for event in events:
                            yield event
                    async with aclosing(self._answer()) as events:
                        async for event in events:
                            yield event
                    return
                except Failure as failure:
                    if failure.kind is Kind.LIMIT:  # nobody was asked
                        raise
                    then = self._next(self._asking, failure)
                yield then
                if not then.then:
                    raise outcome(self._past)
                self._asking, self._wait = then.then, then.wait
        finally:
            self._leave_line()
            if self._ticket is not None and self._way.board is not None:
                self._way.board.cancelled(self._ticket)  # one that came to no attempt

    async def _let_in(self) -> AsyncGenerator[Event, None]:
        """Wait until its time has come and there is room at who is to be asked, or at who is asked
        in its place. Raises Failure where the user hands the turn on meanwhile."""
        await self._pause(self._wait)
        place = ("", 0)
        while True:
            self._ticket, events = await self._admitted()
            for event in events:
                if not isinstance(event, Queued):
                    yield event
                elif (event.provider, event.position) != place:
                    place = event.provider, event.position
                    yield event
            if self._line is None:
                break
            await self._pause(min(self._line.seconds, LOOK))

    def _answer(self) -> AsyncGenerator[Event, None]:
        """One attempt, with another one beside it where it may be late."""
        late = self._late()
        attempt = self._attempt(self._asking, self._ticket)
        return self._raced(attempt, late) if late else attempt

    # --- A second one beside it -------------------------------------------------------------

    def _late(self) -> float | None:
        """Seconds after which a second provider is asked; None where that is not to be."""
        way = self._way
        if not way.hedged or way.board is None or self._text() or not self._after(self._asking):
            return None
        return way.board.late(self._known[self._asking].provider)

    async def _raced(
        self, attempt: AsyncGenerator[Event, None], late: float
    ) -> AsyncGenerator[Event, None]:
        """An attempt, and after `late` seconds another one beside it, until one has a token."""
        from holychat.engine.hedge import Race, Runner

        first = Runner(self._asking, self._known[self._asking].model, attempt)
        said = False
        async with aclosing(Race(first, late, self._second).events()) as events:
            async for event in events:
                if isinstance(event, Failed):
                    self._past.append(Past(event.provider, event.failure))
                elif isinstance(event, Attempt):
                    self._asking = event.provider
                elif isinstance(event, Delta) and event.text and not said:
                    said, self._said = True, [event.text]  # whatever the other one had begun to say
                yield event

    async def _second(self) -> Runner | None:
        """The next provider's attempt, where it can be asked at once."""
        from holychat.engine.hedge import Runner

        board, first, name = self._way.board, self._asking, self._after(self._asking)
        if board is None:
            return None
        candidate = await self._candidate(name)
        tokens = request_tokens([each.content for each in self._request.messages])
        got = await board.admit(candidate.provider, tokens)
        if isinstance(got, InLine):
            board.cancelled(got.ticket)
        if isinstance(got, (Closed, InLine)):
            return None
        try:
            asked = await self._request_for(name, beside=True)
        except Failure:  # there is no room for two: the first one goes on alone
            board.cancelled(got)
            return None
        except asyncio.CancelledError:
            board.cancelled(got)
            raise
        board.hedged(self._known[first].provider)
        return Runner(name, candidate.model, self._attempt(name, got, asked))

    def _next(self, name: str, failure: Failure) -> Failed:
        """What comes after this failure."""
        self._past.append(Past(name, failure))
        if self._called and self._way.rules.held:  # it begins anew
            self._said, self._called = [self._request.partial], False
        then = step(
            self._names,
            self._past,
            self._way.rules,
            said=bool(self._text().strip()),
            waited=self._waited,
            chance=self._way.chance(),
        )
        if then is None or self._called:
            return Failed(name, failure)
        return Failed(name, failure, then.provider, then.wait, self._after(then.provider))

    async def _pause(self, seconds: float) -> None:
        """Wait. Raises Failure where the user does not want to, and somebody else can be asked."""
        if seconds <= 0:
            return
        handed, other, began = self._way.handed, self._after(self._asking), self._way.clock()
        handed.clear()
        try:
            async with asyncio.timeout(seconds):
                await handed.wait()
        except TimeoutError:
            return
        finally:
            self._waited += self._way.clock() - began
            handed.clear()
        if other:
            self._leave_line()
            raise Failure(Kind.PASSED, "handed on")
        await self._pause(seconds - (self._way.clock() - began))

    # --- Admission --------------------------------------------------------------------------

    async def _admitted(self) -> tuple[Ticket | None, list[Event]]:
        """Leave to ask, where it is needed and to be had, and what is to be said of it.

        Sets who is asked: somebody else, where the one who should be rests. Raises Failure where
        the line is too long.
        """
        board = self._way.board
        candidate = await self._candidate(self._asking)
        if board is None or candidate.provider.name == DEMO:
            return None, []
        tokens = request_tokens([each.content for each in self._request.messages])
        resting: list[tuple[float, int, str]] = []
        passed: list[str] = []
        for number, name in enumerate(self._rest_of(self._asking)):
            try:
                provider = (await self._candidate(name)).provider
            except Failure as failure:  # a substitute's own trouble: the first one is known
                passed.append(failure.what)
                continue
            if board.refuses(provider):
                resting.append((inf, number, name))
                passed.append(f"{name} does not take the key")
                continue
            got = await board.admit(provider, tokens, waiting=self._line)
            if not isinstance(got, Closed):
                self._asking = name
                return self._granted(got, passed)
            self._line = None
            resting.append((got.seconds, number, name))
            passed.append(f"{name} rests: {got.why}")
        *_, self._asking = min(resting)  # everybody does: whoever is up first is asked anyway
        got = await board.admit(self._known[self._asking].provider, tokens, force=True)
        return (None, []) if isinstance(got, Closed) else self._granted(got, [])

    def _granted(
        self, got: Ticket | InLine, passed: list[str]
    ) -> tuple[Ticket | None, list[Event]]:
        said: list[Event] = []
        if passed:
            said.append(Notice(f"{'; '.join(passed)}: asking {self._asking}"))
        if not isinstance(got, InLine):
            self._line = None
            return got, said
        self._line = got
        name, rules, other = self._asking, self._way.rules, self._after(self._asking)
        if self._waited + got.seconds > (min(rules.patience, rules.wait) if other else rules.wait):
            self._leave_line()
            what = f"{name} takes no request for {got.seconds:.0f} s"
            raise Failure(Kind.RATE, what, retry_after=got.seconds)
        return None, [*said, Queued(name, got.position, got.seconds, other)]

    def _leave_line(self) -> None:
        if self._line is not None and self._way.board is not None:
            self._way.board.cancelled(self._line.ticket)
        self._line = None

    def _after(self, name: str) -> str:
        """Who the user may hand the turn to; "" where nobody else may be asked."""
        past = [*self._past, Past(name, Failure(Kind.PASSED, ""))]
        return following(self._names, past, self._way.rules)

    def _rest_of(self, name: str) -> list[str]:
        """The provider, then the others that were not asked yet."""
        asked = {past.provider for past in self._past}
        return [name, *(each for each in self._names if each != name and each not in asked)]

    # --- One attempt ------------------------------------------------------------------------

    async def _candidate(self, name: str) -> Candidate:
        """Raises Failure where its key or address cannot be had."""
        if name not in self._known:
            if self._way.resolve is None:  # nobody else was named
                raise Failure(Kind.REQUEST, f"{name} is unknown")
            try:
                self._known[name] = await self._way.resolve(name)
            except Failure:
                raise
            except HolychatError as error:
                raise Failure(Kind.AUTH, error.what, error.hint) from error
        return self._known[name]

    def _text(self) -> str:
        """The answer so far, with what was to be gone on with."""
        if len(self._said) > 1:
            self._said = ["".join(self._said)]
        return self._said[0] if self._said else ""

    async def _attempt(
        self, name: str, ticket: Ticket | None, asked: Asked | None = None
    ) -> AsyncGenerator[Event, None]:
        """One request, `asked` if it is known already, with its outcome told to whoever watches
        over the provider's health."""
        board, call = self._way.board, _Call(self._way.clock)
        with self._watched(ticket, call):
            provider, request, said = asked or await self._request_for(name)
            for line in said:
                yield Notice(line)
            before = request.partial
            usual = board.usual(provider) if board is not None else None
            yield Attempt(name, request.model, before, usual, self._after(name))
            self._seam = None
            with self._ending(call, provider, before):
                async with aclosing(self._way.client.stream(provider, request)) as deltas:
                    for source in self._sources(deltas):
                        async with aclosing(source):
                            async for delta in source:
                                if call.first is None or delta.finish or delta.usage:
                                    call.saw(delta)
                                if before:
                                    self._join(delta, provider, before)
                                if delta.text:
                                    self._said.append(delta.text)
                                if delta.more is not None and delta.calls:
                                    self._called = True
                                yield delta
                                if delta.finish is not None:
                                    _gave_up(delta, name)
            for event in self._sealed():
                yield event

    @contextmanager
    def _watched(self, ticket: Ticket | None, call: _Call) -> Iterator[None]:
        """Tells the board how an attempt ended."""
        board = self._way.board
        if board is None or ticket is None:
            yield
            return
        call.began = partial(board.began, ticket)
        try:
            yield
            board.answered(ticket, call.start, call.first, call.tokens)
        except Failure as failure:
            if failure.kind not in (Kind.PASSED, Kind.LIMIT):
                board.failed(ticket, failure, call.first)
            raise
        finally:
            board.cancelled(ticket)  # stopped by the user: nobody's fault

    @contextmanager
    def _ending(self, call: _Call, provider: Provider, before: str) -> Iterator[None]:
        """What a failure of the stream means for the answer."""
        try:
            yield
        except Failure as failure:
            keyless(failure, provider)
            if failure.kind is Kind.EMPTY and call.stopped and _may_end(before):
                return  # it was cut behind its last word: nothing more is to be said
            # What the joint holds may be half of a repetition, and nobody has seen it: whoever
            # goes on says it once more.
            self._seam = None
            raise

    def _sealed(self) -> list[Event]:
        """What the joint still held when the continuation came to its own end."""
        seam, self._seam = self._seam, None
        if seam is None:
            return []
        rest = seam.finish()
        events: list[Event] = [self._spoken(rest)] if rest else []
        if seam.diverged:
            said = "the model began another answer instead of going on: it stands below"
            events.append(Notice(said))
        return events

    async def _request_for(self, name: str, *, beside: bool = False) -> Asked:
        """The request as it goes to a provider, with what was said so far to go on with. Raises
        Failure where a limit does not let it."""
        candidate = await self._candidate(name)
        if self._way.rules.on_cut == "restart" and self._past:
            self._said = [self._request.partial]
        if not self._text().strip():
            self._said = []
        request = replace(self._request, model=candidate.model, partial=self._text())
        said: list[str] = []
        if self._way.allow is not None:
            request, said = await self._way.allow(request, candidate, beside=beside)
        return candidate.provider, request, said

    def _spoken(self, text: str) -> Delta:
        self._said.append(text)
        return Delta(text)

    def _join(self, delta: Delta, provider: Provider, before: str) -> None:
        """Take out of a delta what the continuation says for the second time.

        Raises Failure where a provider that was to go on with a beginning began another answer:
        before any of that is out, it is asked in words, as it will be from now on.
        """
        if not delta.text:
            return
        from holychat.core.seam import Seam  # its tables are for this case only

        quirks = self._way.client.quirks
        known = quirks.get(provider.name, provider.quirks)
        # Only when the first delta is there it is known how the provider took the request.
        seam = self._seam = self._seam or Seam(before, exact=bool(known.prefix))
        delta.text = seam.feed(delta.text)
        if seam.restarted and known.prefix and provider.name not in self._plain:
            self._plain.add(provider.name)
            quirks[provider.name] = replace(known, prefix="", prefix_path="")
            if seam.diverged:
                delta.text, self._seam = "", None
                what = f"{provider.name} did not go on with the answer"
                raise Failure(Kind.IGNORED, what, retry_after=0.0)

    def _sources(self, deltas: AsyncGenerator[Delta, None]) -> list[AsyncGenerator[Delta, None]]:
        """The provider's own deltas; until the first token the user may hand the turn on."""
        if self._after(self._asking):
            return [_until_token(deltas, self._way.handed), deltas]
        return [deltas]


def _may_end(text: str) -> bool:
    """Whether an answer may end so: a server that says "stop" and nothing else is not believed in
    the middle of a sentence."""
    last = text.rstrip()[-1:]
    return bool(last) and (last in _ENDS or category(last) == "So")


_ENDS = ".!?…。！？\"'”’»」』)）]}`*_~|"


def _gave_up(delta: Delta, name: str) -> None:
    """Raises Failure where a provider says by its finish that this is not the end."""
    if delta.finish is Finish.OVERLOADED:
        raise Failure(Kind.IN_STREAM, f"{name} gave up in mid-answer")


class _Call:
    """What a provider's health is told of one request: seconds, and the tokens of the answer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self.began: Callable[[float], None] = lambda _: None  # told of the start at once
        self.start: float | None = None
        self.first: float | None = None
        self.tokens = 0
        self.stopped = False

    def saw(self, delta: Delta) -> None:
        self.stopped = self.stopped or delta.finish is Finish.STOP
        if self.first is None:
            now = self._clock() - self._began
            if self.start is None:
                self.start = now
                self.began(now)
            if delta.token:
                self.first = now
        if delta.usage is not None:
            self.tokens = delta.usage.prompt + delta.usage.completion


async def _until_token(
    deltas: AsyncGenerator[Delta, None], handed: asyncio.Event
) -> AsyncGenerator[Delta, None]:
    """The deltas up to the first with a token. Raises Failure where the turn was handed on."""
    handed.clear()
    passing = asyncio.ensure_future(handed.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(deltas, None))
            coming.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                await asyncio.wait({coming, passing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})
            if coming.cancelled():
                handed.clear()
                raise Failure(Kind.PASSED, "handed on")
            delta = coming.result()
            if delta is None:
                return
            yield delta
            if delta.token:
                return
    finally:
        passing.cancel()
