from __future__ import annotations

import random
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holychat.core.seam import INSTRUCTION, LONG_SPACED, REACH, Seam, _weigh, instruction, tail

DOCUMENTS = sorted((Path(__file__).parents[1] / "data" / "documents").glob("*.md"))
PROSE = "The keeper of the lighthouse came by way of the customs house. A letter waited for the "


def joined(before: str, *pieces: str, exact: bool = False) -> str:
    seam = Seam(before, exact)
    return before + "".join(map(seam.feed, pieces)) + seam.finish()


def folded(text: str) -> str:
    return "".join(text.split())


# --- The rules -----------------------------------------------------------------------------------

CODE = "Look:\n\n```python\ndef f(x):\n    total = x"
RULES: dict[str, tuple[str, str, str]] = {
    "clean, with its space": ("the quick", " brown", "the quick brown"),
    "clean, in mid-word": ("I recogni", "tion it", "I recognition it"),
    "in doubt as the model wrote it": ("the quick", "brown", "the quickbrown"),
    "clean, after a space": ("the quick ", "brown", "the quick brown"),
    "one space, not two": ("the quick ", " brown", "the quick brown"),
    "a sentence after a sentence": (
        "It ended there.",
        "Then it rained",
        "It ended there. Then it rained",
    ),
    "an address is no sentence": ("see www.Example.", "Com for", "see www.Example.Com for"),
    "an item after an item": ("- one.", "- two", "- one.\n- two"),
    "a heading after text": ("- one.", "## Two", "- one.\n\n## Two"),
    "word": ("the quick", "quick brown", "the quick brown"),
    "word of three": ("and then the", "the rest of", "and then the rest of"),
    "word with its mark": ("slow, quick,", "quick, brown", "slow, quick, brown"),
    "cut word made whole": ("I recogni", "recognition it", "I recognition it"),
    "long word after a space": (
        "the extraordinary ",
        "extraordinary thing",
        "the extraordinary thing",
    ),
    "words": ("jumps over the lazy", "over the lazy dog", "jumps over the lazy dog"),
    "sentence": (
        "A. The last ferry left.",
        "The last ferry left. Then",
        "A. The last ferry left. Then",
    ),
    "sentence and part": (
        "One. The ferry left at nine. Then it ra",
        "The ferry left at nine. Then it rained.",
        "One. The ferry left at nine. Then it rained.",
    ),
    "other white space": (
        PROSE + "bells\nof the small",
        "A letter  waited\nfor the bells of the\n\nsmall church",
        PROSE + "bells\nof the small church",
    ),
    "other quotes": (
        "He said “wait for the keeper's boat” and",
        'He said "wait for the keeper’s boat" and left',
        "He said “wait for the keeper's boat” and left",
    ),
    "line": (
        "x\n- a long second item\n",
        "- a long second item\n- third",
        "x\n- a long second item\n- third",
    ),
    "cut item": ("- one\n- a li", "- a little\n- b", "- one\n- a little\n- b"),
    "numbered item": ("1. Go\n2. On\n", "2. On\n3. Stop", "1. Go\n2. On\n3. Stop"),
    "the missing line break": (
        "x\n- the second item",
        "- the second item\n- b",
        "x\n- the second item\n- b",
    ),
    "the line break that is there": (
        "x\n- the second item\n",
        "- the second item\n  - b",
        "x\n- the second item\n  - b",
    ),
    "crlf": (
        "x\r\n- the second item\r\n",
        "- the second item\r\n- b",
        "x\r\n- the second item\r\n- b",
    ),
    "fence reopened": (CODE + "\n", "```python\n    return total", CODE + "\n    return total"),
    "fence reopened, line repeated": (CODE, "```python\n    total = x + 1", CODE + " + 1"),
    "fence reopened bare, line repeated": (CODE, "```\n    total = x + 1", CODE + " + 1"),
    "fence closed": (CODE + "\n", "```\n\nThat is all.", CODE + "\n```\n\nThat is all."),
    "fence closed in mid-line": (CODE, "```\n\nThat is all.", CODE + "\n```\n\nThat is all."),
    "fence in a fence": ("~~~md\nText\n\n", "```python\nx", "~~~md\nText\n\n```python\nx"),
    "a second fence": ("Text:\n\n", "```python\nx\n", "Text:\n\n```python\nx\n"),
    "opening fence repeated": ("Text:\n\n```py", "```python\nx", "Text:\n\n```python\nx"),
    "nested calls are meant": ("```rust\nSome(", "Some(x))", "```rust\nSome(Some(x))"),
    "anew": (PROSE + "bells", PROSE + "bells of", PROSE + "bells of"),
    "anew, with other white space": ("# T\n\nHello wo", "# T\nHello world", "# T\n\nHello world"),
    "anew, after one letter": ("I", "I think", "I think"),
    "preamble": ("the quick", "Sure, continuing:\n\n brown", "the quick\n\n brown"),
    "preamble and word": (
        "the quick ",
        "Continuing from where I left off: quick brown",
        "the quick brown",
    ),
    "chinese preamble": ("今天天气", "好的，继续：很好。", "今天天气很好。"),
    "preamble and fence": (
        CODE + "\n",
        "Here's the rest:\n```python\n    return",
        CODE + "\n    return",
    ),
    "not a preamble": ("I was ", "continuing to work", "I was continuing to work"),
    "ellipsis and word": ("the quick", "... the quick brown", "the quick brown"),
    "ellipsis and text": ("the quick ", "...brown", "the quick brown"),
    "ellipsis that is meant": ("Loading", "... done", "Loading... done"),
    "ellipsis in code": ("```python\nx[", "...]", "```python\nx[...]"),
    "that that": ("I know that", " that is", "I know that that is"),
    "very very": ("a very ", "very good", "a very very good"),
    "ha ha": ("ha ha", "ha ha ha", "ha haha ha ha"),
    "brace": ("```c\n  }\n", "}\nint x;", "```c\n  }\n}\nint x;"),
    "end": ("```lua\n    end\n", "    end\nend", "```lua\n    end\n    end\nend"),
    "bullet": ("- a\n- ", "- b", "- a\n- - b"),
    "rule of a table": ("|---|", "---|---|", "|---|---|---|"),
    "numbers": ("10.10.", "10.10", "10.10.10.10"),
    "chinese": ("今天北京的天气", "北京的天气很好", "今天北京的天气很好"),
    "chinese doubling is meant": ("我们研究", "研究吧", "我们研究研究吧"),
    "korean": ("서울의 지하철은", "지하철은 깨끗", "서울의 지하철은 깨끗"),
    "emoji": ("Done 👩🏽‍", "💻 and", "Done 👩🏽‍💻 and"),
    "combining": ("Here a cafe", "\u0301 opens", "Here a cafe\u0301 opens"),
    "combining in a repeated word": ("Here a cafe", "cafe\u0301 opens", "Here a cafe\u0301 opens"),
    "empty before": ("", "\n...Hello", "\n...Hello"),
    "blank before": ("\n", "Hello", "\nHello"),
    "empty continuation": ("Hello", "", "Hello"),
    "blank continuation": ("Hello", " \n", "Hello \n"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "more", "whole"), RULES.values(), ids=RULES)
