"""Repricing: exact, additive, ranked by cost; months and fixed costs; worked by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.chat import Usage
from holychat.core.price import PICO, WEEK, Rate, Special, Tariff, cost, per_token
from holychat.core.tally import Tally
from holychat.core.whatif import (
    DAY,
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
    permille,
    ranked,
    repriced,
    times,
    together,
    typical,
    works,
)

MILLION = 10**6
CENT = PICO // 100
AT = 1_795_262_400  # 2026-11-21 12:00 UTC, a Saturday
TARIFFS = st.builds(
    Tariff, st.integers(0, 10**8), st.integers(0, 10**8), st.none() | st.integers(0, 10**8)
)
HOURS = st.builds(
    Special,
    TARIFFS,
    st.integers(0, 47).map(lambda n: 30 * n),
    st.integers(0, 47).map(lambda n: 30 * n),
    st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    st.just(0),  # prices of long prompts are those of each call, and of no half hour
)
RATES = st.builds(
    lambda tariff, special: Rate("p", ("m",), tariff, special=tuple(special)),
    TARIFFS,
    st.lists(HOURS, max_size=2),
)


@st.composite
def calls(draw: st.DrawFn) -> Piece:
    """One call, in some half hour of a fortnight."""
    prompt = draw(st.integers(0, 10**6))
    return Piece(
        AT - 1800 * draw(st.integers(0, 14 * 48)),
        1,
        prompt,
        draw(st.integers(0, prompt)),
        draw(st.integers(0, 10**6)),
    )


CALLS = st.lists(calls(), max_size=20)


def rate(input_: str, output: str, cached: str | None = None) -> Rate:
    """A price for a million tokens."""
    hit = None if cached is None else per_token(cached)
    return Rate("p", ("m",), Tariff(per_token(input_), per_token(output), hit))


def price(pieces: list[Piece], row: Rate | None) -> int | None:
    found = repriced(by_day(pieces), lambda _: row, {})
    return found[0] if found else None


def paid(piece: Piece, row: Rate) -> int:
    """What a call cost when it was made."""
    minute = (3 * 1440 + piece.at // 60) % WEEK
    found = cost(row, Usage(piece.prompt, piece.completion, piece.cached), minute, {})
    assert found is not None
    return found


# --- The seed documents' example ----------------------------------------------------------------

SEED = {
    "holysheep": rate("0.10", "0.42"),
    "deepseek": rate("0.27", "1.00"),
    "gemini": rate("0.30", "2.50"),
    "gpt-4.1": rate("2.00", "8.00"),
    "claude": rate("3.00", "15.00"),
}


@pytest.mark.parametrize(
    ("name", "out", "both"),
    [
        # 10 M out: 10 × the price for output. 10 M in and out: 10 × (input + output).
        ("holysheep", 420, 520),  # 10 × 0.42 = 4.20; 10 × 0.52 = 5.20
        ("deepseek", 1000, 1270),  # 10 × 1.00 = 10.00; 10 × 1.27 = 12.70
        ("gemini", 2500, 2800),  # 10 × 2.50 = 25.00; 10 × 2.80 = 28.00
        ("gpt-4.1", 8000, 10000),  # 10 × 8.00 = 80.00; 10 × 10.00 = 100.00
        ("claude", 15000, 18000),  # 10 × 15.00 = 150.00; 10 × 18.00 = 180.00
    ],
)
def test_ten_million_and_a_hundred_million_tokens(name: str, out: int, both: int) -> None:
    """In cents. The documents' 52,000 and so on for 100 M are a thousand times too much."""
    ten = 10 * MILLION
    assert price([Piece(AT, 1, 0, 0, ten)], SEED[name]) == out * CENT
    assert price([Piece(AT, 1, ten, 0, ten)], SEED[name]) == both * CENT
    assert price([Piece(AT, 1, 10 * ten, 0, 10 * ten)], SEED[name]) == 10 * both * CENT


def test_the_cached_share_has_its_own_price() -> None:
    # 10 M in, 30 % of them cached, at 2.00 / 0.50: 7 × 2.00 + 3 × 0.50 = 15.50; 1 M out: 8.00.
    cached = part_of(10 * MILLION, 30 * MILLION)
    assert cached == 3 * MILLION
    piece = Piece(AT, 1, 10 * MILLION, cached, MILLION)
    assert price([piece], rate("2.00", "8.00", "0.50")) == 2350 * CENT
    assert price([piece], rate("2.00", "8.00")) == 2800 * CENT  # no price for it: as any other


