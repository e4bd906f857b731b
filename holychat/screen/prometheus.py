"""Sums and times in Prometheus' text exposition format 0.0.4, for whoever scrapes them.

Owns the names of the metrics, which dashboards depend on, and the escaping of labels. A function of
values: must not know where they come from. The format: prometheus.io/docs/instrumenting/
exposition_formats/, the names by prometheus.io/docs/practices/naming/.

The counters are those of the period that is given, so they only ever grow where that has no
beginning. Times are kept in buckets that grow by 5 %: `le` are edges of these, and `_sum` is within
2.5 % of the true one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from holychat.core.buckets import GROWTH, LAST, bucket, edge
from holychat.core.price import exact
from holychat.core.tally import total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from holychat.core.tally import Entry, Histogram, Pace, Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = {"answered": "answers", "cut": "cut", "failed": "failed", "interrupted": "interrupted"}
KINDS = ("prompt", "cached", "completion", "reasoning")
_NEAR = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)  # seconds
EDGES = tuple(bucket(seconds) for seconds in _NEAR)

Pair = tuple[str, str]


class _Counter(NamedTuple):
    """A metric; `values` are its further labels and figures of a pair."""

    name: str
    help: str
    values: Callable[[Tally], Iterable[tuple[dict[str, str], str]]]


def _plain(field: str) -> Callable[[Tally], Iterable[tuple[dict[str, str], str]]]:
    return lambda tally: [({}, str(getattr(tally, field)))]


_COUNTERS = (
    _Counter(
        "holychat_calls_total",
        "Requests that went out, by how they ended.",
        lambda tally: [
            ({"outcome": name}, str(getattr(tally, field))) for name, field in OUTCOMES.items()
        ],
    ),
    _Counter("holychat_retries_total", "Requests again to the same provider.", _plain("retries")),
    _Counter("holychat_failovers_total", "Requests after another provider.", _plain("failovers")),
    _Counter(
        "holychat_tokens_total",
        "Tokens; cached ones are a part of prompt, reasoning ones of completion.",
        lambda tally: [({"kind": kind}, str(getattr(tally, kind))) for kind in KINDS],
    ),
    _Counter(
        "holychat_estimated_calls_total",
        "Requests whose tokens were estimated.",
        _plain("estimated"),
    ),
    _Counter(
        "holychat_cost_usd_total",
        "Cost in US dollars of the requests whose price is known.",
        lambda tally: [] if tally.known_cost is None else [({}, exact(tally.known_cost))],
    ),
    _Counter(
        "holychat_unpriced_calls_total",
        "Requests that used tokens whose price is not known.",
        _plain("unpriced"),
    ),
)

_TIMES = (
    ("holychat_first_token_seconds", "From a request to its first token.", "first"),
    ("holychat_answer_seconds", "From a request to the end of its answer.", "total"),
)


def exposition(entries: Iterable[Entry], paces: Mapping[Pair, Pace]) -> str:
    """The metrics by provider and model; no line of a pair that made no request."""
    parts: dict[Pair, list[Tally]] = {}
    for entry in entries:
        parts.setdefault((entry.provider, entry.model), []).append(entry.tally)
    sums = {pair: total(parts[pair]) for pair in sorted(parts)}
    lines: list[str] = []
    for counter in _COUNTERS:
        lines += _head(counter.name, counter.help, "counter")
        for pair, tally in sums.items():
            for labels, value in counter.values(tally):
                lines.append(f"{counter.name}{_labels(pair, labels)} {value}")
    for name, said, field in _TIMES:
        times = {pair: getattr(paces[pair], field) for pair in sorted(paces)}
        lines += _histogram(name, said, times)
    return "".join(f"{line}\n" for line in lines)


def _head(name: str, said: str, kind: str) -> list[str]:
    return [f"# HELP {name} {said}", f"# TYPE {name} {kind}"]


def _histogram(name: str, said: str, histograms: Mapping[Pair, Histogram]) -> Iterator[str]:
    yield from _head(name, said, "histogram")
    for pair, histogram in histograms.items():
        counts = list(histogram.counts())
        count = sum(many for _, many in counts)
        for at in EDGES:
            within = sum(many for number, many in counts if number < at)
            yield f"{name}_bucket{_labels(pair, {'le': f'{edge(at):.4g}'})} {within}"
        yield f"{name}_bucket{_labels(pair, {'le': '+Inf'})} {count}"
        middle = math.sqrt(GROWTH)
        seconds = sum(edge(min(number, LAST)) * middle * many for number, many in counts)
        yield f"{name}_sum{_labels(pair, {})} {seconds:.6g}"
        yield f"{name}_count{_labels(pair, {})} {count}"


def _labels(pair: Pair, more: Mapping[str, str]) -> str:
    labels = {"provider": pair[0], "model": pair[1], **more}
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    """As a label's value; a lone surrogate is no UTF-8."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
