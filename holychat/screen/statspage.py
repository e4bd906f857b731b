"""Statistics as one HTML page that needs nothing else: no script, no font, no image from outside.

Owns every tag of the page. Names and titles are foreign text and become text, never markup; the
page's own policy (CSP) forbids the rest, should this file be wrong. Each chart is SVG within the
page and stands beside a table of the same figures, for those who cannot see it.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from holychat.core.report import SHARES
from holychat.core.sanitize import visible
from holychat.screen.charts import span, spread
from holychat.screen.figures import cost, percent, share, spent, tokens, weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holychat.core.report import Report
    from holychat.core.tally import Histogram, Tally
    from holychat.screen.figures import Money

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
WIDE, HIGH = 720, 160  # of a chart, in its own units
LINE = 22  # of a lying bar
_NAMES = {"pair": "provider and model"}
HEADS = ("calls", "failed", "tokens in", "cached", "tokens out", "reasoning", "cost", "share")


def page(report: Report, money: Money) -> Iterator[str]:
    """The page in parts."""
    title = f"holychat, {_period(report)}"
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="generator" content="holychat">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_CSS}</style>\n</head>\n<body>\n<main>\n"
    )
    asked = [name for name in (report.asked.provider, report.asked.model) if name]
    facts = " · ".join([_period(report), *asked])
    yield f"<h1>What was used</h1>\n<p>{_text(facts)}</p>\n"
    if report.total.calls:
        yield _totals(report, money)
        yield from _days(report, money)
        yield from _groups(report, money)
        yield from _times("First token", report.pace.first)
        yield from _times("Whole answer", report.pace.total)
    else:
        yield "<p>Nothing was asked.</p>\n"
    yield "</main>\n</body>\n</html>\n"


def _period(report: Report) -> str:
    return f"{report.since or 'the beginning'} to {report.until or 'now'}"


def _text(text: str) -> str:
    """Foreign text as text: no markup, no control, nothing that turns the reading around."""
    return escape(visible(text))


# --- Tables -------------------------------------------------------------------------------------


def _totals(report: Report, money: Money) -> str:
    sums = report.total
    rows = [
        ("calls", f"{sums.calls:,}"),
        ("answered", f"{sums.answers:,}"),
        ("cut", f"{sums.cut:,}"),
        ("failed", f"{sums.failed:,}"),
        ("stopped", f"{sums.interrupted:,}"),
        ("error rate", percent(sums.error_rate)),
        ("retried", f"{sums.retries:,}"),
        ("failed over", f"{sums.failovers:,}"),
        ("tokens in", tokens(sums, sums.prompt)),
        ("of them cached", tokens(sums, sums.cached)),
        ("tokens out", tokens(sums, sums.completion)),
        ("of them reasoning", tokens(sums, sums.reasoning)),
        ("cost", " · ".join(filter(None, (cost(sums, money), *spent(report))))),
        ("first token", _percentiles(report.pace.first)),
        ("whole answer", _percentiles(report.pace.total)),
        ("speed", f"{sums.rate:,.0f} tokens a second" if sums.rate else "-"),
    ]
    lines = "".join(
        f'<tr><th scope="row">{name}</th><td>{_text(value)}</td></tr>\n' for name, value in rows
    )
    return f'<table class="totals">\n<caption>Totals</caption>\n{lines}</table>\n'


def _percentiles(times: Histogram) -> str:
    found = zip(SHARES, times.percentiles(SHARES), strict=True)
    return ", ".join(f"p{share * 100:.0f} {span(at)}" for share, at in found if at is not None)


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="table"><table>\n<caption>{_text(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _row(report: Report, name: str, tally: Tally, money: Money) -> list[str]:
    return [
        name,
        f"{tally.calls:,}",
        percent(tally.error_rate),
        *(tokens(tally, number) for number in (tally.prompt, tally.cached)),
        *(tokens(tally, number) for number in (tally.completion, tally.reasoning)),
        cost(tally, money),
        _share(share(report, tally)),
    ]


def _share(part: float | None) -> str:
    return "" if part is None else percent(part)


# --- Charts, each with its table ----------------------------------------------------------------


def _days(report: Report, money: Money) -> Iterator[str]:
    days = report.days
    if len(days) < 2:
        return
    values = [report.weight(one.tally) for one in days]
    what = "Cost by day" if report.weighs_cost else "Tokens by day"
    highest = max(days, key=lambda one: report.weight(one.tally))
    most = weight(report, highest.tally, money)
    yield f"<h2>{what}</h2>\n"
    labels = [f"{one.key}: {weight(report, one.tally, money)}" for one in days]
    yield _columns(f"{what}, the highest {most}", values, labels)
    axis = (days[0].key, f"the highest is {most}", days[-1].key)
    yield f'<p class="axis">{"".join(f"<span>{_text(one)}</span>" for one in axis)}</p>\n'
    rows = [_row(report, one.key, one.tally, money) for one in days if one.tally.calls]
    yield "<details>\n<summary>The days as a table</summary>\n"
    yield _table("By day", ("day", *HEADS), rows) + "</details>\n"


def _groups(report: Report, money: Money) -> Iterator[str]:
    if report.by == "day":  # it stands above
        return
    rows = [(one.title or one.key, one.tally) for one in report.groups]
    rows += [("other conversations", report.others)] if report.others.calls else []
    rows += [("deleted", report.deleted)] if report.deleted.calls else []
    shares = [share(report, tally) for _, tally in rows]
    name = _NAMES.get(report.by, report.by)
    yield f"<h2>By {name}</h2>\n"
    yield _bars(
        f"Share by {name}",
        shares,
        [
            f"{label}: {percent(part)}" if part is not None else label
            for (label, _), part in zip(rows, shares, strict=True)
        ],
    )
    lines = [_row(report, label, tally, money) for label, tally in rows]
    yield _table(f"By {name}", (name, *HEADS), lines)


def _times(name: str, times: Histogram) -> Iterator[str]:
    rows = spread(times.counts())
    if not rows:
        return
    labels = [f"{low:g} to {high:g} s" for low, high, _ in rows]
    yield f"<h2>{name}</h2>\n"
    counts = [many for _, _, many in rows]
    said = [f"{label}: {many:,}" for label, many in zip(labels, counts, strict=True)]
    yield _bars(f"{name}, calls by time", counts, said)
    lines = [(label, f"{many:,}") for label, many in zip(labels, counts, strict=True)]
    yield "<details>\n<summary>The times as a table</summary>\n"
    yield _table(name, ("time", "calls"), lines) + "</details>\n"


def _columns(label: str, values: Sequence[int], labels: Sequence[str]) -> str:
    """Standing bars."""
    most, step = max(values, default=0) or 1, WIDE / max(1, len(values))
    wide = max(step * 0.8, 0.5)
    bars = "".join(
        f'<rect x="{at * step:.1f}" y="{HIGH - size:.1f}" width="{wide:.1f}" '
        f'height="{size:.1f}"><title>{_text(said)}</title></rect>\n'
        for at, (value, said) in enumerate(zip(values, labels, strict=True))
        if (size := max(HIGH * value / most, 1.0 if value else 0.0))
    )
    return _svg(label, HIGH, bars)


def _bars(label: str, values: Sequence[float | None], labels: Sequence[str]) -> str:
    """Lying bars with their names on them; the name alone where the value is not known."""
    most = max((value or 0 for value in values), default=0) or 1
    rows = "".join(
        f'<g>{_bar(at, value, most)}<text x="6" y="{at * LINE + 12}">{_text(said)}</text></g>\n'
        for at, (value, said) in enumerate(zip(values, labels, strict=True))
    )
    return _svg(label, max(1, len(values)) * LINE, rows)


def _bar(at: int, value: float | None, most: float) -> str:
    if value is None:
        return ""
    wide = max(WIDE * value / most, 1.0)
    return f'<rect x="0" y="{at * LINE}" width="{wide:.1f}" height="{LINE - 6}"/>'


def _svg(label: str, high: int, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDE} {high}" role="img" aria-label="{_text(label)}">\n{body}</svg>\n'
    )


_CSS = """\
:root { color-scheme: light dark; --text: #1c1e21; --dim: #5f6670; --back: #fff;
  --line: #dcdfe4; --bar: #9cc3f0; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e5e8; --dim: #9aa1ab;
  --back: #16181c; --line: #363b44; --bar: #2c5a8f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 56rem; color: var(--text);
  background: var(--back); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0 0; } h2 { font-size: 1.125rem; margin: 2rem 0 .5rem; }
p, summary, caption { color: var(--dim); } p { margin: .25rem 0 1.5rem; }
caption { text-align: left; font-size: .875rem; padding: .25rem 0; }
.table { overflow-x: auto; } table { border-collapse: collapse; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem .25rem 0; text-align: right;
  font-weight: normal; font-variant-numeric: tabular-nums; vertical-align: top; }
tbody th, .totals th { text-align: left; unicode-bidi: plaintext; }
.totals td { text-align: left; } thead th, .totals th { color: var(--dim); }
thead th:first-child { text-align: left; }
svg { display: block; width: 100%; height: auto; } rect { fill: var(--bar); }
text { fill: var(--text); font: 11px system-ui, sans-serif; }
.axis { display: flex; justify-content: space-between; font-size: .875rem; margin: .25rem 0 .5rem; }
summary { cursor: pointer; font-size: .875rem; }
@media print { body { max-width: none; padding: 0; } }
"""
