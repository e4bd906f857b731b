"""What a prompt would send, and what that takes: for `--dry-run`. Sends nothing and needs no key.

Owns the choice without a key. Must not differ from what a turn does: the messages are those of the
chat's own plan, the body is the wire's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core import wire
from holychat.core.chat import Request, Usage
from holychat.core.choose import match
from holychat.core.tokens import request as request_tokens
from holychat.engine.choice import bare, chosen
from holychat.engine.context import Asked
from holychat.engine.failover import Candidate

if TYPE_CHECKING:
    from holychat.core.provider import Provider
    from holychat.engine.conversation import Chat
    from holychat.engine.session import Session

THOUSAND = 1000  # tokens of an answer, of which nobody knows the length


class Preview(NamedTuple):
    """A request that is not sent. Tokens are estimated; costs are in 10^-12 US dollars, None where
    no price is known: that of the prompt, and of each thousand tokens of an answer."""

    provider: str
    model: str
    url: str
    body: dict[str, Any]
    tokens: int
    left_out: int  # turns of the history that would not go along
    cost: int | None
    answer: int | None
    refused: str = ""  # why a limit would refuse it
    estimated: bool = True  # the tokens, and so what they cost


def whom(session: Session, wanted: str, pinned: str) -> tuple[Provider, str]:
    """Who would be asked for what, by what is known here. Raises HolychatError."""
    settings, listed = session.settings, session.learned.models
    name, model = chosen(settings, listed, wanted, pinned)
    provider = bare(settings, name)
    if model and model != provider.model:
        model = match(model, listed(name))
    return provider, model or provider.model or next(iter(listed(name)), "")


async def preview(session: Session, chat: Chat, prompt: str) -> Preview:
    """The request that `chat.send(prompt)` would make first."""
    await session.scale.load(chat.provider.name, chat.model)
    plan = chat.fitting.planned(chat, Asked(prompt, chat.exchanges))
    messages = chat.messages(prompt, chat.exchanges, plan)
    name, model = chat.provider.name, chat.model
    request = Request(model, messages, dict(chat.params), chat.stream)
    refused = ""
    if chat.purse is not None:
        who = Candidate(chat.provider, model)
        request, refused = await chat.purse.foreseen(chat, request, who)
    tokens = request_tokens([each.content for each in messages], chat.ratios(name, model))
    quirks = session.client.quirks.get(name, chat.provider.quirks)
    return Preview(
        name,
        model,
        f"{chat.provider.base_url}/chat/completions",
        wire.body(request, quirks),
        tokens,
        plan.cut,
        chat.price(name, model, Usage(tokens)),
        chat.price(name, model, Usage(0, THOUSAND)),
        refused,
    )
