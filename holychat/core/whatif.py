"""What work would have cost elsewhere: recorded tokens priced anew, ranked, taken to a month.

Owns the arithmetic of `holychat cost`: which tokens are compared, which tariff holds for them, what
a month of it is, and when a fixed cost pays. Money is in integers of 10^-12 US dollars and never a
float; each quotient is rounded once, to the nearest integer. Must not know a clock, a store or the
price list: the row of a price list that holds at a time is asked of a function.

Tokens are summed up before they are priced, by the tariff that holds for them. For a tariff in
dollars this is exactly the sum over the calls. Where the length of a prompt decides about the
price, the average of the calls that were counted together stands for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from holychat.core.chat import Usage
from holychat.core.price import Rate, Tariff, cost, divided, week_minute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from holychat.core.tally import Tally

    RateOf = Callable[[int], Rate | None]  # of a Unix time

MONTH = 30  # days
ENOUGH = 10  # answers of a model from which on their length says what is typical
TYPICAL = 500  # tokens of an answer, where nothing is known of them
DAY = 86400  # seconds


class Piece(NamedTuple):
    """Tokens of `calls` that began at `at` (Unix time) or in the half hour from there on; `cached`
    is a part of `prompt`."""

    at: int = 0
    calls: int = 1
    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    def plus(self, other: Piece) -> Piece:
        """Both together, from the first one's time on."""
        return Piece(self.at, *map(int.__add__, self[1:], other[1:]))


class Work(NamedTuple):
    """What was recorded of one model. `cost` is None where no price is known for it."""

    provider: str
    model: str
    piece: Piece
    cost: int | None = None


class Basis(NamedTuple):
    """What is compared, and what it cost; None where no price is known for any of it. `left` is
    what is not compared, because it has no price while other work has one."""

    pieces: tuple[Piece, ...] = ()
    cost: int | None = None
    left: tuple[Work, ...] = ()

    @property
    def whole(self) -> Piece:
        return together(self.pieces)


class Day(NamedTuple):
    """The pieces of one day in UTC, on which a price list has one row for a model: as one, by the
    half hour, and each by itself. `longest` is the greatest average length of their prompts."""

    at: int
    whole: Piece
    slots: tuple[Piece, ...]
    pieces: tuple[Piece, ...]
    longest: int


class Offer(NamedTuple):
    """What work costs at a model. `cost` is None where no price is known; `input` is the part of
    it that its prompts make."""

    provider: str
    model: str
    cost: int | None
    input: int | None = None

    @property
    def output(self) -> int | None:
        return None if self.cost is None or self.input is None else self.cost - self.input


# --- What is compared -----------------------------------------------------------------------------


def works(provider: str, model: str, at: int, tally: Tally) -> Iterator[Work]:
    """What was counted of a model in one half hour: the part with a price, and the part without."""
    free = Piece(
        at,
        tally.unpriced,
        tally.unpriced_prompt,
        tally.unpriced_cached,
        tally.unpriced_completion,
    )
    paid = Piece(
        at,
        tally.priced,
        tally.prompt - free.prompt,
        tally.cached - free.cached,
        tally.completion - free.completion,
    )
    if paid.tokens or tally.cost:
        yield Work(provider, model, paid, tally.cost)
    if free.tokens:
        yield Work(provider, model, free)


def basis(all_: Iterable[Work]) -> Basis:
    """Work without a price is left out where other work has one: a difference is one between the
    same tokens."""
    found = list(all_)
    known = [work for work in found if work.cost is not None]
    if not known:
        return Basis(tuple(work.piece for work in found))
    total = sum(work.cost or 0 for work in known)
    left = tuple(work for work in found if work.cost is None)
    return Basis(tuple(work.piece for work in known), total, left)


def together(pieces: Iterable[Piece]) -> Piece:
    """The sum, from the first one's time on; of nothing, nothing."""
    found = list(pieces)
    if not found:
        return Piece(calls=0)
    _, *columns = zip(*found, strict=True)
    return Piece(found[0].at, *map(sum, columns))


def by_day(pieces: Iterable[Piece]) -> list[Day]:
    """The pieces by their days."""
    days = _by(pieces, lambda piece: piece.at - piece.at % DAY)
    return [
        Day(
            at,
            together(found),
            tuple(map(together, _by(found, lambda piece: piece.at).values())),
            tuple(found),
            max(map(_length, found)),
        )
        for at, found in sorted(days.items())
    ]


