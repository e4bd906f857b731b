from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import ssl
import traceback
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import brotli
import pytest

from holychat.core.chat import Delta, Finish, Message, Request, Usage
from holychat.core.failure import Failure, Kind
from holychat.core.provider import DEMO, QUIRKS, Provider, Quirks, Secret
from holychat.net import client as client_module
from holychat.net.client import Client, Timers
from tests import provider as loopback
from tests.provider import (
    DONE,
    Cut,
    Gate,
    Hang,
    Proxy,
    Raw,
    Reset,
    Status,
    Step,
    Wait,
    answer,
    chunk,
    error,
    event,
    on_loop,
    until,
    usage,
)

TLS = Path(__file__).parent / "tls"
CA = str(TLS / "ca.pem")
KEY = "sk-holy-0123456789-secret"
ASK = Request("test-model", (Message("user", "Hi"),))
JSON = {"content-type": "application/json"}
SHORT = Timers(connect=5, headers=0.3, first=0.3, gap=0.3)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
FINISH = chunk(finish="stop")


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem")
    return context


@dataclass
class World:
    """A server, a client, and the provider value that joins them."""

    server: loopback.Provider
    client: Client
    provider: Provider

    async def ask(self, request: Request = ASK, pause: float = 0, **changes: Any) -> Got:
        got = Got()
        try:
            async with aclosing(
                self.client.stream(replace(self.provider, **changes), request)
            ) as deltas:
                async for delta in deltas:
                    got.deltas.append(delta)
                    if pause:
                        await asyncio.sleep(pause)
        except Failure as failure:
            got.failed = failure
        return got

    async def still_works(self) -> None:
        """The client is as good as new."""
        self.server.script(*answer("still works"))
        assert (await self.ask()).whole == "still works"


@dataclass
class Got:
    deltas: list[Delta] = field(default_factory=list)
    failed: Failure | None = None

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def whole(self) -> str:
        """The text of an answer that did not fail."""
        assert self.failed is None, self.failed
        return self.text

    @property
    def failure(self) -> Failure:
        assert self.failed is not None, self.deltas
        return self.failed

    @property
    def kind(self) -> Kind:
        return self.failure.kind

    @property
    def finish(self) -> Finish | None:
        return next((delta.finish for delta in self.deltas if delta.finish), None)

    @property
    def usage(self) -> Usage | None:
        return next((delta.usage for delta in self.deltas if delta.usage), None)


