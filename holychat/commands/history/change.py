"""`holychat history rename`, `fork`, `delete`, `prune` and `backup`.

Owns the question before something is gone, and the names of what is changed. Results that a script
wants go to stdout, everything else to stderr; with --json there is one object on stdout, and on
stderr only what is asked and what fails.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from holychat import env
from holychat.commands.history import count, row
from holychat.commands.history.lines import data, table, titled
from holychat.core.failure import UsageError
from holychat.core.history import Filter
from holychat.engine.export import there
from holychat.engine.shelf import here, opened, place
from holychat.engine.times import moment, now
from holychat.exits import Exit
from holychat.screen.pen import Pen
from holychat.screen.words import date, when

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holychat.core.history import Conversation, Kept
    from holychat.settings import Settings


def rename(settings: Settings, name: str, title: str, *, json: bool) -> Exit:
    """Give it another title."""
    from holychat.store import conversations

    if not title.strip():
        raise UsageError("a title has at least one letter")
    with opened(place(settings)) as db:
        found = conversations.find(db, name)
        conversations.rename(db, found.id, title)
        found = conversations.get(db, found.id)
    if json:
        data(row(found))
    else:
        env.err(f"· {found.short} is called {found.title}", dim=True)
    return Exit.OK


def fork(settings: Settings, name: str, at: int | None, *, json: bool) -> Exit:
    """Copy it up to the answer `at`, or all of it; print the new id."""
    from holychat.store import conversations

    with opened(place(settings)) as db:
        found = conversations.find(db, name)
        if at is not None:
            _check_end(found, conversations.tree(db, found.id), at)
        made = conversations.fork(db, found, found.head if at is None else at)
    if json:
        data(row(made))
        return Exit.OK
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


# --- What is gone -------------------------------------------------------------------------------


def delete(settings: Settings, names: Sequence[str], *, yes: bool, json: bool) -> Exit:
    """Remove these, after a question; nothing is removed unless every name is known."""
    from holychat.store import conversations

    removed = 0
    with opened(place(settings)) as db:
        found = {each.id: each for each in (conversations.find(db, name) for name in names)}
        if not (yes and json):
            _name(list(found.values()))
        sure = _sure(f"delete {count(len(found))}?", yes=yes)
        if sure:
            removed = conversations.delete(db, list(found))
    if json:
        data({"deleted": removed, "conversations": [row(each) for each in found.values()]})
    elif sure:
        env.err(f"· {count(removed)} deleted", dim=True)
    return Exit.OK


def _name(found: Sequence[Conversation]) -> None:
    at = now()
    for each in found:
        env.err(f"{each.short}  {titled(each)}  {when(each.updated, at)}")


def prune(settings: Settings, older_than: str, *, dry_run: bool, yes: bool, json: bool) -> Exit:
    """Remove what was not spoken in since then, after a question; or only list it."""
    before = moment("--older-than", older_than, now())
    path = place(settings)
    found, removed = _old(path, before) if here(path) else None, 0
    if not json:
        _tell(found, before, Pen(settings["ui.theme"]), listed=dry_run)
    if found and not dry_run:
        if json and not yes:
            env.err(_unspoken(found, before))
        removed = _prune(path, before, len(found), yes=yes, json=json)
    if json:
        rows = [row(each) for each in found or ()]
        data({"before": before, "dry_run": dry_run, "deleted": removed, "conversations": rows})
    return Exit.OK


def _old(path: str, before: int) -> list[Conversation]:
    from holychat.store import conversations

    with opened(path) as db:
        return conversations.listing(db, Filter(until=before))


def _unspoken(found: Sequence[Conversation], before: int) -> str:
    return f"{count(len(found))} not spoken in since {date(before, now())}"


def _tell(found: Sequence[Conversation] | None, before: int, pen: Pen, *, listed: bool) -> None:
    """What is old; None where there is no store."""
    if found is None:
        env.err("· no conversations yet", dim=True)
    elif not found:
        env.err(f"· {_unspoken(found, before)}", dim=True)
    elif listed:
        pen.page(table(found, pen, now()))
        env.err(f"· {_unspoken(found, before)}; nothing is deleted", dim=True)
    else:
        env.err(_unspoken(found, before))


def _prune(path: str, before: int, old: int, *, yes: bool, json: bool) -> int:
    """How many are gone."""
    from holychat.store import conversations

    if not _sure(f"delete {'it' if old == 1 else 'them'}?", yes=yes):
        return 0
    with opened(path) as db:
        removed = conversations.prune(db, before)
    if not json:
        env.err(f"· {count(removed)} deleted", dim=True)
    return removed


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


# --- A copy of all of it ------------------------------------------------------------------------


def backup(settings: Settings, path: str, *, json: bool) -> Exit:
    """Copy the store to a file that is not there yet."""
    target = os.path.abspath(os.path.expanduser(path))
    with opened(place(settings)) as db:
        _check_target(path, target)
        db.backup(target)
    size = os.path.getsize(target)
    if json:
        data({"path": target, "bytes": size})
    else:
        env.err(f"· {size / 1e6:,.1f} MB in {target}", dim=True)
    return Exit.OK


def _check_target(path: str, target: str) -> None:
    """Raises UsageError where nothing can be written: that is no trouble of the store's."""
    if os.path.lexists(target):
        raise there(path)
    folder = os.path.dirname(target)
    try:
        os.stat(os.path.join(folder, ""))  # with a slash: it must be a folder
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
