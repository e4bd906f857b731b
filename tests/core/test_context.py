"""Fitting, by property: what is left out, what stays, and that the cut stays where it is."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core import context, wire
from holychat.core.chat import Message, Request
from holychat.core.context import Named, Room, Summary, fit, named, reserve, steady
from holychat.core.failure import Kind
from holychat.core.provider import QUIRKS
from holychat.core.tokens import DOCUMENTED, Ratios, features, learn, weight

WEIGHTS = st.lists(st.integers(1, 400), max_size=60)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], set[int], int, int, int, int]:
    """(weights, pinned, fixed, room, stride, done)."""
    weights = draw(WEIGHTS)
    places = st.integers(0, max(0, len(weights) - 1))
    pinned = draw(st.sets(places, max_size=4)) if weights else set()
    room = draw(st.integers(0, 6000))
    stride = draw(st.integers(1, 2500))
    return weights, pinned, draw(st.integers(0, 500)), room, stride, draw(places) if weights else 0


def sent(weights: list[int], pinned: set[int], cut: int) -> list[int]:
    """The turns that are sent, in order."""
    return [at for at in range(len(weights)) if at >= cut or at in pinned]


@given(cases())
def test_never_over_the_room_and_never_less_than_is_needed(
    case: tuple[list[int], set[int], int, int, int, int],
) -> None:
    weights, pinned, fixed, room, _, done = case
    cut = fit(*case)
    assert done <= cut <= len(weights)
    total = fixed + sum(weights[at] for at in sent(weights, pinned, cut))
    if total > room:  # only where nothing else is left: it is sent, and the provider has its say
        assert all(at in pinned for at in sent(weights, pinned, cut))
    if fixed + sum(weights[at] for at in sent(weights, pinned, done)) <= room:
        assert cut == done
    best = next(
        (
            at
            for at in range(done, len(weights) + 1)
            if fixed + sum(weights[one] for one in sent(weights, pinned, at)) <= room
        ),
        len(weights),
    )
    assert cut >= best
    if best < len(weights):
        assert cut < len(weights)  # something of it stays where something can


@given(cases())
def test_it_is_the_same_each_time_and_whatever_comes_is_left_out_of_the_rest_only(
    case: tuple[list[int], set[int], int, int, int, int],
) -> None:
    weights, pinned, fixed, room, stride, _ = case
    cut = fit(*case)
    assert fit(*case) == cut
    out = sent(weights, pinned, 0)
    kept = sent(weights, pinned, cut)
    assert kept == [at for at in out if at in kept]  # whole turns, in their order
    assert pinned <= {*kept}
    again = fit(weights, pinned, fixed, room, stride, cut)  # what was cut out stays out
    assert again == cut


@given(WEIGHTS, st.sets(st.integers(0, 59), max_size=4), st.integers(200, 5000), st.data())
def test_a_cut_only_moves_on_and_what_is_sent_begins_the_same_until_it_does(
    weights: list[int], pinned: set[int], room: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, room))
    cuts = []
    for count in range(len(weights)):
        pins = {at for at in pinned if at < count}
        cuts.append(fit(weights[:count], pins, weights[count], room, stride, 0))
    assert cuts == sorted(cuts)
    for count, (before, after) in enumerate(pairwise(cuts)):
        if before == after:
            first = sent(weights[:count], pinned, before)
            second = sent(weights[: count + 1], pinned, after)
            assert second[: len(first)] == first


@given(st.lists(st.integers(1, 120), min_size=200, max_size=400), st.integers(1000, 4000))
def test_the_cuts_are_as_few_as_strides_are_said(weights: list[int], room: int) -> None:
    stride = room // context.STRIDES
    cuts = {fit(weights[:count], (), 0, room, stride, 0) for count in range(len(weights))}
    assert len(cuts - {0}) <= sum(weights) / stride + 1
    behind = list(accumulate(weights))
    for cut in cuts - {0}:  # each on the grid
        assert behind[cut - 1] // stride > (behind[cut - 2] if cut > 1 else 0) // stride


def test_by_hand() -> None:
    weights = [100] * 10
    assert fit(weights, (), 0, 1000, 300, 0) == 0
    assert fit(weights, (), 50, 1000, 300, 0) == 3  # 50 too many: the first cut is behind 300
    assert fit(weights, (), 301, 1000, 300, 0) == 6
    assert fit(weights, {0, 1}, 50, 1000, 300, 0) == 3
    assert fit(weights, {0, 1, 2}, 50, 1000, 300, 0) == 6
    assert fit(weights, (), 950, 1000, 300, 0) == 10  # nothing but the prompt fits
    assert fit(weights, (), 880, 1000, 300, 0) == 9  # finer than the grid, rather than nothing
    assert fit(weights, (), 5000, 1000, 300, 0) == 10
    assert fit([], (), 5000, 1000, 300, 0) == 0
    assert fit(weights, (), 0, 1000, 300, 3) == 3


@pytest.mark.parametrize(
    ("window", "longest", "asked", "said", "expected"),
    [
        (8000, None, None, 0, 2000),
        (128_000, None, None, 0, 4096),
        (128_000, 8192, None, 0, 8192),
        (128_000, 64_000, None, 0, 32_000),
        (128_000, 8192, 500, 0, 500),
        (128_000, 8192, 500, 700, 700),
        (128_000, 8192, "many", 0, 8192),
        (128_000, 8192, True, 0, 8192),
    ],
)
def test_what_is_kept_free(
    window: int, longest: int | None, asked: object, said: int, expected: int
) -> None:
    assert reserve(window, longest, asked, said) == expected


def test_a_room_and_its_stride() -> None:
    room = Room(8000, 2000)
    assert (room.at(1.0), room.at(1.5), room.stride) == (6000, 4000, 2000)
    assert (Room(100, 200).at(1.0), Room(100, 200).stride) == (0, 1)


@given(st.floats(0, 5), st.lists(st.floats(context.LEAST, context.MOST), max_size=20))
def test_a_scale_is_never_too_low_and_does_not_move_for_little(
    held: float, seen: list[float]
) -> None:
    for raw in seen:
        scale = steady(held, raw)
        assert raw <= scale <= raw + 2 * context.STEP + 1e-9
        assert scale in (held, steady(0, raw))
        assert steady(scale, raw) == scale
        held = scale


def test_a_scale_by_ratios_has_a_margin_until_something_was_reported() -> None:
    counts = features("a few words of English, and no more than that")
    assert context.scale_of(DOCUMENTED, DOCUMENTED, counts, 2) == pytest.approx(1.1)
    taught: Ratios = learn(DOCUMENTED, counts, 2, 40)
    known = taught.weight(counts, 2) / DOCUMENTED.weight(counts, 2)
    assert context.scale_of(taught, DOCUMENTED, counts, 2) == pytest.approx(known * context.SURE)
    assert context.scale_of(DOCUMENTED, DOCUMENTED, features(""), 0) == context.UNSURE


def test_what_is_shortened_keeps_both_ends() -> None:
    text = "begin " + "middle " * 1000 + "end"
    short = context.shortened(text, 100)
    assert short.startswith("begin")
    assert short.endswith("end")
    assert weight(short) < 110
    assert context.shortened("little", 100) == "little"


def test_the_texts_of_a_summary() -> None:
    assert context.pair(None) == ()
    before, taken = context.pair(Summary("They met.", 3))
    assert before.endswith("They met.")
    assert taken
    asked = context.question("before that", [("why?", "so")], 90)
    assert "90 words" in asked
    assert asked.index("before that") < asked.index("why?") < asked.index("so\n</assistant>")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, "the first turn is left out to fit 8,000 tokens (context.policy = trim)"),
        (12, "the first 12 turns are left out to fit 8,000 tokens (context.policy = trim)"),
    ],
)
def test_what_is_said(count: int, expected: str) -> None:
    assert context.left_out(count, 8000, "trim") == expected


SAID = [
    # OpenAI, DeepSeek, Azure
    (
        (
            "This model's maximum context length is 8192 tokens. However, you requested 10300"
            " tokens (9300 in the messages, 1000 in the completion). Please reduce the length."
        ),
        (8192, 9300),
    ),
    (
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in"
            " 8500 tokens. Please reduce the length of the messages."
        ),
        (8192, 8500),
    ),
    (
        (
            "Input tokens exceed the configured limit of 272,000 tokens. Your messages resulted in"
            " 300,123 tokens."
        ),
        (272_000, 300_123),
    ),
    ("Your input exceeds the context window of this model.", (0, 0)),
    # OpenRouter
    (
        (
            "This endpoint's maximum context length is 131072 tokens. However, you requested about"
            " 140000 tokens (138000 of text input, 2000 in the output)."
        ),
        (131_072, 138_000),
    ),
    # Anthropic
    ("prompt is too long: 208310 tokens > 200000 maximum", (200_000, 208_310)),
    (
        (
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease"
            " input length or `max_tokens` and try again"
        ),
        (200_000, 190_000),
    ),
    # Gemini
    (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        (1_048_576, 1_200_000),
    ),
    (
        "The input token count exceeds the maximum number of tokens allowed 1048576.",
        (1_048_576, 0),
    ),
    # Mistral
    (
        (
            "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768"
            " maximum context length"
        ),
        (32_768, 40_000),
    ),
    # vLLM
    (
        (
            "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make"
            " sure that `max_model_len` is no smaller than the number of text tokens."
        ),
        (4096, 5000),
    ),
    (
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum"
            " context length is 4096 tokens and your request has 100 input tokens (5000 > 4096 -"
            " 100)."
        ),
        (4096, 100),
    ),
    (
        (
            "You passed 4097 input tokens and requested 100 output tokens. However, the model's"
            " context length is only 4096 tokens, resulting in a maximum input length of 3996"
            " tokens."
        ),
        (4096, 4097),
    ),
    # llama.cpp
    (
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        (4096, 5000),
    ),
    ("the request exceeds the available context size. try increasing it", (0, 0)),
    # Ollama, LM Studio
    ("the input length exceeds the context length", (0, 0)),
    (
        (
            "Trying to keep the first 5000 tokens when context the overflows. However, the model is"
            " loaded with context length of only 4096 tokens, which is not enough."
        ),
        (4096, 0),
    ),
    # xAI, Together, Cohere, Groq
    (
        "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        (131_072, 140_000),
    ),
    (
        (
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given:"
            " 5000 `inputs` tokens and 100 `max_new_tokens`"
        ),
        (4097, 5000),
    ),
    (
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
        (4081, 5000),
    ),
    ("Please reduce the length of the messages or completion.", (0, 0)),
]


@pytest.mark.parametrize(("said", "expected"), SAID)
def test_what_servers_say_of_a_prompt_that_is_too_long(
    said: str, expected: tuple[int, int]
) -> None:
    failure = wire.error("box", {"error": {"message": said, "code": 400}}, 400)
    assert failure.kind is Kind.CONTEXT
    assert named(failure.what) == Named(*expected)


@pytest.mark.parametrize("said", ["", "context length is 3", "context size 99999999999", "> 1"])
def test_what_is_no_window(said: str) -> None:
    assert named(said).window == 0


@given(st.text(max_size=200))
def test_no_words_are_too_odd(said: str) -> None:
    assert named(said).window >= 0


def test_a_summary_is_a_pair_that_every_dialect_sends_as_it_is() -> None:
    before, taken = context.pair(Summary("They met.", 1))
    said = (Message("user", before), Message("assistant", taken), Message("user", "and?"))
    body = wire.body(Request("m", said), QUIRKS["plain"])
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]
