"""The board: over a real store that two of them share, without one, and over one that breaks."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from holychat.core.breaker import Policy, State
from holychat.core.chat import Message, Request
from holychat.core.failure import Failure, Kind
from holychat.core.pacing import STREAM, TICKET, Limits, Rates
from holychat.core.provider import Provider, Secret
from holychat.engine import health as module
from holychat.engine.health import Board, Closed, Queued, Standing, Ticket
from holychat.net.client import Client
from holychat.store import health as module_update
from holychat.store.db import Database
from holychat.store.recorder import Recorder
from tests import provider as loopback
from tests.provider import Status, answer, on_loop, until

P = Provider("p", "http://127.0.0.1:1/v1")
Q = Provider("q", "http://127.0.0.1:2/v1")
ILL = Failure(Kind.SERVER, "p answered 500: it is down")


@dataclass
class World:
    """Boards that share a clock, and a store or none."""

    path: Path | None
    now: float = 1_700_000_000.0
    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    recorders: list[Recorder] = field(default_factory=list)

    def board(self, rates: dict[str, Rates] | None = None) -> Board:
        recorder = Recorder(None if self.path is None else str(self.path))
        self.recorders.append(recorder)
        return Board(recorder, self.policy, lambda _: self.limits, lambda: self.now, rates)

    def close(self) -> None:
        for recorder in self.recorders:
            recorder.close()
        self.recorders.clear()


@contextmanager
def world_at(path: Path | None) -> Iterator[World]:
    world = World(path)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture(params=["store", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world_at(tmp_path / "s.db" if request.param == "store" else None) as world:
        yield world


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[World]:
    with world_at(tmp_path / "s.db") as world:
        yield world


async def ticket(board: Board, provider: Provider = P, **how: Any) -> Ticket:
    got = await board.admit(provider, 100, **how)
    assert isinstance(got, Ticket), got
    return got


async def closed(board: Board) -> Closed:
    got = await board.admit(P, 100)
    assert isinstance(got, Closed), got
    return got


async def queued(board: Board, waiting: Queued | None = None) -> Queued:
    got = await board.admit(P, 100, waiting=waiting)
    assert isinstance(got, Queued), got
    return got


async def fail(board: Board, times: int = 1, failure: Failure = ILL) -> None:
    for _ in range(times):
        board.failed(await ticket(board), failure)


async def later(world: World, board: Board, seconds: float) -> None:
    """Time goes by; what was told before is done by then, for all is done in order."""
    await board.standings([P])
    world.now += seconds


async def standing(board: Board, provider: Provider = P) -> Standing:
    return (await board.standings([provider]))[provider.name]


# --- With a store and without -------------------------------------------------------------------


@on_loop
async def test_an_answer_is_remembered(world: World) -> None:
    board = world.board()
    for number in range(20):
        one = await ticket(board)
        board.began(one, 0.1)
        board.answered(one, None, (number + 1) / 10, 50)
    stands = await standing(board)
    assert (stands.state, stands.calls, stands.error_rate) == (State.CLOSED, 20, 0)
    assert (stands.p50, stands.p95) == (1.0, 1.9)
    assert (stands.streams, stands.queue, stands.last_error) == (0, 0, None)


@on_loop
async def test_what_nobody_knows_of(world: World) -> None:
    assert await world.board().standings([P, Q]) == {
        "p": Standing(State.CLOSED),
        "q": Standing(State.CLOSED),
    }


@on_loop
async def test_a_provider_that_fails_rests(world: World) -> None:
    board = world.board()
    await fail(board, 3)
    assert await closed(board) == Closed(30.0, "3 failures in a row")
    assert isinstance(await board.admit(Q, 100), Ticket)
    stands = await standing(board)
    assert (stands.state, stands.seconds, stands.why) == (State.OPEN, 30.0, "3 failures in a row")
    assert stands.error_rate == 1.0
    assert stands.last_error is not None
    assert (stands.last_error.text, stands.last_error.at) == (ILL.what, world.now)


@on_loop
async def test_one_tries_and_brings_it_back(world: World) -> None:
    board = world.board()
    await fail(board, 3)
    await later(world, board, 30)
    trial = await ticket(board)
    got = await closed(board)
    assert got == Closed(180.0, "somebody else is trying whether it is back")
    board.answered(trial, 0.1, 0.2, 10)
    assert (await standing(board)).state is State.CLOSED
    await ticket(board)


@on_loop
async def test_a_trial_that_is_cancelled_is_free_again(world: World) -> None:
    board = world.board()
    await fail(board, 3)
    await later(world, board, 30)
    board.cancelled(await ticket(board))
    board.cancelled(await ticket(board))
    assert (await standing(board)).state is State.HALF_OPEN


@on_loop
async def test_a_trial_that_fails_for_another_reason_is_free_again(world: World) -> None:
    board = world.board()
    await fail(board, 3)
    await later(world, board, 30)
    await fail(board, 2, Failure(Kind.REQUEST, "no such field"))
    assert (await standing(board)).state is State.HALF_OPEN


@on_loop
async def test_a_long_trial_keeps_its_claim_with_signs_of_life(world: World) -> None:
    board = world.board()
    await fail(board, 3)
    await later(world, board, 30)
    await ticket(board)
    for _ in range(30):
        await later(world, board, 21)
        board.renew(P)
    assert (await closed(board)).why.startswith("somebody else")
    assert (await standing(board)).streams == 1


@on_loop
async def test_by_force_a_closed_one_is_asked_all_the_same(world: World) -> None:
    board = world.board()
    await fail(board, 3)
    trial = await ticket(board, force=True)
    await closed(board)
    board.answered(trial, 0.1, 0.1, 5)
    assert (await standing(board)).state is State.CLOSED


@on_loop
async def test_what_is_the_users_fault_does_not_count(world: World) -> None:
    board = world.board()
    for kind in (Kind.AUTH, Kind.REQUEST, Kind.CONTEXT, Kind.MODEL, Kind.BALANCE):
        await fail(board, 4, Failure(kind, "no"))
    for _ in range(20):
        board.cancelled(await ticket(board))
    stands = await standing(board)
    assert (stands.state, stands.calls, stands.error_rate) == (State.CLOSED, 20, 1.0)


@on_loop
async def test_late_answers_count(world: World) -> None:
    board = world.board()
    for _ in range(4):
        one = await ticket(board)
        board.began(one, 0.6)
        board.answered(one, first=0.7, tokens=10)
        await later(world, board, 20)
    assert (await closed(board)).why == "answers began later than 500 ms for 60 s"


@on_loop
async def test_five_stream_and_the_others_wait_in_their_order(world: World) -> None:
    board = world.board()
    streams = [await ticket(board) for _ in range(5)]
    sixth, seventh = await queued(board), await queued(board)
    assert (sixth.position, seventh.position) == (1, 2)
    await later(world, board, TICKET - 1)
    sixth, seventh = await queued(board, sixth), await queued(board, seventh)
    assert (sixth.position, seventh.position) == (1, 2)
    board.answered(streams[0], 0.1, 0.2, 10)
    seventh = await queued(board, seventh)
    assert (await standing(board)).queue == 2
    assert await ticket(board, waiting=sixth) == sixth.ticket
    board.cancelled(seventh.ticket)
    stands = await standing(board)
    assert (stands.streams, stands.queue) == (5, 0)


@on_loop
async def test_streams_live_by_the_signs_of_their_house(shared: World) -> None:
    board, other, shared.limits = shared.board(), shared.board(), Limits(streams=1)
    await ticket(board)
    for _ in range(10):
        await later(shared, board, STREAM / 2)
        board.renew(P)
    await later(shared, board, 0)
    waiting = await queued(other)
    await later(shared, other, STREAM + 1)
    assert await ticket(other, waiting=waiting)


@on_loop
async def test_a_house_gives_its_signs_by_itself(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holychat.engine.health.RENEWED", 0.01)
    board, other, shared.limits = shared.board(), shared.board(), Limits(streams=1)
    one = await ticket(board)
    for _ in range(3):
        await later(shared, board, STREAM - 1)
        await asyncio.sleep(0.1)  # nobody does anything for it
        waiting = await queued(other)
        other.cancelled(waiting.ticket)
    board.cancelled(one)
    await later(shared, board, 0)
    assert await ticket(other)


@on_loop
async def test_what_a_house_says_again_is_no_second_stream(world: World) -> None:
    """Nor does anything of one that ended remain."""
    board = world.board()
    one, other = await ticket(board), await ticket(board)
    board.renew(P)
    assert (await standing(board)).streams == 2
    board.answered(one, 0.1, 0.1, 5)
    board.renew(P)
    assert (await standing(board)).streams == 1
    board.cancelled(other)
    assert (await standing(board)).streams == 0


@on_loop
async def test_a_thousand_streams_are_one_entry(shared: World) -> None:
    """What is written for a request does not grow with the others that are under way."""
    board, shared.limits = shared.board(), Limits(streams=0)
    sizes = []
    for number in range(1000):
        await ticket(board)
        if number in (50, 999):
            with closing(sqlite3.connect(str(shared.path))) as db:
                sizes.append(len(db.execute("SELECT state FROM health").fetchone()[0]))
    assert sizes[1] < 1.5 * sizes[0]
    assert (await standing(board)).streams == 1000


@on_loop
async def test_an_end_is_told_once(world: World) -> None:
    board = world.board()
    one = await ticket(board)
    board.answered(one, 0.1, 0.1, 5)
    board.failed(one, ILL)
    board.cancelled(one)
    board.answered(one, 0.1, 0.1, 5)
    board.began(one, 0.1)
    board.renew(P)
    assert (await standing(board)).calls == 1


@on_loop
async def test_who_waits_longer_than_the_provider_is_well_is_told(world: World) -> None:
    board, world.limits = world.board(), Limits(streams=1)
    one = await ticket(board)
    waiting = await queued(board)
    board.failed(one, ILL)
    world.limits = Limits()
    await fail(board, 2)
    got = await board.admit(P, 100, waiting=waiting)
    assert isinstance(got, Closed)
    assert (await standing(board)).queue == 0


@on_loop
async def test_who_waits_in_the_line_is_no_trial_yet(world: World) -> None:
    board = world.board()
    before = await ticket(board)
    await fail(board, 3)
    world.limits = Limits(streams=1)
    await later(world, board, 30)
    waiting = await queued(board)
    assert (await standing(board)).seconds == 0
    board.answered(before, 0.1, 0.1, 5)
    await later(world, board, 0)
    assert await ticket(board, waiting=waiting)


@on_loop
async def test_who_waits_by_force_goes_on_so(world: World) -> None:
    board = world.board()
    before = await ticket(board)
    await fail(board, 3)
    world.limits = Limits(streams=1)
    waiting = await board.admit(P, 100, force=True)
    assert isinstance(waiting, Queued)
    waiting = await queued(board, waiting)
    board.cancelled(before)
    assert await ticket(board, waiting=waiting) == waiting.ticket


@on_loop
async def test_who_turns_to_another_provider_leaves_the_line(world: World) -> None:
    board, world.limits = world.board(), Limits(streams=1)
    await ticket(board)
    waiting = await queued(board)
    other = await ticket(board, Q, waiting=waiting)
    assert other.provider == Q
    assert (await standing(board)).queue == 0


@on_loop
async def test_a_429_that_says_when_holds_everybody(world: World) -> None:
    board = world.board()
    await fail(board, 1, Failure(Kind.RATE, "slow down", status=429, retry_after=7.0))
    assert (await queued(board)).seconds == 7.0
    assert (await standing(board)).held == 7.0
    await later(world, board, TICKET + 1)
    await ticket(board)


@on_loop
async def test_what_the_client_heard_of_limits_is_learned(world: World) -> None:
    said = {"p": Rates(requests=1)}
    board = world.board(said)
    one = await ticket(board)
    board.answered(one, 0.1, 0.1, 5)
    assert said == {}
    assert (await queued(board)).seconds == 60.0


@on_loop
async def test_what_was_said_with_the_headers_is_old_at_the_end(world: World) -> None:
    said: dict[str, Rates] = {}
    board = world.board(said)
    one = await ticket(board)
    said["p"] = Rates(tokens_left=10, tokens_reset=50.0)
    await later(world, board, 1)
    board.began(one, 1.0)
    await later(world, board, 30)
    board.answered(one, None, 2.0, 5)
    assert (await queued(board)).seconds == 20.0


@on_loop
async def test_when_nothing_is_left_all_know_it_at_once(world: World) -> None:
    said = {"p": Rates(requests_left=0, requests_reset=9.0)}
    board = world.board(said)
    one = await ticket(board)
    board.began(one, 0.1)
    assert (await queued(board)).seconds == 9.0


@on_loop
async def test_no_key_gets_into_the_record(world: World) -> None:
    key = "sk-holy-0123456789-secret"
    board, provider = world.board(), replace(P, key=Secret(key))
    one = await ticket(board, provider)
    board.failed(one, Failure(Kind.AUTH, f"wrong key {key}\n\x1b[31m" + 500 * "x"))
    error = (await standing(board)).last_error
    assert error is not None
    assert key not in error.text
    assert len(error.text) == 200
    assert error.text.isprintable()


@on_loop
async def test_another_address_is_another_provider(world: World) -> None:
    board = world.board()
    await fail(board, 3)
    moved = replace(P, base_url="http://127.0.0.1:9/v1")
    await ticket(board, moved)
    assert (await standing(board, moved)).state is State.CLOSED


# --- Shared -------------------------------------------------------------------------------------


@on_loop
async def test_two_boards_share_a_store(shared: World) -> None:
    one, other = shared.board(), shared.board()
    await fail(one, 3)
    await later(shared, one, 0)
    await closed(other)
    await later(shared, other, 30)
    trial = await ticket(other)
    await closed(one)
    other.answered(trial, 0.1, 0.1, 5)
    await standing(other)
    await ticket(one)
    assert (await standing(other)).streams == 1


@on_loop
async def test_what_was_told_is_there_when_the_recorder_is_closed(shared: World) -> None:
    board = shared.board()
    for _ in range(50):
        board.answered(await ticket(board), 0.1, 0.1, 5)
    shared.close()
    assert (await standing(shared.board())).calls == 50


def transactions(recorder: Recorder) -> Callable[[], int]:
    """Counts what the recorder is asked from now on."""
    asked: list[object] = []
    ask = recorder.ask

    def counting(what: Callable[[Database], Any]) -> Future[Any]:
        asked.append(what)
        return ask(what)

    recorder.ask = counting  # type: ignore[method-assign]
    return lambda: len(asked)


@on_loop
async def test_an_answer_costs_two_transactions(shared: World) -> None:
    board = shared.board({"p": Rates(requests=100, requests_left=99, requests_reset=1.0)})
    count = transactions(shared.recorders[0])
    one = await ticket(board)
    board.began(one, 0.1)
    board.answered(one, None, 0.2, 50)
    board.cancelled(one)
    assert count() == 2


@on_loop
async def test_many_at_once_cost_few_transactions(shared: World) -> None:
    """What waits for the store by then is done together, and each gets its own answer."""
    board, shared.limits = shared.board(), Limits(streams=30)
    await ticket(board, Q)  # the store is open
    writes: list[object] = []
    update = module_update.update

    def counted(*given: Any) -> Any:
        writes.append(given)
        return update(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module_update, "update", counted)
        got = await asyncio.gather(*(board.admit(P, 100) for _ in range(50)))
        tickets = [one for one in got if isinstance(one, Ticket)]
        assert len(tickets) == 30
        assert len(writes) < 10
        for one in tickets:
            board.answered(one, 0.1, 0.2, 50)
        stands = await standing(board)
        assert len(writes) < 20
    assert (stands.streams, stands.calls, stands.queue) == (0, 30, 20)


@on_loop
async def test_who_is_stopped_while_asking_leaves_nothing_behind(shared: World) -> None:
    board = shared.board()
    await fail(board, 3)
    await later(shared, board, 30)
    for _ in range(20):
        asking = asyncio.ensure_future(board.admit(P, 100))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    stands = await standing(board)
    assert (stands.streams, stands.queue, stands.seconds) == (0, 0, 0)
    await ticket(board)


# --- A store that breaks ------------------------------------------------------------------------


@on_loop
async def test_a_store_that_cannot_be_opened_stops_nobody(tmp_path: Path) -> None:
    with world_at(tmp_path / "file" / "s.db") as world:
        (tmp_path / "file").write_text("no folder")
        board = world.board()
        await fail(board, 3)
        await closed(board)
        assert (await standing(board)).calls == 3


@on_loop
async def test_a_store_that_breaks_is_gone_on_without(shared: World) -> None:
    """In memory it goes on from what was known last."""
    board = shared.board()
    await fail(board, 2)
    trial = await ticket(board)
    assert shared.path is not None
    shared.path.unlink()  # which the store notices, and writes no more
    board.failed(trial, ILL)
    await until(lambda: board._kept["p|http://127.0.0.1:1"].breaker.why)
    assert (await closed(board)).why == "3 failures in a row"
    await later(shared, board, 30)
    board.answered(await ticket(board), 0.1, 0.1, 5)
    await until(lambda: not board._kept["p|http://127.0.0.1:1"].breaker.why)
    assert (await standing(board)).calls == 4


@on_loop
async def test_a_store_that_is_locked_is_not_waited_for(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = shared.board()
    await fail(board, 3)
    await later(shared, board, 30)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with sqlite3.connect(str(shared.path), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        trial = await ticket(board)  # as far as we know it is ours to try
        assert isinstance(await board.admit(P, 100), Closed)
        other.execute("ROLLBACK")
    other.close()
    monkeypatch.undo()
    board.answered(trial, 0.1, 0.1, 5)
    shared.close()
    stands = await standing(shared.board())  # what was told meanwhile came to the store
    assert (stands.state, stands.streams, stands.calls) == (State.CLOSED, 0, 4)


@on_loop
async def test_rubbish_in_the_store_is_started_afresh(shared: World) -> None:
    board = shared.board()
    await fail(board, 3)
    await later(shared, board, 0)
    with sqlite3.connect(str(shared.path)) as other:
        other.execute("UPDATE health SET state = 'rubbish'")
    other.close()
    await ticket(board)


# --- The client ---------------------------------------------------------------------------------


@on_loop
async def test_the_client_notes_what_a_server_says_of_limits() -> None:
    headers = {"x-ratelimit-limit-requests": "3", "x-ratelimit-remaining-requests": "2"}
    client = Client()
    ask = Request("m", (Message("user", "q"),))
    async with loopback.Provider() as server:
        provider = Provider("p", server.base_url)
        server.script(*answer("well"))
        assert [delta.text async for delta in client.stream(provider, ask)]
        assert client.rates == {}
        server.script(Status(headers=headers), *answer("well"))
        assert [delta.text async for delta in client.stream(provider, ask)]
        assert client.rates == {"p": Rates(requests=3, requests_left=2)}
        client.rates.clear()
        server.script(Status(429, headers | {"x-ratelimit-reset-requests": "9s"}))
        with pytest.raises(Failure):
            assert [delta async for delta in client.stream(provider, ask)]
        assert client.rates["p"].requests_reset == 9.0
    await client.aclose()


@on_loop
async def test_what_the_dead_held_is_given_to_the_living(tmp_path: Path) -> None:
    with world_at(tmp_path / "s.db") as world:
        world.limits = Limits(streams=1)
        board, other = world.board(), world.board()
        held = await ticket(board)
        line = await other.admit(P, 1)
        assert isinstance(line, Queued)
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        token, _, birth, host = held.id.partition("-")[2].split("/")
        with closing(sqlite3.connect(tmp_path / "s.db")) as db, db:
            alive, dead = (f"{token}/{pid}/{birth}/{host}" for pid in (os.getpid(), ended.pid))
            changed = "UPDATE health SET state = replace(state, ?, ?)"
            assert db.execute(changed, (alive, dead)).rowcount == 1
        assert isinstance(await other.admit(P, 1, waiting=line), Ticket)
