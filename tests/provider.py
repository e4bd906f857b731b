"""A loopback server that plays a script, byte by byte: the real other end of most tests.

    async with Provider() as server:
        server.script(chunk("Hel"), chunk("lo"), DONE)      # for the next request
        ... server.base_url ...
        server.requests[0].json["messages"]

A script is a list of steps, played after the request was read: bytes are written as they are
(inside HTTP chunks, unless `raw`), and the verbs below do the rest. A request with no script left
gets `default`, or a 500 that says so.
"""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Status:
    """Must come first: another status, headers, and whether the body is chunked."""

    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = True
    reason: str = "X"


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Raw:
    """Bytes outside of any HTTP framing, in place of status and headers if it comes first."""

    data: bytes


class Cut:
    """Close the connection in the orderly way (FIN), without the end of the body."""


class Reset:
    """Close the connection with a RST."""


class Hang:
    """Send nothing more, and keep the connection open until the client leaves."""


class Gate:
    """Wait until the test says `open()`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.reached = asyncio.Event()

    def open(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        self.reached.set()
        await self._event.wait()


Step = bytes | Status | Wait | Raw | Cut | Reset | Hang | Gate
DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(
    content: str | None = None,
    *,
    finish: str | None = None,
    reasoning: str | None = None,
    **more: Any,
) -> bytes:
    delta: dict[str, Any] = {} if content is None else {"content": content}
    if reasoning is not None:
        delta["reasoning_content"] = reasoning
    return event(
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "test-model",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            **more,
        }
    )


def usage(prompt: int = 5, completion: int = 7, **more: Any) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, **more}
    return event({"model": "test-model", "choices": [], "usage": counts})


def answer(text: str, finish: str = "stop") -> list[bytes]:
    """A whole well-behaved answer, a word a chunk."""
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    return [*(chunk(word) for word in words), chunk(finish=finish), usage(), DONE]


def error(code: int, message: str = "no", **headers: str) -> list[Step]:
    body = json.dumps({"error": {"message": message, "type": "t", "code": None}}).encode()
    return [Status(code, {"content-type": "application/json", **headers}), body]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a loop of its own; fails on a task left over and on an error nobody saw."""

    async def main() -> T:
        lost: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, context: lost.append(context) if "never" in context["message"] else None
        )
        before = asyncio.all_tasks()
        result = await work
        await until(lambda: not asyncio.all_tasks() - before)
        assert not lost, lost
        return result

    with asyncio.Runner() as runner:
        return runner.run(main())


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Makes an `async def` test one that pytest can call."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return wrapper


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for something that must come true, and soon."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@dataclass
class Seen:
    """One request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    gone: bool = False  # the client left before the script was over

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Provider:
    def __init__(self, ssl: Any = None) -> None:
        self.requests: list[Seen] = []
        self.default: list[Step] | None = None
        self.models: list[str] | None = ["test-model"]  # None: `GET /models` gets a script too
        self.connections = 0
        self.open = 0  # connections that are open now
        self.ssl = ssl
        self._scripts: list[list[Step]] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.gone = asyncio.Event()  # set at each disconnect in the middle of a script

    def script(self, *steps: Step) -> None:
        self._scripts.append(list(steps))

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """One for each connection that is open."""
        return self._tasks

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, ssl=self.ssl, limit=2**24
        )
        self.port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self.ssl else "http"
        self.origin = f"{scheme}://127.0.0.1:{self.port}"
        self.base_url = self.origin + "/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await _closed(self._server, self._tasks)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or not self._server.is_serving():
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.ensure_future(self._serve(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.open += 1
        try:
            while (seen := await _request(reader, number)) is not None:
                self.requests.append(seen)
                steps = self._next(seen)
                if not await self._play(steps, seen, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    def _next(self, seen: Seen) -> list[Step]:
        if seen.method == "GET" and seen.path.endswith("/models") and self.models is not None:
            data = [{"id": name, "object": "model"} for name in self.models]
            body = json.dumps({"object": "list", "data": data}).encode()
            return [Status(headers={"content-type": "application/json"}), body]
        if self._scripts:
            return self._scripts.pop(0)
        return self.default if self.default is not None else error(500, "the script is over")

    async def _play(  # noqa: C901 - the script in one piece
        self,
        steps: list[Step],
        seen: Seen,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Play one script; False when the connection is not to be used again."""
        status = Status()
        if steps and isinstance(steps[0], Status):
            status, steps = steps[0], steps[1:]
        headers = {"content-type": "text/event-stream", **status.headers}
        if status.chunked:
            headers["transfer-encoding"] = "chunked"
        lines = [f"HTTP/1.1 {status.code} {status.reason}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        head_sent = bool(steps) and isinstance(steps[0], (Raw, Reset, Cut, Hang))
        left = asyncio.ensure_future(reader.read(1))  # the client says nothing until we are done
        try:
            for step in steps:
                if not head_sent and not isinstance(step, (Gate, Wait)):
                    writer.write(head)
                    head_sent = True
                if not await self._step(step, status, writer, left):
                    seen.gone = left.done()
                    if seen.gone:
                        self.gone.set()
                    return False
                if writer.transport.is_closing() or left.done():
                    seen.gone = True
                    self.gone.set()
                    return False
            if not head_sent:
                writer.write(head)
            if status.chunked and not any(isinstance(s, Raw) for s in steps):
                writer.write(b"0\r\n\r\n")
            await writer.drain()
            return status.chunked and not any(isinstance(s, Raw) for s in steps)
        except ConnectionError:
            seen.gone = True
            self.gone.set()
            return False
        finally:
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)

    async def _step(
        self,
        step: Step,
        status: Status,
        writer: asyncio.StreamWriter,
        left: asyncio.Future[bytes],
    ) -> bool:
        match step:
            case bytes():
                framed = b"%x\r\n%b\r\n" % (len(step), step) if status.chunked else step
                if step:
                    writer.write(framed)
                await writer.drain()
            case Raw(data=data):
                writer.write(data)
                await writer.drain()
            case Wait(seconds=seconds):
                await asyncio.wait({left}, timeout=seconds)
            case Gate():
                gate = asyncio.ensure_future(step.wait())
                await asyncio.wait({left, gate}, return_when=asyncio.FIRST_COMPLETED)
                gate.cancel()
            case Hang():
                await asyncio.wait({left})
                return False
            case Cut():
                await writer.drain()
                return False
            case Reset():
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await writer.drain()
                await asyncio.sleep(0.02)  # let what was written arrive before the RST
                writer.transport.abort()
                return False
        return True


