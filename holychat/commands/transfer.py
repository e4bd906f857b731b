"""`holychat history export` and `import`: conversations as files, and back.

Owns the choice of the form, the file that is written or read, and what is said about it. What is
in the files is `core`'s, `screen`'s and `store`'s.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.core import foreign, formats
from holychat.core.failure import UsageError
from holychat.core.sanitize import visible
from holychat.engine.export import form_of, parts, there, to_file
from holychat.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holychat.core.formats import Whole
    from holychat.core.history import Conversation
    from holychat.store.db import Database

KINDS = ("holychat", "llm", "chatgpt")
_SQLITE = b"SQLite format 3\x00"  # how such a file begins


# --- Out ----------------------------------------------------------------------------------------


def export(path_of_store: str, names: list[str], form: str, out: str) -> Exit:
    """Write conversations, all of them where none is named; `out` empty or "-" is stdout.

    An empty `form` is told by the ending of `out`. Raises HolychatError, ReaderLeft, OutputFailed.
    """
    in_file = out not in ("", "-")
    form = form_of(form, out)
    if form == "html" and not in_file and env.is_terminal(env.STDOUT):
        raise UsageError("a web page is not for the terminal", "Name a file for it with -o.")
    if in_file and os.path.lexists(out):
        raise there(out)
    db = _open(path_of_store, create=False)
    try:
        listed = _listed(db, names)
        if in_file:
            to_file(out, parts(db, listed, form))
            env.err(f"{_several(len(listed))} written to {out}")
        else:
            _to_stdout(parts(db, listed, form))
    finally:
        db.close()
    return Exit.OK


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


# --- In -----------------------------------------------------------------------------------------


def import_(path_of_store: str, file: str, form: str) -> Exit:
    """Bring the conversations of a file in; an empty `form` is told by what is in it.

    Raises HolychatError: then nothing was brought in but what was said.
    """
    from holychat.store.transfer import restore

    if form and form not in KINDS:
        raise UsageError(f"{form} is no kind of a file", f"There are: {', '.join(KINDS)}.")
    wholes = _read(file, form)
    db = _open(path_of_store)
    new = renamed = same = 0
    try:
        for whole in wholes:
            restored = restore(db, whole)
            new += restored.new
            same += not restored.new
            if restored.new and restored.renamed:
                renamed += 1
                title = whole.conversation.title or "Untitled"
                env.err(f"another conversation has the id of “{title}”: it is {restored.id} now")
    finally:
        db.close()
        if new or same:
            env.out(_said(new, same))
    if not new and not same:
        env.out("There is no conversation in it.")
    return Exit.OK


def _said(new: int, same: int) -> str:
    there = f"{_several(same)} there already, unchanged" if same else ""
    return ", ".join(filter(None, (f"{_several(new)} imported" if new else "", there)))


def _read(file: str, form: str) -> Iterable[Whole]:
    """The conversations of a file. Raises UsageError for one that cannot be read."""
    from holychat.store.llm_logs import llm

    try:
        with open(file, "rb") as opened:
            data = opened.read(len(_SQLITE))
            kind = "llm" if data == _SQLITE else ""
            data += b"" if kind else opened.read()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    value = None
    if not kind:
        value = _json(data, file)
        kind = "holychat" if formats.is_ours(value) else "chatgpt"
    if form not in ("", kind):
        raise UsageError(f"{file} is no file of {form}'s: it looks like {kind}'s")
    if kind == "llm":
        return llm(file)
    return formats.wholes(value, file) if kind == "holychat" else foreign.chatgpt(value)


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


def _open(path: str, *, create: bool = True) -> Database:
    from holychat.store.db import Database

    db = Database(path, create=create)
    if db.put_aside:
        env.err(f"holychat: the store was damaged: it is kept as {db.put_aside}")
    return db


def _several(number: int) -> str:
    return "1 conversation" if number == 1 else f"{number:,} conversations"
