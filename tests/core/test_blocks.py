from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from holychat.core.blocks import (
    FORCED,
    Blocks,
    Code,
    Definition,
    Heading,
    Html,
    Item,
    Math,
    Paragraph,
    Piece,
    Quote,
    Row,
    math_end,
)

EXAMPLES = json.loads((Path(__file__).parents[1] / "data" / "commonmark-0.31.json").read_text())
SOURCES = [example["markdown"] for example in EXAMPLES]


def pieces(source: str, *cuts: int) -> list[Piece]:
    """All pieces of a document, fed in parts that end at `cuts`."""
    blocks = Blocks()
    out: list[Piece] = []
    places = [0, *sorted(cut for cut in cuts if cut < len(source)), len(source)]
    for start, end in pairwise(places):
        out += blocks.feed(source[start:end])
    return out + blocks.finish()


# --- The same whatever the chunks --------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 17])
def test_every_example_is_the_same_in_any_chunks(size: int) -> None:
    for source in SOURCES:
        assert pieces(source, *range(size, len(source), size)) == pieces(source), source


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=8), st.randoms())
def test_concatenated_examples_are_the_same_in_any_chunks(
    sources: list[str], chance: random.Random
) -> None:
    source = "".join(sources)
    cuts = [chance.randrange(len(source) + 1) for _ in range(chance.randrange(30))]
    assert pieces(source, *cuts) == pieces(source)


@given(st.text(alphabet="ab *_`#>-+1.[]|:\n\t<&~=\\", max_size=200), st.randoms())
def test_random_text_is_the_same_in_any_chunks(source: str, chance: random.Random) -> None:
    cuts = [chance.randrange(len(source) + 1) for _ in range(chance.randrange(20))]
    assert pieces(source, *cuts) == pieces(source)


def test_looking_at_the_tail_changes_nothing_and_foretells_the_end() -> None:
    for source in SOURCES:
        looked, plain = Blocks(), Blocks()
        out: list[Piece] = []
        for letter in source:
            out += looked.feed(letter)
            looked.tail()
        assert out == plain.feed(source)
        assert looked.tail() == plain.finish()


# --- The same blocks as a CommonMark parser -----------------------------------------------------


def _ours(source: str) -> list[Any]:
    """(containers, kind, content) of each leaf."""
    out: list[Any] = []
    for piece in pieces(source):
        path = "".join(
            ">" if isinstance(c, Quote) else "-" if c.number is None else "1" for c in piece.path
        )
        if isinstance(piece, Paragraph):
            kind, content = "text", piece.text
        elif isinstance(piece, Definition):
            kind, content = "text", piece.text  # what only looks like one is a paragraph there
        elif isinstance(piece, Heading):
            kind, content = f"h{piece.level}", piece.text
        elif isinstance(piece, Code):
            kind, content = "code", "".join(f"{line.expandtabs(4)}\n" for line in piece.lines)
        elif isinstance(piece, Html):
            kind, content = "html", "".join(f"{line}\n" for line in piece.lines)
        else:
            kind, content = type(piece).__name__.lower(), ""
        if piece.first:
            out.append([path, kind, content])
        else:
            out[-1][2] += content
    return [leaf for leaf in map(_normal, out) if leaf != ("", "text", "")]


def _theirs(source: str) -> list[Any]:
    out: list[Any] = []
    heading = ""
    path: list[str] = []
    empty: list[bool] = []
    for token in MarkdownIt("commonmark").parse(source.expandtabs(4)):
        if token.type in ("blockquote_open", "list_item_open"):
            ordered = token.type == "list_item_open" and token.markup in ".)"
            path.append(">" if token.type == "blockquote_open" else "1" if ordered else "-")
            empty.append(True)
        elif token.type in ("blockquote_close", "list_item_close"):
            if empty.pop() and path[-1] != ">":
                out.append(("".join(path), "text", ""))
            path.pop()
        elif token.type in ("inline", "fence", "code_block", "html_block", "hr"):
            empty = [False] * len(empty)
            kind = {"fence": "code", "code_block": "code", "html_block": "html", "hr": "rule"}.get(
                token.type, ""
            )
            out.append(["".join(path), kind or "text", token.content])
            if token.type == "inline" and heading:
                out[-1][1] = heading
        elif token.type == "heading_open":
            heading = token.tag
            empty = [False] * len(empty)
            continue
        if token.type != "inline":
            heading = ""
    return list(map(_normal, out))


