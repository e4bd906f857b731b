"""Conversations that were: listed, found by what a user calls them, forked, removed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holychat.core.chat import Finish, Timings, Turn
from holychat.core.failure import UsageError
from holychat.core.history import Conversation, Filter
from holychat.screen.words import broke_off
from holychat.store import conversations, turns
from holychat.store.db import Database
from holychat.store.ids import new_id

ABOUT: dict[str, Any] = {"provider": "p", "model": "m", "system": "", "params": {}}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        yield db


def add(db: Database, identity: str, title: str = "", updated: int = 1, **more: str) -> None:
    with db.write():
        db.run(
            "INSERT INTO conversations (id, title, created, updated, provider, model)"
            " VALUES (?, ?, 1, ?, ?, ?)",
            (identity, title, updated, more.get("provider", "p"), more.get("model", "m")),
        )


def talk(db: Database, exchanges: int) -> Conversation:
    """A conversation of so many exchanges."""
    writer, conversation, parent = turns.enlist(db), "", None
    for number in range(exchanges):
        begun = turns.begin(db, writer, conversation, f"prompt {number}", parent, **ABOUT)
        conversation = begun.conversation
        answer = Turn(f"answer {number}", "", Finish.STOP, "p", "m")
        parent = turns.close(db, begun, answer)
    return conversations.get(db, conversation)


def texts(db: Database, conversation: Conversation) -> list[str]:
    return [kept.text for kept in conversations.branch(db, conversation)]


def test_ids_are_as_long_as_they_need_to_be() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(each) for each in ids} == {12}


def test_the_list_has_the_newest_first_and_can_be_narrowed(db: Database) -> None:
    for number in range(6):
        add(db, f"c{number}", updated=number, provider=f"p{number % 2}", model=f"Big-{number}")
    ids = [each.id for each in conversations.listing(db)]
    assert ids == ["c5", "c4", "c3", "c2", "c1", "c0"]
    for narrowed, expected in [
        (Filter(since=4), ["c5", "c4"]),
        (Filter(until=2), ["c1", "c0"]),
        (Filter(since=1, until=3), ["c2", "c1"]),
        (Filter(provider="p1"), ["c5", "c3", "c1"]),
        (Filter(model="big-3"), ["c3"]),
        (Filter(model="ig"), ids),
        (Filter(provider="%"), []),
    ]:
        assert [each.id for each in conversations.listing(db, narrowed)] == expected
    assert len(conversations.listing(db, most=2)) == 2
    assert conversations.latest(db).id == "c5"


def test_no_conversation_at_all(db: Database) -> None:
    assert conversations.listing(db) == []
    with pytest.raises(UsageError, match="no conversation"):
        conversations.latest(db)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("abcd", "abcdefghjkmn"),
        ("ABCDE", "abcdefghjkmn"),
        ("abcdefghjkmn", "abcdefghjkmn"),
        ("the road", "zzzzyyyyxxxx"),
        ("THE ROAD to", "zzzzyyyyxxxx"),
        ("zebra", "xxxxzzzzyyyy"),  # the whole title of one, a part of another's
        ("über", "pppprrrrssss"),
        ("数据", "ccccddddeeee"),
        ("100%", "kkkkmmmmnnnn"),
    ],
)
def test_a_name_finds_one(db: Database, name: str, expected: str) -> None:
    add(db, "abcdefghjkmn", "first")
    add(db, "zzzzyyyyxxxx", "The road to Rome")
    add(db, "xxxxzzzzyyyy", "Zebra")
    add(db, "yyyyzzzzxxxx", "Zebra crossing")
    add(db, "pppprrrrssss", "Über den Wolken")
    add(db, "ccccddddeeee", "一个数据库")
    add(db, "kkkkmmmmnnnn", "100% sure")
    assert conversations.find(db, name).id == expected


@pytest.mark.parametrize("name", ["", " ", "abc", "nothing", "%", "_", "'", "\0", "abce"])
def test_a_name_finds_none(db: Database, name: str) -> None:
    add(db, "abcdefghjkmn", "first")
    with pytest.raises(UsageError):
        conversations.find(db, name)


def test_a_name_of_several_names_them(db: Database) -> None:
    for number in range(7):
        add(db, f"abcd{'efghjkmn'[number]}2222222", f"Zebra {number}")
    for name in ("abcd", "zebra"):
        with pytest.raises(UsageError, match="several") as caught:
            conversations.find(db, name)
        assert "abcd" in caught.value.hint
        assert caught.value.hint.endswith("...")


def test_a_fork_has_the_messages_and_the_old_one_stays(db: Database) -> None:
    old = talk(db, 3)
    path = conversations.branch(db, old)
    fork = conversations.fork(db, old, path[3].id)
    assert texts(db, fork) == ["prompt 0", "answer 0", "prompt 1", "answer 1"]
    assert (fork.origin, fork.messages) == (old.id, 4)
    writer = turns.enlist(db)
    begun = turns.begin(db, writer, fork.id, "another way", fork.head, **ABOUT)
    turns.close(db, begun, Turn("yes", "", Finish.STOP, "p", "m"))
    assert len(texts(db, conversations.get(db, fork.id))) == 6
    assert texts(db, conversations.get(db, old.id)) == [kept.text for kept in path]
    conversations.delete(db, [old.id])
    assert len(texts(db, conversations.get(db, fork.id))) == 6
    assert db.check() == []


def test_a_fork_of_an_answer_that_was_stopped_does_not_say_that_it_broke_off(db: Database) -> None:
    writer = turns.enlist(db)
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    stopped = Turn("half", "", Finish.INTERRUPTED, "p", "m", timings=Timings(total=1.5))
    turns.close(db, begun, stopped)
    old = conversations.get(db, begun.conversation)
    answers = [
        conversations.branch(db, each)[1].turn
        for each in (old, conversations.fork(db, old, old.head))
    ]
    assert [turn and turn.timings.total for turn in answers] == [1.5, 1.5]
    assert not [turn for turn in answers if turn and broke_off(turn)]


def test_a_title_that_was_given(db: Database) -> None:
    old = talk(db, 1)
    conversations.rename(db, old.id, "  A new\nname ")
    assert conversations.find(db, "a new name").id == old.id


def test_a_long_conversation_is_loaded_and_deleted_whole(db: Database) -> None:
    long, short = talk(db, 1000), talk(db, 1)
    assert len(conversations.branch(db, long)) == 2000
    began = time.monotonic()
    conversations.delete(db, [long.id, "nothing"])
    assert time.monotonic() - began < 10
    assert [each.id for each in conversations.listing(db)] == [short.id]
    for table, rows in (("messages", 2), ("turns", 1), ("attempts", 0)):
        assert db.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] == rows
    assert db.check() == []
