"""What an answer costs: prices as values, and arithmetic that is exact.

Money is an integer: 10^-12 of a unit, of US dollars where nothing else is said. A price is such an
integer a token, so "2.00 for a million tokens" is 2,000,000. There is no float; the one rounding is
that of another currency, to the nearest integer, half to even, once and at the end.

Owns the values of a price list, the choice of the row and the sums. Must not know a clock, a file
or the rows themselves: `holychat.prices` does. Everybody who asks one question passes through, so
there is no `decimal` (its import costs 3.5 ms), and the values are tuples, which come into being
1 ms sooner than three data classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holychat.core.chat import Usage

PICO = 10**12
DOLLAR = "USD"
DAY, WEEK = 1440, 10080  # in minutes
SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "CNY": "¥", "INR": "₹", "KRW": "₩"}
LONGEST = 400  # characters and exponent of a number: a float's repr has at most 309


class Tariff(NamedTuple):
    """10^-12 of the currency for one token. `cached` of None: such input costs as any other."""

    input: int
    output: int
    cached: int | None = None


class Special(NamedTuple):
    """Other prices, at some hours of some days or for long prompts; all of it must hold.

    `begin` and `end` are minutes of the UTC day; the hours may go over midnight, and equal ones are
    the whole day. `days` are those that the minute itself falls on, Monday is 0. `above`: for
    prompts of more tokens than that; all of them are charged so then.
    """

    tariff: Tariff
    begin: int = 0
    end: int = 0
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    above: int = 0

    def holds(self, prompt: int, minute: int) -> bool:
        """For a prompt of that many tokens, at that minute of the UTC week (see `cost`)."""
        day, now = divmod(minute % WEEK, DAY)
        inside = (now - self.begin) % DAY < ((self.end - self.begin) % DAY or DAY)
        return inside and day in self.days and prompt >= self.above + bool(self.above)


class Rate(NamedTuple):
    """One row of a price list: what the models of these ids cost at a provider, and hold.

    `since` is the first whole day (UTC, ISO) on which the price is known to hold, `until` the last
    one, where it is known. `tariff` is None where only the sizes are known: tokens of the window,
    and of the longest answer. Of `special` the first that holds replaces the tariff.
    """

    provider: str
    models: tuple[str, ...]
    tariff: Tariff | None = None
    since: str = ""
    until: str = ""
    currency: str = DOLLAR
    special: tuple[Special, ...] = ()
    window: int | None = None
    max_output: int | None = None
    source: str = ""

    @property
    def model(self) -> str:
        """The first of its ids."""
        return self.models[0]


def find(rates: Iterable[Rate], model: str, day: str) -> Rate | None:
    """The row in force on that day (ISO, UTC) for a model; None where there is none.

    Only an id that a row names is found, in any case of its letters and with or without Gemini's
    `models/` before it: a name that is merely alike may have any price. Before its first row a
    model has the price of that row, which is often dated by when somebody looked.
    """
    name = model.lower().removeprefix("models/")
    rows = [rate for rate in rates if any(name == one.lower() for one in rate.models)]
    begun = [rate for rate in rows if rate.since <= day]
    if begun:
        rate = max(begun, key=lambda rate: rate.since)
        return None if rate.until and rate.until < day else rate
    return min(rows, key=lambda rate: rate.since, default=None)


def cost(rate: Rate, usage: Usage, minute: int, exchange: Mapping[str, int]) -> int | None:
    """What the tokens cost in 10^-12 US dollars; None where it cannot be known.

    `minute` is that of the UTC week, 0 is Monday 00:00. `exchange` is how much one dollar buys of
    a currency, in 10^-12 of it (see `exact_of`).
    """
    tariff = next(
        (one.tariff for one in rate.special if one.holds(usage.prompt, minute)), rate.tariff
    )
    if tariff is None:
        return None
    cached = min(usage.cached, usage.prompt)  # a part of the prompt, as reasoning of the completion
    hit = tariff.input if tariff.cached is None else tariff.cached
    total = (usage.prompt - cached) * tariff.input + cached * hit + usage.completion * tariff.output
    bought = PICO if rate.currency == DOLLAR else exchange.get(rate.currency, 0)
    return divided(total * PICO, bought) if bought else None


def week_minute(at: float) -> int:
    """The minute of the UTC week at a Unix time; 0 is Monday 00:00."""
    return (3 * DAY + int(at // 60)) % WEEK  # 1970 began on a Thursday


def divided(number: int, by: int) -> int:
    """The nearest integer of a quotient, of two equally near ones the even."""
    whole, rest = divmod(number, by)
    return whole + (2 * rest > by or (2 * rest == by and whole % 2))


# --- From texts, and to them --------------------------------------------------------------------


def exact_of(value: object, places: int) -> int:
    """A decimal number times 10^places, exactly; a float counts as it is written (0.1 is 0.1).

    Raises ValueError for what is none, is negative or has more decimals than places.
    """
    text = str(value).strip().lower() if isinstance(value, int | float | str) else ""
    head, e, exponent = text.partition("e")
    whole, _, part = head.partition(".")
    power = exponent.removeprefix("-" if "-" in exponent else "+") if e else "0"
    if not all(one.isascii() and one.isdecimal() for one in (whole + part, power)):
        raise ValueError("must be a decimal number, 0 or more")
    if len(text) > LONGEST or int(power) > LONGEST:
        raise ValueError("must be a number of a reasonable size")
    shift = places - len(part) + (-int(power) if "-" in exponent else int(power))
    digits: int = int(whole + part) * 10 ** max(shift, 0)
    number, rest = divmod(digits, 10 ** max(-shift, 0))
    if rest:
        raise ValueError(f"must have {places} decimals at most")
    return int(number)


def per_token(value: object) -> int:
    """The integer for a price per million tokens. Raises ValueError."""
    return exact_of(value, 6)


def exact(pico: int) -> str:
    """The whole sum as a decimal text that JSON takes for a number: "0.000412"."""
    whole, part = divmod(abs(pico), PICO)
    return f"{'-' if pico < 0 else ''}{whole}.{part:012d}".rstrip("0").rstrip(".")


def money(
    pico: int | None, currency: str = DOLLAR, exchange: Mapping[str, int] | None = None
) -> str:
    """A sum of 10^-12 US dollars for people, in a currency: "$12.30", "¥0.03", "<$0.0001", "?".

    Two decimals from 1 up, two digits that count below. In dollars where the currency's rate is
    not known; "?" for a sum that is not.
    """
    if pico is None:
        return "?"
    bought = (exchange or {}).get(currency, 0) if currency != DOLLAR else PICO
    sign = SIGNS.get(currency, f"{currency} ") if bought else SIGNS[DOLLAR]
    number, unit = abs(pico) * (bought or PICO), PICO * PICO
    if not number:
        return f"{sign}0"
    if number * 10_000 < unit:
        return f"<{sign}0.0001" if pico > 0 else f">-{sign}0.0001"
    places = next((at for at in (2, 3, 4) if number * 10 ** (at - 1) >= unit), 5)
    whole, part = divmod(divided(number * 10**places, unit), 10**places)
    decimals = f"{part:0{places}d}"
    decimals = decimals[:2] + decimals[2:].rstrip("0")
    return f"{'-' if pico < 0 else ''}{sign}{whole:,}.{decimals}"
