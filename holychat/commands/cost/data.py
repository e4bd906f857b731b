"""What `--json` says: sums as exact numbers of US dollars, null where no price is known.

The names here are an interface that scripts rely on; add, do not rename. Owns the writing of such
numbers too: `json` would make floats of them.
"""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core.price import PICO, divided, exact
from holychat.core.whatif import permille

if TYPE_CHECKING:
    from holychat.commands.cost.prompt import Quote
    from holychat.commands.cost.work import Report
    from holychat.core.whatif import Offer, Piece


class Exact(NamedTuple):
    """A decimal number as it is to be written."""

    text: str


def dollars(pico: int | None) -> Exact | None:
    return None if pico is None else Exact(exact(pico))


def encoded(value: Any, indent: str = "\n") -> str:
    """The value as JSON, in lines."""
    if isinstance(value, Exact):
        return value.text
    inner = f"{indent}  "
    if isinstance(value, dict) and value:
        rows = (f"{dumps(name)}: {encoded(each, inner)}" for name, each in value.items())
        return f"{{{inner}{f',{inner}'.join(rows)}{indent}}}"
    if isinstance(value, list) and value:
        return f"[{inner}{f',{inner}'.join(encoded(each, inner) for each in value)}{indent}]"
    return dumps(value, ensure_ascii=False)


# --- A prompt -------------------------------------------------------------------------------------


def of_quote(told: Quote) -> dict[str, Any]:
    return {
        "mode": "prompt",
        "messages": told.messages,
        **_tokens(told.piece),
        "estimated": True,
        "answer_from": told.source,
        "chosen": _offer(told.chosen),
        "models": [
            {
                **_offer(one),
                "chosen": one[:2] == told.chosen[:2],
                "times": _times(one.cost, told.chosen.cost),
            }
            for one in told.offers
        ],
    }


def _offer(one: Offer) -> dict[str, Any]:
    return {
        "provider": one.provider,
        "model": one.model,
        "cost": dollars(one.cost),
        "input_cost": dollars(one.input),
        "output_cost": dollars(one.output),
    }


def _tokens(piece: Piece) -> dict[str, int]:
    return {
        "prompt_tokens": piece.prompt,
        "cached_tokens": piece.cached,
        "completion_tokens": piece.completion,
    }


def _times(cost: int | None, base: int | None) -> Exact | None:
    """To six decimals."""
    if cost is None or not base:
        return None
    return Exact(exact(divided(cost * 10**6, base) * (PICO // 10**6)))


# --- Work -----------------------------------------------------------------------------------------


def of_report(told: Report) -> dict[str, Any]:
    """`difference` is against what was recorded, or against the chosen model of a month."""
    here = {"cost": dollars(told.here), "month": dollars(told.month(told.here))}
    compared = {"chosen": {**_offer(told.chosen), **here}} if told.chosen else {"recorded": here}
    return {
        "mode": told.mode,
        "since": told.since or None,
        "until": told.until or None,
        "days": told.days or None,
        "calls": told.calls,
        **_tokens(told.basis.whole),
        "estimated_calls": told.estimated,
        "calls_without_tokens": told.untold,
        "demo_calls": told.demo,
        "left_out": [
            {
                "provider": work.provider,
                "model": work.model,
                "calls": work.piece.calls,
                **_tokens(work.piece),
            }
            for work in told.basis.left
        ],
        "fixed": dollars(told.fixed),
        **compared,
        "models": [_row(told, one) for one in told.offers],
    }


def _row(told: Report, one: Offer) -> dict[str, Any]:
    known = one.cost is not None and told.here is not None
    difference = (one.cost or 0) - (told.here or 0) if known else None
    row = {
        **_offer(one),
        "difference": dollars(difference),
        "percent": _percent(permille(difference, told.here)),
        "month": dollars(told.month(one.cost)),
    }
    if found := told.payoff(one):
        row["payoff"] = {
            "saving": dollars(found.saving),
            "net": dollars(found.net),
            "roi_percent": _percent(found.roi),
            "break_even_days": found.days,
            "break_even_tokens": found.tokens,
        }
    return row


def _percent(thousandths: int | None) -> Exact | None:
    return None if thousandths is None else Exact(exact(thousandths * (PICO // 10)))
