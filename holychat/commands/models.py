"""`holychat models`: what a provider lists, what of it fits a search, and which is the default.

Owns the search and the looks of the list. In a pipe it is one bare id a line, for fzf and grep;
everything else goes to stderr.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.choose import nearest
from holychat.core.failure import Failure
from holychat.core.sanitize import one_line
from holychat.engine.about import default_model
from holychat.engine.choice import missing_key
from holychat.engine.session import STALE, Session
from holychat.exits import Exit, of_failure
from holychat.net.probe import NO_LIST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.settings import Settings


def run(settings: Settings, name: str, search: str, *, refresh: bool, json: bool) -> Exit:
    """Print the models of the provider called `name` ("" for the active one) that fit `search`.

    Raises SettingsError where it is unknown, disabled or lacks its key.
    """
    for notice in settings.notices:
        env.err(f"holychat: {notice}", dim=True)
    name = settings.canonical(name or settings.active())
    if not settings.has_key(name):
        raise missing_key(settings, name)
    try:
        with asyncio.Runner() as runner:
            ids, age = runner.run(_fetch(settings, name, refresh))
    except Failure as failure:
        if failure.status in NO_LIST:
            return _without_list(settings, name, json)
        env.err(f"holychat: {failure.what}")
        if failure.hint:
            env.err(f"  {failure.hint}")
        return of_failure(failure)
    default = default_model(settings, name, ids)
    hits, near = fitting(search, ids)
    _show(name, hits, default, json)
    return _tell(name, len(ids), search, hits, near, default, age)


async def _fetch(settings: Settings, name: str, refresh: bool) -> tuple[list[str], float | None]:
    """The ids, and how old they are in seconds; None where they were fetched just now."""
    session = Session(settings, os.environ)
    try:
        age = session.learned.models_age(name, time.time())
        if refresh or (age is not None and age >= STALE):
            age = None
        return await session.models(settings.provider(name), refresh), age
    finally:
        await session.aclose()


def fitting(search: str, ids: Sequence[str]) -> tuple[list[str], bool]:
    """The ids that fit, and whether they only come near: every word of `search` is in them; else
    its letters are, in their order; else they look alike."""
    words = search.lower().split()
    hits = [item for item in ids if all(word in item.lower() for word in words)]
    if hits or not words:
        return hits, False
    letters = "".join(words)
    hits = [item for item in ids if _in_order(letters, item.lower())]
    return hits or nearest(search, ids, 5), True


def _in_order(letters: str, text: str) -> bool:
    rest = iter(text)
    return all(letter in rest for letter in letters)


def _show(name: str, hits: Sequence[str], default: str, json: bool) -> None:
    if json:
        from json import dumps

        rows = [{"provider": name, "id": item, "default": item == default} for item in hits]
        env.out(dumps(rows, ensure_ascii=False, indent=2))
        return
    marks = env.is_terminal(env.STDOUT)
    lines = [one_line(item, 500) for item in hits]
    if marks:
        lines = [f"{'*' if item == default else ' '} {item}" for item in lines]
    if lines:
        env.out("\n".join(lines))


def _tell(
    name: str,
    total: int,
    search: str,
    hits: Sequence[str],
    near: bool,
    default: str,
    age: float | None,
) -> Exit:
    """The line about the list on stderr."""
    if not hits:
        what = f"has no model like “{one_line(search, 60)}”" if total else "lists no model"
        hint = f"`holychat models -p {name}` lists all {total}." if total else "Load one first."
        env.err(f"holychat: {name} {what}")
        env.err(f"  {hint}")
        return Exit.USAGE if total else Exit.OK
    count = f"{len(hits)} of {total}" if len(hits) < total else str(total)
    if near:
        env.err(f"· no name holds “{one_line(search, 40)}”; these come near", dim=True)
    parts = [
        f"{count} on {name}",
        f"default {default}" if default else "",
        f"listed {ago(age)} (--refresh asks again)" if age is not None else "",
    ]
    env.err("· " + " · ".join(filter(None, parts)), dim=True)
    return Exit.OK


def _without_list(settings: Settings, name: str, json: bool) -> Exit:
    default = default_model(settings, name)
    env.err(f"· {name} keeps no list of models; -m takes any name", dim=True)
    _show(name, [default] if default else [], default, json)
    return Exit.OK


def ago(seconds: float) -> str:
    """`just now`, `5 min ago`, `3 h ago`."""
    if seconds < 60:
        return "just now"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"
