"""Charts: never wider than they are given, and nothing above zero is drawn as nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.buckets import LAST, bucket, edge
from holychat.screen.charts import (
    bar,
    binned,
    columns,
    compact,
    span,
    sparkline,
    spread,
)

VALUES = st.lists(st.integers(0, 10**15), max_size=60)
NUMBERS = st.integers(0, 10**15) | st.floats(0, 1e15)


@given(NUMBERS, NUMBERS, st.integers(0, 60), st.booleans())
def test_a_bar_fits_and_is_there(value: float, most: float, width: int, plain: bool) -> None:
    drawn = bar(value, most, width, plain=plain)
    assert len(drawn) <= width
    assert bool(drawn) is (value > 0 and width > 0)
    assert drawn.isascii() or not plain
    if value >= most > 0:
        assert drawn == ("#" if plain else "█") * width


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 60))
def test_a_longer_bar_is_more(one: int, other: int, width: int) -> None:
    low, high = sorted((one, other))
    assert _eighths(bar(low, high, width)) <= _eighths(bar(high, high, width))


def _eighths(drawn: str) -> int:
    return sum(" ▏▎▍▌▋▊▉█".index(sign) for sign in drawn)


def test_bars_by_hand() -> None:
    # 5 of 16 in 4 cells: 32 eighths * 5 / 16 = 10, a whole cell and two eighths
    assert bar(5, 16, 4) == "█▎"
    assert bar(5, 16, 4, plain=True) == "##"
    assert bar(1, 10**9, 4) == "▏"
    assert bar(1, 0, 4) == "▏"  # of no measure


@given(VALUES, st.booleans())
def test_a_sparkline_has_a_cell_for_each(values: list[int], plain: bool) -> None:
    drawn = sparkline(values, plain=plain)
    assert len(drawn) == len(values)
    assert [sign == " " for sign in drawn] == [value == 0 for value in values]
    if any(values):
        assert drawn[values.index(max(values))] == ("#" if plain else "█")
    assert drawn.isascii() or not plain


def test_sparklines_by_hand() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline([0, 1, 7], plain=True) == " .#"


@given(VALUES, st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_columns_fit_and_are_there(values: list[int], height: int, wide: int, plain: bool) -> None:
    rows = columns(values, height, wide, plain=plain)
    assert len(rows) == height
    assert max(map(len, rows), default=0) <= len(values) * wide
    assert all(row.isascii() for row in rows) or not plain
    last = rows[-1].ljust(len(values) * wide)
    assert [last[at * wide] != " " for at in range(len(values))] == [value > 0 for value in values]
    if any(values):
        at = values.index(max(values)) * wide
        assert {row[at] for row in rows} == {"#" if plain else "█"}


def test_columns_by_hand() -> None:
    assert columns([1, 2, 4, 0, 3], 2) == ["  █ ▄", "▄██ █"]
    assert columns([1, 4], 2, 3, plain=True) == ["   ##", "## ##"]


@given(VALUES, st.integers(1, 40))
def test_bins_keep_the_sum_and_fit(values: list[int], most: int) -> None:
    bins, each = binned(values, most)
    assert [one for part in bins for one in part] == values
    assert len(bins) <= most
    assert not values or len(bins) == -(-len(values) // each)
    if len(values) <= most:
        assert (bins, each) == ([[value] for value in values], 1)


@given(st.dictionaries(st.integers(0, LAST), st.integers(1, 10**6)))
def test_times_are_spread_whole(counts: dict[int, int]) -> None:
    rows = spread(sorted(counts.items()))
    assert sum(many for _, _, many in rows) == sum(counts.values())
    assert all(one[1] == other[0] for one, other in pairwise(rows))
    assert all(low < high for low, high, _ in rows)
    if rows:
        assert rows[0][2] > 0 < rows[-1][2]
        assert rows[0][0] <= edge(min(counts) + 1)
        assert rows[-1][1] >= edge(max(counts))


def test_steps_by_hand() -> None:
    counts = [(bucket(0.12), 3), (bucket(0.7), 2)]
    assert spread(counts) == [(0.1, 0.2, 3), (0.2, 0.5, 0), (0.5, 1.0, 2)]


@given(st.integers(0, 10**15))
def test_a_compact_number_is_short_and_near(number: int) -> None:
    text = compact(number)
    assert len(text) <= 7
    units = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    meant = float(text.rstrip("kMGT")) * units.get(text[-1], 1)
    assert meant == pytest.approx(number, rel=0.06)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (999_949, "999.9k"), (999_950, "1.0M")],
)
def test_compact_by_hand(number: int, expected: str) -> None:
    assert compact(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0042, "4.2 ms"), (0.0999, "99.9 ms"), (0.612, "0.61 s"), (9.994, "9.99 s"),
     (12.34, "12.3 s"), (99.96, "100 s"), (3600.0, "3600 s")],
)  # fmt: skip
def test_times_by_hand(seconds: float, expected: str) -> None:
    assert span(seconds) == expected
