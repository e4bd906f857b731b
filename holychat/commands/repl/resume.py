"""What was before: the end of a conversation that is gone on with, and what killed chats left.

Owns the offers of broken-off answers and of drafts, each made once. Must not load a conversation
or change one: the loop does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.sanitize import one_line
from holychat.screen.words import BROKE_OFF, broke_off, ending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.commands.repl.voice import Voice
    from holychat.core.history import Orphan
    from holychat.engine.conversation import Chat
    from holychat.engine.session import Session

SEVERAL = 3  # prompts that are named; the line is to stay one


class Left:
    """What holychats that were killed have left, until it is offered."""

    def __init__(self) -> None:
        self._orphans: list[Orphan] = []
        self._drafts: list[str] = []  # what stood at their prompts

    async def bury(self, session: Session) -> None:
        """Take over what is there of dead writers."""
        orphans, drafts = await asyncio.wrap_future(session.recorder.bury())
        self._orphans += [orphan for orphan in orphans if orphan.text]
        # A question that nobody began to answer is one that is still to be asked.
        self._drafts += [orphan.prompt for orphan in orphans if not orphan.text] + drafts

    def orphan(self) -> Orphan | None:
        """The newest answer that broke off, once."""
        newest = self._orphans[-1] if self._orphans else None
        self._orphans.clear()
        return newest

    def draft(self) -> str:
        """The newest draft, once; empty where there is none."""
        newest = self._drafts[-1] if self._drafts else ""
        self._drafts.clear()
        return newest


def offer(voice: Voice, orphan: Orphan) -> None:
    """Say that there is an answer that broke off, and what can be done with it."""
    voice.note(
        f"an answer {BROKE_OFF}: {orphan.conversation.title}"
        f" ({len(orphan.text):,} characters are kept)"
    )
    voice.note("/continue goes on with it, /discard throws it away; else it just stays")
    env.out("")


def unkept(prompts: Sequence[str]) -> str:
    """What is not in the store, in a line; empty where everything is."""
    if not prompts:
        return ""
    named = ", ".join(f"“{one_line(prompt, 30)}”" for prompt in prompts[-SEVERAL:])
    more = f" and {len(prompts) - SEVERAL} before" if len(prompts) > SEVERAL else ""
    return f"not kept, or not whole: {named}{more}"


def tail(voice: Voice, chat: Chat, *, hint: bool = True) -> None:
    """The last exchange of a conversation that was resumed, so that one sees where one is.

    `hint`: say why its answer is not whole, and what to do about it.
    """
    if chat.title:
        voice.note(chat.title)
    if not chat.exchanges:
        return
    last = chat.exchanges[-1]
    rows = voice.drawn(last.turn.text).rstrip("\n").split("\n")
    room = max(6, env.size()[1] - 8)
    env.out(f"› {one_line(last.prompt, max(20, env.width() - 3))}")
    if len(rows) > room:
        voice.note(f"{len(rows) - room} rows above; /last shows all of it")
    env.write(("\n".join(rows[-room:]) + "\n").encode("utf-8", "replace"))
    said = BROKE_OFF if broke_off(last.turn) else ending(last.turn)
    if said and hint:
        voice.note(f"{said}; /continue goes on with it")
