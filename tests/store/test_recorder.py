"""Writing down what is said while it is said; and a store that fails in every way it can."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from holychat.core.chat import Finish, Turn, Usage
from holychat.core.failure import StoreTrouble
from holychat.store import conversations
from holychat.store import db as db_module
from holychat.store import recorder as recorder_module
from holychat.store.db import Database
from holychat.store.recorder import AGAIN, EVERY, Recorder
from tests.process import Ended, Place
from tests.provider import Provider, Wait, answer, chunk, run
from tests.store.test_db import (
    count,
    flipped,
    garbage,
    made,
    spoiled_index,
    torn_schema,
    truncated,
)

ANSWER = "the answer is here"


@contextmanager
def recording(path: Path | None) -> Iterator[Recorder]:
    recorder = Recorder(None if path is None else str(path))
    try:
        yield recorder
    finally:
        recorder.close()


def begin(recorder: Recorder, prompt: str = "q", kept: int = 0) -> None:
    recorder.begin(prompt, kept, provider="p", model="m", system="", params={}).result(20)


def end(recorder: Recorder, text: str = "a") -> None:
    recorder.end(Turn(text, "", Finish.STOP, "p", "m")).result(20)


def said(path: Path) -> list[str]:
    with closing(Database(str(path))) as db:
        return [kept.text for kept in conversations.branch(db, conversations.latest(db))]


def journalled(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as raw:
        return [row[0] for row in raw.execute("SELECT text FROM journal ORDER BY number")]


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def newer(path: Path) -> None:
    made(path, 1)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 999")


def another(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE things (x)")


def test_one_conversation(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        assert recorder.conversation == ""
        begin(recorder)
        recorder.add("a", "")
        end(recorder)
        begin(recorder, "q2", 1)
        end(recorder, "a2")
        begin(recorder, "q3", 1)  # in place of the second
        end(recorder, "a3")
        assert recorder.keeping
    assert said(path) == ["q", "a", "q3", "a3"]
    assert count(path) == 6
    assert count(path, "writers") == 0
    assert not recorder.warnings


def test_it_is_on_the_disk_when_begin_is_done(tmp_path: Path) -> None:
    with recording(tmp_path / "s.db") as recorder:
        begin(recorder, "the prompt")
        with closing(sqlite3.connect(tmp_path / "s.db")) as raw:
            assert raw.execute("SELECT text FROM messages").fetchall() == [("the prompt",)]


def test_the_open_turn_is_known(tmp_path: Path) -> None:
    for path in (tmp_path / "s.db", None):
        with recording(path) as recorder:
            assert recorder.turn is None
            begin(recorder)
            assert recorder.turn == (1 if path else None)
            end(recorder)
            assert recorder.turn is None


def test_pace(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder)
        time.sleep(0.05)
        assert journalled(path) == []
        recorder.add("x" * 5000, "")  # 4 KiB are written at once
        wait_for(lambda: journalled(path) == ["x" * 5000], EVERY * 0.8)
        began = time.monotonic()
        for _ in range(10):
            recorder.add("y", "")
            time.sleep(0.01)
        wait_for(lambda: len(journalled(path)) == 2, 2)
        assert time.monotonic() - began < 2 * EVERY + 0.3
        assert journalled(path)[1] == "y" * 10


def test_text_that_came_while_the_store_was_locked_is_kept(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    with closing(Database(str(path))) as other, recording(path) as recorder:
        with other.write():
            opened = recorder.begin("q", 0, provider="p", model="m", system="", params={})
            recorder.add("early ", "")
            time.sleep(0.3)
            assert not opened.done()
        opened.result(20)
        recorder.add("late", "")
        wait_for(lambda: "".join(journalled(path)) == "early late")


def test_nothing_is_kept_where_nothing_is_to_be(tmp_path: Path) -> None:
    before = threading.active_count()
    with recording(None) as recorder:
        begin(recorder)
        recorder.add("a", "")
        end(recorder)
        assert not recorder.keeping
        assert recorder.bury().result(5) == ([], [])
        assert threading.active_count() == before
        with pytest.raises(StoreTrouble, match="no conversation is kept"):
            recorder.ask(conversations.listing).result(5)
    assert not recorder.warnings


def test_what_is_asked_raises_and_breaks_nothing(tmp_path: Path) -> None:
    with recording(tmp_path / "s.db") as recorder:
        begin(recorder)
        with pytest.raises(StoreTrouble):
            recorder.ask(lambda db: db.rows("NONSENSE")).result(5)
        end(recorder)
        assert len(recorder.ask(conversations.listing).result(5)) == 1
        assert recorder.keeping


def test_text_that_cannot_be_encoded_and_numbers_without_end(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder, "bad \udcff byte \0")
        recorder.add("half \ud83d", "")
        wait_for(lambda: journalled(path) == ["half \ufffd"])
        usage = Usage(10**30, 1)
        recorder.end(Turn("half \ud83d\ude00", "", Finish.STOP, "p", "m", usage)).result(5)
        assert not recorder.warnings
    assert said(path) == ["bad \ufffd byte \ufffd", "half 😀"]


def test_the_thread_outlives_what_nobody_thought_of(tmp_path: Path) -> None:
    with recording(tmp_path / "s.db") as recorder:
        recorder._keep(lambda _: 1 / 0).result(5)  # type: ignore[arg-type, func-returns-value]
        begin(recorder)
        end(recorder)
    assert [warning for warning in recorder.warnings if "not being kept" in warning]


# --- Trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [truncated, torn_schema])
def test_a_damaged_file_is_replaced(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = made(tmp_path / "s.db")
    spoil(path)
    before = path.read_bytes()
    with recording(path) as recorder:
        begin(recorder)
        end(recorder)
        assert ["the store was damaged" in warning for warning in recorder.warnings] == [True]
    assert said(path) == ["q", "a"]
    (aside,) = tmp_path.glob("s.db.damaged-*")
    assert aside.read_bytes() == before


def test_damage_that_shows_at_the_first_prompt(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db")
    flipped(path)
    with recording(path) as recorder:
        begin(recorder)
        end(recorder)
        assert ["the store was damaged" in warning for warning in recorder.warnings] == [True]
    assert said(path) == ["q", "a"]
    assert len(list(tmp_path.glob("s.db.damaged-*[0-9]"))) == 1


def test_damage_in_the_middle_of_a_conversation(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db")
    with recording(path) as recorder:
        begin(recorder)
        end(recorder)
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        flipped(path)
        begin(recorder, "q2", 1)
        end(recorder, "a2" * 3000)
        begin(recorder, "q3", 2)
        end(recorder, "a3")
        assert len(recorder.warnings) == 1
        assert "is damaged. It is kept as " in recorder.warnings[0]
        assert not recorder.keeping
    assert len(list(tmp_path.glob("s.db.damaged-*[0-9]"))) == 1
    with recording(path) as recorder:
        begin(recorder)
        assert recorder.keeping


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder)
        end(recorder)
        for end_ in ("", "-wal", "-shm"):
            path.with_name(path.name + end_).unlink(missing_ok=True)
        if replaced:
            made(path, 3)
        begin(recorder, "q2", 1)
        end(recorder)
        assert ["removed or replaced" in warning for warning in recorder.warnings] == [True]
    assert path.exists() is replaced
    if replaced:
        assert count(path) == 3


def test_a_full_disk_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder)
        recorder.ask(
            lambda db: db.rows(f"PRAGMA max_page_count = {db.rows('PRAGMA page_count')[0][0]}")
        ).result(5)
        recorder.add("kept? " * 100_000, "")
        wait_for(lambda: recorder.warnings)
        end(recorder, "x" * 100_000)
        assert ["the disk is full" in warning for warning in recorder.warnings] == [True]
    with closing(Database(str(path))) as db:
        assert db.check() == []
        assert db.rows("SELECT text FROM messages")[0]["text"] == "q"


# --- Trouble that passes --------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is trouble at once."""
    monkeypatch.setattr(db_module, "PATIENCE", 0.05)
    monkeypatch.setattr(recorder_module, "RETRY", 0.02)


