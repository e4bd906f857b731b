"""Where conversations are kept, by the settings.

By itself, so that a front that only reads them loads no network. Must not open anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holychat import env

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.settings import Settings


def store_path(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """The file of conversations; None where nothing is to be kept."""
    wanted: str = settings["store"]
    if wanted == "none":
        return None
    if wanted:
        return os.path.abspath(os.path.expanduser(wanted))
    return os.path.join(env.home(environ, "data"), "conversations.db")