def test_off_peak_work_has_the_off_peak_price() -> None:
    """16:30 to 00:30 UTC at half: 1 M out at 16:30, 1 M at 16:00, 1 M at 00:00 of the next day."""
    half = Special(Tariff(0, per_token("0.50")), 16 * 60 + 30, 30)
    row = Rate("p", ("m",), Tariff(0, per_token("1.00")), special=(half,))
    noon = AT - AT % DAY + DAY // 2
    pieces = [
        Piece(noon + 4 * 3600 + 1800, 1, 0, 0, MILLION),  # 0.50
        Piece(noon + 4 * 3600, 1, 0, 0, MILLION),  # 1.00
        Piece(noon + 12 * 3600, 1, 0, 0, MILLION),  # 0.50
    ]
    assert price(pieces, row) == 200 * CENT


def test_days_of_the_week_count() -> None:
    """2026-11-21 is a Saturday: five days of peak at 2.00, the week's end at 1.00."""
    weekend = Special(Tariff(0, per_token("1.00")), days=(5, 6))
    row = Rate("p", ("m",), Tariff(0, per_token("2.00")), special=(weekend,))
    assert price([Piece(AT, 1, 0, 0, MILLION)], row) == 100 * CENT
    assert price([Piece(AT - DAY, 1, 0, 0, MILLION)], row) == 200 * CENT


def test_the_average_prompt_says_whether_prompts_are_long() -> None:
    long = Special(Tariff(per_token("2.00"), 0), above=200_000)
    row = Rate("p", ("m",), Tariff(per_token("1.00"), 0), special=(long,))
    assert price([Piece(AT, 10, MILLION, 0, 0)], row) == 100 * CENT  # 100,000 a call
    assert price([Piece(AT, 4, MILLION, 0, 0)], row) == 200 * CENT  # 250,000 a call
    both = [Piece(AT, 10, MILLION, 0, 0), Piece(AT, 4, MILLION, 0, 0)]
    assert price(both, row) == 300 * CENT  # each by its own, in the same half hour too


def test_another_currency_is_rounded_once() -> None:
    """1 token at 1 yuan a million, at 7 for a dollar: 10^6 / 7 = 142857.14 of 10^-12 dollars."""
    row = rate("1", "1")._replace(currency="CNY")
    exchange = {"CNY": 7 * PICO}
    days = by_day([Piece(AT, 1, 1, 0, 0)])
    assert repriced(days, lambda _: row, exchange) == (142_857, 142_857)
    three = by_day([Piece(AT, 1, 7, 0, 7)] * 3)
    assert repriced(three, lambda _: row, exchange) == (6 * MILLION, 3 * MILLION)
    assert repriced(days, lambda _: row, {}) is None


def test_a_price_that_is_not_known_is_not_zero() -> None:
    piece = Piece(AT, 1, 10, 0, 10)
    assert price([piece], None) is None
    assert price([piece], Rate("p", ("m",), window=1000)) is None
    assert price([piece], rate("0", "0")) == 0
    known_until = {AT - AT % DAY: rate("1", "1")}
    two = by_day([piece, piece._replace(at=AT - DAY)])
    assert repriced(two, known_until.get, {}) is None


# --- Laws ---------------------------------------------------------------------------------------


@given(CALLS, RATES)
def test_the_same_model_at_the_same_prices_costs_what_it_did(found: list[Piece], row: Rate) -> None:
    assert price(found, row) == sum(paid(piece, row) for piece in found)


@given(CALLS, RATES)
def test_half_hours_that_were_summed_up_cost_the_same(found: list[Piece], row: Rate) -> None:
    slots: dict[int, list[Piece]] = {}
    for piece in found:
        slots.setdefault(piece.at, []).append(piece)
    assert price([together(each) for each in slots.values()], row) == price(found, row)


@given(CALLS, CALLS, RATES)
def test_costs_add_up(one: list[Piece], other: list[Piece], row: Rate) -> None:
    parts = price(one, row), price(other, row)
    assert price(one + other, row) == sum(part or 0 for part in parts)


@given(
    st.lists(
        st.builds(Offer, st.text(max_size=3), st.text(max_size=3), st.none() | st.integers(0, 50))
    )
)
def test_the_ranking_is_by_cost(offers: list[Offer]) -> None:
    found = ranked(offers)
    known = [one.cost for one in found if one.cost is not None]
    assert known == sorted(known)
    assert [one.cost for one in found[len(known) :]] == [None] * (len(found) - len(known))
    assert sorted(map(repr, found)) == sorted(map(repr, offers))


