"""The relay as a process: who gets a connection, how it ends, what it says on stderr."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import resource
import signal
import socket
import sqlite3
import sys
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import Place
from tests.provider import Gate, Hang, Provider, answer, chunk, error, on_loop, until
from tests.relay import Got, Open, Relay, completion, serving, started
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from tests.process import Running

pytest.importorskip("websockets")
TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d ")
SELF = (sys.executable, "-m", "holychat")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def with_values(module: str = "host", **values: float) -> tuple[str, ...]:
    """The program, with other values in a module of the relay."""
    sets = "; ".join(f"{module}.{name} = {value}" for name, value in values.items())
    code = f"from holychat.commands.serve import {module}; {sets}"
    return (sys.executable, "-c", f"{code}; from holychat import __main__; __main__.main()")


def under(line: str, program: tuple[str, ...] = SELF) -> tuple[str, ...]:
    """The program, behind a line of the shell."""
    return ("sh", "-c", f'{line}; exec "$0" "$@"', *program)


@asynccontextmanager
async def begun(
    place: Place, *options: str, program: tuple[str, ...]
) -> AsyncIterator[tuple[Relay, Running]]:
    async with place.start("serve", "--port", "0", *options, program=program) as running:
        await running.until(b"\n")
        base, _, token = running.out.decode().strip().partition("/#token=")
        yield Relay("127.0.0.1", int(base.rpartition(":")[2]), token), running


async def dialled(relay: Relay, data: bytes = b"") -> Open:
    reader, writer = await asyncio.open_connection(relay.host, relay.port)
    writer.write(data)
    return Open(reader, writer)


async def gone(one: Open, seconds: float = 4.0) -> bool:
    """Whether the relay closes the connection soon."""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            while await one.reader.read(1 << 16):
                pass
    return one.reader.at_eof() or one.reader.exception() is not None


def half(relay: Relay) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{relay.port}\r\nX-".encode()


def children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(each) for each in file.read().split()]
    except FileNotFoundError:
        pytest.skip("/proc lists no children here")


async def workers(running: Running, many: int) -> list[int]:
    """Their numbers, when all of them serve."""
    pid = running.process.pid
    await until(lambda: len(children(pid)) == many)
    caught = 1 << (signal.SIGUSR1 - 1)
    await until(lambda: all(caught & catches(each) for each in children(pid)), 20)
    return children(pid)


def catches(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        found = re.search(r"SigCgt:\s*([0-9a-f]+)", file.read())
    return int(found[1], 16) if found else 0


def alive(pids: Iterable[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] not in "ZX":
                found.append(pid)
    return found


def lines_of(err: str) -> list[str]:
    """Each begins with the time, and none is a traceback's."""
    lines = err.splitlines()
    assert all(TIMED.match(line) for line in lines), err
    assert "Traceback" not in err
    return [line[20:] for line in lines]


async def streaming(relay: Relay) -> Open:
    asked = await relay.ask("/v1/chat/completions", completion("hi", stream=True))
    await asked.head()
    return asked


def upgrade(path: str, relay: Relay, token: str) -> bytes:
    key = base64.b64encode(b"0123456789abcdef").decode()
    said = (
        f"GET {path} HTTP/1.1", f"host: 127.0.0.1:{relay.port}", "connection: Upgrade",
        "upgrade: websocket", "sec-websocket-version: 13", f"sec-websocket-key: {key}",
        f"sec-websocket-protocol: holychat, bearer.{token}", "", "",
    )  # fmt: skip
    return "\r\n".join(said).encode()


# --- Who gets a connection ------------------------------------------------------------------------


