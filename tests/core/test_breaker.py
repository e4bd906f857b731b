"""The breaker: each rule by an example, and all of them against a model that forgets nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from holychat.core.breaker import (
    KEPT,
    SAMPLES,
    Breaker,
    Call,
    Policy,
    Slow,
    State,
    admit,
    answered,
    as_json,
    failed,
    from_json,
    left,
    released,
    state,
)

T0 = 1_700_000_000.0
POLICY = Policy()
QUICK = 0.1  # seconds until a response begins


def after(calls: str, policy: Policy = POLICY) -> Breaker:
    """A breaker after these calls, one a second from T0 on: a dot is an answer, x a failure."""
    breaker = Breaker()
    for number, call in enumerate(calls):
        at = T0 + number
        if call == ".":
            breaker = answered(breaker, "w", QUICK, at, policy)
        else:
            breaker = failed(breaker, "w", at, policy)
    return breaker


def opened() -> Breaker:
    """One that opened at T0 + 2."""
    return after("xxx")


# --- When it opens ------------------------------------------------------------------------------


def test_a_fresh_one_lets_everybody_in() -> None:
    assert state(Breaker(), T0) is State.CLOSED
    assert admit(Breaker(), "w", T0) == (Breaker(), True)
    assert left(Breaker(), T0) == 0


def test_failures_in_a_row_open_it() -> None:
    assert state(after("xx"), T0 + 1) is State.CLOSED
    breaker = opened()
    assert (breaker.opened, breaker.until, breaker.rest) == (T0 + 2, T0 + 32, 30)
    assert breaker.why == "3 failures in a row"
    assert state(after("xx.xx"), T0 + 5) is State.CLOSED


def test_failures_in_a_row_within_the_window() -> None:
    breaker = after("xx")
    breaker = failed(breaker, "w", T0 + 61, POLICY)  # the second one is 60 s old
    assert state(breaker, T0 + 61) is State.CLOSED
    assert [call.at for call in breaker.calls] == [T0 + 61]


def test_failures_in_a_row_can_be_off() -> None:
    assert state(after(9 * "x", policy=POLICY._replace(row=0)), T0 + 9) is State.CLOSED
    assert after(10 * "x", policy=POLICY._replace(row=0)).why == (
        "100 % of 10 calls failed within 60 s"
    )
    assert after("x", policy=POLICY._replace(row=1)).why == "1 failure in a row"


def test_the_share_of_failures_opens_it() -> None:
    share = POLICY._replace(row=0)
    good = after(19 * ".", policy=share)
    one = failed(good, "w", T0 + 20, share)  # 5 % is not more than 5 %
    assert state(one, T0 + 20) is State.CLOSED
    two = failed(one, "w", T0 + 21, share)
    assert two.why == "10 % of 21 calls failed within 60 s"


def test_the_share_counts_from_the_tenth_call_on() -> None:
    assert state(after("x" + 8 * "."), T0 + 9) is State.CLOSED
    assert after("x" + 9 * ".").why == "10 % of 10 calls failed within 60 s"


def test_what_was_long_ago_does_not_count() -> None:
    breaker = after("x" + 8 * ".")
    later = answered(breaker, "w", QUICK, T0 + 60, POLICY)
    assert state(later, T0 + 60) is State.CLOSED
    assert len(later.calls) == 9


def test_late_answers_open_it_after_a_whole_window() -> None:
    breaker = Breaker()
    for second in range(0, 60, 20):
        breaker = answered(breaker, "w", 0.6, T0 + second, POLICY)
    assert state(breaker, T0 + 59) is State.CLOSED
    breaker = answered(breaker, "w", 0.6, T0 + 60, POLICY)
    assert breaker.why == "answers began later than 500 ms for 60 s"
    assert state(breaker, T0 + 60) is State.OPEN


def slow_at(*seconds: float, policy: Policy = POLICY, but: dict[float, float | None]) -> State:
    breaker = Breaker()
    for second in seconds:
        breaker = answered(breaker, "w", but.get(second, 0.6), T0 + second, policy)
    return state(breaker, T0 + seconds[-1], policy)


def test_one_quick_answer_starts_the_late_ones_afresh() -> None:
    assert slow_at(0, 20, 40, 60, but={20: 0.5}) is State.CLOSED
    assert slow_at(0, 20, 40, 60, 80, 100, but={20: 0.5}) is State.OPEN


def test_late_answers_with_a_gap_are_not_consecutive() -> None:
    assert slow_at(0, 20, 81, 100, but={}) is State.CLOSED
    assert slow_at(0, 20, 80, but={}) is State.OPEN


def test_two_late_answers_are_not_enough() -> None:
    assert slow_at(0, 60, but={}) is State.CLOSED
    assert slow_at(0, 60, but={}, policy=POLICY._replace(row=2)) is State.OPEN
    assert slow_at(0, 60, but={}, policy=POLICY._replace(row=0)) is State.CLOSED
    assert slow_at(0, 60, 61, but={}, policy=POLICY._replace(row=0)) is State.OPEN


def test_a_start_that_nobody_measured_says_nothing() -> None:
    assert slow_at(0, 20, 40, 60, but={20: None}) is State.OPEN


def test_late_answers_can_be_off() -> None:
    assert slow_at(*range(0, 200, 10), but={}, policy=POLICY._replace(slow=0)) is State.CLOSED


# --- While it rests, and the trial --------------------------------------------------------------


def test_nobody_asks_while_it_rests() -> None:
    breaker = opened()
    assert state(breaker, T0 + 31.9) is State.OPEN
    assert admit(breaker, "w", T0 + 31.9) == (breaker, False)
    assert left(breaker, T0 + 12) == 20


def test_then_one_may_try() -> None:
    breaker = opened()
    assert state(breaker, T0 + 32) is State.HALF_OPEN
    assert left(breaker, T0 + 32) == 0
    breaker, first = admit(breaker, "a", T0 + 32)
    breaker, second = admit(breaker, "b", T0 + 33)
    assert (first, second, breaker.prober) == (True, False, "a")
    assert left(breaker, T0 + 33) == 179


def test_an_answer_of_the_trial_closes_it() -> None:
    breaker, _ = admit(opened(), "a", T0 + 32)
    breaker = answered(breaker, "a", QUICK, T0 + 33, POLICY)
    assert breaker == Breaker(calls=(Call(T0 + 33, ok=True),))


def test_a_failure_of_the_trial_doubles_the_rest() -> None:
    breaker, now = opened(), T0 + 2
    rests = []
    for _ in range(7):
        rests.append(breaker.rest)
        now += breaker.rest
        breaker, ok = admit(breaker, "a", now)
        assert ok
        breaker = failed(breaker, "a", now, POLICY)
        assert state(breaker, now) is State.OPEN
    assert rests == [30, 60, 120, 240, 480, 600, 600]
    assert breaker.why == "failed again after a rest of 600 s"


def test_after_a_success_the_rest_is_short_again() -> None:
    breaker, _ = admit(opened(), "a", T0 + 32)
    breaker = failed(breaker, "a", T0 + 32, POLICY)
    assert breaker.rest == 60
    breaker, _ = admit(breaker, "a", T0 + 92)
    breaker = answered(breaker, "a", QUICK, T0 + 92, POLICY)
    for second in range(3):
        breaker = failed(breaker, "w", T0 + 93 + second, POLICY)
    assert breaker.rest == 30


def test_who_stops_the_trial_gives_it_back() -> None:
    breaker, _ = admit(opened(), "a", T0 + 32)
    assert released(breaker, "b") == breaker
    breaker = released(breaker, "a")
    assert breaker == opened()
    assert admit(breaker, "b", T0 + 33)[1]


def test_a_cancel_never_counts() -> None:
    breaker = after("xx")
    assert released(breaker, "w") == breaker


def test_the_trial_of_one_who_died_runs_out() -> None:
    breaker, _ = admit(opened(), "a", T0 + 32)
    assert not admit(breaker, "b", T0 + 211)[1]
    assert admit(breaker, "b", T0 + 212)[1]


def test_who_tries_may_take_longer() -> None:
    breaker, _ = admit(opened(), "a", T0 + 32)
    breaker, ok = admit(breaker, "a", T0 + 200)
    assert ok
    assert not admit(breaker, "b", T0 + 300)[1]


def test_what_was_asked_before_it_opened_decides_nothing() -> None:
    breaker = opened()
    assert answered(breaker, "before", QUICK, T0 + 5, POLICY) == breaker
    assert failed(breaker, "before", T0 + 5, POLICY) == breaker
    trying, _ = admit(breaker, "a", T0 + 32)
    assert failed(trying, "before", T0 + 33, POLICY) == trying


def test_by_force_one_may_ask_all_the_same() -> None:
    breaker, ok = admit(opened(), "a", T0 + 5, force=True)
    assert (ok, breaker.prober) == (True, "a")
    assert admit(breaker, "b", T0 + 6, force=True) == (breaker, True)
    assert failed(breaker, "a", T0 + 6, POLICY) == opened()  # which was to be expected
    assert state(answered(breaker, "a", QUICK, T0 + 6, POLICY), T0 + 6) is State.CLOSED
    assert answered(breaker, "b", QUICK, T0 + 6, POLICY) == breaker


def test_only_so_many_calls_are_remembered() -> None:
    breaker = Breaker()
    for number in range(2 * KEPT):
        breaker = answered(breaker, "w", QUICK, T0 + number / 100, POLICY)
    assert len(breaker.calls) == KEPT


# --- Clocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-1e9, -1000.0, 1000.0, 1e9])
def test_a_clock_that_jumps_locks_nobody_out(jump: float) -> None:
    assert admit(opened(), "w", T0 + 2 + jump)[1]
    trying, _ = admit(opened(), "a", T0 + 32)
    assert admit(trying, "b", T0 + 32 + jump)[1]


def test_a_small_step_back_is_none() -> None:
    assert state(opened(), T0 + 1.5) is State.OPEN


def test_the_longest_rest_is_rested_whatever_the_rounding() -> None:
    policy = POLICY._replace(cooldown=600.0)
    for tenth in range(1000):
        now = T0 + tenth / 10 + 0.05
        breaker = failed(Breaker()._replace(calls=2 * (Call(now, ok=False),)), "w", now, policy)
        assert state(breaker, now, policy) is State.OPEN


moments = st.floats(T0 - 1e6, T0 + 1e6) | st.floats(-1e14, 1e14)
breakers = st.builds(
    Breaker,
    calls=st.lists(st.builds(Call, moments, st.booleans()), max_size=5).map(tuple),
    slow=st.builds(Slow, moments, moments, st.integers(0, 10)),
    opened=st.none() | moments,
    until=moments,
    rest=st.floats(0, 1e4),
    why=st.text(max_size=5),
    prober=st.sampled_from(["", "a", "b"]),
    claim=moments,
)


@given(breakers, st.floats(T0 - 1e6, T0 + 1e6))
def test_whatever_was_written_somebody_gets_in_in_time(breaker: Breaker, now: float) -> None:
    """Nobody waits for longer than the longest rest and the longest trial."""
    assert left(breaker, now) <= POLICY.longest + 1
    later = now + POLICY.longest + POLICY.probe + 3
    assert admit(breaker, "new", later)[1]


# --- As JSON ------------------------------------------------------------------------------------


@given(breakers)
def test_what_is_written_is_read(breaker: Breaker) -> None:
    assert from_json(json.loads(json.dumps(as_json(breaker)))) == breaker


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(junk)
def test_rubbish_is_a_fresh_one(obj: object) -> None:
    assert from_json(obj) == Breaker()


@given(breakers, st.sampled_from(sorted(as_json(Breaker()))), junk)
def test_half_rubbish_is_no_exception(breaker: Breaker, name: str, obj: object) -> None:
    got = from_json({**as_json(breaker), name: obj})
    assert from_json(json.loads(json.dumps(as_json(got)))) == got


# --- Against a model ----------------------------------------------------------------------------


@dataclass
class Model:
    """The same rules over all that ever happened."""

    policy: Policy
    events: list[tuple[float, bool, float | None]] = field(default_factory=list)
    until: float | None = None  # None: closed
    rest: float = 0.0
    prober: str = ""
    claim: float = 0.0

    def close(self) -> None:
        self.events, self.until, self.rest, self.prober = [], None, 0.0, ""

    def open(self, now: float) -> None:
        self.rest = min(2 * self.rest if self.rest else self.policy.cooldown, self.policy.longest)
        self.events, self.until, self.prober = [], now + self.rest, ""

    def state(self, now: float) -> State:
        if self.until is None:
            return State.CLOSED
        return State.OPEN if now < self.until else State.HALF_OPEN

    def trying(self, now: float) -> str:
        return self.prober if now < self.claim else ""

    def should_open(self, now: float) -> bool:
        recent = [ok for at, ok, _ in self.events if now - at < self.policy.window]
        row = self.policy.row
        if row and len(recent) >= row and not any(recent[-row:]):
            return True
        share = recent.count(False) / len(recent)
        enough = len(recent) >= self.policy.calls
        return (enough and share > self.policy.errors) or self.slow_for_long()

    def slow_for_long(self) -> bool:
        """The last run of late answers, looked for from the end."""
        run: list[float] = []
        for at, ok, start in reversed(self.events):
            if not ok or start is None:
                continue
            if start <= self.policy.slow or (run and run[-1] - at > self.policy.window):
                break
            run.append(at)
        enough = len(run) >= (self.policy.row or SAMPLES)
        return bool(self.policy.slow) and enough and run[0] - run[-1] >= self.policy.window


class Machine(RuleBasedStateMachine):
    """Times are whole, so that sums of them are exact. The value goes through JSON at each step."""

    whos = st.sampled_from("abc")

    @initialize(
        row=st.sampled_from([0, 2, 3]),
        calls=st.sampled_from([2, 5, 10]),
        errors=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
        slow=st.sampled_from([0.0, 0.5]),
    )
    def start(self, row: int, calls: int, errors: float, slow: float) -> None:
        self.policy = Policy(
            window=60, errors=errors, calls=calls, row=row, slow=slow, longest=100, probe=90
        )
        self.model = Model(self.policy)
        self.breaker = Breaker()
        self.now = T0

    def put(self, breaker: Breaker) -> None:
        self.breaker = from_json(json.loads(json.dumps(as_json(breaker))))

    @rule(seconds=st.integers(1, 25) | st.sampled_from([30, 59, 60, 61, 90, 100, 1000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(who=whos, force=st.booleans())
    def admit(self, who: str, force: bool) -> None:
        breaker, ok = admit(self.breaker, who, self.now, self.policy, force=force)
        found, trying = self.model.state(self.now), self.model.trying(self.now)
        free = trying in ("", who)
        assert ok == (force or found is State.CLOSED or (found is State.HALF_OPEN and free))
        if ok and found is not State.CLOSED and free:
            self.model.prober, self.model.claim = who, self.now + self.policy.probe
        self.put(breaker)

    @rule(who=whos, start=st.sampled_from([None, 0.2, 0.5, 0.6, 3.0, 0.7, 0.8]))
    def answered(self, who: str, start: float | None) -> None:
        found = self.model.state(self.now)
        if found is not State.OPEN or self.model.prober == who:
            if found is not State.CLOSED:
                self.model.close()
            self.model.events.append((self.now, True, start))
            if self.model.should_open(self.now):
                self.model.open(self.now)
        self.put(answered(self.breaker, who, start, self.now, self.policy))

    @rule(who=whos)
    def failed(self, who: str) -> None:
        found = self.model.state(self.now)
        if found is State.CLOSED:
            self.model.events.append((self.now, False, None))
            if self.model.should_open(self.now):
                self.model.open(self.now)
        elif self.model.prober == who and found is State.HALF_OPEN:
            self.model.open(self.now)
        elif self.model.prober == who:
            self.model.prober = ""
        self.put(failed(self.breaker, who, self.now, self.policy))

    @rule(who=whos)
    def released(self, who: str) -> None:
        if self.model.prober == who:
            self.model.prober = ""
        self.put(released(self.breaker, who))

    @invariant()
    def same(self) -> None:
        assert state(self.breaker, self.now, self.policy) is self.model.state(self.now)
        assert (self.breaker.until if self.breaker.opened else None) == self.model.until
        assert bool(self.breaker.why) == (self.model.until is not None)
        assert self.breaker.rest == self.model.rest <= self.policy.longest

    @invariant()
    def some_way_out(self) -> None:
        later = self.now + left(self.breaker, self.now, self.policy)
        if not admit(self.breaker, "new", later, self.policy)[1]:  # one tries by force
            later += left(self.breaker, later, self.policy)
        assert admit(self.breaker, "new", later, self.policy)[1]


Machine.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=50)
TestMachine = Machine.TestCase
