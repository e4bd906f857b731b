"""The WebSocket at `/ws` where things go wrong: who leaves, does not read, or says too much."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket as sockets
import sqlite3
import struct
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import PATIENT, Place
from tests.provider import Gate, Hang, Provider, answer, chunk, error, on_loop, until
from tests.relay import Relay, ended, hurried, serving, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


pytest.importorskip("websockets")
PRICES = '[prices."box/test-model"]\ninput = "1"\noutput = "2"\n'
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
ENDS = ("done", "error")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def rows(place: Place, query: str) -> list[sqlite3.Row]:
    path = place.home / ".local/share/holychat/conversations.db"
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    found = db.execute(query).fetchall()
    db.close()
    return found


def frame(data: str | bytes, kind: int = TEXT) -> bytes:
    """As a client sends it: masked."""
    raw = data.encode() if isinstance(data, str) else data
    size = bytes([0x80 | len(raw)]) if len(raw) < 126 else b"\xfe" + struct.pack("!H", len(raw))
    mask = os.urandom(4)
    return bytes([0x80 | kind]) + size + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(raw))


def prompt(text: str, conversation: str = "", **more: Any) -> bytes:
    said = {"type": "prompt", "text": text, "conversation": conversation, **more}
    return frame(json.dumps(said))


CANCEL = frame('{"type": "cancel"}')


class Wire:
    """A WebSocket's client that decides itself which bytes go out together."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(size)

    async def heard(self) -> dict[str, Any]:
        """A message; a close is one of the type "close"."""
        async with asyncio.timeout(PATIENT):
            return await self._heard()

    async def _heard(self) -> dict[str, Any]:
        while True:
            kind, data = await self.frame()
            if kind == PING:
                self.send(frame(data, PONG))
            elif kind == CLOSE:
                code = struct.unpack("!H", data[:2])[0] if data else 0
                return {"type": "close", "code": code, "reason": data[2:].decode()}
            else:
                found: dict[str, Any] = json.loads(data)
                return found

    async def until(self, *kinds: str) -> list[dict[str, Any]]:
        """All that is heard up to a message of one of these types."""
        found = [await self.heard()]
        while found[-1]["type"] not in (*kinds, "close"):
            found.append(await self.heard())
        assert found[-1]["type"] in kinds, found
        return found

    async def turn(self, text: str, conversation: str = "", **more: Any) -> dict[str, Any]:
        """The end of one."""
        self.send(prompt(text, conversation, **more))
        return (await self.until(*ENDS))[-1]

    async def silence(self, seconds: float = 0.3) -> None:
        """Nothing is to be heard for so long."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                pytest.fail(f"heard {await self.heard()}")

    def leave(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def wired(relay: Relay, room: int = 0) -> AsyncIterator[Wire]:
    """`room`: bytes that may wait to be read."""
    sock = sockets.socket()
    if room:
        sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, room)
    sock.setblocking(False)  # noqa: FBT003 - socket's form
    await asyncio.get_running_loop().sock_connect(sock, (relay.host, relay.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 12 if room else 1 << 20)
    writer.write(
        f"GET /ws HTTP/1.1\r\nhost: {relay.host}:{relay.port}\r\n"
        f"authorization: Bearer {relay.token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
    )
    async with asyncio.timeout(PATIENT):
        assert b" 101 " in (await reader.readuntil(b"\r\n\r\n"))
    wire = Wire(reader, writer)
    try:
        yield wire
    finally:
        wire.leave()


async def streams(relay: Relay) -> int:
    found: int = (await relay.get("/health")).json["streams"]
    return found


async def none_open(relay: Relay) -> None:
    async with asyncio.timeout(PATIENT):
        while await streams(relay):
            await asyncio.sleep(0.02)


# --- Who is gone ----------------------------------------------------------------------------------


@on_loop
async def test_who_does_not_read_is_dropped(place: Place) -> None:
    big = [chunk("x" * 60_000) for _ in range(400)]
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(*big, *answer("end"))
        async with (
            hurried(place, "stream.SLOW = 0.5", "--max-streams", "1") as (relay, running),
            wired(relay, 4096) as wire,
        ):
            wire.send(prompt("hi"))
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.wait_for(server.gone.wait(), PATIENT)
            await none_open(relay)
            server.script(*answer("Hello"))
            assert (await relay.chat("is there a seat?")).status == 200
            wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
            with suppress(ConnectionResetError):
                async with asyncio.timeout(PATIENT):
                    while await wire.reader.read(1 << 20):
                        pass
            err = await ended(running)
    assert err.count("did not read") == 1
    assert "went wrong" not in err
    kept = rows(place, "SELECT finish FROM turns ORDER BY id")
    assert [row["finish"] for row in kept] == ["interrupted", "stop"]


@on_loop
async def test_leaving_is_no_error(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with started(place) as (relay, running):
            for text in ("one", "two"):
                server.gone.clear()
                server.script(chunk("Hello"), Hang())
                async with wired(relay) as wire:
                    wire.send(prompt(text))
                    await wire.until("delta")
                    if text == "two":
                        wire.send(frame(struct.pack("!H", 1000), CLOSE))
                        assert (await wire.heard())["code"] == 1000
                await asyncio.wait_for(server.gone.wait(), PATIENT)
            await none_open(relay)
            err = await ended(running)
    assert "went wrong" not in err
    assert "Disconnect" not in err
    kept = rows(place, "SELECT finish FROM turns")
    assert [row["finish"] for row in kept] == ["interrupted"] * 2


@on_loop
async def test_leaving_while_much_is_said(place: Place) -> None:
    """It is a write that meets the end then, and not a read."""
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*([chunk("word " * 200)] * 2000), *answer("end")]
        async with started(place) as (relay, running):
            for _ in range(5):
                async with wired(relay) as wire:
                    wire.send(prompt("hi"))
                    await wire.until("delta")
            await none_open(relay)
            err = await ended(running)
    assert "went wrong" not in err
    assert "Traceback" not in err


# --- One end for each prompt ----------------------------------------------------------------------


@on_loop
async def test_a_stop_of_the_relay_ends_a_turn_once(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(chunk("Hello"), Hang())
        async with (
            hurried(place, "host.GRACE = 0.2") as (relay, running),
            wired(relay) as wire,
        ):
            wire.send(prompt("hi"))
            await wire.until("delta")
            running.process.terminate()
            heard = [await wire.heard()]
            while heard[-1]["type"] != "close":
                heard.append(await wire.heard())
            assert [one["type"] for one in heard] == ["error", "close"]
            end = heard[0]
            assert (end["code"], end["message"]) == (
                "stopping", "the relay was stopped in mid-answer",
            )  # fmt: skip
            assert "hint" in end
            assert heard[1]["code"] == 1012
            assert (await running.end()).code == -signal.SIGTERM
    kept = rows(place, "SELECT text FROM messages WHERE role = 'assistant'")
    assert [row["text"] for row in kept] == ["Hello"]


@on_loop
async def test_prompt_and_cancel_in_one_packet(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, PRICES)
        server.default = [*answer("Hello")]
        async with serving(place, "--max-streams", "1") as relay, wired(relay) as wire:
            for _ in range(20):
                wire.send(prompt("hi"), CANCEL)
                end = (await wire.until(*ENDS))[-1]
                assert (end["type"], end["finish"]) == ("done", "interrupted")
                if identity := end["conversation"]:  # its prompt was kept
                    assert (await relay.get(f"/api/conversations/{identity}")).status == 200
            wire.send(prompt("hi"), CANCEL, CANCEL, prompt("now"), prompt("too much"), CANCEL)
            assert (await wire.until(*ENDS))[-1]["finish"] == "interrupted"
            said = [(await wire.until(*ENDS))[-1] for _ in range(2)]
            assert sorted(one.get("code", "done") for one in said) == ["busy", "done"]
            await wire.silence()
            assert (await wire.turn("after"))["finish"] == "stop"


@on_loop
async def test_cancel_while_the_conversation_is_opened(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.models = None
        async with serving(place, "--max-streams", "1") as relay, wired(relay) as wire:
            server.script(Hang())  # for the list of the models
            wire.send(prompt("hi", model="box/other"))
            await until(lambda: server.requests)
            wire.send(CANCEL)
            end = (await wire.until(*ENDS))[-1]
            assert (end["type"], end["finish"]) == ("done", "interrupted")
            assert await streams(relay) == 0
            server.script(*answer("Hello"))
            assert (await wire.turn("hi"))["finish"] == "stop"


@on_loop
async def test_after_done_the_next_prompt_is_taken(place: Place) -> None:
    """As many as there are seats, and none of them is ever told to wait."""
    many = 4
    async with Provider() as server:
        place.provider(server.base_url, f"streams = {many}\n")
        server.default = [*answer("Hello")]
        async with serving(place, "--max-streams", str(many)) as relay:

            async def talk(number: int) -> None:
                async with wired(relay) as wire:
                    for count in range(40):
                        end = await wire.turn(f"{number} {count}", history=[])
                        assert end["type"] == "done", end
                    wire.send(prompt("last"), CANCEL)
                    await wire.until("done")
                    assert (await wire.turn("again"))["type"] == "done"

            await asyncio.gather(*(talk(number) for number in range(many)))


@on_loop
async def test_each_error_has_a_code(place: Place) -> None:
    gate = Gate()
    async with Provider() as server:
        place.provider(server.base_url, "[failover]\nattempts = 1\n")
        async with serving(place, "--max-streams", "1") as relay, wired(relay) as wire:
            wanted = {
                "nonsense": "bad_message",
                '{"type": "dance"}': "bad_message",
                '{"type": "prompt", "text": 5}': "invalid_request_error",
                '{"type": "prompt", "text": " "}': "invalid_request_error",
                '{"type": "prompt", "text": "x", "conversation": "nothing"}': "not_found",
                '{"type": "prompt", "text": "x", "model": 7}': "bad_model",
                '{"type": "prompt", "text": "x", "history": {}}': "invalid_request_error",
                '{"type": "prompt", "text": "", "history": []}': "invalid_request_error",
                '{"type": "prompt", "text": " \\n", "history": [{"content": "a"}]}':
                    "invalid_request_error",
            }  # fmt: skip
            for said, code in wanted.items():
                wire.send(frame(said))
                heard = await wire.heard()
                assert (heard["type"], heard["code"]) == ("error", code), said
                assert set(heard) == {"type", "message", "hint", "code"}
                assert heard["message"]
            assert not [one for one in server.requests if one.method == "POST"]
            server.script(*error(401))
            end = await wire.turn("x")
            assert (end["type"], end["code"]) == ("error", "upstream_auth")
            assert end["hint"]
            server.script(chunk("a"), gate, *answer("b"))
            wire.send(prompt("x"))
            await wire.until("delta")
            async with wired(relay) as other:
                assert (await other.turn("y"))["code"] == "too_many_streams"
            wire.send(prompt("z"))
            heard = await wire.heard()
            assert heard["type"] == "error", heard
            assert (heard["code"], heard["message"]) == ("busy", "busy")
            gate.open()
            assert (await wire.until(*ENDS))[-1]["finish"] == "stop"


@on_loop
async def test_an_answer_that_begins_anew_is_not_said_twice(place: Place) -> None:
    """What is out cannot be taken back."""
    async with Provider() as server:
        place.provider(server.base_url, top='on_cut = "restart"')
        server.script(chunk("Par"))
        server.default = [*answer("Whole")]
        async with serving(place) as relay, wired(relay) as wire:
            wire.send(prompt("hi"))
            heard = await wire.until(*ENDS)
    assert "".join(one["text"] for one in heard if one["type"] == "delta") == "Par"
    assert heard[-1]["type"] == "error"


# --- The log --------------------------------------------------------------------------------------


@on_loop
async def test_each_turn_leaves_a_line(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, PRICES + "[failover]\nattempts = 1\n")
        async with started(place) as (relay, running), wired(relay) as wire:
            server.script(*answer("Hello there"))
            await wire.turn("a secret")
            server.script(*error(401, "who are you"))
            await wire.turn("b")
            server.script(chunk("Hello"), Hang())
            wire.send(prompt("c"))
            await wire.until("delta")
            wire.send(CANCEL)
            await wire.until("done")
            wire.send(prompt(""))
            await wire.until("error")
            wire.leave()
            err = await ended(running)
    lines = [line.split(" ", 1)[1] for line in err.splitlines() if " WS /ws " in line]
    assert len(lines) == 5, err
    good, bad, stopped, refused, connection = (line.split() for line in lines)
    assert good[:3] == ["WS", "/ws", "200"]
    assert int(good[3].removesuffix("B")) > 100
    assert int(good[4].removesuffix("ms")) < 5000
    assert good[5:7] == ["stop", "box"]
    assert "$0.000" in good[7]
    assert bad[:3] == ["WS", "/ws", "502"]
    assert bad[5:7] == ["failed", "box"]
    assert "who are you" in lines[1]
    assert stopped[2] == "200"
    assert stopped[5:7] == ["interrupted", "box"]
    assert refused[2] == "400"
    assert refused[5:] == ["refused", "text"]
    assert connection[2] == "101"
    assert "secret" not in err


# --- The connection -------------------------------------------------------------------------------


@on_loop
async def test_open_sockets_are_bounded(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        async with hurried(place, "socket.OPEN = 2", "--max-streams", "1") as (relay, _):
            async with wired(relay) as one, wired(relay) as two:
                assert (await one.turn("a"))["type"] == "done"
                async with wired(relay) as three:
                    heard = await three.heard()
                    assert (heard["type"], heard["code"]) == ("close", 1013)
                    assert "try again later" in heard["reason"]
                    three.send(prompt("x"))
                    three.send(frame(struct.pack("!H", 1013), CLOSE))
                    assert await asyncio.wait_for(three.reader.read(), PATIENT) == b""
                assert (await two.turn("b"))["type"] == "done"
            for _ in range(5):  # who left counts no more
                async with wired(relay) as four:
                    four.send(prompt("c"))
                    heard = await four.heard()
                    if heard["type"] != "close":
                        break
                    await asyncio.sleep(0.1)
            assert heard["type"] == "begin"


def test_where_descriptors_are_few_others_get_in_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from holychat.commands.serve import host, socket

    desk: Any = SimpleNamespace(most=256)
    monkeypatch.setattr(host, "descriptors", lambda: 10_240)
    assert socket.most(desk) == 1000
    desk.most = 800
    assert socket.most(desk) == 1600
    monkeypatch.setattr(host, "descriptors", lambda: 256)
    assert socket.most(desk) == 256 // host.PART // 2


@on_loop
async def test_who_says_nothing_is_sent_away(place: Place) -> None:
    gate = Gate()
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(chunk("Hello"), gate, *answer("there"))
        async with hurried(place, "socket.IDLE = 1") as (relay, _), wired(relay) as wire:
            wire.send(prompt("hi"))
            await wire.until("delta")
            await wire.silence(1.5)  # an answer under way is no silence
            gate.open()
            await wire.until("done")
            await wire.silence(0.6)
            wire.send(CANCEL)
            await wire.silence(0.6)
            heard = await wire.heard()
            assert (heard["type"], heard["code"]) == ("close", 1001)
            assert "nothing was said" in heard["reason"]


@on_loop
async def test_a_frame_that_is_no_text(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with started(place) as (relay, running):
            async with wired(relay) as wire:
                wire.send(frame(b"\x00", BINARY))
                heard = await wire.heard()
                assert (heard["type"], heard["code"]) == ("close", 1003)
                assert heard["reason"]
            server.script(chunk("Hello"), Hang())
            async with wired(relay) as wire:
                wire.send(prompt("hi"))
                await wire.until("delta")
                wire.send(frame(b"\x00", BINARY))
                heard = await wire.until("close")
                assert [one["type"] for one in heard] == ["done", "close"]
                assert heard[0]["finish"] == "interrupted"
            await asyncio.wait_for(server.gone.wait(), PATIENT)
            server.gone.clear()
            server.script(chunk("Hello"), Hang())
            async with wired(relay) as wire:
                wire.send(prompt("hi"))
                await wire.until("delta")
                wire.send(frame(b"\xff\xfe"), frame(b"\xff"))
                assert (await wire.until("close"))[-1]["code"] == 1007
            await asyncio.wait_for(server.gone.wait(), PATIENT)
            async with wired(relay) as wire:
                wire.send(frame("{}")[:1] + b"\xff" * 20)  # a length of 2^63 and more
                assert (await wire.until("close"))[-1]["code"] in (1002, 1009)
            await none_open(relay)
            err = await ended(running)
    assert "Traceback" not in err
    assert "went wrong" not in err


@on_loop
async def test_half_a_character(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        async with started(place) as (relay, running):
            async with wired(relay) as wire:
                for more in ({}, {"history": []}, {"conversation": "\ud83d"}, {"model": "\ud83d"}):
                    end = await wire.turn("half \ud83d", **more)
                    assert end["type"] in ENDS
                    assert end.get("code") != "internal", (more, end)
            err = await ended(running)
    assert "went wrong" not in err


# --- The store ------------------------------------------------------------------------------------


def held(pid: int) -> tuple[int, int]:
    """(threads, descriptors)"""
    if not os.path.isdir(f"/proc/{pid}/task"):
        pytest.skip("there is no /proc here")
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


@on_loop
async def test_a_socket_costs_no_thread(place: Place) -> None:
    many = 12
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        async with started(place) as (relay, running):
            pid = running.process.pid
            async with wired(relay) as first:
                for _ in range(12):  # whatever threads there are for all
                    await first.turn("hi")
                before = held(pid)
                wires = [wired(relay) for _ in range(many)]
                opened = [await one.__aenter__() for one in wires]
                for wire in opened:
                    end = await wire.turn("hi")
                    assert (await wire.turn("more", end["conversation"]))["type"] == "done"
                after = held(pid)
                for one in wires:
                    await one.__aexit__(None, None, None)
    assert after[0] - before[0] <= 2
    assert after[1] - before[1] <= many + 4
    assert len(rows(place, "SELECT * FROM conversations")) == many + 12


@on_loop
async def test_what_the_store_did_not_take_is_owed(place: Place) -> None:
    """In one conversation, which goes on all the while; and it is written when the relay ends."""
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        path = place.home / ".local/share/holychat/conversations.db"
        async with started(place) as (relay, running):
            async with wired(relay) as wire:
                identity = (await wire.turn("a"))["conversation"]
                lock = sqlite3.connect(path, isolation_level=None)
                lock.execute("BEGIN IMMEDIATE")
                # The store is asked for the conversation, which can be read; its end is owed.
                for text in ("b", "c"):
                    end = await wire.turn(text, identity)
                    assert (end["type"], end["conversation"]) == ("done", identity), end
                said = [one for one in server.requests if one.method == "POST"][-1].json["messages"]
                assert [one["content"] for one in said] == ["a", "Hello", "b", "Hello", "c"]
            lock.execute("ROLLBACK")
            lock.close()
            await ended(running)
    kept = rows(place, "SELECT text FROM messages WHERE role = 'user' ORDER BY id")
    assert [row["text"] for row in kept] == ["a", "b", "c"]
    assert len(rows(place, "SELECT * FROM conversations")) == 1


@on_loop
async def test_the_next_try_of_what_failed_replaces_nothing(place: Place) -> None:
    """A prompt that failed is not in the store: the exchange before it stays."""
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay, wired(relay) as wire:
            server.script(*answer("well"))
            identity = (await wire.turn("first"))["conversation"]
            server.script(*error(400))
            assert (await wire.turn("second", identity))["type"] == "error"
            for said in ("then", "later"):
                server.script(*answer(said))
                end = await wire.turn("second", identity, regenerate=True)
                assert end["type"] == "done"
            got = (await relay.get(f"/api/conversations/{identity}")).json
    assert [one["text"] for one in got["messages"]] == ["first", "well", "second", "later"]
