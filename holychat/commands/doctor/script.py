"""What the events of a turn say, one line each, for somebody who watches them.

Knows events by their names and fields alone, so that one that comes to exist is shown too. Must not
judge anything.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core.failure import Failure
from holychat.core.sanitize import one_line
from holychat.screen.words import ending

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 300  # characters of a line


class Line(NamedTuple):
    """`at` is in seconds since the turn began; None for what is no part of it."""

    at: float | None
    label: str
    text: str


class Script:
    """Events in, lines out. Of an answer's many pieces only the first of each attempt is told.

    `asked` gets the provider of each attempt.
    """

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked
        self._silent = True  # nothing came of the attempt that runs
        self._before = ("", "")

    def lines(self, event: object) -> list[tuple[str, str]]:
        """(label, text) of what is worth a line; a countdown is told once."""
        kind = type(event).__name__
        if kind == "Delta":
            return self._delta(event)
        if kind == "Attempt":
            self._silent = True
            self._asked.append(str(getattr(event, "provider", "")))
        label, text = LABELS.get(kind, kind.lower()), one_line(TELL.get(kind, told)(event), LONGEST)
        same = (label, re.sub(r"[\d.]+", "0", text))
        repeated, self._before = same == self._before and kind not in TELL, same
        return [] if repeated else [(label, text)]

    def _delta(self, delta: Any) -> list[tuple[str, str]]:
        text, reasoning = getattr(delta, "text", ""), getattr(delta, "reasoning", "")
        if not self._silent or not (text or reasoning):
            return []
        self._silent = False
        self._before = ("", "")
        return [("answer", f"begins: {one_line(text, 40)}" if text else "its reasoning begins")]


def told(event: object) -> str:
    """Any event, by its fields; empty ones say nothing."""
    if not is_dataclass(event):
        return str(event)
    pairs = ((each.name, getattr(event, each.name, None)) for each in fields(event))
    return ", ".join(f"{name} {_value(value)}" for name, value in pairs if value not in (None, ""))


def _value(value: object) -> str:
    if isinstance(value, Failure):
        return _failure(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _failure(failure: Any) -> str:
    return f"{getattr(failure, 'kind', '')}: {getattr(failure, 'what', failure)}"


def _attempt(event: Any) -> str:
    model = "" if event.model.lower() == event.provider.lower() else f"{event.model} on "
    partial = getattr(event, "partial", "")
    return f"{model}{event.provider}" + (
        f", to go on after {len(partial)} characters" if partial else ""
    )


def _failed(event: Any) -> str:
    then, wait = getattr(event, "then", ""), getattr(event, "wait", 0.0)
    pause = f" in {wait:.1f} s" if wait else " at once"
    return _failure(event.failure) + (f"; next {then}{pause}" if then else "; nobody is left")


def _notice(event: Any) -> str:
    return str(event.text)


def _done(event: Any) -> str:
    turn = event.turn
    parts = [ending(turn) or "complete", f"{len(turn.text.split())} words"]
    seams = getattr(turn, "seams", ())
    if seams:
        parts.append(f"joined after {' and '.join(map(str, seams))} characters")
    return ", ".join(parts)


LABELS = {"Done": "end"}
TELL: dict[str, Callable[[Any], str]] = {
    "Attempt": _attempt,
    "Failed": _failed,
    "Notice": _notice,
    "Done": _done,
}
