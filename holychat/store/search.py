"""Words in all conversations: by relevance where that can be had, newest first where not.

Owns the way from what a user types to FTS5, whose own syntax is quoted away. Words go to the index
of words; Chinese, and fragments of code, to the index of pieces of three characters, and what is
shorter than that is looked for in the text itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from holychat.core.history import Filter, Found
from holychat.store.conversations import get, where

if TYPE_CHECKING:
    from typing import Any

    from holychat.store.db import Database

RANKED = 2000  # hits among which relevance decides; of more, the newest are taken
AROUND = 60  # characters around a hit
_WORD = re.compile(r"[A-Za-z0-9\u00c0-\u024f]+")


def search(db: Database, query: str, narrowed: Filter | None = None, most: int = 50) -> list[Found]:
    """Messages with all words of the query, the best first. An empty query finds nothing."""
    parts = query.split()
    if not parts:
        return []
    plain = all(_WORD.fullmatch(part) for part in parts)
    condition, values = where(narrowed or Filter(), "c")
    found = _words(db, parts, condition, values, most) if plain else []
    found = found or _pieces(db, parts, condition, values, most)
    return [_found(db, row, parts) for row in found]


def _words(
    db: Database, parts: list[str], condition: str, values: list[Any], most: int
) -> list[Any]:
    """By the index of words; the last one may be the beginning of a longer one."""
    match = " ".join(f'"{part}"' for part in parts) + " *"
    return db.rows(
        f"""
        SELECT m.* FROM (
            SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT {RANKED}
        ) AS hit JOIN messages AS m ON m.id = hit.rowid
        JOIN conversations AS c ON c.id = m.conversation
        WHERE {condition} ORDER BY hit.rank, m.id DESC LIMIT ?
        """,  # noqa: S608 - the condition is ours, the values are bound
        [match, *values, most],
    )


def _pieces(
    db: Database, parts: list[str], condition: str, values: list[Any], most: int
) -> list[Any]:
    """By the index of pieces, checked against the text, newest first."""
    pieces = sorted({part[at : at + 3] for part in parts for at in range(len(part) - 2)})
    tests = " AND ".join("instr(lower(m.text), lower(?))" for _ in parts)
    source = "messages AS m"
    given: list[Any] = []
    if pieces:
        source = "(SELECT rowid FROM pieces WHERE pieces MATCH ? ORDER BY rowid DESC) AS hit"
        source += " JOIN messages AS m ON m.id = hit.rowid"
        given.append(" AND ".join('"' + piece.replace('"', '""') + '"' for piece in pieces))
    return db.rows(
        f"""
        SELECT m.* FROM {source} JOIN conversations AS c ON c.id = m.conversation
        WHERE {tests} AND {condition} ORDER BY m.id DESC LIMIT ?
        """,  # noqa: S608 - as above
        [*given, *parts, *values, most],
    )


def _found(db: Database, row: Any, parts: list[str]) -> Found:
    """The hit with the words around the first part that is in it."""
    text = row["text"]
    start, end = _place(text, parts)
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    before = ("…" if start > AROUND else "") + before
    after += "…" if len(text) > end + AROUND else ""
    return Found(
        get(db, row["conversation"]),
        row["id"],
        row["role"],
        row["created"],
        " ".join(before.split()) + (" " if before[-1:].isspace() else ""),
        " ".join(text[start:end].split()),
        (" " if after[:1].isspace() else "") + " ".join(after.split()),
    )


def _place(text: str, parts: list[str]) -> tuple[int, int]:
    for part in sorted(parts, key=len, reverse=True):
        found = re.search(re.escape(part), text, re.IGNORECASE)
        if found:
            return found.span()
    return 0, 0
