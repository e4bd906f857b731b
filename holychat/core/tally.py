"""What was used and what it cost, counted: the sums, and how long it took.

Owns the arithmetic of statistics: how sums merge, what a rate is, how percentiles come out of a
histogram. Must not know SQL (`store.tally` fills these), nor a
price (`core.price` does). Money is in 10^-12 US dollars, an integer, so that sums are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from holychat.core.buckets import GROWTH, LANE, MASK, edge, empty, one, packed
from holychat.core.buckets import unpacked as lanes
from holychat.core.chat import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


class Tally(NamedTuple):
    """What came of a number of calls. A call is an attempt that went out: a turn that was retried
    has several, one that was never sent (no key, no room in the line) has none.

    Each call is one of `answers` (the server ended it, at whatever length), `cut` (some came, and
    then it broke), `failed` (nothing came of it) and `interrupted` (by the user; or by us, because
    another one was faster or went on in its place). Beside that it may be one of

    - `retries`: a further attempt of its turn, at the provider of the one before
    - `failovers`: the same, at another provider
    - `hedges`: it ran beside another attempt, and lost
    - `copies`: it was sent beside the turn, to compare two providers

    `estimated` counts the calls whose tokens no server told. Tokens are those of all calls;
    `cached` is a part of `prompt`, `reasoning` of `completion`. `cost` is the sum over the `priced`
    calls; `unpriced` calls used tokens that no price was known for: `unpriced_prompt` and so on.
    `made` tokens came in `made_ms` milliseconds behind the first one, of calls that were streamed.
    """

    calls: int = 0
    answers: int = 0
    cut: int = 0
    failed: int = 0
    interrupted: int = 0
    retries: int = 0
    failovers: int = 0
    hedges: int = 0
    copies: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    estimated: int = 0
    cost: int = 0
    priced: int = 0
    unpriced: int = 0
    unpriced_prompt: int = 0
    unpriced_cached: int = 0
    unpriced_completion: int = 0
    made: int = 0
    made_ms: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    @property
    def usage(self) -> Usage:
        """All of it as one."""
        return Usage(
            self.prompt,
            self.completion,
            self.cached,
            self.reasoning,
            bool(self.estimated),
            self.cost if self.priced else None,
            bool(self.priced and self.unpriced),
        )

    @property
    def error_rate(self) -> float | None:
        """Broken or failed calls among those that nobody stopped; None where there are none."""
        told = self.calls - self.interrupted
        return (self.failed + self.cut) / told if told > 0 else None

    @property
    def rate(self) -> float | None:
        """Tokens a second behind the first one."""
        return 1000 * self.made / self.made_ms if self.made_ms > 0 else None

    @property
    def cached_share(self) -> float | None:
        """Of the prompts' tokens, from 0 to 1."""
        return self.cached / self.prompt if self.prompt else None

    @property
    def known_cost(self) -> int | None:
        """None where tokens were used and no price was known for any of them. Where `unpriced` is
        not 0 either, it is a lower bound."""
        return self.cost if self.priced or not self.unpriced else None

    def plus(self, other: Tally) -> Tally:
        return Tally(*map(int.__add__, self, other))

    def settled(self, rest: Unpriced, cost: int) -> Tally:
        """The same when a price was found for some calls that had none."""
        return self._replace(
            cost=self.cost + cost,
            priced=self.priced + rest.calls,
            unpriced=self.unpriced - rest.calls,
            unpriced_prompt=self.unpriced_prompt - rest.prompt,
            unpriced_cached=self.unpriced_cached - rest.cached,
            unpriced_completion=self.unpriced_completion - rest.completion,
        )

    def less(self, other: Tally) -> Tally:
        """What is left of it; never below 0."""
        return Tally(*(max(0, mine - its) for mine, its in zip(self, other, strict=True)))


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum, column by column."""
    columns = list(zip(*tallies, strict=True))
    return Tally(*map(sum, columns)) if columns else Tally()


class Entry(NamedTuple):
    """What was used on one day (`2026-11-21`, on the user's wall) of one model of a provider."""

    day: str
    provider: str
    model: str
    tally: Tally

    @property
    def pair(self) -> str:
        return f"{self.provider}/{self.model}"


class Group(NamedTuple):
    """One row of statistics. `key` is a day, a provider, a model, `provider/model`, an hour (`00`
    to `23`) or the id of a conversation, whose `title` stands beside it.

    Of a conversation only some columns are kept: calls, cut, failed, interrupted, the tokens,
    estimated, cost, priced and those of the unpriced.
    """

    key: str
    tally: Tally
    title: str = ""


class Recorded(NamedTuple):
    """What is to be priced anew: `slot` is the half hour of the UTC day (0 to 47) in which the
    calls began, for prices that depend on it. Any part of the tally without a price is in its
    columns `unpriced_...`."""

    provider: str
    model: str
    slot: int
    tally: Tally


class Unpriced(NamedTuple):
    """Calls whose price was not known then, and their tokens: of a day on the wall, in `slot`, a
    half hour of the UTC day (0 to 47); None where that is not kept."""

    day: str
    provider: str
    model: str
    slot: int | None
    calls: int
    prompt: int
    cached: int
    completion: int


@dataclass(frozen=True, slots=True)
class Period:
    """Days `since` and `until`, both inclusive, as `2026-11-21`; and whose calls. Empty: any."""

    since: str = ""
    until: str = ""
    provider: str = ""
    model: str = ""


_KEYS: dict[str, Callable[[Entry], str]] = {
    "day": lambda entry: entry.day,
    "provider": lambda entry: entry.provider,
    "model": lambda entry: entry.model,
    "pair": lambda entry: entry.pair,
}


def grouped(
    entries: Iterable[Entry], by: Literal["day", "provider", "model", "pair"]
) -> list[Group]:
    """The entries summed up by one thing, in its order."""
    groups: dict[str, list[Tally]] = {}
    key = _KEYS[by]
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry.tally)
    return [Group(name, total(groups[name])) for name in sorted(groups)]


