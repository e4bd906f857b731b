"""A provider that fails on request: a proxy on loopback before a real one, for a rehearsal.

Owns the faults (the FAULTS table) and the moment at which they strike. It has no key: the client's
own request brings it, and it goes to the origin of the one provider behind the proxy, over the
product's own connections (TLS, proxy and CA as configured). A request whose path does not begin
with the token is refused unread, so no other program here can use it. Must not retry, store, show.

An answer is passed on event by event, and every connection carries one request and ends with it:
so the end of the connection is the end of the body, and a cut can be as clean as a real one.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import struct
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

import h11

from holychat.core import sse, wire
from holychat.core.failure import Failure, Kind
from holychat.core.provider import DEMO, Provider
from holychat.net import http1
from holychat.net.client import target_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holychat.net.client import Exchange

EVER = sys.maxsize


class Fault(NamedTuple):
    """What it does, as a person is told, and how many chat requests it befalls."""

    does: str
    times: int = 1


FAULTS: dict[str, Fault] = {
    "429": Fault("the first request is refused: 429, Retry-After: 1"),
    "500": Fault("every request is refused: 500", EVER),
    "cut": Fault("the first answer ends in the middle, in the orderly way"),
    "stall": Fault("the first answer falls silent in the middle"),
    "slow": Fault("the headers come late, and the answer trickles", EVER),
    "reset": Fault("the connection breaks in the middle of the first answer"),
}
REFUSALS: dict[str, tuple[int, str, tuple[tuple[bytes, bytes], ...]]] = {
    "429": (429, "Too many requests, says the rehearsal", ((b"retry-after", b"1"),)),
    "500": (500, "The server failed, says the rehearsal", ()),
}

TEXT = 24  # visible characters of an answer that come before it is struck
LATE = 2.0  # seconds that `slow` holds the headers back
TRICKLE = 0.05  # seconds that `slow` puts between two events
ARRIVAL = 0.05  # seconds for what was written to arrive: a RST overtakes it
CHAT = "/chat/completions"
# What belongs to one connection, or to how a body is framed and packed on it.
OWN = {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade"}
NOT_UP = OWN | {b"host", b"content-length", b"accept-encoding"}
NOT_DOWN = OWN | {b"content-length"}


class Behind(Provider):
    """The provider as the client is to ask it: at the proxy, whatever the path."""

    __slots__ = ()

    def at(self, path: str) -> Provider:
        """Another path of the provider's origin is below the token here."""
        token = urlsplit(self.base_url).path.split("/")[1]
        return super().at(f"/{token}{path}") if path else self


class Deed(NamedTuple):
    """What the proxy did, for the user to read, and when by the loop's clock."""

    at: float
    what: str


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    headers: http1.Headers
    content: bytes


