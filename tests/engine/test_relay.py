"""What is known of a client's body, and the conversation that it goes on with."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holychat.core.chat import Finish, Turn
from holychat.engine import relay
from holychat.store.conversations import delete
from holychat.store.db import Database
from holychat.store.recorder import AGAIN, Recorder
from holychat.store.threads import ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def test_what_is_a_conversation_and_what_is_not() -> None:
    found = relay.given(
        body(
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "42"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image_url"}]},
            tools=[{"type": "function"}],
        )
    )
    assert found.system == "be brief"
    assert found.before == (("user", "a"), ("assistant", "b"))
    assert found.prompt == "c\n[image_url]"
    assert [one.role for one in found.flat] == [
        "system", "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert '"id"' in found.flat[3].content


VALUES = st.none() | st.text(max_size=5) | st.integers() | st.lists(
    st.dictionaries(st.sampled_from(["type", "text"]), st.text(max_size=4) | st.integers())
)  # fmt: skip
FIELDS = st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), VALUES)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FIELDS, max_size=4))
def test_nothing_trips_it(messages: list[Any]) -> None:
    relay.given(body(*messages))


def turn(text: str) -> Turn:
    return Turn(text, "", Finish.STOP, "box", "m")


def test_recorders_side_by_side(tmp_path: Path) -> None:
    """Many turns are open at once, on one thread, each with a branch of its own."""
    first = Recorder(str(tmp_path / "c.db"))
    many = [Recorder(first.path, beside=first) for _ in range(5)]
    for number, each in enumerate(many):
        each.begin(
            f"p{number}", 0, provider="box", model="m", system="", params={}, fresh=f"c{number}"
        )
    for number, each in reversed([*enumerate(many)]):
        each.end(turn(f"a{number}"))
    assert all(each.caught_up().result(5) for each in many)
    assert [each.conversation for each in many] == [f"c{number}" for number in range(5)]
    assert {each.writer for each in many} == {first.writer}
    assert len({each.messages for each in many}) == 5
    found = first.ask(lambda db: ending(db, [("user", "p3"), ("assistant", "a3")])).result(5)
    assert found == ("c3", many[3].messages)
    for said in ([], [("user", "p3")], [("user", "p1"), ("assistant", "a3")]):
        assert first.ask(lambda db, said=said: ending(db, said)).result(5) is None
    open_ = first.ask(lambda db: db.rows("SELECT * FROM turns WHERE writer IS NOT NULL")).result(5)
    assert open_ == []
    first.close()


def test_a_store_that_fails_is_said_once_for_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "c.db").mkdir()
    first = Recorder(str(tmp_path / "c.db"))
    many = [Recorder(first.path, beside=first) for _ in range(3)]
    for number, one in enumerate(many):
        one.begin(f"p{number}", 0, provider="box", model="m", system="", params={}).result(5)
        one.end(turn("a")).result(5)
        assert not one.keeping
    assert len(first.warnings) == 1
    assert "not being kept" in first.warnings[0]
    first.close()
    assert sorted(first.unkept) == ["p0", "p1", "p2"]


def opened(first: Recorder, prompt: str = "p") -> Recorder:
    one = Recorder(first.path, beside=first)
    one.begin(prompt, 0, provider="box", model="m", system="", params={}).result(5)
    return one


def journalled(path: Path) -> dict[int, str]:
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT turn, group_concat(text, '') FROM journal GROUP BY turn")
        return dict(rows.fetchall())


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_came_of_open_turns_is_journalled_together(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    first = Recorder(str(path))
    many = [opened(first, f"p{number}") for number in range(50)]
    for number, one in enumerate(many):
        one.add(f"half an answer to {number}", "")
    wanted = {f"half an answer to {number}" for number in range(50)}
    eventually(lambda: {*journalled(path).values()} == wanted)
    many[0].add(", and more", "")
    eventually(lambda: "half an answer to 0, and more" in journalled(path).values())
    for one in many:
        one.end(turn("whole")).result(5)
    assert journalled(path) == {}
    first.close()


def test_one_that_was_deleted_does_not_hold_up_the_others(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    first = Recorder(str(path))
    gone, stays = opened(first, "gone"), opened(first, "stays")
    first.ask(lambda db: delete(db, [gone.conversation])).result(5)
    gone.add("x", "")
    stays.add("y", "")
    eventually(lambda: [*journalled(path).values()] == ["y"])
    assert first.keeping
    gone.end(turn("a")).result(5)
    stays.end(turn("b")).result(5)
    assert not gone.keeping
    assert stays.keeping
    first.close()


def test_what_the_store_did_not_take_is_written_as_soon_as_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to say anything more: by the clock, and at the end."""
    monkeypatch.setattr("holychat.store.db.PATIENCE", 0.05)
    monkeypatch.setattr("holychat.store.recorder.ALIVE", 0.2)
    path = tmp_path / "c.db"
    first = Recorder(str(path))
    opened(first).end(turn("a")).result(5)

    def prompts() -> list[str]:
        with closing(sqlite3.connect(path)) as db:
            rows = db.execute("SELECT text FROM messages WHERE role = 'user' ORDER BY text")
            return [row[0] for row in rows]

    for by_clock in (True, False):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            one = opened(first, f"by the clock: {by_clock}")
            one.end(turn("a")).result(5)
            assert not one.keeping
            if not by_clock:
                monkeypatch.setattr("holychat.store.recorder.ALIVE", 1000.0)
            other.execute("ROLLBACK")
        if by_clock:
            eventually(lambda: len(prompts()) == 2)
    assert len(prompts()) == 2
    first.close()
    assert prompts() == ["by the clock: False", "by the clock: True", "p"]
    assert first.unkept == []
    said = [*first.warnings]
    assert len(said) <= 1, said


