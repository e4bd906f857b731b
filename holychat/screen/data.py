"""The answer as data: one JSON object at the end, or one a line for each event as it comes.

The names here are an interface that scripts rely on; add, do not rename.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.core.chat import Attempt, Delta, Done, Notice
from holychat.core.failure import Failure

if TYPE_CHECKING:
    from holychat.core.chat import Event, Turn
    from holychat.screen import Look


def turn_object(turn: Turn) -> dict[str, Any]:
    """A turn as `--json` prints it. Times are in seconds."""
    return {
        "text": turn.text,
        "reasoning": turn.reasoning,
        "provider": turn.provider,
        "model": turn.model,
        "served_model": turn.served_model or turn.model,
        "finish": turn.finish.value,
        "complete": turn.finish.complete,
        "refusal": turn.refusal,
        "usage": asdict(turn.usage) if turn.usage else None,
        "timings": {
            name: None if value is None else round(value, 4)
            for name, value in asdict(turn.timings).items()
        },
        "error": failure_object(turn.failure) if turn.failure else None,
    }


def failure_object(failure: Failure) -> dict[str, Any]:
    """A failure as JSON shows it."""
    return {
        "kind": failure.kind.value,
        "message": failure.what,
        "hint": failure.hint,
        "status": failure.status or None,
        "code": failure.code or None,
        "retry_after": failure.retry_after,
    }


# What JSON lets stand in a string, but a terminal would obey and a reader of lines would split at.
_ESCAPED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def _line(value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    safe = _ESCAPED.sub(lambda hit: f"\\u{ord(hit.group()):04x}", text)
    env.write(safe.encode("utf-8", "replace") + b"\n")


class JsonWriter:
    """One object at the end, also of a turn that failed."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def show(self, event: Event) -> None:
        if isinstance(event, Done):
            _line(turn_object(event.turn))
        elif isinstance(event, Notice) and not self._look.quiet:
            env.err(event.text, dim=True)

    def close(self) -> None:
        """Nothing is held back."""


class JsonLinesWriter:
    """One line an event: `type` is attempt, delta, notice or done."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def show(self, event: Event) -> None:
        if isinstance(event, Attempt):
            _line({"type": "attempt", "provider": event.provider, "model": event.model})
        elif isinstance(event, Delta):
            fields = {"text": event.text, "reasoning": event.reasoning}
            shown: dict[str, Any] = {name: value for name, value in fields.items() if value}
            if event.finish:
                shown["finish"] = event.finish.value
            if event.usage:
                shown["usage"] = asdict(event.usage)
            if shown:
                _line({"type": "delta", **shown})
        elif isinstance(event, Notice):
            _line({"type": "notice", "text": event.text})
        else:
            _line({"type": "done", **turn_object(event.turn)})

    def close(self) -> None:
        """Every line is out."""
