"""An answer on its way to a client: begun late, kept alive, cut when nobody reads it.

Owns the pace between a turn and a socket. The head of the response waits for the first piece of
the answer, so that a failure before it has its own status; after `waiting` seconds of silence the
head goes out with a comment. Whoever leaves has the turn stopped at once, and whoever does not read
is dropped. Must not know what is written: an Encoder does.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol

from holychat.commands.serve.errors import Refused
from holychat.commands.serve.guard import LOG, SOCKET
from holychat.core.chat import Attempt, Delta, Done, Notice

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.guard import Receive, Scope, Send
    from holychat.core.chat import Event, Turn
    from holychat.engine.conversation import Chat

SLOW = 30.0  # seconds that a client may take to read what was written
COMMENT = b": waiting\n\n"
_HEAD = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold it back
)
CUT = Refused(503, "the relay was stopped in mid-answer", "stopping", "server_error")


class Encoder(Protocol):
    """What a client gets, as bytes of an event stream."""

    def first(self, model: str) -> bytes: ...
    def delta(self, delta: Delta) -> bytes: ...
    def last(self, turn: Turn, cash: str) -> bytes: ...
    def error(self, refused: Refused) -> bytes: ...


class Left(Exception):  # noqa: N818 - an event, not an error
    """The client went away, or does not read."""


class Stream:
    """One response. Call it as an ASGI application; raises Refused before anything went out."""

    def __init__(self, desk: Desk, chat: Chat, prompt: str, encoder: Encoder) -> None:
        self._desk = desk
        self._chat = chat
        self._prompt = prompt
        self._encoder = encoder
        self._begun = False  # the head is out
        self._greeted = False  # and the first chunk
        self._lock = asyncio.Lock()
        self._send: Send | None = None
        self._scope: Scope = {}
        self._asked = Attempt("", "")
        self._wrote = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._send = scope, send
        loop = asyncio.get_running_loop()
        self._wrote = loop.time()
        pump = loop.create_task(self._pump())
        watch = loop.create_task(self._watch(receive))
        cut = loop.create_task(self._desk.cut.wait())
        try:
            await asyncio.wait({pump, watch, cut}, return_when=asyncio.FIRST_COMPLETED)
            stopped = cut.done() and not pump.done() and not watch.done()
        finally:
            for task in (pump, watch, cut):
                task.cancel()
            await asyncio.gather(pump, watch, cut, return_exceptions=True)
        with suppress(Left):
            if stopped:
                await self._fail(CUT)
            elif not pump.cancelled() and (error := pump.exception()) is not None:
                raise error

    async def _watch(self, receive: Receive) -> None:
        """Until the client is gone; comments meanwhile."""
        loop = asyncio.get_running_loop()
        gone = asyncio.ensure_future(_gone(receive))
        try:
            while not gone.done():
                left = self._wrote + self._desk.waiting - loop.time()
                await asyncio.wait({gone}, timeout=max(0.01, left))
                if not gone.done() and loop.time() >= self._wrote + self._desk.waiting:
                    await self._write(COMMENT)
        except Left:
            pass
        finally:
            gone.cancel()

    async def _pump(self) -> None:
        turn: Turn | None = None
        try:
            async with aclosing(self._chat.send(self._prompt)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        await self._delta(event)
                    elif isinstance(event, Done):
                        turn = event.turn
                    elif isinstance(event, Attempt):
                        self._asked = event if not self._begun else self._asked
                    elif isinstance(event, Notice):
                        self._desk.note(event.text)
        finally:
            settle(self._desk, self._scope, self._chat)
        if turn is not None and turn.failure is not None:
            await self._fail(self._desk.explained(turn.failure, self._chat))
        elif turn is not None:
            used = turn.usage.cost if turn.usage else None
            await self._desk.kept(self._chat)
            last = self._greeting() + self._encoder.last(turn, self._desk.cash(used))
            await self._write(last)
            await self._end()

    async def _delta(self, delta: Delta) -> None:
        if not (delta.text or delta.reasoning or delta.more):
            return  # the headers, the usage, an end: said at the end
        self._desk.status.pieces += 1
        await self._write(self._greeting() + self._encoder.delta(delta))

    async def _fail(self, refused: Refused) -> None:
        if not self._begun:
            raise refused
        await self._write(self._encoder.error(refused))
        await self._end()

    def _greeting(self) -> bytes:
        """The first chunk, before anything else is made: it says what all of them begin with."""
        if self._greeted:
            return b""
        self._greeted = True
        return self._encoder.first(self._asked.model)

    # --- Bytes ----------------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        async with self._lock:  # a comment and a piece may want to be first at the same time
            if not self._begun:
                self._begun = True
                head = [*_HEAD, *served_by(self._asked.provider, self._asked.model)]
                await self._put({"type": "http.response.start", "status": 200, "headers": head})
            if data:
                self._wrote = asyncio.get_running_loop().time()
                await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self) -> None:
        await self._put({"type": "http.response.body", "body": b"", "more_body": False})

    async def _put(self, event: dict[str, Any]) -> None:
        """Raises Left where it is not taken in time: the socket is closed under it."""
        assert self._send is not None  # noqa: S101 - __call__ has set it
        try:
            async with asyncio.timeout(SLOW):
                await self._send(event)
        except TimeoutError as error:
            self._desk.note("a client did not read its answer, and was dropped")
            if (transport := self._scope.get(SOCKET)) is not None:
                transport.abort()
            raise Left from error


async def collected(desk: Desk, chat: Chat, prompt: str, scope: Scope, receive: Receive) -> Any:
    """The turn in one piece, with its deltas; None where the client left before its end."""
    deltas: list[Delta] = []
    gone = asyncio.ensure_future(_gone(receive))
    work = asyncio.ensure_future(_all(desk, chat, prompt, deltas))
    cut = asyncio.ensure_future(desk.cut.wait())
    try:
        await asyncio.wait({gone, work, cut}, return_when=asyncio.FIRST_COMPLETED)
        stopped = cut.done() and not work.done()
    finally:
        for task in (gone, work, cut):
            task.cancel()
        await asyncio.gather(gone, work, cut, return_exceptions=True)
        settle(desk, scope, chat)
    if stopped:
        raise CUT
    if work.cancelled():
        return None
    turn = work.result()
    await desk.kept(chat)
    return turn, deltas


async def _all(desk: Desk, chat: Chat, prompt: str, deltas: list[Delta]) -> Turn:
    events: AsyncGenerator[Event, None]
    async with aclosing(chat.send(prompt)) as events:
        async for event in events:
            if isinstance(event, Delta):
                deltas.append(event)
            elif isinstance(event, Notice):
                desk.note(event.text)
            elif isinstance(event, Done):
                return event.turn
    raise AssertionError("every turn ends with Done")


def settle(desk: Desk, scope: Scope, chat: Chat) -> None:
    """What is left to do when a turn has ended, however it did."""
    turn = chat.latest
    desk.spent(turn)
    desk.remember(chat)
    for _ in range(len(chat.recorder.warnings)):
        desk.note(chat.recorder.warnings.popleft())
    if turn is not None:
        cost = desk.cash(turn.usage.cost if turn.usage else None)
        scope[LOG] = f"{turn.provider or '-'} {cost}"


def served_by(provider: str, model: str) -> list[tuple[bytes, bytes]]:
    found = {"x-holychat-provider": provider, "x-holychat-model": model}
    return [(name.encode(), _header(value)) for name, value in found.items() if value]


def _header(value: str) -> bytes:
    return "".join(c if " " <= c <= "~" else "?" for c in value).encode("ascii")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
