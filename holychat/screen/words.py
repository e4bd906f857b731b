"""What is said about a turn: the dim line after an answer, why one is not whole, how old it is.

Pure text; every front says it in the same words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.chat import Failed, Finish, Notice, Queued

if TYPE_CHECKING:
    from collections.abc import Callable

    from holychat.core.chat import Event, Turn, Usage
    from holychat.core.failure import Failure

    Cash = Callable[[int | None], str]  # 10^-12 US dollars in the user's currency

_ENDINGS: dict[Finish, str] = {
    Finish.LENGTH: "stopped at the token limit",
    Finish.FILTERED: "stopped by the provider's content filter",
    Finish.TOOL_CALLS: "the model asked for a tool, and there are none here",
    Finish.OVERLOADED: "the provider gave up in mid-answer",
    Finish.CUT: "cut off: what came is kept",
    Finish.INTERRUPTED: "stopped",
    Finish.FAILED: "failed",
}

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def ending(turn: Turn) -> str:
    """Why the answer is not whole; empty for a whole one."""
    return _ENDINGS.get(turn.finish, "")


BROKE_OFF = "broke off when holychat ended"


def broke_off(turn: Turn) -> bool:
    """Whether nobody was left to stop the answer, or to note how long it took."""
    return turn.finish is Finish.INTERRUPTED and not turn.timings.total


def tokens(usage: Usage) -> str:
    """`12 in (8 cached) · 40 out (10 reasoning)`, with `≈` where estimated."""
    about = "≈" if usage.estimated else ""
    prompt = f"{about}{usage.prompt:,} in" + (f" ({usage.cached:,} cached)" if usage.cached else "")
    out = f"{about}{usage.completion:,} out"
    return f"{prompt} · {out}" + (f" ({usage.reasoning:,} reasoning)" if usage.reasoning else "")


def price(usage: Usage, cash: Cash) -> str:
    """`$0.0004`, with `≈` where tokens are estimated and `≥` where some have no price; `cost ?`
    where none has; "" for what costs nothing."""
    if not usage.cost:
        return "cost ?" if usage.partly else ""
    shown = cash(usage.cost)
    about = "≈" if usage.estimated and not shown.startswith("<") else ""
    return f"{'≥ ' if usage.partly else about}{shown}"


def summary(turn: Turn, cash: Cash) -> str:
    """The line after an answer: ending, tokens, cost, first token, speed; for a foot or stderr."""
    timings, usage = turn.timings, turn.usage
    parts = [ending(turn), path(turn)]
    parts += [tokens(usage), price(usage, cash)] if usage else []
    if timings.first is not None:
        parts.append(f"first {timings.first:.2f} s")
        spent = timings.total - timings.first
        if usage and usage.completion > 1 and spent > 0.05:
            parts.append(f"{usage.completion / spent:,.0f} tok/s")
    return " · ".join(filter(None, parts))


def when(then: int, at: int) -> str:
    """How long ago that is seen from `at`; from a week on the date. Unix time in milliseconds."""
    ago = at - then
    if ago < 60_000:
        return "just now" if ago > -60_000 else date(then, at)
    if ago < _HOUR:
        return f"{ago // 60_000} min ago"
    if ago < _DAY:
        return f"{ago // _HOUR} h ago"
    return f"{ago // _DAY} d ago" if ago < 7 * _DAY else date(then, at)


def date(then: int, at: int) -> str:
    """`3 Nov`, in another year than that of `at` `3 Nov 2024`; of this place."""
    from datetime import UTC, datetime  # a pipe does without

    try:
        local = datetime.fromtimestamp(then / 1000, UTC).astimezone()
    except (ValueError, OverflowError, OSError):  # an imported one can say anything
        return "?"
    year = datetime.fromtimestamp(at / 1000, UTC).astimezone().year
    shown = f"{local.day} {_MONTHS[local.month - 1]}"
    return shown if local.year == year else f"{shown} {local.year}"


def beside(event: Event) -> str:
    """The line that an event is worth beside the answer; "" for none."""
    if isinstance(event, Notice):
        return event.text
    if isinstance(event, Failed):
        return failed(event)
    return queued(event) if isinstance(event, Queued) else ""


def failed(event: Failed) -> str:
    """What happened to an attempt, and what comes now; "" where the turn ends with it, for that
    is said at its end."""
    if not event.then:
        return ""
    if event.then != event.provider:
        return f"{event.failure.what}: asking {event.then}"
    when = f"in {seconds(event.wait)}" if event.wait >= 1 else "now"
    return f"{event.failure.what}: again {when}"


def queued(event: Queued) -> str:
    """Where a request stands in the line of its provider's limits."""
    about = f", about {seconds(event.seconds)}" if event.seconds >= 1 else ""
    return place(event) + about


def place(event: Queued) -> str:
    """The same without the time."""
    return f"number {event.position} in line for {event.provider}"


def path(turn: Turn) -> str:
    """How an answer came about where more than one attempt was made: `after holysheep 429`."""
    before = [one for one in turn.attempts if one.failure is not None and not one.role]
    if not before or turn.failure is not None:
        return ""
    said: dict[str, dict[str, None]] = {}  # sets that keep their order
    for one in before:
        if one.failure is not None:
            said.setdefault(one.provider, {})[_short(one.failure)] = None
    other = any(name != turn.provider for name in said)
    after = ", ".join(f"{name} {', '.join(what)}" for name, what in said.items())
    return (f"via {turn.provider} " if other else "") + f"after {after}"


def _short(failure: Failure) -> str:
    return str(failure.status or failure.kind.value)


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def who(model: str, provider: str) -> str:
    """`deepseek-chat on holysheep`; the provider alone where the model would say nothing more."""
    if not provider:  # an imported conversation knows the model alone
        return model
    return provider if model in ("", provider) else f"{model} on {provider}"
