"""Settings made real: the client with its timers, what was learned, the choice of a model.

Owns the way from a name that the user typed to a provider and a model. Every front opens one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.choose import match, nearest, split
from holychat.core.failure import Failure, Kind, SettingsError, key_variable
from holychat.core.provider import DEMO
from holychat.engine.conversation import Chat
from holychat.net.client import Client, Timers
from holychat.store.learned import Learned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.core.provider import Provider
    from holychat.settings import Settings

STALE = 24 * 3600.0  # seconds after which a cached model list is fetched again


class Session:
    """One run of the program: its settings and its client."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], silence: float | None = None
    ) -> None:
        self.settings = settings
        self.learned = Learned(env.home(environ, "cache"), settings.provider)
        timers = Timers(
            connect=settings["timeouts.connect"],
            headers=silence or settings["timeouts.headers"],
            first=silence or settings["timeouts.first"],
            gap=silence or settings["timeouts.gap"],
        )
        self.client = Client(timers, self.learned.quirks)

    async def aclose(self) -> None:
        await self.client.aclose()

    def chat(self, provider: Provider, model: str) -> Chat:
        """A new conversation with a provider, by the settings."""
        settings = self.settings
        return Chat(self.client, provider, model, settings["system"], dict(settings.params))

    async def choose(self, wanted: str = "", pinned: str = "") -> tuple[Provider, str]:
        """The provider and model that `-m wanted -p pinned` mean; empty strings mean not said.

        Raises SettingsError where the key is missing, UsageError where the name is ambiguous,
        Failure where a server has to be asked for its models and does not answer.
        """
        settings = self.settings
        named, model = split(wanted, settings.names(), settings.aliases, bool(pinned))
        name = pinned or named or settings.active()
        if not settings.has_key(name):
            raise missing_key(settings, name)
        provider = settings.provider(name)
        if not wanted and (not pinned or pinned == settings.active()):
            model = settings["model"]
            # A configured model may name its provider too, but not against a pinned one.
            inner, rest = split(model, settings.names(), settings.aliases, bool(pinned))
            if inner and inner != name:
                return await self.choose(model)
            model = rest
        model = match(model or provider.model, self.learned.models(name))
        return provider, model or await self._first_model(provider)

    async def models(self, provider: Provider, refresh: bool = False) -> list[str]:
        """The provider's model ids, from the cache while it is fresh. Raises Failure."""
        age = self.learned.models_age(provider.name, time.time())
        if not refresh and age is not None and age < STALE:
            return self.learned.models(provider.name)
        ids = await self.client.models(provider)
        self.learned.remember_models(provider.name, ids, time.time())
        return ids

    async def _first_model(self, provider: Provider) -> str:
        ids = await self.models(provider, refresh=True)
        if not ids:
            raise Failure(Kind.MODEL, f"{provider.name} lists no model", "Load one, or use -m.")
        return ids[0]

    def explain(self, failure: Failure, provider: str, model: str) -> str:
        """The hint of a failure, with the nearest ids where the model is unknown."""
        if failure.kind is Kind.MODEL:
            near = nearest(model, self.learned.models(provider))
            if near:
                return f"Did you mean {' or '.join(near)}? {failure.hint}"
        return failure.hint


def missing_key(settings: Settings, name: str) -> SettingsError:
    """The error of a provider without its key: what to do, also without one."""
    settings.provider(name)  # an unknown name says so, and which are known
    return SettingsError(
        f"there is no key for {name}",
        f"Set {key_variable(name)}, or run `holychat setup`. "
        f"`holychat demo` shows the program without one (-p {DEMO}).",
    )
