"""Whether this machine's clock agrees with those of the servers that it asks.

Owns one small request (HEAD, without the key) and the arithmetic. A clock that is off makes
certificates fail and time windows lie, and nothing else says so.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from holychat.core.failure import Failure
from holychat.net.client import target_of
from holychat.net.http1 import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.core.provider import Provider
    from holychat.net.http1 import Headers

LIMIT = 4.0  # seconds that the question may take
MUCH = 60.0  # seconds that are worth a word: a server's own clock and a cache are off by less


async def skew(provider: Provider) -> float | None:
    """Seconds that this machine is ahead of the server (behind: negative); None where it does not
    say. For one that was reached a moment ago: its address is sound. Never raises Failure."""
    pool = Pool(LIMIT)
    path = urlsplit(provider.base_url).path + "/models"
    try:
        async with asyncio.timeout(LIMIT):
            target = target_of(provider)
            headers = [(b"host", target.address.encode()), (b"connection", b"close")]
            exchange = await pool.exchange(target, "HEAD", path, headers, b"")
            now = time.time()
        exchange.close()
    except (Failure, TimeoutError):
        return None
    finally:
        await pool.aclose()
    return _behind(exchange.headers, now)


def _behind(headers: Headers, now: float) -> float | None:
    said = next((value for name, value in headers if name.lower() == b"date"), b"")
    try:
        return round(now - parsedate_to_datetime(said.decode("latin-1")).timestamp(), 1)
    except (ValueError, OverflowError):
        return None


def sentence(skews: Mapping[str, float]) -> str:
    """What to mend, where the clock is off by more than MUCH; else nothing."""
    off = {name: seconds for name, seconds in skews.items() if abs(seconds) > MUCH}
    if not off:
        return ""
    seconds = min(off.values(), key=abs)
    way = "ahead of" if seconds > 0 else "behind"
    return (
        f"clock: this machine's is {_long(abs(seconds))} {way} that of {' and '.join(off)}:"
        " set it, or have it set (NTP)."
    )


def _long(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
