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
from holychat.commands.serve.errors import Refused, refused
from holychat.core.failure import Failure, HolychatError, Kind
from holychat.core.provider import DEMO
from holychat.engine.relay import Relayed, Threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from holychat.commands.serve.status import Status
    from holychat.core.chat import Turn
    from holychat.core.provider import Provider
    from holychat.engine.conversation import Chat
    from holychat.engine.relay import Given
    from holychat.engine.session import Session

AUTO = "auto"
FRESH = 30.0  # seconds for which a choice holds: its key may be a command to run
CHOICES = 256
LISTING = 5.0  # seconds that a provider has to list its models
KEPT = 0.5  # seconds that the end of an answer waits to be in the store
LONGEST = 300  # characters of a model's name


class Choice(NamedTuple):
    """Who is asked; `pinned`: and nobody else."""

    provider: Provider
    model: str
    pinned: bool


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
        self.cut = asyncio.Event()  # what runs ends now
        self._choices: dict[str, tuple[float, Choice]] = {}
        self._said: set[str] = set()

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
        choice = await self.choose(asked.body.get("model"))
        keep = headers.get("x-holychat-store", "").strip().lower() != "none"
        return await self.threads.open(
            choice.provider, choice.model, asked, pinned=choice.pinned, keep=keep
        )

    def explained(self, failure: Failure, chat: Chat) -> Refused:
        """The answer to a turn that failed."""
        turn = chat.latest
        hint = failure.hint
        if turn is not None and failure.kind is Kind.MODEL:
            hint = self.session.explain(failure, turn.provider, turn.model)
        return refused(failure, hint)

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

    async def models(self) -> list[tuple[str, str]]:
        """(provider, model) of all that can be asked, the configured one's first."""
        settings, session = self.settings, self.session
        names = [name for name in settings.names() if name != DEMO and settings.has_key(name)]
        active = settings.active()
        names = [active, *(name for name in names if name != active)]
        await asyncio.gather(*(self._ask(name) for name in names))
        found: dict[tuple[str, str], None] = {}
        for name in names:
            default = settings[f"providers.{name}.model"]
            known = session.learned.models(name)
            ids = [default, *known] if default and (default in known or not known) else known
            found.update(dict.fromkeys((name, model) for model in ids))
        return [*found]

    async def _ask(self, name: str) -> None:
        """For its list, where it never was."""
        session = self.session
        if session.learned.models_age(name, time.time()) is not None:
            return
        try:
            async with asyncio.timeout(LISTING):
                await session.models(await asyncio.to_thread(self.settings.provider, name))
        except (HolychatError, TimeoutError):
            pass  # it lists nothing now; it may be asked all the same

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


def about(turn: Turn, cash: str) -> dict[str, Any]:
    """Who answered, after how many attempts, joined where, for how much."""
    used = turn.usage
    return {
        "provider": turn.provider,
        "model": turn.model,
        "attempts": len([one for one in turn.attempts if one.model]),
        "seams": list(turn.seams),
        "cost": dollars(used.cost) if used else None,
        "cost_text": cash,
        "estimated": bool(used and used.estimated),
    }
