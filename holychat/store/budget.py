"""Limits, held between processes: what a turn may use is reserved before its request goes out.

Owns the check and the reservation, which are one immediate transaction: of two processes that both
want what is left, one gets it. What it is held against, `core.limits` says; closing a turn ends
it, and so does the death of its writer. Must not know a price: the estimate comes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.limits import Limit, Spent, Verdict, level
from holychat.store.ids import now
from holychat.store.tally import days, spent
from holychat.store.turns import bury_open

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.store.db import Database


def reserve(
    db: Database,
    turn: int,
    limits: Sequence[Limit],
    *,
    cost: int | None,
    tokens: int,
    at: int | None = None,
    override: bool = False,
    more: bool = False,
) -> Verdict:
    """Reserve `cost` (10^-12 US dollars; None: no price is known) and `tokens` for an open turn,
    if all limits have room for it, or `override`; see Verdict.

    Asked again for the same turn, it replaces what was reserved: it is for all of the turn; with
    `more` it comes on top of that. What was refused keeps what it had. What the dead had used
    counts: their open turns are closed first. Raises StoreTrouble.
    """
    at = now() if at is None else at
    with db.write(durable=False):  # after a power cut nobody is left who would use it
        bury_open(db)
        row = db.row("SELECT conversation FROM turns WHERE id = ?", (turn,))
        conversation = row["conversation"] if row else ""
        verdict = _judged(db, limits, conversation, cost, tokens, at, None if more else turn)
        if override or verdict.refusing is None:
            db.run(
                "UPDATE turns SET reserved = ?1 + ?4 * reserved,"
                " reserved_tokens = ?2 + ?4 * reserved_tokens"
                " WHERE id = ?3 AND writer IS NOT NULL",
                (cost or 0, tokens, turn, int(more)),
            )
    return verdict


def release(db: Database, turn: int) -> None:
    """Give up what was reserved for a turn that stays open."""
    with db.write(durable=False):
        db.run("UPDATE turns SET reserved = 0, reserved_tokens = 0 WHERE id = ?", (turn,))


def look(
    db: Database,
    conversation: str,
    limits: Sequence[Limit],
    *,
    cost: int | None = None,
    tokens: int = 0,
    at: int | None = None,
) -> Verdict:
    """How full the limits are, or would be with that; reserves nothing. `conversation` may be empty
    where none has begun."""
    return _judged(db, limits, conversation, cost, tokens, now() if at is None else at, None)


def _judged(
    db: Database,
    limits: Sequence[Limit],
    conversation: str,
    cost: int | None,
    tokens: int,
    at: int,
    turn: int | None,
) -> Verdict:
    found: dict[str, Spent] = {}
    for limit in limits:
        if limit.scope not in found:
            found[limit.scope] = _spent(db, limit, conversation, at, turn)
    return Verdict(tuple(level(limit, found[limit.scope], cost, tokens) for limit in limits))


def _spent(db: Database, limit: Limit, conversation: str, at: int, turn: int | None) -> Spent:
    if limit.scope == "conversation":
        return spent(db, conversation=conversation, but=turn) if conversation else Spent()
    day = days(db, at)
    if limit.scope == "day":
        return spent(db, day=day, but=turn)
    return spent(db, month=day[:7], but=turn)