@on_loop
async def test_who_asks_nothing_is_closed(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        gate = Gate()
        server.default = [chunk("a"), gate, *answer("b")]
        async with begun(place, program=with_values(PATIENCE=0.6)) as (relay, running):
            stream = await streaming(relay)
            socket_ = await dialled(relay, upgrade("/ws", relay, relay.token))
            assert (await socket_.head()).status == 101
            silent = await dialled(relay)
            slow = await dialled(relay, half(relay))
            kept = await relay.start("GET", "/health", {})
            await rest(kept)
            kept.writer.write(half(relay))
            # Refused before its body: that is not read, and holds nothing open either.
            bodied = await relay.start("POST", "/chat", {"content-length": "99", "host": "x"})
            await rest(bodied)

            async def drip(one: Open) -> None:
                with suppress(ConnectionError):
                    for _ in range(100):
                        one.writer.write(b"a")
                        await asyncio.sleep(0.05)

            drips = [asyncio.create_task(drip(one)) for one in (slow, kept, bodied)]
            for one in (silent, slow, kept, bodied):
                assert await gone(one)
            for task in drips:
                task.cancel()
            await asyncio.gather(*drips, return_exceptions=True)
            await asyncio.sleep(0.7)
            gate.open()
            assert (await stream.end()).text == "ab"
            assert not socket_.reader.at_eof()
            for one in (silent, slow, kept, bodied, socket_):
                one.leave()
            running.process.terminate()
            lines_of((await running.end()).err)


@on_loop
async def test_who_reads_slowly_gets_all_and_who_does_not_read_is_closed(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*[chunk("x" * 60_000) for _ in range(300)], *answer("end")]
        async with begun(place, program=with_values(PATIENCE=0.6)) as (relay, _):
            assert (await relay.chat("hi")).status == 200
            found = (await relay.get("/api/conversations")).json["conversations"][0]["id"]
            said = f"GET /api/conversations/{found} HTTP/1.1\r\nhost: 127.0.0.1:{relay.port}\r\n"
            said += f"authorization: Bearer {relay.token}\r\n\r\n"
            # Their readers hold 128 KiB, as those of `relay.start` hold all of it.
            deaf, slow = [await dialled(relay, said.encode()) for _ in range(2)]
            await asyncio.gather(deaf.head(), slow.head())
            size, began = int(slow.got.headers["content-length"]), time.monotonic()
            assert size > 18_000_000
            for _ in range(20):
                slow.got.body += await slow.reader.readexactly(size // 20)
                await asyncio.sleep(0.15)
            slow.got.body += await slow.reader.readexactly(size - len(slow.got.body))
            assert slow.got.json["messages"][1]["text"].endswith("end")
            assert time.monotonic() - began > 3
            slow.leave()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await deaf.reader.readexactly(size)
            deaf.leave()


@on_loop
async def test_who_asks_for_the_page_again_and_again_and_reads_none_is_closed(place: Place) -> None:
    """No token is needed for it, and a request is under way all the time."""
    async with Provider() as server:
        place.provider(server.base_url)
        async with begun(place, program=with_values(PATIENCE=0.4)) as (relay, running):
            asks = f"GET / HTTP/1.1\r\nhost: 127.0.0.1:{relay.port}\r\n\r\n".encode()
            deaf = await dialled(relay, asks * 300)
            reader = await dialled(relay, asks * 40)
            for _ in range(40):
                assert (await rest(reader)).status == 200
            await asyncio.sleep(2)
            came = 0
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while came < 300:
                    await rest(deaf)
                    came += 1
            assert came < 300
            for one in (deaf, reader):
                one.leave()
            running.process.terminate()
            lines_of((await running.end()).err)


async def rest(one: Open) -> Got:
    """A response with a length, whose connection stays."""
    await one.head()
    one.got.body = await one.reader.readexactly(int(one.got.headers["content-length"]))
    return one.got


@pytest.mark.parametrize("part", [3, 1])
@on_loop
async def test_many_half_heads_make_nobody_deaf(place: Place, part: int) -> None:
    """By the bound on connections; and, without it, where the descriptors are used up."""
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        program = under("ulimit -n 100", with_values(PART=part, BRIEF=0.2))
        async with begun(place, program=program) as (relay, running):
            stuck = [await dialled(relay, half(relay)) for _ in range(250)]
            for _ in range(3):
                async with asyncio.timeout(5):
                    assert (await relay.get("/health")).status == 200
                    if part > 1:
                        assert (await relay.chat("hi")).status == 200
                await asyncio.sleep(0.3)
            held = len(os.listdir(f"/proc/{running.process.pid}/fd"))
            assert held <= (60 if part == 3 else 100)
            for one in stuck:
                one.leave()
            running.process.terminate()
            said = [line for line in lines_of((await running.end()).err) if "holychat:" in line]
    assert len(said) == 1
    assert ("connections are open" if part == 3 else "descriptors") in said[0]


@on_loop
async def test_who_has_just_come_keeps_the_place(place: Place) -> None:
    """However many there are: those for whom there is no room yet wait in the kernel."""
    async with Provider() as server:
        place.provider(server.base_url)
        async with begun(place, program=under("ulimit -n 100")) as (relay, running):
            assert (await relay.get("/health")).status == 200  # from here on it lets in
            came = [await dialled(relay) for _ in range(80)]
            asks = f"GET / HTTP/1.1\r\nhost: 127.0.0.1:{relay.port}\r\n\r\n".encode()
            for one in came:
                one.writer.write(asks)
            answers = await asyncio.gather(*map(rest, came))
            assert [one.status for one in answers] == [200] * 80
            for one in came:
                one.leave()
            running.process.terminate()
            said = [line for line in lines_of((await running.end()).err) if "holychat:" in line]
    assert len(said) == 1
    assert "connections are open" in said[0]


@on_loop
async def test_who_still_reads_keeps_the_place(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*[chunk("x" * 60_000) for _ in range(300)], *answer("end")]
        program = under("ulimit -n 100", with_values(BRIEF=0.2))
        async with begun(place, program=program) as (relay, _):
            assert (await relay.chat("hi")).status == 200
            found = (await relay.get("/api/conversations")).json["conversations"][0]["id"]
            said = f"GET /api/conversations/{found} HTTP/1.1\r\nhost: 127.0.0.1:{relay.port}\r\n"
            said += f"authorization: Bearer {relay.token}\r\n\r\n"
            slow = await dialled(relay, said.encode())
            size = int((await slow.head()).headers["content-length"])
            stuck = [await dialled(relay, half(relay)) for _ in range(80)]
            assert (await relay.get("/health")).status == 200
            slow.got.body = await slow.reader.readexactly(size)
            assert slow.got.json["messages"][1]["text"].endswith("end")
            for one in (slow, *stuck):
                one.leave()


@on_loop
async def test_more_descriptors_are_asked_for(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with begun(place, program=under("ulimit -Sn 64")) as (relay, running):
            await relay.get("/health")
            soft, hard = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard or soft >= 10_000


# --- How it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@on_loop
async def test_workers_have_their_time_when_all_hear_the_signal(
    place: Place, number: signal.Signals
) -> None:
    """As from a terminal, and from a supervisor that ends a whole group."""
    async with Provider() as server:
        place.provider(server.base_url)
        gate = Gate()
        server.default = [chunk("a"), gate, *answer("b")]
        async with started(place, "--workers", "2") as (relay, running):
            pids = await workers(running, 2)
            stream = await streaming(relay)
            for pid in (*pids, running.process.pid):
                os.kill(pid, number)
            await running.err_until(b"stopping: 1 answer has 10 s")
            await asyncio.sleep(0.3)
            with pytest.raises(ConnectionError):
                await dialled(relay)
            gate.open()
            assert (await stream.end()).events[-1] == "[DONE]"
            assert await asyncio.wait_for(running.process.wait(), 8) == -number
    assert not alive(pids)


@on_loop
async def test_the_second_key_ends_workers_at_once(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("a"), Hang()]
        async with started(place, "--workers", "2") as (relay, running):
            pids = await workers(running, 2)
            stream = await streaming(relay)
            for pid in (*pids, running.process.pid):
                os.kill(pid, signal.SIGINT)
            await running.err_until(b"stopping")
            for pid in (*pids, running.process.pid):
                os.kill(pid, signal.SIGINT)
            assert await asyncio.wait_for(running.process.wait(), 4) == -signal.SIGINT
            stream.leave()
    assert not alive(pids)


@on_loop
async def test_a_terminal_that_is_closed_cuts_nothing(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        gate = Gate()
        server.default = [chunk("a"), gate, *answer("b")]
        async with started(place) as (relay, running):
            stream = await streaming(relay)
            running.process.send_signal(signal.SIGHUP)
            await running.err_until(b"stopping: 1 answer has 10 s")
            running.process.send_signal(signal.SIGHUP)  # the shell says it too
            await asyncio.sleep(0.3)
            gate.open()
            assert (await stream.end()).events[-1] == "[DONE]"
            assert await asyncio.wait_for(running.process.wait(), 8) == -signal.SIGHUP


def test_a_signal_just_before_a_fork_begins_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would serve a socket that is closed, and hear of no end."""
    from holychat.commands.serve import workers as module
    from holychat.commands.serve.host import endings
    from holychat.commands.serve.status import Status

    mask = signal.pthread_sigmask

    def late(how: int, which: Iterable[int]) -> object:
        if how == signal.SIG_BLOCK:
            os.kill(os.getpid(), signal.SIGTERM)
        return mask(how, which)

    def fork() -> int:
        raise AssertionError("a worker began")

    monkeypatch.setattr(module.signal, "pthread_sigmask", late)
    monkeypatch.setattr(module.os, "fork", fork)
    handlers = {number: signal.getsignal(number) for number in endings()}
    with socket.socket() as sock:
        try:
            ended = module.several(2, lambda _: 0, sock, Status(str, quiet=True))
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            mask(signal.SIG_UNBLOCK, handlers)
    assert ended == -signal.SIGTERM
    assert signal.SIGTERM not in mask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
@on_loop
async def test_nohup_is_heeded(place: Place, options: tuple[str, ...]) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        program = under("trap '' HUP")
        async with begun(place, *options, program=program) as (relay, running):
            await relay.get("/health")
            pids = [running.process.pid, *children(running.process.pid)]
            for pid in pids:
                os.kill(pid, signal.SIGHUP)
            await asyncio.sleep(0.5)
            assert (await relay.get("/health")).status == 200
            assert alive(pids) == pids
            running.process.terminate()
            assert await asyncio.wait_for(running.process.wait(), 8) == -signal.SIGTERM


@on_loop
async def test_workers_do_not_outlive_their_parent(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        gate = Gate()
        server.default = [chunk("a"), gate, *answer("b")]
        async with started(place, "--workers", "2") as (relay, running):
            pids = await workers(running, 2)
            stream = await streaming(relay)
            running.process.kill()
            await running.err_until(b"stopping: 1 answer")
            gate.open()
            assert (await stream.end()).events[-1] == "[DONE]"
            await until(lambda: not alive(pids), 8)


@on_loop
async def test_what_a_killed_relay_left_is_closed_by_the_next_one(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("partly"), Hang()]
        async with started(place) as (relay, running):
            asked = [await streaming(relay) for _ in range(2)]
            await until(lambda: len(rows(place, "SELECT * FROM turns")) == 2)
            await asyncio.sleep(1.5)  # what came is journalled once a second
            running.process.kill()
            await running.end()
            for one in asked:
                one.leave()
        assert len(rows(place, "SELECT * FROM turns WHERE writer IS NOT NULL")) == 2
        async with started(place) as (relay, running):
            await running.err_until(b"2 answers are kept as cut")
            assert not rows(place, "SELECT * FROM turns WHERE writer IS NOT NULL")
        async with started(place) as (relay, running):
            await relay.get("/health")
            running.process.terminate()
            assert "kept as cut" not in (await running.end()).err


def rows(place: Place, query: str) -> list[Any]:
    db = sqlite3.connect(place.home / ".local/share/holychat/conversations.db")
    found = db.execute(query).fetchall()
    db.close()
    return found


# --- What it says ---------------------------------------------------------------------------------


@on_loop
async def test_libraries_are_heard_in_our_words(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with started(place) as (relay, running):
            for _ in range(3):
                bad = await dialled(relay, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
                assert await gone(bad)
                bad.leave()
            text = await dialled(relay, upgrade("/ws", relay, relay.token))
            assert (await text.head()).status == 101
            text.writer.write(b"\x81\x82\x00\x00\x00\x00\xff\xfe")
            assert await gone(text)
            text.leave()
            for path, token in (("/other", relay.token), ("/ws", "wrong" * 5)):
                refused = await dialled(relay, upgrade(path, relay, token))
                assert (await refused.head()).status == (403 if path == "/other" else 401)
                assert await gone(refused)
                refused.leave()
            h2c = {"connection": "upgrade", "upgrade": "h2c"}
            old = await relay.start("GET", "/health", h2c)
            assert (await rest(old)).status == 200
            old.leave()
            running.process.terminate()
            lines = lines_of((await running.end()).err)
    ours = [line for line in lines if line.startswith("holychat:")]
    assert len(ours) == 2, lines
    assert "no HTTP request" in ours[0]
    assert "no UTF-8" in ours[1]
    sockets = [line.split(" ")[1:3] for line in lines if line.startswith("WS")]
    assert sockets == [["/ws", "101"], ["/other", "403"], ["/ws", "401"]]


@on_loop
async def test_an_upload_and_a_reader_who_does_not_read_end_without_a_word(place: Place) -> None:
    big = [chunk("x" * 60_000) for _ in range(400)]
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*big, Hang()]
        program = with_values(GRACE=0.3, LAST=0.3)
        async with begun(place, program=program) as (relay, running):
            upload = await relay.start("POST", "/chat", {"content-length": "5000"}, b'{"mess')
            deaf = await relay.ask("/v1/chat/completions", completion("hi", stream=True))
            deaf.writer.transport.pause_reading()
            await asyncio.sleep(1)
            began = time.monotonic()
            running.process.terminate()
            ended = await running.end()
            assert time.monotonic() - began < 8
            upload.leave()
            deaf.leave()
    lines = lines_of(ended.err)
    assert len(lines) == 3, lines
    assert "stopping: 1 answer" in lines[0]
    assert any(re.match(r"POST /chat left 0B", line) for line in lines), lines
    assert any(re.match(r"POST /v1/chat/completions 200 .*cut", line) for line in lines), lines


@on_loop
async def test_a_client_that_leaves_in_mid_upload_is_no_fault(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with started(place) as (relay, running):
            upload = await relay.start("POST", "/chat", {"content-length": "5000"}, b'{"mess')
            await asyncio.sleep(0.2)
            upload.leave()
            await running.err_until(b"POST /chat left 0B")
            running.process.terminate()
            assert lines_of((await running.end()).err) == []


@on_loop
async def test_the_log_says_why(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, "[failover]\nattempts = 1\n")
        async with begun(place, program=with_values(GRACE=0.3)) as (relay, running):
            server.script(*error(500, "the engine is on fire"))
            assert (await relay.chat("a")).status == 502
            server.script(chunk("b"), *error_in_stream())
            assert "went dark" in (await relay.chat("b", stream=True)).body.decode()
            assert (await relay.post("/chat", b"[")).status == 400
            server.script(Hang())
            left = await relay.ask("/v1/chat/completions", completion("c", stream=True))
            await until(lambda: len(server.requests) >= 3)
            left.leave()
            await until(lambda: server.requests[-1].gone)
            server.script(chunk("d"), Hang())
            cut = await streaming(relay)
            running.process.terminate()
            await cut.end()
            lines = lines_of((await running.end()).err)
    found = [line for line in lines if line.startswith("POST")]
    patterns = (
        r"POST /v1/chat/completions 502 .* box .*the engine is on fire",
        r"POST /v1/chat/completions 200 .* box .*went dark",
        r"POST /chat 400 \d+B \d+ms bad_json$",
        r"POST /v1/chat/completions left 0B ",
        r"POST /v1/chat/completions 200 .* box .*cut: the relay was stopped$",
    )
    assert len(found) == len(patterns), lines
    for pattern, line in zip(patterns, found, strict=True):
        assert re.match(pattern, line), line


@on_loop
async def test_the_log_says_why_somebody_was_not_let_in(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with started(place, "--max-body", "2000") as (relay, running):
            assert (await relay.post("/chat", b" " * 2001)).status == 413
            assert (await relay.get("/health", authorization=None)).status == 401
            assert (await relay.get("/health", host="evil.example")).status == 403
            assert (await relay.post("/chat", b"{}", content_type="text/plain")).status == 415
            whole = await relay.get("/")
            page = await relay.start("HEAD", "/", {})
            assert (await page.head()).headers["content-length"] == str(len(whole.body))
            page.leave()
            running.process.terminate()
            lines = lines_of((await running.end()).err)
    patterns = (
        r"POST /chat 413 \d+B \d+ms body_too_large$",
        r"GET /health 401 \d+B \d+ms invalid_api_key$",
        r"GET /health 403 \d+B \d+ms host_not_allowed$",
        r"POST /chat 415 \d+B \d+ms unsupported_media_type$",
        rf"GET / 200 {len(whole.body)}B \d+ms$",
        r"HEAD / 200 0B \d+ms$",
    )
    assert len(lines) == len(patterns), lines
    for pattern, line in zip(patterns, lines, strict=True):
        assert re.match(pattern, line), line


def error_in_stream() -> list[Any]:
    from tests.provider import event

    return [event({"error": {"message": "it went dark", "type": "t", "code": None}})]


@on_loop
async def test_a_bug_is_told_in_a_line_and_nothing_of_it_to_the_client(place: Place) -> None:
    code = "from holychat.commands.serve import shelf; shelf.conversations = None"
    code += "; from holychat import __main__; __main__.main()"
    async with Provider() as server:
        place.provider(server.base_url)
        async with begun(place, program=(sys.executable, "-c", code)) as (relay, running):
            got = await relay.get("/api/conversations")
            assert got.status == 500
            assert "NoneType" not in got.error["message"]
            running.process.terminate()
            lines = lines_of((await running.end()).err)
    assert re.match(r"holychat: something went wrong inside \(TypeError: 'NoneType'", lines[0])
    assert lines[1].startswith("GET /api/conversations 500 ")


@on_loop
async def test_a_relay_without_a_key_says_so_at_each_request(place: Place) -> None:
    async with started(place) as (relay, running):
        got = await relay.chat("hi")
        assert got.status == 503
        running.process.terminate()
        line = lines_of((await running.end()).err)[0]
    assert got.error["message"].split(".")[0] in line


@on_loop
async def test_figures_are_of_all_workers(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, "streams = 50\n")
        gate = Gate()
        server.default = [chunk("a"), gate, *answer("b")]
        async with started(place, "--workers", "3") as (relay, running):
            await workers(running, 3)
            asked = [await streaming(relay) for _ in range(6)]
            before = 0
            for _ in range(12):
                assert (await relay.get("/health")).json["streams"] == 6
                text = (await relay.get("/metrics")).body.decode()
                assert "holychat_relay_streams 6\n" in text
                found = re.search(r"holychat_relay_requests_total (\d+)", text)
                assert found
                assert int(found[1]) > before
                before = int(found[1])
            assert before == 23  # this one is not over yet
            await asyncio.sleep(1)  # after which their end is no sign of something that is amiss
            pids = children(running.process.pid)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: not set(pids) & {*children(running.process.pid)})
            await workers(running, 3)
            assert (await relay.get("/health")).json["streams"] == 0
            text = (await relay.get("/metrics")).body.decode()
            found = re.search(r"holychat_relay_requests_total (\d+)", text)
            assert found
            assert int(found[1]) > before
            gate.open()
            for one in asked:
                one.leave()


@on_loop
async def test_metrics_wait_for_the_store_no_longer_than_a_scrape_does(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        program = with_values("app", STORED=0.4)
        async with begun(place, program=program) as (relay, running):
            assert (await relay.chat("hi")).status == 200
            text = (await relay.get("/metrics")).body.decode()
            assert "holychat_store_up 1\n" in text
            assert 'holychat_calls_total{provider="box"' in text
            db = sqlite3.connect(place.home / ".local/share/holychat/conversations.db")
            db.execute("BEGIN IMMEDIATE")
            asked = await relay.ask("/v1/chat/completions", completion("again"))
            for _ in range(2):
                began = time.monotonic()
                text = (await relay.get("/metrics")).body.decode()
                assert time.monotonic() - began < 1.5
                assert "# TYPE holychat_store_up gauge\nholychat_store_up 0\n" in text
                assert "holychat_relay_requests_total" in text
                assert "holychat_calls_total" not in text
            db.rollback()
            db.close()
            assert (await asked.end()).status == 200
            text = (await relay.get("/metrics")).body.decode()
            assert "holychat_store_up 1\n" in text
            found = r'holychat_calls_total{provider="box",model="test-model",outcome="answered"} 2'
            assert found in text
            running.process.terminate()
            ended = (await running.end()).err
    assert all(line.startswith(("POST", "GET")) for line in lines_of(ended)), ended


@on_loop
async def test_metrics_of_a_store_that_is_none_or_broken(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place, "--store", "none") as relay:
            got = await relay.get("/metrics")
            assert got.status == 200
            assert "holychat_store_up" not in got.body.decode()
        async with serving(place, "--store", str(place.work)) as relay:
            got = await relay.get("/metrics")
            assert (got.status, "holychat_store_up 0\n" in got.body.decode()) == (200, True)


@pytest.mark.parametrize("workers_", ["1", "2"])
@on_loop
async def test_a_line_lives_on_a_terminal(place: Place, workers_: str) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        options = ("serve", "--port", "0", "--workers", workers_)
        environ = {"BOX_API_KEY": place.environ["BOX_API_KEY"]}
        async with Terminal(*options, home=place.home, environ=environ) as terminal:
            await terminal.until(r"0 open · 0 pieces/s · \$0")
            link = re.search(r":(\d+)/#token=(\S+)", terminal.rows()[0])
            assert link
            relay = Relay("127.0.0.1", int(link[1]), link[2])
            assert (await relay.chat("hi")).status == 200
            await terminal.until(r"0 open · \d+ pieces/s · \?\s*$")  # it has no price
            await terminal.until(r"Z?\d POST /v1/chat/completions 200 ")
            gate = Gate()
            server.default = [chunk("a"), gate, *answer("b")]
            stream = await streaming(relay)
            await terminal.until(r"1 open · ")
            terminal.type("\x03")
            await terminal.until("stopping: 1 answer has 10 s")
            gate.open()
            assert (await stream.end()).events[-1] == "[DONE]"
            assert await terminal.end() == -signal.SIGINT
            rows_ = [row for row in terminal.rows()[1:] if row and "#token" not in row]
    assert all(TIMED.match(row) or row.startswith("^C") for row in rows_[1:]), rows_


# --- What is asked of it --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["starlette", "uvicorn", "websockets"])
@on_loop
async def test_half_of_the_extra_is_none(place: Place, name: str) -> None:
    (place.work / f"{name}.py").write_text("raise ImportError('gone')\n")
    ended = await place.run("serve", "--port", "0", PYTHONPATH=str(place.work))
    assert (ended.code, ended.out) == (3, b"")
    assert "pip install 'holychat[serve]'" in ended.err


@on_loop
async def test_what_no_browser_ever_says_is_refused(place: Place) -> None:
    for origin in ("https://x y", "https://user@x.org", "https://x.org:", "https://x.org:99999",
                   "https://x.org:443", "http://x.org:80", "https://x.org?a", "https://x.org#a",
                   "https://münchen.example", "https://[::1", "ftp://x.org", "null"):  # fmt: skip
        ended = await place.run("serve", "--port", "0", "--allow-origin", origin)
        assert ended.code == 2, origin
        assert "--allow-origin" in ended.err
    for name in ("x y", "x:", "x:0", "user@x", "x?", ""):
        assert (await place.run("serve", "--port", "0", "--allow-host", name)).code == 2, name
    good = ("https://x.org", "http://x.org:8080/", "http://[::1]:3000", "HTTPS://a-b_c.example")
    options = [part for origin in good for part in ("--allow-origin", origin)]
    options += [part for name in ("x", "x.org:80", "[::1]:9") for part in ("--allow-host", name)]
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place, *options) as relay:
            got = await relay.get("/health", origin="http://x.org:8080")
            assert got.headers["access-control-allow-origin"] == "http://x.org:8080"


@on_loop
async def test_a_token_file_at_home(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place, "--token-file", "~/deep/token") as relay:
            assert (place.home / "deep/token").read_text().strip() == relay.token
    assert os.listdir(place.work) == []


def test_the_port_is_free_again_at_once() -> None:
    from holychat.commands.serve.host import listening

    one = listening("127.0.0.1", 0)
    port = one.getsockname()[1]
    one.close()
    two = listening("127.0.0.1", port)
    assert isinstance(two, socket.socket)
    two.close()
