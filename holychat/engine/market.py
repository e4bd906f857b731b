"""The models that work could be sent to, by the price list: who sells them, and what they cost.

Owns the way from what the user names to rows of the price list, and from work to offers. Must not
do arithmetic (`core.whatif` does), fetch a key or ask a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holychat.core.choose import nearest
from holychat.core.failure import UsageError
from holychat.core.price import Rate
from holychat.core.provider import BUILT_IN, Provider
from holychat.core.sanitize import one_line
from holychat.core.whatif import Offer, by_day, listed, ranked, repriced
from holychat.engine.ledger import prices_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holychat.core.whatif import Piece
    from holychat.settings import Settings

_HOUSES = {row.name: row for row in BUILT_IN}
SHOWN = 6  # models that a name which fits several is shown to fit


class Target(NamedTuple):
    """A model at a provider. `ids` are all names that its price is known under."""

    provider: Provider
    model: str
    ids: tuple[str, ...] = ()

    @property
    def pair(self) -> str:
        return f"{self.provider.name}/{self.model}"

    def called(self, name: str) -> bool:
        """Whether this is its name, with or without its provider's, in any case of the letters."""
        low = name.lower()
        ids = {one.lower() for one in (self.model, *self.ids)}
        return low in ids or low.removeprefix(f"{self.provider.name}/") in ids


class Market:
    """The price list as it holds for this user at a time (Unix time). Nothing is read before the
    first question."""

    def __init__(self, settings: Settings, at: int) -> None:
        self.at = at
        self._settings = settings
        self.prices, self.provider_of = prices_of(settings)
        self._all: list[Target] = []

    def everything(self) -> list[Target]:
        """All models whose price is known, the user's own among them."""
        if not self._all:
            rates = self.prices.everywhere(self.at)
            found = [Target(_HOUSES[rate.provider], rate.model, rate.models) for rate in rates]
            self._all = [*found, *self._own()]
        return self._all

    def _own(self) -> list[Target]:
        """Models of the user's own providers, as far as the settings price them."""
        found = []
        for name in self._settings.prices:
            head, slash, model = name.partition("/")
            provider = self.provider_of(head) if slash and head not in _HOUSES else None
            if provider is not None and self._priced(provider, model):
                found.append(Target(provider, model, (model,)))
        return found

    def _priced(self, provider: Provider, model: str) -> bool:
        rate = self.prices.rate(provider, model, self.at)
        return bool(rate and rate.tariff)

    def ids(self, name: str) -> list[str]:
        """The models whose price is known at a provider, each by one of its ids."""
        return [each.model for each in self.everything() if each.provider.name == name]

    # --- What a name means ------------------------------------------------------------------

    def named(self, wanted: Iterable[str]) -> list[Target]:
        """The models of these names, each once. Raises UsageError for none, and for several."""
        found: dict[str, Target] = {}
        for text in wanted:
            for name in filter(None, map(str.strip, text.split(","))):
                for target in self._named(self._settings.aliases.get(name, name)):
                    found.setdefault(target.pair, target)
        return list(found.values())

    def _named(self, name: str) -> list[Target]:
        """The model of that name at a provider, or at all that have it; else the only one whose
        name holds it."""
        head, slash, model = name.partition("/")
        exact = [each for each in self.everything() if each.called(name)]
        at_home = [each for each in exact if slash and each.provider.name == head.lower()]
        if at_home or exact:
            return at_home or exact
        if slash and model and (own := self._elsewhere(head, model)):
            return [own]
        return self._holding(name)

    def _elsewhere(self, head: str, model: str) -> Target | None:
        """A model of a provider of the settings that is on no list: of this machine, perhaps."""
        provider = self.provider_of(head)
        if provider is None or not self._priced(provider, model):
            return None
        return Target(provider, model)

    def _holding(self, name: str) -> list[Target]:
        low = name.lower()
        hits = {
            f"{each.provider.name}/{one}": each
            for each in self.everything()
            for one in each.ids
            if low in f"{each.provider.name}/{one}".lower()
        }
        pairs = {each.pair: each for each in hits.values()}
        if len(pairs) == 1 or len({each.model.lower() for each in pairs.values()}) == 1:
            return list(pairs.values())
        if pairs:
            shown = ", ".join(list(pairs)[:SHOWN]) + (", …" if len(pairs) > SHOWN else "")
            raise UsageError(f"“{one_line(name, 60)}” could be any of: {shown}")
        raise UsageError(f"no price is known for “{one_line(name, 60)}”{self._like(name)}")

    def _like(self, name: str) -> str:
        known = {one: None for each in self.everything() for one in (each.pair, *each.ids)}
        near = nearest(name.lower(), list(known))
        return f"; near: {', '.join(near)}" if near else ""

    # --- What work costs --------------------------------------------------------------------

    def offers(
        self, targets: Iterable[Target], pieces: Sequence[Piece], *, by_list: bool = False
    ) -> list[Offer]:
        """What the work costs at each, ranked, by the prices of its own days. `by_list`: without
        those of special hours and lengths, for work of which neither is known."""
        days = by_day(pieces)

        def offer(target: Target) -> Offer:
            def rate(at: int) -> Rate | None:
                found = self.prices.rate(target.provider, target.model, at)
                return listed(found) if found and by_list else found

            found = repriced(days, rate, self.prices.exchange) or (None, None)
            return Offer(target.provider.name, target.model, *found)

        return ranked(offer(target) for target in targets)
