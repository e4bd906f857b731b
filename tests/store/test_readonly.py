"""A store on a medium that can only be read: what was said is found, nothing is written."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from holychat.store import conversations
from tests.process import Ended, Place
from tests.provider import Provider, answer, on_loop
from tests.store.test_recorder import conversation, recording

if TYPE_CHECKING:
    from pathlib import Path

MEDIUM = (
    "exec unshare -rm sh -c"
    " 'mount --bind %s %s && mount -o remount,ro,bind %s && exec \"$@\"' - $H %s"
)


def medium(folder: Path, arguments: str) -> str:
    """A line of the shell that runs holychat where the folder cannot be written."""
    return MEDIUM % (folder, folder, folder, arguments)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    line = medium(tmp_path, "").replace("$H", "true")
    if subprocess.run(["sh", "-c", line], capture_output=True, check=False).returncode:
        pytest.skip("no mounts of our own here")
    path = tmp_path / "medium" / "s.db"
    with recording(path) as recorder:
        conversation(recorder, "about rivers", "and lakes")
    return path


async def run(home: Place, store: Path, arguments: str) -> Ended:
    async with Provider() as server:
        server.script(*answer("So."))
        home.provider(server.base_url)
        return await home.shell(medium(store.parent, arguments), HOLYCHAT_STORE=str(store))


@on_loop
async def test_what_was_said_is_found(tmp_path: Path, store: Path) -> None:
    home = Place(tmp_path)
    before = sorted(store.parent.iterdir())
    for arguments, wanted in (
        ("history list", "about rivers"),
        ("history show rivers", "to about rivers"),
        ("history search lakes", "and lakes"),
        ("history export rivers --format md", "to about rivers"),
        (f"history backup {tmp_path}/copy.db", ""),
        ("doctor --offline", "1 conversation"),
    ):
        ended = await run(home, store, arguments)
        assert "cannot" not in ended.err, arguments
        assert ended.code == 0, ended
        assert wanted in ended.text, arguments
    assert sorted(store.parent.iterdir()) == before
    with recording(tmp_path / "copy.db") as recorder:
        (found,) = recorder.ask(conversations.listing).result(5)
    assert found.title == "about rivers"


@on_loop
async def test_what_cannot_be_written_is_said(tmp_path: Path, store: Path) -> None:
    home = Place(tmp_path)
    ended = await run(home, store, "history rename rivers x")
    assert ended.code == 1
    assert "it cannot be written" in ended.err
    ended = await run(home, store, "ask hi")
    assert (ended.code, ended.text) == (0, "So.\n")
    (line,) = ended.err.splitlines()
    assert "this conversation is not being kept: " in line
    assert "it cannot be written" in line
