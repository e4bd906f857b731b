"""Colours for code that is still being written: bounded, and never losing a character."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pygments.lexers import get_all_lexers
from rich.text import Text

from holychat.core.blocks import Blocks
from holychat.screen.code import BATCH, FORCED, PLAIN, Highlighter
from holychat.screen.draw import Drawer
from tests.screen.test_draw import streamed, whole

MINIFIED = "function f(a,b){return a+b*2}var x=[1,'s'];"


def test_what_waits_is_bounded_in_characters() -> None:
    for line in (MINIFIED * 15, "/* " + "x " * 300):
        highlighter = Highlighter("js")
        taken = 0
        for number in range(1, 100):
            taken += len(highlighter.feed((line,)))
            assert (number - taken) * len(line) < FORCED + PLAIN
        assert taken + len(highlighter.finish()) == 99


def test_a_line_that_is_too_long_has_no_colours_and_does_not_wait() -> None:
    highlighter = Highlighter("js")
    assert highlighter.feed(("var a = 1",)) == []
    out = highlighter.feed((MINIFIED * 40,))
    assert [text.plain for text in out] == ["var a = 1", MINIFIED * 40]
    assert out[0].spans
    assert not out[1].spans


def test_the_state_goes_on_behind_a_long_line() -> None:
    highlighter = Highlighter("python")
    lines = ['x = """', "y" * 2000, 'def z(): """', "def f(): pass"]
    out = highlighter.feed(tuple(lines)) + highlighter.finish()
    assert [text.plain for text in out] == lines
    assert "green" in {str(span.style) for span in out[2].spans}
    assert "blue" in {str(span.style) for span in out[3].spans}


@pytest.mark.parametrize("language", ["js", "python", "css", "nonsense", ""])
def test_code_with_lines_of_any_length_streams_to_the_rows_of_the_whole(language: str) -> None:
    chance = random.Random(language)
    lines = [
        ("x = '" + MINIFIED * 200)[: chance.choice([0, 20, 300, 900, 3999, 4000, 4001, 8100])]
        for _ in range(BATCH * 2)
    ]
    lines = ["start", *lines, "end"]
    source = f"```{language}\n" + "\n".join(lines) + "\n```\n"
    wanted = [language or "code"]
    for line in lines:
        wanted += [line[at : at + 80].rstrip() for at in range(0, len(line) or 1, 80)]
    rows = whole(source)
    assert [rows[0].split()[0], *rows[1:]] == wanted
    cuts = [chance.randrange(len(source)) for _ in range(200)]
    assert streamed(source, 80, cuts) == rows


def test_the_tail_goes_on_where_a_long_line_was_drawn() -> None:
    blocks, drawer = Blocks(), Drawer(80)
    for piece in blocks.feed("```\n" + "x" * 4010):
        list(drawer.draw(piece))
    rows = drawer.tail(blocks.tail(), 5)  # the last full row may be the end of the line
    assert ["".join(segment.text for segment in row) for row in rows] == ["x" * 80, "x" * 10]


@pytest.mark.parametrize("language", ["js", "css", "json", "python", ""])
@pytest.mark.parametrize("width", [700, 900, 48_000])
def test_no_frame_reads_much_code(
    language: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    tokens = Highlighter._tokens

    def counted(self: Highlighter, text: str) -> Any:
        read.append(len(text))
        return tokens(self, text)

    monkeypatch.setattr(Highlighter, "_tokens", counted)
    line = (MINIFIED * 1200)[:width]
    source = f"```{language}\n" + f"{line}\n" * (48_000 // width) + "```\n"
    blocks, drawer, most = Blocks(), Drawer(80), 0
    for at in range(0, len(source), 400):
        read.clear()
        for piece in blocks.feed(source[at : at + 400]):
            list(drawer.draw(piece))
        drawer.tail(blocks.tail(), 8)
        most = max(most, sum(read))
    assert most <= 4_000  # characters a frame of 400 new ones, however long the lines are


SNIPPETS = {
    "json": '{"a": [1, true, null]}',
    "jsonc": '{"a": 1} // why',
    "yaml": "services:\n  db: # one\n    image: 'postgres:17'",
    "yml": "a: [1, 2]",
    "c": "int main(void) { return 0; }",
    "cpp": 'auto s = std::string("a"); // x',
    "php": "<?php echo 'a'; ?>",
    "ruby": "def a\n  puts <<~X\n    y\n  X\nend",
    "swift": "func f() -> Int { return 1 }",
    "lua": "local a = 'b'",
    "makefile": "all: a.o\n\tcc -o all a.o # link",
    "elixir": 'def a, do: "b"',
    "hcl": 'resource "a" "b" { c = 1 }',
    "diff": "-a\n+b",
    "patch": "-a\n+b",
    "svelte": "<script>let a = 1</script>",
    "pycon": ">>> print('a')",
    "objective-c": "@interface A : NSObject\n@end",
    "markdown": "# t\n\n```python\ndef f(): pass\n```\n",
    "rst": "T\n=\n\n.. code-block:: python\n\n   def f(): pass\n",
    "postgresql": "do $$ begin end $$ language plpgsql;",
    "sql": "select 'a' from b;",
    "python": "def f(): return 'a'",
    "bash": 'for a in b; do echo "$a"; done',
    "html": '<a href="b">c</a>',
    "css": "a { color: #fff }",
    "ts": "const a: string = 'b'",
    "go": 'func main() { fmt.Println("a") }',
    "rust": "fn main() { let a = 1; }",
    "java": "class A { int b = 1; }",
    "toml": "[a]\nb = 'c'",
    "dockerfile": "FROM python:3.13\nRUN pip install a",
}


@pytest.mark.parametrize("language", SNIPPETS)
def test_what_models_write_has_colours(language: str) -> None:
    lines = tuple(SNIPPETS[language].split("\n") * 40)
    highlighter = Highlighter(language)
    out = [text for line in lines for text in highlighter.feed((line,))] + highlighter.finish()
    assert [text.plain for text in out] == list(lines)
    assert len({str(span.style) for text in out for span in text.spans} - {""}) >= 1


def test_yaml_goes_on_where_it_was() -> None:
    lines = ["a:", *("  - b: 'c' # d" for _ in range(60)), "  e: |", *["    f: 'g'"] * 30, "h: 1"]
    highlighter = Highlighter("yaml")
    out = [text for line in lines for text in highlighter.feed((line,))] + highlighter.finish()
    looks = [[(span.start, span.end, str(span.style)) for span in text.spans] for text in out]
    assert [text.plain for text in out] == lines
    assert len({str(each) for each in looks[1:61]}) == 1
    assert len({str(each) for each in looks[62:92]}) == 1
    assert looks[1] != looks[62]


def test_no_lexer_stops_an_answer() -> None:
    hostile = "\n".join([*SNIPPETS.values(), "'''\"\"\"<<<{{{ ((( $(", "#+BEGIN\n.. a::\n\n   b"])
    for _, names, _, _ in get_all_lexers():
        for name in names[:1]:
            highlighter = Highlighter(name)
            lines = tuple(hostile.split("\n"))
            out = highlighter.feed(lines)
            out += highlighter.glance().finish()[:0] + highlighter.finish()
            assert [text.plain for text in out] == list(lines), name


@pytest.mark.parametrize("asked", [False, True])
def test_a_lexer_that_breaks_leaves_plain_lines(
    asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Highlighter._tokens

    def broken(self: Highlighter, text: str) -> Any:
        if "bad" in text:
            raise RecursionError
        return tokens(self, text)

    monkeypatch.setattr(Highlighter, "_tokens", broken)
    highlighter = Highlighter("python")
    lines = [*(f"a{number} = 1" for number in range(30)), "bad", *(["b"] * 30)]
    out = list[Text]()
    for line in lines:
        out += highlighter.feed((line,))
        if asked:
            highlighter.glance().feed(("bad",))
    out += highlighter.finish()
    assert [text.plain for text in out] == lines
