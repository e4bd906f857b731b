"""Limits of money and tokens: what they are, how full they are, and what is said of it.

Owns the values and the reading of a limit as people write it. What was spent comes in (`store`
sums it up, and reserves), so does the price. Money is in 10^-12 US dollars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from holychat.core.amounts import amount
from holychat.core.price import DOLLAR, PICO, SIGNS, divided, exact, exact_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Scope = Literal["answer", "conversation", "day", "month"]
Unit = Literal["cost", "tokens"]
SCOPES: tuple[Scope, ...] = ("answer", "conversation", "day", "month")


class Spent(NamedTuple):
    """What was used up: `cost` is a lower bound where there are `unpriced` calls. `reserved` is
    what turns that are under way may still use."""

    cost: int = 0
    tokens: int = 0
    unpriced: int = 0
    reserved: int = 0
    reserved_tokens: int = 0


class Limit(NamedTuple):
    """At most so much in an answer, a conversation, a day or a month (by the wall's calendar)."""

    scope: Scope
    unit: Unit
    most: int
    written: str = ""  # the sum as the user wrote it, with its sign: `€0.0225`


class Level(NamedTuple):
    """How full a limit is: `spent`, `reserved` by others, and `asked` for what comes next."""

    limit: Limit
    spent: int
    reserved: int = 0
    asked: int = 0
    unpriced: int = 0  # calls in it whose cost is not known

    @property
    def after(self) -> int:
        return self.spent + self.reserved + self.asked

    @property
    def percent(self) -> int:
        """How full it would be, rounded down, so that 100 is really full."""
        return 100 * self.after // self.limit.most if self.limit.most > 0 else 100

    @property
    def refused(self) -> bool:
        """It is full already, or would be more than full."""
        return self.spent + self.reserved >= self.limit.most or self.after > self.limit.most


class Verdict(NamedTuple):
    """The levels of all limits, in their order. Where one refuses, nothing was reserved, unless it
    was overridden."""

    levels: tuple[Level, ...] = ()

    @property
    def refusing(self) -> Level | None:
        """The limit that refuses; the fullest of several."""
        full = [level for level in self.levels if level.refused]
        return max(full, key=lambda level: level.percent, default=None)

    def near(self, percent: int = 80) -> list[Level]:
        """The limits that are at least so full, the fullest first."""
        found = [level for level in self.levels if level.percent >= percent]
        return sorted(found, key=lambda level: -level.percent)


def level(limit: Limit, spent: Spent, cost: int | None = None, tokens: int = 0) -> Level:
    """How full a limit is with `cost` (None: not known) and `tokens` more."""
    if limit.unit == "tokens":
        return Level(limit, spent.tokens, spent.reserved_tokens, tokens)
    return Level(limit, spent.cost, spent.reserved, cost or 0, spent.unpriced)


# --- As people write it, and read it --------------------------------------------------------------

_TOKENS = ("tokens", "token", "tok")
_NAMES = {
    "answer": "an answer",
    "conversation": "this conversation",
    "day": "today",
    "month": "this month",
}


def written(raw: object) -> tuple[Unit, int]:
    """`2.50` as money, `200k tokens` as tokens: (unit, how much), money in 10^-12 of the currency.
    Raises ValueError."""
    text = str(raw).strip().lower() if isinstance(raw, (str, int, float)) else ""
    below, text = text.startswith("-"), text.removeprefix("-")
    if isinstance(raw, bool) or not text:
        raise ValueError("must be a sum like 2.50, or 200k tokens")
    for word in _TOKENS:
        if text.endswith(word):
            return "tokens", _positive(amount(text.removesuffix(word).strip()), below)
    try:
        most = exact_of(text, 12)
    except ValueError:
        raise ValueError("must be a sum like 2.50, or 200k tokens") from None
    return "cost", _positive(most, below)


def _positive(number: int, below: bool) -> int:
    if number <= 0 or below:
        raise ValueError("must be more than nothing; leave it out for no limit")
    return number


def limit(scope: Scope, text: str, currency: str, exchange: Mapping[str, int]) -> Limit:
    """A limit as it was written, in dollars. Raises ValueError where the currency has no rate."""
    unit, number = written(text)
    if unit == "tokens":
        return Limit(scope, unit, number)
    shown = _exactly(number, currency)
    if currency != DOLLAR:
        bought = exchange.get(currency, 0)
        if not bought:
            raise ValueError(f"is in {currency}, of which [money.rates] says nothing")
        number = divided(number * PICO, bought)
    return Limit(scope, unit, number, shown)


def _exactly(pico: int, currency: str) -> str:
    """A sum of money with all of its decimals, two at least."""
    whole, _, part = exact(pico).partition(".")
    return f"{SIGNS.get(currency, f'{currency} ')}{int(whole):,}.{part:0<2}"


def most(limit: Limit, cash: Callable[[int | None], str]) -> str:
    """What may be used at most, for people."""
    if limit.unit == "tokens":
        return f"{limit.most:,} tokens"
    return limit.written or cash(limit.most)


def said(level: Level, cash: Callable[[int | None], str]) -> str:
    """How full a limit is, with what is asked: `82 % of the limit for today: $1.64 of $2.00`."""
    used = level.after
    if level.limit.scope == "answer":
        return f"an answer may use {most(level.limit, cash)}"
    least = "at least " if level.unpriced else ""
    shown = f"{used:,}" if level.limit.unit == "tokens" else f"{least}{cash(used)}"
    shown += f" of {most(level.limit, cash)}"
    share = 100 * used // level.limit.most
    return f"{share} % of the limit for {_NAMES[level.limit.scope]}: {shown}"


def refusal(level: Level, cash: Callable[[int | None], str]) -> str:
    """Why the next request is not sent."""
    asked = f"{level.asked:,} tokens" if level.limit.unit == "tokens" else cash(level.asked)
    room = level.spent + level.reserved < level.limit.most
    more = f", and this may take {asked}" if room else ""
    return f"{said(level._replace(asked=0), cash)}{more}; nothing was sent"
