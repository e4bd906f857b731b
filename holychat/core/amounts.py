"""`10M` and `30%`: numbers of tokens and shares, as people type them. Exact; must not round."""

from __future__ import annotations

from holychat.core.price import exact_of

_POWERS = {"k": 3, "m": 6, "b": 9}
_MOST = 10**15  # tokens; more is a slip of the keyboard


def amount(text: str) -> int:
    """`10M`, `1.5k` and `10,000,000` as a number of tokens. Raises ValueError."""
    said = text.strip().lower().replace(",", "").replace("_", "")
    power = _POWERS.get(said[-1:], 0)
    if not said[:1].isdecimal() or "e" in said:
        raise ValueError("must be a number of tokens, like 10M, 500k or 2000")
    number = exact_of(said[:-1] if power else said, power)
    if number > _MOST:
        raise ValueError("must be a reasonable number of tokens")
    return number


def share(text: str) -> int:
    """`30%` and `30` in millionths of a per cent. Raises ValueError."""
    said = text.strip()
    number = exact_of(said.removesuffix("%").rstrip(), 6)
    if number > 100 * 10**6:
        raise ValueError("must be at most 100 %")
    if 0 < number < 10**6 and not said.endswith("%"):
        raise ValueError(f"must be per cent: {said}% is less than one")
    return number
