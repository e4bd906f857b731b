"""Settings made real: the client with its timers, what was learned, the choice of a model.

Owns the way from a name that the user typed to a provider and a model. Every front opens one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

from holychat import env
from holychat.core.breaker import Policy
from holychat.core.choose import match, nearest
from holychat.core.failure import Failure, HolychatError, Kind, UsageError, keyless
from holychat.core.pacing import Limits
from holychat.core.provider import DEMO, Provider
from holychat.core.route import Rules
from holychat.engine.choice import bare, chosen, missing_key, pins, substitutes
from holychat.engine.context import Fitting
from holychat.engine.conversation import Chat
from holychat.engine.failover import Candidate
from holychat.engine.health import Board
from holychat.engine.place import store_path
from holychat.engine.scale import Scale
from holychat.engine.shadow import Shadow
from holychat.engine.split import Split
from holychat.net.client import Client, Timers
from holychat.prices import Prices
from holychat.store.learned import Learned
from holychat.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from holychat.core.chat import Request, Turn, Usage
    from holychat.core.health import Standing
    from holychat.core.history import Conversation
    from holychat.engine.purse import Purse
    from holychat.settings import Settings

C = TypeVar("C", bound=Chat)
LISTING = 5.0  # seconds that a name is worth waiting for its provider's list
LIMITED = ("answer", "conversation", "day", "month")
STALE = 24 * 3600.0  # seconds after which a cached model list is fetched again


class Session:
    """One run of the program: its settings and its client."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], silence: float | None = None
    ) -> None:
        self.settings = settings
        self._bare = cache(partial(bare, settings))
        self.learned = Learned(env.home(environ, "cache"), self._bare)
        self.prices = Prices(settings.prices, settings.rates)
        timers = Timers(
            connect=settings["timeouts.connect"],
            headers=silence or settings["timeouts.headers"],
            first=silence or settings["timeouts.first"],
            gap=silence or settings["timeouts.gap"],
        )
        self.client = Client(timers, self.learned.quirks)
        self.recorder = Recorder(store_path(settings, environ), ours=not settings["store"])
        self.scale = Scale(self.recorder)
        self.purse = self._limited(settings)
        self.split = Split(settings, self.recorder)
        self.board = Board(self.recorder, self._policy(), self._limits, rates=self.client.rates)
        self.shadow = Shadow(self.split, self.client, self.board, self.recorder, self.choose)

    def _price(self, name: str, model: str, usage: Usage) -> int | None:
        return self.prices.cost(self._bare(name), model, usage, time.time())

    def _policy(self) -> Policy:
        names = ("window", "errors", "calls", "row", "slow", "cooldown", "longest")
        return Policy(**{name: self.settings[f"breaker.{name}"] for name in names})

    def _limits(self, name: str) -> Limits:
        fields = ("requests_per_minute", "tokens_per_minute", "streams")
        return Limits(*(self.settings[f"providers.{name}.{field}"] for field in fields))

    async def standings(self, names: Sequence[str]) -> dict[str, Standing]:
        """How these providers do, by what all holychats here met."""
        return await self.board.standings([self._bare(name) for name in names])

    async def shares(self) -> dict[str, float]:
        """Which part of the conversations goes to whom, in per cent; empty without a split."""
        return await self.split.shares()

    async def aclose(self) -> None:
        await self.shadow.wait(0)
        await self.client.aclose()
        await asyncio.to_thread(self.recorder.close)

    def chat(self, provider: Provider, model: str, *, pinned: bool = False) -> Chat:
        """A new conversation with a provider, by the settings; `pinned`: with nobody else."""
        return self.chat_of(Chat, self.recorder, provider, model, pinned=pinned)

    def chat_of(
        self,
        kind: type[C],
        recorder: Recorder,
        provider: Provider,
        model: str,
        *,
        pinned: bool = False,
    ) -> C:
        """The same of another kind, kept by another recorder."""
        settings = self.settings
        chat = kind(
            self.client,
            provider,
            model,
            settings["system"],
            dict(settings.params),
            pinned=pinned,
            recorder=recorder,
            board=self.board,
            others=lambda first: substitutes(settings, first, self.split.near(first)),
            rules=Rules(
                settings["on_cut"],
                settings["failover.attempts"],
                settings["failover.most"],
                settings["failover.wait"],
            ),
        )
        chat.hedged = settings["failover.hedge"]
        chat.resolve = lambda name: self._substitute(name, chat.model)
        chat.place = lambda: self.split.place(chat, self.choose, self._known)
        chat.hear = lambda: self.scale.load(chat.provider.name, chat.model)
        chat.price = self._price
        chat.purse = self.purse
        chat.ratios = self.scale.of
        chat.fitting = self._fitting()
        chat.ended = lambda request, turn: self._ended(chat, request, turn)
        return chat

    def _limited(self, settings: Settings) -> Purse | None:
        """What may be used; None where nothing limits it."""
        if not any(settings[f"limits.{name}"] for name in LIMITED):
            return None
        from holychat.engine.purse import Purse, limits_of  # for this case only

        found = limits_of(settings, self.prices.exchange)
        return Purse(found, self.recorder, settings.cash, settings["limits.hold"])

    def _ended(self, chat: Chat, request: Request, turn: Turn) -> None:
        self.scale.learn(request, turn)
        self.shadow.copy(chat, request, turn)

    def _fitting(self) -> Fitting:
        """How a conversation is fitted into a window: by the settings, and what was learned."""
        settings, cheap = self.settings, self.settings["context.model"]

        def sizes(provider: Provider, model: str) -> tuple[int | None, int | None]:
            rate = self.prices.rate(provider, model, time.time())
            return (rate.window, rate.max_output) if rate else (None, None)

        async def summariser(_: Chat) -> Candidate:
            return Candidate(*await self.choose(cheap))

        return Fitting(
            settings["context.policy"],
            settings["context.reserve"],
            sizes,
            self.learned.contexts,
            summariser if cheap else None,
        )

    def pins(self, wanted: str, pinned: str) -> bool:
        """Whether a wish names the provider itself."""
        return pins(self.settings, self.learned.models, wanted, pinned)

    async def _substitute(self, name: str, model: str) -> Candidate:
        """A provider that stands in for another: with the same model where it is known to have
        it, else with its own. Raises HolychatError."""
        provider = await asyncio.to_thread(self.settings.provider, name)  # its key may be a command
        if model not in self.learned.models(name):
            model = provider.model or await self._first_model(provider)
        return Candidate(provider, model)

    async def stored(self, query: Callable[..., Any], *values: Any) -> Any:
        """A query of the store, in the order of what is written. Raises HolychatError."""
        if self.recorder.path is None:
            raise UsageError("conversations are not kept here: --no-store, or the store is none")
        return await asyncio.wrap_future(self.recorder.ask(lambda db: query(db, *values)))

    async def resumed(self, name: str = "", wanted: str = "", pinned: str = "") -> Chat:
        """A kept conversation, by default the last one, to go on with. Raises HolychatError.

        With the model that it had, if that can still be had and no other one is wanted.
        """
        from holychat.store.conversations import branch, find, get, latest
        from holychat.store.side import beside
        from holychat.store.tally import used
        from holychat.store.turns import bury_in

        found: Conversation = await self.stored(find, name) if name else await self.stored(latest)
        if await self.stored(bury_in, found.id):
            self.recorder.warnings.append(
                "its last answer broke off when a holychat ended; what came of it is kept"
            )
            found = await self.stored(get, found.id)
        path = await self.stored(branch, found)
        try:
            asked = (wanted, pinned) if wanted or pinned else (found.model, found.provider)
            provider, model = await self.choose(*asked)
        except HolychatError as error:
            if wanted or pinned:
                raise
            provider, model = await self.choose()
            self.recorder.warnings.append(
                f"{found.model} on {found.provider} cannot be had now ({error.what}): going on"
                f" with {model} on {provider.name}"
            )
        chat = self.chat(provider, model, pinned=self.pins(wanted, pinned))
        chat.enter(found, path, *await self.stored(beside, found.id, path))
        chat.used = (await self.stored(used, found.id)) or chat.used
        await self.scale.load(provider.name, model)
        return chat

    async def entitle(self, chat: Chat) -> None:
        """A title by the model for a conversation that has just begun, if that is wanted."""
        if (
            self.settings["title"] != "model"
            or len(chat.exchanges) != 1
            or chat.provider.name == DEMO
        ):
            return
        from holychat.engine.titles import made
        from holychat.store.conversations import entitle

        conversation, before = self.recorder.conversation, chat.title
        title = await made(chat)
        if title and conversation == self.recorder.conversation and chat.title == before:
            chat.title = title
            with suppress(HolychatError):  # it is no trouble of its own
                await self.stored(entitle, conversation, title)

    async def choose(self, wanted: str = "", pinned: str = "") -> tuple[Provider, str]:
        """The provider and model that `-m wanted -p pinned` mean; empty strings mean not said.

        Raises SettingsError where the key is missing, UsageError where the name is ambiguous,
        Failure where a server has to be asked for its models and does not answer.
        """
        settings = self.settings
        name, model = chosen(settings, self.learned.models, wanted, pinned)
        if not settings.has_key(name):
            raise missing_key(settings, name)
        provider = settings.provider(name)
        # Only what somebody wrote is completed: a default is an id already.
        if model and model != provider.model:
            model = match(model, await self._known(provider))
        model = model or provider.model
        return provider, model or await self._first_model(provider)

    async def _known(self, provider: Provider) -> list[str]:
        """The ids to complete a name with; a server that was never asked is asked once."""
        if self.learned.models_age(provider.name, time.time()) is None:
            try:
                async with asyncio.timeout(LISTING):
                    return await self.models(provider)
            except (Failure, TimeoutError):
                return []  # the name goes out as it is
        return self.learned.models(provider.name)

    async def models(self, provider: Provider, refresh: bool = False) -> list[str]:
        """The provider's model ids, from the cache while it is fresh. Raises Failure."""
        age = self.learned.models_age(provider.name, time.time())
        if not refresh and age is not None and age < STALE:
            return self.learned.models(provider.name)
        try:
            ids = await self.client.models(provider)
        except Failure as failure:
            keyless(failure, provider)
            raise
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
