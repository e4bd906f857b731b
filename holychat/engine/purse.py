"""The user's limits, held before each request: of an answer, a conversation, a day and a month.

Owns the estimate of what a turn may use, its reservation in the store that all holychats share,
and what is said of it. It is asked before each attempt of a turn, with what the earlier ones used.
One answer is bounded by its `max_tokens`, so that all its attempts cannot use more than it may; a
summary, a title or a copy is bounded as an answer of its own.
Must not know the store's tables or a price list: `store.budget` and the prices come in.

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
    most,
    refusal,
    said,
)
from holychat.core.tokens import request as request_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from holychat.core.chat import Request, Tried
    from holychat.engine.conversation import Chat
    from holychat.engine.failover import Candidate
    from holychat.settings import Settings
    from holychat.store.recorder import Recorder

ANSWER = 1000  # tokens that an answer is taken to have, where nothing bounds it
UNBOUNDED = 16_384  # tokens that few models go beyond: a bound above that changes nothing
BOUNDS = ("max_tokens", "max_completion_tokens")
STEPS = (80, 90, 95)  # per cent at which a limit is spoken of, once each
PATIENCE = 5.0  # seconds for the store to say what was spent: here it is worth a wait
ONCE = "--no-limits goes past it in one run; limits.{} is the setting."
CHAT = "/limits off goes past it in this chat; limits.{} is the setting."
BESIDE = ("summary", "title", "shadow")  # roles of what is no part of an answer


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

    def and_(self, more: Need) -> Need:
        """Both; of an unknown price what is known."""
        return Need(self.tokens + more.tokens, (self.cost or 0) + (more.cost or 0))


NOTHING = Need(0, 0)


def _used(tried: Iterable[Tried]) -> Need:
    """What attempts that have ended used."""
    total = NOTHING
    for one in tried:
        if one.usage is not None:
            total = total.and_(Need(one.usage.prompt + one.usage.completion, one.usage.cost))
    return total


@dataclass(slots=True)
class Purse:
    """The limits of one session; `on` is the user's, `cash` says a sum of money."""

    all: tuple[Limit, ...]
    recorder: Recorder
    cash: Callable[[int | None], str]
    on: bool = True
    hint: str = ONCE  # what to do where it refuses, by the front
    _mine: Usage = field(default_factory=Usage)  # what this process used, in all conversations
    _told: dict[Limit, int] = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)  # what was said and is not said again

    def bill(self, chat: Chat, ended: Callable[[], Sequence[Tried]]) -> Bill | None:
        """Who is asked before each request of a turn, of which `ended` tells the attempts that
        have; None where nothing is limited."""
        return Bill(self, chat, ended) if self.all else None

    async def aside(
        self, chat: Chat, request: Request, who: Candidate, spent: Sequence[Tried] = ()
    ) -> Request:
        """The same for a request beside the answers: `spent` is what was asked with it, and is
        nowhere counted yet. Raises Failure where it may not be sent."""
        if not self.all:
            return request
        request = self.bounded(chat, request, who)
        need = self._need(chat, request, who)
        came = _used(spent)
        verdict, _ = await self._looked(chat, came, need)
        self.hold(verdict, came, need)
        return request

    async def within(
        self, chat: Chat, request: Request, who: Candidate, turn: Sequence[Tried]
    ) -> Request:
        """The same for one within an open turn, for which more is reserved then."""
        if not self.all:
            return request
        request = self.bounded(chat, request, who)
        need = self._need(chat, request, who)
        came = NOTHING if self._open(chat) is not None else _used(turn)  # it is reserved there
        verdict, _ = await self._reserved(chat, came, need, more=True)
        self.hold(verdict, came, need)
        return request

    async def foreseen(self, chat: Chat, request: Request, who: Candidate) -> tuple[Request, str]:
        """The request as it would be sent, and why it would not be, if so. Reserves nothing."""
        try:
            return await self.aside(chat, request, who), ""
        except Failure as failure:
            return request, failure.what.removesuffix("; nothing was sent")

    def used(self, usage: Usage | None) -> None:
        """A turn has ended, or what was asked beside one."""
        self._mine += usage or Usage()

    async def shown(self, chat: Chat) -> list[str]:
        """How full the limits are now, in lines."""
        verdict, trouble = await self._looked(chat, NOTHING, NOTHING)
        own = [level(each, Spent()) for each in self.all if each.scope == "answer"]
        lines = [said(each, self.cash) for each in (*own, *verdict.levels)]
        return [*lines, *trouble, *([] if self.on else ["off: nothing is refused"])]

    # --- One answer -------------------------------------------------------------------------

    def bounded(
        self, chat: Chat, request: Request, who: Candidate, came: Need = NOTHING
    ) -> Request:
        """The request with a bound on its answer, for which `came` was used before. Raises Failure
        where that and the prompt are more."""
        for each in self.all if self.on else ():
            if each.scope == "answer":
                request = self._bounded(each, chat, request, who, came)
        return request

    def _bounded(
        self, each: Limit, chat: Chat, request: Request, who: Candidate, came: Need
    ) -> Request:
        prompt = _prompt(chat, request, who)
        taken = came.and_(Need(prompt, None))
        if each.unit == "tokens":
            left: int | None = each.most - taken.tokens
        else:
            price = chat.price(who.provider.name, who.model, Usage(prompt))
            token = chat.price(who.provider.name, who.model, Usage(0, 1_000_000))
            if price is None or token is None:
                return request
            taken = came.and_(Need(prompt, price))
            rest = each.most - (taken.cost or 0)
            left = rest * 1_000_000 // token if token else None if rest >= 0 else 0
        if left is None:
            return request
        if left < 1:
            raise self._too_much(each, came, taken)
        name, bound = _bound(request)
        if left < (bound or UNBOUNDED):
            others = {key: value for key, value in request.params.items() if key not in BOUNDS}
            request = replace(request, params={**others, name: left})
        return request

    def _too_much(self, each: Limit, came: Need, taken: Need) -> Failure:
        in_tokens = each.unit == "tokens"
        shown = f"{taken.tokens:,} tokens" if in_tokens else self.cash(taken.cost)
        what = "the prompt alone takes" if came == NOTHING else "what came and the prompt take"
        said = f"{what} {shown}, the limit for an answer is {most(each, self.cash)}"
        return Failure(Kind.LIMIT, f"{said}; {_unsent(came)}", self.hint.format("answer"))

    def _need(self, chat: Chat, request: Request, who: Candidate) -> Need:
        prompt = _prompt(chat, request, who)
        answer = _bound(request)[1] or ANSWER
        usage = Usage(prompt, answer)
        return Need(prompt + answer, chat.price(who.provider.name, who.model, usage))

    # --- The others, with the store ---------------------------------------------------------

    def hold(self, verdict: Verdict, came: Need, need: Need) -> None:
        """Raises Failure where a limit refuses."""
        full = verdict.refusing
        if full is None or not self.on:
            return
        before = came.tokens if full.limit.unit == "tokens" else came.cost or 0
        asked = need.tokens if full.limit.unit == "tokens" else need.cost or 0
        what = refusal(full._replace(spent=full.spent + before, asked=asked), self.cash)
        what = what.replace("nothing was sent", _unsent(came))
        raise Failure(Kind.LIMIT, what, self.hint.format(full.limit.scope))

    def _open(self, chat: Chat) -> int | None:
        """The turn of a chat that is open in the store."""
        return chat.recorder.turn if self._stored else None

    async def _reserved(
        self, chat: Chat, came: Need, need: Need, *, more: bool = False
    ) -> tuple[Verdict, list[str]]:
        """Reserve what the turn has used and may use, or `more` than is reserved; where the store
        cannot, what this process knows counts."""
        limits = [each for each in self.all if each.scope != "answer"]
        if not limits:
            return Verdict(), []
        turn = self._open(chat)
        if turn is None:
            return self._by_ourselves(chat, limits, came.and_(need))
        from holychat.store.budget import reserve

        whole = came.and_(need)

        def work(db: object) -> Verdict:
            return reserve(
                db,  # type: ignore[arg-type]
                turn,
                limits,
                cost=whole.cost,
                tokens=whole.tokens,
                override=not self.on,
                more=more,
            )

        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.wrap_future(self.recorder.ask(work)), []
        except (StoreTrouble, TimeoutError):
            return self._by_ourselves(chat, limits, whole)

    async def _looked(self, chat: Chat, came: Need, need: Need) -> tuple[Verdict, list[str]]:
        limits = [each for each in self.all if each.scope != "answer"]
        whole = came.and_(need)
        if self._stored and limits:
            from holychat.store.budget import look

            talk = chat.recorder.conversation

            def work(db: object) -> Verdict:
                return look(
                    db,  # type: ignore[arg-type]
                    talk,
                    limits,
                    cost=whole.cost,
                    tokens=whole.tokens,
                )

            try:
                async with asyncio.timeout(PATIENCE):
                    return await asyncio.wrap_future(self.recorder.ask(work)), []
            except (StoreTrouble, TimeoutError):
                pass
        return self._by_ourselves(chat, limits, whole)

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

    def _unknown(self, who: Candidate, need: Need) -> list[str]:
        if need.cost is not None or all(one.unit != "cost" for one in self.all):
            return []
        return self._once(
            f"the price of {who.model} on {who.provider.name} is not known: the limits in"
            " money cannot see what it costs"
        )

    def _once(self, text: str) -> list[str]:
        if text in self._silent:
            return []
        self._silent.add(text)
        return [text]


