"""What can be said of a provider without asking it: whose key it has, which model it would get.

For the fronts that list, check and set up. Must not fetch anything, a key_command's key included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.choose import match
from holychat.core.failure import SettingsError, UsageError
from holychat.engine.choice import chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.settings import Settings

KEY_SETTINGS = ("api_key", "key_file", "key_command")  # the first one that is set counts


def key_of(settings: Settings, name: str) -> tuple[str, str]:
    """(what, who said it) of a provider's key; two empty strings where there is none.

    `what` is the mask of a key that is set itself, else the setting that leads to it.
    """
    for field in KEY_SETTINGS:
        held = settings.value(f"providers.{name}.{field}")
        if held.value:
            return (held.value.mask if field == "api_key" else field), str(held.source)
    return "", ""


def default_model(settings: Settings, name: str, listed: Sequence[str] = ()) -> str:
    """The model that `-p name` alone asks for; empty where only the provider's own list could
    tell, and `listed` is empty."""
    try:
        _, model = chosen(settings, lambda who: listed if who == name else (), "", name)
    except SettingsError:  # of somebody unknown who was configured: this one is well
        model = ""
    model = model or str(settings[f"providers.{name}.model"])
    try:
        model = match(model, listed)
    except UsageError:
        pass  # several fit: whoever asks for it is told so
    return model or (listed[0] if listed else "")
