from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holychat.core.failure import VERDICTS, Failure, Kind
from holychat.core.route import Past, Rules, Step, outcome, share, step

NAMES = ["box", "spare", "third", "fourth"]
AGAIN = [kind for kind, verdict in VERDICTS.items() if verdict.again and kind is not Kind.IGNORED]
ONLY_ELSEWHERE = [
    kind for kind, verdict in VERDICTS.items() if verdict.elsewhere and not verdict.again
]
NOWHERE = [kind for kind, verdict in VERDICTS.items() if not verdict.elsewhere]


def past(*pairs: tuple[str, Kind], after: float | None = None) -> list[Past]:
    return [Past(name, Failure(kind, f"{name} failed", retry_after=after)) for name, kind in pairs]


def after(
    *pairs: tuple[str, Kind],
    rules: Rules | None = None,
    names: list[str] = NAMES,
    said: bool = False,
    waited: float = 0.0,
    chance: float = 0.0,
    asks: float | None = None,
) -> Step | None:
    """What follows these failures."""
    failures = past(*pairs, after=asks)
    return step(names, failures, rules or Rules(), said=said, waited=waited, chance=chance)


# --- Who is next ----------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [False, True])
@pytest.mark.parametrize("kind", AGAIN)
def test_what_may_pass_is_tried_twice_and_then_elsewhere(kind: Kind, said: bool) -> None:
    assert after(("box", kind), said=said) == Step("box")
    assert after(("box", kind), ("box", kind), said=said) == Step("spare")
    twice = [("box", kind), ("box", kind), ("spare", kind)]
    assert after(*twice, said=said) == Step("spare")
    assert after(*twice, ("spare", kind), said=said) == Step("third")


@pytest.mark.parametrize("kind", ONLY_ELSEWHERE)
def test_what_does_not_pass_is_for_the_next(kind: Kind) -> None:
    assert after(("box", kind)) == Step("spare")
    assert after(("box", kind), names=["box"]) is None


@pytest.mark.parametrize("kind", NOWHERE)
def test_a_wrong_request_is_wrong_everywhere_unless_only_a_substitute_says_so(kind: Kind) -> None:
    assert after(("box", kind)) is None
    assert after(("box", Kind.AUTH), ("spare", kind)) == Step("third")


def test_alone_there_is_nobody_else() -> None:
    assert after(("box", Kind.RESET), names=["box"]) == Step("box")
    assert after(("box", Kind.RESET), ("box", Kind.RESET), names=["box"]) is None


def test_a_prefix_that_was_ignored_is_asked_for_in_words_at_no_cost() -> None:
    ignored = ("box", Kind.IGNORED)
    assert after(("box", Kind.CUT), ignored, said=True) == Step("box")
    assert after(("box", Kind.CUT), ignored, ("box", Kind.CUT), said=True) == Step("spare")
    assert after(("box", Kind.CUT), ignored, ignored, said=True) == Step("spare")


def test_providers_and_attempts_are_bounded() -> None:
    rules = Rules(attempts=1, providers=2)
    assert after(("box", Kind.RESET), rules=rules) == Step("spare")
    assert after(("box", Kind.RESET), ("spare", Kind.RESET), rules=rules) is None


@pytest.mark.parametrize("kind", list(Kind))
def test_on_cut_stop_ends_what_has_begun_and_only_that(kind: Kind) -> None:
    rules = Rules("stop")
    assert after(("box", kind), rules=rules, said=True) is None
    assert after(("box", kind), rules=rules) == after(("box", kind))


@pytest.mark.parametrize("kind", list(Kind))
def test_to_begin_anew_is_the_way_of_going_on(kind: Kind) -> None:
    rules = Rules("restart")
    assert after(("box", kind), rules=rules, said=True) == after(("box", kind), said=True)


