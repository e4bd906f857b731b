"""`holychat doctor` against real servers: what it reports, what it says to mend, its exit code."""

from __future__ import annotations

import json
import socket
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest

from holychat import settings as rules
from holychat.commands import doctor
from holychat.commands.doctor import report
from holychat.core.failure import SettingsError
from holychat.exits import Exit
from holychat.store.db import Database
from tests.provider import Hang, Wait, answer, error
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Doctor = Callable[..., Exit]

KEY = "hs-0123456789abcdef"
OFF = {
    f"{name}_BASE_URL": "http://127.0.0.1:9/v1"  # discard: nobody listens
    for name in ("OLLAMA", "LMSTUDIO", "LLAMACPP", "VLLM")
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def run(name: str = "", config: str = "", **given: Any) -> Exit:
        path = tmp_path / "config.toml"
        path.write_text(config)
        path.chmod(given.pop("mode", 0o600))
        flags = {"json": False, "offline": False}
        flags |= {flag: given.pop(flag) for flag in tuple(given) if flag in flags}
        settings = rules.load(environ=OFF | given, cwd=tmp_path, path=path)
        return doctor.run(settings, name, **flags)

    return run


def at(base_url: str, key: str = KEY) -> dict[str, str]:
    return {"HOLYSHEEP_BASE_URL": base_url, "HOLYSHEEP_API_KEY": key}


def flat(text: str) -> str:
    return " ".join(text.split())


def test_all_is_well(run: Doctor, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with served(models=["deepseek-chat", "b"]) as server:
        assert run(config="[ui]\nfps = 9\n", **at(server.base_url)) is Exit.OK
        assert [one.method for one in server.requests if one.headers.get("authorization")] == [
            "GET"
        ]
    out, err = capfd.readouterr()
    assert err == ""
    text = flat(out)
    assert f"config {tmp_path}/config.toml (0600)" in text
    assert "python 3." in text
    assert "httpx 0.28" in text
    assert "ui.fps 9 config.toml:2" in text
    assert "providers.holysheep.api_key …cdef $HOLYSHEEP_API_KEY" in text
    [row] = [line for line in out.splitlines() if line.startswith("* ")]
    assert row.split()[:2] == ["*", "holysheep"]
    assert row.split()[6] == "-"  # no TLS on http
    assert row.endswith("2 models")
    assert "well holysheep answers;" in text
    assert "mend" not in out
    assert KEY not in out
    rows = [row for row in out.splitlines() if "conversations.db" not in row]  # paths stay whole
    assert max(map(len, rows)) <= 80


def test_a_token_is_asked_only_of_a_provider_that_is_named(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(models=["deepseek-chat"], default=[Wait(0.05), *answer("hi")]) as server:
        assert run("holysheep", **at(server.base_url)) is Exit.OK
        assert [one.method for one in server.requests] == ["GET", "POST"]
        assert server.requests[1].json["model"] == "deepseek-chat"
        assert server.requests[1].json["max_tokens"] == 1
    assert "well holysheep answers with a token of deepseek-chat." in flat(capfd.readouterr().out)


def test_a_refused_key(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=None, default=error(401, "bad \x1b[2J key")) as server:
        assert run(**at(server.base_url)) is Exit.SETTINGS
    out = capfd.readouterr().out
    assert (
        "mend holysheep: the key was refused (401): run `holychat setup -p holysheep`."
        " It comes from environment HOLYSHEEP_API_KEY."
    ) in flat(out)
    assert "\x1b" not in out
    assert "well" not in out


def test_no_key(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    assert run() is Exit.SETTINGS
    words = (
        "holysheep: there is no key: run `holychat setup -p holysheep`, or set HOLYSHEEP_API_KEY"
    )
    assert words in flat(capfd.readouterr().out)


def test_a_key_command_that_fails(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(config='[providers.holysheep]\nkey_command = "false"\n') is Exit.SETTINGS
    assert "config.toml:2: providers.holysheep.key_command failed" in flat(capfd.readouterr().out)


def test_one_that_cannot_be_reached(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(**at("http://127.0.0.1:9/v1")) is Exit.PROVIDERS
    out = capfd.readouterr().out
    [row] = [line for line in out.splitlines() if line.startswith("* ")]
    assert row.split()[4:] == ["fails", "-", "-", "-", "connect"]
    assert "127.0.0.1:9 refuses the connection. Start the server, or mend" in flat(out)
    assert "(environment HOLYSHEEP_BASE_URL)" in flat(out)


def test_another_one_that_is_ill_does_not_change_the_code(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(models=["deepseek-chat"]) as server:
        more = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "sk-0000000000"}
        assert run(**at(server.base_url), **more) is Exit.OK
    text = flat(capfd.readouterr().out)
    assert "mend openai: 127.0.0.1:9 refuses" in text
    assert "well holysheep" in text


def test_providers_are_measured_at_once(run: Doctor) -> None:
    slow = {"models": None, "default": [Wait(0.5), b'["m"]']}
    with served(**slow) as one, served(**slow) as two, served(**slow) as three:
        environ = at(one.base_url)
        for name, server in (("OPENAI", two), ("GROQ", three)):
            environ |= {f"{name}_BASE_URL": server.base_url, f"{name}_API_KEY": "sk-0000000000"}
        start = time.monotonic()
        assert run(**environ) is Exit.OK
        took = time.monotonic() - start
        assert [len(server.requests) for server in (one, two, three)] == [1, 1, 1]
    assert took < 1.4


def test_a_local_server_is_shown_where_it_runs(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(models=["qwen3"]) as server:
        run(OLLAMA_BASE_URL=server.base_url)
    out = capfd.readouterr().out
    assert "\n  ollama " in out
    assert "vllm " not in out


def test_a_default_model_that_is_not_listed(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=["deepseek-chat-v3", "x"]) as server:
        assert run(**at(server.base_url)) is Exit.OK
    text = flat(capfd.readouterr().out)
    assert "does not list" not in text  # a unique part is enough to name it
    with served(models=["deepseek-caht", "x"]) as server:
        run(**at(server.base_url))
    text = flat(capfd.readouterr().out)
    assert "does not list its default model deepseek-chat; deepseek-caht would be near" in text


def test_offline_opens_no_connection(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    with served() as server:
        assert run(offline=True, **at(server.base_url)) is Exit.OK
        assert server.connections == 0
    assert "the network was not looked at" in capfd.readouterr().out
    assert run(offline=True) is Exit.SETTINGS


def test_an_unknown_choice_is_a_finding_and_an_unknown_flag_an_error(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(config='provider = "opnai"\n') is Exit.SETTINGS
    assert 'there is no provider "opnai"; did you mean "openai"?' in flat(capfd.readouterr().out)
    with pytest.raises(SettingsError, match="no provider"):
        run("opnai")


def test_notices_are_part_of_it(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    config = f'[providers.holysheep]\napi_key = "{KEY}"\n'
    run(config=config, mode=0o644, offline=True)
    out = capfd.readouterr().out
    assert "(0644)" in out
    assert "others can read the keys in it; chmod 600 ends that" in flat(out)


def test_json(run: Doctor, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with served(models=None, default=error(401, "no")) as server:
        assert run(json=True, **at(server.base_url)) is Exit.SETTINGS
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert err == ""
    assert told["exit"] == 3
    assert told["config"]["path"] == str(tmp_path / "config.toml")
    assert int(told["config"]["mode"], 8) == stat.S_IRUSR | stat.S_IWUSR
    [found] = told["providers"]
    assert (found["name"], found["active"], found["failed"]) == ("holysheep", True, "headers")
    assert found["failure"]["kind"] == "auth"
    assert found["ms"]["tls"] is None
    assert found["ms"]["headers"] > 0
    assert "the key was refused" in told["mend"][0]
    assert {"name", "value", "source"} == set(told["settings"][0])
    assert KEY not in out


def test_a_hung_server_is_given_up(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("holychat.net.probe.LIMIT", 0.3)
    with served(models=None, default=[Hang()]) as server:
        start = time.monotonic()
        assert run(**at(server.base_url)) is Exit.PROVIDERS
        assert time.monotonic() - start < 3
    assert "no answer within 0.3 s" in flat(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0004, "0.4 ms"), (0.0384, "38 ms"), (2.5, "2500 ms")],
)
def test_milliseconds(seconds: float | None, text: str) -> None:
    assert report.milliseconds(seconds) == text


def test_settings_fit_the_width() -> None:
    rows = [("providers.box.base_url", "x" * 200, "environment BOX_BASE_URL"), ("a", "", "default")]
    first, second = report.columns(rows, 80)
    assert len(first) <= 80
    assert first.endswith("$BOX_BASE_URL")
    assert second.split() == ["a", "-", "default"]


def test_the_discard_port_is_closed() -> None:
    with socket.socket() as sock, pytest.raises(OSError, match="refused"):
        sock.connect(("127.0.0.1", 9))


def test_the_store_is_looked_at(
    run: Doctor, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(offline=True, **at("http://127.0.0.1:9/v1"))
    assert "conversations.db (not there yet)" in flat(capfd.readouterr().out)
    path = tmp_path / "talk.db"
    Database(str(path)).close()
    run(offline=True, HOLYCHAT_STORE=str(path), **at("http://127.0.0.1:9/v1"))
    assert "0 conversations" in (out := flat(capfd.readouterr().out))
    assert "sound" in out
    path.write_bytes(b"no database at all" * 100)
    run(offline=True, json=True, HOLYCHAT_STORE=str(path), **at("http://127.0.0.1:9/v1"))
    report = json.loads(capfd.readouterr().out)
    assert "it is no database" in report["store"]["wrong"][0]
    assert any("it is no database" in line for line in report["mend"])
    assert path.read_bytes().startswith(b"no database"), "doctor changes nothing"
