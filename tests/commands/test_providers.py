"""`holychat providers`: the list against real settings, its looks at 80 columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from holychat import settings as rules
from holychat.commands import providers
from holychat.exits import Exit
from tests.process import Place
from tests.provider import Provider, answer, error, on_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from holychat.settings import Settings

    Load = Callable[..., Settings]

KEY = "hs-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str = "", environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return rules.load(environ=environ or {}, cwd=tmp_path, path=path)

    return load


def rows(settings: Settings) -> list[dict[str, Any]]:
    return [providers._row(settings, name, settings.active()) for name in settings.names()]


def test_names_keys_models_and_addresses_are_aligned(
    load: Load, capfd: pytest.CaptureFixture[str]
) -> None:
    text = '[providers.groq]\nkey_command = "pass show groq"\n'
    settings = load(text, {"HOLYSHEEP_API_KEY": KEY, "OPENAI_API_KEY": "sk-000011112222"})
    assert providers.run(settings, json=False) is Exit.OK
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line[2:].split()[0] for line in lines] == settings.names()
    assert lines[0].split() == [
        "*", "holysheep", "…cdef", "environment", "deepseek-chat", "api.holysheep.ai/v1",
    ]  # fmt: skip
    assert sum(line.startswith("*") for line in lines) == 1
    assert "key_command config.toml:2" in out
    assert "no key" in lines[1]
    assert lines[8].split()[:4] == ["ollama", "needs", "none", "-"]
    at = lines[0].index("api.holysheep.ai")
    assert all(line[at - 2 : at] == "  " and line[at] != " " for line in lines)
    assert KEY not in out


def test_it_fits_eighty_columns_whatever_is_in_it(load: Load) -> None:
    far = "a" * 70
    text = f'[providers.{"n" * 40}]\nbase_url = "http://{far}/v1"\nmodel = "{"m" * 90}"\n'
    text += f'api_key = "{KEY}"\n'
    lines = providers.table(rows(load(text)), 80)
    assert max(map(len, lines)) <= 80
    assert "…" in lines[-1]
    assert max(map(len, providers.table(rows(load(text))))) > 200


def test_an_address_keeps_http_where_it_says_something(load: Load) -> None:
    text = '[providers.box]\nbase_url = "http://box.lan/v1"\n'
    lines = providers.table(rows(load(text)))
    assert "http://box.lan/v1" in lines[-1]
    assert "127.0.0.1:11434/v1" in lines[8]
    assert "http://127" not in lines[8]


def test_a_model_for_all_is_that_of_the_active_one(load: Load) -> None:
    got = {row["name"]: row["model"] for row in rows(load('provider = "groq"\nmodel = "x"\n'))}
    assert (got["groq"], got["holysheep"], got["ollama"]) == ("x", "deepseek-chat", "")


def test_json(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    providers.run(load("", {"HOLYSHEEP_API_KEY": KEY}), json=True)
    out = capfd.readouterr().out
    assert json.loads(out)[0] == {
        "name": "holysheep",
        "active": True,
        "key": "…cdef",
        "key_source": "environment HOLYSHEEP_API_KEY",
        "usable": True,
        "model": "deepseek-chat",
        "base_url": "https://api.holysheep.ai/v1",
        "health": None,
        "share": None,
    }
    assert KEY not in out


def test_an_active_one_without_a_key_says_so(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    providers.run(load(), json=False)
    assert capfd.readouterr().err == (
        "· holysheep is asked by default and has no key: `holychat setup`\n"
    )


def test_a_choice_that_is_unknown_does_not_hide_the_list(
    load: Load, capfd: pytest.CaptureFixture[str]
) -> None:
    assert providers.run(load('provider = "opnai"\n'), json=False) is Exit.OK
    out, err = capfd.readouterr()
    assert 'there is no provider "opnai"; did you mean "openai"?' in err
    assert "openai" in out
    assert "*" not in out


@on_loop
async def test_how_they_did_is_seen_by_the_next_process(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with Provider() as server:
        server.script(*answer("Hi"))
        server.script(*error(400, "what is this"))
        place.provider(server.base_url, top="failover.attempts = 1\nbreaker.row = 2")
        unknown = await place.run("providers")
        await place.run("ask", "one")
        await place.run("ask", "two")
        said = await place.run("providers", "--json")
        for _ in range(2):
            server.script(*error(500, "asleep"))
            await place.run("ask", "three")
        shown = (await place.run("providers")).text
    assert "first token" not in unknown.text
    (health,) = [row["health"] for row in json.loads(said.out) if row["health"]]
    assert (health["state"], health["calls"], health["error_rate"]) == ("closed", 2, 0.5)
    assert health["p50"] > 0
    row = next(line for line in shown.splitlines() if line.startswith("* box") and "%" in line)
    assert "rests" in row
    assert "75 % of 4" in row
    assert "asleep" in row
    assert len(row) < 80


@on_loop
async def test_one_that_rests_is_passed_over_by_the_next_process(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with Provider() as server, Provider() as spare:
        top = 'failover.providers = "spare"\nfailover.attempts = 1\nbreaker.row = 1'
        more = f'[providers.spare]\nbase_url = "{spare.base_url}"\nmodel = "n"'
        place.provider(server.base_url, more, top)
        server.script(*error(500, "asleep"))
        for _ in range(2):
            spare.script(*answer("Hi"))
        first = await place.run("ask", "one")
        second = await place.run("ask", "two")
        alone = await place.run("ask", "--no-failover", "three")  # nobody else: it is asked anyway
    assert (first.out, second.out, alone.code) == (b"Hi\n", b"Hi\n", 4)
    assert len(server.requests) == 2
    assert "box rests: " in second.err


def test_the_shares_of_a_split_stand_beside_the_state(
    load: Load, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = load("[split]\nlmstudio = 1\nollama = 3\nopenai = 1\n")  # openai has no key
    providers.run(settings, json=False)
    rows = [row.split() for row in capfd.readouterr().out.splitlines()]
    assert ["share", "state", "first", "token", "failed", "last", "error"] in rows
    assert ["lmstudio", "25", "%", "-", "-", "-"] in rows
    assert ["ollama", "75", "%", "-", "-", "-"] in rows
    providers.run(settings, json=True)
    shares = {row["name"]: row["share"] for row in json.loads(capfd.readouterr().out)}
    assert {name: share for name, share in shares.items() if share} == {
        "lmstudio": 25.0,
        "ollama": 75.0,
    }
