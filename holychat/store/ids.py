"""New ids, and the time as the store writes it."""

from __future__ import annotations

import secrets
import time

LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # none that is taken for another


def now() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """60 random bits, readable."""
    return "".join(secrets.choice(LETTERS) for _ in range(12))
