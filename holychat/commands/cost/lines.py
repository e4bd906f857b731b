"""How costs look: a few words, a table, and what it goes by.

Owns the words. `table` has the columns. Must not reckon: `core.whatif` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from holychat.commands.cost.table import GAP, Line, Table, grouped, percent, shown, table
from holychat.core.price import money
from holychat.core.sanitize import one_line
from holychat.core.whatif import MONTH, permille, times
from holychat.screen.pen import cells, fit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holychat.commands.cost.prompt import Quote
    from holychat.commands.cost.work import Report
    from holychat.core.whatif import Offer, Payoff
    from holychat.screen.pen import Pen

THOUSAND = 1000
CENT = 10**10  # 10^-12 US dollars: what costs less is shown a thousand times
SENTENCES = 3  # models whose pay-off is told in words
UNKNOWN = "?"
NOT = "not in it: "


@dataclass(frozen=True, slots=True)
class Cash:
    """Sums in the user's currency."""

    currency: str
    exchange: Mapping[str, int]

    def __call__(self, pico: int | None) -> str:
        return money(pico, self.currency, self.exchange)

    def change(self, pico: int | None) -> str:
        """With its sign, where it is more than next to nothing."""
        text = self(pico)
        return f"+{text}" if pico and pico > 0 and text[0] != "<" else text


# --- A prompt -------------------------------------------------------------------------------------


def quote(told: Quote, pen: Pen, cash: Cash, *, everything: bool) -> list[str]:
    """What a prompt costs, here and elsewhere."""
    chosen = told.chosen
    many = THOUSAND if chosen.cost is None or chosen.cost < CENT else 1
    said = [_sum(chosen, pen, cash), *_sized(told)]

    def row(line: Line) -> tuple[str, ...]:
        one = line.offer
        total, prompt, answer = (
            cash(None if pico is None else pico * many)
            for pico in (one.cost, one.input, one.output)
        )
        return prompt, answer, total, times(one.cost, chosen.cost)

    head = ("1,000 of these" if many > 1 else "model", "provider", "in", "out", "both", "times")
    lines, more = shown(grouped(told.offers, chosen), everything=everything)
    rows = [(line, row(line)) for line in lines]
    columns = Table(head, rows, ("in", "out", "times"))
    return [*said, "", *table(columns, pen), *_tail(pen, [_more(more)])]


def _sum(chosen: Offer, pen: Pen, cash: Cash) -> str:
    name = pen.bold(_named(chosen))
    if chosen.cost is None:
        return f"{name}: {UNKNOWN} (no price is known for it)"
    parts = f"{cash(chosen.input)} in, {cash(chosen.output)} out"
    return f"{name}: {pen.bold(f'≈{cash(chosen.cost)}')} ({parts})"


def _sized(told: Quote) -> list[str]:
    piece = told.piece
    cached = f" ({piece.cached:,} cached)" if piece.cached else ""
    to = f", {told.messages} messages" if told.messages > 1 else ""
    on = f", going on with “{one_line(told.title, 40)}”" if told.title else ""
    lengths = {
        "option": "as you said",
        "recorded": "the median of your answers from it",
        "assumed": "assumed: --answer N sets it",
    }
    said = [
        f"≈{piece.prompt:,} tokens in{cached}{to}{on}",
        f"{piece.completion:,} tokens out ({lengths[told.source]})",
    ]
    if told.window is not None and piece.tokens > told.window:
        said.append(f"That is more than its window of {told.window:,} tokens.")
    return said


# --- Work -----------------------------------------------------------------------------------------


def report(told: Report, pen: Pen, cash: Cash, *, everything: bool) -> list[str]:
    """What work costs, here and elsewhere."""
    projected = told.mode == "period"

    def row(cost: int | None, *, base: bool = False) -> tuple[str, ...]:
        known = cost is not None and told.here is not None and not base
        difference = (cost or 0) - (told.here or 0) if known else None
        cells_ = (
            cash(cost),
            cash.change(difference) if known else "",
            percent(permille(difference, told.here)),
        )
        return (*cells_, cash(told.month(cost))) if projected else cells_

    head = ("model", "provider", "cost", "difference", "", *(["a month"] if projected else []))
    lines, more = shown(grouped(told.offers, told.chosen), everything=everything)
    rows = [(line, row(line.offer.cost, base=line.chosen)) for line in lines]
    if told.chosen is None:
        rows.insert(0, (Line("recorded", "", chosen=True), row(told.here, base=True)))
    spare = ("difference", *(["a month"] if projected else []), "")
    said = [*_heading(told, pen), "", *table(Table(head, rows, spare), pen)]
    if told.fixed is not None:
        here = told.chosen[:2] if told.chosen else ()
        named = [one for one in told.offers if one[:2] != here]
        said += ["", *payoffs(told, named, cash, pen.width, everything=everything)]
    return [*said, *_tail(pen, [_more(more), *_notes(told)])]


