"""The settings against real files: what holds, who said it, and whom a stranger's `.env` moves."""

from __future__ import annotations

import itertools
import os
import re
import stat
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from holychat import settings as rules
from holychat.core.failure import SettingsError, UsageError
from holychat.core.provider import BUILT_IN, Secret
from holychat.screen.theme import THEMES
from holychat.settings import FIELDS, PROVIDER_FIELDS, Layer, Settings, config_path, write
from holychat.settings.files import key_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "hs-0123456789abcdef"
STRANGER = "http://127.0.0.1:9/stranger"
POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")


@dataclass
class Place:
    """A config file and a working directory of its own."""

    root: Path

    @property
    def path(self) -> Path:
        return self.root / "home" / "config.toml"

    @property
    def cwd(self) -> Path:
        return self.root / "work"

    def config(self, text: str) -> None:
        self.path.write_text(text)
        self.path.chmod(0o600)

    def dotenv(self, text: str) -> None:
        (self.cwd / ".env").write_text(text)

    def load(self, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
        return rules.load(environ=environ or {}, cwd=self.cwd, path=self.path, flags=flags)

    def refused(self, environ: Mapping[str, str] | None = None, **flags: Any) -> str:
        with pytest.raises(SettingsError) as caught:
            self.load(environ, **flags)
        assert "\n" not in caught.value.what
        return caught.value.what.replace(str(self.path), "config.toml")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    return Place(tmp_path)


# --- Defaults and precedence --------------------------------------------------------------------


def test_with_nothing_said_the_defaults_hold(place: Place) -> None:
    settings = place.load()
    assert {f.name: settings[f.name] for f in FIELDS} == {f.name: f.default for f in FIELDS}
    assert {str(settings.value(f.name).source) for f in FIELDS} == {"default"}
    assert settings.names() == [row.name for row in BUILT_IN]
    assert settings.provider("holysheep") == BUILT_IN[0]
    assert (settings.params, settings.aliases, settings.notices) == ({}, {}, ())
    assert settings.path == place.path


def test_the_defaults_themselves() -> None:
    defaults = {field.name: field.default for field in FIELDS}
    assert defaults == {
        "provider": "",
        "model": "",
        "system": "",
        "title": "words",
        "store": "",
        "proxy": "",
        "ca": "",
        "timeouts.connect": 10.0,
        "timeouts.headers": 60.0,
        "timeouts.first": 120.0,
        "timeouts.gap": 60.0,
        "on_cut": "continue",
        "failover.providers": "",
        "failover.attempts": 2,
        "failover.most": 3,
        "failover.wait": 60.0,
        "failover.hedge": False,
        "breaker.errors": 0.05,
        "breaker.calls": 10,
        "breaker.row": 3,
        "breaker.slow": 0.5,
        "breaker.window": 60.0,
        "breaker.cooldown": 30.0,
        "breaker.longest": 600.0,
        "migrate.sample": 30,
        "migrate.errors": 0.02,
        "migrate.slower": 0.25,
        "migrate.settle": 48.0,
        "migrate.look": 60.0,
        "limits.answer": "",
        "limits.conversation": "",
        "limits.day": "",
        "limits.month": "",
        "limits.hold": True,
        "context.policy": "trim",
        "context.reserve": 0,
        "context.model": "",
        "money.currency": "USD",
        "ui.reasoning": "show",
        "ui.panel": "rules",
        "ui.theme": "calm",
        "ui.keys": "emacs",
        "ui.multiline": False,
        "ui.fps": 20,
    }


# One value a layer for every field, as the layer spells it.
SAMPLES: dict[str, tuple[Any, str, Any]] = {  # name: (flag, environment or .env, config)
    "provider": ("openai", "groq", "mistral"),
    "model": ("a", "b", "c"),
    "system": ("a", "b", "c"),
    "title": ("model", "words", "model"),
    "store": ("/a", "/b", "none"),
    "proxy": ("http://a:1", "http://b:1", "http://c:1"),
    "ca": ("/a", "/b", "/c"),
    "timeouts.connect": (1.0, "2", 3),
    "timeouts.headers": (1.0, "2.5", 3),
    "timeouts.first": (1.0, "2e0", 3.5),
    "timeouts.gap": (1.0, "2", 3),
    "on_cut": ("stop", "restart", "continue"),
    "failover.providers": ("a", "b", "c"),
    "failover.attempts": (3, "4", 5),
    "failover.most": (3, "4", 5),
    "failover.wait": (1.0, "2", 3),
    "failover.hedge": (True, "true", False),
    "breaker.errors": (0.1, "0.2", 1),
    "breaker.calls": (1, "2", 3),
    "breaker.row": (0, "1", 2),
    "breaker.slow": (0.0, "1", 2),
    "breaker.window": (1.0, "2", 3),
    "breaker.cooldown": (1.0, "2", 3),
    "breaker.longest": (1.0, "2", 3),
    "migrate.sample": (1, "2", 3),
    "migrate.errors": (0.1, "0.2", 1),
    "migrate.slower": (0.1, "0.2", 1),
    "migrate.settle": (0.0, "1", 2),
    "migrate.look": (0.0, "1", 2),
    "limits.answer": ("0.1", "0.2", "0.3"),
    "limits.conversation": ("1", "2", "3"),
    "limits.day": ("200k tokens", "1.5", "2"),
    "limits.month": ("20", "30", "40"),
    "limits.hold": (False, "true", False),
    "context.policy": ("stop", "summarize", "trim"),
    "context.reserve": (1, "2", 3),
    "context.model": ("a", "b", "c"),
    "money.currency": ("EUR", "CNY", "GBP"),
    "ui.reasoning": ("hide", "show", "hide"),
    "ui.panel": ("rules", "bar", "none"),
    "ui.theme": ("calm", "warm", "warm"),
    "ui.keys": ("vi", "emacs", "vi"),
    "ui.multiline": (True, "off", True),
    "ui.fps": (6, "7", 8),
}


def test_the_themes_are_those_that_are_painted() -> None:
    assert next(field.type for field in FIELDS if field.name == "ui.theme") == THEMES


def test_every_field_has_a_sample() -> None:
    assert set(SAMPLES) == {field.name for field in FIELDS}


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_precedence_of_every_field_over_every_set_of_layers(
    place: Place, field: rules.Field
) -> None:
    flag, text, config = SAMPLES[field.name]
    typed = isinstance(field.type, type) and field.type is not object
    parsed = {"off": False}.get(text, field.type(text) if typed else text)
    dotenv = field.dotenv and field.name not in ("proxy", "ca")  # those need a key beside them
    for layers in itertools.product([False, True], repeat=4):
        by_flag, by_environ, by_dotenv, by_config = layers
        place.config(f"{field.name} = {tomlkit.item(config).as_string()}\n" if by_config else "")
        place.dotenv(f"\n# a comment\n{field.env[-1]}='{text}'\n" if by_dotenv else "")
        environ = {field.env[-1]: text} if by_environ else {}
        got = place.load(environ, **({field.name: flag} if by_flag else {})).value(field.name)
        expected = next(
            (value, layer, where)
            for said, value, layer, where in (
                (by_flag, flag, Layer.FLAG, f"--{field.name.rpartition('.')[2]}"),
                (by_environ, parsed, Layer.ENVIRON, field.env[-1]),
                (by_dotenv and dotenv, parsed, Layer.DOTENV, ".env:3"),
                (by_config, config, Layer.CONFIG, "config.toml:1"),
                (True, field.default, Layer.DEFAULT, "default"),
            )
            if said
        )
        where = "--timeout" if field.name.startswith("timeouts") and by_flag else expected[2]
        assert (got.value, got.source.layer, got.source.where) == (*expected[:2], where)
        assert type(got.value) is type(field.default)


def test_an_empty_or_blank_name_says_nothing(place: Place) -> None:
    place.config('model = "c"\n')
    place.dotenv("HOLYCHAT_MODEL=\n")
    assert place.load({"HOLYCHAT_MODEL": ""})["model"] == "c"
    assert place.load({"HOLYCHAT_MODEL": "  "})["model"] == "c"
    place.dotenv("HOLYCHAT_MODEL=d\n")
    assert place.load({"HOLYCHAT_MODEL": ""}).value("model").source.where == ".env:1"


def test_a_flag_of_none_was_not_given_and_an_empty_one_was(place: Place) -> None:
    place.config('system = "c"\n')
    assert place.load(system=None)["system"] == "c"
    assert place.load(system="")["system"] == ""


def test_the_seed_documents_name_comes_before_ours(place: Place) -> None:
    environ = {"ACTIVE_PROVIDER": "openai", "HOLYCHAT_PROVIDER": "groq"}
    assert place.load(environ)["provider"] == "openai"
    assert place.load({**environ, "ACTIVE_PROVIDER": ""})["provider"] == "groq"


def test_sources_as_a_human_reads_them(place: Place) -> None:
    place.config('ui.fps = 9\n[providers.openai]\n\napi_key = "sk-from-config-file"\n')
    settings = place.load({"HOLYCHAT_MODEL": "m"}, provider="openai")
    names = ("model", "provider", "ui.fps", "providers.openai.api_key", "ui.keys")
    assert [str(settings.value(name).source) for name in names] == [
        "environment HOLYCHAT_MODEL",
        "--provider",
        "config.toml:1",
        "config.toml:4",
        "default",
    ]


def test_what_is_loaded_is_not_taken_from_the_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLYCHAT_MODEL", "leaked")
    monkeypatch.setenv("HOLYSHEEP_API_KEY", KEY)
    settings = place.load()
    assert (settings["model"], settings.has_key("holysheep")) == ("", False)


def test_dotenv_does_not_reach_the_process(place: Place) -> None:
    place.dotenv("HOLYCHAT_MODEL=from-dotenv\nGROQ_API_KEY=gsk_1\n")
    place.load()
    assert "HOLYCHAT_MODEL" not in os.environ
    assert "GROQ_API_KEY" not in os.environ


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "TRUE", " On "])
def test_words_for_true(place: Place, word: str) -> None:
    assert place.load({"HOLYCHAT_MULTILINE": word})["ui.multiline"] is True


