"""The answer as data: one JSON object at the end, or one a line for each event as it comes.

The names here are an interface that scripts rely on; add, do not rename.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.core.chat import Attempt, Delta, Done, Failed, Lost, Notice, Queued
from holychat.core.failure import Failure
from holychat.screen.words import beside

if TYPE_CHECKING:
    from holychat.core.chat import Event, Timings, Tried, Turn, Usage
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
        "usage": usage_object(turn.usage),
        "timings": _timings_object(turn.timings),
        "error": failure_object(turn.failure) if turn.failure else None,
        "seams": list(turn.seams),
        "attempts": [_tried_object(one) for one in turn.attempts],
    }


def _tried_object(one: Tried) -> dict[str, Any]:
    return {
        "provider": one.provider,
        "model": one.model,
        "finish": one.finish.value,
        "at": one.at,
        "usage": usage_object(one.usage),
        "timings": _timings_object(one.timings),
        "error": failure_object(one.failure) if one.failure else None,
        **({"role": one.role} if one.role else {}),
    }


def usage_object(usage: Usage | None) -> dict[str, Any] | None:
    """The counts; `cost` in US dollars, null where no price is known, and a lower bound where
    `unpriced` says that some tokens have none."""
    if usage is None:
        return None
    cost = None if usage.cost is None else usage.cost / 10**12
    return {**asdict(usage), "cost": cost, "unpriced": usage.partly}


def _timings_object(timings: Timings) -> dict[str, float | None]:
    values = asdict(timings)
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


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
        elif not self._look.quiet and (said := beside(event)):
            env.err(said, dim=True)

    def close(self) -> None:
        """Nothing is held back."""


class JsonLinesWriter:
    """One line an event: `type` is attempt, failed, queued, delta, notice or done."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def show(self, event: Event) -> None:
        if shown := _event_object(event):
            _line(shown)

    def close(self) -> None:
        """Every line is out."""


def _event_object(event: Event) -> dict[str, Any]:
    """An event as JSON; empty where it says nothing."""
    match event:
        case Attempt():
            attempt = {"type": "attempt", "provider": event.provider, "model": event.model}
            return {**attempt, **({"at": len(event.partial)} if event.partial else {})}
        case Failed():
            error = failure_object(event.failure)
            after = {"then": event.then or None, "wait": round(event.wait, 3)}
            return {"type": "failed", "provider": event.provider, "error": error, **after}
        case Lost():
            lost = {"type": "lost", "provider": event.provider, "model": event.model}
            why = failure_object(event.failure) if event.failure else None
            return {**lost, "started": round(event.started, 3), "error": why}
        case Queued():
            place = {"position": event.position, "seconds": round(event.seconds, 3)}
            return {"type": "queued", "provider": event.provider, **place}
        case Delta():
            return _delta_object(event)
        case Notice():
            return {"type": "notice", "text": event.text}
        case Done():
            return {"type": "done", **turn_object(event.turn)}


def _delta_object(delta: Delta) -> dict[str, Any]:
    fields = {"text": delta.text, "reasoning": delta.reasoning}
    shown: dict[str, Any] = {name: value for name, value in fields.items() if value}
    if delta.finish:
        shown["finish"] = delta.finish.value
    if delta.usage:
        shown["usage"] = usage_object(delta.usage)
    return {"type": "delta", **shown} if shown else {}