def _heading(told: Report, pen: Pen) -> list[str]:
    whole = told.basis.whole
    about = "≈" if told.estimated else ""
    cached = percent(permille(whole.cached, whole.prompt), signed=False)
    share = f" ({cached} cached)" if whole.cached else ""
    tokens = f"{about}{whole.prompt:,} tokens in{share}, {about}{whole.completion:,} out"
    if told.mode == "month":
        return [pen.bold("A month of") + f" {tokens}"]
    calls = _calls(told.calls)
    if told.mode == "conversation":
        return [pen.bold(fit(one_line(told.title, 200), pen.width or 200)), f"{calls}, {tokens}"]
    when = f"{told.since} to {told.until}" if told.since != told.until else told.since
    return [f"{pen.bold(when)}: {calls}{told.title}", tokens]


def _notes(told: Report) -> list[str]:
    """What the figures go by, and what is not in them."""
    notes = []
    if told.mode == "period":
        days = f"{told.days} day{'' if told.days == 1 else 's'}"
        notes.append(f"a month: the sum / {days} since {told.since} × {MONTH}")
    if told.mode == "month":
        notes.append("list prices: no off-peak hours, no long prompts")
    if told.estimated:
        notes.append(f"{_calls(told.estimated)} with estimated tokens (≈)")
    return [*notes, *_missing(told)]


def _missing(told: Report) -> list[str]:
    """What was recorded and is not compared."""
    sums: dict[str, list[int]] = {}
    for work in told.basis.left:
        held = sums.setdefault(f"{work.provider}/{work.model}", [0, 0])
        held[0] += work.piece.calls
        held[1] += work.piece.tokens
    parts = [
        f"{_calls(told.untold)} without known tokens" if told.untold else "",
        f"{_calls(told.demo)} of the demo" if told.demo else "",
        *(
            f"{_calls(calls)} of {one_line(name, 40)} (no price, {tokens:,} tokens)"
            for name, (calls, tokens) in sums.items()
        ),
    ]
    return [f"{NOT}{part}" for part in parts if part]


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


# --- Whether a fixed cost pays --------------------------------------------------------------------


def payoffs(
    told: Report, offers: Sequence[Offer], cash: Cash, width: int, *, everything: bool
) -> list[str]:
    """In plain words, for those that were named or the cheapest."""
    paying = [(one, told.payoff(one)) for one in offers]
    known = [(one, found) for one, found in paying if found is not None]
    named = known[: SENTENCES if everything else 1]
    if not named:
        return ["Whether the fixed cost pays is not known: a price is missing."]
    fixed = cash(told.fixed)
    said = f"With a fixed cost of {fixed} a month, against {cash(told.month(told.here))}:"
    head = _wrapped(said, width, "")
    texts = (f"{_named(one)} {_payoff(found, fixed, cash)}" for one, found in named)
    return [*head, *(line for text in texts for line in _wrapped(text, width))]


def _wrapped(text: str, width: int, first: str = GAP, further: str = GAP * 2) -> list[str]:
    room = max(20, width) if width else 10_000
    return wrap(text, room, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def _payoff(found: Payoff, fixed: str, cash: Cash) -> str:
    if found.saving <= 0:
        more = f"{cash(-found.saving)} a month more" if found.saving else "the same"
        return f"costs {more}, before the {fixed}: it never pays."
    roi = f" (ROI {percent(found.roi)})" if found.roi is not None else ""
    left = f"{cash(found.net)} remain" if found.net >= 0 else f"a loss of {cash(-found.net)}"
    said = f"saves {cash(found.saving)} a month: {left}{roi}."
    if not found.days or found.tokens is None:
        return said
    even = f"pays from {found.tokens:,} tokens a month on"
    if found.days > MONTH:
        return f"{said} It {even}."
    days = f"{found.days} day{'' if found.days == 1 else 's'}"
    return f"{said} It is earned back in {days} of each month, and {even}."


# --- In words ---------------------------------------------------------------------------------


def _named(one: Offer) -> str:
    model, provider = one_line(one.model, 60), one_line(one.provider, 40)
    return f"{model} on {provider}" if model else provider


def _more(count: int) -> str:
    return f"{count} more line{'' if count == 1 else 's'}; --all shows them" if count else ""


def _tail(pen: Pen, notes: Iterable[str]) -> list[str]:
    """The notes behind the table, several on a line of a terminal."""
    said: list[str] = []
    for note in filter(None, notes):
        joined = f"{said[-1]}, {note.removeprefix(NOT)}" if said and NOT in said[-1] else ""
        joined = joined or (f"{said[-1]} · {note}" if said else "")
        if said and pen.width and cells(joined) <= pen.width:
            said[-1] = joined
        else:
            said.append(f"· {note}")
    lines = [line for text in said for line in _wrapped(text, pen.width, "", GAP)]
    return ["", *map(pen.dim, lines)] if said else []
