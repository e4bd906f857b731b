from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holychat.core.failure import Failure, Kind
from holychat.net import http1
from holychat.net.http1 import Exchange, Headers, Pool, Target
from tests.provider import (
    Cut,
    Gate,
    Hang,
    Provider,
    Proxy,
    Raw,
    Reset,
    Status,
    Wait,
    on_loop,
    until,
)

TLS = Path(__file__).parent / "tls"
CA = str(TLS / "ca.pem")
SIZED = {"content-length": "2"}
OK = [Status(headers={"content-type": "text/plain"}), b"ok"]


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem")
    return context


def target(server: Provider, **more: str) -> Target:
    scheme = "https" if server.ssl else "http"
    return Target(scheme, "127.0.0.1", server.port, **more)


async def begin(
    pool: Pool, to: Target, content: bytes = b"{}", *more: tuple[bytes, bytes]
) -> Exchange:
    headers: Headers = [
        (b"host", b"x"),
        (b"content-length", str(len(content)).encode()),
        *more,
    ]
    return await pool.exchange(to, "POST", "/v1/x", headers, content)


async def body(exchange: Exchange) -> bytes:
    pieces = []
    while piece := await exchange.read():
        pieces.append(piece)
    return b"".join(pieces)


async def whole(pool: Pool, to: Target) -> bytes:
    return await body(await begin(pool, to))


async def failing(pool: Pool, to: Target) -> Failure:
    with pytest.raises(Failure) as caught:
        await whole(pool, to)
    return caught.value


@asynccontextmanager
async def pooled(
    tls: ssl.SSLContext | None = None, connect: float = 5.0
) -> AsyncIterator[tuple[Provider, Pool]]:
    pool = Pool(connect)
    async with Provider(tls) as server:
        try:
            yield server, pool
        finally:
            await pool.aclose()
            assert pool.idle == 0
            await until(lambda: server.open == 0)


# --- One exchange --------------------------------------------------------------------------------


@on_loop
async def test_an_exchange() -> None:
    async with pooled() as (server, pool):
        server.script(Status(201, {"x-a": "b"}), b"hel", b"lo")
        exchange = await begin(pool, target(server), b'{"a":1}')
        assert exchange.status == 201
        assert (b"x-a", b"b") in exchange.headers
        assert await body(exchange) == b"hello"
        assert await exchange.read() == b""
        assert (server.requests[0].method, server.requests[0].path) == ("POST", "/v1/x")
        assert server.requests[0].json == {"a": 1}


@on_loop
async def test_bytes_come_up_as_they_arrive() -> None:
    async with pooled() as (server, pool):
        gate = Gate()
        server.script(b"one", gate, b"two")
        exchange = await begin(pool, target(server))
        assert await exchange.read() == b"one"
        gate.open()
        assert await body(exchange) == b"two"


