"""The staged move from one provider to another: its stages, their gates, what follows what.

Owns these rules as values and their transitions; the shares by stage are the seed documents'. Time
comes in as Unix time in milliseconds, figures as the store counted them. Must not know SQL, and
nobody here chooses a provider: `weights` says the shares, `core.route.share` places by them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any

from holychat.core.breaker import number, text
from holychat.core.failure import Kind, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = 1
ASSESS, SHADOW, DONE, BACK = "assess", "shadow", "done", "back"
SHARES = {"10": 10.0, "25": 25.0, "50": 50.0, "100": 100.0}  # percent that the new one gets
FULL = "100"
STAGES = (ASSESS, SHADOW, *SHARES, DONE, BACK)
HOUR = 3_600_000
LOOKBACK = 30 * 24 * HOUR  # what counts as usage, and as the old one's figures before the start
COMPARED_WORDS = 400  # comparing takes the square of it: 0.1 s
NO_FAULT = (Kind.PASSED.value, Kind.IGNORED.value)  # what the user or we wanted otherwise


ROW = 2  # failures that may be chance, however little was asked


@dataclass(frozen=True, slots=True)
class Terms:
    """When a stage is passed; see the settings `migrate.*`."""

    sample: int = 30
    errors: float = 0.02
    slower: float = 0.25
    settle: float = 48.0  # hours
    look: float = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt as the store has it; seconds and tokens, None where nobody knows."""

    finish: str
    kind: str = ""
    first: float | None = None
    total: float | None = None
    tokens: int | None = None
    cost: int | None = None  # 10^-12 US dollars


@dataclass(frozen=True, slots=True)
class Figures:
    """What a provider did. `count` leaves out what the user stopped before anything came.

    `first50`, `first95` and `total50` are seconds, `tokens` those of a mean answer. `cost` is that
    of a mean answer with its prompt, in US dollars; None where no price is known.
    """

    count: int = 0
    failed: int = 0
    whole: int = 0  # answers that came to their own end
    first50: float | None = None
    first95: float | None = None
    total50: float | None = None
    tokens: float | None = None
    cost: float | None = None

    @property
    def rate(self) -> float:
        return self.failed / (self.count or 1)


@dataclass(frozen=True, slots=True)
class Compared:
    """Both providers' figures. `earlier`: the old one's are of the last 30 days, because too
    little came from it in the stage itself."""

    old: Figures = Figures()
    new: Figures = Figures()
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike the shadow's answers were to those that were shown: `total` is a sum of `count`
    ratios from 0 to 1."""

    count: int = 0
    total: float = 0.0
    least: float = 1.0

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def plus(self, ratio: float) -> Likeness:
        return Likeness(self.count + 1, self.total + ratio, min(self.least, ratio))


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision: what was done, from which stage to which, why, and the figures at that time."""

    at: int
    what: str  # start, next, rollback, automatic rollback, finish; forced
    left: str
    stage: str
    why: str = ""
    compared: Compared = field(default_factory=Compared)


@dataclass(frozen=True, slots=True)
class Migration:
    """From `old` to `new`. `shadow` is the share of the prompts that is copied, 0 for none.

    `said` is what the settings said when it ended: an end stands in for them until they change.
    """

    old: str
    new: str
    stage: str = ASSESS
    since: int = 0  # when the stage began
    shadow: float = 0.0
    looked: int = 0
    revision: int = 1
    said: str = ""
    likeness: Likeness = Likeness()
    entries: tuple[Entry, ...] = ()

    @property
    def running(self) -> bool:
        return self.stage not in (DONE, BACK)

    @property
    def percent(self) -> float:
        """What the new one gets."""
        return 100.0 if self.stage == DONE else SHARES.get(self.stage, 0.0)

    @property
    def following(self) -> str:
        """The stage after this one; empty at the end."""
        steps = [ASSESS, *([SHADOW] if self.shadow else []), *SHARES, DONE]
        return dict(pairwise(steps)).get(self.stage, "")


def named(state: Migration) -> str:
    """The stage in words, at the beginning of a sentence."""
    words = {ASSESS: "The assessment", SHADOW: "The shadow", DONE: "Done", BACK: "Rolled back"}
    return words.get(state.stage, f"The stage of {state.stage} %")


