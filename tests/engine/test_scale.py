"""How models count: learned from what they report, kept for the next process."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from holychat.core.chat import Finish, Message, Request, Tried, Turn, Usage
from holychat.core.failure import Failure, Kind
from holychat.core.tokens import DOCUMENTED, request
from holychat.engine.scale import Scale
from holychat.store.recorder import Recorder
from tests.provider import on_loop

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "a question of some words, " * 10
ASKED = Request("m", (Message("user", WORDS),))
REAL = Usage(200, 50)  # three times what the documented ratios say


def turn(usage: Usage | None = REAL, **changes: object) -> Turn:
    tried = Tried("box", "m", Finish.STOP, usage=usage)
    whole = Turn("an answer " * 20, "", Finish.STOP, "box", "m", usage, attempts=(tried,))
    return replace(whole, **changes)  # type: ignore[arg-type]


@on_loop
async def test_what_is_learned_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    recorder = Recorder(path)
    scale = Scale(recorder)
    before = request([WORDS])
    for _ in range(20):
        scale.learn(ASKED, turn())
    recorder.close()
    recorder = Recorder(path)
    other = Scale(recorder)
    assert other.of("box", "m") == DOCUMENTED
    await other.load("box", "m")
    known = request([WORDS], other.of("box", "m"))
    recorder.close()
    assert before < 100
    assert known == pytest.approx(200, rel=0.1)
    assert other.of("box", "n") == DOCUMENTED
    assert scale.of("box", "m") == other.of("box", "m")


@on_loop
async def test_without_a_store_it_is_learned_for_this_run() -> None:
    scale = Scale(Recorder(None))
    await scale.load("box", "m")
    for _ in range(20):
        scale.learn(ASKED, turn())
    assert request([WORDS], scale.of("box", "m")) == pytest.approx(200, rel=0.1)


RETRIED = Tried("box", "m", Finish.CUT, usage=Usage(9, 9))
LAST = turn().attempts[0]


@pytest.mark.parametrize(
    "told",
    [
        turn(None),
        turn(Usage(200, 50, estimated=True)),
        turn(failure=Failure(Kind.CUT, "it ended"), finish=Finish.CUT),
        turn(attempts=(RETRIED, replace(LAST, at=9))),  # its prompt held half of an answer
        turn(attempts=(replace(LAST, role="hedge"),)),
        turn(attempts=()),
        turn(provider="demo"),
    ],
)
def test_what_nobody_counted_for_sure_teaches_nothing(told: Turn) -> None:
    scale = Scale(Recorder(None))
    scale.learn(ASKED, told)
    assert scale.of(told.provider, "m") == DOCUMENTED


def test_an_answer_with_hidden_thoughts_teaches_its_prompt_alone() -> None:
    known = []
    for changes in ({}, {"reasoning": "hm"}):
        scale = Scale(Recorder(None))
        scale.learn(ASKED, turn(**changes))
        known.append(scale.of("box", "m").reports)
    assert known == [2, 1]
