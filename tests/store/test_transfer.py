from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from holychat.core.chat import Finish, Timings, Tried, Turn, Usage
from holychat.core.failure import Failure, Kind, UsageError
from holychat.core.formats import (
    Attempted,
    Exchange,
    Whole,
    decoded,
    document,
    plain,
    record,
    wholes,
)
from holychat.core.tally import Period
from holychat.store import migration, side, tally, turns
from holychat.store.conversations import delete, find, fork, get, rename, tree
from holychat.store.db import Database
from holychat.store.llm_logs import llm
from holychat.store.search import search
from holychat.store.transfer import dump, restore
from tests import llm_logs
from tests.store.sums import totals
from tests.wholes import RICH, WHOLE
from tests.wholes import wholes as any_wholes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with contextlib.closing(Database(str(tmp_path / "store.db"))) as database:
        yield database


def said(db: Database, writer: str, conversation: str, prompt: str, turn: Turn) -> turns.Begun:
    head = get(db, conversation).head if conversation else None
    begun = turns.begin(
        db, writer, conversation, prompt, head,
        provider="box", model="m", system="s", params={"temperature": 1},
    )  # fmt: skip
    turns.close(db, begun, turn)
    return begun


TURN = Turn("An answer", "Hm", Finish.STOP, "box", "m", Usage(1, 2, 0, 1), Timings(0.1, 0.2, 3.0))
CUT = replace(TURN, text="Half", finish=Finish.CUT, failure=Failure(Kind.CUT, "it ended"))


# --- Out and in again ---------------------------------------------------------------------------


def test_a_conversation_comes_back_with_everything(db: Database) -> None:
    restored = restore(db, WHOLE)
    assert restored == (WHOLE.conversation.id, True, False)
    assert record(dump(db, restored.id)) == record(WHOLE)
    kept = list(tree(db, restored.id).values())
    assert kept[1].turn is not None
    assert kept[1].turn.usage == Usage(10, 20, 0, 0, estimated=True)
    assert db.check() == []
    assert [hit.conversation.id for hit in search(db, "scattering")] == [restored.id]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Paths of stores that are not there yet."""
    folder = tmp_path_factory.mktemp("stores")
    return (str(folder / f"{number}.db") for number in itertools.count())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(any_wholes())
def test_any_tree_does(fresh: Iterator[str], whole: Whole) -> None:
    with contextlib.closing(Database(next(fresh))) as db:
        restored = restore(db, whole)
        assert restored.id == whole.conversation.id
        again = dump(db, restored.id)
        assert "".join(document([again])) == "".join(document([whole]))
        assert restore(db, whole) == (restored.id, False, False)
        assert restore(db, plain(whole)) == (restored.id, False, False)
        assert db.check() == []
        with contextlib.closing(Database(next(fresh))) as other:
            assert restore(other, again).new
            assert sums(other) == sums(db)


def test_what_was_really_said_comes_back_in_another_store(db: Database, tmp_path: Path) -> None:
    writer = turns.enlist(db)
    begun = said(db, writer, "", "Why \U0001f600?", TURN)
    said(db, writer, begun.conversation, "And?", CUT)
    said(db, writer, begun.conversation, "Nothing", replace(TURN, text="", finish=Finish.FAILED))
    turns.rewind(db, begun.conversation, begun.prompt + 1)
    said(db, writer, begun.conversation, "Or?", TURN)
    rename(db, begun.conversation, "Mine")
    copy = fork(db, get(db, begun.conversation), get(db, begun.conversation).head)
    with contextlib.closing(Database(str(tmp_path / "other.db"))) as other:
        for identity in (begun.conversation, copy.id):
            whole = dump(db, identity)
            assert restore(other, whole).id == identity
            assert "".join(document([dump(other, identity)])) == "".join(document([whole]))
        assert get(other, copy.id).origin == begun.conversation
        assert find(other, begun.conversation[:6]).id == begun.conversation


# --- What stands beside it: costs, roles, pins, summaries -----------------------------------------


def tried(cost: int | None, finish: Finish = Finish.STOP, role: str = "", at: int = 0) -> Tried:
    usage, timings = Usage(100, 20, 30, 4, cost=cost), Timings(0.1, 0.2, 0.7)
    return Tried("box", "m", finish, at, 0.5 * at, usage, timings, role=role)


def answered(*attempts: Tried) -> Turn:
    used = sum((each.usage for each in attempts if each.usage), Usage())
    last = attempts[-1]
    return Turn("An answer", "", last.finish, "box", "m", used, attempts=attempts)


def eventful(db: Database) -> str:
    """A talk to which everything happened."""
    writer = turns.enlist(db)
    slow = Failure(Kind.OUTRUN, "another one was faster")
    begun = said(db, writer, "", "Retried?", answered(
        tried(None, Finish.CUT), replace(tried(12_345_678_901, at=7), provider="other")
    ))  # fmt: skip
    name = begun.conversation
    hedge = replace(tried(3, Finish.INTERRUPTED, "hedge"), provider="other", failure=slow)
    said(db, writer, name, "Hedged?", answered(hedge, tried(5)))
    said(db, writer, name, "Free?", answered(tried(0)))
    said(db, writer, name, "Unpriced?", answered(tried(None)))
    said(db, writer, name, "And after all that?", answered(tried(9, role="summary"), tried(8)))
    path = list(tree(db, name))
    side.pin(db, path[0])
    side.pin(db, path[5])
    side.summarise(db, name, path[3], "They spoke of retries.")
    side.summarise(db, name, path[3], "The same in other words.")
    side.spent(db, name, tried(6, role="summary"))
    migration.keep_shadow(db, name, replace(tried(4, role="shadow"), provider="new"), None)
    turns.rewind(db, name, path[1])
    said(db, writer, name, "Or?", answered(tried(2)))
    return name


def sums(db: Database) -> list[list[tuple[object, ...]]]:
    """All that is counted."""
    return [
        sorted(tuple(row) for row in db.rows(f"SELECT * FROM {name}"))
        for name in ("tally", "pace", "spent")
    ]


def exported(db: Database, conversation: str) -> str:
    return "".join(document([dump(db, conversation)]))


def imported(db: Database, text: str) -> str:
    (whole,) = wholes(decoded(text.encode(), "file"), "file")
    return restore(db, whole).id


def beside(db: Database, conversation: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The texts of what is pinned; and of summaries, behind what they stand for."""
    pins = db.rows("SELECT text FROM messages WHERE conversation = ? AND pinned = 1 ORDER BY id",
                   (conversation,))  # fmt: skip
    kept = tree(db, conversation)
    summaries = [(kept[each.parent].text, each.text) for each in side.summaries(db, conversation)]
    return [row["text"] for row in pins], summaries


