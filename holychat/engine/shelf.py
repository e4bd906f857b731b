"""The store, as commands open it that look at what is kept: never made by that, never put aside.

Must not know what is looked for.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holychat.core.failure import StoreTrouble, UsageError
from holychat.engine.place import store_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holychat.settings import Settings
    from holychat.store.db import Database


def place(settings: Settings) -> str:
    """The file of conversations. Raises UsageError where none is kept."""
    path = store_path(settings, os.environ)
    if path is None:
        source = settings.value("store").source
        raise UsageError(
            f"no conversations are kept: store is none ({source})", "--store FILE names a store."
        )
    return path


def here(path: str) -> bool:
    """Whether there is anything; what cannot be looked at is for the store to tell."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _is_none(path: str) -> bool:
    """Whether it is a folder, a pipe or a device: SQLite would tell of a broken disk."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # why that is, the store tells
        return False


@contextmanager
def opened(path: str) -> Iterator[Database]:
    """The store, for one command. Raises StoreTrouble, and UsageError where there is none yet."""
    from holychat.store.db import Database

    if not here(path):
        raise UsageError("no conversations yet", f"They will be in {path}.")
    if _is_none(path):
        raise StoreTrouble(f"the store {path}: it is no file", "Name a file with --store.")
    db = Database(path, create=False)
    try:
        yield db
    finally:
        db.close()
