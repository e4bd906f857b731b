"""The health of the providers, shared by all holychats that use this store.

Owns the table `health`: one row of JSON a provider. A change reads, decides and writes within one
immediate transaction, so that of two processes only one can get what is there once. It need not
survive a power cut: it is known again soon. What this process wrote last it does not parse again,
nor write the parts of it anew that did not change: with 100 calls in it a row is 12 kB, and parsing
and writing it took ten times as long as deciding. Must not decide anything, `core.health` does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from holychat.core.health import PLAIN, Health, from_json
from holychat.store.ids import now

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from holychat.store.db import Database

T = TypeVar("T")


class Row(NamedTuple):
    """A row as it was when it was read or written: its text, what that says, and its parts."""

    text: str
    health: Health
    parts: dict[str, str]


def update(
    db: Database,
    name: str,
    change: Callable[[Health], tuple[Health, T]],
    last: MutableMapping[str, Row] | None = None,
) -> T:
    """Change what is known under `name` (core.health.key_of); `change` runs under the lock, so a
    clock that it reads is not behind another process's. `last` remembers the rows, by their names,
    from one call to the next. Raises StoreTrouble."""
    last = {} if last is None else last
    with db.write(durable=False):
        found = db.row("SELECT state FROM health WHERE provider = ?", (name,))
        before = _read(found["state"], last.get(name)) if found else Row("", Health(), {})
        after, result = change(before.health)
        new = before
        if after != before.health:
            new = _written(after, before)
            db.run(
                "INSERT INTO health (provider, state, updated) VALUES (?, ?, ?)"
                " ON CONFLICT (provider) DO UPDATE"
                " SET state = excluded.state, updated = excluded.updated",
                (name, new.text, now()),
            )
    last[name] = new
    return result


def _read(text: str, last: Row | None) -> Row:
    return last if last is not None and last.text == text else Row(text, _health(text), {})


def _written(health: Health, before: Row) -> Row:
    def part(name: str) -> str:
        if name in before.parts and getattr(health, name) is getattr(before.health, name):
            return before.parts[name]
        return json.dumps(PLAIN[name](health), separators=(",", ":"))

    parts = {name: part(name) for name in PLAIN}
    text = ",".join(f'"{name}":{value}' for name, value in parts.items())
    return Row(f"{{{text}}}", health, parts)


def read(db: Database) -> dict[str, Health]:
    """What is known of all of them. Raises StoreTrouble."""
    rows = db.rows("SELECT provider, state FROM health")
    return {str(row["provider"]): _health(row["state"]) for row in rows}


def _health(state: str) -> Health:
    try:
        return from_json(json.loads(state))
    except (ValueError, RecursionError):
        return Health()