def test_what_it_cost_and_what_stands_beside_it_comes_back(db: Database, tmp_path: Path) -> None:
    name = eventful(db)
    text, before = exported(db, name), totals(db, Period())
    assert (before.calls, before.hedges, before.copies, before.failovers) == (11, 1, 1, 1)
    assert (before.priced, before.unpriced, before.cost) == (9, 2, 12_345_678_938)
    with contextlib.closing(Database(str(tmp_path / "other.db"))) as other:
        assert imported(other, text) == name
        assert exported(other, name) == text
        assert totals(other, Period()) == before
        assert tally.conversation(other, name) == tally.conversation(db, name)
        assert sums(other) == sums(db)
        assert beside(other, name) == beside(db, name)
        assert beside(other, name) == (
            ["Retried?", "An answer"],
            [("An answer", "They spoke of retries."), ("An answer", "The same in other words.")],
        )
        assert get(other, name).messages == get(db, name).messages == len(tree(db, name))
        # The turns too: what an answer cost is known, and that some of it is not.
        turn = list(tree(other, name).values())[1].turn
        assert turn is not None
        assert turn.usage == Usage(200, 40, 60, 8, cost=12_345_678_901, unpriced=True)
        rows = "SELECT number, role, at, cost FROM attempts ORDER BY id"
        assert [tuple(row) for row in other.rows(rows)] == [tuple(row) for row in db.rows(rows)]
        assert imported(other, text) == name  # once more
        assert totals(other, Period()) == before
        delete(other, [name])
        assert imported(other, text) == name  # and when it was removed
        assert exported(other, name) == text
        assert totals(other, Period()) == before
        assert sums(other) == sums(db)
        assert search(other, "retries") == []
        assert other.check() == []
    assert imported(db, text) == name
    assert totals(db, Period()) == before


