"""What the sums of a store say of a period, all of it together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.tally import Histogram, Pace, Period, Tally, total
from holychat.store import tally

if TYPE_CHECKING:
    from holychat.store.db import Database


def totals(db: Database, period: Period = Period()) -> Tally:  # noqa: B008 - frozen
    return total(entry.tally for entry in tally.entries(db, period))


def pace(db: Database, period: Period = Period()) -> Pace:  # noqa: B008 - frozen
    found = tally.paces(db, period).values()
    return Pace(
        sum((each.first for each in found), Histogram()),
        sum((each.total for each in found), Histogram()),
    )


def deleted(db: Database) -> int:
    """Calls that are in the sums and in no conversation."""
    return totals(db).calls - tally.kept(db, Period()).calls
