"""How the providers do, as a table: share, state, first token, errors. At most 79 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.breaker import State
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.core.health import Standing

HEAD = ("", "share", "state", "first token", "failed", "last error")
SHARE = 1  # the column that is there only where the traffic is split
WIDE = 79


def standings_table(
    standings: Mapping[str, Standing], shares: Mapping[str, float], active: str = ""
) -> list[str]:
    """One row a provider, with a head; the last column takes what is left. `shares` are the parts
    of the conversations in per cent, empty without a split."""
    rows = [HEAD, *(_row(name, one, shares, active) for name, one in standings.items())]
    if not shares:
        rows = [(*row[:SHARE], *row[SHARE + 1 :]) for row in rows]
    wide = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    return [_line(row, wide) for row in rows]


def _row(name: str, one: Standing, shares: Mapping[str, float], active: str) -> tuple[str, ...]:
    error = one.last_error.text if one.last_error else ""
    failed = f"{round(one.error_rate * 100)} % of {one.calls}" if one.calls else "-"
    mark = "*" if name == active else " "
    share = f"{shares[name]:.3g} %" if name in shares else "-"
    return (f"{mark} {name}", share, _state(one), _first(one), failed, error)


def _state(one: Standing) -> str:
    if one.state is State.OPEN:
        return f"rests {one.seconds:.0f} s"
    if one.state is State.HALF_OPEN:
        return "on trial"
    if one.refused:
        return "key refused"
    if one.held > 0:
        return f"held {one.held:.0f} s"
    if one.queue:
        return f"{one.queue} waiting"
    return "well" if one.calls else "-"


def _first(one: Standing) -> str:
    """Half of the answers began within the one time, nearly all within the other."""
    if one.p50 is None or one.p95 is None:
        return "-"
    return f"{one.p50:.2f} / {one.p95:.2f} s"


def _line(row: tuple[str, ...], wide: list[int]) -> str:
    cells = [f"{text:<{to}}" for text, to in zip(row[:-1], wide, strict=True)]
    line = "  ".join(cells)
    room = max(8, WIDE - len(line) - 2)
    return f"{line}  {one_line(row[-1], room)}".rstrip()