def _normal(leaf: Any) -> tuple[str, str, str]:
    path, kind, content = leaf
    lines = [line.strip() if kind != "code" else line.rstrip() for line in content.split("\n")]
    return path, kind, "\n".join(lines).strip("\n")


def test_the_blocks_of_every_example_are_those_of_a_commonmark_parser() -> None:
    for source in SOURCES:
        env: dict[str, Any] = {}
        MarkdownIt("commonmark").parse(source, env)
        if not env.get("references"):  # definitions stay visible here, by intent
            assert _ours(source) == _theirs(source), source


# --- Tables, definitions, long text -------------------------------------------------------------


def test_a_table_comes_row_by_row() -> None:
    blocks = Blocks()
    assert blocks.feed("intro\n| a | b |\n") == []
    head = blocks.feed("|:-:|--:|\n")
    align = ("center", "right")
    assert head == [
        Paragraph((), text="intro"),
        Row((), last=False, cells=("a", "b"), align=align),
    ]
    row = blocks.feed("| x \\| y | `z` | too many |\n")
    assert row == [Row((), first=False, last=False, cells=("x | y", "`z`"), align=align)]
    assert blocks.feed("only one\n\n") == [
        Row((), first=False, last=False, cells=("only one", ""), align=align),
        Row((), first=False, align=align),
    ]


def test_a_head_with_other_columns_is_no_table() -> None:
    assert pieces("| a | b |\n|---|\n") == [Paragraph((), text="| a | b |\n|---|")]


def test_definitions_stay_visible_each_on_its_line() -> None:
    source = "See [one][1].\n\n[1]: https://a.example\n[^2]: a footnote\n"
    assert pieces(source) == [
        Paragraph((), text="See [one][1]."),
        Definition((), text="[1]: https://a.example"),
        Paragraph((Item(1, 1, None, 4, "[^2]:"),), text="a footnote"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        '[a b]: <x y> "a title"',
        "[1]: https://a.example 'title'",
        "[x]: /url (title)",
        "[x]: <>",
    ],
)
def test_what_is_a_definition(line: str) -> None:
    assert pieces(line) == [Definition((), text=line)]


@pytest.mark.parametrize(
    "line", ["[Alice]: Hello **there** my friend", "[x]: /url title", "[x]:", '[x]: /url "title" x']
)
def test_what_is_no_definition(line: str) -> None:
    assert pieces(line) == [Paragraph((), text=line)]


def test_footnotes_hold_what_is_indented_by_four() -> None:
    out = pieces("text\n[^1]: one\n    goes on\n\n    more\n[^b]: two\nlazy\n\nafter\n")
    assert [piece.text for piece in out if isinstance(piece, Paragraph)] == [
        "text",
        "one\ngoes on",
        "more",
        "two\nlazy",
        "after",
    ]
    notes = [container for piece in out for container in piece.path if isinstance(container, Item)]
    assert [note.marker for note in notes] == ["[^1]:", "[^1]:", "[^b]:"]
    assert len({note.list for note in notes}) == 1


# --- Math ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "end"), [("$$", "$$"), ("\\[", "\\]"), ("\\begin{aligned}", "\\end{aligned}")]
)
@pytest.mark.parametrize("before", ["", "text\n"])
def test_a_block_of_math_keeps_its_lines(begin: str, end: str, before: str) -> None:
    lines = (begin, "x = 1", "- y", "= 2 \\\\", "    # z", "```", end)
    out = pieces(before + "\n".join(lines) + "\nafter\n")
    math = [piece for piece in out if isinstance(piece, Math)]
    assert tuple(line for piece in math for line in piece.lines) == lines
    assert (math[0].first, math[-1].last) == (True, True)
    assert out[-1] == Paragraph((), text="after")


def test_math_that_never_ends_ends_at_a_blank_line_and_with_its_container() -> None:
    assert pieces("$$ x\ny\n\n- a\n")[-1].path
    assert isinstance(pieces("> $$\n> x\n\ny\n")[-1], Paragraph)
    assert isinstance(pieces("- \\[\n  x\n\ny\n")[-1], Paragraph)


@pytest.mark.parametrize(
    "line", ["$$x$$ and more", "\\[ x \\]", "\\begin{a}x\\end{a}", "$x$", "a $$", "\\[foo]"]
)
def test_math_that_ends_on_its_line_is_text(line: str) -> None:
    assert pieces(line + "\n") == [Paragraph((), text=line)]


def test_display_math_in_a_line_may_end_on_one_of_its_own() -> None:
    source = "so $$\nx\n$$\nand **b**"
    assert pieces(source) == [Paragraph((), text=source)]


