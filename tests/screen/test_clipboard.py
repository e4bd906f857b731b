from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from holychat.screen import clipboard

TEXT = "söme ␛ text\nwith lines"


def _on_a_terminal(environ: dict[str, str]) -> bytes:
    """What `copy` writes to a terminal, in a process of its own."""
    import pty

    master, slave = pty.openpty()
    code = f"from holychat.screen.clipboard import copy; copy({TEXT!r}, {environ!r})"
    subprocess.run([sys.executable, "-c", code], stdout=slave, check=True)
    os.close(slave)
    data = os.read(master, 10_000)
    os.close(master)
    return data


CODE = b"\x1b]52;c;" + base64.b64encode(TEXT.encode()) + b"\x07"


def test_without_a_program_the_terminal_is_asked() -> None:
    assert _on_a_terminal({}) == CODE


def test_tmux_is_asked_by_its_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tmux"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat > {tmp_path}/clip\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if sys.platform == "linux":
        assert clipboard.copy(TEXT, {"TMUX": "x", "SSH_CONNECTION": "x"}) == "with tmux"
        assert (tmp_path / "asked").read_text() == "load-buffer -w -\n"
        assert (tmp_path / "clip").read_text() == TEXT


def test_screen_gets_it_in_parts_that_it_passes_on() -> None:
    assert _on_a_terminal({"STY": "x"}) == b"\x1bP" + CODE + b"\x1b\\"


def test_over_ssh_the_other_machines_clipboard_is_left_alone() -> None:
    assert _on_a_terminal({"SSH_CONNECTION": "x", "DISPLAY": ":0"}) == CODE


def test_a_local_program_gets_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "xclip"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/clip\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if sys.platform == "linux":
        assert clipboard.copy(TEXT, {"DISPLAY": ":0"}) == "with xclip"
        assert (tmp_path / "clip").read_text() == TEXT


def test_nothing_to_copy_with_is_said() -> None:
    code = "from holychat.screen.clipboard import copy; copy('x', {})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OSError: there is no clipboard program and no terminal" in done.stderr
