"""The phases of a connection against real sockets; servers on loopback found or passed over."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from holychat.core.failure import Kind
from holychat.core.provider import BUILT_IN, DEMO, Secret
from holychat.core.provider import Provider as Row
from holychat.net import http1, probe
from tests.provider import Hang, Provider, Proxy, Raw, Status, Wait, answer, error, on_loop, until

TLS = Path(__file__).parent / "tls"
CA = str(TLS / "ca.pem")


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem")
    return context


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def row(server: Provider, **more: str) -> Row:
    return Row("box", server.base_url, key=Secret("sk-0123456789"), **more)  # type: ignore[arg-type]


@on_loop
async def test_every_phase_is_measured_on_one_connection() -> None:
    async with Provider(ssl=server_tls()) as server:
        server.models = ["a", "b"]
        server.script(Wait(0.1), *answer("hello you"))
        seen = await probe.measure(row(server, ca=CA), "a")
    assert seen.failure is None
    assert seen.failed == ""
    assert seen.models == ("a", "b")
    times = (seen.dns, seen.connect, seen.tls, seen.headers, seen.first)
    assert all(took is not None and 0 < took < 2 for took in times)
    assert seen.first is not None
    assert seen.first >= 0.1
    assert server.connections == 1
    listing, asking = server.requests
    assert (listing.method, listing.path) == ("GET", "/v1/models")
    assert listing.headers["authorization"] == "Bearer sk-0123456789"
    assert asking.json["max_tokens"] == 1


@on_loop
async def test_without_a_model_no_token_is_asked_and_http_has_no_tls() -> None:
    async with Provider() as server:
        seen = await probe.measure(row(server))
    assert (seen.tls, seen.first, seen.failure) == (None, None, None)
    assert [one.method for one in server.requests] == ["GET"]


@on_loop
async def test_an_empty_model_means_the_first_that_is_listed() -> None:
    async with Provider() as server:
        server.models = ["b", "a"]
        server.default = list(answer("x"))
        seen = await probe.measure(row(server), "")
    assert seen.first is not None
    assert server.requests[1].json["model"] == "b"


@on_loop
async def test_headers_are_timed_apart_from_the_body() -> None:
    async with Provider() as server:
        server.models = None
        server.script(Wait(0.1), b"[", Wait(0.4), b'"m"]')
        seen = await probe.measure(row(server))
    assert seen.models == ("m",)
    assert seen.headers is not None
    assert 0.1 <= seen.headers < 0.4


@on_loop
async def test_a_refused_key_fails_in_headers_and_still_has_their_time() -> None:
    async with Provider() as server:
        server.models = None
        server.script(*error(401, "bad key"))
        seen = await probe.measure(row(server), "a")
    assert seen.failure is not None
    assert (seen.failed, seen.failure.kind, seen.failure.status) == ("headers", Kind.AUTH, 401)
    assert seen.headers is not None
    assert seen.first is None
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [404, 405, 501])
@on_loop
async def test_a_server_without_a_list_is_well(status: int) -> None:
    async with Provider() as server:
        server.models = None
        server.script(*error(status))
        server.script(*answer("x"))
        seen = await probe.measure(row(server), "a")
    assert (seen.models, seen.failure) == (None, None)
    assert seen.first is not None


@on_loop
async def test_a_closed_port_fails_in_connect() -> None:
    seen = await probe.measure(Row("box", f"http://127.0.0.1:{closed_port()}/v1"))
    assert seen.failure is not None
    assert (seen.failed, seen.failure.kind) == ("connect", Kind.CONNECT)
    assert seen.failure.what.startswith("box: ")
    assert seen.failure.what.endswith("refuses the connection")
    assert seen.dns is not None
    assert seen.connect is None


@on_loop
async def test_an_unknown_name_fails_in_dns() -> None:
    seen = await probe.measure(Row("box", "http://holychat-no-such-host.invalid/v1"))
    assert seen.failure is not None
    assert (seen.failed, seen.failure.kind) == ("dns", Kind.CONNECT)
    assert "no address for the host" in seen.failure.what


@on_loop
async def test_a_certificate_that_does_not_hold_fails_in_tls() -> None:
    async with Provider(ssl=server_tls()) as server:
        seen = await probe.measure(row(server))
    assert seen.failure is not None
    assert (seen.failed, seen.failure.kind) == ("tls", Kind.TLS)
    assert seen.connect is not None


@on_loop
async def test_a_ca_file_that_is_missing_is_a_finding_too() -> None:
    async with Provider(ssl=server_tls()) as server:
        seen = await probe.measure(row(server, ca="/nonexistent/ca.pem"))
    assert seen.failure is not None
    assert seen.failure.kind is Kind.TLS


@pytest.mark.parametrize(("phase", "kind"), [("headers", "headers"), ("first", "first-token")])
@on_loop
async def test_silence_ends_at_the_limit(phase: str, kind: str) -> None:
    async with Provider() as server:
        if phase == "headers":
            server.models = None
        server.default = [Hang()]
        start = asyncio.get_running_loop().time()
        seen = await probe.measure(row(server), "a", limit=0.3)
        took = asyncio.get_running_loop().time() - start
    assert seen.failure is not None
    assert (seen.failed, seen.failure.kind) == (phase, f"timeout-{kind}")
    assert 0.25 < took < 2


@on_loop
async def test_a_server_that_does_not_shake_hands_ends_at_the_limit() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 20)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        seen = await probe.measure(Row("box", f"https://127.0.0.1:{port}/v1"), limit=0.3)
    assert seen.failure is not None
    assert (seen.failed, seen.failure.kind) == ("tls", Kind.TIMEOUT_CONNECT)
    assert seen.failure.what == "box: no TLS within 0.3 s"


@on_loop
async def test_something_else_than_http_is_a_finding() -> None:
    async with Provider() as server:
        server.models = None
        server.script(Raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), Hang())
        seen = await probe.measure(row(server))
    assert seen.failure is not None
    assert (seen.failed, seen.failure.kind) == ("headers", Kind.GARBAGE)


@on_loop
async def test_through_a_proxy_with_tls() -> None:
    async with Provider(ssl=server_tls()) as server, Proxy() as proxy:
        seen = await probe.measure(row(server, ca=CA, proxy=proxy.url))
        assert [one.method for one in proxy.requests] == ["CONNECT"]
    assert seen.failure is None
    assert seen.tls is not None
    assert server.connections == 1


@on_loop
async def test_a_proxy_that_refuses() -> None:
    async with Provider(ssl=server_tls()) as server, Proxy(refuse=407) as proxy:
        seen = await probe.measure(row(server, ca=CA, proxy=proxy.url))
    assert seen.failure is not None
    assert (seen.failed, seen.failure.kind) == ("tls", Kind.CONNECT)
    assert "407" in seen.failure.what


@on_loop
async def test_after_a_dead_address_the_next_is_taken() -> None:
    async with Provider() as server:
        dead = ("127.0.0.1", closed_port())
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", dead),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
        ]
        sock = await probe._first_to_connect(found)
        assert sock.getpeername()[1] == server.port
        sock.close()
        with pytest.raises(ConnectionRefusedError):
            await probe._first_to_connect(found[:1])


@on_loop
async def test_the_demo_has_no_connection_to_measure() -> None:
    demo = next(one for one in BUILT_IN if one.name == DEMO)
    seen = await probe.measure(demo, "demo")
    assert seen.failure is None
    assert (seen.dns, seen.connect, seen.tls) == (None, None, None)
    assert seen.headers is not None
    assert seen.first is not None


@on_loop
async def test_cancelling_closes_the_connection() -> None:
    async with Provider() as server:
        server.models = None
        server.default = [Hang()]
        task = asyncio.create_task(probe.measure(row(server)))
        await until(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(2):
            await server.gone.wait()


# --- Servers on this machine --------------------------------------------------------------------


@on_loop
async def test_local_servers_that_run_are_found_with_their_models() -> None:
    async with Provider() as ollama, Provider() as keyed, Provider() as web, Provider() as hung:
        ollama.models = ["qwen3", "gemma3"]
        keyed.models = web.models = hung.models = None
        keyed.default = error(401, "key, please")
        web.default = [Status(headers={"content-type": "text/html"}), b"<html>a page</html>"]
        hung.default = [Hang()]
        rows = [
            Row("ollama", ollama.base_url),
            Row("keyed", keyed.base_url),
            Row("web", web.base_url),
            Row("hung", hung.base_url),
            Row("off", f"http://127.0.0.1:{closed_port()}/v1"),
        ]
        start = asyncio.get_running_loop().time()
        found = await probe.local_servers(rows)
        took = asyncio.get_running_loop().time() - start
    assert found == {"ollama": ["qwen3", "gemma3"], "keyed": None}
    assert took < 1.5


@on_loop
async def test_nobody_elsewhere_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(http1, "_connect", never)
    assert await probe.local_servers([Row("far", "http://192.0.2.1/v1")]) == {}