@pytest.mark.parametrize("word", ["false", "0", "no", "off", "False"])
def test_words_for_false(place: Place, word: str) -> None:
    place.config("ui.multiline = true\n")
    assert place.load({"HOLYCHAT_MULTILINE": word})["ui.multiline"] is False
    assert "openai" not in place.load({"ENABLE_OPENAI": word}).names()


def test_free_tables(place: Place) -> None:
    place.config(
        '[params]\ntemperature = 0.5\nstop = ["a", "b"]\nseed = 1\nlogprobs = true\n'
        '[aliases]\nfast = "groq/llama"\n"gpt4.1" = "openai/gpt-4.1"\n'
    )
    settings = place.load()
    assert settings.params == {
        "temperature": 0.5,
        "stop": ["a", "b"],
        "seed": 1,
        "logprobs": True,
    }
    assert settings.aliases == {"fast": "groq/llama", "gpt4.1": "openai/gpt-4.1"}
    assert settings["aliases.gpt4.1"] == "openai/gpt-4.1"
    assert settings.value("params.seed").source.where == "config.toml:4"
    assert settings.split == {}
    settings.params.clear()
    assert settings.params


PRICED = """\
[money]
currency = "cny"
[money.rates]
CNY = 7.1
eur = "0.92"
[prices."openai/gpt-4.1"]
input = 0.1
output = 8
window = 100
[prices."qwen3.5"]
currency = "cny"
cached = " 0.003625 "
"""


def test_prices_and_rates_are_kept_as_they_are_written(place: Place) -> None:
    place.config(PRICED)
    settings = place.load()
    assert settings.prices == {
        "openai/gpt-4.1": {"input": "0.1", "output": "8", "window": 100},
        "qwen3.5": {"currency": "CNY", "cached": "0.003625"},
    }
    assert settings.rates == {"CNY": "7.1", "EUR": "0.92"}
    assert (settings["money.currency"], settings.notices) == ("CNY", ())
    rows = settings.rows()
    assert rows[[field.name for field in FIELDS].index("money.currency")][1:] == (
        "CNY",
        "config.toml:2",
    )
    assert [row for row in rows if row[0].startswith(("money.rates", "prices"))] == [
        ("money.rates.CNY", "7.1", "config.toml:4"),
        ("money.rates.eur", "0.92", "config.toml:5"),
        ("prices.openai/gpt-4.1.input", "0.1", "config.toml:7"),
        ("prices.openai/gpt-4.1.output", "8", "config.toml:8"),
        ("prices.openai/gpt-4.1.window", "100", "config.toml:9"),
        ("prices.qwen3.5.currency", "CNY", "config.toml:11"),
        ("prices.qwen3.5.cached", "0.003625", "config.toml:12"),
    ]
    nothing = rules.load(environ={}, cwd=place.cwd, path=place.root / "none.toml")
    assert (nothing.prices, nothing.rates) == ({}, {})


def test_prices_and_rates_can_be_written(place: Place) -> None:
    names = ("prices.openai/gpt-4.1.input", "prices.m.window", "money.rates.CNY", "money.currency")
    texts = ("0.27", "8000", "7.1", "CNY")
    write(
        place.path,
        {name: rules.parsed(name, text) for name, text in zip(names, texts, strict=True)},
    )
    settings = place.load()
    assert settings.prices == {"openai/gpt-4.1": {"input": "0.27"}, "m": {"window": 8000}}
    assert (settings.rates, settings["money.currency"]) == ({"CNY": "7.1"}, "CNY")
    assert [settings.row(name)[1] for name in names] == list(texts)
    write(place.path, dict.fromkeys(names))
    assert tomllib.loads(place.path.read_text()) == {}


def test_a_currency_without_a_rate_is_told(place: Place) -> None:
    place.config("[prices.m]\ncurrency = 'EUR'\n[money.rates]\nCHF = 0.8\n")
    assert place.load({"HOLYCHAT_CURRENCY": "CNY"}).notices == (
        "environment HOLYCHAT_CURRENCY: [money.rates] has no CNY, so costs are in dollars",
        "config.toml:2: [money.rates] has no EUR, so the cost of m is not known",
    )
    assert place.load({"HOLYCHAT_CURRENCY": "CHF"}).notices[1:] == ()


# --- What does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("modle = 'x'", 'config.toml:3: modle is unknown; did you mean "model"?'),
        ("[ui]\nkyes = 'vi'", 'config.toml:4: ui.kyes is unknown; did you mean "ui.keys"?'),
        ("[timeout]\ngap = 1", 'config.toml:3: timeout is unknown; did you mean "timeouts"?'),
        (
            "[providers.box]\nbase_url = 'http://h'\nmodle = 'x'",
            'config.toml:5: providers.box.modle is unknown; did you mean "providers.box.model"?',
        ),
        ("zzzzzz = 1", "config.toml:3: zzzzzz is unknown"),
        ("model = 5", "config.toml:3: model must be a string"),
        ("ui = 5", "config.toml:3: ui must be a table"),
        ("providers = 'x'", "config.toml:3: providers must be a table"),
        ("[providers]\nbox = 'x'", "config.toml:4: providers.box must be a table"),
        ("[ui]\nfps = 4", "config.toml:4: ui.fps must be from 5 to 30"),
        ("[ui]\nfps = 31", "config.toml:4: ui.fps must be from 5 to 30"),
        ("[ui]\nfps = 20.0", "config.toml:4: ui.fps must be a whole number"),
        ("[ui]\nfps = true", "config.toml:4: ui.fps must be a whole number"),
        ("[ui]\nmultiline = 1", "config.toml:4: ui.multiline must be true or false"),
        (
            "[ui]\npanel = 'rulez'",
            'config.toml:4: ui.panel must be one of rules, bar, none; did you mean "rules"?',
        ),
        ("timeouts.gap = 0", "config.toml:3: timeouts.gap must be from 0.001 to 86400"),
        ("timeouts.gap = -1", "config.toml:3: timeouts.gap must be from 0.001 to 86400"),
        ("timeouts.gap = nan", "config.toml:3: timeouts.gap must be from 0.001 to 86400"),
        ("timeouts.gap = inf", "config.toml:3: timeouts.gap must be from 0.001 to 86400"),
        ("timeouts.gap = '9'", "config.toml:3: timeouts.gap must be a number"),
        ("params.stream = true", "config.toml:3: params.stream is not a parameter: holychat"),
        ("params.x = {a = 1}", "config.toml:3: params.x must be a string, a number, true"),
        ("params.x = nan", "config.toml:3: params.x must be a string, a number, true"),
        ("params.x = 2020-01-01", "config.toml:3: params.x must be a string, a number, true"),
        ("aliases.x = 1", "config.toml:3: aliases.x must be a string"),
        ("split.holysheep = '1'", "config.toml:3: split.holysheep must be a number"),
        ("split.holysheep = -1", "config.toml:3: split.holysheep must be from 0 to 1e+06"),
        (
            "[split]\nholysheep = 1\nopnai = 9",
            'config.toml:5: [split]: there is no provider "opnai"; did you mean "openai"?',
        ),
        ("prices = 1", "config.toml:3: prices must be a table"),
        ("prices.x = 1", "config.toml:3: prices.x must be a table"),
        (
            "[prices.'a/b']\ninput = -1",
            "config.toml:4: prices.a/b.input must be a decimal number, 0",
        ),
        ("[prices.x]\ninput = true", "config.toml:4: prices.x.input must be a decimal number"),
        ("[prices.x]\ninput = nan", "config.toml:4: prices.x.input must be a decimal number"),
        ("[prices.x]\noutput = '1,5'", "config.toml:4: prices.x.output must be a decimal number"),
        ("[prices.x]\ncached = {a = 1}", "config.toml:4: prices.x.cached must be a decimal number"),
        (
            "[prices.x]\ncached = 1e-7",
            "config.toml:4: prices.x.cached must have 6 decimals at most",
        ),
        ("[prices.x]\ninput = '1e999'", "config.toml:4: prices.x.input must be a number of a reas"),
        ("[prices.x]\nwindow = 1.5", "config.toml:4: prices.x.window must be a whole number"),
        ("[prices.x]\nwindow = 0", "config.toml:4: prices.x.window must be from 1 to 1e+12"),
        ("[prices.x]\ncurrency = 'yuan'", "config.toml:4: prices.x.currency must be a currency's"),
        (
            "[prices.x]\ninptu = 1",
            'config.toml:4: prices.x.inptu is unknown; did you mean "prices.x.input"?',
        ),
        ("money.currency = 'dollar'", "config.toml:3: money.currency must be a currency's three"),
        ("[money]\nrates = 7.1", "config.toml:4: money.rates must be a table"),
        ("[money.rates]\nCNY = 0", "config.toml:4: money.rates.CNY must be how much one US dollar"),
        ("[money.rates]\nCNY = 'x'", "config.toml:4: money.rates.CNY must be a decimal number"),
        ("[money.rates]\nyuan = 7", "config.toml:4: money.rates.yuan must be a currency's three"),
        ("[money.rates]\nUSD = 2", "config.toml:4: money.rates.USD is always 1: the others are"),
        ("proxy = 'socks5://h:1'", "config.toml:3: proxy must be like http://HOST:PORT"),
        ("[providers.openai]\ndialect = 'x'", "config.toml:4: providers.openai.dialect must be"),
        (
            "[providers.openai.headers]\nX = 1",
            "config.toml:3: providers.openai.headers must be a table of strings",
        ),
        ("[providers.'a b']\nmodel = 'x'", "config.toml:4: providers.a b.model must be named"),
        ("[providers.'a/b']", "config.toml:3: providers.a/b must be named with letters"),
        (
            "[providers.holyshep]\nmodel = 'x'",
            'config.toml:3: providers.holyshep has no base_url; did you mean "holysheep"?',
        ),
        (
            "[providers.HolySheep]\nmodel = 'x'",
            "config.toml:3: providers.HolySheep would share HOLYSHEEP_API_KEY with holysheep",
        ),
        (
            "[providers.my-box]\nbase_url='http://a'\n[providers.'my.box']\nbase_url='http://b'",
            "config.toml:5: providers.my.box would share MY_BOX_API_KEY with my-box",
        ),
        ("model = ", "config.toml:3: is not valid TOML: Invalid value"),
        ("model = 'x", "config.toml:3: is not valid TOML: "),
        ("a = 1\na = 2", "config.toml:4: is not valid TOML: Cannot overwrite a value"),
        ("x = " + "[" * 5000, "config.toml: is not valid TOML: it is nested too deeply"),
    ],
)
def test_a_mistake_in_the_config_is_told_with_its_line(place: Place, text: str, error: str) -> None:
    place.config("# a\n\n" + text)
    assert place.refused().startswith(error)


