"""The streams and folders around us, on real descriptors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from holychat import env
from holychat.core.failure import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Pipe = tuple[int, int]

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG folders, /dev/full")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    here, there = os.pipe()
    yield here, there
    for each in (here, there):
        try:
            os.close(each)
        except OSError:
            pass  # by the test


@pytest.fixture
def terminal() -> Iterator[int]:
    master, slave = os.openpty()
    yield slave
    os.close(master)
    os.close(slave)


def test_a_terminal_a_pipe_and_nothing(pipe: Pipe, terminal: int) -> None:
    assert env.is_terminal(terminal)
    assert not env.is_terminal(pipe[0])
    assert not env.is_terminal(9999)


# --- Looks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "flag", "on_terminal", "in_pipe"),
    [
        ({"TERM": "xterm"}, False, True, False),
        ({"TERM": "dumb"}, False, False, False),
        ({}, False, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, False, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, False, True, False),
        ({"TERM": "xterm"}, True, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, False, True, True),
        ({"TERM": "xterm", "FORCE_COLOR": "0"}, False, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False, False),
        ({"FORCE_COLOR": "1"}, True, False, False),
    ],
)
def test_colour(
    terminal: int,
    pipe: Pipe,
    environ: dict[str, str],
    flag: bool,
    on_terminal: bool,
    in_pipe: bool,
) -> None:
    assert env.colour(terminal, environ, flag) == on_terminal
    assert env.colour(pipe[1], environ, flag) == in_pipe


@pytest.mark.parametrize(("term", "can"), [("xterm", True), ("dumb", False), ("", False)])
def test_who_can_be_painted_on(
    terminal: int, monkeypatch: pytest.MonkeyPatch, term: str, can: bool
) -> None:
    monkeypatch.setattr(env, "STDOUT", terminal)
    assert env.can_move_cursor({"TERM": term}) == can
    monkeypatch.setattr(env, "STDOUT", 9999)
    assert not env.can_move_cursor({"TERM": term})


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STDIN", "STDOUT", "STDERR"):
        monkeypatch.setattr(env, name, 9999)
    monkeypatch.setenv("COLUMNS", "132")
    assert env.width() == 132
    monkeypatch.setenv("COLUMNS", "3")
    assert env.width() == 20
    monkeypatch.setenv("COLUMNS", "wide")
    assert env.width(72) == 72


# --- Writing --------------------------------------------------------------------------------------


def test_a_reader_that_left(pipe: Pipe) -> None:
    os.close(pipe[0])
    with pytest.raises(env.ReaderLeft):
        env.write(b"x", pipe[1])


@LINUX
def test_a_full_disk_and_a_closed_descriptor() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(env.OutputFailed, match="No space left"):
        env.write(b"x", full)
    os.close(full)
    with pytest.raises(env.OutputFailed, match="Bad file descriptor"):
        env.write(b"x", full)


def test_a_pipe_that_somebody_made_non_blocking_gets_everything(pipe: Pipe) -> None:
    os.set_blocking(pipe[1], False)
    data = os.urandom(1 << 20)
    got = bytearray()

    def read() -> None:
        time.sleep(0.05)
        while len(got) < len(data):
            got.extend(os.read(pipe[0], 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    env.write(data, pipe[1])
    reader.join()
    assert got == data


def test_a_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    env.err("a\x1b[2J\nb")
    env.err("dim in a pipe is plain", dim=True)
    assert capfd.readouterr().err == "a␛[2J\nb\ndim in a pipe is plain\n"


def test_a_line_on_stdout_is_raw_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    env.out("a\x1b[2J\ud83c")
    assert capfd.readouterr().out == "a\x1b[2J?\n"


def test_nobody_is_told_that_stderr_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "STDERR", 9999)
    env.err("to nobody")


def test_traces_go_to_the_file_of_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(env, "_debug_file", None)
    env.trace(ValueError("first"))  # nobody wants it
    env.debug_to(tmp_path / "debug")
    env.debug_to(None)
    for word in ("second", "th\ud83crd"):
        env.trace(ValueError(word))
    text = (tmp_path / "debug").read_text()
    assert "first" not in text
    assert "ValueError: second" in text
    assert "ValueError: th?rd" in text
    env.debug_to(tmp_path)
    env.trace(ValueError("fourth"))
    assert "nothing is written" in capfd.readouterr().err


# --- Reading --------------------------------------------------------------------------------------


def test_piped_input(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "STDIN", pipe[0])
    os.write(pipe[1], b"\xef\xbb\xbfna\xc3\xafve \xff\n")
    os.close(pipe[1])
    assert env.piped_input(None) == "naïve \ufffd\n"
    assert env.piped_input(1.0) == ""


def test_an_idle_stdin(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(env, "STDIN", pipe[0])
    assert env.piped_input(0.01) is None
    assert "nothing came on stdin for 0.01 s" in capfd.readouterr().err


def test_a_terminal_and_a_closed_stdin_hold_nothing(
    terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "STDIN", terminal)
    assert env.piped_input(None) is None
    monkeypatch.setattr(env, "STDIN", 99)
    assert env.piped_input(None) is None
    assert env.piped_input(1.0) is None


def test_a_stdin_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(env, "STDIN", folder)
    with pytest.raises(UsageError, match="stdin cannot be read: Is a directory"):
        env.piped_input(1.0)
    os.close(folder)


# --- The process ----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_end_by(number: signal.Signals) -> None:
    code = f"from holychat import env; import signal; env.end_by(signal.Signals({int(number)}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -number


CLOSED = """
import os, sys
from holychat import env
for stream in map(int, sys.argv[1]):
    os.close(stream)
env.fill_closed()
print(os.open(os.devnull, os.O_RDONLY), file=open(sys.argv[2], "w"))
try:
    env.write(b"x", 1)
except env.OutputFailed:
    os._exit(7)
"""


@pytest.mark.skipif(os.name != "posix", reason="descriptors of POSIX")
@pytest.mark.parametrize(("closed", "code"), [("", 0), ("0", 0), ("1", 7), ("2", 0), ("012", 7)])
def test_no_new_descriptor_takes_a_closed_streams_place(
    tmp_path: Path, closed: str, code: int
) -> None:
    note = tmp_path / "note"
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, closed, str(note)], stdout=subprocess.PIPE, check=False
    )
    assert done.returncode == code
    assert int(note.read_text()) > 2


# --- Folders --------------------------------------------------------------------------------------


@LINUX
@pytest.mark.parametrize(
    ("environ", "kind", "folder"),
    [
        ({"HOME": "/h"}, "config", "/h/.config/holychat"),
        ({"HOME": "/h"}, "cache", "/h/.cache/holychat"),
        ({"HOME": "/h"}, "data", "/h/.local/share/holychat"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/d"}, "data", "/d/holychat"),
        ({"HOME": "/h", "XDG_DATA_HOME": ""}, "data", "/h/.local/share/holychat"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "cache", "/h/.cache/holychat"),
    ],
)
def test_home(environ: dict[str, str], kind: str, folder: str) -> None:
    assert env.home(environ, kind) == folder


@LINUX
def test_home_without_one() -> None:
    assert env.home({}, "cache") == os.path.expanduser("~/.cache/holychat")
