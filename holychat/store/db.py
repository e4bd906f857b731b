"""The SQLite file: opened, kept in shape, shared with other holychats, and never trusted blindly.

Owns the connection, its pragmas, its transactions, the migrations, and what is done about a file
that is damaged, full, locked or from the future. Every foreign error becomes a StoreTrouble here.
Must not know what a conversation is.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from holychat.core.failure import StoreTrouble
from holychat.store.files import tighten
from holychat.store.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SQLITE = sqlite3.sqlite_version
PATIENCE = 5.0  # seconds that a write waits for another holychat's
APPLICATION = 0x486F6C79  # "Holy", in the file's header
MAGIC = b"SQLite format 3\0"  # how every database begins; the application's mark is at byte 68
CHECKPOINT = 4 << 20  # bytes of the write-ahead log from which on it is folded into the file
ROOM = 64 << 10  # bytes without which a disk is full
# SQLite before this one can lose writes when two processes reset the log at once (its changelog).
SAFE_RESET = (3, 51, 3)
# File systems on which the log's shared memory does not work between machines.
REMOTE = ("nfs", "cifs", "smb", "afs", "ceph", "lustre", "9p", "fuse.sshfs", "glusterfs", "gfs")


_MAKING = threading.Lock()  # nobody connects between the making of a file and its closing
_LOOKED_AT: list[int] = []


class Trouble(StoreTrouble):
    """One that came from SQLite or the system; `code` is SQLite's primary result code."""

    def __init__(self, what: str, hint: str, code: int) -> None:
        super().__init__(what, hint)
        self.code = code

    @property
    def passing(self) -> bool:
        """Whether the same may work later: a lock, a full disk, a folder that is not there yet."""
        return self.code in _PASSING

    @property
    def stale(self) -> bool:
        """Whether the file has to be opened anew for that."""
        return self.passing and self.code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL)

    @property
    def deleted(self) -> bool:
        """Whether it was removed meanwhile what something was to be added to."""
        return self.code == sqlite3.SQLITE_CONSTRAINT


