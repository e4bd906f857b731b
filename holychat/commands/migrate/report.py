"""A migration as a document in Markdown: what was decided when, and on which figures.

Owns the document. Must not know a store.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holychat import __version__
from holychat.commands.migrate import lines
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holychat.core.migrate import Compared, Entry, Migration
    from holychat.store.migration import Usage


def document(state: Migration, compared: Compared, why: Sequence[str], used: Usage, at: int) -> str:
    """The whole of it."""
    return "\n".join([*_head(state, why, at), *_stages(state, compared, at), *_rest(state, used)])


def _head(state: Migration, why: Sequence[str], at: int) -> Iterator[str]:
    yield f"# From {state.old} to {state.new}"
    yield ""
    yield f"Written {moment(at)} by holychat {__version__}. Times are local."
    yield ""
    yield f"State: {lines.stage(state.stage)}, since {moment(state.since)}."
    if state.running and why:
        yield ""
        yield "What the stage still lacks:"
        yield ""
        yield from (f"- {each}" for each in why)
    yield ""


def _stages(state: Migration, compared: Compared, at: int) -> Iterator[str]:
    """Each stage with its figures: those that the next decision was taken on."""
    yield "## Stages"
    yield ""
    following = [*state.entries[1:], None]
    for entry, then in zip(state.entries, following, strict=True):
        if then is None and not state.running:
            continue
        yield from _stage(state, entry, then, compared, at)


def _stage(
    state: Migration, entry: Entry, then: Entry | None, compared: Compared, at: int
) -> Iterator[str]:
    until = moment(then.at) if then else f"{moment(at)}, still going on"
    found = then.compared if then else compared
    yield f"### {lines.stage(entry.stage).capitalize()}"
    yield ""
    yield f"{moment(entry.at)} to {until}."
    yield ""
    yield f"| | {_cell(state.old)} | {_cell(state.new)} |"
    yield "| --- | ---: | ---: |"
    for label, old, new in lines.figures(found.old, found.new):
        yield f"| {label} | {old} | {new} |"
    if found.earlier:
        yield ""
        yield f"The figures of {state.old} are of the 30 days before."
    yield ""


def _rest(state: Migration, used: Usage) -> Iterator[str]:
    yield "## Decisions"
    yield ""
    for entry in state.entries:
        why = f": {one_line(entry.why)}" if entry.why else ""
        yield f"- {moment(entry.at)}: {entry.what}, to {lines.stage(entry.stage)}{why}"
    yield ""
    if state.likeness.mean is not None:
        yield "## Shadow"
        yield ""
        yield f"{lines.likeness(state)}."
        yield ""
    yield "## Use"
    yield ""
    yield "```"
    yield from (line.replace("```", "'''") for line in lines.usage(state.old, used))
    yield "```"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def moment(at: int) -> str:
    """A Unix time in milliseconds, local, to the minute."""
    return f"{datetime.fromtimestamp(at / 1000, UTC).astimezone():%Y-%m-%d %H:%M}"
