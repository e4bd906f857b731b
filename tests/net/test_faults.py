"""The fault proxy on real sockets: what each fault is in bytes, and who may use the proxy."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.chat import Message, Request
from holychat.core.failure import Failure, Kind
from holychat.core.provider import BUILT_IN, DEMO, Secret
from holychat.core.provider import Provider as Row
from holychat.net import demo, faults
from holychat.net.client import Client, Timers
from holychat.net.faults import FAULTS, FaultProxy, Mark
from tests.provider import Hang, Provider, Proxy, answer, chunk, error, on_loop, until

if TYPE_CHECKING:
    from collections.abc import Callable

TLS = Path(__file__).parent / "tls"
CA = str(TLS / "ca.pem")
KEY = "sk-0123456789abcdef"
WORDS = " ".join(str(number) for number in range(1, 41))
WHOLE = b"".join(answer(WORDS))


@dataclass
class Got:
    """What a client reads: the head, the body as it came, and how the connection ended."""

    status: int
    head: str
    body: bytes
    reset: bool


async def ask(
    proxy: FaultProxy, path: str = "/chat/completions", method: str = "POST", base: str = ""
) -> Got:
    """One request by hand, read until the connection ends."""
    asked = (base or proxy.provider.base_url).partition(f":{proxy.port}")[2] + path
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hi"}]})
    body = body[:-1] + ', "stream": true}'
    lines = [f"{method} {asked} HTTP/1.1", f"host: 127.0.0.1:{proxy.port}"]
    lines += [f"authorization: Bearer {KEY}", "accept-encoding: gzip, br"]
    lines += [f"content-length: {len(body)}", "", body]
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write("\r\n".join(lines).encode())
    data, reset = b"", False
    try:
        async with asyncio.timeout(10):
            while more := await reader.read(65536):
                data += more
    except ConnectionResetError:
        reset = True
    finally:
        writer.close()
    head, _, body_came = data.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return Got(status, head.decode().lower(), body_came, reset)


async def through_the_client(proxy: FaultProxy) -> tuple[str, Failure | None]:
    """The same as the product asks: the text that came, and what went wrong."""
    client = Client(Timers(gap=0.3))
    request = Request("test-model", (Message("user", "count"),), stream=True)
    text = ""
    try:
        async with aclosing(client.stream(proxy.provider, request)) as deltas:
            async for delta in deltas:
                text += delta.text
    except Failure as failure:
        return text, failure
    finally:
        await client.aclose()
    return text, None


def row(server: Provider, **more: str) -> Row:
    return Row("box", server.base_url, key=Secret(KEY), **more)  # type: ignore[arg-type]


def built_in_demo() -> Row:
    return next(one for one in BUILT_IN if one.name == DEMO)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "LATE", 0.2)
    monkeypatch.setattr(faults, "TRICKLE", 0.001)
    monkeypatch.setattr(demo, "PACE", 0.0)


# --- Each fault in bytes ------------------------------------------------------------------------


@on_loop
async def test_429_refuses_the_first_request_only() -> None:
    async with Provider() as server, FaultProxy(row(server), "429") as proxy:
        server.default = list(answer(WORDS))
        first, second = await ask(proxy), await ask(proxy)
        assert len(server.requests) == 1, "a refused request does not reach the provider"
    assert first.status == 429
    assert "retry-after: 1\r\n" in first.head + "\r\n"
    assert json.loads(first.body)["error"]["code"] == "429"
    assert (second.status, second.body) == (200, WHOLE)
    assert [deed.what for deed in proxy.deeds] == ["the proxy answers 429, Retry-After: 1"]


@on_loop
async def test_500_refuses_every_request_but_not_the_list_of_models() -> None:
    async with Provider() as server, FaultProxy(row(server), "500") as proxy:
        assert [(await ask(proxy)).status for _ in range(3)] == [500, 500, 500]
        listed = await ask(proxy, "/models", "GET")
        assert [one.method for one in server.requests] == ["GET"]
    assert listed.status == 200
    assert json.loads(listed.body)["data"][0]["id"] == "test-model"
    assert len(proxy.deeds) == 3


@pytest.mark.parametrize("fault", ["cut", "reset"])
@on_loop
async def test_an_answer_ends_in_its_middle(fault: str) -> None:
    async with Provider() as server, FaultProxy(row(server), fault) as proxy:
        server.script(*answer(WORDS)[:-3], Hang())  # the end of it would never come
        server.script(*answer(WORDS))
        got, again = await ask(proxy), await ask(proxy)
        await until(lambda: server.requests[0].gone)  # nobody reads on: it is paid for
    assert got.status == 200
    assert got.reset is (fault == "reset")
    assert WHOLE.startswith(got.body)
    said = [json.loads(one[6:])["choices"][0]["delta"] for one in got.body.split(b"\n\n")[:-1]]
    text = "".join(delta["content"] for delta in said)
    assert faults.TEXT <= len(text) < faults.TEXT + 4
    assert not got.body.endswith(b"\n\n"), "it breaks inside of an event"
    assert (again.status, again.body, again.reset) == (200, WHOLE, False)
    assert f"after {len(text)} characters" in proxy.deeds[0].what


@on_loop
async def test_a_stall_is_silent_until_the_client_leaves() -> None:
    async with Provider() as server, FaultProxy(row(server), "stall") as proxy:
        server.default = [*answer(WORDS)[:-3], Hang()]
        text, failure = await through_the_client(proxy)
        await until(lambda: not proxy._tasks)
        assert server.requests[0].gone
    assert failure is not None
    assert failure.kind is Kind.STALL
    assert WORDS.startswith(text)
    assert len(text) >= faults.TEXT


@on_loop
async def test_slow_holds_the_headers_back_and_loses_nothing() -> None:
    async with Provider() as server, FaultProxy(row(server), "slow") as proxy:
        server.default = list(answer(WORDS))
        loop = asyncio.get_running_loop()
        start = loop.time()
        got = await ask(proxy)
        assert loop.time() - start >= 0.2
    assert (got.status, got.body) == (200, WHOLE)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", Kind.RATE),
        ("500", Kind.SERVER),
        ("cut", Kind.CUT),
        ("stall", Kind.STALL),
        ("reset", Kind.RESET),
        ("slow", None),
    ],
)
@on_loop
async def test_the_client_sees_what_is_meant(fault: str, kind: Kind | None) -> None:
    async with Provider() as server, FaultProxy(row(server), fault) as proxy:
        server.default = list(answer(WORDS))
        text, seen = await through_the_client(proxy)
    assert (seen.kind if seen else None) is kind
    assert seen is None or fault != "429" or seen.retry_after == 1.0
    assert WORDS.startswith(text)
    assert bool(text) is (fault not in faults.REFUSALS)


@on_loop
async def test_what_the_provider_refuses_is_passed_on_unharmed() -> None:
    async with Provider() as server, FaultProxy(row(server), "cut") as proxy:
        server.default = error(402, "no money", **{"x-request-id": "r1"})
        got = await ask(proxy)
    assert got.status == 402
    assert "x-request-id: r1" in got.head
    assert json.loads(got.body)["error"]["message"] == "no money"
    assert proxy.deeds == []


# --- Where it strikes ---------------------------------------------------------------------------


def struck(events: list[bytes]) -> int:
    mark = Mark()
    return next((at for at, event in enumerate(events) if mark.reached(event)), -1)


def test_a_short_answer_is_struck_before_its_end() -> None:
    assert struck(answer("yes")) == 1
    assert struck([chunk("yes", finish="stop")]) == 0
    assert struck([b'{"choices": [{"message": {"content": "yes"}}]}']) == 0


def test_thoughts_and_comments_are_no_answer() -> None:
    thoughts = [chunk(reasoning="hm " * 50)] * 5
    events = [b": keep-alive\n\n", *thoughts, *answer(WORDS)]
    assert struck(events) == 6 + struck(answer(WORDS))


class Pieces:
    """An exchange whose body comes in given pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12), st.sampled_from([b"\n", b"\r\n"]))
