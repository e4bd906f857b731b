"""Where a turn goes: who is asked first, what follows a failure, and how long to wait before it.

Owns these rules and nothing else: time, chance and health come in as values. The law (product
side): before the first visible token the same provider is asked once more where that can help,
then the next; afterwards the answer is gone on with, by the same provider once, then by the next.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, NamedTuple

from holychat.core.failure import Failure, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OnCut = Literal["continue", "stop", "restart"]


class Rules(NamedTuple):
    """How much is tried. Times are in seconds.

    `wait` bounds what a turn waits in all; `patience` is what it waits for one provider while
    another one could be asked. The back-off is the usual one (full jitter): a random share of
    `base`, doubled with each attempt, at most `longest`.
    """

    on_cut: OnCut = "continue"
    attempts: int = 2  # at one provider
    providers: int = 3
    wait: float = 60.0
    patience: float = 5.0
    base: float = 0.5
    longest: float = 8.0
    held: bool = False  # nobody sees anything before the end: what came may be taken back


class Step(NamedTuple):
    """What comes next: who is asked, after how many seconds."""

    provider: str
    wait: float = 0.0


class Past(NamedTuple):
    """One attempt that failed."""

    provider: str
    failure: Failure


def step(
    names: Sequence[str],
    past: Sequence[Past],
    rules: Rules,
    *,
    said: bool,
    waited: float,
    chance: float,
) -> Step | None:
    """What follows the last attempt of `past`; None where the turn is over.

    `names` are the providers in the order in which they are asked; `said`: some of the answer is
    out; `waited`: seconds that went by in waiting so far; `chance`: a random number below 1.
    """
    if said and rules.on_cut == "stop":
        return None
    last = past[-1]
    other = following(names, past, rules)
    again = _again(past, rules) and last.failure.verdict.again
    if again:
        wait = _wait(last.failure, _count(past, last.provider), rules, chance)
        room = rules.wait - waited
        if wait <= (min(room, rules.patience) if other else room):
            return Step(last.provider, wait)
    if other and _may_leave(names, last):
        return Step(other)
    return None


def _again(past: Sequence[Past], rules: Rules) -> bool:
    return _count(past, past[-1].provider) < rules.attempts


def _count(past: Sequence[Past], name: str) -> int:
    """A prefix that was ignored is asked for in words, once: that is the same attempt."""
    kinds = [one.failure.kind for one in past if one.provider == name]
    return len(kinds) - (Kind.IGNORED in kinds)


def following(names: Sequence[str], past: Sequence[Past], rules: Rules) -> str:
    """The next provider that was not asked yet; "" where there is none, or enough of them were."""
    asked = {one.provider for one in past}
    if len(asked) >= rules.providers:
        return ""
    return next((name for name in names if name not in asked), "")


def _may_leave(names: Sequence[str], last: Past) -> bool:
    """What is wrong with a request at the provider that the user chose is the user's to know;
    what a substitute does not like about it, another one may."""
    return last.failure.verdict.elsewhere or last.provider != names[0]


def _wait(failure: Failure, attempts: int, rules: Rules, chance: float) -> float:
    """Seconds before the same provider is asked again: what it asked for, else the back-off."""
    if failure.retry_after is not None:
        return failure.retry_after
    return chance * min(rules.longest, rules.base * 2.0**attempts)


def outcome(past: Sequence[Past]) -> Failure:
    """The failure of the whole turn, in which every provider has its say."""
    last = past[-1].failure
    firsts = {one.provider: one.failure for one in past}  # the last one of each
    if len(firsts) == 1:
        return last
    said = "; ".join(_named(name, failure.what) for name, failure in firsts.items())
    # Wrong keys all over are a matter of configuration; anything else is a bad day.
    kinds = {failure.kind for failure in firsts.values()}
    kind = last.kind if len(kinds) == 1 or last.kind is not Kind.AUTH else Kind.SERVER
    hint = next((failure.hint for failure in firsts.values() if failure.hint), "")
    asked = [one.retry_after for one in firsts.values() if one.retry_after is not None]
    return Failure(
        kind,
        f"every provider failed: {said}",
        hint,
        status=last.status,
        retry_after=min(asked, default=None),  # whoever is up first can be asked then
    )


def _named(name: str, what: str) -> str:
    """With the provider's name, which may be a word of the sentence, or a part of one."""
    if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", what):
        return what
    return f"{name}: {what}"


def share(weights: Mapping[str, float], conversation: str) -> str:
    """The provider of a conversation in a split of the traffic; "" where nobody has a weight.

    The same one each time and in each process, by a hash of the conversation's id. Whoever's
    weight grows keeps the conversations that it has, where the order of the names stays the same
    and the first one is who grows.
    """
    heavy = {name: weight for name, weight in weights.items() if weight > 0}
    total = sum(heavy.values())
    digest = blake2b(conversation.encode("utf-8", "replace"), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64 * total
    for name, weight in heavy.items():
        if place < weight:
            return name
        place -= weight
    return next(reversed(heavy), "")
