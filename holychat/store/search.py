"""Words in all conversations, the best of the newest first.

Owns the way from what a user types to FTS5, whose own syntax is quoted away. Words go to the index
of words; Chinese, fragments of code and middles of words to the index of pieces of three
characters, whose candidates are checked against the text. The score is our own, so that both
indexes are ranked alike: the one of pieces keeps no places from which FTS5's bm25 could count. It
is made for the newest hits only; to rank all of a frequent word in a million messages takes bm25
seconds.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core.history import Filter, Found
from holychat.store.conversations import get, where

if TYPE_CHECKING:
    from collections.abc import Sequence
    from sqlite3 import Row

    from holychat.store.db import Database

RANKED = 500  # hits among which relevance decides; of more, the newest are taken
AROUND = 60  # characters around a hit
FEW = 3000  # conversations whose messages are looked up to narrow a search
PARTS = 50  # of a query; SQL has its limits
PIECES = 24  # of one query; the text decides anyway
LONG = 5  # letters of a word's beginning for which the index of words is asked
TERMS = 100  # beginnings of pieces that stand for one or two characters; more are no help
TYPICAL = 600  # characters of a message; in a longer one the same number of hits weighs less

# What unicode61 takes for one word: letters and digits, but of scripts that put blanks between
# words. The others (Thai to Khmer, Chinese, Japanese, Korean, wide forms) are looked for in pieces.
_WORD = re.compile(
    r"[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u2e80-\ud7ff\uf900-\uffff"
    r"\U00020000-\U0003ffff]+"
)


def search(db: Database, query: str, narrowed: Filter | None = None, most: int = 50) -> list[Found]:
    """Messages with all parts of the query, the best first. An empty query finds nothing.

    Of a query of words the last may be the beginning of a longer one; where no message has such
    words, and in every other query, each part may stand anywhere.
    """
    # An argument of the command line may hold bytes that are no text; SQL ends a text at NUL.
    words = query.encode(errors="replace").decode().replace("\0", " ").split()
    parts = list(dict.fromkeys(words))[:PARTS]
    if not parts:
        return []
    within = _narrowing(db, narrowed or Filter())
    rows: list[Row] = []
    if all(_WORD.fullmatch(part) for part in parts):
        rows = _words(db, parts, within, most)
    rows = rows or _pieces(db, parts, within)
    return _shown(db, _ranked(rows, parts)[:most], parts)


class _Narrowing(NamedTuple):
    """A filter as SQL: a condition on `m` and `c`, and the messages between which all hits are."""

    condition: str
    values: list[Any]
    first: int = 0
    last: int = 2**62


def _narrowing(db: Database, narrowed: Filter) -> _Narrowing:
    """Of few conversations the range of their messages is looked up: a frequent word would have to
    be followed back to the oldest of them otherwise."""
    condition, values = where(narrowed, "c")
    if narrowed == Filter():
        return _Narrowing(condition, values)
    few = f"SELECT c.id FROM conversations AS c WHERE {condition} LIMIT {FEW + 1}"  # noqa: S608
    ids = [row["id"] for row in db.rows(few, values)]
    if len(ids) > FEW:
        return _Narrowing(condition, values)
    marks = ", ".join("?" * len(ids))
    ends = db.rows(
        f"SELECT min(id) AS first, max(id) AS last FROM messages WHERE conversation IN ({marks})",  # noqa: S608
        ids,
    )[0]
    return _Narrowing(condition, values, ends["first"] or 0, ends["last"] or 0)


def _words(db: Database, parts: list[str], within: _Narrowing, most: int) -> list[Row]:
    match = " ".join(f'"{part}"' for part in parts)
    rows = _matched(db, "words", match, within)
    # The lists of all longer words are merged before the first hit: a frequent word does not need
    # them, and a few letters begin too many (400 ms for three of them in a million messages).
    if len(rows) >= most or len(parts[-1]) < 3:
        return rows
    if len(parts[-1]) < LONG:
        known = {row["id"] for row in rows}
        begins = re.compile(r"(?<![^\W_])" + re.escape(parts[-1]), re.IGNORECASE)
        more = [row for row in _pieces(db, parts, within) if begins.search(row["text"])]
        rows += [row for row in more if row["id"] not in known]
    # Now they cannot be many, but for those that differ in their diacritics.
    return rows if len(rows) >= most else _matched(db, "words", match + " *", within)


def _pieces(db: Database, parts: list[str], within: _Narrowing) -> list[Row]:
    pieces = sorted({part[at : at + 3] for part in parts for at in range(len(part) - 2)})
    matches = [_quoted(piece) for piece in pieces[:: len(pieces) // PIECES + 1]]
    for part in parts:
        if len(part) < 3 and not (part.isascii() and part.isalnum()):  # letters are everywhere
            terms = _terms(db, part.lower())
            if not terms:
                return []
            if len(terms) < TERMS:
                matches.append("(" + " OR ".join(map(_quoted, terms)) + ")")
    tests = [_contains(part) for part in parts]
    texts = within._replace(
        condition=" AND ".join([*(test for test, _ in tests), within.condition]),
        values=[*(value for _, value in tests), *within.values],
    )
    return _matched(db, "pieces", " AND ".join(matches), texts)


def _terms(db: Database, start: str) -> list[str]:
    """Pieces that begin with one or two characters; at most TERMS of them."""
    rows = db.rows(
        "SELECT term FROM vocabulary WHERE term >= ? AND term <= ? LIMIT ?",
        (start, start + "\U0010ffff", TERMS),
    )
    return [row["term"] for row in rows]


def _contains(part: str) -> tuple[str, str]:
    """A condition that a message has this part, and its value. SQL's lower() knows ASCII alone."""
    low = part.lower()
    if low == part.upper():
        return "instr(m.text, ?)", part
    return ("instr(lower(m.text), ?)" if part.isascii() else "instr(folded(m.text), ?)"), low


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'


