"""The slash commands for what of the conversation is sent: shown, made less, pinned.

Owns what they say. What is left out, and when, is `engine.context`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat import env
from holychat.commands.repl.table import Table
from holychat.core.chat import Usage
from holychat.core.context import turns_of
from holychat.core.failure import UsageError
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from holychat.commands.repl.loop import Repl
    from holychat.core.chat import Tried
    from holychat.engine.context import Plan
    from holychat.engine.conversation import Chat, Exchange

COMMANDS = command = Table()
KEPT = 2  # turns that /compact leaves as they are


@command()
def context(repl: Repl, _: str) -> None:
    """Show the window, what is in it, what is left out, pins, and the summary."""
    from holychat.engine.context import Asked, covering  # not before the first prompt stands

    chat = repl.chat
    plan = chat.fitting.planned(chat, Asked("", chat.exchanges))
    for name, said in _rows(chat, plan):
        repl.say(f"  {name:<9} {said}")
    if summary := covering(chat.summary, chat.exchanges):
        repl.say(f"  {'summary':<9} stands for {turns_of(summary.turns)}:")
        repl.say("")
        env.write((repl.drawn(summary.text).rstrip("\n") + "\n").encode("utf-8", "replace"))


def _rows(chat: Chat, plan: Plan) -> list[tuple[str, str]]:
    policy, count = chat.fitting.policy, len(chat.exchanges)
    rows = [("window", f"not known of {chat.model} on {chat.provider.name}: all is sent")]
    used = f"≈{plan.tokens:,} tokens"
    if plan.room is not None:
        free = f"{plan.reserve:,} kept free for the answer"
        rows = [("window", f"{plan.window:,} tokens, {free}; policy {policy}")]
        used += (
            f" of {plan.window - plan.reserve:,}, {round(100 * (chat.fitting.fill(chat) or 0))} %"
        )
    rows.append(("in it", f"{used}: {_sent(chat, plan)}"))
    if plan.cut:
        turn = chat.fitting.since(chat, plan)
        since = f", since turn {turn:,}" if turn else ""
        rows.append(("left out", f"{turns_of(plan.cut)} of {count:,}{since}"))
        if plan.cut < count:
            first = one_line(chat.exchanges[plan.cut].prompt, max(20, env.width() - 30))
            rows.append(("sent", f"from “{first}” on"))
    pins = [f"{at} “{one_line(one.prompt, 30)}”" for at, one in _pinned(chat)]
    rows.append(("pinned", ", ".join(pins) or "nothing; /pin N keeps exchange N"))
    return rows


def _sent(chat: Chat, plan: Plan) -> str:
    pinned = sum(at <= plan.cut for at, _ in _pinned(chat))
    count = len(chat.exchanges) - plan.cut + pinned
    parts = [f"{count:,} {'exchange' if count == 1 else 'exchanges'}"]
    parts += ["the system prompt"] if chat.system else []
    return ", ".join(parts + (["the summary"] if plan.done else []))


def _pinned(chat: Chat) -> list[tuple[int, Exchange]]:
    return [(at, one) for at, one in enumerate(chat.exchanges, 1) if one.pinned]


@command("[N]")
async def compact(repl: Repl, text: str) -> None:
    """Summarise the conversation but for the last N exchanges; 2 without a number."""
    from holychat.engine.context import covering
    from holychat.engine.summary import summarise
    from holychat.screen.words import price
    from holychat.screen.words import tokens as count

    if text and not text.isdecimal():
        raise UsageError(f"/compact takes a number of exchanges to leave as they are, not {text}")
    chat = repl.chat
    turns = len(chat.exchanges) - (int(text) if text else KEPT)
    known = covering(chat.summary, chat.exchanges)
    if turns <= (known.turns if known else 0):
        raise UsageError("there is nothing to summarise", "/compact N leaves the last N exchanges.")
    repl.note(f"summarising {turns_of(turns)} …")
    spent: list[Tried] = []
    try:
        trouble = await summarise(chat, chat.exchanges, turns, spent)
    finally:
        for tried in spent:
            chat.recorder.spent(tried)
            chat.used += tried.usage or Usage()
    if trouble:
        raise UsageError(trouble, "Nothing was changed.")
    used = sum((one.usage for one in spent if one.usage), Usage())
    shown = " · ".join(filter(None, (count(used), price(used, repl.settings.cash))))
    cost = f" ({shown})" if used.prompt else ""
    repl.note(f"a summary stands for {turns_of(turns)} from now on{cost}; /context shows it")


@command("[N]")
def pin(repl: Repl, number: str) -> None:
    """Have the last exchange, or number N, stay in what is sent."""
    _pin(repl, number, len(repl.chat.exchanges), pinned=True)


@command("[N]")
def unpin(repl: Repl, number: str) -> None:
    """Let the one that was pinned last, or number N, go with the others."""
    last = max((at for at, _ in _pinned(repl.chat)), default=0)
    if not last:
        raise UsageError("nothing is pinned")
    _pin(repl, number, last, pinned=False)


def _pin(repl: Repl, number: str, otherwise: int, *, pinned: bool) -> None:
    """Exchange `number` as the user counts them, from 1; `otherwise` where none is named."""
    chat = repl.chat
    at = int(number) if number.isdecimal() else 0 if number else otherwise
    if not 0 < at <= len(chat.exchanges):
        count = len(chat.exchanges)
        raise UsageError(f"there are {count or 'no'} exchanges, and {number or 'that'} is none")
    chat.pin(at - 1, pinned=pinned)
    said = one_line(chat.exchanges[at - 1].prompt, 40)
    repl.note(f"exchange {at} is {'' if pinned else 'no more '}pinned: “{said}”")