@asynccontextmanager
async def world(
    timers: Timers | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[World]:
    client = Client(timers or Timers(connect=5, headers=5, first=5, gap=5))
    async with loopback.Provider(tls) as server:
        provider = Provider("loop", server.base_url, key=Secret(KEY), ca=CA if tls else "")
        try:
            yield World(server, client, provider)
        finally:
            await client.aclose()
            await until(lambda: server.open == 0)


# --- A normal answer -----------------------------------------------------------------------------


@on_loop
async def test_a_stream() -> None:
    async with world() as w:
        w.server.script(*answer("Hello big world"))
        got = await w.ask(Request("m", ASK.messages, {"temperature": 0.5}))
        assert got.whole == "Hello big world"
        assert got.deltas[0] == Delta()  # the headers are there
        assert (got.finish, got.usage) == (Finish.STOP, Usage(5, 7))
        seen = w.server.requests[0]
        assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.headers["content-type"] == "application/json"
        assert seen.json == {
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
        }


@on_loop
async def test_text_comes_as_it_arrives() -> None:
    async with world() as w:
        gate = Gate()
        w.server.script(chunk("one "), gate, chunk("two"), FINISH, DONE)
        got = ""
        async with aclosing(w.client.stream(w.provider, ASK)) as deltas:
            async for delta in deltas:
                got += delta.text
                if got:
                    gate.open()
        assert got == "one two"


@on_loop
async def test_the_connection_is_used_again() -> None:
    async with world() as w:
        for _ in range(5):
            await w.still_works()
            await until(lambda: w.client.pool.idle == 1)
        assert w.server.connections == 1


@on_loop
async def test_models() -> None:
    async with world() as w:
        w.server.models = ["b", "a"]
        assert await w.client.models(w.provider) == ["b", "a"]
        assert w.server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert (w.server.requests[0].method, w.server.requests[0].path) == ("GET", "/v1/models")


@on_loop
async def test_warm_opens_what_the_request_uses() -> None:
    async with world() as w:
        w.client.warm(w.provider)
        await until(lambda: w.client.pool.idle == 1)
        await w.still_works()
        assert w.server.connections == 1


@on_loop
async def test_warm_never_raises() -> None:
    async with world() as w:
        for url in (
            "http://[",
            "http://x:99999",
            "",
            "nonsense",
            "ftp://x",
            "http://nowhere.invalid",
            "http://" + "x" * 70_000,
            "http://a\x00b",
        ):
            w.client.warm(replace(w.provider, base_url=url))
        w.client.warm(replace(w.provider, name=DEMO))
        await asyncio.sleep(0.05)


@on_loop
async def test_the_demo_needs_no_network() -> None:
    async with world() as w:
        assert (await w.ask(Request("demo", ASK.messages), name=DEMO)).whole
        assert w.server.connections == 0


@on_loop
async def test_emoji_and_line_separators_cut_everywhere() -> None:
    text = "a😀\u2028b\u0085c\x0b👩‍👩‍👧"
    raw = b"".join([chunk(c) for c in text]) + chunk("\ud83d") + chunk("\ude00") + FINISH + DONE
    async with world() as w:
        w.server.script(*[raw[i : i + 3] for i in range(0, len(raw), 3)])
        assert (await w.ask()).whole == text + "😀"


# --- What is no stream ---------------------------------------------------------------------------

COMPLETION = {
    "model": "m",
    "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7},
}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(COMPLETION).encode(),
        b"\n" * 5000 + json.dumps(COMPLETION, indent=1).encode() + b"\r\n",
        b"\xef\xbb\xbf" + json.dumps(COMPLETION).encode(),
    ],
    ids=["plain", "after empty lines", "bom"],
)
@pytest.mark.parametrize("stream", [True, False])
@on_loop
async def test_a_whole_answer(body: bytes, stream: bool) -> None:
    async with world() as w:
        pieces = [body[i : i + 2000] for i in range(0, len(body), 2000)]
        steps = [step for piece in pieces for step in (piece, Wait(0.01))]  # a read for each
        w.server.script(Status(headers=JSON), *steps)
        got = await w.ask(replace(ASK, stream=stream))
        assert (got.whole, got.finish, got.usage) == ("Hello", Finish.STOP, Usage(5, 7))
        assert w.server.requests[0].json["stream"] is stream


@on_loop
async def test_a_stream_where_none_was_asked_for() -> None:
    async with world() as w:
        w.server.script(*answer("Hello"))
        assert (await w.ask(replace(ASK, stream=False))).whole == "Hello"


@pytest.mark.parametrize("space", [b"\n" * 3000, b"\r\n\r\n", b": hi\n\n", b"\xef\xbb\xbf"])
@on_loop
async def test_a_stream_after(space: bytes) -> None:
    async with world() as w:
        w.server.script(*(space[i : i + 1] for i in range(len(space))), *answer("Hello"))
        assert (await w.ask()).whole == "Hello"


PAGE = b"<html><head><title>Log in</title></head></html>"


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        ([Status(headers={"content-type": "text/html"}), PAGE], Kind.GARBAGE, "Log in"),
        ([b"\xef\xbb\xbf" + PAGE], Kind.GARBAGE, "Log in"),
        ([PAGE[:30], PAGE[30:]], Kind.GARBAGE, "Log in"),
        ([Status(headers=JSON), b'{"error":{"message":"boom"}}'], Kind.IN_STREAM, "boom"),
        ([Status(headers=JSON), b'{"choices": [{"mess'], Kind.GARBAGE, "choices"),
        ([Status(204, chunked=False)], Kind.CUT, ""),
        ([Status(headers={"content-length": "0"}, chunked=False)], Kind.CUT, ""),
        ([], Kind.CUT, ""),
        ([b""], Kind.CUT, ""),
        ([b" \n \n"], Kind.CUT, ""),
        ([b": keep-alive\n\n"] * 3, Kind.CUT, ""),
        ([chunk()], Kind.CUT, ""),
        ([b"data: ping\n\n"], Kind.GARBAGE, "ping"),
        ([DONE], Kind.EMPTY, ""),
        ([FINISH, DONE], Kind.EMPTY, ""),
        ([chunk(""), FINISH, usage(), DONE], Kind.EMPTY, ""),
        ([event({"error": "boom"})], Kind.IN_STREAM, "boom"),
        ([b'error: {"message":"boom"}\n\n', DONE], Kind.IN_STREAM, "boom"),
        ([b'event: error\ndata: {"message":"boom"}\n\n'], Kind.IN_STREAM, "boom"),
        ([b"data: {half\n\n"], Kind.GARBAGE, "half"),
        ([Status(headers={"content-encoding": "zst\x9bd"}), b"x"], Kind.GARBAGE, "zst"),
        ([Status(headers={"content-encoding": "gzip"}), b"no gzip"], Kind.RESET, "gzip"),
        ([Status(headers={"content-encoding": "br"}), b"\xff" * 99], Kind.RESET, "br"),
    ],
)
@on_loop
async def test_no_answer(script: list[Step], kind: Kind, said: str) -> None:
    async with world() as w:
        w.server.script(*script)
        got = await w.ask()
        assert got.kind is kind
        assert said in got.failure.what
        assert got.failure.what.startswith("loop")
        assert got.failure.what.isprintable()
        assert str(got.failure) == got.failure.what
        assert got.text == ""
        await w.still_works()