@pytest.mark.parametrize(
    ("text", "math"),
    [
        ("\\(x\\) y", "\\(x\\)"),
        ("\\[a \\\\] b\\] c", "\\[a \\\\] b\\]"),
        ("$$f(x)=\\{a*b\\}$$", "$$f(x)=\\{a*b\\}$$"),
        ("$a_1$ b", "$a_1$"),
        ("$a \\$ b$", "$a \\$ b$"),
        ("$5 and $6", ""),
        ("$5 and 6$7", ""),
        ("$ x$", ""),
        ("$x $", ""),
        ("$x", ""),
        ("$$", ""),
        ("$$$$", ""),
        ("\\(\\)", ""),
        ("\\[\\\\\\]", ""),
        ("\\(x", ""),
        ("$" + "x" * 500 + "$", ""),
        ("\\(" + "x" * 3000 + "\\)", ""),
    ],
)
def test_where_math_in_a_line_ends(text: str, math: str) -> None:
    assert text[: math_end(text, 0)] == math


def test_a_paragraph_is_not_cut_within_math() -> None:
    math = "$" + "x + " * 90 + "x$"
    for filler in range(200, 420, 7):
        source = "w " * (filler // 2) + math + " w" * 400
        texts = [piece.text for piece in pieces(source) if isinstance(piece, Paragraph)]
        assert len(texts) > 1
        assert any(math in text for text in texts), filler


def test_prices_do_not_delay_the_cut() -> None:
    source = "it is $5 or $6 here " + "w " * 2000
    assert len(pieces(source)) > 8


# --- Long lines ---------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_text() -> None:
    assert pieces("\ufeff# T\n", 0, 1) == [Heading((), level=1, text="T")]


@pytest.mark.parametrize("before", ["> # ", "- ## ", "1. > # "])
def test_a_long_heading_in_a_container_is_one(before: str) -> None:
    assert len(pieces(before + "word " * 300)) == 1


@pytest.mark.parametrize("size", [3999, 4000, 4001, 8000, 9000])
@pytest.mark.parametrize("letter", ["x", " "])
def test_a_long_line_of_code_says_where_it_goes_on(size: int, letter: str) -> None:
    lines = ["a", letter * size + "b", "c"]
    codes = [p for p in pieces("```\n" + "\n".join(lines) + "\n```\n") if isinstance(p, Code)]
    out: list[str] = []
    for code in codes:
        new = list(code.lines)
        if code.glued:
            out[-1] += new.pop(0)
        out += new
    assert out == lines


def test_items_know_their_list_and_number() -> None:
    numbers = [
        (container.list, container.number)
        for piece in pieces("7. a\n7. b\n\n7) c\n- d\n- e\n")
        for container in piece.path
        if isinstance(container, Item)
    ]
    assert numbers == [(1, 7), (1, 8), (3, 7), (4, None), (4, None)]


@pytest.mark.parametrize("mark", ["", "**", "`", "[", "*a* _b_ "])
@pytest.mark.parametrize("end", [" ", "\n"])
def test_a_long_paragraph_is_cut_and_nothing_is_lost(mark: str, end: str) -> None:
    source = mark + end.join(f"word{number}" for number in range(20_000))
    blocks = Blocks()
    out: list[Piece] = []
    most = 0
    for start in range(0, len(source), 64):
        out += blocks.feed(source[start : start + 64])
        tail = blocks.tail()
        most = max(most, sum(len(piece.text) for piece in tail if isinstance(piece, Paragraph)))
    out += blocks.finish()
    assert "".join(piece.text for piece in out if isinstance(piece, Paragraph)) == source
    assert out == pieces(source)
    assert most < 3 * FORCED  # what may still change stays small
    assert [piece.first for piece in out] == [True] + [False] * (len(out) - 1)
    assert [piece.last for piece in out] == [False] * (len(out) - 1) + [True]


def test_a_long_line_of_code_does_not_wait_for_its_end() -> None:
    blocks = Blocks()
    blocks.feed("```\n")
    out = blocks.feed("x" * 100_000)
    assert sum(len(line) for piece in out if isinstance(piece, Code) for line in piece.lines) > (
        90_000
    )


def test_a_word_without_end_is_cut_too() -> None:
    out = pieces("y" * 100_000)
    assert len(out) > 5
    assert "".join(piece.text for piece in out if isinstance(piece, Paragraph)) == "y" * 100_000
