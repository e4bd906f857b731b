from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.tokens import estimate


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("数", 1), ("a" * 100, 30), ("数" * 100, 60)]
)
def test_estimate(text: str, tokens: int) -> None:
    assert estimate(text) == tokens


@given(st.text(), st.text())
def test_more_text_is_not_fewer_tokens(text: str, more: str) -> None:
    assert bool(text) == (estimate(text) > 0)
    assert estimate(text) <= estimate(text + more) <= estimate(text) + estimate(more) + 1


def test_lone_surrogates_count_as_well() -> None:
    assert estimate("\ud83c") == 1