@on_loop
async def test_tool_calls_are_an_end() -> None:
    async with world() as w:
        w.server.script(chunk(finish="tool_calls"), DONE)
        got = await w.ask()
        assert (got.whole, got.finish) == ("", Finish.TOOL_CALLS)


# --- Ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        [chunk("text"), DONE],
        [chunk("text"), FINISH],
        [chunk("text"), FINISH, Cut()],
        [chunk("text"), FINISH, Reset()],
        [chunk("text"), FINISH, DONE, Cut()],
        [chunk("text"), DONE, Reset()],
        [chunk("text"), DONE, Hang()],
        [chunk("text") + DONE + b"data: {half", Cut()],
        [chunk("text") + b"data: [DONE]\n", Cut()],
        [chunk("text"), b"data: [DONE]"],
        [Status(chunked=False), chunk("text"), b"data: [DONE]", Cut()],
        [Status(chunked=False), chunk("text"), FINISH, b'data: {"usa', Cut()],
        [chunk("text"), FINISH, b'data: {"usa', Cut()],
        [chunk("text", finish="stop"), b"data: nonsense\n\n", Cut()],
        [chunk("text"), FINISH, Raw(b"zz\r\n"), Hang()],
    ],
)
@on_loop
async def test_a_complete_answer_however_it_ends(script: list[Step]) -> None:
    async with world() as w:
        w.server.script(*script)
        assert (await w.ask()).whole == "text"
        await w.still_works()


@on_loop
async def test_done_ends_it_though_the_connection_stays_open() -> None:
    async with world(Timers(connect=5, headers=60, first=60, gap=60)) as w:
        w.server.script(chunk("text"), FINISH, DONE, Hang())
        async with asyncio.timeout(1.5):  # AFTER_FINISH is 2 s, the drain 1 s
            assert (await w.ask()).whole == "text"
        await w.still_works()  # on another connection, while the drain goes on
        assert w.server.connections == 2
        await until(lambda: w.server.requests[0].gone)
        assert w.client.pool.idle == 1
        await w.still_works()
        assert w.server.connections == 2


@on_loop
async def test_a_finish_ends_it_soon_though_the_connection_stays_open() -> None:
    async with world(Timers(connect=5, headers=60, first=60, gap=60)) as w:
        w.server.script(chunk("text"), FINISH, *[Wait(0.05), b": keep-alive\n\n"] * 600)
        async with asyncio.timeout(8):
            assert (await w.ask()).whole == "text"
        await w.still_works()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([chunk("text")], Kind.CUT),
        ([chunk("text"), chunk(finish=None)], Kind.CUT),
        ([Status(chunked=False), chunk("text")], Kind.CUT),
        ([Status(chunked=False), chunk("text"), b'data: {"choices":[{"del'], Kind.CUT),
        ([chunk("text"), b'data: {"choices":[{"del'], Kind.CUT),
        ([chunk("text"), Wait(0.02), Cut()], Kind.RESET),
        ([chunk("text") + b'data: {"choices":[{"del', Wait(0.02), Cut()], Kind.RESET),
        ([chunk("te"), chunk("xt")[:-1], Wait(0.02), Cut()], Kind.RESET),
        ([chunk("text"), Wait(0.02), Reset()], Kind.RESET),
        ([chunk("text"), Raw(b"zz\r\n")], Kind.GARBAGE),
        ([chunk("text"), event({"error": {"message": "x"}}), DONE], Kind.IN_STREAM),
        ([chunk("text"), b"data: {half\n\n", chunk("more"), FINISH, DONE], Kind.GARBAGE),
    ],
)
@on_loop
async def test_a_cut_answer_keeps_its_text(script: list[Step], kind: Kind) -> None:
    async with world() as w:
        w.server.script(*script)
        got = await w.ask()
        assert (got.text, got.kind) == ("text", kind)
        await w.still_works()


