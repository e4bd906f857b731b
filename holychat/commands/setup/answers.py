"""The answers of setup, and whether they hold: an address, a key, a server that lists models."""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from holychat import env
from holychat import settings as rules
from holychat.core.failure import Failure, SettingsError, UsageError
from holychat.core.provider import Secret
from holychat.net.client import Client, Timers
from holychat.store.learned import Learned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.core.provider import Provider

PATIENCE = 15.0  # seconds for the server's list, with somebody waiting


@dataclass(frozen=True, slots=True)
class Answers:
    """What the command line answered already; an empty string is a question left open."""

    provider: str = ""
    model: str = ""
    key: str = ""  # "-" for stdin
    base_url: str = ""
    yes: bool = False
    check: bool = True


def address(text: str) -> str:
    """A provider's address. Raises UsageError."""
    try:
        return str(rules.parsed("providers.own.base_url", text))
    except SettingsError as error:
        raise UsageError(f"--base-url {error.what.partition(' ')[2]}") from error


def usable_key(text: str) -> str:
    """A key without the white space around it. Raises UsageError."""
    key = Secret(text).reveal()
    if not (key and key.isascii() and key.isprintable()):
        what = "the key holds characters that no key has" if key else "no key came"
        raise UsageError(what)
    return key


def name_of(base_url: str) -> str:
    """`together` of https://api.together.xyz/v1, `box` of http://box:8000/v1, else `own`."""
    word = (urlsplit(base_url).hostname or "").split(".")[-2:][0]
    return word if re.fullmatch("[a-z][a-z0-9-]*", word) else "own"


def listed(provider: Provider) -> list[str]:
    """Its models, told and remembered: `-m` by a part of a name works from the first prompt on.

    Raises Failure.
    """
    if env.is_terminal(env.STDERR):
        env.err(f"· asking {provider.name} for its models …", dim=True)
    ids, public = asyncio.run(_fetched(provider))
    env.err(f"  {provider.name} answers and lists {many(ids)}")
    if public:
        env.err("  It lists them for anybody, which proves no key:")
        env.err(f"  `holychat doctor --ask -p {provider.name}` tries it for one token.")
    learned = Learned(env.home(os.environ, "cache"), lambda _: provider)
    learned.remember_models(provider.name, ids, time.time())
    return ids


async def _fetched(provider: Provider) -> tuple[list[str], bool]:
    """What it lists, and whether it answers somebody without the key as well."""
    client = Client(Timers(10.0, PATIENCE, PATIENCE, PATIENCE))
    try:
        ids = await client.models(provider)
        if not provider.key:
            return ids, False
        try:
            async with asyncio.timeout(2.0):
                await client.models(replace(provider, key=Secret(), headers={}))
            return ids, True
        except (Failure, TimeoutError):
            return ids, False
    finally:
        await client.aclose()


def many(ids: Sequence[str]) -> str:
    return f"{len(ids)} model{'' if len(ids) == 1 else 's'}"
