"""What was used, asked of the sums: by day, provider, model, hour and conversation; how fast it
was; what is to be priced anew; and what a limit is measured by.

Owns these queries. `rollup` keeps the sums, `core.tally` says what they mean. Days are dates on the
user's wall as it was then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from holychat.core.limits import Spent
from holychat.core.tally import (
    Entry,
    Group,
    Histogram,
    Pace,
    Period,
    Recorded,
    Tally,
    Unpriced,
    grouped,
    total,
    unpacked,
)
from holychat.store.rollup import SPENT
from holychat.store.turns import alive

if TYPE_CHECKING:
    from typing import Any

    from holychat.store.db import Database

By = Literal["day", "provider", "model", "pair", "hour", "conversation"]
TOP = 20  # conversations that are shown of many

_SUMS = ", ".join(f"sum({name})" for name in Tally._fields)
_SPENT = ", ".join(f"sum({name}) AS {name}" for name in SPENT)


class Conversations(NamedTuple):
    """The dearest conversations first. `others` are those that are there too, `deleted` is what
    was used in conversations that are no more."""

    groups: list[Group]
    others: Tally
    deleted: Tally


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


def totals(db: Database, period: Period) -> Tally:
    condition, values = where(period)
    row = db.rows(f"SELECT {_SUMS} FROM tally WHERE {condition}", values)[0]  # noqa: S608
    return Tally(*(value or 0 for value in row))


def by(db: Database, what: By, period: Period) -> list[Group]:
    """The sums by one thing, in its order; of conversations the TOP, the dearest first."""
    if what == "conversation":
        return conversations(db, period).groups
    if what == "hour":
        return _hours(db, period)
    return grouped(entries(db, period), what)


def _hours(db: Database, period: Period) -> list[Group]:
    """By the hour on the wall. The slot is of the UTC day, which may be another than the wall's:
    around a change of the clocks some calls are counted for the hour beside their own."""
    condition, values = where(period)
    rows = db.rows(
        "SELECT strftime('%H', day, (slot * 30) || ' minutes', 'localtime') AS hour,"  # noqa: S608
        f" {_SUMS} FROM tally WHERE {condition} AND day <> '' GROUP BY hour",
        values,
    )
    return [Group(row[0], Tally(*row[1:])) for row in map(tuple, rows)]


def conversations(db: Database, period: Period, most: int = TOP) -> Conversations:
    """What was used by conversation, as far as they are still there."""
    condition, values = where(period)
    top = db.rows(
        "SELECT conversation, sum(cost) AS money, sum(prompt + completion) AS tokens"  # noqa: S608
        f" FROM spent WHERE {condition} GROUP BY conversation"
        " ORDER BY money DESC, tokens DESC, conversation LIMIT ?",
        [*values, most],
    )
    groups = [_conversation(db, row["conversation"], condition, values) for row in top]
    left = _tally(db.rows(f"SELECT {_SPENT} FROM spent WHERE {condition}", values)[0])  # noqa: S608
    all_ = totals(db, period)
    there = all_._replace(failed=all_.failed + all_.cut, cut=0)
    gone = Tally(**{name: getattr(there, name) for name in SPENT}).less(left)
    return Conversations(groups, left.less(total(each.tally for each in groups)), gone)


def conversation(db: Database, identity: str) -> Tally:
    """What was used in one conversation."""
    return _tally(db.rows(f"SELECT {_SPENT} FROM spent WHERE conversation = ?", (identity,))[0])  # noqa: S608


def _conversation(db: Database, identity: str, condition: str, values: list[Any]) -> Group:
    row = db.rows(
        f"SELECT title, {_SPENT} FROM spent JOIN conversations AS c ON c.id = conversation"  # noqa: S608
        f" WHERE conversation = ? AND {_qualified(condition)}",
        [identity, *values],
    )[0]
    return Group(identity, _tally(row), row["title"] or "")


def _qualified(condition: str) -> str:
    """Conversations have a provider and a model too."""
    return condition.replace("provider", "spent.provider").replace("model", "spent.model")


def _tally(row: Any) -> Tally:
    return Tally(**{name: row[name] or 0 for name in SPENT})


def paces(db: Database, period: Period) -> dict[tuple[str, str], Pace]:
    """How fast it was, by (provider, model); to be added up at will."""
    condition, values = where(period)
    found: dict[tuple[str, str], Pace] = {}
    rows = db.rows(f"SELECT provider, model, first, total FROM pace WHERE {condition}", values)  # noqa: S608
    for provider, model, first, whole in map(tuple, rows):
        old = found.get((provider, model), Pace())
        found[provider, model] = Pace(old.first + unpacked(first), old.total + unpacked(whole))
    return found


def pace(db: Database, period: Period) -> Pace:
    """The same of all together."""
    found = paces(db, period).values()
    return Pace(
        sum((each.first for each in found), Histogram()),
        sum((each.total for each in found), Histogram()),
    )


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