def test_what_is_said_beside_a_recorder_is_soon_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    write = Database.write

    def noted(self: Database, *, durable: bool = True) -> Any:
        synced.append(durable)
        return write(self, durable=durable)

    monkeypatch.setattr(Database, "write", noted)
    first = Recorder(str(tmp_path / "c.db"))
    one = opened(first)
    one.end(turn("a")).result(5)
    assert synced.count(False) == 2
    eventually(lambda: synced[-1])
    many = len(synced)
    time.sleep(1.2)
    assert len(synced) == many  # there is nothing more to be saved
    first.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_nothing_is_kept_again_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base one, which owes nothing itself, said so while the file was still locked."""
    monkeypatch.setattr("holychat.store.db.PATIENCE", 0.05)
    monkeypatch.setattr("holychat.store.recorder.RETRY", 0.05)
    monkeypatch.setattr("holychat.store.recorder.ALIVE", 0.1)
    monkeypatch.setattr("holychat.store.recorder.BREATH", 0.05)
    path = tmp_path / "c.db"
    first = Recorder(str(path))
    opened(first).end(turn("a")).result(5)
    with locked(path):
        one = opened(first, "meanwhile")
        one.end(turn("a")).result(5)
        time.sleep(1.5)
        said = first.heard()
        assert [AGAIN in text for text in said] == [False], said
        assert not one.keeping
    eventually(lambda: one.keeping and first.keeping)
    eventually(lambda: AGAIN in first.heard())
    assert not first._others
    first.close()
    assert first.unkept == []


def test_a_locked_store_does_not_hold_up_many_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them waited for the lock at each of its steps, also at the end."""
    monkeypatch.setattr("holychat.store.db.PATIENCE", 0.5)
    path = tmp_path / "c.db"
    first = Recorder(str(path))
    many = [opened(first, f"p{number}") for number in range(30)]
    with locked(path):
        began = time.monotonic()
        for one in many:
            one.end(turn("a"))
            one.caught_up()
        first.ask(lambda _: None).result(30)  # behind all of them
        first.close()
        took = time.monotonic() - began
    assert took < 5  # two real tries; it was half a second for each step, and more
    assert len(first.unkept) == 30


def test_a_locked_store_is_tried_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of `ALIVE`, also by those that did not try themselves: each try takes long."""
    monkeypatch.setattr("holychat.store.db.PATIENCE", 0.05)
    monkeypatch.setattr("holychat.store.recorder.RETRY", 0.05)
    monkeypatch.setattr("holychat.store.recorder.BREATH", 0.2)
    monkeypatch.setattr("holychat.store.recorder.SOON", 0.1)
    path = tmp_path / "c.db"
    first = Recorder(str(path))
    many = [opened(first, f"p{number}") for number in range(5)]
    eventually(lambda: not first._soft)  # the base itself has nothing to write
    with locked(path):
        for one in many:
            one.end(turn("a")).result(5)
        tried: list[object] = []
        careful = Recorder._careful

        def counted(self: Recorder, what: Any) -> Any:
            tried.append(self)
            return careful(self, what)

        monkeypatch.setattr(Recorder, "_careful", counted)
        time.sleep(2)  # less than ALIVE
        assert tried == []
    first.close()
    assert first.unkept == []


def test_what_is_written_at_last_is_looked_after_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holychat.store.db.PATIENCE", 0.05)
    monkeypatch.setattr("holychat.store.recorder.BREATH", 0.0)
    path = tmp_path / "c.db"
    first = Recorder(str(path))
    opened(first).end(turn("a")).result(5)
    with locked(path):
        one = opened(first, "meanwhile")
        one.end(turn("a")).result(5)
        assert one in first._others
    assert one.caught_up().result(5)
    assert not first._others
    first.close()
