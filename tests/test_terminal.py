"""The emulator that the other tests look at: what its rows and its cursor are after a resize."""

from __future__ import annotations

import pyte
import pytest

from tests.terminal import Screen

BOTH = pytest.mark.parametrize("reflows", [False, True])


def shown(screen: Screen) -> list[str]:
    return [row.rstrip() for row in screen.display]


def above(screen: Screen) -> list[str]:
    return screen.rows()[: len(screen.history.top)]


def at(screen: Screen) -> tuple[int, int]:
    return screen.cursor.y, screen.cursor.x


def fed(text: str, columns: int, lines: int, *, reflows: bool) -> Screen:
    screen = Screen(columns, lines, reflows=reflows)
    pyte.ByteStream(screen).feed(text.encode())
    return screen


def test_narrower_without_reflow_cuts_rows_and_keeps_their_number() -> None:
    screen = fed("abcdefgh\r\nijkl", 8, 4, reflows=False)
    screen.resize(4, 5)
    assert shown(screen) == ["abcde", "ijkl", "", ""]
    assert at(screen) == (1, 4)
    screen.resize(4, 8)
    assert shown(screen) == ["abcde", "ijkl", "", ""]  # lost for the eyes
    assert screen.joined() == ["abcdefgh", "ijkl"]  # but the test may ask what it was


def test_narrower_without_reflow_clamps_the_column_of_the_cursor() -> None:
    screen = fed("abcdefgh", 10, 3, reflows=False)
    screen.resize(3, 5)
    assert at(screen) == (0, 4)


def test_narrower_without_reflow_leaves_no_half_of_a_wide_character() -> None:
    screen = fed("abc茶d", 8, 2, reflows=False)
    screen.resize(2, 4)
    assert shown(screen) == ["abc", ""]
    assert screen.joined() == ["abc茶d"]


def test_the_scrollback_keeps_its_width_without_reflow() -> None:
    screen = fed("abcdefgh\r\nij\r\nkl", 8, 2, reflows=False)
    screen.resize(2, 4)
    assert screen.rows() == ["abcdefgh", "ij", "kl"]


def test_what_is_erased_does_not_come_back() -> None:
    screen = fed("abcdefgh", 8, 2, reflows=False)
    screen.resize(2, 4)
    pyte.ByteStream(screen).feed(b"\r\x1b[2Kxy")
    assert screen.joined() == ["xy"]


def test_narrower_with_reflow_wraps_hard_lines() -> None:
    screen = fed("abcdefgh\r\nij", 8, 4, reflows=True)
    screen.resize(4, 3)
    assert shown(screen) == ["abc", "def", "gh", "ij"]
    assert at(screen) == (3, 2)
    assert screen.joined() == ["abcdefgh", "ij"]


def test_wider_with_reflow_joins_what_autowrap_broke() -> None:
    screen = fed("abcdefghij\r\nkl", 4, 4, reflows=True)
    assert shown(screen) == ["abcd", "efgh", "ij", "kl"]
    screen.resize(4, 7)
    assert shown(screen) == ["abcdefg", "hij", "kl", ""]
    assert at(screen) == (2, 2)
    screen.resize(4, 10)
    assert shown(screen) == ["abcdefghij", "kl", "", ""]


def test_wider_without_reflow_changes_nothing() -> None:
    screen = fed("abcdefghij\r\nkl", 4, 4, reflows=False)
    screen.resize(4, 7)
    assert shown(screen) == ["abcd", "efgh", "ij", "kl"]
    assert screen.joined() == ["abcdefghij", "kl"]


def test_hard_lines_that_fill_the_row_are_not_joined() -> None:
    screen = fed("abcd\r\nefgh", 4, 4, reflows=True)
    screen.resize(4, 10)
    assert shown(screen) == ["abcd", "efgh", "", ""]


def test_a_row_that_was_erased_is_no_longer_a_part_of_the_next() -> None:
    screen = fed("abcdef\x1b[A\r\x1b[2Kxyzw", 4, 4, reflows=True)
    screen.resize(4, 10)
    assert shown(screen) == ["xyzw", "ef", "", ""]


def test_reflow_reaches_the_scrollback() -> None:
    screen = fed("abcdefghij\r\nkl\r\nmn", 5, 2, reflows=True)
    assert above(screen) == ["abcde", "fghij"]
    screen.resize(2, 10)
    assert above(screen) == ["abcdefghij"]
    screen.resize(2, 4)
    assert above(screen) == ["abcd", "efgh", "ij"]
    assert shown(screen) == ["kl", "mn"]


def test_reflow_pushes_what_no_longer_fits_into_the_scrollback() -> None:
    screen = fed("abcdef\r\nghijkl\r\nm", 6, 3, reflows=True)
    screen.resize(3, 3)
    assert above(screen) == ["abc", "def"]
    assert shown(screen) == ["ghi", "jkl", "m"]
    assert at(screen) == (2, 1)


