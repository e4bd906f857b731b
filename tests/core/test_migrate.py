"""A migration by its rules: what follows what, what a gate wants, and that nobody moves back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from holychat.core import migrate
from holychat.core.failure import Kind, UsageError
from holychat.core.migrate import (
    ASSESS,
    BACK,
    DONE,
    FULL,
    HOUR,
    SHADOW,
    SHARES,
    Call,
    Compared,
    Figures,
    Likeness,
    Migration,
    Terms,
)
from holychat.core.route import share

TERMS = Terms(sample=10, errors=0.02, slower=0.25, settle=48.0)
WELL = Figures(count=100, failed=1, whole=99, first50=0.4, first95=0.8)
GOOD = Compared(WELL, WELL)
IDS = [f"conversation-{number}" for number in range(2000)]


def at(stage: str, **more: object) -> Migration:
    return replace(migrate.started("a", "b", 0.0, 0), stage=stage, **more)  # type: ignore[arg-type]


# --- Stages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shadow", [0.0, 0.05])
def test_a_whole_migration_goes_through_every_stage(shadow: float) -> None:
    state, seen, now = migrate.started("a", "b", shadow, 0), [ASSESS], 0
    while state.running:
        now += 48 * HOUR
        state = migrate.advanced(state, GOOD, TERMS, now, said="x")
        seen.append(state.stage)
    assert seen == [ASSESS, *([SHADOW] if shadow else []), *SHARES, DONE]
    assert state.following == ""
    assert state.revision == len(seen) == len(state.entries)
    assert [entry.what for entry in state.entries] == [
        "start",
        *["next"] * (len(seen) - 2),
        "finish",
    ]
    with pytest.raises(UsageError, match="is done"):
        migrate.advanced(state, GOOD, TERMS, now, said="x", force=True)


def test_what_is_no_move() -> None:
    with pytest.raises(UsageError, match="to itself"):
        migrate.started("a", "a", 0.0, 0)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="from 0 to 1"):
            migrate.started("a", "b", wrong, 0)


def test_the_shares_are_kept_over_many_conversations_and_nobody_moves_back() -> None:
    moved: set[str] = set()
    for stage, percent in SHARES.items():
        parts = migrate.weights(at(stage), "")
        now = {each for each in IDS if share(parts, each) == "b"}
        assert moved <= now
        # Five standard deviations of a binomial share.
        assert abs(len(now) / 2000 - percent / 100) <= 5 * (0.25 / 2000) ** 0.5
        moved = now
    assert len(moved) == 2000


@given(st.text(), st.sampled_from(sorted(SHARES)), st.sampled_from(sorted(SHARES)))
def test_whoever_moved_stays_moved_as_the_share_grows(name: str, one: str, other: str) -> None:
    low, high = sorted((one, other), key=float)
    if share(migrate.weights(at(low), ""), name) == "b":
        assert share(migrate.weights(at(high), ""), name) == "b"


def test_the_settings_hold_before_it_and_after_its_end_as_soon_as_they_change() -> None:
    assert migrate.weights(None, "") == {}
    assert migrate.weights(at(ASSESS), "") == migrate.weights(at(SHADOW), "") == {}
    assert migrate.weights(at("10"), "anything") == {"b": 10.0, "a": 90.0}
    done = migrate.advanced(at(FULL), GOOD, TERMS, 48 * HOUR, said="a|x=1")
    assert migrate.weights(done, "a|x=1") == {"b": 100.0, "a": 0.0}
    assert migrate.weights(done, "b") == {}
    back = migrate.rolled_back(at("50"), "because", GOOD, 5, said="a")
    assert migrate.weights(back, "a") == {"b": 0.0, "a": 100.0}
    assert migrate.weights(back, "b") == {}


# --- Gates ----------------------------------------------------------------------------------------


ROWS = [
    # stage, old, new, hours, what the reasons say
    ("10", WELL, WELL, 0, []),
    ("10", WELL, replace(WELL, count=9), 0, ["b has 9 of the 10"]),
    ("10", replace(WELL, count=3), WELL, 0, ["a has 3 of the 10"]),
    ("10", WELL, replace(WELL, failed=3), 0, []),
    ("10", WELL, replace(WELL, failed=4), 0, ["4.0 % of 100 calls failed at b, 1.0 % of 100 at a"]),
    ("10", WELL, replace(WELL, first50=0.5), 0, []),
    ("10", WELL, replace(WELL, first50=0.51), 0, ["first token, p50: 0.51 s at b, 0.40 s at a"]),
    ("10", WELL, replace(WELL, first95=1.01), 0, ["first token, p95: 1.01 s at b, 0.80 s at a"]),
    ("10", WELL, replace(WELL, first50=None, first95=None), 0, []),
    ("10", WELL, replace(WELL, cost=0.2), 0, []),  # without the other's price
    (
        "10",
        replace(WELL, cost=0.1),
        replace(WELL, cost=0.2),
        0,
        ["cost of an answer: 0.20000 USD at b, 0.10000 USD at a"],
    ),
    (ASSESS, WELL, Figures(), 0, []),
    (ASSESS, Figures(count=2), Figures(), 0, ["a has 2 of the 10"]),
    (SHADOW, WELL, Figures(), 0, ["b has 0 of the 10"]),
    (FULL, WELL, WELL, 47, ["100 % holds for 47 of 48 hours"]),
    (FULL, WELL, WELL, 48, []),
    (DONE, Figures(), Figures(), 0, []),
]


@pytest.mark.parametrize(("stage", "old", "new", "hours", "expected"), ROWS)
def test_what_a_gate_wants(
    stage: str, old: Figures, new: Figures, hours: int, expected: list[str]
) -> None:
    state, compared = at(stage), Compared(old, new)
    why = migrate.missing(state, compared, TERMS, hours * HOUR)
    assert len(why) == len(expected)
    assert all(part in each for part, each in zip(expected, why, strict=True))
    if not state.running:
        return
    if not why:
        assert migrate.advanced(state, compared, TERMS, hours * HOUR, said="").stage != stage
        return
    with pytest.raises(UsageError) as caught:
        migrate.advanced(state, compared, TERMS, hours * HOUR, said="")
    assert expected[0] in caught.value.what
    forced = migrate.advanced(state, compared, TERMS, hours * HOUR, said="", force=True)
    assert forced.entries[-1].what.endswith(", forced")
    assert expected[0] in forced.entries[-1].why


def test_a_gate_that_does_not_hold_rolls_back() -> None:
    bad = replace(WELL, count=10, failed=2)
    assert "20.0 % of 10 calls failed at b" in migrate.broken(at("10"), Compared(WELL, bad), TERMS)
    slow = replace(WELL, first50=9.0, first95=9.0)
    assert "p50: 9.00 s at b" in migrate.broken(at("10"), Compared(WELL, slow), TERMS)
    few = replace(WELL, count=9, first50=9.0)
    for stage, new in (("10", few), ("10", WELL), (SHADOW, bad), (BACK, bad)):
        assert migrate.broken(at(stage), Compared(WELL, new), TERMS) == ""


def test_who_fails_too_often_to_get_a_sample_is_rolled_back_before_it() -> None:
    terms = replace(TERMS, sample=30, errors=0.1)  # 3 of 30 may fail, with none at the old one
    old = replace(WELL, count=30, failed=0)
    dead = Figures(count=4, failed=4)
    assert "100.0 % of 4 calls failed" in migrate.broken(at("50"), Compared(old, dead), terms)
    for count, failed in ((3, 3), (2, 2), (20, 3)):
        unlucky = Figures(count=count, failed=failed)
        assert migrate.broken(at("50"), Compared(old, unlucky), terms) == ""
    strict = replace(terms, errors=0.0)  # two failures may be chance all the same
    assert migrate.broken(at("50"), Compared(old, Figures(count=2, failed=2)), strict) == ""


def test_what_was_forced_is_rolled_back_for_failures_alone() -> None:
    slow = replace(WELL, first50=9.0)
    forced = migrate.advanced(at("10"), Compared(WELL, slow), TERMS, 5, said="a", force=True)
    assert forced.stage == "25"
    assert migrate.broken(forced, Compared(WELL, slow), TERMS) == ""
    bad = replace(slow, count=10, failed=2)
    assert "failed" in migrate.broken(forced, Compared(WELL, bad), TERMS)


def test_a_rollback_is_one_and_ends_it() -> None:
    back = migrate.rolled_back(at("50"), "it fails", GOOD, 7, said="a", by_itself=True)
    assert (back.stage, back.percent, back.since, back.running) == (BACK, 0.0, 7, False)
    assert back.entries[-1].what == "automatic rollback"
    for step in (
        lambda: migrate.rolled_back(back, "", GOOD, 8, said="a"),
        lambda: migrate.advanced(back, GOOD, TERMS, 8, said="a"),
    ):
        with pytest.raises(UsageError, match="rolled back"):
            step()
    done = migrate.advanced(at(FULL), GOOD, TERMS, 48 * HOUR, said="a")
    assert migrate.rolled_back(done, "after all", GOOD, 9, said="a").stage == BACK


# --- Figures --------------------------------------------------------------------------------------


def test_figures_of_calls() -> None:
    calls = [
        *(Call("stop", "", n / 10, n / 5, 10 * n) for n in range(1, 21)),
        Call("failed", "rate-limit"),
        Call("cut", "reset", 0.1, 9.0, 5),
        Call("failed", Kind.PASSED.value),  # the user's own doing, as the next two
        Call("interrupted"),
        Call("interrupted", "", 0.05, 9.0, 1),
    ]
    found = migrate.figures(calls)
    assert (found.count, found.failed, found.whole) == (23, 2, 20)
    assert (found.first50, found.first95) == (1.0, 1.9)
    assert (found.total50, found.tokens) == (2.0, 105.0)
    assert migrate.figures([]) == Figures()
    assert Figures().rate == 0.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_that_was_measured(values: list[float], part: float) -> None:
    ordered = sorted(values)
    found = migrate.percentile(ordered, part)
    assert found in ordered
    assert sum(each <= found for each in ordered) >= part * len(ordered) - 1e-6  # type: ignore[operator]


@given(st.text(), st.text())
@effort(max_examples=50)
def test_how_alike(one: str, other: str) -> None:
    assert 0 <= migrate.alike(one, other) <= 1
    assert migrate.alike(one, f" {one}\n") == 1.0
    assert migrate.alike("a b c d", "a b x y") == 0.5


def test_likeness_is_a_mean_and_a_least() -> None:
    both = Likeness().plus(0.5).plus(1.0)
    assert (both.mean, both.least, both.count) == (0.75, 0.5, 2)
    assert Likeness().mean is None


# --- As JSON --------------------------------------------------------------------------------------


FIGURES = st.builds(
    Figures,
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    *[st.none() | st.floats(0, 1e6) for _ in range(5)],
)
COMPARED = st.builds(Compared, FIGURES, FIGURES, st.booleans())


@given(st.text(), st.text(), st.lists(st.tuples(COMPARED, st.text()), max_size=4), st.booleans())
def test_what_is_written_is_read(
    old: str, new: str, steps: list[tuple[Compared, str]], shadow: bool
) -> None:
    state = Migration(old, new, since=1, shadow=0.25 if shadow else 0.0)
    for number, (compared, why) in enumerate(steps, 1):
        state = migrate.advanced(state, compared, TERMS, number, said="s", force=True)
        if number == 4:
            state = migrate.rolled_back(state, why, compared, number, said=why)
    written = json.loads(json.dumps(migrate.as_json(state)))
    assert migrate.from_json(written) == state


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"stage": "20"},
        {"since": "soon"},
        {"likeness": {"x": 1}},
        {"entries": [{}]},
        {"old": None},
        {"shadow": float("inf")},
    ],
)
def test_anything_else_is_refused(change: dict[str, object]) -> None:
    written = migrate.as_json(migrate.started("a", "b", 0.0, 0))
    assert migrate.from_json(written)
    for wrong in ({**written, **change}, None, [], "x", {}):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            migrate.from_json(wrong)
