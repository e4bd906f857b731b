"""The logs.db of simonw/llm, read as trees of messages.

Owns the SQL for that schema, in both its shapes: `responses` (until 0.35), a row for each exchange,
and `threads`, whose messages are shared by their hashes. A conversation may be in both. The file is
opened for reading only.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from holychat.core.failure import UsageError
from holychat.core.foreign import Node, moment, woven
from holychat.core.formats import Figures, Whole
from holychat.core.history import Conversation

if TYPE_CHECKING:
    from collections.abc import Iterator

LLM = "llm"

# The messages of a thread: what its turns and its tip lead back to.
_CHAIN = """
    WITH RECURSIVE up (hash) AS (
        SELECT tip_message_hash FROM turns WHERE thread_id = ?1
        UNION SELECT tip_message_hash FROM threads WHERE id = ?1
        UNION SELECT m.parent_hash FROM up JOIN messages AS m ON m.hash = up.hash
    )
"""


def llm(path: str) -> Iterator[Whole]:
    """The conversations of a logs.db. Raises UsageError for a file that is none."""
    address = f"file:{quote(path)}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            logs = _Logs(connection)
            if not logs.old and not logs.new:
                raise UsageError(
                    f"{path} is a database, but no logs.db of llm",
                    "A store of holychat's own is used with --store.",
                )
            yield from filter(None, map(logs.conversation, logs.conversations()))
            yield from filter(None, map(logs.loner, logs.loners()))
    except sqlite3.Error as error:
        raise UsageError(f"{path} cannot be read as llm's logs.db: {error}") from error


@dataclass(slots=True)
class _Tree:
    """Nodes by what they say at which place: the same message is one, whichever shape it is in."""

    nodes: dict[tuple[str | None, str, str], Node] = field(default_factory=dict)

    def add(self, node: Node) -> str:
        """Its key."""
        place = (node.parent, node.role, node.text)
        old = self.nodes.get(place)
        if old is None:
            self.nodes[place] = replace(node, key=str(len(self.nodes)))
        elif old.figures == Figures() or not old.created:
            created = old.created or node.created
            figures = node.figures if old.figures == Figures() else old.figures
            self.nodes[place] = replace(old, figures=figures, created=created)
        return self.nodes[place].key


class _Logs:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        tables = {row["name"] for row in self._rows("SELECT name FROM sqlite_schema")}
        self._tables: set[str] = tables
        self.old = {"conversations", "responses"} <= tables
        self.new = {"threads", "turns", "messages", "parts"} <= tables

    def _rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self._connection.execute(sql, values).fetchall()

    def conversations(self) -> list[str]:
        """What anything was said in, whether or not it is still listed itself."""
        old = "SELECT conversation_id FROM responses"
        new = "SELECT id FROM threads UNION SELECT thread_id FROM turns"
        sql = " UNION ".join([old] * self.old + [new] * self.new)
        return [str(row[0]) for row in self._rows(sql) if row[0] not in (None, "")]

    def loners(self) -> list[int]:
        """The responses that were given in no conversation, by the numbers of their rows."""
        if not self.old:
            return []
        sql = "SELECT rowid FROM responses WHERE coalesce(conversation_id, '') = '' ORDER BY rowid"
        return [int(row[0]) for row in self._rows(sql)]

    def loner(self, number: int) -> Whole | None:
        """Such a response as a conversation of its own."""
        rows = self._rows("SELECT * FROM responses WHERE rowid = ?", number)
        tree = _Tree()
        identity = f"{LLM}:response {rows[0]['id'] or number}"
        about, current = self._said_in(rows, Conversation(identity), tree)
        return woven(about, tree.nodes.values(), current, LLM)

    def conversation(self, identity: str) -> Whole | None:
        tree = _Tree()
        about = Conversation(id=f"{LLM}:{identity}")
        current = None
        if self.old:
            about, current = self._old(identity, about, tree)
        if self.new:
            about, tip = self._new(identity, about, tree)
            current = tip or current
        return woven(about, tree.nodes.values(), current, LLM)

    # --- A row for each exchange --------------------------------------------------------------

    def _old(
        self, identity: str, about: Conversation, tree: _Tree
    ) -> tuple[Conversation, str | None]:
        for row in self._rows("SELECT * FROM conversations WHERE id = ?", identity):
            about = replace(about, title=row["name"] or "", model=row["model"] or "")
        rows = self._rows(
            "SELECT * FROM responses WHERE conversation_id = ? ORDER BY datetime_utc, rowid",
            identity,
        )
        return self._said_in(rows, about, tree)

    def _said_in(
        self, rows: list[sqlite3.Row], about: Conversation, tree: _Tree
    ) -> tuple[Conversation, str | None]:
        at: str | None = None
        for row in rows:
            created = _time(row["datetime_utc"])
            system = self._with_fragments(row, "system", row["system"] or "")
            params = _object(row["options_json"]) or about.params
            about = replace(about, system=system or about.system, params=params)
            prompt = self._with_fragments(row, "prompt", row["prompt"] or "")
            prompt = "\n\n".join(filter(None, (prompt, *self._attachments(row["id"]))))
            if prompt:  # a reply to tools has none
                at = tree.add(Node("", at, "user", prompt, created=created))
            reasoning = row["reasoning"] or "" if "reasoning" in row.keys() else ""  # noqa: SIM118
            answer = row["response"] or ""
            figures = _figures(row, created)
            at = tree.add(Node("", at, "assistant", answer, reasoning, created, figures))
        return about, at

    def _with_fragments(self, row: sqlite3.Row, kind: str, text: str) -> str:
        if f"{kind}_fragments" not in self._tables:
            return text
        rows = self._rows(
            f"SELECT f.content FROM {kind}_fragments AS p JOIN fragments AS f"  # noqa: S608 - ours
            ' ON f.id = p.fragment_id WHERE p.response_id = ? ORDER BY p."order"',
            row["id"],
        )
        return "\n".join(filter(None, (*(each["content"] for each in rows), text)))

    def _attachments(self, response: str) -> list[str]:
        if "prompt_attachments" not in self._tables:
            return []
        rows = self._rows(
            "SELECT a.* FROM prompt_attachments AS p JOIN attachments AS a"
            ' ON a.id = p.attachment_id WHERE p.response_id = ? ORDER BY p."order"',
            response,
        )
        return [_attachment(row) for row in rows]

    # --- Threads of shared messages -----------------------------------------------------------

    def _new(
        self, identity: str, about: Conversation, tree: _Tree
    ) -> tuple[Conversation, str | None]:
        turns = self._rows(
            "SELECT * FROM turns WHERE thread_id = ? ORDER BY datetime_utc, rowid", identity
        )
        current: str | None = turns[-1]["tip_message_hash"] if turns else None
        for thread in self._rows("SELECT * FROM threads WHERE id = ?", identity):
            about = replace(about, title=about.title or thread["name"] or "")
            current = thread["tip_message_hash"]
            if not turns:  # a fork that nothing was said in yet
                about = replace(about, created=_time(thread["datetime_utc"]))
        messages = self._rows(
            f"{_CHAIN} SELECT m.* FROM up JOIN messages AS m USING (hash)",  # noqa: S608
            identity,
        )
        rows = {row["hash"]: row for row in messages}
        said = self._said(identity)
        keys: dict[str, str | None] = {}
        for turn in turns:
            about = replace(
                about,
                model=turn["model"] or about.model,
                params=_object(turn["options_json"]) or about.params,
            )
            self._add(tree, rows, said, keys, turn["tip_message_hash"], turn)
        self._add(tree, rows, said, keys, current, None)
        system = next((said[key][0] for key in said if rows[key]["role"] == "system"), "")
        return replace(about, system=about.system or system), keys.get(current or "")

    def _add(
        self,
        tree: _Tree,
        rows: dict[str, sqlite3.Row],
        said: dict[str, tuple[str, str]],
        keys: dict[str, str | None],
        tip: str | None,
        turn: sqlite3.Row | None,
    ) -> None:
        """The messages that lead to `tip`, the first of them first."""
        chain: list[sqlite3.Row] = []
        at = tip
        while at is not None and at in rows and at not in keys:
            chain.append(rows[at])
            keys[at] = None  # a circle ends here
            at = rows[at]["parent_hash"]
        created = _time(turn["datetime_utc"]) if turn is not None else 0
        for row in reversed(chain):
            text, reasoning = said.get(row["hash"], ("", ""))
            parent = keys.get(row["parent_hash"])
            figures = Figures()
            if turn is not None and row["hash"] == tip:
                figures = _figures(turn, created)
            keys[row["hash"]] = parent
            if row["role"] in ("user", "assistant"):
                node = Node("", parent, row["role"], text, reasoning, created, figures)
                keys[row["hash"]] = tree.add(node)

    def _said(self, identity: str) -> dict[str, tuple[str, str]]:
        """(text, reasoning) of each message of a thread."""
        texts: dict[str, tuple[list[str], list[str]]] = {}
        rows = self._rows(
            f"{_CHAIN} SELECT p.* FROM up JOIN parts AS p ON p.message_hash = up.hash"  # noqa: S608
            " ORDER BY p.message_hash, p.position",
            identity,
        )
        for row in rows:
            text, reasoning = texts.setdefault(row["message_hash"], ([], []))
            if row["type"] == "reasoning":
                reasoning.append(self._part(row))
            elif row["type"] in ("text", "attachment"):
                text.append(self._part(row))
        return {
            key: ("\n\n".join(filter(None, text)), "\n\n".join(filter(None, reasoning)))
            for key, (text, reasoning) in texts.items()
        }

    def _part(self, row: sqlite3.Row) -> str:
        if row["text"] is not None:
            return str(row["text"])
        payload = _object(row["payload"])
        if row["type"] == "attachment":
            reference = payload.get("attachment")
            identity = reference.get("id") if isinstance(reference, dict) else None
            rows = self._rows("SELECT * FROM attachments WHERE id = ?", identity)
            return _attachment(rows[0]) if rows else "[attachment]"
        references = payload.get("text_ref")
        pieces = references if isinstance(references, list) else []
        return "".join(self._piece(piece) for piece in pieces if isinstance(piece, dict))

    def _piece(self, piece: dict[str, Any]) -> str:
        if isinstance(piece.get("literal"), str):
            return str(piece["literal"])
        rows = self._rows("SELECT content FROM fragments WHERE id = ?", piece.get("fragment"))
        return str(rows[0]["content"]) if rows else ""


def _figures(row: sqlite3.Row, started: int) -> Figures:
    """Of a row of `responses` or of `turns`: both name these alike."""
    found = {name: row[name] for name in row.keys()}  # noqa: SIM118 - rows have no .items()
    details = _object(found.get("token_details"))
    spent = found.get("duration_ms")
    return Figures(
        started=started,
        model=found.get("resolved_model") or found["model"] or "",
        prompt_tokens=_count(found.get("input_tokens")),
        cached_tokens=_count(_named(details, "cached_tokens")),
        completion_tokens=_count(found.get("output_tokens")),
        reasoning_tokens=_count(_named(details, "reasoning_tokens")),
        total=spent / 1000 if isinstance(spent, int) else None,
    )


def _named(details: dict[str, Any], name: str) -> Any:
    """A count that may be one level down: {"completion_tokens_details": {...}}."""
    if name in details:
        return details[name]
    inner = (each[name] for each in details.values() if isinstance(each, dict) and name in each)
    return next(inner, None)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 62 else None


def _attachment(row: sqlite3.Row) -> str:
    words = filter(None, (row["type"], row["path"] or row["url"]))
    return f"[attachment: {' '.join(map(str, words))}]"


def _object(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}", parse_constant=lambda _: None)
    except (ValueError, TypeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _time(text: Any) -> int:
    """An ISO date, UTC where it says nothing else; 0 for what is none."""
    try:
        date = datetime.fromisoformat(str(text))
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        return moment(aware.timestamp())
    except (ValueError, OverflowError):
        return 0