# --- How long it waits ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "chance", "seconds"),
    [(1, 0.0, 0.0), (1, 0.5, 0.5), (2, 0.5, 1.0), (3, 1.0, 4.0), (9, 1.0, 8.0), (999, 1.0, 8.0)],
)
def test_the_back_off_doubles_up_to_its_bound(attempts: int, chance: float, seconds: float) -> None:
    failures = [("box", Kind.SERVER)] * attempts
    rules = Rules(attempts=attempts + 1, wait=1000)
    assert after(*failures, rules=rules, names=["box"], chance=chance) == Step("box", seconds)


@pytest.mark.parametrize(
    ("asks", "names", "waited", "then"),
    [
        (3.0, NAMES, 0.0, Step("box", 3.0)),
        (5.0, NAMES, 0.0, Step("box", 5.0)),
        (5.1, NAMES, 0.0, Step("spare")),  # another one could be asked
        (5.1, ["box"], 0.0, Step("box", 5.1)),
        (60.0, ["box"], 0.0, Step("box", 60.0)),
        (60.1, ["box"], 0.0, None),
        (20.0, ["box"], 41.0, None),
        (3.0, NAMES, 58.0, Step("spare")),
        (0.0, ["box"], 60.0, Step("box")),
        (86400.0 * 365, ["box"], 0.0, None),
        (float("inf"), NAMES, 0.0, Step("spare")),
        (float("nan"), NAMES, 0.0, Step("spare")),
    ],
)
def test_what_a_provider_asks_for_is_waited_where_there_is_room(
    asks: float, names: list[str], waited: float, then: Step | None
) -> None:
    assert after(("box", Kind.RATE), asks=asks, names=names, waited=waited, chance=0.9) == then


# --- Whatever happens -----------------------------------------------------------------------------

RULES = st.builds(
    Rules,
    st.sampled_from(["continue", "stop", "restart"]),
    attempts=st.integers(1, 4),
    providers=st.integers(1, 4),
    wait=st.floats(0, 60),
    patience=st.floats(0, 10),
    base=st.floats(0, 2),
    longest=st.floats(0, 10),
)
FAILURES = st.builds(
    lambda kind, asks: Failure(kind, "no", retry_after=asks),
    st.sampled_from(list(Kind)),
    st.none() | st.floats(0, 100),
)


@settings(max_examples=500, deadline=None)
@given(
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    rules=RULES,
    failures=st.lists(st.tuples(FAILURES, st.floats(0, 0.999), st.booleans()), min_size=20),
)
def test_every_turn_comes_to_its_end(
    names: list[str], rules: Rules, failures: list[tuple[Failure, float, bool]]
) -> None:
    """Nobody is asked too often, nobody twice who refused for good, nobody after the one behind
    them; the waits stay in their bounds."""
    name, waited, said, seen = names[0], 0.0, False, list[Past]()
    for failure, chance, speaks in failures:
        seen.append(Past(name, failure))
        said = said or speaks
        then = step(names, seen, rules, said=said, waited=waited, chance=chance)
        if then is None:
            break
        assert not (said and rules.on_cut == "stop")
        if then.provider == name:
            assert failure.verdict.again
            others = [one for one in names if one not in {each.provider for each in seen}]
            asked = len({each.provider for each in seen})
            if others and asked < rules.providers:
                assert then.wait <= rules.patience
            if failure.retry_after is None:
                assert 0 <= then.wait <= rules.longest
            else:
                assert then.wait == failure.retry_after
        else:
            assert then.wait == 0
            assert names.index(then.provider) > names.index(name)
        name, waited = then.provider, waited + then.wait
        assert waited <= rules.wait + 1e-6
    else:
        pytest.fail("it goes on for ever")
    times = Counter(each.provider for each in seen)
    ignored = {each.provider for each in seen if each.failure.kind is Kind.IGNORED}
    assert len(times) <= rules.providers
    assert all(count <= rules.attempts + (name in ignored) for name, count in times.items())


# --- The failure of it all ------------------------------------------------------------------------


