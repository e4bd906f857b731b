"""The migration in a real file: one of two processes advances it, and what the attempts say."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from holychat.core import migrate as rules
from holychat.core.chat import Finish, Timings, Tried, Turn
from holychat.core.chat import Usage as Tokens
from holychat.core.failure import Failure, Kind, SettingsError, StoreTrouble, UsageError
from holychat.core.migrate import BACK, LOOKBACK, SHADOW, Compared, Terms
from holychat.store import facts, migration, turns
from holychat.store.conversations import delete
from holychat.store.db import Database
from holychat.store.ids import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TERMS = Terms(sample=5, errors=0.02, look=60.0)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s.db")


@pytest.fixture
def db(path: str) -> Iterator[Database]:
    made = Database(path)
    yield made
    made.close()


def answer(
    db: Database, provider: str, *, bad: bool = False, at: int | None = None, fresh: str = ""
) -> None:
    """One turn with one attempt."""
    begun = turns.begin(
        db, "w", "", "hi", None, provider=provider, model="m", system="", params={}, at=at,
        fresh=fresh,
    )  # fmt: skip
    failure = Failure(Kind.SERVER, f"{provider} is down") if bad else None
    finish = Finish.FAILED if bad else Finish.STOP
    usage = None if bad else Tokens(10, 20)
    timings = Timings(0.1, None if bad else 0.2, 1.0)
    tried = Tried(provider, "m", finish, usage=usage, timings=timings, failure=failure)
    turn = Turn("" if bad else "hello", "", finish, provider, "m", usage, timings, failure)
    turns.close(db, begun, replace(turn, attempts=(tried,)), at=at)


def running(db: Database, stage: str, shadow: float = 0.0) -> rules.Migration:
    state = replace(rules.started("a", "b", shadow, now() - 1000), stage=stage)
    migration.begin(db, state)
    return state


# --- The state ------------------------------------------------------------------------------------


def test_a_new_one_takes_the_place_of_one_that_ended(db: Database) -> None:
    assert migration.load(db) is None
    state = running(db, "10")
    assert migration.load(db) == state
    with pytest.raises(UsageError, match="from a to b is going on"):
        migration.begin(db, state)
    migration.change(
        db, state.revision, lambda each: rules.rolled_back(each, "", Compared(), 5, said="")
    )
    migration.begin(db, rules.started("c", "d", 0.0, 6))
    found = migration.load(db)
    assert found is not None
    assert found.old == "c"


def test_two_processes_cannot_both_advance_it(path: str, db: Database) -> None:
    seen = running(db, "10")
    gate, ended = threading.Barrier(8), []

    def step() -> None:
        mine = Database(path)
        gate.wait()
        try:
            migration.change(
                mine,
                seen.revision,
                lambda state: rules.advanced(state, Compared(), TERMS, 9, said="", force=True),
            )
            ended.append("moved")
        except UsageError as error:
            ended.append(error.what)
        finally:
            mine.close()

    threads = [threading.Thread(target=step) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = migration.load(db)
    assert after is not None
    assert (after.stage, after.revision) == ("25", seen.revision + 1)
    assert sorted(ended) == [*["another holychat has moved the migration meanwhile"] * 7, "moved"]


def test_a_step_that_is_refused_changes_nothing(db: Database) -> None:
    seen = running(db, "10")
    with pytest.raises(UsageError, match="not passed yet"):
        migration.change(
            db, seen.revision, lambda each: rules.advanced(each, Compared(), TERMS, 9, said="")
        )
    assert migration.load(db) == seen


@pytest.mark.parametrize("value", ["", "{", "[]", '{"version": 99}', "[" * 100_000])
def test_what_cannot_be_read_is_not_steered_by(db: Database, value: str) -> None:
    facts.update(db, migration.NAME, lambda _: (value, None))
    for each in (
        lambda: migration.load(db),
        lambda: migration.look(db, TERMS, ""),
        lambda: migration.begin(db, rules.started("a", "b", 0.0, 0)),
    ):
        with pytest.raises(SettingsError, match="cannot be read"):
            each()
    assert facts.get(db, migration.NAME) == value


def test_a_fact_is_changed_within_one_transaction(db: Database) -> None:
    def fails(_: str | None) -> tuple[str, None]:
        db.run("INSERT INTO facts VALUES ('beside', 'x')")
        raise StoreTrouble("no")

    with pytest.raises(StoreTrouble):
        facts.update(db, "x", fails)
    assert facts.get(db, "beside") is None
    assert facts.update(db, "x", lambda each: ("1", each)) is None
    assert facts.update(db, "x", lambda each: (None, each)) == "1"
    assert facts.get(db, "x") is None


# --- Figures --------------------------------------------------------------------------------------


def test_both_are_compared_over_the_stage(db: Database) -> None:
    state = running(db, "10")
    before = state.since - 1000
    for _ in range(6):
        answer(db, "b", at=before, bad=True)  # of a stage before
        answer(db, "a")
    for bad in (False, True, False):
        answer(db, "b", bad=bad)
    found = migration.compare(db, state, TERMS)
    assert (found.old.count, found.old.failed, found.earlier) == (6, 0, False)
    assert (found.new.count, found.new.failed, found.new.first50) == (3, 1, 0.2)
    assert found.new.tokens == 20
    assert migration.compare(db, state, TERMS, 2).new.count == 2


def test_where_the_old_one_has_little_left_its_last_month_counts(db: Database) -> None:
    state = running(db, "100")
    answer(db, "a")
    for _ in range(7):
        answer(db, "a", at=state.since - 1000)
    answer(db, "a", at=now() - LOOKBACK - 1000)
    found = migration.compare(db, state, TERMS)
    assert (found.old.count, found.earlier) == (8, True)


# --- The look at the errors -----------------------------------------------------------------------


def test_a_provider_that_fails_is_rolled_back_once(db: Database) -> None:
    state = running(db, "25")
    for _ in range(5):
        answer(db, "a")
        answer(db, "b", bad=True)
    after, why = migration.look(db, TERMS, "said")
    assert after is not None
    assert why == "100.0 % of 5 calls failed at b, 0.0 % of 5 at a"
    assert (after.stage, after.said, after.entries[-1].what) == (BACK, "said", "automatic rollback")
    assert after.entries[-1].compared.new.failed == 5
    assert migration.look(db, TERMS, "said") == (after, "")
    assert after.revision == state.revision + 1


def test_the_look_is_taken_now_and_then(db: Database) -> None:
    running(db, "25")
    assert migration.look(db, TERMS, "")[1] == ""
    for _ in range(5):
        answer(db, "b", bad=True)
    state, why = migration.look(db, TERMS, "")  # within the minute
    assert why == ""
    assert state is not None
    assert state.stage == "25"
    assert migration.look(db, replace(TERMS, look=0.0), "")[1]


def test_no_stage_without_a_share_is_looked_at(db: Database) -> None:
    assert migration.look(db, TERMS, "") == (None, "")
    state = running(db, SHADOW, 0.5)
    for _ in range(5):
        answer(db, "b", bad=True)
    assert migration.look(db, TERMS, "") == (state, "")


# --- By hand, and the shadow ----------------------------------------------------------------------


def test_what_was_switched_by_hand_is_remembered_for_so_many(db: Database) -> None:
    most = migration.REMEMBERED
    for number in range(most + 5):
        migration.switch(db, f"c{number}")
    assert not migration.switched(db, "c4")
    assert migration.switched(db, "c5")
    migration.switch(db, "c5", by_hand=False)
    assert not migration.switched(db, "c5")
    facts.update(db, migration.SWITCHED, lambda _: ("nonsense", None))
    assert not migration.switched(db, "c6")


def test_a_copy_is_an_attempt_beside_its_turn(db: Database) -> None:
    state = running(db, SHADOW, 0.5)
    answer(db, "a", fresh="talk")
    usage, timings = Tokens(1, 2), Timings(0.1, 0.3, 0.9)
    tried = Tried("b", "m", Finish.STOP, usage=usage, timings=timings, role="shadow")
    migration.keep_shadow(db, "talk", tried, 0.5)
    migration.keep_shadow(db, "talk", replace(tried, finish=Finish.INTERRUPTED), None)
    rows = db.rows("SELECT number, role, provider, first FROM attempts ORDER BY id")
    assert [tuple(row) for row in rows] == [
        (1, "", "a", 0.2), (2, "shadow", "b", 0.3), (3, "shadow", "b", 0.3),
    ]  # fmt: skip
    found = migration.compare(db, state, TERMS)
    assert (found.new.count, found.new.whole, found.new.first50) == (2, 1, 0.3)
    after = migration.load(db)
    assert after is not None
    assert (after.likeness.count, after.likeness.mean) == (1, 0.5)
    assert after.revision == state.revision  # a step that was seen before may still be taken
    delete(db, ["talk"])
    migration.keep_shadow(db, "talk", tried, 1.0)
    assert migration.load(db) == after


# --- What is used ---------------------------------------------------------------------------------


def test_what_is_used_of_a_provider(db: Database) -> None:
    at = now()
    assert migration.usage(db, "a", at).requests == 0
    ten = int(time.mktime((*time.localtime(at / 1000)[:3], 10, 30, 0, 0, 0, -1))) * 1000
    days = 86_400_000
    for _ in range(3):
        answer(db, "a", at=ten - 2 * days)
    answer(db, "a", at=ten - 10 * days - 3_600_000)
    answer(db, "a", at=ten - 2 * days, bad=True)
    answer(db, "a", at=at - 31 * days)
    answer(db, "b", at=at)
    used = migration.usage(db, "a", at)
    assert (used.requests, used.prompt, used.completion) == (5, 40, 80)
    assert 9 < used.days < 12
    assert used.hour == (10, 4)
    assert used.streamed == 1.0
    assert used.errors == (("server-error", 1, "a is down"),)
