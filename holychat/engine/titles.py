"""A title that the model makes, where the settings ask for one.

Owns what is asked and what is taken of the answer; what it cost is kept as an attempt of the role
`title`. Never raises: a title is worth no trouble, and where a limit refuses it, there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.chat import Message, Request
from holychat.core.failure import HolychatError
from holychat.core.sanitize import one_line
from holychat.core.titles import title_of
from holychat.engine.failover import Candidate
from holychat.engine.summary import answered

if TYPE_CHECKING:
    from holychat.core.chat import Tried
    from holychat.engine.conversation import Chat

ASKED = (
    "Give the conversation below a title of six words at most, in its own language. Answer with the"
    " title alone: no quotes, no full stop."
)
READ = 2000  # characters of the prompt and of the answer that are shown for it
MOST = 400  # characters of an answer that may hold a title
PATIENCE = 20.0  # seconds


async def made(chat: Chat) -> str:
    """A title for what was said first; "" where none could be had."""
    if not chat.exchanges:
        return ""
    first = chat.exchanges[0]
    shown = f"{ASKED}\n\n<prompt>\n{first.prompt[:READ]}\n</prompt>\n"
    shown += f"<answer>\n{first.turn.text[:READ]}\n</answer>"
    request = Request(chat.model, (Message("user", shown),))
    try:
        lines = (await _said(chat, request)).strip().splitlines()
    except HolychatError:
        return ""
    return title_of(one_line(lines[0], MOST).strip(" \"'“”«»*#.")) if lines else ""


async def _said(chat: Chat, request: Request) -> str:
    """Raises HolychatError where it may not be sent."""
    who = Candidate(chat.provider, chat.model)
    if chat.purse is not None:
        request = await chat.purse.aside(chat, request, who)
    spent: list[Tried] = []
    talk, conversation = chat.id, chat.recorder.conversation
    try:
        turn = await answered(chat, who, request, spent, role="title", patience=PATIENCE, most=MOST)
    finally:
        for tried in spent:
            _keep(chat, talk, conversation, tried)
    return "" if turn.failure else turn.text


def _keep(chat: Chat, talk: str, conversation: str, tried: Tried) -> None:
    """Count it, with the conversation that it is of: the user may be in another one by now."""
    if tried.usage is not None and chat.id == talk:
        chat.used += tried.usage
    if chat.purse is not None:
        chat.purse.used(tried.usage)
    if conversation:
        from holychat.store.side import spent

        chat.recorder.ask(lambda db: spent(db, conversation, tried))
