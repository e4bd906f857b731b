"""The requests of one turn: one as a rule, and a second one where the first was too long.

Owns the second one. What it leaves out is `context`'s to say; all other tries are `failover`'s.
"""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from holychat.core.chat import Notice
from holychat.core.failure import Failure, Kind
from holychat.engine.failover import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from holychat.engine.context import Asked
    from holychat.engine.conversation import Chat, Fold


class Tries:
    """The requests of one turn: one as a rule, and once more with less, where the provider says
    that it was too long and the policy lets us."""

    def __init__(self, chat: Chat, asked: Asked, fold: Fold) -> None:
        self._chat = chat
        self._asked = asked
        self._fold = fold
        self._way = chat.way()
        self._most: int | None = None
        self._again = True

    async def replies(self) -> AsyncGenerator[Notice | Reply, None]:
        """What is to be said, and each reply, which is to be read within `judged`."""
        chat, fold, asked = self._chat, self._fold, self._asked
        fitting, prompt, before = chat.fitting, asked.prompt, asked.before
        while self._again:
            self._again = False
            notices = fitting.fitted(chat, asked, fold.aside, self._way.first, self._most)
            async with aclosing(notices):
                async for notice in notices:
                    yield notice
            messages = chat.messages(prompt, before, fitting.plan)
            request = replace(fold.request, messages=messages)
            if chat.purse is not None:
                request, said = await chat.purse.allowed(chat, request, self._way.first)
                for line in said:
                    yield Notice(line)
            fold.request = request
            yield Reply(self._way, fold.request)

    @contextmanager
    def judged(self, reply: Reply) -> Iterator[None]:
        """Whether another one follows; what it is not for is raised as it comes."""
        try:
            yield
        except Failure as failure:
            if self._most is not None or self._fold.spoken or failure.kind is not Kind.CONTEXT:
                raise
            self._way = replace(self._way, first=reply.asked)
            self._most = self._chat.fitting.refused(self._chat, self._asked, failure, reply.asked)
            if self._most is None:
                raise
            self._again = True