def test_the_cursor_stays_on_its_character() -> None:
    screen = fed("abcdefgh\x1b[4D", 10, 4, reflows=True)
    assert at(screen) == (0, 4)
    screen.resize(4, 3)
    assert shown(screen) == ["abc", "def", "gh", ""]
    assert at(screen) == (1, 1)
    screen.resize(4, 20)
    assert at(screen) == (0, 4)


def test_behind_a_line_that_fills_its_row_the_cursor_waits_at_the_edge() -> None:
    screen = fed("abcdef", 10, 4, reflows=True)
    screen.resize(4, 3)
    assert shown(screen) == ["abc", "def", "", ""]
    assert at(screen) == (1, 3)
    pyte.ByteStream(screen).feed(b"g")
    assert shown(screen) == ["abc", "def", "g", ""]
    screen.resize(4, 10)
    assert shown(screen) == ["abcdefg", "", "", ""]


def test_wide_characters_are_not_split_at_the_edge() -> None:
    screen = fed("a茶茶茶", 4, 4, reflows=True)
    assert shown(screen) == ["a茶", "茶茶", "", ""]
    screen.resize(4, 5)
    assert shown(screen) == ["a茶茶", "茶", "", ""]
    assert at(screen) == (1, 2)
    screen.resize(4, 20)  # the cell that stayed empty at the edge is no blank of the line
    assert shown(screen) == ["a茶茶茶", "", "", ""]
    assert at(screen) == (0, 7)
    screen.resize(4, 2)
    assert shown(screen) == ["a", "茶", "茶", "茶"]


def test_marks_and_joiners_stay_with_their_characters() -> None:
    family = "👨\u200d👩\u200d👧"
    screen = fed(f"e\u0301x{family} ❤\ufe0f", 20, 2, reflows=True)
    assert screen.rows() == [f"e\u0301x{family} ❤\ufe0f"]
    screen.resize(2, 4)
    screen.resize(2, 20)
    assert screen.rows() == [f"e\u0301x{family} ❤\ufe0f"]


@BOTH
def test_lower_pushes_only_what_the_cursor_needs(reflows: bool) -> None:
    screen = fed("a\r\nb\r\nc", 4, 6, reflows=reflows)
    screen.resize(4, 4)  # empty rows below the cursor go first
    assert shown(screen) == ["a", "b", "c", ""]
    assert not screen.history.top
    screen.resize(2, 4)
    assert shown(screen) == ["b", "c"]
    assert above(screen) == ["a"]
    assert at(screen) == (1, 1)
    assert screen.rows() == ["a", "b", "c"]


@BOTH
def test_higher_adds_empty_rows_below(reflows: bool) -> None:
    screen = fed("a\r\nb\r\nc", 4, 2, reflows=reflows)
    screen.resize(4, 4)
    assert shown(screen) == ["b", "c", "", ""]
    assert at(screen) == (1, 1)
    assert screen.rows() == ["a", "b", "c"]


@BOTH
def test_writing_goes_on_after_many_resizes(reflows: bool) -> None:
    screen = Screen(30, 6, reflows=reflows)
    stream = pyte.ByteStream(screen)
    words = [f"word-{number}" for number in range(120)]
    for number, word in enumerate(words):
        stream.feed(f"{word} {'xyz' * (number % 9)}\r\n".encode())
        screen.resize(3 + number * 7 % 11, 12 + number * 5 % 50)
    assert [line.split()[0] for line in screen.joined()] == words
    assert 0 <= screen.cursor.y < screen.lines
    assert 0 <= screen.cursor.x <= screen.columns


@BOTH
def test_the_position_is_told_as_it_is_after_a_resize(reflows: bool) -> None:
    answers: list[bytes] = []
    screen = Screen(10, 5, answers.append, reflows=reflows)
    stream = pyte.ByteStream(screen)
    stream.feed(b"one\r\ntwo\r\nabcdefgh\x1b[6n")
    screen.resize(2, 6)
    stream.feed(b"\x1b[6n")
    assert answers == [b"\x1b[3;9R", b"\x1b[2;3R" if reflows else b"\x1b[2;6R"]


@BOTH
def test_behind_a_full_row_the_cursor_is_on_its_last_cell(reflows: bool) -> None:
    answers: list[bytes] = []
    screen = Screen(4, 2, answers.append, reflows=reflows)
    pyte.ByteStream(screen).feed(b"abcd\x1b[6n\x1b[K")
    assert answers == [b"\x1b[1;4R"]
    assert shown(screen) == ["abc", ""]


def test_without_autowrap_the_last_cell_is_written_over() -> None:
    screen = fed("\x1b[?7labcdef", 4, 2, reflows=True)
    assert shown(screen) == ["abcf", ""]