def test_a_config_that_is_not_text(place: Place) -> None:
    place.path.write_bytes(b'# a\nmodel = "\xff"\n')
    assert place.refused() == "config.toml:2: is not UTF-8"


def test_a_config_that_is_a_folder(place: Place) -> None:
    place.path.mkdir()
    assert place.refused() == "config.toml: cannot be read: Is a directory"


def test_a_config_from_another_system(place: Place) -> None:
    place.path.write_bytes(b'\xef\xbb\xbf# a\r\nmodel = "x"\r\n')
    value = place.load().value("model")
    assert (value.value, value.source.where) == ("x", "config.toml:2")


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("HOLYCHAT_FPS", "many", "HOLYCHAT_FPS must be a whole number"),
        ("HOLYCHAT_FPS", "99", "HOLYCHAT_FPS must be from 5 to 30"),
        ("HOLYCHAT_TIMEOUT_GAP", "soon", "HOLYCHAT_TIMEOUT_GAP must be a number"),
        ("HOLYCHAT_TIMEOUT_GAP", "nan", "HOLYCHAT_TIMEOUT_GAP must be from 0.001 to 86400"),
        ("HOLYCHAT_MULTILINE", "maybe", "HOLYCHAT_MULTILINE must be true or false (or 1, 0"),
        ("HOLYCHAT_KEYS", "vim", 'HOLYCHAT_KEYS must be one of emacs, vi; did you mean "vi"?'),
        ("ENABLE_HOLYSHEEP", "flase", "ENABLE_HOLYSHEEP must be true or false"),
        ("HOLYSHEEP_BASE_URL", "api.holysheep.ai", "HOLYSHEEP_BASE_URL must be like https://"),
    ],
)
def test_a_mistake_in_the_environment_is_told(
    place: Place, name: str, text: str, error: str
) -> None:
    assert place.refused({name: text}).startswith(error)


def test_a_mistake_in_the_dotenv_is_told_with_its_line(place: Place) -> None:
    place.dotenv("\nENABLE_HOLYSHEEP=flase\n")
    assert place.refused().startswith(".env:2: ENABLE_HOLYSHEEP must be true or false")


def test_a_disabled_providers_address_is_not_looked_at(place: Place) -> None:
    environ = {"HOLYSHEEP_BASE_URL": "nonsense", "ENABLE_HOLYSHEEP": "false"}
    assert "holysheep" not in place.load(environ).names()


def test_a_mistake_in_a_flag_is_the_command_lines(place: Place) -> None:
    with pytest.raises(UsageError, match=r"^--reasoning must be one of show, hide$"):
        place.load(**{"ui.reasoning": "loud"})
    with pytest.raises(UsageError, match=r"^--timeout must be from"):
        place.load(**{"timeouts.gap": 0.0})
    assert "nonsuch is unknown" in place.refused(nonsuch=1)


def test_unknown_names_asked_for(place: Place) -> None:
    settings = place.load()
    for name in ("modle", "ui", "providers", "providers.nonsuch.model", "providers.openai"):
        with pytest.raises(SettingsError):
            settings.value(name)


# --- Addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/v1", "https://h/v1"),
        ("https://h/v1/", "https://h/v1"),
        ("https://h/v1///", "https://h/v1"),
        ("https://h/v1/chat/completions", "https://h/v1"),
        ("https://h/v1/chat/completions/", "https://h/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("HTTPS://Host/v1", "HTTPS://Host/v1"),
    ],
)
def test_addresses_are_cleaned(place: Place, text: str, expected: str) -> None:
    settings = place.load({"HOLYSHEEP_BASE_URL": text})
    assert settings.provider("holysheep").base_url == expected
    write(place.path, {"providers.openai.base_url": text})
    assert place.load().provider("openai").base_url == expected


@pytest.mark.parametrize(
    "text",
    [
        "h/v1",
        "ftp://h/v1",
        "https://",
        "https:///v1",
        "https:///chat/completions",
        "file:///etc/passwd",
        "https://h/v 1",
        "https://h/\tv1",
        "https://h\x1b[2J/v1",
        "https://user@h/v1",
        "https://user:secret@h/v1",
        "https://api.holysheep.ai\\@evil/v1",
        "https://h\\evil/v1",
        "https://h/v1?key=1",
        "https://h/v1#x",
        "https://h:port/v1",
        "https://h:99999/v1",
        "https://[::1/v1",
    ],
)
def test_what_is_no_address_is_refused(place: Place, text: str) -> None:
    said = place.refused({"HOLYSHEEP_BASE_URL": text})
    assert said.startswith("HOLYSHEEP_BASE_URL ")
    assert "secret" not in said
    place.config(f"\n[providers.openai]\nbase_url = {tomlkit.item(text).as_string()}\n")
    assert place.refused().startswith("config.toml:3: providers.openai.base_url ")


def test_a_key_in_the_clear_is_told(place: Place) -> None:
    environ = {"HOLYSHEEP_API_KEY": KEY, "HOLYSHEEP_BASE_URL": "http://relay.example/v1"}
    assert place.load(environ).notices == (
        (
            "environment HOLYSHEEP_BASE_URL: the key of holysheep travels unencrypted:"
            " its address is http://"
        ),
    )
    for better in ("https://relay.example/v1", "http://127.0.0.1:1/v1", "http://localhost:1/v1"):
        assert not place.load({**environ, "HOLYSHEEP_BASE_URL": better}).notices
    assert not place.load({**environ, "HOLYSHEEP_API_KEY": ""}).notices


# --- The law of keys ----------------------------------------------------------------------------

WHERE = ("env", ".env", "config", "none")


def arrange(place: Place, key: str, address: str, name: str) -> dict[str, str]:
    """`key` and `address` are said where their names say; every layer has its own values."""
    environ = {}
    dotenv, config = "", f"[providers.{name}]\n"
    if key == "env":
        environ[f"{name.upper()}_API_KEY"] = "hs-environment"
    if key == ".env":
        dotenv += f"{name.upper()}_API_KEY=hs-dotenv\n"
    if key == "config":
        config += 'api_key = "hs-config"\n'
    if address == "env":
        environ[f"{name.upper()}_BASE_URL"] = "https://environment/v1"
    if address == ".env":
        dotenv += f"{name.upper()}_BASE_URL={STRANGER}\n"
    if address == "config":
        config += 'base_url = "https://config/v1"\n'
    place.dotenv(dotenv)
    place.config(config)
    return environ


