"""The price list as it is shipped, who sells what, and the user's own prices over it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from calendar import timegm
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from holychat import prices
from holychat.core.chat import Usage
from holychat.core.price import Rate, Tariff, exact, exact_of, money
from holychat.core.provider import BUILT_IN, Provider
from holychat.prices import HERE, YOURS, Prices, load, read, seller

FILES = sorted(Path(prices.__file__).parent.glob("*.toml"))
BY_NAME = {row.name: row for row in BUILT_IN}
HOLYSHEEP, DEEPSEEK, OPENAI = (BY_NAME[name] for name in ("holysheep", "deepseek", "openai"))
MILLION = Usage(prompt=10**6, completion=10**6)


def at(year: int, month: int, day: int, hour: int = 12, minute: int = 0) -> float:
    return float(timegm((year, month, day, hour, minute, 0)))


NOW = at(2026, 11, 20, 8)  # a Friday, at DeepSeek's peak


def spent(
    provider: Provider,
    model: str,
    usage: Usage = MILLION,
    when: float = NOW,
    own: Prices | None = None,
) -> str:
    pico = (own or Prices()).cost(provider, model, usage, when)
    return "?" if pico is None else exact(pico)


# --- The rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_reader_reads_as_tomllib_does(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert read(text) == tomllib.loads(text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_rows_of_a_file(path: Path) -> None:
    assert path.stem in BY_NAME
    rows = load(path.stem)
    assert rows
    seen = set()
    for rate in rows:
        assert rate.models
        assert all(name == name.strip().lower() for name in rate.models)
        assert len(rate.source.split()) > 2
        assert date.fromisoformat(rate.since) <= date.fromisoformat(rate.until or "9999-01-01")
        tariffs = [rate.tariff, *(special.tariff for special in rate.special)]
        for tariff in filter(None, tariffs):
            assert 0 < tariff.input <= tariff.output
            assert tariff.cached is None or tariff.cached <= tariff.input
        assert rate.window is None or (rate.max_output or 0) <= rate.window
        for name in rate.models:
            assert (name, rate.since) not in seen
            seen.add((name, rate.since))


def test_there_are_enough_of_them() -> None:
    assert sum(len(load(path.stem)) for path in FILES) >= 60


@pytest.mark.parametrize(
    ("provider", "model", "each_in", "each_out"),
    [
        ("holysheep", "deepseek-chat", "0.10", "0.42"),
        ("holysheep", "deepseek-v3.2", "0.10", "0.42"),
        ("holysheep", "gpt-4.1", "2.00", "8.00"),
        ("holysheep", "claude-sonnet-4.5", "3.00", "15.00"),
        ("holysheep", "gemini-2.5-flash", "0.30", "2.50"),
        ("deepseek", "deepseek-v3", "0.27", "1.00"),
        ("deepseek", "deepseek-chat", "0.27", "1.00"),
        ("fallback", "deepseek-chat", "0.27", "1.00"),
        ("openai", "gpt-4.1", "2.00", "8.00"),
        ("gemini", "gemini-2.5-flash", "0.30", "2.50"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "3.00", "15.00"),
    ],
)
def test_the_prices_of_the_seed_documents(
    provider: str, model: str, each_in: str, each_out: str
) -> None:
    rate = Prices().rate(BY_NAME[provider], model, NOW)
    assert rate is not None
    assert rate.tariff is not None
    got = (rate.tariff.input, rate.tariff.output)
    assert got == (exact_of(each_in, 6), exact_of(each_out, 6))


def test_the_default_models_have_prices() -> None:
    """Not OpenRouter's: `auto` is whatever answers, and its cost is reported."""
    unknown = [
        row.name for row in BUILT_IN if row.model and Prices().rate(row, row.model, NOW) is None
    ]
    assert unknown == ["openrouter"]


