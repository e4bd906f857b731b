"""`holychat migrate`: the staged move from one provider to another.

Owns the way from a command to one step of `core.migrate`, taken in the store within one
transaction, and what is asked before a step that costs. Must not judge: the gates are the core's.

lines   how a migration looks on the screen
report  how it looks as a document
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.commands.migrate import lines, report
from holychat.core import migrate as rules
from holychat.core.failure import SettingsError, UsageError
from holychat.core.provider import DEMO
from holychat.engine.about import default_model
from holychat.engine.choice import bare, missing_key, terms_of
from holychat.engine.place import store_path
from holychat.exits import Exit
from holychat.settings import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holychat.core.migrate import Compared, Migration
    from holychat.settings import Settings
    from holychat.store.db import Database
    from holychat.store.migration import Usage

    Step = Callable[[Migration, Compared, int], Migration]


# --- The commands ---------------------------------------------------------------------------------


def start(settings: Settings, old: str, new: str, shadow: float, *, yes: bool) -> Exit:
    """Begin with the assessment: nothing is sent elsewhere yet."""
    from holychat.store import migration as store
    from holychat.store.ids import now

    old, new = (_usable(settings, name) for name in (old, new))
    state = rules.started(old, new, shadow, now())
    with _opened(settings, create=True) as db:
        used = store.usage(db, old, now())
        env.out("\n".join(lines.usage(old, used)))
        if shadow and not _agreed(lines.price(state, used, _daily(settings, state, used)), yes=yes):
            env.err("· nothing is begun", dim=True)
            return Exit.OK
        store.begin(db, state)
    env.out(f"\nStarted: from {old} to {new}. Nothing goes to {new} yet.")
    env.out(lines.onward(state))
    for line in _beside(settings, old):
        env.err(f"· {line}", dim=True)
    return Exit.OK


def _daily(settings: Settings, state: Migration, used: Usage) -> str:
    """What a day of copies costs at the new provider, in money; "" where nobody knows."""
    from holychat.core import chat
    from holychat.prices import Prices

    if not used.requests:
        return ""
    prices = Prices(settings.prices, settings.rates)
    mean = chat.Usage(used.prompt // used.requests, used.completion // used.requests)
    model = default_model(settings, state.new)
    each = prices.cost(bare(settings, state.new), model, mean, time.time())
    if each is None:
        return ""
    daily = round(each * used.requests / used.days * state.shadow)
    return settings.cash(daily)


def status(settings: Settings, *, json: bool) -> Exit:
    """Where it stands: figures, and what is missing."""
    from holychat.store import migration as store
    from holychat.store.ids import now

    with _opened(settings) as db:
        state = store.load(db)
        if state is None:
            return _none(json=json)
        compared = _compared(db, state, settings)
        why = rules.missing(state, compared, terms_of(settings), now())
        if json:
            _data(_as_data(state, compared, why))
            return Exit.OK
        shown = lines.status(state, compared, why, now())
        if state.stage == rules.ASSESS:
            shown += ["", *lines.usage(state.old, store.usage(db, state.old, now()))]
    env.out("\n".join(shown))
    return Exit.OK


def forward(settings: Settings, *, force: bool) -> Exit:
    """The next stage, if the gate is passed."""
    terms = terms_of(settings)

    def step(state: Migration, compared: Compared, at: int) -> Migration:
        if state.stage == rules.FULL:
            raise UsageError(
                "100 % is the last stage", "`holychat migrate finish` ends the migration."
            )
        return rules.advanced(state, compared, terms, at, said=settings.written, force=force)

    return _step(settings, step)


def finish(settings: Settings, *, force: bool) -> Exit:
    """The end of the last stage."""
    terms = terms_of(settings)

    def step(state: Migration, compared: Compared, at: int) -> Migration:
        if state.running and state.stage != rules.FULL:
            raise UsageError(
                f"{state.new} has {state.percent:g} %, not all of it",
                "`holychat migrate next` goes on, `holychat migrate rollback` ends it.",
            )
        return rules.advanced(state, compared, terms, at, said=settings.written, force=force)

    return _step(settings, step)


def rollback(settings: Settings, why: str) -> Exit:
    """Nothing goes to the new one, from the next prompt of any holychat on."""

    def step(state: Migration, compared: Compared, at: int) -> Migration:
        return rules.rolled_back(state, why, compared, at, said=settings.written)

    return _step(settings, step)


def write(settings: Settings, file: str) -> Exit:
    """The report, in a new file; - is stdout."""
    from holychat.store import migration as store
    from holychat.store.ids import now

    with _opened(settings) as db:
        state = store.load(db)
        if state is None:
            raise _nothing()
        compared = _compared(db, state, settings)
        why = rules.missing(state, compared, terms_of(settings), now())
        used = store.usage(db, state.old, now())
    text = report.document(state, compared, why, used, now())
    if file == "-":
        env.write(text.encode("utf-8", "replace"))
        return Exit.OK
    try:
        with open(file, "x", encoding="utf-8") as made:
            made.write(text)
    except FileExistsError as error:
        raise UsageError(f"{file} is there already", "Nothing was written.") from error
    env.err(f"· {file} is written", dim=True)
    return Exit.OK


# --- One step -------------------------------------------------------------------------------------


def _step(settings: Settings, step: Step) -> Exit:
    """Look, judge and move within one transaction; then say where it stands."""
    from holychat.store import migration as store
    from holychat.store.ids import now

    with _opened(settings) as db:
        seen = store.load(db)
        if seen is None:
            raise _nothing()
        before, after = store.change(
            db,
            seen.revision,
            lambda state: step(state, _compared(db, state, settings), now()),
        )
    for line in lines.moved(before, after):
        env.out(line)
    for line in _beside(settings, after.old if after.running else ""):
        env.err(f"· {line}", dim=True)
    return Exit.OK


def _compared(db: Database, state: Migration, settings: Settings) -> Compared:
    """The figures of the stage; of one that ended, those that it ended with."""
    from holychat.store import migration as store

    if not state.running:
        return state.entries[-1].compared
    return store.compare(db, state, terms_of(settings))


# --- What is needed, and what is asked ------------------------------------------------------------


@contextmanager
def _opened(settings: Settings, *, create: bool = False) -> Iterator[Database]:
    """The store. Raises SettingsError where there is none."""
    path = store_path(settings, os.environ)
    if path is None:
        source = settings.value("store").source
        raise SettingsError(
            f"a migration needs the store, and it is none ({source})",
            "Its figures and its stage are kept there, for all holychats.",
        )
    from holychat.store.db import Database

    if not create and not os.path.exists(path):
        raise _nothing()
    db = Database(path, create=create, ours=not settings["store"])
    try:
        yield db
    finally:
        db.close()


def _nothing() -> UsageError:
    return UsageError(
        "there is no migration", "`holychat migrate start --from A --to B` begins one."
    )


def _usable(settings: Settings, name: str) -> str:
    """A provider that can be asked. Raises SettingsError, UsageError for the demo."""
    name = settings.canonical(name)
    if name == DEMO:
        raise UsageError("the demo is a script: nothing can be moved to it or from it")
    if name not in settings.names() or not settings.has_key(name):
        raise missing_key(settings, name)
    return name


def _beside(settings: Settings, old: str) -> Iterator[str]:
    """Where the settings lead another way than the migration; `old` empty: it has ended."""
    said = settings.value("provider")
    if said.source.layer > Layer.CONFIG:
        yield f"{said.source} says {said.value}, which comes before the migration"
    elif old and settings.active() != old and old not in settings.split:
        yield f"{settings.active()} is asked by the settings, and not {old}"
        yield "from 10 % on, every new conversation is the migration's"


def _agreed(question: str, *, yes: bool) -> bool:
    """Whether the copies may be sent. Raises UsageError where nobody can be asked."""
    env.err(question)
    if yes:
        return True
    if not env.is_terminal(env.STDIN):
        raise UsageError("nobody can be asked here, so nothing is begun", "--yes does not ask.")
    try:
        return env.ask("Begin with the shadow? [y/N] ").lower() in ("y", "yes")
    except EOFError:
        env.err()
        return False


# --- As data --------------------------------------------------------------------------------------


def _none(*, json: bool) -> Exit:
    if json:
        _data(None)
    else:
        env.err("· there is no migration; `holychat migrate start --from A --to B`", dim=True)
    return Exit.OK


def _data(value: Any) -> None:
    from json import dumps

    env.out(dumps(value, ensure_ascii=False, indent=2))


def _as_data(state: Migration, compared: Compared, why: list[str]) -> dict[str, Any]:
    """Times are Unix time in milliseconds, other times seconds; null is not known."""
    from dataclasses import asdict

    found = asdict(compared)
    return {
        "from": state.old,
        "to": state.new,
        "stage": state.stage,
        "percent": state.percent,
        "since": state.since,
        "shadow": state.shadow,
        "next": state.following,
        "passed": state.running and not why,
        "missing": why,
        "figures": {"from": found["old"], "to": found["new"], "earlier": found["earlier"]},
        "likeness": {"count": state.likeness.count, "mean": state.likeness.mean},
        "entries": [asdict(entry) for entry in state.entries],
    }
