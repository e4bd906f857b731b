"""`7d` and `2026-01-31` in, `2 h ago` and `3 Nov` out. Times are Unix time in milliseconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from holychat.core.failure import UsageError

HOUR = 3_600_000
DAY = 24 * HOUR
UNITS = {"h": HOUR, "d": DAY, "w": 7 * DAY, "m": 30 * DAY, "y": 365 * DAY}
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_SPAN = re.compile(r"(\d{1,6})([hdwmy])", re.ASCII)


def now() -> int:
    return time.time_ns() // 1_000_000


def moment(option: str, text: str, at: int, *, end: bool = False) -> int:
    """What `text` means, said at `at`: so long ago, or a date or time of this place.

    `end`: a date without a time means the end of that day. Raises UsageError.
    """
    said = text.strip()
    if span := _SPAN.fullmatch(said.lower()):
        return at - int(span[1]) * UNITS[span[2]]
    try:
        then = datetime.fromisoformat(said)
        if end and not re.search(r"[T ]", said, re.IGNORECASE):
            then += timedelta(days=1)
        return int(then.astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{option} takes 12h, 7d, 2w, 3m (months) or a date like 2026-01-31, not {text}"
        ) from error


def when(then: int, at: int) -> str:
    """How long ago that is seen from `at`; from a week on the date."""
    ago = at - then
    if ago < 60_000:
        return "just now" if ago > -60_000 else date(then, at)
    if ago < HOUR:
        return f"{ago // 60_000} min ago"
    if ago < DAY:
        return f"{ago // HOUR} h ago"
    return f"{ago // DAY} d ago" if ago < 7 * DAY else date(then, at)


def date(then: int, at: int) -> str:
    """`3 Nov`, in another year than that of `at` `3 Nov 2024`; of this place."""
    try:
        local = datetime.fromtimestamp(then / 1000, UTC).astimezone()
    except (ValueError, OverflowError, OSError):  # an imported one can say anything
        return "?"
    year = datetime.fromtimestamp(at / 1000, UTC).astimezone().year
    shown = f"{local.day} {MONTHS[local.month - 1]}"
    return shown if local.year == year else f"{shown} {local.year}"
