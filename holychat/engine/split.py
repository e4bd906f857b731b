"""Whose a conversation is: the split of the traffic, and the migration that may be going on.

Owns the way from weights to a provider, before each turn: by a hash of the conversation's id, so
that it holds across processes and a rollback holds from the next prompt on. Whatever the user said
by hand comes first, and so does ACTIVE_PROVIDER. Must not know the stages: `core.migrate` does.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from holychat.core.failure import HolychatError, StoreTrouble
from holychat.core.provider import DEMO
from holychat.core.route import share
from holychat.engine.choice import by_hand, chosen, terms_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from holychat.core.migrate import Migration
    from holychat.core.provider import Provider
    from holychat.engine.conversation import Chat
    from holychat.settings import Settings
    from holychat.store.db import Database
    from holychat.store.recorder import Recorder

    Choose = Callable[[str, str], Awaitable[tuple[Provider, str]]]
    Known = Callable[[Provider], Awaitable[Sequence[str]]]

BY_HAND = "*"  # no provider's name
LASTS = 0.5  # seconds that it is believed that there is none: a relay has many turns in them
PATIENCE = 0.5  # seconds that a prompt waits to hear of a migration; without it the settings hold


class Split:
    """The placing of one session's conversations."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings = settings
        self._recorder = recorder
        self._weights: dict[str, float] = {}
        self._told: set[str] = set()  # said once a session
        self._why = ""  # these weights
        self._migration: Migration | None = None
        self._none_until = 0.0  # there was none a moment ago

    def near(self, first: str) -> list[str]:
        """Who else has a part in the split: the first to stand in for `first`."""
        return [name for name in self._weights if name != first] if first in self._weights else []

    def copied(self, chat: Chat, answered: str) -> Migration | None:
        """The migration of which a conversation's prompts may be copied; None where there is none,
        or the user wants nobody else to be asked."""
        state = self._migration
        nobody = chat.pinned or self._settings["failover.providers"].strip().lower() == "none"
        if state is None or nobody or state.stage != "shadow" or answered != state.old:
            return None
        return state

    async def shares(self) -> dict[str, float]:
        """Which part of the conversations goes to whom, in per cent; empty without a split."""
        await self._learn(judge=False)
        total = sum(self._weights.values())
        return {name: 100 * weight / total for name, weight in self._weights.items() if total}

    async def place(self, chat: Chat, choose: Choose, known: Known) -> list[str]:
        """Give a conversation to its provider; returns what is to be said of it."""
        said = await self._learn(judge=True)
        if chat.provider.name == DEMO or not self._weights:
            return said
        if chat.pinned:
            chat.placed = BY_HAND
            self._remember(chat.id, by_hand=True)
            return said
        if chat.placed and chat.placed == chat.provider.name:
            pass  # by the split, before: it may be another's now
        elif chat.exchanges and await self._stays(chat):
            return said
        name = share(self._weights, chat.id)
        if name and name != chat.provider.name:
            said += await self._move(chat, name, choose, known)
        chat.placed = chat.provider.name
        return said

    async def _stays(self, chat: Chat) -> bool:
        """Whether a conversation that was begun before stays where it is: the user took it there,
        or it was never part of the split."""
        if chat.placed:  # and was changed since, and is not pinned any more
            self._remember(chat.id, by_hand=False)
            return False
        if chat.provider.name not in self._weights:
            return True
        return bool(await self._asked(lambda db: _store().switched(db, chat.id)))

    async def _move(self, chat: Chat, name: str, choose: Choose, known: Known) -> list[str]:
        """To another provider, where that can be: with its own model, or the one that was chosen
        if it has that."""
        try:
            provider, model = await choose("", name)
            if not self._usual(chat):
                if chat.model not in await known(provider):
                    return self._once(
                        f"{name} is not known to have {chat.model}: {chat.provider.name} answers"
                    )
                model = chat.model
        except HolychatError as error:
            return self._once(
                f"{name} cannot be asked ({error.what}): {chat.provider.name} answers"
            )
        chat.provider, chat.model = provider, model
        if not chat.exchanges:
            return []
        return [f"{name} answers from here on, {self._why}"]

    def _usual(self, chat: Chat) -> bool:
        """Whether the model is what the settings mean for that provider."""
        _, model = chosen(self._settings, lambda _: (), "", chat.provider.name)
        usual = model or chat.provider.model
        return not usual or chat.model == usual

    def _once(self, text: str) -> list[str]:
        if text in self._told:
            return []
        self._told.add(text)
        return [text]

    # --- What holds now -----------------------------------------------------------------------

    async def _learn(self, *, judge: bool) -> list[str]:
        """Find the weights that hold; with `judge`, whether the migration does well too. Returns
        what is to be said of that."""
        if by_hand(self._settings):
            self._weights, self._migration = {}, None
            return []
        found: tuple[Migration | None, str] | None = None
        if time.monotonic() >= self._none_until:
            found = await self._asked(lambda db: _looked(db, self._settings, judge=judge))
        # From here on without a wait: another turn may look at the weights at any time.
        self._migration, why = found or (None, "")
        if found is not None and self._migration is None and not why:
            self._none_until = time.monotonic() + LASTS
        self._weights, self._why = self._settings.split, "by the split"
        if self._migration is not None:
            self._migrate(self._migration)
        return [why] if why else []

    def _migrate(self, state: Migration) -> None:
        """What a migration says comes before the split of the settings."""
        from holychat.core import migrate

        if weights := migrate.weights(state, self._settings.written):
            self._weights = self._left(weights)
            self._why = "by the migration"

    def _left(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Of a migration's two those that can be asked; all goes to one where the other is off."""
        names, settings = self._settings.names(), self._settings
        left = {n: w for n, w in weights.items() if n in names and settings.has_key(n)}
        return left if any(left.values()) else dict.fromkeys(left, 1.0)

    # --- The store ----------------------------------------------------------------------------

    async def _asked(self, what: Callable[[Database], Any]) -> Any:
        """Something of the store; None where there is none, or not in time."""
        if self._recorder.path is None or not self._recorder.keeping:
            return None
        asked = asyncio.wrap_future(self._recorder.ask(what))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({asked}, timeout=PATIENCE)
        return None if not asked.done() or asked.exception() else asked.result()

    def _remember(self, conversation: str, *, by_hand: bool) -> None:
        """Nobody waits for it."""
        if self._recorder.path is not None and self._recorder.keeping:
            self._recorder.ask(lambda db: _store().switch(db, conversation, by_hand=by_hand))


def _store() -> Any:
    """Loaded where there is a split: an `ask` without one need not know of it."""
    from holychat.store import migration

    return migration


def _looked(db: Database, settings: Settings, *, judge: bool) -> tuple[Migration | None, str]:
    """The migration, and why it was rolled back at this moment."""
    from holychat.store.facts import get

    if get(db, "migration") is None:
        return None, ""
    store = _store()
    if not judge:
        return store.load(db), ""
    try:
        state, why = store.look(db, terms_of(settings), settings.written)
    except StoreTrouble:  # it cannot be written
        return store.load(db), ""
    if why:
        why = f"migration rolled back: {why}"
    return state, why