@on_loop
async def test_a_huge_event() -> None:
    async with world() as w:
        big = b"x" * 1_000_000
        w.server.script(chunk("text"), b"data: ", *[big] * 17, Hang())
        got = await w.ask()
        assert (got.text, got.kind) == ("text", Kind.TOO_BIG)
        await until(lambda: w.server.requests[0].gone)
        await w.still_works()


@on_loop
async def test_a_huge_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_WHOLE", 1_000_000)
    async with world() as w:
        w.server.script(b"{", *[b" " * 300_000] * 5, Hang())
        assert (await w.ask()).kind is Kind.TOO_BIG
        await w.still_works()


# --- Statuses ------------------------------------------------------------------------------------


@on_loop
async def test_a_refusal() -> None:
    async with world() as w:
        w.server.script(*error(429, "slow down", **{"retry-after": "7"}))
        got = await w.ask()
        assert (got.kind, got.failure.status, got.failure.retry_after) == (Kind.RATE, 429, 7)
        assert got.failure.what == "loop: slow down (429)"
        assert got.deltas == []
        await w.still_works()
        assert w.server.connections == 1


@on_loop
async def test_a_refusal_whose_body_is_cut_or_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        w.server.script(Status(500), b"it bro", Cut())
        assert (await w.ask()).failure.what == "loop: it bro (500)"
        w.server.script(Status(500), *[b"x" * 50_000] * 3, Hang())
        got = await w.ask()
        assert (got.kind, len(got.failure.what) < 400) == (Kind.SERVER, True)
        w.server.script(Status(500, {"content-encoding": "gzip"}), b"no gzip")
        assert (await w.ask()).kind is Kind.SERVER
        await w.still_works()


@pytest.mark.parametrize("code", [301, 302, 307, 308])
@on_loop
async def test_redirects_are_not_followed(code: int) -> None:
    async with world() as w, loopback.Provider() as other:
        for to in (other.base_url + "/chat/completions", w.server.base_url, "/elsewhere"):
            w.server.script(Status(code, {"location": to}))
            got = await w.ask()
            assert (got.kind, got.failure.status) == (Kind.GARBAGE, code)
            assert "redirect" in got.failure.what
        assert len(w.server.requests) == 3
        assert other.connections == 0


@pytest.mark.parametrize(
    "location",
    ["http://[", "http://a b", "http://x:99999/", "//", "", "\xff", "ht!tp:", "x" * 70_000],
)
@on_loop
async def test_redirects_to_nowhere(location: str) -> None:
    async with world() as w:
        w.server.script(Status(302, {"location": location}))
        assert (await w.ask()).kind is Kind.GARBAGE
        await w.still_works()


# --- What a server teaches -----------------------------------------------------------------------

UNKNOWN = "Unrecognized request argument supplied: stream_options"


@on_loop
async def test_stream_options_are_left_out_and_that_is_remembered() -> None:
    async with world() as w:
        w.server.script(*error(400, UNKNOWN))
        await w.still_works()
        assert ["stream_options" in seen.json for seen in w.server.requests] == [True, False]
        await w.still_works()
        assert len(w.server.requests) == 3
        assert w.client.quirks == {"loop": Quirks(stream_options=False)}


@pytest.mark.parametrize(
    "said", [UNKNOWN, "use max_completion_tokens, not max_tokens: unsupported"]
)
@on_loop
async def test_a_refusal_that_keeps_coming_ends(said: str) -> None:
    async with world() as w:
        w.server.default = error(400, said)
        for params in ({}, {"max_tokens": 5}, {"stream_options": {"include_usage": True}}):
            del w.server.requests[:]
            async with asyncio.timeout(5):
                got = await w.ask(Request("m", ASK.messages, params))
            assert (got.kind, got.failure.status) == (Kind.REQUEST, 400)
            assert len(w.server.requests) <= 4
        assert w.client.quirks == {}  # it taught nothing that helps


@on_loop
async def test_two_lessons_at_once() -> None:
    async with world() as w:
        w.server.script(*error(400, UNKNOWN))
        w.server.script(*error(400, "'max_tokens' is unsupported: use 'max_completion_tokens'"))
        w.server.script(*answer("Hello"))
        assert (await w.ask(Request("m", ASK.messages, {"max_tokens": 5}))).whole == "Hello"
        learnt = Quirks(stream_options=False, max_tokens="max_completion_tokens")
        assert w.client.quirks == {"loop": learnt}
        assert w.server.requests[-1].json["max_completion_tokens"] == 5