@pytest.mark.parametrize(
    "answer",
    [
        [Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")],
        [Raw(b"HTTP/1.1 200 OK\r\n\r\nok"), Cut()],
        [Raw(b"HTTP/1.0 200 OK\r\n\r\nok"), Cut()],
        [Raw(b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok")],
        [Raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\na: b\r\n\r\n"), Wait(0.01),
         Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")],
        [Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\n"
             b"trailer: x\r\n\r\n")],
        [Raw(b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok")],
    ],
)  # fmt: skip
@on_loop
async def test_forms_of_an_answer(answer: list[object]) -> None:
    async with pooled() as (server, pool):
        server.script(*answer)  # type: ignore[arg-type]
        assert await whole(pool, target(server)) == b"ok"


@on_loop
async def test_a_large_body_both_ways() -> None:
    async with pooled() as (server, pool):
        server.script(b"x" * 3_000_000)
        exchange = await begin(pool, target(server), b"y" * 3_000_000)
        assert len(await body(exchange)) == 3_000_000
        assert len(server.requests[0].body) == 3_000_000


# --- Reuse ---------------------------------------------------------------------------------------


@on_loop
async def test_a_connection_is_used_again() -> None:
    async with pooled() as (server, pool):
        server.default = OK
        for _ in range(5):
            assert await whole(pool, target(server)) == b"ok"
            assert pool.idle == 1
        assert server.connections == 1


@on_loop
async def test_parallel_exchanges_have_connections_of_their_own() -> None:
    async with pooled() as (server, pool):
        server.default = OK
        assert await asyncio.gather(*(whole(pool, target(server)) for _ in range(8))) == [b"ok"] * 8
        assert pool.idle == server.connections == 8
        await whole(pool, target(server))
        assert server.connections == 8


@on_loop
async def test_connections_to_other_targets_are_not_shared() -> None:
    async with pooled() as (server, pool):
        server.default = OK
        await whole(pool, target(server))
        await whole(pool, target(server)._replace(host="localhost"))
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        [Status(headers={"connection": "close"}), b"ok"],
        [Status(chunked=False), b"ok"],
        [Raw(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok")],
    ],
)
@on_loop
async def test_what_cannot_be_used_again_is_closed(answer: list[object]) -> None:
    async with pooled() as (server, pool):
        server.script(*answer)  # type: ignore[arg-type]
        assert await whole(pool, target(server)) == b"ok"
        assert pool.idle == 0
        await until(lambda: server.open == 0)


@on_loop
async def test_bytes_after_the_answer_are_not_the_next_answer() -> None:
    async with pooled() as (server, pool):
        forged = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
        server.script(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" + forged), Hang())
        server.script(*OK)
        assert await whole(pool, target(server)) == b"ok"
        assert pool.idle == 0
        assert await whole(pool, target(server)) == b"ok"


@on_loop
async def test_bytes_on_an_idle_connection_are_not_the_next_answer() -> None:
    # HAProxy and others say 408 to an idle connection before they close it.
    async with pooled() as (server, pool):
        late = b"HTTP/1.1 408 Request Time-out\r\ncontent-length: 0\r\n\r\n"
        first = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        gate = Gate()
        server.script(Raw(first), gate, Raw(late), Hang())
        server.script(*OK)
        assert await whole(pool, target(server)) == b"ok"
        assert pool.idle == 1
        gate.open()
        await asyncio.sleep(0.05)
        assert await whole(pool, target(server)) == b"ok"
        assert (server.connections, len(server.requests)) == (2, 2)


@on_loop
async def test_a_connection_that_was_closed_while_idle_is_not_used() -> None:
    async with pooled() as (server, pool):
        server.script(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), Wait(0.02), Cut())
        server.script(*OK)
        assert await whole(pool, target(server)) == b"ok"
        assert pool.idle == 1
        await until(lambda: server.open == 0)
        await asyncio.sleep(0.02)
        assert await whole(pool, target(server)) == b"ok"
        assert len(server.requests) == 2


@on_loop
async def test_old_connections_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pooled() as (server, pool):
        server.default = OK
        await whole(pool, target(server))
        monkeypatch.setattr(http1, "IDLE", 0.01)
        await asyncio.sleep(0.03)
        await whole(pool, target(server))
        assert (server.connections, pool.idle) == (2, 1)


# --- A reused connection that dies ---------------------------------------------------------------


@pytest.mark.parametrize("death", [Cut(), Reset()])
@on_loop
async def test_a_reused_connection_that_dies_at_once_is_replaced(death: Cut | Reset) -> None:
    async with pooled() as (server, pool):
        server.script(*OK)
        server.script(death)
        server.script(*OK)
        await whole(pool, target(server))
        assert await whole(pool, target(server)) == b"ok"
        assert (server.connections, len(server.requests)) == (2, 3)


@pytest.mark.parametrize("death", [Cut(), Reset()])
@on_loop
async def test_once(death: Cut | Reset) -> None:
    async with pooled() as (server, pool):
        server.script(*OK)
        await whole(pool, target(server))
        server.default = [death]
        assert (await failing(pool, target(server))).kind is Kind.RESET
        assert (server.connections, len(server.requests)) == (2, 3)


@pytest.mark.parametrize("death", [Cut(), Reset()])
@on_loop
async def test_a_fresh_connection_that_dies_is_not_replaced(death: Cut | Reset) -> None:
    async with pooled() as (server, pool):
        server.default = [death]
        assert (await failing(pool, target(server))).kind is Kind.RESET
        assert len(server.requests) == 1


@pytest.mark.parametrize("death", [Cut(), Reset()])
@on_loop
async def test_nothing_is_sent_twice_once_bytes_came(death: Cut | Reset) -> None:
    async with pooled() as (server, pool):
        server.script(*OK)
        await whole(pool, target(server))
        server.default = [Raw(b"HTTP/1.1 2"), Wait(0.02), death]
        assert (await failing(pool, target(server))).kind is Kind.RESET
        assert len(server.requests) == 2
        server.script(*OK)
        await whole(pool, target(server))
        server.default = [b"half of it", Wait(0.02), death]
        assert (await failing(pool, target(server))).kind is Kind.RESET
        assert len(server.requests) == 4


@on_loop
async def test_all_old_connections_dead() -> None:
    async with pooled() as (server, pool):
        server.default = OK
        await asyncio.gather(*(whole(pool, target(server)) for _ in range(4)))
        assert pool.idle == 4
        server.script(Cut())
        assert await whole(pool, target(server)) == b"ok"
        assert (server.connections, pool.idle) == (5, 1)


# --- Leaving early -------------------------------------------------------------------------------


@on_loop
async def test_close_is_seen_at_once() -> None:
    async with pooled() as (server, pool):
        server.script(b"x", Hang())
        exchange = await begin(pool, target(server))
        await exchange.read()
        exchange.close()
        exchange.close()
        await until(server.gone.is_set)
        assert server.requests[0].gone
        assert pool.idle == 0
        with pytest.raises(Failure, match="closed"):
            await exchange.read()


@on_loop
async def test_abort_wakes_the_reader_with_its_reason() -> None:
    async with pooled() as (server, pool):
        server.script(b"x", Hang())
        exchange = await begin(pool, target(server))
        await exchange.read()
        reading = asyncio.ensure_future(exchange.read())
        await asyncio.sleep(0)
        fault = Failure(Kind.STALL, "too slow")
        exchange.abort(fault)
        exchange.abort(Failure(Kind.STALL, "another"))
        with pytest.raises(Failure) as caught:
            await reading
        assert caught.value is fault
        exchange.close()
        await until(server.gone.is_set)


@on_loop
async def test_drain_keeps_a_connection_that_ends_soon() -> None:
    async with pooled() as (server, pool):
        gate = Gate()
        server.script(b"all", gate, b"the rest")
        server.script(*OK)
        exchange = await begin(pool, target(server))
        await exchange.read()
        exchange.drain()
        exchange.close()  # as httpx does; it has nothing to close any more
        assert pool.idle == 0
        gate.open()
        await until(lambda: pool.idle == 1)
        assert await whole(pool, target(server)) == b"ok"
        assert server.connections == 1


@on_loop
async def test_drain_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "DRAIN", 0.05)
    async with pooled() as (server, pool):
        server.script(b"all", Hang())
        exchange = await begin(pool, target(server))
        await exchange.read()
        exchange.drain()
        await until(server.gone.is_set)
        assert pool.idle == 0


@on_loop
async def test_drain_after_the_end_is_nothing() -> None:
    async with pooled() as (server, pool):
        server.script(*OK)
        exchange = await begin(pool, target(server))
        await body(exchange)
        exchange.drain()
        assert pool.idle == 1


@on_loop
async def test_aclose_closes_what_is_open() -> None:
    async with pooled() as (server, pool):
        server.default = [b"x", Hang()]
        reading, draining = [await begin(pool, target(server)) for _ in range(2)]
        await reading.read()
        await draining.read()
        draining.drain()
        waiting = asyncio.ensure_future(reading.read())
        await asyncio.sleep(0)
        await pool.aclose()
        with pytest.raises(Failure) as caught:
            await waiting
        assert caught.value.kind is Kind.RESET
        await until(lambda: server.open == 0)
        reading.close()


# --- warm() --------------------------------------------------------------------------------------


@on_loop
async def test_warm_opens_one_connection_that_is_used() -> None:
    async with pooled() as (server, pool):
        server.default = OK
        pool.warm(target(server))
        pool.warm(target(server))
        await until(lambda: pool.idle == 1)
        pool.warm(target(server))
        await asyncio.sleep(0.02)
        assert server.connections == 1
        assert await whole(pool, target(server)) == b"ok"
        assert server.connections == 1


@on_loop
async def test_a_request_waits_for_the_warm_connection() -> None:
    async with pooled() as (server, pool):
        server.default = OK
        pool.warm(target(server))
        assert await whole(pool, target(server)) == b"ok"
        assert server.connections == 1


@on_loop
async def test_two_requests_on_one_warm_connection() -> None:
    async with pooled() as (server, pool):
        server.default = OK
        pool.warm(target(server))
        await asyncio.gather(*(whole(pool, target(server)) for _ in range(2)))
        assert server.connections == 2


@on_loop
async def test_warm_never_raises() -> None:
    async with pooled() as (_, pool):
        pool.warm(Target("http", "127.0.0.1", 1))
        pool.warm(Target("http", "127.0.0.1", 99999))
        pool.warm(Target("http", "nowhere.invalid", 80))
        pool.warm(Target("http", "127.0.0.1", 80, proxy="http://["))
        await asyncio.sleep(0.1)


@on_loop
async def test_a_warm_connection_that_died_is_replaced() -> None:
    async with pooled() as (server, pool):
        pool.warm(target(server))
        await until(lambda: pool.idle == 1)
        server.script(Cut())
        server.script(*OK)
        assert await whole(pool, target(server)) == b"ok"
        assert server.connections == 2


@on_loop
async def test_aclose_while_warming() -> None:
    async with pooled() as (server, pool):
        pool.warm(target(server))
        await asyncio.sleep(0)
        await pool.aclose()
        assert pool.idle == 0


# --- Foreign errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", Kind.RESET),
        (b"HTTP/1.1 200 OK\r\ncontent-le", Kind.RESET),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", Kind.RESET),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nshort", Kind.RESET),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", Kind.RESET),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Kind.GARBAGE),
        (b"\x15\x03\x01\x00\x02\x02\x0a\r\n\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokzz\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: zip\r\n\r\n", Kind.GARBAGE),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000, Kind.GARBAGE),
        (b"HTTP/1.1 \x1b[2J" + b"x" * 50_000 + b"\r\n\r\n", Kind.GARBAGE),
    ],
)
@on_loop
async def test_answers_that_are_none(answer: bytes, kind: Kind) -> None:
    async with pooled() as (server, pool):
        server.script(Raw(answer), Cut())
        failure = await failing(pool, target(server))
        assert failure.kind is kind
        assert len(failure.what) < 300
        assert failure.what.isprintable()
        assert pool.idle == 0