@pytest.mark.parametrize("name", ["holysheep", "fallback", "ollama"])
@pytest.mark.parametrize("address", WHERE)
@pytest.mark.parametrize("key", WHERE)
def test_a_key_meets_an_address_of_a_dotenv_only_if_it_is_from_there(
    place: Place, key: str, address: str, name: str
) -> None:
    environ = arrange(place, key, address, name)
    settings = place.load(environ)
    provider = settings.provider(name)
    default = next(row.base_url for row in BUILT_IN if row.name == name)
    believed = address != ".env" or key == ".env"
    assert (
        provider.base_url
        == {
            "env": "https://environment/v1",
            ".env": STRANGER if believed else default,
            "config": "https://config/v1",
            "none": default,
        }[address]
    )
    assert (
        provider.key.reveal()
        == {
            "env": "hs-environment",
            ".env": "hs-dotenv",
            "config": "hs-config",
            "none": "",
        }[key]
    )
    assert len(settings.notices) == (not believed)
    if not believed:
        line = 1
        assert settings.notices[0] == (
            f".env:{line}: {name.upper()}_BASE_URL is ignored: its key {name.upper()}_API_KEY"
            " is not from the same file"
        )


@given(
    keys=st.lists(st.sampled_from(["flag", "env", ".env", "config", "file", "command"])),
    addresses=st.lists(st.sampled_from(["flag", "env", ".env", "config"])),
    blank=st.sampled_from(["", "HOLYSHEEP_API_KEY= \n", "HOLYSHEEP_API_KEY='\u3000'\n"]),
)
@effort(max_examples=300, deadline=None, database=None)
def test_no_key_of_the_users_ever_goes_to_the_stranger(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], addresses: list[str], blank: str
) -> None:
    place = Place(tmp_path_factory.mktemp("law"))
    place.path.parent.mkdir()
    place.cwd.mkdir()
    (place.path.parent / "key").write_text("hs-mine-file")
    config = "[providers.holysheep]\n"
    config += 'api_key = "hs-mine-config"\n' if "config" in keys else ""
    config += 'key_file = "key"\n' if "file" in keys else ""
    config += 'key_command = "echo hs-mine-command"\n' if "command" in keys else ""
    config += 'base_url = "https://mine/config"\n' if "config" in addresses else ""
    dotenv = blank
    dotenv += "HOLYSHEEP_API_KEY=hs-stranger\n" if ".env" in keys else ""
    dotenv += f"HOLYSHEEP_BASE_URL={STRANGER}\n" if ".env" in addresses else ""
    environ = {"PATH": os.environ["PATH"]}
    environ |= {"HOLYSHEEP_API_KEY": "hs-mine-env"} if "env" in keys else {}
    environ |= {"HOLYSHEEP_BASE_URL": "https://mine/env"} if "env" in addresses else {}
    flags = {"providers.holysheep.api_key": "hs-mine-flag"} if "flag" in keys else {}
    flags |= {"providers.holysheep.base_url": "https://mine/flag"} if "flag" in addresses else {}
    place.config(config)
    place.dotenv(dotenv)
    provider = place.load(environ, **flags).provider("holysheep")
    if provider.base_url == STRANGER:
        assert provider.key.reveal() == "hs-stranger"
    if "mine" in provider.key.reveal():
        assert "stranger" not in provider.base_url


def test_a_blank_key_in_the_dotenv_does_not_buy_its_address(place: Place) -> None:
    place.config('[providers.holysheep]\napi_key = "hs-config"\n')
    place.dotenv(f"HOLYSHEEP_API_KEY='  '\nHOLYSHEEP_BASE_URL={STRANGER}\n")
    provider = place.load().provider("holysheep")
    assert (provider.base_url, provider.key.reveal()) == (BUILT_IN[0].base_url, "hs-config")


def test_another_providers_key_in_the_dotenv_buys_nothing(place: Place) -> None:
    place.dotenv(f"GROQ_API_KEY=gsk_1\nHOLYSHEEP_BASE_URL={STRANGER}\n")
    settings = place.load({"HOLYSHEEP_API_KEY": KEY})
    assert settings.provider("holysheep").base_url == BUILT_IN[0].base_url
    assert settings.notices[0].startswith(".env:2: HOLYSHEEP_BASE_URL is ignored")


def test_nothing_is_refused_where_the_dotenv_says_what_holds_anyway(place: Place) -> None:
    place.dotenv("HOLYSHEEP_BASE_URL=https://api.holysheep.ai/v1/\n")
    assert place.load({"HOLYSHEEP_API_KEY": KEY}).notices == ()
    place.dotenv(f"HOLYSHEEP_BASE_URL={STRANGER}\n")
    mine = {"HOLYSHEEP_API_KEY": KEY, "HOLYSHEEP_BASE_URL": "https://mine/v1"}
    assert place.load(mine).notices == ()


def test_a_refused_address_need_not_be_one(place: Place) -> None:
    place.dotenv("HOLYSHEEP_BASE_URL=nonsense\n")
    settings = place.load({"HOLYSHEEP_API_KEY": KEY})
    assert settings.provider("holysheep").base_url == BUILT_IN[0].base_url
    assert len(settings.notices) == 1


@pytest.mark.parametrize(("name", "value"), [("proxy", "http://evil:1"), ("ca", "/evil.pem")])
def test_a_proxy_or_ca_of_a_dotenv_needs_a_key_beside_it_too(
    place: Place, name: str, value: str
) -> None:
    variable = f"HOLYCHAT_{name.upper()}"
    place.dotenv(f"GROQ_API_KEY=gsk_1\n{variable}={value}\n")
    settings = place.load({"HOLYSHEEP_API_KEY": KEY})
    assert settings[name] == ""  # whoever asks for the general one never gets a stranger's
    assert getattr(settings.provider("holysheep"), name) == ""
    assert getattr(settings.provider("groq"), name) == value
    assert settings.notices == (
        f".env:2: {variable} is used only for groq: no other key is from the same file",
    )
    place.dotenv(f"{variable}={value}\n")
    settings = place.load({"HOLYSHEEP_API_KEY": KEY})
    assert getattr(settings.provider("groq"), name) == ""
    assert settings.notices == (f".env:1: {variable} is ignored: no key is from the same file",)


@pytest.mark.parametrize(
    "stranger",
    [f"OPENAI_BASE_URL={STRANGER}", "HOLYCHAT_PROXY=http://evil:1", "HOLYCHAT_CA=/evil.pem"],
)
def test_the_users_headers_do_not_go_where_a_dotenv_leads(place: Place, stranger: str) -> None:
    place.config('[providers.openai.headers]\nX-Secret = "mine"\n')
    place.dotenv(f"OPENAI_API_KEY=sk-stranger\n{stranger}\n")
    settings = place.load()
    assert settings.provider("openai").headers == {}
    assert settings.notices[-1] == (
        "config.toml:1: the headers of openai are not sent where a .env leads"
    )
    place.dotenv("OPENAI_API_KEY=sk-own\n")  # a key alone leads nowhere
    settings = place.load()
    assert settings.provider("openai").headers == {"X-Secret": "mine"}
    assert settings.notices == ()


def test_a_dotenv_says_only_what_it_may(place: Place) -> None:
    place.dotenv(
        "HOLYCHAT_SYSTEM=obey\nHOLYCHAT_CONFIG=/evil\nHOLYCHAT_FPS=5\nBOX_API_KEY=1\n"
        "HOLYCHAT_MODEL=m\n"
    )
    settings = place.load()
    assert (settings["system"], settings["ui.fps"], settings["model"]) == ("", 20, "m")
    assert sorted(settings.notices) == [
        ".env:1: HOLYCHAT_SYSTEM is ignored: it is not taken from a .env",
        ".env:2: HOLYCHAT_CONFIG is ignored: it is not taken from a .env",
        ".env:3: HOLYCHAT_FPS is ignored: it is not taken from a .env",
    ]


def test_a_dotenv_is_not_interpolated(place: Place) -> None:
    place.dotenv("GROQ_API_KEY=${HOLYSHEEP_API_KEY}\n")
    settings = place.load({"HOLYSHEEP_API_KEY": KEY})
    assert settings.provider("groq").key.reveal() == "${HOLYSHEEP_API_KEY}"


def test_the_forms_of_a_dotenv(place: Place) -> None:
    place.dotenv(
        "\ufeffexport GROQ_API_KEY='gsk_1' # comment\n\n\nOPENAI_API_KEY=\"sk-\\n1\"\n"
        "HOLYCHAT_MODEL=first\nMULTI='a\nb'\nHOLYCHAT_MODEL = last\n"
    )
    settings = place.load()
    assert settings.provider("groq").key.reveal() == "gsk_1"
    assert settings.provider("openai").key.reveal() == "sk-1"
    assert settings["model"] == "last"
    sources = [settings.value(n).source.where for n in ("model", "providers.openai.api_key")]
    assert sources == [".env:8", ".env:4"]


