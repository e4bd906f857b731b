"""The streamed rows are the rows of the whole document, and the rows are right."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from holychat.core.blocks import Blocks
from holychat.core.sanitize import visible
from holychat.screen.draw import Drawer, document

EXAMPLES = json.loads((Path(__file__).parents[1] / "data" / "commonmark-0.31.json").read_text())
SOURCES = [example["markdown"] for example in EXAMPLES]
WIDTHS = (20, 80, 120)


def whole(source: str, width: int = 80) -> list[str]:
    """The rows of `document`."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as drawn:
        console.print(document(source), end="")
    return drawn.get().split("\n")[:-1]


def streamed(source: str, width: int, cuts: list[int]) -> list[str]:
    """The rows as the screen gets them: in chunks, with a look at the open end after each."""
    blocks, drawer, rows = Blocks(), Drawer(width), []
    places = [0, *sorted(cuts), len(source)]
    for number, (start, end) in enumerate(pairwise(places)):
        for piece in blocks.feed(visible(source[start:end])):
            rows += ["".join(s.text for s in line) for line in drawer.draw(piece)]
        if number % 3 == 0 or len(source) < 600:
            drawer.tail(blocks.tail(), 8)
    for piece in blocks.finish():
        rows += ["".join(s.text for s in line) for line in drawer.draw(piece)]
    return rows


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [1, 4, 40])
def test_every_example_streams_to_the_rows_of_the_whole(width: int, size: int) -> None:
    for source in SOURCES:
        cuts = list(range(size, len(source), size))
        assert streamed(source, width, cuts) == whole(source, width), source


def test_concatenations_stream_to_the_rows_of_the_whole() -> None:
    chance = random.Random(652)
    for _ in range(1000):
        source = "".join(chance.choices(SOURCES, k=chance.randint(2, 10)))
        cuts = [chance.randrange(len(source) + 1) for _ in range(20)]
        width = chance.choice(WIDTHS)
        assert streamed(source, width, cuts) == whole(source, width), source


EVERYTHING = """\
# Title

| name | what **it** is |
|:-----|------:|
| `one` | **bold and long** words |
| 茶 | [link](https://a.example/) |
| cut

1. first
   ```python
   def f(x):
       return "a ``` b"


   # end
   ```
2. second

   | a |
   |---|
   | b |

> quote **over
> two** lines
> - [x] list

``` c
/* a comment
   over lines */ int x; // y
```

Last line, **never closed
"""


@pytest.mark.parametrize("size", [1, 3, 7, 50])
@pytest.mark.parametrize("width", WIDTHS)
def test_what_github_adds_streams_to_the_rows_of_the_whole(width: int, size: int) -> None:
    cuts = list(range(size, len(EVERYTHING), size))
    assert streamed(EVERYTHING, width, cuts) == whole(EVERYTHING, width)


def test_no_row_is_wider_than_the_window_or_ends_in_blanks() -> None:
    for source in SOURCES:
        for width in (20, 80):
            for row in whole(source, width):
                assert row == row.rstrip(" ")
                assert cell_len(row) <= width or source.count(">") + source.count("-") > 3, source


def test_lists_are_tight_and_numbers_stand_right() -> None:
    source = (
        "9. nine\n10. ten\n\n    more of ten\n11. eleven\n\n- a\n  - b\n\n- [x] done\n- [ ] open\n"
    )
    assert whole(source) == [
        " 9. nine",
        "10. ten",
        "",
        "    more of ten",
        "",
        "11. eleven",
        "",
        " • a",
        "    • b",
        " • ☑ done",
        " • ☐ open",
    ]


def test_code_is_copied_as_it_is() -> None:
    source = "```python\ndef f():\n    return 1\n\n\n# end\n```\n"
    assert whole(source) == ["python 1", "def f():", "    return 1", "", "", "# end"]


@pytest.mark.parametrize("language", ["python", "c", "html", "js", "rust", "nonsense", ""])
def test_code_keeps_every_character_whatever_the_lexer(language: str) -> None:
    lines = ['x = """', "a /* b", "*/ c", "<!--", "--> 'q", '"""', "#", "\\"] * 40
    rows = whole(f"```{language}\n" + "\n".join(lines) + "\n```\n")
    assert rows[1:] == lines


def test_tables_wrap_words_and_break_them_only_at_need() -> None:
    source = (
        "| name | text |\n|---|--:|\n| one | a long text of several words |\n"
        "| 茶 | `code` and **bold** |\n"
    )
    assert whole(source, 30) == [
        "name                      text",
        "────  ────────────────────────",
        "one     a long text of several",
        "                         words",
        "茶               code and bold",
    ]
    assert all(cell_len(row) <= 20 for row in whole(source, 20))
    assert "several" in "\n".join(whole(source, 20))


def test_controls_behind_entities_are_seen_and_not_obeyed() -> None:
    source = (
        "a &#27;[31m b `\x1b[2J` &#x9b;1m\n\n[x](<&#27;]8;;y>) ![&#7;](z)\n\n    \x1b]52;c;x\x07\n"
    )
    console = Console(width=80, force_terminal=True, color_system="truecolor")
    with console.capture() as drawn:
        console.print(document(source))
    text = drawn.get()
    for forbidden in ("\x1b[31m b", "\x1b[2J", "\x9b", "\x1b]52", "\x07"):
        assert forbidden not in text
    assert "\ufffd[31m" in text  # markdown-it's own answer to an entity of a control
    assert "␛[2J" in text


def test_a_link_that_shows_another_address_is_told() -> None:
    rows = whole("[https://bank.example](https://evil.example) and [this](https://a.example)")
    assert rows == ["https://bank.example (https://evil.example) and this"]