def test_a_rich_one_is_known_again(db: Database) -> None:
    assert restore(db, RICH) == (RICH.conversation.id, True, False)
    assert record(dump(db, RICH.conversation.id)) == record(RICH)
    assert restore(db, RICH) == (RICH.conversation.id, False, False)
    found = totals(db, Period())
    assert (found.calls, found.hedges, found.copies, found.cost) == (5, 1, 1, 27)
    pinned = side.pinned(db, RICH.conversation.id)
    side.pin(db, min(pinned), pinned=False)  # changed here, it is another one
    assert restore(db, RICH).renamed
    assert totals(db, Period()) == found


def test_a_document_from_before_is_known_again_where_more_is_known_here(db: Database) -> None:
    name = eventful(db)
    old = plain(dump(db, name))
    before = sums(db), exported(db, name)
    assert restore(db, old) == (name, False, False)
    assert (sums(db), exported(db, name)) == before
    # One that does know of costs, and of no pin, is another one.
    whole = dump(db, name)
    assert restore(db, replace(whole, pinned=frozenset())).renamed
    rename(db, name, "Mine now")
    second = restore(db, old)
    assert second.new
    assert second.renamed
    assert restore(db, old) == (second.id, False, True)
    assert sums(db)[0] == before[0][0]


def test_an_old_document_comes_in_as_it_did(db: Database) -> None:
    old = plain(RICH)
    assert restore(db, old).new
    assert record(dump(db, old.conversation.id)) == record(old)
    rows = db.rows("SELECT number, role, at, cost FROM attempts WHERE turn = 2 ORDER BY id")
    assert [tuple(row) for row in rows] == [(n, "", 0, None) for n in range(1, 6)]
    assert totals(db, Period()).known_cost is None


def test_the_stand_in_for_another_program_goes_with_a_copy_beside_it(
    db: Database, tmp_path: Path
) -> None:
    """Alone it is left out, for it follows from the turn; a copy beside it makes it be said."""
    figures = replace(RICH.exchanges[1].figures, cost=70)
    whole = replace(RICH, exchanges=(Exchange(1, 2, figures),))
    name = restore(db, whole).id
    assert totals(db, Period()).cost == 70
    assert record(dump(db, name)) == record(whole)
    alone = Attempted(
        **{each: getattr(figures, each) for each in figures.__dataclass_fields__}, role="import"
    )
    said_so = replace(whole, exchanges=(Exchange(1, 2, figures, attempts=(alone,)),))
    assert restore(db, said_so) == (name, False, False)
    migration.keep_shadow(db, name, tried(5, role="shadow"), None)
    assert [each.role for each in dump(db, name).exchanges[0].attempts] == ["import", "shadow"]
    with contextlib.closing(Database(str(tmp_path / "other.db"))) as other:
        assert imported(other, exported(db, name)) == name
        assert exported(other, name) == exported(db, name)
        assert sums(other) == sums(db)
        assert totals(other, Period()).cost == 75


def test_a_stand_in_that_used_nothing_is_said(db: Database) -> None:
    """It does not follow from a turn without tokens."""
    turn = WHOLE.exchanges[2]
    alone = Attempted(turn.figures.started, "interrupted", "box", "test-model", role="import")
    whole = replace(WHOLE, exchanges=(replace(turn, attempts=(alone,)),))
    assert restore(db, whole).new
    assert record(dump(db, WHOLE.conversation.id)) == record(whole)
    assert totals(db, Period()).calls == 1


def test_a_summary_of_nothing_that_is_there_is_left_behind(db: Database) -> None:
    name = restore(db, WHOLE).id
    side.summarise(db, name, 999, "Of what?")
    assert record(dump(db, name)) == record(WHOLE)


# --- Once more ------------------------------------------------------------------------------------


