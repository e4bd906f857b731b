"""Lines that are written as they are: how wide they are, and what is cut."""

from __future__ import annotations

import pytest

from holychat.core.history import Conversation, Found
from holychat.screen import width
from holychat.screen.pen import around, cells, fit, padded


def found(before: str, match: str, after: str) -> Found:
    return Found(Conversation("abcdefgh"), 1, "user", 0, before, match, after)


def test_cells_and_cuts() -> None:
    assert [cells(text) for text in ("abc", "如何", "e\u0301", "🙂", "é")] == [3, 4, 1, 2, 1]
    assert fit("如何用", 5) == "如何…"
    assert fit("如何用", 4) == "如…"
    assert fit("abc", 3) == "abc"
    assert fit("abc", 0) == ""
    assert padded("如", 4) == "如  "
    assert padded("a", 3, right=True) == "  a"


@pytest.mark.parametrize(
    "text", ["❤️", "👍🏽", "👩\u200d🚀", "கா", "नी", "한국", "e\u0301", "ﾊﾝ", "→", "1️⃣"]
)
def test_no_terminal_needs_more_cells(text: str) -> None:
    """The measure without rich is at least that of the panel, which takes the widest reading."""
    assert cells(text) >= width.cells(text)


@pytest.mark.parametrize("room", [1, 5, 10, 20, 31])
def test_a_match_is_kept_as_long_as_there_is_room(room: int) -> None:
    for wide, behind in ((40, 40), (0, 40), (40, 0), (4, 40)):
        before, after = "b" * wide, "a" * behind
        parts = around(found(before, "match", after), room)
        assert cells("".join(parts)) <= room
        assert parts[1] == ("match" if room >= 5 else "…")
        if room > 9:
            assert cells("".join(parts)) == room


def test_a_pipe_gets_all_of_it_and_no_controls() -> None:
    long = "b" * 4000
    assert around(found(long, "m\x1b[2J", long), 0) == (long, "m␛[2J", long)
    assert around(found("a", "m", "b"), 3) == ("a", "m", "b")
