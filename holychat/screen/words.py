"""What is said about a turn: the dim line after an answer, and why one is not whole.

Pure text; every front says it in the same words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.chat import Finish

if TYPE_CHECKING:
    from holychat.core.chat import Turn, Usage

_ENDINGS: dict[Finish, str] = {
    Finish.LENGTH: "stopped at the token limit",
    Finish.FILTERED: "stopped by the provider's content filter",
    Finish.TOOL_CALLS: "the model asked for a tool, and there are none here",
    Finish.OVERLOADED: "the provider gave up in mid-answer",
    Finish.CUT: "cut off: what came is kept",
    Finish.INTERRUPTED: "stopped",
    Finish.FAILED: "failed",
}


def ending(turn: Turn) -> str:
    """Why the answer is not whole; empty for a whole one."""
    return _ENDINGS.get(turn.finish, "")


def tokens(usage: Usage) -> str:
    """`12 in (8 cached) · 40 out (10 reasoning)`, with `≈` where estimated."""
    about = "≈" if usage.estimated else ""
    prompt = f"{about}{usage.prompt:,} in" + (f" ({usage.cached:,} cached)" if usage.cached else "")
    out = f"{about}{usage.completion:,} out"
    return f"{prompt} · {out}" + (f" ({usage.reasoning:,} reasoning)" if usage.reasoning else "")


def summary(turn: Turn) -> str:
    """The line after an answer: ending, tokens, first token, speed; for a foot or for stderr."""
    timings, usage = turn.timings, turn.usage
    parts = [ending(turn), tokens(usage) if usage else ""]
    if timings.first is not None:
        parts.append(f"first {timings.first:.2f} s")
        spent = timings.total - timings.first
        if usage and usage.completion > 1 and spent > 0.05:
            parts.append(f"{usage.completion / spent:,.0f} tok/s")
    return " · ".join(filter(None, parts))


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def who(model: str, provider: str) -> str:
    """`deepseek-chat on holysheep`; the provider alone where the model would say nothing more."""
    return provider if model in ("", provider) else f"{model} on {provider}"
