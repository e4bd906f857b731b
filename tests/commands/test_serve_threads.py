"""Which conversation of the store a client's request belongs to, and what of it survives."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import Place
from tests.provider import DONE, Hang, Provider, answer, chunk, event, on_loop, until
from tests.relay import Relay, completion, serving, started

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def store(place: Place) -> Path:
    return place.home / ".local/share/holychat/conversations.db"


def rows(place: Place, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(store(place))) as db:
        return db.execute(query).fetchall()


def calling(text: str = "") -> list[Any]:
    """An answer that calls a tool, with some words before it."""
    words = [chunk(text)] if text else []
    called = event({"choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]})
    return [*words, called, chunk(finish="tool_calls"), DONE]


class Agent:
    """A client with a tool: it sends all that was said each time."""

    def __init__(self, relay: Relay, *messages: dict[str, Any]) -> None:
        self.relay = relay
        self.messages = [*messages]

    async def asks(self, text: str = "", *, streams: bool = False) -> None:
        """A prompt; without one the result of the tool that was called."""
        asked = {"role": "user", "content": text}
        result = {"role": "tool", "tool_call_id": "c1", "content": "42"}
        self.messages.append(asked if text else result)
        body = {"model": "auto", "messages": self.messages, "tools": [TOOL], "stream": streams}
        got = await self.relay.post(PATH, body)
        assert got.status == 200
        if streams:
            self.messages.append({"role": "assistant", "content": got.text})
            return
        message = got.json["choices"][0]["message"]
        self.messages.append({one: message[one] for one in ("role", "content")})
        if message.get("tool_calls"):
            self.messages[-1]["tool_calls"] = message["tool_calls"]


@pytest.mark.parametrize("words", ["", "Let me look."])
@on_loop
async def test_a_round_trip_of_a_tool_is_one_conversation(place: Place, words: str) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            agent = Agent(relay, {"role": "system", "content": "Use f."})
            server.script(*calling(words))
            await agent.asks("How is it?")
            server.script(*calling(words))
            await agent.asks()
            server.script(*answer("Fine."))
            await agent.asks()
            server.script(*calling(words))
            await agent.asks("And now?")
            server.script(*answer("Still fine."))
            await agent.asks()
            listed = (await relay.get("/api/conversations")).json["conversations"]
            assert len(listed) == 1
            got = (await relay.get(f"/api/conversations/{listed[0]['id']}")).json
        said = [(one["role"], one["text"]) for one in got["messages"]]
        assert said == [
            ("user", "How is it?"), ("assistant", "Fine."),
            ("user", "And now?"), ("assistant", "Still fine."),
        ]  # fmt: skip
        # And a new process finds it again, by what is in the store.
        async with serving(place) as relay:
            agent.relay = relay
            server.script(*answer("Yes."))
            await agent.asks("Sure?")
            listed = (await relay.get("/api/conversations")).json["conversations"]
            assert len(listed) == 1
    assert len(rows(place, "SELECT * FROM turns")) == 6


@on_loop
async def test_a_client_that_trims_an_answer_goes_on_with_it(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        for _ in range(2):  # from memory, and from the store
            async with serving(place) as relay:
                server.script(*answer("\n one \n"))
                await relay.chat("first")
                server.script(*answer("two"))
                await relay.chat("first", "one", "second")
                server.script(*answer("three"))
                await relay.chat("first", "one", "second", " two ", "third")
        async with serving(place) as relay:
            server.script(*answer("four"))
            await relay.chat("first", "one", "second", "two", "third", "three", "fourth")
    assert len(rows(place, "SELECT * FROM conversations")) == 2
    assert len(rows(place, "SELECT * FROM messages")) == 6 + 8


@on_loop
async def test_half_an_answer_survives_a_kill(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("half of "), chunk("an answer"), Hang()]
        async with started(place) as (relay, running):
            asked = await relay.ask(PATH, completion("hi", stream=True))
            await asked.head()
            await asked.until(b"an answer")
            await until(lambda: rows(place, "SELECT * FROM journal"))
            running.process.send_signal(signal.SIGKILL)
            await running.end()
            asked.leave()
        ended = await place.run("history", "list", "--json")
        (shown,) = json.loads(ended.text)
        ended = await place.run("history", "show", shown["id"])
    assert "half of an answer" in ended.text


@on_loop
async def test_what_is_said_while_the_store_is_locked_is_kept_later(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with started(place) as (relay, running):
            server.default = [*answer("well")]
            await relay.chat("before")
            with closing(sqlite3.connect(store(place), isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                assert (await relay.chat("meanwhile")).status == 200
                await asyncio.sleep(6)
                other.execute("ROLLBACK")
            running.process.terminate()
            err = (await running.end()).err
    assert "what is said is not being kept" in err
    assert "kept again" in err
    said = rows(place, "SELECT text FROM messages WHERE role = 'user' ORDER BY text")
    assert said == [("before",), ("meanwhile",)]
