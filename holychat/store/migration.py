"""The migration in the store: its state, and what the attempts say of the two providers.

Owns these queries and the facts `migration` and `switched`. Must not decide anything:
`core.migrate` does. Times are Unix time in milliseconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from holychat.core.failure import SettingsError, UsageError
from holychat.core.migrate import (
    ASSESS,
    LOOKBACK,
    SHADOW,
    Call,
    Compared,
    Figures,
    Migration,
    as_json,
    broken,
    figures,
    from_json,
    rolled_back,
)
from holychat.store import facts
from holychat.store.ids import now
from holychat.store.turns import Begun, attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from holychat.core.chat import Tried
    from holychat.core.migrate import Terms
    from holychat.store.db import Database

NAME = "migration"
SWITCHED = "switched"
MOST = 2000  # attempts that a look at the errors reads
REMEMBERED = 500  # conversations whose provider was chosen by hand, the latest


# --- The state ------------------------------------------------------------------------------------


def load(db: Database) -> Migration | None:
    """What is going on, or ended last. Raises SettingsError for what cannot be read."""
    return _read(facts.get(db, NAME))


def _read(value: str | None) -> Migration | None:
    if value is None:
        return None
    try:
        return from_json(json.loads(value))
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            "the migration in the store cannot be read: a newer holychat may have written it",
            "Update holychat. Until then the settings hold.",
        ) from error


def _text(state: Migration) -> str:
    return json.dumps(as_json(state), separators=(",", ":"))


def begin(db: Database, state: Migration) -> None:
    """Put a new one in the place of one that ended. Raises UsageError where one goes on."""

    def change(value: str | None) -> tuple[str, None]:
        found = _read(value)
        if found is not None and found.running:
            raise UsageError(
                f"a migration from {found.old} to {found.new} is going on",
                "`holychat migrate status` shows it, `holychat migrate rollback` ends it.",
            )
        return _text(state), None

    facts.update(db, NAME, change)


def change(
    db: Database, revision: int, step: Callable[[Migration], Migration]
) -> tuple[Migration, Migration]:
    """One step, from the state that was seen: (before, after). Raises UsageError where another
    holychat was faster, and whatever `step` raises."""

    def both(value: str | None) -> tuple[str, tuple[Migration, Migration]]:
        found = _read(value)
        if found is None or found.revision != revision:
            raise UsageError(
                "another holychat has moved the migration meanwhile",
                "`holychat migrate status` shows where it stands.",
            )
        after = step(found)
        return _text(after), (found, after)

    return facts.update(db, NAME, both)


# --- Figures --------------------------------------------------------------------------------------


def compare(db: Database, state: Migration, terms: Terms, most: int = -1) -> Compared:
    """Both providers over the stage; the old one over the last 30 days where the stage has too
    little of it. `most` bounds the attempts that are read of each, the latest."""
    since = state.since
    new = _of(db, state.new, since, "shadow" if state.stage == SHADOW else "", most)
    old = _of(db, state.old, since, "", most) if state.stage != ASSESS else Figures()
    if old.count >= terms.sample:
        return Compared(old, new)
    return Compared(_of(db, state.old, now() - LOOKBACK, "", most), new, earlier=True)


def _of(db: Database, provider: str, since: int, role: str, most: int) -> Figures:
    rows = db.rows(
        "SELECT finish, kind, first, total, completion_tokens, cost FROM attempts"
        " WHERE provider = ? AND started >= ? AND role = ? ORDER BY started DESC LIMIT ?",
        (provider, since, role, most),
    )
    return figures([Call(*row) for row in rows])


def look(db: Database, terms: Terms, said: str) -> tuple[Migration | None, str]:
    """The migration, rolled back now where its new provider does not hold its gate: (state, why).

    The figures are read at most every `terms.look` seconds, by one of all processes.
    """
    state = load(db)
    if state is None or not _due(state, terms, now()):
        return state, ""

    def judge(found: str | None) -> tuple[str | None, tuple[Migration | None, str]]:
        state, at = _read(found), now()
        if state is None or not _due(state, terms, at):
            return found, (state, "")
        state = _looked(state, at)
        compared = compare(db, state, terms, MOST)
        why = broken(state, compared, terms)
        if why:
            state = rolled_back(state, why, compared, at, said=said, by_itself=True)
        return _text(state), (state, why)

    return facts.update(db, NAME, judge)


def _due(state: Migration, terms: Terms, at: int) -> bool:
    return state.percent > 0 and state.running and not 0 <= at - state.looked < terms.look * 1000


def _looked(state: Migration, at: int) -> Migration:
    return replace(state, looked=at)


# --- What was chosen by hand ----------------------------------------------------------------------


def switched(db: Database, conversation: str) -> bool:
    """Whether the user took a conversation out of the split."""
    return any(each == conversation for each in _switched(facts.get(db, SWITCHED)))


def switch(db: Database, conversation: str, *, by_hand: bool = True) -> None:
    """Remember it, or that it is over."""

    def change(value: str | None) -> tuple[str | None, None]:
        others = [each for each in _switched(value) if each != conversation]
        after = [*others, conversation][-REMEMBERED:] if by_hand else others
        return json.dumps(after) if after else None, None

    if switched(db, conversation) != by_hand:
        facts.update(db, SWITCHED, change, durable=False)


def _switched(value: str | None) -> list[Any]:
    try:
        found = json.loads(value or "[]")
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


# --- The shadow -----------------------------------------------------------------------------------


def keep_shadow(db: Database, conversation: str, tried: Tried, ratio: float | None) -> None:
    """Keep a copy's attempt beside the turn that it copied, the last one of its conversation;
    and how alike the two answers were."""

    def change(value: str | None) -> tuple[str | None, None]:
        turn = db.row(
            "SELECT id, (SELECT count(*) FROM attempts WHERE turn = turns.id) AS before"
            " FROM turns WHERE conversation = ? ORDER BY id DESC LIMIT 1",
            (conversation,),
        )
        if turn is None:  # deleted meanwhile
            return value, None
        begun = Begun(conversation, turn["id"], 0, now())
        attempt(db, begun, turn["before"] + 1, tried)
        return _alike(value, ratio), None

    facts.update(db, NAME, change, durable=False)


def _alike(value: str | None, ratio: float | None) -> str | None:
    state = _read(value)
    if state is None or ratio is None or state.stage != SHADOW:
        return value
    return _text(replace(state, likeness=state.likeness.plus(ratio)))


# --- What is used: the assessment -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one provider in the last `days` days. `hour` is the local hour that had most requests,
    and how many; `streamed` the share of the answers that took a while whose first token came
    before their end."""

    days: float
    requests: int = 0
    prompt: int = 0
    completion: int = 0
    estimated: bool = False
    hour: tuple[int, int] | None = None
    streamed: float | None = None
    errors: tuple[tuple[str, int, str], ...] = ()  # kind, how many, the last one's text