def test_rules(before: str, more: str, whole: str) -> None:
    assert joined(before, more) == whole
    assert joined(before, *more) == whole


EXACT: dict[str, tuple[str, str, str]] = {
    "in mid-word": ("a bon", "bon", "a bonbon"),
    "spaces are meant": ("a ", " b", "a  b"),
    "words are meant": ("the quick", "quick brown", "the quickquick brown"),
    "no preamble": ("Say ", "Sure, continuing: x", "Say Sure, continuing: x"),
    "no fence": (CODE + "\n", "```python\nx", CODE + "\n```python\nx"),
    "a prefix that was ignored": ("Sure, he", "Sure, here", "Sure, here"),
    "a long repetition": (
        PROSE,
        "house. A letter waited for the bells",
        PROSE + "house. A letter waited for the bells",
    ),
    "a longer repetition": (PROSE, PROSE[18:] + "bells", PROSE + "bells"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "more", "whole"), EXACT.values(), ids=EXACT)
def test_a_true_prefix_is_taken_at_its_word(before: str, more: str, whole: str) -> None:
    assert joined(before, *more, exact=True) == whole


def test_what_is_told_of_a_new_start() -> None:
    seam = Seam(PROSE)
    assert seam.feed(PROSE) == ""
    assert seam.feed("bells") == "bells"
    assert (seam.restarted, seam.diverged, seam.dropped) == (True, False, len(PROSE) - 1)


