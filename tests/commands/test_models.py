"""`holychat models` against a real server, and the search by itself."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from holychat import settings as rules
from holychat.commands import models
from holychat.core.failure import SettingsError
from holychat.exits import Exit
from tests.provider import error
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.provider import Provider

KEY = "hs-0123456789abcdef"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[..., Exit]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def bind(server: Provider, config: str = "") -> Callable[..., Exit]:
        def run(name: str = "", search: str = "", **flags: bool) -> Exit:
            path = tmp_path / "config.toml"
            path.write_text(config)
            path.chmod(0o600)
            environ = {"HOLYSHEEP_API_KEY": KEY, "HOLYSHEEP_BASE_URL": server.base_url}
            settings = rules.load(environ=environ, cwd=tmp_path, path=path)
            options = {"refresh": False, "json": False, **flags}
            return models.run(settings, name, search, **options)

        return run

    return bind


IDS = ["deepseek-chat", "gpt-4.1", "gpt-4.1-mini", "claude-sonnet-4.5"]


def test_in_a_pipe_it_is_one_bare_id_a_line(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=IDS) as server:
        assert run(server)() is Exit.OK
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    out, err = capfd.readouterr()
    assert out.splitlines() == IDS
    assert err == "· 4 on holysheep · default deepseek-chat\n"


def test_the_second_time_comes_from_the_cache_and_says_how_old_it_is(
    run: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with served(models=IDS) as server:
        run(server)()
        capfd.readouterr()
        [file] = (tmp_path / "cache").rglob("holysheep.json")
        facts = json.loads(file.read_text())
        file.write_text(json.dumps({**facts, "models_at": time.time() - 3 * 3600}))
        server.models = ["new"]
        assert run(server)() is Exit.OK
        assert len(server.requests) == 1
        out, err = capfd.readouterr()
        assert out.splitlines() == IDS
        assert "listed 3 h ago (--refresh asks again)" in err
        assert run(server)(refresh=True) is Exit.OK
        assert len(server.requests) == 2
        out, err = capfd.readouterr()
        assert out == "new\n"
        assert "ago" not in err


def test_json(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=IDS) as server:
        assert run(server, 'model = "gpt-4.1"\n')("", "gpt", json=True) is Exit.OK
    assert json.loads(capfd.readouterr().out) == [
        {"provider": "holysheep", "id": "gpt-4.1", "default": True},
        {"provider": "holysheep", "id": "gpt-4.1-mini", "default": False},
    ]


def test_a_search_without_a_hit(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=IDS) as server:
        assert run(server)("", "zzz") is Exit.USAGE
        out, err = capfd.readouterr()
        assert out == ""
        assert err.splitlines() == [
            "holychat: holysheep has no model like “zzz”",
            "  `holychat models -p holysheep` lists all 4.",
        ]
        assert run(server)("", "zzz", json=True) is Exit.USAGE
        assert capfd.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(401, Exit.SETTINGS, "setup -p holysheep"), (500, Exit.PROVIDERS, "(500)")],
)
def test_a_failure_is_one_line_and_a_code(
    run: Any, capfd: pytest.CaptureFixture[str], status: int, code: Exit, words: str
) -> None:
    with served(models=None, default=error(status, "no \x1b[2J")) as server:
        assert run(server)() is code
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert "\x1b" not in err
    assert KEY not in err


def test_a_server_without_a_list_shows_the_default(
    run: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(models=None, default=error(404)) as server:
        assert run(server)() is Exit.OK
    out, err = capfd.readouterr()
    assert out == "deepseek-chat\n"
    assert "keeps no list" in err


def test_an_empty_list(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=[]) as server:
        assert run(server)() is Exit.OK
    assert "holysheep lists no model" in capfd.readouterr().err


def test_without_a_key_nobody_is_asked(run: Any) -> None:
    with served(models=IDS) as server:
        with pytest.raises(SettingsError, match="there is no key for openai"):
            run(server)("openai")
        with pytest.raises(SettingsError, match='no provider "opnai"; did you mean "openai"'):
            run(server)("opnai")
        assert server.requests == []


@pytest.mark.parametrize(
    ("search", "hits", "near"),
    [
        ("", IDS, False),
        ("GPT", ["gpt-4.1", "gpt-4.1-mini"], False),
        ("mini gpt", ["gpt-4.1-mini"], False),
        ("dschat", ["deepseek-chat"], True),
        ("claud-sonet", ["claude-sonnet-4.5"], True),
        ("zzz", [], True),
    ],
)
def test_fitting(search: str, hits: list[str], near: bool) -> None:
    assert models.fitting(search, IDS) == (hits, near)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (59, "just now"), (120, "2 min ago"), (7200, "2 h ago")],
)
def test_ago(seconds: float, words: str) -> None:
    assert models.ago(seconds) == words


@pytest.mark.usefixtures("capfd")
def test_on_a_terminal_the_default_is_marked_and_controls_are_visible(run: Any) -> None:
    ours, theirs = os.openpty()
    with served(models=["deepseek-chat", "evil\x1b[2J"]) as server, _stdout(theirs):
        assert run(server)() is Exit.OK
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert shown == "* deepseek-chat\r\n  evil␛[2J\r\n"


@contextmanager
def _stdout(descriptor: int) -> Iterator[None]:
    kept = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
