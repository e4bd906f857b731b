"""The WebSocket at `/ws`: prompts in, pieces out, several turns a connection, one at a time.

Client:  {"type": "prompt", "text", "conversation": "ID or empty", "model": "provider/model, auto or
         empty", "regenerate": false, "history": [{"role", "content"}]}, {"type": "cancel"}
Server:  {"type": "begin", "conversation", "provider", "model"}, {"type": "delta" | "reasoning" |
         "notice", "text"}, {"type": "done", "finish", "usage", "cost", "cost_text", "seconds",
         "first", "provider", "model", "seams"}, {"type": "error", "message", "hint", "code"}

Each prompt has one `done` or one `error`, and when that is out the next prompt is taken. With a
`history` the client says itself what came before; else the conversation is the store's, read anew
for each prompt, so that several tabs and a terminal may go on with it in turns.

Closed with 1001: silent for too long; 1003: no text; 1007: no UTF-8; 1013: too many are open.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect

from holychat.commands.serve import body as bodies
from holychat.commands.serve import host, stream
from holychat.commands.serve.answer import GONE, Answer, End, wrong
from holychat.commands.serve.chat import messages_of
from holychat.commands.serve.desk import KEPT, Desk
from holychat.commands.serve.errors import Refused, dumped
from holychat.commands.serve.guard import LOG, PROTOCOL, SOCKET
from holychat.commands.serve.stream import Left
from holychat.core.failure import UsageError
from holychat.engine.conversation import Chat
from holychat.engine.relay import Relayed, given
from holychat.store import conversations, side, turns
from holychat.store.recorder import Recorder

if TYPE_CHECKING:
    from holychat.core.history import Conversation
    from holychat.core.history import Kept as Message
    from holychat.store.db import Database

OPEN = 1000  # sockets of one process; more where more answers may be under way
IDLE = 3600.0  # seconds without a word after which one is closed
LOOK = 30.0  # seconds between two looks at one that says nothing


def most(desk: Desk) -> int:
    """How many may be open: so many that others get in too."""
    return max(1, min(max(OPEN, 2 * desk.most), host.descriptors() // host.PART // 2))


class Kept(NamedTuple):
    """A conversation as it is in the store."""

    of: Conversation
    path: list[Message]
    pins: frozenset[int]
    summary: tuple[int, str] | None


def _read(db: Database, identity: str) -> Kept:
    """By its whole id. Raises UsageError."""
    turns.bury_in(db, identity)
    found = conversations.get(db, identity)
    path = conversations.branch(db, found)
    return Kept(found, path, *side.beside(db, identity, path))


class Talk:
    """One connection."""

    open: ClassVar[int] = 0  # connections of this process

    def __init__(self, desk: Desk, socket: WebSocket) -> None:
        self._desk = desk
        self._socket = socket
        self._transport: Any = socket.scope.get(SOCKET)
        self._answer: Answer | None = None  # the last one
        self._chat: Chat | None = None  # the last one of which the store has not all

    async def run(self) -> None:
        """Until the client leaves."""
        offered = [str(name) for name in self._socket.scope.get("subprotocols") or ()]
        try:
            await self._socket.accept(PROTOCOL if PROTOCOL in offered else None)
        except (OSError, RuntimeError):
            return  # it is gone already
        Talk.open += 1
        try:
            if Talk.open > most(self._desk):
                await self._close(1013, f"{Talk.open - 1} sockets are open: try again later")
            else:
                await self._listen()
        except Left:
            pass
        finally:
            Talk.open -= 1
            await self._stopped(GONE)
            self._forget()

    async def _listen(self) -> None:
        """Raises Left."""
        while True:
            message = await self._received()
            if message is None:
                await self._close(1001, f"nothing was said for {IDLE:.0f} s")
            elif message["type"] == "websocket.disconnect":
                self._socket.scope[LOG] = f"closed {message.get('code')}"
            elif message.get("text") is None:
                await self._close(1003, "what is said here is text: JSON")
            else:
                await self._heard(message["text"])
                continue
            return

    async def _received(self) -> Any:
        """What comes next; None where nothing did for too long."""
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            last = max(heard, self._answer.last) if self._answer is not None else heard
            silent = loop.time() - last
            if silent >= IDLE:
                return None
            try:
                async with asyncio.timeout(min(LOOK, IDLE - silent)):
                    return await self._socket.receive()
            except TimeoutError:
                pass
            if self._transport is not None and self._transport.is_closing():
                self._transport.abort()  # no pong came, and what was to be said is not read

    async def _heard(self, text: str) -> None:
        """Raises Left."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        kind = said.get("type") if isinstance(said, dict) else None
        if kind == "cancel":
            await self._stopped()
        elif kind != "prompt":
            what = "a message is an object of the type prompt or cancel"
            await self.tell(wrong(what, "bad_message"))
        elif self._answer is not None and not self._answer.ending:
            hint = "An answer is under way: cancel it, or wait for its end."
            await self.tell(wrong("busy", "busy", hint))
        else:
            if self._answer is not None:
                await self._answer.wait()
            self._answer = Answer(self._desk, self, said)

    async def _stopped(self, end: End | None = None) -> None:
        """What runs is stopped, and has told its end."""
        if self._answer is not None:
            self._answer.stop(end)
            await self._answer.wait()

    # --- What goes out --------------------------------------------------------------------------

    async def tell(self, said: dict[str, Any]) -> int:
        """Its bytes. Raises Left where the client is gone, or does not read."""
        data = dumped(said)
        try:
            async with asyncio.timeout(stream.SLOW):
                await self._socket.send_text(data.decode())
        except TimeoutError as error:
            self._desk.status.rarely("a client did not read its answer, and was dropped")
            self._abort()
            raise Left from error
        except (WebSocketDisconnect, RuntimeError) as error:  # RuntimeError: it was closed
            raise Left from error
        return len(data)

    async def _close(self, code: int, reason: str) -> None:
        await self._stopped()
        self._socket.scope[LOG] = f"closed {code}: {reason}"
        try:
            async with asyncio.timeout(stream.SLOW):
                await self._socket.close(code, reason)
        except TimeoutError:
            self._abort()
        except (WebSocketDisconnect, RuntimeError):
            pass  # it is

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _forget(self) -> None:
        """What it does not read of the last words would keep the connection for ever."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(stream.SLOW, self._transport.abort)

    # --- Its conversations ----------------------------------------------------------------------

    async def opened(self, said: dict[str, Any]) -> tuple[Chat, str, bool]:
        """(the conversation, the prompt, whether in place of the last one). Raises Refused and
        HolychatError."""
        text, again = bodies.text(said, "text", ""), said.get("regenerate") is True
        identity, model = bodies.text(said, "conversation", ""), said.get("model")
        if said.get("history") is not None:
            _asking(text)
            messages = messages_of(self._desk, text, said["history"])
            asked = given({**self._desk.settings.params, "model": model, "messages": messages})
            return await self._desk.turn(asked, {}), asked.prompt, False
        chat = await self._conversation(identity, model)
        text = text or (chat.prompt_again() if again else "")
        _asking(text)
        # A prompt that failed is not in the store: its next try replaces nothing.
        again = again and bool(chat.exchanges) and chat.exchanges[-1].prompt == text
        return chat, text, again

    async def kept(self, chat: Chat) -> None:
        """Wait for the end of a turn to be in the store; where it is not, it is gone on with here.
        A client that brings its history along does not need that."""
        if await _written(chat.recorder):
            if self._chat is not None and self._chat.id == chat.id:
                self._chat = None
        elif not isinstance(chat, Relayed):
            self._chat = chat

    async def _conversation(self, identity: str, model: object) -> Chat:
        """It, as it is now; a new one for an empty id. Raises Refused and HolychatError."""
        desk, kept, session = self._desk, self._chat, self._desk.session
        if kept is not None and identity == kept.id and not await _written(kept.recorder):
            if model:
                choice = await desk.choose(model)
                kept.provider, kept.model, kept.pinned = choice
            kept.latest = None
            return kept
        path = session.recorder.path
        if identity and path is None:
            raise Refused(404, "there is no such conversation here", "not_found")
        try:
            found = await session.stored(_read, identity) if identity else None
        except UsageError as error:
            raise Refused(404, error.what, "not_found") from error
        own = f"{found.of.provider}/{found.of.model}" if found and found.of.provider else ""
        choice = await desk.choose(model or own)
        ours = not desk.settings["store"]
        recorder = Recorder(path, ours=ours, beside=session.recorder if path else None)
        # That a conversation has a model is no wish for nobody else.
        pinned = choice.pinned and bool(model)
        chat = session.chat_of(Chat, recorder, choice.provider, choice.model, pinned=pinned)
        if chat.rules.on_cut == "restart":  # what is out cannot be taken back
            chat.rules = chat.rules._replace(on_cut="stop")
        if found is not None:
            chat.enter(found.of, found.path, found.pins, found.summary)
        return chat


def _asking(text: str) -> None:
    if not text.strip():
        raise Refused(400, "there is nothing to ask", param="text")


async def _written(recorder: Recorder) -> bool:
    """Whether the store has all that it was given; it may have been locked for a while."""
    asked = asyncio.wrap_future(recorder.caught_up())
    await asyncio.wait({asked}, timeout=KEPT)
    return asked.done() and asked.result()
