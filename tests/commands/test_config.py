"""`holychat config` against real files, a real editor (a script) and the real streams."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holychat import settings as rules
from holychat.commands import config
from holychat.core.failure import SettingsError, UsageError
from holychat.core.provider import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holychat.settings import Settings

    Load = Callable[..., Settings]

KEY = "hs-0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "config.toml"


@pytest.fixture
def load(tmp_path: Path, path: Path) -> Load:
    def load(text: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        if text is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o600)
        return rules.load(environ=environ or {}, cwd=tmp_path, path=path)

    return load


@pytest.fixture
def editor(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment whose EDITOR runs a script; it has the file as sys.argv[1]."""

    def editor(script: str, variable: str = "EDITOR") -> dict[str, str]:
        file = tmp_path / "my editor.py"
        file.write_text(f"import sys\npath = sys.argv[1]\n{script}\n")
        return {variable: f"{sys.executable} '{file}'", "PATH": os.environ["PATH"]}

    return editor


def test_path_is_printed_also_where_nothing_is(
    load: Load, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config.path(load())
    config.path(path)
    assert capfd.readouterr() == (f"{path}\n{path}\n", "")


def test_show_aligns_values_and_sources(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    settings = load(
        'model = "m"\nsystem = "two\\nlines \\u001b[2J"\n[ui]\nfps = 9\n',
        {"HOLYSHEEP_API_KEY": KEY},
    )
    config.show(settings, json=False)
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert len(lines) == len(settings.rows())
    assert "provider                     -               default" in lines
    assert "model                        m               config.toml:1" in lines
    assert "system                       two lines ␛[2J  config.toml:2" in lines
    assert "ui.fps                       9               config.toml:4" in lines
    assert lines[-1] == "providers.holysheep.api_key  …cdef           environment HOLYSHEEP_API_KEY"
    assert "\x1b" not in out


def test_a_long_value_does_not_push_the_sources_away() -> None:
    lines = config.columns([("a", "x" * 500, "default"), ("bc", "", "default")])
    assert [line.index("default") for line in lines] == [54, 54]
    assert "…" in lines[0]
    assert config.columns([]) == []


def test_show_as_json(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    config.show(load('system = "two\\nlines"\n', {"HOLYSHEEP_API_KEY": KEY}), json=True)
    out = capfd.readouterr().out
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["system"] == {"name": "system", "value": "two\nlines", "source": "config.toml:1"}
    assert rows["providers.holysheep.api_key"]["value"] == "…cdef"
    assert KEY not in out


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ui.fps", "9"),
        ("ui.multiline", "false"),
        ("system", "two\nlines"),
        ("providers.holysheep.base_url", "https://api.holysheep.ai/v1"),
        ("providers.holysheep.api_key", "…cdef"),
        ("params.top_p", "0.5"),
    ],
)
def test_get(load: Load, capfd: pytest.CaptureFixture[str], name: str, shown: str) -> None:
    text = 'system = "two\\nlines"\nui.fps = 9\nparams.top_p = 0.5\n'
    config.get(load(text, {"HOLYSHEEP_API_KEY": KEY}), name)
    assert capfd.readouterr() == (f"{shown}\n", "")


def test_get_of_an_unknown_name_is_a_mistake_of_the_command_line(load: Load) -> None:
    with pytest.raises(UsageError, match=r'^ui\.kyes is unknown; did you mean "ui\.keys"\?$'):
        config.get(load(), "ui.kyes")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("model", "5", "5"),
        ("ui.fps", "9", 9),
        ("ui.multiline", "yes", True),
        ("ui.panel", "bar", "bar"),
        ("timeouts.gap", "5", 5.0),
        ("provider", "OpenAI", "openai"),
        ("providers.openai.api_key", KEY, KEY),
        ("providers.openai.headers.X-Team", "docs", "docs"),
        ("providers.openai.base_url", "https://h/v1/", "https://h/v1"),
        ("params.temperature", "0.5", 0.5),
        ("params.seed", "7", 7),
        ("params.logprobs", "true", True),
        ("params.stop", '["a", "b"]', ["a", "b"]),
        ("params.user", "me", "me"),
        ("params.user", '"7"', "7"),
        ("params.user", "1 = 2", "1 = 2"),
        ("params.user", "1\nmodel = 'x'", "1\nmodel = 'x'"),
        ("params.user", "2020-01-01", "2020-01-01"),
        ("aliases.fast", "groq/llama", "groq/llama"),
    ],
)
def test_set_reads_the_text_as_the_field_has_it(
    load: Load, path: Path, capfd: pytest.CaptureFixture[str], name: str, text: str, value: Any
) -> None:
    config.set_(load(), name, text)
    got = load()[name]
    got = got.reveal() if isinstance(got, Secret) else got
    assert (got, type(got)) == (value, type(value))
    assert capfd.readouterr() == ("", f"{name} is set in {path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("modle", "x", 'modle is unknown; did you mean "model"?'),
        ("ui.fps", "many", "ui.fps must be a whole number"),
        ("ui.fps", "99", "ui.fps must be from 5 to 30"),
        ("ui.multiline", "maybe", "ui.multiline must be true or false"),
        ("provider", "opnai", 'there is no provider "opnai"; did you mean "openai"?'),
        ("providers.openai.headers", "X", "providers.openai.headers must be set one header"),
        ("params.stream", "true", "params.stream is not a parameter"),
        ("params.x", "nan", "params.x must be a string, a number"),
    ],
)
def test_set_refuses_what_does_not_fit(
    load: Load, path: Path, name: str, text: str, error: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        config.set_(load(), name, text)
    assert caught.value.what.startswith(error)
    assert not path.exists()


def test_set_says_when_it_is_outranked(
    load: Load, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config.set_(load(environ={"HOLYCHAT_MODEL": "m"}), "model", "x")
    assert capfd.readouterr().err == (
        f"model is set in {path}\nbut environment HOLYCHAT_MODEL says something else, and counts\n"
    )


def test_set_makes_a_provider_of_ones_own(load: Load) -> None:
    config.set_(load(), "providers.box.base_url", "http://localhost:1/v1")
    assert load().provider("box").needs_key is False


def test_set_repairs_a_file_that_does_not_load(load: Load, path: Path) -> None:
    with pytest.raises(SettingsError):
        load("ui.fps = 99\n")
    config.set_(path, "ui.fps", "9")
    assert load()["ui.fps"] == 9


# --- The editor ---------------------------------------------------------------------------------


def test_edit_makes_the_file_from_the_template(
    load: Load, path: Path, editor: Callable[..., dict[str, str]]
) -> None:
    environ = editor("open(path, 'a').write('fast = \"groq/x\"\\n')")
    assert config.edit(load(), environ) == 0
    assert path.read_text() == config.template() + 'fast = "groq/x"\n'
    assert load().aliases == {"fast": "groq/x"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_edit_prefers_visual(load: Load, editor: Callable[..., dict[str, str]]) -> None:
    environ = editor("open(path, 'w').write('model = \"visual\"')", "VISUAL")
    assert config.edit(load("# mine\n"), {**environ, "EDITOR": "false"}) == 0
    assert load()["model"] == "visual"


def test_edit_tells_a_mistake_and_keeps_it(
    load: Load, path: Path, editor: Callable[..., dict[str, str]]
) -> None:
    environ = editor("open(path, 'a').write('modle = 1\\n')")
    with pytest.raises(SettingsError) as caught:
        config.edit(load("# mine\n"), environ)
    assert caught.value.what == f'{path}:2: modle is unknown; did you mean "model"?'
    assert "kept" in caught.value.hint
    assert path.read_text() == "# mine\nmodle = 1\n"
    assert config.edit(path, editor("open(path, 'w').write('')")) == 0  # it opens a broken one too


def test_edit_with_an_editor_that_fails(
    load: Load, editor: Callable[..., dict[str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert config.edit(load("# mine\n"), editor("sys.exit(3)")) == 1
    assert capfd.readouterr().err.endswith(" ended with status 3\n")


def test_edit_without_an_editor(load: Load) -> None:
    with pytest.raises(UsageError, match="does not start: No such file or directory"):
        config.edit(load("# mine\n"), {"EDITOR": "no-such-editor-at-all"})
    with pytest.raises(UsageError, match="EDITOR cannot be understood"):
        config.edit(load("# mine\n"), {"EDITOR": "'unclosed"})
    with pytest.raises(UsageError, match="there is no editor"):
        config.edit(load("# mine\n"), {"PATH": "/nonexistent"})


def test_edit_finds_what_is_there(tmp_path: Path) -> None:
    for name in ("vi", "nano"):
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\n")
        tool.chmod(0o755)
        assert config.editor({"PATH": str(tmp_path), "EDITOR": " "}) == [str(tool)]


def test_the_example_is_the_template() -> None:
    example = Path(__file__).parents[2] / "config.example.toml"
    assert example.read_text() == config.template()
