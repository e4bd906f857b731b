"""Faults x phases x `on_cut`: what becomes of an answer whose connection does not hold.

Every cell is a turn of the engine against two real servers, `box` and `spare`, who know the same
answer and go on with it truly wherever it was cut. A hang is a test that takes `PATIENT` seconds.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from holychat.core.chat import Attempt, Delta, Done, Event, Failed, Finish, Turn
from holychat.core.failure import Kind
from holychat.core.provider import Provider, Secret
from holychat.core.route import OnCut, Rules
from holychat.engine.conversation import Chat
from holychat.engine.failover import Candidate
from holychat.net.client import Client, Timers
from tests.faults import ENDS, FAULTS, PACES, TEXT, Faulty, Link, Strike
from tests.provider import on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENT = 20.0
SHORT = 0.2  # seconds of a timer that is to strike
TLS = Path(__file__).parents[1] / "net" / "tls"
PHASES = ("headers", "first", "middle", "last", "done")
ON_CUT: tuple[OnCut, ...] = ("continue", "stop", "restart")
DIALECTS = ("plain", "deepseek", "mistral", "vllm", "llamacpp")
# The timer of a phase, and the failure that it makes.
TIMERS: dict[str, tuple[str, Kind]] = {
    "connect": ("connect", Kind.TIMEOUT_CONNECT),
    "idle": ("headers", Kind.TIMEOUT_HEADERS),
    "headers": ("headers", Kind.TIMEOUT_HEADERS),
    "first": ("first", Kind.TIMEOUT_FIRST),
    "middle": ("gap", Kind.STALL),
    "last": ("gap", Kind.STALL),
    "done": ("gap", Kind.STALL),
}


class Cell(NamedTuple):
    """What is struck: once, twice in a row, or whenever somebody is asked."""

    fault: str
    phase: str
    on_cut: OnCut = "continue"
    often: str = "once"

    def __str__(self) -> str:
        return "-".join(self).replace(" ", "-")


class Expected(NamedTuple):
    asked: tuple[str, ...]
    finish: Finish = Finish.STOP


@dataclass
class World:
    chat: Chat
    box: Faulty
    spare: Faulty
    events: list[Event] = field(default_factory=list)

    async def say(self) -> Turn:
        self.events.clear()
        async with asyncio.timeout(PATIENT), aclosing(self.chat.send("explain it")) as events:
            async for each in events:
                self.events.append(each)
        assert isinstance(self.events[-1], Done)
        return self.events[-1].turn

    @property
    def asked(self) -> tuple[str, ...]:
        return tuple(each.provider for each in self.events if isinstance(each, Attempt))

    @property
    def kinds(self) -> list[Kind]:
        return [each.failure.kind for each in self.events if isinstance(each, Failed)]

    @property
    def spoken(self) -> str:
        """What a reader has before them; the first word of an answer that begins anew wipes it."""
        text, anew = "", False
        for each in self.events:
            if isinstance(each, Attempt):
                anew = not each.partial
            elif isinstance(each, Delta) and each.text:
                text, anew = each.text if anew else text + each.text, False
        return text


@asynccontextmanager
async def world(
    *,
    dialect: str = "plain",
    rules: Rules | None = None,
    timers: Timers | None = None,
    link: Link | None = None,
    seed: int = 0,
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        box = await stack.enter_async_context(Faulty(seed=seed))
        spare = await stack.enter_async_context(Faulty(seed=seed + 1))
        client = Client(timers or Timers(PATIENT, PATIENT, PATIENT, PATIENT))
        stack.push_async_callback(client.aclose)
        at, ca = (link.base_url, str(TLS / "ca.pem")) if link else (box.base_url, "")
        first = Provider("box", at, "m", Secret("sk-0123456789abcdef"), dialect, ca=ca)
        other = Provider("spare", spare.base_url, "n", Secret("sk-fedcba9876543210"))

        async def resolve(_: str) -> Candidate:
            return Candidate(other, "n")

        chat = Chat(client, first, "m", rules=rules or Rules(base=0.01), resolve=resolve)
        chat.others = lambda _: ["spare"]
        yield World(chat, box, spare)


def timers(cell: Cell) -> Timers:
    """Long ones, but for the one that is to strike: no machine is slow enough to meet another."""
    patient = Timers(PATIENT, PATIENT, PATIENT, PATIENT)
    if cell.fault != "time-out":
        return patient
    short = {TIMERS[cell.phase][0]: SHORT}
    if cell.phase == "last":  # who goes on has nothing to say before it is silent
        short["first"] = SHORT
    return replace(patient, **short)


def expected(cell: Cell) -> Expected:
    """The law: who is asked, and how it ends."""
    if cell.fault in PACES or cell.phase == "done":
        return Expected(("box",))
    if cell.phase in ("middle", "last") and cell.on_cut == "stop":
        return Expected(("box",), Finish.CUT)
    if cell.often == "ever":
        text = cell.phase in ("middle", "last")
        return Expected(("box", "box", "spare", "spare"), Finish.CUT if text else Finish.FAILED)
    gone = cell.fault == "down"  # who is down is down the next time, too
    return Expected(("box", "box", "spare") if gone or cell.often == "twice" else ("box", "box"))


def judged(the: World, turn: Turn, cell: Cell, want: Expected) -> None:
    """What holds for every cell, and what is expected of this one."""
    assert the.asked == want.asked
    assert turn.finish is want.finish
    assert (turn.failure is None) == (turn.finish is Finish.STOP)
    assert the.box.strayed == the.spare.strayed == []
    assert TEXT.startswith(turn.text)
    assert turn.finish is not Finish.STOP or turn.text == TEXT
    assert turn.finish is not Finish.CUT or turn.text
    assert the.spoken == turn.text
    assert [one.provider for one in turn.attempts] == list(want.asked)
    assert [one.finish.complete for one in turn.attempts[:-1]] == [False] * (len(want.asked) - 1)
    assert turn.attempts[-1].finish is want.finish or turn.attempts[-1].finish is Finish.FAILED
    assert all(TEXT[:at] and at <= len(turn.text) for at in turn.seams)
    said = cell.phase in ("middle", "last") and cell.fault in ENDS
    gone_on = said and cell.on_cut == "continue" and len(want.asked) > 1
    assert bool(turn.seams) == gone_on
    if cell.fault == "time-out" and cell.phase != "done":
        assert the.kinds[0] is TIMERS[cell.phase][1]
        assert set(the.kinds) <= {Kind.TIMEOUT_FIRST, TIMERS[cell.phase][1]}


def cells() -> list[Cell]:
    every = [
        Cell(fault, phase, on_cut) for fault in FAULTS for phase in PHASES for on_cut in ON_CUT
    ]
    for fault in ENDS:
        for phase in PHASES[:-1]:
            for on_cut in ON_CUT if fault != "time-out" else ON_CUT[:1]:
                every += [Cell(fault, phase, on_cut, often) for often in ("twice", "ever")]
    # It takes 2 s, and there is nothing left to be cut.
    return [cell for cell in every if cell[:2] != ("time-out", "done") or cell.on_cut == "continue"]


def framed() -> list[Any]:
    """The end of the connection is the end of the body, or is not; a silence takes its time."""
    both = [fault for fault in ENDS if fault != "time-out"]
    every = [(cell, framing) for cell in cells() for framing in ("chunked", "to the end")]
    return [
        pytest.param(cell, each) for cell, each in every if each == "chunked" or cell.fault in both
    ]


@pytest.mark.parametrize(("cell", "framing"), framed(), ids=str)
@on_loop
async def test_an_answer_that_is_struck(cell: Cell, framing: str) -> None:
    rules = Rules(cell.on_cut, base=0.01)
    async with world(rules=rules, timers=timers(cell)) as the:
        strike = Strike(cell.fault, cell.phase)
        the.box.chunked = the.spare.chunked = framing == "chunked"
        if cell.often == "ever":
            the.box.always = the.spare.always = strike
        else:
            the.box.strikes = [strike] * (1 + (cell.often == "twice"))
        turn = await the.say()
    judged(the, turn, cell, expected(cell))


def astray(text: str) -> str:
    """Where a text that was to be the whole one is another: for a reader of the failure."""
    pairs = zip(text + "\0", TEXT + "\0", strict=False)
    at = next((at for at, (one, other) in enumerate(pairs) if one != other), None)
    return "" if at is None else f"{text[max(0, at - 30) : at]!r} ... {text[at : at + 40]!r}"


# --- While the connection comes about -------------------------------------------------------------


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem")
    return context


HANDSHAKE = 100  # a byte of what a server says before there is a connection


@pytest.mark.parametrize("often", ["once", "twice"])
@pytest.mark.parametrize("on_cut", ON_CUT)
@pytest.mark.parametrize("fault", FAULTS)
@on_loop
async def test_a_handshake_that_is_struck(fault: str, on_cut: OnCut, often: str) -> None:
    cell = Cell(fault, "connect", on_cut, often)
    rules = Rules(on_cut, base=0.01)
    async with (
        Faulty(ssl=server_tls()) as behind,
        Link(behind.port) as link,
        world(rules=rules, timers=timers(cell), link=link) as the,
    ):
        link.strikes = [Strike(fault, at=HANDSHAKE)] * (1 + (often == "twice"))
        turn = await the.say()
    judged(the, turn, cell, expected(cell))


@pytest.mark.parametrize("often", ["once", "twice"])
@pytest.mark.parametrize("on_cut", ON_CUT)
@pytest.mark.parametrize("fault", ["down", "reset", "limit", "slow close"])
@on_loop
async def test_a_connection_that_breaks_before_the_request(
    fault: str, on_cut: OnCut, often: str
) -> None:
    cell = Cell(fault, "connect", on_cut, often)
    async with world(rules=Rules(on_cut, base=0.01)) as the:
        if fault == "down":
            await the.box.down()
        the.box.strikes = [Strike(fault, "connect")] * (1 + (often == "twice"))
        turn = await the.say()
    judged(the, turn, cell, expected(cell))


# --- An idle connection, used once more -----------------------------------------------------------


@pytest.mark.parametrize("on_cut", ON_CUT)
@pytest.mark.parametrize("fault", FAULTS)
@on_loop
async def test_an_idle_connection_that_is_struck(fault: str, on_cut: OnCut) -> None:
    cell = Cell(fault, "idle", on_cut)
    async with world(rules=Rules(on_cut, base=0.01), timers=timers(cell)) as the:
        the.box.strikes = [None, Strike(fault, "idle")]
        assert (await the.say()).text == TEXT
        turn = await the.say()
    # A connection that the server closed while it was idle is nobody's failure: not an attempt.
    gone = {"down": ("box", "box", "spare"), "time-out": ("box", "box")}
    judged(the, turn, cell, Expected(gone.get(fault, ("box",))))
    fresh = fault in ENDS and fault != "down"
    assert the.box.connections == 1 + fresh


# --- Not a word too few, not a word too many ------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dialect", DIALECTS)
@on_loop
async def test_wherever_it_is_cut_it_is_whole(dialect: str, seed: int) -> None:
    """Cut three times at any byte, of an event, a character or a chunk's frame; each time gone on
    with truly."""
    chance = random.Random(f"{dialect} {seed}")
    async with world(dialect=dialect, rules=Rules(base=0.001, attempts=5), seed=seed) as the:
        size = the.box.wire(TEXT).places["done"]
        for _ in range(20):
            the.box.chunked = chance.random() < 0.5
            faults = [chance.choice(["reset", "limit"]) for _ in range(3)]
            the.box.strikes = [Strike(fault, at=chance.randrange(size)) for fault in faults]
            where = list(the.box.strikes)
            turn = await the.say()
            assert astray(turn.text) == "", (where, the.kinds, turn.seams)
            assert (the.spoken, turn.finish) == (TEXT, Finish.STOP), (where, the.kinds)
            the.chat.clear()
        assert the.box.strayed == []


@pytest.mark.parametrize("words", ["anchored", "bare"])
@on_loop
async def test_who_is_cut_in_the_joint_says_nothing_twice(words: str) -> None:
    """The second attempt breaks at each character of what the joint looks at."""
    async with world(rules=Rules(base=0.001, attempts=5)) as the:
        places = the.box.wire(TEXT).places
        for at in range(places["first"], places["first"] + 2500, 40):
            the.box.strikes = [Strike("limit", "middle"), Strike("limit", at=at)]
            the.box.repeats = words == "anchored"
            turn = await the.say()
            assert astray(turn.text) == "", (at, turn.seams)
            assert (the.spoken, turn.finish) == (TEXT, Finish.STOP), at
            the.chat.clear()
        assert the.box.strayed == []


@pytest.mark.parametrize(
    ("text", "finish"),
    [
        ("That is all.", Finish.STOP),
        ("那就是全部。", Finish.STOP),
        ("```\nall = 1\n```\n", Finish.STOP),
        ("All of it 🎄", Finish.STOP),
        ("That is only the beginning of", Finish.CUT),
        ("These are:", Finish.CUT),
    ],
)
@on_loop
async def test_who_has_nothing_to_add_is_believed_where_an_answer_may_end(
    text: str, finish: Finish
) -> None:
    async with world(dialect="mistral") as the:
        the.box.text = the.spare.text = text
        the.box.strikes = [Strike("limit", "last")]
        turn = await the.say()
    assert (turn.text, the.spoken) == (text, text)
    assert turn.finish is finish or turn.finish is Finish.STOP  # in words its last ones are said
    assert the.asked == (("box", "box") if finish is Finish.STOP else the.asked)
    assert len(the.asked) >= 2
