"""`holychat history rename`, `fork`, `delete`, `prune` and `backup`.

Owns the question before something is gone, and the names of what is changed. Results that a script
wants go to stdout, everything else to stderr.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holychat import env
from holychat.commands.history import count
from holychat.commands.history.lines import Pen, table, titled
from holychat.commands.history.shelf import here, opened, place
from holychat.commands.history.times import date, moment, now, when
from holychat.core.failure import UsageError
from holychat.core.history import Filter
from holychat.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holychat.core.history import Conversation, Kept
    from holychat.settings import Settings


def rename(settings: Settings, name: str, title: str) -> Exit:
    """Give it another title."""
    from holychat.store import conversations

    title = " ".join(title.split())
    if not title:
        raise UsageError("a title has at least one letter")
    with opened(place(settings)) as db:
        found = conversations.find(db, name)
        conversations.rename(db, found.id, title)
    env.err(f"· {found.short} is called {title}", dim=True)
    return Exit.OK


def fork(settings: Settings, name: str, at: int | None) -> Exit:
    """Copy it up to the answer `at`, or all of it; print the new id."""
    from holychat.store import conversations

    with opened(place(settings)) as db:
        found = conversations.find(db, name)
        if at is not None:
            _check_end(found, conversations.tree(db, found.id), at)
        made = conversations.fork(db, found, found.head if at is None else at)
    env.out(made.id)
    env.err(f"· a copy of {found.short}: holychat --session {made.short}", dim=True)
    return Exit.OK


def _check_end(conversation: Conversation, messages: Mapping[int, Kept], at: int) -> None:
    """A conversation goes on behind an answer. Raises UsageError for anything else."""
    message = messages.get(at)
    see = f"`holychat history show {conversation.short} --all` numbers them."
    if message is None:
        raise UsageError(f"{conversation.short} has no message {at}", see)
    if message.role == "user":
        parent = message.parent
        before = f"The answer before it is {parent}." if parent is not None else see
        raise UsageError(f"message {at} is a prompt; a fork ends with an answer", before)


def delete(settings: Settings, names: Sequence[str], *, yes: bool) -> Exit:
    """Remove these, after a question; nothing is removed unless every name is known."""
    from holychat.store import conversations

    with opened(place(settings)) as db:
        found = {each.id: each for each in (conversations.find(db, name) for name in names)}
        at = now()
        for each in found.values():
            env.err(f"{each.short}  {titled(each)}  {when(each.updated, at)}")
        if not _sure(f"delete {count(len(found))}?", yes=yes):
            return Exit.OK
        removed = conversations.delete(db, list(found))
    env.err(f"· {count(removed)} deleted", dim=True)
    return Exit.OK


def prune(settings: Settings, older_than: str, *, dry_run: bool, yes: bool) -> Exit:
    """Remove what was not spoken in since then, after a question; or only list it."""
    from holychat.store import conversations

    at = now()
    before = moment("--older-than", older_than, at)
    path = place(settings)
    if not here(path):
        env.err("· no conversations yet", dim=True)
        return Exit.OK
    with opened(path) as db:
        found = conversations.listing(db, Filter(until=before))
        said = f"{count(len(found))} not spoken in since {date(before, at)}"
        if not found:
            env.err(f"· {said}", dim=True)
            return Exit.OK
        if dry_run:
            pen = Pen(settings["ui.theme"])
            pen.page(table(found, pen, at))
            env.err(f"· {said}; nothing is deleted", dim=True)
            return Exit.OK
        env.err(said)
        if not _sure(f"delete {'it' if len(found) == 1 else 'them'}?", yes=yes):
            return Exit.OK
        removed = conversations.prune(db, before)
    env.err(f"· {count(removed)} deleted", dim=True)
    return Exit.OK


def _sure(question: str, *, yes: bool) -> bool:
    """Whether it may be done. Raises UsageError where nobody can be asked."""
    if yes:
        return True
    if not env.is_terminal(env.STDIN):
        raise UsageError("nobody can be asked here, so nothing is deleted", "--yes does not ask.")
    try:
        answer = env.ask(f"{question} [y/N] ")
    except EOFError:
        env.err()
        answer = ""
    if answer.lower() in ("y", "yes"):
        return True
    env.err("· nothing is deleted", dim=True)
    return False


def backup(settings: Settings, path: str) -> Exit:
    """Copy the store to a file that is not there yet."""
    target = os.path.abspath(os.path.expanduser(path))
    with opened(place(settings)) as db:
        db.backup(target)
    size = os.path.getsize(target)
    env.err(f"· {size / 1e6:,.1f} MB in {target}", dim=True)
    return Exit.OK
