"""Who may be asked now: the health and pace of the providers, shared with all other holychats.

Owns the way of `core.health`'s transitions into the store and the clock that goes with them. Where
nothing is kept, or the store fails or is slow, the same transitions go on in memory, from what was
known last: no answer waits for the store, or fails for it. Must not choose a provider or retry.

A request costs two transactions, `admit` and its end. Only the first is waited for: everything
else is told, and done in order before the recorder is closed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from holychat.core import breaker as breakers
from holychat.core import health as healths
from holychat.core import pacing
from holychat.core.failure import Kind, StoreTrouble, keyless
from holychat.core.health import Health, Refused, Standing, key_of
from holychat.store import alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

    from holychat.core.breaker import Policy
    from holychat.core.failure import Failure
    from holychat.core.pacing import Limits, Rates
    from holychat.core.provider import Provider, Secret
    from holychat.store.db import Database
    from holychat.store.health import Row
    from holychat.store.recorder import Recorder

PATIENCE = 1.0  # seconds that a request waits for the store, as it does for its prompt to be kept
AVOIDED = 30.0  # seconds for which a store that failed or took too long is not waited for again
RENEWED = pacing.STREAM / 3  # seconds between two signs of life of what streams here

T = TypeVar("T")


class Ticket(NamedTuple):
    """Leave to send one request; it ends with `answered`, `failed` or `cancelled`."""

    provider: Provider
    id: str


class Closed(NamedTuple):
    """The provider is not well: for how many seconds at most, and why, for the user."""

    seconds: float
    why: str


class Queued(NamedTuple):
    """There is no room: the place in the line, from 1, and the seconds until there may be.

    Ask again with it as `waiting`, every few seconds (`pacing.TICKET` at most); whoever does not
    want to wait any longer gives `ticket` to `cancelled`.
    """

    position: int
    seconds: float
    ticket: Ticket
    force: bool = False


@dataclass(slots=True)
class _Open:
    """A request that is on its way, or waits in line without being `granted`; let go at a Unix time
    `since`. `start` is when its response began, in seconds after that."""

    since: float
    granted: pacing.Granted | None = None
    start: float | None = None
    rates: Rates | None = None


class Board:
    """The health of the providers, by this process and by all that share its store.

    `limits` gives those of a provider by its name. `rates` is where the client notes what a
    provider said of its limits (`Client.rates`); the board takes it out from there.
    """

    def __init__(
        self,
        recorder: Recorder,
        policy: Policy,
        limits: Callable[[str], Limits],
        clock: Callable[[], float] = time.time,
        rates: MutableMapping[str, Rates] | None = None,
    ) -> None:
        self._recorder = recorder
        self._policy = policy
        self._limits = limits
        self._clock = clock
        self._rates: MutableMapping[str, Rates] = {} if rates is None else rates
        self._house = alive.name()
        self._numbers = count()
        self._open: dict[str, _Open] = {}
        self._streams: dict[str, set[str]] = {}  # ids of what streams, by provider; under the lock
        self._signs: dict[str, asyncio.TimerHandle] = {}  # the next sign of life, by provider
        self._avoided = 0.0  # until when, by time.monotonic
        self._lock = threading.RLock()  # the recorder's thread notes what it met
        self._kept: dict[str, Health] = {}
        self._rows: dict[str, Row] = {}  # the recorder's thread's
        self._waiting: dict[str, list[tuple[Callable[[Health], Any], Future[Any]]]] = {}
        self._wrong: dict[str, Secret] = {}  # keys that were not taken, by provider

    # --- Before a request -----------------------------------------------------------------------

    async def admit(
        self,
        provider: Provider,
        tokens: int,
        *,
        force: bool = False,
        waiting: Queued | None = None,
    ) -> Ticket | Closed | Queued:
        """May a request of about `tokens` tokens go to the provider?

        `waiting` is what the same request got before, and keeps its place; the line of another
        provider is left. `force` goes past the breaker, not past the limits: for when every
        provider is closed; who waits by force goes on so.
        """
        if waiting is not None and key_of(waiting.ticket.provider) != key_of(provider):
            self.cancelled(waiting.ticket)
            waiting = None
        # The house's name is in that of the ticket, for `alive.gone`.
        new = f"{next(self._numbers)}-{self._house}"
        ticket = waiting.ticket if waiting else Ticket(provider, new)
        force = force or (waiting is not None and waiting.force)
        limits, key = self._limits(provider.name), key_of(provider)

        def change(
            health: Health, now: float
        ) -> tuple[Health, pacing.Granted | pacing.Queued | Refused]:
            ask = (ticket.id, self._house, tokens, now, self._policy, limits)
            after, said = healths.admit(health, *ask, force=force)
            if not isinstance(said, pacing.Granted):
                # What a killed process held nobody else has to wait for.
                living = healths.without(health, alive.gone)
                if living is not health:
                    after, said = healths.admit(living, *ask, force=force)
            if isinstance(said, pacing.Granted):
                self._streaming(key).add(ticket.id)
            return after, said

        try:
            said = await self._decided(key, self._changed(key, ticket.id, change))
        except asyncio.CancelledError:
            self._leave(ticket)
            raise
        return self._noted(ticket, said, force)

    def _noted(
        self, ticket: Ticket, said: pacing.Granted | pacing.Queued | Refused, force: bool
    ) -> Ticket | Closed | Queued:
        if isinstance(said, Refused):
            self._open.pop(ticket.id, None)
            return Closed(said.seconds, said.why)
        found = self._open[ticket.id] = _Open(self._clock())
        if isinstance(said, pacing.Queued):
            return Queued(said.position, said.seconds, ticket, force)
        found.granted = said
        if key_of(ticket.provider) not in self._signs:
            self._sign_later(ticket.provider)
        return ticket

    def _sign_later(self, provider: Provider) -> None:
        """Signs of life, while this process runs and something streams: without one for
        `pacing.STREAM` seconds others take its streams for dead."""
        key = key_of(provider)

        def sign() -> None:
            with self._lock:
                more = bool(self._streaming(key))
            if more:
                self.renew(provider)
                self._sign_later(provider)
            else:
                del self._signs[key]

        self._signs[key] = asyncio.get_running_loop().call_later(RENEWED, sign)

    def _streaming(self, key: str) -> set[str]:
        return self._streams.setdefault(key, set())

    def _changed(
        self, key: str, ended: str, change: Callable[[Health, float], tuple[Health, T]]
    ) -> Callable[[Health], tuple[Health, T]]:
        """A change, at the time when it is made, that also says what streams here. `ended` is the
        id of one that does not, or no more. It may be made twice, in the store and in memory."""

        def both(health: Health) -> tuple[Health, T]:
            now = self._clock()  # under the store's lock: no other process is ahead of it
            with self._lock:
                streams = self._streaming(key)
                streams.discard(ended)
                return change(healths.holds(health, self._house, len(streams), now), now)

        return both

    # --- While it is on its way, and at its end: nothing is waited for --------------------------

    def renew(self, provider: Provider) -> None:
        """A sign of life of all that streams here, which is given by itself."""

        def change(health: Health, now: float) -> Health:
            whos = self._streaming(key_of(provider))
            return healths.renewed(health, self._house, whos, now, self._policy)

        self._tell(provider, "", change)

    def began(self, ticket: Ticket, start: float) -> None:
        """The response's headers are there, `start` seconds after the request."""
        found = self._open.get(ticket.id)
        if found is None:
            return
        found.start = start
        found.rates = self._rates.pop(ticket.provider.name, None)
        if found.rates is not None and 0 in (found.rates.requests_left, found.rates.tokens_left):
            rates, found.rates = found.rates, None  # the others should know at once
            self._tell(ticket.provider, "", lambda health, now: healths.taught(health, rates, now))

    def answered(
        self,
        ticket: Ticket,
        start: float | None = None,
        first: float | None = None,
        tokens: int = 0,
    ) -> None:
        """An answer came: its response `start` seconds after the request (None: as `began` said),
        its first token after `first`. `tokens` is what it cost in all, 0 where nobody knows."""
        found = self._open.pop(ticket.id, None)
        if found is None:
            return
        self._wrong.pop(key_of(ticket.provider), None)
        found.start = start = found.start if start is None else start
        rates, cost = self._said(ticket, found), tokens or None

        def change(health: Health, now: float) -> Health:
            how = (found.granted, start, first, cost, now, self._policy)
            return healths.taught(healths.answered(health, ticket.id, *how), rates, now)

        self._tell(ticket.provider, ticket.id, change)

    def failed(self, ticket: Ticket, failure: Failure, first: float | None = None) -> None:
        """The attempt failed; whether that counts against the provider, the failure knows. `first`
        is when its first token came, if one did."""
        found = self._open.pop(ticket.id, None)
        if found is None:
            return
        keyless(failure, ticket.provider)
        if failure.kind is Kind.AUTH:
            self._wrong[key_of(ticket.provider)] = ticket.provider.key
        rates = self._said(ticket, found)

        def change(health: Health, now: float) -> Health:
            health = healths.failed(health, ticket.id, failure, now, self._policy, first)
            return healths.taught(health, rates, now)

        self._tell(ticket.provider, ticket.id, change)

    def refuses(self, provider: Provider) -> bool:
        """Whether it did not take this key, as far as this process knows: the next one may find
        another key, or one that has been put in order."""
        return self._wrong.get(key_of(provider)) == provider.key

    def cancelled(self, ticket: Ticket) -> None:
        """The user stopped it, or does not want to wait any longer: nobody's fault.

        After `answered` or `failed` it does nothing, so it may stand in a `finally`.
        """
        if self._open.pop(ticket.id, None) is not None:
            self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        self._tell(
            ticket.provider, ticket.id, lambda health, _: healths.cancelled(health, ticket.id)
        )

    def _said(self, ticket: Ticket, found: _Open) -> Rates | None:
        """What the provider said of its limits, as of now: it was said with the headers."""
        rates = found.rates or self._rates.pop(ticket.provider.name, None)
        if rates is None or found.start is None:
            return rates
        return rates.after(max(0.0, self._clock() - found.since - found.start))

    def usual(self, provider: Provider) -> float | None:
        """Seconds after which its first token comes as a rule, by what this process knows."""
        with self._lock:
            known = self._kept.get(key_of(provider))
        return known.p(0.5) if known is not None else None

    def late(self, provider: Provider) -> float | None:
        """Seconds after which its first token is later than nearly always; None where too little
        is known of it, or enough second requests were made for its sake."""
        with self._lock:
            known = self._kept.get(key_of(provider))
        return known.late if known is not None else None

    def hedged(self, provider: Provider) -> None:
        """A second request was made because it was late."""
        self._tell(provider, "", healths.hedged)

    # --- Looking --------------------------------------------------------------------------------

    async def standings(self, providers: Iterable[Provider]) -> dict[str, Standing]:
        """How the providers stand, by name."""
        from holychat.store.health import read

        known = await self._patiently(lambda: self._asked(read))
        if known is None:
            with self._lock:
                known = (dict(self._kept),)
        now = self._clock()
        return {
            one.name: _standing(known[0].get(key_of(one), Health()), now, self._policy)
            for one in providers
        }

    # --- The store, and memory in its place -----------------------------------------------------

    @property
    def _shared(self) -> bool:
        return self._recorder.path is not None and self._recorder.keeping

    @property
    def _avoiding(self) -> bool:
        return time.monotonic() < self._avoided

    async def _decided(self, key: str, change: Callable[[Health], tuple[Health, T]]) -> T:
        """Make a change and wait for what comes of it."""
        done = await self._patiently(lambda: self._stored(key, change))
        return self._here(key, change) if done is None else done[0]

    def _tell(
        self, provider: Provider, ended: str, change: Callable[[Health, float], Health]
    ) -> None:
        """Make a change that nobody waits for."""
        key = key_of(provider)
        both = self._changed(key, ended, lambda health, now: (change(health, now), None))
        told = self._stored(key, both) if self._shared else None
        if told is None or self._avoiding:
            self._here(key, both)
        else:
            told.add_done_callback(lambda done: done.result() or self._here(key, both))

    def _stored(
        self, key: str, change: Callable[[Health], tuple[Health, T]]
    ) -> Future[tuple[T] | None]:
        """The change, made in the store, together with all others of this provider that wait by
        then; what is known after it is remembered, to go on from there without the store. Its
        result comes in a tuple, None where the store failed."""
        answer: Future[tuple[T] | None] = Future()
        with self._lock:
            waiting = self._waiting.setdefault(key, [])
            waiting.append((change, answer))
            first = len(waiting) == 1
        if first:
            done = self._asked(lambda db: self._together(db, key))
            done.add_done_callback(lambda done: self._settled(key, done))
        return answer

    def _together(self, db: Database, key: str) -> None:
        from holychat.store.health import update  # only where there is a store

        with self._lock:
            changes = self._waiting.pop(key, [])

        def all_(health: Health) -> tuple[Health, tuple[Health, list[Any]]]:
            results = []
            for change, _ in changes:
                health, result = change(health)
                results.append(result)
            return health, (health, results)

        try:
            after, results = update(db, key, all_, self._rows)
        except BaseException:
            with self._lock:
                self._waiting[key] = [*changes, *self._waiting.get(key, [])]
            raise
        with self._lock:
            self._kept[key] = after
        for (_, answer), result in zip(changes, results, strict=True):
            answer.set_result((result,))

    def _settled(self, key: str, done: Future[tuple[None] | None]) -> None:
        """Where the store failed, whoever waits goes on in memory."""
        if done.result() is not None:
            return
        with self._lock:
            changes = self._waiting.pop(key, [])
        for _, answer in changes:
            answer.set_result(None)

    def _here(self, key: str, change: Callable[[Health], tuple[Health, T]]) -> T:
        """Make a change in memory."""
        with self._lock:
            self._kept[key], result = change(self._kept.get(key, Health()))
        return result

    async def _patiently(self, begin: Callable[[], Future[tuple[T] | None]]) -> tuple[T] | None:
        """The result of something in the store; None where there is none, or not in time."""
        if not self._shared or self._avoiding:
            return None
        asked = asyncio.wrap_future(begin())
        # Not wait_for: it would cancel the future, which the recorder has yet to set.
        await asyncio.wait({asked}, timeout=PATIENCE)
        done = asked.result() if asked.done() else None
        if done is None:
            self._avoided = time.monotonic() + AVOIDED
        return done

    def _asked(self, what: Callable[[Database], T]) -> Future[tuple[T] | None]:
        """Something to do in the store: its result in a tuple, None where the store failed."""
        answer: Future[tuple[T] | None] = Future()

        def work(db: Database) -> T:
            if not self._recorder.keeping:  # it broke meanwhile: no more time is lost on it
                raise StoreTrouble("the store is not used any more")
            return what(db)

        def settle(asked: Future[T]) -> None:
            answer.set_result(None if asked.exception() else (asked.result(),))

        self._recorder.ask(work).add_done_callback(settle)
        return answer


def _standing(health: Health, now: float, policy: Policy) -> Standing:
    pace, breaker = pacing.swept(health.pace, now), health.breaker
    return Standing(
        breakers.state(breaker, now, policy),
        breakers.left(breaker, now, policy),
        breaker.why,
        health.p(0.5),
        health.p(0.95),
        health.error_rate,
        len(health.outcomes),
        health.last_error,
        pace.streams,
        len(pace.queue),
        max(0.0, pace.held_until - now),
        bool(health.outcomes) and health.outcomes[-1].kind == Kind.AUTH.value,
    )