# --- The note of the README, by hand ------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "out_only", "both", "hundred"),
    [
        # 10 * out; 10 * (in + out); 100 * (in + out)
        (HOLYSHEEP, "deepseek-chat", "$4.20", "$5.20", "$52.00"),
        (DEEPSEEK, "deepseek-v3", "$10.00", "$12.70", "$127.00"),
        (HOLYSHEEP, "gemini-2.5-flash", "$25.00", "$28.00", "$280.00"),
        (HOLYSHEEP, "gpt-4.1", "$80.00", "$100.00", "$1,000.00"),
        (HOLYSHEEP, "claude-sonnet-4.5", "$150.00", "$180.00", "$1,800.00"),
    ],
)
def test_a_month_of_the_seed_documents(
    provider: Provider, model: str, out_only: str, both: str, hundred: str
) -> None:
    def month(prompt: int, completion: int) -> str:
        usage = Usage(prompt=prompt * 10**6, completion=completion * 10**6)
        return money(Prices().cost(provider, model, usage, NOW))

    assert (month(0, 10), month(10, 10), month(100, 100)) == (out_only, both, hundred)
    note = (FILES[0].parent / "README.md").read_text()
    for figure in (out_only, both, hundred):
        assert f" {figure.removeprefix('$')} |" in note


def test_ten_million_tokens_a_day_do_not_save_9_400_a_month() -> None:
    def month(provider: Provider, model: str, prompt: int) -> int:
        usage = Usage(prompt=prompt * 10**6, completion=300 * 10**6)
        return Prices().cost(provider, model, usage, NOW) or 0

    def saved(provider: Provider, model: str, prompt: int) -> str:
        cheap = month(HOLYSHEEP, "deepseek-chat", prompt)
        return exact(month(provider, model, prompt) - cheap)

    assert saved(DEEPSEEK, "deepseek-v3", 0) == "174"  # 300 * (1.00 - 0.42)
    assert saved(DEEPSEEK, "deepseek-v3", 300) == "225"  # 300 * (1.27 - 0.52)
    assert saved(HOLYSHEEP, "claude-sonnet-4.5", 300) == "5244"  # 300 * (18.00 - 0.52)


# --- Times --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        # a million in and a million out
        (at(2025, 2, 20, 23), "1.37"),  # 0.27 + 1.10, no discount yet
        (at(2025, 6, 1, 16, 29), "1.37"),
        (at(2025, 6, 1, 16, 30), "0.685"),  # 0.135 + 0.55
        (at(2025, 6, 2, 0, 29), "0.685"),
        (at(2025, 6, 2, 0, 30), "1.37"),
        (at(2025, 9, 7, 20), "2.24"),  # 0.56 + 1.68, the discount is gone
        (at(2025, 12, 1), "0.7"),  # 0.28 + 0.42
        (at(2026, 6, 1), "0.42"),  # 0.14 + 0.28, another name of deepseek-v4-flash
        (at(2026, 8, 1), "1.27"),  # the document's 0.27 + 1.00
    ],
)
def test_deepseek_chat_over_time(when: float, expected: str) -> None:
    assert spent(DEEPSEEK, "deepseek-chat", when=when) == expected


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        # peak 0.30 + 1.20, else half of it; 2026-11-20 is a Friday
        (at(2026, 11, 20, 0, 59), "0.75"),
        (at(2026, 11, 20, 1, 0), "1.5"),
        (at(2026, 11, 20, 3, 59), "1.5"),
        (at(2026, 11, 20, 4, 0), "0.75"),
        (at(2026, 11, 20, 6, 0), "1.5"),
        (at(2026, 11, 20, 9, 59), "1.5"),
        (at(2026, 11, 20, 10, 0), "0.75"),
        (at(2026, 11, 21, 8, 0), "0.75"),  # Saturday
        (at(2026, 11, 22, 8, 0), "0.75"),
        (at(2026, 11, 23, 8, 0), "1.5"),
    ],
)
def test_the_peak_hours_of_deepseek(when: float, expected: str) -> None:
    assert spent(DEEPSEEK, "deepseek-flash", when=when) == expected
    assert spent(DEEPSEEK, "deepseek-v4-flash", when=when) == expected  # another name by now


def test_the_night_with_a_cached_share() -> None:
    # 0.2 M * 0.135 + 0.8 M * 0.035 + 0.1 M * 0.55 = 0.027 + 0.028 + 0.055
    usage = Usage(prompt=10**6, cached=800_000, completion=100_000)
    assert spent(DEEPSEEK, "deepseek-chat", usage, at(2025, 6, 1, 20)) == "0.11"