class FaultProxy:
    """Stands before `provider` while the block runs, and lets `fault` befall it.

    `deeds` are its strikes, oldest first.
    """

    def __init__(self, provider: Provider, fault: str) -> None:
        self.fault = fault
        self.deeds: list[Deed] = []
        self._real = provider
        self._token = secrets.token_urlsafe(18)
        self._pool = http1.Pool()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.aclose()

    @property
    def provider(self) -> Provider:
        """The provider, to be asked through the proxy: no other proxy lies between."""
        real = self._real
        path = urlsplit(real.base_url).path
        same: dict[str, Any] = {each.name: getattr(real, each.name) for each in fields(real)}
        # The client plays a provider of the name `demo` without a connection. Settings do not mind
        # the capital.
        name = real.name.title() if real.name == DEMO else real.name
        base_url = f"http://127.0.0.1:{self.port}/{self._token}{path}"
        return Behind(**{**same, "name": name, "base_url": base_url, "proxy": "", "ca": ""})

    # --- One connection, one request ------------------------------------------------------------

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await self._request(reader)
            # Whoever leaves in the middle ends the request behind us too: it is paid for.
            work = asyncio.ensure_future(self._answer(asked, writer))
            left = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                left.cancel()
                work.cancel()
                await asyncio.gather(work, left, return_exceptions=True)
            if not work.cancelled():
                work.result()
        except _Refused as refused:
            _refuse(writer, refused.status, "no such thing here")
        except (OSError, h11.RemoteProtocolError):
            pass  # it left, or is no client of ours
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> Asked:
        """The request, its path without the token. Raises _Refused before any body is read."""
        protocol = h11.Connection(h11.SERVER)
        head = await _event(protocol, reader)
        if not isinstance(head, h11.Request):
            raise _Refused(400)
        token, _, path = head.target.decode("ascii").removeprefix("/").partition("/")
        if not secrets.compare_digest(token, self._token):
            raise _Refused(404)
        content = bytearray()
        while isinstance(event := await _event(protocol, reader), h11.Data):
            content += event.data
        if not isinstance(event, h11.EndOfMessage):
            raise _Refused(400)
        method = head.method.decode("ascii")
        return Asked(method, f"/{path}", list(head.headers), bytes(content))

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        chat = asked.path.partition("?")[0].endswith(CHAT)
        fault = self.fault if chat and len(self.deeds) < FAULTS[self.fault].times else ""
        if fault in REFUSALS:
            status, what, more = REFUSALS[fault]
            self._strike(", ".join([f"the proxy answers {status}", *map(_line, more)]))
            _refuse(writer, status, what, more)
            return
        if fault == "slow":
            self._strike(f"the headers are held back for {LATE:g} s, then the answer trickles")
            await asyncio.sleep(LATE)
        try:
            exchange = await self._upstream(asked)
        except Failure as failure:
            _refuse(writer, 502, failure.what)
            return
        try:
            writer.write(_head(exchange.status, exchange.headers))
            await writer.drain()
            well = 200 <= exchange.status < 300
            await self._relay(exchange, writer, fault if well else "")
        except Failure:
            await _reset(writer)  # as the real connection broke
        finally:
            exchange.close()

    async def _upstream(self, asked: Asked) -> Exchange:
        """The same request to the provider itself. Raises Failure."""
        if self._real.name == DEMO:
            from holychat.net import demo

            return await demo.exchange(asked.method, asked.path, asked.content)
        try:
            target = target_of(self._real)
        except Exception:  # noqa: BLE001 - httpx.InvalidURL, which is the client's to import
            raise Failure(Kind.REQUEST, "the address is malformed") from None
        headers = [(b"host", _host(target)), (b"accept-encoding", b"identity")]
        headers += [one for one in asked.headers if one[0].lower() not in NOT_UP]
        if asked.content:
            headers.append((b"content-length", b"%d" % len(asked.content)))
        path = asked.path
        return await self._pool.exchange(target, asked.method, path, headers, asked.content)

    # --- The answer, and the fault in it --------------------------------------------------------

    async def _relay(self, exchange: Exchange, writer: asyncio.StreamWriter, fault: str) -> None:
        """Pass the body on; `fault` strikes in its middle. Raises Failure as the provider fails."""
        mark = Mark()
        async for event in _events(exchange):
            if fault in STRIKES and mark.reached(event):
                # Connections break inside of events.
                writer.write(event[: len(event) // 2])
                await writer.drain()
                exchange.close()  # nobody reads it, and it is paid for
                self._strike(f"{STRIKES[fault]} after {mark.said} characters")
                await _BEFALL[fault](writer)
                return
            writer.write(event)
            await writer.drain()
            if fault == "slow":
                await asyncio.sleep(TRICKLE)

    def _strike(self, deed: str) -> None:
        self.deeds.append(Deed(asyncio.get_running_loop().time(), deed))


class Mark:
    """Where an answer is struck: past TEXT characters, but before its end, however short it is.

    A fault in the thoughts of a model would be none in mid-answer: only text counts.
    """

    def __init__(self) -> None:
        self._decoder = sse.Decoder()
        self._reader = wire.Reader("rehearsal")
        self.said = 0  # characters of the answer before the event that is struck

    def reached(self, event: bytes) -> bool:
        """Whether the fault strikes at this event, which comes next."""
        if self.said >= TEXT:
            return True
        try:
            found = self._decoder.feed(event)
        except sse.EventTooLong:
            return True
        # What is no event is a whole answer in one piece, and struck.
        deltas = self._reader.read(found)
        if self._reader.finished or not event.endswith(b"\n"):
            return True
        self.said += sum(len(delta.text) for delta in deltas)
        return False


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _silence(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()  # until the client leaves


async def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST: what a server that died, or a middlebox that forgot us, looks like."""
    await asyncio.sleep(ARRIVAL)
    sock = writer.get_extra_info("socket")
    form = "hh" if sys.platform == "win32" else "ii"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(form, 1, 0))
    writer.transport.abort()


_BEFALL = {"cut": _close, "stall": _silence, "reset": _reset}
STRIKES = {
    "cut": "the stream ends",
    "stall": "silence",
    "reset": "the connection is reset",
}

_END = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")


async def _events(exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """The body's events, as the bytes they came in; what is left at its end is one too."""
    held = b""
    while data := await exchange.read():
        *whole, held = _END.split(held + data)
        for event in whole:
            yield event
    if held:
        yield held


# --- HTTP on our side ---------------------------------------------------------------------------


class _Refused(Exception):  # noqa: N818 - what a stranger gets
    def __init__(self, status: int) -> None:
        self.status = status


async def _event(protocol: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := protocol.next_event()) is h11.NEED_DATA:
        protocol.receive_data(await reader.read(http1.READ_SIZE))
    return event


def _refuse(
    writer: asyncio.StreamWriter, status: int, what: str, more: http1.Headers | tuple[Any, ...] = ()
) -> None:
    error = {"error": {"message": what, "type": "rehearsal", "code": str(status)}}
    writer.write(_head(status, [(b"content-type", b"application/json"), *more]))
    writer.write(json.dumps(error).encode())


def _head(status: int, headers: http1.Headers) -> bytes:
    lines = [b"HTTP/1.1 %d Rehearsed" % status, b"connection: close"]
    lines += [b"%b: %b" % (name, value) for name, value in headers if name.lower() not in NOT_DOWN]
    return b"\r\n".join([*lines, b"", b""])


def _host(target: http1.Target) -> bytes:
    usual = {"https": 443, "http": 80}[target.scheme] == target.port
    return (target.address.rpartition(":")[0] if usual else target.address).encode()


def _line(header: tuple[bytes, bytes]) -> str:
    return f"{header[0].decode().title()}: {header[1].decode()}"