@pytest.mark.parametrize("exact", [True, False])
def test_another_answer_is_told_before_it_is_let_out(exact: bool) -> None:
    seam = Seam("```text\n" + PROSE, exact)
    other = "```text\n" + PROSE[:70] + "Something else"
    assert [seam.feed(mark) for mark in other[:78]] == [""] * 78
    assert not seam.diverged
    assert seam.feed(other[78:]) == "\n```\n\n" + other
    assert seam.restarted
    assert seam.diverged
    assert seam.dropped == 0


def test_another_answer_is_seen_early_where_it_would_be_fused() -> None:
    seam = Seam("Here is a small rate limi")
    assert seam.feed("Here is a short one") == "\n\nHere is a short one"
    assert seam.diverged


def test_a_continuation_that_ends_within_the_repetition() -> None:
    anew, sentence = PROSE[:50], PROSE[PROSE.index("by way") : -10]
    for part, cut, kept in [
        (anew, True, ""), (anew, False, ""), (sentence, True, ""), (sentence, False, sentence),
        ("The", False, "The"), ("The", True, "The"), (PROSE[63:], False, ""),
    ]:  # fmt: skip
        seam = Seam(PROSE)
        assert seam.feed(part) + seam.finish(cut=cut) == kept


def test_little_is_held_back() -> None:
    seam = Seam(PROSE)
    assert seam.feed("b") == ""  # "by way of", still
    assert seam.feed("e") == "be"
    assert seam.feed(PROSE) == PROSE
    assert seam.finish() == ""


def test_instruction() -> None:
    assert "continue" in INSTRUCTION
    assert instruction(" \n") == INSTRUCTION
    assert "continue" in instruction(PROSE)
    assert instruction(PROSE).endswith("\n\n" + tail(PROSE))
    assert tail(PROSE) == "lighthouse came by way of the customs house. A letter waited for the"
    assert tail("Hello wor") == "Hello wor"


# --- Properties ----------------------------------------------------------------------------------

WORDS = st.sampled_from([
    "the", "quick", "ha", "that", "very", "extraordinary", "recognition", "}", "end", "-", "1.",
    "2.", "|", "```", "`x`", "f(", "...", "\n", "\n\n", "\n```\n", "```python\n", "  ",
    "天气", "很好",
    "e\u0301", "👩🏽‍💻", "\r\n", "“a”", ". ", "Sure,", "continuing:",
])  # fmt: skip
TEXTS = st.lists(WORDS, max_size=30).map(" ".join) | st.lists(WORDS, max_size=30).map("".join)