_MINE = "FROM attempts WHERE provider = ? AND started >= ? AND role = ''"


def usage(db: Database, provider: str, at: int) -> Usage:
    """What a provider was asked for in the 30 days before `at`."""
    values = (provider, at - LOOKBACK)
    row = db.row(
        "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),"
        " coalesce(max(estimated), 0), min(started),"
        " avg(CASE WHEN kind = '' AND total > 0.2 THEN first < 0.9 * total END)"
        f" {_MINE}",
        values,
    )
    if row is None or not row[0]:
        return Usage(0.0)
    hour = db.row(
        "SELECT CAST(strftime('%H', started / 1000, 'unixepoch', 'localtime') AS INTEGER) AS hour,"
        f" count(*) AS calls {_MINE} GROUP BY hour ORDER BY calls DESC, hour LIMIT 1",
        values,
    )
    errors = db.rows(
        f"SELECT kind, count(*) AS calls, failure, max(started) {_MINE} AND kind <> ''"
        " GROUP BY kind ORDER BY calls DESC, kind LIMIT 10",
        values,
    )
    return Usage(
        max(1.0, (at - row[4]) / 86_400_000),
        row[0],
        row[1],
        row[2],
        bool(row[3]),
        (hour[0], hour[1]) if hour else None,
        row[5],
        tuple((str(one["kind"]), int(one["calls"]), str(one["failure"])) for one in errors),
    )
