"""Copies of prompts to the provider that a migration leads to, unseen, to compare the two.

Owns the copies of one session: one attempt each, after the user's own answer is whole, and nothing
of them is shown. Only in the stage that the user asked for. An `ask` waits for its copy as long as
its answer took, the chat in the terminal for none when it ends; what is stopped then is kept as
that. Must not decide who is copied: the migration's share does.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from holychat.core.chat import Finish
from holychat.core.failure import Failure, HolychatError, keyless
from holychat.core.route import share
from holychat.core.tokens import request as request_tokens
from holychat.engine.failover import Candidate
from holychat.engine.fold import Fold
from holychat.engine.health import Queued, Ticket

if TYPE_CHECKING:
    from holychat.core.chat import Request, Turn
    from holychat.core.provider import Provider
    from holychat.engine.conversation import Chat
    from holychat.engine.health import Board
    from holychat.engine.split import Choose, Split
    from holychat.net.client import Client
    from holychat.store.recorder import Recorder


class Shadow:
    """The copies that are on their way."""

    def __init__(
        self, split: Split, client: Client, board: Board, recorder: Recorder, choose: Choose
    ) -> None:
        self._split = split
        self._client = client
        self._board = board
        self._recorder = recorder
        self._choose = choose
        self._tasks: set[asyncio.Task[None]] = set()

    def copy(self, chat: Chat, request: Request, turn: Turn) -> None:
        """Send a copy of a prompt that was answered, if it is one that is to be copied."""
        state = self._split.copied(chat, turn.provider)
        if state is None or not turn.finish.complete or request.partial:
            return
        parts = {"copied": state.shadow, "": 1 - state.shadow}
        if share(parts, f"{chat.id}/{len(chat.exchanges)}") != "copied":
            return
        task = asyncio.get_running_loop().create_task(self._send(chat, request, turn, state.new))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self, seconds: float) -> None:
        """Give the copies so long, then stop them. Never raises, also where the wait is stopped:
        the user's own answer is whole."""
        tasks = [*self._tasks]
        if not tasks:
            return
        try:
            await asyncio.wait(tasks, timeout=seconds)
        except asyncio.CancelledError:
            pass
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, chat: Chat, request: Request, shown: Turn, name: str) -> None:
        try:
            provider, model = await self._choose("", name)
        except HolychatError:
            return  # it cannot be asked: the figures of the stage lack it
        request = replace(request, model=model)
        if chat.purse is not None:
            try:
                request = await chat.purse.aside(chat, request, Candidate(provider, model))
            except Failure:
                return  # a limit has no room for it
        tokens = request_tokens([each.content for each in request.messages])
        ticket = await self._board.admit(provider, tokens)
        if not isinstance(ticket, Ticket):
            if isinstance(ticket, Queued):  # a copy takes nobody's place
                self._board.cancelled(ticket.ticket)
            return
        fold = Fold(provider.name, model, request, chat.clock, chat.price, chat.ratios)
        turn: Turn | None = None
        try:
            await self._answered(ticket.provider, request, fold)
            turn = fold.turn()
            self._board.answered(ticket, first=turn.timings.first)
        except Failure as failure:
            keyless(failure, provider)
            self._board.failed(ticket, failure)
            turn = fold.turn(failure=failure)
        finally:
            self._board.cancelled(ticket)
            turn = turn or fold.turn(Finish.INTERRUPTED)
            self._keep(chat.id, turn, shown)

    async def _answered(self, provider: Provider, request: Request, fold: Fold) -> None:
        async with aclosing(self._client.stream(provider, request)) as deltas:
            async for delta in deltas:
                fold.add(delta)

    def _keep(self, conversation: str, turn: Turn, shown: Turn) -> None:
        """In the store's own thread, the comparison too: nobody waits for it."""
        from holychat.core.migrate import alike
        from holychat.store.migration import keep_shadow

        tried = replace(turn.attempts[-1], role="shadow")
        whole = turn.finish.complete
        self._recorder.ask(
            lambda db: keep_shadow(
                db, conversation, tried, alike(shown.text, turn.text) if whole else None
            )
        )
