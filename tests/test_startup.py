"""What is not needed is not loaded: by the names in sys.modules, of a real process at its end."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.process import Place
from tests.provider import Provider, answer, on_loop

if TYPE_CHECKING:
    from pathlib import Path

# Runs the program and lists what it has loaded, in place of its own way out.
SPY = """
import os, sys
from holychat import __main__
leave = os._exit
def spy(code):
    os.write(2, " ".join(sorted(sys.modules)).encode())
    leave(code)
os._exit = spy
__main__.main()
"""
HEAVY = {
    "rich", "prompt_toolkit", "pygments", "click", "httpcore", "anyio", "platformdirs", "tomlkit",
    "dotenv", "markdown_it", "pydantic", "pdb", "unittest", "xml", "sniffio",
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def loaded(place: Place, *arguments: str) -> set[str]:
    ended = await place.run(*arguments, program=(sys.executable, "-c", SPY))
    assert ended.code == 0, ended.err
    return set(ended.err.split())


@on_loop
async def test_the_version_costs_nothing(place: Place) -> None:
    modules = await loaded(place, "--version")
    assert not modules & {"typer", "asyncio", "holychat.cli", "holychat.env", "socket", "json"}


@on_loop
async def test_the_command_line_alone_has_no_network(place: Place) -> None:
    modules = await loaded(place, "--help")
    assert "typer" in modules
    assert not modules & (HEAVY | {"httpx", "asyncio", "h11", "ssl", "holychat.settings"})


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl"]])
@on_loop
async def test_ask_in_a_pipe(place: Place, form: list[str]) -> None:
    async with Provider() as server:
        server.script(*answer("Hello there"))
        place.provider(server.base_url)
        modules = await loaded(place, "ask", *form, "hi")
    assert {"httpx", "holychat.net.client"} <= modules
    assert not modules & HEAVY
    assert not [name for name in modules if name.startswith("holychat.commands.repl")]
    assert not modules & {"holychat.net.demo", "holychat.net.probe", "holychat.screen.live"}
    assert not modules & {"holychat.core.migrate", "holychat.store.migration"}


@on_loop
async def test_what_is_not_kept_needs_no_database(place: Place) -> None:
    async with Provider() as server:
        server.script(*answer("Hello there"))
        place.provider(server.base_url)
        assert "sqlite3" not in await loaded(place, "ask", "--no-store", "hi")


@on_loop
async def test_a_dotenv_brings_its_reader_only(place: Place) -> None:
    (place.work / ".env").write_text("ACTIVE_PROVIDER=demo\n")
    modules = await loaded(place, "ask", "hello")
    assert "dotenv" in modules
    assert not modules & (HEAVY - {"dotenv"})


@on_loop
async def test_config_has_no_network(place: Place) -> None:
    for command in (("show",), ("path",), ("get", "provider")):
        modules = await loaded(place, "config", *command)
        assert not modules & (HEAVY | {"httpx", "asyncio", "h11", "ssl"})


@on_loop
async def test_history_in_a_pipe_has_no_network_and_no_looks(place: Place) -> None:
    ended = await place.run("ask", "-p", "demo", "hello")
    assert ended.code == 0
    for command in (("list",), ("search", "hello"), ("show", "hello"), ("list", "--json")):
        modules = await loaded(place, "history", *command)
        assert "sqlite3" in modules
        assert not modules & (HEAVY | {"httpx", "asyncio", "h11", "ssl"})


def test_importing_the_command_line_has_no_side_effects(place: Place) -> None:
    """Nothing is read, written or loaded by an import alone."""

    async def listed() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import holychat.cli, sys; print(*sys.modules)",
            stdout=asyncio.subprocess.PIPE, cwd=place.work, env=place.environ,
        )  # fmt: skip
        out, _ = await process.communicate()
        return out.decode()

    with asyncio.Runner() as runner:
        modules = set(runner.run(listed()).split())
    assert "typer" in modules
    assert not modules & (HEAVY | {"httpx", "asyncio"})
    assert os.listdir(place.home) == []
    assert os.listdir(place.work) == []
