"""The upstream of the relay benchmark: a process of its own that says when it wrote each piece.

`python -m tests.bench.upstream` prints its port, then answers every POST until it is killed. How
many pieces, and how many milliseconds lie between two of them, stands in the prompt (`prompt`). A
piece is `0007@000123456789012345 `: its number and CLOCK_MONOTONIC in ns just before its bytes were
given to the system, which is one clock for all processes of a machine.

Nothing but a protocol on asyncio: a thousand streams of four pieces a second must not be what is
measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import time

from tests.bench.server import HEAD, NOTHING, event

ASKED = re.compile(rb"(\d+) pieces, one each (\d+) ms")
PIECE = re.compile(rb"(\d{4})@(\d{18}) ")
_SIZE = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_BEFORE, _AFTER = event({"content": "|"}).split(b"|")
_LENGTH = len(_BEFORE) + len(b"0000@000000000000000000 ") + len(_AFTER)
_ROLE = event({"role": "assistant", "content": ""})
_STOP = event({}, "stop")
_USAGE = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk",'
    b'"created":1760000000,"model":"bench-model","choices":[],"usage":{"prompt_tokens":12,'
    b'"completion_tokens":20,"total_tokens":32}}\n\n'
)
_DONE = b"data: [DONE]\n\n"


def prompt(pieces: int, milliseconds: int) -> str:
    """What is asked."""
    return f"{pieces} pieces, one each {milliseconds} ms"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def piece(number: int) -> bytes:
    """One event in an HTTP chunk of its own, written at this moment."""
    now = time.monotonic_ns()
    return b"%x\r\n%b%04d@%018d %b\r\n" % (_LENGTH, _BEFORE, number, now, _AFTER)


class Connection(asyncio.Protocol):
    """Requests of one client, one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._came = b""
        self._pieces = self._number = 0
        self._every = self._begin = 0.0
        self._end = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, found, body = self._came.partition(b"\r\n\r\n")
        if not found:
            return
        size = _SIZE.search(head)
        if len(body) < (int(size[1]) if size else 0):
            return
        self._came = b""
        asked = ASKED.search(body)
        if asked is None:
            self._transport.write(NOTHING)
            return
        usage = _USAGE if b'"include_usage"' in body else b""
        self._end = framed(_STOP) + (framed(usage) if usage else b"") + framed(_DONE) + b"0\r\n\r\n"
        self._pieces, self._every, self._number = int(asked[1]), int(asked[2]) / 1000, 0
        self._begin = self._loop.time()
        self._transport.write(HEAD + framed(_ROLE) + piece(0))
        self._later()

    def _later(self) -> None:
        self._number += 1
        at = self._begin + self._number * self._every
        self._timer = self._loop.call_at(at, self._next)

    def _next(self) -> None:
        if self._number < self._pieces:
            self._transport.write(piece(self._number))
            self._later()
        else:
            self._timer = None
            self._transport.write(self._end)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.collect()
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
