"""Who is asked for what: the rules that lead from settings and wishes to a provider and a model.

Owns the precedence between a wish (`-m`, `-p`), the configured provider and the configured model.
Fetches nothing and loads no client, so that a prompt can show the choice before anything is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.choose import split
from holychat.core.failure import SettingsError, key_variable
from holychat.core.provider import BUILT_IN, DEMO, Provider
from holychat.settings import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holychat.core.migrate import Terms
    from holychat.settings import Settings

    Known = Callable[[str], Sequence[str]]  # a provider's model ids, as far as they are known


FALLBACK = "fallback"  # the second provider of the seed documents: the first to stand in


def is_local(base_url: str) -> bool:
    return Provider("", base_url).local


def chosen(settings: Settings, known: Known, wanted: str, pinned: str) -> tuple[str, str]:
    """(provider, model) that `-m wanted -p pinned` mean; empty strings mean not said.

    The model is "" for the provider's default. Raises SettingsError for an unknown provider.
    """
    pinned = settings.canonical(pinned) if pinned else ""
    if wanted:
        named, model = _named(settings, known, wanted, bool(pinned))
        return pinned or named or settings.active(), model
    return _configured(settings, known, pinned)


def pins(settings: Settings, known: Known, wanted: str, pinned: str) -> bool:
    """Whether a wish names the provider itself, so that nobody else is to be asked."""
    return bool(pinned or (wanted and _named(settings, known, wanted, pinned=False)[0]))


def bare(settings: Settings, name: str) -> Provider:
    """A provider without its key: fetching one may mean a command to run."""
    fields = ("base_url", "model", "dialect", "needs_key")
    return Provider(name, **{each: settings[f"providers.{name}.{each}"] for each in fields})


def by_hand(settings: Settings) -> bool:
    """Whether the provider was said for this run (ACTIVE_PROVIDER), so that no split moves it."""
    return settings.value("provider").source.layer > Layer.CONFIG


def substitutes(settings: Settings, first: str, near: Sequence[str] = ()) -> list[str]:
    """Who is asked when `first` fails, in this order.

    Without a list of the user's: those `near` it, who have a part in the same split, then the
    fallback, then each provider that has a key. What is asked of this machine stays on it, though,
    unless the split leads elsewhere, and no demo stands in for a model.
    Raises SettingsError for an unknown name in the list.
    """
    said = settings["failover.providers"]
    if said.strip().lower() == "none" or first == DEMO:
        return []
    if said.strip():
        listed = [settings.canonical(name) for name in said.split(",") if name.strip()]
        usable = settings.names()
        return [name for name in listed if name in usable and name != first]
    if is_local(settings[f"providers.{first}.base_url"]):
        return [*near]
    known = {first, *near}
    names = [name for name in settings.names() if name not in known and _remote(settings, name)]
    return [*near, *sorted(names, key=lambda name: name != FALLBACK)]


def terms_of(settings: Settings) -> Terms:
    """When a stage of a migration is passed."""
    from holychat.core.migrate import Terms

    names = ("sample", "errors", "slower", "settle", "look")
    return Terms(**{name: settings[f"migrate.{name}"] for name in names})


def _remote(settings: Settings, name: str) -> bool:
    """A provider with a key of its own."""
    keyed = settings[f"providers.{name}.needs_key"] and settings.has_key(name)
    return bool(keyed) and not is_local(settings[f"providers.{name}.base_url"])


def _configured(settings: Settings, known: Known, pinned: str) -> tuple[str, str]:
    """The configured model, where it is meant for who is asked; else that one's default.

    `-p`, `ACTIVE_PROVIDER` and `ENABLE_X=false` move to another provider with no other change: a
    model that was set for the old one does not go with them.
    """
    said, active = settings["model"], pinned or settings.active()
    if not said:
        return active, ""
    named, model = _named(settings, known, said, pinned=False)
    overruled = settings.value("provider").source.layer > settings.value("model").source.layer
    if named in settings.names() and not pinned and not overruled:
        return named, model
    return active, model if active == (named or settings.home()) else ""


def _named(settings: Settings, known: Known, wanted: str, pinned: bool) -> tuple[str, str]:
    """`split`, also for a provider that is switched off, but not for ids that look like it."""
    names = {*settings.names(), *(row.name for row in BUILT_IN)}
    named, model = split(wanted, names, settings.aliases, pinned)
    if not named:
        return named, model
    whole, active = f"{named}/{model}", settings.active()
    if whole in known(active):
        return "", whole
    if settings[f"providers.{active}.dialect"] == "openrouter" and not settings.has_key(named):
        return "", whole  # all of OpenRouter's ids have a slash
    if whole == settings[f"providers.{named}.model"] or whole in known(named):
        return named, whole  # `openrouter/auto` is an id of openrouter's
    return named, model


def missing_key(settings: Settings, name: str) -> SettingsError:
    """The error of a provider without its key: what to do, also without one."""
    settings.provider(name)  # an unknown name says so, and which are known
    return SettingsError(
        f"there is no key for {name}",
        f"Set {key_variable(name)}, or run `holychat setup`. "
        f"`holychat demo` shows the program without one (-p {DEMO}).",
    )
