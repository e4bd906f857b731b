"""Statistics for programs, as JSON and as CSV (RFC 4180). The names here do not change.

--json prints one object:

since, until    the days it is about, `2026-11-21`; null where nothing was used
provider, model what was asked for, else null
by              day, provider, model, pair, hour or conversation
totals          a row, see below
groups          a list of rows, each with its `key`; by pair (the default) also `provider` and
                `model`, by conversation also `title`
others, deleted by conversation: rows of those that are not listed, and are no more; else null
first_token, answer     the times' histograms: a list of {"from", "to", "count"}, in seconds
repriced_calls  calls whose price was found only now

A row, which is also a line of --csv (behind `key`, `provider`, `model`, `title`):

calls, answers, cut, failed, interrupted    requests, by how they ended
retries, failovers, hedges, copies          those among them that were a further attempt
error_rate                                  cut and failed ones among those not interrupted
prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens
estimated_calls     calls whose tokens no server told
cost_usd, cost_picos    US dollars, and exactly, as an integer of 10^-12 of them; null where no
                    price is known. A lower bound where `unpriced_calls` is not 0
tokens_per_second   behind the first token
first_token_p50, _p95, _p99, answer_p50, _p95, _p99     seconds, within 2.5 %

What is not known, or not kept of a conversation, is null, and empty in CSV.
"""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING, Any

from holychat.core.buckets import edge
from holychat.core.price import exact
from holychat.core.report import SHARES
from holychat.core.tally import Histogram, Pace, Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from holychat.core.report import Report
    from holychat.core.tally import Group

COUNTS = (
    "calls", "answers", "cut", "failed", "interrupted", "retries", "failovers", "hedges", "copies",
)  # fmt: skip
TOKENS = ("prompt", "cached", "completion", "reasoning")
UNKEPT = ("answers", "retries", "failovers", "hedges", "copies")  # of a conversation
TIMES = ("first_token", "answer")
COLUMNS = ("key", "provider", "model", "title")


def json(report: Report) -> str:
    from json import dumps

    kept = report.by != "conversation"
    value = {
        "since": report.since or None,
        "until": report.until or None,
        "provider": report.asked.provider or None,
        "model": report.asked.model or None,
        "by": report.by,
        "totals": row(report.total, report.pace),
        "groups": [{**_named(report, one), **_row(report, one)} for one in report.groups],
        "others": None if kept else row(report.others, kept=False),
        "deleted": None if kept else row(report.deleted, kept=False),
        "first_token": _buckets(report.pace.first),
        "answer": _buckets(report.pace.total),
        "repriced_calls": report.settled,
    }
    return dumps(value, ensure_ascii=False, indent=2) + "\n"


def csv_(report: Report) -> str:
    """A line for each group, below a head."""
    out = StringIO()
    names = [*COLUMNS, *row(Tally())]
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    for one in report.groups:
        values = {**_named(report, one), **_row(report, one)}
        known = one.tally.known_cost
        values["cost_usd"] = None if known is None else exact(known)
        writer.writerow(values)
    return out.getvalue()


FORMS: dict[str, Callable[[Report], str]] = {"json": json, "csv": csv_}


def row(tally: Tally, pace: Pace = Pace(), *, kept: bool = True) -> dict[str, Any]:  # noqa: B008
    """The figures of a group; `kept` is False for a conversation's."""
    cost = tally.known_cost
    counts = {name: getattr(tally, name) for name in COUNTS}
    if not kept:
        counts |= dict.fromkeys(UNKEPT)
    return {
        **counts,
        "error_rate": tally.error_rate,
        **{f"{name}_tokens": getattr(tally, name) for name in TOKENS},
        "estimated_calls": tally.estimated,
        "cost_usd": None if cost is None else float(exact(cost)),
        "cost_picos": cost,
        "unpriced_calls": tally.unpriced,
        "tokens_per_second": tally.rate,
        **_times(pace),
    }


def _named(report: Report, group: Group) -> dict[str, str]:
    named = {"key": group.key}
    if report.by == "pair":
        named["provider"], _, named["model"] = group.key.partition("/")
    if report.by == "conversation":
        named["title"] = group.title
    return named


def _row(report: Report, group: Group) -> dict[str, Any]:
    pace = report.paces.get(group.key, Pace())
    return row(group.tally, pace, kept=report.by != "conversation")


def _times(pace: Pace) -> dict[str, float | None]:
    return {
        f"{name}_p{share * 100:.0f}": None if time is None else round(time, 4)
        for name, histogram in zip(TIMES, pace, strict=True)
        for share, time in zip(SHARES, histogram.percentiles(SHARES), strict=True)
    }


def _buckets(histogram: Histogram) -> list[dict[str, float]]:
    return [
        {"from": round(edge(number), 6), "to": round(edge(number + 1), 6), "count": many}
        for number, many in histogram.counts()
    ]
