"""The file of conversations, as it was found. A damaged search index is made anew, for nothing is
in it that is not in the messages; nothing else in the file is changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holychat.core.failure import StoreTrouble
from holychat.engine.place import store_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.settings import Settings

WHOLE = 256 << 20  # bytes up to which all of it is read: a second or two


def facts(settings: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """Where it is, how much is in it, and under `wrong` what is not as it should be; under
    `mended` what was not, and is."""
    path = store_path(settings, environ)
    if path is None:
        return {"path": ""}
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        return {"path": path, "size": 0}
    except OSError as error:
        return {"path": path, "size": 0, "wrong": [str(error.strerror)]}
    from holychat.store.db import SQLITE, Database

    found: dict[str, Any] = {"path": path, "size": size, "sqlite": SQLITE}
    try:
        db = Database(path, create=False)
        try:
            counted = db.row("SELECT count(*) AS n FROM conversations")
            found["conversations"] = counted["n"] if counted else 0
            found["checked"] = size <= WHOLE
            found["mended"], found["wrong"] = db.mend() if found["checked"] else ([], [])
        finally:
            db.close()
    except StoreTrouble as trouble:
        found["wrong"] = [trouble.what]
    return found


def line(found: Mapping[str, Any]) -> str:
    """The same as a sentence's beginning."""
    if not found["path"]:
        return "nothing is kept"
    if not found["size"]:
        return f"{found['path']} (not there yet)"
    many = found.get("conversations", 0)
    parts = [
        f"{many:,} {'conversation' if many == 1 else 'conversations'}",
        f"{found['size'] / 1e6:,.1f} MB",
        f"SQLite {found.get('sqlite', '?')}",
        *found.get("mended", ()),
        "sound" if found.get("checked") and not found.get("wrong") else "",
    ]
    return f"{found['path']}: {', '.join(filter(None, parts))}"
