"""What `/cost` says: this conversation so far, its last answer, and the cheapest elsewhere.

Owns these lines. The tokens are those of the conversation as it stands; they are priced as if all
of it were said now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.sanitize import one_line
from holychat.core.whatif import Piece, times
from holychat.engine.ledger import money_of
from holychat.engine.market import Market
from holychat.engine.times import now
from holychat.screen.words import price, tokens, who

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holychat.core.chat import Usage
    from holychat.core.whatif import Offer
    from holychat.engine.conversation import Chat
    from holychat.settings import Settings

CHEAPEST = 3


def lines(chat: Chat, settings: Settings) -> Iterator[str]:
    """All that was used counts, what was thrown away meanwhile too."""
    used, last = chat.used, chat.last
    if not (used.prompt or used.completion):
        yield "(nothing was used yet)"
        return
    market = Market(settings, now() // 1000)

    cash = money_of(settings)

    def said(usage: Usage) -> str:
        return f"{tokens(usage)}: {price(usage, cash) or cash(usage.cost)}"

    many = len(chat.exchanges)
    yield f"{many} exchange{'' if many == 1 else 's'}, {said(used)}"
    if many > 1 and last and last.usage:
        yield f"the last one, {said(last.usage)}"
    yield f"the same tokens now, at the {CHEAPEST} cheapest others:"
    piece = Piece(market.at, max(1, many), used.prompt, used.cached, used.completion)
    for one in _others(market, piece, chat):
        compared = times(one.cost, used.cost)
        yield f"  {cash(one.cost):<9} {compared:<6} {who(one_line(one.model, 60), one.provider)}"


def _others(market: Market, piece: Piece, chat: Chat) -> list[Offer]:
    here = (chat.provider.name, chat.model)
    offers = market.offers(market.everything(), [piece])
    return [one for one in offers if one[:2] != here and one.cost is not None][:CHEAPEST]
