"""What was used, asked of the sums: by day, provider, model, hour and conversation; how fast it
was; what is to be priced anew; and what a limit is measured by.

Owns these queries. `rollup` keeps the sums, `core.tally` says what they mean. Days are dates on the
user's wall as it was then.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from holychat.core.limits import Spent
from holychat.core.tally import (
    Entry,
    Group,
    Pace,
    Period,
    Recorded,
    Tally,
    Unpriced,
    unpacked,
)
from holychat.store.rollup import SPENT
from holychat.store.turns import alive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from holychat.core.chat import Usage
    from holychat.store.db import Database

_SUMS = ", ".join(f"sum({name})" for name in Tally._fields)
_SPENT = ", ".join(f"sum({name}) AS {name}" for name in SPENT)

ALWAYS = Period()


def where(period: Period) -> tuple[str, list[Any]]:
    """A period as (condition, values)."""
    tests = [
        (f"{name} {sign} ?", value)
        for name, sign, value in (
            ("day", ">=", period.since),
            ("day", "<=", period.until),
            ("provider", "=", period.provider),
            ("model", "=", period.model),
        )
        if value
    ]
    return " AND ".join(test for test, _ in tests) or "1", [value for _, value in tests]


def entries(db: Database, period: Period) -> list[Entry]:
    """A row for each day, provider and model, in this order: whatever is summed up by these comes
    out of them (core.tally.grouped, total)."""
    condition, values = where(period)
    rows = db.rows(
        f"SELECT day, provider, model, {_SUMS} FROM tally WHERE {condition}"  # noqa: S608
        " GROUP BY day, provider, model",
        values,
    )
    return [Entry(row[0], row[1], row[2], Tally(*row[3:])) for row in map(tuple, rows)]


def hours(db: Database, period: Period) -> list[Group]:
    """By the hour on the wall. The slot is of the UTC day, which may be another than the wall's:
    around a change of the clocks some calls are counted for the hour beside their own."""
    condition, values = where(period)
    rows = db.rows(
        "SELECT strftime('%H', day, (slot * 30) || ' minutes', 'localtime') AS hour,"  # noqa: S608
        f" {_SUMS} FROM tally WHERE {condition} AND day <> '' GROUP BY hour",
        values,
    )
    return [Group(row[0], Tally(*row[1:])) for row in map(tuple, rows)]


def kept(db: Database, period: Period) -> Tally:
    """What was used in all conversations that are still there."""
    condition, values = where(period)
    return _tally(db.rows(f"SELECT {_SPENT} FROM spent WHERE {condition}", values)[0])  # noqa: S608


def conversation(db: Database, identity: str, period: Period = ALWAYS) -> Tally:
    """What was used in one conversation."""
    condition, values = where(period)
    rows = db.rows(
        f"SELECT {_SPENT} FROM spent WHERE conversation = ? AND {condition}",  # noqa: S608
        [identity, *values],
    )
    return _tally(rows[0])


def top(
    db: Database, period: Period, rates: Sequence[tuple[str, str, str, int, int, int]], most: int
) -> list[str]:
    """The conversations that cost most, the dearest first. `rates` are (day, provider, model, and
    what a token costs in the prompt, cached, in the answer) where that was found later: it is SQL
    that adds it up, for there may be a million of them."""
    condition, values = where(period)
    found = later = ""
    if rates:
        columns = ("at", "who", "what", "new", "hit", "out")
        each = (f"json_extract(value, '$[{n}]') AS {name}" for n, name in enumerate(columns))
        found = f"WITH rates AS (SELECT {', '.join(each)} FROM json_each(?)) "  # noqa: S608 - ours
        later = " LEFT JOIN rates ON unpriced > 0 AND at = day AND who = provider AND what = model"
        values = [json.dumps(rates), *values]
    settled = (
        " + coalesce((unpriced_prompt - unpriced_cached) * new + unpriced_cached * hit"
        " + unpriced_completion * out, 0)"
    )
    rows = db.rows(
        f"{found}SELECT conversation FROM spent{later} WHERE {condition} GROUP BY conversation"  # noqa: S608
        f" ORDER BY sum(cost{settled if rates else ''}) DESC, sum(prompt + completion) DESC,"
        " conversation LIMIT ?",
        [*values, most],
    )
    return [str(row[0]) for row in map(tuple, rows)]


def used(db: Database, identity: str) -> Usage | None:
    """The same in short, as the sum over its turns; None where nothing was used."""
    from holychat.core.chat import Usage

    sums = conversation(db, identity)
    if not (sums.tokens or sums.cost):
        return None
    return Usage(
        sums.prompt,
        sums.completion,
        sums.cached,
        sums.reasoning,
        bool(sums.estimated),
        sums.cost if sums.priced else None,
        bool(sums.priced and sums.unpriced),
    )


def _tally(row: Any) -> Tally:
    return Tally(**{name: row[name] or 0 for name in SPENT})


def title(db: Database, identity: str) -> str:
    row = db.row("SELECT title FROM conversations WHERE id = ?", (identity,))
    return row["title"] if row else ""


def paces(db: Database, period: Period) -> dict[tuple[str, str], Pace]:
    """How fast it was, by (provider, model); to be added up at will."""
    condition, values = where(period)
    found: dict[tuple[str, str], Pace] = {}
    rows = db.rows(f"SELECT provider, model, first, total FROM pace WHERE {condition}", values)  # noqa: S608
    for provider, model, first, whole in map(tuple, rows):
        old = found.get((provider, model), Pace())
        found[provider, model] = Pace(old.first + unpacked(first), old.total + unpacked(whole))
    return found


def recorded(db: Database, period: Period) -> list[Recorded]:
    """What was used, by provider, model and half hour of the UTC day: to be priced anew."""
    condition, values = where(period)
    rows = db.rows(
        f"SELECT provider, model, slot, {_SUMS} FROM tally WHERE {condition}"  # noqa: S608
        " GROUP BY provider, model, slot",
        values,
    )
    return [Recorded(row[0], row[1], row[2], Tally(*row[3:])) for row in map(tuple, rows)]


def unpriced(db: Database, period: Period) -> list[Unpriced]:
    """What was used while no price was known for it."""
    condition, values = where(period)
    rows = db.rows(
        "SELECT day, provider, model, slot, unpriced, unpriced_prompt, unpriced_cached,"  # noqa: S608
        f" unpriced_completion FROM tally WHERE {condition} AND unpriced > 0",
        values,
    )
    return [Unpriced(*row) for row in map(tuple, rows)]


def unpriced_of(db: Database, period: Period, identity: str = "") -> list[Unpriced]:
    """The same of one conversation, or of all that are still there; without the half hours."""
    condition, values = where(period)
    rows = db.rows(
        "SELECT day, provider, model, sum(unpriced), sum(unpriced_prompt), sum(unpriced_cached),"  # noqa: S608
        f" sum(unpriced_completion) FROM spent WHERE {condition} AND unpriced > 0"
        f"{' AND conversation = ?' if identity else ''} GROUP BY day, provider, model",
        [*values, *filter(None, (identity,))],
    )
    return [
        Unpriced(day, provider, model, None, *counts)
        for day, provider, model, *counts in map(tuple, rows)
    ]


# --- What a limit is measured by --------------------------------------------------------------


def days(db: Database, at: int) -> str:
    """The date on the wall at a moment, Unix time in milliseconds."""
    return str(db.rows("SELECT date(? / 1000, 'unixepoch', 'localtime')", (at,))[0][0])


def spent(
    db: Database, *, day: str = "", month: str = "", conversation: str = "", but: int | None = None
) -> Spent:
    """What was used up on a day (`2026-11-21`), in a month (`2026-11`) or in a conversation, and
    what open turns of living writers may still use of it; one turn left out, `but`."""
    if conversation:
        table, condition, values = "spent", "conversation = ?", [conversation]
    else:
        table, condition = "tally", "day BETWEEN ? AND ?"
        values = [day, day] if day else [f"{month}-01", f"{month}-31"]
    used = db.rows(
        "SELECT coalesce(sum(cost), 0), coalesce(sum(prompt + completion), 0),"  # noqa: S608
        f" coalesce(sum(unpriced), 0) FROM {table} WHERE {condition}",
        values,
    )[0]
    test = "conversation = ?1" if conversation else f"day BETWEEN ?1 AND ?{len(values)}"
    cost, tokens, unpriced = used
    return Spent(cost, tokens, unpriced, *_reserved(db, test, values, but))


def _reserved(db: Database, test: str, values: list[str], but: int | None) -> tuple[int, int]:
    """Of turns whose writer is dead nothing more is used, and `turns.bury` counts what was."""
    rows = db.rows(
        "SELECT * FROM (SELECT w.*, t.id AS turn, t.conversation, t.reserved, t.reserved_tokens,"  # noqa: S608
        " date(t.started / 1000, 'unixepoch', 'localtime') AS day"
        " FROM turns AS t JOIN writers AS w ON w.id = t.writer WHERE t.writer IS NOT NULL)"
        f" WHERE {test} AND reserved + reserved_tokens > 0",
        values,
    )
    counted = [row for row in rows if row["turn"] != but and alive(row)]
    return sum(row["reserved"] for row in counted), sum(row["reserved_tokens"] for row in counted)
