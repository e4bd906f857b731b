"""What statistics say in words and figures, on a screen and on a page alike.

Owns the marks: `≈` for an estimate, `≥` for a sum in which something is missing, `?` for what is
not known. Pure text; must not know where it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.screen.charts import compact

if TYPE_CHECKING:
    from collections.abc import Callable

    from holychat.core.report import Report
    from holychat.core.tally import Tally

    Money = Callable[[int | None], str]


def tokens(sums: Tally, number: int) -> str:
    """A number of tokens in full."""
    return f"{'≈' if sums.estimated and number else ''}{number:,}"


def cost(sums: Tally, money: Money) -> str:
    """`?` where nothing is known, `≥` where something is missing, `≈` where it is an estimate."""
    known = sums.known_cost
    if known is None:
        return "?"
    sign = "≥" if sums.unpriced else "≈" if sums.estimated and known else ""
    return sign + money(known)


def share(report: Report, tally: Tally) -> float | None:
    """Its part of the whole, from 0 to 1; None where its cost is not known and that is what the
    parts are made of."""
    if report.weighs_cost and tally.known_cost is None:
        return None
    whole = report.weight(report.total)
    return report.weight(tally) / whole if whole else 0.0


def weight(report: Report, tally: Tally, money: Money) -> str:
    """What a part is made of, its cost or its tokens, with the marks of a cost."""
    return cost(tally, money) if report.weighs_cost else compact(tally.tokens)


def percent(share: float | None) -> str:
    """`3.4 %`; `<0.1 %` where it is not nothing, `-` of nothing."""
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if 0 < share < 0.0995 else f"{100 * share:.0f} %"


def spent(report: Report) -> list[str]:
    """What is to be said of a cost: what is missing in it, and what was found since."""
    sums, said = report.total, []
    if sums.unpriced:
        at_least = "at least: " if sums.priced else ""
        said.append(f"{at_least}no price is known for {calls(sums.unpriced)}")
    if report.settled:
        said.append(f"with {calls(report.settled)} priced later, as of their day")
    return said


def calls(number: int) -> str:
    return f"{number:,} {'call' if number == 1 else 'calls'}"