def test_brought_in_twice_it_is_there_once(db: Database) -> None:
    assert restore(db, WHOLE).new
    assert restore(db, WHOLE) == (WHOLE.conversation.id, False, False)
    # Gone on with here, it is another one; what is here is not touched.
    rename(db, WHOLE.conversation.id, "Mine now")
    mine = dump(db, WHOLE.conversation.id)
    second = restore(db, WHOLE)
    assert second.new
    assert second.renamed
    assert second.id != WHOLE.conversation.id
    assert dump(db, WHOLE.conversation.id) == mine
    assert restore(db, WHOLE) == (second.id, False, True)
    rename(db, second.id, "Mine too")
    third = restore(db, WHOLE)
    assert third.new
    assert len({third.id, second.id, WHOLE.conversation.id}) == 3


@pytest.mark.parametrize(
    "identity", ["chatgpt:6f9a", "x", "../../etc", "ABC" * 5, "ö\ud800", "a" * 99]
)
def test_a_foreign_id_becomes_one_that_can_be_typed(db: Database, identity: str) -> None:
    whole = replace(WHOLE, conversation=replace(WHOLE.conversation, id=identity))
    restored = restore(db, whole)
    assert restored.new
    assert not restored.renamed
    assert find(db, restored.id[:8]).id == restored.id
    assert restore(db, whole) == (restored.id, False, False)


def test_an_open_turn_is_what_came_of_it(db: Database) -> None:
    writer = turns.enlist(db)
    begun = said(db, writer, "", "One", TURN)
    open_ = turns.begin(db, writer, begun.conversation, "Two", begun.prompt + 1,
                        provider="box", model="m", system="", params={})  # fmt: skip
    assert dump(db, begun.conversation).exchanges[-1].figures.finish == "failed"
    turns.journal(db, writer, [(open_.turn, 0, "Half an ", "hm")])
    turns.journal(db, writer, [(open_.turn, 1, "answer", "")])
    whole = dump(db, begun.conversation)
    assert whole.messages[-1].text == "Half an answer"
    assert whole.messages[-1].reasoning == "hm"
    assert whole.exchanges[-1].figures.finish == "interrupted"
    assert whole.conversation.head == len(whole.messages) == 4
    assert len(tree(db, begun.conversation)) == 3  # nothing was changed


def test_one_that_cannot_be_written_leaves_nothing(db: Database) -> None:
    broken = replace(WHOLE.exchanges[0], prompt=99)
    with pytest.raises(KeyError):
        restore(db, replace(WHOLE, exchanges=(*WHOLE.exchanges, broken)))
    with pytest.raises(UsageError):
        get(db, WHOLE.conversation.id)
    assert db.rows("SELECT * FROM messages") == []
    assert restore(db, WHOLE).new


# --- llm's logs.db ------------------------------------------------------------------------------


def by_title(path: Path) -> dict[str, Whole]:
    return {whole.conversation.title: whole for whole in llm(str(path))}


def texts(whole: Whole) -> list[tuple[int | None, str, str]]:
    return [(each.parent, each.role, each.text) for each in whole.messages]


FIRST = [
    (None, "user", "What is a cat?"),
    (1, "assistant", "An animal."),
    (2, "user", "A long text.\nAnd this?\n\n[attachment: image/png cat.png]"),
    (3, "assistant", "Another."),
]


def test_the_logs_of_an_older_llm(tmp_path: Path, db: Database) -> None:
    found = by_title(llm_logs.old(tmp_path / "logs.db").path)
    assert set(found) == {"What is a cat?", "Time?"}
    cat = found["What is a cat?"]
    assert texts(cat) == FIRST
    about = cat.conversation
    assert (about.model, about.system, about.origin, about.head) == ("gpt-4o", "Be brief", "llm", 4)
    assert about.params == {"temperature": 0.5}
    assert about.created == cat.messages[0].created == 1714557600500
    assert about.updated == 1714557660000
    assert cat.messages[1].reasoning == "Hm."
    figures = cat.exchanges[0].figures
    assert (figures.prompt_tokens, figures.completion_tokens) == (7, 3)
    assert (figures.reasoning_tokens, figures.total, figures.finish) == (2, 1.5, "stop")
    assert cat.exchanges[1].figures.model == "gpt-4o-x"
    assert texts(found["Time?"]) == [(None, "user", "Time?"), (1, "assistant", "Noon.")]
    for whole in found.values():
        assert restore(db, whole).new
        assert not restore(db, whole).new
    assert search(db, "animal")[0].conversation.origin == "llm"


