"""What was spent, in money: the prices of the settings, and calls whose price was not known then.

Owns the way from a provider's name in the store to the one whose prices hold, and the pricing of
what was recorded without a price, by the price list as it was on that day. Must not know SQL
(`store.tally` brings the rows) nor a tariff (`core.price` does), and fetches no key.

An average stands for the length of the prompts where that decides about the price. Of what is
kept without its half hour, the prices of special hours are not known: the plain ones hold for it.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING

from holychat.core.chat import Usage
from holychat.core.failure import SettingsError
from holychat.core.price import cost, money
from holychat.core.provider import Provider
from holychat.core.whatif import DAY, Piece, tariff_of
from holychat.engine.choice import bare
from holychat.prices import Prices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holychat.core.price import Rate
    from holychat.core.tally import Entry, Tally, Unpriced
    from holychat.settings import Settings

    ProviderOf = Callable[[str], Provider | None]

SLOT = 1800  # seconds
WEEKDAYS = 7


def prices_of(settings: Settings) -> tuple[Prices, ProviderOf]:
    """The prices that hold for this user, and whose they are by a name in the store; None where
    the settings know the name no more."""

    @cache
    def provider_of(name: str) -> Provider | None:
        try:
            provider = bare(settings, name)
        except SettingsError:
            return None
        return provider if provider.base_url else None

    return Prices(settings.prices, settings.rates), provider_of


def money_of(settings: Settings) -> Callable[[int | None], str]:
    """How a sum of 10^-12 US dollars is shown to this user."""
    exchange = Prices(rates=settings.rates).exchange
    return partial(money, currency=settings["money.currency"], exchange=exchange)


def settled(entries: Iterable[Entry], found: Iterable[tuple[Unpriced, int]]) -> list[Entry]:
    """The entries, with the costs that were found (see `costs`)."""
    rows = {entry[:3]: entry for entry in entries}
    for rest, pico in found:
        key = rest[:3]
        if key in rows:  # else another holychat has just added it
            rows[key] = rows[key]._replace(tally=rows[key].tally.settled(rest, pico))
    return list(rows.values())


def settle(
    tally: Tally, unpriced: Iterable[Unpriced], prices: Prices, provider_of: ProviderOf
) -> Tally:
    """The sums, with the cost of those calls among them whose price is known by now."""
    for rest, pico in costs(unpriced, prices, provider_of):
        tally = tally.settled(rest, pico)
    return tally


def costs(
    unpriced: Iterable[Unpriced], prices: Prices, provider_of: ProviderOf
) -> Iterator[tuple[Unpriced, int]]:
    """(calls, their cost in 10^-12 US dollars) of those whose price is known by now."""
    begins = cache(_begin)  # not for longer: where the wall stands may change
    for rest in unpriced:
        begin, provider = begins(rest.day), provider_of(rest.provider)
        if begin is None or provider is None:
            continue
        pico = _cost(rest, provider, prices, _at(begin, rest.slot))
        if pico is not None:
            yield rest, pico


def plain(
    unpriced: Iterable[Unpriced], prices: Prices, provider_of: ProviderOf
) -> list[tuple[str, str, str, int, int, int]]:
    """(day, provider, model, and a token's cost in the prompt, cached, in the answer), where the
    price is known by now: in 10^-12 US dollars, of the tariff that holds as a rule."""
    found = []
    for rest in unpriced:
        begin, provider = _begin(rest.day), provider_of(rest.provider)
        rate = prices.rate(provider, rest.model, begin) if begin and provider else None
        ones = (Usage(1), Usage(1, cached=1), Usage(0, 1))
        if rate and rate.tariff:
            rate = rate._replace(special=())
            each = [cost(rate, one, 0, prices.exchange) or 0 for one in ones]
            found.append((*rest[:3], *each))
    return found  # type: ignore[return-value]


def began(rest: Unpriced) -> int | None:
    """When such calls began, Unix time; None where their day is not known."""
    begin = _begin(rest.day)
    return None if begin is None else _at(begin, rest.slot)


def _cost(rest: Unpriced, provider: Provider, prices: Prices, at: int) -> int | None:
    rate = prices.rate(provider, rest.model, at)
    if rate is None:
        return None
    if rate.special:
        rate = _at_all_hours(rate) if rest.slot is None else rate
        piece = Piece(at, rest.calls, rest.prompt)
        rate = rate._replace(tariff=tariff_of(rate, piece), special=())
    return cost(rate, Usage(rest.prompt, rest.completion, rest.cached), 0, prices.exchange)


def _at_all_hours(rate: Rate) -> Rate:
    """Without the prices of special hours; those of long prompts stay."""
    whole = [one for one in rate.special if one.begin == one.end and len(set(one.days)) == WEEKDAYS]
    return rate._replace(special=tuple(whole))


def _begin(day: str) -> int | None:
    """When a day on the wall begins, Unix time."""
    try:
        return int(datetime.fromisoformat(day).astimezone().timestamp())
    except (ValueError, OverflowError, OSError):  # an attempt from nowhen has no day
        return None


def _at(begin: int, slot: int | None) -> int:
    """The half hour of the UTC day that is within the day on the wall; its middle without one."""
    return begin + (DAY // 2 if slot is None else (slot * SLOT - begin) % DAY)
