"""The life of a turn in the file, and of those that wrote it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holychat.core.chat import Finish, Timings, Tried, Turn, Usage
from holychat.core.failure import Failure, Kind, StoreTrouble
from holychat.store import conversations, turns
from holychat.store.db import Database
from holychat.store.ids import now

ABOUT: dict[str, Any] = {"provider": "p", "model": "m", "system": "s", "params": {"top_p": 1}}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        yield db


@pytest.fixture
def writer(db: Database) -> str:
    return turns.enlist(db)


def turn(text: str, **more: Any) -> Turn:
    made = Turn(text, more.pop("reasoning", ""), more.pop("finish", Finish.STOP), "p", "m", **more)
    tried = Tried("p", "m", made.finish, 0, 0.0, made.usage, made.timings, made.failure)
    return replace(made, attempts=(tried,))


def said(db: Database, conversation: str) -> list[str]:
    return [kept.text for kept in conversations.branch(db, conversations.get(db, conversation))]


def exchange(
    db: Database, writer: str, conversation: str, parent: int | None, prompt: str, answer: str
) -> tuple[turns.Begun, int]:
    begun = turns.begin(db, writer, conversation, prompt, parent, **ABOUT)
    message = turns.close(db, begun, turn(answer))
    assert message is not None
    return begun, message


def kill(db: Database, writer: str) -> None:
    """Make this writer one whose process is dead."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with db.write():
        db.run("UPDATE writers SET pid = ? WHERE id = ?", (ended.pid, writer))


def test_a_turn_from_its_prompt_to_its_end(db: Database, writer: str) -> None:
    begun = turns.begin(db, writer, "", "What is it?", None, **ABOUT)
    assert db.rows("SELECT text FROM messages")[0]["text"] == "What is it?"
    turns.journal(db, writer, [(begun.turn, 0, "It ", "hm")])
    turns.journal(db, writer, [(begun.turn, 1, "is.", "")])
    assert conversations.journalled(db, begun.turn) == ("It is.", "hm")
    whole = turn(
        "It is.",
        reasoning="hm",
        usage=Usage(5, 7, 2, 1),
        timings=Timings(0.1, 0.2, 0.3),
        served_model="m-2",
        refusal=True,
    )
    turns.close(db, begun, whole)
    conversation = conversations.get(db, begun.conversation)
    assert (conversation.title, conversation.messages) == ("What is it?", 2)
    assert (conversation.provider, conversation.model) == ("p", "m")
    assert (conversation.system, conversation.params) == ("s", {"top_p": 1})
    assert conversations.branch(db, conversation)[-1].turn == replace(whole, attempts=())
    assert db.rows("SELECT * FROM journal") == []
    assert db.rows("SELECT count(*) AS n FROM attempts")[0]["n"] == 1


def test_a_failure_is_kept(db: Database, writer: str) -> None:
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    failure = Failure(Kind.STALL, "nothing came")
    turns.close(db, begun, turn("part", finish=Finish.CUT, failure=failure))
    kept = conversations.branch(db, conversations.get(db, begun.conversation))[-1].turn
    assert kept is not None
    assert kept.failure is not None
    assert (kept.finish, kept.failure.kind, kept.failure.what) == (
        Finish.CUT,
        Kind.STALL,
        "nothing came",
    )


def test_a_turn_without_text_is_no_message(db: Database, writer: str) -> None:
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    assert turns.close(db, begun, turn("", finish=Finish.FAILED)) is None
    assert said(db, begun.conversation) == []
    assert db.rows("SELECT finish FROM turns")[0]["finish"] == "failed"


def test_a_retry_is_another_answer_to_the_same_message(db: Database, writer: str) -> None:
    first, answer = exchange(db, writer, "", None, "q", "one")
    second, other = exchange(db, writer, first.conversation, None, "q", "two")
    assert second.prompt == first.prompt
    tree = conversations.tree(db, first.conversation)
    assert {tree[answer].parent, tree[other].parent} == {first.prompt}
    assert len(tree) == conversations.get(db, first.conversation).messages == 3
    assert said(db, first.conversation) == ["q", "two"]


def test_going_on_from_before_keeps_what_came_after(db: Database, writer: str) -> None:
    first, answer = exchange(db, writer, "", None, "q1", "a1")
    exchange(db, writer, first.conversation, answer, "q2", "a2")
    turns.rewind(db, first.conversation, answer)
    assert said(db, first.conversation) == ["q1", "a1"]
    exchange(db, writer, first.conversation, answer, "q3", "a3")
    assert said(db, first.conversation) == ["q1", "a1", "q3", "a3"]
    assert len(conversations.tree(db, first.conversation)) == 6


def test_an_answer_that_is_gone_on_with_is_one_message(db: Database, writer: str) -> None:
    first, answer = exchange(db, writer, "", None, "q", "It is a zebra")
    again = turns.begin(db, writer, first.conversation, "q", None, onto=answer, **ABOUT)
    assert turns.close(db, again, turn("It is a zebra crossing")) == answer
    assert said(db, first.conversation) == ["q", "It is a zebra crossing"]
    assert db.check() == []


