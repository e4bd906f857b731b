"""`holychat setup` on a real terminal, typed key by key, and by flags without one."""

from __future__ import annotations

import os
import re
import select
import signal
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holychat.commands.setup.answers import name_of
from tests.provider import error
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.provider import Provider

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")

KEY = "hs-0123456789abcdef"
ROOT = Path(__file__).parents[2]
OFF = "http://127.0.0.1:9/v1"  # discard: nobody listens
LOCAL = ("OLLAMA", "LMSTUDIO", "LLAMACPP", "VLLM")
# Makes the pty its controlling terminal, whose Ctrl-C is a signal, and becomes the program.
ON_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
HOLYCHAT = [sys.executable, "-m", "holychat"]


class Home:
    """A user's folders, and the environment that leads there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config" / "holychat" / "config.toml"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm",
            **{f"{name}_BASE_URL": OFF for name in LOCAL},
        }

    @property
    def table(self) -> dict[str, Any]:
        return tomllib.loads(self.config.read_text())

    def write(self, text: str) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text)
        self.config.chmod(0o600)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Without a terminal."""
        return subprocess.run(
            [*HOLYCHAT, "setup", *words],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environ,
            cwd=self.folder,
            timeout=30,
            check=False,
        )


class Terminal:
    """`holychat setup` on a pty. What was shown is kept, for what must not be in it."""

    def __init__(self, home: Home, *words: str) -> None:
        self._ours, theirs = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *HOLYCHAT, "setup", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=home.environ,
            cwd=home.folder,
        )
        os.close(theirs)
        self.shown = ""
        self._seen = 0

    def until(self, words: str, seconds: float = 15.0) -> str:
        """Wait for `words` after what was seen before; returns what came up to there."""
        end = time.monotonic() + seconds
        while (at := self.shown.find(words, self._seen)) < 0:
            left = end - time.monotonic()
            assert left > 0 and self._read(left), f"no {words!r} in:\n{self.shown[self._seen :]}"  # noqa: PT018
        text = self.shown[self._seen : at]
        self._seen = at + len(words)
        return text

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other side is gone
            return False
        self.shown += data.decode()
        return bool(data)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def answer(self, prompt: str, text: str = "") -> str:
        before = self.until(prompt)
        self.type(text + "\n")
        return before

    def end(self) -> int:
        """The exit code, once everything was read."""
        while self._read(15):
            pass
        return self.process.wait(15)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def terminal(home: Home) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def terminal(*words: str) -> Terminal:
        opened.append(Terminal(home, *words))
        return opened[-1]

    yield terminal
    for one in opened:
        one.close()


@pytest.fixture
def server(home: Home) -> Iterator[Provider]:
    """holysheep, on loopback."""
    with served(models=["b-chat", "deepseek-chat", "deepseek-reasoner"]) as server:
        home.environ["HOLYSHEEP_BASE_URL"] = server.base_url
        yield server


# --- On a terminal --------------------------------------------------------------------------------


def test_the_whole_way(home: Home, server: Provider, terminal: Callable[..., Terminal]) -> None:
    tty = terminal()
    before = tty.answer("Provider (Enter for holysheep): ")
    assert "1  holysheep" in before
    assert "another" in before
    assert "ollama" not in before  # it does not run
    assert "fallback" not in before
    tty.answer("Key for holysheep (it is not shown): ", KEY)
    before = tty.answer("Model (Enter for deepseek-chat): ")
    assert "key …cdef" in before
    assert "lists 3 models" in before
    assert "3  deepseek-reasoner" in before
    assert tty.end() == 0
    assert KEY not in tty.shown
    assert "456789" not in tty.shown
    assert f"Written to {home.config}" in tty.shown
    assert tty.shown.endswith("Next: holychat\r\n")
    # The default model is the provider's own already: nothing to pin.
    assert home.table == {"provider": "holysheep", "providers": {"holysheep": {"api_key": KEY}}}
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    with_key = [one for one in server.requests if "authorization" in one.headers]
    assert [(one.path, one.headers["authorization"]) for one in with_key] == [
        ("/v1/models", f"Bearer {KEY}")
    ]


@pytest.mark.parametrize(
    ("typed", "model"),
    [("1", "b-chat"), ("reason", "deepseek-reasoner"), ("B-CHAT", "b-chat")],
)
@pytest.mark.usefixtures("server")
def test_a_model_by_number_or_part(
    home: Home, terminal: Callable[..., Terminal], typed: str, model: str
) -> None:
    tty = terminal("-p", "holysheep")
    tty.answer("Key", KEY)
    tty.answer("Model", typed)
    assert tty.end() == 0
    assert home.table["providers"]["holysheep"]["model"] == model


