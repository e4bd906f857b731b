"""A provider that always goes on truly, on a connection that does not hold.

    async with Faulty(TEXT) as box:
        box.strikes += [Strike("reset", "middle"), None]    # the next two requests
        ... box.base_url ...
        assert not box.strayed          # what it was to go on with was a beginning of TEXT

`Faulty` knows one answer. Asked to go on with a beginning of it, as a prefix or in words, it says
exactly what is missing; in words it repeats the anchor every other time, as some models do. The
faults are those of a TCP fault injector (toxiproxy's list), at a byte of the answer's bytes, the
head included. `Link` strikes below that, in the bytes of a TLS handshake.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.provider import Seen, _closed, _request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

LATE = 0.02  # seconds by which `latency` and `slow close` are late
RATE = 512, 0.002  # bytes at a time, and seconds after them, of `bandwidth`

# No two spaces in a row but in code: of those a joint in words lets one pass, see `core.seam`.

TEXT = """\
Sure! Here is how the 数据 pipeline works — step by step, with the usual caveats.

## 1. Reading

The reader takes bytes, not lines: a line may end in the middle of a character. 每一行都可能在\
字符中间被切断，所以先切字节，再解码。 That that is so is known; it has been so for years.

```python
def lines(data: bytes) -> list[bytes]:
    \"\"\"Split at LF; what is left has no end yet.\"\"\"
    whole, _, rest = data.rpartition(b"\\n")
    if not whole:
        return [rest]
    return [*whole.split(b"\\n"), rest]
```

- The first item is short.
- The second item has 🎄, 👩‍👩‍👧 and 🇨🇭 in it.
- The second item has a twin, which is this one.
  1. nested, with `code`
  2. nested, with **bold** words

## 2. Joining

| step | cost |
|------|-----:|
| read | 1.0  |
| join | 12.0 |

```sh
for f in *.log; do
    wc -l "$f"
done
```

