"""Money by hand, and against fractions: no float, no drift, one rounding."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.chat import Usage
from holychat.core.price import (
    PICO,
    WEEK,
    Rate,
    Special,
    Tariff,
    cost,
    divided,
    exact,
    exact_of,
    find,
    money,
    per_token,
    week_minute,
)

GPT = Rate("openai", ("gpt-4.1",), Tariff(per_token("2.00"), per_token("8.00"), per_token("0.50")))
MONDAY, SATURDAY = 0, 5 * 1440


def spent(rate: Rate, usage: Usage, minute: int = 720) -> str:
    pico = cost(rate, usage, minute, {"CNY": exact_of("7.1", 12)})
    return "?" if pico is None else exact(pico)


# --- By hand ------------------------------------------------------------------------------------


def test_a_price_is_an_integer_a_token() -> None:
    # 2.00 / 1,000,000 = 0.000002 dollars = 2,000,000 of 10^-12
    assert per_token("2.00") == 2_000_000
    assert per_token("0.003625") == 3_625
    assert per_token(0.1) == per_token("0.1") == 100_000
    assert per_token(3) == 3_000_000


def test_prompt_and_completion() -> None:
    # 1,000 * 0.000002 + 500 * 0.000008 = 0.002 + 0.004
    assert spent(GPT, Usage(prompt=1000, completion=500)) == "0.006"


def test_the_cached_share_is_a_part_of_the_prompt() -> None:
    # 200 * 0.000002 + 800 * 0.0000005 + 500 * 0.000008 = 0.0004 + 0.0004 + 0.004
    assert spent(GPT, Usage(prompt=1000, cached=800, completion=500)) == "0.0048"
    # a server that reports more from the cache than there was: 1,000 * 0.0000005
    assert spent(GPT, Usage(prompt=1000, cached=5000)) == "0.0005"


def test_without_a_price_for_it_cached_input_costs_as_any_other() -> None:
    rate = Rate("h", ("m",), Tariff(per_token("0.10"), per_token("0.42")))
    # 1,000 * 0.0000001 + 1,000 * 0.00000042
    assert spent(rate, Usage(prompt=1000, cached=900, completion=1000)) == "0.00052"


def test_reasoning_is_a_part_of_the_completion() -> None:
    # 500 * 0.000008, once
    assert spent(GPT, Usage(completion=500, reasoning=400)) == "0.004"


NIGHT = Rate(
    "deepseek",
    ("deepseek-chat",),
    Tariff(per_token("0.27"), per_token("1.10"), per_token("0.07")),
    special=(
        Special(
            Tariff(per_token("0.135"), per_token("0.55"), per_token("0.035")),
            begin=16 * 60 + 30,
            end=30,
        ),
    ),
)


@pytest.mark.parametrize(
    ("hours", "minutes", "expected"),
    [
        # 1,000,000 in and out: 0.27 + 1.10, or at night 0.135 + 0.55
        (16, 29, "1.37"),
        (16, 30, "0.685"),
        (23, 59, "0.685"),
        (0, 0, "0.685"),
        (0, 29, "0.685"),
        (0, 30, "1.37"),
        (12, 0, "1.37"),
    ],
)
def test_off_peak_over_midnight(hours: int, minutes: int, expected: str) -> None:
    million = Usage(prompt=10**6, completion=10**6)
    for day in range(7):
        assert spent(NIGHT, million, day * 1440 + hours * 60 + minutes) == expected


def test_off_peak_on_some_days() -> None:
    free = Special(Tariff(0, 0), days=(5, 6))  # all of the weekend
    rate = Rate("d", ("m",), Tariff(1, 1), special=(free,))
    usage = Usage(prompt=PICO)
    assert spent(rate, usage, SATURDAY - 1) == "1"
    assert spent(rate, usage, SATURDAY) == "0"
    assert spent(rate, usage, WEEK - 1) == "0"
    assert spent(rate, usage, MONDAY) == spent(rate, usage, WEEK) == "1"


def test_a_long_prompt_is_charged_higher_as_a_whole() -> None:
    tier = Special(Tariff(per_token("2.50"), per_token("15.00")), above=200_000)
    rate = Rate("gemini", ("pro",), Tariff(per_token("1.25"), per_token("10.00")), special=(tier,))
    # 200,000 * 0.00000125, and 200,001 * 0.0000025
    assert spent(rate, Usage(prompt=200_000)) == "0.25"
    assert spent(rate, Usage(prompt=200_001)) == "0.5000025"


def test_another_currency_by_its_rate() -> None:
    tariff = Tariff(per_token("2"), per_token("8"))
    yuan = Rate("d", ("m",), tariff, currency="CNY")
    # 1,000,000 tokens of each are 10 yuan; 10 / 7.1 = 1.408450704225|35..., to 12 decimals
    assert spent(yuan, Usage(prompt=10**6, completion=10**6)) == "1.408450704225"
    assert spent(Rate("d", ("m",), tariff, currency="EUR"), Usage(prompt=1)) == "?"


def test_what_is_not_known_is_not_zero() -> None:
    assert cost(Rate("x", ("m",), window=8000), Usage(prompt=1), 0, {}) is None
    assert find([GPT], "gpt-4.1-mini", "2026-01-01") is None
    assert money(None) == "?"
    assert money(0) == "$0"


def test_a_million_small_costs_do_not_drift() -> None:
    # 3 * 0.00000042 = 0.00000126 each; a million of them are 1.26, where floats give 1.2600000000…
    rate = Rate("h", ("m",), Tariff(0, per_token("0.42")))
    each = cost(rate, Usage(completion=3), 0, {})
    assert each is not None
    total = sum(each for _ in range(10**6))
    assert exact(total) == "1.26"
    assert sum(0.00000126 for _ in range(10**6)) != 1.26


# --- Which row ----------------------------------------------------------------------------------

ROWS = [
    Rate("d", ("chat", "Chat-Old"), Tariff(2, 2), since="2025-09-06"),
    Rate("d", ("chat",), Tariff(1, 1), since="2025-02-08"),
    Rate("d", ("chat",), Tariff(3, 3), since="2026-01-01", until="2026-07-24"),
    Rate("d", ("chat-mini",), Tariff(9, 9), since="2025-01-01"),
]


@pytest.mark.parametrize(
    ("model", "day", "expected"),
    [
        ("chat", "2024-01-01", 1),  # before its first row: that row
        ("chat", "2025-02-08", 1),
        ("chat", "2025-09-05", 1),
        ("chat", "2025-09-06", 2),
        ("chat", "2026-01-01", 3),
        ("chat", "2026-07-24", 3),
        ("chat", "2026-07-25", None),  # sold no more; the older row does not come back
        ("CHAT", "2025-09-06", 2),
        ("chat-old", "2030-01-01", 2),
        ("models/chat", "2025-09-06", 2),
        ("chat-mini", "2026-01-01", 9),
        ("chat-min", "2026-01-01", None),
        ("chat-2025-04-14", "2026-01-01", None),
        ("openai/chat", "2026-01-01", None),
        ("", "2026-01-01", None),
    ],
)
def test_the_row_in_force(model: str, day: str, expected: int | None) -> None:
    rate = find(ROWS, model, day)
    assert (rate.tariff.input if rate and rate.tariff else None) == expected


# --- For people and for JSON --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dollars", "expected"),
    [
        ("0.0004", "$0.0004"),
        ("0.00042", "$0.00042"),
        ("0.000426", "$0.00043"),
        ("0.0001", "$0.0001"),
        ("0.000099999999", "<$0.0001"),
        ("0.000000000001", "<$0.0001"),
        ("0.0126", "$0.013"),
        ("0.1", "$0.10"),
        ("0.126", "$0.13"),
        ("0.125", "$0.12"),  # half to even
        ("0.0996", "$0.10"),
        ("0.996", "$1.00"),
        ("12.3", "$12.30"),
        ("999.995", "$1,000.00"),
        ("1234567.891", "$1,234,567.89"),
    ],
)
def test_sums_for_people(dollars: str, expected: str) -> None:
    pico = exact_of(dollars, 12)
    assert money(pico) == expected
    assert money(-pico) == f"-{expected}" or expected[0] == "<"
    assert exact(pico) == dollars


def test_sums_in_another_currency() -> None:
    rates = {"CNY": exact_of("7.1", 12), "CHF": exact_of("0.8", 12)}
    # 0.0042 * 7.1 = 0.02982; 12.30 * 7.1 = 87.33; 10 * 0.8
    assert money(exact_of("0.0042", 12), "CNY", rates) == "¥0.03"
    assert money(exact_of("12.30", 12), "CNY", rates) == "¥87.33"
    assert money(10 * PICO, "CHF", rates) == "CHF 8.00"
    assert money(PICO, "EUR", rates) == "$1.00"  # no rate: dollars, and said so
    assert money(-1) == ">-$0.0001"


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "1.2.3", "1e", "e1", "1e+-1", "--1", "nan", "inf", "0x1", "1_0", "١", "1,0",
     "0.0000001", "1e-7", "1e999", "1" * 500, True, None, [], {}],
)  # fmt: skip
def test_what_is_no_price(text: object) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        per_token(text)


# --- Against fractions --------------------------------------------------------------------------

counts = st.integers(0, 10**9)
prices = st.integers(0, 10**9)


@given(counts, counts, counts, prices, prices, st.none() | prices, st.integers(1, 10**16))
def test_the_cost_is_that_of_fractions(
    prompt: int, cached: int, out: int, each: int, each_out: int, hit: int | None, bought: int
) -> None:
    rate = Rate("p", ("m",), Tariff(each, each_out, hit), currency="CNY")
    usage = Usage(prompt=prompt, cached=cached, completion=out)
    known = min(cached, prompt)
    paid = (prompt - known) * each + known * (each if hit is None else hit) + out * each_out
    expected = round(Fraction(paid * PICO, bought))  # Python rounds half to even
    assert cost(rate, usage, 0, {"CNY": bought}) == expected
    dollars = Rate("p", ("m",), Tariff(each, each_out, hit))
    assert cost(dollars, usage, 0, {}) == paid


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_rounding_is_half_to_even(number: int, by: int) -> None:
    assert divided(number, by) == round(Fraction(number, by))


@given(st.decimals(0, 10**9, places=6) | st.floats(0, 1e9).map(lambda x: round(x, 6)))
def test_a_number_means_what_is_written(number: object) -> None:
    assert exact_of(str(number), 20) == Fraction(str(number)) * 10**20
    assert per_token(str(number)) == Fraction(str(number)) * 10**6


@given(st.floats(0, 1e300))
def test_a_float_is_its_own_text_or_too_fine(number: float) -> None:
    exactly = Fraction(repr(number)) * 10**6
    if exactly.denominator == 1:
        assert per_token(number) == exactly
    else:
        with pytest.raises(ValueError, match="decimals"):
            per_token(number)


@given(st.integers(-(10**24), 10**24))
def test_the_exact_text_is_the_sum(pico: int) -> None:
    assert Fraction(exact(pico)) == Fraction(pico, PICO)


@given(st.integers(10**8, 10**20), st.integers(1, 10**14))
def test_what_is_shown_is_near_and_short(pico: int, bought: int) -> None:
    shown = money(pico, "CNY", {"CNY": bought})
    value = Fraction(pico * bought, PICO**2)
    if shown.startswith("<"):
        assert value < Fraction(1, 10_000)
        return
    near = Fraction(shown.removeprefix("¥").replace(",", ""))
    unit = Fraction(1, 100) if value >= 1 else value / 10
    assert abs(near - value) <= unit / 2
    assert len(shown.partition(".")[2]) in range(2, 6)


@given(st.integers(0, 1439), st.integers(0, 1439), st.sets(st.integers(0, 6)))
def test_the_hours_of_a_day_are_counted_once(begin: int, end: int, days: set[int]) -> None:
    special = Special(Tariff(0, 0), begin, end, tuple(days))
    inside = [minute for minute in range(WEEK) if special.holds(0, minute)]
    assert len(inside) == len(days) * ((end - begin) % 1440 or 1440)
    assert all(one < two for one, two in pairwise(inside))


def test_the_minute_of_the_week() -> None:
    assert week_minute(0) == 3 * 1440  # 1970 began on a Thursday
    assert week_minute(1_795_392_059.9) == 0  # 2026-11-23 00:00:59, a Monday
    assert week_minute(1_795_391_999) == WEEK - 1
