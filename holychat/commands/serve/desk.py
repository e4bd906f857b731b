"""What all requests of one relay share: the session, the choice of models, who is being served.

Owns the count of streams and its bound, the way from a `model` field to a provider, and the end of
everything when the relay stops. Must not know how a request came in.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat import env
from holychat.commands.serve.errors import KEYLESS, LIMITED, Refused, refused
from holychat.core.choose import match, nearest
from holychat.core.failure import Failure, HolychatError, Kind, SettingsError, key_variable
from holychat.core.provider import DEMO
from holychat.engine.choice import by_hand, chosen, substitutes
from holychat.engine.relay import Relayed, Threads
from holychat.screen.words import price

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from holychat.commands.serve.status import Status
    from holychat.core.chat import Turn, Usage
    from holychat.core.health import Standing
    from holychat.core.provider import Provider
    from holychat.engine.conversation import Chat
    from holychat.engine.relay import Given
    from holychat.engine.session import Session

AUTO = "auto"
FRESH = 30.0  # seconds for which a choice holds: its key may be a command to run
CHOICES = 256
LISTING = 5.0  # seconds that a provider has to list its models
UNLISTED = 60.0  # seconds for which one that did not is not asked again
STORE = "x-holychat-store"  # the header
KEPT = 0.5  # seconds that the end of an answer waits to be in the store
LONGEST = 300  # characters of a model's name


class Choice(NamedTuple):
    """Who is asked; `pinned`: and nobody else."""

    provider: Provider
    model: str
    pinned: bool


class Cut(asyncio.Event):
    """Set when all that runs has to end. Who has to may wait for it, or be told."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[Callable[[], None]] = set()

    @contextmanager
    def telling(self, end: Callable[[], None]) -> Iterator[None]:
        """While this lasts, `end` is called when it is set; at once where it is already."""
        self._told.add(end)
        try:
            if self.is_set():
                end()
            yield
        finally:
            self._told.discard(end)

    def set(self) -> None:
        super().set()
        for end in [*self._told]:
            end()


