"""The sums, kept up to date: each attempt is counted once, in the transaction that keeps it.

Owns the writing of `tally`, `pace` and `spent`. How an attempt counts is the view `counted`
(`schema`), what the columns mean is `core.tally`, and `tally` asks. Must not know a price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.buckets import one, packed

if TYPE_CHECKING:
    from holychat.store.db import Database

# What is kept of each conversation.
SPENT = [
    *("calls", "cut", "failed", "interrupted", "prompt", "cached", "completion", "reasoning"),
    *("estimated", "cost", "priced"),
    *("unpriced", "unpriced_prompt", "unpriced_cached", "unpriced_completion"),
]


def _adds(names: list[str]) -> str:
    return ", ".join(f"{name} = {name} + excluded.{name}" for name in names)


def _upsert(table: str, key: list[str], names: list[str], adds: str) -> str:
    columns = [*key, *names]
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {adds}"
    )


_KEY = ["day", "provider", "model"]
# The fields of core.tally's Tally, which a start need not load.
_NAMES = [
    *("calls", "answers", "cut", "failed", "interrupted", "retries", "failovers", "hedges"),
    *("copies", "prompt", "cached", "completion", "reasoning", "estimated", "cost", "priced"),
    *("unpriced", "unpriced_prompt", "unpriced_cached", "unpriced_completion", "made", "made_ms"),
]
_TALLY = _upsert("tally", [*_KEY, "slot"], _NAMES, _adds(_NAMES))
_SPENT = _upsert("spent", ["conversation", *_KEY], SPENT, _adds(SPENT))
_PACE = _upsert(
    "pace",
    _KEY,
    ["first", "total"],
    "first = merged(first, excluded.first), total = merged(total, excluded.total)",
)
# Once for the three of them: how an attempt counts is most of the work.
_COUNTED = f"""
    SELECT day, provider, model, slot, {", ".join(_NAMES)}, conversation,
        {", ".join(SPENT)}, first, total
    FROM counted WHERE id = ?
"""  # noqa: S608 - ours
_AT = 4 + len(_NAMES)  # where the conversation is


def count(db: Database, attempt: int) -> None:
    """Count an attempt that was just kept, within a transaction."""
    for row in map(tuple, db.rows(_COUNTED, (attempt,))):  # none where it was never sent
        db.run(_TALLY, row[:_AT])
        db.run(_SPENT, (row[_AT], *row[:3], *row[_AT + 1 : -2]))
        first, whole = row[-2:]
        if first is not None or whole is not None:
            db.run(_PACE, (*row[:3], _packed(first), _packed(whole)))


def _packed(seconds: float | None) -> bytes:
    return b"" if seconds is None else packed(one(seconds))


def count_again(db: Database, attempt: int) -> None:
    """Count it for its conversation, which was removed and is back: the sums still have it."""
    for row in map(tuple, db.rows(_COUNTED, (attempt,))):
        db.run(_SPENT, (row[_AT], *row[:3], *row[_AT + 1 : -2]))


def counted_until(db: Database, conversation: str) -> int | None:
    """When the last attempt began that was counted before this conversation was removed."""
    row = db.row("SELECT until FROM removed WHERE conversation = ?", (conversation,))
    return None if row is None else int(row["until"])


def elsewhere(db: Database, attempt: int) -> bool:
    """Whether the very same attempt is in another conversation, of which this one is a copy."""
    row = db.row(
        "SELECT 1 FROM attempts AS a JOIN attempts AS b ON b.started = a.started"
        " AND b.provider = a.provider AND b.model = a.model AND b.finish = a.finish"
        " AND b.prompt_tokens IS a.prompt_tokens AND b.completion_tokens IS a.completion_tokens"
        " AND b.total IS a.total AND b.id <> a.id"
        " JOIN turns AS s ON s.id = a.turn JOIN turns AS t ON t.id = b.turn"
        " WHERE a.id = ? AND t.conversation <> s.conversation LIMIT 1",
        (attempt,),
    )
    return row is not None
