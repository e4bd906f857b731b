"""Turns, as they happen: opened before the request goes out, journalled while the answer comes,
closed in one transaction; and picked up where their writer died.

Owns the life of a turn in the file. `recorder` calls this from its thread.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holychat.core.chat import Finish
from holychat.core.titles import title_of
from holychat.store.alive import born, our_birth
from holychat.store.ids import new_id, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from sqlite3 import Row

    from holychat.core.chat import Tried, Turn, Usage
    from holychat.core.history import Orphan
    from holychat.store.db import Database

LEASE = 20_000  # milliseconds for which a writer is taken to be alive without a sign of life


@dataclass(slots=True)
class Begun:
    """An open turn: where it is in the file."""

    conversation: str
    turn: int
    prompt: int
    started: int
    onto: int | None = None  # the answer that it goes on with


# --- Writers: who is alive ----------------------------------------------------------------------


def new_writer() -> str:
    """An id for this process as a writer; it is in the file from its first write on."""
    return secrets.token_hex(8)


def enlist(db: Database) -> str:
    """The same, and in the file at once."""
    writer = new_writer()
    renew(db, writer)
    return writer


def known() -> bool:
    """Whether others on this machine see that we are alive without a sign of life."""
    return bool(our_birth())


def _sign(db: Database, writer: str) -> None:
    """A sign of life; also of one that another holychat took for dead, in a long sleep."""
    db.run(
        "INSERT INTO writers (id, host, pid, born, lease) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET lease = excluded.lease",
        (writer, socket.gethostname(), os.getpid(), our_birth(), now() + LEASE),
    )


def renew(db: Database, writer: str, draft: str | None = None) -> None:
    """A sign of life; with `draft`, also what stands at the prompt."""
    with db.write():
        _sign(db, writer)
        if draft is not None:
            db.run("UPDATE writers SET draft = ? WHERE id = ?", (draft, writer))


def leave(db: Database, writer: str) -> None:
    """This writer ends in order. One that leaves an open turn behind stays, to be buried."""
    with db.write():
        db.run(
            "DELETE FROM writers WHERE id = ?1"
            " AND NOT EXISTS (SELECT 1 FROM turns WHERE turns.writer = ?1)",
            (writer,),
        )


def bury(db: Database) -> tuple[list[Orphan], list[str]]:
    """Take over what dead writers left: their open turns become interrupted answers.

    Returns (the turns, the drafts that stood at their prompts), the newest last.
    """
    dead = _dead(db)
    if not dead:
        return [], []
    orphans: list[Orphan] = []
    drafts: list[str] = []
    with db.write():
        for row in dead:
            # Another holychat may have been faster since the writers were read.
            left = db.row("SELECT draft FROM writers WHERE id = ?", (row["id"],))
            if left is None:
                continue
            db.run("DELETE FROM writers WHERE id = ?", (row["id"],))
            drafts += [left["draft"]] if left["draft"].strip() else []
            open_ = db.rows("SELECT * FROM turns WHERE writer = ? ORDER BY id", (row["id"],))
            orphans += [_bury(db, turn) for turn in open_]
    return orphans, drafts


def bury_in(db: Database, conversation: str) -> list[Orphan]:
    """The same for the turns of one conversation, which is about to be gone on with; the writers
    and their drafts stay for whoever can offer them."""
    if not db.rows(f"SELECT id {_OPEN} LIMIT 1", (conversation,)):
        return []
    gone = {row["id"] for row in _dead(db)}
    with db.write():
        open_ = db.rows(f"SELECT * {_OPEN} ORDER BY id", (conversation,))
        return [_bury(db, turn) for turn in open_ if turn["writer"] in gone]


def bury_open(db: Database) -> None:
    """The same for all of them, within a transaction: what they used counts from then on."""
    rows = db.rows(
        "SELECT * FROM writers WHERE EXISTS (SELECT 1 FROM turns WHERE turns.writer = writers.id)"
    )
    for writer in rows:
        if _is_dead(writer):
            open_ = db.rows("SELECT * FROM turns WHERE writer = ? ORDER BY id", (writer["id"],))
            for turn in open_:
                _bury(db, turn)


_OPEN = "FROM turns WHERE conversation = ? AND writer IS NOT NULL"


def _dead(db: Database) -> list[Row]:
    return [row for row in db.rows("SELECT * FROM writers ORDER BY lease") if _is_dead(row)]


def _bury(db: Database, turn: Row) -> Orphan:
    from holychat.core.history import Orphan  # for this case only: they cost some milliseconds
    from holychat.store.conversations import get, journalled

    number, conversation = int(turn["id"]), str(turn["conversation"])
    text, reasoning = journalled(db, number)
    used = _estimated(db, turn, text + reasoning)  # before it is joined to what it goes on with
    prompt = db.row("SELECT text FROM messages WHERE id = ?", (turn["prompt"],))
    answer = None
    if text and turn["onto"] is not None:
        answer = int(turn["onto"])
        db.run("UPDATE messages SET text = text || ? WHERE id = ?", (text, answer))
    elif text:
        answer = _message(db, conversation, turn["prompt"], "assistant", text, reasoning)
    finish = Finish.INTERRUPTED if text else Finish.FAILED
    db.run(
        f"UPDATE turns SET {_CLOSED}, answer = ?, finish = ? WHERE id = ?",  # noqa: S608
        (answer, finish.value, number),
    )
    _keep_used(db, turn, used)
    db.run("DELETE FROM journal WHERE turn = ?", (number,))
    if answer is not None:  # a prompt without an answer is not gone on from
        # Nor is an answer where somebody has gone on elsewhere since.
        db.run(
            "UPDATE conversations SET head = ? WHERE id = ? AND NOT EXISTS"
            " (SELECT 1 FROM turns WHERE conversation = ? AND id > ? AND answer IS NOT NULL)",
            (answer, conversation, conversation, number),
        )
    return Orphan(get(db, conversation), prompt["text"] if prompt else "", text)


def _estimated(db: Database, turn: Row, came: str) -> Usage:
    """What a turn used whose writer died: its prompt had gone out, as far as anybody knows."""
    from holychat.core.chat import Usage
    from holychat.store.sent import tokens_of

    return Usage(*tokens_of(db, turn, came), estimated=True)


def _keep_used(db: Database, turn: Row, used: Usage) -> None:
    from holychat.core.chat import Tried

    sets = ", ".join(f"{name} = ?" for name in _USED)
    db.run(f"UPDATE turns SET {sets} WHERE id = ?", (*_used(used), turn["id"]))  # noqa: S608
    begun = Begun(turn["conversation"], turn["id"], turn["prompt"], turn["started"])
    tried = Tried(turn["provider"], turn["model"], Finish.INTERRUPTED, usage=used)
    attempt(db, begun, 1, tried)


def alive(row: Row) -> bool:
    """Whether the writer of a row lives, as far as anybody can see from here."""
    return not _is_dead(row)


def _is_dead(row: Row) -> bool:
    """A process of this machine is looked for; one of another has its lease."""
    if row["host"] == socket.gethostname() and row["born"]:
        return born(int(row["pid"])) != str(row["born"])
    return bool(row["lease"] < now())


# --- The life of a turn -------------------------------------------------------------------------


def begin(
    db: Database,
    writer: str,
    conversation: str,
    prompt: str,
    parent: int | None,
    *,
    provider: str,
    model: str,
    system: str,
    params: Mapping[str, object],
    onto: int | None = None,
    at: int | None = None,
    fresh: str = "",
    durable: bool = True,
) -> Begun:
    """Keep the prompt below `parent` and open a turn for its answer; `at` is when it was said.

    An empty `conversation` begins one, under the id `fresh` if given. A prompt that stands there
    already is used again: a retry is another answer to the same message. `onto` is an answer to it
    that is gone on with.
    """
    at = now() if at is None else at
    with db.write(durable=durable):
        if not conversation:
            conversation = fresh or new_id()
            db.run(
                "INSERT INTO conversations (id, title, created, updated) VALUES (?, ?, ?, ?)",
                (conversation, title_of(prompt), at, at),
            )
        same = db.row(
            "SELECT id FROM messages WHERE conversation = ? AND parent IS ? AND role = 'user'"
            " AND text = ? ORDER BY id DESC LIMIT 1",
            (conversation, parent, prompt),
        )
        message = same["id"] if same else _message(db, conversation, parent, "user", prompt, at=at)
        turn = db.run(
            "INSERT INTO turns (conversation, prompt, onto, writer, started, provider, model)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (conversation, message, onto, writer, at, provider, model),
        )
        db.run(
            "UPDATE conversations SET updated = ?, provider = ?, model = ?, system = ?, params = ?"
            " WHERE id = ?",
            (at, provider, model, system, json.dumps(dict(params)), conversation),
        )
        _sign(db, writer)
    return Begun(conversation, turn, message, at, onto)


def journal(
    db: Database,
    writer: str,
    pieces: Iterable[tuple[int, int, str, str]],
    *,
    missing_ok: bool = False,
) -> None:
    """Append what came of open turns: (turn, number of the piece, text, reasoning) each. Raises
    StoreTrouble where one has been deleted, unless that is `missing_ok`."""
    where = " WHERE EXISTS (SELECT 1 FROM turns WHERE id = ?1)" if missing_ok else ""
    with db.write():
        for piece in pieces:
            db.run(f"INSERT INTO journal SELECT ?1, ?2, ?3, ?4{where}", piece)
        _sign(db, writer)


def forget(db: Database, turn: int) -> None:
    """Empty the journal of an open turn."""
    with db.write():
        db.run("DELETE FROM journal WHERE turn = ?", (turn,))


def close(
    db: Database, begun: Begun, turn: Turn, *, at: int | None = None, durable: bool = True
) -> int | None:
    """Close a turn: its answer, its figures, the end of its journal, all at once; `at` its end.

    One that goes on with an answer brings all of its text. Returns the message that holds the
    answer, None where there is none.
    """
    at = now() if at is None else at
    with db.write(durable=durable):
        answer: int | None = None
        if turn.text and begun.onto is not None:
            answer = begun.onto
            db.run(
                "UPDATE messages SET text = ?, reasoning = ? WHERE id = ?",
                (turn.text, turn.reasoning, answer),
            )
        elif turn.text:
            answer = _message(
                db, begun.conversation, begun.prompt, "assistant", turn.text, turn.reasoning, at=at
            )
        sets = ", ".join(f"{name} = ?" for name in _FIGURES)
        db.run(
            f"UPDATE turns SET {sets}, {_CLOSED}, answer = ?, served_model = ?, refusal = ?,"  # noqa: S608
            " unpriced = ? WHERE id = ?",
            (
                *_figures(turn),
                answer,
                turn.served_model,
                int(turn.refusal),
                int(turn.usage is not None and turn.usage.unpriced),
                begun.turn,
            ),
        )
        for number, tried in enumerate(turn.attempts, 1):
            attempt(db, begun, number, tried)
        db.run("DELETE FROM journal WHERE turn = ?", (begun.turn,))
        if answer is not None:
            db.run(
                "UPDATE conversations SET head = ?, updated = ? WHERE id = ?",
                (answer, at, begun.conversation),
            )
    return answer


_CLOSED = "writer = NULL, reserved = 0, reserved_tokens = 0"
_USED = (
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"),
    *("estimated", "cost"),
)
_FIGURES = ("finish", "provider", "model", "headers", "first", "total", "kind", "failure", *_USED)


def _figures(one: Turn | Tried) -> tuple[object, ...]:
    """How a turn or an attempt ended, in the order of `_FIGURES`."""
    timings = one.timings
    return (
        one.finish.value,
        one.provider,
        one.model,
        timings.headers,
        timings.first,
        timings.total,
        one.failure.kind.value if one.failure else "",
        one.failure.what if one.failure else "",
        *_used(one.usage),
    )


def _used(usage: Usage | None) -> tuple[int | None, ...]:
    """In the order of `_USED`."""
    if usage is None:
        return (None, None, None, None, 0, None)
    counts = (usage.prompt, usage.cached, usage.completion, usage.reasoning)
    return (*counts, int(usage.estimated), usage.cost)


def attempt(db: Database, begun: Begun, number: int, tried: Tried) -> None:
    """Keep one attempt of a turn and count it, within a transaction."""
    from holychat.store.rollup import count  # no start has to wait for it

    names = ", ".join(_FIGURES)
    marks = ", ".join("?" * len(_FIGURES))
    started = begun.started + round(tried.started * 1000)
    kept = db.run(
        f"INSERT INTO attempts (turn, started, number, role, at, {names})"  # noqa: S608
        f" VALUES (?, ?, ?, ?, ?, {marks})",
        (begun.turn, started, number, tried.role, tried.at, *_figures(tried)),
    )
    count(db, kept)


def rewind(db: Database, conversation: str, head: int | None) -> None:
    """Go on from another message: nothing is removed."""
    with db.write():
        db.run("UPDATE conversations SET head = ? WHERE id = ?", (head, conversation))


def _message(
    db: Database,
    conversation: str,
    parent: int | None,
    role: str,
    text: str,
    reasoning: str = "",
    *,
    at: int | None = None,
) -> int:
    number = db.run(
        "INSERT INTO messages (conversation, parent, role, text, reasoning, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (conversation, parent, role, text, reasoning, now() if at is None else at),
    )
    db.run("UPDATE conversations SET messages = messages + 1 WHERE id = ?", (conversation,))
    return number
