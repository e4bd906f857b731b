"""How fast one provider may be asked: requests and tokens a minute, streams at once, and a queue.

Owns who may go now, who waits in which place, and what the provider taught of its limits. Who
streams is noted by house, a process or a part of one, with the number of its streams: what is kept
does not grow with them. Must not know a clock, a store or a provider. Times are Unix time in
seconds, because several processes share the value; a clock that was set wrong is met by bounds: no
lease, no wait lies further ahead than it can, so that nobody waits for ever. A house that dies
without a word is forgotten with its lease.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core.breaker import ahead, number, text

if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE = 60.0
# What is spent is noted to the quarter of a second, rounded up: exact enough, and never more than
# 242 entries, however many requests there are.
GRAIN = 0.25
STREAM = 60.0  # seconds after which the streams of a house without a sign of life are over
FRESH = 50.0  # seconds that a sign of life is to last at least, or another one is worth writing
TICKET = 10.0  # seconds after which one who waits and does not ask again has gone
FARTHEST = 120.0  # seconds that a provider's "not before" is believed, as openai-python does it
GLANCE = 0.5  # seconds until it is worth looking again where nobody knows
CROWD = 1000  # that wait, and houses; who comes after them is not noted


class Limits(NamedTuple):
    """Requests and tokens a minute, streams at once; 0 is unlimited."""

    requests: int = 0
    tokens: int = 0
    streams: int = 5


class Rates(NamedTuple):
    """What a provider says of its limits (`x-ratelimit-*`); None where it does not.

    Limits are a minute's; `*_left` is what remains of it, `*_reset` the seconds until it is whole
    again.
    """

    requests: int | None = None
    requests_left: int | None = None
    requests_reset: float | None = None
    tokens: int | None = None
    tokens_left: int | None = None
    tokens_reset: float | None = None

    def after(self, seconds: float) -> Rates:
        """The same, said `seconds` ago."""
        requests, tokens = (
            None if reset is None else max(0.0, reset - seconds)
            for reset in (self.requests_reset, self.tokens_reset)
        )
        return self._replace(requests_reset=requests, tokens_reset=tokens)


class Granted(NamedTuple):
    """Go; `tokens` are noted under the moment `at`."""

    at: float
    tokens: int


class Queued(NamedTuple):
    """Wait: at which place, from 1, and an estimate of the seconds until it is worth asking again.

    Ask again within `TICKET` seconds all the same, or the place is lost.
    """

    position: int
    seconds: float


class Spend(NamedTuple):
    """What began at one moment."""

    at: float
    requests: int
    tokens: int


class House(NamedTuple):
    """A process that lets its own in and out: how many of them stream, and until when its word is
    good."""

    name: str
    streams: int
    until: float


class Waiting(NamedTuple):
    who: str
    until: float
    tokens: int


class Meter(NamedTuple):
    """What a provider taught of one limit: a minute's, what is left of it, and until when."""

    limit: int = 0
    left: int | None = None
    reset: float = 0.0


class Pace(NamedTuple):
    """The last minute, who streams, those that wait in their order, and what was taught."""

    recent: tuple[Spend, ...] = ()
    houses: tuple[House, ...] = ()
    queue: tuple[Waiting, ...] = ()
    held_until: float = 0.0
    requests: Meter = Meter()
    tokens: Meter = Meter()

    @property
    def streams(self) -> int:
        """How many go on at once."""
        return sum(house.streams for house in self.houses)


# --- Asking ---------------------------------------------------------------------------------------


def ask(
    pace: Pace, who: str, house: str, tokens: int, now: float, limits: Limits
) -> tuple[Pace, Granted | Queued]:
    """May `who` of that house send a request of about `tokens` tokens?

    First come, first served: nobody gets what somebody who came before could have. Asking again
    keeps the place. Who was granted is one of the house's streams, until it says (`holds`) that it
    has less of them.
    """
    pace = swept(pace, now)
    place = next((n for n, one in enumerate(pace.queue) if one.who == who), len(pace.queue))
    tokens = max(0, tokens)
    seconds = _wait(pace, pace.queue[:place], tokens, now, limits)
    if seconds > 0:
        return _queued(pace, place, Waiting(who, now + TICKET, tokens)), Queued(place + 1, seconds)
    return _granted(leave(pace, who), house, tokens, now)


