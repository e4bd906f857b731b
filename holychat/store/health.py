"""The health of the providers, shared by all holychats that use this store.

Owns the table `health`: one row of JSON a provider. A change reads, decides and writes within one
immediate transaction, so that of two processes only one can get what is there once. It need not
survive a power cut: it is known again soon. Must not decide anything, `core.health` does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from holychat.core.health import Health, as_json, from_json
from holychat.store.ids import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from holychat.store.db import Database

T = TypeVar("T")


def update(db: Database, name: str, change: Callable[[Health], tuple[Health, T]]) -> T:
    """Change what is known under `name` (core.health.key_of); `change` runs under the lock, so a
    clock that it reads is not behind another process's. Raises StoreTrouble."""
    with db.write(durable=False):
        row = db.row("SELECT state FROM health WHERE provider = ?", (name,))
        before = _health(row["state"]) if row else Health()
        after, result = change(before)
        if after != before:
            db.run(
                "INSERT INTO health (provider, state, updated) VALUES (?, ?, ?)"
                " ON CONFLICT (provider) DO UPDATE"
                " SET state = excluded.state, updated = excluded.updated",
                (name, json.dumps(as_json(after), separators=(",", ":")), now()),
            )
    return result


def read(db: Database) -> dict[str, Health]:
    """What is known of all of them. Raises StoreTrouble."""
    rows = db.rows("SELECT provider, state FROM health")
    return {str(row["provider"]): _health(row["state"]) for row in rows}


def _health(state: str) -> Health:
    try:
        return from_json(json.loads(state))
    except (ValueError, RecursionError):
        return Health()
