"""The rest of the relay: the seed documents' form, the WebSocket, the store, health and metrics."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import Place
from tests.provider import Cut, Gate, Hang, Provider, answer, chunk, error, on_loop, until
from tests.relay import Relay, completion, serving, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytest.importorskip("websockets")
PRICES = '[prices."box/test-model"]\ninput = "1"\noutput = "2"\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def called(server: Provider) -> list[Any]:
    return [one.json for one in server.requests if one.method == "POST"]


def rows(place: Place, query: str) -> list[sqlite3.Row]:
    path = place.home / ".local/share/holychat/conversations.db"
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    found = db.execute(query).fetchall()
    db.close()
    return found


class Socket:
    """A WebSocket's client."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def say(self, **said: Any) -> None:
        await self.inner.send(json.dumps(said))

    async def prompt(self, text: str, conversation: str = "", **more: Any) -> None:
        await self.say(type="prompt", text=text, conversation=conversation, **more)

    async def heard(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            found: dict[str, Any] = json.loads(await self.inner.recv())
        return found

    async def until(self, *kinds: str) -> list[dict[str, Any]]:
        """All that is heard up to a message of one of these types."""
        found = [await self.heard()]
        while found[-1]["type"] not in kinds:
            found.append(await self.heard())
        return found

    async def turn(
        self, text: str, conversation: str = "", **more: Any
    ) -> tuple[str, dict[str, Any]]:
        """(the text of the answer, the last message)."""
        await self.prompt(text, conversation, **more)
        heard = await self.until("done", "error")
        return "".join(one["text"] for one in heard if one["type"] == "delta"), heard[-1]


@asynccontextmanager
async def talking(relay: Relay) -> AsyncIterator[Socket]:
    from websockets.asyncio.client import connect

    offered: Any = ["holychat", f"bearer.{relay.token}"]
    url = f"ws://127.0.0.1:{relay.port}/ws"
    async with connect(url, subprotocols=offered, proxy=None) as inner:
        assert inner.subprotocol == "holychat"
        yield Socket(inner)


# --- The seed documents' form ---------------------------------------------------------------------


@on_loop
async def test_the_seeds_request(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, top='system = "Be brief."')
        server.default = [*answer("I am well")]
        async with serving(place) as relay:
            got = await relay.post("/chat", {"message": "Hello, how are you?"})
            assert got.headers["content-type"].startswith("text/event-stream")
            assert got.text == "I am well"
            assert "".join(one.get("content", "") for one in got.events[:-1]) == "I am well"
            assert got.events[-1] == "[DONE]"
            assert called(server)[-1]["messages"] == [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello, how are you?"},
            ]
            history = [
                {"content": "a"}, {"role": "assistant", "content": "b"},
                {"role": "system", "content": "c"},
            ]  # fmt: skip
            await relay.post("/chat", {"message": "d", "history": history})
            assert [(one["role"], one["content"]) for one in called(server)[-1]["messages"]] == [
                ("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d"),
            ]  # fmt: skip
            boss = [{"role": "boss", "content": ""}]
            for wrong in (
                {},
                {"message": 5},
                {"message": "x", "history": "y"},
                {"message": "x", "history": boss},
            ):
                assert (await relay.post("/chat", wrong)).status == 400
            server.default = error(401)
            assert (await relay.post("/chat", {"message": "x"})).status == 502


# --- The store ------------------------------------------------------------------------------------


@on_loop
async def test_what_is_said_is_kept_and_gone_on_with(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, PRICES)
        async with serving(place) as relay:
            server.script(*answer("one"))
            await relay.chat("first")
            server.script(*answer("two"))
            await relay.chat("first", "one", "second")
            server.script(*answer("three"))
            await relay.chat("first", "one", "second", "two", "third", stream=True)
            server.script(*answer("other"))
            await relay.chat("first", "one", "elsewhere")  # another branch of the same
            server.script(*answer("new"))
            await relay.chat("quite", "another", "beginning")
            server.script(*answer("gone"))
            await relay.post("/chat", {"message": "no trace"}, x_holychat_store="none")
            listed = (await relay.get("/api/conversations")).json["conversations"]
            assert [one["title"] for one in listed] == ["beginning", "first"]
            assert [one["messages"] for one in listed] == [2, 8]
            got = (await relay.get(f"/api/conversations/{listed[1]['id']}")).json
            assert [(one["role"], one["text"]) for one in got["messages"]] == [
                ("user", "first"), ("assistant", "one"),
                ("user", "elsewhere"), ("assistant", "other"),
            ]  # fmt: skip
            assert got["messages"][1]["cost"] == pytest.approx(19e-6)
            assert got["messages"][1]["usage"]["completion"] == 7
            found = (await relay.get("/api/conversations?q=third")).json["conversations"]
            assert [one["title"] for one in found] == ["first"]
            assert "third" in found[0]["snippet"]
            assert len((await relay.get("/api/conversations?limit=1")).json["conversations"]) == 1
            assert (await relay.get("/api/conversations?limit=x")).status == 400
            assert (await relay.get("/api/conversations/nothing")).status == 404
            metrics = await relay.get("/metrics")
        # A new process finds it again, by what is in the store.
        async with serving(place) as relay:
            server.script(*answer("later"))
            await relay.chat("first", "one", "elsewhere", "other", "again")
            listed = (await relay.get("/api/conversations")).json["conversations"]
            assert [(one["title"], one["messages"]) for one in listed] == [
                ("first", 10), ("beginning", 2),
            ]  # fmt: skip
    assert len(rows(place, "SELECT * FROM attempts")) == 6
    assert {row["cost"] for row in rows(place, "SELECT cost FROM turns")} == {19_000_000}
    assert not rows(place, "SELECT * FROM turns WHERE writer IS NOT NULL")
    assert not rows(place, "SELECT * FROM journal")
    text = metrics.body.decode()
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'holychat_calls_total{provider="box",model="test-model",outcome="answered"} 5' in text
    assert "holychat_relay_requests_total" in text
    ended = await place.run("stats", "--json")
    assert json.loads(ended.text)["totals"]["calls"] == 6


@on_loop
async def test_many_turns_at_once_are_all_kept(place: Place) -> None:
    many = 40
    async with Provider() as server:
        place.provider(server.base_url, f"streams = {many}\n{PRICES}")
        gate = Gate()
        server.default = [chunk("par"), gate, *answer("tly said")]
        async with serving(place) as relay:
            asked = [
                await relay.ask("/v1/chat/completions", completion(f"prompt {n}", stream=True))
                for n in range(many)
            ]
            for one in asked:
                await one.head()
            assert len(rows(place, "SELECT * FROM turns WHERE writer IS NOT NULL")) == many
            gate.open()
            assert {(await one.end()).text for one in asked} == {"partly said"}
            await until(lambda: closed(place) == many)
    said = rows(place, "SELECT * FROM messages WHERE role = 'user'")
    assert {row["text"] for row in said} == {f"prompt {n}" for n in range(many)}
    kept = rows(place, "SELECT finish, cost FROM turns")
    assert [tuple(row) for row in kept] == [("stop", 19_000_000)] * many
    assert len(rows(place, "SELECT * FROM conversations")) == many


def closed(place: Place) -> int:
    return len(rows(place, "SELECT * FROM turns WHERE writer IS NULL"))


@on_loop
async def test_a_killed_relay_leaves_turns_that_are_accounted_for(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("a"), Hang()]
        async with started(place) as (relay, running):
            asked = await relay.ask("/v1/chat/completions", completion("hi", stream=True))
            await asked.head()
            running.process.kill()
            await running.end()
            asked.leave()
    ended = await place.run("history", "list")
    assert ended.code == 0
    server.default = [*answer("x")]
    await place.run("ask", "-p", "demo", "hello")
    assert len(rows(place, "SELECT * FROM turns")) == 2


@on_loop
async def test_nothing_is_kept_without_a_store(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, top='store = "none"')
        server.default = [*answer("Hello")]
        async with serving(place) as relay:
            assert (await relay.chat("a")).status == 200
            assert (await relay.chat("a", "Hello", "b")).status == 200
            assert (await relay.get("/api/conversations")).json == {"conversations": []}
            assert (await relay.get("/metrics")).status == 200
            assert (await relay.get("/health")).json["store"] is False
            async with talking(relay) as socket:
                _, done = await socket.turn("one")
                text, done = await socket.turn("two", done["conversation"])
                assert text == "Hello"
                assert len(called(server)[-1]["messages"]) == 3
                _, last = await socket.turn("three", "nothing")
                assert last["type"] == "error"
    assert not (place.home / ".local/share/holychat/conversations.db").exists()


@on_loop
async def test_a_store_that_fails_stops_no_answer(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        folder = place.home / ".local/share/holychat"
        async with started(place) as (relay, running):
            assert (await relay.chat("a")).status == 200
            lock = sqlite3.connect(folder / "conversations.db", isolation_level=None)
            lock.execute("BEGIN IMMEDIATE")
            got = await relay.chat("b")
            assert got.json["choices"][0]["message"]["content"] == "Hello"
            lock.execute("ROLLBACK")
            lock.close()
            assert (await relay.chat("c")).status == 200
            running.process.terminate()
            ended = await running.end()
    assert ended.code == -signal.SIGTERM
    kept = {row["text"] for row in rows(place, "SELECT text FROM messages WHERE role = 'user'")}
    assert {"a", "c"} <= kept


# --- Health ---------------------------------------------------------------------------------------


@on_loop
async def test_health(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, "[failover]\nattempts = 1\n[breaker]\nrow = 2\n")
        server.default = error(500)
        async with serving(place) as relay:
            found = (await relay.get("/health")).json
            assert (found["status"], found["service"]) == ("healthy", "holychat")
            assert found["providers"]["box"]["state"] == "closed"
            for _ in range(2):
                await relay.chat("hi")
            await asyncio.sleep(0.2)
            assert (await relay.get("/health")).json["providers"]["box"]["state"] == "open"


# --- The description ------------------------------------------------------------------------------


@on_loop
async def test_the_description_names_every_route(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        async with serving(place) as relay:
            found = (await relay.get("/openapi.json")).json
            assert found["openapi"].startswith("3.1")
            for path, methods in found["paths"].items():
                at = path.format(identity="abc", model="auto")
                for method in methods:
                    body = b'{"message": "x", "messages": [{"role": "user", "content": "x"}]}'
                    asked = await relay.start(
                        method.upper(),
                        at,
                        {},
                        body if method == "post" else b"",
                    )
                    got = await asked.end()
                    said = found["paths"][path][method]["responses"]
                    assert str(got.status) in said, (path, got.status)
                    other = "POST" if method == "get" else "GET"
                    got = await (await relay.start(other, at, {})).end()
                    assert got.status == 405
    from holychat.commands.serve.app import build

    assert set(found["paths"]) | {"/ws"} == routes(build)


def routes(build: Any) -> set[str]:
    from holychat.commands.serve.guard import door

    outer = build(None, door("x" * 20, "127.0.0.1", 1, (), (), 9))
    return {route.path_format for route in outer._app._app.routes}


# --- The WebSocket --------------------------------------------------------------------------------


@on_loop
async def test_several_turns_on_one_connection(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, PRICES)
        async with serving(place) as relay, talking(relay) as socket:
            server.script(chunk(reasoning="hm"), *answer("Hello there"))
            await socket.prompt("hi")
            heard = await socket.until("done")
            begin, done = heard[0], heard[-1]
            assert begin["type"] == "begin"
            assert (begin["provider"], begin["model"]) == ("box", "test-model")
            assert [one["text"] for one in heard if one["type"] == "reasoning"] == ["hm"]
            assert "".join(one["text"] for one in heard if one["type"] == "delta") == "Hello there"
            assert done["finish"] == "stop"
            assert done["usage"]["completion"] == 7
            assert done["cost"] == pytest.approx(19e-6)
            assert "$" in done["cost_text"]
            assert done["seams"] == []
            assert 0 <= done["first"] <= done["seconds"]
            identity = begin["conversation"]
            server.script(*answer("More"))
            text, _ = await socket.turn("again", identity)
            assert text == "More"
            assert [one["content"] for one in called(server)[-1]["messages"]] == [
                "hi", "Hello there", "again",
            ]  # fmt: skip
            server.script(*answer("Better"))
            text, done = await socket.turn("", identity, regenerate=True)
            assert (text, done["conversation"]) == ("Better", identity)
            assert [one["content"] for one in called(server)[-1]["messages"]] == [
                "hi", "Hello there", "again",
            ]  # fmt: skip
            got = (await relay.get(f"/api/conversations/{identity}")).json
            assert [one["text"] for one in got["messages"]] == [
                "hi", "Hello there", "again", "Better",
            ]  # fmt: skip
            # The same conversation from another connection, and by OpenAI's form.
            async with talking(relay) as other:
                server.script(*answer("Yes"))
                await other.turn("there?", identity, model="box/test-model")
            server.script(*answer("No"))
            await relay.chat("hi", "Hello there", "again", "Better", "there?", "Yes", "sure?")
            got = (await relay.get(f"/api/conversations/{identity}")).json
            assert [one["text"] for one in got["messages"]][-2:] == ["sure?", "No"]
    assert len(rows(place, "SELECT * FROM conversations")) == 1


@on_loop
async def test_a_history_of_its_own(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay, talking(relay) as socket:
            server.script(*answer("Hello"))
            history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            text, done = await socket.turn("c", history=history)
            assert text == "Hello"
            assert [one["content"] for one in called(server)[-1]["messages"]] == ["a", "b", "c"]
            server.script(*answer("Bye"))
            more = [
                *history,
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "Hello"},
            ]
            _, again = await socket.turn("d", history=more)
            assert again["conversation"] == done["conversation"]


@on_loop
async def test_one_at_a_time_and_cancel(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(chunk("Hello"), Hang())
        async with serving(place) as relay, talking(relay) as socket:
            await socket.say(type="cancel")  # nothing runs: nothing happens
            await socket.prompt("hi")
            await socket.until("delta")
            await socket.prompt("another")
            assert (await socket.heard())["message"] == "busy"
            await socket.say(type="cancel")
            done = (await socket.until("done"))[-1]
            assert done["finish"] == "interrupted"
            await asyncio.wait_for(server.gone.wait(), 5)
            server.script(*answer("Next"))
            text, last = await socket.turn("next", done["conversation"])
            assert (text, last["finish"]) == ("Next", "stop")
            assert called(server)[-1]["messages"][1]["content"] == "Hello"


@on_loop
async def test_who_leaves_has_it_stopped_and_kept(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(chunk("Hello"), Hang())
        async with serving(place) as relay:
            async with talking(relay) as socket:
                await socket.prompt("hi")
                await socket.until("delta")
            await asyncio.wait_for(server.gone.wait(), 5)
            await until(lambda: rows(place, "SELECT * FROM turns WHERE finish = 'interrupted'"))
    assert rows(place, "SELECT text FROM messages WHERE role = 'assistant'")[0]["text"] == "Hello"


@on_loop
async def test_what_goes_wrong_is_said(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, "[failover]\nattempts = 1\n")
        async with serving(place) as relay, talking(relay) as socket:
            for said in ("nonsense", "[]", '{"type": "dance"}', '{"type": "prompt"}',
                         '{"type": "prompt", "text": 5}', '{"type": "prompt", "text": " "}',
                         '{"type": "prompt", "text": "x", "conversation": "nothing"}',
                         '{"type": "prompt", "text": "x", "model": 7}',
                         '{"type": "prompt", "text": "x", "history": {}}'):  # fmt: skip
                await socket.inner.send(said)
                heard = await socket.heard()
                assert heard["type"] == "error", said
                assert heard["message"]
            assert called(server) == []
            server.script(*error(503, "busy now"))
            _, last = await socket.turn("x")
            assert "busy now" in last["message"]
            server.script(chunk("Par"), Cut())
            text, last = await socket.turn("y")
            assert (text, last["type"]) == ("Par", "error")


@on_loop
async def test_a_switch_is_visible(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        more = f'[providers.spare]\nbase_url = "{spare.base_url}"\nmodel = "other"\n'
        more += "needs_key = false\n"
        place.provider(server.base_url, more + '[failover]\nproviders = "spare"\nattempts = 1\n')
        server.default = error(500, "down")
        spare.default = [*answer("Hello")]
        async with serving(place) as relay, talking(relay) as socket:
            await socket.prompt("hi")
            heard = await socket.until("done", "error")
            assert any("down" in one["text"] for one in heard if one["type"] == "notice")
            assert heard[-1]["provider"] == "spare"


@on_loop
async def test_the_end_waits_for_sockets_too(place: Place) -> None:
    gate = Gate()
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("a"), gate, *answer("b")]
        async with started(place) as (relay, running), talking(relay) as socket:
            await socket.prompt("hi")
            await socket.until("delta")
            running.process.terminate()
            await running.err_until(b"stopping")
            gate.open()
            assert (await socket.until("done"))[-1]["finish"] == "stop"
            assert await running.process.wait() == -signal.SIGTERM


# --- The process ----------------------------------------------------------------------------------


@on_loop
async def test_several_workers_share_one_port(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, "streams = 50\n")
        server.default = [*answer("Hello")]
        async with started(place, "--workers", "3") as (relay, running):
            pid = running.process.pid
            await until(lambda: len(children(pid)) == 3)
            got = await asyncio.gather(*(relay.chat(f"hi {n}") for n in range(24)))
            assert {one.status for one in got} == {200}
            await until(lambda: closed(place) == 24)
            os.kill(children(pid)[0], signal.SIGKILL)
            await running.err_until(b"another one begins")
            await until(lambda: len(children(pid)) == 3)
            assert (await relay.chat("still there")).status == 200
            running.process.terminate()
            assert await asyncio.wait_for(running.process.wait(), 20) == -signal.SIGTERM
    assert len(rows(place, "SELECT * FROM turns WHERE finish = 'stop'")) == 25


def children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(each) for each in file.read().split()]
    except FileNotFoundError:
        pytest.skip("/proc lists no children here")


def test_no_other_command_loads_it() -> None:
    code = (
        "import sys, holychat.cli, holychat.engine.session, holychat.commands.ask;"
        "print(*sorted({'uvicorn', 'starlette', 'websockets', 'click'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""


@on_loop
async def test_a_slow_reader_is_dropped(place: Place) -> None:
    hurried = "from holychat.commands.serve import stream; stream.SLOW = 0.5"
    code = f"{hurried}; from holychat import __main__; __main__.main()"
    program = (sys.executable, "-c", code)
    big = [chunk("x" * 60_000) for _ in range(400)]
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*big, *answer("end")]
        async with place.start("serve", "--port", "0", program=program) as running:
            await running.until(b"\n")
            base, _, token = running.out.decode().strip().partition("/#token=")
            relay = Relay("127.0.0.1", int(base.rpartition(":")[2]), token)
            asked = await relay.ask("/v1/chat/completions", completion("hi", stream=True))
            asked.writer.transport.pause_reading()
            await running.err_until(b"did not read")
            await until(lambda: server.open == 0 or server.requests[-1].gone)
            found = (await relay.get("/health")).json
            assert found["streams"] == 0
            asked.writer.transport.resume_reading()
            with suppress(ConnectionResetError):
                async with asyncio.timeout(10):
                    while await asked.reader.read(1 << 20):
                        pass
            assert asked.reader.at_eof() or asked.reader.exception()
            asked.leave()


def test_usage_is_counted_at_the_end() -> None:
    """The stream's own sum is over all attempts: every one of them is paid for."""
    from holychat.commands.serve.desk import usage_of
    from holychat.core.chat import Finish, Turn, Usage

    turn = Turn("", "", Finish.STOP, "p", "m", Usage(3, 4, 1, 2))
    assert usage_of(turn)["total_tokens"] == 7
    assert usage_of(turn)["completion_tokens_details"] == {"reasoning_tokens": 2}
