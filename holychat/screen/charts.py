"""Numbers in, rows of text out: bars, sparklines, columns, and times on a logarithmic scale.

Owns the drawing of charts in characters. What is drawn never takes more cells than it is given, and
a value above zero is never drawn as nothing. `plain` draws with ASCII alone. Pure: must not know a
terminal, a colour or what the numbers mean.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from holychat.core.buckets import GROWTH, edge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")

LYING = " ▏▎▍▌▋▊▉█"  # of a cell, from the left
STANDING = " ▁▂▃▄▅▆▇█"  # from below
DENSE = " .:-=+*#"  # the same without blocks, for a row that is one cell high
FULL = len(STANDING) - 1
UNITS = "kMGT"
STEPS = (1, 2, 5)  # of a decade


def bar(value: float, most: float, width: int, *, plain: bool = False) -> str:
    """A lying bar of at most `width` cells, which `most` fills."""
    eighths = _eighths(value, most, width)
    if plain:
        return "#" * -(-eighths // FULL)
    whole, part = divmod(eighths, FULL)
    return LYING[FULL] * whole + (LYING[part] if part else "")


def sparkline(values: Sequence[float], *, plain: bool = False) -> str:
    """One cell a value; the greatest is a full one."""
    signs, most = (DENSE if plain else STANDING), max(values, default=0)
    top = len(signs) - 1
    return "".join(signs[math.ceil(_share(each, most) * top)] for each in values)


def columns(
    values: Sequence[float], height: int, wide: int = 1, *, plain: bool = False
) -> list[str]:
    """Standing bars, `wide` cells each with its gap, in `height` rows from the top.

    In ASCII a row is there or not.
    """
    most = max(values, default=0)
    eighths = [_eighths(each, most, height) for each in values]
    if plain:
        eighths = [-(-each // FULL) * FULL for each in eighths]
    rows = []
    for row in range(height - 1, -1, -1):
        signs = [STANDING[min(max(each - row * FULL, 0), FULL)] for each in eighths]
        text = "".join(sign * max(1, wide - 1) + " " * (wide > 1) for sign in signs)
        rows.append((text.replace("█", "#") if plain else text).rstrip())
    return rows


def binned(values: Sequence[T], most: int) -> tuple[list[Sequence[T]], int]:
    """The values as at most so many groups of neighbours, the same number in each but the first,
    and how many that is."""
    each = max(1, -(-len(values) // max(1, most)))
    first = len(values) % each
    parts = [values[:first]] if first else []
    parts += [values[at : at + each] for at in range(first, len(values), each)]
    return parts, each


def spread(counts: Iterable[tuple[int, int]]) -> list[tuple[float, float, int]]:
    """A histogram's buckets as (from, to, how many) by steps of 1, 2 and 5, in seconds; from the
    first that is not empty to the last. A bucket that is in two of them counts where its middle is.
    """
    found: dict[int, int] = {}
    for bucket, many in counts:
        at = _step(edge(bucket) * math.sqrt(GROWTH))
        found[at] = found.get(at, 0) + many
    steps = range(min(found), max(found) + 1) if found else ()
    return [(_bound(at), _bound(at + 1), found.get(at, 0)) for at in steps]


def compact(number: int) -> str:
    """`950`, `1.2k`, `12.3k`, `4.5M`: 6 characters at most, below a million billions."""
    if number < 1000:
        return str(number)
    fits = [at for at in range(len(UNITS)) if round(number / 1000 ** (at + 1), 1) < 1000]
    at = fits[0] if fits else len(UNITS) - 1
    return f"{number / 1000 ** (at + 1):.1f}{UNITS[at]}"


def span(seconds: float) -> str:
    """A time, by its size: `4 ms`, `0.61 s`, `12.3 s`, `240 s`."""
    if seconds < 0.1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.{1 if seconds < 99.95 else 0}f} s"


def _share(value: float, most: float) -> float:
    return min(max(value / most, 0.0), 1.0) if most > 0 else 0.0


def _eighths(value: float, most: float, cells: int) -> int:
    """Of so many cells; at least one where there is anything."""
    size = max(0, cells) * FULL
    return min(size, max(round(_share(value, most) * size), 1 if value > 0 else 0))


def _bound(step: int) -> float:
    decade, rest = divmod(step, len(STEPS))
    return float(f"{STEPS[rest]}e{decade}")  # as it is written, and not 0.30000000000000004


def _step(seconds: float) -> int:
    """The last step that does not lie behind a time."""
    step = math.floor(math.log10(seconds)) * len(STEPS)
    return max(at for at in range(step - 1, step + 5) if _bound(at) <= seconds)
