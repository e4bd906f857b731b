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
    from holychat.engine.conversation import Chat
    from holychat.engine.fold import Fold


class Tries:
    """The requests of one turn: one as a rule, and once more with less, where the provider says
    that it was too long and the policy lets us."""

    def __init__(self, chat: Chat, asked: Asked, fold: Fold) -> None:
        self._chat = chat
        self._asked = asked
        self._fold = fold
        self._way = chat.way()
        self._bill = chat.purse.bill(chat, lambda: fold.ended) if chat.purse else None
        self._way.allow = self._bill.allowed if self._bill else None
        self._most: int | None = None
        self._again = True

    async def replies(self) -> AsyncGenerator[Notice | Reply, None]:
        """What is to be said, and each reply, which is to be read within `judged`."""
        chat, fold, asked = self._chat, self._fold, self._asked
        fitting, prompt, before = chat.fitting, asked.prompt, asked.before
        while self._again:
            self._again = False
            for line in await self._checked():
                yield Notice(line)
            notices = fitting.fitted(chat, asked, fold.aside, self._way.first, self._most)
            async with aclosing(notices):
                async for notice in notices:
                    yield notice
            messages = chat.messages(prompt, before, fitting.plan)
            fold.request = replace(fold.request, messages=messages)
            yield Reply(self._way, fold.request)

    async def _checked(self) -> list[str]:
        """Whether the turn may be sent at all, where a summary would be sent before it."""
        chat, asked, first = self._chat, self._asked, self._way.first
        if self._bill is None or chat.fitting.policy != "summarize":
            return []
        plan = chat.fitting.planned(chat, asked, first, self._most)
        if plan.cut <= plan.done:
            return []
        messages = chat.messages(asked.prompt, asked.before, plan)
        request = replace(self._fold.request, messages=messages)
        return (await self._bill.allowed(request, first))[1]

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
