"""The providers' health in the file: shared between processes, and cheap."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from holychat.core.health import Fault, Health, Outcome, as_json, from_json
from holychat.store import db as db_module
from holychat.store.db import Database
from holychat.store.health import Row, read, update
from holychat.store.schema import MIGRATIONS
from tests.store.probe import STREAMS, streams, trials


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        yield db


def called(health: Health) -> tuple[Health, int]:
    outcomes = (*health.outcomes, Outcome(1.0, ""))
    return health._replace(outcomes=outcomes), len(outcomes)


def test_a_change_stays_and_brings_its_result(db: Database, tmp_path: Path) -> None:
    assert read(db) == {}
    assert [update(db, "p|o", called) for _ in range(3)] == [1, 2, 3]
    assert update(db, "q|o", called) == 1
    with closing(Database(str(tmp_path / "s.db"))) as other:
        assert {name: len(one.outcomes) for name, one in read(other).items()} == {
            "p|o": 3,
            "q|o": 1,
        }


def test_what_another_one_wrote_is_seen_by_one_that_remembers(db: Database, tmp_path: Path) -> None:
    """And what is remembered is written as it would be without."""
    rows: dict[str, Row] = {}
    with closing(Database(str(tmp_path / "s.db"))) as other:
        assert [update(db, "p", called, rows) for _ in range(3)] == [1, 2, 3]
        assert update(other, "p", called) == 4
        assert update(db, "p", called, rows) == 5
        changed = Fault("no", 2.0)
        update(db, "p", lambda known: (known._replace(last_error=changed), None), rows)
        state = db.rows("SELECT state FROM health")[0]["state"]
        assert json.loads(state) == as_json(rows["p"].health)
        assert read(other)["p"] == rows["p"].health
        assert rows["p"].health.last_error == changed


def test_a_change_that_failed_is_not_remembered(db: Database) -> None:
    rows: dict[str, Row] = {}
    update(db, "p", called, rows)
    with pytest.raises(ZeroDivisionError):
        update(db, "p", lambda known: (Health(), 1 // 0), rows)
    assert update(db, "p", called, rows) == 2


def test_what_is_the_same_is_not_written(db: Database) -> None:
    update(db, "p", called)
    changes = db.rows("SELECT total_changes() AS n")[0]["n"]
    assert update(db, "p", lambda health: (health, "seen")) == "seen"
    assert update(db, "new", lambda health: (health, "seen")) == "seen"
    assert db.rows("SELECT total_changes() AS n")[0]["n"] == changes


def test_a_change_that_fails_changes_nothing(db: Database) -> None:
    update(db, "p", called)

    def bad(health: Health) -> tuple[Health, int]:
        raise KeyError(health.error_rate)

    with pytest.raises(KeyError):
        update(db, "p", bad)
    assert update(db, "p", called) == 2


@pytest.mark.parametrize("state", ["", "nonsense", "[1]", "[" * 100_000, '{"firsts": [NaN]}'])
def test_rubbish_in_the_file_is_a_fresh_one(db: Database, state: str) -> None:
    with db.write():
        db.run("INSERT INTO health VALUES ('p', ?, 0)", (state,))
    assert read(db) == {"p": Health()}
    assert update(db, "p", called) == 1


def test_a_part_that_is_rubbish_leaves_the_others(db: Database) -> None:
    update(db, "p", lambda health: (health._replace(last_error=Fault("no", 5.0)), None))
    with db.write():
        db.run("UPDATE health SET state = json_set(state, '$.breaker', 7, '$.pace', 'x')")
    assert read(db)["p"] == Health(last_error=Fault("no", 5.0))
    assert from_json(7) == Health()


def test_any_text_of_an_error_can_be_kept(db: Database) -> None:
    fault = Fault("half \ud83d and \0", 5.0)
    update(db, "p", lambda health: (health._replace(last_error=fault), None))
    assert read(db)["p"].last_error == fault


# --- The disk -----------------------------------------------------------------------------------


def synchronous(db: Database) -> int:
    return int(db.rows("PRAGMA synchronous")[0][0])


def test_only_what_must_last_waits_for_the_disk(db: Database) -> None:
    with db.write(durable=False):
        assert synchronous(db) == 1
    with db.write():
        assert synchronous(db) == 2
    update(db, "p", called)
    assert synchronous(db) == 1
    with db.write():
        assert synchronous(db) == 2


def test_without_a_log_everything_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_module, "_remote", lambda _: True)
    with closing(Database(str(tmp_path / "s.db"))) as db:
        assert update(db, "p", called) == 1
        assert synchronous(db) == 2


# --- Version 1 ----------------------------------------------------------------------------------


def test_a_file_of_version_1_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    monkeypatch.setattr(db_module, "MIGRATIONS", MIGRATIONS[:1])
    with closing(Database(str(path))) as old, old.write():
        old.run("INSERT INTO conversations (id, created, updated) VALUES ('c', 1, 1)")
        old.run(
            "INSERT INTO messages (conversation, role, text, created) VALUES ('c', 'user', 'q', 1)"
        )
        old.run("INSERT INTO turns (conversation, prompt, started) VALUES ('c', 1, 1)")
        old.run("INSERT INTO attempts (turn, provider, model, started) VALUES (1, 'p', 'm', 1)")
    monkeypatch.undo()
    with closing(Database(str(path))) as db:
        assert db.rows("PRAGMA user_version")[0][0] == len(MIGRATIONS) >= 2
        assert tuple(db.rows("SELECT number, role, at FROM attempts")[0]) == (1, "", 0)
        assert db.rows("SELECT text FROM messages")[0]["text"] == "q"
        assert update(db, "p", called) == 1
        with db.write():
            db.run("INSERT INTO facts VALUES ('name', 'value')")
        assert db.check() == []
    with closing(sqlite3.connect(path)) as raw:
        plan = raw.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM attempts WHERE provider = 'p' AND started > 0"
        ).fetchall()
    assert "attempts_provider" in plan[0][3]


# --- Several processes --------------------------------------------------------------------------


def test_two_processes_never_both_try(tmp_path: Path) -> None:
    assert trials(tmp_path / "s.db", processes=2, rounds=300) == dict.fromkeys(range(300), 1)


def test_four_processes_never_have_more_streams_than_may_be(tmp_path: Path) -> None:
    count, most = streams(tmp_path / "s.db", processes=4, rounds=30)
    assert count == 4 * 30
    assert most == STREAMS
