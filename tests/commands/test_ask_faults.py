"""`holychat ask` while providers fail: what the shell gets. The whole matrix is the engine's
(`tests/engine/test_matrix.py`); here are some of its cells through the real process."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from holychat import settings as rules
from holychat.core.chat import Done, Finish
from holychat.engine.session import Session
from tests.faults import TEXT, Faulty, Strike
from tests.process import KEY, Place
from tests.provider import on_loop, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.process import Ended

BEGUN = ("middle", "last")  # phases in which some of the answer is out
TIMERS = "timeouts.headers = 1.0\ntimeouts.first = 1.0\ntimeouts.gap = 1.0\n"
CELLS = [
    ("down", "connect"),
    ("time-out", "headers"),
    ("limit", "middle"),
    ("reset", "middle"),
    ("down", "middle"),
    ("limit", "last"),
    ("reset", "done"),
    ("slicing", "headers"),
]


class Case:
    """One process with two servers of its own."""

    def __init__(self, place: Place, box: Faulty, spare: Faulty) -> None:
        self.place = place
        self.box = box
        self.spare = spare

    async def ask(self, *arguments: str) -> Ended:
        ended = await self.place.run("ask", *arguments, "explain it")
        assert "Traceback" not in ended.err
        assert KEY not in ended.err + ended.text
        assert self.box.strayed == self.spare.strayed == []
        return ended

    async def json(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        ended = await self.ask("--json", *arguments)
        turn: dict[str, Any] = json.loads(ended.out)
        assert TEXT.startswith(turn["text"])
        assert turn["complete"] == (ended.code == 0)
        assert not turn["complete"] or turn["text"] == TEXT
        return ended.code, turn


@asynccontextmanager
async def case(
    root: Path,
    on_cut: str = "continue",
    strike: Strike | None = None,
    times: int = 1,
    timers: str = TIMERS,
) -> AsyncIterator[Case]:
    root.mkdir()  # noqa: ASYNC240 - a scratch folder
    async with Faulty() as box, Faulty(seed=1) as spare:
        place = Place(root)
        place.provider(
            box.base_url,
            f'[providers.spare]\nbase_url = "{spare.base_url}"\nmodel = "spare-model"',
            f'on_cut = "{on_cut}"\nfailover.providers = "spare"\n{timers}',
        )
        place.environ["SPARE_API_KEY"] = KEY
        if strike and strike.phase == "connect":
            await box.down()
        elif strike:
            box.strikes = [strike] * times
        yield Case(place, box, spare)


def asked(turn: dict[str, Any]) -> list[str]:
    return [one["provider"] for one in turn["attempts"]]


@pytest.mark.parametrize(("fault", "phase"), CELLS)
@on_loop
async def test_an_answer_that_is_struck(tmp_path: Path, fault: str, phase: str) -> None:
    strike = Strike(fault, phase)
    harmless = fault in ("latency", "slicing") or phase == "done"
    begun = phase in BEGUN and not harmless

    async def shown(on_cut: str) -> Ended:
        async with case(tmp_path / on_cut, on_cut, strike) as the:
            return await the.ask()

    async def told() -> tuple[int, dict[str, Any]]:
        async with case(tmp_path / "json", strike=strike) as the:
            return await the.json()

    gone_on, stopped, anew, (code, turn) = await asyncio.gather(
        shown("continue"), shown("stop"), shown("restart"), told()
    )
    assert (gone_on.code, gone_on.text) == (0, TEXT)
    assert (code, turn["text"], turn["finish"], turn["error"]) == (0, TEXT, "stop", None)
    assert asked(turn)[0] == "box"
    assert len(turn["attempts"]) == (1 if harmless else 3 if fault == "down" else 2)
    assert len(turn["seams"]) == begun
    if not begun:
        assert (stopped.code, stopped.text, anew.code, anew.text) == (0, TEXT, 0, TEXT)
        return
    part = TEXT[: turn["seams"][0]]
    assert stopped.code == 5
    assert TEXT.startswith(stopped.text.removesuffix("\n"))
    assert stopped.text.removesuffix("\n") == part.removesuffix("\n")
    assert "cut off" in stopped.err
    assert (anew.code, anew.text) == (0, part + "\n" * (not part.endswith("\n")) + TEXT)


@pytest.mark.parametrize(
    ("fault", "phase", "code"),
    [("limit", "middle", 5), ("reset", "headers", 4)],
)
@on_loop
async def test_no_failover_holds_in_mid_answer_too(
    tmp_path: Path, fault: str, phase: str, code: int
) -> None:
    """Who was chosen is asked once more, and nobody else is."""

    async def alone(name: str, times: int) -> tuple[int, dict[str, Any]]:
        async with case(tmp_path / name, strike=Strike(fault, phase), times=times) as the:
            ended = await the.json("--no-failover")
            assert the.spare.connections == 0
            return ended

    once, twice = await asyncio.gather(alone("once", 1), alone("twice", 2))
    assert (once[0], once[1]["text"], asked(once[1])) == (0, TEXT, ["box", "box"])
    assert (twice[0], twice[1]["complete"], asked(twice[1])) == (code, False, ["box", "box"])
    assert bool(twice[1]["text"]) == (phase == "middle")
    assert twice[1]["error"]["kind"]


@pytest.mark.parametrize(("phase", "code"), [("headers", 4), ("first", 4), ("middle", 5)])
@on_loop
async def test_everybody_fails(tmp_path: Path, phase: str, code: int) -> None:
    async def ended(name: str, *arguments: str) -> Ended:
        async with case(tmp_path / name) as the:
            the.box.always = the.spare.always = Strike("limit", phase)
            return await the.ask(*arguments)

    plain, told = await asyncio.gather(ended("plain"), ended("json", "--json"))
    turn = json.loads(told.out)
    assert (plain.code, told.code) == (code, code)
    assert "every provider failed" in plain.err
    assert asked(turn) == ["box", "box", "spare", "spare"]
    assert plain.text.removesuffix("\n") == turn["text"].removesuffix("\n")
    assert TEXT.startswith(turn["text"])
    assert bool(turn["text"]) == (phase == "middle")


@on_loop
async def test_a_kill_between_attempt_and_continuation_leaves_a_turn_to_go_on_with(
    tmp_path: Path,
) -> None:
    async with case(tmp_path / "x", timers="") as the:
        the.box.strikes = [Strike("limit", "middle"), Strike("time-out", "headers")]
        async with the.place.start("ask", "explain it") as running:
            await until(lambda: len(the.box.requests) == 2, 20)
            await asyncio.sleep(0.5)  # what is said is on the disk within 0.3 s
            running.process.kill()
            ended = await running.end()
        assert ended.code == -9
        before = ended.text
        assert 0 < len(before) < len(TEXT)

        whole = rules.load(environ=the.place.environ, cwd=the.place.work)
        session = Session(whole, the.place.environ)
        try:
            chat = await session.resumed()
            assert chat.last is not None
            assert not chat.last.finish.complete
            assert chat.last.text
            assert before.startswith(chat.last.text)
            async with aclosing(chat.carry_on()) as events:
                last = [event async for event in events][-1]
            assert isinstance(last, Done)
            assert (last.turn.text, last.turn.finish) == (TEXT, Finish.STOP)
        finally:
            await session.aclose()
        session = Session(whole, the.place.environ)
        try:  # and so it is kept
            chat = await session.resumed()
            assert [each.prompt for each in chat.exchanges] == ["explain it"]
            assert chat.exchanges[0].turn.text == TEXT
        finally:
            await session.aclose()
        assert the.box.strayed == []
