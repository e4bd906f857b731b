"""Markup in a line: what is math, emphasis next to CJK, breaks, and the open end."""

from __future__ import annotations

import pytest
from rich.style import Style
from rich.text import Text

from holychat.screen.inline import closed, inline
from holychat.screen.theme import theme

LOOKS = theme()


def text(source: str, *, clickable: bool = True) -> Text:
    return inline(source, LOOKS, Style.null(), clickable=clickable)


def strong(source: str) -> list[str]:
    found = text(source)
    return [found.plain[s.start : s.end] for s in found.spans if s.style == LOOKS["strong"]]


@pytest.mark.parametrize(
    "math",
    [
        r"\(x\)",
        r"\[ a_1 * b * c_2 \]",
        r"$$f(x)=\{a*b*c\}$$",
        r"$\hat{y}_{i}*w_{i}*z$",
        r"$a \$ b$",
        r"\begin{a} x_1 \\ y_1 \end{a}",
        r"$<b>$",
    ],
)
def test_math_stays_as_it_is(math: str) -> None:
    assert text(f"so {math}, **b** and {math}").plain == f"so {math}, b and {math}"
    assert text(f"*{math}*").plain == math
    assert text(f"[{math}](/url)").plain == math


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("$5 and *x* or $6", "$5 and x or $6"),
        ("$ *x* $", "$ x $"),
        (r"\$*x*$", "$x$"),
        (r"\\(*x*\\)", r"\(x\)"),
        ("`$*x*$` $y*", "$*x*$ $y*"),
        (r"\(\) \[\] \(", "() [] ("),
        ("$a*b*$5", "$ab$5"),
    ],
)
def test_what_is_no_math(source: str, shown: str) -> None:
    assert text(source).plain == shown


def test_display_math_keeps_its_lines_and_math_in_a_line_does_not() -> None:
    assert text("so $$a\nb$$").plain == "so $$a\nb$$"
    assert text("so $a\nb$").plain == "so $a b$"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("**注意：**请先备份。", ["注意："]),
        ("**日本語。**後ろ", ["日本語。"]),
        ("**“引用”**文", ["“引用”"]),
        ("文**“引用”**文", ["“引用”"]),
        ("请**（重要）**备份", ["（重要）"]),
        ("**첫째.**그", ["첫째."]),
        ("a **注意** b", ["注意"]),
    ],
)
def test_emphasis_next_to_cjk(source: str, words: list[str]) -> None:
    assert strong(source) == words
    assert "*" not in text(source).plain


@pytest.mark.parametrize(
    "source", ["**a.**b", 'a**"b"**c', "** 注意**", "2 ** 3 ** 4", "a**“b”**c"]
)
def test_emphasis_elsewhere_is_commonmark(source: str) -> None:
    assert strong(source) == []


def test_a_break_is_a_break_and_other_html_is_text() -> None:
    assert text("a<br>b<br/>c<BR />d<b>e").plain == "a\nb\nc\nd<b>e"
    assert text("`<br>` \\<br>").plain == "<br> <br>"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("see [text](https://exam", "see text"),
        ("see ![alt](", "see alt"),
        ("a **bold", "a **bold**"),
        ("a **bold ", "a **bold**"),
        ("a **bold*", "a **bold**"),
        ("a **", "a "),
        ("a `co", "a `co`"),
        ("a ``co`", "a ``co``"),
        ("**a *b", "**a *b***"),
        ("a **b** c", "a **b** c"),
        ("snake_case", "snake_case"),
        ("2 * 3", "2 * 3"),
        ("[a](b) c", "[a](b) c"),
        ("~~x", "~~x~~"),
    ],
)
def test_the_open_end_is_closed(source: str, shown: str) -> None:
    assert closed(source) == shown


@pytest.mark.parametrize("part", ["![", "[", "[a](", "[[]", "[]", "$a ", "$$a ", "<a "])
def test_marks_that_mean_nothing_lose_no_character(part: str) -> None:
    source = part * (4000 // len(part))
    assert text(source).plain == source


@pytest.mark.parametrize(
    ("part", "shown"), [("![a](b)", "a"), ("a*b**c***", "abc"), (r"\(a", "(a")]
)
def test_many_marks_leave_their_words(part: str, shown: str) -> None:
    times = 4000 // len(part)
    assert text(part * times).plain.replace("*", "") == shown * times


def test_the_parts_of_a_text_full_of_marks_are_all_of_it() -> None:
    assert text("[x] " * 500).plain == "[x] " * 500
    assert text("*a* " * 500).plain == "a " * 500