def test_what_an_answer_cost_is_the_sum_of_its_turns(db: Database, writer: str) -> None:
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    answer = turns.close(db, begun, turn("one ", usage=Usage(10, 5, 2, 1)))
    again = turns.begin(db, writer, begun.conversation, "q", None, onto=answer, **ABOUT)
    turns.close(db, again, turn("one two", usage=Usage(20, 7, 0, 0, estimated=True)))
    (_, kept) = conversations.branch(db, conversations.get(db, begun.conversation))
    assert kept.turn is not None
    assert kept.turn.usage == Usage(30, 12, 2, 1, estimated=True)


def test_a_deleted_conversation_takes_no_more(db: Database, writer: str) -> None:
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    conversations.delete(db, [begun.conversation])
    with pytest.raises(StoreTrouble, match="deleted meanwhile"):
        turns.journal(db, writer, [(begun.turn, 0, "text", "")])


# --- The dead -------------------------------------------------------------------------------------


def test_what_a_dead_writer_left_is_an_interrupted_answer(db: Database, writer: str) -> None:
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    turns.journal(db, writer, [(begun.turn, 0, "half of ", "hm")])
    turns.journal(db, writer, [(begun.turn, 1, "it", "")])
    turns.renew(db, writer, "what I was ty")
    kill(db, writer)
    (orphan,), drafts = turns.bury(db)
    assert (orphan.prompt, orphan.text) == ("q", "half of it")
    assert drafts == ["what I was ty"]
    kept = conversations.branch(db, conversations.get(db, begun.conversation))[-1]
    assert kept.turn is not None
    assert (kept.text, kept.reasoning, kept.turn.finish) == ("half of it", "hm", "interrupted")
    assert turns.bury(db) == ([], [])
    assert db.rows("SELECT * FROM journal") == []


def test_one_conversation_is_taken_over_and_the_draft_stays(db: Database, writer: str) -> None:
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    other = turns.begin(db, writer, "", "elsewhere", None, **ABOUT)
    turns.journal(db, writer, [(begun.turn, 0, "half", "")])
    turns.renew(db, writer, "what I was ty")
    assert turns.bury_in(db, begun.conversation) == []  # it lives
    kill(db, writer)
    (orphan,) = turns.bury_in(db, begun.conversation)
    assert orphan.text == "half"
    assert said(db, begun.conversation) == ["q", "half"]
    assert turns.bury_in(db, begun.conversation) == []
    (left,), drafts = turns.bury(db)
    assert (left.conversation.id, drafts) == (other.conversation, ["what I was ty"])


def test_the_living_are_not_buried(db: Database, writer: str) -> None:
    turns.begin(db, writer, "", "q", None, **ABOUT)
    with db.write():  # no sign of life for long, but the process is there
        db.run("UPDATE writers SET lease = 0")
    assert turns.bury(db) == ([], [])


def test_elsewhere_the_lease_decides(db: Database, writer: str) -> None:
    turns.begin(db, writer, "", "q", None, **ABOUT)
    with db.write():
        db.run("UPDATE writers SET host = 'another', pid = 1")
    assert turns.bury(db) == ([], [])
    with db.write():
        db.run("UPDATE writers SET lease = ?", (now() - 1,))
    assert len(turns.bury(db)[0]) == 1


def test_a_dead_retry_without_text_leaves_the_old_answer(db: Database, writer: str) -> None:
    first, _ = exchange(db, writer, "", None, "q", "the old answer")
    turns.begin(db, writer, first.conversation, "q", None, **ABOUT)
    kill(db, writer)
    assert [orphan.text for orphan in turns.bury(db)[0]] == [""]
    assert said(db, first.conversation) == ["q", "the old answer"]


def test_a_dead_continuation_goes_to_its_answer(db: Database, writer: str) -> None:
    first, answer = exchange(db, writer, "", None, "q", "It is ")
    again = turns.begin(db, writer, first.conversation, "q", None, onto=answer, **ABOUT)
    turns.journal(db, writer, [(again.turn, 0, "a zebra", "")])
    kill(db, writer)
    assert [orphan.text for orphan in turns.bury(db)[0]] == ["a zebra"]
    assert said(db, first.conversation) == ["q", "It is a zebra"]
    assert db.check() == []


def test_what_was_said_since_is_gone_on_with(db: Database, writer: str) -> None:
    first, answer = exchange(db, writer, "", None, "q1", "a1")
    dead = turns.begin(db, writer, first.conversation, "q2", answer, **ABOUT)
    turns.journal(db, writer, [(dead.turn, 0, "part", "")])
    other = turns.enlist(db)
    exchange(db, other, first.conversation, answer, "q3", "a3")
    kill(db, writer)
    assert [orphan.text for orphan in turns.bury(db)[0]] == ["part"]
    assert said(db, first.conversation) == ["q1", "a1", "q3", "a3"]


def test_who_was_taken_for_dead_is_known_again(db: Database, writer: str) -> None:
    kill(db, writer)
    turns.bury(db)
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    turns.journal(db, writer, [(begun.turn, 0, "text", "")])
    kill(db, writer)
    assert [orphan.text for orphan in turns.bury(db)[0]] == ["text"]


def test_who_leaves_an_open_turn_behind_is_buried(db: Database, writer: str) -> None:
    begun = turns.begin(db, writer, "", "q", None, **ABOUT)
    turns.leave(db, writer)
    assert len(db.rows("SELECT * FROM writers")) == 1
    turns.close(db, begun, turn("a"))
    turns.leave(db, writer)
    assert db.rows("SELECT * FROM writers") == []