def _by(pieces: Iterable[Piece], key: Callable[[Piece], int]) -> dict[int, list[Piece]]:
    found: dict[int, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(key(piece), []).append(piece)
    return found


def _length(piece: Piece) -> int:
    return piece.prompt // max(1, piece.calls)


# --- What it would cost ---------------------------------------------------------------------------


def repriced(
    days: Sequence[Day], rate_of: RateOf, exchange: Mapping[str, int]
) -> tuple[int, int] | None:
    """What the work costs at the prices that hold for it, and the part of it that its prompts
    make; None where a price is not known."""
    sums: dict[tuple[Tariff, str], Piece] = {}
    for day in days:
        rate = rate_of(day.at)
        if rate is None or rate.tariff is None:
            return None
        for piece in _apart(day, rate):
            key = (tariff_of(rate, piece) or rate.tariff, rate.currency)
            sums[key] = sums[key].plus(piece) if key in sums else piece
    total = prompts = 0
    for (tariff, currency), piece in sums.items():
        row = Rate("", (), tariff, currency=currency)
        usage = Usage(piece.prompt, piece.completion, piece.cached)
        both = cost(row, usage, 0, exchange)
        prompt = cost(row, replace(usage, completion=0), 0, exchange)
        if both is None or prompt is None:
            return None
        total, prompts = total + both, prompts + prompt
    return total, prompts


def _apart(day: Day, rate: Rate) -> tuple[Piece, ...]:
    """What has to be told apart of a day; most prices hold at all hours for all lengths."""
    special = [one for one in rate.special if one.above < max(1, day.longest)]
    if not special:
        return (day.whole,)
    return day.pieces if any(one.above for one in special) else day.slots


def tariff_of(rate: Rate, piece: Piece) -> Tariff | None:
    """The tariff that holds for calls of that average length at that time."""
    minute, length = week_minute(piece.at), _length(piece)
    return next((one.tariff for one in rate.special if one.holds(length, minute)), rate.tariff)


def listed(rate: Rate) -> Rate:
    """The row without its special hours and lengths, for work of which neither is known."""
    return rate._replace(special=())


def ranked(offers: Iterable[Offer]) -> list[Offer]:
    """The cheapest first; those of unknown cost at the end."""
    return sorted(offers, key=_rank)


def _rank(one: Offer) -> tuple[bool, int, str, str]:
    return one.cost is None, one.cost or 0, one.provider, one.model


def times(cost: int | None, base: int | None) -> str:
    """`0.24×`, `2.4×`, `19×`; empty where the one that it is measured by is not known, or 0."""
    if cost is None or not base:
        return ""
    hundredths = divided(cost * 100, base)
    if cost > 0 and hundredths < 1:
        return "<0.01×"
    if hundredths >= 1000:
        return f"{divided(cost, base):,}×"
    places = 2 if hundredths < 100 else 1
    value = divided(cost * 10**places, base)
    whole, part = divmod(value, 10**places)
    return f"{whole}.{part:0{places}d}".rstrip("0").rstrip(".") + "×"


# --- A month of it, and whether it pays -----------------------------------------------------------


def monthly(total: int, days: int) -> int:
    """What so much in so many days is in 30."""
    return divided(total * MONTH, max(1, days))


def permille(part: int | None, whole: int | None) -> int | None:
    """Thousandths of the whole, rounded; None where either is not known, or the whole is 0."""
    return None if part is None or not whole else divided(part * 1000, whole)


class Payoff(NamedTuple):
    """What another model saves in a month against a fixed cost of it.

    `saving` may be negative; `net` is what the fixed cost leaves of it. `roi` is the net in
    thousandths of the fixed cost, None where that is 0. `days` of such use earn a month's fixed
    cost, `tokens` a month do: both rounded up, None where it never pays.
    """

    saving: int
    net: int
    roi: int | None = None
    days: int | None = None
    tokens: int | None = None


def payoff(here: int, there: int, fixed: int, tokens: int) -> Payoff:
    """For a month's cost here and there, and the tokens of that month."""
    saving = here - there
    net = saving - fixed
    roi = permille(net, fixed)
    if saving <= 0:
        return Payoff(saving, net, roi)
    return Payoff(saving, net, roi, -(-MONTH * fixed // saving), -(-tokens * fixed // saving))


def part_of(tokens: int, millionths: int) -> int:
    """So many millionths of a per cent of them, to the nearest token."""
    return divided(tokens * millionths, 10**8)


def typical(lengths: Sequence[int]) -> int | None:
    """The median of answers' lengths; None where they are too few to say."""
    if len(lengths) < ENOUGH:
        return None
    ordered, middle = sorted(lengths), len(lengths) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return divided(ordered[middle - 1] + ordered[middle], 2)
