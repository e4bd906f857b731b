"""`7d`, `today` and `2026-01-31` as Unix time in milliseconds, and periods of days.

`2 h ago`, the way out, is `screen`'s.
"""

from __future__ import annotations

import re
import time
from datetime import date, datetime, timedelta

from holychat.core.failure import UsageError
from holychat.core.tally import Period

HOUR = 3_600_000
DAY = 24 * HOUR
UNITS = {"h": HOUR, "d": DAY, "w": 7 * DAY, "m": 30 * DAY, "y": 365 * DAY}
NAMED = {"yesterday": -1, "today": 0, "tomorrow": 1}  # days from today on
LAST = "30d"  # the period of statistics, where nothing is said
_SPAN = re.compile(r"(\d{1,6})([hdwmy])", re.ASCII)


def now() -> int:
    return time.time_ns() // 1_000_000


def moment(option: str, text: str, at: int, *, end: bool = False) -> int:
    """What `text` means, said at `at`: so long ago, or a day, date or time of this place.

    `end`: a date without a time means the end of that day. Raises UsageError.
    """
    said = text.strip()
    if span := _SPAN.fullmatch(said.lower()):
        return at - int(span[1]) * UNITS[span[2]]
    if said.lower() in NAMED:
        today = datetime.fromtimestamp(at / 1000).astimezone().date()
        said = (today + timedelta(days=NAMED[said.lower()])).isoformat()
    try:
        then = datetime.fromisoformat(said)
        if end and not re.search(r"[T ]", said, re.IGNORECASE):
            then += timedelta(days=1)
        return int(then.astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{option} takes 12h, 7d, 2w, 3m (months), today, or a date like 2026-01-31, not {text}"
        ) from error


def day(at: int) -> date:
    """The date on the wall."""
    return datetime.fromtimestamp(at / 1000).astimezone().date()


def period(last: str, since: str, until: str, at: int, default: str = LAST) -> Period:
    """The days of `--last`, or from `--since` to `--until`; of `default` where nothing is said.

    `at` is now. The end stays open where none is said, and so does the beginning for `all`. Raises
    UsageError.
    """
    if last and (since or until):
        raise UsageError("--last says how many days, --since and --until say which: take one")
    if not (since or until):
        return Period(since=_last(last or default, at))
    found = Period(
        since=_day("--since", since, at) if since else "",
        until=_day("--until", until, at, end=True) if until else "",
    )
    if found.until and found.since > found.until:
        raise UsageError(f"--since {since} is behind --until {until}")
    return found


def _last(text: str, at: int) -> str:
    """The first of so many days, of which today is the last; empty for all."""
    said = text.strip().lower()
    span = _SPAN.fullmatch(said)
    days = int(span[1]) * UNITS[span[2]] // DAY if span and span[2] != "h" else 0
    if days < 1 and said != "all":
        raise UsageError(f"--last takes 7d, 12w, 6m (months), 1y or all, not {text}")
    try:
        return (day(at) - timedelta(days=days - 1)).isoformat() if days else ""
    except OverflowError:  # before the year 1
        return ""


def _day(option: str, text: str, at: int, *, end: bool = False) -> str:
    """The day in which a moment is; the end of a day is a moment of it."""
    try:
        return day(moment(option, text, at, end=end) - (1 if end else 0)).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{option} {text}: there was no such day") from error
