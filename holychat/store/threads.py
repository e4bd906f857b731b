"""The conversation that a history is the beginning of, found by what was said in it.

For clients that bring their whole history along with each request and know no ids of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.store.conversations import branch, get

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.store.db import Database

LATEST = 300  # conversations among which it is looked for
BLANK = " \t\r\n"
MOST = 5  # of them whose last answer is the same, and whose other messages are compared


def ending(db: Database, said: Sequence[tuple[str, str]]) -> tuple[str, tuple[int, ...]] | None:
    """The conversation whose branch is `said`, (role, text) by message, with the ids of its
    messages; None where there is none among the latest. Blanks around a text do not count: some
    clients trim it. Raises StoreTrouble."""
    if not said or said[-1][0] != "assistant":
        return None
    bare = [(role, text.strip(BLANK)) for role, text in said]
    rows = db.rows(
        "SELECT c.id FROM (SELECT id, head, updated FROM conversations ORDER BY updated DESC"
        " LIMIT ?) AS c JOIN messages AS m ON m.id = c.head"
        " WHERE m.role = 'assistant' AND trim(m.text, ?) = ? ORDER BY c.updated DESC LIMIT ?",
        (LATEST, BLANK, said[-1][1].strip(BLANK), MOST),
    )
    for row in rows:
        path = branch(db, get(db, row["id"]))
        if [(one.role, one.text.strip(BLANK)) for one in path] == bare:
            return row["id"], tuple(one.id for one in path)
    return None
