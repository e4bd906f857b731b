"""Statistics of a period as one value, for whoever shows them: a screen, a page, JSON.

Owns what a report holds and what can be read out of it. Must not know SQL or a price: `engine`
fills it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from holychat.core.tally import Group, Histogram, Pace, Period, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

By = Literal["day", "provider", "model", "pair", "hour", "conversation"]
SHARES = (0.5, 0.95, 0.99)
ORDERED = ("day", "hour")  # these stand in their own order, all others the dearest first


class Report(NamedTuple):
    """What was used from `since` to `until`, both inclusive; they are empty where nothing was.

    `asked` is the period as it was asked for. `groups` are those of `by`, in the order in which
    they are shown; `days` are all days of the period, the empty ones too. `paces` has the times of
    a group by its key, where they are kept: of providers, models and pairs. `others` and `deleted`
    are the conversations that are no groups, `settled` the calls whose price was found only now.
    """

    asked: Period
    since: str
    until: str
    by: By
    total: Tally = Tally()
    groups: tuple[Group, ...] = ()
    days: tuple[Group, ...] = ()
    pace: Pace = Pace()
    paces: Mapping[str, Pace] = {}
    others: Tally = Tally()
    deleted: Tally = Tally()
    settled: int = 0

    @property
    def weight(self) -> Callable[[Tally], int]:
        """What shares and charts are made of: costs, or tokens where too few costs are known."""
        sums = self.total
        return _cost if sums.cost and 2 * sums.unpriced <= sums.calls else _tokens

    @property
    def weighs_cost(self) -> bool:
        return self.weight is _cost


def _cost(tally: Tally) -> int:
    return tally.cost


def _tokens(tally: Tally) -> int:
    return tally.tokens


class Brief(NamedTuple):
    """What was used in a few periods: (name, sums, times to the first token) of each; and the days
    of the last one."""

    rows: Sequence[tuple[str, Tally, Histogram]]
    days: Sequence[Group]


def ranked(groups: Sequence[Group], by: By) -> tuple[Group, ...]:
    """In the order in which they are shown."""
    if by in ORDERED:
        return tuple(groups)
    return tuple(sorted(groups, key=lambda one: (-one.tally.cost, -one.tally.tokens, one.key)))