@on_loop
async def test_what_came_before_the_break_is_returned_first() -> None:
    async with pooled() as (server, pool):
        server.script(
            Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"), Cut()
        )
        exchange = await begin(pool, target(server))
        assert await exchange.read() == b"ok"
        with pytest.raises(Failure, match="illegal chunk header"):
            await exchange.read()


@on_loop
async def test_an_illegal_header_is_not_quoted() -> None:
    async with pooled() as (server, pool):
        with pytest.raises(Failure) as caught:
            await begin(pool, target(server), b"", (b"x", b"secret\nsecret"))
        assert caught.value.kind is Kind.REQUEST
        assert "secret" not in caught.value.what
        assert caught.value.__suppress_context__
        await until(lambda: server.open == 0)


@on_loop
async def test_refused() -> None:
    async with Provider() as server:
        closed = target(server)
    for host in ("127.0.0.1", "localhost"):
        failure = await failing(Pool(), closed._replace(host=host))
        assert failure.kind is Kind.CONNECT
        assert failure.what == f"{host}:{closed.port} refuses the connection"


# A listener whose queue is full takes no more connections and refuses none: a hole.
@on_loop
async def test_the_addresses_of_a_name_race(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as hole, contextlib.ExitStack() as fillers:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(hole.getsockname())
        await asyncio.sleep(0.01)
        async with Provider() as closed:
            refusing = ("127.0.0.1", closed.port)
        async with pooled() as (server, pool):
            server.default = OK
            good = ("127.0.0.1", server.port)
            names = {
                "refused first": [refusing, refusing, good],
                "hole first": [hole.getsockname(), good],
                "hole last": [good, hole.getsockname()],
                "both first": [hole.getsockname(), refusing, good],
                "refused": [refusing, refusing],
                "nothing": [],
                "holes": [hole.getsockname(), hole.getsockname()],
            }

            async def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
                inet = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
                return [(*inet, address) for address in names[host]]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
            for host in ("refused first", "hole first", "hole last", "both first"):
                async with asyncio.timeout(3):
                    assert await whole(pool, target(server)._replace(host=host)) == b"ok"
            for host in ("refused", "nothing"):
                failure = await failing(pool, target(server)._replace(host=host))
                assert failure.kind is Kind.CONNECT
            pool.connect_timeout = 0.4
            failure = await failing(pool, target(server)._replace(host="holes"))
            assert failure.kind is Kind.TIMEOUT_CONNECT


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 70, "a..b"])
@on_loop
async def test_no_such_host(host: str) -> None:
    failure = await failing(Pool(), Target("http", host, 80))
    assert failure.kind is Kind.CONNECT
    assert host in failure.what


