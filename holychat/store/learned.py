"""What servers taught us, kept between runs: model lists, and fields that they refuse.

A cache: one small JSON file a provider, in the cache folder. Everything in it can be learned
again, so an unreadable file is an empty one and a failed write is nobody's problem.
Must not fetch anything.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from holychat.core.provider import Quirks
from holychat.store.files import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holychat.core.provider import Provider


class Learned:
    """Facts by provider. A fact holds for one base URL: another one starts with none."""

    def __init__(self, folder: str, provider: Callable[[str], Provider]) -> None:
        self._folder = folder
        self._provider = provider
        self._facts: dict[str, dict[str, Any]] = {}
        self.quirks: MutableMapping[str, Quirks] = _QuirkMemory(self)

    def models(self, name: str) -> list[str]:
        """Model ids as last listed by the server; empty when they never were."""
        ids = self.facts(name).get("models")
        return [item for item in ids if isinstance(item, str)] if isinstance(ids, list) else []

    def models_age(self, name: str, now: float) -> float | None:
        """Seconds since the list was fetched; None when it never was. `now` is Unix time."""
        when = self.facts(name).get("models_at")
        return max(0.0, now - when) if isinstance(when, (int, float)) else None

    def remember_models(self, name: str, ids: Sequence[str], now: float) -> None:
        self._save(name, models=list(ids), models_at=now)

    def remember_quirks(self, name: str, quirks: Quirks) -> None:
        self._save(
            name,
            stream_options=quirks.stream_options,
            max_tokens=quirks.max_tokens,
            prefix=bool(quirks.prefix),
        )

    def facts(self, name: str) -> dict[str, Any]:
        base_url = self._provider(name).base_url
        facts = self._facts.get(name)
        if facts is None:
            facts = self._facts[name] = _read(self._path(name))
        return facts if facts.get("base_url") == base_url else {}

    def _save(self, name: str, **changes: object) -> None:
        facts = {**self.facts(name), "base_url": self._provider(name).base_url, **changes}
        self._facts[name] = facts
        try:
            write_private(self._path(name), json.dumps(facts, indent=1).encode())
        except OSError:
            pass  # a cache

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, "learned", re.sub(r"[^\w.-]", "_", name) + ".json")


class _QuirkMemory(MutableMapping[str, Quirks]):
    """The mapping that the net client reads and writes; what is set survives the process."""

    def __init__(self, learned: Learned) -> None:
        self._learned = learned

    def __getitem__(self, name: str) -> Quirks:
        from dataclasses import replace

        facts = self._learned.facts(name)
        options, tokens = facts.get("stream_options"), facts.get("max_tokens")
        if not isinstance(options, bool) or not isinstance(tokens, str):
            raise KeyError(name)
        quirks = self._learned._provider(name).quirks  # noqa: SLF001 - one room
        if facts.get("prefix") is False:
            quirks = replace(quirks, prefix="", prefix_path="")
        return replace(quirks, stream_options=options, max_tokens=tokens)

    def __setitem__(self, name: str, quirks: Quirks) -> None:
        self._learned.remember_quirks(name, quirks)

    def __delitem__(self, name: str) -> None:
        raise TypeError("what a server taught is not unlearned")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            facts = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
