from __future__ import annotations

import json
from math import isfinite

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holychat.core.tokens import (
    DOCUMENTED,
    MESSAGE,
    NOTHING,
    RATIOS,
    REQUEST,
    Counts,
    Ratios,
    as_json,
    estimate,
    features,
    from_json,
    learn,
    weight,
)

# Texts in which what is counted lies close together, beside any text at all.
TEXTS = st.text() | st.text(alphabet="ab é7.\n \tяع数かー한🎉—\ud83c")
COUNTS = st.builds(Counts, *[st.integers(0, 10**6) for _ in RATIOS])
REPORTS = st.tuples(
    COUNTS, st.integers(0, 4000), st.integers(-(10**9), 10**12) | st.integers(0, 10**5)
)


# --- What is counted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", Counts()),
        ("Hello, you", Counts(letters=8, words=1, marks=1)),
        ("größer", Counts(letters=4, accents=2)),
        ("if x:\n    y = 10\n", Counts(letters=4, words=2, marks=2, digits=2, blanks=3)),
        ("数字，かな。", Counts(han=2, kana=4)),
        ("한국 🎉—", Counts(hangul=2, symbols=3)),
        ("Ωмир שלום नमस्ते", Counts(greek=4, scripts=10)),
    ],
)
def test_features(text: str, counts: Counts) -> None:
    assert features(text) == counts


def slowly(text: str) -> Counts:
    """The same by code points, one at a time."""
    counts = dict.fromkeys(Counts._fields, 0)
    bounds = [
        (0x80, "marks", 1), (0xC0, "symbols", 1), (0x340, "accents", 1), (0x580, "greek", 1),
        (0x2000, "scripts", 1), (0x3000, "symbols", 1), (0x4000, "kana", 1), (0xA000, "han", 1),
        (0xE000, "hangul", 1), (0x10000, "kana", 1), (0x110000, "symbols", 2),
    ]  # fmt: skip
    latin = [(c.isascii() and c.isalpha()) or 0xC0 <= ord(c) < 0x340 for c in text]
    for at, char in enumerate(text):
        if char.isascii() and char.isalpha():
            counts["letters"] += 1
        elif char.isascii() and char.isdigit():
            counts["digits"] += 1
        elif char == "\n":
            counts["blanks"] += 1
        elif char in " \t\r":
            continue
        else:
            name, by = next((name, by) for bound, name, by in bounds if ord(char) < bound)
            counts[name] += by
        counts["words"] += at > 0 and latin[at] and not latin[at - 1]
    counts["blanks"] += wide(text)
    return Counts(**counts)


def wide(text: str) -> int:
    """Runs of two blanks or more that something ends."""
    return sum(
        text[at] not in " \t\r" and text[at - 1] in " \t\r" and text[at - 2] in " \t\r"
        for at in range(2, len(text))
    )


@given(TEXTS)
def test_features_by_code_points(text: str) -> None:
    assert features(text) == slowly(text)


@given(TEXTS, TEXTS)
def test_counts_of_parts_add_up(text: str, more: str) -> None:
    parts, whole = features(text) + features(more), features(text + more)
    seams = whole - parts
    assert seams._replace(words=0, blanks=0) == NOTHING
    assert seams.words in {0, 1}
    assert seams.blanks in {0, 1}
    assert whole - features(more) + features(more) == sum([whole], NOTHING)
    assert abs(weight(text + more) - weight(text) - weight(more)) < 1


# --- The documented estimate ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        (" ", 1),
        ("数", 1),
        ("a" * 100, 18),  # 0.18 a letter
        ("数" * 100, 85),  # 0.85 a character
        # 20 letters, 5 words after the first, a mark: 20 × 0.18 + 5 × 0.25 + 0.55 = 5.40
        ("The cat sat upon your mat.", 5),
        # 4 digits, 2 marks, a letter that begins a word: 4 × 0.75 + 2 × 0.55 + 0.18 + 0.25 = 4.53
        ("[1234]x", 5),
    ],
)
def test_estimate(text: str, tokens: int) -> None:
    assert estimate(text) == tokens


@given(TEXTS, TEXTS)
def test_more_text_is_not_fewer_tokens(text: str, more: str) -> None:
    assert bool(text) == (estimate(text) > 0)
    assert estimate(text) <= estimate(text + more) <= estimate(text) + estimate(more) + 2


def test_lone_surrogates_count_as_well() -> None:
    assert estimate("\ud83c") == 1


