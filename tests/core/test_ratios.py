"""The estimates beside the counts of real tokenizers, while conversations are replayed.

The claim: after 20 turns the median relative error is under 10 %, for the text of each answer and
for each whole request, whatever the tokenizer and the order of the turns. Each conversation takes
up to 8 turns, of any language or kind; one value learns through all of them, as a model's does.
`pytest -rP` prints the errors, those of the documented ratios among them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from statistics import median, quantiles

import pytest

from holychat.core.tokens import DOCUMENTED, NOTHING, Counts, Ratios, features, learn
from tests.core.turns import deepseek, recorded, turns

TOKENIZERS = ("cl100k", "o200k", "deepseek", "claude2", "tekken")
SEEDS = range(8)
LEARNED = 20  # turns after which the claim holds
A_MESSAGE, A_REQUEST = 3, 3  # what the servers played here add, by OpenAI's cookbook


@cache
def counted() -> dict[str, list[tuple[int, int]]]:
    return recorded()


@cache
def known() -> list[tuple[Counts, Counts]]:
    return [(features(turn.user), features(turn.answer)) for turn in turns()]


@dataclass
class Errors:
    """Relative errors, turn by turn."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def note(self, ratios: Ratios, counts: Counts, messages: int, true: int) -> None:
        self.before.append(abs(DOCUMENTED.estimate(counts, messages) - true) / true)
        self.after.append(abs(ratios.estimate(counts, messages) - true) / true)

    def row(self, since: int) -> str:
        return " -> ".join(
            f"{median(one[since:]):5.1%} {quantiles(one[since:], n=10)[-1]:5.1%}"
            for one in (self.before, self.after)
        )


class Server:
    """Replays the turns in some order and says what its tokenizer counts."""

    def __init__(self, tokenizer: str, seed: int, hidden: int = 0, absurd: float = 0.0) -> None:
        self.tokens = counted()[tokenizer]
        self.random, self.hidden, self.absurd = random.Random(seed), hidden, absurd
        self.answers, self.requests = Errors(), Errors()

    def replay(self, ratios: Ratios = DOCUMENTED) -> Ratios:
        order = list(range(len(self.tokens)))
        self.random.shuffle(order)
        while order:
            length = self.random.randint(1, 8)
            conversation, order = order[:length], order[length:]
            ratios = self.converse(ratios, conversation)
        return ratios

    def converse(self, ratios: Ratios, conversation: list[int]) -> Ratios:
        history, true = NOTHING, A_REQUEST + self.hidden
        for place, turn in enumerate(conversation):
            user, answer = known()[turn]
            asked, answered = self.tokens[turn]
            history, true, messages = history + user, true + asked + A_MESSAGE, 2 * place + 1
            self.requests.note(ratios, history, messages, true)
            ratios = learn(ratios, history, messages, self.said(true))
            self.answers.note(ratios, answer, 0, answered)
            ratios = learn(ratios, answer, 0, self.said(answered))
            history, true = history + answer, true + answered + A_MESSAGE
        return ratios

    def said(self, true: int) -> int:
        if self.random.random() >= self.absurd:
            return true
        return self.random.choice([0, -5, 1, true * 100, true // 10, 10**9])


def show(name: str, servers: list[Server]) -> tuple[Errors, Errors]:
    """The errors over all orders, once each order had its 20 turns."""
    both = []
    for kind in ("answers", "requests"):
        every = Errors()
        for server in servers:
            one: Errors = getattr(server, kind)
            every.before += one.before[LEARNED:]
            every.after += one.after[LEARNED:]
        print(f"{name:9} {kind:9} {every.row(0)}")
        both.append(every)
    return both[0], both[1]


def test_there_are_turns_enough_and_the_recorded_counts_are_of_them() -> None:
    assert len(turns()) >= 60
    assert set(counted()) == set(TOKENIZERS)
    assert all(len(tokens) == len(turns()) for tokens in counted().values())


def test_the_counts_are_those_of_a_real_tokenizer() -> None:
    count = deepseek()
    assert counted()["deepseek"] == [(count(turn.user), count(turn.answer)) for turn in turns()]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_after_20_turns_the_median_error_is_under_10_percent(tokenizer: str) -> None:
    servers = [Server(tokenizer, seed) for seed in SEEDS]
    for server in servers:
        server.replay()
        assert median(server.answers.after[LEARNED:]) < 0.10
        assert median(server.requests.after[LEARNED:]) < 0.10
    for errors in show(tokenizer, servers):
        assert median(errors.after) < median(errors.before)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_hidden_prompt_and_absurd_reports_do_not_spoil_it(tokenizer: str) -> None:
    servers = [Server(tokenizer, seed, hidden=1200, absurd=0.1) for seed in SEEDS]
    for server in servers:
        server.replay()
    answers, requests = show(tokenizer, servers)
    assert median(answers.after) < 0.10
    assert median(requests.after) < 0.05 < 0.5 < median(requests.before)


@pytest.mark.parametrize(("old", "new"), [("claude2", "o200k"), ("deepseek", "cl100k")])
def test_a_changed_tokenizer_is_followed(old: str, new: str) -> None:
    servers = [Server(new, seed) for seed in SEEDS]
    for seed, server in zip(SEEDS, servers, strict=True):
        server.replay(Server(old, seed).replay())
    answers, requests = show(f"{new}*", servers)
    assert median(answers.after) < 0.12
    assert median(requests.after) < 0.10