def test_a_retired_model_has_no_price_and_an_old_one_keeps_its_own() -> None:
    assert spent(DEEPSEEK, "deepseek-reasoner") == "?"
    assert spent(DEEPSEEK, "deepseek-reasoner", when=at(2025, 3, 3)) == "2.74"  # 0.55 + 2.19


# --- Who sells ----------------------------------------------------------------------------------


def test_an_alike_name_has_no_price() -> None:
    assert spent(OPENAI, "gpt-4.1") == spent(OPENAI, "GPT-4.1-2025-04-14") == "10"
    assert spent(OPENAI, "gpt-4.1-mini") == "2"
    assert spent(OPENAI, "gpt-4o-2024-05-13") == "20"
    assert spent(OPENAI, "gpt-4o") == "12.5"
    for model in ("gpt-4.1-2099-01-01", "gpt-4.1-max", "gpt", "", "openai/gpt-4.1"):
        assert spent(OPENAI, model) == "?"
    assert spent(BY_NAME["openrouter"], "openai/gpt-4.1") == "10"
    assert spent(BY_NAME["openrouter"], "gpt-4.1") == "?"
    assert spent(BY_NAME["gemini"], "models/gemini-2.5-flash") == "2.8"


def test_the_address_says_who_sells() -> None:
    work = Provider("work", "https://API.openai.com:443/v1/")
    assert (seller(work), spent(work, "gpt-4.1")) == ("openai", "10")
    # a relay under a known name: nobody knows its prices
    moved = replace(OPENAI, base_url="https://relay.example/v1")
    assert (seller(moved), spent(moved, "gpt-4.1")) == ("", "?")
    assert spent(DEEPSEEK.at("/beta"), "deepseek-v3") == "1.27"
    assert spent(BY_NAME["fallback"], "deepseek-v3") == "1.27"


def test_what_runs_here_costs_nothing_unless_it_wants_a_key() -> None:
    for row in (BY_NAME["ollama"], BY_NAME["demo"], BY_NAME["vllm"]):
        rate = Prices().rate(row, "any", NOW)
        assert rate is not None
        assert (rate.tariff, rate.source) == (Tariff(0, 0), HERE)
        assert spent(row, "any") == "0"
    relay = replace(OPENAI, base_url="http://127.0.0.1:4000/v1")
    assert spent(relay, "gpt-4.1") == "?"
    assert spent(replace(relay, needs_key=False), "gpt-4.1") == "0"


def test_what_the_server_says_wins() -> None:
    assert spent(OPENAI, "gpt-4.1", replace(MILLION, cost=7)) == "0.000000000007"
    assert spent(OPENAI, "unheard-of", replace(MILLION, cost=0)) == "0"


# --- The user's own -----------------------------------------------------------------------------


def test_own_prices_change_a_row_and_add_one() -> None:
    own = Prices(
        {
            "openai/GPT-4.1": {"input": 1.8, "window": 1000},
            "openai/mine": {"input": "0.5", "output": 1, "max_output": 50},
            "half": {"input": "1"},
            "sized": {"window": 4096},
        }
    )
    rate = own.rate(OPENAI, "gpt-4.1", NOW)
    assert rate is not None
    assert rate.tariff == Tariff(exact_of("1.8", 6), exact_of("8", 6), exact_of("0.5", 6))
    assert (rate.window, rate.max_output, rate.source) == (1000, 32768, YOURS)
    assert own.rate(OPENAI, "gpt-4.1-2025-04-14", NOW) == rate  # the same model by another name
    assert spent(HOLYSHEEP, "gpt-4.1", own=own) == "10"  # at openai only
    assert spent(OPENAI, "mine", own=own) == "1.5"
    assert spent(OPENAI, "half", own=own) == spent(OPENAI, "sized", own=own) == "?"
    sized = own.rate(OPENAI, "sized", NOW)
    assert sized == Rate("openai", ("sized",), window=4096, source=YOURS)


