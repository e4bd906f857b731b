"""How many tokens a text takes, without a vocabulary.

Owns the estimate. Whatever shows one marks it with `≈`.
"""

from __future__ import annotations

# Tokens per character, from DeepSeek's documentation (token usage): an English character is about
# 0.3 token, a Chinese one about 0.6.
ASCII = 0.3
OTHER = 0.6


def estimate(text: str) -> int:
    """Tokens of the text, at least 1 for any text at all. Linear."""
    plain = len(text.encode("ascii", "ignore"))
    return max(1, round(plain * ASCII + (len(text) - plain) * OTHER)) if text else 0
