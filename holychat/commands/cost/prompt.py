"""A prompt before it is sent: its tokens, and what it would cost with a typical answer.

Owns the estimate, and which model is meant. Sends nothing and asks no server for its models, so a
part of a name is looked for in the list that is known already.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from holychat import env
from holychat.core.choose import match
from holychat.core.failure import StoreTrouble
from holychat.core.provider import Provider
from holychat.core.tokens import DOCUMENTED, counted
from holychat.core.whatif import TYPICAL, Offer, Piece, part_of, typical
from holychat.engine.choice import chosen
from holychat.engine.market import Target
from holychat.engine.place import store_path
from holychat.engine.shelf import here, opened, place
from holychat.store import ratios
from holychat.store.learned import Learned

if TYPE_CHECKING:
    from holychat.commands.cost import Asked
    from holychat.core.history import Conversation
    from holychat.engine.market import Market
    from holychat.settings import Settings
    from holychat.store.db import Database


class Quote(NamedTuple):
    """What a prompt would cost. `source` says where the answer's length is from: option, recorded
    or assumed. `messages` are those that are sent; `window` is the chosen model's, if known."""

    chosen: Offer
    offers: list[Offer]
    piece: Piece
    source: str
    messages: int
    window: int | None = None
    title: str = ""  # of the conversation that it goes on with


def quote(settings: Settings, asked: Asked, market: Market, text: str, *, cached: int) -> Quote:
    """`cached` is in millionths of a per cent of the prompt. Raises HolychatError."""
    with ExitStack() as stack:
        db = _store(settings, asked, stack)
        conversation = _conversation(db, asked) if db and asked.kept else None
        said = _history(db, conversation) if db and conversation else []
        target = _target(settings, asked, market, conversation)
        answer, source = _answer(db, target, asked.answer)
        known = ratios.get(db, target.pair) if db else DOCUMENTED
    system = (conversation.system if conversation else "") or settings["system"]
    messages = [*([system] if system else []), *said, text]
    tokens = known.estimate(counted(messages), len(messages))
    piece = Piece(market.at, 1, tokens, part_of(tokens, cached), answer)
    targets = market.named(asked.on) if asked.on else market.everything()
    offers = market.offers(targets, [piece])
    own = market.offers([target], [piece])[0]
    if not any(one[:2] == own[:2] and one.cost == own.cost for one in offers):
        offers = market.offers([target, *targets], [piece])
    rate = market.prices.rate(target.provider, target.model, market.at)
    title = conversation.title if conversation else ""
    window = rate.window if rate else None
    return Quote(own, offers, piece, source, len(messages), window, title)


def target(settings: Settings, asked: Asked, market: Market) -> Target:
    """The model that `-m` and `-p` mean, or the settings."""
    return _target(settings, asked, market, None)


def _target(
    settings: Settings, asked: Asked, market: Market, conversation: Conversation | None
) -> Target:
    def keyless(name: str) -> Provider:
        return market.provider_of(name) or Provider(name, "")

    learned = Learned(env.home(os.environ, "cache"), keyless)
    wanted, pinned = asked.model, asked.provider
    if conversation and conversation.provider and not (wanted or pinned):
        return Target(keyless(conversation.provider), conversation.model)
    name, model = chosen(settings, learned.models, wanted, pinned)
    default = settings[f"providers.{name}.model"]
    known = learned.models(name) or market.ids(name)
    if model and model != default:
        model = match(model, known)
    return Target(keyless(name), model or default or (known[0] if known else ""))


# --- What is kept ---------------------------------------------------------------------------------


def _store(settings: Settings, asked: Asked, stack: ExitStack) -> Database | None:
    """The store, where there is one. Raises UsageError where a conversation is wanted of none."""
    path = place(settings) if asked.kept else store_path(settings, os.environ)
    if not asked.kept and (path is None or not here(path)):
        return None
    try:
        return stack.enter_context(opened(path)) if path else None
    except StoreTrouble as trouble:  # an estimate can do without what was recorded
        if asked.kept:
            raise
        env.err(f"holychat: {trouble.what}")
        return None


def _conversation(db: Database, asked: Asked) -> Conversation:
    from holychat.store.conversations import find, latest

    return find(db, asked.session) if asked.session else latest(db)


def _history(db: Database, conversation: Conversation) -> list[str]:
    """What is sent of it: prompts that have an answer, and the answers."""
    from holychat.store.conversations import branch

    return [
        text
        for prompt, answer in pairwise(branch(db, conversation))
        if (prompt.role, answer.role) == ("user", "assistant")
        for text in (prompt.text, answer.text)
    ]


def _answer(db: Database | None, target: Target, given: int | None) -> tuple[int, str]:
    """The tokens of an answer, and where that is from."""
    if given is not None:
        return given, "option"
    if db is not None:
        from holychat.store.calls import lengths

        usual = typical(lengths(db, target.provider.name, target.model))
        if usual is not None:
            return usual, "recorded"
    return TYPICAL, "assumed"
