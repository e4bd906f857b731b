"""`7d`, `today` and `2026-01-31` as Unix time in milliseconds; `2 h ago` out is `screen`'s."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from holychat.core.failure import UsageError

HOUR = 3_600_000
DAY = 24 * HOUR
UNITS = {"h": HOUR, "d": DAY, "w": 7 * DAY, "m": 30 * DAY, "y": 365 * DAY}
NAMED = {"yesterday": -1, "today": 0, "tomorrow": 1}  # days from today on
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
