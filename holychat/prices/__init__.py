"""What the models cost: one file of dated rows a provider, the user's own prices over them.

Owns the files beside it (README.md says how a row is added), the choice of the file and the
reading of it. Must not know the settings, which it takes as plain mappings, or do arithmetic:
`core.price` does. Nothing is read before the first question, and then only the file of the
provider in question.

Who sells is told by the address, so that a provider of the user's own that leads to OpenAI has
OpenAI's prices, and a relay that took over a known name has none that nobody knows. What runs on
this machine and wants no key costs nothing; one that wants a key may charge for it.
"""

from __future__ import annotations

import time
from functools import cache
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holychat.core.price import (
    Rate,
    Special,
    Tariff,
    cost,
    exact_of,
    find,
    per_token,
    week_minute,
)
from holychat.core.provider import BUILT_IN, DEMO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.core.chat import Usage
    from holychat.core.provider import Provider

HERE = "runs on this machine"
YOURS = "your settings"
_NAMES = frozenset(row.name for row in BUILT_IN)


class Prices:
    """The prices as they hold for this user. Making one costs nothing.

    `own` is the [prices] table: {"openai/gpt-4.1": {"input": "1.80", ...}}, where a model without a
    provider is meant for all of them, and what is not said stays as listed. `rates` is
    [money.rates]: how much of a currency one US dollar buys. Raises ValueError for what is no
    number (the settings have judged theirs already).
    """

    __slots__ = ("_found", "_own", "exchange")

    def __init__(
        self,
        own: Mapping[str, Mapping[str, Any]] | None = None,
        rates: Mapping[str, object] | None = None,
    ) -> None:
        self._own = {name.lower(): said for name, said in (own or {}).items()}
        self._found: dict[tuple[object, ...], Rate | None] = {}
        self.exchange = {name: exact_of(value, 12) for name, value in (rates or {}).items()}

    def rate(self, provider: Provider, model: str, at: float) -> Rate | None:
        """The row in force at a time (unix seconds); None where nothing is known of the model."""
        day = int(at // 86400)
        key = (provider.name, provider.base_url, provider.needs_key, model, day)
        if key not in self._found:
            date = time.strftime("%Y-%m-%d", time.gmtime(day * 86400))
            self._found[key] = self._rate(provider, model, date)
        return self._found[key]

    def cost(self, provider: Provider, model: str, usage: Usage, at: float) -> int | None:
        """In 10^-12 US dollars; None where it is not known. What the server says itself wins."""
        if usage.cost is not None:
            return usage.cost
        rate = self.rate(provider, model, at)
        return cost(rate, usage, week_minute(at), self.exchange) if rate else None

    def everywhere(self, at: float) -> list[Rate]:
        """What every known model of every built-in provider costs at a time, under its first id."""
        found: dict[tuple[str, str], Rate] = {}
        for provider in BUILT_IN:
            prefix = f"{provider.name}/"
            models = [rate.model for rate in load(provider.name)]
            models += [name.removeprefix(prefix) for name in self._own if name.startswith(prefix)]
            for model in models:
                rate = self.rate(provider, model, at)
                if rate and rate.tariff:
                    found.setdefault((provider.name, rate.model.lower()), rate)
        return list(found.values())

    def _rate(self, provider: Provider, model: str, day: str) -> Rate | None:
        who = seller(provider)
        if who == DEMO or (provider.local and not provider.needs_key):
            listed: Rate | None = Rate(provider.name, (model,), Tariff(0, 0), source=HERE)
        else:
            listed = find(load(who), model, day)
        said = self._said(provider.name, who, model)
        if listed and not said:  # what was said of a model is meant for its other ids too
            said = self._said(provider.name, who, listed.model)
        return _changed(listed or Rate(provider.name, (model,)), said) if said else listed

    def _said(self, name: str, who: str, model: str) -> Mapping[str, Any]:
        """The user's own words on a model; those for its provider count before those for all."""
        model = model.lower()
        for key in (f"{name}/{model}".lower(), f"{who}/{model}"):
            if key in self._own:
                return self._own[key]
        # OpenRouter's model `openai/gpt-4.1` is not what was said of gpt-4.1 at openai.
        return {} if model.partition("/")[0] in _NAMES else self._own.get(model, {})


def _changed(rate: Rate, said: Mapping[str, Any]) -> Rate:
    """A row with what the user says of it. Prices of the user's hold at all hours."""
    currency = said.get("currency", rate.currency)
    changes: dict[str, Any] = {"currency": currency, "source": YOURS}
    changes |= {name: said[name] for name in ("window", "max_output") if name in said}
    own = {name: per_token(said[name]) for name in ("input", "output", "cached") if name in said}
    if currency != rate.currency:  # the listed prices are no help
        rate = rate._replace(tariff=None, special=())
    if own and rate.tariff:
        changes |= {"tariff": rate.tariff._replace(**own), "special": ()}
    elif {"input", "output"} <= set(own):
        changes["tariff"] = Tariff(**own)
    return rate._replace(**changes)


def seller(provider: Provider) -> str:
    """The built-in provider at the same address; empty where there is none."""
    origin = provider.origin
    return next((row.name for row in BUILT_IN if row.origin == origin), "")


# --- The files ----------------------------------------------------------------------------------


@cache
def load(name: str) -> tuple[Rate, ...]:
    """The rows of a built-in provider, in the order of its file; none where it has no file."""
    try:
        text = Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    head = read(text)
    return tuple(_rate_of(name, {**head, **row}) for row in head.pop("rate"))


def read(text: str) -> dict[str, Any]:
    """A price file, which keeps to the part of TOML whose values are JSON too, one a line.

    As `tomllib` reads it (a test holds both together), whose import alone costs 5 ms: more than all
    else here, and everybody who asks one question would pay.
    """
    table: dict[str, Any] = {"rate": []}
    rates, here = table["rate"], table
    for line in text.splitlines():
        key, equals, value = line.partition(" = ")
        if line == "[[rate]]":
            rates.append(here := {})
        elif line == "[[rate.special]]":
            rates[-1].setdefault("special", []).append(here := {})
        elif equals and line[0] != "#":
            here[key] = loads(value)
    return table


def _rate_of(provider: str, row: dict[str, Any]) -> Rate:
    return Rate(
        provider,
        tuple(row["models"]),
        _tariff(row) if "input" in row else None,
        row["since"],
        row.get("until", ""),
        row.get("currency", "USD"),
        tuple(_special(one) for one in row.get("special", ())),
        row.get("window"),
        row.get("max_output"),
        row["source"],
    )


def _tariff(row: Mapping[str, Any]) -> Tariff:
    cached = per_token(row["cached"]) if "cached" in row else None
    return Tariff(per_token(row["input"]), per_token(row["output"]), cached)


def _special(row: Mapping[str, Any]) -> Special:
    begin, _, end = row.get("hours", "00:00-00:00").partition("-")
    days = tuple(row.get("days", range(7)))
    return Special(_tariff(row), _minute(begin), _minute(end), days, row.get("above", 0))


def _minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)
