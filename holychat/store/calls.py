"""Single calls, asked of the attempts: those of one conversation, and how long answers were.

Owns these queries. The view `counted` (`schema`) says how a call counts; sums are `tally`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from holychat.store.db import Database

LATEST = 1000  # answers that say how long one is as a rule


class Call(NamedTuple):
    """One attempt that went out. `at` is Unix time, `cost` 10^-12 US dollars, None where no price
    was known; without tokens nothing is known of them."""

    provider: str
    model: str
    at: int
    prompt: int
    cached: int
    completion: int
    estimated: bool
    cost: int | None


def of(db: Database, conversation: str) -> list[Call]:
    """All calls of a conversation, its other branches' too, the oldest first."""
    rows = db.rows(
        "SELECT c.provider, c.model, max(a.started, 0) / 1000, c.prompt, c.cached, c.completion,"
        " c.estimated, CASE WHEN c.priced THEN c.cost END"
        " FROM counted AS c JOIN attempts AS a ON a.id = c.id WHERE c.conversation = ?"
        " ORDER BY c.id",
        (conversation,),
    )
    return [Call(*row)._replace(estimated=bool(row[6])) for row in map(tuple, rows)]


def lengths(db: Database, provider: str, model: str) -> list[int]:
    """Tokens of the latest whole answers of a model, as its server told them."""
    rows = db.rows(
        "SELECT completion_tokens AS tokens FROM attempts WHERE provider = ? AND model = ?"
        " AND finish = 'stop' AND kind = '' AND role = '' AND at = 0 AND estimated = 0"
        " AND completion_tokens BETWEEN 1 AND 1000000000 ORDER BY started DESC LIMIT ?",
        (provider, model, LATEST),
    )
    return [row["tokens"] for row in rows]


def first_day(db: Database) -> str:
    """The first day on which anything was recorded, as `2026-11-21`; empty for none."""
    rows = db.rows("SELECT min(day) AS day FROM tally WHERE day <> '' AND calls > 0")
    return str(rows[0]["day"] or "")
