"""A logs.db as simonw/llm writes it: the tables that matter, as llm 0.36's migrations make them.

`old` are the tables that llm wrote until 0.35, `new` those from 0.36 on; a database that lived
through both has both. Rows are written as `LogStore.log` and `log_to_db` write them.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

OLD = """
CREATE TABLE "conversations" ("id" TEXT PRIMARY KEY, "name" TEXT, "model" TEXT);
CREATE TABLE "attachments" (
   "id" TEXT PRIMARY KEY, "type" TEXT, "path" TEXT, "url" TEXT, "content" BLOB);
CREATE TABLE "prompt_attachments" (
   "response_id" TEXT, "attachment_id" TEXT, "order" INTEGER,
   PRIMARY KEY ("response_id", "attachment_id"));
CREATE TABLE "responses" (
   "id" TEXT PRIMARY KEY, "model" TEXT, "prompt" TEXT, "system" TEXT, "prompt_json" TEXT,
   "options_json" TEXT, "response" TEXT, "response_json" TEXT,
   "conversation_id" TEXT REFERENCES "conversations"("id"), "duration_ms" INTEGER,
   "datetime_utc" TEXT, "input_tokens" INTEGER, "output_tokens" INTEGER, "token_details" TEXT,
   "schema_id" TEXT, "resolved_model" TEXT, "reasoning" TEXT);
CREATE TABLE "fragments" (
   "id" INTEGER PRIMARY KEY, "hash" TEXT, "content" TEXT, "datetime_utc" TEXT, "source" TEXT);
CREATE TABLE "prompt_fragments" (
   "response_id" TEXT, "fragment_id" INTEGER, "order" INTEGER,
   PRIMARY KEY ("response_id", "fragment_id", "order"));
CREATE TABLE "system_fragments" (
   "response_id" TEXT, "fragment_id" INTEGER, "order" INTEGER,
   PRIMARY KEY ("response_id", "fragment_id", "order"));
"""
NEW = """
CREATE TABLE "messages" (
   "hash" TEXT PRIMARY KEY, "parent_hash" TEXT, "role" TEXT, "provider_metadata" TEXT);
CREATE TABLE "parts" (
   "id" INTEGER PRIMARY KEY, "message_hash" TEXT, "position" INTEGER, "type" TEXT,
   "tool_name" TEXT, "text" TEXT, "payload" TEXT);
CREATE TABLE "threads" (
   "id" TEXT PRIMARY KEY, "name" TEXT, "tip_message_hash" TEXT, "forked_from" TEXT,
   "datetime_utc" TEXT);
CREATE TABLE "turns" (
   "id" TEXT PRIMARY KEY, "thread_id" TEXT, "parent_message_hash" TEXT, "tip_message_hash" TEXT,
   "model" TEXT, "resolved_model" TEXT, "options_json" TEXT, "schema_id" TEXT,
   "input_tokens" INTEGER, "output_tokens" INTEGER, "token_details" TEXT, "duration_ms" INTEGER,
   "datetime_utc" TEXT, "response_json" TEXT);
