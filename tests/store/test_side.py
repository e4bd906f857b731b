"""Pins and summaries: beside the messages, and on no branch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from holychat.core.chat import Finish, Tried, Usage
from holychat.core.formats import record
from holychat.store import conversations, side
from holychat.store.db import Database
from holychat.store.search import search
from holychat.store.transfer import dump, restore
from tests.store.test_conversations import talk, texts


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        yield db


def test_a_summary_is_no_answer(db: Database) -> None:
    old = talk(db, 3)
    said, whole = texts(db, old), dump(db, old.id)
    path = conversations.branch(db, old)
    for message in (path[3], path[-1]):
        side.summarise(db, old.id, message.id, "They spoke of quixotic things.")
    after = conversations.get(db, old.id)
    assert (after.head, after.messages) == (old.head, old.messages)
    assert texts(db, after) == said
    found = dump(db, old.id)
    assert [each.parent for each in found.summaries] == [4, 6]
    assert record(replace(found, summaries=())) == record(whole)
    assert len(conversations.tree(db, old.id)) == 6
    assert search(db, "quixotic") == search(db, "uixoti") == []
    assert not restore(db, dump(db, old.id)).new
    assert db.check() == []


def test_the_summary_of_most_of_the_branch_is_taken(db: Database) -> None:
    old = talk(db, 3)
    path = conversations.branch(db, old)
    assert side.latest(db, old.id, path) is None
    far = side.summarise(db, old.id, path[3].id, "of four")
    side.summarise(db, old.id, path[1].id, "of two")
    again = side.summarise(db, old.id, path[3].id, "of four, again")
    assert [each.text for each in side.summaries(db, old.id)] == [
        "of four", "of two", "of four, again",
    ]  # fmt: skip
    found = side.latest(db, old.id, path)
    assert found is not None
    assert (found.id, found.parent) == (again, path[3].id) != (far, path[3].id)
    short = side.latest(db, old.id, path[:2])
    assert short is not None
    assert short.text == "of two"


def test_a_pin_stays_until_it_is_taken_out(db: Database) -> None:
    old = talk(db, 2)
    first, second = (message.id for message in conversations.branch(db, old)[:2])
    assert side.pin(db, first)
    assert side.pin(db, second)
    assert side.pinned(db, old.id) == {first, second}
    side.pin(db, first, pinned=False)
    assert side.pinned(db, old.id) == {second}
    assert not side.pin(db, 999)


def test_a_fork_has_the_pins_and_summaries_of_its_messages(db: Database) -> None:
    old = talk(db, 3)
    path = conversations.branch(db, old)
    for number in (1, 5):
        side.pin(db, path[number].id)
        side.summarise(db, old.id, path[number].id, f"up to {number}")
    fork = conversations.fork(db, old, path[3].id)
    copied = conversations.branch(db, fork)
    assert side.pinned(db, fork.id) == {copied[1].id}
    assert [(each.parent, each.text) for each in side.summaries(db, fork.id)] == [
        (copied[1].id, "up to 1")
    ]
    assert fork.messages == len(copied) == 4


def test_what_a_branch_has_beside_it(db: Database) -> None:
    old = talk(db, 2)
    path = conversations.branch(db, old)
    assert side.beside(db, old.id, path) == (frozenset(), None)
    side.pin(db, path[0].id)
    side.summarise(db, old.id, path[1].id, "They met.")
    assert side.beside(db, old.id, path) == ({path[0].id}, (path[1].id, "They met."))


def test_what_a_summary_by_hand_cost_counts(db: Database) -> None:
    old = talk(db, 2)
    tried = Tried("box", "m", Finish.STOP, usage=Usage(90, 9), role="summary")
    side.spent(db, old.id, tried)
    side.spent(db, "no-such-conversation", tried)
    rows = db.rows("SELECT prompt_tokens, number FROM attempts WHERE role = 'summary'")
    assert [tuple(row) for row in rows] == [(90, 1)]  # that turn was made up
    (sums,) = db.rows("SELECT sum(prompt) AS prompt FROM spent WHERE provider = 'box'")
    assert sums["prompt"] >= 90
    assert db.check() == []
