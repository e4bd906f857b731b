"""`holychat stats`: figures that were worked out by hand, in every form; looks as golden files.

The store is filled by the store's own functions, on days in November 2026, in UTC:

day    provider/model           ended        in (cached)     out (reas.)  cost, $      first  total
10-19  holysheep/gpt-4.1        answered     1000            100          0.001 * n    0.5    2.5
       (ten days, n from 1 to 10: cost 0.001 + 0.002 + ... + 0.010 = 0.055)
20 A   holysheep/gpt-4.1        failed       -               -            -
20 A   holysheep/gpt-4.1        answered     1000 (400)      500 (100)    0.006        0.5    5.5
20 A   holysheep/gpt-4.1        cut          2000 ≈          100 ≈        0.0048       1.0    2.0
20 A   deepseek/deepseek-flash  answered     2100            900          0.0015       0.25   9.25
21 B   holysheep/deepseek-v3.2  answered     1,000,000       100,000      none then    2.0    52.0
21 B   box/EVIL                 answered     300             200          none         0.1    1.1
21 B   holysheep/gpt-4.1        stopped      700             0            0.0014
------ ------------------------ ------------ --------------- ------------ -----------
calls 10 + 7 = 17: answered 10 + 4 = 14, cut 1, failed 1, stopped 1. Of the 16 that nobody stopped 2
went wrong: 2 / 16 = 12.5 %. One was a retry (the second of A), one a failover (the fourth).

in   10 * 1000 + 1000 + 2000 + 2100 + 1,000,000 + 300 + 700 = 1,016,100, of it 400 cached
out  10 * 100 + 500 + 100 + 900 + 100,000 + 200 + 0 = 102,700, of it 100 reasoning
cost 0.055 + 0.006 + 0.0048 + 0.0015 + 0.0014 = 0.0687. HolySheep's list says 0.10 and 0.42 for a
     million of deepseek-v3.2: 0.10 + 0.042 = 0.142, so 0.2107 in all; box has no price.
speed tokens behind the first one: 1000 + 500 + 100 + 900 + 100,000 + 200 = 102,700 in
     10 * 2 + 5 + 1 + 9 + 50 + 1 = 86 s: 1194.2 a second
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holychat import settings as rules
from holychat.commands import stats as front
from holychat.commands.stats import Asked
from holychat.core.chat import Finish, Timings, Tried, Turn, Usage
from holychat.core.failure import Failure, Kind, StoreTrouble, UsageError
from holychat.core.tally import Period, Tally
from holychat.engine import ledger, statistics, times
from holychat.exits import Exit
from holychat.screen import stats as drawn
from holychat.screen.pen import Pen, cells
from holychat.screen.prometheus import exposition
from holychat.store import conversations, turns
from holychat.store.db import Database
from tests.process import Place
from tests.provider import on_loop
from tests.terminal import Terminal
from tests.test_startup import HEAVY, loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holychat.core.report import By
    from holychat.settings import Settings

GOLDEN = Path(__file__).parent / "golden"
EVIL = 'evil"\\\n<script src="https://bad.example/x.js">\x1b[2J\u202e'
MICRO = 10**6  # a millionth of a dollar, in 10^-12 of it
GPT = ("holysheep", "gpt-4.1")
FAILED = Failure(Kind.SERVER, "it is ill", status=500)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        for name in ("NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "LANG", "COLUMNS"):
            patch.delenv(name, raising=False)
        time.tzset()
        yield
    time.tzset()


def moment(day: int, clock: str = "12:00") -> int:
    """A moment of November 2026, Unix time in milliseconds."""
    return times.moment("", f"2026-11-{day:02} {clock}", 0)


NOW = moment(21, "18:00")


def tried(
    who: tuple[str, str], cost: int | None, tokens: tuple[int, ...], first: float, total: float,
    finish: Finish = Finish.STOP, *, estimated: bool = False,
) -> Tried:  # fmt: skip
    """`tokens` are (in, out, cached, reasoning), `cost` is in millionths of a dollar."""
    prompt, completion, cached, reasoning = (*tokens, 0, 0)[:4]
    pico = None if cost is None else cost * MICRO
    usage = Usage(prompt, completion, cached, reasoning, estimated=estimated, cost=pico)
    return Tried(*who, finish, usage=usage, timings=Timings(None, first, total))


def said(db: Database, at: int, prompt: str, *attempts: Tried, into: str = "") -> str:
    last = attempts[-1]
    about: dict[str, Any] = {"provider": last.provider, "model": last.model}
    begun = turns.begin(db, "w", into, prompt, None, at=at, system="", params={}, **about)
    turn = Turn("a", "", last.finish, last.provider, last.model, last.usage, attempts=attempts)
    turns.close(db, begun, turn, at=at)
    return begun.conversation


def fill(db: Database) -> None:
    """See above."""
    for number in range(1, 11):
        said(db, moment(9 + number), "daily", tried(GPT, 1000 * number, (1000, 100), 0.5, 2.5))
    ill = Tried(*GPT, Finish.FAILED, timings=Timings(None, None, 0.3), failure=FAILED)
    one = said(
        db, moment(20, "09:10"), f"A {EVIL}", ill, tried(GPT, 6000, (1000, 500, 400, 100), 0.5, 5.5)
    )
    cut = tried(GPT, 4800, (2000, 100), 1.0, 2.0, Finish.CUT, estimated=True)
    spare = tried(("deepseek", "deepseek-flash"), 1500, (2100, 900), 0.25, 9.25)
    said(db, moment(20, "09:20"), "A", cut, spare, into=one)
    late = tried(("holysheep", "deepseek-v3.2"), None, (1_000_000, 100_000), 2.0, 52.0)
    two = said(db, moment(21, "08:10"), "B: a long document", late)
    said(db, moment(21, "08:20"), "B", tried(("box", EVIL), None, (300, 200), 0.1, 1.1), into=two)
    stop = Tried(*GPT, Finish.INTERRUPTED, usage=Usage(700, 0, cost=1400 * MICRO))
    said(db, moment(21, "08:30"), "B", stop, into=two)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def path(place: Place) -> str:
    path = place.home / ".local" / "share" / "holychat" / "conversations.db"
    with closing(Database(str(path))) as db:
        fill(db)
    return str(path)


@pytest.fixture
def settings(place: Place, path: str) -> Settings:
    place.config(f'store = "{path}"\n[providers.box]\nbase_url = "http://box.lan/v1"\n')
    return rules.load(environ=place.environ, cwd=place.work, path=place.config_path)


def printed(
    settings: Settings, capfd: pytest.CaptureFixture[str], *, at: int = NOW, **asked: Any
) -> str:
    assert front.run(settings, Asked(**asked), at) is Exit.OK
    out, err = capfd.readouterr()
    assert err == ""
    return out


def golden(name: str, text: str) -> None:
    """Compare with the file; GOLDEN=write writes it anew, for a person to look at."""
    path = GOLDEN / f"{name}.txt"
    shown = text.replace("\x1b", "␛")
    if os.environ.get("GOLDEN") == "write":
        path.write_text(shown)
    assert shown == path.read_text()


# --- The screen -----------------------------------------------------------------------------------


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_screen(
    settings: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    columns: int, color: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("HOME", str(Path(settings["store"]).parents[3]))
    if color:
        monkeypatch.setenv("FORCE_COLOR", "1")
    text = printed(settings, capfd)
    text += "\n".join(("", *(printed(settings, capfd, by="conversation").splitlines()[2:]), ""))
    text = re.sub(r"(?m)^[a-z0-9]{4}  (?=A|B|daily)", "####  ", text)  # ids are drawn by lot
    golden(f"stats-{columns}{'-color' if color else ''}", text)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert ("\x1b" in text) is color
    assert max(map(cells, bare.splitlines())) < columns
    assert "\x1b" not in bare
    assert "\u202e" not in bare


def test_its_colours_are_those_of_every_command(
    settings: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in printed(settings, capfd)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in printed(settings, capfd)


def test_the_totals_are_those_worked_out_by_hand(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [" ".join(row.split()) for row in printed(settings, capfd).splitlines()]
    assert rows[0].startswith("2026-10-23 to 2026-11-21 · 30 days")
    for row in (
        "calls 17 14 answered · 1 cut · 1 failed · 1 stopped",
        "errors 12 % 1 retried · 1 failed over",
        "tokens in ≈1,016,100 400 cached (<0.1 %) · 1 call estimated",
        "tokens out ≈102,700 100 reasoning",
        "cost ≥$0.21 at least: no price is known for 1 call",
        "with 1 call priced later, as of their day",
        "speed 1,194 tok/s",
    ):
        assert row in rows


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({"LC_ALL": "C"}, True), ({"LANG": "de_DE.ISO-8859-1"}, True), ({"LANG": "C.UTF-8"}, False),
     ({"LC_ALL": "en_US.utf8", "LANG": "C"}, False), ({}, False)],
)  # fmt: skip
def test_ascii_alone_where_the_locale_wants_that(
    settings: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str], expected: bool,
) -> None:  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    text = printed(settings, capfd, provider="holysheep")
    assert text.isascii() is expected
    assert ("####" in text) is expected


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("day", [*(f"2026-11-{day}" for day in range(10, 22)), "total"]),
        ("provider", ["holysheep", "deepseek", "box", "total"]),
        ("model", ["deepseek-v3.2", "gpt-4.1", "deepseek-flash", "evil", "total"]),
        ("hour", ["08", "09", "12", "total"]),
        ("conversation", ["daily"] * 10),
    ],
)
def test_by_one_thing(
    settings: Settings, capfd: pytest.CaptureFixture[str], by: By, keys: list[str]
) -> None:
    rows = printed(settings, capfd, by=by).splitlines()
    assert rows[2].split()[0] == by
    if by == "conversation":
        assert len([row for row in rows[3:] if row[6:11] == "daily"]) == len(keys)
    else:
        assert [re.split(r'[" ]', row)[0] for row in rows[3:]] == keys


# --- JSON, CSV ------------------------------------------------------------------------------------


def test_json(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    value = json.loads(printed(settings, capfd, form="json"))
    assert (value["since"], value["until"], value["by"]) == ("2026-10-23", "2026-11-21", "pair")
    totals = value["totals"]
    times_ = {name: totals.pop(name) for name in list(totals) if re.search(r"_p\d\d$", name)}
    assert totals == {
        "calls": 17, "answers": 14, "cut": 1, "failed": 1, "interrupted": 1,
        "retries": 1, "failovers": 1, "hedges": 0, "copies": 0, "error_rate": 0.125,
        "prompt_tokens": 1_016_100, "cached_tokens": 400,
        "completion_tokens": 102_700, "reasoning_tokens": 100,
        "estimated_calls": 1, "cost_usd": 0.2107, "cost_picos": 210_700_000_000,
        "unpriced_calls": 1, "tokens_per_second": pytest.approx(102_700 / 86),
    }  # fmt: skip
    # First tokens, sorted: 0.1, 0.25, 0.5 eleven times, 1.0, 2.0: of 15 the 8th is the median
    assert times_["first_token_p50"] == pytest.approx(0.5, rel=0.025)
    assert times_["first_token_p99"] == pytest.approx(2.0, rel=0.025)
    # Answers: 1.1, 2.5 ten times, 5.5, 9.25, 52
    assert times_["answer_p50"] == pytest.approx(2.5, rel=0.025)
    assert sum(each["count"] for each in value["first_token"]) == 15
    groups = {each["key"]: each for each in value["groups"]}
    assert groups["holysheep/gpt-4.1"]["cost_picos"] == 67_200 * MICRO  # 55 + 6 + 4.8 + 1.4
    assert groups["holysheep/deepseek-v3.2"]["cost_usd"] == 0.142
    assert (groups[f"box/{EVIL}"]["cost_usd"], groups[f"box/{EVIL}"]["model"]) == (None, EVIL)
    assert value["repriced_calls"] == 1


def test_csv(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    text = printed(settings, capfd, form="csv", by="model")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(rows) == 4
    assert all(len(row) == len(rows[0]) and None not in row for row in rows)
    found = {row["key"]: row for row in rows}
    assert found["deepseek-v3.2"]["cost_usd"] == "0.142"
    assert found[EVIL]["cost_usd"] == ""
    assert sum(int(row["calls"]) for row in rows) == 17
    assert text.count("\r\n") == 5


def test_the_hours_get_the_costs_that_were_found(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    value = json.loads(printed(settings, capfd, form="json", by="hour"))
    hours = {each["key"]: each["cost_picos"] for each in value["groups"]}
    # 08: 0.142 + 0.0014; 09: 0.006 + 0.0048 + 0.0015; 12: 0.055
    assert hours == {"08": 143_400 * MICRO, "09": 12_300 * MICRO, "12": 55_000 * MICRO}


def test_of_a_conversation_nothing_is_made_up(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    value = json.loads(printed(settings, capfd, form="json", by="conversation"))
    (b,) = [each for each in value["groups"] if each["title"].startswith("B")]
    # 0.142 was found since, and 0.0014
    assert (b["calls"], b["unpriced_calls"], b["cost_picos"]) == (3, 1, 143_400 * MICRO)
    assert b["answers"] is b["retries"] is b["tokens_per_second"] is b["first_token_p50"] is None
    (a,) = [each for each in value["groups"] if each["title"].startswith("A")]
    assert (a["failed"], a["cut"], a["error_rate"]) == (1, 1, 0.5)


@pytest.mark.parametrize("gone", ["", "B"])
def test_the_conversations_add_up(
    settings: Settings, path: str, capfd: pytest.CaptureFixture[str], gone: str
) -> None:
    """With prices that were found later, also of what was deleted; the dearest are the first."""
    if gone:
        with closing(Database(path)) as db:
            (b,) = [each.id for each in conversations.listing(db) if each.title.startswith(gone)]
            conversations.delete(db, [b])
    value = json.loads(printed(settings, capfd, form="json", by="conversation"))
    rows = [*value["groups"], value["others"], value["deleted"]]
    for name in ("calls", "cut", "failed", "cost_picos", "unpriced_calls", "prompt_tokens"):
        assert sum(row[name] or 0 for row in rows) == value["totals"][name], name
    assert (value["deleted"]["cost_picos"] == 143_400 * MICRO) is bool(gone)
    assert value["groups"][0]["title"][:1] == ("A" if gone else "B")
    with closing(Database(path)) as db:
        said = statistics.records(db, Period(), settings)
        few = statistics.conversations(db, Period(), *said.ways, most=1)
        assert [each.title[:1] for each in few.groups] == ["A" if gone else "B"]
        assert few.others.calls == sum(row["calls"] for row in rows[1:-1])
        none = statistics.conversations(db, Period(until="2026-05-31"), *said.ways)
        assert none == statistics.Conversations([], Tally(), Tally())


def test_what_was_never_sent_is_no_call(
    settings: Settings, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where an older holychat kept the model of a turn that a limit refused."""
    full = Failure(Kind.LIMIT, "no more today")
    with closing(Database(path)) as db:
        said(db, moment(21), "C", Tried(*GPT, Finish.FAILED, failure=full))
        said(db, moment(21), "C", Tried(GPT[0], "", Finish.FAILED, failure=FAILED))
        said(db, moment(21), "C", Tried(GPT[0], "", Finish.INTERRUPTED))
    for by in ("pair", "conversation", "day"):
        totals = json.loads(printed(settings, capfd, form="json", by=by))["totals"]
        assert (totals["calls"], totals["failed"], totals["interrupted"]) == (17, 1, 1)


