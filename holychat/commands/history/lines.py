"""What a line of a listing looks like.

Owns the columns. A terminal's lines fit into it; a pipe gets them whole, and aligned as far as that
can be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.core.sanitize import one_line
from holychat.screen.pen import cells, fit, padded
from holychat.screen.words import when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.core.history import Conversation
    from holychat.screen.pen import Pen

GAP = "  "
TITLE = 24  # cells that a title should have; columns that leave it less are left out
MODEL = 24  # cells that a model's name has at most
WIDEST = 64  # cells that a column of a pipe is filled up to: one long title must not move all rows


def data(value: Any) -> None:
    """A value as JSON on stdout."""
    from json import dumps

    env.out(dumps(value, ensure_ascii=False, indent=2))


# --- Conversations ------------------------------------------------------------------------------


def titled(conversation: Conversation) -> str:
    """Its title on one line."""
    return one_line(conversation.title) or "(no title)"


def about(conversation: Conversation, pen: Pen, said: str) -> str:
    """One conversation as a heading: short id, title, and something behind it."""
    room = pen.width - len(conversation.short) - len(said) - 2 * len(GAP)
    title = fit(titled(conversation), max(8, room)) if pen.width else titled(conversation)
    return GAP.join((pen.accent(conversation.short), pen.bold(title), pen.dim(said)))


def table(conversations: Sequence[Conversation], pen: Pen, at: int) -> list[str]:
    """A line for each: id, age, title, model, number of messages; in a narrow window the first."""
    columns = [
        [each.short for each in conversations],
        [when(each.updated, at) for each in conversations],
        [titled(each) for each in conversations],
        [one_line(each.model, 200) or "-" for each in conversations],
        [f"{each.messages:,} msg" for each in conversations],
    ]
    if pen.width:
        columns[3] = [fit(model.rpartition("/")[2], MODEL) for model in columns[3]]
    wide = [max(map(cells, column), default=0) for column in columns]
    if not pen.width:
        wide = [min(room, WIDEST) for room in wide]
    shown = _shown(wide, pen.width)
    if pen.width:
        others = sum(wide[at] + len(GAP) for at in shown if at != 2)
        wide[2] = max(1, min(wide[2], pen.width - others))
        columns[2] = [fit(title, wide[2]) for title in columns[2]]
    styles = (pen.accent, pen.dim, str, pen.dim, pen.dim)
    return [
        GAP.join(
            styles[column](padded(line[column], wide[column], right=column == 4))
            for column in shown
        ).rstrip()
        for line in zip(*columns, strict=True)
    ]


def _shown(wide: Sequence[int], width: int) -> list[int]:
    """The columns that leave room for the title."""
    shown = [0, 1, 2, 3, 4]
    for least in (3, 4, 1):
        others = sum(wide[at] + len(GAP) for at in shown if at != 2)
        if not width or width - others >= min(TITLE, wide[2]):
            break
        shown.remove(least)
    return shown