def test_the_logs_of_a_newer_llm_go_on_where_the_older_ones_end(tmp_path: Path) -> None:
    found = by_title(llm_logs.new(tmp_path / "logs.db").path)
    assert set(found) == {"What is a cat?", "Time?", "Time"}
    cat = found["What is a cat?"]
    assert texts(cat) == [*FIRST, (4, "user", "Why?"), (5, "assistant", "Who knows.")]
    assert [each.created for each in cat.messages][:2] == [1714557600500] * 2
    assert (cat.conversation.system, cat.conversation.model) == ("Be brief", "gpt-5")
    assert cat.exchanges[0].figures.completion_tokens == 3
    figures = cat.exchanges[2].figures
    assert (figures.model, figures.cached_tokens, figures.completion_tokens) == ("gpt-5-x", 9, 4)
    time = found["Time"]
    assert texts(time) == [
        (None, "user", "Time?"),
        (1, "assistant", "Noon."),
        (1, "assistant", "I do not know."),
    ]
    assert time.conversation.head == 2


def test_responses_of_no_conversation_are_conversations(tmp_path: Path, db: Database) -> None:
    logs = llm_logs.old(tmp_path / "logs.db")
    for key, conversation in (("a", None), ("b", None), ("c", ""), ("d", "gone"), ("e", "gone")):
        logs.insert(
            "responses", id=f"r-{key}", model="gpt-4o", prompt=f"Prompt {key}?", response=f"{key}!",
            datetime_utc=f"2024-07-0{ord(key) - 96}", conversation_id=conversation,
        )  # fmt: skip
    found = by_title(logs.path)
    for key in "abc":
        whole = found[f"Prompt {key}?"]
        assert texts(whole) == [(None, "user", f"Prompt {key}?"), (1, "assistant", f"{key}!")]
        assert whole.conversation.model == "gpt-4o"
    # Those of one conversation that is gone are still one talk.
    assert [text for _, _, text in texts(found["Prompt d?"])] == [
        "Prompt d?", "d!", "Prompt e?", "e!",
    ]  # fmt: skip
    assert len(found) == 2 + 4
    for whole in found.values():
        assert restore(db, whole).new
    for whole in by_title(logs.path).values():
        assert not restore(db, whole).new


def test_turns_of_a_thread_that_is_gone_are_a_conversation(tmp_path: Path) -> None:
    logs = llm_logs.new(tmp_path / "logs.db")
    with logs.open() as connection:
        connection.execute("DELETE FROM threads WHERE id = '02new'")
    lost = [whole for whole in llm(str(logs.path)) if whole.conversation.id == "llm:02new"]
    assert [text for _, _, text in texts(lost[0])][:2] == ["Time?", "Noon."]


def test_other_databases_and_broken_ones(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE a (b)")
    with pytest.raises(UsageError, match=r"no logs\.db of llm"):
        list(llm(str(path)))
    data = llm_logs.old(tmp_path / "logs.db").path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(UsageError, match="cannot be read"):
        list(llm(str(path)))


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path: Path) -> None:
    logs = llm_logs.old(tmp_path / "logs?#%41.db")
    with logs.open() as connection:
        connection.execute(
            "UPDATE responses SET response = CAST(x'41ff42' AS TEXT) WHERE id = 'r1'"
        )
        connection.execute("UPDATE responses SET datetime_utc = 'someday', options_json = '[' ")
    assert texts(by_title(logs.path)["What is a cat?"])[1] == (1, "assistant", "A\ufffdB")


def test_what_a_store_cannot_say_is_replaced_once(db: Database) -> None:
    """NUL and lone surrogates in a document: it comes in, and is known when it comes again."""
    value = {"format": "holychat", "version": 1, "conversations": [record(WHOLE)]}
    data = json.dumps(value).replace("scattering", "a\\u0000b\\ud800c\\ud83d\\ude00").encode()
    (whole,) = wholes(decoded(data, "file"), "file")
    assert restore(db, whole).new
    assert not restore(db, whole).new
    assert dump(db, WHOLE.conversation.id).messages[1].text == "Because of *a\ufffdb\ufffdc😀*."
    assert db.check() == []