def conversation(recorder: Recorder, *prompts: str, first: int = 0) -> None:
    """Whole exchanges; the answers tell the prompts."""
    for number, prompt in enumerate(prompts, first):
        begin(recorder, prompt, number)
        recorder.add(f"to {prompt}", "")
        end(recorder, f"to {prompt}")


def kept(path: Path) -> list[list[str]]:
    """The branches of all conversations, the oldest first."""
    with closing(Database(str(path))) as db:
        found = reversed(conversations.listing(db))
        return [[each.text for each in conversations.branch(db, one)] for one in found]


def not_kept(recorder: Recorder) -> list[str]:
    return [warning for warning in recorder.warnings if "not being kept" in warning]


@pytest.mark.usefixtures("impatient")
def test_what_was_said_while_the_store_was_locked_is_written_when_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        conversation(recorder, "q1")
        with closing(Database(str(path))) as other, other.write():
            conversation(recorder, "q2", "q3", first=1)
            assert not recorder.keeping
            assert len(not_kept(recorder)) == 1
            assert "another program holds it locked" in recorder.warnings.popleft()
        begin(recorder, "q4", 3)
        assert recorder.keeping
        assert list(recorder.warnings) == [AGAIN]
        end(recorder, "to q4")
        assert recorder.unkept == []
    assert said(path) == ["q1", "to q1", "q2", "to q2", "q3", "to q3", "q4", "to q4"]
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT finish, writer FROM turns").fetchall() == [("stop", None)] * 4
        times = [row[0] for row in raw.execute("SELECT created FROM messages ORDER BY id")]
        assert times == sorted(times)
        assert raw.execute("SELECT count(*) FROM journal").fetchone() == (0,)


