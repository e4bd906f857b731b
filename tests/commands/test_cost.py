"""`holychat cost`: by hand, on real stores and settings; its screens; and what it does not do."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holychat import settings as rules
from holychat.commands import cost
from holychat.commands.cost import data, lines, prompt, work
from holychat.core.amounts import amount, share
from holychat.core.chat import Finish, Timings, Tried, Turn, Usage
from holychat.core.price import PICO
from holychat.core.whatif import Offer, part_of
from holychat.engine.market import Market
from holychat.screen.pen import Pen, cells
from holychat.store import turns
from holychat.store.db import Database
from tests.process import Place
from tests.provider import DONE, Provider, chunk, on_loop, usage
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holychat.settings import Settings

GOLDEN = Path(__file__).parent / "golden"
AT = 1_795_262_400  # 2026-11-21 12:00 UTC, a Saturday
DAY = 86400
EVIL = "evil\x1b[2J\u202e/model\x07"
HOLYSHEEP = ("holysheep", "deepseek-chat")  # 0.10 / 0.42
GPT = ("openai", "gpt-4.1")  # 2.00 / 0.50 / 8.00
CASH = lines.Cash("USD", {})


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Book:
    """A store, and settings that lead to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "home" / ".local" / "share" / "holychat" / "conversations.db"

    def said(
        self,
        who: tuple[str, str],
        usage: Usage | None,
        age: int = 0,
        *,
        into: str = "",
        finish: Finish = Finish.STOP,
        prompt: str = "how?",
        fresh: str = "",
    ) -> str:
        """One call, `age` days ago; its conversation."""
        provider, model = who
        at = (AT - age * DAY) * 1000
        with closing(Database(str(self.path))) as db:
            about = {"provider": provider, "model": model, "system": "", "params": {}}
            begun = turns.begin(db, "w", into, prompt, None, at=at, fresh=fresh, **about)  # type: ignore[arg-type]
            tried = Tried(provider, model, finish, usage=usage, timings=Timings(0.1, 0.2, 1.0))
            text = "" if finish is Finish.FAILED else "so"
            turn = Turn(text, "", finish, provider, model, usage, attempts=(tried,))
            turns.close(db, begun, turn, at=at)
        return begun.conversation

    def settings(self, text: str = "", **environ: str) -> Settings:
        path = self.root / "config.toml"
        path.write_text(f'store = "{self.path}"\n{text}')
        path.chmod(0o600)
        return rules.load(environ=environ, cwd=self.root, path=path)


@pytest.fixture
def book(tmp_path: Path, place: Place) -> Book:
    return Book(tmp_path)


def paid(row: tuple[int, int, int], input_: int, cached: int, output: int) -> Usage:
    """Tokens (in, cached, out) at prices in 10^-12 dollars a token."""
    tokens, hits, out = row
    return Usage(tokens, out, hits, cost=(tokens - hits) * input_ + hits * cached + out * output)


def gpt(*row: int) -> Usage:
    return paid(row, 2_000_000, 500_000, 8_000_000)  # type: ignore[arg-type]


def counted() -> list[bytes]:
    """An answer whose server counts 1,000 tokens in and 500 out."""
    return [chunk("Hello"), chunk(finish="stop"), usage(1000, 500), DONE]


def period(settings: Settings, fixed: int | None = None, **asked: Any) -> work.Report:
    return work.period(settings, cost.Asked(**asked), Market(settings, AT), fixed)


def costs(report: work.Report) -> dict[str, Decimal | None]:
    """`provider/model` -> US dollars."""
    return {
        f"{one.provider}/{one.model}": None if one.cost is None else Decimal(one.cost) / PICO
        for one in report.offers
    }


async def run(place: Place, *arguments: str, code: int = 0, **more: Any) -> str:
    ended = await place.run("cost", *arguments, **more)
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    return ended.text if not code else ended.err


