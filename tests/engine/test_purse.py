"""Limits held before each request: real sockets, a real store."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from holychat.core.chat import Finish, Notice, Usage
from holychat.core.failure import Kind
from holychat.core.limits import Limit
from holychat.core.price import PICO, money
from holychat.core.provider import Provider as Row
from holychat.core.provider import Secret
from holychat.engine.conversation import Chat
from holychat.engine.purse import Purse
from holychat.net.client import Client
from holychat.store.recorder import Recorder
from tests.provider import DONE, Provider, answer, chunk, on_loop, usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holychat.core.chat import Turn

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