def swept(pace: Pace, now: float) -> Pace:
    """Without what is over, or was written by a clock that was wrong."""
    return Pace(
        tuple(one for one in pace.recent if now - MINUTE < one.at <= now + GRAIN),
        tuple(one for one in pace.houses if ahead(one.until, now, STREAM)),
        tuple(one for one in pace.queue if ahead(one.until, now, TICKET)),
        pace.held_until if ahead(pace.held_until, now, FARTHEST) else 0.0,
        _current(pace.requests, now),
        _current(pace.tokens, now),
    )


def _current(meter: Meter, now: float) -> Meter:
    return meter if ahead(meter.reset, now, FARTHEST) else Meter(meter.limit)


def _wait(pace: Pace, before: Sequence[Waiting], tokens: int, now: float, limits: Limits) -> float:
    """Seconds until there is room, also for all that came before; 0 where there is now."""
    requests = [(one.at, one.requests) for one in pace.recent]
    spent = [(one.at, one.tokens) for one in pace.recent]
    theirs = sum(one.tokens for one in before)
    full = limits.streams and pace.streams + len(before) >= limits.streams
    return max(
        pace.held_until - now,
        GLANCE if full else 0.0,
        _until_room(requests, len(before), 1, _lower(limits.requests, pace.requests), now),
        _until_room(spent, theirs, tokens, _lower(limits.tokens, pace.tokens), now),
        _until_reset(pace.requests, len(before), 1, now),
        _until_reset(pace.tokens, theirs, tokens, now),
        0.0,
    )


def _lower(limit: int, meter: Meter) -> int:
    """Ours or theirs; 0 where neither is known."""
    return min(filter(None, (limit, meter.limit)), default=0)


def _until_room(
    spent: Sequence[tuple[float, int]], before: int, mine: int, limit: int, now: float
) -> float:
    """Seconds until `mine` fits into a minute. More than the whole limit fits into an empty one."""
    used, seconds = before + sum(amount for _, amount in spent), 0.0
    if not limit:
        return 0.0
    for at, amount in spent:
        if not used or used + mine <= limit:
            return seconds
        used, seconds = used - amount, at + MINUTE - now
    fits = not used or used + mine <= limit
    return seconds if fits else max(seconds, GLANCE)


def _until_reset(meter: Meter, before: int, mine: int, now: float) -> float:
    """Seconds until the provider has what is asked for, by its own word."""
    enough = meter.left is None or before + mine <= meter.left
    return 0.0 if enough else meter.reset - now


def _queued(pace: Pace, place: int, one: Waiting) -> Pace:
    if place >= CROWD:
        return pace
    return pace._replace(queue=(*pace.queue[:place], one, *pace.queue[place + 1 :]))


def _granted(pace: Pace, house: str, tokens: int, now: float) -> tuple[Pace, Granted]:
    recent = _noted(pace.recent, ceil(now / GRAIN) * GRAIN, tokens)
    pace = holds(pace, house, _streams(pace, house) + 1, now)
    after = pace._replace(
        recent=recent, requests=_less(pace.requests, 1), tokens=_less(pace.tokens, tokens)
    )
    return after, Granted(recent[-1].at, tokens)


def _noted(recent: tuple[Spend, ...], at: float, tokens: int) -> tuple[Spend, ...]:
    if recent and recent[-1].at >= at:
        last = recent[-1]
        return (*recent[:-1], Spend(last.at, last.requests + 1, last.tokens + tokens))
    return (*recent, Spend(at, 1, tokens))


def _less(meter: Meter, amount: int) -> Meter:
    return meter if meter.left is None else meter._replace(left=max(0, meter.left - amount))


# --- While it streams, and after ------------------------------------------------------------------