@given(st.integers(0, 10**20), st.integers(1, 4000))
def test_a_month_is_the_nearest_integer(total: int, days: int) -> None:
    assert abs(monthly(total, days) - Fraction(total * 30, days)) <= Fraction(1, 2)
    assert monthly(total * days, days) == total * 30
    assert monthly(total, 30) == total


@given(
    st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**15), st.integers(1, 10**9)
)
def test_a_payoff_is_true(here: int, there: int, fixed: int, tokens: int) -> None:
    found = payoff(here, there, fixed, tokens)
    assert found.saving == here - there
    assert found.net == found.saving - fixed
    if found.saving <= 0:
        assert (found.days, found.tokens) == (None, None)
        return
    assert found.days is not None
    assert found.tokens is not None
    assert (found.days <= 30) == (found.net >= 0)
    # So many tokens save the fixed cost, and one less does not.
    assert found.saving * found.tokens >= fixed * tokens
    assert found.tokens == 0 or found.saving * (found.tokens - 1) < fixed * tokens


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (1, 1, "1×"), (12, 10, "1.2×"), (1, 4, "0.25×"), (3, 10, "0.3×"), (190, 10, "19×"),
        (1, 1000, "<0.01×"), (0, 5, "0×"), (5, 0, ""), (None, 5, ""), (5, None, ""),
        (10**7, 1, "10,000,000×"),
    ],
)  # fmt: skip
def test_times(part: int | None, whole: int | None, text: str) -> None:
    assert times(part, whole) == text


# --- What is compared -----------------------------------------------------------------------------


def test_what_has_a_price_and_what_has_none_are_told_apart() -> None:
    tally = Tally(
        calls=4, prompt=100, cached=30, completion=50, cost=7, priced=2, unpriced=1,
        unpriced_prompt=40, unpriced_cached=10, unpriced_completion=20,
    )  # fmt: skip
    assert list(works("p", "m", AT, tally)) == [
        Work("p", "m", Piece(AT, 2, 60, 20, 30), 7),
        Work("p", "m", Piece(AT, 1, 40, 10, 20), None),
    ]
    assert list(works("p", "m", AT, Tally(calls=2, failed=2))) == []
    assert list(works("p", "m", AT, Tally(calls=1, priced=1, prompt=5))) == [
        Work("p", "m", Piece(AT, 1, 5, 0, 0), 0)
    ]


def test_only_the_same_tokens_are_compared() -> None:
    one, other = Piece(AT, 1, 10, 0, 5), Piece(AT, 1, 20, 0, 6)
    free = Work("p", "x", other)
    assert basis([Work("p", "m", one, 3), free]) == Basis((one,), 3, (free,))
    assert basis([free]) == Basis((other,), None, ())  # nothing is known: the tokens alone
    assert basis([]) == Basis((), None, ())
    assert Basis((one, other)).whole == Piece(AT, 2, 30, 0, 11)


# --- By hand --------------------------------------------------------------------------------------


def test_whether_moving_pays() -> None:
    # 10 M in and out: GPT-4.1 100.00, HolySheep 5.20; 94.80 saved, 74.80 of them remain after 20.
    # 30 × 20 / 94.80 = 6.3 days; 20 M × 20 / 94.80 = 4,219,409.3 tokens; 74.80 / 20 = 374 %.
    assert payoff(100 * PICO, 520 * CENT, 20 * PICO, 20 * MILLION) == Payoff(
        9480 * CENT, 7480 * CENT, 3740, 7, 4_219_410
    )
    # The other way round it is dearer, and nothing ever earns the 20.
    assert payoff(520 * CENT, 100 * PICO, 20 * PICO, 20 * MILLION) == Payoff(
        -9480 * CENT, -11480 * CENT, -5740
    )
    # 1 saved, 20 spent: a loss of 19, -95 %; 600 days of use, or 20 times the tokens.
    assert payoff(2 * PICO, PICO, 20 * PICO, MILLION) == Payoff(
        PICO, -19 * PICO, -950, 600, 20 * MILLION
    )
    assert payoff(PICO, PICO, 20 * PICO, MILLION) == Payoff(0, -20 * PICO, -1000)
    assert payoff(2 * PICO, PICO, 0, MILLION) == Payoff(PICO, PICO, None, 0, 0)


def test_shares() -> None:
    assert permille(-9480, 10000) == -948
    assert (permille(1, 0), permille(None, 5), permille(5, None)) == (None, None, None)


def test_a_typical_answer_is_the_median_of_enough() -> None:
    assert typical([1] * 9) is None
    assert typical([*range(1, 10), 1000]) == 6  # 5 and 6: 5.5, to the even
    assert typical([*range(1, 11), 1000]) == 6