def test_what_was_deleted_stays_spent(
    settings: Settings, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(Database(path)) as db:
        (a,) = [each.id for each in conversations.listing(db) if each.title.startswith("A")]
        conversations.delete(db, [a])
    rows = printed(settings, capfd, by="conversation").splitlines()
    (gone,) = [row.split() for row in rows if row.startswith("deleted")]
    # 4 calls, 2 of them went wrong; 1000 + 500 + 2000 + 100 + 2100 + 900 tokens
    assert gone[1:6] == ["4", "50", "%", "≈6.6k", "≈$0.012"]
    value = json.loads(printed(settings, capfd, by="conversation", form="json"))
    assert value["deleted"]["cost_picos"] == 12_300 * MICRO


# --- A web page -----------------------------------------------------------------------------------


class Page(HTMLParser):
    """What is in a page; every tag must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("by", [None, "conversation", "day"])
def test_html(
    settings: Settings, capfd: pytest.CaptureFixture[str], tmp_path: Path, by: By | None
) -> None:
    file = tmp_path / "page.html"
    assert front.run(settings, Asked(form="html", out=str(file), by=by), NOW) is Exit.OK
    assert capfd.readouterr() == ("", f"written to {file}\n")
    text = file.read_text()
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "a", "style"} & {*page.tags} - {"style"}
    assert not re.search(r"url\(|@import|(?:src|href|xmlns)=", re.sub(r"&lt;script.*", "", text))
    assert not [
        value for _, value in page.attributes if "//" in value and "bad.example" not in value
    ]
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "prefers-color-scheme: dark" in text
    assert "svg" in page.tags
    assert page.tags.count("table") >= 3  # one beside each chart
    assert "≥$0.21" in page.text
    if by is None:  # box has no price: it has neither a share nor a bar
        assert not re.search(r"box/[^%<]{0,200}: 0 %", page.text)
        (row,) = re.findall(r"(?s)<tr><th scope=\"row\">box/.*?</tr>", text)
        assert row.endswith("<td>?</td><td></td></tr>")
        (bar,) = re.findall(r"(?s)<g>(?:(?!<g>).)*?box/.*?</g>", text)
        assert "<rect" not in bar
    # of the 21st one call has no price: 0.142 + 0.0014
    assert "2026-11-21: ≥$0.14" in page.text
    assert "the highest is ≥$0.14" in page.text
    assert ("aria-label", "Cost by day, the highest ≥$0.14") in page.attributes
    with pytest.raises(UsageError, match="there already"):
        front.run(settings, Asked(form="html", out=str(file)), NOW)


# --- Prometheus -----------------------------------------------------------------------------------

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} ([0-9.e+-]+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def scraped(text: str) -> Samples:
    """The samples of a text in format 0.0.4, strictly: HELP and TYPE first, all of a metric
    together, none twice."""
    assert text.endswith("\n")
    samples: Samples = {}
    types: dict[str, str] = {}
    helped = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ")[2]
            assert helped not in types
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == helped
            types[name] = kind
        else:
            found = _LINE.fullmatch(line)
            assert found, line
            assert re.sub(r"_(bucket|sum|count)$", "", found[1]) == helped or found[1] == helped
            assert types[helped] in ("counter", "histogram")
            labels = _LABEL.findall(found[2])
            assert _LABEL.sub("", found[2]) == ""
            plain = [(name, re.sub(r"\\(.)", _unescaped, value)) for name, value in labels]
            key = (found[1], tuple(sorted(plain)))
            assert key not in samples
            samples[key] = float(found[3])
    return samples


def _unescaped(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]


def key(
    name: str, provider: str, model: str, **more: str
) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted({"provider": provider, "model": model, **more}.items()))


def test_prometheus(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    found = scraped(printed(settings, capfd, form="prometheus"))
    # of gpt-4.1: ten daily ones, one answered; one cut, failed, stopped each
    for outcome, many in (("answered", 11), ("cut", 1), ("failed", 1), ("interrupted", 1)):
        assert found[key("holychat_calls_total", *GPT, outcome=outcome)] == many
    assert found[key("holychat_tokens_total", *GPT, kind="prompt")] == 13_700
    assert found[key("holychat_tokens_total", *GPT, kind="reasoning")] == 100
    assert found[key("holychat_cost_usd_total", *GPT)] == 0.0672
    assert found[key("holychat_cost_usd_total", "holysheep", "deepseek-v3.2")] == 0.142
    assert found[key("holychat_unpriced_calls_total", "box", EVIL)] == 1
    assert key("holychat_cost_usd_total", "box", EVIL) not in found  # not known is no 0
    # first tokens of gpt-4.1: 0.5 eleven times, and 1.0
    first = "holychat_first_token_seconds"
    assert found[key(f"{first}_count", *GPT)] == 12
    assert found[key(f"{first}_sum", *GPT)] == pytest.approx(6.5, rel=0.025)
    buckets = [
        (float(dict(labels)["le"]), many)
        for (name, labels), many in found.items()
        if name == f"{first}_bucket" and dict(labels)["model"] == GPT[1]
    ]
    assert buckets == sorted(buckets)
    assert [many for _, many in buckets] == sorted(many for _, many in buckets)
    assert (buckets[2][1], buckets[-1]) == (0, (float("inf"), 12))
    assert next(many for le, many in buckets if le > 0.6) == 11


def test_what_is_scraped_has_no_beginning(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    later = moment(21) + 400 * times.DAY
    assert scraped(printed(settings, capfd, form="prometheus", at=later))
    assert not scraped(printed(settings, capfd, form="prometheus", at=later, last="7d"))
    assert scraped(exposition((), {})) == {}


# --- Periods and filters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "since", "until"),
    [
        ({}, "2026-10-23", ""),
        ({"last": "1d"}, "2026-11-21", ""),
        ({"last": "7d"}, "2026-11-15", ""),
        ({"last": "12w"}, "2026-08-30", ""),  # 84 days, the 21st among them
        ({"last": "6m"}, "2026-05-26", ""),  # 180
        ({"last": "1Y"}, "2025-11-22", ""),
        ({"last": "all"}, "", ""),
        ({"last": "999999y"}, "", ""),
        ({"since": "2026-11-01"}, "2026-11-01", ""),
        ({"since": "yesterday", "until": "today"}, "2026-11-20", "2026-11-21"),
        ({"until": "2026-11-10"}, "", "2026-11-10"),
        ({"since": "2d"}, "2026-11-19", ""),
    ],
)
def test_periods(asked: dict[str, str], since: str, until: str) -> None:
    given = {"last": "", "since": "", "until": "", **asked}
    assert times.period(**given, at=NOW) == Period(since, until)


@pytest.mark.parametrize(
    "asked",
    [
        {"last": "12h"}, {"last": "0d"}, {"last": "x"}, {"last": "-7d"}, {"last": "7 d"},
        {"since": "x"}, {"until": "2026-13-01"}, {"since": "2026-11-03", "until": "2026-11-01"},
        {"last": "7d", "since": "2026-11-01"}, {"since": "999999y"},
    ],
)  # fmt: skip
def test_periods_that_are_none(asked: dict[str, str]) -> None:
    given = {"last": "", "since": "", "until": "", **asked}
    with pytest.raises(UsageError):
        times.period(**given, at=NOW)


def test_filters(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    def calls(**asked: Any) -> int:
        return int(json.loads(printed(settings, capfd, form="json", **asked))["totals"]["calls"])

    assert calls(provider="holysheep") == 15
    assert calls(provider="HolySheep", model="gpt") == 14
    assert calls(model="deepseek/deepseek-flash") == 1
    assert calls(model="evil") == 1
    assert calls(model="nothing") == 0
    assert calls(since="2026-11-10", until="2026-11-19") == 10
    assert calls(last="1d") == 3
    with pytest.raises(UsageError, match="may be deepseek-"):
        calls(model="deepseek")


def test_a_currency(place: Place, path: str, capfd: pytest.CaptureFixture[str]) -> None:
    place.config(
        f'store = "{path}"\n[money]\ncurrency = "CNY"\n[money.rates]\nCNY = "7.10"\n'
        '[prices."box/x"]\ninput = "1"\noutput = "1"\n'
    )
    settings = rules.load(environ=place.environ, cwd=place.work, path=place.config_path)
    text = printed(settings, capfd)
    assert "≥¥1.50" in text  # 0.2107 * 7.10 = 1.49597


# --- Without anything, and broken -----------------------------------------------------------------


@on_loop
async def test_without_a_store_there_is_nothing_and_nothing_is_made(place: Place) -> None:
    for more in ([], ["--by", "day"], ["--last", "all"]):
        ended = await place.run("stats", *more)
        assert (ended.code, ended.out, ended.err) == (0, b"", "· nothing was asked yet\n")
    assert json.loads((await place.run("stats", "--json")).text)["totals"]["calls"] == 0
    assert (await place.run("stats", "--csv")).text.startswith("key,provider,model,title,calls,")
    assert "Nothing was asked" in (await place.run("stats", "--html", "-")).text
    assert scraped((await place.run("stats", "--prometheus")).text) == {}
    assert os.listdir(place.home) == os.listdir(place.work) == []


@on_loop
async def test_an_empty_period(place: Place, path: str) -> None:
    ended = await place.run("stats", "--since", "2026-01-01", "--until", "2026-01-31", "-p", "box")
    assert (ended.code, ended.out) == (0, b"")
    assert ended.err == "· nothing was asked of box since 2026-01-01 until 2026-01-31\n"


def test_a_damaged_store_is_said_and_left_as_it_is(settings: Settings, path: str) -> None:
    Path(path).write_bytes(b"no database " * 1000)
    with pytest.raises(StoreTrouble, match="it is no database"):
        front.run(settings, Asked(), NOW)
    assert Path(path).read_bytes().startswith(b"no database")
    Path(path).unlink()
    Path(path).mkdir()
    with pytest.raises(StoreTrouble, match="it is no file"):
        front.run(settings, Asked(), NOW)


@on_loop
async def test_and_so_it_is_by_the_process(place: Place) -> None:
    (place.work / "broken.db").write_bytes(b"no database " * 1000)
    ended = await place.run("stats", "--store", "broken.db")
    assert (ended.code, ended.out) == (1, b"")
    assert re.match(r"holychat: the store .*broken.db: it is no database\n", ended.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--last", "12h"], ["--last", "7d", "--until", "today"], ["--since", "tuesday"],
        ["--json", "--csv"], ["--html", "-", "--prometheus"], ["--html", ""],
        ["--prometheus", "--by", "day"], ["--by", "week"], ["--no-store"],
    ],
)  # fmt: skip
@on_loop
async def test_what_makes_no_sense(place: Place, path: str, arguments: list[str]) -> None:
    first = ["--no-store", "stats"] if arguments == ["--no-store"] else ["stats", *arguments]
    ended = await place.run(*first)
    assert (ended.code, ended.out) == (2, b"")
    assert "holychat: " in ended.err
    assert "Traceback" not in ended.err


@on_loop
async def test_the_process(place: Place, path: str) -> None:
    ended = await place.run("stats", "--since", "2026-11-10", "--until", "2026-11-21")
    assert (ended.code, ended.err) == (0, "")
    assert "2026-11-10 to 2026-11-21 · 12 days" in ended.text
    assert "≥$0.21 " in ended.text
    modules = await loaded(place, "stats", "--last", "all")
    assert not modules & (HEAVY | {"httpx", "asyncio", "h11", "ssl", "typing_extensions"})


def test_a_store_that_breaks_meanwhile(settings: Settings, path: str) -> None:
    with closing(Database(path)) as db:
        db.run("DROP TABLE pace")
    with pytest.raises(StoreTrouble):
        front.run(settings, Asked(), NOW)


# --- The short form -------------------------------------------------------------------------------


def test_the_short_form(settings: Settings, path: str) -> None:
    with closing(Database(path)) as db:
        (here,) = [each.id for each in conversations.listing(db) if each.title.startswith("B")]
        brief = statistics.brief(db, settings, NOW, here)
    looks = drawn.Looks(Pen("calm"), 79, ledger.money_of(settings))
    *rows, spark = drawn.short(brief, looks)
    lines = [re.split(r"  +", line) for line in rows]
    # 18 days of nothing, ten of 1100 tokens, 6600 and 1.1 million
    assert spark == f"10-23 {' ' * 18}{'▁' * 11}█ 11-21"
    # today 0.142 + 0.0014
    assert [line[:5] for line in lines[1:]] == [
        ["today", "3", "0 %", "1.1M", "≥$0.14"],
        ["this conversation", "3", "0 %", "1.1M", "≥$0.14"],
        ["30 days", "17", "12 %", "≈1.1M", "≥$0.21"],
    ]


def test_the_short_form_fits_a_narrow_terminal(settings: Settings, path: str) -> None:
    with closing(Database(path)) as db:
        (here,) = [each.id for each in conversations.listing(db) if each.title.startswith("B")]
        brief = statistics.brief(db, settings, NOW, here)
    rows = drawn.short(brief, drawn.Looks(Pen("calm"), 39, ledger.money_of(settings)))
    assert max(map(cells, rows)) < 40
    assert rows[1].split() == ["today", "1.1M", "≥$0.14"]


@on_loop
async def test_in_the_chat(place: Place) -> None:
    async with Terminal("-p", "demo", home=place.home) as term:
        await term.until("›")
        term.type("hi\r")
        await term.until("tok/s|first")
        await term.until("›", times=2)
        term.type("/stats\r")
        await term.until("30 days +1")
        rows = term.text()
    assert re.search(r"today +1 +0 % .* \$0 ", rows)  # the demo costs nothing
    assert re.search(r"this conversation +1 +0 % .* \$0 ", rows)
    assert re.search(r"30 days +1 +0 % .* \$0 .* m?s", rows)
