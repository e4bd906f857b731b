"""An answer on its way to a client: begun late, kept alive, cut when nobody reads it.

Owns the pace between a turn and a socket. The head of the response waits for the first piece of
the answer, so that a failure before it has its own status and the head is true; after `waiting`
seconds of silence the head goes out with a comment, and names nobody. Whoever leaves has the turn
stopped at once, and whoever does not read is dropped, with a whole answer too. Must not know what
is written: an Encoder does.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from holychat.commands.serve.errors import Refused
from holychat.commands.serve.guard import LOG, SOCKET
from holychat.core.chat import Attempt, Delta, Done, Lost, Notice
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Sequence

    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.guard import Receive, Scope, Send
    from holychat.core.chat import Event, Turn
    from holychat.engine.conversation import Chat

T = TypeVar("T")

PIECE = 1 << 16  # bytes of a whole answer that are written at once
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
        self._held: list[Delta] = []  # what an attempt said before anything of an answer
        self._asked = Attempt("", "")
        self._served = ""  # the model that it says it is
        self._attempts = 0
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._send: Send | None = None
        self._scope: Scope = {}
        self._transport: asyncio.Transport | None = None
        self._wrote = 0.0
        self._comment: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._send, self._transport = scope, send, scope.get(SOCKET)
        self._wrote = self._loop.time()
        self._alarm = self._loop.call_later(self._desk.waiting, self._look)
        try:
            pump, stopped = await attended(self._desk, receive, self._pump())
        finally:
            self._alarm.cancel()
            if self._comment is not None:
                self._comment.cancel()
                await asyncio.gather(self._comment, return_exceptions=True)
        with suppress(Left):
            if stopped:
                await self._fail(CUT)
            elif not pump.cancelled() and (error := pump.exception()) is not None:
                raise error

    def _look(self) -> None:
        """A comment, where nothing was written for so long."""
        due = self._wrote + self._desk.waiting
        if self._loop.time() >= due and (self._comment is None or self._comment.done()):
            self._comment = self._loop.create_task(self._bridge())
            due = self._loop.time() + self._desk.waiting
        self._alarm = self._loop.call_at(max(due, self._loop.time() + 0.01), self._look)

    async def _bridge(self) -> None:
        with suppress(Left):  # its end comes by itself
            await self._write(COMMENT)

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
                        self._attempt(event)
                    elif isinstance(event, Lost):
                        self._attempts += 1
                    elif isinstance(event, Notice):
                        self._desk.note(event.text)
        finally:
            settle(self._desk, self._scope, self._chat)
        if turn is not None and turn.failure is not None:
            await self._fail(self._desk.explained(turn.failure, self._chat))
        elif turn is not None:
            await self._desk.kept(self._chat)
            last = b"" if self._greeted else self._greeting(turn.served_model)
            last += self._encoder.last(turn, self._desk.price(turn.usage))
            await self._write(last)
            await self._end()

    def _attempt(self, attempt: Attempt) -> None:
        self._attempts += 1
        if not self._greeted:
            self._asked, self._served = attempt, ""
            self._held.clear()

    async def _delta(self, delta: Delta) -> None:
        if not delta.text and not self._of_it(delta):
            return
        greeting = b"" if self._greeted else self._greeting(delta.model)
        if data := greeting + self._encoder.delta(delta):
            self._desk.status.pieces += 1
            await self._write(data)

    def _of_it(self, delta: Delta) -> bool:
        """Whether one without text is to go out now. Before anything of the answer came, what goes
        with it is held: another attempt may answer in place of this one."""
        self._served = delta.model or self._served
        if delta.token or (self._greeted and delta.more):
            return True
        if delta.more:
            self._held.append(delta)
        return False  # the headers, the usage, an end: said at the end

    async def _fail(self, refused: Refused) -> None:
        if not self._begun:
            raise refused
        await self._write(self._encoder.error(refused))
        await self._end()

    def _greeting(self, model: str) -> bytes:
        """The first chunk, before anything else is made: it says what all of them begin with."""
        self._greeted = True
        asked, said = self._asked, model or self._served
        own = said in ("", asked.model, f"{asked.provider}/{asked.model}")
        first = self._encoder.first(asked.model if own else said)
        return first + b"".join(map(self._encoder.delta, self._held))

    # --- Bytes ----------------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        wire = self._transport
        # Where nothing waits to be read, a write does not wait either, and is whole by itself.
        if self._begun and wire and not wire.get_write_buffer_size() and not self._lock.locked():
            self._wrote = self._loop.time()
            assert self._send is not None  # noqa: S101 - __call__ has set it
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            return
        async with self._lock:  # a comment and a piece may want to be first at the same time
            if not self._begun:
                self._begun = True
                await self._put(
                    {"type": "http.response.start", "status": 200, "headers": self._head()}
                )
            if data:
                self._wrote = self._loop.time()
                await self._put({"type": "http.response.body", "body": data, "more_body": True})

    def _head(self) -> list[tuple[bytes, bytes]]:
        """With who answers, where an answer has begun: before that it may still be another one."""
        if not self._greeted:
            return [*_HEAD]
        return [*_HEAD, *served_by(self._asked.provider, self._asked.model, self._attempts)]

    async def _end(self) -> None:
        await self._put({"type": "http.response.body", "body": b"", "more_body": False})

    async def _put(self, event: dict[str, Any]) -> None:
        assert self._send is not None  # noqa: S101 - __call__ has set it
        await put(self._desk, self._scope, self._send, event)


async def put(desk: Desk, scope: Scope, send: Send, event: dict[str, Any]) -> None:
    """Raises Left where it is not taken in time: the socket is closed under it."""
    try:
        async with asyncio.timeout(SLOW):
            await send(event)
    except TimeoutError as error:
        desk.status.rarely("a client did not read its answer, and was dropped")
        _drop(scope)
        raise Left from error


def _drop(scope: Scope) -> None:
    if (transport := scope.get(SOCKET)) is not None:
        transport.abort()


async def attended(
    desk: Desk, receive: Receive, work: Coroutine[Any, Any, T]
) -> tuple[asyncio.Task[T], bool]:
    """Do the work while the client is there and the relay runs; returns it, ended, and whether it
    was the relay that stopped it."""
    loop = asyncio.get_running_loop()
    task, gone = loop.create_task(work), loop.create_task(_gone(receive))
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = not task.done() and not gone.done()
        task.cancel()

    try:
        with desk.cut.telling(stop):
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    return task, stopped and task.cancelled()


async def collected(desk: Desk, chat: Chat, prompt: str, scope: Scope, receive: Receive) -> Any:
    """The turn in one piece, with its deltas; None where the client left before its end."""
    deltas: list[Delta] = []
    chat.rules = chat.rules._replace(held=True)
    try:
        work, stopped = await attended(desk, receive, _all(desk, chat, prompt, deltas))
    finally:
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
            elif isinstance(event, Attempt):
                if not event.partial:  # it begins anew
                    deltas.clear()
            elif isinstance(event, Notice):
                desk.note(event.text)
            elif isinstance(event, Done):
                return event.turn
    raise AssertionError("every turn ends with Done")


async def deliver(
    desk: Desk, scope: Scope, send: Send, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """A whole answer, to a client who has to read it like any other."""
    length = (b"content-length", str(len(body)).encode())
    head = [(b"content-type", b"application/json"), length, *headers]
    with suppress(Left), desk.cut.telling(lambda: _drop(scope)):
        await put(
            desk, scope, send, {"type": "http.response.start", "status": 200, "headers": head}
        )
        for at in range(0, len(body), PIECE):
            if (transport := scope.get(SOCKET)) is not None and transport.is_closing():
                return  # nobody is there any more
            part = body[at : at + PIECE]
            await put(
                desk, scope, send, {"type": "http.response.body", "body": part, "more_body": True}
            )
        await put(desk, scope, send, {"type": "http.response.body", "body": b""})


def settle(desk: Desk, scope: Scope, chat: Chat) -> None:
    """What is left to do when a turn has ended, however it did."""
    turn = chat.latest
    desk.spent(turn)
    desk.remember(chat)
    for warning in chat.recorder.heard():
        desk.note(warning)
    if turn is not None:
        why = f": {one_line(turn.failure.what)}" if turn.failure is not None else ""
        scope[LOG] = f"{turn.provider or '-'} {desk.price(turn.usage)}{why}"


def served_by(
    provider: str, model: str, attempts: int, seams: Sequence[int] = ()
) -> list[tuple[bytes, bytes]]:
    """The headers that say how an answer came about; of a stream, how it had when it began."""
    found = {"x-holychat-provider": provider, "x-holychat-model": model}
    found["x-holychat-attempts"] = str(attempts)
    found["x-holychat-seams"] = ",".join(map(str, seams))
    return [(name.encode(), _header(value)) for name, value in found.items()]


def _header(value: str) -> bytes:
    return "".join(c if " " <= c <= "~" else "?" for c in value).encode("ascii")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