"""


class Logs:
    """A logs.db that is being written."""

    def __init__(self, path: Path, *schemas: str) -> None:
        self.path = path
        with self.open() as connection:
            connection.executescript("".join(schemas))

    def insert(self, table: str, **row: Any) -> None:
        columns = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        values = [json.dumps(v) if isinstance(v, (dict, list)) else v for v in row.values()]
        with self.open() as connection:
            connection.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', values)

    def message(self, key: str, parent: str | None, role: str, *parts: Any) -> str:
        """A message; a part is its text, or (type, text, payload)."""
        self.insert("messages", hash=key, parent_hash=parent, role=role)
        for at, part in enumerate(parts):
            kind, text, payload = ("text", part, None) if isinstance(part, str) else part
            self.insert(
                "parts", message_hash=key, position=at, type=kind, text=text, payload=payload
            )
        return key

    @contextlib.contextmanager
    def open(self) -> Any:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection


def old(path: Path) -> Logs:
    logs = Logs(path, OLD)
    logs.insert("conversations", id="01old", name="What is a cat?", model="gpt-4o")
    logs.insert("fragments", id=1, content="A long text.")
    logs.insert("attachments", id="a", type="image/png", path="cat.png")
    answered = {"conversation_id": "01old", "model": "gpt-4o", "system": "Be brief"}
    logs.insert(
        "responses", id="r1", prompt="What is a cat?", response="An animal.", reasoning="Hm.",
        datetime_utc="2024-05-01T10:00:00.500000+00:00", duration_ms=1500, input_tokens=7,
        output_tokens=3, token_details={"completion_tokens_details": {"reasoning_tokens": 2}},
        options_json={"temperature": 0.5}, **answered,
    )  # fmt: skip
    logs.insert(
        "responses", id="r2", prompt="And this?", response="Another.", resolved_model="gpt-4o-x",
        datetime_utc="2024-05-01T10:01:00", options_json={}, **answered,
    )  # fmt: skip
    logs.insert("prompt_fragments", response_id="r2", fragment_id=1, order=0)
    logs.insert("prompt_attachments", response_id="r2", attachment_id="a", order=0)
    # One that calls a tool: the reply to it has no prompt.
    logs.insert("conversations", id="01tool", name="Time?", model="gpt-4o")
    tool = {"conversation_id": "01tool", "model": "gpt-4o"}
    logs.insert(
        "responses", id="r3", prompt="Time?", response="", datetime_utc="2024-06-01", **tool
    )
    logs.insert(
        "responses", id="r4", prompt="", response="Noon.", datetime_utc="2024-06-02", **tool
    )
    return logs


def new(path: Path) -> Logs:
    """A database that lived through both: its first conversation went on in the new tables."""
    logs = old(path)
    with logs.open() as connection:
        connection.executescript(NEW)
    day = "2026-07-01T10:00:00+00:00"
    logs.insert("threads", id="01old", name="What is", tip_message_hash="m6", datetime_utc=day)
    logs.message("m0", None, "system", "Be brief")
    logs.message("m1", "m0", "user", "What is a cat?")
    logs.message("m2", "m1", "assistant", ("reasoning", "Hm.", None), "An animal.")
    ref = {"text_ref": [{"fragment": 1}, {"literal": "\nAnd this?"}]}
    picture = ("attachment", None, {"attachment": {"id": "a"}})
    logs.message("m3", "m2", "user", ("text", None, ref), picture)
    logs.message("m4", "m3", "assistant", "Another.")
    logs.message("m5", "m4", "user", "Why?")
    logs.message("m6", "m5", "assistant", "Who knows.")
    about = {"model": "gpt-5", "datetime_utc": day}
    logs.insert(
        "turns", id="t1", thread_id="01old", parent_message_hash="m5", tip_message_hash="m6",
        resolved_model="gpt-5-x", input_tokens=50, output_tokens=4, duration_ms=10,
        token_details={"cached_tokens": 9}, **about,
    )  # fmt: skip
    # A thread of its own, with a second answer to its prompt, and a tool between.
    logs.insert("threads", id="02new", name="Time", tip_message_hash="n5", datetime_utc=day)
    logs.message("n1", None, "user", "Time?")
    logs.message("n2", "n1", "assistant", "I do not know.")
    logs.message("n3", "n1", "assistant", ("tool_call", None, {"name": "clock"}))
    logs.message("n4", "n3", "tool", ("tool_result", None, {"output": "12:00"}))
    logs.message("n5", "n4", "assistant", "Noon.")
    for number, tip in enumerate(("n2", "n3", "n5")):
        logs.insert("turns", id=f"u{number}", thread_id="02new", tip_message_hash=tip, **about)
    logs.insert("threads", id="03empty", datetime_utc=day)
    return logs
