"""Times counted in buckets, as one number: the arithmetic of the histograms that the store keeps.

Owns the buckets and their packing; what is stored depends on them. `lanes` is one number with a
counter of 32 bits for each bucket, so that to merge two is to add them. What percentiles come of it
is `core.tally`'s. Functions alone: each answer is counted, so nothing here may cost a start.
"""

from __future__ import annotations

import math

# Buckets grow by 5 %, from a millisecond on; the last ones reach beyond an hour. The middle of one
# (geometrically) is at most 2.5 % away from whatever is in it.
LEAST = 0.001
GROWTH = 1.05
LAST = 310
LANE = 32  # bits of a counter
MASK = (1 << LANE) - 1
_LOG = math.log(GROWTH)
_BYTES = LANE // 8


def bucket(seconds: float) -> int:
    """Where a time is counted; what is out of range, in the first or the last one."""
    if not seconds > LEAST:
        return 0
    return min(LAST, int(math.log(min(seconds, 1e6) / LEAST) / _LOG))


def edge(number: int) -> float:
    """The seconds at which a bucket begins."""
    return float(LEAST * GROWTH**number)


def one(seconds: float) -> int:
    """The lanes of a single time."""
    return 1 << LANE * bucket(seconds)


def empty(lanes: int) -> int:
    """How many buckets at the beginning have nothing in them; some bucket has."""
    return ((lanes & -lanes).bit_length() - 1) // LANE


def packed(lanes: int) -> bytes:
    """For the store: how many buckets are empty at the beginning, and the counters behind."""
    if not lanes:
        return b""
    start = empty(lanes)
    rest = lanes >> LANE * start
    size = -(-rest.bit_length() // LANE) * _BYTES
    return start.to_bytes(2, "little") + rest.to_bytes(size, "little")


def unpacked(data: bytes) -> int:
    """The lanes that were packed."""
    start, rest = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:], "little")
    return rest << LANE * start