def holds(pace: Pace, house: str, streams: int, now: float) -> Pace:
    """A house says how many of its own stream, which is a sign of life too."""
    found = next((one for one in pace.houses if one.name == house), None)
    said = found.streams if found else 0
    if said == streams and (found is None or now + FRESH <= found.until):
        return pace
    others = tuple(one for one in pace.houses if one is not found)
    here = (House(house, streams, now + STREAM),) if streams else ()
    return pace._replace(houses=(*others, *here)[-CROWD:])


def _streams(pace: Pace, house: str) -> int:
    return next((one.streams for one in pace.houses if one.name == house), 0)


def without(pace: Pace, house: str) -> Pace:
    """A house is gone, and its streams with it."""
    return pace._replace(houses=tuple(one for one in pace.houses if one.name != house))


def leave(pace: Pace, who: str) -> Pace:
    """`who` waits no longer."""
    queue = tuple(one for one in pace.queue if one.who != who)
    return pace if len(queue) == len(pace.queue) else pace._replace(queue=queue)


def spent(pace: Pace, granted: Granted, tokens: int, now: float) -> Pace:
    """What a request really cost, once; it counts from when it began."""
    pace = swept(pace, now)
    more = max(0, tokens) - granted.tokens
    return pace._replace(
        recent=tuple(
            one._replace(tokens=max(0, one.tokens + more)) if one.at == granted.at else one
            for one in pace.recent
        )
    )


def hold(pace: Pace, until: float, now: float) -> Pace:
    """The provider said: nobody before `until`. Believed for `FARTHEST` seconds at most."""
    pace = swept(pace, now)
    return pace._replace(held_until=min(max(pace.held_until, until), now + FARTHEST))


def taught(pace: Pace, rates: Rates, now: float) -> Pace:
    """The provider said what its limits are; what it did not say stays as it was."""
    pace = swept(pace, now)
    requests = rates.requests, rates.requests_left, rates.requests_reset
    tokens = rates.tokens, rates.tokens_left, rates.tokens_reset
    return pace._replace(
        requests=_learned(pace.requests, *requests, now),
        tokens=_learned(pace.tokens, *tokens, now),
    )


def _learned(
    meter: Meter, limit: int | None, left: int | None, reset: float | None, now: float
) -> Meter:
    limit = limit or meter.limit  # one of 0 is no limit that anybody could keep
    if left is None or reset is None:
        return meter._replace(limit=limit)
    return Meter(limit, left, now + min(reset, FARTHEST))


# --- As JSON --------------------------------------------------------------------------------------


def as_json(pace: Pace) -> dict[str, Any]:
    """Plain values, as `json` writes them."""
    return {
        "recent": [[one.at, one.requests, one.tokens] for one in pace.recent],
        "houses": [[one.name, one.streams, one.until] for one in pace.houses],
        "queue": [[one.who, one.until, one.tokens] for one in pace.queue],
        "held_until": pace.held_until,
        "requests": [pace.requests.limit, pace.requests.left, pace.requests.reset],
        "tokens": [pace.tokens.limit, pace.tokens.left, pace.tokens.reset],
    }


def from_json(obj: Any) -> Pace:
    """The pace that was written; from anything else a fresh one."""
    try:
        return Pace(
            tuple(Spend(number(at), _count(n), _count(t)) for at, n, t in obj["recent"]),
            tuple(
                House(text(name), _count(streams), number(until))
                for name, streams, until in obj["houses"][-CROWD:]
            ),
            tuple(
                Waiting(text(who), number(until), _count(tokens))
                for who, until, tokens in obj["queue"][:CROWD]
            ),
            number(obj["held_until"]),
            _meter(*obj["requests"]),
            _meter(*obj["tokens"]),
        )
    except (TypeError, ValueError, LookupError):
        return Pace()


def _meter(limit: Any, left: Any, reset: Any) -> Meter:
    return Meter(_count(limit), None if left is None else _count(left), number(reset))


def _count(value: Any) -> int:
    return max(0, int(number(value)))