class Proxy:
    """An HTTP proxy on loopback: CONNECT tunnels, and requests in absolute form are passed on."""

    def __init__(self, refuse: int = 0) -> None:
        self.requests: list[Seen] = []
        self.refuse = refuse  # the status with which it refuses everything
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**24)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await _closed(self._server, self._tasks)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen = await _request(reader, 0)
            if seen is None:
                return
            self.requests.append(seen)
            if self.refuse:
                writer.write(f"HTTP/1.1 {self.refuse} No\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
                return
            address = seen.path.removeprefix("http://").partition("/")[0]
            host, _, port = address.rpartition(":")
            there, away = await asyncio.open_connection(host, int(port))
            if seen.method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:  # what it passes on is as it came, but for the path
                path = "/" + seen.path.removeprefix("http://").partition("/")[2]
                lines = [f"{seen.method} {path} HTTP/1.1"]
                lines += [f"{name}: {value}" for name, value in seen.headers.items()]
                away.write("\r\n".join([*lines, "", ""]).encode() + seen.body)
            try:
                await asyncio.gather(_pump(reader, away), _pump(there, writer))
            finally:
                away.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _closed(server: asyncio.Server, tasks: set[asyncio.Task[None]]) -> None:
    """Close a server and what it serves; also what was accepted this very moment.

    The pauses: asyncio loses a connection that is being accepted while the server closes, and a
    task that has not begun does not run its `finally` when it is cancelled.
    """
    await asyncio.sleep(0.002)
    server.close()
    await asyncio.sleep(0.002)
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _request(reader: asyncio.StreamReader, number: int) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body, number)
