"""Conversations that were: listed, named, loaded, forked, removed.

Owns these queries. A name given by the user is an id's beginning or a part of a title.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from holychat.core.chat import Finish, Timings, Turn, Usage
from holychat.core.failure import Failure, Kind, UsageError
from holychat.core.history import LEAST, Conversation, Filter, Kept, Open, path_to
from holychat.core.sanitize import one_line
from holychat.core.titles import title_of
from holychat.store import side
from holychat.store.ids import LETTERS, new_id, now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from sqlite3 import Row
    from typing import Any

    from holychat.store.db import Database


LONGEST = 200  # characters of a title
MOST = 5  # conversations that a name which fits several is shown to fit
AT_ONCE = 100  # conversations that are removed in one transaction


def where(narrowed: Filter, table: str = "conversations") -> tuple[str, list[Any]]:
    """A filter as (condition, values), for rows of `conversations`."""
    tests: list[tuple[str, Any]] = []
    if narrowed.since is not None:
        tests.append((f"{table}.updated >= ?", narrowed.since))
    if narrowed.until is not None:
        tests.append((f"{table}.updated < ?", narrowed.until))
    if narrowed.provider:
        tests.append((f"{table}.provider = ?", narrowed.provider))
    if narrowed.model:
        tests.append((f"instr(lower({table}.model), lower(?))", narrowed.model))
    return " AND ".join(test for test, _ in tests) or "1", [value for _, value in tests]


def listing(
    db: Database, narrowed: Filter | None = None, most: int | None = None
) -> list[Conversation]:
    """The conversations, the one that was last spoken in first."""
    condition, values = where(narrowed or Filter())
    rows = db.rows(
        f"SELECT * FROM conversations WHERE {condition} ORDER BY updated DESC, rowid DESC LIMIT ?",  # noqa: S608
        [*values, -1 if most is None else most],
    )
    return [_conversation(row) for row in rows]


def get(db: Database, conversation: str) -> Conversation:
    """By its whole id. Raises UsageError."""
    row = db.row("SELECT * FROM conversations WHERE id = ?", (conversation,))
    if row is None:
        raise UsageError(f"there is no conversation {conversation}")
    return _conversation(row)


def latest(db: Database) -> Conversation:
    """The one that was last spoken in. Raises UsageError where there is none."""
    found = listing(db, most=1)
    if not found:
        raise UsageError("there is no conversation to go on with yet")
    return found[0]


def find(db: Database, name: str) -> Conversation:
    """By the beginning of its id (4 characters or more), its title, or a part of its title.

    Raises UsageError for none, and for several.
    """
    low = name.strip().lower()
    if not low:
        raise UsageError("a conversation is named by its id or its title")
    found: list[Conversation] = []
    if len(low) >= LEAST and not set(low) - set(LETTERS):
        rows = db.rows(
            "SELECT * FROM conversations WHERE id >= ? AND id < ? LIMIT 6", (low, low + "\x7f")
        )
        found = [_conversation(row) for row in rows]
    if not found:
        found = [_conversation(row) for row in _titled(db, name.strip())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"no conversation is called {name}",
            "holychat history list shows them, holychat history search finds words in them.",
        )
    several = ",\n  ".join(f"{each.short} ({one_line(each.title, 60)})" for each in found[:MOST])
    more = ", ..." if len(found) > MOST else ""
    raise UsageError(f"{name} may be several conversations:", f"{several}{more}")


def _titled(db: Database, name: str) -> list[Row]:
    """Those of that title, else those whose title holds it; a few of them."""
    last = f"ORDER BY updated DESC, rowid DESC LIMIT {MOST + 1}"
    query = "SELECT * FROM conversations WHERE"
    return (
        db.rows(f"{query} lower(title) = lower(?) {last}", (name,))
        or db.rows(f"{query} instr(lower(title), lower(?)) {last}", (name,))
        or _folded(db, name.casefold())
    )


def _folded(db: Database, name: str) -> list[Row]:
    """The same for other letters than ASCII's, which are all that SQLite's lower() knows."""
    if name.isascii():
        return []
    rows = db.rows("SELECT id, title FROM conversations ORDER BY updated DESC, rowid DESC")
    hits = [row["id"] for row in rows if name in row["title"].casefold()][: MOST + 1]
    marks = ", ".join("?" * len(hits))
    query = f"SELECT * FROM conversations WHERE id IN ({marks}) ORDER BY updated DESC, rowid DESC"  # noqa: S608
    return db.rows(query, hits)


def tree(db: Database, conversation: str) -> dict[int, Kept]:
    """All that was said in a conversation, by id; answers with their turns. Summaries were not
    said (`side`), so no branch, fork or export has them for an answer."""
    turns: dict[int, list[Row]] = {}  # more than one where an answer was gone on with
    for row in db.rows(
        "SELECT * FROM turns WHERE conversation = ? AND answer IS NOT NULL ORDER BY id",
        (conversation,),
    ):
        turns.setdefault(row["answer"], []).append(row)
    rows = db.rows(
        "SELECT * FROM messages WHERE conversation = ? AND role <> 'summary' ORDER BY id",
        (conversation,),
    )
    return {
        row["id"]: Kept(
            row["id"],
            row["parent"],
            row["role"],
            row["text"],
            row["reasoning"],
            row["created"],
            _turn(turns[row["id"]], row) if row["id"] in turns else None,
        )
        for row in rows
    }


def branch(db: Database, conversation: Conversation) -> list[Kept]:
    """The messages of the branch that is gone on with, oldest first."""
    return path_to(tree(db, conversation.id), conversation.head)


def unfinished(db: Database, conversation: str) -> list[Open]:
    """Its answers that nobody has closed yet, with what the journal holds of them."""
    return [
        Open(
            row["prompt"],
            row["onto"],
            *journalled(db, row["id"]),
            provider=row["provider"],
            model=row["model"],
        )
        for row in db.rows(
            "SELECT * FROM turns WHERE conversation = ? AND writer IS NOT NULL ORDER BY id",
            (conversation,),
        )
    ]


def journalled(db: Database, turn: int) -> tuple[str, str]:
    """(text, reasoning) of an open turn so far."""
    rows = db.rows("SELECT text, reasoning FROM journal WHERE turn = ? ORDER BY number", (turn,))
    return "".join(row["text"] for row in rows), "".join(row["reasoning"] for row in rows)


def entitle(db: Database, conversation: str, title: str) -> None:
    """A title of ours, where the user gave none."""
    with db.write():
        db.run(
            "UPDATE conversations SET title = ? WHERE id = ? AND named = 0",
            (short(title), conversation),
        )


def rename(db: Database, conversation: str, title: str) -> str:
    """Give it another title; returns it as it is kept, on one line and not too long."""
    title = short(" ".join(title.split()))
    with db.write():
        db.run("UPDATE conversations SET title = ?, named = 1 WHERE id = ?", (title, conversation))
    return title


def short(title: str) -> str:
    """A title that every list can show."""
    return title if len(title) <= LONGEST else title_of(title, LONGEST - 1)


def fork(db: Database, conversation: Conversation, head: int | None) -> Conversation:
    """A new conversation with the messages up to `head`; the old one stays as it is."""
    path = path_to(tree(db, conversation.id), head)
    identity, at = new_id(), now()
    with db.write():
        db.run(
            "INSERT INTO conversations (id, title, named, created, updated, provider, model,"
            " system, params, origin) SELECT ?, title, named, ?, ?, provider, model, system,"
            " params, id FROM conversations WHERE id = ?",
            (identity, at, at, conversation.id),
        )
        parent: int | None = None
        copies: dict[int, int] = {}
        for message in path:
            parent = copies[message.id] = _copy(db, message, identity, parent)
        side.copy(db, conversation.id, identity, copies)
        db.run(
            "UPDATE conversations SET head = ?, messages = ? WHERE id = ?",
            (parent, len(path), identity),
        )
    return get(db, identity)


def _copy(db: Database, message: Kept, conversation: str, parent: int | None) -> int:
    copy = db.run(
        "INSERT INTO messages (conversation, parent, role, text, reasoning, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (conversation, parent, message.role, message.text, message.reasoning, message.created),
    )
    # The figures stay with the turn that was paid for; the copy says only how the answer ended.
    if message.turn is not None and parent is not None:
        turn = message.turn
        db.run(
            "INSERT INTO turns (conversation, prompt, answer, started, finish, provider, model,"
            " total) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                conversation,
                parent,
                copy,
                message.created,
                turn.finish.value,
                turn.provider,
                turn.model,
                turn.timings.total or None,  # one that broke off has none
            ),
        )
    return copy


def delete(db: Database, conversations: Sequence[str]) -> int:
    """Remove conversations with everything in them; how many there were."""
    with db.write():
        before = _count(db)
        for conversation in conversations:
            db.run("DELETE FROM conversations WHERE id = ?", (conversation,))
        return before - _count(db)


def prune(db: Database, before: int) -> int:
    """Remove what was not spoken in since `before`; how many there were.

    Some at a time, so that nobody waits for long; what is spoken in meanwhile stays.
    """
    removed = 0
    while True:
        with db.write():
            rows = db.rows(
                "SELECT id FROM conversations WHERE updated < ? LIMIT ?", (before, AT_ONCE)
            )
            for row in rows:
                db.run("DELETE FROM conversations WHERE id = ?", (row["id"],))
        removed += len(rows)
        if len(rows) < AT_ONCE:
            return removed


def _count(db: Database) -> int:
    return int(db.rows("SELECT count(*) AS n FROM conversations")[0]["n"])


def _conversation(row: Row) -> Conversation:
    return Conversation(
        id=row["id"],
        title=short(row["title"]),  # it may be older than the limit
        created=row["created"],
        updated=row["updated"],
        provider=row["provider"],
        model=row["model"],
        system=row["system"],
        params=_params(row["params"]),
        head=row["head"],
        messages=row["messages"],
        origin=row["origin"],
    )


def _params(text: str) -> Mapping[str, object]:
    try:
        params = json.loads(text)
    except ValueError:
        return {}
    return params if isinstance(params, dict) else {}


def _turn(turns: Sequence[Row], message: Row) -> Turn:
    """How an answer came to be: it ended as its last turn did, and all of them were paid for."""
    row = turns[-1]
    failure = None
    if row["failure"]:
        kind = Kind(row["kind"]) if row["kind"] in set(Kind) else Kind.CUT
        failure = Failure(kind, row["failure"])
    used = [_usage(each) for each in turns if each["completion_tokens"] is not None]
    return Turn(
        text=message["text"],
        reasoning=message["reasoning"],
        finish=Finish(row["finish"]) if row["finish"] in set(Finish) else Finish.STOP,
        provider=row["provider"],
        model=row["model"],
        usage=sum(used, Usage()) if used else None,
        timings=Timings(row["headers"], row["first"], row["total"] or 0.0),
        failure=failure,
        refusal=bool(row["refusal"]),
        served_model=row["served_model"],
    )


def _usage(row: Row) -> Usage:
    return Usage(
        row["prompt_tokens"] or 0,
        row["completion_tokens"],
        row["cached_tokens"] or 0,
        row["reasoning_tokens"] or 0,
        bool(row["estimated"]),
        row["cost"],
        bool(row["unpriced"]),
    )