@dataclass(slots=True)
class Bill:
    """What one turn has used and may use; `ended` tells its attempts that have."""

    purse: Purse
    chat: Chat
    ended: Callable[[], Sequence[Tried]]
    _running: Need = NOTHING  # what the attempt that runs may use

    async def allowed(
        self, request: Request, who: Candidate, *, beside: bool = False
    ) -> tuple[Request, list[str]]:
        """The request of an attempt as it may be sent, and what is to be said; `beside` another one
        that runs. Raises Failure where a limit is reached, before it is sent."""
        purse, chat, tried = self.purse, self.chat, self.ended()
        runs = self._running if beside else NOTHING
        answer = _used(one for one in tried if one.role not in BESIDE).and_(runs)
        request = purse.bounded(chat, request, who, answer)
        need = purse._need(chat, request, who)  # noqa: SLF001 - its own
        notices = purse._unknown(who, need)  # noqa: SLF001
        came = _used(tried).and_(runs)
        verdict, trouble = await purse._reserved(chat, came, need)  # noqa: SLF001
        purse.hold(verdict, came, need)
        notices += trouble + purse._warned(verdict)  # noqa: SLF001
        if not beside:
            self._running = need
        return request, notices


def _unsent(came: Need) -> str:
    return "nothing was sent" if came == NOTHING else "nothing more was sent"


def _prompt(chat: Chat, request: Request, who: Candidate) -> int:
    texts = [each.content for each in request.messages]
    texts += [request.partial] if request.partial else []
    return request_tokens(texts, chat.ratios(who.provider.name, who.model))


def _bound(request: Request) -> tuple[str, int]:
    """(the parameter that bounds the answer, how many tokens it says; 0 for none). A client may
    send both: the larger one counts, for either may be what goes out."""
    found = [
        (value, name)
        for name in BOUNDS
        if type(value := request.params.get(name)) is int and value > 0
    ]
    most, name = max(found, default=(0, BOUNDS[0]))
    return name, most