def test_a_broken_line_of_a_dotenv_is_told_and_the_rest_holds(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    place.dotenv("HOLYCHAT_MODEL=m\nthis is nonsense \x1b]0;x\x07\nand this\nGROQ_API_KEY=gsk_1\n")
    settings = place.load()
    assert settings.notices == (".env:2: is not NAME=value; what cannot be read is ignored",)
    assert settings["model"] == "m"
    assert settings.has_key("groq")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["folder", "binary", "pipe", "huge"])
def test_a_dotenv_that_cannot_be_read(place: Place, kind: str) -> None:
    file = place.cwd / ".env"
    if kind == "folder":  # somebody's virtual environment: nothing to tell
        file.mkdir()
    elif kind == "binary":
        file.write_bytes(b"HOLYCHAT_MODEL=\xff\n")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.write_text("HOLYCHAT_MODEL=m\n" + "#" * (1 << 20))
    settings = place.load()
    assert settings["model"] == ""
    reason = "it is not UTF-8" if kind == "binary" else "it is no regular file of a reasonable size"
    expected = () if kind == "folder" else (f".env is ignored: {reason}",)
    assert settings.notices == expected


# --- Where a key comes from ---------------------------------------------------------------------


def test_a_pasted_key_is_stripped(place: Place) -> None:
    settings = place.load({"HOLYSHEEP_API_KEY": f"  {KEY}\n"})
    assert settings.provider("holysheep").key.reveal() == KEY


def test_an_odd_key_is_only_a_notice_and_not_shown(place: Place) -> None:
    settings = place.load({"HOLYSHEEP_API_KEY": "YOUR_HOLYSHEEP_KEY", "GROQ_API_KEY": "odd"})
    assert settings.notices == (
        (
            "environment HOLYSHEEP_API_KEY: the key of holysheep looks unusual:"
            " they start with hs- or sk-"
        ),
    )
    assert settings.provider("holysheep").key
    assert not place.load({"HOLYSHEEP_API_KEY": "sk-0123"}).notices


@pytest.mark.parametrize("key", ["hs-\u200b1", "hs-é", "hs-\x001"])
def test_a_key_that_no_header_can_carry_is_told_when_it_is_needed(place: Place, key: str) -> None:
    settings = place.load({"HOLYSHEEP_API_KEY": key})
    with pytest.raises(SettingsError) as caught:
        settings.provider("holysheep")
    assert caught.value.what == (
        "HOLYSHEEP_API_KEY: the key of holysheep holds characters that no key has"
    )


def test_a_key_file(place: Place) -> None:
    (place.path.parent / "secret").write_text(f"\n {KEY} \n")
    (place.path.parent / "secret").chmod(0o600)
    for written in ("secret", "~/secret", str(place.path.parent / "secret")):
        place.config(f'[providers.holysheep]\nkey_file = "{written}"\n')
        settings = place.load({"HOME": str(place.path.parent)})
        assert settings.has_key("holysheep")
        assert settings.provider("holysheep").key.reveal() == KEY
        assert settings.notices == ()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "providers.holysheep.key_file failed: No such file or directory"),
        (b"\n", "the key of holysheep is empty"),
        (b"\xff", "providers.holysheep.key_file failed: it is not UTF-8"),
        (b"hs-\x01", "the key of holysheep holds characters that no key has"),
    ],
)
def test_a_key_file_that_is_none(place: Place, content: bytes | None, error: str) -> None:
    place.config('[providers.holysheep]\nkey_file = "secret"\n')
    if content is not None:
        (place.path.parent / "secret").write_bytes(content)
    settings = place.load()
    assert settings.has_key("holysheep")  # it is configured; what is wrong is told on use
    with pytest.raises(SettingsError) as caught:
        settings.provider("holysheep")
    assert caught.value.what == f"{place.path}:2: {error}"
    assert caught.value.__cause__ is None


def command(place: Place, script: str) -> None:
    file = place.path.parent / "tool.py"
    file.write_text(f"import os, sys, time\n{script}\n")
    place.config(f"[providers.holysheep]\nkey_command = '{sys.executable} tool.py \"a b\"'\n")


def test_a_key_command_runs_when_needed_and_once(place: Place) -> None:
    command(place, f"open('ran', 'a').write(sys.argv[1] + '|'); print('{KEY}\\nsecond line')")
    ran = place.path.parent / "ran"  # it runs beside the config, not in a stranger's folder
    settings = place.load()
    assert settings.has_key("holysheep")
    assert settings.active() == "holysheep"
    assert settings.rows()
    assert not ran.exists()
    assert settings.provider("holysheep").key.reveal() == KEY
    assert settings.provider("holysheep").key.reveal() == KEY
    assert ran.read_text() == "a b|"


def test_a_key_command_does_not_eat_the_prompt_and_sees_our_environment(place: Place) -> None:
    command(place, "print('hs-' + os.environ['VAULT'] + repr(sys.stdin.read()))")
    script = (
        "import sys, pathlib, holychat.settings as s\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "settings = s.load(environ={'VAULT': 'v'}, cwd=path.parent, path=path)\n"
        "print(settings.provider('holysheep').key.reveal(), sys.stdin.read())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(place.path)],
        env={"PYTHONPATH": str(Path(rules.__file__).parents[2])},
        input="the prompt",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "hs-v'' the prompt\n", ran.stderr


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (
            f"print('{KEY}'); print('a\\nlocked \\x1b[2J', file=sys.stderr); sys.exit(3)",
            "failed: exit status 3: locked ␛[2J",
        ),
        ("sys.exit(1)", "failed: exit status 1"),
        ("pass", "the key of holysheep is empty"),
        ("sys.stdout.buffer.write(b'hs-\\xff')", "failed: it is not UTF-8"),
    ],
)
def test_a_key_command_that_fails(place: Place, script: str, error: str) -> None:
    command(place, script)
    with pytest.raises(SettingsError) as caught:
        place.load().provider("holysheep")
    what = caught.value.what
    assert what.startswith(f"{place.path}:2: ")
    assert what.endswith(error)
    assert KEY not in f"{what}{caught.value.hint}{caught.value.__cause__}"


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ("no-such-program-at-all", "failed: No such file or directory"),
        ("'unclosed", "failed: No closing quotation"),
    ],
)
def test_a_key_command_that_does_not_start(place: Place, written: str, error: str) -> None:
    place.config(f'[providers.holysheep]\nkey_command = "{written}"\n')
    with pytest.raises(SettingsError, match=re.escape(error)):
        place.load().provider("holysheep")


def test_a_key_command_is_no_shell(place: Place) -> None:
    place.config('[providers.holysheep]\nkey_command = "echo hs-1;touch$IFS-owned"\n')
    assert place.load({"PATH": os.environ["PATH"]}).provider("holysheep").key.reveal() == (
        "hs-1;touch$IFS-owned"
    )


