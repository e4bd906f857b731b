"""What `-m gpt`, `-m groq/llama` or an alias means: a provider and a model.

Owns the rules of naming. Must not fetch lists: they come in as arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.failure import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def split(
    wanted: str, providers: Collection[str], aliases: Mapping[str, str], pinned: bool = False
) -> tuple[str, str]:
    """(provider, model) of `wanted`; either may be empty.

    `provider/model` counts only where the part before the first slash is a provider and none is
    pinned by -p: OpenRouter's own ids have slashes. `provider/` alone means its default model.
    """
    wanted = aliases.get(wanted, wanted)
    head, slash, tail = wanted.partition("/")
    if not pinned and slash and head in providers:
        return head, tail
    return "", wanted


def match(wanted: str, known: Sequence[str]) -> str:
    """The known id that `wanted` means: itself, or the only one that holds it.

    An id that nobody knows is passed on as it is: lists are cached, servers have the last word.
    Raises UsageError where several fit.
    """
    if not wanted or wanted in known:
        return wanted
    low = wanted.lower()
    hits = [name for name in known if low in name.lower()]
    exact = [name for name in hits if name.lower() == low]
    if len(exact) == 1 or len(hits) == 1:
        return (exact or hits)[0]
    if hits:
        shown = ", ".join(hits[:6]) + (", …" if len(hits) > 6 else "")
        raise UsageError(f"“{wanted}” could be any of: {shown}", "Say a little more of the name.")
    return wanted


def nearest(wanted: str, known: Sequence[str], most: int = 3) -> list[str]:
    """The known names that look most like `wanted`, for "did you mean"."""
    from difflib import get_close_matches

    return get_close_matches(wanted, known, n=most, cutoff=0.4)