@pytest.mark.parametrize("port", [99999, 0, -1])
@on_loop
async def test_no_such_port(port: int) -> None:
    failure = await failing(Pool(), Target("http", "127.0.0.1", port))
    assert failure.kind is Kind.REQUEST


@pytest.mark.parametrize("scheme", ["ftp", "", "HTTPX"])
@on_loop
async def test_no_such_scheme(scheme: str) -> None:
    async with pooled() as (server, pool):
        failure = await failing(pool, target(server)._replace(scheme=scheme))
        assert failure.kind is Kind.REQUEST
        assert server.connections == 0


@on_loop
async def test_connect_timeout() -> None:
    # A server that accepts and says nothing: TLS never comes about.
    async with pooled(connect=0.2) as (server, pool):
        failure = await failing(pool, target(server)._replace(scheme="https"))
        assert failure.kind is Kind.TIMEOUT_CONNECT
        assert "0.2 s" in failure.what


def test_an_ipv6_address_has_brackets() -> None:
    assert Target("http", "::1", 80).address == "[::1]:80"
    assert Target("http", "127.0.0.1", 80).address == "127.0.0.1:80"


# --- TLS -----------------------------------------------------------------------------------------


@on_loop
async def test_tls_with_a_private_ca() -> None:
    async with pooled(server_tls()) as (server, pool):
        server.default = OK
        for host in ("127.0.0.1", "localhost"):
            assert await whole(pool, target(server, ca=CA)._replace(host=host)) == b"ok"
        server.default = [b"x" * 500_000]
        assert len(await whole(pool, target(server, ca=CA))) == 500_000
        assert server.connections == 2


