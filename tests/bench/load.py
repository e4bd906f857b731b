"""The load of the relay benchmark: streams that only note what they read, and when.

While a stream runs its protocol does one thing: it keeps each read with its time. What the reads
mean is found out afterwards (`heard`), so that the generator has little part in what it measures.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from tests.bench.upstream import PIECE, prompt

END = b"0\r\n\r\n"  # of a chunked body
GOOD = b"HTTP/1.1 200 "
SPARE = 40.0  # seconds beyond twice the time that answers take


class Target(NamedTuple):
    """Who is asked."""

    port: int
    model: str
    key: str

    def request(self, pieces: int, milliseconds: int) -> bytes:
        said = {"role": "user", "content": prompt(pieces, milliseconds)}
        body = json.dumps({"model": self.model, "stream": True, "messages": [said]}).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join((*head, "", "")).encode() + body


class Read(NamedTuple):
    at: int  # CLOCK_MONOTONIC in ns
    data: bytes


@dataclass
class Answer:
    """One response as it came."""

    asked: int  # ns
    reads: list[Read] = field(default_factory=list)
    late: bool = False  # it was not waited for any longer


class Heard(NamedTuple):
    """What an answer says: ns from the request to the first piece of text, and from the upstream's
    write of each further piece to the read that it was whole with; empty where it is not the
    answer that it has to be, with what is wrong."""

    first: int = 0
    delays: tuple[int, ...] = ()
    wrong: str = ""


class Stream(asyncio.Protocol):
    """A connection on which requests are made, one after the other."""

    def __init__(self) -> None:
        self.answer = Answer(0)
        self.transport: asyncio.Transport | None = None
        self._over: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._settle()

    def data_received(self, data: bytes) -> None:
        reads = self.answer.reads
        reads.append(Read(time.monotonic_ns(), data))
        if len(reads) == 1 and not data.startswith(GOOD):
            self.leave()  # it is an error, which may end in some other way
        elif data.endswith(END) or (len(data) < len(END) and _tail(reads).endswith(END)):
            self._settle()

    def _settle(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def ask(self, target: Target, request: bytes) -> Answer:
        """One answer; what of it came, where the connection breaks."""
        loop = asyncio.get_running_loop()
        if self.transport is None:
            await loop.create_connection(lambda: self, "127.0.0.1", target.port)
        assert self.transport is not None
        self._over = loop.create_future()
        self.answer = Answer(time.monotonic_ns())
        self.transport.write(request)
        await self._over
        return self.answer

    def leave(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def _tail(reads: list[Read]) -> bytes:
    return b"".join(read.data for read in reads[-len(END) :])


async def sequence(target: Target, many: int, pieces: int, milliseconds: int) -> list[Answer]:
    """One after the other, on one connection where the server keeps it open."""
    stream, answers = Stream(), [Answer(0)] * many
    request = target.request(pieces, milliseconds)
    gc.collect()
    gc.disable()
    try:
        async with asyncio.timeout(SPARE + many * pieces * milliseconds / 1000 * 2):
            for number in range(many):
                answers[number] = await stream.ask(target, request)
    except (OSError, TimeoutError):
        pass  # the others stay empty, and count as wrong
    finally:
        gc.enable()
        stream.leave()
    return answers


async def crowd(
    target: Target, many: int, ramp: float, pieces: int, milliseconds: int
) -> list[Answer]:
    """So many at the same time, each on a connection of its own, begun over `ramp` seconds. Who
    does not come to an end in twice the time that it takes is left as he is."""
    loop = asyncio.get_running_loop()
    request = target.request(pieces, milliseconds)
    streams = [Stream() for _ in range(many)]
    tasks = []
    gc.collect()
    gc.disable()
    try:
        begin = loop.time()
        for number, stream in enumerate(streams):
            await asyncio.sleep(begin + ramp * number / many - loop.time())
            tasks.append(loop.create_task(stream.ask(target, request)))
        lasts = pieces * milliseconds / 1000
        _, late = await asyncio.wait(tasks, timeout=lasts + ramp + lasts + SPARE)
        for task, stream in zip(tasks, streams, strict=True):
            if task in late:
                stream.answer.late = True
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        gc.enable()
        for stream in streams:
            stream.leave()
    return [stream.answer for stream in streams]


# --- Afterwards -----------------------------------------------------------------------------------


def heard(answer: Answer, pieces: int) -> Heard:
    """Raises RuntimeError where a piece was torn over two HTTP chunks: its time is not to be had
    by this instrument then."""
    raw = b"".join(read.data for read in answer.reads)
    if answer.late:
        return Heard(wrong=f"not over after {len(raw):,} bytes and all the time that it had")
    if not raw.startswith(GOOD):
        return Heard(wrong=raw.partition(b"\r\n\r\n")[2][:200].decode("utf-8", "replace") or "cut")
    if not raw.endswith(END):
        return Heard(wrong="cut in mid-answer")
    text = _text(raw)
    said = PIECE.findall(text)
    right = [int(number) for number, _ in said] == [*range(pieces)]
    if not right or b"".join(b"%b@%b " % one for one in said) != text:
        return Heard(wrong=f"the text is {text[:200]!r}")
    found = [*PIECE.finditer(raw)]
    if [one.groups() for one in found] != said:
        raise RuntimeError("a piece of the text is not whole in what was read")
    ends = [*accumulate(len(read.data) for read in answer.reads)]
    came = [answer.reads[bisect_left(ends, one.end())].at for one in found]
    delays = [at - int(sent) for at, (_, sent) in zip(came, said, strict=True)]
    if min(delays) < 0:
        return Heard(wrong="a piece came before it was sent")
    return Heard(came[0] - answer.asked, tuple(delays[1:]))


def _text(raw: bytes) -> bytes:
    """The text of a chunked event stream that is whole; empty where it does not say its end."""
    rest, body = raw.partition(b"\r\n\r\n")[2], b""
    while (size := int(rest[: (at := rest.index(b"\r\n"))], 16)) > 0:
        body += rest[at + 2 : at + 2 + size]
        rest = rest[at + 4 + size :]
    events = [one[6:] for one in body.decode().split("\n\n") if one.startswith("data: ")]
    if not events or events.pop() != "[DONE]":
        return b""
    choices = [one for event in events for one in json.loads(event)["choices"]]
    return "".join(one["delta"].get("content") or "" for one in choices).encode()
