"""`holychat serve` as a real process, and a client that says just what the test wants it to say.

async with Provider() as server, serving(place) as relay:
    server.script(*answer("Hello"))
    got = await relay.post("/v1/chat/completions", {"messages": [...]})
    assert (got.status, got.json["choices"]) == ...
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.process import PATIENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.process import Place, Running


@dataclass
class Got:
    """A response."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        assert set(found) == {"message", "type", "code", "param"}
        return found

    @property
    def events(self) -> list[Any]:
        """The data of an event stream; comments are left out."""
        lines = self.body.decode().split("\n\n")
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [one if one == "[DONE]" else json.loads(one) for one in data]

    @property
    def comments(self) -> list[str]:
        return [line[2:] for line in self.body.decode().split("\n\n") if line.startswith(": ")]

    @property
    def text(self) -> str:
        """The answer in the chunks of a stream."""
        chunks = [one for one in self.events if one != "[DONE]" and one.get("choices")]
        return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)


class Open:
    """A request that is under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.got = Got(0)
        self._raw = b""

    async def head(self) -> Got:
        async with asyncio.timeout(PATIENT):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        self.got.status = int(first.split(" ")[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.got.headers[name.strip().lower()] = value.strip()
        return self.got

    async def until(self, wanted: bytes) -> None:
        """Read on until the body holds it."""
        async with asyncio.timeout(PATIENT):
            while wanted not in self.got.body:
                assert await self._more(), self.got.body

    async def _more(self) -> bool:
        """One more HTTP chunk."""
        size = int((await self.reader.readline()).strip() or b"0", 16)
        self.got.body += await self.reader.readexactly(size)
        await self.reader.readline()
        return size > 0

    async def end(self) -> Got:
        if not self.got.status:
            await self.head()
        async with asyncio.timeout(PATIENT):
            if self.got.headers.get("transfer-encoding") == "chunked":
                while await self._more():
                    pass
            else:
                length = int(self.got.headers.get("content-length", "0"))
                self.got.body = await self.reader.readexactly(length)
        self.writer.close()
        return self.got

    def leave(self) -> None:
        self.writer.transport.abort()


class Relay:
    """A relay that listens; `base` is its address."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self.host, self.port, self.token = host, port, token
        self.base = f"http://{host}:{port}"

    async def start(
        self, method: str, path: str, headers: Mapping[str, str | None], body: bytes = b""
    ) -> Open:
        """Send a request; a header that is None is left out."""
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 24)
        said: dict[str, str | None] = {
            "host": f"{self.host}:{self.port}",
            "authorization": f"Bearer {self.token}",
            **({"content-type": "application/json"} if method == "POST" else {}),
            **({"content-length": str(len(body))} if body else {}),
            **headers,
        }
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in said.items() if value is not None]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return Open(reader, writer)

    async def get(self, path: str, **headers: str | None) -> Got:
        return await (await self.start("GET", path, _headers(headers))).end()

    async def ask(self, path: str, body: Any, **headers: str | None) -> Open:
        """Begin a POST; its answer is read by the test."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.start("POST", path, _headers(headers), data)

    async def post(self, path: str, body: Any, **headers: str | None) -> Got:
        return await (await self.ask(path, body, **headers)).end()

    async def chat(self, *texts: str, **more: Any) -> Got:
        return await self.post("/v1/chat/completions", completion(*texts, **more))


def completion(*texts: str, **more: Any) -> dict[str, Any]:
    """A body: user, assistant, user ..."""
    roles = ("user", "assistant")
    said = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return {"messages": said, **more}


def _headers(given: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in given.items()}


@asynccontextmanager
async def started(
    place: Place, *options: str, **environ: str
) -> AsyncIterator[tuple[Relay, Running]]:
    """The process, and the way to talk with it."""
    async with place.start("serve", "--port", "0", *options, **environ) as running:
        yield await _at(running), running


@asynccontextmanager
async def hurried(place: Place, change: str, *options: str) -> AsyncIterator[tuple[Relay, Running]]:
    """`started`, with a constant of ours changed, as in `socket.IDLE = 1`."""
    code = f"from holychat.commands.serve import desk, host, socket, stream; {change}"
    program = (sys.executable, "-c", f"{code}; from holychat import __main__; __main__.main()")
    async with place.start("serve", "--port", "0", *options, program=program) as running:
        yield await _at(running), running


async def ended(running: Running) -> str:
    """Its stderr, after it was asked to stop."""
    running.process.terminate()
    return (await running.end()).err


async def _at(running: Running) -> Relay:
    """By the link that it prints."""
    await running.until(b"\n")
    base, _, token = running.out.decode().strip().partition("/#token=")
    host, _, port = base.removeprefix("http://").rpartition(":")
    return Relay(host.strip("[]"), int(port), token)


@asynccontextmanager
async def serving(place: Place, *options: str, **environ: str) -> AsyncIterator[Relay]:
    async with started(place, *options, **environ) as (relay, _):
        yield relay
