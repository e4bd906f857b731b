"""Work that was done, or is thought of, and what it would have cost elsewhere.

Owns what is compared: the days of a period and those that it covers, the calls of a conversation,
the tokens of a month. The demo's calls are no work. Must not print.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from holychat.commands.cost.prompt import target
from holychat.core.provider import DEMO
from holychat.core.sanitize import one_line
from holychat.core.tally import Period, Tally, Unpriced, total
from holychat.core.whatif import (
    MONTH,
    Basis,
    Offer,
    Payoff,
    Piece,
    Work,
    basis,
    by_day,
    monthly,
    part_of,
    payoff,
    repriced,
    works,
)
from holychat.engine import times
from holychat.engine.ledger import began
from holychat.engine.shelf import here, opened, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holychat.commands.cost import Asked
    from holychat.core.history import Conversation
    from holychat.core.tally import Recorded
    from holychat.engine.market import Market
    from holychat.settings import Settings
    from holychat.store.db import Database


class Report(NamedTuple):
    """What work costs here and elsewhere.

    `mode` is period, conversation or month. `here` is what it cost, or would at the chosen model
    of a month, which `chosen` is. `days` are those that a projection goes by, 0 without one;
    `calls`, `estimated` (tokens that no server told) and `untold` (no tokens known) count calls.
    `demo` counts those that were left out. `title` is the conversation's, or says which calls of
    a period. `nothing` says why there is nothing to show.
    """

    mode: str
    basis: Basis = Basis()
    here: int | None = None
    offers: tuple[Offer, ...] = ()
    chosen: Offer | None = None
    since: str = ""
    until: str = ""
    days: int = 0
    calls: int = 0
    estimated: int = 0
    untold: int = 0
    demo: int = 0
    fixed: int | None = None
    title: str = ""
    nothing: str = ""

    def month(self, cost: int | None) -> int | None:
        """What a sum is in a month; None without a projection."""
        return monthly(cost, self.days) if cost is not None and self.days else None

    def payoff(self, offer: Offer) -> Payoff | None:
        """Whether a move there pays for the fixed cost; None where that is not known."""
        here, there = self.month(self.here), self.month(offer.cost)
        if self.fixed is None or here is None or there is None:
            return None
        return payoff(here, there, self.fixed, monthly(self.basis.whole.tokens, self.days))


# --- A month that is thought of -------------------------------------------------------------------


def month(
    settings: Settings,
    asked: Asked,
    market: Market,
    prompt: int,
    cached: int,
    completion: int,
    fixed: int | None,
) -> Report:
    """So many tokens, at the prices of the list without special hours."""
    own = target(settings, asked, market)
    piece = Piece(market.at, 1, prompt, part_of(prompt, cached), completion)
    targets = market.named(asked.on) if asked.on else market.everything()
    offers = market.offers(targets, [piece], by_list=True)
    chosen = market.offers([own], [piece], by_list=True)[0]
    if not any(one[:3] == chosen[:3] for one in offers):
        offers = market.offers([own, *targets], [piece], by_list=True)
    return Report(
        "month", Basis((piece,)), chosen.cost, tuple(offers), chosen, days=MONTH, fixed=fixed
    )


# --- What was recorded ----------------------------------------------------------------------------


def period(settings: Settings, asked: Asked, market: Market, fixed: int | None) -> Report:
    """The work of the days that `--last` says. Raises HolychatError."""
    from holychat.store import calls

    wanted = times.period(asked.last, "", "", market.at * 1000)
    today = times.day(market.at * 1000)
    provider = settings.canonical(asked.provider) if asked.provider else ""
    wanted = Period(wanted.since, today.isoformat(), provider)
    market.named(asked.on)  # a mistake is told before anything is looked at
    path = place(settings)
    if not here(path):
        return Report("period", fixed=fixed, nothing="nothing is recorded yet")
    with opened(path) as db:
        rows = list(_recorded(db, wanted, asked.model))
        first = max(calls.first_day(db), wanted.since)
    demo = sum(row.tally.calls for _, row in rows if row.provider == DEMO)
    rows = [(at, row) for at, row in rows if row.provider != DEMO]
    summed = total(row.tally for _, row in rows)
    found = [work for at, row in rows for work in works(row.provider, row.model, at, row.tally)]
    return _report(
        Report(
            "period",
            since=first,
            until=today.isoformat(),
            days=(today - date.fromisoformat(first)).days + 1 if first else 0,
            calls=summed.calls,
            estimated=summed.estimated,
            untold=_untold(summed),
            demo=demo,
            fixed=fixed,
            title=_narrowed(provider, asked.model),
        ),
        market,
        found,
        asked,
    )


def _recorded(db: Database, wanted: Period, model: str) -> Iterator[tuple[int, Recorded]]:
    """Day by day, because prices go by the day, and by the day of the week: (when it began, it)."""
    from holychat.store import tally

    low = model.lower()
    for day in dict.fromkeys(entry.day for entry in tally.entries(db, wanted)):
        for row in tally.recorded(db, Period(day, day, wanted.provider)):
            at = began(Unpriced(day, row.provider, row.model, row.slot, 0, 0, 0, 0))
            if at is not None and low in f"{row.provider}/{row.model}".lower():
                yield at, row


def _untold(summed: Tally) -> int:
    """Calls of which no tokens are known: nothing came of them, or nobody counted."""
    return max(0, summed.calls - summed.priced - summed.unpriced)


def conversation(settings: Settings, asked: Asked, market: Market) -> Report:
    """What one conversation cost, with all its branches. Raises HolychatError."""
    from holychat.store import calls
    from holychat.store.conversations import find, latest

    with opened(place(settings)) as db:
        kept: Conversation = find(db, asked.session) if asked.session else latest(db)
        rows = calls.of(db, kept.id)
    found = [
        Work(row.provider, row.model, Piece(row.at, 1, *row[3:6]), row.cost)
        for row in rows
        if row.prompt or row.completion or row.cost
    ]
    told = Report(
        "conversation",
        calls=len(rows),
        estimated=sum(row.estimated for row in rows),
        untold=len(rows) - len(found),
        title=f"{kept.short} {kept.title}",
    )
    return _report(told, market, found, asked)


def _report(told: Report, market: Market, found: Iterable[Work], asked: Asked) -> Report:
    """The work priced where it has no price yet, and everywhere else."""
    targets = market.named(asked.on) if asked.on else market.everything()
    compared = basis(_priced(market, work) for work in found)
    if not compared.pieces:
        return told._replace(nothing=_nothing(told, asked))
    offers = market.offers(targets, compared.pieces)
    return told._replace(basis=compared, here=compared.cost, offers=tuple(offers))


def _priced(market: Market, work: Work) -> Work:
    """By the price list of its day, where its price was not known when it was done."""
    provider = market.provider_of(work.provider) if work.cost is None else None
    if provider is None:
        return work
    rate = market.prices.rate
    found = repriced(
        by_day([work.piece]), lambda at: rate(provider, work.model, at), market.prices.exchange
    )
    return work._replace(cost=found[0]) if found else work


def _narrowed(provider: str, model: str) -> str:
    at = f" at {provider}" if provider else ""
    return f"{at} of “{one_line(model, 40)}”" if model else at


def _nothing(told: Report, asked: Asked) -> str:
    if told.mode == "conversation":
        return "no tokens are recorded of this conversation"
    if told.demo:
        return "only the demo answered, and that is a script: nothing to compare"
    narrowed = " of that" if asked.model or asked.provider else ""
    return f"nothing{narrowed} is recorded in that time"