@pytest.mark.usefixtures("server")
def test_an_ambiguous_model_is_asked_again_and_an_unknown_one_taken_on_the_second_word(
    home: Home, terminal: Callable[..., Terminal]
) -> None:
    tty = terminal("-p", "holysheep")
    tty.answer("Key", KEY)
    tty.answer("Model", "deepseek")
    before = tty.answer("Model", "deepseek-caht")
    assert "2  deepseek-chat" in before
    assert "3  deepseek-reasoner" in before
    assert "b-chat" not in before
    before = tty.answer("Model", "deepseek-caht")
    assert "does not list that" in before
    assert "Near: deepseek-chat" in before
    assert tty.end() == 0
    assert home.table["providers"]["holysheep"]["model"] == "deepseek-caht"


def test_a_long_list_leaves_the_question_in_sight(
    server: Provider, terminal: Callable[..., Terminal]
) -> None:
    server.models = [f"m-{at}" for at in range(100)]
    tty = terminal("-p", "holysheep")
    tty.answer("Key", KEY)
    before = tty.until("Model (Enter for m-0): ")
    assert before.count("\n") < 24
    assert "and 88 more" in before
    assert "it does not list deepseek-chat" in before


@pytest.mark.parametrize("leave", ["\x03", "\x04"])
@pytest.mark.parametrize("at", ["Provider", "Key", "Model"])
@pytest.mark.usefixtures("server")
def test_leaving_writes_nothing(
    home: Home, terminal: Callable[..., Terminal], leave: str, at: str
) -> None:
    tty = terminal()
    for question, text in (("Provider", ""), ("Key", KEY), ("Model", "")):
        tty.until(f"{question} ")
        if question == at:
            break
        tty.type(text + "\n")
    tty.until(": ")
    tty.type(leave)
    assert tty.end() == (-signal.SIGINT if leave == "\x03" else 3)
    assert "nothing was written" in tty.shown
    assert "Traceback" not in tty.shown
    assert not home.config.exists()


@pytest.mark.usefixtures("server")
def test_a_key_typed_and_left_is_not_shown(terminal: Callable[..., Terminal]) -> None:
    tty = terminal("-p", "holysheep")
    tty.until("(it is not shown): ")
    tty.type("secret")
    time.sleep(0.2)
    tty.type("\x03")
    tty.end()
    assert "secret" not in tty.shown


def test_a_second_run_keeps_comments_and_changes_only_what_is_new(
    home: Home, server: Provider, terminal: Callable[..., Terminal]
) -> None:
    text = (
        '# mine\nprovider = "holysheep"  # the good one\n\n'
        f'[providers.holysheep]\n# from work\napi_key = "{KEY}"\n\n[ui]\nfps = 9\n'
    )
    home.write(text)
    tty = terminal()
    tty.answer("Provider")
    tty.answer("Key for holysheep (Enter keeps …cdef): ")
    assert "keeping …cdef of config.toml:6" in tty.answer("Model")
    assert tty.end() == 0
    assert home.config.read_text() == text
    assert "says all of it already" in tty.shown
    tty = terminal()
    tty.answer("Provider")
    tty.answer("Key", "hs-another-key-9999")
    tty.answer("Model", "1")
    assert tty.end() == 0
    assert home.config.read_text() == text.replace(
        f'"{KEY}"\n', '"hs-another-key-9999"\nmodel = "b-chat"\n'
    )


def test_a_refused_key_is_asked_again(
    home: Home, server: Provider, terminal: Callable[..., Terminal]
) -> None:
    server.models, server.default = None, error(401, "wrong \x1b[2J key")
    tty = terminal("-p", "holysheep")
    tty.answer("Key", "hs-wrong-wrong-wrong")
    before = tty.until("[a] another key, [g] go on all the same, [l] leave (Enter for a): ")
    assert "wrong ␛[2J key (401)" in before
    server.models = ["deepseek-chat"]
    tty.type("\n")
    tty.answer("Key for holysheep", KEY)
    assert tty.end() == 0
    assert home.table["providers"]["holysheep"]["api_key"] == KEY


