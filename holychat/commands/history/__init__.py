"""`holychat history list` and `search`: what was said, found again.

Owns these two listings. Must not change anything: `change` does.

show      one conversation, drawn
change    renamed, forked, deleted, pruned, backed up
transfer  written to files, and taken in from them
lines     what a line of a listing looks like
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.commands.history.lines import about, data, table
from holychat.core.history import Filter
from holychat.core.sanitize import one_line
from holychat.engine.shelf import here, opened, place
from holychat.engine.times import moment, now
from holychat.exits import Exit
from holychat.screen.pen import Pen, around
from holychat.screen.words import when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.core.history import Conversation, Found
    from holychat.settings import Settings

SEEN = 1000  # lines that a terminal gets of a list without -n; nobody pages further


def narrowed(since: str, until: str, provider: str, model: str) -> Filter:
    """The filter of the options. Raises UsageError."""
    at = now()
    return Filter(
        since=moment("--since", since, at) if since else None,
        until=moment("--until", until, at, end=True) if until else None,
        provider=provider,
        model=model,
    )


# --- The list -----------------------------------------------------------------------------------


def list_(settings: Settings, narrowed: Filter, most: int | None, *, json: bool) -> Exit:
    """Print the conversations; `most` None is no bound but that of a terminal's reader."""
    from holychat.store import conversations

    path = place(settings)
    found: list[Conversation] = []
    bound = most or (SEEN + 1 if env.is_terminal(env.STDOUT) and not json else None)
    if there := here(path):
        with opened(path) as db:
            found = conversations.listing(db, narrowed, bound)
    if json:
        data([row(each) for each in found])
        return Exit.OK
    if not found:
        return _nothing("no conversation fits" if there and narrowed != Filter() else "")
    pen = Pen(settings["ui.theme"])
    more = not most and bound is not None and len(found) == bound
    pen.page(table(found[:SEEN] if more else found, pen, now()))
    if more:
        env.err(f"· the newest {SEEN:,}; -n says how many", dim=True)
    return Exit.OK


def row(conversation: Conversation) -> dict[str, Any]:
    """A conversation as `--json` shows it; times are Unix time in milliseconds."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "created": conversation.created,
        "updated": conversation.updated,
        "provider": conversation.provider,
        "model": conversation.model,
        "messages": conversation.messages,
        "origin": conversation.origin,
    }


def _nothing(what: str) -> Exit:
    env.err(f"· {what or 'no conversations yet'}", dim=True)
    return Exit.OK


# --- The search ---------------------------------------------------------------------------------


def search(settings: Settings, words: str, narrowed: Filter, most: int, *, json: bool) -> Exit:
    """Print the messages with these words, those of one conversation together."""
    from holychat.store import search as index

    path = place(settings)
    found: list[Found] = []
    if there := here(path):
        with opened(path) as db:
            found = index.search(db, words, narrowed, most)
    if json:
        data([_hit(each) for each in found])
        return Exit.OK
    if not found:
        return _nothing(f"nothing with “{one_line(words, 60)}”" if there else "")
    pen = Pen(settings["ui.theme"])
    pen.page(list(_hits(found, pen)))
    if len(found) == most:
        env.err(f"· the best {most}; -n takes more", dim=True)
    return Exit.OK


def _hit(found: Found) -> dict[str, Any]:
    return {
        "conversation": row(found.conversation),
        "message": found.message,
        "role": found.role,
        "created": found.created,
        "before": found.before,
        "match": found.match,
        "after": found.after,
    }


def _hits(found: Sequence[Found], pen: Pen) -> list[str]:
    """A line for each conversation, in the order of its best hit, and its hits below."""
    grouped: dict[str, list[Found]] = {}
    for each in found:
        grouped.setdefault(each.conversation.id, []).append(each)
    lines: list[str] = []
    at = now()
    for group in grouped.values():
        if lines:
            lines.append("")
        conversation = group[0].conversation
        lines.append(about(conversation, pen, when(conversation.updated, at)))
        lines += [_snippet(each, pen) for each in group]
    return lines


def _snippet(found: Found, pen: Pen) -> str:
    """A hit among its words, cut to the window."""
    mark = "› " if found.role == "user" else "  "
    room = pen.width - 2 - len(mark) if pen.width else 0
    before, match, after = around(found, room)
    return f"  {pen.dim(mark)}{before}{pen.strong(match)}{after}"


def count(number: int) -> str:
    """`1 conversation`, `2 conversations`."""
    return f"{number:,} conversation{'' if number == 1 else 's'}"


__all__ = ["count", "list_", "narrowed", "row", "search"]