@pytest.mark.usefixtures("impatient")
def test_each_conversation_is_written_back_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder, "a", 0)
        with closing(Database(str(path))) as other, other.write():
            end(recorder, "to a")
            recorder.new()
            conversation(recorder, "b", "c")
            recorder.rewind(1)
            conversation(recorder, "d", first=1)
            recorder.new()
        conversation(recorder, "e")
        assert recorder.keeping
    assert kept(path) == [["a", "to a"], ["b", "to b", "d", "to d"], ["e", "to e"]]


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_was_gone_on_with_meanwhile_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder)
        with closing(Database(str(path))) as other, other.write():
            recorder.end(Turn("half", "", Finish.INTERRUPTED, "p", "m")).result(20)
            about = {"provider": "p", "model": "m", "system": "", "params": {}}
            recorder.begin("q", 0, joined=True, **about).result(20)  # type: ignore[arg-type]
            end(recorder, "half and whole")
        assert recorder.caught_up().result(20)
    assert said(path) == ["q", "half and whole"]
    assert count(path) == 2


@pytest.mark.usefixtures("impatient")
def test_it_is_tried_again_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    made(path, 0)
    with recording(path) as recorder:
        with closing(Database(str(path))) as other, other.write():
            conversation(recorder, "q")
            assert not recorder.keeping
        recorder.close()
        assert recorder.unkept == []
        assert not recorder.warnings  # nobody has heard of the trouble, and it is over
    assert said(path) == ["q", "to q"]
    assert count(path, "writers") == 0


@pytest.mark.usefixtures("impatient")
def test_it_says_what_is_not_kept_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        conversation(recorder, "q1")
        begin(recorder, "q2", 1)
        with closing(Database(str(path))) as other, other.write():
            end(recorder, "to q2")
            conversation(recorder, "q3", first=2)
            recorder.close()
        assert recorder.unkept == ["q2", "q3"]
        assert len(recorder.warnings) == 1


@pytest.mark.usefixtures("impatient")
def test_it_is_tried_again_while_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "ALIVE", 0.1)
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder)
        with closing(Database(str(path))) as other, other.write():
            end(recorder, "a")
            recorder.draft("half a tho").result(20)
            recorder.warnings.clear()
        wait_for(lambda: recorder.keeping)
        assert said(path) == ["q", "a"]
        assert list(recorder.warnings) == [AGAIN]
        with closing(sqlite3.connect(path)) as raw:
            assert raw.execute("SELECT draft FROM writers").fetchall() == [("half a tho",)]


@pytest.mark.usefixtures("impatient")
def test_what_came_of_an_answer_meanwhile_is_in_the_journal_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "ALIVE", 0.1)
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder)
        with closing(Database(str(path))) as other, other.write():
            recorder.add("early ", "")
            wait_for(lambda: not recorder.keeping)
            recorder.add("and " * 2000, "")
        recorder.add("late", "")
        wait_for(lambda: "".join(journalled(path)) == f"early {'and ' * 2000}late")


def test_a_full_disk_that_has_room_again(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder)
        recorder.ask(lambda db: db.rows("PRAGMA max_page_count = 1")).result(5)
        end(recorder, "x" * 100_000)
        assert "the disk is full" in recorder.warnings.popleft()
        conversation(recorder, "q2", first=1)
        assert not recorder.warnings
        recorder.ask(lambda db: db.rows("PRAGMA max_page_count = 1000000")).result(5)
        conversation(recorder, "q3", first=2)
        assert list(recorder.warnings) == [AGAIN]
    assert said(path) == ["q", "x" * 100_000, "q2", "to q2", "q3", "to q3"]


