"""The sums are those of a recount, whatever came; and what is asked of them."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holychat.core.chat import Finish, Timings, Tried, Turn, Usage
from holychat.core.failure import Failure, Kind
from holychat.core.formats import Exchange, Figures, decoded, document, record, wholes
from holychat.core.limits import Spent
from holychat.core.migrate import percentile
from holychat.core.tally import Histogram, Pace, Period, Tally, Unpriced, total
from holychat.core.tokens import estimate
from holychat.store import budget, conversations, migration, rollup, tally, turns
from holychat.store import db as db_module
from holychat.store.db import Database
from holychat.store.schema import MIGRATIONS
from holychat.store.transfer import dump, restore
from tests.store.sums import deleted, pace, totals
from tests.store.test_turns import kill
from tests.wholes import WHOLE

ABOUT: dict[str, Any] = {"provider": "p", "model": "m", "system": "", "params": {}}
MINUTE = 60_000


@pytest.fixture(autouse=True, scope="module")
def berlin() -> Iterator[None]:
    """Where clocks change: 2026-03-29 and 2026-10-25, at 01:00 UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        yield db


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Paths of stores that are not there yet."""
    folder = tmp_path_factory.mktemp("stores")
    return (str(folder / f"{number}.db") for number in itertools.count())


def utc(text: str) -> int:
    """Milliseconds of a moment in UTC."""
    from calendar import timegm

    return timegm(time.strptime(text, "%Y-%m-%d %H:%M")) * 1000


def said(db: Database, *attempts: Tried, at: int, conversation: str = "", **more: Any) -> str:
    """A turn with these attempts; the id of its conversation."""
    begun = turns.begin(db, "w", conversation, "q", None, at=at, **(ABOUT | more))
    last = attempts[-1]
    turn = Turn("a", "", last.finish, last.provider, last.model, last.usage, attempts=attempts)
    turns.close(db, begun, turn, at=at)
    return begun.conversation


def answer(cost: int | None = 5, provider: str = "p", model: str = "m", **more: Any) -> Tried:
    usage = Usage(10, 20, 4, 3, cost=cost)
    return Tried(provider, model, Finish.STOP, usage=usage, **more)


# --- The recount ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """A turn as hypothesis makes it. `goes_on` is /continue; `copies` run beside it."""

    conversation: int
    at: int
    attempts: tuple[Tried, ...]
    goes_on: bool
    copies: tuple[Tried, ...]


MOMENTS = st.sampled_from(
    ["2026-03-28 22:59", "2026-03-29 00:45", "2026-10-25 00:10", "2026-10-25 22:40"]
).map(utc)
SECONDS = st.none() | st.floats(min_value=0.0, max_value=5000.0)
USAGES = st.none() | st.builds(
    Usage,
    st.integers(0, 5000),
    st.integers(0, 900),
    st.integers(0, 900),
    st.integers(0, 90),
    st.booleans(),
    st.none() | st.integers(0, 10**13),
)
FAILURES = st.none() | st.sampled_from(
    [Kind.SERVER, Kind.OUTRUN, Kind.PASSED, Kind.CUT, Kind.LIMIT]
).map(lambda kind: Failure(kind, "it went wrong"))
FINISHES = st.sampled_from(Finish)


def tried(role: st.SearchStrategy[str]) -> st.SearchStrategy[Tried]:
    return st.builds(
        Tried,
        st.sampled_from(["a", "b"]),
        st.sampled_from(["m", "n", ""]),
        FINISHES,
        st.just(0),
        st.floats(0, 4000),
        USAGES,
        st.builds(Timings, st.none(), SECONDS, st.floats(min_value=0.0, max_value=5000.0)),
        FAILURES,
        role,
    )


SAID = st.builds(
    Said,
    st.integers(0, 2),
    st.builds(int.__add__, MOMENTS, st.integers(0, 90 * MINUTE)),
    st.lists(tried(st.sampled_from(["", "", "hedge"])), max_size=4).map(tuple),
    st.booleans(),
    st.lists(tried(st.just("shadow")), max_size=1).map(tuple),
)

_STOPPED = (Kind.OUTRUN, Kind.PASSED, Kind.IGNORED)


def ended(one: Tried) -> str:
    if one.finish is Finish.INTERRUPTED or (one.failure and one.failure.kind in _STOPPED):
        return "interrupted"
    if one.finish is Finish.FAILED:
        return "failed"
    return "cut" if one.finish in (Finish.CUT, Finish.OVERLOADED) else "answers"


def counts(one: Tried, before: Tried | None) -> Tally:
    """How an attempt counts, said once more in other words."""
    used = one.usage or Usage()
    priced = one.usage is not None and used.cost is not None
    free = int(not priced and used.prompt + used.completion > 0)
    first, whole = one.timings.first, one.timings.total
    streams = (
        first is not None and ended(one) != "failed" and used.completion > 0 and first < 0.9 * whole
    )
    return Tally(
        **{"calls": 1, ended(one): 1},
        retries=int(before is not None and before.provider == one.provider),
        failovers=int(before is not None and before.provider != one.provider),
        hedges=int(one.role == "hedge"),
        copies=int(one.role == "shadow"),
        prompt=used.prompt,
        cached=used.cached,
        completion=used.completion,
        reasoning=used.reasoning,
        estimated=int(used.estimated),
        cost=used.cost or 0,
        priced=int(priced),
        unpriced=free,
        unpriced_prompt=free * used.prompt,
        unpriced_cached=free * used.cached,
        unpriced_completion=free * used.completion,
        made=used.completion if streams else 0,
        made_ms=math.floor((whole - first) * 1000 + 0.5) if streams and first is not None else 0,
    )


class Recount:
    """What should be in the tables, counted from what was said."""

    def __init__(self) -> None:
        self.tally: dict[tuple[str, str, str, int], Tally] = defaultdict(Tally)
        self.spent: dict[tuple[str, str], Tally] = defaultdict(Tally)
        self.first: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.total: dict[tuple[str, str], list[float]] = defaultdict(list)

    def turn(self, conversation: str, at: int, attempts: tuple[Tried, ...]) -> None:
        before: Tried | None = None
        for one in attempts:
            self.attempt(conversation, at + round(one.started * 1000), one, before)
            before = before if one.role else one

    def attempt(self, conversation: str, at: int, one: Tried, before: Tried | None) -> None:
        if not one.model and (
            one.finish is Finish.FAILED or (one.finish is Finish.INTERRUPTED and not one.usage)
        ):
            return  # it was never sent
        if one.failure and one.failure.kind is Kind.LIMIT:
            return  # nor was this
        day = time.strftime("%Y-%m-%d", time.localtime(at / 1000))
        slot = int(time.strftime("%H", time.gmtime(at / 1000))) * 2
        slot += int(time.strftime("%M", time.gmtime(at / 1000))) // 30
        counted = counts(one, None if one.role else before)
        place = (day, one.provider, one.model, slot)
        self.tally[place] = self.tally[place].plus(counted)
        self.spent[conversation, day] = self.spent[conversation, day].plus(counted)
        if one.timings.first is not None:
            self.first[one.provider, one.model].append(one.timings.first)
        if ended(one) == "answers":
            self.total[one.provider, one.model].append(one.timings.total)


def sums(db: Database) -> list[list[tuple[Any, ...]]]:
    """The tables that are kept up to date."""
    return [
        sorted(tuple(row) for row in db.rows(f"SELECT * FROM {name}"))
        for name in ("tally", "pace", "spent")
    ]


def made_anew(db: Database) -> list[list[tuple[Any, ...]]]:
    """The same, as the migration makes them out of the attempts of an old store."""
    with db.write():
        for name in ("tally", "pace", "spent"):
            db.run(f"DELETE FROM {name}")
            for statement in MIGRATIONS[2]:
                if statement.split()[:3] == ["INSERT", "INTO", name]:
                    db.run(statement)
    return sums(db)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SAID, max_size=6))
def test_the_sums_are_those_of_a_recount(fresh: Iterator[str], all_: list[Said]) -> None:
    recount = Recount()
    with closing(Database(next(fresh))) as db:
        ids: dict[int, str] = {}
        answers: dict[int, int | None] = {}
        for each in all_:
            known = ids.get(each.conversation, "")
            onto = answers.get(each.conversation) if each.goes_on else None
            begun = turns.begin(db, "w", known, "q", None, onto=onto, at=each.at, **ABOUT)
            turn = Turn("text", "", Finish.STOP, "p", "m", attempts=each.attempts)
            answers[each.conversation] = turns.close(db, begun, turn, at=each.at)
            ids[each.conversation] = begun.conversation
            recount.turn(begun.conversation, each.at, each.attempts)
            for copy in each.copies:  # it begins now; the sums do not depend on when else
                with db.write():
                    turns.attempt(db, begun, len(each.attempts) + 1, copy)
                began = each.at + round(copy.started * 1000)
                recount.attempt(begun.conversation, began, copy, None)
        found = {tuple(row)[:4]: Tally(*tuple(row)[4:]) for row in db.rows("SELECT * FROM tally")}
        assert found == recount.tally
        assert totals(db, Period()) == total(recount.tally.values())
        for identity in ids.values():
            mine = total(each for (name, _), each in recount.spent.items() if name == identity)
            assert tally.spent(db, conversation=identity)[:3] == spent_of(mine)[:3]
            kept = {name: getattr(mine, name) for name in rollup.SPENT}
            assert tally.conversation(db, identity) == Tally(**kept)
        paces = tally.paces(db, Period())
        for pair in {*recount.first, *recount.total}:
            check_pace(paces[pair], recount.first[pair], recount.total[pair])
        assert deleted(db) == 0
        before = sums(db)
        assert made_anew(db) == before


def spent_of(counted: Tally) -> Spent:
    return Spent(counted.cost, counted.tokens, counted.unpriced)


def check_pace(found: Pace, first: list[float], whole: list[float]) -> None:
    for histogram, times in ((found.first, first), (found.total, whole)):
        assert histogram.count == len(times)
        for share in (0.5, 0.95, 0.99):
            exact = percentile(sorted(times), share)
            if exact is not None and 0.001 <= exact <= 3600:
                assert histogram.percentile(share) == pytest.approx(exact, rel=0.025)


# --- Days -----------------------------------------------------------------------------------------


def test_a_day_is_the_one_on_the_wall_and_a_slot_is_utc(db: Database) -> None:
    # Midnight in Berlin is 23:00 UTC in winter and 22:00 in summer.
    said(db, answer(), at=utc("2026-03-28 22:59"))
    said(db, answer(), at=utc("2026-03-28 23:00"))
    said(db, answer(), at=utc("2026-03-29 21:59"))
    said(db, answer(), at=utc("2026-03-29 22:00"))
    rows = db.rows("SELECT day, slot, calls FROM tally ORDER BY day, slot")
    assert [tuple(row) for row in rows] == [
        ("2026-03-28", 45, 1), ("2026-03-29", 43, 1), ("2026-03-29", 46, 1), ("2026-03-30", 44, 1),
    ]  # fmt: skip


def test_an_attempt_after_midnight_is_of_its_own_day(db: Database) -> None:
    before, after = answer(), answer(started=120.0)
    said(db, before, after, at=utc("2026-06-01 21:59"))
    assert [(each.day, each.tally.retries) for each in tally.entries(db, Period())] == [
        ("2026-06-01", 0), ("2026-06-02", 1),
    ]  # fmt: skip


def test_hours_are_those_on_the_wall(db: Database) -> None:
    for moment in ("2026-01-05 08:10", "2026-06-05 07:40", "2026-06-05 22:10"):
        said(db, answer(), at=utc(moment))
    hours = {group.key: group.tally.calls for group in tally.hours(db, Period())}
    assert hours == {"09": 2, "00": 1}


@pytest.mark.parametrize("at", [-(2**63), -1, 0, 2**63 - 1])
def test_a_time_that_is_none_still_counts(db: Database, at: int) -> None:
    said(db, answer(), at=at)
    assert totals(db, Period()).calls == 1
    tally.hours(db, Period())


def test_figures_that_cannot_be_true_are_bounded(db: Database) -> None:
    wild = Usage(2**62, 2**62, 2**70, -5, cost=2**63 - 1)
    for _ in range(20):
        said(db, replace(answer(), usage=wild, timings=Timings(0.0, 0.1, math.inf)), at=MINUTE)
    found = totals(db, Period())
    assert (found.prompt, found.cached, found.reasoning) == (20 * 10**9, 20 * 10**9, 0)
    assert found.cost == 20 * 10**16


# --- What is asked --------------------------------------------------------------------------------


def test_a_period_a_provider_and_a_model(db: Database) -> None:
    for day in range(1, 6):
        said(db, answer(day, "a", "m"), answer(10 * day, "b", "n"), at=utc(f"2026-06-0{day} 12:00"))
    for period, cost in [
        (Period(), 165),
        (Period(since="2026-06-04"), 99),
        (Period(until="2026-06-01"), 11),
        (Period("2026-06-02", "2026-06-03"), 55),
        (Period(provider="a"), 15),
        (Period(model="n"), 150),
        (Period("2026-06-02", "2026-06-03", "a", "m"), 5),
        (Period(provider="a", model="n"), 0),
        (Period(since="2027-01-01"), 0),
    ]:
        assert totals(db, period).cost == cost
        assert total(group.tally for group in tally.hours(db, period)).cost == cost
        assert tally.kept(db, period).cost == cost
        assert total(each.tally for each in tally.recorded(db, period)).cost == cost
        count = totals(db, period).calls
        assert pace(db, period).total.count == count


def test_what_is_to_be_priced_anew(db: Database) -> None:
    said(db, answer(None), answer(7), at=utc("2026-06-01 16:40"))
    (found,) = tally.recorded(db, Period())
    assert (found.provider, found.model, found.slot) == ("p", "m", 33)
    assert (found.tally.prompt, found.tally.unpriced_prompt, found.tally.cost) == (20, 10, 7)


def test_what_has_no_price_is_kept_by_conversation(db: Database) -> None:
    at = utc("2026-06-01 12:00")
    one = said(db, answer(None), answer(7), at=at)
    other = said(db, answer(None, "b"), at=at)
    mine = Unpriced("2026-06-01", "p", "m", None, 1, 10, 4, 20)
    its = Unpriced("2026-06-01", "b", "m", None, 1, 10, 4, 20)
    assert tally.unpriced_of(db, Period()) == [its, mine]
    assert tally.unpriced_of(db, Period(), one) == [mine]
    assert tally.unpriced_of(db, Period(provider="b")) == [its]
    assert tally.unpriced_of(db, Period(until="2026-05-31")) == []
    assert tally.top(db, Period(), [], 2) == [one, other]  # 7 against nothing
    # 6 tokens at 1, 4 cached ones at 0 and 20 of the answer at 2 are 46 more.
    rates = [("2026-06-01", "b", "m", 1, 0, 2)]
    assert tally.top(db, Period(), rates, 1) == [other]
    assert tally.top(db, Period(provider="p"), rates, 2) == [one]


def test_what_was_spent_stays_spent(db: Database) -> None:
    at = utc("2026-06-01 12:00")
    timed = Timings(0.1, 0.2, 0.3)
    ids = [said(db, replace(answer(), timings=timed), at=at) for _ in range(3)]
    before = (totals(db, Period()), pace(db, Period()))
    conversations.delete(db, ids[:1])
    conversations.prune(db, at + 1)
    assert db.rows("SELECT * FROM attempts") == db.rows("SELECT * FROM spent") == []
    assert (totals(db, Period()), pace(db, Period())) == before
    assert before[1] == Pace(*(sum([Histogram().plus(t)] * 3, Histogram()) for t in (0.2, 0.3)))
    assert tally.spent(db, day="2026-06-01") == Spent(15, 90)
    assert tally.spent(db, month="2026-06") == Spent(15, 90)
    assert tally.spent(db, month="2026-05") == Spent()


def test_copies_of_the_shadow_count(db: Database) -> None:
    said(db, answer(), at=utc("2026-06-01 12:00"), fresh="talk")
    copy = replace(answer(7, "b"), role="shadow")
    migration.keep_shadow(db, "talk", copy, None)
    found = totals(db, Period(provider="b"))
    assert (found.calls, found.copies, found.cost, found.retries, found.failovers) == (
        1,
        1,
        7,
        0,
        0,
    )
    assert tally.spent(db, conversation="talk").cost == 12


def test_a_fork_costs_nothing(db: Database) -> None:
    identity = said(db, answer(), at=MINUTE)
    old = conversations.get(db, identity)
    fork = conversations.fork(db, old, old.head)
    assert tally.spent(db, conversation=fork.id) == Spent()
    assert totals(db, Period()).cost == 5


def test_the_cost_of_a_turn_comes_back(db: Database) -> None:
    begun = turns.begin(db, "w", "", "q", None, **ABOUT)
    used = Usage(3, 4, cost=9, unpriced=True)
    turns.close(db, begun, Turn("a", "", Finish.STOP, "p", "m", used))
    kept = conversations.branch(db, conversations.get(db, begun.conversation))[-1].turn
    assert kept is not None
    assert kept.usage == used


# --- What is brought in ---------------------------------------------------------------------------


def test_what_is_brought_in_counts_once(db: Database, tmp_path: Path) -> None:
    at = utc("2026-06-01 12:00")
    identity = said(db, answer(), answer(started=60.0), at=at)
    whole = dump(db, identity)
    with closing(Database(str(tmp_path / "other.db"))) as other:
        for _ in range(3):
            restore(other, whole)
        found = totals(other, Period("2026-06-01", "2026-06-01"))
        assert (found.calls, found.retries, found.prompt) == (2, 1, 20)
        conversations.delete(other, [identity])
        restore(other, whole)  # once more, after it was removed
        assert totals(other, Period()) == found
        assert deleted(other) == 0
        assert tally.spent(other, conversation=identity).tokens == found.tokens
        assert pace(other, Period()).total.count == 2


def test_another_state_of_what_is_here_does_not_count_twice(db: Database, tmp_path: Path) -> None:
    at = utc("2026-06-01 12:00")
    identity = said(db, answer(), at=at)
    earlier = dump(db, identity)
    said(db, answer(), at=at + MINUTE, conversation=identity)
    before = totals(db, Period())
    restored = restore(db, earlier)
    assert restored.renamed
    assert totals(db, Period()) == before
    assert tally.spent(db, conversation=restored.id) == Spent()
    with closing(Database(str(tmp_path / "other.db"))) as other:  # and what came since does
        restore(other, earlier)
        conversations.delete(other, [identity])
        restore(other, dump(db, identity))
        assert totals(other, Period()).calls == 2


def test_what_another_program_answered_counts_and_is_brought_out_as_it_came(db: Database) -> None:
    at = utc("2024-02-29 12:00")
    figures = Figures(at, "stop", "llm", "gpt-4o", prompt_tokens=30, completion_tokens=40, total=2)
    whole = replace(WHOLE, exchanges=(Exchange(1, 2, figures), Exchange(3, 4, Figures(at, "stop"))))
    restored = restore(db, whole)
    assert [(each.day, each.pair) for each in tally.entries(db, Period())] == [
        ("2024-02-29", "llm/gpt-4o")
    ]
    found = totals(db, Period())
    assert (found.calls, found.tokens, found.unpriced, found.known_cost) == (1, 70, 1, None)
    assert record(dump(db, restored.id)) == record(whole)
    assert restore(db, whole) == (restored.id, False, False)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SAID, max_size=4))
def test_what_is_brought_in_counts_as_it_did(fresh: Iterator[str], all_: list[Said]) -> None:
    with closing(Database(next(fresh))) as db, closing(Database(next(fresh))) as other:
        ids: dict[int, str] = {}
        for each in all_:
            begun = turns.begin(
                db, "w", ids.get(each.conversation, ""), "q", None, at=each.at, **ABOUT
            )
            turn = Turn("text", "", Finish.STOP, "p", "m", attempts=each.attempts)
            turns.close(db, begun, turn, at=each.at)
            ids[each.conversation] = begun.conversation
            for copy in each.copies:
                with db.write():
                    turns.attempt(db, begun, len(each.attempts) + 1, copy)
        text = "".join(document(dump(db, each) for each in ids.values()))
        for _ in range(2):
            for whole in wholes(decoded(text.encode(), "file"), "file"):
                restore(other, whole)
        assert sums(other) == sums(db)
        assert text == "".join(document(dump(other, each) for each in ids.values()))
        assert made_anew(other) == sums(db)


# --- The dead -------------------------------------------------------------------------------------


def test_what_a_dead_writer_used_is_estimated(db: Database) -> None:
    at = utc("2026-06-01 12:00")
    writer = turns.enlist(db)
    about = ABOUT | {"system": "Be brief. " * 10}
    begun = turns.begin(db, writer, "", "first " * 10, None, at=at, **about)
    parent = turns.close(db, begun, Turn("answer " * 10, "", Finish.STOP, "p", "m"), at=at)
    begun = turns.begin(db, writer, begun.conversation, "q " * 10, parent, at=at, **about)
    assert budget.reserve(db, begun.turn, [], cost=50, tokens=60, at=at).levels == ()
    assert tally.spent(db, day="2026-06-01") == Spent(0, 0, 0, 50, 60)
    turns.journal(db, writer, [(begun.turn, 0, "half of it " * 5, "hm " * 5)])
    kill(db, writer)
    assert tally.spent(db, day="2026-06-01") == Spent()
    turns.bury(db)
    texts = ["first " * 10, "answer " * 10, "q " * 10, "Be brief. " * 10]
    found = totals(db, Period("2026-06-01", "2026-06-01"))
    assert found.prompt == sum(estimate(text) for text in texts)
    assert found.completion == estimate("half of it " * 5 + "hm " * 5)
    assert (found.calls, found.interrupted, found.estimated, found.unpriced) == (1, 1, 1, 1)
    assert found.error_rate is None
    kept = conversations.branch(db, conversations.get(db, begun.conversation))[-1].turn
    assert kept is not None
    assert kept.usage == Usage(found.prompt, found.completion, estimated=True)
    assert dict(db.rows("SELECT reserved, reserved_tokens FROM turns ORDER BY id DESC")[0]) == {
        "reserved": 0, "reserved_tokens": 0,
    }  # fmt: skip


def test_a_dead_continuation_had_sent_what_it_goes_on_with(db: Database) -> None:
    writer = turns.enlist(db)
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    text = "It is a zebra " * 10
    onto = turns.close(db, begun, Turn(text, "", Finish.CUT, "p", "m"))
    turns.begin(db, writer, begun.conversation, "q", None, onto=onto, **ABOUT)
    kill(db, writer)
    turns.bury(db)
    found = totals(db, Period())
    assert (found.prompt, found.completion) == (estimate("q") + estimate(text), 0)


# --- An old store ---------------------------------------------------------------------------------


def test_an_old_store_is_counted_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "s.db")
    at = utc("2026-06-01 12:00")
    monkeypatch.setattr(db_module, "MIGRATIONS", MIGRATIONS[:2])
    with closing(Database(path)) as old, old.write():
        old.run("INSERT INTO conversations (id, created, updated) VALUES ('c', 1, 1)")
        for number in (1, 2, 3):  # with attempts; of another program; that failed before it began
            tokens = 7 if number == 2 else None
            old.run(
                "INSERT INTO turns (conversation, prompt, started, finish, provider, model,"
                " prompt_tokens, completion_tokens) VALUES ('c', 1, ?, 'stop', 'p', 'm', ?, ?)",
                (at, tokens, tokens),
            )
        for number, finish in ((1, "failed"), (2, "stop")):
            old.run(
                "INSERT INTO attempts (turn, provider, model, started, finish, number,"
                " prompt_tokens, completion_tokens, first, total)"
                " VALUES (1, 'p', 'm', ?, ?, ?, 10, 20, 0.5, 2.5)",
                (at, finish, number),
            )
    monkeypatch.undo()
    with closing(Database(path)) as db:
        found = totals(db, Period("2026-06-01", "2026-06-01"))
        assert (found.calls, found.answers, found.failed, found.retries) == (3, 2, 1, 1)
        assert (found.tokens, found.unpriced, found.unpriced_prompt) == (74, 3, 27)
        assert (found.made, found.made_ms) == (20, 2000)
        paces = pace(db, Period())
        assert (paces.first.count, paces.total.count) == (2, 1)
        assert tally.spent(db, conversation="c") == Spent(0, 74, 3)
        assert db.check() == []


def test_the_names_of_the_sums_are_those_of_a_tally() -> None:
    assert tuple(rollup._NAMES) == Tally._fields
