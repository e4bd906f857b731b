"""The slash commands for the conversations that are kept: found, gone on with, copied, named.

Owns what they look like in a list. A command that works on the store says so in its row: where
nothing is kept it is not called.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from holychat import env
from holychat.commands.repl.table import Table
from holychat.core.failure import UsageError
from holychat.core.history import LEAST
from holychat.core.sanitize import one_line
from holychat.settings.layers import Layer
from holychat.store.conversations import branch, find, get, listing
from holychat.store.conversations import fork as copied
from holychat.store.conversations import rename as renamed
from holychat.store.ids import now
from holychat.store.search import search as find_words
from holychat.store.side import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.commands.repl.loop import Repl
    from holychat.core.history import Conversation
    from holychat.settings import Settings
    from holychat.store.db import Database

COMMANDS = command = Table()
MOST = 12  # rows of what a search finds, or a name fits


def nowhere(settings: Settings) -> str:
    """Why nothing is kept; empty where it is."""
    store = settings.value("store")
    if store.value != "none":
        return ""
    return "--no-store" if store.source.layer is Layer.FLAG else f"store is none ({store.source})"


@command("[WORDS]", alone=True, kept=True)
async def sessions(repl: Repl, words: str) -> None:
    """List the conversations, all or those with words in their titles."""
    session = await repl.session()
    found = await session.stored(listing)
    low = words.lower()
    shown = [each for each in found if low in each.title.lower()]
    for each in shown[:30]:
        mark = "›" if each.id == session.recorder.conversation else " "
        repl.say(f"{mark} {each.short}  {one_line(each.title, max(20, env.width() - 14))}")
    if len(shown) > 30:
        repl.say(f"  … {len(shown) - 30} more; holychat history list shows all")
    if not shown:
        repl.say("  (none)")


@command("NAME", takes="sessions", kept=True)
async def resume(repl: Repl, name: str) -> None:
    """Go on with another conversation: by its id or a part of its title."""
    if not name:
        raise UsageError("/resume takes an id or a part of a title", "/sessions lists them.")
    session = await repl.session()
    meant: list[Conversation] = await session.stored(_meant, name)
    if not meant:
        raise UsageError(
            f"no conversation is called {name}",
            "/sessions lists them, /search finds words in them.",
        )
    if len(meant) == 1:
        await repl.resume(meant[0].id)
        return
    repl.note(f"{one_line(name, 40)} may be several conversations; /resume ID goes on with one")
    _list(repl, meant[:MOST])
    if len(meant) > MOST:
        repl.say(f"  … {len(meant) - MOST} more; /sessions {one_line(name, 40)} lists more of them")


def _meant(db: Database, name: str) -> list[Conversation]:
    """The one conversation that a name stands for, else all that it fits, the latest first."""
    try:
        return [find(db, name)]
    except UsageError:
        low = name.casefold()
        return [
            each
            for each in listing(db)
            if low in each.title.casefold() or (len(low) >= LEAST and each.id.startswith(low))
        ]


def _list(repl: Repl, found: Sequence[Conversation]) -> None:
    """A row for each: short id, title, and when it was last spoken in."""
    from holychat.screen.pen import cells, fit, padded
    from holychat.screen.words import when

    at = now()
    ages = [when(each.updated, at) for each in found]
    room = max(8, env.width() - 1 - 14 - max(map(len, ages)))
    titles = [fit(one_line(each.title, 1000), room) for each in found]
    wide = max(map(cells, titles))
    for each, title, age in zip(found, titles, ages, strict=True):
        line = f"  {padded(title, wide)}  "
        repl.show((f"  {each.short}", "accent"), (line, ""), (age, "dim"))


@command("WORDS", kept=True)
async def search(repl: Repl, words: str) -> None:
    """Find words in all conversations."""
    if not words:
        raise UsageError("/search takes words")
    from holychat.screen.pen import around, fit

    session = await repl.session()
    found = await session.stored(find_words, words, None, MOST)
    room = max(20, env.width() - 1) - 12
    for each in found:
        title = fit(one_line(each.conversation.title, 1000), room)
        repl.show((f"  {each.conversation.short}", "accent"), (f"  {title}", ""))
        before, match, after = around(each, room)
        repl.show((f"{'':12}{before}", ""), (match, "accent strong"), (after, ""))
    repl.say("  /resume ID goes on with one" if found else "  (nothing found)")


@command(kept=True)
async def fork(repl: Repl, _: str) -> None:
    """Go on in a copy: the conversation until here stays as it is."""
    session = await repl.session()
    here = await _here(repl, "nothing to fork")
    if not repl.chat.exchanges:
        raise UsageError("there is nothing to fork yet")
    copy = await session.stored(copied, here, here.head)
    path = await session.stored(branch, copy)
    repl.chat.enter(copy, path, *await session.stored(beside, copy.id, path))
    repl.note(f"a copy, {copy.short}; the one until here is {here.short}")


@command("TITLE", kept=True)
async def rename(repl: Repl, title: str) -> None:
    """Give the conversation another title."""
    session = await repl.session()
    if not title:
        raise UsageError("/rename takes a title")
    here = await _here(repl, "no conversation to rename")
    repl.chat.title = await session.stored(renamed, here.id, title)
    repl.note(f"it is called {repl.chat.title}")


@command("FILE", kept=True)
async def export(repl: Repl, file: str) -> None:
    """Write the conversation to a new file: .md, .html, or .json, which loses nothing."""
    if not file:
        raise UsageError("/export takes a file's name, like talk.md, talk.html or talk.json")
    from holychat.engine.export import save as exported

    session = await repl.session()
    here = await _here(repl, "nothing to export")
    await session.stored(exported, [here], _path(file))
    repl.note(f"written to {file}")


def _path(file: str) -> str:
    return os.path.expanduser(file)


async def _here(repl: Repl, none: str) -> Conversation:
    """This conversation, as it is kept. Raises UsageError where it is not.

    One whose store failed is kept in part: to go on with that part would lose the rest. Behind all
    that is being written, for the trouble may not be known yet; or it may be over.
    """
    session = await repl.session()
    recorder = session.recorder
    if not await asyncio.wrap_future(recorder.caught_up()):
        raise UsageError("this conversation is not being kept")
    if not recorder.conversation:
        raise UsageError(f"there is {none} yet")
    here: Conversation = await session.stored(get, recorder.conversation)
    return here
