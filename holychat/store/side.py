"""What stands beside the messages of a conversation: the pins on them, and summaries of them.

Owns these. A summary is a message of the role `summary`: it stands for its parent and for all that
is above it on that branch. Nothing ever follows one, so it is on no branch, and neither lists nor
searches know it; exports have it beside the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holychat.store.ids import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from sqlite3 import Row

    from holychat.core.chat import Tried
    from holychat.core.history import Kept
    from holychat.store.db import Database


class Summary(NamedTuple):
    """`parent` is the last of the messages that it stands for."""

    id: int
    parent: int
    text: str
    created: int


def pin(db: Database, message: int, *, pinned: bool = True) -> bool:
    """Have a message stay in what is sent, or no more; whether there is such a message."""
    with db.write():
        db.run("UPDATE messages SET pinned = ? WHERE id = ?", (int(pinned), message))
        return bool(db.rows("SELECT 1 FROM messages WHERE id = ?", (message,)))


def pinned(db: Database, conversation: str) -> frozenset[int]:
    """The messages that are pinned."""
    rows = db.rows("SELECT id FROM messages WHERE conversation = ? AND pinned = 1", (conversation,))
    return frozenset(row["id"] for row in rows)


def summarise(db: Database, conversation: str, parent: int, text: str) -> int:
    """Keep a summary of `parent` and all above it; its id. An earlier one of the same stays."""
    with db.write():
        return _keep(db, conversation, parent, text, now())


def _keep(db: Database, conversation: str, parent: int, text: str, at: int) -> int:
    return db.run(
        "INSERT INTO messages (conversation, parent, role, text, created)"
        " VALUES (?, ?, 'summary', ?, ?)",
        (conversation, parent, text, at),
    )


def summaries(db: Database, conversation: str) -> list[Summary]:
    """All summaries of a conversation, the oldest first."""
    rows = db.rows(
        "SELECT * FROM messages WHERE conversation = ? AND role = 'summary' ORDER BY id",
        (conversation,),
    )
    return [_summary(row) for row in rows]


def latest(db: Database, conversation: str, path: Sequence[Kept]) -> Summary | None:
    """The one that stands for most of a branch; of several, the newest."""
    places = {message.id: place for place, message in enumerate(path)}
    found = [each for each in summaries(db, conversation) if each.parent in places]
    return max(found, key=lambda each: (places[each.parent], each.id), default=None)


def beside(
    db: Database, conversation: str, path: Sequence[Kept]
) -> tuple[frozenset[int], tuple[int, str] | None]:
    """The pins on a branch, and the summary that stands for most of it: the last message that it
    stands for, and its text."""
    found = latest(db, conversation, path)
    return pinned(db, conversation), (found.parent, found.text) if found else None


def spent(db: Database, conversation: str, tried: Tried) -> None:
    """Keep an attempt for a summary that was made by hand, as one of the conversation's last turn,
    with what it used; nothing where the conversation is gone."""
    from holychat.store.turns import Begun, attempt

    with db.write():
        turn = db.row(
            "SELECT id, (SELECT count(*) FROM attempts WHERE turn = turns.id) AS before"
            " FROM turns WHERE conversation = ? ORDER BY id DESC LIMIT 1",
            (conversation,),
        )
        if turn is not None:
            attempt(db, Begun(conversation, turn["id"], 0, now()), turn["before"] + 1, tried)


def copy(db: Database, old: str, new: str, copies: Mapping[int, int]) -> None:
    """Pins and summaries for a fork, within its transaction; `copies` are its messages by those
    that they were made of."""
    for message in pinned(db, old) & copies.keys():
        db.run("UPDATE messages SET pinned = 1 WHERE id = ?", (copies[message],))
    for each in summaries(db, old):
        if each.parent in copies:
            _keep(db, new, copies[each.parent], each.text, each.created)


def _summary(row: Row) -> Summary:
    return Summary(row["id"], row["parent"], row["text"], row["created"])