def test_a_key_command_that_hangs_is_left_with_its_children(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(place, "import subprocess as s; s.Popen(['sleep', '5']); time.sleep(60)")
    monkeypatch.setattr("holychat.settings.providers.COMMAND_SECONDS", 0.4)
    start = time.monotonic()
    with pytest.raises(SettingsError, match=r"key_command failed: no answer within 0\.4 s$"):
        place.load({"PATH": os.environ["PATH"]}).provider("holysheep")
    assert time.monotonic() - start < 4


def test_the_order_of_ways_to_a_key(place: Place) -> None:
    (place.path.parent / "secret").write_text("hs-file")
    lines = ['api_key = "hs-config"', 'key_file = "secret"', 'key_command = "echo hs-command"']
    for first, expected in enumerate(("hs-config", "hs-file", "hs-command")):
        place.config("\n".join(["[providers.holysheep]", *lines[first:]]))
        settings = place.load({"PATH": os.environ["PATH"]})
        assert settings.provider("holysheep").key.reveal() == expected
    settings = place.load({"HOLYSHEEP_API_KEY": "hs-env"})
    assert settings.provider("holysheep").key.reveal() == "hs-env"


@POSIX
def test_keys_that_others_can_read_are_told(place: Place) -> None:
    place.config('[providers.holysheep]\napi_key = "hs-config"\n')
    assert place.load().notices == ()
    place.path.chmod(0o640)
    assert place.load().notices == (
        f"{place.path}: others can read the keys in it; chmod 600 ends that",
    )
    place.config('model = "x"\n')
    place.path.chmod(0o644)
    assert place.load().notices == ()
    secret = place.path.parent / "secret"
    secret.write_text("hs-file")
    secret.chmod(0o604)
    place.config('[providers.holysheep]\nkey_file = "secret"\n')
    assert place.load().notices == (
        f"{secret}: others can read the key of holysheep; chmod 600 ends that",
    )


def test_no_secret_is_shown(place: Place) -> None:
    place.config(
        'proxy = "http://me:hidden-1@proxy:1"\n[providers.openai]\napi_key = "sk-hidden-2"\n'
        'headers = {Authorization = "hidden-3"}\nproxy = "http://me:hidden-4@proxy:1"\n'
    )
    place.dotenv("GROQ_API_KEY=gsk_hidden-5\n")
    settings = place.load({"HOLYSHEEP_API_KEY": "odd-hidden-6"})
    shown = {name: value for name, value, _ in settings.rows()}
    seen = repr((shown, settings.notices, settings.value("providers.openai.api_key")))
    assert "hidden" not in seen
    assert shown["proxy"] == "http://…@proxy:1"
    assert shown["providers.openai.api_key"] == "…-2"
    assert shown["providers.openai.headers"] == "Authorization: …"
    assert settings.row("providers.openai.headers.Authorization")[1] == "…"
    assert shown["providers.groq.api_key"] == "…n-5"
    with pytest.raises(SettingsError) as caught:
        place.load({"HOLYCHAT_PROXY": "socks5://me:hidden@h:1"})
    assert "hidden" not in caught.value.what


def test_rows_name_all_that_is_set(place: Place) -> None:
    place.config(
        'ui.fps = 9\n[providers.box]\nbase_url = "http://localhost:1/v1"\nmodel = "m"\n'
        "[params]\ntop_p = 0.5\n[aliases]\n'a.b' = \"box/m\"\n"
    )
    place.dotenv("ENABLE_GROQ=false\n")
    rows = place.load({"DEEPSEEK_API_KEY": "sk-0123456789abcdef"}).rows()
    assert [name for name, _, _ in rows[: len(FIELDS)]] == [field.name for field in FIELDS]
    assert ("ui.fps", "9", "config.toml:1") in rows
    assert rows[len(FIELDS) :] == [
        ("providers.deepseek.api_key", "…cdef", "environment DEEPSEEK_API_KEY"),
        ("providers.groq.enabled", "false", ".env:1"),
        ("providers.box.base_url", "http://localhost:1/v1", "config.toml:3"),
        ("providers.box.model", "m", "config.toml:4"),
        ("params.top_p", "0.5", "config.toml:6"),
        ("aliases.a.b", "box/m", "config.toml:8"),
    ]


# --- Providers ----------------------------------------------------------------------------------


def test_three_lines_are_a_provider(place: Place) -> None:
    place.config('[providers.box]\nbase_url = "http://localhost:8001/v1"\nmodel = "qwen3"\n')
    settings = place.load()
    box = settings.provider("box")
    assert (box.base_url, box.model, box.needs_key, box.dialect) == (
        "http://localhost:8001/v1",
        "qwen3",
        False,
        "plain",
    )
    assert settings.names()[-1] == "box"
    assert settings.has_key("box")
    assert settings.active() == "box"  # the user's file speaks of it, and nothing else can answer
    assert place.load({"GROQ_API_KEY": "gsk_1"}).active() == "groq"
    assert settings.provider("BOX").name == "box"


@pytest.mark.parametrize(
    ("address", "said", "needs"),
    [
        ("http://127.0.0.1:1/v1", "", False),
        ("http://[::1]:1/v1", "", False),
        ("https://box.example/v1", "", True),
        ("https://localhost.evil.example/v1", "", True),
        ("https://box.example/v1", "needs_key = false", False),
        ("http://127.0.0.1:1/v1", "needs_key = true", True),
    ],
)
def test_who_needs_a_key(place: Place, address: str, said: str, needs: bool) -> None:
    place.config(f'[providers.box]\nbase_url = "{address}"\n{said}\n')
    settings = place.load()
    assert settings.provider("box").needs_key is needs
    assert settings.has_key("box") is not needs
    assert place.load({"BOX_API_KEY": "k"}).has_key("box")


def test_an_own_providers_names_in_the_environment(place: Place) -> None:
    place.config('[providers."my-box.2"]\nbase_url = "https://h/v1"\nheaders = {A = "b"}\n')
    environ = {"MY_BOX_2_API_KEY": "k-1", "MY_BOX_2_BASE_URL": "https://other/v1"}
    settings = place.load(environ)
    box = settings.provider("my-box.2")
    assert (box.key.reveal(), box.base_url, box.headers) == (
        "k-1",
        "https://other/v1",
        {"A": "b"},
    )
    assert settings["providers.my-box.2.base_url"] == "https://other/v1"
    assert "my-box.2" not in place.load({"ENABLE_MY_BOX_2": "0"}).names()
    place.dotenv("MY_BOX_2_API_KEY=k-2\n")
    assert place.load().provider("my-box.2").key.reveal() == "k-2"


def test_an_address_from_the_environment_is_enough(place: Place) -> None:
    place.config('[providers.box]\nmodel = "m"\n')
    settings = place.load({"BOX_BASE_URL": "http://localhost:1/v1"})
    assert settings.provider("box").base_url == "http://localhost:1/v1"


def test_a_built_in_row_is_changed_field_by_field(place: Place) -> None:
    place.config(
        '[providers.openai]\nmodel = "o9"\ndialect = "plain"\nneeds_key = false\n'
        'proxy = "http://p:1"\nca = "ca.pem"\n'
    )
    openai = place.load().provider("openai")
    assert (openai.model, openai.dialect, openai.needs_key, openai.proxy, openai.ca) == (
        "o9",
        "plain",
        False,
        "http://p:1",
        str(place.path.parent / "ca.pem"),
    )
    assert openai.base_url == "https://api.openai.com/v1"


def test_a_proxy_for_all_and_for_one(place: Place) -> None:
    place.config('proxy = "http://all:1"\n[providers.openai]\nproxy = "http://one:1"\n')
    proxies = {name: place.load().provider(name).proxy for name in ("openai", "groq", "ollama")}
    assert proxies == {"openai": "http://one:1", "groq": "http://all:1", "ollama": ""}
    settings = place.load({"HOLYCHAT_PROXY": "http://env:1"})
    assert settings.provider("openai").proxy == "http://env:1"
    place.config('proxy = "http://all:1"\n[providers.openai]\nproxy = ""\n')
    assert place.load().provider("openai").proxy == ""


def test_paths_are_from_where_they_are_written(place: Place) -> None:
    place.config('ca = "ca.pem"\n')
    assert place.load().provider("openai").ca == str(place.path.parent / "ca.pem")
    environ = {"HOLYCHAT_CA": "ca.pem", "HOME": "/h"}
    assert place.load(environ).provider("openai").ca == str(place.cwd / "ca.pem")
    assert place.load({**environ, "HOLYCHAT_CA": "~/c"}).provider("openai").ca == "/h/c"


def test_an_unknown_provider_names_the_nearest(place: Place) -> None:
    settings = place.load()
    for ask in (settings.provider, settings.has_key):
        with pytest.raises(SettingsError) as caught:
            ask("hollysheep")
        assert caught.value.what == ('there is no provider "hollysheep"; did you mean "holysheep"?')
        assert "openrouter" in caught.value.hint


def test_a_disabled_provider_says_who_disabled_it(place: Place) -> None:
    place.config("[providers.groq]\nenabled = false\n")
    settings = place.load({"ENABLE_OPENAI": "no"})
    for name, by in (("groq", "config.toml:2"), ("openai", "environment ENABLE_OPENAI")):
        assert name not in settings.names()
        with pytest.raises(SettingsError) as caught:
            settings.provider(name)
        assert caught.value.what == f"the provider {name} is disabled ({by})"


# --- Whom to ask --------------------------------------------------------------------------------

SEED = {
    "ACTIVE_PROVIDER": "holysheep",
    "HOLYSHEEP_BASE_URL": "https://api.holysheep.ai/v1",
    "HOLYSHEEP_API_KEY": KEY,
    "FALLBACK_BASE_URL": "https://fallback.example/v1",
    "FALLBACK_API_KEY": "sk-fallback",
    "ENABLE_HOLYSHEEP": "true",
}


@pytest.mark.parametrize("as_dotenv", [False, True])
def test_the_seed_documents_environment(place: Place, as_dotenv: bool) -> None:
    def given_as(values: Mapping[str, str]) -> Settings:
        if not as_dotenv:
            return place.load(values)
        place.dotenv("".join(f"{name}={value}\n" for name, value in values.items()))
        return place.load()

    settings = given_as(SEED)
    assert (settings.active(), settings.notices) == ("holysheep", ())
    assert settings.provider("holysheep").key.reveal() == KEY
    fallback = settings.provider("fallback")
    assert (fallback.base_url, fallback.key.reveal()) == (
        "https://fallback.example/v1",
        "sk-fallback",
    )
    rolled = given_as({**SEED, "ENABLE_HOLYSHEEP": "false"})
    assert rolled.active() == "fallback"
    by = ".env:6" if as_dotenv else "environment ENABLE_HOLYSHEEP"
    assert rolled.notices == (f"holysheep is disabled ({by}): asking fallback instead",)
    rolled = given_as({**SEED, "ACTIVE_PROVIDER": "fallback"})
    assert (rolled.active(), rolled.notices) == ("fallback", ())


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ("", "holysheep"),
        ("HOLYSHEEP_API_KEY", "holysheep"),
        ("HOLYSHEEP_API_KEY OPENAI_API_KEY FALLBACK_API_KEY", "holysheep"),
        ("OPENAI_API_KEY DEEPSEEK_API_KEY", "deepseek"),
        ("OPENAI_API_KEY FALLBACK_API_KEY", "openai"),
        ("OLLAMA_API_KEY", "holysheep"),
        ("-HOLYSHEEP HOLYSHEEP_API_KEY DEEPSEEK_API_KEY FALLBACK_API_KEY", "fallback"),
        ("-HOLYSHEEP HOLYSHEEP_API_KEY DEEPSEEK_API_KEY", "deepseek"),
        ("-HOLYSHEEP", "fallback"),
        ("-HOLYSHEEP -FALLBACK FALLBACK_API_KEY GROQ_API_KEY", "groq"),
        ("-HOLYSHEEP -FALLBACK", "deepseek"),
    ],
)
def test_whom_nobody_chose(place: Place, environ: str, expected: str) -> None:
    values = {
        f"ENABLE_{word[1:]}" if word[0] == "-" else word: "no" if word[0] == "-" else "hs-1"
        for word in environ.split()
    }
    assert place.load(values).active() == expected