@settings(max_examples=500, deadline=None)
@given(TEXTS, TEXTS, st.lists(st.integers(0, 200)), st.booleans(), st.data())
def test_any_chunks_give_the_same(
    before: str, more: str, points: list[int], exact: bool, data: st.DataObject
) -> None:
    more = before[data.draw(st.integers(0, len(before))) :] + more
    edges = [0, *sorted(point % (len(more) + 1) for point in points), len(more)]
    whole = joined(before, more, exact=exact)
    assert joined(before, *(more[a:b] for a, b in pairwise(edges)), exact=exact) == whole
    assert joined(before, *more, exact=exact) == whole
    assert whole.startswith(before)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("abcdefghijklmnop", min_size=2, max_size=9), min_size=30, max_size=60),
    st.data(),
)
def test_words_are_neither_doubled_nor_lost(words: list[str], data: st.DataObject) -> None:
    words = [f"{word}{number}" for number, word in enumerate(words)]
    text = " ".join(words)
    cut = data.draw(st.integers(len(text) // 2, len(text)))
    back = data.draw(st.integers(12, 25))
    number = max(0, len(text[:cut].split()) - back)
    more = data.draw(st.sampled_from([" ", "\n", "  \n"])).join(text.split()[number:])
    assert folded(joined(text[:cut], more)) == folded(text)
    assert joined(text[:cut], text[cut:], exact=True) == text
    assert joined(text[:cut], text[cut:]) == text


def sentence(before: str) -> int:
    ends = [hit.end() for hit in re.finditer(r"[.!?]\s+|[。！？]|\n\n", before.rstrip())]
    return ends[-1] if ends else 0


def wrong(kind: str, samples: int = 200) -> tuple[int, int]:
    """(wrong, tried) over the stored documents, cut at random places."""
    chance, bad, tried = random.Random(kind), 0, 0
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for _ in range(samples):
            cut = chance.randrange(1, len(text))
            before = text[:cut]
            begin = {
                "nothing": lambda before, cut=cut: cut,
                "anchor": lambda before: before.rstrip().rfind(tail(before)),
                "sentence": sentence,
                "line": lambda before: before.rstrip().rfind("\n") + 1,
                "anew": lambda before: 0,
                "word": lambda before: re.search(r"\S*\Z", before).start(),  # type: ignore[union-attr]
            }[kind](before)
            repeated = text[begin:cut].strip()
            letters, weight = _weigh(repeated)
            if kind in ("sentence", "line") and weight < LONG_SPACED:
                continue  # what is shorter may be meant; see _short
            if kind in ("anchor", "anew") and not letters:
                continue  # "#" + "# Title"
            if kind == "word" and not (
                re.fullmatch(r"[A-Za-z]{3,}", repeated) and text[cut] == " "
            ):
                continue
            more = text[begin:].lstrip() if begin < cut else text[begin:]
            reflowed = " ".join(repeated.split()) + before[len(before.rstrip()) :] + text[cut:]
            for form in (more, more if begin == cut else reflowed):
                got = joined(before, form)
                tried += 1
                bad += got != text if begin == cut else folded(got) != folded(text)
    return bad, tried


@pytest.mark.parametrize(
    ("kind", "least"),
    [("nothing", 12000), ("anchor", 11500), ("sentence", 4000), ("line", 2500), ("word", 500),
     pytest.param("anew", 11500, marks=pytest.mark.slow)],
)  # fmt: skip
def test_real_texts(kind: str, least: int) -> None:
    bad, tried = wrong(kind)
    print(kind, bad, tried)
    assert bad == 0
    assert tried >= least


# --- Time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "more"),
    [
        (PROSE * 1200, PROSE * 1200 + "end"),
        ("a" * 100_000, "a" * 100_000),
        ("ab " * 33_000, "ab " * 33_000 + "c"),
        ("x" + "`" * 100_000, "`" * 100_000),
        ("a" + " " * 100_000, " " * 100_000 + "b"),
        ("```\n" * 25_000, "```\n" * 25_000),
        (" ".join(map(str, range(20_000))), " ".join(map(str, range(20_000))) + " end"),
    ],
    ids=["prose", "letter", "doubling", "ticks", "blanks", "fences", "numbers"],
)
def test_linear_time(before: str, more: str) -> None:
    started = time.perf_counter()
    joined(before, *more)
    assert time.perf_counter() - started < 3


def test_the_hold_is_bounded() -> None:
    before = "x y z. " + "abc def. " * 1000
    seam, held = Seam(before), 0
    for number, mark in enumerate("abc def. " * 1000):
        if seam.feed(mark):
            held = number
            break
    assert held < 2 * REACH
