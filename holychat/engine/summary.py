"""Summaries of what is left out of a long conversation: one request each, to a model of choice.

Owns what is asked, of whom, and what is taken of the answer. A summary is no part of the answer;
what it cost is handed back as attempts of the role `summary`. Never raises but where it is stopped:
without a summary a conversation goes on as well.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from holychat.core import context
from holychat.core.chat import Attempt, Finish, Message, Request
from holychat.core.context import Known, Summary
from holychat.core.failure import Failure, HolychatError, Kind, keyless
from holychat.engine.context import budget, covering
from holychat.engine.failover import Candidate
from holychat.engine.fold import Fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holychat.core.chat import Tried, Turn
    from holychat.engine.conversation import Chat, Exchange

PATIENCE = 120.0  # seconds for one
MOST = 8  # windows of its model that are read for one summary; of more text, less of each turn
MARKS = 16  # tokens around a turn
UNKNOWN = 32_000  # tokens of a window of which nothing is known, for the summary's size


async def summarise(chat: Chat, before: Sequence[Exchange], turns: int, spent: list[Tried]) -> str:
    """Have the first `turns` turns summarised, with the summary that there is taken in; it is the
    chat's own from now on, and kept. Returns why there is none; "" where there is one.
    """
    former = covering(chat.summary, before)
    done = former.turns if former else 0
    inside = chat.recorder.turn is not None
    try:
        who = await _who(chat)
        text = former.text if former else ""
        for piece in _pieces(chat, who, before[done:turns], text):
            text = await _one(chat, who, text, piece, spent)
    except HolychatError as error:
        return f"no summary could be made ({error.what})"
    finally:
        if chat.purse is not None and not inside:  # else it is the turn's
            for tried in spent:
                chat.purse.used(tried.usage)
    chat.summary = Summary(text, turns)
    chat.recorder.summary(turns, text)
    return ""


async def _who(chat: Chat) -> Candidate:
    """Who is asked. Where the user wants one provider and nobody else, it is that one."""
    own = Candidate(chat.provider, chat.model)
    if chat.fitting.summariser is None:
        return own
    found = await chat.fitting.summariser(chat)
    return own if chat.pinned and found.provider.name != own.provider.name else found


def _sizes(chat: Chat, who: Candidate) -> tuple[int | None, int]:
    """(the weight of a question that fits, None where nobody knows; tokens of the summary)."""
    room = chat.fitting.room(chat, who.provider, who.model)
    if room is None:
        own = chat.fitting.room(chat, chat.provider, chat.model)
        return None, budget(own.window if own else UNKNOWN)
    key = who.provider.name, who.model
    scale = chat.fitting.known.get(key, Known()).scale or context.UNSURE
    size = budget(room.window)
    frame = context.weigh(context.question("", [], size))
    return max(64, room.at(scale) - frame - 2 * size), size


Turns = list[tuple[str, str]]


def _pieces(
    chat: Chat, who: Candidate, exchanges: Sequence[Exchange], former: str
) -> Iterator[Turns]:
    """The turns, as many at a time as the model takes in; of ones that are too long, less."""
    room, _ = _sizes(chat, who)
    turns = [(one.prompt, one.turn.text) for one in exchanges]
    if room is None:
        yield turns
        return
    total = context.weigh(former) + sum(context.weigh(*turn) for turn in turns)
    most = room // 2 if total <= room * MOST else max(16, room * MOST // len(turns) // 2)
    piece: Turns = []
    weight = 0
    for prompt, answer in turns:
        turn = context.shortened(prompt, most), context.shortened(answer, most)
        one = context.weigh(*turn) + MARKS
        if piece and weight + one > room:
            yield piece
            piece, weight = [], 0
        piece.append(turn)
        weight += one
    yield piece


async def _one(chat: Chat, who: Candidate, former: str, turns: Turns, spent: list[Tried]) -> str:
    """One request. Raises Failure where no summary came of it."""
    _, size = _sizes(chat, who)
    asked = context.question(former, turns, size // 2)
    request = Request(who.model, (Message("user", asked),))
    if chat.purse is not None:
        inside = chat.recorder.turn is not None
        allowed = chat.purse.within if inside else chat.purse.aside
        request = await allowed(chat, request, who, spent)
    turn = await answered(chat, who, request, spent)
    text = turn.text.strip()
    if turn.failure is not None:
        named = context.named(turn.failure.what)
        if turn.failure.kind is Kind.CONTEXT and named.window:  # for the next time
            key = who.provider.name, who.model
            chat.fitting.known[key] = chat.fitting.known.get(key, Known())._replace(
                window=named.window
            )
        raise turn.failure
    if not text or turn.refusal or turn.finish not in (Finish.STOP, Finish.LENGTH):
        raise Failure(Kind.EMPTY, f"{who.provider.name} gave none")
    return context.shortened(text, 2 * size)


async def answered(
    chat: Chat,
    who: Candidate,
    request: Request,
    spent: list[Tried],
    *,
    role: str = "summary",
    patience: float = PATIENCE,
    most: int | None = None,
) -> Turn:
    """The whole answer, or as soon as it has `most` characters, as a turn; `spent` gets its
    attempt, also where it is stopped."""
    name = who.provider.name
    fold = Fold(name, who.model, request, chat.clock, chat.price, chat.ratios)
    fold.add(Attempt(name, who.model))
    turn: Turn | None = None
    length = 0
    try:
        async with asyncio.timeout(patience):
            async with aclosing(chat.client.stream(who.provider, request)) as deltas:
                async for delta in deltas:
                    fold.add(delta)
                    length += len(delta.text)
                    if most is not None and length > most:
                        break
        turn = fold.turn()
    except TimeoutError:
        late = Failure(Kind.TIMEOUT_FIRST, f"{name} took longer than {patience:.0f} s")
        turn = fold.turn(failure=late)
    except Failure as failure:
        keyless(failure, who.provider)
        turn = fold.turn(failure=failure)
    finally:
        ended = turn or fold.turn(Finish.INTERRUPTED)
        spent.append(replace(ended.attempts[-1], role=role))
    return turn
