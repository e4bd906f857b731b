"""What of a conversation is sent, at work: its policy, the window, what the servers teach of it.

Owns the plan of a turn (`core.context` chooses, this brings the sizes), the refusal of `stop`, what
is left out of a second try after a server found the first too long, and what is remembered of a
model: its window where only an error named it, and the scale between our weights and its counts.
Sends nothing: `tries` does, and summaries are made in `summary`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from holychat.core import context
from holychat.core.chat import Notice
from holychat.core.context import Known, Room
from holychat.core.failure import Failure, Kind, UsageError
from holychat.core.tokens import DOCUMENTED, NOTHING, features

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Sequence

    from holychat.core.chat import Tried, Turn
    from holychat.core.context import Summary
    from holychat.core.provider import Provider
    from holychat.core.tokens import Counts, Ratios
    from holychat.engine.conversation import Chat, Exchange
    from holychat.engine.failover import Candidate

Sizes = Callable[["Provider", str], tuple[int | None, int | None]]  # window, longest answer
WORTH = 0.5  # of the room: below it, what a server counts is worth no write to the disk
HINT = (
    "/compact summarises the conversation, /clear begins another; context.policy = trim leaves old"
    " turns out by itself; another model may have a larger window."
)
weigh = lru_cache(maxsize=16)(context.weigh)  # the toolbar asks at each key


class Asked(NamedTuple):
    """What is to be sent: the newest prompt, the turns before it, the beginning of its answer."""

    prompt: str
    before: Sequence[Exchange]
    partial: str = ""


class Plan(NamedTuple):
    """Which turns are left out of a request: the first `cut` but for the pinned ones, of which
    `done` are in the summary. `weight` is that of what is sent, `room` what there is for it, None
    where nobody knows; in tokens as we weigh them, `scale` times as many as the server counts.
    """

    cut: int = 0
    done: int = 0
    weight: int = 0
    whole: int = 0  # what it would be without the cut
    room: int | None = None
    window: int = 0
    reserve: int = 0
    scale: float = 1.0

    @property
    def tokens(self) -> int:
        return round(self.weight * self.scale)

    @property
    def over(self) -> int:
        """How many tokens too many there would be without the cut."""
        return 0 if self.room is None else max(0, ceil((self.whole - self.room) * self.scale))


class Ledger:
    """The weights of exchanges, each counted once however often it is asked for."""

    def __init__(self) -> None:
        self._exchanges: list[Exchange] = []
        self.weights: list[int] = []
        self.counts: list[Counts] = []  # summed up

    def enter(self, exchanges: Sequence[Exchange]) -> None:
        """Know these, and perhaps more that come after them."""
        same = 0
        for mine, other in zip(self._exchanges, exchanges, strict=False):
            if mine is not other:
                break
            same += 1
        if same == len(exchanges):
            return
        for known in (self._exchanges, self.weights, self.counts):
            del known[same:]
        for exchange in exchanges[same:]:
            total = self.counts[-1] if self.counts else NOTHING
            texts = exchange.prompt, exchange.turn.text
            self._exchanges.append(exchange)
            self.weights.append(context.weigh(*texts))
            self.counts.append(total + features(texts[0]) + features(texts[1]))


@dataclass(slots=True)
class Fitting:
    """How the requests of one conversation are fitted. `known` may be kept by whoever passes it."""

    policy: str = "trim"
    reserve: int = 0
    sizes: Sizes = lambda *_: (None, None)
    known: MutableMapping[tuple[str, str], Known] = field(default_factory=dict)
    summariser: Callable[[Chat], Awaitable[Candidate]] | None = None
    plan: Plan = field(default_factory=Plan)  # the last one that something was sent by
    _ledger: Ledger = field(default_factory=Ledger)
    _told: tuple[str, int] = ("", 0)  # the conversation, and its cut that was spoken of
    _guess: tuple[tuple[str, str], int] | None = None  # a window, if the second try confirms it

    # --- What there is ----------------------------------------------------------------------

    def room(self, chat: Chat, provider: Provider, model: str) -> Room | None:
        """None where nobody knows the window. What a server said itself counts where it is less
        than what is listed: it may run with a smaller one."""
        window, longest = self.sizes(provider, model)
        learned = self.known.get((provider.name, model), Known()).window
        windows = [one for one in (window, learned) if one]
        if not windows:
            return None
        asked = chat.params.get("max_tokens") or chat.params.get("max_completion_tokens")
        smallest = min(windows)
        return Room(smallest, context.reserve(smallest, longest, asked, self.reserve))

    def scale(self, key: tuple[str, str], ratios: Ratios, counts: Counts, messages: int) -> float:
        """What a server counts for one of our tokens, on the safe side: as it was seen in such
        conversations, else by what is known of the model's ratios."""
        held = self.known.get(key, Known()).scale
        if held:
            return min(context.MOST, max(context.LEAST, held))
        return context.steady(0, context.scale_of(ratios, DOCUMENTED, counts, messages))

    def planned(
        self, chat: Chat, asked: Asked, who: Candidate | None = None, most: int | None = None
    ) -> Plan:
        """What would be sent now; `who` is asked, with a weight of `most` at most."""
        provider, model = (who.provider, who.model) if who else (chat.provider, chat.model)
        summary = covering(chat.summary, asked.before)
        self._ledger.enter(asked.before)
        count = len(asked.before)
        weights = self._ledger.weights[:count]
        done = summary.turns if summary else 0
        pinned = {at for at, one in enumerate(asked.before) if one.pinned}
        fixed = self._fixed(chat, asked, summary)
        whole = fixed + sum(weights[done:]) + sum(weights[at] for at in pinned if at < done)
        counts = self._ledger.counts[count - 1] if count else features(asked.prompt)
        key = provider.name, model
        scale = self.scale(key, chat.ratios(*key), counts, 2 * count + 1)
        room = self.room(chat, provider, model)
        if room is None and most is None:
            return Plan(done, done, whole, whole, scale=scale)
        holds = [most] if most is not None else []
        holds += [room.at(scale)] if room else []
        spare = self._spare(room) if whole > min(holds) else 0
        stride = room.stride if room else max(1, min(holds) // context.STRIDES)
        cut = context.fit(weights, pinned, fixed + spare, min(holds), stride, done)
        out = sum(weights[done:cut]) - sum(weights[at] for at in pinned if done <= at < cut)
        window, reserve = room or (round(min(holds) * scale), 0)
        return Plan(cut, done, whole - out, whole, min(holds), window, reserve, scale)

    def _fixed(self, chat: Chat, asked: Asked, summary: Summary | None) -> int:
        texts = [chat.system] if chat.system else []
        texts += context.pair(summary)
        partial = weigh(asked.partial) if asked.partial else 0
        return (weigh(*texts) if texts else 0) + weigh(asked.prompt) + partial + 3

    def _spare(self, room: Room | None) -> int:
        """What a summary that is still to be made may take."""
        return budget(room.window) if room and self.policy == "summarize" else 0

    # --- Before it is sent ------------------------------------------------------------------

    def refuse(self, chat: Chat, asked: Asked) -> None:
        """The policy `stop`: raises UsageError where it does not fit, before anything happens."""
        if self.policy == "stop":
            plan = self.planned(chat, asked)
            if plan.over:
                raise UsageError(*_too_long(chat, plan))

    async def fitted(
        self,
        chat: Chat,
        asked: Asked,
        spent: list[Tried],
        who: Candidate | None = None,
        most: int | None = None,
    ) -> AsyncGenerator[Notice, None]:
        """Make the plan of a request, with a summary where that is wanted (`spent` takes what it
        cost), and say what is left out. Raises Failure where the policy is to stop."""
        plan = self.planned(chat, asked, who, most)
        policy, self._guess = self.policy, self._guess if most is not None else None
        if plan.cut > plan.done and policy == "stop":
            raise Failure(Kind.CONTEXT, *_too_long(chat, plan))
        if plan.cut > plan.done and policy == "summarize":
            from holychat.engine.summary import summarise  # only now

            said = context.turns_of(plan.cut)
            yield Notice(f"summarising {said} to fit {plan.window:,} tokens; /context shows it")
            trouble = await summarise(chat, asked.before, plan.cut, spent)
            if trouble:
                yield Notice(f"{trouble}: they are left out without a summary for now")
                policy = "trim"
            plan = self.planned(chat, asked, who, most)
        if plan.cut > plan.done and self._told != (chat.id, plan.cut):
            yield Notice(context.left_out(plan.cut, plan.window, policy))
        self._told, self.plan = (chat.id, plan.cut), plan
        self._hold(who or chat, plan)

    def _hold(self, who: Candidate | Chat, plan: Plan) -> None:
        """Keep the scale that a cut was made by: it decides about the next ones too."""
        key = who.provider.name, who.model
        known = self.known.get(key, Known())
        if plan.cut > plan.done and not known.scale:
            self.known[key] = known._replace(scale=plan.scale)

    # --- What is learned of it --------------------------------------------------------------

    def refused(self, chat: Chat, asked: Asked, failure: Failure, who: Candidate) -> int | None:
        """The weight that a second try may have, after a server found the first too long; None
        where there is nothing to leave out, or nothing to be left out without leave."""
        before, most = self.plan.cut, self._learned(failure, who)
        if self.policy == "stop":
            failure.hint = HINT
        elif self.planned(chat, asked, who, most).cut > before:
            return most
        return None

    def _learned(self, failure: Failure, who: Candidate) -> int:
        """What the refusal teaches, and the weight that may be less than too much."""
        key, plan = (who.provider.name, who.model), self.plan
        known, named = self.known.get(key, Known()), context.named(failure.what)
        scale, most = known.scale or plan.scale, plan.weight - 1
        if named.sent and plan.weight >= context.SMALL:
            scale = context.steady(scale, named.sent / plan.weight * context.SURE)
        elif plan.room is not None and plan.window <= named.window:
            # It was thought to fit: a token of ours is more than we believed, who knows how much.
            least = (plan.window - plan.reserve) / max(1, plan.weight)
            scale, most = context.steady(scale, max(scale + context.STEP, least)), plan.weight // 2
        if named.window:
            self.known[key] = Known(min(known.window or named.window, named.window), scale)
            return most
        # If half of it fits, the window is less than what was sent.
        self._guess = key, round(plan.tokens * 3 / 4)
        return plan.weight // 2

    def report(self, chat: Chat, turn: Turn) -> None:
        """What the server counted for the request that was sent by the plan."""
        one, plan = turn.attempts[-1], self.plan
        key = one.provider, one.model
        if one.usage is None or one.at or not turn.text:
            return
        known = self.known.get(key, Known())
        if self._guess is not None and self._guess[0] == key:
            known = Known(self._guess[1], known.scale or plan.scale)
            self.known[key], self._guess = known, None
        if one.usage.estimated or plan.weight < context.SMALL or plan.room is None:
            return
        if key != (chat.provider.name, chat.model) or plan.weight < WORTH * plan.room:
            return
        raw = one.usage.prompt / plan.weight * context.SURE
        if not context.LEAST <= raw <= context.MOST:  # it counts something else
            return
        scale = context.steady(known.scale or plan.scale, raw)
        if scale != known.scale:
            self.known[key] = known._replace(scale=scale)

    # --- What is shown of it ----------------------------------------------------------------

    def fill(self, chat: Chat) -> float | None:
        """How full the room is, from 0 on; None where nobody knows it."""
        plan = self.planned(chat, Asked("", chat.exchanges))
        if plan.room is None:
            return None
        return plan.weight / plan.room if plan.room else 1.0

    def since(self, chat: Chat, plan: Plan) -> int | None:
        """The turn, from 1 on, with which the cut of a plan came; None where it is a summary's."""
        if plan.cut <= plan.done:
            return None

        def reached(turn: int) -> bool:
            asked = Asked(chat.exchanges[turn].prompt, chat.exchanges[:turn])
            return self.planned(chat, asked).cut >= plan.cut

        turns = range(plan.cut, len(chat.exchanges))
        return plan.cut + bisect_left(turns, x=True, key=reached) + 1


def covering(summary: Summary | None, before: Sequence[Exchange]) -> Summary | None:
    """A summary of turns that are all there; what it tells of others was taken back."""
    return summary if summary and summary.turns <= len(before) else None


def budget(window: int) -> int:
    """Tokens that a summary may take."""
    return max(64, min(1000, window // 10))


def _too_long(chat: Chat, plan: Plan) -> tuple[str, str]:
    """(what, hint): by how much it is too long, and what to do."""
    what = (
        f"this is about {plan.over:,} tokens too long for {chat.model} on {chat.provider.name}:"
        f" {plan.window:,} tokens, {plan.reserve:,} of them for the answer. Nothing was sent"
    )
    return what, HINT
