"""The pace: each rule by an example, all of them against a model, and what headers say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from holychat.core.pacing import (
    CROWD,
    FARTHEST,
    FRESH,
    GLANCE,
    STREAM,
    TICKET,
    Granted,
    House,
    Limits,
    Meter,
    Pace,
    Queued,
    Rates,
    Spend,
    Waiting,
    as_json,
    ask,
    from_json,
    hold,
    holds,
    leave,
    spent,
    swept,
    taught,
    without,
)
from holychat.core.wire import rates

T0 = 1_700_000_000.0
FREE = Limits(0, 0, 0)


class Line:
    """A pace with its limits, asked step by step; everybody is a house."""

    def __init__(self, requests: int = 0, tokens: int = 0, streams: int = 0) -> None:
        self.limits = Limits(requests, tokens, streams)
        self.pace = Pace()
        self.granted: dict[str, Granted] = {}

    def ask(self, who: str, at: float = 0.0, tokens: int = 0) -> Granted | Queued:
        self.pace, said = ask(self.pace, who, who, tokens, T0 + at, self.limits)
        if isinstance(said, Granted):
            self.granted[who] = said
        return said

    def may(self, who: str, at: float = 0.0, tokens: int = 0) -> bool:
        return isinstance(self.ask(who, at, tokens), Granted)

    def ends(self, *whos: str, at: float = 0.0) -> None:
        for who in whos:
            self.pace = holds(self.pace, who, 0, T0 + at)

    def cost(self, who: str, tokens: int, at: float) -> None:
        self.pace = spent(self.pace, self.granted[who], tokens, T0 + at)

    def places(self, *whos: str, at: float = 0.0) -> list[int]:
        """The place of each in the line; 0 for who may go."""
        return [said.position if isinstance(said, Queued) else 0 for said in self.all(whos, at)]

    def all(self, whos: tuple[str, ...], at: float) -> list[Granted | Queued]:
        return [self.ask(who, at) for who in whos]


# --- Streams at once ----------------------------------------------------------------------------


def test_by_default_five_stream_at_once() -> None:
    line = Line()
    line.limits = Limits()
    assert line.places(*"abcdefg") == [0, 0, 0, 0, 0, 1, 2]
    assert line.ask("f") == Queued(1, GLANCE)


def test_who_leaves_makes_room_and_may_leave_twice() -> None:
    line = Line(streams=1)
    assert line.places("a", "b") == [0, 1]
    line.ends("a", "a")
    assert line.places("b") == [0]


def test_a_house_says_how_many_of_its_own_stream() -> None:
    line = Line(streams=3)
    pace = line.pace
    for who in "abc":
        pace, said = ask(pace, who, "house", 0, T0, line.limits)
        assert isinstance(said, Granted)
    assert [(one.name, one.streams) for one in pace.houses] == [("house", 3)]
    line.pace = holds(pace, "house", 2, T0)
    assert line.places("d", "e") == [0, 1]
    assert line.pace.streams == 3
    line.pace = without(line.pace, "house")
    assert line.places("e") == [0]


def test_a_house_without_a_sign_of_life_is_over() -> None:
    line = Line(streams=1)
    assert line.places("a", "b") == [0, 1]
    assert line.places("b", at=STREAM - 1) == [1]
    line.pace = holds(line.pace, "a", 1, T0 + STREAM - 1)
    assert line.places("b", at=STREAM + 1) == [1]
    assert line.places("b", at=2 * STREAM + 1) == [0]


def test_a_sign_of_life_that_tells_nothing_new_changes_nothing() -> None:
    pace = holds(Pace(), "a", 2, T0)
    assert holds(pace, "a", 2, T0 + STREAM - FRESH) is pace
    assert holds(pace, "a", 2, T0 + STREAM - FRESH + 1) != pace
    assert holds(pace, "b", 0, T0) is pace


def test_without_a_limit_everybody_goes() -> None:
    line = Line()
    assert line.places(*map(str, range(300))) == 300 * [0]
    assert len(line.pace.recent) == 1


# --- The line -----------------------------------------------------------------------------------


def test_first_come_first_served() -> None:
    line = Line(streams=1)
    assert line.places("a", "b", "c", "d") == [0, 1, 2, 3]
    line.ends("a")
    assert line.places("d", "c", "b", at=1) == [3, 2, 0]
    assert line.places("d", "c", at=1) == [2, 1]


def test_who_comes_later_goes_first_only_where_there_is_room_for_both() -> None:
    line = Line(streams=2)
    assert line.places("a", "b", "c", "d", "e") == [0, 0, 1, 2, 3]
    line.ends("a", "b")
    assert line.places("e", "d", "c", at=1) == [3, 0, 0]


def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    line = Line(tokens=100)
    assert line.may("a", 0, 60)
    assert line.ask("big", 1, 80) == Queued(1, 59)
    assert line.ask("small", 2, 20) == Queued(2, 58)
    assert line.ask("big", 9, 80) == Queued(1, 51)


def test_the_last_minute_being_empty_is_no_reason_to_overtake() -> None:
    line = Line(requests=1)
    line.pace = hold(line.pace, T0 + 5, T0)
    assert line.places("a", "b") == [1, 2]
    assert line.ask("b", 5) == Queued(2, GLANCE)
    assert line.may("a", 5)


def test_who_does_not_ask_again_loses_the_place() -> None:
    line = Line(streams=1)
    assert line.places("a", "b") == [0, 1]
    assert line.places("c", at=TICKET - 1) == [2]
    assert line.places("c", at=TICKET + 1) == [1]
    assert line.places("b", at=TICKET + 1) == [2]


def test_who_leaves_the_line_lets_the_others_move_up() -> None:
    line = Line(streams=1)
    assert line.places("a", "b", "c") == [0, 1, 2]
    line.pace = leave(line.pace, "b")
    assert line.places("c") == [1]


def test_a_crowd_waits_without_being_noted() -> None:
    line = Line(streams=1)
    places = line.places("a", *map(str, range(CROWD + 5)))
    assert places == [0, *range(1, CROWD + 1), *5 * [CROWD + 1]]
    assert len(line.pace.queue) == CROWD


# --- Requests and tokens a minute ---------------------------------------------------------------


def test_requests_a_minute() -> None:
    line = Line(requests=2)
    assert line.places("a", at=0) == [0]
    assert line.places("b", at=10) == [0]
    assert line.ask("c", 20) == Queued(1, 40)
    assert line.ask("d", 20) == Queued(2, 50)
    line.ends("a")  # what was spent stays spent
    assert line.places("c", "d", at=59) == [1, 2]
    assert line.places("c", "d", at=60) == [0, 1]


def test_tokens_a_minute() -> None:
    line = Line(tokens=100)
    assert line.may("a", 0, 60)
    assert line.may("b", 10, 40)
    assert line.ask("c", 20, 50) == Queued(1, 40)
    assert line.may("c", 60, 50)


def test_what_it_really_cost_counts() -> None:
    line = Line(tokens=100)
    assert line.may("a", 0, 90)
    line.cost("a", 30, 5)
    assert line.may("b", 6, 70)
    line.cost("b", 60, 7)
    assert [one.tokens for one in line.pace.recent] == [30, 60]
    assert line.ask("c", 7, 20) == Queued(1, 53)
    line.cost("a", 0, 65)  # too late
    assert [one.tokens for one in line.pace.recent] == [60]


def test_what_one_cost_is_taken_from_its_own_moment() -> None:
    line = Line()
    line.ask("a", 0, 90)
    line.ask("b", 0, 10)
    line.cost("b", 20, 1)
    assert [(one.requests, one.tokens) for one in line.pace.recent] == [(2, 110)]


def test_more_than_the_whole_limit_goes_when_the_minute_is_empty() -> None:
    line = Line(tokens=100)
    assert line.may("a", 0, 1)
    assert line.ask("huge", 1, 1000) == Queued(1, 59)
    assert line.may("huge", 60, 1000)
    assert line.ask("b", 61, 1) == Queued(1, 59)


def test_two_that_are_too_large_go_one_after_the_other() -> None:
    line = Line(tokens=100, streams=1)
    assert line.may("a", 0, 1)
    assert line.ask("one", 1, 1000) == Queued(1, 59)
    assert line.ask("two", 1, 1000) == Queued(2, 59)
    for at in range(9, 60, 9):
        line.ask("one", at, 1000)
        line.ask("two", at, 1000)
    line.ends("a", at=60)
    assert line.ask("two", 60, 1000) == Queued(2, GLANCE)
    assert line.may("one", 60, 1000)


def test_the_minute_stays_small() -> None:
    line = Line()
    for number in range(5000):
        line.ask(str(number), number / 50, 1)
        line.ends(str(number), at=number / 50)
    assert len(line.pace.recent) <= 242
    assert sum(one.requests for one in line.pace.recent) == pytest.approx(3000, abs=20)


# --- What the provider says ---------------------------------------------------------------------


def test_not_before() -> None:
    line = Line()
    line.pace = hold(line.pace, T0 + 30, T0)
    assert line.ask("a", 10) == Queued(1, 20)
    line.pace = hold(line.pace, T0 + 15, T0 + 10)  # an earlier one takes nothing back
    assert line.ask("a", 19) == Queued(1, 11)
    assert line.ask("a", 28) == Queued(1, 2)
    assert line.may("a", 30)


def test_not_before_is_believed_for_two_minutes() -> None:
    assert hold(Pace(), T0 + 4_294_967, T0).held_until == T0 + FARTHEST


def test_a_limit_that_was_taught() -> None:
    line = Line(requests=5)
    line.pace = taught(line.pace, Rates(requests=1, tokens=50), T0)
    assert line.may("a", 0, 30)
    assert line.ask("b", 1, 10) == Queued(1, 59)
    line.pace = taught(line.pace, Rates(requests=2), T0 + 1)
    assert line.ask("b", 1, 30) == Queued(1, 59)
    assert line.may("b", 1, 10)


def test_ours_holds_where_it_is_lower() -> None:
    line = Line(requests=1)
    line.pace = taught(line.pace, Rates(requests=500), T0)
    assert line.places("a", "b") == [0, 1]


def test_a_limit_of_nothing_is_none() -> None:
    line = Line()
    line.pace = taught(line.pace, Rates(requests=0, tokens=0), T0)
    assert line.may("a", 0, 1000)


def test_nothing_left() -> None:
    line = Line()
    line.pace = taught(line.pace, Rates(requests_left=0, requests_reset=20.0), T0)
    assert line.ask("a", 5) == Queued(1, 15)
    assert line.ask("a", 14) == Queued(1, 6)
    assert line.may("a", 20)
    assert line.pace.requests == Meter()


def test_what_is_left_is_shared() -> None:
    line = Line()
    said = Rates(requests_left=2, requests_reset=20.0, tokens_left=100, tokens_reset=30.0)
    line.pace = taught(line.pace, said, T0)
    assert line.may("a", 0, 80)
    assert line.ask("b", 0, 30) == Queued(1, 30)
    assert line.ask("c", 0, 0) == Queued(2, 30)
    line.pace = leave(line.pace, "b")
    assert line.may("c", 0, 20)
    assert (line.pace.requests.left, line.pace.tokens.left) == (0, 0)


def test_a_distant_reset_is_believed_for_two_minutes() -> None:
    line = Line()
    line.pace = taught(line.pace, Rates(requests_left=0, requests_reset=80_000.0), T0)
    assert line.ask("a") == Queued(1, FARTHEST)


def test_what_is_left_without_a_reset_says_nothing() -> None:
    assert taught(Pace(), Rates(requests_left=0), T0) == Pace()


def test_what_was_said_a_while_ago() -> None:
    said = Rates(requests_left=1, requests_reset=20.0, tokens_reset=5.0)
    assert said.after(8) == Rates(requests_left=1, requests_reset=12.0, tokens_reset=0.0)


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        ("6m0s", 360.0),
        ("1s", 1.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("24h0m0s", 86_400.0),
        (" 12 ", 12.0),
        ("0", 0.0),
        ("7.66", 7.66),
        (str(T0 + 30), 30.0),
        (str(int(T0 + 30) * 1000), 30.0),
        (str(T0 - 30), 0.0),
        ("25h", None),
        ("86401", None),
        (str(T0 + 100_000), None),
        ("", None),
        ("-1", None),
        ("-1s", None),
        ("nan", None),
        ("inf", None),
        ("1e5", None),
        ("soon", None),
        ("1x", None),
        ("1s, 2s", None),
        ("9" * 5000 + "s", None),
        ("٣s", None),
        ("999999999999999h", None),
    ],
)
def test_a_reset_as_providers_write_it(raw: str, seconds: float | None) -> None:
    said = rates({"x-ratelimit-reset-tokens": raw}, T0)
    got = said.tokens_reset if said else None
    assert got == (seconds if seconds is None else pytest.approx(seconds))


def test_the_headers_of_openai() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert rates(headers, T0) == Rates(60, 59, 1.0, 150_000, 149_984, 360.0)


@pytest.mark.parametrize("raw", ["", "-1", "many", "1e9", "9" * 400, "0x10", "nan", "1,000"])
def test_an_absurd_number_is_none(raw: str) -> None:
    names = ("limit-requests", "remaining-requests", "limit-tokens", "remaining-tokens")
    assert rates({f"x-ratelimit-{name}": raw for name in names}, T0) is None


def test_a_limit_of_zero_is_not_said_and_nothing_left_is() -> None:
    headers = {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0.0"}
    assert rates(headers, T0) == Rates(requests_left=0)
    assert rates({}, T0) is None


@given(
    st.dictionaries(
        st.sampled_from(
            [f"x-ratelimit-{a}-{b}" for a in ("limit", "reset") for b in ("requests", "tokens")]
        ),
        st.text(max_size=20) | st.from_regex(r"[0-9.]{1,18}(ms|s|m|h|d)?", fullmatch=True),
    )
)
def test_whatever_a_header_says_it_is_no_exception(headers: dict[str, str]) -> None:
    said = rates(headers, T0) or Rates()
    assert 0 <= (said.tokens_reset or 0) <= 86_400
    assert said.requests != 0


# --- Clocks -------------------------------------------------------------------------------------

moments = st.floats(T0 - 1e3, T0 + 1e3) | st.floats(-1e14, 1e14)
counts = st.integers(0, 10**9)
names = st.sampled_from("abc")
meters = st.builds(Meter, counts, st.none() | counts, moments)
paces = st.builds(
    Pace,
    st.lists(st.builds(Spend, moments, counts, counts), max_size=3).map(tuple),
    st.lists(st.builds(House, names, counts, moments), max_size=3).map(tuple),
    st.lists(st.builds(Waiting, names, moments, counts), max_size=3).map(tuple),
    moments,
    meters,
    meters,
)


@given(paces, st.floats(T0 - 1e3, T0 + 1e3), st.integers(0, 10**9))
def test_whatever_was_written_nobody_waits_for_ever(pace: Pace, now: float, tokens: int) -> None:
    limits = Limits(1, 1, 1)
    pace, said = ask(pace, "new", "h", tokens, now, limits)
    if isinstance(said, Queued):
        assert 0 < said.seconds <= FARTHEST + 1
        assert isinstance(ask(pace, "new", "h", tokens, now + FARTHEST + 2, limits)[1], Granted)


@pytest.mark.parametrize("jump", [-1e6, -1000.0, 1000.0, 1e6])
def test_a_clock_that_jumps_holds_nobody_up(jump: float) -> None:
    line = Line(requests=1, tokens=10, streams=1)
    line.ask("a", 0, 10)
    line.ask("b", 0, 10)
    line.pace = hold(line.pace, T0 + 60, T0)
    line.pace = taught(line.pace, Rates(requests_left=0, requests_reset=60.0), T0)
    assert line.may("c", jump, 10)


# --- As JSON ------------------------------------------------------------------------------------


@given(paces)
def test_what_is_written_is_read(pace: Pace) -> None:
    assert from_json(json.loads(json.dumps(as_json(pace)))) == pace


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(paces, st.sampled_from(sorted(as_json(Pace()))), junk)
def test_rubbish_is_no_exception(pace: Pace, name: str, obj: object) -> None:
    assert from_json(obj) == Pace()
    got = from_json({**as_json(pace), name: obj})
    ask(got, "w", "h", 1, T0, Limits(1, 1, 1))


# --- Against a model ----------------------------------------------------------------------------


@dataclass
class Sent:
    who: str
    at: float
    tokens: int
    granted: Granted


@dataclass
class Model:
    """All that was ever sent, and leases as plain times."""

    sent: list[Sent] = field(default_factory=list)
    houses: dict[str, tuple[int, float]] = field(default_factory=dict)  # streams, until
    queue: dict[str, tuple[float, int]] = field(default_factory=dict)  # in its order
    held: float = 0.0
    requests: tuple[int, int | None, float] = (0, None, 0.0)
    tokens: tuple[int, int | None, float] = (0, None, 0.0)

    def sweep(self, now: float) -> None:
        self.houses = {name: one for name, one in self.houses.items() if one[1] > now and one[0]}
        self.queue = {who: one for who, one in self.queue.items() if one[0] > now}

    @property
    def streams(self) -> int:
        return sum(streams for streams, _ in self.houses.values())

    def recent(self, now: float) -> list[Sent]:
        return [one for one in self.sent if now - one.at < 60]

    def room(self, who: str, tokens: int, now: float, limits: Limits) -> bool:
        """Whether all who came before and this one fit in, together."""
        before = []
        for other, (_, theirs) in self.queue.items():
            if other == who:
                break
            before.append(theirs)
        used = [one.tokens for one in self.recent(now)]
        return (
            now >= self.held
            and (not limits.streams or self.streams + len(before) < limits.streams)
            and fits(len(used) + len(before), 1, (limits.requests, self.requests[0]))
            and fits(sum(used) + sum(before), tokens, (limits.tokens, self.tokens[0]))
            and is_left(self.requests, len(before) + 1, now)
            and is_left(self.tokens, sum(before) + tokens, now)
        )


def fits(used: int, more: int, limits: tuple[int, int]) -> bool:
    return not used or all(not limit or used + more <= limit for limit in limits)


def is_left(meter: tuple[int, int | None, float], need: int, now: float) -> bool:
    _, left, reset = meter
    return left is None or now >= reset or need <= left


def less(meter: tuple[int, int | None, float], amount: int) -> tuple[int, int | None, float]:
    limit, left, reset = meter
    return limit, None if left is None else max(0, left - amount), reset


class Machine(RuleBasedStateMachine):
    """Times are quarters of a second, so that sums of them are exact. The value goes through JSON
    at each step."""

    whos = st.sampled_from("abcdefgh")
    sizes = st.integers(0, 60) | st.sampled_from([100, 150])
    few = st.none() | st.integers(0, 4)
    some = st.none() | st.integers(0, 120)
    resets = st.none() | st.sampled_from([0.0, 2.5, 20.0, 70.0, 500.0])

    @initialize(
        requests=st.sampled_from([0, 1, 3, 6]),
        tokens=st.sampled_from([0, 100]),
        streams=st.sampled_from([0, 1, 2, 4]),
    )
    def start(self, requests: int, tokens: int, streams: int) -> None:
        self.limits = Limits(requests, tokens, streams)
        self.model = Model()
        self.pace = Pace()
        self.now = T0

    def put(self, pace: Pace) -> None:
        self.pace = from_json(json.loads(json.dumps(as_json(pace))))

    @rule(quarters=st.integers(1, 12) | st.sampled_from([36, 40, 80, 239, 240, 480]))
    def wait(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(who=whos, tokens=sizes)
    def ask(self, who: str, tokens: int) -> None:
        model, now, house = self.model, self.now, self.house(who)
        model.sweep(now)
        pace, said = ask(self.pace, who, house, tokens, now, self.limits)
        if model.room(who, tokens, now, self.limits):
            assert isinstance(said, Granted)
            model.queue.pop(who, None)
            model.houses[house] = (model.houses.get(house, (0, 0))[0] + 1, now + STREAM)
            model.sent.append(Sent(who, now, tokens, said))
            model.requests, model.tokens = less(model.requests, 1), less(model.tokens, tokens)
        else:
            model.queue[who] = (now + TICKET, tokens)
            assert isinstance(said, Queued)
            assert said.position == list(model.queue).index(who) + 1
            self.worth(pace, who, tokens, said)
        self.put(pace)

    @staticmethod
    def house(who: str) -> str:
        return "even" if ord(who) % 2 == 0 else "odd"

    def worth(self, pace: Pace, who: str, tokens: int, said: Queued) -> None:
        """The estimate is kept, but for streams that do not end."""
        assert 0 < said.seconds <= FARTHEST
        full = self.limits.streams and self.model.streams >= self.limits.streams
        if said.position == 1 and not full:
            later = self.now + said.seconds
            assert isinstance(ask(pace, who, "h", tokens, later, self.limits)[1], Granted)
            if said.seconds > 0.25:
                sooner = ask(pace, who, "h", tokens, later - 0.25, self.limits)[1]
                assert isinstance(sooner, Queued)

    @rule(house=st.sampled_from(["even", "odd"]), less=st.integers(0, 2))
    def holds(self, house: str, less: int) -> None:
        """So many of its streams end; by none it is a sign of life."""
        self.model.sweep(self.now)
        pace, streams = swept(self.pace, self.now), 0
        if house in self.model.houses:
            before, until = self.model.houses[house]
            streams = max(0, before - less)
            new = self.now + STREAM if streams != before or until < self.now + FRESH else until
            self.model.houses[house] = (streams, new)
        self.put(holds(pace, house, streams, self.now))

    @rule(who=whos)
    def leave(self, who: str) -> None:
        self.model.queue.pop(who, None)
        self.put(leave(self.pace, who))

    @rule(number=st.integers(0, 5), tokens=sizes)
    def spent(self, number: int, tokens: int) -> None:
        recent = self.model.recent(self.now)
        if number < len(recent):
            one = recent[number]
            self.put(spent(self.pace, one.granted, tokens, self.now))
            one.tokens, one.granted = tokens, one.granted._replace(tokens=tokens)

    @rule(seconds=st.sampled_from([-5.0, 0.0, 10.0, 100.0, 119.5, 1000.0]))
    def hold(self, seconds: float) -> None:
        until = min(self.now + seconds, self.now + FARTHEST)
        self.model.held = max(self.model.held, until)
        self.put(hold(self.pace, self.now + seconds, self.now))

    @rule(limits=st.tuples(few, some), lefts=st.tuples(few, some), resets=st.tuples(resets, resets))
    def taught(
        self,
        limits: tuple[int | None, int | None],
        lefts: tuple[int | None, int | None],
        resets: tuple[float | None, float | None],
    ) -> None:
        said = Rates(limits[0], lefts[0], resets[0], limits[1], lefts[1], resets[1])
        for name, limit, left, reset in zip(
            ("requests", "tokens"), limits, lefts, resets, strict=True
        ):
            old = getattr(self.model, name)
            new = (limit or old[0], *old[1:])
            if left is not None and reset is not None:
                new = (new[0], left, self.now + min(reset, FARTHEST))
            setattr(self.model, name, new)
        self.put(taught(self.pace, said, self.now))

    @invariant()
    def within_the_limits(self) -> None:
        """What was sent, looked at from outside."""
        self.model.sweep(self.now)
        pace = swept(self.pace, self.now)
        if self.limits.streams:
            assert pace.streams <= self.limits.streams
        if self.limits.requests:
            assert len(self.model.recent(self.now)) <= self.limits.requests
        assert {one.name: (one.streams, one.until) for one in pace.houses} == self.model.houses
        assert [one.who for one in pace.queue] == list(self.model.queue)
        assert sum(one.tokens for one in pace.recent) == sum(
            one.tokens for one in self.model.recent(self.now)
        )

    @invariant()
    def the_first_gets_in_in_time(self) -> None:
        first = next((one.who for one in swept(self.pace, self.now).queue), "new")
        later = self.now + max(FARTHEST, STREAM) + 1
        limits = self.limits._replace(tokens=5)
        assert isinstance(ask(self.pace, first, "h", 10, later, limits)[1], Granted)


Machine.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=50)
TestMachine = Machine.TestCase
