"""`holychat setup`: who is asked, with which key, for which model; checked, then written at once.

    questions  what is asked, in which order
    answers    whether they hold: an address, a key, a server that lists models
    talk       a list on the terminal, and the choice of one of it

This file owns what is written and what is told about it. Until the last step nothing is written,
and no key is ever shown: it is typed without echo and told by its mask.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from holychat import env
from holychat import settings as rules
from holychat.commands.setup.answers import Answers
from holychat.commands.setup.questions import Wizard
from holychat.core.failure import Failure, SettingsError
from holychat.core.provider import Secret
from holychat.exits import Exit, of_failure

if TYPE_CHECKING:
    from holychat.settings import Settings

__all__ = ["Answers", "run"]


def run(settings: Settings, answers: Answers) -> Exit:
    """Ask what is not answered, check it, write it. Raises UsageError and SettingsError."""
    wizard = Wizard(settings, answers)
    try:
        changes = wizard.changes()
    except Failure as failure:
        env.err(f"holychat: {failure.what}")
        env.err("  Nothing was written; --no-check writes it without asking the server.")
        return of_failure(failure)
    except (KeyboardInterrupt, EOFError) as left:
        env.err("\nholychat: nothing was written")
        if isinstance(left, KeyboardInterrupt):
            raise
        return Exit.SETTINGS
    needed = {
        name: value for name, value in changes.items() if _held(settings, name) != (value, None)
    }
    if needed:
        rules.write(settings.path, {name: value or None for name, value in needed.items()})
    _report(settings.path, needed)
    now = rules.load(environ=os.environ, cwd=Path.cwd(), path=settings.path)
    for name, value in changes.items():
        held, above = _held(now, name)
        if above and held != value:
            env.err(f"But {above} says something else of {name}, and counts.")
    env.err()
    env.err("Next: holychat" if "provider" in changes else f"Next: holychat -p {wizard.name}")
    return Exit.OK


def _held(settings: Settings, name: str) -> tuple[str, rules.Source | None]:
    """What holds, and who says so where that outranks the file."""
    try:
        held = settings.value(name)
    except SettingsError:
        return "", None  # a provider that is not there yet
    text = held.value.reveal() if isinstance(held.value, Secret) else str(held.value)
    return text, held.source if held.source.layer > rules.Layer.CONFIG else None


def _report(path: Path, written: dict[str, str]) -> None:
    env.err()
    if not written:
        env.err(f"{path} says all of it already.")
        return
    env.err(f"Written to {path}, which only you can read:")
    wide = max(map(len, written))
    for name, value in written.items():
        shown = Secret(value).mask if name.endswith(".api_key") else value
        env.err(f"  {name:<{wide}}  {shown or '(taken out, it would outrank)'}")