def test_a_request_has_its_own_tokens() -> None:
    counts = features("Hi!") + features("Hello.")
    tokens = weight("Hi!") + weight("Hello.") + 2 * MESSAGE + REQUEST
    assert DOCUMENTED.weight(counts, 2) == pytest.approx(tokens)
    assert DOCUMENTED.estimate(counts) == round(weight("Hi!") + weight("Hello."))
    assert DOCUMENTED.estimate(NOTHING) == 0
    assert DOCUMENTED.estimate(NOTHING, 1) == round(MESSAGE + REQUEST)


# --- Learning -------------------------------------------------------------------------------------

PROSE = features("The quick brown fox jumps over the lazy dog, and nobody minds. " * 20)


def taught(*reports: int, messages: int = 0, ratios: Ratios = DOCUMENTED) -> Ratios:
    for reported in reports:
        ratios = learn(ratios, PROSE, messages, reported)
    return ratios


@pytest.mark.parametrize("share", [0.6, 0.8, 1.0, 1.5, 2.0])
def test_what_is_reported_is_learned(share: float) -> None:
    told = round(DOCUMENTED.estimate(PROSE) * share)
    assert taught(*[told] * 5).estimate(PROSE) == pytest.approx(told, rel=0.05)


@pytest.mark.parametrize("hidden", [0, 30, 1500, 20_000])
def test_a_hidden_prompt_is_found_in_requests_and_kept_out_of_answers(hidden: int) -> None:
    told = DOCUMENTED.estimate(PROSE, 1) + hidden
    ratios = taught(told, told, told, messages=1)
    assert ratios.estimate(PROSE, 1) == pytest.approx(told, rel=0.03)
    assert ratios.estimate(PROSE) == pytest.approx(DOCUMENTED.estimate(PROSE), rel=0.05)


@pytest.mark.parametrize("absurd", [0, -1, 10**30, -(10**30)])
def test_what_cannot_be_teaches_nothing(absurd: int) -> None:
    assert taught(absurd) == DOCUMENTED
    assert learn(DOCUMENTED, NOTHING, 0, 7) == DOCUMENTED


def test_one_report_far_off_is_not_believed_a_second_in_a_row_is() -> None:
    usual = DOCUMENTED.estimate(PROSE)
    ratios = taught(*[usual] * 10)
    once = taught(usual * 100, ratios=ratios)
    assert (once.values, once.odd) == (ratios.values, (False, True))
    assert taught(usual, ratios=once).odd == (False, False)
    assert taught(usual * 3, usual * 3, usual * 3, ratios=ratios).estimate(PROSE) > usual * 2


@given(st.lists(REPORTS, max_size=30))
@example([(Counts(letters=10**6), 0, 10**8)] * 9)
def test_whatever_is_reported_the_ratios_stay_sane(reports: list[tuple[Counts, int, int]]) -> None:
    ratios = DOCUMENTED
    for counts, messages, reported in reports:
        ratios = learn(ratios, counts, messages, reported)
        for value, documented in zip(ratios.values, RATIOS, strict=False):
            assert documented / 4.001 <= value <= documented * 4.001
        assert 0 <= ratios.values[-2] <= 16
        assert 0 <= ratios.values[-1] <= 100_000
        assert all(isfinite(one) and one > 0 for one in ratios.doubts)
        assert ratios.estimate(counts, messages) >= bool(any(counts) or messages)
        assert from_json(as_json(ratios)) == ratios
        assert len(as_json(ratios)) < 600


# --- What the store keeps -------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text() | VALUES.map(json.dumps))
@example("[" * 100_000)
@example("9" * 10_000)
def test_a_damaged_text_gives_what_is_documented(text: str) -> None:
    assert from_json(text) == DOCUMENTED


@given(st.sampled_from(["values", "doubts", "odd", "reports"]), VALUES, st.integers(0, 13))
def test_a_damaged_part_gives_what_is_documented_or_something_sane(
    name: str, wrong: object, at: int
) -> None:
    said = json.loads(as_json(taught(300, 290, 310)))
    whole = from_json(json.dumps(said | {name: wrong}))
    fits = name == "odd" and isinstance(wrong, list) and len(wrong) == 2
    fits = fits and all(one in (0, 1) for one in wrong)
    assert whole == DOCUMENTED or name == "reports" or fits
    if name != "reports":
        said[name][at % len(said[name])] = wrong
        one = from_json(json.dumps(said))
        assert 0 < one.estimate(PROSE) < 4 * DOCUMENTED.estimate(PROSE) + 1


def test_nothing_kept_yet_gives_what_is_documented() -> None:
    assert from_json(None) == from_json("") == from_json("null") == DOCUMENTED
