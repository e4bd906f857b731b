"""The user's limits, held before each request: of an answer, a conversation, a day and a month.

Owns the estimate of what a turn may use, its reservation in the store that all holychats share,
and what is said of it. One answer is bounded by its `max_tokens`, so that it cannot use more than
it may. Must not know the store's tables or a price list: `store.budget` and the prices come in.

Without a store, or where it fails, the limits hold for what this process has used itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from holychat.core.chat import Usage
from holychat.core.failure import Failure, Kind, SettingsError, StoreTrouble
from holychat.core.limits import (
    SCOPES,
    Limit,
    Spent,
    Verdict,
    level,
    limit,
    refusal,
    said,
)
from holychat.core.tokens import request as request_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holychat.core.chat import Request
    from holychat.engine.conversation import Chat
    from holychat.engine.failover import Candidate
    from holychat.settings import Settings
    from holychat.store.recorder import Recorder

ANSWER = 1000  # tokens that an answer is taken to have, where nothing bounds it
UNBOUNDED = 16_384  # tokens that few models go beyond: a bound above that changes nothing
STEPS = (80, 90, 95)  # per cent at which a limit is spoken of, once each
PATIENCE = 5.0  # seconds for the store to say what was spent: here it is worth a wait
HINT = "/limits off goes past it in this chat, --no-limits in one run; limits.{} is the setting."


def limits_of(settings: Settings, exchange: Mapping[str, int]) -> tuple[Limit, ...]:
    """Those of the settings. Raises SettingsError where one is in a currency without a rate."""
    found = []
    for scope in SCOPES:
        if text := settings[f"limits.{scope}"]:
            try:
                found.append(limit(scope, text, settings["money.currency"], exchange))
            except ValueError as error:
                raise SettingsError(f"limits.{scope} {error}") from error
    return tuple(found)


class Need(NamedTuple):
    """What a request may use: tokens, and 10^-12 dollars where its price is known."""

    tokens: int
    cost: int | None


@dataclass(slots=True)
class Purse:
    """The limits of one session; `on` is the user's, `cash` says a sum of money."""

    all: tuple[Limit, ...]
    recorder: Recorder
    cash: Callable[[int | None], str]
    on: bool = True
    _mine: Usage = field(default_factory=Usage)  # what this process used, in all conversations
    _told: dict[Limit, int] = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)  # what was said and is not said again

    async def allowed(
        self, chat: Chat, request: Request, who: Candidate
    ) -> tuple[Request, list[str]]:
        """The request as it may be sent, and what is to be said. Raises Failure where a limit is
        reached, before anything is sent."""
        if not self.all:
            return request, []
        notices: list[str] = []
        for each in self.all if self.on else ():
            if each.scope == "answer":
                request = self._bounded(each, chat, request, who)
        need = self._need(chat, request, who)
        if need.cost is None and any(one.unit == "cost" for one in self.all):
            notices += self._once(
                f"the price of {who.model} on {who.provider.name} is not known: the limits in"
                " money cannot see what it costs"
            )
        verdict, trouble = await self._reserved(chat, need)
        notices += trouble
        full = verdict.refusing
        if full is not None and self.on:
            what = refusal(full, self.cash)
            raise Failure(Kind.LIMIT, what, HINT.format(full.limit.scope))
        return request, notices + self._warned(verdict)

    def used(self, usage: Usage | None) -> None:
        """A turn has ended."""
        self._mine += usage or Usage()

    async def shown(self, chat: Chat) -> list[str]:
        """How full the limits are now, in lines."""
        verdict, trouble = await self._looked(chat)
        own = [level(each, Spent()) for each in self.all if each.scope == "answer"]
        lines = [said(each, self.cash) for each in (*own, *verdict.levels)]
        return [*lines, *trouble, *([] if self.on else ["off: nothing is refused"])]

    # --- One answer -------------------------------------------------------------------------

    def _bounded(self, each: Limit, chat: Chat, request: Request, who: Candidate) -> Request:
        """The request with a bound on its answer. Raises Failure where its prompt alone is more."""
        prompt = _prompt(chat, request, who)
        if each.unit == "tokens":
            left: int | None = each.most - prompt
            asked = Need(prompt, None)
        else:
            price = chat.price(who.provider.name, who.model, Usage(prompt))
            token = chat.price(who.provider.name, who.model, Usage(0, 1_000_000))
            asked = Need(prompt, price)
            if price is None or token is None:
                return request
            left = (each.most - price) * 1_000_000 // token if token else None
        if left is None:
            return request
        if left < 1:
            full = level(each, Spent(), asked.cost, asked.tokens)
            shown = f"{asked.tokens:,} tokens" if each.unit == "tokens" else self.cash(full.asked)
            most = f"{each.most:,} tokens" if each.unit == "tokens" else self.cash(each.most)
            what = f"the prompt alone takes {shown}, the limit for an answer is {most}"
            raise Failure(Kind.LIMIT, f"{what}; nothing was sent", HINT.format("answer"))
        name, bound = _bound(request)
        if left < (bound or UNBOUNDED):
            request = replace(request, params={**request.params, name: left})
        return request

    def _need(self, chat: Chat, request: Request, who: Candidate) -> Need:
        prompt = _prompt(chat, request, who)
        answer = _bound(request)[1] or ANSWER
        usage = Usage(prompt, answer)
        return Need(prompt + answer, chat.price(who.provider.name, who.model, usage))

    # --- The others, with the store ---------------------------------------------------------

    async def _reserved(self, chat: Chat, need: Need) -> tuple[Verdict, list[str]]:
        """Reserve what the turn may use; where the store cannot, what this process knows counts."""
        limits = [each for each in self.all if each.scope != "answer"]
        if not limits:
            return Verdict(), []
        turn = self.recorder.turn if self._stored else None
        if turn is None:
            return self._by_ourselves(chat, limits, need)
        from holychat.store.budget import reserve

        def work(db: object) -> Verdict:
            return reserve(
                db,  # type: ignore[arg-type]
                turn,
                limits,
                cost=need.cost,
                tokens=need.tokens,
                override=not self.on,
            )

        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.wrap_future(self.recorder.ask(work)), []
        except (StoreTrouble, TimeoutError):
            return self._by_ourselves(chat, limits, need)

    async def _looked(self, chat: Chat) -> tuple[Verdict, list[str]]:
        limits = [each for each in self.all if each.scope != "answer"]
        if self._stored:
            from holychat.store.budget import look

            conversation = self.recorder.conversation
            try:
                asked = self.recorder.ask(lambda db: look(db, conversation, limits))
                async with asyncio.timeout(PATIENCE):
                    return await asyncio.wrap_future(asked), []
            except (StoreTrouble, TimeoutError):
                pass
        return self._by_ourselves(chat, limits, Need(0, 0))

    def _by_ourselves(
        self, chat: Chat, limits: list[Limit], need: Need
    ) -> tuple[Verdict, list[str]]:
        """By what this process has used: nobody else's is known."""
        trouble = []
        if any(each.scope in ("day", "month") for each in limits):
            trouble = self._once(
                "nothing is kept here, so the limits of a day and a month count this run alone"
            )
        levels = []
        for each in limits:
            used = chat.used if each.scope == "conversation" else self._mine
            spent = Spent(used.cost or 0, used.prompt + used.completion, int(used.partly))
            levels.append(level(each, spent, need.cost, need.tokens))
        return Verdict(tuple(levels)), trouble

    @property
    def _stored(self) -> bool:
        return self.recorder.path is not None and self.recorder.keeping

    # --- What is said -----------------------------------------------------------------------

    def _warned(self, verdict: Verdict) -> list[str]:
        """Of the limits that are nearly reached: once at each step."""
        lines = []
        for each in verdict.near(STEPS[0]):
            step = max(step for step in STEPS if step <= each.percent)
            if step > self._told.get(each.limit, 0):
                self._told[each.limit] = step
                lines.append(said(each, self.cash))
        return lines

    def _once(self, text: str) -> list[str]:
        if text in self._silent:
            return []
        self._silent.add(text)
        return [text]


def _prompt(chat: Chat, request: Request, who: Candidate) -> int:
    texts = [each.content for each in request.messages]
    texts += [request.partial] if request.partial else []
    return request_tokens(texts, chat.ratios(who.provider.name, who.model))


def _bound(request: Request) -> tuple[str, int]:
    """(the parameter that bounds the answer, how many tokens it says; 0 for none)."""
    for name in ("max_tokens", "max_completion_tokens"):
        value = request.params.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return name, value
    return "max_tokens", 0
