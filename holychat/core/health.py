"""What is known of one provider's health: its breaker, its pace, and how its last calls went.

Owns how the three go together: one transition for each thing that can happen to a request. Must
not know a clock or a store: `store.health` keeps the value, `engine.health` knows the time.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core import breaker as breakers
from holychat.core import pacing
from holychat.core.breaker import Breaker, number, text
from holychat.core.failure import Kind
from holychat.core.pacing import Granted, Pace, Queued
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from holychat.core.breaker import Policy, State
    from holychat.core.failure import Failure
    from holychat.core.pacing import Limits, Rates
    from holychat.core.provider import Provider

KEPT = 100  # calls that the percentiles and the error rate are taken of
ENOUGH = 20  # first tokens, to know when one is late
EXTRA = 0.05  # the share of requests that may be made twice
SHOWN = 200  # characters of an error
TRYING = "somebody else is trying whether it is back"


class Outcome(NamedTuple):
    """How a call went, and when: `kind` is a failure's, empty for an answer."""

    at: float
    kind: str


class Fault(NamedTuple):
    """The text of an error, and when it was met."""

    text: str
    at: float


class Refused(NamedTuple):
    """The breaker says no: for how many seconds at most, and why."""

    seconds: float
    why: str


class Health(NamedTuple):
    """Of one provider at one origin. `firsts` are seconds until the first token, `hedges` the times
    when another one was asked because it was late."""

    breaker: Breaker = Breaker()
    pace: Pace = Pace()
    firsts: tuple[float, ...] = ()
    hedges: tuple[float, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    last_error: Fault | None = None

    def p(self, share: float) -> float | None:
        """The first-token time in seconds that `share` (0 to 1) of the last answers kept; None
        without any. By nearest rank, so it is one that was measured."""
        if not self.firsts:
            return None
        rank = ceil(share * len(self.firsts))
        return sorted(self.firsts)[min(max(rank, 1), len(self.firsts)) - 1]

    @property
    def late(self) -> float | None:
        """The time of the first token that is late: over that of 19 in 20. None where there are
        too few to know, or where one in 20 of the last requests was made twice already."""
        if len(self.firsts) < ENOUGH or not self.outcomes:
            return None
        recent = sum(at >= self.outcomes[0].at for at in self.hedges)
        allowed = recent + 1 <= EXTRA * len(self.outcomes)
        return self.p(1 - EXTRA) if allowed else None

    @property
    def error_rate(self) -> float:
        """The share of the last calls that failed, for whatever reason."""
        return sum(bool(one.kind) for one in self.outcomes) / (len(self.outcomes) or 1)


class Standing(NamedTuple):
    """How a provider stands. `seconds` are left until somebody may ask (0: now), `held` until the
    provider itself wants to be asked; `p50` and `p95` are of the seconds to the first token,
    `error_rate` (0 to 1) is of its last `calls`; `streams` go on and `queue` wait at this moment.
    `refused`: it did not take the key the last time.
    """

    state: State
    seconds: float = 0.0
    why: str = ""
    p50: float | None = None
    p95: float | None = None
    error_rate: float = 0.0
    calls: int = 0
    last_error: Fault | None = None
    streams: int = 0
    queue: int = 0
    held: float = 0.0
    refused: bool = False


def key_of(provider: Provider) -> str:
    """Under which it is kept: the same name at another address is another provider."""
    return f"{provider.name}|{provider.origin}"


# --- What can happen to a request -----------------------------------------------------------------


def admit(
    health: Health,
    who: str,
    house: str,
    tokens: int,
    now: float,
    policy: Policy,
    limits: Limits,
    *,
    force: bool = False,
) -> tuple[Health, Granted | Queued | Refused]:
    """May `who` of a house send a request of about `tokens` tokens? One who waits is no trial
    yet."""
    breaker, ok = breakers.admit(health.breaker, who, now, policy, force=force)
    if not ok:
        return _without(health, who), _refused(breaker, now, policy)
    pace, said = pacing.ask(health.pace, who, house, tokens, now, limits)
    if isinstance(said, Queued):
        return health._replace(pace=pace), said
    return health._replace(breaker=breaker, pace=pace), said


def _refused(breaker: Breaker, now: float, policy: Policy) -> Refused:
    resting = breakers.state(breaker, now, policy) is breakers.State.OPEN
    return Refused(breakers.left(breaker, now, policy), breaker.why if resting else TRYING)


def holds(health: Health, house: str, streams: int, now: float) -> Health:
    """A house says how many of its own stream."""
    return health._replace(pace=pacing.holds(health.pace, house, streams, now))


def renewed(
    health: Health, house: str, whos: Collection[str], now: float, policy: Policy
) -> Health:
    """A sign of life of a house, and of all that stream in it."""
    breaker = health.breaker
    if breaker.prober in whos:
        breaker, _ = breakers.admit(breaker, breaker.prober, now, policy, force=True)
    return holds(health._replace(breaker=breaker), house, len(whos), now)


def taught(health: Health, rates: Rates | None, now: float) -> Health:
    """What the provider said of its limits, if it did."""
    return health if rates is None else health._replace(pace=pacing.taught(health.pace, rates, now))


def answered(
    health: Health,
    who: str,
    granted: Granted | None,
    start: float | None,
    first: float | None,
    tokens: int | None,
    now: float,
    policy: Policy,
) -> Health:
    """An answer came: its response after `start` seconds, its first token after `first`.

    `tokens` is what it cost, prompt and answer; None where that is not known, as with `granted`.
    """
    pace = health.pace
    if granted is not None and tokens is not None:
        pace = pacing.spent(pace, granted, tokens, now)
    return health._replace(
        breaker=breakers.answered(health.breaker, who, start, now, policy),
        pace=pacing.leave(pace, who),
        firsts=_firsts(health, first),
        outcomes=_then(health, "", now),
    )


def failed(
    health: Health,
    who: str,
    failure: Failure,
    now: float,
    policy: Policy,
    first: float | None = None,
) -> Health:
    """The provider failed; it counts against it only where that is its own fault.

    One that says how long to wait after a 429 says it to all. An answer that was cut had a `first`
    token, in time or not.
    """
    breaker = breakers.released(health.breaker, who)
    if failure.verdict.unhealthy:
        breaker = breakers.failed(health.breaker, who, now, policy)
    pace = pacing.leave(health.pace, who)
    if failure.kind is Kind.RATE and failure.retry_after:
        pace = pacing.hold(pace, now + failure.retry_after, now)
    return health._replace(
        breaker=breaker,
        pace=pace,
        firsts=_firsts(health, first),
        outcomes=_then(health, failure.kind.value, now),
        last_error=Fault(one_line(failure.what, SHOWN), now),
    )


def _firsts(health: Health, first: float | None) -> tuple[float, ...]:
    return health.firsts if first is None else (*health.firsts, first)[-KEPT:]


def hedged(health: Health, now: float) -> Health:
    """A second request was made because this provider was late."""
    return health._replace(hedges=(*health.hedges, now)[-KEPT:])


def cancelled(health: Health, who: str) -> Health:
    """The user stopped it, which says nothing of the provider."""
    return _without(health, who)


def without(health: Health, gone: Callable[[str], bool]) -> Health:
    """The same value where nobody in it is gone; else without what those held."""
    pace = health.pace
    for who in filter(gone, {one.who for one in pace.queue} | {health.breaker.prober}):
        health = _without(health, who)
    for house in filter(gone, [one.name for one in pace.houses]):
        health = health._replace(pace=pacing.without(health.pace, house))
    return health


def _without(health: Health, who: str) -> Health:
    pace = pacing.leave(health.pace, who)
    return health._replace(breaker=breakers.released(health.breaker, who), pace=pace)


def _then(health: Health, kind: str, now: float) -> tuple[Outcome, ...]:
    return (*health.outcomes, Outcome(now, kind))[-KEPT:]


# --- As JSON --------------------------------------------------------------------------------------


PLAIN: dict[str, Callable[[Health], Any]] = {  # a part, as plain values that `json` writes
    "breaker": lambda health: breakers.as_json(health.breaker),
    "pace": lambda health: pacing.as_json(health.pace),
    "firsts": lambda health: list(health.firsts),
    "hedges": lambda health: list(health.hedges),
    "outcomes": lambda health: [[one.at, one.kind] for one in health.outcomes],
    "last_error": lambda health: None if health.last_error is None else [*health.last_error],
}


def as_json(health: Health) -> dict[str, Any]:
    """Plain values, as `json` writes them."""
    return {name: plain(health) for name, plain in PLAIN.items()}


def from_json(obj: Any) -> Health:
    """The health that was written; each part of it that is something else is a fresh one."""
    if not isinstance(obj, dict):
        return Health()
    health = Health(breakers.from_json(obj.get("breaker")), pacing.from_json(obj.get("pace")))
    try:
        fault = obj["last_error"]
        return health._replace(
            firsts=tuple(number(one) for one in obj["firsts"])[-KEPT:],
            hedges=tuple(number(one) for one in obj.get("hedges", ()))[-KEPT:],
            outcomes=tuple(Outcome(number(at), text(kind)) for at, kind in obj["outcomes"])[-KEPT:],
            last_error=None if fault is None else Fault(text(fault[0]), number(fault[1])),
        )
    except (TypeError, ValueError, LookupError):
        return health
