"""`holychat history export` and `import`: conversations as files, and back.

Owns the choice of the form, the file that is written or read, and what is said about it. What is
in the files is `core`'s, `screen`'s and `store`'s.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.commands.history import count, row
from holychat.commands.history.lines import data
from holychat.core import foreign, formats
from holychat.core.failure import UsageError
from holychat.core.sanitize import visible
from holychat.engine.export import FORMS, form_of, parts, there, to_file
from holychat.engine.shelf import opened
from holychat.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holychat.core.formats import Whole
    from holychat.core.history import Conversation
    from holychat.store.db import Database

KINDS = ("holychat", "llm", "chatgpt")
_SQLITE = b"SQLite format 3\x00"  # how such a file begins


# --- Out ----------------------------------------------------------------------------------------


def export(path: str, names: list[str], form: str, out: str, *, json: bool = False) -> Exit:
    """Write conversations, all of them where none is named; `out` empty or "-" is stdout.

    An empty `form` is told by the ending of `out`. `json` tells what was written to a file; to
    stdout it is a form. Raises HolychatError, ReaderLeft, OutputFailed.
    """
    in_file = out not in ("", "-")
    form = form_of(form or ("json" if json and not in_file else ""), out if in_file else "")
    _check(form, out, in_file=in_file, json=json)
    with opened(path) as db:
        listed = _listed(db, names)
        if in_file:
            to_file(out, parts(db, listed, form))
        else:
            _to_stdout(parts(db, listed, form))
    if in_file:
        _tell(listed, form, out, json=json)
    return Exit.OK


def _check(form: str, out: str, *, in_file: bool, json: bool) -> None:
    """Raises UsageError for what makes no sense, before anything is read."""
    if in_file and os.path.lexists(out):
        raise there(out)
    if in_file:
        return
    if json and form != "json":
        raise UsageError("--json tells what was written to a file", "Name the file with -o.")
    if form == "html" and env.is_terminal(env.STDOUT):
        raise UsageError("a web page is not for the terminal", "Name a file for it with -o.")


def _listed(db: Database, names: list[str]) -> list[Conversation]:
    from holychat.store.conversations import find, listing

    found = [find(db, name) for name in names] if names else listing(db)
    if not found:
        raise UsageError("there is no conversation to export yet")
    return list({each.id: each for each in found}.values())


def _to_stdout(parts: Iterable[str]) -> None:
    terminal = env.is_terminal(env.STDOUT)
    for part in parts:
        env.write((visible(part) if terminal else part).encode("utf-8", "replace"))


def _tell(listed: list[Conversation], form: str, out: str, *, json: bool) -> None:
    if not json:
        env.err(f"{count(len(listed))} written to {out} as {FORMS[form]}")
        return
    rows = [row(each) for each in listed]
    data({"path": os.path.abspath(out), "format": form, "conversations": rows})


# --- In -----------------------------------------------------------------------------------------


def import_(path: str, file: str, form: str, *, json: bool = False) -> Exit:
    """Bring the conversations of a file in, "-" is stdin; an empty `form` is told by what is in it.

    Raises HolychatError: then nothing was brought in but what was said. There is no store before
    there is a conversation for it.
    """
    if form and form not in KINDS:
        raise UsageError(f"{form} is no kind of a file", f"There are: {', '.join(KINDS)}.")
    wholes = iter(_read(file, form))
    first = next(wholes, None)
    rows: list[dict[str, Any]] = []
    try:
        if first is not None:
            _bring(path, chain((first,), wholes), rows, quiet=json)
    finally:
        if rows or first is None:
            _say(rows, json=json)
    return Exit.OK


def _bring(path: str, wholes: Iterable[Whole], rows: list[dict[str, Any]], *, quiet: bool) -> None:
    """Bring conversations in; a row is added for each that is there now."""
    from holychat.store.conversations import short
    from holychat.store.transfer import restore

    db = _made(path)
    try:
        for whole in wholes:
            identity, new, renamed = restore(db, whole)
            title = short(whole.conversation.title)
            rows.append({"id": identity, "title": title, "new": new, "renamed": renamed})
            if new and renamed and not quiet:
                called = title or "Untitled"
                env.err(f"another conversation has the id of “{called}”: it is {identity} now")
    finally:
        db.close()


def _made(path: str) -> Database:
    """The store; a new one where there is none."""
    from holychat.store.db import Database

    db = Database(path)
    if db.put_aside:
        env.err(f"holychat: the store was damaged: it is kept as {db.put_aside}")
    return db


def _say(rows: list[dict[str, Any]], *, json: bool) -> None:
    new = sum(each["new"] for each in rows)
    same = len(rows) - new
    if json:
        data({"imported": new, "unchanged": same, "conversations": rows})
        return
    there = f"{count(same)} there already, unchanged" if same else ""
    said = ", ".join(filter(None, (f"{count(new)} imported" if new else "", there)))
    env.out(said or "There is no conversation in it.")


def _read(file: str, form: str) -> Iterable[Whole]:
    """The conversations of a file. Raises UsageError for one that cannot be read."""
    from holychat.store.llm_logs import llm

    data = _piped() if file == "-" else _contents(file)
    name = "stdin" if file == "-" else file
    value = None
    kind = "llm"
    if not data.startswith(_SQLITE):
        value = _json(data, name)
        kind = "holychat" if formats.is_ours(value) else "chatgpt"
    if form not in ("", kind):
        raise UsageError(f"{name} is no file of {form}'s: it looks like {kind}'s")
    if kind == "llm":
        return llm(file)
    return formats.wholes(value, name) if kind == "holychat" else foreign.chatgpt(value)


def _contents(file: str) -> bytes:
    """All of it; of a database the beginning, for SQLite reads that itself."""
    try:
        with open(file, "rb") as opened:
            data = opened.read(len(_SQLITE))
            return data if data == _SQLITE else data + opened.read()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error


def _piped() -> bytes:
    data = env.piped_bytes(None)
    if data is None:
        raise UsageError("there is nothing on stdin to import", "Name a file, or pipe one in.")
    if data.startswith(_SQLITE):
        raise UsageError("a database cannot be read from stdin", "Name its file.")
    return data


def _json(data: bytes, file: str) -> Any:
    """Ours or ChatGPT's."""
    beginning = data[:16].lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")
    value = formats.decoded(data, file) if beginning[:1] in (b"{", b"[") else None
    if formats.is_ours(value) or foreign.is_chatgpt(value):
        return value
    raise UsageError(
        f"{file} holds no conversations that holychat knows",
        "It reads its own JSON, llm's logs.db and ChatGPT's conversations.json.",
    )
