"""What frames an answer fits into every window, whatever is written on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from holychat.screen import Look
from holychat.screen.panel import Panel
from holychat.screen.theme import THEMES

KINDS = ("rules", "bar", "none")
foreign = st.text("ab é\u0301·茶한🎉\n\t\x07\x1b[\u202e", max_size=60)


def shown(line: list[tuple[str, object, object]]) -> str:
    return "".join(segment[0] for segment in line)


@given(
    kind=st.sampled_from(KINDS),
    theme=st.sampled_from(THEMES),
    title=foreign,
    said=foreign,
    thoughts=st.lists(foreign, max_size=8),
    columns=st.integers(8, 100),
    room=st.integers(1, 8),
)
def test_no_row_is_as_wide_as_the_window(
    kind: str,
    theme: str,
    title: str,
    said: str,
    thoughts: list[str],
    columns: int,
    room: int,
) -> None:
    panel = Panel(Look(panel=kind, theme=theme), title)
    thinking = panel.thinking(thoughts, columns, room)
    rows = [
        *panel.head(columns),
        panel.foot(said, columns),
        panel.foot(said, columns, warn=True),
        panel.note(said, columns),
        panel.waiting("waiting", 12.5, said, columns),
        panel.thought(12.5, 1234, columns),
        *thinking,
    ]
    for row in rows:
        text = shown(row)
        assert cell_len(text) < columns, text
        assert "\n" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert len(thinking) <= room


@pytest.mark.parametrize("kind", KINDS)
def test_wide_characters_take_two_cells_of_a_row(kind: str) -> None:
    panel = Panel(Look(panel=kind), "茶" * 60)
    for row in (*panel.head(40), panel.foot("茶" * 60, 40)):
        assert cell_len(shown(row)) < 40


def test_wide_characters_take_two_cells_of_a_note() -> None:
    assert cell_len(shown(Panel(Look(), "").note("茶" * 60, 40))) < 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_keeps_the_width_that_the_frame_leaves(kind: str) -> None:
    panel = Panel(Look(panel=kind), "model")
    for columns in (20, 80):
        row = panel.row([*panel.note("x" * 200, panel.inner(columns) + 1)])
        assert cell_len(shown(row)) == columns


def test_long_reasoning_is_laid_out_by_its_end_only() -> None:
    panel = Panel(Look(), "model")
    thoughts = [f"word{number} " for number in range(100_000)]
    rows = [shown(row) for row in panel.thinking(thoughts, 40, 3)]
    assert len(rows) == 3
    assert rows[-1].endswith("word99999")