class Desk:
    """One process of the relay."""

    def __init__(self, session: Session, status: Status, most: int, waiting: float) -> None:
        self.session = session
        self.settings = session.settings
        self.status = status
        self.threads = Threads(session)
        self.most = most
        self.waiting = waiting  # seconds of silence after which a client gets a comment
        self.closing = False  # nobody new is let in
        self.cut = Cut()  # what runs ends now
        self._choices: dict[str, tuple[float, Choice]] = {}
        self._said: set[str] = set()
        self._listing: dict[str, asyncio.Task[None]] = {}  # who is asked for its models now
        self._unlisted: dict[str, float] = {}  # until when who listed none is left alone
        if session.purse is not None:
            session.purse.hint = LIMITED

    @contextmanager
    def seat(self) -> Iterator[None]:
        """A place among the streams, while it lasts. Raises Refused."""
        if self.closing:
            raise Refused(
                503, "the relay is stopping", "stopping", "server_error",
                headers={"retry-after": "5", "connection": "close"},
            )  # fmt: skip
        if self.status.streams >= self.most:
            raise Refused(
                429, f"{self.most} answers are under way", "too_many_streams", "rate_limit_error",
                headers={"retry-after": "1"},
            )  # fmt: skip
        self.status.streams += 1
        try:
            yield
        finally:
            self.status.streams -= 1

    async def choose(self, wanted: object) -> Choice:
        """What a `model` means: `provider/model`, a name as for -m, or `auto`. Raises Refused."""
        name = "" if wanted is None else wanted
        if not isinstance(name, str) or len(name) > LONGEST:
            raise Refused(400, "model must be a name", "bad_model", param="model")
        name = "" if name.strip() == AUTO else name.strip()
        known = self._choices.get(name)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        try:
            who, _ = chosen(self.settings, self.session.learned.models, name, "")
            if not self.settings.has_key(who):
                hint = KEYLESS.format(key_variable(who))
                raise SettingsError(f"there is no key for {who}", hint)
            provider, model = await self.session.choose(name)
            found = Choice(provider, model, self.session.pins(name, ""))
        except HolychatError as error:
            raise refused(error) from error
        if len(self._choices) >= CHOICES:
            self._choices.clear()
        self._choices[name] = time.monotonic() + FRESH, found
        return found

    async def turn(self, asked: Given, headers: Mapping[str, str]) -> Relayed:
        """A turn for a client that brings its conversation along. Raises Refused."""
        stores = {value.strip().lower() for name, value in headers.items() if name == STORE}
        if stores - {"", "none"}:
            raise Refused(400, f"{STORE} must be none, or not there", "bad_header", param=STORE)
        keep = "none" not in stores
        if not keep and self.session.recorder.path and self.session.purse is not None:
            for each in self.session.purse.all:
                if each.scope in ("day", "month"):
                    what = f"{STORE}: none cannot be had here: the limit of a {each.scope} counts"
                    raise Refused(400, f"{what} what is kept", "limits_need_the_store", param=STORE)
        choice = await self.choose(asked.body.get("model"))
        return await self.threads.open(
            choice.provider, choice.model, asked, pinned=choice.pinned, keep=keep
        )

    def explained(self, failure: Failure, chat: Chat) -> Refused:
        """The answer to a turn that failed."""
        turn, near = chat.latest, ""
        if turn is not None and failure.kind is Kind.MODEL:
            found = nearest(turn.model, self.session.learned.models(turn.provider))
            near = f"Did you mean {' or '.join(found)}?" if found else ""
        return refused(failure, near)

    def note(self, text: str) -> None:
        """Something for whoever runs the relay; the same thing once."""
        if text not in self._said:
            self._said = {text} if len(self._said) > 1000 else self._said | {text}
            self.status.say(text)

    def fault(self, error: Exception) -> None:
        """A bug of ours: it is told here, and the client hears no more than that."""
        env.trace(error)
        self.status.say(f"something went wrong inside ({type(error).__name__}: {error})")

    def spent(self, turn: Turn | None) -> None:
        """A turn has ended, however."""
        if turn is not None and turn.usage is not None:
            self.status.cost += turn.usage.cost or 0
            self.status.unpriced += turn.usage.partly

    def health(self, found: Mapping[str, Standing]) -> str:
        """Whether `auto` gets an answer now: from who is configured, or who stands in for them.

        `found` is how those do that have a key, or need none.
        """
        try:
            first, split = self.settings.active(), self.session.split
            others = substitutes(self.settings, first, split.near(first))
            asked = {first, *others, *(() if by_hand(self.settings) else self.settings.split)}
        except HolychatError:
            asked = set()
        standings = [found[name] for name in asked if name in found]
        well = any(one.state != "open" and not one.refused for one in standings)
        return "healthy" if well and not self.closing else "degraded"

    async def models(self) -> list[tuple[str, str]]:
        """(provider, model) of all that can be asked, the configured one's first."""
        settings, session = self.settings, self.session
        names = [name for name in settings.names() if name != DEMO and settings.has_key(name)]
        active = settings.active()
        names = [active, *(name for name in names if name != active)]
        if listing := {task for task in map(self._listed, names) if task is not None}:
            await asyncio.wait(listing)
        found: dict[tuple[str, str], None] = {}
        for name in names:
            default = settings[f"providers.{name}.model"]
            known = session.learned.models(name)
            ids = [default, *known] if default and (default in known or not known) else known
            found.update(dict.fromkeys((name, model) for model in ids))
        return [*found]

    def default(self) -> str:
        """`auto` as `provider/model`, as far as it is known without asking anybody; else empty."""
        settings, learned = self.settings, self.session.learned
        try:
            name, model = chosen(settings, learned.models, "", "")
            known, own = learned.models(name), settings[f"providers.{name}.model"]
            if model and model != own:
                model = match(model, known)
        except HolychatError:
            return ""
        model = model or own or next(iter(known), "")
        return f"{name}/{model}" if model and settings.has_key(name) else ""

    def _listed(self, name: str) -> asyncio.Task[None] | None:
        """The asking for its list, where it never was; one for all who want it."""
        task = self._listing.get(name)
        if task is None and self.session.learned.models_age(name, time.time()) is None:
            if time.monotonic() < self._unlisted.get(name, 0.0):
                return None
            task = self._listing[name] = asyncio.create_task(self._list(name))
            task.add_done_callback(lambda _: self._listing.pop(name, None))
        return task

    async def _list(self, name: str) -> None:
        try:
            async with asyncio.timeout(LISTING):
                provider = await asyncio.to_thread(self.settings.provider, name)
                await self.session.models(provider)
        except (HolychatError, TimeoutError):  # it may be asked for an answer all the same
            self._unlisted[name] = time.monotonic() + UNLISTED

    def remember(self, chat: Chat) -> None:
        """Its conversation is one that can be gone on with."""
        if isinstance(chat, Relayed):
            self.threads.remember(chat)

    async def kept(self, chat: Chat) -> None:
        """Wait for its end to be on the disk: who asks again at once finds it there, in whatever
        process; and what was said to be done is not lost any more."""
        written = asyncio.wrap_future(chat.recorder.caught_up())
        await asyncio.wait({written}, timeout=KEPT)

    def cash(self, pico: int | None) -> str:
        return self.settings.cash(pico)

    def price(self, used: Usage | None) -> str:
        """What a turn cost: `?` where that is not known, `≥` where a part of it is not, `≈` where
        it is an estimate. Who used nothing pays nothing."""
        shown = price(used, self.cash) if used is not None else ""
        return shown.removeprefix("cost ") or self.cash(0)


def dollars(pico: int | None) -> float | None:
    return None if pico is None else pico / 10**12


def usage_of(turn: Turn) -> dict[str, Any]:
    """The tokens of a turn in OpenAI's form, with all of its attempts."""
    used = turn.usage
    prompt, completion = (used.prompt, used.completion) if used else (0, 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": used.cached if used else 0},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning if used else 0},
    }


def tokens_of(turn: Turn) -> dict[str, Any]:
    """The same for the page and the WebSocket, in our own words."""
    used = turn.usage
    names = ("prompt", "completion", "cached", "reasoning", "estimated")
    return {name: getattr(used, name) if used else 0 for name in names}


def attempts_of(turn: Turn) -> int:
    """How many requests went out."""
    return len([one for one in turn.attempts if one.model])


def about(turn: Turn, cash: str) -> dict[str, Any]:
    """Who answered, after how many attempts, joined where, for how much."""
    used = turn.usage
    return {
        "provider": turn.provider,
        "model": turn.model,
        "attempts": attempts_of(turn),
        "seams": list(turn.seams),
        "cost": dollars(used.cost) if used else None,
        "cost_text": cash,
        "estimated": bool(used and used.estimated),
    }
