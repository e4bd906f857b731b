"""How many tokens a text takes, without a vocabulary.

Owns the estimate. Whatever shows one marks it with `≈`.
"""

from __future__ import annotations

# Tokens per character, from DeepSeek's documentation (token usage): an English character is about
# 0.3 token, a Chinese one about 0.6.
ASCII = 0.3
OTHER = 0.6


def weight(text: str) -> float:
    """Tokens of the text, with their fraction: parts of a text can be summed. Linear."""
    plain = len(text.encode("ascii", "ignore"))
    return plain * ASCII + (len(text) - plain) * OTHER


def estimate(text: str) -> int:
    """Tokens of the text, at least 1 for any text at all. Linear."""
    return max(1, round(weight(text))) if text else 0