class Database:
    """One connection. Use it from one thread at a time.

    A file that cannot be written, or whose folder cannot be, is opened to be read (`readonly`).
    `ours` says that it is where holychat keeps it by itself: whatever stands there is holychat's.
    `index_damaged` says that a search index turned out to be damaged, which `reindex` mends.
    `put_aside` is the new name of a damaged file that stood in its place, if there was one.
    `damaged` says that the file turned out to be damaged while it was used; `quarantine` then puts
    it aside. Raises StoreTrouble; after one it should be closed.
    """

    def __init__(
        self, path: str, *, create: bool = True, patience: float = PATIENCE, ours: bool = False
    ) -> None:
        self.path = path
        self.put_aside = ""
        self.damaged = self.index_damaged = False
        self.readonly = False
        self._ours = ours
        self._copy = ""  # a folder with a copy, where the file itself cannot be read as it is
        self._patience = patience
        self._durable = True  # what the connection is set to
        self._wal = False
        self._identity = _identity(path)
        try:
            self._open(create)
        except sqlite3.DatabaseError as error:
            if create and _damaged(error) and self._movable():
                self.put_aside = self.quarantine()
            elif not (create and self._overtaken(error)):
                raise _trouble(error, path) from error
            try:
                self._open(create=True)
            except sqlite3.Error as again:
                raise _trouble(again, path) from again
        except OSError as error:
            raise _trouble(error, path) from error

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if self._copy:
            shutil.rmtree(self._copy, ignore_errors=True)

    def wait_at_most(self, seconds: float) -> None:
        """For another holychat's write, from now on."""
        self._patience = seconds
        self.rows(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    # --- Reading and writing ------------------------------------------------------------------

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        try:
            return self._execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._met(error) from error

    def row(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a query, if there is one."""
        rows = self.rows(sql, values)
        return rows[0] if rows else None

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """One statement of a write; the id of the row that it inserted."""
        try:
            return self._execute(sql, values).lastrowid or 0
        except sqlite3.Error as error:
            raise self._met(error) from error

    def _execute(self, sql: str, values: Sequence[Any]) -> sqlite3.Cursor:
        # SQL's functions and FTS5 end a text at NUL.
        if any(isinstance(value, str) and "\0" in value for value in values):
            values = [_fitting(value) for value in values]
        try:
            return self._connection.execute(sql, values)
        except (UnicodeEncodeError, OverflowError):  # no text, no number of 64 bits
            return self._connection.execute(sql, [_fitting(value) for value in values])

    def _met(self, error: sqlite3.Error) -> StoreTrouble:
        self.index_damaged = self.index_damaged or _of_index(error)
        self.damaged = self.damaged or (_damaged(error) and self._movable())
        return _trouble(error, self.path)

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[None]:
        """One transaction, all of it or nothing.

        It begins with the lock: a transaction that asks for it later is refused at once where two
        want it, whatever the patience is. One that is not `durable` does not wait for the disk: a
        power cut may undo it, and never tears it; the next durable one saves both.
        """
        self.still_there()
        self._sync(durable)
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        self._fold_log()

    def _sync(self, durable: bool) -> None:
        """In WAL mode NORMAL syncs at checkpoints only (sqlite.org/pragma.html#pragma_synchronous).
        Without a WAL it could leave a torn file, so there everything is durable."""
        durable = durable or not self._wal
        if durable is not self._durable:
            self.run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    def backup(self, path: str) -> None:
        """A copy of the whole store while others go on writing. Raises StoreTrouble."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError as error:
            raise StoreTrouble(f"{path} is there already", "Nothing was written.") from error
        except OSError as error:
            raise _trouble(error, path) from error
        try:
            with contextlib.closing(sqlite3.connect(path)) as target:
                self._connection.backup(target)
        except BaseException as error:
            os.unlink(path)  # half a copy is none
            if isinstance(error, sqlite3.Error):
                raise _trouble(error, path) from error
            raise

    def reindex(self) -> None:
        """Make the search indexes anew from the messages: minutes for a million of them."""
        for index in ("words", "pieces"):
            with self.write():
                self.run(f"INSERT INTO {index} ({index}) VALUES ('rebuild')")  # noqa: S608
        self.index_damaged = False

    def check(self) -> list[str]:
        """What is wrong with the file; nothing for a sound one. Reads all of it."""
        try:
            wrong = [str(row[0]) for row in self.rows("PRAGMA quick_check") if row[0] != "ok"]
        except StoreTrouble as trouble:
            return [trouble.what]
        return wrong if self.readonly else wrong + self._check_indexes()

    def _check_indexes(self) -> list[str]:
        wrong = []
        for index in ("words", "pieces"):
            try:
                with self.write():
                    # The rank makes it compare the index with the messages too.
                    self.run(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")  # noqa: S608
            except StoreTrouble as error:
                wrong.append(f"the search index {index}: {error.what}")
        return wrong

    def mend(self) -> tuple[list[str], list[str]]:
        """Check the file and make a damaged search index anew: (what was done, what is wrong)."""
        wrong = self.check()
        if not self.index_damaged:
            return [], wrong
        try:
            self.reindex()
        except StoreTrouble as trouble:
            return [], [*wrong, trouble.what]
        return ["the search index was damaged and is made anew"], self.check()

    # --- Opening ------------------------------------------------------------------------------

    def _open(self, create: bool) -> None:
        self.readonly = os.path.isfile(self.path) and not _writable(self.path)
        if create and not self.readonly:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._make()
        elif not os.path.exists(self.path):
            raise FileNotFoundError(2, "there is no such file", self.path)
        while True:
            self._identity = _identity(self.path)
            self._connect(self._address() if self.readonly else self.path, uri=self.readonly)
            if _identity(self.path) == self._identity:
                break
            self._connection.close()  # another holychat has put it aside in this moment
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        """Before SQLite does: it would make a file that others can read.

        A file that is there is not opened: closing any descriptor of it would take away the locks
        of all connections that this process has to it (sqlite.org/howtocorrupt, 2.2).
        """
        with _MAKING, contextlib.suppress(PermissionError, FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    @property
    def _folder(self) -> str:
        return os.path.dirname(os.path.abspath(self.path))

    def _connect(self, address: str, *, uri: bool = False) -> None:
        self._connection = sqlite3.connect(
            address,
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
            uri=uri,
        )
        self._connection.row_factory = sqlite3.Row
        # SQL's own lower() knows ASCII alone.
        self._connection.create_function("folded", 1, str.lower, deterministic=True)
        _count_times(self._connection)

    def _address(self) -> str:
        """The file, to be read. Without a log nobody writes in it, and none has to be made."""
        path = os.path.abspath(self.path).replace("\\", "/")
        for sign in "%?#":  # in this order: sqlite.org/uri.html
            path = path.replace(sign, f"%{ord(sign):02x}")
        immutable = "" if _log(self.path) else "&immutable=1"
        return f"file://{'' if path.startswith('/') else '/'}{path}?mode=ro{immutable}"

    def _prepare(self) -> None:
        if self.readonly:
            self._prepare_to_read()
            return
        execute = self._connection.execute
        execute("PRAGMA foreign_keys = ON")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA temp_store = MEMORY")
        execute("PRAGMA secure_delete = FAST")  # what is deleted is not left in the file
        if sqlite3.sqlite_version_info < SAFE_RESET:
            execute("PRAGMA wal_autocheckpoint = 0")
            # A log that was folded would stay as long as it was, and be folded at each write.
            execute("PRAGMA journal_size_limit = 0")
        version = self._version()
        self._tighten()
        self._retried("PRAGMA journal_mode = " + ("DELETE" if _remote(self.path) else "WAL"))
        self._wal = execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        if version < len(MIGRATIONS):
            self._migrate()

    def _version(self) -> int:
        """The file's, which must be ours and not newer than we are."""
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        self._is_ours()
        if version > len(MIGRATIONS):
            raise StoreTrouble(
                f"{self.path} was written by a newer holychat",
                "Update holychat, or name another file with --store.",
            )
        return version

    def _prepare_to_read(self) -> None:
        """Where nothing may be written. A log that was left behind is read from a copy, for its
        shared memory has to be made; and an old file, which is to be brought up to date."""
        self._durable, self._wal = True, False
        try:
            old = self._version() < len(MIGRATIONS)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN or not _log(self.path):
                raise
            old = True
        if old:
            self._read_a_copy()
        self._connection.execute("PRAGMA query_only = ON")

    def _read_a_copy(self) -> None:
        import tempfile

        self._connection.close()
        self._copy = tempfile.mkdtemp(prefix="holychat-")
        copy = os.path.join(self._copy, "copy.db")
        for ending in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(self.path + ending, copy + ending)
        self._connect(copy)
        if self._version() < len(MIGRATIONS):
            self._migrate()

    def _tighten(self) -> None:
        """What others could read; silently, and only of what is ours."""
        for ending in ("", "-wal", "-shm"):
            tighten(self.path + ending, 0o600)
        if self._ours:
            tighten(self._folder, 0o700)

    def _is_ours(self) -> None:
        """An empty file is; one that another program made is not to be touched."""
        mark = self._connection.execute("PRAGMA application_id").fetchone()[0]
        if mark != APPLICATION:
            tables = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            # A migration between the two questions makes tables and the mark at once.
            again = self._connection.execute("PRAGMA application_id").fetchone()[0]
            if tables and again != APPLICATION:
                raise StoreTrouble(
                    f"{self.path} is another program's database",
                    "It is left as it is; name another file with --store.",
                )

    def _retried(self, sql: str) -> None:
        """Changing the journal's mode is refused at once while another connection does the same."""
        until = time.monotonic() + self._patience
        while True:
            try:
                self._connection.execute(sql)
                return
            except sqlite3.OperationalError as error:
                if "lock" not in str(error) or time.monotonic() > until:
                    raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - not for secrets

    def _migrate(self) -> None:
        """Bring the file to our version: one holychat does it, the others find it done."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            version = execute("PRAGMA user_version").fetchone()[0]
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    execute(statement)
            execute(f"PRAGMA application_id = {APPLICATION}")
            execute(f"PRAGMA user_version = {max(version, len(MIGRATIONS))}")
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    # --- Trouble ------------------------------------------------------------------------------

    def still_there(self) -> None:
        """Raises StoreTrouble where the path leads to another file than the one we have open."""
        if _identity(self.path) != self._identity:
            raise StoreTrouble(
                f"{self.path} was removed or replaced while it was open",
                "What is said from now on is not kept; start holychat again.",
            )

    def _movable(self) -> bool:
        """Whether a file that is damaged may be put aside: not one that was never ours; and one
        that another holychat has put aside already needs no more of it."""
        if self._ours or _identity(self.path) != self._identity:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            return isinstance(error, FileNotFoundError)
        _LOOKED_AT.append(descriptor)  # never closed, for the same reason as in `_make`
        if _identity(descriptor) != self._identity:
            return True
        try:
            head = os.read(descriptor, 72)
        except OSError:
            return False
        return head.startswith(MAGIC) and head[68:] == APPLICATION.to_bytes(4, "big")

    def _overtaken(self, error: sqlite3.Error) -> bool:
        """Whether another holychat puts the file aside: its log goes first, under our hands."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_IOERR:
            return False
        try:
            with _locked(f"{self.path}.lock"):
                return _identity(self.path) != self._identity
        except OSError:
            return False

    def quarantine(self) -> str:
        """Put the damaged file aside under its date; what is in it may still be saved.

        Returns its new name; empty where another holychat was faster. Raises StoreTrouble.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = f"{self.path}.damaged-{stamp}"
        try:
            with _locked(f"{self.path}.lock"):
                # The file that was put aside keeps its inode, so a new one has another.
                if _identity(self.path) != self._identity:
                    return ""
                number = 1
                while os.path.exists(aside):
                    number += 1
                    aside = f"{self.path}.damaged-{stamp}-{number}"
                # The log first: SQLite would play an old one into a new file.
                for ending in ("-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(self.path + ending, aside + ending)
                os.rename(self.path, aside)
        except OSError as problem:
            raise StoreTrouble(
                f"the store {self.path}: it is damaged", "It could not be put aside."
            ) from problem
        return aside

    def _fold_log(self) -> None:
        """Fold a long write-ahead log into the file, one holychat at a time."""
        if sqlite3.sqlite_version_info >= SAFE_RESET:
            return  # SQLite does it by itself
        with contextlib.suppress(OSError, sqlite3.Error):
            if os.stat(f"{self.path}-wal").st_size > CHECKPOINT:
                with _locked(f"{self.path}.lock", wait=False):
                    self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _count_times(connection: sqlite3.Connection) -> None:
    """SQL's words for histograms: histogram(seconds) of many rows, merged(one, another)."""

    class Counted:
        def __init__(self) -> None:
            from holychat.core.buckets import one

            self._one, self._lanes = one, 0

        def step(self, seconds: float | None) -> None:
            if seconds is not None:
                self._lanes += self._one(seconds)

        def finalize(self) -> bytes:
            from holychat.core.buckets import packed

            return packed(self._lanes)

    def merged(one: bytes, other: bytes) -> bytes:
        from holychat.core.buckets import packed, unpacked

        return packed(unpacked(one) + unpacked(other))

    connection.create_aggregate("histogram", 1, Counted)  # type: ignore[arg-type]
    connection.create_function("merged", 2, merged, deterministic=True)


@contextlib.contextmanager
def _locked(path: str, *, wait: bool = True) -> Iterator[None]:
    """A lock between processes, by a file of its own. Raises OSError where it is taken."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _identity(path: str | int) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _writable(path: str) -> bool:
    """Whether the file and its folder are: a log is written beside it."""
    return os.access(path, os.W_OK) and os.access(os.path.dirname(os.path.abspath(path)), os.W_OK)


def _log(path: str) -> bool:
    """Whether there is a write-ahead log with something in it."""
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except OSError:
        return False


def _remote(path: str, mounted: str = "/proc/mounts") -> bool:
    """Whether the file is on another machine's disk, as far as Linux tells."""
    try:
        with open(mounted, encoding="utf-8", errors="replace") as file:
            mounts = [line.split(" ")[1:3] for line in file]
    except OSError:
        return False
    real = os.path.realpath(path).replace(" ", r"\040")  # as the list writes it (getmntent(3))
    holding = max(
        (mount for mount in mounts if len(mount) == 2 and _under(real, mount[0])),
        key=lambda mount: len(mount[0]),
        default=["", ""],
    )
    return holding[1].startswith(REMOTE)


def _under(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _full(path: str) -> bool:
    try:
        return shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free < ROOM
    except OSError:
        return False


def _fitting(value: Any) -> Any:
    """The nearest value that SQLite can hold."""
    if isinstance(value, str):
        text = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return text.replace("\0", "\ufffd")
    if isinstance(value, int):
        return max(-(2**63), min(value, 2**63 - 1))
    return value


def _damaged(error: sqlite3.Error) -> bool:
    """Whether the file itself is. A search index in it can be made anew from the messages."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code != sqlite3.SQLITE_CORRUPT_VTAB and code & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _of_index(error: Exception) -> bool:
    """Whether a search index is. Where its own tables contradict each other, it says no more than
    "constraint failed"; our constraints say which (sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", 0) in (
        sqlite3.SQLITE_CORRUPT_VTAB,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_CONSTRAINT_VTAB,
    )


_HINTS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Make room; nothing more is kept until then."),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "Look at its permissions."),
    sqlite3.SQLITE_BUSY: ("another program holds it locked", "See who has it open."),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "It is left as it is; holychat doctor says more."),
    sqlite3.SQLITE_NOTADB: ("it is no database", "It is left as it is; name another with --store."),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Look at the path and its permissions."),
    sqlite3.SQLITE_CONSTRAINT: ("the conversation was deleted meanwhile", ""),
    sqlite3.SQLITE_IOERR: ("the disk cannot be read or written", "Look at the disk."),
}


_PASSING = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL),
)


def _trouble(error: Exception, path: str) -> Trouble:
    """A foreign error in our words."""
    foreign = isinstance(error, sqlite3.Error)
    code = getattr(error, "sqlite_errorcode", 0) if foreign else sqlite3.SQLITE_CANTOPEN
    if _of_index(error):
        return Trouble(f"the store {path}: its search index is damaged", "", code)
    code &= 0xFF
    if code == sqlite3.SQLITE_IOERR and _full(path):  # where the log's shared memory has no room
        code = sqlite3.SQLITE_FULL
    known = _HINTS.get(code) if foreign else None
    what, hint = known or (str(getattr(error, "strerror", "") or error), "")
    return Trouble(f"the store {path}: {what}", hint, code)
