"""Conversations as documents: the form, the parts, and the file that they go to.

Owns the way from the store to a file, for every front that exports. What the forms look like is
`core`'s and `screen`'s.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from holychat import env
from holychat.core import formats
from holychat.core.failure import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holychat.core.formats import Whole
    from holychat.core.history import Conversation
    from holychat.store.db import Database

FORMS = {"md": "Markdown", "json": "JSON", "html": "HTML"}
_ENDINGS = {
    "": "md", ".md": "md", ".markdown": "md", ".txt": "md",
    ".json": "json", ".html": "html", ".htm": "html",
}  # fmt: skip


def save(db: Database, listed: list[Conversation], out: str, form: str = "") -> None:
    """Write conversations to a new file; its ending tells an empty form. Raises HolychatError."""
    to_file(out, parts(db, listed, form_of(form, out)))


def form_of(form: str, out: str) -> str:
    """The wanted form, else by the file's ending; Markdown where it has none. Raises UsageError:
    a mistyped ending must not become a file that nobody looks for."""
    wanted = {"markdown": "md"}.get(form, form)
    wanted = wanted or _ENDINGS.get(os.path.splitext(out)[1].lower(), "")
    if not wanted:
        raise UsageError(
            f"{os.path.basename(out)} does not tell its form",
            "It ends in .md, .txt, .html or .json; `history export --format` takes any name.",
        )
    if wanted not in FORMS:
        raise UsageError(f"{form} is no form of an export", f"There are: {', '.join(FORMS)}.")
    return wanted


def parts(db: Database, listed: list[Conversation], form: str) -> Iterator[str]:
    """The document, one part at a time: of many conversations, one is in memory."""
    wholes = _dumped(db, listed)
    if form == "json":
        return formats.document(wholes)
    if form == "html":
        from holychat.screen.html import page

        return page(listed, wholes, _date)
    from holychat.core.markdown import markdown
    from holychat.screen.words import ending

    return markdown(wholes, _date, ending)


def _dumped(db: Database, listed: list[Conversation]) -> Iterator[Whole]:
    from holychat.store.transfer import dump

    for each in listed:
        try:
            whole = dump(db, each.id)
        except UsageError:  # another holychat removed it meanwhile
            continue
        yield whole


def to_file(path: str, parts: Iterable[str]) -> None:
    """A new file that others may not read; none is left where it cannot be finished."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise there(path) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with open(descriptor, "wb") as file:
            file.writelines(part.encode("utf-8", "replace") for part in parts)
    except BaseException as error:
        os.unlink(path)
        if isinstance(error, OSError):
            raise env.OutputFailed(f"{path}: {error.strerror}") from error
        raise


def there(path: str) -> UsageError:
    """No file is ever overwritten."""
    return UsageError(f"{path} is there already", "Nothing was written; name another file.")


def _date(at: int) -> str:
    """Unix time in milliseconds as local date and time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(at / 1000)) if at else ""
    except (OverflowError, ValueError, OSError):
        return ""