# --- A month that is thought of: the seed documents -------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # 10 million a month, all of them output: 10 × 0.42, 10 × 1.00, 10 × 8.00, 10 × 15.00.
        (["--out", "10M"], ["4.2", "10", "80", "150"]),
        # As many in beside them: 10 × 0.52, 10 × 1.27, 10 × 10.00, 10 × 18.00.
        (["--tokens", "10M"], ["5.2", "12.7", "100", "180"]),
        # 100 million of each: 52 and not 52,000; 1,000 and not 1,000,000.
        (["--in", "100M", "--out", "100M"], ["52", "127", "1000", "1800"]),
    ],
)
@on_loop
async def test_the_seed_documents_months(
    place: Place, arguments: list[str], expected: list[str]
) -> None:
    names = [
        "holysheep/deepseek-chat", "deepseek/deepseek-chat", "holysheep/gpt-4.1",
        "holysheep/claude-sonnet-4.5",
    ]  # fmt: skip
    out = await run(place, *arguments, "--on", ",".join(names), "--json")
    told = json.loads(out, parse_float=Decimal, parse_int=Decimal)
    found = {f"{one['provider']}/{one['model']}": one["cost"] for one in told["models"]}
    assert found == {name: Decimal(sum_) for name, sum_ in zip(names, expected, strict=True)}
    assert os.listdir(place.home) == []  # no store was made for it


@on_loop
async def test_the_cached_share_of_a_month(place: Place) -> None:
    # openai/gpt-4.1: 7 M at 2.00, 3 M at 0.50, nothing out: 15.50.
    out = await run(place, "--in", "10M", "--cached", "30%", "--on", "openai/gpt-4.1", "--json")
    told = json.loads(out)
    assert told["cached_tokens"] == 3_000_000
    assert told["models"][-1]["cost"] == 15.5


@on_loop
async def test_a_move_that_pays_and_one_that_never_does(place: Place) -> None:
    # 100.00 against 5.20: 94.80 saved, 74.80 remain; 30 × 20 / 94.80 = 6.3 days, so 7.
    there = ["--tokens", "10M", "--fixed", "20"]
    out = await run(place, *there, "-m", "openai/gpt-4.1", "--on", "holysheep/deepseek-chat")
    said = " ".join(out.split())
    assert "deepseek-chat on holysheep saves $94.80 a month: $74.80 remain (ROI +374 %)." in said
    assert "It is earned back in 7 days of each month, and pays from 4,219,410 tokens" in said
    back = await run(place, *there, "-m", "holysheep/deepseek-chat", "--on", "openai/gpt-4.1")
    assert "gpt-4.1 on openai costs $94.80 a month more, before the $20.00: it never" in back


@on_loop
async def test_money_of_the_users_own(place: Place) -> None:
    """100.00 dollars are 700.00 yuan at 7; a fixed cost of 70 is 10 dollars."""
    place.config('[money]\ncurrency = "CNY"\n[money.rates]\nCNY = "7"\n')
    told = ["--tokens", "10M", "--fixed", "70", "-m", "openai/gpt-4.1", "--on", "gpt-4.1"]
    out = await run(place, *told)
    assert "¥700.00" in out
    assert "fixed cost of ¥70.00 a month, against ¥700.00" in out
    assert json.loads(await run(place, *told, "--json"))["fixed"] == 10


# --- What was recorded ------------------------------------------------------------------------


def test_a_period_priced_anew_by_hand(book: Book) -> None:
    book.said(GPT, gpt(1_000_000, 400_000, 100_000), 9)
    book.said(GPT, gpt(1_000_000, 0, 100_000))
    report = period(
        book.settings(), on=("openai/gpt-4.1", "gpt-5-mini", "holysheep/deepseek-chat"), last="30d"
    )
    # It cost 0.6 × 2.00 + 0.4 × 0.50 + 0.1 × 8.00 = 2.20, and 2.00 + 0.80 = 2.80: 5.00.
    # GPT-5 mini: 1.6 × 0.25 + 0.4 × 0.025 + 0.2 × 2.00 = 0.81.
    # HolySheep has no price for cached ones: 2 × 0.10 + 0.2 × 0.42 = 0.284.
    assert report.here == 5 * PICO
    assert costs(report) == {
        "holysheep/deepseek-chat": Decimal("0.284"),
        "openai/gpt-5-mini": Decimal("0.81"),
        "openai/gpt-4.1": Decimal(5),
    }
    assert [one.cost for one in report.offers] == sorted(one.cost or 0 for one in report.offers)
    # The first call was 9 days ago: 10 days are covered, and 5.00 / 10 × 30 = 15.00.
    assert (report.since, report.until, report.days) == ("2026-11-12", "2026-11-21", 10)
    assert report.month(report.here) == 15 * PICO
    assert report.basis.whole[1:] == (2, 2_000_000, 400_000, 200_000)


