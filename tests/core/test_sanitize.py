from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holychat.core.sanitize import one_line, visible

# Written out once more, not imported: the other side of the promise.
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0d\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
anything = st.text(st.characters(), max_size=60)  # surrogates too
nasty = st.lists(
    st.one_of(
        st.sampled_from(
            ["\x1b", "\x1b[2J", "\x1b]52;c;aGk=\x07", "\x1b]8;;http://x\x1b\\", "\x9b6n", "\r",
             "\n", "\t", "\r\n", "\x7f", "\x85", "\u202e", "\u2066", "\ud83d", "\ude00", "a",
             "é", "😀"]
        ),
        anything,
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(nasty)
def test_no_control_gets_through(text: str) -> None:
    out = visible(text)
    assert FORBIDDEN.search(out) is None
    out.encode()  # no surrogate either


@settings(deadline=None)
@given(nasty, nasty)
def test_it_has_no_state(a: str, b: str) -> None:
    assert visible(a) + visible(b) == visible(a + b)


@settings(deadline=None)
@given(nasty)
def test_twice_is_once(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=60))
def test_only_controls_are_touched(text: str) -> None:
    ordinary = re.sub("[\u202a-\u202e\u2066-\u2069]", "", text)
    assert visible(ordinary) == ordinary


@pytest.mark.parametrize(
    "text",
    [
        "plain\n\ttext ~ { } \u00a0",
        "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ 1️⃣",
        "e\u0301 n\u0303 z\u0335\u0321\u0322",
        "שלום مرحبا \u200f\u200e",
        "你好，世界 こんにちは 안녕하세요",
        "soft\u00adhyphen zero\u200bwidth line\u2028sep",
        "\ue0b0 private use, \U0010ffff the last one",
    ],
)
def test_ordinary_text_is_untouched(text: str) -> None:
    assert visible(text) is text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "␛[31m"),
        ("a\x00b", "a␀b"),
        ("a\x7fb", "a␡b"),
        ("a\x9bb", "a\ufffdb"),
        ("\u202eabc", "\\u202eabc"),
        ("a\r\nb", "a\nb"),
        ("password: \rok", "password: ok"),
        ("\ud83d", "\ufffd"),
        ("\x07\x08", "␇␈"),
    ],
)
def test_each_control_becomes_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@settings(deadline=None)
@given(nasty, st.integers(1, 40))
def test_one_line_is_one_bounded_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert line == line.strip()
    assert FORBIDDEN.search(line) is None


def test_one_line_folds_and_cuts() -> None:
    assert one_line("  a\n\n b\tc ") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("ab cdef", 4) == "ab…"
    assert one_line("abcd", 4) == "abcd"
