from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from holychat.core.codeblocks import CodeBlock, code_blocks


def test_blocks_are_numbered_as_they_come() -> None:
    text = (
        "one:\n```python title=x\nprint()\n\nx = 1\n```\n\n~~~~\n```\nnot the end\n~~~\n~~~~\n"
        "1. in a list\n   ```sh\n   ls\n     -l\n   ```\n"
    )
    assert code_blocks(text) == [
        CodeBlock("python", "print()\n\nx = 1\n"),
        CodeBlock("", "```\nnot the end\n~~~\n"),
        CodeBlock("sh", "ls\n  -l\n"),
    ]


def test_inline_code_and_indented_text_are_none() -> None:
    assert code_blocks("``` not `a` fence\n    ```\ntext ``` text\n") == []


def test_a_block_that_was_cut_ends_with_the_text() -> None:
    assert code_blocks("```py\na = 1\nb =") == [CodeBlock("py", "a = 1\nb =\n")]


def test_the_code_keeps_its_tabs_its_blanks_and_its_long_lines() -> None:
    long = "x" * 9000
    text = f"- a\n\n\t```make\n\tall:  \n\t\tcc\ta.c\n\n\t{long}\n\n\t```\n> ```\n> \tb\n> ```\n"
    assert code_blocks(text) == [
        CodeBlock("make", f"all:  \n\tcc\ta.c\n\n{long}\n\n"),
        CodeBlock("", "\tb\n"),
    ]


_LINES = st.lists(
    st.sampled_from(["```", "````", "~~~", "```py", "text", "", "  code", "`x`", "~~~~ sh"]),
    max_size=12,
)


@given(_LINES)
def test_the_same_blocks_as_a_commonmark_parser(lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    tokens = MarkdownIt().parse(text)
    fences = [token.content for token in tokens if token.type == "fence"]
    assert [block.code for block in code_blocks(text)] == fences
