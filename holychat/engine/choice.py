"""Who is asked for what: the rules that lead from settings and wishes to a provider and a model.

Owns the precedence between a wish (`-m`, `-p`), the configured provider and the configured model.
Fetches nothing and loads no client, so that a prompt can show the choice before anything is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.choose import split
from holychat.core.failure import SettingsError, key_variable
from holychat.core.provider import BUILT_IN, DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holychat.settings import Settings

    Known = Callable[[str], Sequence[str]]  # a provider's model ids, as far as they are known


def chosen(settings: Settings, known: Known, wanted: str, pinned: str) -> tuple[str, str]:
    """(provider, model) that `-m wanted -p pinned` mean; empty strings mean not said.

    The model is "" for the provider's default. Raises SettingsError for an unknown provider.
    """
    pinned = settings.canonical(pinned) if pinned else ""
    if wanted:
        named, model = _named(settings, known, wanted, bool(pinned))
        return pinned or named or settings.active(), model
    return _configured(settings, known, pinned)


def _configured(settings: Settings, known: Known, pinned: str) -> tuple[str, str]:
    """The configured model, where it is meant for who is asked; else that one's default.

    `-p`, `ACTIVE_PROVIDER` and `ENABLE_X=false` move to another provider with no other change: a
    model that was set for the old one does not go with them.
    """
    said, active = settings["model"], pinned or settings.active()
    if not said:
        return active, ""
    named, model = _named(settings, known, said, pinned=False)
    if not named:
        return active, model if _home(settings) == active else ""
    if pinned or _overruled(settings) or named not in settings.names():
        return active, model if named == active else ""
    return named, model


def _named(settings: Settings, known: Known, wanted: str, pinned: bool) -> tuple[str, str]:
    """`split`, also for a provider that is switched off, but not for ids that look like it."""
    names = {*settings.names(), *(row.name for row in BUILT_IN)}
    named, model = split(wanted, names, settings.aliases, pinned)
    if not named:
        return named, model
    whole, active = f"{named}/{model}", settings.active()
    if whole in known(active):
        return "", whole
    if _field(settings, active, "dialect") == "openrouter" and not settings.has_key(named):
        return "", whole  # all of OpenRouter's ids have a slash
    if whole == _field(settings, named, "model") or whole in known(named):
        return named, whole  # `openrouter/auto` is an id of openrouter's
    return named, model


def _home(settings: Settings) -> str:
    """Who the configured model is meant for, where it names nobody: the provider said beside it or
    below it; else who would be asked if none were switched off."""
    name = settings["provider"]
    if _overruled(settings):
        # A level below is no business of ours but here: what the file says under the others.
        name = settings._layers.given.get(("provider",), "")  # noqa: SLF001
    if name.strip():
        return settings.canonical(name)
    keyed = (row.name for row in BUILT_IN if row.needs_key and settings.has_key(row.name))
    first = next(keyed, "")
    if first in settings.names() and _overruled(settings):
        return first
    return settings.active() if not first or first in settings.names() else first


def _overruled(settings: Settings) -> bool:
    """Whether the provider is said on a higher level than the model."""
    provider, model = settings.value("provider"), settings.value("model")
    return bool(provider.value.strip()) and provider.source.layer > model.source.layer


def _field(settings: Settings, name: str, field: str) -> str:
    return str(settings.value(f"providers.{name}.{field}").value)


def missing_key(settings: Settings, name: str) -> SettingsError:
    """The error of a provider without its key: what to do, also without one."""
    settings.provider(name)  # an unknown name says so, and which are known
    return SettingsError(
        f"there is no key for {name}",
        f"Set {key_variable(name)}, or run `holychat setup`. "
        f"`holychat demo` shows the program without one (-p {DEMO}).",
    )