def started(old: str, new: str, shadow: float, now: int) -> Migration:
    """Raises UsageError for what is no move."""
    if old == new:
        raise UsageError(f"a move from {old} to itself is none")
    if not 0 <= shadow <= 1:
        raise UsageError("--shadow takes a share from 0 to 1, like 0.05")
    entry = Entry(now, "start", "", ASSESS)
    return Migration(old, new, since=now, shadow=shadow, entries=(entry,))


def weights(state: Migration | None, said: str) -> dict[str, float]:
    """Who gets which share; empty where the settings hold. The new one first: as its share grows
    it keeps the conversations that it has. `said` is what the settings say now."""
    if state is None or state.stage in (ASSESS, SHADOW):
        return {}
    if not state.running and state.said != said:
        return {}
    return {state.new: state.percent, state.old: 100.0 - state.percent}


# --- Figures --------------------------------------------------------------------------------------


def figures(calls: Sequence[Call]) -> Figures:
    """The calls of one provider in one window."""
    stopped = ("interrupted",)
    told = [
        call
        for call in calls
        if call.kind not in NO_FAULT and (call.finish not in stopped or call.first is not None)
    ]
    answers = [call for call in told if not call.kind]
    firsts = sorted(call.first for call in answers if call.first is not None)
    whole = [call for call in answers if call.finish == "stop"]
    totals = sorted(call.total for call in whole if call.total is not None)
    tokens = [call.tokens for call in whole if call.tokens is not None]
    costs = [call.cost for call in whole if call.cost is not None]
    return Figures(
        len(told),
        len(told) - len(answers),
        len(whole),
        percentile(firsts, 0.5),
        percentile(firsts, 0.95),
        percentile(totals, 0.5),
        sum(tokens) / len(tokens) if tokens else None,
        sum(costs) / len(costs) / 10**12 if costs else None,
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """By nearest rank, so that it is one that was measured; None of nothing."""
    if not ordered:
        return None
    return ordered[min(max(ceil(share * len(ordered)), 1), len(ordered)) - 1]


def alike(one: str, other: str) -> float:
    """How alike two answers are, from 0 to 1, by their words; of long ones the beginning."""
    from difflib import SequenceMatcher

    mine, its = (text.split()[:COMPARED_WORDS] for text in (one, other))
    return SequenceMatcher(None, mine, its, autojunk=False).ratio()


# --- Gates ----------------------------------------------------------------------------------------


def missing(state: Migration, compared: Compared, terms: Terms, now: int) -> list[str]:
    """Why the stage is not passed yet, in sentences without an end; empty where it is."""
    if not state.running:
        return []
    why = [_few(state.old, compared.old, terms)]
    if state.stage != ASSESS:
        few = _few(state.new, compared.new, terms)
        why += [few] if few else _worse(state, compared, terms)
    if state.stage == FULL and (now - state.since) / HOUR < terms.settle:
        hours = max(0.0, (now - state.since) / HOUR)
        why.append(f"100 % holds for {hours:.0f} of {terms.settle:g} hours")
    return [each for each in why if each]


def _few(name: str, found: Figures, terms: Terms) -> str:
    if found.count >= terms.sample:
        return ""
    return f"{name} has {found.count} of the {terms.sample} calls that are needed to compare"


def _worse(state: Migration, compared: Compared, terms: Terms) -> list[str]:
    old, new = compared.old, compared.new
    why = [_failing(state, compared, terms)]
    for what, unit, mine, its in (
        ("first token, p50", "{:.2f} s", new.first50, old.first50),
        ("first token, p95", "{:.2f} s", new.first95, old.first95),
        ("cost of an answer", "{:.5f} USD", new.cost, old.cost),
    ):
        if mine is not None and its is not None and mine > its * (1 + terms.slower):
            its_said = f"{unit.format(its)} at {state.old}"
            why.append(f"{what}: {unit.format(mine)} at {state.new}, {its_said}")
    return why


def _failing(state: Migration, compared: Compared, terms: Terms) -> str:
    old, new = compared.old, compared.new
    if not new.count or new.rate <= old.rate + terms.errors:
        return ""
    return (
        f"{100 * new.rate:.1f} % of {new.count} calls failed at {state.new},"
        f" {100 * old.rate:.1f} % of {old.count} at {state.old}"
    )


def broken(state: Migration, compared: Compared, terms: Terms) -> str:
    """Why it must be rolled back; empty where it need not. Only while it has a share.

    Failures do not wait for a whole sample where there are more of them already than it may have:
    who is asked little because it fails would never have one. What the user went past by force
    does not roll back, but for failures.
    """
    new = compared.new
    if state.stage not in SHARES:
        return ""
    if new.count < terms.sample:
        allowed = (compared.old.rate + terms.errors) * terms.sample
        return _failing(state, compared, terms) if new.failed > max(ROW, allowed) else ""
    if state.entries and state.entries[-1].what.endswith("forced"):
        return _failing(state, compared, terms)
    return "; ".join(filter(None, _worse(state, compared, terms)))


# --- What can happen to it ------------------------------------------------------------------------


def advanced(
    state: Migration, compared: Compared, terms: Terms, now: int, *, said: str, force: bool = False
) -> Migration:
    """The next stage. Raises UsageError where its gate is not passed, unless by `force`."""
    _must_run(state)
    why = missing(state, compared, terms, now)
    if why and not force:
        reasons = "".join(f"\n  {each}" for each in why)
        raise UsageError(f"{named(state)} is not passed yet:{reasons}", "--force goes on.")
    to = state.following
    what = "finish" if to == DONE else "next"
    return _moved(
        state, to, f"{what}, forced" if why else what, "; ".join(why), compared, now, said
    )


def rolled_back(
    state: Migration, why: str, compared: Compared, now: int, *, said: str, by_itself: bool = False
) -> Migration:
    """Nothing goes to the new one any more. Raises UsageError where that is so already."""
    if state.stage == BACK:
        raise UsageError("the migration is rolled back already")
    what = "automatic rollback" if by_itself else "rollback"
    return _moved(state, BACK, what, why, compared, now, said)


def _must_run(state: Migration) -> None:
    if not state.running:
        ended = "done" if state.stage == DONE else "rolled back"
        raise UsageError(f"the migration is {ended}", "`holychat migrate start` begins another.")


def _moved(
    state: Migration, to: str, what: str, why: str, compared: Compared, now: int, said: str
) -> Migration:
    entry = Entry(now, what, state.stage, to, why, compared)
    ended = said if to in (DONE, BACK) else ""
    return replace(
        state,
        stage=to,
        since=now,
        looked=now,
        revision=state.revision + 1,
        said=ended,
        entries=(*state.entries, entry),
    )


# --- As JSON --------------------------------------------------------------------------------------


def as_json(state: Migration) -> dict[str, Any]:
    """Plain values, as `json` writes them."""
    return {"version": VERSION, **asdict(state)}


def from_json(obj: Any) -> Migration:
    """The migration that was written. Raises ValueError for anything else, also for one of a
    newer holychat: a move is not to be steered by half of what is known of it."""
    try:
        if obj["version"] != VERSION or obj["stage"] not in STAGES:
            raise ValueError("of another version")
        return Migration(
            text(obj["old"]),
            text(obj["new"]),
            obj["stage"],
            int(number(obj["since"])),
            number(obj["shadow"]),
            int(number(obj["looked"])),
            int(number(obj["revision"])),
            text(obj["said"]),
            Likeness(**_numbers(obj["likeness"])),
            tuple(_entry(each) for each in obj["entries"]),
        )
    except (TypeError, LookupError) as error:
        raise ValueError("no migration") from error


def _entry(obj: Any) -> Entry:
    compared = obj["compared"]
    both = Compared(
        Figures(**_numbers(compared["old"])),
        Figures(**_numbers(compared["new"])),
        bool(compared["earlier"]),
    )
    what, left, stage, why = (text(obj[name]) for name in ("what", "left", "stage", "why"))
    return Entry(int(number(obj["at"])), what, left, stage, why, both)


def _numbers(obj: Mapping[str, Any]) -> dict[str, Any]:
    for value in obj.values():
        if value is not None:
            number(value)
    return dict(obj)
