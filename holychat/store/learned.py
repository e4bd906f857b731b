"""What servers taught us, kept between runs: model lists, fields that they refuse, windows.

A cache: one small JSON file a provider, in the cache folder. Everything in it can be learned
again, so an unreadable file is an empty one and a failed write is nobody's problem.
Must not fetch anything.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from holychat.core.context import Known
from holychat.core.provider import Quirks
from holychat.store.files import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holychat.core.provider import Provider


WINDOW = 24 * 3600.0  # seconds for which a window holds: a local server may get a larger one


class Learned:
    """Facts by provider. A fact holds for one base URL: another one starts with none."""

    def __init__(self, folder: str, provider: Callable[[str], Provider]) -> None:
        self._folder = folder
        self._provider = provider
        self._facts: dict[str, dict[str, Any]] = {}
        self.quirks: MutableMapping[str, Quirks] = _QuirkMemory(self)
        self.contexts: MutableMapping[tuple[str, str], Known] = _ContextMemory(self)

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

    def remember_context(self, name: str, model: str, known: Known, now: float) -> None:
        found = self.facts(name).get("context")
        others = found if isinstance(found, dict) else {}
        self._save(name, context={**others, model: [known.window, known.scale, now]})

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


class _ContextMemory(MutableMapping[tuple[str, str], Known]):
    """(provider, model) -> what is known of its window; what is set survives the process."""

    def __init__(self, learned: Learned) -> None:
        self._learned = learned

    def __getitem__(self, key: tuple[str, str]) -> Known:
        name, model = key
        rows = self._learned.facts(name).get("context")
        row = rows.get(model) if isinstance(rows, dict) else None
        if not (isinstance(row, list) and len(row) == 3 and all(map(_is_number, row))):
            raise KeyError(key)
        window, scale, at = row
        return Known(int(window) if 0 <= time.time() - at < WINDOW else 0, float(scale))

    def __setitem__(self, key: tuple[str, str], known: Known) -> None:
        self._learned.remember_context(*key, known, time.time())

    def __delitem__(self, key: tuple[str, str]) -> None:
        raise TypeError("what a server taught is not unlearned")

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _is_number(value: object) -> bool:
    """One that a window or a time can be; JSON's NaN and infinities are none."""
    return type(value) in (int, float) and 0 <= value <= 1e12  # type: ignore[operator]


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            facts = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