@on_loop
async def test_quirks_can_be_handed_in() -> None:
    async with loopback.Provider() as server:
        client = Client(quirks={"loop": QUIRKS["mistral"]})
        server.script(*answer("Hello"))
        async with aclosing(client.stream(Provider("loop", server.base_url), ASK)) as deltas:
            assert "".join([delta.text async for delta in deltas]) == "Hello"
        assert "stream_options" not in server.requests[0].json
        await client.aclose()


# --- Timers --------------------------------------------------------------------------------------

KEEP_ALIVE: list[Step] = [b": keep-alive\n\n", Wait(0.02)] * 150


@on_loop
async def test_no_headers() -> None:
    async with world(SHORT) as w:
        w.server.script(Hang())
        got = await w.ask()
        assert got.kind is Kind.TIMEOUT_HEADERS
        assert got.deltas == []
        await until(lambda: w.server.requests[0].gone)
        await w.still_works()


@pytest.mark.parametrize(
    "script",
    [
        [b"\n", Hang()],
        KEEP_ALIVE,
        [chunk("", reasoning=""), Hang()],
        [event({"choices": [], "usage": {"prompt_tokens": 1}}), Wait(0.02)] * 150,
        [b"\n", Wait(0.02)] * 150,
        [b"data: {", *[b" ", Wait(0.02)] * 150],
        [b"{", *[b" ", Wait(0.02)] * 150],
    ],
    ids=["nothing", "comments", "empty delta", "usage", "newlines", "half a line", "half a whole"],
)
@on_loop
async def test_no_first_token(script: list[Step]) -> None:
    async with world(SHORT) as w:
        w.server.script(*script)
        assert (await w.ask()).kind is Kind.TIMEOUT_FIRST
        await until(lambda: w.server.requests[0].gone)
        await w.still_works()


@pytest.mark.parametrize("script", [[Hang()], KEEP_ALIVE], ids=["nothing", "comments"])
@on_loop
async def test_a_gap(script: list[Step]) -> None:
    async with world(SHORT) as w:
        w.server.script(chunk("text"), *script)
        got = await w.ask()
        assert (got.text, got.kind) == ("text", Kind.STALL)
        await until(lambda: w.server.requests[0].gone)
        await w.still_works()


@on_loop
async def test_tokens_in_time_keep_it_alive() -> None:
    async with world(SHORT) as w:
        # More in all than each limit; reasoning is a token too.
        script = [[Wait(0.1), chunk(reasoning="r")]] * 5 + [[Wait(0.1), chunk("a")]] * 5
        w.server.script(*(step for steps in script for step in steps), FINISH, DONE)
        assert (await w.ask()).whole == "aaaaa"


@on_loop
async def test_comments_do_not_end_it_early() -> None:
    async with world(Timers(connect=5, headers=5, first=5, gap=5)) as w:
        w.server.script(*KEEP_ALIVE[:60], chunk("a"), *KEEP_ALIVE[:60], chunk("b"), FINISH, DONE)
        assert (await w.ask()).whole == "ab"


@on_loop
async def test_a_slow_reader_is_not_the_servers_silence() -> None:
    async with world(SHORT) as w:
        w.server.script(chunk("a"), Wait(0.05), chunk("b"), Wait(0.05), chunk("c"), FINISH, DONE)
        assert (await w.ask(pause=0.5)).whole == "abc"  # a full pipe, a slow relay client


@on_loop
async def test_a_slow_reader_still_meets_a_stall() -> None:
    async with world(SHORT) as w:
        w.server.script(chunk("a"), Hang())
        got = await w.ask(pause=0.5)
        assert (got.text, got.kind) == ("a", Kind.STALL)


