"""The table of `holychat cost`: models, who sells them, and figures.

Owns the columns; a terminal's lines fit into it. Models of the same name and cost stand on one
line, whoever sells them. Must not know what the figures are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from holychat.core.price import divided
from holychat.core.sanitize import one_line
from holychat.core.whatif import Offer
from holychat.screen.pen import cells, fit, padded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holychat.screen.pen import Pen

TOP = 15  # models that are shown of many
GAP = "  "
NAME, WHO = 14, 8  # cells that the names have at least
WIDEST = 48  # and at most
NOBODY = Offer("", "", None)


@dataclass(slots=True)
class Line:
    """A model's line, of one or several providers at the same cost."""

    model: str
    who: str
    offer: Offer = NOBODY
    chosen: bool = False
    others: list[str] = field(default_factory=list)


class Table(NamedTuple):
    """`spare` are the columns that go one by one where a terminal is too narrow."""

    head: tuple[str, ...]
    rows: list[tuple[Line, tuple[str, ...]]]
    spare: tuple[str, ...] = ()


def grouped(offers: Iterable[Offer], chosen: Offer | None) -> list[Line]:
    """One line for a model's name and cost, in their order; the chosen one's provider first."""
    found: dict[tuple[str, int | None], Line] = {}
    for one in offers:
        base = one.model.rpartition("/")[2] or one.model
        mine = chosen is not None and one[:3] == chosen[:3]
        line = found.get((base.lower(), one.cost))
        if line is None:
            found[base.lower(), one.cost] = Line(base, one.provider, one, mine)
        elif mine:
            line.others.append(line.who)
            line.model, line.who, line.offer, line.chosen = base, one.provider, one, True
        elif one.provider not in (line.who, *line.others):
            line.others.append(one.provider)
    return list(found.values())


def shown(lines: list[Line], *, everything: bool) -> tuple[list[Line], int]:
    """The cheapest and the chosen one, and how many more there are."""
    if everything or len(lines) <= TOP + 1:
        return lines, 0
    top = lines[:TOP] + [line for line in lines[TOP:] if line.chosen]
    return top, len(lines) - len(top)


def table(told: Table, pen: Pen) -> list[str]:
    """Aligned lines; where a terminal is too narrow, columns go and the names are cut."""
    told = _narrowed(told, pen.width) if pen.width else told
    names = [one_line(line.model, 200) or "-" for line, _ in told.rows]
    sellers = [", ".join(map(one_line, (line.who, *line.others))) for line, _ in told.rows]
    figures = list(zip(told.head[2:], *(row for _, row in told.rows), strict=True))
    wide = [max(map(cells, column)) for column in figures]
    left = _left(wide, pen.width) if pen.width else 2 * WIDEST
    name, who = (
        max(map(cells, column)) for column in ((told.head[0], *names), (told.head[1], *sellers))
    )
    room = _rooms(name, who, left)
    lines = [pen.dim(f"{GAP}{_line(told.head, room, wide)}".rstrip())]
    for (line, row), model, seller in zip(told.rows, names, sellers, strict=True):
        text = _line((model, _sellers(line, seller, room[1]), *row), room, wide).rstrip()
        lines.append(f"{pen.accent('*')} {pen.bold(text)}" if line.chosen else f"{GAP}{text}")
    return lines


def _left(wide: Sequence[int], width: int) -> int:
    """Cells for the names beside figures of these sizes, and the marks before them."""
    return width - 2 - sum(wide) - len(GAP) * (len(wide) + 1)


def _narrowed(told: Table, width: int) -> Table:
    """Without as many of the columns that can be spared as have no room."""
    for name in told.spare:
        columns = zip(told.head[2:], *(row for _, row in told.rows), strict=True)
        if _left([max(map(cells, column)) for column in columns], width) >= NAME + WHO:
            break
        at = told.head.index(name)
        rows = [(line, (*row[: at - 2], *row[at - 1 :])) for line, row in told.rows]
        told = Table((*told.head[:at], *told.head[at + 1 :]), rows)
    return told


def _rooms(name: int, who: int, left: int) -> tuple[int, int]:
    """Cells for the names of models and providers; the models come first."""
    name, who = min(name, WIDEST), min(who, WIDEST)
    if name + who <= left:
        return name, who
    name = max(NAME, min(name, left - min(who, WHO + 4)))
    who = max(WHO, left - name)
    return max(1, min(name, left - who)), who


def _sellers(line: Line, who: str, room: int) -> str:
    """`openai +2` where all of them take too much room."""
    if not line.others or cells(who) <= room:
        return who
    more = f" +{len(line.others)}"
    return fit(one_line(line.who), room - len(more)) + more


def _line(texts: Sequence[str], room: tuple[int, int], wide: Sequence[int]) -> str:
    names = [padded(fit(text, to), to) for text, to in zip(texts[:2], room, strict=True)]
    figures = [padded(text, to, right=True) for text, to in zip(texts[2:], wide, strict=True)]
    return GAP.join((*names, *figures))


# --- Figures --------------------------------------------------------------------------------------


def percent(thousandths: int | None, *, signed: bool = True) -> str:
    """`-91 %`, `+2.5 %`; empty for none."""
    if thousandths is None:
        return ""
    sign = "-" if thousandths < 0 else "+" if thousandths and signed else ""
    size = abs(thousandths)
    if size < 100 and size % 10:
        return f"{sign}{size // 10}.{size % 10} %"
    return f"{sign}{divided(size, 10):,} %"