def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "place" / "s.db"
    path.parent.write_text("")
    with recording(path) as recorder:
        conversation(recorder, "q1")
        assert len(not_kept(recorder)) == 1
        recorder.warnings.clear()
        path.parent.unlink()
        conversation(recorder, "q2", first=1)
        assert list(recorder.warnings) == [AGAIN]
    assert said(path) == ["q1", "to q1", "q2", "to q2"]


@pytest.mark.usefixtures("impatient")
def test_trouble_is_said_beside_each_conversation_once(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        begin(recorder, "about rivers")
        with closing(Database(str(path))) as other, other.write():
            ended = recorder.end(Turn("a", "", Finish.STOP, "p", "m"))
            recorder.new()  # before the lock is found to be none that passes
            ended.result(20)
            assert "with “about rivers” is not being kept: " in recorder.warnings[0]
            conversation(recorder, "b", "c")
            (_, mine) = not_kept(recorder)
            assert mine.startswith("this conversation is not being kept: ")


@pytest.mark.parametrize("make", [newer, another, garbage])
def test_a_file_that_is_not_to_be_touched_is_not_looked_at_again(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    make(path)
    with recording(path) as recorder:
        conversation(recorder, "q1")
        monkeypatch.setattr(db_module, "Database", None)  # nobody opens it any more
        conversation(recorder, "q2", first=1)
        assert not recorder.keeping
        recorder.close()
        assert len(recorder.warnings) == 1
        assert recorder.unkept == ["q1", "q2"]


def test_a_conversation_that_is_deleted_meanwhile_does_not_end_the_next(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        conversation(recorder, "q1")
        with closing(Database(str(path))) as other:
            conversations.delete(other, [recorder.conversation])
        conversation(recorder, "q2", first=1)
        assert "was deleted meanwhile" in recorder.warnings[0]
        assert not recorder.keeping
        recorder.new()
        conversation(recorder, "q3")
        assert recorder.keeping
        recorder.close()
        assert len(recorder.warnings) == 1
        assert recorder.unkept == ["q2"]
    assert kept(path) == [["q3", "to q3"]]


def test_a_damaged_search_index_is_made_anew_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        conversation(recorder, "q1")
    spoiled_index(path)
    with recording(path) as recorder:
        conversation(recorder, "q2")
        assert recorder.keeping
        assert list(recorder.warnings) == [
            "the search index of the store was damaged: it is made anew"
        ]
    assert said(path) == ["q2", "to q2"]
    with closing(Database(str(path))) as db:
        assert db.check() == []


def test_who_does_not_wait_any_longer_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with recording(path) as recorder:
        go = threading.Event()
        recorder.ask(lambda _: go.wait(20))
        asked, opened = recorder.ask(conversations.listing), recorder.bury()
        begun = recorder.begin("q", 0, provider="p", model="m", system="", params={})
        assert all(each.cancel() for each in (asked, opened, begun))
        go.set()
        end(recorder)
        assert recorder.keeping
    assert said(path) == ["q", "a"]


def test_the_bell_rings_when_there_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.mkdir()
    with recording(path) as recorder:
        bell = recorder.warned()
        assert not bell.done()
        begin(recorder)
        bell.result(5)
        recorder.warned().result(5)  # until it is taken out
        recorder.warnings.clear()
        assert not recorder.warned().done()


# --- The same, through the program ----------------------------------------------------------------


async def _ask(root: Path, store: Path, slow: float, line: str) -> Ended:
    place = Place(root)
    async with Provider() as server:
        server.script(chunk("the "), Wait(slow), *answer(ANSWER.removeprefix("the ")))
        place.provider(server.base_url)
        return await place.shell(line, HOLYCHAT_STORE=str(store))


def ask(store: Path, *, slow: float = 0.0, line: str = "exec $H ask hi") -> Ended:
    """One question; the answer must come, whatever the store is."""
    with tempfile.TemporaryDirectory() as folder:
        ended = run(_ask(Path(folder), store, slow, line))
    assert (ended.code, ended.text) == (0, ANSWER + "\n"), ended.err
    return ended


def one_line(ended: Ended, *wanted: str) -> None:
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert all(part in lines[0] for part in wanted), ended.err


def test_ask_keeps_it(tmp_path: Path) -> None:
    assert ask(tmp_path / "s.db").err == ""
    assert said(tmp_path / "s.db") == ["hi", ANSWER]
    assert count(tmp_path / "s.db", "writers") == 0


def test_ask_where_holychat_keeps_it_by_itself(tmp_path: Path) -> None:
    """Whatever stands there is ours: it may be put aside, and others need not read it."""
    place = Place(tmp_path)
    path = place.home / ".local" / "share" / "holychat" / "conversations.db"
    path.parent.mkdir(parents=True, mode=0o755)
    garbage(path)
    path.chmod(0o644)

    async def work() -> Ended:
        async with Provider() as server:
            server.script(*answer(ANSWER))
            place.provider(server.base_url)
            return await place.run("ask", "hi")

    one_line(run(work()), "the store was damaged", ".damaged-20")
    assert said(path) == ["hi", ANSWER]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("spoil", [truncated, torn_schema, flipped])
def test_ask_with_a_damaged_store(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = made(tmp_path / "s.db")
    spoil(path)
    one_line(ask(path), "the store was damaged", ".damaged-20")
    assert said(path) == ["hi", ANSWER]


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (newer, "written by a newer holychat"),
        (another, "another program"),
        (garbage, "it is no database"),
        (Path.mkdir, "not being kept"),
    ],
)
def test_ask_with_something_else_there(
    tmp_path: Path, make: Callable[[Path], None], wanted: str
) -> None:
    path = tmp_path / "s.db"
    make(path)
    before = path.is_dir() or path.read_bytes()
    one_line(ask(path), wanted)
    assert (path.is_dir() or path.read_bytes()) == before


def test_ask_with_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one_line(ask(tmp_path / "file" / "s.db"), "not being kept")


def test_ask_with_a_store_that_is_removed_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    def remove() -> None:
        wait_for(lambda: path.with_name("s.db-wal").exists(), 20)
        wait_for(lambda: b"the prompt" in path.with_name("s.db-wal").read_bytes(), 20)
        for end_ in ("", "-wal", "-shm"):
            path.with_name(path.name + end_).unlink(missing_ok=True)

    thread = threading.Thread(target=remove)
    thread.start()
    ended = ask(path, slow=1.5, line="exec $H ask 'the prompt'")
    thread.join()
    one_line(ended, "removed or replaced")
    assert not path.exists()


def test_ask_with_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    one_line(ask(tmp_path / "s.db", line="ulimit -f 60; exec $H ask hi"), "not being kept")


OWN_DISK = "exec unshare -rm sh -c 'mount -t tmpfs -o size=%s none %s && exec \"$@\"' - "


@pytest.mark.parametrize("size", ["32k", "140k"])
def test_ask_with_a_full_disk(tmp_path: Path, size: str) -> None:
    own = OWN_DISK % (size, tmp_path)
    if subprocess.run(["sh", "-c", own + "true"], capture_output=True, check=False).returncode:
        pytest.skip("no disks of our own here")
    one_line(ask(tmp_path / "s.db", line=own + "$H ask hi"), "the disk is full")


# The trouble comes after the answer, when `ask` shows no warnings any more.


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Another process has the file to itself for so long."""
    code = (
        "import sqlite3, sys, time\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA locking_mode = EXCLUSIVE'); c.execute('BEGIN EXCLUSIVE')\n"
        "print(1, flush=True); time.sleep(float(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


def test_ask_with_a_store_that_is_locked_for_a_while(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    with locked(path, 3):
        assert ask(path).err == ""
    assert said(path) == ["hi", ANSWER]


@pytest.mark.slow
def test_the_answer_does_not_wait_for_a_locked_store(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    with locked(path, 15), tempfile.TemporaryDirectory() as folder:

        async def work() -> tuple[float, Ended]:
            place = Place(Path(folder))
            async with Provider() as server:
                server.script(*answer(ANSWER))
                place.provider(server.base_url)
                began = time.monotonic()
                async with place.start("ask", "hi", HOLYCHAT_STORE=str(path)) as running:
                    await running.until(ANSWER.encode())
                    return time.monotonic() - began, await running.end()

        seconds, ended = run(work())
    assert seconds < 5  # one of them for the store
    assert ended.code == 0
    assert count(path) == 1


@pytest.mark.slow
def test_ask_says_that_the_store_was_locked(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    with locked(path, 15):
        one_line(ask(path), "another program holds it locked")


def test_ask_says_what_befell_the_last_words(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    def spoil() -> None:
        wait_for(lambda: path.with_name("s.db-wal").exists(), 20)
        wait_for(lambda: b"the prompt" in path.with_name("s.db-wal").read_bytes(), 20)
        time.sleep(0.6)
        path.unlink()

    thread = threading.Thread(target=spoil)
    thread.start()
    ended = ask(path, slow=1.0, line="exec $H ask 'the prompt'")
    thread.join()
    one_line(ended, "removed or replaced")
