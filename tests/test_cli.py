"""The command line where it is not one command's: help, version, mistakes, ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from holychat import __version__, exits
from holychat.core.failure import Failure, Kind
from holychat.exits import Exit
from tests.process import PIPE, Place
from tests.provider import on_loop

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = [
    "ask", "demo", "setup", "models", "providers", "doctor", "stats", "cost", "history",
    "migrate", "config",
]  # fmt: skip
LINUX = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_exit_codes_do_not_change() -> None:
    codes = {code.name: int(code) for code in Exit}
    assert codes == {
        "OK": 0, "INTERNAL": 1, "USAGE": 2, "SETTINGS": 3, "PROVIDERS": 4, "CUT": 5, "PIPE": 141,
    }  # fmt: skip


@pytest.mark.parametrize("kind", Kind)
def test_the_code_of_a_failure(kind: Kind) -> None:
    own = kind in (Kind.AUTH, Kind.LIMIT)
    expected = Exit.SETTINGS if own else Exit.PROVIDERS
    assert exits.of_failure(Failure(kind, "")) is expected


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "ask"], ["-q", "--version"]])
@on_loop
async def test_version(place: Place, arguments: list[str]) -> None:
    ended = await place.run(*arguments)
    assert (ended.code, ended.text, ended.err) == (0, f"holychat {__version__}\n", "")


@on_loop
async def test_help_names_every_command(place: Place) -> None:
    for flag in ("--help", "-h"):
        ended = await place.run(flag)
        assert (ended.code, ended.err) == (0, "")
        places = [ended.text.index(f"\n  {name} ") for name in COMMANDS]
        assert places == sorted(places)
        assert "\x1b" not in ended.text
        assert max(map(len, ended.text.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
@on_loop
async def test_each_command_has_help_with_an_example(place: Place, name: str) -> None:
    ended = await place.run(name, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.text.startswith(f"Usage: holychat {name}")
    assert "Traceback" not in ended.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["aks"], "Did you mean 'ask'?"),
        (["asx", "hi"], "No such command 'asx'"),
        (["modles"], "'models'"),
        (["config"], "Usage: holychat config"),
        (["config", "shwo"], "'show'"),
        (["history"], "Usage: holychat history"),
        (["history", "lsit"], "'list'"),
        (["history", "list", "-n", "0"], "-n"),
        (["history", "export", "--format", "pdf"], "pdf"),
        (["--nonsense"], "--nonsense"),
        (["-m"], "requires an argument"),
        (["ask", "--timeout", "soon", "hi"], "soon"),
        (["config", "get"], "Missing argument"),
        (["demo"], "needs a terminal"),
    ],
)
@on_loop
async def test_mistakes(place: Place, arguments: list[str], words: str) -> None:
    ended = await place.run(*arguments)
    assert (ended.code, ended.out) == (2, b"")
    assert words in ended.err
    assert ended.err.count("Usage:") <= 1
    assert "Traceback" not in ended.err


@on_loop
async def test_a_mistake_cannot_drive_the_terminal(place: Place) -> None:
    for arguments in (["\x1b]0;x\x07"], ["ask", "--\x1b[2J"], ["ask", "-p", "\x1b[2J", "hi"]):
        ended = await place.run(*arguments)
        assert ended.code in (2, 3)
        assert "\x1b" not in ended.err
        assert "␛" in ended.err or r"\x1b" in ended.err


@pytest.mark.parametrize("command", ["--help", "--version", "config show", "config get provider"])
@LINUX
@on_loop
async def test_output_that_cannot_be_written(place: Place, command: str) -> None:
    for way in ("> /dev/full", ">&-"):
        ended = await place.shell(f"$H {command} {way}")
        assert ended.code == 1
        assert "Traceback" not in ended.err
        assert "bug" not in ended.err
        assert ended.err.startswith("holychat: ")


@pytest.mark.parametrize("command", ["--help", "--version", "config show"])
@on_loop
async def test_a_reader_that_left_before_anything_came(place: Place, command: str) -> None:
    here, there = os.pipe()
    os.close(here)
    try:
        ended = await place.run(*command.split(), stdout=there)
    finally:
        os.close(there)
    assert (ended.code, ended.err) == (141, "")


SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("here", flush=True)
            time.sleep(20)
sys.meta_path.insert(0, Slow())
from holychat.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["holychat.cli", "typer", "holychat.commands.ask", "httpx"])
@on_loop
async def test_ctrl_c_before_anything_began(place: Place, name: str) -> None:
    """Whatever is being imported at that moment: no traceback, and the end by the signal."""
    program = (sys.executable, "-c", SLOW_IMPORT.format(name=name))
    async with place.start("ask", "-p", "demo", "hi", program=program) as running:
        await running.until(b"here")
        running.process.send_signal(signal.SIGINT)
        ended = await running.end()
    assert (ended.code, ended.err) == (-signal.SIGINT, "")


SLOW_NAMES = """
import socket, sys, time
ask = socket.getaddrinfo
def slow(host, *args, **kwargs):
    if host == "box.invalid" and not kwargs.get("flags"):
        print("here", flush=True)
        time.sleep(20)
    return ask(host, *args, **kwargs)
