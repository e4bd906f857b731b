"""The circuit breaker of one provider: a value, and its transitions.

    closed    -- too many failures, or nothing but late answers --> open
    open      -- the cool-down is over                          --> half-open
    half-open -- the one trial brings an answer                 --> closed
    half-open -- the trial fails                                --> open, for twice as long

Owns when a provider is left alone, for how long, and who may try whether it is back. Must not know
a clock, a store or a provider. Times are Unix time in seconds, because several processes share the
value; a clock that was set wrong is met by bounds: nothing lies further ahead than it can.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

KEPT = 200  # calls that are remembered; more within one window tell nothing new
SAMPLES = 3  # late answers that show something, where `row` does not say how many
SLACK = 1.0  # seconds by which a moment may lie too far ahead: rounding, and clocks that are set
GREATEST = 1e15  # no time, no number of tokens is greater


class Policy(NamedTuple):
    """When it opens and for how long: seconds, and shares from 0 to 1.

    `errors` is the share of failures above which it opens, once there are `calls` calls within
    `window`; so do `row` failures in a row (0: off), and answers that all begin later than `slow`
    for as long as the window (0: off). `cooldown` is the first rest, `longest` the bound of its
    doubling, `probe` the time after which one who tries is taken for dead.
    Errors of 5 % and 500 ms for 60 s are the seed documents'; 3 in a row and 30 s are in the range
    of Envoy's outlier detection (5 and 30 s), made smaller for a single user.
    """

    window: float = 60.0
    errors: float = 0.05
    calls: int = 10
    row: int = 3
    slow: float = 0.5
    cooldown: float = 30.0
    longest: float = 600.0
    probe: float = 180.0


DEFAULT = Policy()


class State(StrEnum):
    CLOSED = "closed"  # all is well: everybody may ask
    OPEN = "open"  # nobody may
    HALF_OPEN = "half-open"  # one may try


class Call(NamedTuple):
    at: float
    ok: bool


class Slow(NamedTuple):
    """A run of late answers: when the first and the last of them came, and how many (`times`)."""

    since: float = 0.0
    last: float = 0.0
    times: int = 0


class Breaker(NamedTuple):
    """What is known of one provider. `opened` is None while it is closed.

    `until` is when the cool-down of `rest` seconds ends, `why` a sentence for the user. `prober`
    is who tries whether it is back, which nobody else does until `claim`.
    """

    calls: tuple[Call, ...] = ()
    slow: Slow = Slow()
    opened: float | None = None
    until: float = 0.0
    rest: float = 0.0
    why: str = ""
    prober: str = ""
    claim: float = 0.0


# --- Asking ---------------------------------------------------------------------------------------


def state(breaker: Breaker, now: float, policy: Policy = DEFAULT) -> State:
    if breaker.opened is None:
        return State.CLOSED
    return State.OPEN if ahead(breaker.until, now, policy.longest) else State.HALF_OPEN


def left(breaker: Breaker, now: float, policy: Policy = DEFAULT) -> float:
    """Seconds of the cool-down that are left, then of another's trial; 0 where one may ask."""
    match state(breaker, now, policy):
        case State.OPEN:
            return breaker.until - now
        case State.HALF_OPEN if _tried(breaker, now, policy):
            return breaker.claim - now
    return 0.0


def admit(
    breaker: Breaker, who: str, now: float, policy: Policy = DEFAULT, *, force: bool = False
) -> tuple[Breaker, bool]:
    """Whether `who` may ask. Half-open, the first to come may, and is the trial.

    Who holds the trial and asks again keeps it for longer. With `force` everybody may, and is the
    trial where nobody else is: for when every provider rests and one must be asked.
    """
    found = state(breaker, now, policy)
    if found is State.CLOSED:
        return breaker, True
    another = breaker.prober != who and _tried(breaker, now, policy)
    if another or (found is State.OPEN and not force):
        return breaker, force
    return breaker._replace(prober=who, claim=now + policy.probe), True


def _tried(breaker: Breaker, now: float, policy: Policy) -> bool:
    return bool(breaker.prober) and ahead(breaker.claim, now, policy.probe)


def ahead(moment: float, now: float, longest: float) -> bool:
    """Whether a moment is still to come; one that is further away than `longest` seconds was
    written by a clock that was wrong."""
    return 0 < moment - now <= longest + SLACK


# --- What came of it ------------------------------------------------------------------------------


