"""Limits: how they are read, when one refuses, what is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.limits import (
    Level,
    Limit,
    Spent,
    Verdict,
    level,
    limit,
    refusal,
    said,
    written,
)
from holychat.core.price import PICO, money

DAY = Limit("day", "cost", 1000)


def test_how_full_a_limit_is() -> None:
    spent = Spent(500, 70, 1, 100, 20)
    assert level(DAY, spent, 200, 9) == Level(DAY, 500, 100, 200, 1)
    assert level(DAY, spent, None, 9).asked == 0
    tokens = Limit("day", "tokens", 100)
    assert level(tokens, spent, 200, 9) == Level(tokens, 70, 20, 9)
    assert (level(DAY, spent, 200).percent, level(tokens, spent, 0, 9).percent) == (80, 99)


@pytest.mark.parametrize(
    ("most", "spent", "asked", "refused"),
    [
        (100, 0, 100, False),  # it just fits
        (100, 0, 101, True),
        (100, 99, 1, False),
        (100, 100, 0, True),  # full already
        (100, 150, 0, True),
        (0, 0, 0, True),
        (100, 99, 0, False),
    ],
)
def test_when_a_limit_refuses(most: int, spent: int, asked: int, refused: bool) -> None:
    found = Level(Limit("day", "tokens", most), spent, 0, asked)
    assert found.refused == refused
    assert (found.percent >= 100) >= refused


def test_the_fullest_limit_refuses() -> None:
    fine, near, full, over = (Level(DAY, spent) for spent in (100, 800, 1000, 2000))
    assert Verdict((fine, full, over, near)).refusing == over
    assert Verdict((fine, near)).refusing is None
    assert Verdict((fine, near, full)).near() == [full, near]
    assert Verdict().refusing is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("2.50", ("cost", 2_500_000_000_000)),
        (2.5, ("cost", 2_500_000_000_000)),
        (3, ("cost", 3 * PICO)),
        (0.1, ("cost", PICO // 10)),
        ("200k tokens", ("tokens", 200_000)),
        ("1,500 tok", ("tokens", 1500)),
        ("2M Tokens", ("tokens", 2_000_000)),
        ("1token", ("tokens", 1)),
    ],
)
def test_a_limit_as_it_is_written(raw: object, expected: tuple[str, int]) -> None:
    assert written(raw) == expected


@pytest.mark.parametrize(
    "raw", ["", "0", "-1", "two", "2 apples", "tokens", "0 tokens", True, None, [2], "1e999", "$2"]
)
def test_what_is_no_limit(raw: object) -> None:
    with pytest.raises(ValueError, match=r"must be|leave it out"):
        written(raw)


@given(st.text(max_size=12))
def test_a_text_is_a_limit_or_a_mistake(raw: str) -> None:
    try:
        unit, most = written(raw)
    except ValueError:
        return
    assert unit in ("cost", "tokens")
    assert most > 0


def test_a_limit_in_another_currency() -> None:
    # 14.20 yuan at 7.1 to the dollar are 2 dollars.
    yuan = {"CNY": 7_100_000_000_000}
    assert limit("day", "14.20", "CNY", yuan) == Limit("day", "cost", 2 * PICO, "¥14.20")
    assert limit("day", "9 tokens", "CNY", {}) == Limit("day", "tokens", 9)
    with pytest.raises(ValueError, match="CNY"):
        limit("day", "14.20", "CNY", {})


def test_what_is_said() -> None:
    day = Limit("day", "cost", 2 * PICO)
    assert said(Level(day, PICO, 0, PICO * 64 // 100), money) == (
        "82 % of the limit for today: $1.64 of $2.00"
    )
    assert said(Level(day, PICO, unpriced=1), money).endswith("at least $1.00 of $2.00")
    assert refusal(Level(day, PICO, 0, 2 * PICO), money) == (
        "50 % of the limit for today: $1.00 of $2.00, and this may take $2.00; nothing was sent"
    )
    month = Limit("month", "tokens", 1000)
    assert refusal(Level(month, 1200), money) == (
        "120 % of the limit for this month: 1,200 of 1,000 tokens; nothing was sent"
    )
    assert said(Level(Limit("answer", "tokens", 500), 0), money) == "an answer may use 500 tokens"