socket.getaddrinfo = slow
from holychat.__main__ import main
main()
"""


@on_loop
async def test_ctrl_c_does_not_wait_for_a_name_server(place: Place) -> None:
    place.provider("http://box.invalid/v1")
    program = (sys.executable, "-c", SLOW_NAMES)
    async with place.start("ask", "-q", "hi", program=program) as running:
        await running.until(b"here")
        running.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            ended = await running.end()
    assert (ended.code, ended.err) == (-signal.SIGINT, "holychat: stopped\n")


BROKEN = """
import holychat.settings
def broken(**_):
    raise ZeroDivisionError("\x1b[2J")
holychat.settings.load = broken
from holychat.__main__ import main
main()
"""


@on_loop
async def test_a_bug_is_one_line_and_a_file(place: Place) -> None:
    program = (sys.executable, "-c", BROKEN)
    ended = await place.run("ask", "hi", program=program)
    assert (ended.code, ended.out) == (1, b"")
    assert "ZeroDivisionError" in ended.err
    assert "--debug" in ended.err
    assert "Traceback" not in ended.err
    assert "\x1b" not in ended.err
    debug = place.work / "debug.txt"
    await place.run("--debug", str(debug), "ask", "hi", program=program)
    assert "ZeroDivisionError" in debug.read_text()


@on_loop
async def test_root_options_reach_the_command(place: Place) -> None:
    stop = {"HOLYCHAT_ON_CUT": "stop"}
    root = await place.run("-p", "demo", "-m", "cut", "ask", "--json", "hi", **stop)
    turn = json.loads(root.out)
    assert (root.code, turn["provider"], turn["model"]) == (5, "demo", "cut")
    both = await place.run("-m", "cut", "ask", "-p", "demo", "-m", "demo", "--json", "hi")
    assert (both.code, json.loads(both.out)["model"]) == (0, "demo")


@on_loop
async def test_a_bare_call_reads_the_prompt_and_options(place: Place) -> None:
    ended = await place.run("-p", "demo", stdin=b"hello\n")
    assert ended.code == 0
    assert ended.text.startswith("I am a script")


@on_loop
async def test_it_is_a_module_and_a_script(place: Place) -> None:
    script = shutil.which("holychat", path=os.path.dirname(sys.executable))
    if script is None:
        pytest.skip("holychat is not installed beside this Python")
    ended = await place.run(program=(script, "--version"))
    assert ended.text == f"holychat {__version__}\n"


@on_loop
async def test_a_closed_terminal_ends_it(place: Place) -> None:
    """SIGHUP is left to the system: nothing is held that could be lost."""
    async with place.start("ask", "-p", "demo", stdin=PIPE) as running:
        await asyncio.sleep(0.5)
        running.process.send_signal(signal.SIGHUP)
        ended = await running.end_with_open_stdin()
    assert ended.code == -signal.SIGHUP


@on_loop
async def test_completion_offers_commands_and_ends_well(place: Place) -> None:
    asked = {"_HOLYCHAT_COMPLETE": "complete_bash", "COMP_WORDS": "holychat as", "COMP_CWORD": "1"}
    ended = await place.run(**asked)
    assert (ended.code, ended.text) == (0, "ask\n")
    installed = await place.run("--install-completion", "bash")
    assert installed.code == 0


@on_loop
async def test_a_working_directory_that_is_gone_is_no_hindrance(place: Place) -> None:
    code = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone');"
    code += "from holychat.__main__ import main; main()"
    ended = await place.run("ask", "-p", "demo", "hi", program=(sys.executable, "-c", code))
    assert (ended.code, ended.err) == (0, "")


@on_loop
async def test_a_config_that_would_wait_for_ever_is_refused(place: Place) -> None:
    fifo = place.work / "config.toml"
    os.mkfifo(fifo)
    ended = await place.run("ask", "hi", HOLYCHAT_CONFIG=str(fifo))
    assert ended.code == 3
    assert "is no file" in ended.err


@on_loop
async def test_a_timeout_is_a_number_of_seconds(place: Place) -> None:
    ended = await place.run("ask", "-p", "demo", "--timeout", "nan", "hi")
    assert ended.code == 2