def answered(
    breaker: Breaker, who: str, start: float | None, now: float, policy: Policy = DEFAULT
) -> Breaker:
    """An answer came; its response began after `start` seconds (None: nobody looked).

    It closes a half-open breaker, and the next cool-down is the first one again.
    """
    if state(breaker, now, policy) is State.OPEN and breaker.prober != who:
        return breaker  # it was asked for before the breaker opened, and says nothing of now
    if breaker.opened is not None:
        breaker = Breaker()
    calls = _called(breaker, Call(now, ok=True), policy)
    late = _later(breaker.slow, start, now, policy)
    return _judged(breaker._replace(calls=calls, slow=late), now, policy)


def failed(breaker: Breaker, who: str, now: float, policy: Policy = DEFAULT) -> Breaker:
    """The provider failed, of its own fault. Where the trial did, the cool-down doubles."""
    found = state(breaker, now, policy)
    if found is State.CLOSED:
        calls = _called(breaker, Call(now, ok=False), policy)
        return _judged(breaker._replace(calls=calls), now, policy)
    if found is State.HALF_OPEN and breaker.prober == who:
        return _opened(breaker, now, policy, f"failed again after a rest of {breaker.rest:g} s")
    return released(breaker, who)  # asked by force, or before it opened: we knew that


def released(breaker: Breaker, who: str) -> Breaker:
    """Nothing came of it, of nobody's fault (the user stopped it): somebody else may try."""
    return breaker._replace(prober="", claim=0.0) if breaker.prober == who else breaker


def _called(breaker: Breaker, call: Call, policy: Policy) -> tuple[Call, ...]:
    recent = (one for one in breaker.calls if 0 <= call.at - one.at < policy.window)
    return (*recent, call)[-KEPT:]


def _later(slow: Slow, start: float | None, now: float, policy: Policy) -> Slow:
    if start is None or not policy.slow:
        return slow
    if start <= policy.slow:
        return Slow()
    if slow.times and 0 <= now - slow.last <= policy.window:
        return Slow(slow.since, now, slow.times + 1)
    return Slow(now, now, 1)


def _judged(breaker: Breaker, now: float, policy: Policy) -> Breaker:
    why = _reason(breaker, policy)
    return _opened(breaker, now, policy, why) if why else breaker


def _reason(breaker: Breaker, policy: Policy) -> str:
    """Why it should open; empty where it should not."""
    total, row = len(breaker.calls), _in_a_row(breaker.calls)
    if policy.row and row >= policy.row:
        return f"{row} failure{'s' * (row > 1)} in a row"
    share = sum(not call.ok for call in breaker.calls) / total
    if total >= policy.calls and share > policy.errors:
        return f"{100 * share:.0f} % of {total} calls failed within {policy.window:g} s"
    slow = breaker.slow
    lasts = slow.last - slow.since >= policy.window
    if policy.slow and lasts and slow.times >= (policy.row or SAMPLES):
        return f"answers began later than {1000 * policy.slow:g} ms for {policy.window:g} s"
    return ""


def _in_a_row(calls: tuple[Call, ...]) -> int:
    """Failures at the end."""
    return next((n for n, call in enumerate(reversed(calls)) if call.ok), len(calls))


def _opened(breaker: Breaker, now: float, policy: Policy, why: str) -> Breaker:
    rest = min(2 * breaker.rest or policy.cooldown, policy.longest)
    return Breaker(opened=now, until=now + rest, rest=rest, why=why)


# --- As JSON --------------------------------------------------------------------------------------


def as_json(breaker: Breaker) -> dict[str, Any]:
    """Plain values, as `json` writes them."""
    slow = breaker.slow
    return {
        "calls": [[call.at, int(call.ok)] for call in breaker.calls],
        "slow": [slow.since, slow.last, slow.times],
        "opened": breaker.opened,
        "until": breaker.until,
        "rest": breaker.rest,
        "why": breaker.why,
        "prober": breaker.prober,
        "claim": breaker.claim,
    }


def from_json(obj: Any) -> Breaker:
    """The breaker that was written; from anything else a fresh one."""
    try:
        since, last, count = obj["slow"]
        return Breaker(
            calls=tuple(Call(number(at), bool(ok)) for at, ok in obj["calls"])[-KEPT:],
            slow=Slow(number(since), number(last), int(number(count))),
            opened=None if obj["opened"] is None else number(obj["opened"]),
            until=number(obj["until"]),
            rest=max(0.0, number(obj["rest"])),
            why=text(obj["why"]),
            prober=text(obj["prober"]),
            claim=number(obj["claim"]),
        )
    except (TypeError, ValueError, LookupError):
        return Breaker()


def number(value: Any) -> float:
    """A finite number that is one. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < GREATEST:
        raise ValueError("must be a number")
    return float(value)


def text(value: Any) -> str:
    """A text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - what is caught is one kind
    return value