def test_days_are_covered_from_the_periods_start_where_the_record_is_older(book: Book) -> None:
    book.said(GPT, gpt(1000, 0, 0), 40)
    book.said(GPT, gpt(1000, 0, 0))
    report = period(book.settings(), last="7d", on=("gpt-5",))
    assert (report.since, report.days, report.calls) == ("2026-11-15", 7, 1)
    assert period(book.settings(), last="all", on=("gpt-5",)).days == 41


def test_off_peak_calls_have_the_off_peak_price(book: Book) -> None:
    """deepseek-flash on a Saturday and on the Friday before at 12:00 UTC, both off peak: half."""
    book.said(HOLYSHEEP, Usage(1_000_000, 0, cost=PICO // 10))
    off = costs(period(book.settings(), on=("deepseek/deepseek-flash",)))
    with closing(sqlite3.connect(book.path)) as db, db:  # the same at 07:00 UTC on a Friday
        db.execute("UPDATE tally SET day = '2026-11-20', slot = 14")
    peak = costs(period(book.settings(), on=("deepseek/deepseek-flash",)))
    assert peak == {"deepseek/deepseek-flash": Decimal("0.3")}
    assert off == {"deepseek/deepseek-flash": Decimal("0.15")}


def test_calls_without_a_price_are_priced_now_or_left_out(book: Book) -> None:
    book.said(GPT, gpt(1_000_000, 0, 0))  # 2.00
    book.said(HOLYSHEEP, Usage(1_000_000, 0))  # no price then; by the list 0.10
    book.said(("box", "mystery"), Usage(500, 50))
    book.said(("box", "mystery"), None, finish=Finish.FAILED)
    book.said(("demo", "demo"), Usage(10, 10, cost=0))
    report = period(book.settings(), on=("openai/gpt-4.1",))
    assert report.here == 210 * PICO // 100
    assert costs(report) == {"openai/gpt-4.1": Decimal(4)}  # of both millions, and of no more
    assert [work[:2] for work in report.basis.left] == [("box", "mystery")]
    assert (report.calls, report.untold, report.demo) == (4, 1, 1)
    said = "\n".join(screen(report))
    assert "1 call without known tokens" in said
    assert "1 call of box/mystery (no price, 550 tokens)" in said
    assert "of the demo" in said


def test_where_no_price_is_known_at_all(book: Book) -> None:
    book.said(("box", "mystery"), Usage(1_000_000, 0, estimated=True))
    report = period(book.settings(), on=("openai/gpt-4.1",), fixed=PICO)
    assert (report.here, costs(report)) == (None, {"openai/gpt-4.1": Decimal(2)})
    shown = screen(report)
    assert re.search(r"recorded +\?", "\n".join(shown))
    assert "≈1,000,000 tokens in" in shown[1]
    assert "is not known" in "\n".join(shown)
    assert data.of_report(report)["recorded"]["cost"] is None


def test_a_period_narrowed(book: Book) -> None:
    book.said(GPT, gpt(1_000_000, 0, 0))
    book.said(HOLYSHEEP, Usage(1_000_000, 0, cost=PICO // 10))
    assert period(book.settings(), on=("gpt-5",), provider="openai").here == 2 * PICO
    assert period(book.settings(), on=("gpt-5",), model="seek").here == PICO // 10
    assert "of that" in period(book.settings(), on=("gpt-5",), model="x").nothing


def test_what_is_not_there(book: Book) -> None:
    assert "nothing is recorded yet" in period(book.settings()).nothing
    assert not book.path.exists()
    book.said(("demo", "demo"), Usage(10, 10, cost=0))
    assert "only the demo" in period(book.settings()).nothing


def test_a_conversation(book: Book) -> None:
    one = book.said(GPT, gpt(1_000_000, 0, 100_000), prompt="Sort a dict")
    book.said(HOLYSHEEP, Usage(1_000_000, 0, cost=PICO // 10), into=one, prompt="and now?")
    book.said(GPT, gpt(5, 0, 5))
    settings = book.settings()
    asked = cost.Asked(session=one[:8], on=("openai/gpt-4.1",))
    report = work.conversation(settings, asked, Market(settings, AT))
    # 2.00 + 0.80 and 0.10; all of it at GPT-4.1: 2 × 2.00 + 0.80.
    assert report.here == 290 * PICO // 100
    assert costs(report) == {"openai/gpt-4.1": Decimal("4.8")}
    assert (report.calls, report.days) == (2, 0)
    assert "Sort a dict" in screen(report)[0]
    latest = work.conversation(settings, cost.Asked(again=True), Market(settings, AT))
    assert latest.basis.whole.tokens == 10


# --- A prompt ---------------------------------------------------------------------------------


def quoted(settings: Settings, text: str = "Why is the sky blue?", **asked: Any) -> prompt.Quote:
    return prompt.quote(settings, cost.Asked(**asked), Market(settings, AT), text, cached=0)


def test_a_prompt_by_hand(book: Book) -> None:
    told = quoted(book.settings(), answer=1_000_000, on=("openai/gpt-4.1",), model="gpt-5-mini")
    assert told.chosen[:2] == ("holysheep", "gpt-5-mini")  # as `ask` takes it: nobody lists that
    assert told.chosen.cost is None
    told = quoted(book.settings(), answer=1_000_000, on=("openai/gpt-4.1",))
    tokens = told.piece.prompt
    # In at 0.10 a million, out at 0.42; and at 2.00 and 8.00.
    assert told.chosen == Offer(*HOLYSHEEP, tokens * 100_000 + 42 * PICO // 100, tokens * 100_000)
    assert told.offers[1] == Offer(*GPT, tokens * 2_000_000 + 8 * PICO, tokens * 2_000_000)
    assert 5 <= tokens <= 20


def test_a_typical_answer_is_what_was_recorded(book: Book) -> None:
    for length in (100, 100, 100, 300, 300, 300, 300, 300, 900):
        book.said(HOLYSHEEP, Usage(10, length, cost=1))
    assert quoted(book.settings()).source == "assumed"
    book.said(HOLYSHEEP, Usage(10, 400, cost=1, estimated=True))  # nobody counted it
    assert quoted(book.settings()).piece.completion == 500
    book.said(HOLYSHEEP, Usage(10, 500, cost=1))
    told = quoted(book.settings())
    assert (told.piece.completion, told.source) == (300, "recorded")
    assert quoted(book.settings(), answer=7).source == "option"


def test_a_store_that_cannot_be_read_is_no_hindrance(
    book: Book, capfd: pytest.CaptureFixture[str]
) -> None:
    book.path.mkdir(parents=True)
    assert quoted(book.settings()).source == "assumed"
    assert "it is no file" in capfd.readouterr().err


def test_a_kept_conversation_is_sent_too(book: Book) -> None:
    kept = book.said(GPT, gpt(5, 0, 5), prompt="Sort a dict " * 100)
    alone = quoted(book.settings('system = "Be brief."'))
    told = quoted(book.settings('system = "Be brief."'), session=kept[:8])
    assert (alone.messages, told.messages) == (2, 4)
    assert told.piece.prompt > alone.piece.prompt + 200
    assert told.chosen[:2] == GPT
    assert quoted(book.settings(), again=True, model="holysheep/deepseek").chosen[:2] == HOLYSHEEP


def test_what_runs_here_costs_nothing_and_is_no_measure(book: Book) -> None:
    told = quoted(book.settings(), provider="ollama", model="llama3", on=("gpt-5",))
    assert told.chosen == Offer("ollama", "llama3", 0, 0)
    assert "×" not in "\n".join(lines.quote(told, pen(80), CASH, everything=True))


def test_a_prompt_that_does_not_fit_is_said(book: Book) -> None:
    said = "\n".join(
        lines.quote(quoted(book.settings(), "word " * 200_000), pen(80), CASH, everything=False)
    )
    assert "more than its window of 128,000 tokens" in said


# --- Names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("gpt-4.1", ["holysheep/gpt-4.1", "openai/gpt-4.1"]),
        ("GPT-4.1", ["holysheep/gpt-4.1", "openai/gpt-4.1"]),
        ("openai/gpt-4.1", ["openai/gpt-4.1"]),
        ("openrouter/openai/gpt-4.1", ["openrouter/openai/gpt-4.1"]),
        ("gpt-4.1-2025-04-14", ["openai/gpt-4.1"]),
        ("haiku", ["openrouter/anthropic/claude-haiku-4.5"]),
        ("short", ["holysheep/deepseek-chat"]),
        ("box/own", ["box/own"]),
        ("ollama/llama3", ["ollama/llama3"]),
        (" gpt-5 , gpt-5", ["openai/gpt-5"]),
        ("deepseek-v3.2", ["holysheep/deepseek-chat"]),
    ],
)
def test_what_a_name_means(book: Book, name: str, pairs: list[str]) -> None:
    settings = book.settings(
        '[aliases]\nshort = "holysheep/deepseek-chat"\n[providers.box]\nbase_url = "http://b/v1"\n'
        '[prices."box/own"]\ninput = "1"\noutput = "2"\n'
    )
    found = [target.pair for target in Market(settings, AT).named([name])]
    assert found == pairs


def test_the_users_own_prices_count(book: Book) -> None:
    settings = book.settings('[prices."openai/gpt-4.1"]\ninput = "1"\n')
    told = quoted(settings, answer=0, on=("openai/gpt-4.1",))
    assert told.offers[-1].cost == told.piece.prompt * 1_000_000


# --- Screens ----------------------------------------------------------------------------------


def pen(width: int, *, color: bool = False) -> Pen:
    made = Pen("calm")
    made.width, made.color = width - 1 if width else 0, color
    return made


def screen(report: work.Report, width: int = 80, *, color: bool = False) -> list[str]:
    return lines.report(report, pen(width, color=color), CASH, everything=True)


def golden(name: str, rows: list[str]) -> None:
    """Compare with the file; GOLDEN=write writes it anew, for a person to look at."""
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(rows) + "\n"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


ON = ("holysheep/deepseek-chat", "deepseek-flash", "gpt-4.1", "claude-sonnet-4.5", "gpt-5-mini")


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_screens(book: Book, width: int, color: bool) -> None:
    book.said(GPT, gpt(1_400_000, 500_000, 123_456), 11)
    book.said(GPT, gpt(2_000, 0, 700))
    book.said(("box", "mystery"), Usage(1000, 200, estimated=True))
    kept = "k3jxmw7q2a"
    book.said(HOLYSHEEP, Usage(3000, 800, cost=636 * 10**6), prompt="Sort a dict", fresh=kept)
    settings = book.settings()
    market = Market(settings, AT)
    size = f"{width}{'-colour' if color else ''}"
    golden(f"cost-period-{size}", screen(period(settings, 2 * PICO, on=ON), width, color=color))
    asked = cost.Asked(session=kept, on=ON)
    golden(
        f"cost-conversation-{size}",
        screen(work.conversation(settings, asked, market), width, color=color),
    )
    asked = cost.Asked(model="openai/gpt-4.1", on=ON)
    month = work.month(settings, asked, market, 10**7, 3 * 10**7, 10**7, 20 * PICO)
    golden(f"cost-month-{size}", screen(month, width, color=color))
    told = quoted(settings, on=ON)
    golden(
        f"cost-prompt-{size}",
        lines.quote(told, pen(width, color=color), CASH, everything=True),
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_fits_whatever_is_in_it(book: Book, width: int) -> None:
    book.said((EVIL, EVIL * 9), Usage(10**9, 10**9, cost=10**7 * PICO), prompt=EVIL * 9)
    book.said((EVIL, "漢" * 90), Usage(10**9, 10**9), prompt=EVIL)
    settings = book.settings(
        f'[providers.{"n" * 60}]\nbase_url = "http://b/v1"\n'
        f'[prices."{"n" * 60}/{"m" * 90}"]\ninput = "9"\noutput = "9"\n'
    )
    on = (*ON, "m" * 90)
    report = period(settings, 5 * PICO, on=on)
    latest = work.conversation(settings, cost.Asked(again=True, on=on), Market(settings, AT))
    shown = [*screen(report, width), *screen(latest, width)]
    told = quoted(settings, EVIL, again=True, on=on)
    shown += lines.quote(told, pen(width), CASH, everything=True)
    assert "\x1b" not in "".join(shown)
    assert "\u202e" not in "".join(shown)
    rows = [row for row in shown if row.startswith(("  ", "* "))]
    rows = [row for row in rows if "漢" * 9 not in row]  # a word of a note, without an end
    assert [row for row in rows if cells(row) >= width] == []
    assert screen(report, 0)


def test_of_many_the_cheapest_and_the_chosen_one(book: Book) -> None:
    settings = book.settings()
    told = quoted(settings, model="openai/gpt-5.5")
    few = lines.quote(told, pen(80), CASH, everything=False)
    rows = [row for row in few if "×" in row]
    assert len(rows) == 16
    assert rows[-1].startswith("* gpt-5.5")
    assert "--all shows them" in few[-1]
    everything = lines.quote(told, pen(80), CASH, everything=True)
    assert len(everything) > len(few)
    assert max(map(cells, everything)) < 80
    names = [row.split()[0] for row in everything if "×" in row]
    assert names.count("gpt-4.1") == 1  # three sell it, at one price


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10M", 10**7), ("10m", 10**7), ("1.5k", 1500), ("2B", 2 * 10**9),
        ("2000", 2000), ("10,000,000", 10**7), ("10_000", 10_000), (" 1k ", 1000), ("0", 0),
    ],
)  # fmt: skip
def test_amounts(text: str, number: int) -> None:
    assert amount(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "M", "-1", "1.5", "1e5", "ten", "1.0005k", "10MM", "9" * 500, "2000000B", "٣k", "k1"],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        amount(text)


@pytest.mark.parametrize(
    ("text", "tokens"), [("30%", 300), ("30", 300), ("0.5%", 5), ("0", 0), ("100 %", 1000)]
)
def test_cached_shares(text: str, tokens: int) -> None:
    assert part_of(1000, share(text)) == tokens


@pytest.mark.parametrize("text", ["0.3", "101%", "-1%", "some", "%", "", "1e400"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        share(text)


# --- The process ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--last", "soon"], "--last takes 7d"),
        (["--last", "30d", "--tokens", "1M"], "take one"),
        (["hello", "--last", "30d"], "take one"),
        (["--last", "30d", "--on", "gpt-4.1", "claude"], "with commas"),
        (["--tokens", "many"], "--tokens many: must be"),
        (["--tokens", "1M", "--in", "2"], "take it, or"),
        (["--in", "5", "--cached", "130%"], "at most 100"),
        (["--last", "7d", "--cached", "3%"], "has its own"),
        (["hello", "--fixed", "2"], "a month's"),
        (["-c", "--fixed", "2"], "a month's"),
        (["--tokens", "1M", "--fixed", "-3"], "--fixed -3: must be"),
        (["--last", "7d", "--answer", "5"], "there is no prompt"),
        (["--last", "7d", "-c"], "take one"),
        (["--tokens", "1M", "--on", "deepseek"], "could be any of: holysheep/deepseek-chat"),
        (["--tokens", "1M", "--on", "gtp-4.1"], "near: gpt-4.1"),
        (["--tokens", "1M", "--on", EVIL], "no price is known for"),
        (["--fixed", "2"], "a month's"),
        (["--cached", "130%"], "at most 100"),
        (["-c", "--cached", "130%"], "at most 100"),
        ([], "no prompt on stdin"),
    ],
)
@on_loop
async def test_mistakes(place: Place, arguments: list[str], words: str) -> None:
    said = await run(place, *arguments, code=2)
    assert words in said
    assert said.count("\n") == 1
    assert "\x1b" not in said


@on_loop
async def test_it_sends_nothing_and_needs_no_key(place: Place) -> None:
    async with Provider() as server:
        place.config(
            f'provider = "box"\n[providers.box]\nbase_url = "{server.base_url}"\nmodel = "m"\n'
            '[prices."box/m"]\ninput = "1"\noutput = "2"\n'
        )
        out = await run(place, "--json", "--answer", "1000", "sum this up", stdin=b"one two three")
        assert not server.requests
    told = json.loads(out)
    assert (told["chosen"]["provider"], told["chosen"]["model"]) == ("box", "m")
    assert told["chosen"]["output_cost"] == 0.002
    assert told["chosen"]["input_cost"] == told["prompt_tokens"] / 10**6
    alone = json.loads(await run(place, "--json", "--answer", "1000", "sum this up"))
    assert told["prompt_tokens"] > alone["prompt_tokens"]
    piped = json.loads(await run(place, "--json", stdin=b"sum this up"))
    assert piped["prompt_tokens"] == alone["prompt_tokens"]


@on_loop
async def test_an_empty_store_is_no_mistake(place: Place) -> None:
    ended = await place.run("cost", "--last", "30d")
    assert (ended.code, ended.out, ended.err) == (0, b"", "· nothing is recorded yet\n")
    told = json.loads(await run(place, "--last", "30d", "--json"))
    assert (told["calls"], told["recorded"]["cost"], told["models"]) == (0, None, [])
    assert os.listdir(place.home) == []


@on_loop
async def test_what_was_really_said(place: Place) -> None:
    """A server that counts 1,000 in and 500 out, at 1 and 2 for a million: 0.001 + 0.001."""
    async with Provider() as server:
        server.script(*counted())
        place.provider(server.base_url, '[prices."box/test-model"]\ninput = "1"\noutput = "2"\n')
        assert (await place.run("ask", "hi")).code == 0
    for which in (["--last", "30d"], ["-c"]):
        told = json.loads(await run(place, *which, "--on", "openai/gpt-4.1", "--json"))
        assert (told["prompt_tokens"], told["completion_tokens"]) == (1000, 500)
        assert told["recorded"]["cost"] == 0.002
        assert told["models"][0]["cost"] == 0.006  # 0.002 + 0.004
        assert (told["models"][0]["difference"], told["models"][0]["percent"]) == (0.004, 200)


@on_loop
async def test_it_loads_no_network_and_no_looks(place: Place) -> None:
    spy = (
        "import os, sys\nfrom holychat import __main__\nleave = os._exit\n"
        "def spy(code):\n    os.write(2, ' '.join(sys.modules).encode())\n    leave(code)\n"
        "os._exit = spy\n__main__.main()\n"
    )
    for arguments in (["hello"], ["--tokens", "1M"]):
        ended = await place.run("cost", *arguments, program=(sys.executable, "-c", spy))
        assert not set(ended.err.split()) & {"httpx", "ssl", "rich", "asyncio", "prompt_toolkit"}


# --- In the chat ------------------------------------------------------------------------------


@on_loop
async def test_the_chat_says_what_it_cost(place: Place) -> None:
    """1,000 in and 500 out at 1 and 2: 0.002."""
    async with Provider() as server:
        place.provider(server.base_url, '[prices."box/test-model"]\ninput = "1"\noutput = "2"\n')
        environ = {"BOX_API_KEY": place.environ["BOX_API_KEY"]}
        async with Terminal(home=place.home, environ=environ) as term:
            await term.until("›")
            term.type("/cost\r")
            await term.until("nothing was used yet")
            server.script(*counted())
            term.type("hi\r")
            await term.until("500 out")
            term.type("/cost\r")
            await term.until("3 cheapest others")
            await term.until("›", times=4)
            rows = [row.strip() for row in term.rows()]
    at = next(n for n, row in enumerate(rows) if row.startswith("1 exchange"))
    assert rows[at] == "1 exchange, 1,000 in · 500 out: $0.002"
    found = [
        re.match(r"(<?)\$[0-9.]+ +<?0\.\d+× +\S+ on \S+$", row) for row in rows[at + 2 : at + 5]
    ]
    assert all(found)
