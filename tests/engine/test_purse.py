"""Limits held before each request: real sockets, a real store."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from holychat.core.breaker import Policy
from holychat.core.chat import Finish, Message, Notice, Request, Turn, Usage
from holychat.core.failure import Kind
from holychat.core.limits import Limit
from holychat.core.pacing import Limits
from holychat.core.price import PICO, money
from holychat.core.provider import Provider as Row
from holychat.core.provider import Secret
from holychat.core.route import Rules
from holychat.engine.context import Fitting
from holychat.engine.conversation import Chat, Exchange
from holychat.engine.failover import Candidate
from holychat.engine.health import Board
from holychat.engine.purse import Purse
from holychat.engine.shadow import Shadow
from holychat.engine.summary import summarise
from holychat.engine.titles import made
from holychat.net.client import Client
from holychat.store.recorder import Recorder
from tests.provider import DONE, Cut, Gate, Provider, answer, chunk, error, on_loop, usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holychat.engine.split import Split

DOLLAR = PICO


def price(_: str, model: str, used: Usage) -> int | None:
    """Ten cents a token of the prompt and one cent a token of the answer."""
    if model != "m":
        return None
    return used.prompt * DOLLAR // 10 + used.completion * DOLLAR // 100


@asynccontextmanager
async def talking(
    *limits: Limit, store: Path | None = None, model: str = "m"
) -> AsyncIterator[tuple[Chat, Provider]]:
    async with Provider() as server:
        client = Client()
        recorder = Recorder(str(store) if store else None)
        row = Row("box", server.base_url, "m", Secret("k"))
        chat = Chat(client, row, model, recorder=recorder, price=price)
        chat.purse = Purse(limits, recorder, money)
        try:
            yield chat, server
        finally:
            await client.aclose()
            recorder.close()


async def said(chat: Chat, prompt: str = "q") -> tuple[Turn, list[str]]:
    notices = [each.text async for each in chat.send(prompt) if isinstance(each, Notice)]
    assert chat.latest is not None
    return chat.latest, notices


DAY = Limit("day", "tokens", 3000)


@on_loop
async def test_a_full_day_stops_before_anything_is_sent(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with talking(DAY, store=store) as (chat, server):
        server.script(*answer("one")[:-2], usage(1000, 500), DONE)
        turn, notices = await said(chat)  # it may take 1,000 and a few
        assert (turn.text, notices) == ("one", [])
        server.script(*answer("two")[:-2], usage(1000, 500), DONE)
        turn, notices = await said(chat)  # 1,500 and 1,000 more are over 80 %
        assert turn.text == "two"
        assert len(notices) == 1
        assert "% of the limit for today" in notices[0]
        turn, _ = await said(chat)
        assert turn.failure is not None
        assert (turn.failure.kind, turn.finish) == (Kind.LIMIT, Finish.FAILED)
        assert [one.model for one in turn.attempts] == [""]  # it was never sent
        assert "3,000 of 3,000 tokens" in turn.failure.what
        assert "limits.day" in turn.failure.hint
        assert turn.usage is None
        assert len(server.requests) == 2
        assert chat.failed == "q"  # /retry sends it again
    async with talking(DAY, store=store) as (chat, server):  # another process, another conversation
        turn, _ = await said(chat)
        assert (turn.failure and turn.failure.kind, server.requests) == (Kind.LIMIT, [])
        assert chat.purse is not None
        chat.purse.on = False
        server.script(*answer("past it"))
        turn, notices = await said(chat)
        assert turn.text == "past it"
        assert "100 % of the limit" in notices[0] or "133 %" in notices[0]


@on_loop
async def test_what_an_open_turn_may_take_is_kept_for_it(tmp_path: Path) -> None:
    """Two processes may not both have what is left for one."""
    store = tmp_path / "store.db"
    limit = Limit("month", "tokens", 1500)  # each may take a good 1,000
    async with talking(limit, store=store) as (chat, server):
        server.script(*answer("one"))
        events = chat.send("q")
        first = [await anext(events)]  # the request goes out: it is reserved
        async with talking(limit, store=store) as (other, elsewhere):
            turn, _ = await said(other)
            assert turn.failure is not None
            assert turn.failure.kind is Kind.LIMIT
            assert elsewhere.requests == []
            first += [each async for each in events]
            assert chat.latest is not None
            assert chat.latest.text == "one"
            await asyncio.wrap_future(chat.recorder.caught_up())
            elsewhere.script(*answer("now"))  # it took 12, and the rest is free again
            assert (await said(other))[0].text == "now"


@on_loop
async def test_an_answer_is_bounded_by_what_it_may_cost() -> None:
    async with talking(Limit("answer", "cost", 2 * DOLLAR)) as (chat, server):
        server.script(*answer("short"))
        await said(chat)
        sent = server.requests[-1].json["max_tokens"]
        # The prompt takes 7 tokens at 10 cents by the estimate; 1.30 is left, at a cent each.
        assert sent == 130
        chat.params["max_tokens"] = 20  # the user's own bound is the nearer one
        server.script(*answer("short"))
        await said(chat)
        assert server.requests[-1].json["max_tokens"] == 20
        chat.clear()
        chat.params["max_completion_tokens"] = 900  # as a client of the relay may say
        server.script(*answer("short"))
        await said(chat)
        sent = server.requests[-1].json
        assert {sent.get("max_tokens"), sent.get("max_completion_tokens")} == {None, 130}
    async with talking(Limit("answer", "cost", DOLLAR // 2)) as (chat, server):
        turn, _ = await said(chat)
        assert turn.failure is not None
        assert "the prompt alone takes $0.70, the limit for an answer is $0.50" in turn.failure.what
        assert server.requests == []


@on_loop
async def test_a_conversation_has_its_own_limit(tmp_path: Path) -> None:
    for store in (tmp_path / "store.db", None):
        limit = Limit("conversation", "cost", 15 * DOLLAR)
        async with talking(limit, store=store) as (chat, server):
            server.script(chunk("a"), chunk(finish="stop"), usage(10, 500), DONE)  # 6 dollars
            await said(chat)  # it might have taken 10.70
            turn, _ = await said(chat)
            assert turn.failure is not None
            assert "40 % of the limit for this conversation: $6.00 of $15.00" in turn.failure.what
            chat.clear()
            server.script(*answer("b"))
            assert (await said(chat))[0].text == "b"


@on_loop
async def test_an_unknown_price_is_said_once() -> None:
    async with talking(Limit("conversation", "cost", DOLLAR), model="n") as (chat, server):
        heard = []
        for _ in range(2):
            server.script(*answer("a"))
            heard += (await said(chat))[1]
    assert len(heard) == 1
    assert "the price of n on box is not known" in heard[0]


@on_loop
async def test_without_a_store_a_day_counts_this_run() -> None:
    async with talking(DAY) as (chat, server):
        server.script(*answer("one")[:-2], usage(1000, 1500), DONE)
        _, notices = await said(chat)
        assert "count this run alone" in notices[0]
        turn, _ = await said(chat)
        assert turn.failure is not None
        assert turn.failure.kind is Kind.LIMIT


@on_loop
async def test_no_limits_cost_nothing() -> None:
    async with talking() as (chat, server):
        server.script(*answer("one"))
        _, notices = await said(chat)
        assert notices == []
        assert "max_tokens" not in server.requests[-1].json


# --- Each attempt ---------------------------------------------------------------------------------


@asynccontextmanager
async def two(
    *limits: Limit, store: Path | None = None, dear: str = "dear"
) -> AsyncIterator[tuple[Chat, Provider, Provider]]:
    """A conversation with a cheap provider, and a dear one in its place."""
    async with talking(*limits, store=store) as (chat, first), Provider() as second:
        row = Row("far", second.base_url, dear, Secret("k"))

        async def resolve(_: str) -> Candidate:
            return Candidate(row, dear)

        def priced(name: str, model: str, used: Usage) -> int | None:
            cost = price(name, "m", used)
            return cost * 10 if model == "dear" and cost else None if model == "x" else cost

        chat.others, chat.resolve, chat.price = (lambda _: ["far"]), resolve, priced
        chat.rules = Rules(attempts=1)
        yield chat, first, second


@on_loop
async def test_a_dear_substitute_is_asked_for_no_more_than_is_left(tmp_path: Path) -> None:
    limit = Limit("day", "cost", 20 * DOLLAR)  # 11 at the first one, 110 at the second
    for store in (tmp_path / "store.db", None):
        async with two(limit, store=store) as (chat, first, second):
            first.script(*error(500))
            turn, _ = await said(chat)
            assert turn.failure is not None
            assert turn.failure.kind is Kind.LIMIT
            assert (len(first.requests), second.requests) == (1, [])


@on_loop
async def test_the_bound_is_by_the_price_of_whoever_is_asked() -> None:
    async with two(Limit("answer", "cost", 20 * DOLLAR)) as (chat, first, second):
        first.script(*error(500))
        second.script(*answer("fine"))
        turn, _ = await said(chat)
        assert turn.text == "fine"
        assert first.requests[0].json["max_tokens"] == 1930  # 7 tokens of the prompt at ten cents
        assert second.requests[0].json["max_tokens"] == 130  # and at a dollar


@on_loop
async def test_the_unknown_price_of_a_substitute_is_said() -> None:
    async with two(Limit("day", "cost", 20 * DOLLAR), dear="x") as (chat, first, second):
        first.script(*error(500))
        second.script(*answer("fine"))
        _, notices = await said(chat)
        assert any("the price of x on far is not known" in each for each in notices)


@on_loop
async def test_what_is_gone_on_with_has_only_the_rest_of_the_bound(tmp_path: Path) -> None:
    for store in (tmp_path / "store.db", None):
        limit = Limit("answer", "tokens", 200)
        async with talking(limit, store=store) as (chat, server):
            server.script(chunk("one two "), usage(7, 100), Cut())
            server.script(*answer("three."))
            turn, _ = await said(chat)
            assert turn.text == "one two three."
            bounds = [each.json["max_tokens"] for each in server.requests]
            assert bounds[0] == 193
            assert bounds[1] < 193 - 100


@on_loop
async def test_a_limit_in_mid_turn_keeps_what_came(tmp_path: Path) -> None:
    for limit in (Limit("answer", "tokens", 200), Limit("day", "tokens", 1200)):
        for store in (tmp_path / f"{limit.scope}.db", None):
            async with talking(limit, store=store) as (chat, server):
                server.script(chunk("one two"), usage(7, 300), Cut())
                turn, _ = await said(chat)
                assert (turn.text, turn.finish) == ("one two", Finish.CUT)
                assert turn.failure is not None
                assert turn.failure.kind is Kind.LIMIT
                assert "nothing more was sent" in turn.failure.what
                assert len(server.requests) == 1
                assert len(turn.attempts) == 1
                assert chat.exchanges[-1].turn.text == "one two"


@on_loop
async def test_a_hedge_is_asked_too(tmp_path: Path) -> None:
    """A second one beside the first, only where there is room for both."""
    for most, both in ((3000, True), (1500, False)):
        limit = Limit("day", "tokens", most)
        async with two(limit, store=tmp_path / f"{most}.db") as (chat, first, second):
            gate = Gate()
            first.script(gate, *answer("slow"))
            second.script(*answer("quick"))
            chat.board, chat.hedged = Board(chat.recorder, Policy(), lambda _: Limits()), True
            chat.board.late = lambda _: 0.05  # type: ignore[method-assign, assignment]
            task = asyncio.create_task(said(chat))
            await gate.reached.wait()
            await asyncio.sleep(0.3)
            gate.open()
            turn, _ = await task
            assert (turn.text, len(second.requests)) == (("quick", 1) if both else ("slow", 0))


@on_loop
async def test_without_limits_nobody_is_asked() -> None:
    async with talking() as (chat, _):
        assert chat.purse is not None
        assert chat.purse.bill(chat, tuple) is None


# --- What is asked beside the answers -------------------------------------------------------------


def long(chat: Chat, policy: str = "summarize") -> None:
    """A conversation of which a part has to be left out."""
    chat.exchanges = [
        Exchange("word " * 100, Turn("word " * 100, "", Finish.STOP, "box", "m")) for _ in range(6)
    ]
    chat.fitting = Fitting(policy, sizes=lambda *_: (1000, 200))


@on_loop
async def test_a_summary_is_sent_only_where_a_limit_lets_it(tmp_path: Path) -> None:
    for store in (tmp_path / "store.db", None):
        async with talking(Limit("day", "tokens", 100), store=store) as (chat, server):
            long(chat)
            turn, _ = await said(chat)
            assert turn.failure is not None
            assert turn.failure.kind is Kind.LIMIT
            assert "nothing was sent" in turn.failure.what
            assert server.requests == []  # no summary either
    async with talking(Limit("day", "tokens", 2000), store=tmp_path / "s.db") as (chat, server):
        long(chat)  # there is room for the answer, and not for a summary beside it
        server.script(*answer("fine"))
        turn, notices = await said(chat)
        assert turn.text == "fine"
        assert any("no summary could be made" in each for each in notices)
        assert len(server.requests) == 1
    async with talking(Limit("day", "tokens", 9000), store=tmp_path / "r.db") as (chat, server):
        long(chat)
        server.default = [*answer("fine")[:-2], usage(500, 100), DONE]
        turn, _ = await said(chat)
        assert turn.text == "fine"
        *pieces, own = [each.role for each in turn.attempts]
        assert (set(pieces), own) == ({"summary"}, "")


@on_loop
async def test_a_summary_by_hand_is_refused_as_well(tmp_path: Path) -> None:
    for store in (tmp_path / "store.db", None):
        async with talking(Limit("day", "tokens", 1500), store=store) as (chat, server):
            server.script(*answer("one")[:-2], usage(1000, 400), DONE)
            await said(chat)
            trouble = await summarise(chat, chat.exchanges, 1, [])
            assert "limit for today" in trouble
            assert len(server.requests) == 1


@on_loop
async def test_a_title_is_counted_and_left_out_where_a_limit_is_full(tmp_path: Path) -> None:
    limit = Limit("day", "tokens", 3000)
    async with talking(limit, store=tmp_path / "store.db") as (chat, server):
        server.script(*answer("one")[:-2], usage(5, 5), DONE)
        await said(chat)
        server.script(*answer("A good title")[:-2], usage(1000, 1500), DONE)
        assert await made(chat) == "A good title"
        assert chat.used.prompt == 1005
        await asyncio.wrap_future(chat.recorder.caught_up())
        assert chat.purse is not None
        assert "2,510 of 3,000" in (await chat.purse.shown(chat))[0]
        rows = await asyncio.wrap_future(
            chat.recorder.ask(lambda db: db.rows("SELECT role, cost FROM attempts ORDER BY id"))
        )
        assert [tuple(row) for row in rows] == [("", 55 * PICO // 100), ("title", 115 * PICO)]
        assert await made(chat) == ""
        assert len(server.requests) == 2


@on_loop
async def test_a_copy_is_left_out_where_a_limit_is_full(tmp_path: Path) -> None:
    for most, copies in ((3000, 1), (1500, 0)):
        limit = Limit("day", "tokens", most)
        async with two(limit, store=tmp_path / f"{most}.db") as (chat, first, second):
            first.script(*answer("one")[:-2], usage(1000, 100), DONE)
            second.script(*answer("copy"))
            turn, _ = await said(chat)
            assert chat.resolve is not None
            far = (await chat.resolve("far")).provider

            async def choose(*_: str, far: Row = far) -> tuple[Row, str]:
                return far, "dear"

            split = SimpleNamespace(
                copied=lambda *_: SimpleNamespace(shadow=1.0, new="far"),
            )
            board = Board(chat.recorder, Policy(), lambda _: Limits())
            shadow = Shadow(cast("Split", split), chat.client, board, chat.recorder, choose)
            shadow.copy(chat, Request("m", (Message("user", "q"),)), turn)
            await shadow.wait(5)
            assert len(second.requests) == copies
