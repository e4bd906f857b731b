"""The file: its modes, its shape, several processes on it, and what is done when it is damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from holychat.core.failure import StoreTrouble
from holychat.store import db as db_module
from holychat.store.db import Database, _remote
from holychat.store.schema import MIGRATIONS
from tests.store.many import race, write_at_once


def made(path: Path, conversations: int = 60) -> Path:
    """A store with some text in it, closed."""
    with closing(Database(str(path))) as db, db.write():
        for number in range(conversations):
            db.run(
                "INSERT INTO conversations (id, created, updated) VALUES (?, 1, 1)",
                (f"c{number}",),
            )
            db.run(
                "INSERT INTO messages (conversation, role, text, created) VALUES (?, 'user', ?, 1)",
                (f"c{number}", f"message {number} " * 200),
            )
    return path


def count(path: Path, table: str = "messages") -> int:
    with closing(Database(str(path))) as db:
        return int(db.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_it_makes_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "s.db"
    before = os.umask(0)
    try:
        db = Database(str(path))
        with db.write():
            db.run("INSERT INTO conversations (id, created, updated) VALUES ('a', 1, 1)")
        assert [mode(Path(f"{path}{end}")) for end in ("", "-wal", "-shm")] == [0o600] * 3
        db.close()
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700


def test_what_others_can_read_is_made_private(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    tmp_path.chmod(0o755)
    path.chmod(0o644)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("SELECT * FROM messages").fetchall()
        assert mode(Path(f"{path}-wal")) == 0o644
        with closing(Database(str(path))):
            assert [mode(Path(f"{path}{end}")) for end in ("", "-wal", "-shm")] == [0o600] * 3
            assert mode(tmp_path) == 0o755  # the user's own
        with closing(Database(str(path), ours=True)):
            assert mode(tmp_path) == 0o700


def test_an_empty_file_becomes_a_private_store(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.touch(0o644)
    made(path, 1)
    assert mode(path) == 0o600


def test_what_belongs_to_another_user_is_left_as_it_is(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    path.chmod(0o644)
    try:
        os.chown(path, 65534, -1)
    except PermissionError:
        pytest.skip("only root gives files away")
    assert count(path) == 1
    assert mode(path) == 0o644


def test_its_shape_and_its_pragmas(tmp_path: Path) -> None:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        pragma = {
            name: db.rows(f"PRAGMA {name}")[0][0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "user_version")
        }
        assert pragma == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "user_version": len(MIGRATIONS),
        }
        assert db.check() == []


def test_a_remote_disk_gets_no_wal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "s.db", 1)
    monkeypatch.setattr(db_module, "_remote", lambda _: True)
    with closing(Database(str(path))) as db, closing(Database(str(path))) as other:
        assert db.rows("PRAGMA journal_mode")[0][0] == "delete"
        with db.write():
            db.run("UPDATE conversations SET title = 'x'")
        assert other.rows("SELECT title FROM conversations")[0][0] == "x"
        assert db.check() == []


@pytest.mark.parametrize(
    ("place", "kind", "remote"),
    [("home", "nfs4", True), ("home", "ext4", False), ("elsewhere", "nfs", False)],
)
def test_remote_disks_are_told_by_their_mount(
    tmp_path: Path, place: str, kind: str, remote: bool
) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    where = str(home if place == "home" else tmp_path / "b").replace(" ", r"\040")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/x / ext4 rw 0 0\nserver:/x {where} {kind} rw 0 0\nodd line\n")
    assert _remote(str(home / "s.db"), str(mounts)) is remote
    assert not _remote(str(home / "s.db"), str(tmp_path / "nothing"))


def test_a_write_is_all_or_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    with closing(Database(str(path))) as db:

        def half() -> None:
            with db.write():
                db.run("DELETE FROM conversations")
                raise KeyError

        with pytest.raises(KeyError):
            half()
        assert db.row("SELECT id FROM conversations") is not None


def test_what_is_no_text_and_no_number_is_kept_as_near_as_can_be(tmp_path: Path) -> None:
    with closing(Database(str(tmp_path / "s.db"))) as db:
        with db.write():
            db.run(
                "INSERT INTO conversations (id, title, created, updated) VALUES (?, ?, ?, 1)",
                ("a", "half \ud83d, whole \ud83d\ude00", 10**30),
            )
        row = db.rows("SELECT title, created FROM conversations")[0]
        assert tuple(row) == ("half \ufffd, whole 😀", 2**63 - 1)


# --- Several processes ----------------------------------------------------------------------------


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    assert write_at_once(tmp_path / "s.db", processes=8, writes=40) == []
    assert count(tmp_path / "s.db") == 8 * 40


def test_many_first_runs_at_once(tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"{number}.db"
        assert race(path, processes=8) == []
        assert count(path, "writers") == 8
    assert not list(tmp_path.glob("*damaged*"))


def test_a_long_log_is_folded_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with closing(Database(str(path))) as db, closing(Database(str(path))) as reader:
        reader.rows("SELECT 1 FROM conversations")
        for number in range(60):
            with db.write():
                db.run(
                    "INSERT INTO conversations (id, system, created, updated) VALUES (?, ?, 1, 1)",
                    (str(number), "x" * 400_000),
                )
        assert os.stat(f"{path}-wal").st_size < 12 << 20
        assert path.stat().st_size > 16 << 20


def test_a_log_that_was_folded_is_not_folded_at_each_write(tmp_path: Path) -> None:
    """It stayed as long as it had been, so each write after it looked like one write too many."""
    path, folds = tmp_path / "s.db", 0

    def count(statement: str) -> None:
        nonlocal folds
        folds += "wal_checkpoint" in statement

    with closing(Database(str(path))) as db:
        db._connection.set_trace_callback(count)
        for number in range(300):
            with db.write(durable=False):
                db.run(
                    "INSERT INTO conversations (id, system, created, updated) VALUES (?, ?, 1, 1)",
                    (str(number), "x" * 40_000),
                )
    assert folds <= 5


def test_a_second_connection_takes_no_locks_from_the_first(tmp_path: Path) -> None:
    """Whoever closes any descriptor of a file loses all locks on it (sqlite.org/howtocorrupt, 2.2):
    then another process takes itself for the last one, and deletes the log under our hands."""
    path = tmp_path / "s.db"
    write = (
        "from holychat.store.db import Database; import sys; db = Database(sys.argv[1])\n"
        "with db.write(): db.run(\"INSERT INTO facts VALUES ('theirs', '1')\")\n"
        "db.close()"
    )
    with closing(Database(str(path))) as first, closing(Database(str(path))):
        first.rows("SELECT 1 FROM facts")
        subprocess.run([sys.executable, "-c", write, str(path)], check=True)
        with first.write():
            first.run("INSERT INTO facts VALUES ('ours', '1')")
        read = subprocess.run(
            [sys.executable, "-c", _FACTS, str(path)], check=True, capture_output=True, text=True
        )
    assert read.stdout.split() == ["ours", "theirs"]


_FACTS = (
    "import sqlite3, sys\n"
    "for name, in sqlite3.connect(sys.argv[1]).execute('SELECT name FROM facts ORDER BY name'):\n"
    "    print(name)"
)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not show its locks")
def test_looking_at_a_damaged_file_takes_no_locks_either(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with closing(Database(str(path))) as first, closing(Database(str(path))) as second:
        first.rows("SELECT 1 FROM facts")
        second._movable()
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        inode = os.stat(path).st_ino
        assert any(one[5].endswith(f":{inode}") and one[4] == str(os.getpid()) for one in held)


# --- Versions, and files of others ----------------------------------------------------------------


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    with pytest.raises(StoreTrouble, match="newer holychat"):
        Database(str(path))
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE things (x)")
    before = path.read_bytes()
    with pytest.raises(StoreTrouble, match="another program"):
        Database(str(path))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["other.db"]


def test_an_older_file_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "s.db", 3)
    more = (*MIGRATIONS, ("ALTER TABLE conversations ADD COLUMN mood TEXT",))
    monkeypatch.setattr(db_module, "MIGRATIONS", more)
    with closing(Database(str(path))) as db:
        assert db.rows("PRAGMA user_version")[0][0] == len(more)
        assert len(db.rows("SELECT mood FROM conversations")) == 3


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "s.db", 3)
    bad = (*MIGRATIONS, ("ALTER TABLE conversations ADD COLUMN mood TEXT", "NONSENSE"))
    monkeypatch.setattr(db_module, "MIGRATIONS", bad)
    with pytest.raises(StoreTrouble):
        Database(str(path))
    monkeypatch.undo()
    with closing(Database(str(path))) as db:
        assert "mood" not in db.rows("SELECT * FROM conversations")[0].keys()  # noqa: SIM118
        assert db.check() == []


def test_what_is_not_to_be_made_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreTrouble, match="no such file"):
        Database(str(tmp_path / "s.db"), create=False)
    assert list(tmp_path.iterdir()) == []


# --- Damage ---------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all\n" * 400)


def tiny(path: Path) -> None:
    path.write_bytes(b"short")


def truncated(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: 4096 * 3])


def flipped(path: Path) -> None:
    """Bytes in the middle, behind all that is read at the beginning."""
    data = bytearray(path.read_bytes())
    for at in range(40 * 4096, len(data), 4096):
        data[at : at + 100] = bytes(255 for _ in range(100))
    path.write_bytes(data)


def spoiled_index(path: Path) -> None:
    """A search index that nothing can be added to."""
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE words_data SET block = x'ffffffff' WHERE id = 10")
        raw.execute("UPDATE pieces_data SET block = x'ff00' WHERE id > 10")


def torn_schema(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:4096] = bytes(255 for _ in range(3996))
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "ours"),
    [(garbage, True), (tiny, True), (truncated, False), (torn_schema, False)],
)
def test_a_damaged_file_is_put_aside_with_its_date(
    tmp_path: Path, spoil: Callable[[Path], None], ours: bool
) -> None:
    path = made(tmp_path / "s.db")
    spoil(path)
    before = path.read_bytes()
    with closing(Database(str(path), ours=ours)) as db:
        assert f"s.db.damaged-{time.strftime('%Y')}" in db.put_aside
        assert Path(db.put_aside).read_bytes() == before
        assert db.check() == []
    assert mode(path) == 0o600
    with closing(Database(str(path))) as again:
        assert again.put_aside == ""


def test_nothing_that_was_put_aside_is_overwritten(tmp_path: Path) -> None:
    path, names = tmp_path / "s.db", []
    for number in range(3):
        path.write_bytes(b"garbage %d" % number * 400)
        with closing(Database(str(path), ours=True)) as db:
            names.append(db.put_aside)
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
    assert [Path(name).read_bytes()[:9] for name in names] == [b"garbage %d" % n for n in range(3)]


def foreign(path: Path) -> None:
    """Another program's database, damaged."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE things (x)")
    torn_schema(path)


