"""Single facts that all holychats of this store share, each a text under a name.

Owns the table `facts`. A change reads, decides and writes within one immediate transaction, so two
processes never both act on the same state. Must not know what a fact means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from holychat.store.db import Database

T = TypeVar("T")


def get(db: Database, name: str) -> str | None:
    """Raises StoreTrouble."""
    row = db.row("SELECT value FROM facts WHERE name = ?", (name,))
    return str(row["value"]) if row else None


def update(
    db: Database,
    name: str,
    change: Callable[[str | None], tuple[str | None, T]],
    *,
    durable: bool = True,
) -> T:
    """Change a fact; None is one that is not there. What `change` raises undoes it. Raises
    StoreTrouble."""
    with db.write(durable=durable):
        before = get(db, name)
        after, result = change(before)
        if after is None:
            db.run("DELETE FROM facts WHERE name = ?", (name,))
        elif after != before:
            db.run(
                "INSERT INTO facts (name, value) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, after),
            )
    return result