def _matched(db: Database, index: str, match: str, within: _Narrowing) -> list[Row]:
    """The newest RANKED messages that match, and hold to a condition on `m` and `c`.

    CROSS JOIN keeps the order in which SQLite reads them: from the index, newest first, and no
    further than needed. An empty `match` reads the messages themselves.
    """
    source, identity, test = "messages AS m", "m.id", ""
    if match:
        source = f"{index} CROSS JOIN messages AS m ON m.id = {index}.rowid"
        identity, test = f"{index}.rowid", f"{index} MATCH ? AND"
    given = [match] if match else []
    return db.rows(
        f"SELECT m.* FROM {source} CROSS JOIN conversations AS c ON c.id = m.conversation"  # noqa: S608
        f" WHERE {test} {identity} BETWEEN ? AND ? AND m.role <> 'summary' AND {within.condition}"
        f" ORDER BY {identity} DESC LIMIT {RANKED}",
        [*given, within.first, within.last, *within.values],
    )


# --- What is best, and where it is --------------------------------------------------------------


def _ranked(rows: list[Row], parts: Sequence[str]) -> list[Row]:
    """The best first, the newer of equals first: BM25's saturation and length, one weight for all.

    Every row has every part, so how rare each is would decide little.
    """
    patterns = [_pattern(part) for part in parts]

    def score(row: Row) -> float:
        text = row["text"]
        slow = 0.5 + len(text) / TYPICAL
        counts = (len(pattern.findall(text)) for pattern in patterns)
        return sum(count / (count + slow) for count in counts)

    return sorted(rows, key=lambda row: (score(row), row["id"]), reverse=True)


def _pattern(part: str) -> re.Pattern[str]:
    """A part where it may begin: a word at the beginning of one."""
    return re.compile((r"\b" if _WORD.fullmatch(part) else "") + re.escape(part), re.IGNORECASE)


def _shown(db: Database, rows: list[Row], parts: Sequence[str]) -> list[Found]:
    conversations = {row["conversation"]: get(db, row["conversation"]) for row in rows}
    return [_found(conversations[row["conversation"]], row, parts) for row in rows]


def _found(conversation: Any, row: Row, parts: Sequence[str]) -> Found:
    """The hit with the words around the longest part that is in it."""
    text = row["text"]
    start, end = _place(text, parts)
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    before = ("…" if start > AROUND else "") + before
    after += "…" if len(text) > end + AROUND else ""
    return Found(
        conversation,
        row["id"],
        row["role"],
        row["created"],
        " ".join(before.split()) + (" " if before[-1:].isspace() else ""),
        " ".join(text[start:end].split()),
        (" " if after[:1].isspace() else "") + " ".join(after.split()),
    )


def _place(text: str, parts: Sequence[str]) -> tuple[int, int]:
    """Where the longest part is, at the beginning of a word if it can be; diacritics aside."""
    ordered = sorted(parts, key=len, reverse=True)
    for part in ordered:
        found = _pattern(part).search(text) or re.search(re.escape(part), text, re.IGNORECASE)
        if found:
            return found.span()
    bare, places = _bare(text)
    for part in ordered:
        found = re.search(re.escape(_bare(part)[0]), bare)
        if found and found.end() > found.start():
            return places[found.start()], places[found.end() - 1] + 1
    return 0, 0


def _bare(text: str) -> tuple[str, list[int]]:
    """Lower case without diacritics, and the place in `text` of each character of it."""
    pairs = [
        (low, at)
        for at, character in enumerate(text)
        for low in unicodedata.normalize("NFD", character).lower()
        if not unicodedata.combining(low)
    ]
    return "".join(low for low, _ in pairs), [at for _, at in pairs]