def test_one_provider_speaks_for_itself() -> None:
    failures = past(("box", Kind.SERVER), ("box", Kind.RATE))
    assert outcome(failures) is failures[-1].failure


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        ((Kind.AUTH, Kind.AUTH), Kind.AUTH),
        ((Kind.SERVER, Kind.AUTH), Kind.SERVER),
        ((Kind.AUTH, Kind.SERVER), Kind.SERVER),
        ((Kind.CONNECT, Kind.RATE), Kind.RATE),
        ((Kind.MODEL, Kind.AUTH), Kind.SERVER),
    ],
)
def test_several_have_their_say(kinds: tuple[Kind, Kind], kind: Kind) -> None:
    failures = past(("box", Kind.RESET), ("box", kinds[0]), ("spare", kinds[1]))
    failures[1].failure.hint = "Do something."
    said = outcome(failures)
    assert said.kind is kind
    assert said.what == "every provider failed: box failed; spare failed"
    assert said.hint == "Do something."


@pytest.mark.parametrize(
    ("waits", "wait"),
    [((7.0, 9.0), 7.0), ((9.0, 7.0), 7.0), ((None, 7.0), 7.0), ((7.0, None), 7.0),
     ((None, None), None), ((0.0, 7.0), 0.0)],
)  # fmt: skip
def test_whoever_is_up_first_says_how_long_to_wait(
    waits: tuple[float | None, ...], wait: float | None
) -> None:
    pairs = zip(("box", "spare"), waits, strict=True)
    failures = [one for name, asks in pairs for one in past((name, Kind.RATE), after=asks)]
    assert outcome(failures).retry_after == wait


@pytest.mark.parametrize(
    ("name", "what", "said"),
    [
        ("b", "127.0.0.1:1 broke the connection", "b: 127.0.0.1:1 broke the connection"),
        ("b", "b broke the connection", "b broke the connection"),
        ("b", "there is no key for b", "there is no key for b"),
        ("box", "inbox is full", "box: inbox is full"),
        ("box", "box-2 is full", "box: box-2 is full"),
        ("box", "box: no (500)", "box: no (500)"),
        ("a.b", "axb failed", "a.b: axb failed"),
    ],
)
def test_each_is_named_once(name: str, what: str, said: str) -> None:
    failures = [Past("spare", Failure(Kind.RESET, "spare failed"))]
    failures.append(Past(name, Failure(Kind.RESET, what)))
    assert outcome(failures).what == f"every provider failed: spare failed; {said}"


# --- A split of the traffic -----------------------------------------------------------------------

WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 100), max_size=4)


@settings(deadline=None)
@given(WEIGHTS, st.text(max_size=20))
def test_a_conversation_stays_with_who_has_a_weight(
    weights: dict[str, float], conversation: str
) -> None:
    chosen = share(weights, conversation)
    assert chosen == share(dict(weights), conversation)
    heavy = [name for name, weight in weights.items() if weight > 0]
    assert chosen in heavy if heavy else chosen == ""


def test_nobody_has_a_weight() -> None:
    assert share({}, "x") == share({"box": 0.0, "spare": -1.0}, "x") == ""


def test_the_shares_are_what_the_weights_say() -> None:
    weights = {"box": 10.0, "spare": 30.0, "third": 60.0, "fourth": 0.0}
    got = Counter(share(weights, f"conversation {number}") for number in range(20_000))
    assert sum(got.values()) == 20_000
    for name, weight in weights.items():
        assert abs(got[name] / 20_000 - weight / 100) < 0.02


@settings(deadline=None)
@given(st.text(max_size=20), st.lists(st.floats(0, 100), min_size=2, max_size=6))
def test_who_grows_keeps_what_it_has(conversation: str, stages: list[float]) -> None:
    """The stages of a migration: nobody goes back."""
    moved = False
    for stage in sorted(stages):
        chosen = share({"new": stage, "old": 100 - stage}, conversation)
        assert not (moved and chosen == "old")
        moved = chosen == "new"