First, the words go out. Then the words come in. 最后，把两部分连接起来，不多也不少：\
一个字都不能丢。 Ha ha ha, he said, and no no no, she said; and the end is the end.
"""


@dataclass(frozen=True)
class Strike:
    """A fault, and where: in a phase, or at a byte of the answer."""

    fault: str
    phase: str = ""
    at: int = 0


@dataclass
class Wire:
    """An answer as bytes, and where in them its phases are."""

    data: bytes
    places: dict[str, int]


# --- The faults -----------------------------------------------------------------------------------


async def _whole(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _late(writer: asyncio.StreamWriter, data: bytes) -> None:
    await asyncio.sleep(LATE)
    await _whole(writer, data)


async def _narrow(writer: asyncio.StreamWriter, data: bytes) -> None:
    size, pause = RATE
    for start in range(0, len(data), size):
        await _whole(writer, data[start : start + size])
        await asyncio.sleep(pause)


async def _sliced(writer: asyncio.StreamWriter, data: bytes) -> None:
    for number in range(len(data)):
        await _whole(writer, data[number : number + 1])
        await asyncio.sleep(0)


# How the bytes behind the strike come; the others do not come at all.
PACES: dict[str, Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]] = {
    "latency": _late,
    "bandwidth": _narrow,
    "slicing": _sliced,
}
ENDS = ("down", "slow close", "time-out", "reset", "limit")
FAULTS = (*PACES, *ENDS)


class _Listener:
    """What takes connections, and takes them away again."""

    def __init__(self) -> None:
        self.strikes: list[Strike | None] = []  # for the next ones, in their order
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def _listen(self, ssl: Any = None) -> None:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, ssl=ssl, limit=2**24
        )
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_: object) -> None:
        await _closed(self._server, self._tasks)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.ensure_future(self._guarded(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def _next(self) -> Strike | None:
        return self.strikes.pop(0) if self.strikes else None

    async def down(self) -> None:
        """Nobody is there any more: connections break, new ones are refused."""
        self._server.close()
        for writer in tuple(self._writers):
            await _reset(writer)

    async def _end(
        self, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """What comes in the place of the other bytes."""
        match fault:
            case "down":
                await self.down()
            case "reset":
                await _reset(writer)
            case "time-out":
                await reader.read(1)  # until the client leaves
            case "slow close":
                await asyncio.sleep(LATE)
            case "limit":
                pass


async def _reset(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.01)  # let what was written arrive before the RST
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# --- The provider ---------------------------------------------------------------------------------


class Faulty(_Listener):
    """Speaks HTTP. `strikes` are for the next requests."""

    def __init__(self, text: str = TEXT, *, seed: int = 0, ssl: Any = None) -> None:
        super().__init__()
        self.text = text
        self.chunked = True  # else the end of the connection is the end of the body
        self.requests: list[Seen] = []
        self.strayed: list[str] = []  # beginnings that are none of ours
        self.always: Strike | None = None  # where `strikes` are over
        self._random = random.Random(seed)
        self._ssl = ssl
        self.repeats: bool | None = None  # whether the anchor is said again; None: by turns
        self._turns = 0

    async def __aenter__(self) -> Self:
        await self._listen(self._ssl)
        scheme = "https" if self._ssl else "http"
        self.base_url = f"{scheme}://127.0.0.1:{self.port}/v1"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        if self._struck_at_once("connect"):
            await self._end(self.strikes.pop(0).fault, reader, writer)  # type: ignore[union-attr]
            return
        while (seen := await _request(reader, number)) is not None:
            if seen.method != "POST":  # somebody else's, meant for who had the port before us
                return
            self.requests.append(seen)
            strike = (self._next() if self.strikes else None) or self.always
            if not await self._answer(seen, strike, reader, writer):
                return
            if self._struck_at_once("idle"):
                await self._end(self.strikes.pop(0).fault, reader, writer)  # type: ignore[union-attr]
                return

    def _struck_at_once(self, phase: str) -> bool:
        """Whether the connection breaks before a request: the other faults need one."""
        strike = self.strikes[0] if self.strikes else None
        if strike is None or strike.phase != phase:
            return False
        return phase == "connect" or strike.fault in ("down", "reset", "limit")

    async def _answer(
        self,
        seen: Seen,
        strike: Strike | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Whether the connection may be used again."""
        wire = self.wire(self._missing(seen))
        if strike is None:
            await self._written(writer, wire.data)
            return self.chunked
        at = wire.places.get(strike.phase, strike.at)
        await self._written(writer, wire.data[:at])
        if (pace := PACES.get(strike.fault)) is None:
            await self._end(strike.fault, reader, writer)
            return False
        await pace(writer, wire.data[at:])
        return self.chunked

    async def _written(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """In pieces that have nothing to do with what is in them."""
        while data:
            size = self._random.choice((1, 20, 300, 4000, 1 << 20))
            await _whole(writer, data[:size])
            await asyncio.sleep(0)
            data = data[size:]

    def _missing(self, seen: Seen) -> str:
        """What is to be said: the whole answer, or the rest of it."""
        messages = seen.json["messages"]
        anchor: str = ""
        if messages[-1]["content"].startswith("Your answer was cut off. Please continue"):
            self._turns += 1
            if self._turns % 2 if self.repeats is None else self.repeats:
                anchor = messages[-1]["content"].partition("\n\n")[2]
            messages = messages[:-1]
        if messages[-1]["role"] == "user":
            return self.text
        partial: str = messages[-1]["content"]
        if anchor:  # it comes without the white space that stood behind it
            anchor += partial[len(partial.rstrip()) :]
        if not self.text.startswith(partial) or not partial:
            self.strayed.append(partial)
        return anchor + self.text[len(partial) :]

    def wire(self, text: str) -> Wire:
        data = bytearray(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        data += b"transfer-encoding: chunked\r\n\r\n" if self.chunked else b"\r\n"
        places = {"headers": 40, "idle": 0}
        for event in (b": keep-alive\n\n", _chunk(role="assistant", content="")):
            data += self._framed(event)
        pieces = list(_pieces(text, self._random))
        for number, piece in enumerate(pieces):
            event = self._framed(_chunk(content=piece, ascii=self._random.random() < 0.5))
            half = len(data) + len(event) // 2
            if number == 0:
                places["first"] = half
            if number == len(pieces) // 2:
                places["middle"] = half
            data += event
        places["last"] = len(data)
        data += self._framed(_chunk(finish="stop"))
        places["done"] = len(data)
        usage = {"prompt_tokens": 5, "completion_tokens": len(pieces)}
        data += self._framed(_event({"choices": [], "usage": usage}))
        data += self._framed(b"data: [DONE]\n\n")
        data += b"0\r\n\r\n" if self.chunked else b""
        return Wire(bytes(data), places)

    def _framed(self, event: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(event), event) if self.chunked else event


def _pieces(text: str, chance: random.Random) -> Iterator[str]:
    """Tokens of 1 to 16 UTF-16 units: some emoji are halved, as servers in JavaScript do."""
    units = text.encode("utf-16-le")
    while units:
        size = 2 * chance.randint(1, 16)
        yield units[:size].decode("utf-16-le", "surrogatepass")
        units = units[size:]


def _chunk(*, finish: str | None = None, ascii: bool = True, **delta: str) -> bytes:  # noqa: A002
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    text = json.dumps({"choices": [choice]}, ensure_ascii=False)
    if ascii or any("\ud800" <= mark < "\ue000" for mark in text):
        text = json.dumps({"choices": [choice]})
    return b"data: " + text.encode() + b"\n\n"


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


# --- Below it -------------------------------------------------------------------------------------


@dataclass
class Link(_Listener):
    """Passes bytes on to a port; `strikes` are for the next connections, at a byte of what comes
    back."""

    to: int
    seen: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def __aenter__(self) -> Self:
        await self._listen()
        self.base_url = f"https://127.0.0.1:{self.port}/v1"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        strike = self._next()
        there, away = await asyncio.open_connection("127.0.0.1", self.to)
        up = asyncio.ensure_future(_pumped(reader, away))
        try:
            await self._down(strike, there, reader, writer, up)
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            away.close()

    async def _down(
        self,
        strike: Strike | None,
        there: asyncio.StreamReader,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up: asyncio.Future[None],
    ) -> None:
        passed = 0
        while data := await there.read(65536):
            at = len(data) if strike is None else max(0, strike.at - passed)
            passed += len(data)
            await _whole(writer, data[:at])
            if strike is None or at >= len(data):
                continue
            if pace := PACES.get(strike.fault):
                await pace(writer, data[at:])
                continue
            if strike.fault == "time-out":
                await up  # until the client leaves
            else:
                await self._end(strike.fault, reader, writer)
            return


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