@on_loop
async def test_models_that_never_come() -> None:
    async with world(SHORT) as w:
        w.server.models = None
        for script in ([Hang()], [b'{"data":[{"id":"a"},', Hang()]):
            w.server.script(*script)
            with pytest.raises(Failure) as caught:
                await w.client.models(w.provider)
            assert caught.value.kind is Kind.TIMEOUT_HEADERS
            await until(lambda: w.server.requests[-1].gone)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([Status(headers=JSON), b'{"error":{"message":"boom"}}'], Kind.IN_STREAM),
        ([Status(headers=JSON), b'{"data":[{"id"', Cut()], Kind.RESET),
        ([PAGE], Kind.GARBAGE),
        ([b""], Kind.GARBAGE),
        ([b"[" * 100_000], Kind.GARBAGE),
        (error(401), Kind.AUTH),
        ([Status(302, {"location": "http://["})], Kind.GARBAGE),
        ([Cut()], Kind.RESET),
    ],
)
@on_loop
async def test_no_models(script: list[Step], kind: Kind) -> None:
    async with world() as w:
        w.server.models = None
        w.server.script(*script)
        with pytest.raises(Failure) as caught:
            await w.client.models(w.provider)
        assert caught.value.kind is kind
        assert caught.value.what.startswith("loop")


# --- Compression ---------------------------------------------------------------------------------


def squeezed(encoding: str, pieces: list[bytes]) -> list[bytes]:
    """The pieces compressed as one stream, flushed after each."""
    if encoding == "br":
        squeeze = brotli.Compressor()
        out = [squeeze.process(piece) + squeeze.flush() for piece in pieces]
        return [*out, squeeze.finish()]
    packer = zlib.compressobj(wbits={"gzip": 31, "deflate": 15}[encoding])
    out = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*out, packer.flush()]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
@on_loop
async def test_compressed_text_comes_as_it_arrives(encoding: str) -> None:
    async with world() as w:
        gate = Gate()
        first, second, *rest = squeezed(encoding, [chunk("one "), chunk("two"), FINISH, DONE])
        w.server.script(Status(headers={"content-encoding": encoding}), first, gate, second, *rest)
        got = ""
        async with aclosing(w.client.stream(w.provider, ASK)) as deltas:
            async for delta in deltas:
                got += delta.text
                if got:
                    gate.open()
        assert got == "one two"
        assert encoding in w.server.requests[0].headers["accept-encoding"]


@on_loop
async def test_a_compressed_error() -> None:
    async with world() as w:
        body = gzip.compress(b'{"error":{"message":"boom"}}')
        w.server.script(Status(500, {"content-encoding": "GZIP"}), body)
        assert (await w.ask()).failure.what == "loop: boom (500)"


# --- The key -------------------------------------------------------------------------------------


def everything(failure: Failure) -> str:
    """All that a log or a crash report could show of it."""
    lines = traceback.format_exception(failure)
    return "".join([*lines, str(failure), repr(failure), failure.what, failure.hint, failure.code])


@pytest.mark.parametrize("raw", [f" {KEY}\n", f"{KEY}\r\n", KEY[:5] + "\n" + KEY[5:]])
@on_loop
async def test_white_space_of_a_key_is_not_sent(raw: str) -> None:
    async with world() as w:
        w.server.script(*answer("Hello"))
        assert (await w.ask(key=Secret(raw))).whole == "Hello"
        assert w.server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("bad", ["é", "\x00", "\x1b", "\x7f", "😀", "\u200b", "\ud800"])
@on_loop
async def test_a_key_that_cannot_be_sent_is_not_shown(bad: str) -> None:
    async with world() as w:
        got = await w.ask(key=Secret(KEY + bad + "more"))
        assert got.kind is Kind.AUTH
        assert KEY not in everything(got.failure)
        assert "LOOP_API_KEY" in got.failure.hint
        assert w.server.connections == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"x": f"{KEY}\n"}, {"x": f"{KEY}é"}, {"x": f"a\r\nb: {KEY}"}, {"x": f"{KEY}\ud800"},
        {f"x {KEY}": "a"}, {f"é{KEY}": "a"}, {"": KEY}, {"x": 7},
    ],
)  # fmt: skip
@on_loop
async def test_a_header_that_cannot_be_sent_is_not_shown(headers: dict[str, str]) -> None:
    async with world() as w:
        got = await w.ask(headers=headers)
        assert got.kind is Kind.REQUEST
        assert KEY not in everything(got.failure)
        await w.still_works()


@on_loop
async def test_no_failure_shows_the_key() -> None:
    async with world(SHORT) as w:
        scripts: list[list[Step]] = [
            [Cut()], [Reset()], [Hang()], [Raw(b"SSH-2.0\r\n\r\n")], [chunk("a"), Hang()], [PAGE],
            error(401, "no"), [Status(302, {"location": f"http://x?{KEY}"})], [b"data: {half\n\n"],
        ]  # fmt: skip
        for script in scripts:
            w.server.script(*script)
            assert KEY not in everything((await w.ask()).failure)
        assert KEY not in everything((await w.ask(base_url="http://127.0.0.1:1")).failure)