@pytest.mark.parametrize("make", [garbage, tiny, foreign])
def test_a_file_that_was_never_ours_is_left_where_it_is(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "notes.txt"
    make(path)
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(StoreTrouble, match=r"no database|damaged"):
        Database(str(path))
    assert path.read_bytes() == before
    assert mode(path) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_that_is_written_over_by_another_program_is_left(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db")
    with closing(Database(str(path))) as db:
        garbage(path)
        with pytest.raises(StoreTrouble), db.write():
            db.run("DELETE FROM messages")
        assert not db.damaged


def test_a_reader_puts_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    garbage(path)
    with pytest.raises(StoreTrouble, match="no database"):
        Database(str(path), create=False)
    assert [each.name for each in tmp_path.iterdir()] == ["s.db"]


def test_many_that_meet_one_damaged_file_put_only_that_aside(tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"{number}.db"
        torn_schema(made(path))
        assert race(path, processes=8) == []
        assert count(path, "writers") == 8
        assert len(list(tmp_path.glob(f"{number}.db.damaged-*[0-9]"))) == 1


def test_who_was_slower_leaves_the_new_file_alone(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 2)
    with closing(Database(str(path))) as slow, closing(Database(str(path))) as fast:
        assert fast.quarantine()
        made(path, 3)
        assert slow.quarantine() == ""
        with pytest.raises(StoreTrouble, match="removed or replaced"), slow.write():
            pass
    assert count(path) == 3


def test_damage_that_shows_later_is_said(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db")
    flipped(path)
    with closing(Database(str(path))) as db:
        assert db.put_aside == ""
        with pytest.raises(StoreTrouble, match="damaged"):
            db.rows("SELECT sum(length(text)) FROM messages")
        assert db.damaged
        assert db.check() != []


def test_an_index_that_lost_its_messages_is_found_and_made_anew(tmp_path: Path) -> None:
    with closing(Database(str(made(tmp_path / "s.db")))) as db:
        with db.write():
            db.run("DROP TRIGGER messages_removed")
            db.run("DELETE FROM messages WHERE id = 7")
        assert [wrong.split(":")[0] for wrong in db.check()] == [
            "the search index words",
            "the search index pieces",
        ]
        assert not db.damaged  # the messages are as they were
        db.reindex()
        assert db.check() == []


def test_a_damaged_index_is_mended(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db")
    spoiled_index(path)
    with closing(Database(str(path))) as db:
        with pytest.raises(StoreTrouble, match="search index"), db.write():
            db.run("DELETE FROM messages WHERE id = 7")
        done, wrong = db.mend()
        assert done == ["the search index was damaged and is made anew"]
        assert wrong == []
        assert db.mend() == ([], [])
        assert len(db.rows("SELECT rowid FROM words WHERE words MATCH 'message'")) == 60


def test_a_file_that_is_gone_is_not_written_any_more(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    with closing(Database(str(path))) as db:
        path.unlink()
        with pytest.raises(StoreTrouble, match="removed or replaced"), db.write():
            pass


# --- Full, locked, not ours -----------------------------------------------------------------------


def test_full(tmp_path: Path) -> None:
    with closing(Database(str(made(tmp_path / "s.db", 1)))) as db:
        pages = db.rows("PRAGMA page_count")[0][0]
        db.rows(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreTrouble, match="the disk is full"), db.write():
            db.run("UPDATE messages SET text = ?", ("x" * 100_000,))
        assert db.check() == []


def test_locked_for_longer_than_the_patience(tmp_path: Path) -> None:
    path = made(tmp_path / "s.db", 1)
    with (
        closing(Database(str(path))) as other,
        closing(Database(str(path), patience=0.1)) as db,
        other.write(),
    ):
        assert len(db.rows("SELECT * FROM messages")) == 1  # readers are not kept out
        began = time.monotonic()
        with pytest.raises(StoreTrouble, match="locked"), db.write():
            pass
        assert 0.09 < time.monotonic() - began < 2


def test_a_copy_is_made_while_others_write(tmp_path: Path) -> None:
    path, copy = made(tmp_path / "s.db"), tmp_path / "copy.db"
    with closing(Database(str(path))) as db:
        db.backup(str(copy))
        assert mode(copy) == 0o600
        assert count(copy) == 60
        with pytest.raises(StoreTrouble, match="there already"):
            db.backup(str(copy))
        with pytest.raises(StoreTrouble):
            db.backup(str(tmp_path / "no" / "where"))


UNPRIVILEGED = """
import os, sys, tempfile
from holychat.core.failure import StoreTrouble
from holychat.store.db import Database
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    db = Database(sys.argv[1])
    print(len(db.rows("SELECT * FROM messages")))
    with db.write():
        db.run("DELETE FROM messages")
except StoreTrouble as trouble:
    print(trouble.what.rpartition(": ")[2])
"""


def unprivileged(path: Path) -> list[str]:
    """What somebody who may not write gets of the file."""
    ended = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert not ended.stderr, ended.stderr
    return ended.stdout.split("\n")[:-1]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can come to."""
    folder = Path(tempfile.mkdtemp(prefix="holychat-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_file_that_may_only_be_read(open_folder: Path) -> None:
    path = made(open_folder / "s.db", 1)
    path.chmod(0o444)
    open_folder.chmod(0o777)
    assert unprivileged(path) == ["1", "it cannot be written"]
    assert count(path) == 1


def left_by_a_kill(path: Path) -> None:
    """With its last words in the log, as after a kill -9."""
    ends = ("", "-wal", "-shm")
    with closing(Database(str(path))) as db:
        with db.write():
            db.run(
                "INSERT INTO messages (conversation, role, text, created)"
                " VALUES ('c0', 'user', 'last words', 1)"
            )
        for end in ends:
            shutil.copy(f"{path}{end}", f"{path}{end}.copy")
    for end in ends:
        os.replace(f"{path}{end}.copy", f"{path}{end}")


@pytest.mark.parametrize("left", ["nothing", "log", "log and memory"])
def test_a_store_in_a_folder_that_may_only_be_read(open_folder: Path, left: str) -> None:
    path = made(open_folder / "a % of #?.db", 1)
    if left != "nothing":
        left_by_a_kill(path)
    if left == "log":
        os.unlink(f"{path}-shm")
    for each in open_folder.iterdir():
        each.chmod(0o444)
    before = sorted(each.name for each in open_folder.iterdir())
    open_folder.chmod(0o555)
    messages = "1" if left == "nothing" else "2"
    assert unprivileged(path) == [messages, "it cannot be written"]
    assert sorted(each.name for each in open_folder.iterdir()) == before


def test_an_older_store_in_a_folder_that_may_only_be_read(open_folder: Path) -> None:
    path = open_folder / "s.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for statement in MIGRATIONS[0]:
            raw.execute(statement)
        raw.execute(f"PRAGMA application_id = {db_module.APPLICATION}")
        raw.execute("PRAGMA user_version = 1")
        raw.execute("INSERT INTO conversations (id, created, updated) VALUES ('a', 1, 1)")
        raw.execute(
            "INSERT INTO messages (conversation, role, text, created) VALUES ('a', 'user', 'q', 1)"
        )
    path.chmod(0o444)
    open_folder.chmod(0o555)
    before = path.read_bytes()
    assert unprivileged(path) == ["1", "it cannot be written"]
    assert path.read_bytes() == before


def test_a_folder_that_may_only_be_read(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    assert unprivileged(open_folder / "s.db") == ["it cannot be opened"]
    assert unprivileged(open_folder / "deep" / "s.db") == ["Permission denied"]