def test_a_local_server_is_asked_only_where_the_users_file_speaks_of_it(place: Place) -> None:
    assert place.load().active() == "holysheep"
    place.config('[providers.demo]\nmodel = "x"\n[providers.ollama]\nmodel = "qwen3"\n')
    assert place.load().active() == "ollama"
    place.config('[providers.demo]\nmodel = "x"\n')
    assert place.load().active() == "holysheep"
    place.config('provider = "demo"\n')
    assert place.load().active() == "demo"


def test_a_choice_is_taken_in_any_case_and_with_spaces(place: Place) -> None:
    assert place.load({"ACTIVE_PROVIDER": " OpenAI "}).active() == "openai"
    assert place.load(provider="GROQ").active() == "groq"


def test_a_choice_without_a_key_is_still_the_choice(place: Place) -> None:
    settings = place.load({"ACTIVE_PROVIDER": "openai", "HOLYSHEEP_API_KEY": KEY})
    assert (settings.active(), settings.has_key("openai")) == ("openai", False)


def test_a_flag_is_not_passed_over(place: Place) -> None:
    settings = place.load(
        {"ENABLE_HOLYSHEEP": "false", "FALLBACK_API_KEY": "1"}, provider="holysheep"
    )
    assert settings.active() == "holysheep"
    assert settings.notices == ()
    with pytest.raises(SettingsError, match="disabled"):
        settings.provider("holysheep")


def test_an_unknown_choice_says_who_made_it(place: Place) -> None:
    place.config('\nprovider = "opnai"\n')
    with pytest.raises(SettingsError) as caught:
        place.load().active()  # loading alone does not stop `config set`
    assert caught.value.what == (
        f'{place.path}:2: there is no provider "opnai"; did you mean "openai"?'
    )


# --- Where the file is --------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the XDG folders of Linux")
@pytest.mark.parametrize(
    "environ",
    [
        {"HOME": "/h"},
        {"HOME": "/h", "XDG_CONFIG_HOME": "/x"},
        {"HOME": "/h", "XDG_CONFIG_HOME": ""},
        {"HOME": "/h", "XDG_CONFIG_HOME": "relative"},
    ],
)
def test_the_config_is_where_platformdirs_has_it(environ: dict[str, str]) -> None:
    script = "import platformdirs; print(platformdirs.user_config_dir('holychat', appauthor=False))"
    asked = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    assert config_path(environ) == Path(asked.stdout.strip()) / "config.toml"


def test_the_config_can_be_named() -> None:
    assert config_path({"HOLYCHAT_CONFIG": "/a/b.toml"}) == Path("/a/b.toml")
    assert config_path({"HOLYCHAT_CONFIG": "~/b.toml", "HOME": "/h"}) == Path("/h/b.toml")


def test_load_looks_there(place: Place) -> None:
    place.config('model = "x"\n')
    settings = rules.load(environ={"HOLYCHAT_CONFIG": str(place.path)}, cwd=place.cwd)
    assert (settings["model"], settings.path) == ("x", place.path)


def test_a_start_without_files_imports_nothing_for_them(place: Place) -> None:
    place.dotenv("UNRELATED=1\n")
    script = (
        "import sys, pathlib, holychat.settings as s\n"
        "s.load(environ={'HOLYSHEEP_API_KEY': 'hs-1'}, cwd=pathlib.Path(sys.argv[1]),\n"
        "       path=pathlib.Path('/nonexistent/config.toml')).provider('holysheep')\n"
        "slow = 'tomllib dotenv tomlkit subprocess difflib platformdirs tempfile'.split()\n"
        "print([name for name in slow if name in sys.modules])\n"
    )
    root = Path(rules.__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", script, str(place.cwd)],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


# --- Lines of keys ------------------------------------------------------------------------------


def test_lines_of_every_form() -> None:
    text = '''\
# a = 1 [b]
top = "x = 1" # = [
"quoted key" = 'it''s'
'lit.eral'.x."y z" = """
[not.a.table]
no = "key" \\""" "" """
after = \'\'\'
[nor this]
\'\'\'
list = [
  1, # ]
  "]",
  { a = 1 },
]

[ table . "sub.x" ] # comment
key=1
a.b . c = { inline = "}" , [=] }
  [other]
  key = 2
[[many]]
key = 3
'''.replace("'it''s'", "'its'").replace(", [=] }", "}")
    tomllib.loads(text)
    assert key_lines(text) == {
        ("top",): 2,
        ("quoted key",): 3,
        ("lit.eral", "x", "y z"): 4,
        ("after",): 7,
        ("list",): 10,
        ("table", "sub.x"): 16,
        ("table", "sub.x", "key"): 17,
        ("table", "sub.x", "a", "b", "c"): 18,
        ("other",): 19,
        ("other", "key"): 20,
        ("many",): 21,
        ("many", "key"): 22,
    }


leaves = st.text(max_size=8) | st.integers(-9, 9) | st.booleans() | st.lists(st.text(max_size=3))
tables = st.recursive(
    st.dictionaries(st.text(min_size=1, max_size=4), leaves, max_size=4),
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=4), inner | leaves, max_size=4),
    max_leaves=12,
)


@given(tables)
@effort(deadline=None, database=None)
def test_the_lines_are_where_tomllib_finds_the_keys(table: dict[str, Any]) -> None:
    text = tomlkit.dumps(table)
    lines = key_lines(text)
    for keys, line in lines.items():
        # Cut before that line the key is not there, cut behind its value it is.
        held: Any = tomllib.loads("\n".join(text.split("\n")[: line - 1]))
        for key in keys:
            held = held.get(key) if isinstance(held, dict) else None
        assert held is None or isinstance(held, dict)
    leaf_paths = set(_leaves(tomllib.loads(text), ()))
    assert leaf_paths <= set(lines)


def _leaves(table: dict[str, Any], keys: tuple[str, ...]) -> list[tuple[str, ...]]:
    out = []
    for key, value in table.items():
        inner = (*keys, key)
        out += _leaves(value, inner) if isinstance(value, dict) else [inner]
    return out


def test_lines_take_linear_time() -> None:
    text = 'a = """' + "x\\\\" * 300_000 + '"""\n' + "b" * 300_000 + " = 1\n"
    start = time.process_time()
    key_lines(text)
    assert time.process_time() - start < 5


# --- Writing ------------------------------------------------------------------------------------

COMMENTED = """\
# mine
model = "old" # why

# how it looks
[ui]
fps = 9 # enough

# for people
[providers.box]   # the box
base_url = "http://localhost:1/v1"
"""


def test_writing_keeps_comments_and_order(place: Place) -> None:
    place.config(COMMENTED)
    write(place.path, {"model": "new", "ui.keys": "vi", "providers.box.model": "m"})
    expected = COMMENTED.replace('"old"', '"new"').replace("# enough\n", '# enough\nkeys = "vi"\n')
    assert place.path.read_text() == expected + 'model = "m"\n'


def test_what_is_written_is_what_is_loaded(place: Place) -> None:
    write(
        place.path,
        {
            "system": 'two\nlines "quoted" \\ and a tab\t',
            "ui.multiline": True,
            "timeouts.gap": 5,
            "providers.my.box.base_url": "https://h/v1/chat/completions",
            "providers.my.box.headers.X-Team": "docs",
            "providers.my.box.api_key": Secret(KEY),
            "params.stop": ["a", "b"],
            "aliases.gpt4.1": "openai/gpt-4.1",
        },
    )
    settings = place.load()
    assert settings["system"] == 'two\nlines "quoted" \\ and a tab\t'
    assert (settings["ui.multiline"], settings["timeouts.gap"]) == (True, 5.0)
    box = settings.provider("my.box")
    assert (box.base_url, box.headers, box.key.reveal()) == (
        "https://h/v1",
        {"X-Team": "docs"},
        KEY,
    )
    assert settings.params == {"stop": ["a", "b"]}
    assert settings.aliases == {"gpt4.1": "openai/gpt-4.1"}
    assert settings.notices == ()