@on_loop
async def test_tls_without_it() -> None:
    async with pooled(server_tls()) as (server, pool):
        server.default = OK
        failure = await failing(pool, target(server))
        assert failure.kind is Kind.TLS
        assert "certificate" in failure.what
        assert not server.requests


@on_loop
async def test_tls_for_another_name() -> None:
    async with pooled(server_tls()) as (server, pool):
        failure = await failing(pool, target(server, ca=CA)._replace(host="127.1"))
        assert failure.kind is Kind.TLS
        assert not server.requests


@pytest.mark.parametrize("ca", ["/nonexistent/ca.pem", __file__, "/"])
@on_loop
async def test_a_ca_file_that_is_none(ca: str) -> None:
    async with pooled(server_tls()) as (server, pool):
        failure = await failing(pool, target(server, ca=ca))
        assert failure.kind is Kind.TLS
        assert ca in failure.what


@on_loop
async def test_tls_to_a_server_without() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        failure = await failing(Pool(), Target("https", "127.0.0.1", port))
        assert failure.kind is Kind.TLS


@on_loop
async def test_no_tls_to_a_server_with() -> None:
    async with pooled(server_tls()) as (server, pool):
        failure = await failing(pool, target(server)._replace(scheme="http"))
        assert failure.kind in (Kind.RESET, Kind.GARBAGE)