def test_own_prices_for_all_providers_and_for_one() -> None:
    own = Prices(
        {
            "gpt-4.1": {"input": "1", "output": "1"},
            "work/gpt-4.1": {"input": "3", "output": "3"},
            "qwen/qwen3": {"input": "5", "output": "5"},
        }
    )
    box = Provider("box", "https://box.example/v1")
    work = Provider("Work", "https://api.openai.com/v1")
    assert spent(box, "gpt-4.1", own=own) == spent(OPENAI, "gpt-4.1", own=own) == "2"
    assert spent(work, "GPT-4.1", own=own) == "6"
    assert spent(box, "qwen/qwen3", own=own) == "10"
    # what was said of openai's gpt-4.1 is not meant for OpenRouter's model of that name
    own = Prices({"openai/gpt-4.1": {"input": "1", "output": "1"}})
    assert spent(work, "gpt-4.1", own=own) == "2"
    assert spent(BY_NAME["openrouter"], "openai/gpt-4.1", own=own) == "10"
    own = Prices({"openrouter/openai/gpt-4.1": {"input": "1", "output": "1"}})
    assert spent(BY_NAME["openrouter"], "openai/gpt-4.1", own=own) == "2"


def test_own_prices_hold_at_all_hours() -> None:
    own = Prices({"deepseek/deepseek-flash": {"output": "1.00"}})
    # 0.30 + 1.00, also off peak
    assert spent(DEEPSEEK, "deepseek-flash", when=at(2026, 11, 21), own=own) == "1.3"
    sizes = Prices({"deepseek/deepseek-flash": {"window": 8000}})
    assert spent(DEEPSEEK, "deepseek-flash", when=at(2026, 11, 21), own=sizes) == "0.75"


def test_what_runs_here_may_be_given_a_price() -> None:
    own = Prices({"ollama/qwen3": {"input": "0.02", "output": "0.02"}})
    assert spent(BY_NAME["ollama"], "qwen3", own=own) == "0.04"


def test_own_prices_in_yuan() -> None:
    said = {"deepseek/deepseek-flash": {"currency": "CNY", "input": "2", "output": "8"}}
    # 10 / 7.1 = 1.408450704225|35
    own = Prices(said, {"CNY": "7.1"})
    assert spent(DEEPSEEK, "deepseek-flash", own=own) == "1.408450704225"
    assert (
        money(own.cost(DEEPSEEK, "deepseek-flash", MILLION, NOW), "CNY", own.exchange) == "¥10.00"
    )
    assert spent(DEEPSEEK, "deepseek-flash", own=Prices(said)) == "?"
    # a listed price in dollars is none in yuan
    own = Prices({"openai/gpt-4.1": {"currency": "CNY", "input": "2"}}, {"CNY": 7.1})
    assert spent(OPENAI, "gpt-4.1", own=own) == "?"


# --- All of them --------------------------------------------------------------------------------


def test_everywhere() -> None:
    own = Prices(
        {"openai/gpt-4.1": {"output": "1"}, "groq/mine": {"input": "1", "output": "1"}, "x": {}}
    )
    rates = {(rate.provider, rate.model): rate for rate in own.everywhere(NOW)}
    assert len(rates) == len(own.everywhere(NOW)) > 50
    assert rates["openai", "gpt-4.1"].tariff == Tariff(2_000_000, 1_000_000, 500_000)
    assert rates["groq", "mine"].source == YOURS
    assert rates["deepseek", "deepseek-flash"].since == "2026-09-10"
    assert rates["deepseek", "deepseek-chat"].tariff == Tariff(270_000, 1_000_000)
    assert ("deepseek", "deepseek-reasoner") not in rates
    assert ("deepseek", "deepseek-v4-flash") not in rates  # another name of deepseek-flash
    assert {name for name, _ in rates} == {path.stem for path in FILES}


# --- What it costs to ask -----------------------------------------------------------------------


def test_only_the_file_in_question_is_read_and_nothing_heavy_is_loaded() -> None:
    script = (
        "import sys\n"
        "from holychat.core.chat import Usage\n"
        "from holychat.core.provider import BUILT_IN\n"
        "from holychat.prices import Prices, load\n"
        "prices = Prices({'a/b': {'input': '1'}}, {'CNY': '7.1'})\n"
        "assert load.cache_info().currsize == 0\n"
        "assert prices.cost(BUILT_IN[2], 'gpt-4.1', Usage(prompt=1), 1.8e9)\n"
        "assert load.cache_info().currsize == 1\n"
        "slow = 'tomllib decimal fractions datetime tomlkit importlib.resources'.split()\n"
        "print([name for name in slow if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