@on_loop
async def test_no_key_no_header() -> None:
    async with world() as w:
        w.server.script(*answer("Hello"))
        await w.ask(key=Secret())
        assert "authorization" not in w.server.requests[0].headers


@on_loop
async def test_own_headers() -> None:
    async with world() as w:
        w.server.script(Hang())
        task = asyncio.ensure_future(
            w.ask(
                headers={"X-Title": "t", "User-Agent": "me", "Accept": "a/b", "Content-Type": "c/d"}
            )
        )
        await until(lambda: w.server.requests)
        headers = w.server.requests[0].headers
        assert (headers["x-title"], headers["user-agent"], headers["accept"]) == ("t", "me", "a/b")
        assert headers["content-type"] == "application/json"
        task.cancel()
        await asyncio.wait([task])


# --- Requests that cannot be made ----------------------------------------------------------------


def knot() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1, 2}, object(), knot(), b"x", {(1,): 2}]
)  # fmt: skip
@on_loop
async def test_parameters_that_are_no_json(value: object) -> None:
    async with world() as w:
        got = await w.ask(Request("m", ASK.messages, {"temperature": value}))
        assert got.kind is Kind.REQUEST
        assert w.server.connections == 0


@on_loop
async def test_a_lone_surrogate_can_be_sent() -> None:
    async with world() as w:
        w.server.script(*answer("Hello"))
        assert (await w.ask(Request("m", (Message("user", "a\ud83d"),)))).whole == "Hello"
        assert w.server.requests[0].json["messages"][0]["content"] == "a\ufffd"


@pytest.mark.parametrize(
    "url",
    ["http://[", "http://x:99999", "http://a\nb", "", "nonsense", "ftp://127.0.0.1/v1", "http://",
     "http://x\x00", "http://é\ud800", "file:///etc/passwd", "http:///v1", "127.0.0.1:1/v1",
     "http://" + "x" * 70_000, "http://xn--\u00fc.example"],
)  # fmt: skip
@on_loop
async def test_addresses_that_are_none(url: str) -> None:
    async with world() as w:
        got = await w.ask(base_url=url)
        assert got.kind in (Kind.REQUEST, Kind.CONNECT)
        assert KEY not in everything(got.failure)
        with pytest.raises(Failure):
            await w.client.models(replace(w.provider, base_url=url))


@on_loop
async def test_nobody_there() -> None:
    async with world() as w:
        got = await w.ask(base_url="http://127.0.0.1:1/v1")
        assert got.kind is Kind.CONNECT
        assert got.failure.what == "loop: 127.0.0.1:1 refuses the connection"
        assert "doctor" in got.failure.hint
        got = await w.ask(base_url="http://nowhere.invalid/v1")
        assert got.kind is Kind.CONNECT
        assert "nowhere.invalid" in got.failure.what


# --- TLS and proxies, through the whole client ---------------------------------------------------


@on_loop
async def test_tls() -> None:
    async with world(tls=server_tls()) as w:
        await w.still_works()
        got = await w.ask(ca="")
        assert got.kind is Kind.TLS
        assert "providers.loop.ca" in got.failure.hint
        assert len(w.server.requests) == 1


@pytest.mark.parametrize("tls", [False, True])
@on_loop
async def test_proxy(tls: bool) -> None:
    async with world(tls=server_tls() if tls else None) as w, Proxy() as proxy:
        w.provider = replace(w.provider, proxy=proxy.url)
        await w.still_works()
        assert proxy.requests[0].method == ("CONNECT" if tls else "POST")
        # A tunnel does not show the key to the proxy.
        assert ("authorization" in proxy.requests[0].headers) is not tls
        await w.client.aclose()


# --- Dead idle connections, through the whole client ---------------------------------------------


@pytest.mark.parametrize("death", [Cut(), Reset()])
@on_loop
async def test_a_dead_idle_connection_is_not_noticed(death: Cut | Reset) -> None:
    async with world() as w:
        await w.still_works()
        await until(lambda: w.client.pool.idle == 1)
        w.server.script(death)
        await w.still_works()
        assert (w.server.connections, len(w.server.requests)) == (2, 3)


@pytest.mark.parametrize("death", [Cut(), Reset()])
@on_loop
async def test_a_fresh_connection_that_dies_is_a_failure(death: Cut | Reset) -> None:
    async with world() as w:
        w.server.script(death)
        got = await w.ask()
        assert (got.kind, got.failure.verdict.again) == (Kind.RESET, True)
        assert len(w.server.requests) == 1