# --- Proxy ---------------------------------------------------------------------------------------


@on_loop
async def test_proxy_for_http() -> None:
    async with pooled() as (server, pool), Proxy() as proxy:
        server.default = OK
        to = target(server, proxy=proxy.url)
        assert await whole(pool, to) == b"ok"
        assert proxy.requests[0].path == f"http://{to.address}/v1/x"
        assert proxy.requests[0].headers["host"] == "x"
        await pool.aclose()


@on_loop
async def test_proxy_for_https() -> None:
    async with pooled(server_tls()) as (server, pool), Proxy() as proxy:
        to = target(server, ca=CA, proxy=proxy.url.replace("//", "//me:p%40ss@"))
        server.default = [b"x" * 1_000_000]
        for _ in range(2):
            assert len(await whole(pool, to)) == 1_000_000
        assert (proxy.requests[0].method, proxy.requests[0].path) == ("CONNECT", to.address)
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
        assert "proxy-authorization" not in server.requests[0].headers
        assert len(proxy.requests) == server.connections == 1
        await pool.aclose()


@on_loop
async def test_proxy_that_refuses() -> None:
    async with pooled(server_tls()) as (server, pool), Proxy(refuse=407) as proxy:
        failure = await failing(pool, target(server, ca=CA, proxy=proxy.url))
        assert failure.kind is Kind.CONNECT
        assert "407" in failure.what


@on_loop
async def test_tls_is_checked_through_a_proxy() -> None:
    async with pooled(server_tls()) as (server, pool), Proxy() as proxy:
        failure = await failing(pool, target(server, proxy=proxy.url))
        assert failure.kind is Kind.TLS
        await pool.aclose()


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:hunter2@127.0.0.1:1",
        "http://me:hunter2@nowhere.invalid:80",
        "socks5://me:hunter2@127.0.0.1:1",
        "http://me:hunter2@[",
        "http://me:hunter2@127.0.0.1:99999999",
        "http://me:hunter2@127.0.0.1:http",
        "me:hunter2@127.0.0.1:1",
        "http://",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
@on_loop
async def test_a_proxy_that_is_none(proxy: str, scheme: str) -> None:
    failure = await failing(Pool(), Target(scheme, "127.0.0.1", 9, proxy, CA))
    assert failure.kind is Kind.CONNECT
    assert "proxy" in failure.what
    assert "hunter2" not in failure.what


@on_loop
async def test_a_proxy_that_talks_nonsense() -> None:
    async with pooled() as (server, pool):
        for answer in (b"SSH-2.0\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"):
            server.script(Raw(answer), Cut())
            to = Target("https", "127.0.0.1", 9, server.origin, CA)
            assert (await failing(pool, to)).kind is Kind.CONNECT
