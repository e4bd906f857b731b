"""One turn over a WebSocket: from a prompt to its one end.

Owns that each prompt has one `done` or one `error`, whatever happens, and one line in the log.
Which conversation it belongs to, and the way to the client, are the socket's.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.commands.serve.desk import about, tokens_of
from holychat.commands.serve.errors import Refused
from holychat.commands.serve.errors import refused as refusal
from holychat.commands.serve.guard import LOG
from holychat.commands.serve.stream import CUT, Left, settle
from holychat.core.chat import Attempt, Delta, Failed, Finish, Notice, Turn, Usage
from holychat.core.failure import HolychatError
from holychat.screen.words import failed

if TYPE_CHECKING:
    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.socket import Talk
    from holychat.core.chat import Event
    from holychat.engine.conversation import Chat

_NOTHING = Turn("", "", Finish.INTERRUPTED, "", "", Usage(cost=0))  # stopped before it began


class End(NamedTuple):
    """How a turn ended: what the client is told, and what the log says of it."""

    said: dict[str, Any]
    finish: str
    status: int = 200
    why: str = ""


GONE = End({}, "left")  # nobody is there to be told


class Answer:
    """One turn, from a prompt to its one end.

    It has a task of its own, which nobody cancels: what is stopped is the work within, and the rest
    (the seat, the line in the log, the end) is seen to in any case, also before the first step.
    """

    def __init__(self, desk: Desk, talk: Talk, said: dict[str, Any]) -> None:
        self._desk = desk
        self._talk = talk
        self._said = said
        self._chat: Chat | None = None
        self._begun = False  # `begin` is out
        self._began = time.monotonic()
        self._over = 0.0
        self._size = 0
        self._scope: dict[str, Any] = {}
        self._end: End | None = None
        # What stopped it: the client, or the end of the relay.
        self._stop: asyncio.Future[End | None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())

    @property
    def ending(self) -> bool:
        """Whether its end is on its way to the client, or with it."""
        return self._end is not None or self._task.done()

    @property
    def last(self) -> float:
        """When it was under way, by the loop's clock."""
        return self._over or asyncio.get_running_loop().time()

    def stop(self, end: End | None = None) -> None:
        """`end` in place of the one that a client gets who stops it."""
        if not self._stop.done():
            self._stop.set_result(end)

    async def wait(self) -> None:
        """Until it is over."""
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            with self._desk.seat():
                await self._ended(await self._outcome())
        except Left:
            self._end = GONE
        except Exception as error:  # noqa: BLE001 - the connection outlives it, and it is told
            with suppress(Left):
                await self._ended(self._explained(error))
        finally:
            self._over = asyncio.get_running_loop().time()
            self._log()

    async def _ended(self, end: End) -> None:
        self._end = end
        if end.said:
            await self._tell(**end.said)

    async def _outcome(self) -> End:
        """Raises Left and whatever the work does."""
        work = asyncio.create_task(self._work())
        either: set[asyncio.Future[Any]] = {work, self._stop}
        try:
            with self._desk.cut.telling(lambda: self.stop(refused_by(CUT)._replace(finish="cut"))):
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if self._chat is not None:
                settle(self._desk, self._scope, self._chat)
        if self._chat is not None:
            await self._talk.kept(self._chat)
        if work.cancelled():
            return self._stop.result() or self._done()
        work.result()
        return self._done()

    def _explained(self, error: Exception) -> End:
        if isinstance(error, Refused):
            return refused_by(error)
        if isinstance(error, HolychatError):
            return _failed(error, refusal(error))
        self._desk.fault(error)
        what, hint = "something went wrong inside", "The relay's own log says more."
        return End(wrong(what, "internal", hint), "failed", 500)

    def _done(self) -> End:
        """By what the conversation knows of it."""
        chat, asked = self._chat, self._said.get("conversation")
        identity = asked if isinstance(asked, str) else ""
        turn = chat.latest if chat is not None else None
        if chat is not None and turn is not None:
            if turn.failure is not None:
                end = _failed(turn.failure, self._desk.explained(turn.failure, chat))
                return end._replace(why="")  # `settle` says it
            identity = chat.id
        turn = turn or _NOTHING
        said = {
            **about(turn, self._desk.price(turn.usage)),
            "type": "done",
            "conversation": identity,
            "title": chat.title if chat is not None else "",
            "finish": turn.finish.value,
            "usage": tokens_of(turn),
            "seconds": round(turn.timings.total, 3),
            "first": None if turn.timings.first is None else round(turn.timings.first, 3),
        }
        return End(said, turn.finish.value)

    def _log(self) -> None:
        end = self._end or GONE
        more = " ".join(filter(None, (end.finish, self._scope.get(LOG, ""), end.why)))
        code = end.status if self._size else 0
        self._desk.status.request("WS", "/ws", code, self._size, self._began, more)

    # --- The work -------------------------------------------------------------------------------

    async def _work(self) -> None:
        chat, prompt, again = await self._talk.opened(self._said)
        self._chat = chat
        async with aclosing(chat.send(prompt, again=again)) as events:
            async for event in events:
                await self._show(chat, event)

    async def _show(self, chat: Chat, event: Event) -> None:
        if isinstance(event, Delta):
            await self._piece(event)
        elif isinstance(event, Attempt):
            if not self._begun:
                self._begun = True
                who = {"provider": event.provider, "model": event.model}
                await self._tell(type="begin", conversation=chat.id, **who)
        elif isinstance(event, Notice):
            self._desk.note(event.text)
            await self._tell(type="notice", text=event.text)
        elif isinstance(event, Failed) and (said := failed(event)):  # what ends it is its error
            await self._tell(type="notice", text=said)

    async def _piece(self, delta: Delta) -> None:
        if delta.text or delta.reasoning:
            self._desk.status.pieces += 1
        if delta.reasoning:
            await self._tell(type="reasoning", text=delta.reasoning)
        if delta.text:
            await self._tell(type="delta", text=delta.text)

    async def _tell(self, **said: Any) -> None:
        self._size += await self._talk.tell(said)


def wrong(message: str, code: str, hint: str = "") -> dict[str, Any]:
    return {"type": "error", "message": message, "hint": hint, "code": code}


def refused_by(refused: Refused) -> End:
    message, code = refused.error["message"], refused.error["code"]
    # What is wrong with a prompt is its client's to know, and may quote it.
    why = message if refused.status >= 500 else code or refused.error["param"] or ""
    said = wrong(message, code or refused.error["type"])
    return End(said, "refused", refused.status, why)


def _failed(error: HolychatError, refused: Refused) -> End:
    """`refused` has the hint behind what happened, as OpenAI's form knows no other place."""
    end = refused_by(refused)
    whole = refused.error["message"]
    if whole.startswith(error.what):
        rest = whole.removeprefix(error.what).removeprefix(".").strip()
        end.said.update(message=error.what, hint=rest)
    return end._replace(finish="failed")
