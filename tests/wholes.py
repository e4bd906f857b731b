"""Conversations for tests: a small one that has everything, and random ones for hypothesis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from holychat.core.formats import Attempted, Exchange, Figures, Summary, Whole
from holychat.core.history import Conversation, Kept
from holychat.store.ids import LETTERS

if TYPE_CHECKING:
    from collections.abc import Callable

AT = 1_795_000_000_000  # a day in November 2026

# A talk of two exchanges, whose second answer was asked for twice; the first one failed once.
WHOLE = Whole(
    Conversation(
        "abcdefghjkmn",
        title="Why is the sky blue?",
        created=AT,
        updated=AT + 90_000,
        provider="box",
        model="test-model",
        system="Be brief.",
        params={"temperature": 0.5, "stop": ["a", "b"]},
        head=4,
        messages=5,
        origin="zzzzzzzzzzzz",
    ),
    (
        Kept(1, None, "user", "Why is the sky blue?", created=AT),
        Kept(2, 1, "assistant", "Because of *scattering*.", "Hm, light.", AT + 5000),
        Kept(3, 2, "user", "And the sea?", created=AT + 20_000),
        Kept(4, 3, "assistant", "It mirrors the sk", created=AT + 30_000),
        Kept(5, 3, "assistant", "It takes the red away.", created=AT + 60_000),
    ),
    (
        Exchange(1, None, Figures(AT, "failed", "box", "test-model", kind="rate", failure="429")),
        Exchange(
            1,
            2,
            Figures(
                AT + 1,
                "stop",
                "box",
                "test-model",
                prompt_tokens=10,
                cached_tokens=0,
                completion_tokens=20,
                estimated=True,
                headers=0.25,
                first=0.5,
                total=1.75,
            ),
            served_model="test-model-2",
            attempts=(
                Attempted(AT + 1, "failed", kind="reset", failure="gone"),
                Attempted(AT + 2, number=2),
            ),
        ),
        Exchange(3, 4, Figures(AT + 20_001, "interrupted", "box", "test-model")),
        Exchange(3, 5, Figures(AT + 50_000, "stop", "box", "other-model"), refusal=True),
    ),
    named=True,
)

_MADE = {"prompt_tokens": 10, "completion_tokens": 20, "first": 0.25, "total": 1.5}

# The same with what may stand beside messages and attempts: two pins, two summaries; a turn that
# was retried, hedged, copied and summarised before it, of which one attempt has no price.
RICH = replace(
    WHOLE,
    exchanges=(
        WHOLE.exchanges[0],
        Exchange(
            1,
            2,
            Figures(AT + 9, "stop", "box", "m", cost=(1 << 62) + 1, **_MADE),
            unpriced=True,
            attempts=(
                Attempted(AT + 1, "stop", "box", "m", cost=7, role="summary", **_MADE),
                Attempted(AT + 2, "cut", "box", "m", cost=0, number=2, **_MADE),
                Attempted(AT + 3, "stop", "other", "n", number=3, at=17, **_MADE),
                Attempted(
                    AT + 4, "interrupted", "box", "m", kind="outrun", cost=9, number=4, role="hedge"
                ),
                Attempted(AT + 5, "stop", "new", "o", cost=11, number=4, role="shadow", **_MADE),
            ),
        ),
        *WHOLE.exchanges[2:],
    ),
    pinned=frozenset({1, 2}),
    summaries=(Summary(2, "Of the *sky*.", AT + 6000), Summary(5, "", -1)),
)

# Any text that a store keeps as it is: no lone surrogate, no NUL.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NUMBERS = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
COUNTS = st.none() | st.integers(min_value=0, max_value=1 << 40)
COSTS = st.none() | NUMBERS | st.integers(0, 3)  # 0 is a cost too
SECONDS = st.none() | st.floats(min_value=0.0, max_value=1e9)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PARAMS = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | FLOATS | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
_FIGURES: dict[str, st.SearchStrategy[Any]] = {
    "started": NUMBERS,
    "finish": TEXTS | st.sampled_from(["stop", "length", "cut", "failed"]),
    "provider": TEXTS,
    "model": TEXTS,
    "prompt_tokens": COUNTS,
    "cached_tokens": COUNTS,
    "completion_tokens": COUNTS,
    "reasoning_tokens": COUNTS,
    "estimated": st.booleans(),
    "cost": COSTS,
    "headers": SECONDS,
    "first": SECONDS,
    "total": SECONDS,
    "kind": TEXTS,
    "failure": TEXTS,
}
FIGURES = st.builds(Figures, **_FIGURES)
ROLES = TEXTS | st.sampled_from(["", "hedge", "shadow", "summary", "import"])
ATTEMPTS = st.builds(
    Attempted, **_FIGURES, number=NUMBERS | st.integers(1, 3), role=ROLES, at=NUMBERS | st.just(0)
)


@st.composite
def wholes(draw: Callable[[Any], Any]) -> Whole:
    """A conversation with any tree, any turns and any figures."""
    messages: list[Kept] = []
    for number in range(1, draw(st.integers(0, 8)) + 1):
        parent = draw(st.none() | st.integers(1, number - 1)) if number > 1 else None
        role = draw(st.sampled_from(["user", "assistant", "system"]))
        messages.append(Kept(number, parent, role, draw(TEXTS), draw(TEXTS), draw(NUMBERS)))
    one = st.integers(1, max(1, len(messages)))
    exchanges = st.builds(
        Exchange,
        one,
        st.none() | one,
        FIGURES,
        TEXTS,
        st.booleans(),
        st.booleans(),
        st.lists(ATTEMPTS, max_size=3).map(tuple),
    )
    summaries = st.lists(st.builds(Summary, one, TEXTS, NUMBERS), max_size=2).map(tuple)
    about = Conversation(
        id="".join(draw(st.lists(st.sampled_from(LETTERS), min_size=12, max_size=12))),
        title=draw(TEXTS),
        created=draw(NUMBERS),
        updated=draw(NUMBERS),
        provider=draw(TEXTS),
        model=draw(TEXTS),
        system=draw(TEXTS),
        params=draw(PARAMS),
        head=draw(st.none() | one) if messages else None,
        messages=len(messages),
        origin=draw(TEXTS),
    )
    turns = draw(st.lists(exchanges, max_size=3)) if messages else []
    return Whole(
        about,
        tuple(messages),
        tuple(turns),
        draw(st.booleans()),
        draw(st.frozensets(one)) if messages else frozenset(),
        draw(summaries) if messages else (),
    )
