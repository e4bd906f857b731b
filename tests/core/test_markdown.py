from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from holychat.core.chat import Finish, Turn
from holychat.core.formats import Whole
from holychat.core.markdown import branch, markdown
from tests.wholes import WHOLE


def written(*wholes: Whole) -> str:
    return "".join(markdown(wholes, lambda at: f"day {at}" if at else "", lambda t: t.finish.value))


def with_texts(*texts: str) -> Whole:
    messages = tuple(
        replace(each, text=text) for each, text in zip(WHOLE.messages[:4], texts, strict=False)
    )
    return replace(WHOLE, messages=messages)


def headings(document: str) -> list[str]:
    tokens = MarkdownIt("commonmark").parse(document)
    return [
        tokens[at + 1].content
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0
    ]


def test_the_document() -> None:
    turn = Turn("", "", Finish.CUT, "box", "test-model")
    messages = (
        *WHOLE.messages[:3],
        replace(WHOLE.messages[3], turn=turn),
        WHOLE.messages[4],
    )
    at = WHOLE.conversation.created
    assert (
        written(replace(WHOLE, messages=messages))
        == f"""\
# Why is the sky blue?

- Date: day {at}
- Model: test-model
- From: zzzzzzzzzzzz

## System

Be brief.

## You · day {at}

Why is the sky blue?

## Answer · day {at + 5000}

Because of *scattering*.

## You · day {at + 20000}

And the sea?

## Answer (test-model) · day {at + 30000}

It mirrors the sk

*(cut)*

---

*(left out: 1 of other branches; an export to JSON has all)*
"""
    )


def test_a_last_prompt_without_an_answer_is_told() -> None:
    about = replace(WHOLE.conversation, head=2)
    whole = replace(WHOLE, conversation=about, messages=WHOLE.messages[:3])
    assert [each.id for each in branch(whole)] == [1, 2, 3]
    assert "And the sea?\n\n*(not answered)*\n" in written(whole)
    failed = replace(WHOLE, conversation=replace(about, head=None), messages=WHOLE.messages[:1])
    assert [each.id for each in branch(failed)] == [1]


def test_a_title_is_a_title_whatever_is_in_it() -> None:
    about = replace(WHOLE.conversation, title="<script>`x`\n# *y*", origin="")
    text = written(replace(WHOLE, conversation=about))
    assert text.startswith("# \\<script\\>\\`x\\` \\# \\*y\\*\n")


ENDS = [
    ("```python\nx = 1", "```"),
    ("text\n~~~~\nx", "~~~~"),
    ("````\n```\nx", "````"),
    ("<!-- a comment", "-->"),
    ("<script>\nalert(1)", "</script>"),
    ("<pre>\nx", "</pre>"),
    ("<?php", "?>"),
    ("<![CDATA[", "]]>"),
    ("<!X", ">"),
]


@pytest.mark.parametrize(("text", "closer"), ENDS)
def test_what_a_message_leaves_open_is_closed_behind_it(text: str, closer: str) -> None:
    document = written(with_texts("q", text, text, "end"))
    assert f"{text}\n{closer}\n\n## " in document
    assert len([each for each in headings(document) if each.startswith(("You", "Ans"))]) == 4


@pytest.mark.parametrize(
    "text", ["```\nx\n```", "- a\n  ```\n  x", "> ```\n> x", "a\n---", "| a |\n| - |", "<div>", ""]
)
def test_what_is_whole_stays_word_for_word(text: str) -> None:
    document = written(with_texts("q", text, "more", "end"))
    assert f"\n\n{text}\n\n## You" in document
    assert len([each for each in headings(document) if each.startswith(("You", "Ans"))]) == 4


MARKS = [
    "```",
    "~~~",
    "````",
    "<!--",
    "-->",
    "<pre>",
    "</pre>",
    "<script>",
    "<?",
    "<![CDATA[",
    "]]>",
]
BITS = ["text", "|", "<div>", "`", "[a]: b", "# x", "> ", "- ", "1. ", "    ", "\t", "\r"]
PIECES = st.sampled_from([*MARKS, *BITS, "\n", "\n\n"])


@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_message_swallows_the_next(text: str) -> None:
    document = written(with_texts("q", text, "more", "end"))
    assert text in document
    assert len([each for each in headings(document) if each.startswith("You · day ")]) == 2
