"""A title that the model makes, where the settings ask for one.

Owns what is asked and what is taken of the answer. Never raises: a title is worth no trouble.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from holychat.core.chat import Message, Request
from holychat.core.failure import HolychatError
from holychat.core.sanitize import one_line
from holychat.core.titles import title_of

if TYPE_CHECKING:
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
    try:
        async with asyncio.timeout(PATIENCE):
            text = await _said(chat, Request(chat.model, (Message("user", shown),)))
    except (HolychatError, TimeoutError):
        return ""
    lines = text.strip().splitlines()
    return title_of(one_line(lines[0], MOST).strip(" \"'“”«»*#.")) if lines else ""


async def _said(chat: Chat, request: Request) -> str:
    text = ""
    async with aclosing(chat.client.stream(chat.provider, request)) as deltas:
        async for delta in deltas:
            text += delta.text
            if len(text) > MOST:
                break
    return text
