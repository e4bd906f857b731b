"""The WebSocket at `/ws`: prompts in, pieces out, several turns a connection, one at a time.

Client:  {"type": "prompt", "text", "conversation": "ID or empty", "model": "provider/model, auto or
         empty", "regenerate": false, "history": [{"role", "content"}]}, {"type": "cancel"}
Server:  {"type": "begin", "conversation", "provider", "model"}, {"type": "delta" | "reasoning" |
         "notice", "text"}, {"type": "done", "finish", "usage", "cost", "cost_text", "seconds",
         "first", "provider", "model", "seams"}, {"type": "error", "message", "hint"}

With a `history` the client says itself what came before; else the conversation is the store's, read
anew for each prompt, so that several tabs and a terminal may go on with it in turns.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect

from holychat.commands.serve import body as bodies
from holychat.commands.serve.chat import messages_of
from holychat.commands.serve.desk import Desk, about, tokens_of
from holychat.commands.serve.errors import Refused, dumped
from holychat.commands.serve.guard import PROTOCOL
from holychat.commands.serve.stream import SLOW, settle
from holychat.core.chat import Attempt, Delta, Done, Failed, Notice
from holychat.core.failure import HolychatError
from holychat.engine.conversation import Chat
from holychat.engine.relay import given
from holychat.screen.words import failed
from holychat.store import conversations, side, turns
from holychat.store.recorder import Recorder

if TYPE_CHECKING:
    from holychat.core.chat import Event, Turn
    from holychat.core.history import Conversation
    from holychat.core.history import Kept as Message
    from holychat.store.db import Database


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
    """One connection. What is said in it is journalled: a person reads along."""

    def __init__(self, desk: Desk, socket: WebSocket) -> None:
        self._desk = desk
        self._socket = socket
        self._recorder = Recorder(desk.session.recorder.path, ours=not desk.settings["store"])
        self._chat: Chat | None = None  # the last one, where nothing is kept
        self._turn: asyncio.Task[None] | None = None
        self._began = ("", "", "")
        self._told = False  # `begin` is out

    async def run(self) -> None:
        """Until the client leaves."""
        await self._socket.accept(PROTOCOL if PROTOCOL in self._offered else None)
        cut = asyncio.ensure_future(self._cut())
        try:
            while True:
                await self._heard(await self._socket.receive_text())
        except (WebSocketDisconnect, KeyError):  # KeyError: bytes, which nobody sends here
            pass
        finally:
            cut.cancel()
            await self._stopped()
            await asyncio.gather(cut, return_exceptions=True)
            await asyncio.to_thread(self._recorder.close)

    @property
    def _offered(self) -> list[str]:
        return [str(name) for name in self._socket.scope.get("subprotocols") or ()]

    async def _cut(self) -> None:
        """When the relay stops, what runs ends with an error."""
        await self._desk.cut.wait()
        if self._turn is not None and not self._turn.done():
            await self._stopped()
            await self._tell(type="error", message="the relay was stopped in mid-answer", hint="")

    async def _stopped(self) -> None:
        task = self._turn
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _heard(self, text: str) -> None:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        kind = said.get("type") if isinstance(said, dict) else None
        running = self._turn is not None and not self._turn.done()
        if kind == "cancel":
            if running:
                await self._stopped()
        elif kind != "prompt":
            await self._error("a message is an object of the type prompt or cancel")
        elif running:
            await self._error("busy", "An answer is under way: cancel it, or wait for its end.")
        else:
            self._turn = asyncio.create_task(self._answer(said))

    # --- One turn -------------------------------------------------------------------------------

    async def _answer(self, said: dict[str, Any]) -> None:
        scope: dict[str, Any] = {}
        chat: Chat | None = None
        try:
            with self._desk.seat():
                chat, prompt, again = await self._opened(said)
                self._told, self._began = False, ("", "", "")
                try:
                    async with aclosing(chat.send(prompt, again=again)) as events:
                        async for event in events:
                            await self._show(chat, event)
                except asyncio.CancelledError:
                    if chat.latest is not None:
                        await self._desk.kept(chat)
                        await self._done(chat, chat.latest)
                    raise
                finally:
                    settle(self._desk, scope, chat)
        except Refused as refused:
            await self._error(refused.error["message"])
        except HolychatError as error:
            await self._error(error.what, error.hint)
        except Exception as error:  # noqa: BLE001 - the connection outlives it, and it is told
            self._desk.fault(error)
            await self._error("something went wrong inside", "The relay's own log says more.")

    async def _opened(self, said: dict[str, Any]) -> tuple[Chat, str, bool]:
        """(the conversation, the prompt, whether in place of the last one). Raises Refused."""
        text, again = bodies.text(said, "text", ""), said.get("regenerate") is True
        identity, model = bodies.text(said, "conversation", ""), said.get("model")
        if said.get("history") is not None:
            messages = messages_of(self._desk, text, said["history"])
            asked = given({**self._desk.settings.params, "model": model, "messages": messages})
            return await self._desk.turn(asked, {}), asked.prompt, False
        chat = await self._conversation(identity, model)
        text = text or (chat.prompt_again() if again else "")
        if not text.strip():
            raise Refused(400, "there is nothing to ask", param="text")
        self._chat = chat
        return chat, text, again

    async def _conversation(self, identity: str, model: object) -> Chat:
        """It, as it is now; a new one for an empty id. Raises Refused and HolychatError."""
        desk, kept, session = self._desk, self._chat, self._desk.session
        if identity and not session.recorder.keeping:
            if kept is None or kept.id != identity:
                raise Refused(404, "there is no such conversation here", "not_found")
            if model:
                choice = await desk.choose(model)
                kept.provider, kept.model, kept.pinned = choice
            return kept
        found = await session.stored(_read, identity) if identity else None
        own = f"{found.of.provider}/{found.of.model}" if found and found.of.provider else ""
        choice = await desk.choose(model or own)
        self._recorder.new()
        # That a conversation has a model is no wish for nobody else.
        pinned = choice.pinned and bool(model)
        chat = session.chat_of(Chat, self._recorder, choice.provider, choice.model, pinned=pinned)
        if found is not None:
            chat.enter(found.of, found.path, found.pins, found.summary)
        return chat

    async def _show(self, chat: Chat, event: Event) -> None:
        if isinstance(event, Delta):
            await self._piece(event)
        elif isinstance(event, Attempt):
            if not self._told:
                self._told = True
                who = {"provider": event.provider, "model": event.model}
                await self._tell(type="begin", conversation=chat.id, **who)
        elif isinstance(event, Notice):
            await self._tell(type="notice", text=event.text)
        elif isinstance(event, Failed):
            if said := failed(event):  # what ends the turn is its error
                await self._tell(type="notice", text=said)
        elif isinstance(event, Done):
            await self._ended(chat, event.turn)

    async def _piece(self, delta: Delta) -> None:
        if delta.text or delta.reasoning:
            self._desk.status.pieces += 1
        if delta.reasoning:
            await self._tell(type="reasoning", text=delta.reasoning)
        if delta.text:
            await self._tell(type="delta", text=delta.text)

    async def _ended(self, chat: Chat, turn: Turn) -> None:
        await self._desk.kept(chat)
        if turn.failure is None:
            await self._done(chat, turn)
        else:
            refused = self._desk.explained(turn.failure, chat)
            await self._error(turn.failure.what, turn.failure.hint, refused)

    async def _done(self, chat: Chat, turn: Turn) -> None:
        cost = turn.usage.cost if turn.usage else None
        said = about(turn, self._desk.cash(cost))
        await self._tell(
            **said,
            type="done",
            conversation=chat.id,
            title=chat.title,
            finish=turn.finish.value,
            usage=tokens_of(turn),
            seconds=round(turn.timings.total, 3),
            first=None if turn.timings.first is None else round(turn.timings.first, 3),
        )

    async def _error(self, message: str, hint: str = "", refused: Refused | None = None) -> None:
        code = refused.error["code"] if refused else None
        await self._tell(type="error", message=message, hint=hint, code=code)

    async def _tell(self, **said: Any) -> None:
        """Raises WebSocketDisconnect where the client is gone, or does not read."""
        try:
            async with asyncio.timeout(SLOW):
                await self._socket.send_text(dumped(said).decode())
        except TimeoutError as error:
            self._desk.note("a client did not read its answer, and was dropped")
            with suppress(RuntimeError):
                await self._socket.close(1008)
            raise WebSocketDisconnect(1008) from error
