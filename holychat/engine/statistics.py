"""Statistics of a period: asked of the store, priced, and put together.

Owns the order of the questions. What is counted is `core.tally`'s, what a report holds
`core.report`'s, how it looks `screen`'s. Must not write.

Of a conversation the half hours are not kept: a price that is found later for it is the plain one,
also where a provider is cheaper at some hours; there its groups may add up to more than the total.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

from holychat.core.choose import nearest
from holychat.core.failure import UsageError
from holychat.core.report import Brief, Report, ranked
from holychat.core.sanitize import one_line
from holychat.core.tally import Group, Histogram, Pace, Period, Tally, Unpriced, grouped, total
from holychat.engine.ledger import began, costs, plain, prices_of, settle, settled
from holychat.engine.times import LAST, day, period
from holychat.store import tally
from holychat.store.rollup import SPENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holychat.core.report import By
    from holychat.core.tally import Entry
    from holychat.engine.ledger import ProviderOf
    from holychat.prices import Prices
    from holychat.settings import Settings
    from holychat.store.db import Database

    Found = list[tuple[Unpriced, int]]
    Paces = Mapping[tuple[str, str], Pace]

TOP = 20  # conversations that are shown of many
LONGEST = 36_600  # days that are charted; one day of an odd clock must not make millions


class Records(NamedTuple):
    """What was used in a period, with the prices as they are known by now; `found` are the calls
    among it whose price was not known then, `ways` the way to a price."""

    period: Period
    entries: list[Entry]
    paces: Paces
    found: Found
    ways: tuple[Prices, ProviderOf]


class Conversations(NamedTuple):
    """The dearest conversations first. `others` are those that are there too, `deleted` is what
    was used in conversations that are no more."""

    groups: list[Group]
    others: Tally
    deleted: Tally


def records(db: Database, days: Period, settings: Settings) -> Records:
    """What is recorded of a period. Raises StoreTrouble."""
    ways = prices_of(settings)
    found = list(costs(tally.unpriced(db, days), *ways))
    entries = settled(tally.entries(db, days), found)
    return Records(days, entries, tally.paces(db, days), found, ways)


def report(db: Database, said: Records, by: By, at: int) -> Report:
    """The statistics by one thing, at `at` (Unix time in milliseconds). Raises StoreTrouble."""
    days = grouped(said.entries, "day")
    since, until = _span(said.period, days, at)
    made = Report(
        said.period,
        since,
        until,
        by,
        total(entry.tally for entry in said.entries),
        days=tuple(_filled(days, since, until)),
        pace=_together(said.paces.values()),
        paces=_paces(said.paces, by),
        settled=sum(rest.calls for rest, _ in said.found),
    )
    if by == "conversation":
        those = conversations(db, said.period, *said.ways)
        return made._replace(groups=tuple(those.groups), others=those.others, deleted=those.deleted)
    if by == "hour":
        groups = _by_hour(tally.hours(db, said.period), said.found)
    else:
        groups = grouped(said.entries, by)
    return made._replace(groups=ranked(groups, by))


def conversations(
    db: Database, days: Period, prices: Prices, provider_of: ProviderOf, most: int = TOP
) -> Conversations:
    """What was used by conversation, with the prices as they are known by now."""
    free = tally.unpriced_of(db, days)
    groups = []
    for key in tally.top(db, days, plain(free, prices, provider_of), most):
        own = tally.conversation(db, key, days)
        own = settle(own, tally.unpriced_of(db, days, key), prices, provider_of)
        groups.append(Group(key, own, tally.title(db, key)))
    whole = total(entry.tally for entry in tally.entries(db, days))
    there = tally.kept(db, days)
    gone = Tally(**{name: getattr(whole, name) for name in SPENT}).less(there)
    rest = _less(tally.unpriced(db, days), free)
    others = settle(there, free, prices, provider_of).less(total(each.tally for each in groups))
    return Conversations(groups, others, settle(gone, rest, prices, provider_of))


def of(db: Database, settings: Settings, identity: str) -> Tally:
    """What was used in one conversation, with the prices as they are known by now."""
    free = tally.unpriced_of(db, Period(), identity)
    return settle(tally.conversation(db, identity), free, *prices_of(settings))


def _less(all_: Iterable[Unpriced], there: Iterable[Unpriced]) -> list[Unpriced]:
    """The calls without a price that are in no conversation any more, without their half hours."""
    left: dict[tuple[str, str, str], list[int]] = {}
    for sign, rows in ((1, all_), (-1, there)):
        for one in rows:
            sums = left.setdefault(one[:3], [0, 0, 0, 0])
            sums[:] = [kept + sign * more for kept, more in zip(sums, one[4:], strict=True)]
    return [
        Unpriced(*key, None, *(max(0, each) for each in sums))
        for key, sums in left.items()
        if sums[0] > 0
    ]


def brief(db: Database, settings: Settings, at: int, conversation: str = "") -> Brief:
    """What was used today, in a conversation (whose times are not kept) and in the last days."""
    today, month = (records(db, period(days, "", "", at), settings) for days in ("1d", LAST))
    rows = [_line("today", today)]
    if conversation:
        rows.append(("this conversation", of(db, settings, conversation), Histogram()))
    rows.append(_line(f"{LAST.removesuffix('d')} days", month))
    days = grouped(month.entries, "day")
    return Brief(rows, tuple(_filled(days, *_span(month.period, days, at))))


def _line(name: str, said: Records) -> tuple[str, Tally, Histogram]:
    sums = total(entry.tally for entry in said.entries)
    return name, sums, _together(said.paces.values()).first


def meant(db: Database, days: Period, model: str) -> Period:
    """The period with the model that a name, a part of it or `provider/model` stands for among
    those that were used. Raises UsageError where it may be several."""
    all_ = replace(days, model="")
    used = {(entry.provider, entry.model) for entry in tally.entries(db, all_)}
    if any(model == name for _, name in used):
        return replace(days, model=model)
    for provider, name in sorted(used):
        if model == f"{provider}/{name}":
            return replace(days, provider=provider, model=name)
    fits = sorted({name for _, name in used if model.lower() in name.lower()})
    if len(fits) > 1:
        shown = " or ".join(one_line(name, 60) for name in nearest(model, fits, 3))
        raise UsageError(f"{one_line(model, 60)} may be {shown or 'several models'}")
    return replace(days, model=fits[0] if fits else model)


def _span(asked: Period, days: list[Group], at: int) -> tuple[str, str]:
    """The first and the last day that a report is about; open ends are where anything is."""
    dated = [group.key for group in days if group.key]
    if not dated:
        return asked.since, asked.until
    today = day(at).isoformat()
    return asked.since or dated[0], asked.until or max(today, dated[-1])


def _filled(days: list[Group], since: str, until: str) -> Iterable[Group]:
    """A group for each day, with those on which nothing was."""
    known = {group.key: group for group in days}
    if not (known and since and until):
        return days
    first, last = date.fromisoformat(since), date.fromisoformat(until)
    many = (last - first).days + 1
    if many > LONGEST:
        return days
    keys = [(first + timedelta(days=number)).isoformat() for number in range(many)]
    return [known.get(key) or Group(key, Tally()) for key in keys]


def _by_hour(groups: list[Group], found: Found) -> list[Group]:
    """The hours, with the costs that were found."""
    hours = {group.key: group for group in groups}
    for rest, pico in found:
        at = began(rest)
        key = "" if at is None else time.strftime("%H", time.localtime(at))
        if key in hours:
            hours[key] = hours[key]._replace(tally=hours[key].tally.settled(rest, pico))
    return list(hours.values())


def _together(paces: Iterable[Pace]) -> Pace:
    first, whole = Histogram(), Histogram()
    for each in paces:
        first, whole = first + each.first, whole + each.total
    return Pace(first, whole)


def _paces(paces: Paces, by: By) -> dict[str, Pace]:
    """The times of each group; none where they are not kept by it."""
    parts: dict[str, list[Pace]] = {}
    for (provider, model), pace in paces.items():
        names = {"provider": provider, "model": model, "pair": f"{provider}/{model}"}
        if by in names:
            parts.setdefault(names[by], []).append(pace)
    return {key: _together(those) for key, those in parts.items()}