def test_any_split_gives_the_same_events(cuts: list[int], newline: bytes) -> None:
    body = WHOLE.replace(b"\n", newline)
    ends = [0, *sorted(cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(ends) if a < b]

    async def collected() -> list[bytes]:
        found = faults._events(Pieces(pieces))  # type: ignore[arg-type]
        return [event async for event in found]

    events = asyncio.run(collected())
    assert [event.replace(b"\r", b"") for event in events] == answer(WORDS)


# --- Whose key goes where -----------------------------------------------------------------------


@on_loop
async def test_the_request_arrives_at_the_provider_as_it_was_sent() -> None:
    async with Provider() as server, FaultProxy(row(server), "slow") as proxy:
        server.default = list(answer("x"))
        await ask(proxy)
        [seen] = server.requests
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"
    assert seen.headers["accept-encoding"] == "identity", "what is packed cannot be cut"
    assert proxy._token not in str(seen)
    assert seen.json["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    "other",
    [
        lambda url, token: url.replace(token, "x"),
        lambda url, token: url.replace(token, token[:-1]),
        lambda url, token: url.replace(f"/{token}", ""),
        lambda url, token: url.replace(token, f"v1/{token}"),
    ],
)
@on_loop
async def test_nobody_without_the_token_gets_through(other: Callable[[str, str], str]) -> None:
    async with Provider() as server, FaultProxy(row(server), "cut") as proxy:
        got = await ask(proxy, base=other(proxy.provider.base_url, proxy._token))
        assert server.connections == 0
    assert got.status == 404
    assert proxy._token.encode() not in got.body
    assert proxy.deeds == []


@on_loop
async def test_two_proxies_have_two_tokens_on_loopback_only() -> None:
    box = Row("box", "https://box.example/v1")
    async with FaultProxy(box, "cut") as one, FaultProxy(box, "cut") as other:
        assert one._token != other._token
        assert len(one._token) >= 20
        assert {sock.getsockname()[0] for sock in one._server.sockets} == {"127.0.0.1"}


@on_loop
async def test_what_is_no_http_is_let_go() -> None:
    async with FaultProxy(built_in_demo(), "cut") as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        assert await reader.read() == b""
        writer.close()


@on_loop
async def test_another_path_of_the_provider_stays_below_the_token() -> None:
    async with Provider() as server, FaultProxy(row(server), "slow") as proxy:
        server.default = list(answer("x"))
        front = proxy.provider.at("/beta")
        assert proxy.provider.at("") == proxy.provider
        assert (await ask(proxy, base=front.base_url)).status == 200
        assert server.requests[0].path == "/beta/chat/completions"


@on_loop
async def test_tls_ca_and_proxy_of_the_provider_are_used_behind_it() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem")
    async with Provider(ssl=context) as server, Proxy() as way:
        server.default = list(answer(WORDS))
        far = row(server, ca=CA, proxy=way.url)
        async with FaultProxy(far, "slow") as proxy:
            assert (proxy.provider.proxy, proxy.provider.ca) == ("", "")
            got = await ask(proxy)
        assert [one.method for one in way.requests] == ["CONNECT"]
    assert got.body == WHOLE


# --- When the provider itself fails -------------------------------------------------------------


@on_loop
async def test_a_dead_provider_is_a_502_that_says_so() -> None:
    async with FaultProxy(Row("box", "http://127.0.0.1:9/v1"), "cut") as proxy:
        got = await ask(proxy)
    assert got.status == 502
    assert "127.0.0.1:9 refuses the connection" in json.loads(got.body)["error"]["message"]


@on_loop
async def test_an_address_that_is_none_is_a_502_too() -> None:
    async with FaultProxy(Row("box", "http://a..b/v1"), "cut") as proxy:
        assert (await ask(proxy)).status == 502


@on_loop
async def test_a_connection_that_breaks_by_itself_breaks_here_too() -> None:
    model = {"model": "cut", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    async with FaultProxy(built_in_demo(), "500") as proxy:
        proxy.fault = "slow"
        path = proxy.provider.base_url.partition(f":{proxy.port}")[2]
        body = json.dumps(model).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        head = f"POST {path}/chat/completions HTTP/1.1\r\nhost: x\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@on_loop
async def test_leaving_the_block_ends_what_runs() -> None:
    async with Provider() as server:
        server.default = [chunk("a"), Hang()]
        async with FaultProxy(row(server), "slow") as proxy:
            asking = asyncio.ensure_future(ask(proxy))
            await until(lambda: server.requests)
        await asking
        await until(lambda: not server.open)


# --- The demo provider behind it ----------------------------------------------------------------


@on_loop
async def test_the_demo_is_served_with_its_own_bytes() -> None:
    async with FaultProxy(built_in_demo(), "slow") as proxy:
        assert proxy.provider.name.lower() == DEMO
        got = await ask(proxy)
    body = b'{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": true}'
    exchange = await demo.exchange("POST", "/v1/chat/completions", body)
    whole = b""
    while data := await exchange.read():
        whole += data
    assert (got.status, got.body) == (200, whole)


def test_the_demo_is_named_so_that_the_client_opens_a_connection() -> None:
    async def name() -> str:
        async with FaultProxy(built_in_demo(), "cut") as proxy:
            return proxy.provider.name

    assert asyncio.run(name()) != DEMO


def test_every_fault_is_told() -> None:
    assert list(FAULTS) == ["429", "500", "cut", "stall", "slow", "reset"]
    assert all(fault.does and fault.times > 0 for fault in FAULTS.values())