# --- Cancellation --------------------------------------------------------------------------------


@on_loop
async def test_leaving_the_loop_closes_the_connection() -> None:
    async with world() as w:
        w.server.script(chunk("a"), Hang())
        async with aclosing(w.client.stream(w.provider, ASK)) as deltas:
            async for delta in deltas:
                if delta.text:
                    break
        await until(w.server.gone.is_set)
        assert w.client.pool.idle == 0
        await w.still_works()


SLOW: list[Step] = [Wait(0.004), *[chunk("word "), Wait(0.003)] * 2000]


async def cancelled(w: World, chance: random.Random) -> None:
    """Start a stream and stop it at a random moment, in one of the ways a program does."""
    task = asyncio.ensure_future(w.ask())
    if chance.random() < 0.4:
        for _ in range(chance.randrange(25)):  # single steps of the loop: connect, send, headers
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(chance.uniform(0, 0.03))
    task.cancel()
    if chance.random() < 0.5:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.parametrize(("tls", "count"), [(False, 1000), (True, 200)])
@on_loop
async def test_random_cancels(tls: bool, count: int) -> None:
    chance = random.Random(20261102)
    async with world(tls=server_tls() if tls else None) as w:
        before = asyncio.all_tasks()
        w.server.default = SLOW
        at_once = 10 if tls else 50  # a handshake is work
        for _ in range(count // at_once):
            await asyncio.gather(*(cancelled(w, chance) for _ in range(at_once)))
        # What is still open was opened for nobody, and waits for the next request.
        await until(lambda: w.server.open <= w.client.pool.idle)
        await until(lambda: asyncio.all_tasks() - before <= w.server.tasks)
        assert len(w.server.requests) > count / 20
        assert all(seen.gone for seen in w.server.requests)
        await w.still_works()
        await w.client.aclose()
        await until(lambda: w.server.open == 0)
        assert asyncio.all_tasks() == before


# --- Whatever comes ------------------------------------------------------------------------------

_TOKENS = (
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 ", b"500 X\r\n", b"\r\n", b"\n", b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n", b"content-encoding: gzip\r\n", b"connection: close\r\n",
    b"location: http://[\r\n", b"5\r\n", b"0\r\n\r\n", b"ffffffffffff\r\n", b"data: ", b"{", b"}",
    b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', b"data: [DONE]\n\n", b"<title>", b"[",
    b"\x1f\x8b\x08", b"\xef\xbb\xbf", b"\x00", b"\xff", b"retry-after: soon\r\n", b": c\n\n",
    b"set-cookie: a=b; domain=\r\n", b"event: error\n", b"HTTP/1.1 302 X\r\n", b"HTTP/1.1 204\r\n",
)  # fmt: skip


def noise(chance: random.Random) -> bytes:
    """Bytes that resemble an answer less or more."""
    match chance.randrange(4):
        case 0:
            return chance.randbytes(chance.randrange(200))
        case 1:
            return b"".join(chance.choices(_TOKENS, k=chance.randrange(14)))
        case 2:
            return STREAM.replace(b"transfer-encoding: chunked\r\n", b"") + b"".join(
                chance.choices(_TOKENS, k=chance.randrange(14))
            )
    good = bytearray(STREAM)
    for piece in answer("Hello there"):
        good += b"%x\r\n%b\r\n" % (len(piece), piece)
    good += b"0\r\n\r\n"
    for _ in range(chance.randrange(1, 4)):
        good[chance.randrange(len(good))] = chance.randrange(256)
    return bytes(good)


@on_loop
async def test_nothing_but_failures_comes_out() -> None:
    chance = random.Random(20261102)
    async with world(SHORT) as w:
        w.server.models = None
        kinds = set()
        for _ in range(300):
            data = noise(chance)
            w.server.script(Raw(data), Reset() if chance.random() < 0.2 else Cut())
            try:
                if chance.random() < 0.8:
                    got = await w.ask()
                    assert got.failed or got.text or got.finish
                    failed = got.failed
                else:
                    failed = None
                    await w.client.models(w.provider)
            except Failure as failure:
                failed = failure
            if failed is not None:
                kinds.add(failed.kind)
                assert CONTROLS.search(failed.what) is None, data
                assert len(failed.what) < 500, data
        await until(lambda: w.server.open == 0)
        assert {Kind.RESET, Kind.GARBAGE, Kind.CUT} <= kinds
        await w.still_works()