# --- How long it took -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Histogram:
    """Times, counted by buckets (`core.buckets`): to merge is to add, and a year of them takes
    milliseconds.

    Percentiles are within 2.5 % of the one that was measured, between a millisecond and an hour.
    """

    lanes: int = 0

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.lanes + other.lanes)

    def plus(self, seconds: float) -> Histogram:
        return Histogram(self.lanes + one(seconds))

    def counts(self) -> Iterator[tuple[int, int]]:
        """(bucket, how many) of those that are not empty, the fastest first."""
        lanes, number = self.lanes, 0
        while lanes:
            skipped = empty(lanes)
            number, lanes = number + skipped, lanes >> LANE * skipped
            yield number, lanes & MASK
            number, lanes = number + 1, lanes >> LANE

    @property
    def count(self) -> int:
        return sum(many for _, many in self.counts())

    def percentile(self, share: float) -> float | None:
        """Seconds, by nearest rank; None of nothing."""
        return self.percentiles((share,))[0]

    def percentiles(self, shares: Iterable[float]) -> list[float | None]:
        """The same for several, from 0 to 1."""
        counts = list(self.counts())
        count = sum(many for _, many in counts)
        return [_ranked(counts, min(max(math.ceil(share * count), 1), count)) for share in shares]

    def packed(self) -> bytes:
        """For the store."""
        return packed(self.lanes)


def counted(counts: Mapping[int, int]) -> Histogram:
    """Of so many times in each bucket."""
    return Histogram(sum(many << LANE * number for number, many in counts.items()))


def unpacked(data: bytes) -> Histogram:
    return Histogram(lanes(data))


def _ranked(counts: list[tuple[int, int]], rank: int) -> float | None:
    for number, many in counts:
        rank -= many
        if rank <= 0:
            return edge(number) * math.sqrt(GROWTH)
    return None


class Pace(NamedTuple):
    """How long it was to the first token, of calls that had one, and to the end, of answers."""

    first: Histogram = Histogram()
    total: Histogram = Histogram()
