"""How a migration looks on the screen: plain lines, at most 80 columns.

Owns the words and the columns. Must not know a store or a terminal.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from holychat.core.migrate import ASSESS, BACK, DONE, FULL, SHADOW
from holychat.core.sanitize import one_line
from holychat.screen.words import when

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holychat.core.migrate import Compared, Figures, Migration
    from holychat.store.migration import Usage

WIDE = 79
UNKNOWN = "not known"


def usage(name: str, used: Usage) -> list[str]:
    """What a provider was asked for in the last 30 days."""
    if not used.requests:
        return [f"{name}: nothing in the store of the last 30 days"]
    about = "≈ " if used.estimated else ""
    rows = [
        ("requests", f"{used.requests:,}, {used.requests / used.days:,.1f} a day"),
        ("tokens", f"{about}{used.prompt:,} in, {about}{used.completion:,} out"),
    ]
    if used.hour:
        hour, calls = used.hour
        rows.append(("busiest", f"{hour:02}:00 to {(hour + 1) % 24:02}:00, {calls:,} of them"))
    if used.streamed is not None:
        rows.append(("streamed", f"≈ {100 * used.streamed:.0f} % of the answers"))
    named = [f"{count:,} {kind}" for kind, count, _ in used.errors]
    rows.append(("errors", ", ".join(named) or "none"))
    if used.errors:
        rows.append(("", f"of the most frequent kind, the last: {used.errors[0][2]}"))
    head = f"{name}, the last 30 days"
    return [head, *(one_line_at(f"  {label:<10}", text) for label, text in rows)]


def one_line_at(before: str, text: str) -> str:
    return f"{before}{one_line(text, WIDE - len(before))}".rstrip()


def price(state: Migration, used: Usage, cost: str) -> str:
    """What the copies of the shadow cost, before anybody agrees to it; `cost` is that of a day in
    money, "" where it is not known."""
    share = f"{100 * state.shadow:g} %"
    if not used.requests:
        said = "what that costs is not known: the store has no request to go by"
    else:
        each = (used.prompt + used.completion) / used.requests
        daily = used.requests / used.days * state.shadow
        said = f"≈ {daily * each:,.0f} tokens a day ({daily:,.1f} requests of {each:,.0f})"
        said += f", ≈ {cost}" if cost else f"; the price of {state.new}'s model is not known"
    return textwrap.fill(f"A copy of {share} of the prompts goes to {state.new}: {said}.", WIDE)


def status(state: Migration, compared: Compared, why: Sequence[str], at: int) -> list[str]:
    """The whole of it."""
    shown = [f"{state.old} → {state.new}: {stage(state.stage)}, {when(state.since, at)}"]
    if state.entries and not state.running and state.entries[-1].why:
        shown += textwrap.wrap(one_line(state.entries[-1].why), WIDE - 2, initial_indent="  ")
    if state.stage != ASSESS:  # nothing came from the new one yet
        shown += ["", *table(state, compared)]
    if state.likeness.mean is not None:
        shown += ["", likeness(state)]
    if state.running:
        shown += ["", *gate(state, why)]
    return shown


def stage(name: str) -> str:
    """A stage in a few words."""
    words = {ASSESS: "assessed", SHADOW: "in the shadow", DONE: "done", BACK: "rolled back"}
    return words.get(name, f"{name} % of the conversations")


def likeness(state: Migration) -> str:
    mean, count = state.likeness.mean or 0.0, state.likeness.count
    return f"Words alike in {count:,} copies: {100 * mean:.0f} %, the least {_least(state)}"


def _least(state: Migration) -> str:
    return f"{100 * state.likeness.least:.0f} %"


def gate(state: Migration, why: Sequence[str]) -> list[str]:
    """What is missing, or what comes next."""
    if not why:
        return [onward(state)]
    wrapped = (
        line
        for each in why
        for line in textwrap.wrap(each, WIDE, initial_indent="  - ", subsequent_indent="    ")
    )
    return ["Not yet:", *wrapped]


def onward(state: Migration) -> str:
    """What the next step is."""
    if state.stage == FULL:
        return f"`holychat migrate finish` ends it: {state.new} answers."
    to = state.following
    share = "copies go there" if to == SHADOW else f"{to} % of the conversations go there"
    return f"`holychat migrate next` goes on: {share}."


def moved(before: Migration, after: Migration) -> list[str]:
    """One step, as it is told."""
    entry = after.entries[-1]
    said = [f"{after.old} → {after.new}: {stage(after.stage)}"]
    if entry.what.endswith("forced"):
        said += ["Forced, though:", *gate(before, entry.why.split("; "))[1:]]
    if after.stage == DONE:
        said += [
            f"{after.new} answers now where the settings say {after.old}. To make it last:",
            f"  holychat config set provider {after.new}",
            f"Keep the key of {after.old} until then, and for 30 days to be safe.",
        ]
    elif after.stage == BACK:
        said.append(f"{after.old} answers again, from the next prompt on.")
    else:
        said.append("`holychat migrate status` shows how it does.")
    return said


# --- The table of figures -------------------------------------------------------------------------


def table(state: Migration, compared: Compared) -> list[str]:
    """Both providers, a column each."""
    old, new = state.old, state.new
    rows = [("", old, new), *figures(compared.old, compared.new)]
    wide = [max(len(row[at]) for row in rows) for at in range(3)]
    shown = [f"{row[0]:<{wide[0]}}  {row[1]:>{wide[1]}}  {row[2]:>{wide[2]}}" for row in rows]
    if compared.earlier:
        shown.append(f"({old}: of the last 30 days)")
    return [line.rstrip() for line in shown]


def figures(old: Figures, new: Figures) -> Iterable[tuple[str, str, str]]:
    """Rows of (label, the old one's, the new one's)."""
    shown: tuple[tuple[str, Callable[[Figures], str]], ...] = (
        ("calls", lambda one: f"{one.count:,}"),
        ("failed", lambda one: f"{100 * one.rate:.1f} %" if one.count else "-"),
        ("whole answers", lambda one: f"{one.whole:,}"),
        ("first token, p50", lambda one: seconds(one.first50)),
        ("first token, p95", lambda one: seconds(one.first95)),
        ("whole answer, p50", lambda one: seconds(one.total50)),
        ("tokens of an answer", lambda one: "-" if one.tokens is None else f"{one.tokens:,.0f}"),
        ("cost of an answer", lambda one: UNKNOWN if one.cost is None else f"{one.cost:.5f}"),
    )
    for label, each in shown:
        yield label, each(old), each(new)


def seconds(value: float | None) -> str:
    """Two digits after the point, three where it is quick."""
    if value is None:
        return "-"
    return f"{value:.3f} s" if value < 0.1 else f"{value:.2f} s"
