"""Statistics in the terminal: the totals, the days, the groups, and how long it took.

Owns the looks of a report as lines of text; legible without a colour, and in ASCII alone where
`plain` asks for that. Must not count: `core.tally` and `core.report` do, `charts` draws. Names of
models and titles are foreign text and pass `one_line`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from holychat.core.report import SHARES
from holychat.core.sanitize import one_line
from holychat.core.tally import total
from holychat.screen.charts import bar, binned, columns, compact, span, sparkline, spread
from holychat.screen.figures import calls, cost, percent, share, spent, tokens, weight
from holychat.screen.pen import cells, fit, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.core.report import Brief, Report
    from holychat.core.tally import Group, Histogram, Tally
    from holychat.screen.figures import Money
    from holychat.screen.pen import Pen

GAP = "  "
WIDEST = 120  # a line that is longer is hard to follow
MOST = 10  # groups on the first screen; --by shows all
HIGH = 4  # rows of the chart of days
LABEL, FIGURE = 11, 13  # cells of the totals' first two columns
KEY, BAR = 12, 4  # cells that a name and a bar should have at least
LONGEST_BAR = 24
DATE = len("11-21")
SHARE = len("share")
GOING = ("first", "first token", "share", "failed", "calls")  # columns, where it is too narrow
_ASCII = str.maketrans("≈≥·…–’", "~>-.-'")
_HEADS = {"pair": "provider/model", "hour": "hour", "conversation": "conversation"}


class Looks(NamedTuple):
    """How it is drawn: with whose colours, in how many cells, in which money."""

    pen: Pen
    width: int
    money: Money
    plain: bool = False

    @property
    def room(self) -> int:
        return min(self.width, WIDEST)


def screen(report: Report, store: str, looks: Looks) -> list[str]:
    """All about a period; `store` is the file that it is kept in."""
    lines = [heading(report, store, looks), ""]
    lines += _totals(report, looks)
    for part in (_days(report, looks), _groups(report, looks, MOST), _times(report, looks)):
        lines += ["", *part] if part else []
    return _written(lines, looks)


def table(report: Report, store: str, looks: Looks) -> list[str]:
    """The groups of a period, all of them."""
    return _written([heading(report, store, looks), "", *_groups(report, looks)], looks)


def short(brief: Brief, looks: Looks) -> list[str]:
    """A line for each period, and the days of the last one as a sparkline, of tokens."""
    lines = [("", "calls", "failed", "tokens", "cost", "first token")]
    lines += [(name, *_cells(tally, looks.money), _p50(first)) for name, tally, first in brief.rows]
    wide = [max(cells(line[at]) for line in lines) for at in range(len(lines[0]))]
    kept = _kept(lines[0], wide, looks.room)
    drawn = sparkline([day.tally.tokens for day in brief.days], plain=looks.plain)
    text = [_aligned(line, wide, kept).rstrip() for line in lines]
    if drawn.strip() and len(drawn) + 2 * DATE < looks.room:
        text.append(f"{brief.days[0].key[-DATE:]} {drawn} {brief.days[-1].key[-DATE:]}")
    return _written(text, looks)


def heading(report: Report, store: str, looks: Looks) -> str:
    """The days, whose they are, and the store as far as there is room."""
    days = len(report.days)
    said = [
        f"{report.since} to {report.until}",
        f"{days:,} {'day' if days == 1 else 'days'}",
        *(one_line(name, 60) for name in (report.asked.provider, report.asked.model) if name),
    ]
    text = fit(" · ".join(said), looks.room)
    left = looks.room - cells(text) - len(GAP)
    kept = _path(one_line(store, 1000), left)
    return looks.pen.bold(text) + (GAP + looks.pen.dim(kept) if kept else "")


def _path(path: str, room: int) -> str:
    """A path, its home as `~`, cut in front: its end says more."""
    home = os.path.expanduser("~")
    if path.startswith(home + os.sep) and home != os.sep:
        path = "~" + path[len(home) :]
    if cells(path) <= room:
        return path
    return "…" + fit(path[::-1], room)[:-1][::-1] if room > KEY else ""


def _written(lines: list[str], looks: Looks) -> list[str]:
    return [line.translate(_ASCII) for line in lines] if looks.plain else lines


# --- The totals ---------------------------------------------------------------------------------


def _totals(report: Report, looks: Looks) -> list[str]:
    sums = report.total
    rows = [
        ("calls", f"{sums.calls:,}", _ended(sums)),
        ("errors", percent(sums.error_rate), _detours(sums)),
        ("tokens in", tokens(sums, sums.prompt), _prompt(sums)),
        ("tokens out", tokens(sums, sums.completion), _part(sums.reasoning, "reasoning")),
        *_costs(report, looks),
        ("first token", *_percentiles(report.pace.first)),
        ("answer", *_percentiles(report.pace.total)),
        ("speed", f"{sums.rate:,.0f} tok/s" if sums.rate else "-", ""),
    ]
    return [line for row in rows for line in _total(*row, looks)]


def _total(label: str, figure: str, detail: str, looks: Looks) -> list[str]:
    """A line, or two where what is to be said beside the figure has no room there."""
    head = looks.pen.dim(f"{label:<{LABEL}}") + GAP + padded(figure, FIGURE, right=True)
    left = looks.room - LABEL - len(GAP) - max(FIGURE, cells(figure)) - len(GAP)
    if cells(detail) <= left:
        return [head + (GAP + detail if detail else "")]
    below = GAP + fit(detail, looks.room - len(GAP))
    return [head, below] if figure else [below]


def _ended(sums: Tally) -> str:
    return _parts(
        (sums.answers, "answered"),
        (sums.cut, "cut"),
        (sums.failed, "failed"),
        (sums.interrupted, "stopped"),
    )


def _detours(sums: Tally) -> str:
    return _parts(
        (sums.retries, "retried"),
        (sums.failovers, "failed over"),
        (sums.hedges, "outrun"),
        (sums.copies, "shadow copies"),
    )


def _prompt(sums: Tally) -> str:
    """What is to be said of the tokens."""
    share = f" ({percent(sums.cached_share)})" if sums.cached else ""
    about = f"{calls(sums.estimated)} estimated" if sums.estimated else ""
    return " · ".join(filter(None, (_part(sums.cached, "cached") + share, about)))


def _parts(*parts: tuple[int, str]) -> str:
    return " · ".join(_part(number, name) for number, name in parts if number)


def _part(number: int, name: str) -> str:
    return f"{number:,} {name}" if number else ""


def _costs(report: Report, looks: Looks) -> list[tuple[str, str, str]]:
    """The cost, and a line for each thing that is to be said of it."""
    first, *more = spent(report) or [""]
    known = ("cost", cost(report.total, looks.money), first)
    return [known, *(("", "", each) for each in more)]


def _percentiles(times: Histogram) -> tuple[str, str]:
    half, most, nearly = times.percentiles(SHARES)
    if half is None or most is None or nearly is None:
        return "-", ""
    return span(half), f"p50 · {span(most)} p95 · {span(nearly)} p99"


# --- The days, and the times --------------------------------------------------------------------


def _days(report: Report, looks: Looks) -> list[str]:
    """The days as columns; of one day there is nothing to see."""
    if len(report.days) < 2 or not report.total.tokens:
        return []
    bins, each = binned(report.days, looks.room)
    sums = [total(one.tally for one in part) for part in bins]
    values = [report.weight(tally) for tally in sums]
    wide = max(1, min(4, looks.room // len(values)))
    rows = columns(values, HIGH, wide, plain=looks.plain)
    what = "cost" if report.weighs_cost else "tokens"
    title = f"{what} by day" if each == 1 else f"{what} by {each} days"
    most = weight(report, max(sums, key=report.weight), looks.money)
    length = max(len(values) * wide - (wide > 1), len(report.since) * 2 + 2)
    axis = f"{report.since}{report.until:>{length - len(report.since)}}"
    said = fit(f"the highest is {most}", looks.room - len(title) - len(GAP))
    return [
        looks.pen.bold(title) + GAP + looks.pen.dim(said),
        *map(looks.pen.accent, rows),
        looks.pen.dim(axis),
    ]


def _times(report: Report, looks: Looks) -> list[str]:
    """How many calls had their first token within which time."""
    rows = spread(report.pace.first.counts())
    if not rows:
        return []
    most = max(many for _, _, many in rows)
    labels = [f"{_bound(low)} – {_bound(high)} s" for low, high, _ in rows]
    wide = max(map(len, labels))
    number = len(f"{most:,}")
    room = min(LONGEST_BAR * 2, looks.room - wide - number - 2 * len(GAP))
    lines = [looks.pen.bold("first token") + GAP + looks.pen.dim("calls by seconds")]
    for label, (_, _, many) in zip(labels, rows, strict=True):
        drawn = looks.pen.accent(bar(many, most, room, plain=looks.plain))
        lines.append(f"{label:>{wide}}{GAP}{many:>{number},}{GAP}{drawn}".rstrip())
    return lines


def _bound(seconds: float) -> str:
    return f"{seconds:g}"


# --- The groups ---------------------------------------------------------------------------------


def _groups(report: Report, looks: Looks, most: int = 0) -> list[str]:
    """The table; `most` 0 is all of it."""
    if not report.groups and not report.deleted.calls:
        return []
    timed = bool(report.paces)
    heads = ("calls", "failed", "tokens", "cost", *(("first",) if timed else ()))
    rows = [(_name(report, one), one.tally, report.paces.get(one.key)) for one in report.groups]
    bound = most or len(rows)
    rest = [tally for _, tally, _ in rows[bound:]]
    rows = rows[:bound]
    if rest:
        rows.append((f"{len(rest)} more", total(rest), None))
    for name, tally in (("other conversations", report.others), ("deleted", report.deleted)):
        rows += [(name, tally, None)] if tally.calls else []
    if len(rows) > 1 and not most:
        rows.append(("total", report.total, report.pace))
    figures = [
        (*_cells(tally, looks.money), *((_p50(pace.first) if pace else "",) if timed else ()))
        for _, tally, pace in rows
    ]
    shares = [share(report, tally) or 0.0 for _, tally, _ in rows]
    if rows and rows[-1][1] is report.total:  # it has no share, which would dwarf all others
        shares[-1] = 0.0
    head = _HEADS.get(report.by, report.by)
    return _table([name for name, _, _ in rows], (head, *heads), figures, shares, looks)


def _table(
    names: list[str],
    heads: Sequence[str],
    figures: list[tuple[str, ...]],
    shares: list[float],
    looks: Looks,
) -> list[str]:
    """Names, right-aligned figures, and a bar for the share in the cells that are left."""
    heads = (*heads, "share")
    sizes = [max(cells(row[at]) for row in (heads[1:-1], *figures)) for at in range(len(heads) - 2)]
    name = max(map(cells, (heads[0], *names)))
    wide = [min(name, KEY), *sizes, SHARE]
    kept = _kept(heads, wide, looks.room)
    used = sum(wide[at] + len(GAP) for at in kept[1:])
    shared = heads[kept[-1]] == "share"
    wide[0] = min(name, max(wide[0], looks.room - used - (1 + BAR if shared else 0)))
    room = min(LONGEST_BAR, looks.room - wide[0] - used - 1) if shared else 0
    lines = [looks.pen.dim(_aligned(heads, wide, kept))]
    most = max(shares, default=0)
    for label, row, part in zip(names, figures, shares, strict=True):
        drawn = looks.pen.accent(bar(part, most, max(0, room), plain=looks.plain))
        told = percent(part) if part else ""
        wide[-1] = SHARE + ("<" in told)
        line = _aligned((label, *row, told), wide, kept)
        lines.append(f"{line} {drawn}".rstrip())
    return lines


def _name(report: Report, group: Group) -> str:
    if report.by == "conversation":
        return f"{group.key[:4]}  {one_line(group.title, 200) or '(no title)'}"
    return one_line(group.key, 200) or "?"


def _cells(tally: Tally, money: Money) -> tuple[str, str, str, str]:
    about = "≈" if tally.estimated and tally.tokens else ""
    return (
        f"{tally.calls:,}",
        percent(tally.error_rate),
        about + compact(tally.tokens),
        cost(tally, money),
    )


def _p50(times: Histogram) -> str:
    half = times.percentile(0.5)
    return "-" if half is None else span(half)


def _kept(heads: Sequence[str], wide: Sequence[int], room: int) -> list[int]:
    """The columns that there is room for."""
    kept = list(range(len(heads)))
    for name in GOING:
        if sum(wide[at] + len(GAP) for at in kept) - len(GAP) <= room:
            break
        kept = [at for at in kept if heads[at] != name]
    return kept


def _aligned(row: Sequence[str], wide: Sequence[int], kept: Sequence[int]) -> str:
    """The first to the left and cut, the others of those that are kept to the right."""
    first = padded(fit(row[0], wide[0]), wide[0])
    return GAP.join((first, *(padded(row[at], wide[at], right=True) for at in kept[1:])))
