"""The conversations of the store for the page: listed, searched, read.

Reads only. Must not show more of the machine than what was said: no paths, no settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holychat.commands.serve.desk import dollars, tokens_of
from holychat.commands.serve.errors import Refused
from holychat.core.failure import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.commands.serve.desk import Desk
    from holychat.core.history import Conversation, Found, Kept

LIMIT, MOST = 50, 500
LONGEST = 1000  # characters of a query
ID = 64


async def conversations(desk: Desk, asked: Mapping[str, str]) -> dict[str, Any]:
    """`q` (words; empty: all of them) and `limit`: the newest, or the best of the newest."""
    query, limit = asked.get("q", "").strip()[:LONGEST], _limit(asked.get("limit", ""))
    if not desk.session.recorder.keeping:
        return {"conversations": []}
    if query:
        from holychat.store.search import search

        found: list[Found] = await desk.session.stored(search, query, None, limit * 2)
        rows: dict[str, dict[str, Any]] = {}
        for hit in found:
            snippet = f"{hit.before}{hit.match}{hit.after}"
            rows.setdefault(hit.conversation.id, _row(hit.conversation, snippet))
        return {"conversations": [*rows.values()][:limit]}
    from holychat.store.conversations import listing

    listed: list[Conversation] = await desk.session.stored(listing, None, limit)
    return {"conversations": [_row(one) for one in listed]}


def _limit(text: str) -> int:
    if not text:
        return LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Refused(400, "limit must be a number", param="limit")
    return max(1, min(MOST, int(text)))


def _row(one: Conversation, snippet: str = "") -> dict[str, Any]:
    row = {
        "id": one.id,
        "title": one.title,
        "updated": one.updated,
        "provider": one.provider,
        "model": one.model,
        "messages": one.messages,
    }
    return row | ({"snippet": snippet} if snippet else {})


async def conversation(desk: Desk, identity: str) -> dict[str, Any]:
    """One, by its whole id, with the messages of its branch. Raises Refused."""
    from holychat.store.conversations import branch, get

    lost = Refused(404, "there is no such conversation", "not_found")
    if len(identity) > ID or not desk.session.recorder.keeping:
        raise lost
    try:
        found: Conversation = await desk.session.stored(get, identity)
    except UsageError as error:
        raise lost from error
    path: list[Kept] = await desk.session.stored(branch, found)
    return {**_row(found), "messages": [_message(desk, one) for one in path]}


def _message(desk: Desk, one: Kept) -> dict[str, Any]:
    said: dict[str, Any] = {"role": one.role, "text": one.text, "created": one.created}
    if one.reasoning:
        said["reasoning"] = one.reasoning
    if one.turn is not None:
        turn = one.turn
        cost = turn.usage.cost if turn.usage else None
        said |= {
            "provider": turn.provider,
            "model": turn.model,
            "finish": turn.finish.value,
            "cost": dollars(cost),
            "seconds": turn.timings.total,
            "first": turn.timings.first,
        }
        if turn.usage is not None:
            said |= {"usage": tokens_of(turn), "cost_text": desk.cash(cost)}
    return said