@pytest.mark.parametrize(("choice", "code"), [("l", 4), ("g", 0)])
def test_an_unreachable_one_leaves_the_choice(
    home: Home, terminal: Callable[..., Terminal], choice: str, code: int
) -> None:
    home.environ["HOLYSHEEP_BASE_URL"] = OFF
    tty = terminal("-p", "holysheep")
    tty.answer("Key", KEY)
    before = tty.answer("[a] try again, [g]")
    assert "refuses the connection" in before
    tty.answer("[a] try again, [g]", choice)
    if choice == "g":
        tty.answer("Model (Enter for deepseek-chat): ")
    assert tty.end() == code
    assert home.config.exists() == (choice == "g")


def test_a_local_server_is_found_and_needs_no_key(
    home: Home, terminal: Callable[..., Terminal]
) -> None:
    with served(models=["qwen3:8b"]) as ollama:
        home.environ["OLLAMA_BASE_URL"] = ollama.base_url
        tty = terminal()
        before = tty.until("Provider (Enter for holysheep): ")
        [row] = [line for line in before.splitlines() if "ollama" in line]
        assert row.endswith("1 model")
        tty.type("ollama\n")
        assert tty.end() == 0
    assert "Key for" not in tty.shown
    assert home.table == {"provider": "ollama", "providers": {"ollama": {"model": "qwen3:8b"}}}


def test_a_provider_of_ones_own(home: Home, terminal: Callable[..., Terminal]) -> None:
    with served(models=["a", "b"]) as box:
        tty = terminal()
        tty.answer("Provider", "another")
        tty.answer("Its address", "nonsense")
        assert "The address must be like https://HOST/v1." in tty.answer(
            "Its address", f"{box.base_url}/chat/completions"
        )
        tty.answer("A name for it (Enter for own): ", "open_ai.2")
        tty.answer("Model (Enter for a): ", "b")
        assert tty.end() == 0
        assert home.table == {
            "provider": "open_ai.2",
            "providers": {"open_ai.2": {"base_url": box.base_url, "model": "b"}},
        }


def test_a_chosen_one_is_not_pushed_aside_unasked(
    home: Home, server: Provider, terminal: Callable[..., Terminal]
) -> None:
    home.write('provider = "openai"\n')
    tty = terminal("-p", "holysheep")
    tty.answer("Key", KEY)
    tty.answer("Model", "1")
    tty.answer("Ask holysheep from now on, and not openai? [Y/n] ", "n")
    assert tty.end() == 0
    assert tty.shown.endswith("Next: holychat -p holysheep\r\n")
    assert home.table["provider"] == "openai"
    assert home.table["providers"]["holysheep"] == {"api_key": KEY, "model": "b-chat"}


def test_an_odd_key_is_only_a_warning(
    home: Home, server: Provider, terminal: Callable[..., Terminal]
) -> None:
    tty = terminal("-p", "holysheep")
    tty.answer("Key", "odd-0123456789abc")
    assert "looks unusual: they start with hs- or sk-" in tty.answer("Model")
    assert tty.end() == 0
    assert home.table["providers"]["holysheep"]["api_key"] == "odd-0123456789abc"


def test_a_typed_key_does_not_follow_a_dotenv(
    home: Home, terminal: Callable[..., Terminal]
) -> None:
    with served(models=["x"]) as thief, served(models=["deepseek-chat"]) as real:
        home.write(f'[providers.holysheep]\nbase_url = "{real.base_url}"\n')
        (home.folder / ".env").write_text(
            f"HOLYSHEEP_BASE_URL={thief.base_url}\nHOLYSHEEP_API_KEY=sk-of-the-stranger\n"
        )
        tty = terminal("-p", "holysheep")
        tty.answer("Key", KEY)
        tty.end()
        assert thief.requests == []
        assert real.requests[0].headers.get("authorization") in (None, f"Bearer {KEY}")
    assert home.table["providers"]["holysheep"]["api_key"] == KEY
    # In this folder the stranger's pair goes on to count, with the stranger's own key.
    assert "But .env:2 says something else of providers.holysheep.api_key" in tty.shown


# --- Without one ----------------------------------------------------------------------------------