def test_headings_are_told_by_weight() -> None:
    console = Console(width=80, force_terminal=True, color_system="standard")
    with console.capture() as drawn:
        console.print(document("## Two\n\ntext\n"))
    assert "\x1b[1mTwo\x1b[0m" in drawn.get()


def test_an_open_table_shows_its_head_and_last_rows() -> None:
    blocks, drawer = Blocks(), Drawer(80)
    for piece in blocks.feed("| h |\n|---|\n" + "".join(f"| row {n} |\n" for n in range(3000))):
        assert list(drawer.draw(piece)) == []
    rows = ["".join(s.text for s in line) for line in drawer.tail(blocks.tail(), 5)]
    assert rows == [f"row {n}" for n in range(2995, 3000)]


# --- What models write that CommonMark does not know -------------------------------------------

MATH = """\
Text \\(x_1 * y_1\\) and $$f(x)=\\{a*b*c\\}$$:
$$
x = 1
- y
= 2
$$
so
\\begin{aligned}
a &= b \\\\
  # c
\\end{aligned}

- \\[
  z
  \\]

$$ never closed
1. x

end[^1]

[^1]: A **note** with
    more
[^long-name]: two

    ## h
10) ten

| a | b |
|---|---|
| x<br>y | $z_1$ |
"""


def test_math_notes_and_breaks_are_drawn() -> None:
    assert whole(MATH, 40) == [
        r"Text \(x_1 * y_1\) and",
        r"$$f(x)=\{a*b*c\}$$:",
        "",
        "$$",
        "x = 1",
        "- y",
        "= 2",
        "$$",
        "",
        "so",
        "",
        r"\begin{aligned}",
        r"a &= b \\",
        "  # c",
        r"\end{aligned}",
        "",
        r" • \[",
        "   z",
        r"   \]",
        "",
        "$$ never closed",
        "1. x",
        "",
        "end[^1]",
        "",
        "[^1]: A note with more",
        "[^long-name]: two",
        "",
        "              h",
        "",
        "10) ten",
        "",
        "a  b",
        "─  ─────",
        "x  $z_1$",
        "y",
    ]


@pytest.mark.parametrize("size", [1, 3, 17])
@pytest.mark.parametrize("width", WIDTHS)
def test_they_stream_to_the_rows_of_the_whole(width: int, size: int) -> None:
    cuts = list(range(size, len(MATH), size))
    assert streamed(MATH, width, cuts) == whole(MATH, width)


@pytest.mark.parametrize(
    "part",
    [
        "![",
        "[",
        "[a](",
        "[[]",
        "a*b**c***",
        "\u0301",
        "a\u0301",
        "$a$ ",
        "$a ",
        "\\\\(a",
        "[a](b) ",
    ],
)
def test_what_is_full_of_marks_streams_to_the_rows_of_the_whole(part: str) -> None:
    source = part * (6000 // len(part))
    cuts = list(range(397, len(source), 397))
    assert streamed(source, 80, cuts) == whole(source, 80)


def test_rows_of_marks_without_cells_end_too() -> None:
    assert len(whole("\u0301" * 20_000, 80)) > 5


def test_a_heading_without_text_is_no_row() -> None:
    assert whole("a\n\n#\n\nb\n") == ["a", "", "b"]
    assert whole("- #\n- b\n") == [" •", " • b"]


def test_a_fence_without_a_language_is_called_code() -> None:
    assert whole("```\nx\n```\n") == ["code 1", "x"]


def test_addresses_are_written_out_where_nothing_is_clickable() -> None:
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as drawn:
        console.print(document("[a](https://b.example)", clickable=False), end="")
    assert drawn.get() == "a (https://b.example)\n"


def test_all_rows_of_a_link_have_one_id() -> None:
    source = "[a text of **many** words that is wrapped](https://a.example) [b](https://b.example)"
    drawer, blocks = Drawer(20), Blocks()
    pieces = [*blocks.feed(source), *blocks.finish()]
    rows = [drawer.tail(pieces, 9) for _ in range(2)]
    styles = [s.style for row in rows[0] + rows[1] for s in row if s.style and s.style.link]
    ids = {(style.link, style.link_id) for style in styles}
    assert len(styles) > 8
    assert len(ids) == 2


def tail(source: str, rows: int = 8) -> list[str]:
    """The open end behind a text."""
    blocks, drawer = Blocks(), Drawer(80)
    for piece in blocks.feed(source):
        list(drawer.draw(piece))
    return ["".join(s.text for s in line) for line in drawer.tail(blocks.tail(), rows)]


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("see [text](https://exam", ["see text"]),
        ("a **bold", ["a bold"]),
        ("- a `co", [" • a co"]),
        ("**", []),
        ("| a | b", []),
        ("| a | b |\n", []),
        ("| a | b |\n|--", []),
        ("| a | b |\n|---|---|\n| 1", ["a  b", "─  ─", "1"]),
        ("| a | b |\nx", ["| a | b | x"]),
        ("```\nx\n``", []),
        ("```\nx\n~", ["~"]),
        ("- a\n- ", [" • a", " •"]),
    ],
)
def test_the_open_end_is_calm(source: str, rows: list[str]) -> None:
    assert tail(source) == rows


def test_the_tail_of_a_table_without_room_is_its_last_cells() -> None:
    head = "|" + "|".join(f"h{n}" for n in range(50)) + "|\n|" + "---|" * 50 + "\n"
    rows = "".join("|" + "|".join(f"r{r}c{c}" for c in range(50)) + "|\n" for r in range(30))
    assert tail(head + rows, 3) == [f"h{n}: r29c{n}" for n in (47, 48, 49)]
    item = "- " + (head + rows).replace("\n", "\n  ").split("  |r1")[0]
    assert tail(item, 99)[:2] == [" • h0: r0c0", "   h1: r0c1"]
