"""Whole conversations out of the store and into it again.

Owns the way between rows and `Whole`: nothing is lost on it, and nothing that is there already is
ever overwritten. `llm_logs` reads the databases of another program.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, NamedTuple

from holychat.core.chat import Finish
from holychat.core.failure import StoreTrouble
from holychat.core.formats import (
    IMPORT,
    Attempted,
    Exchange,
    Figures,
    Summary,
    Whole,
    finite,
    plain,
    record,
)
from holychat.core.history import Kept
from holychat.store import rollup, side
from holychat.store.conversations import get, journalled, short, tree
from holychat.store.ids import LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Row
    from typing import Any

    from holychat.store.db import Database

_FIGURES = tuple(each.name for each in fields(Figures))  # columns of turns and of attempts
_ATTEMPTED = tuple(each.name for each in fields(Attempted))  # and those of attempts only
_ID = 12  # characters of an id that we give


class Restored(NamedTuple):
    """What became of a conversation that was brought in."""

    id: str
    new: bool  # False: it was there already, word for word
    renamed: bool  # its own id belongs to another one here


# --- Out ----------------------------------------------------------------------------------------


def dump(db: Database, conversation: str) -> Whole:
    """A conversation as it is at this moment. Raises UsageError where there is none."""
    with _moment(db):
        return _dump(db, conversation)


@contextlib.contextmanager
def _moment(db: Database) -> Iterator[None]:
    """Several queries see the same state, whoever writes meanwhile."""
    db.run("BEGIN")
    try:
        yield
    finally:
        with contextlib.suppress(StoreTrouble):  # SQLite ended it, and what failed is on its way
            db.run("ROLLBACK")


def _dump(db: Database, conversation: str) -> Whole:
    about = get(db, conversation)
    named = db.rows("SELECT named FROM conversations WHERE id = ?", (conversation,))[0]["named"]
    kept = tree(db, conversation)
    numbers = {identity: number for number, identity in enumerate(kept, 1)}
    messages = [
        replace(each, id=numbers[each.id], parent=numbers.get(each.parent or 0))
        for each in kept.values()
    ]
    attempts = _attempts(db, conversation)
    exchanges: list[Exchange] = []
    head = numbers.get(about.head or 0)
    for row in db.rows("SELECT * FROM turns WHERE conversation = ? ORDER BY id", (conversation,)):
        if row["prompt"] not in numbers:
            continue
        exchange = Exchange(
            numbers[row["prompt"]],
            numbers.get(row["answer"] or 0),
            Figures(**_read(row, _FIGURES)),
            row["served_model"],
            bool(row["refusal"]),
            bool(row["unpriced"]),
            tuple(attempts.get(row["id"], ())),
        )
        if row["writer"] is not None:
            exchange, head = _closed(db, row["id"], exchange, messages, head)
        exchanges.append(_alone(exchange))
    return Whole(
        replace(about, head=head, messages=len(messages)),
        tuple(messages),
        tuple(exchanges),
        bool(named),
        frozenset(numbers[each] for each in side.pinned(db, conversation) if each in numbers),
        tuple(
            Summary(numbers[each.parent], each.text, each.created)
            for each in side.summaries(db, conversation)
            if each.parent in numbers
        ),
    )


def _attempts(db: Database, conversation: str) -> dict[int, list[Attempted]]:
    """By their turns, in the order in which they were kept."""
    found: dict[int, list[Attempted]] = {}
    for row in db.rows(
        "SELECT a.* FROM turns AS t JOIN attempts AS a ON a.turn = t.id"
        " WHERE t.conversation = ? ORDER BY a.id",
        (conversation,),
    ):
        found.setdefault(row["turn"], []).append(Attempted(**_read(row, _ATTEMPTED)))
    return found


def _closed(
    db: Database, turn: int, open_: Exchange, messages: list[Kept], head: int | None
) -> tuple[Exchange, int | None]:
    """An open turn as it would be if its writer stopped now, and the head then."""
    text, reasoning = journalled(db, turn)
    finish = Finish.INTERRUPTED if text else Finish.FAILED
    closed = replace(open_, figures=replace(open_.figures, finish=finish.value))
    if not text:
        return closed, head
    number, at = len(messages) + 1, open_.figures.started
    messages.append(Kept(number, open_.prompt, "assistant", text, reasoning, at))
    return replace(closed, answer=number), number


def _read(row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    """These columns, as the values have them."""
    values: dict[str, Any] = {name: row[name] for name in names}
    values["estimated"] = bool(values["estimated"])
    for name in ("headers", "first", "total"):
        values[name] = finite(values[name])
    return values


# --- In -----------------------------------------------------------------------------------------


def restore(db: Database, whole: Whole) -> Restored:
    """Bring a conversation in, in one transaction.

    One that is there already, word for word, stays as it is; so it does where the document is from
    before it could say what is known here beside that. Where another has its id, it gets a new one,
    which follows from what is in it: brought in once more, it is found to be there. What it used is
    counted, but for what was counted here before.
    """
    about = whole.conversation
    whole = replace(
        whole,
        conversation=replace(about, title=short(about.title)),
        exchanges=tuple(map(_alone, whole.exchanges)),
    )
    content = _content(whole)
    own = identity = _ours(whole.conversation.id)
    with db.write():
        number = 0
        while db.row("SELECT 1 FROM conversations WHERE id = ?", (identity,)):
            here = _dump(db, identity)
            if content in (_content(here), _content(plain(here))):
                return Restored(identity, new=False, renamed=identity != own)
            number += 1
            identity = _derived(f"{own} {number} {json.dumps(content)}")
        _count(db, _insert(db, whole, identity), identity, copied=identity != own)
    return Restored(identity, new=True, renamed=identity != own)


def _content(whole: Whole) -> dict[str, Any]:
    """All of it but its name in the store."""
    return record(replace(whole, conversation=replace(whole.conversation, id="")))


def _ours(identity: str) -> str:
    """The id itself, or for one that nobody could type here, one that follows from it."""
    fits = _ID <= len(identity) <= 2 * _ID and not set(identity) - set(LETTERS)
    return identity if fits else _derived(identity)


def _derived(seed: str) -> str:
    digest = int.from_bytes(hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest())
    return "".join(LETTERS[(digest >> 5 * at) % len(LETTERS)] for at in range(_ID))


def _count(db: Database, attempts: list[int], identity: str, *, copied: bool) -> None:
    """Count what was brought in. Of a conversation that was removed here, the sums still have what
    began until then; and where another state of it is here, that one has its figures, as for a
    fork."""
    until = rollup.counted_until(db, identity)
    for number in attempts:
        if copied and rollup.elsewhere(db, number):
            continue
        started = db.rows("SELECT started FROM attempts WHERE id = ?", (number,))[0]["started"]
        if until is not None and started <= until:
            rollup.count_again(db, number)
        else:
            rollup.count(db, number)


def _insert(db: Database, whole: Whole, identity: str) -> list[int]:
    """Returns the attempts."""
    about = whole.conversation
    db.run(
        "INSERT INTO conversations (id, title, named, created, updated, provider, model, system,"
        " params, messages, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            identity,
            about.title,
            int(whole.named),
            about.created,
            about.updated,
            about.provider,
            about.model,
            about.system,
            json.dumps(dict(about.params)),
            len(whole.messages),
            about.origin,
        ),
    )
    rows = _insert_messages(db, whole, identity)
    db.run("UPDATE conversations SET head = ? WHERE id = ?", (rows[about.head], identity))
    return [
        attempt
        for exchange in whole.exchanges
        for attempt in _insert_exchange(db, exchange, identity, rows)
    ]


def _insert_messages(db: Database, whole: Whole, identity: str) -> dict[int | None, int | None]:
    """The messages, and what stands beside them. Returns their rows, by their numbers."""
    names = ("conversation", "parent", "role", "text", "reasoning", "created", "pinned")
    rows: dict[int | None, int | None] = {None: None}
    for each in whole.messages:
        said = (each.role, each.text, each.reasoning, each.created, int(each.id in whole.pinned))
        rows[each.id] = _added(db, "messages", names, (identity, rows[each.parent], *said))
    for one in whole.summaries:
        summary = (identity, rows[one.parent], "summary", one.text, "", one.created, 0)
        _added(db, "messages", names, summary)
    return rows


def _insert_exchange(
    db: Database, exchange: Exchange, identity: str, rows: dict[int | None, int | None]
) -> list[int]:
    names = ("conversation", "prompt", "answer", "served_model", "refusal", "unpriced", *_FIGURES)
    turn = _added(
        db,
        "turns",
        names,
        (
            identity,
            rows[exchange.prompt],
            rows[exchange.answer],
            exchange.served_model,
            int(exchange.refusal),
            int(exchange.unpriced),
            *_values(exchange.figures, _FIGURES),
        ),
    )
    attempts = exchange.attempts
    if not attempts and _used(exchange.figures):
        attempts = (_stand_in(exchange.figures),)
    return [
        _added(db, "attempts", ("turn", *_ATTEMPTED), (turn, *_values(each, _ATTEMPTED)))
        for each in attempts
    ]


def _added(db: Database, table: str, names: tuple[str, ...], values: tuple[Any, ...]) -> int:
    """Insert a row; its number."""
    columns, marks = ", ".join(names), ", ".join("?" * len(names))
    return db.run(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)  # noqa: S608 - ours


def _values(figures: Figures, names: tuple[str, ...]) -> list[Any]:
    return [getattr(figures, name) for name in names]


# --- What another program used --------------------------------------------------------------------


def _used(figures: Figures) -> bool:
    return figures.prompt_tokens is not None or figures.completion_tokens is not None


def _stand_in(figures: Figures) -> Attempted:
    """The attempt that stands for an answer of another program, so that the attempts alone say what
    was used."""
    return Attempted(**{name: getattr(figures, name) for name in _FIGURES}, role=IMPORT)


def _alone(exchange: Exchange) -> Exchange:
    """Without that attempt where it is the only one: it follows from the turn."""
    if _used(exchange.figures) and exchange.attempts == (_stand_in(exchange.figures),):
        return replace(exchange, attempts=())
    return exchange
