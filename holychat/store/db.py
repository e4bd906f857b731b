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
import time
from typing import TYPE_CHECKING, Any

from holychat.core.failure import StoreTrouble
from holychat.store.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SQLITE = sqlite3.sqlite_version
PATIENCE = 5.0  # seconds that a write waits for another holychat's
APPLICATION = 0x486F6C79  # "Holy", in the file's header
CHECKPOINT = 4 << 20  # bytes of the write-ahead log from which on it is folded into the file
ROOM = 64 << 10  # bytes without which a disk is full
# SQLite before this one can lose writes when two processes reset the log at once (its changelog).
SAFE_RESET = (3, 51, 3)
# File systems on which the log's shared memory does not work between machines.
REMOTE = ("nfs", "cifs", "smb", "afs", "ceph", "lustre", "9p", "fuse.sshfs", "glusterfs", "gfs")


class Database:
    """One connection. Use it from one thread at a time.

    `put_aside` is the new name of a damaged file that stood in its place, if there was one.
    `damaged` says that the file turned out to be damaged while it was used; `quarantine` then puts
    it aside. Raises StoreTrouble; after one it should be closed.
    """

    def __init__(self, path: str, *, create: bool = True, patience: float = PATIENCE) -> None:
        self.path = path
        self.put_aside = ""
        self.damaged = False
        self._patience = patience
        self._identity = _identity(path)
        try:
            self._open(create)
        except sqlite3.DatabaseError as error:
            if not (create and _damaged(error)):
                raise _trouble(error, path) from error
            self.put_aside = self.quarantine()
            try:
                self._open(create=True)
            except sqlite3.Error as again:
                raise _trouble(again, path) from again
        except OSError as error:
            raise _trouble(error, path) from error

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

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
        self.damaged = self.damaged or _damaged(error)
        return _trouble(error, self.path)

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """One transaction, all of it or nothing.

        It begins with the lock: a transaction that asks for it later is refused at once where two
        want it, whatever the patience is.
        """
        self._still_there()
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        self._fold_log()

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

    def check(self) -> list[str]:
        """What is wrong with the file; nothing for a sound one. Reads all of it."""
        try:
            wrong = [str(row[0]) for row in self.rows("PRAGMA quick_check") if row[0] != "ok"]
        except StoreTrouble as trouble:
            return [trouble.what]
        for index in ("words", "pieces"):
            try:
                with self.write():
                    # The rank makes it compare the index with the messages too.
                    self.run(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")  # noqa: S608
            except StoreTrouble as error:
                wrong.append(f"the search index {index}: {error.what}")
        return wrong

    # --- Opening ------------------------------------------------------------------------------

    def _open(self, create: bool) -> None:
        if create:
            os.makedirs(os.path.dirname(os.path.abspath(self.path)), mode=0o700, exist_ok=True)
            # Before SQLite does: it would make a file that others can read.
            with contextlib.suppress(PermissionError, IsADirectoryError):
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        elif not os.path.exists(self.path):
            raise FileNotFoundError(2, "there is no such file", self.path)
        while True:
            self._identity = _identity(self.path)
            self._connection = sqlite3.connect(
                self.path,
                timeout=self._patience,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=64,
            )
            if _identity(self.path) == self._identity:
                break
            self._connection.close()  # another holychat has put it aside in this moment
        try:
            self._connection.row_factory = sqlite3.Row
            # SQL's own lower() knows ASCII alone.
            self._connection.create_function("folded", 1, str.lower, deterministic=True)
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA foreign_keys = ON")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA temp_store = MEMORY")
        execute("PRAGMA secure_delete = FAST")  # what is deleted is not left in the file
        if sqlite3.sqlite_version_info < SAFE_RESET:
            execute("PRAGMA wal_autocheckpoint = 0")
        version = execute("PRAGMA user_version").fetchone()[0]
        self._is_ours()
        if version > len(MIGRATIONS):
            raise StoreTrouble(
                f"{self.path} was written by a newer holychat",
                "Update holychat, or name another file with --store.",
            )
        if os.access(self.path, os.W_OK):
            self._retried("PRAGMA journal_mode = " + ("DELETE" if _remote(self.path) else "WAL"))
            if version < len(MIGRATIONS):
                self._migrate()

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

    def _still_there(self) -> None:
        """Whether the path still leads to the file that we have open."""
        if _identity(self.path) != self._identity:
            raise StoreTrouble(
                f"{self.path} was removed or replaced while it was open",
                "What is said from now on is not kept; start holychat again.",
            )

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


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


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


def _trouble(error: Exception, path: str) -> StoreTrouble:
    """A foreign error in our words."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_CORRUPT_VTAB:
        return StoreTrouble(f"the store {path}: its search index is damaged", "")
    code &= 0xFF
    if code == sqlite3.SQLITE_IOERR and _full(path):  # where the log's shared memory has no room
        code = sqlite3.SQLITE_FULL
    what, hint = _HINTS.get(code, (str(getattr(error, "strerror", "") or error), ""))
    return StoreTrouble(f"the store {path}: {what}", hint)