@given(st.text(max_size=60))
@effort(deadline=None, database=None)
def test_any_text_survives_being_written(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("write") / "config.toml"
    write(path, {"ui.fps": 9})
    write(path, {"system": text})
    assert tomllib.loads(path.read_bytes().decode()) == {"system": text, "ui": {"fps": 9}}


def test_none_removes(place: Place) -> None:
    place.config(COMMENTED)
    write(place.path, {"ui.fps": None, "model": None, "params.absent": None})
    assert tomllib.loads(place.path.read_text()) == {
        "providers": {"box": {"base_url": "http://localhost:1/v1"}}
    }
    write(place.path, {"providers.box": None})
    assert tomllib.loads(place.path.read_text()) == {}
    assert place.path.read_text().startswith("# mine\n")


def test_a_mistake_in_the_file_can_be_taken_out(place: Place) -> None:
    place.config('modle = "x"\nui.kyes = 1\n')
    write(place.path, {"modle": None, "ui.kyes": None})
    assert place.load()["model"] == ""


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("modle", "x", 'modle is unknown; did you mean "model"?'),
        ("modle", None, 'modle is unknown; did you mean "model"?'),
        ("model", 5, "model must be a string"),
        ("ui.fps", "10", "ui.fps must be a whole number"),
        ("ui", {}, "ui is unknown"),
        ("providers.box", {}, "providers.box is unknown"),
        ("providers.a b.model", "x", "providers.a b.model must be named with letters"),
        ("providers.box.base_url", "h", "providers.box.base_url must be like https://HOST/v1"),
        ("params.messages", "x", "params.messages is not a parameter"),
    ],
)
def test_what_does_not_fit_is_not_written(
    place: Place, name: str, value: object, error: str
) -> None:
    place.config(COMMENTED)
    with pytest.raises(SettingsError) as caught:
        write(place.path, {"model": "good", name: value})
    assert caught.value.what.startswith(error)
    assert place.path.read_text() == COMMENTED


def test_a_broken_file_is_not_written_over(place: Place) -> None:
    place.config("model = \n")
    with pytest.raises(SettingsError, match=r"config\.toml:1: is not valid TOML"):
        write(place.path, {"model": "x"})
    assert place.path.read_text() == "model = \n"


def test_a_table_that_is_none(place: Place) -> None:
    place.config("# a\nui = 5\n")
    with pytest.raises(SettingsError, match=r"config\.toml:2: ui must be a table"):
        write(place.path, {"ui.fps": 9})


@pytest.mark.parametrize(
    "text",
    [
        'providers.box = {base_url = "http://h/v1"}\n',
        'providers.box.base_url = "http://h/v1"\n[ui]\nfps = 9\n',
        (
            '[providers.box]\nbase_url = "http://h/v1"\n[ui]\nfps = 9\n[providers.other]\n'
            'base_url = "http://h/v1"\n'
        ),
        'providers = { box = { base_url = "http://h/v1" } }\r\n',
    ],
)
def test_every_way_to_write_a_table_can_be_added_to(place: Place, text: str) -> None:
    place.path.write_bytes(text.encode())
    before = tomllib.loads(text)
    write(place.path, {"providers.box.model": "m", "model": "n"})
    before["providers"]["box"]["model"] = "m"
    assert tomllib.loads(place.path.read_text()) == {"model": "n", **before}


@POSIX
def test_what_is_written_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "config.toml"
    old = os.umask(0)
    try:
        write(path, {"model": "x"})
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, tmp_path / "a")]
    assert modes == [0o600, 0o700, 0o700]
    path.chmod(0o644)
    write(path, {"model": "y"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@POSIX
def test_a_link_to_the_file_stays_a_link(place: Place) -> None:
    real = place.root / "dotfiles.toml"
    real.write_text('model = "old"\n')
    place.path.symlink_to(real)
    write(place.path, {"model": "new"})
    assert place.path.is_symlink()
    assert real.read_text() == 'model = "new"\n'


@POSIX
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(place: Place) -> None:
    place.config(COMMENTED)
    place.path.parent.chmod(0o500)
    try:
        with pytest.raises(SettingsError, match="cannot be written: Permission denied"):
            write(place.path, {"model": "x"})
    finally:
        place.path.parent.chmod(0o700)
    assert place.path.read_text() == COMMENTED


@POSIX
def test_a_full_disk_leaves_the_old_file(place: Place) -> None:
    """The writer dies of its file size limit in mid-write; the old file is whole."""
    place.config(COMMENTED)
    script = (
        "import pathlib, resource, signal, sys\n"
        "from holychat.core.failure import SettingsError\n"
        "from holychat.settings import write\n"
        "import tomlkit, tempfile, tomllib\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "try:\n"
        "    write(pathlib.Path(sys.argv[1]), {'system': 'x' * 100})\n"
        "except SettingsError as error:\n"
        "    print(error)\n"
    )
    root = Path(rules.__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", script, str(place.path)],
        env={"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == f"{place.path}: cannot be written: File too large", ran.stderr
    assert place.path.read_text() == COMMENTED
    assert [each.name for each in place.path.parent.iterdir()] == ["config.toml"]


def test_whoever_reads_meanwhile_sees_the_old_or_the_new(place: Place) -> None:
    place.config('system = "0"\n')
    script = (
        "import pathlib, sys\nfrom holychat.settings import write\n"
        "for i in range(60): write(pathlib.Path(sys.argv[1]), {'system': str(i) * 5000})\n"
    )
    root = Path(rules.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(place.path)], env={"PYTHONPATH": str(root)}
    ) as writer:
        seen = set()
        while writer.poll() is None:
            text = tomllib.loads(place.path.read_text())["system"]
            assert text == "0" or text in {str(number) * 5000 for number in range(60)}
            seen.add(text)
    assert writer.returncode == 0
    assert len(seen) > 1


# --- The example --------------------------------------------------------------------------------

EXAMPLE = Path(__file__).parents[1] / "config.example.toml"


def uncommented() -> str:
    return re.sub(r"^# (?=\[|[\w-]+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE)


def test_the_example_names_every_field_with_its_default() -> None:
    table = tomllib.loads(uncommented())
    for field in FIELDS:
        top, _, name = field.name.rpartition(".")
        assert (table[top] if top else table)[name or field.name] == field.default
        assert all(name in EXAMPLE.read_text() for name in field.env)
    assert set(table["providers"]["holysheep"]) == {field.name for field in PROVIDER_FIELDS}
    help_text = " ".join(EXAMPLE.read_text().replace("\n# ", " ").split())
    assert all(field.help in help_text for field in (*FIELDS, *PROVIDER_FIELDS))


def test_the_example_is_accepted_as_it_stands_and_uncommented(place: Place) -> None:
    for text in (EXAMPLE.read_text(), uncommented()):
        place.config(text)
        settings = place.load()
        assert settings.notices == () or text == uncommented()
        assert {f.name: settings[f.name] for f in FIELDS} == {f.name: f.default for f in FIELDS}
    assert settings.provider("box").model == "qwen3"
    place.config(EXAMPLE.read_text())
    write(place.path, {"model": "x", "ui.fps": 9, "params.top_p": 0.5})
    comments = [line for line in EXAMPLE.read_text().splitlines() if line.startswith("#")]
    assert [line for line in place.path.read_text().splitlines() if line[:1] == "#"] == comments


def test_blanks_around_an_address_are_nobodys_meaning(tmp_path: Path) -> None:
    environ = {"HOLYSHEEP_BASE_URL": " https://h.example/v1\n", "HOLYSHEEP_API_KEY": "hs-1"}
    settings = rules.load(environ=environ, cwd=tmp_path, path=tmp_path / "none.toml")
    assert settings.provider("holysheep").base_url == "https://h.example/v1"


def test_the_split_keeps_its_order_and_leaves_out_who_cannot_be_asked(place: Place) -> None:
    place.config("[split]\nopenai = 1\nHolySheep = 2.5\ndeepseek = 90\nproxy = 1\n" + PROXY_BOX)
    keys = {"HOLYSHEEP_API_KEY": KEY, "OPENAI_API_KEY": "sk-openai-012345678"}
    settings = place.load(keys)
    assert list(settings.split.items()) == [("openai", 1.0), ("holysheep", 2.5), ("proxy", 1.0)]
    said = "config.toml:4: deepseek has no key, so it gets nothing of the split"
    assert settings.notices == (said,)
    assert settings.row("split.proxy") == ("split.proxy", "1.0", "config.toml:5")
    off = place.load(keys | {"ENABLE_HOLYSHEEP": "false", "ENABLE_DEEPSEEK": "false"})
    assert (off.split, off.notices) == ({"openai": 1.0, "proxy": 1.0}, ())
    assert off.written == settings.written


PROXY_BOX = "[providers.proxy]\nbase_url = 'http://127.0.0.1:9/v1'\n"


def test_a_mistyped_variable_of_ours_is_told(tmp_path: Path) -> None:
    environ = {"HOLYCHAT_PANNEL": "bar", "HOLYCHAT_PANEL": "bar"}
    settings = rules.load(environ=environ, cwd=tmp_path, path=tmp_path / "none.toml")
    assert settings.notices == ("HOLYCHAT_PANNEL is no setting; is it HOLYCHAT_PANEL?",)