def test_flags_answer_everything(home: Home, server: Provider) -> None:
    done = home.run("-p", "holysheep", "--key", "-", "-m", "reason", stdin=f"  {KEY}\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert KEY not in done.stderr
    assert "process list" not in done.stderr
    assert home.table == {
        "provider": "holysheep",
        "providers": {"holysheep": {"api_key": KEY, "model": "deepseek-reasoner"}},
    }
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600


@pytest.mark.usefixtures("server")
def test_a_key_on_the_command_line_is_taken_and_warned_about(home: Home) -> None:
    done = home.run("-p", "holysheep", "--key", KEY, "-y")
    assert done.returncode == 0
    assert "--key - reads it from stdin" in done.stderr
    assert KEY not in done.stderr + done.stdout


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say -p NAME, or --yes"),
        (("-y",), "--key - reads it from stdin; or set HOLYSHEEP_API_KEY"),
        (("-p", "holysheep", "--key", "-"), "no key came"),
        (("-p", "holysheep", "--key", "schlüssel"), "characters that no key has"),
        (("-p", "box"), "--base-url"),
        (("-p", "box", "--base-url", "x"), "must be like https://HOST/v1"),
        (("-p", "open-ai_", "--base-url", OFF, "-m", "x", "--no-check", "--key", "ä"), "no key"),
        (("-p", "far", "--base-url", "https://a.invalid/v1", "--no-check", "--key", "k"), "-m"),
        (("-p", "holysheep", "--key", KEY, "-m", "deepseek"), "could be any of"),
    ],
)
def test_what_is_missing_is_named_and_nothing_written(
    home: Home, words: tuple[str, ...], said: str
) -> None:
    done = home.run(*words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr
    assert not home.config.exists()


@pytest.mark.parametrize(("status", "code"), [(401, 3), (500, 4)])
def test_a_failed_check_writes_nothing(
    home: Home, server: Provider, status: int, code: int
) -> None:
    server.models, server.default = None, error(status, "no")
    done = home.run("-p", "holysheep", "--key", "-", stdin=KEY)
    assert done.returncode == code
    assert f"({status})" in done.stderr
    assert "--no-check" in done.stderr
    assert not home.config.exists()
    done = home.run("-p", "holysheep", "--key", "-", "--no-check", stdin=KEY)
    assert done.returncode == 0
    assert home.table["providers"]["holysheep"]["api_key"] == KEY


def test_a_server_without_a_list_is_no_failure(home: Home, server: Provider) -> None:
    server.models, server.default = None, error(404)
    done = home.run("-p", "holysheep", "--key", "-", "-m", "any", stdin=KEY)
    assert done.returncode == 0, done.stderr
    assert "keeps no list of models" in done.stderr
    assert home.table["providers"]["holysheep"]["model"] == "any"


def test_a_list_for_anybody_proves_no_key(home: Home, server: Provider) -> None:
    done = home.run("-p", "holysheep", "--key", "-", stdin=KEY)
    assert "proves no key" in done.stderr
    assert [("authorization" in one.headers) for one in server.requests].count(False) == 1


def test_a_general_model_that_would_outrank_the_choice_is_taken_out(
    home: Home, server: Provider
) -> None:
    home.write('model = "old"  # long ago\n# kept\n')
    done = home.run("-p", "holysheep", "--key", "-", "-m", "b-chat", stdin=KEY)
    assert done.returncode == 0
    assert "taken out, it would outrank" in done.stderr
    assert "model" not in home.table
    assert home.table["providers"]["holysheep"]["model"] == "b-chat"
    assert "# kept" in home.config.read_text()


@pytest.mark.usefixtures("server")
def test_what_the_environment_outranks_is_said(home: Home) -> None:
    home.environ["ACTIVE_PROVIDER"] = "openai"
    done = home.run("-p", "holysheep", "--key", "-", stdin=KEY)
    assert done.returncode == 0
    assert (
        "But environment ACTIVE_PROVIDER says something else of provider, and counts."
    ) in done.stderr


def test_the_models_are_known_from_the_first_prompt_on(home: Home, server: Provider) -> None:
    home.run("-p", "holysheep", "--key", "-", stdin=KEY)
    asked = len(server.requests)
    done = subprocess.run(
        [*HOLYCHAT, "models", "reason"],
        capture_output=True,
        text=True,
        env=home.environ,
        cwd=home.folder,
        check=False,
    )
    assert done.stdout == "deepseek-reasoner\n"
    assert len(server.requests) == asked


def test_a_disabled_provider_says_who_disabled_it(home: Home) -> None:
    home.environ["ENABLE_GROQ"] = "false"
    done = home.run("-p", "groq", "--key", "-", "--no-check", stdin=KEY)
    assert done.returncode == 3
    assert "disabled (environment ENABLE_GROQ)" in done.stderr


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.together.xyz/v1", "together"),
        ("http://box:8000/v1", "box"),
        ("http://10.1.2.3:8000/v1", "own"),
        ("http://[::1]:8000/v1", "own"),
    ],
)
def test_a_name_is_proposed(url: str, name: str) -> None:
    assert name_of(url) == name
    assert re.fullmatch(r"[a-z]+", name)
