"""Sums and histograms: arithmetic."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.buckets import LAST, bucket, edge
from holychat.core.migrate import percentile
from holychat.core.tally import Entry, Histogram, Tally, grouped, total, unpacked

TIMES = st.lists(st.floats(min_value=0.001, max_value=3600.0), max_size=200)
TALLIES = st.builds(Tally, *[st.integers(0, 1 << 40)] * len(Tally._fields))


def made(times: list[float]) -> Histogram:
    return sum((Histogram().plus(time) for time in times), Histogram())


# --- Sums -----------------------------------------------------------------------------------------


@given(st.lists(TALLIES, max_size=5))
def test_a_sum_is_that_of_each_column(tallies: list[Tally]) -> None:
    summed = total(tallies)
    for name in Tally._fields:
        assert getattr(summed, name) == sum(getattr(each, name) for each in tallies)
    one_by_one = Tally()
    for each in tallies:
        one_by_one = one_by_one.plus(each)
    assert one_by_one == summed
    assert summed.less(summed) == Tally()


def test_the_error_rate_leaves_out_what_was_stopped() -> None:
    # 10 calls, 2 of them stopped by the user: 1 failed and 1 cut of 8 are a quarter.
    assert Tally(calls=10, answers=6, cut=1, failed=1, interrupted=2).error_rate == 0.25
    assert Tally(calls=2, interrupted=2).error_rate is None
    assert Tally().error_rate is None


def test_rates_and_shares() -> None:
    tally = Tally(prompt=200, cached=50, completion=90, made=90, made_ms=1500)
    assert (tally.rate, tally.cached_share, tally.tokens) == (60.0, 0.25, 290)
    assert (Tally().rate, Tally().cached_share) == (None, None)


@pytest.mark.parametrize(
    ("tally", "cost"),
    [
        (Tally(), 0),  # nothing was used
        (Tally(cost=0, priced=1), 0),  # it was free
        (Tally(cost=0, unpriced=1), None),  # nobody knows
        (Tally(cost=7, priced=1, unpriced=1), 7),  # at least
    ],
)
def test_what_it_cost_as_far_as_it_is_known(tally: Tally, cost: int | None) -> None:
    assert tally.known_cost == cost


def test_entries_are_summed_up_by_one_thing() -> None:
    entries = [
        Entry("2026-11-20", "a", "m", Tally(calls=1)),
        Entry("2026-11-20", "b", "m", Tally(calls=2)),
        Entry("2026-11-21", "a", "n", Tally(calls=4)),
    ]
    for by, expected in [
        ("day", {"2026-11-20": 3, "2026-11-21": 4}),
        ("provider", {"a": 5, "b": 2}),
        ("model", {"m": 3, "n": 4}),
        ("pair", {"a/m": 1, "a/n": 4, "b/m": 2}),
    ]:
        found = {group.key: group.tally.calls for group in grouped(entries, by)}  # type: ignore[arg-type]
        assert found == expected
        assert list(found) == sorted(found)


# --- Histograms -----------------------------------------------------------------------------------


@given(TIMES, st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_the_one_that_was_measured_within_the_bucket(
    times: list[float], share: float
) -> None:
    found, exact = made(times).percentile(share), percentile(sorted(times), share)
    if exact is None:
        assert found is None
    else:
        assert found == pytest.approx(exact, rel=0.025)


@given(TIMES, TIMES)
def test_to_merge_is_to_count_all(some: list[float], others: list[float]) -> None:
    merged = made(some) + made(others)
    assert merged == made(some + others)
    assert merged.count == len(some) + len(others)
    assert dict(merged.counts()) == {
        number: sum(bucket(time) == number for time in some + others)
        for number in {bucket(time) for time in some + others}
    }


@given(TIMES)
def test_it_is_packed_without_loss_and_small(times: list[float]) -> None:
    histogram = made(times)
    assert unpacked(histogram.packed()) == histogram
    numbers = [bucket(time) for time in times]
    size = 2 + 4 * (max(numbers) - min(numbers) + 1) if times else 0
    assert len(histogram.packed()) == size


@pytest.mark.parametrize("number", range(LAST))
def test_a_bucket_holds_what_is_between_its_edges(number: int) -> None:
    assert bucket(edge(number) * 1.0001) == bucket(edge(number + 1) * 0.9999) == number


@pytest.mark.parametrize(
    ("seconds", "number"),
    [(0.0, 0), (-1.0, 0), (math.nan, 0), (1e-9, 0), (1e9, LAST), (math.inf, LAST)],
)
def test_what_is_out_of_range_is_at_an_end(seconds: float, number: int) -> None:
    assert bucket(seconds) == number
    assert made([seconds]).percentile(0.5) is not None


def test_a_full_counter_does_not_run_over() -> None:
    histogram = Histogram((1 << 32) - 1) + Histogram(5 << 32)
    assert list(histogram.counts()) == [(0, (1 << 32) - 1), (1, 5)]
