"""Benchmarks: `python -m tests.bench`. Not tests: they never fail on a slow machine.

Owns the measuring. Every figure is a ratio to a baseline that ran in the same minute: contestants
take turns (A, B, A, B, ...), each run is a fresh process, and its CPU time, wall time and peak
memory are the kernel's own (`wait4`). The median is what counts, because a noisy machine spoils
the mean; the minimum stands beside it, because noise only ever adds.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

PROMPT = "›".encode()


class Run(NamedTuple):
    """One process, from exec to exit: seconds of CPU and of wall time, peak memory in MB."""

    cpu: float
    wall: float
    memory: float
    output: int  # bytes on stdout


@dataclass
class Contestant:
    """A command that is run again and again; `expects` is the bytes it has to print, if known."""

    name: str
    command: Sequence[str]
    expects: int | None = None
    runs: list[Run] = field(default_factory=list)

    def cpu(self) -> float:
        return median(run.cpu for run in self.runs)

    def wall(self) -> float:
        return median(run.wall for run in self.runs)

    def least_cpu(self) -> float:
        return min(run.cpu for run in self.runs)

    def memory(self) -> float:
        return max(run.memory for run in self.runs)


def piped(contestant: Contestant, env: Mapping[str, str], cwd: Path) -> Run:
    """Run it with its stdout in a pipe that is read to the end. Raises if it did not do its job."""
    start = time.perf_counter()
    with subprocess.Popen(
        contestant.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=env,
        cwd=cwd,
    ) as process:
        assert process.stdout is not None
        count = 0
        while part := os.read(process.stdout.fileno(), 1 << 16):
            count += len(part)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or contestant.expects not in (None, count):
        raise RuntimeError(
            f"{contestant.name}: exit code {process.returncode}, {count} bytes"
            f" instead of {contestant.expects}"
        )
    return Run(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024, count)


def painted(contestant: Contestant, env: Mapping[str, str], cwd: Path) -> Run:
    """Run it on a terminal until it has painted its prompt, and kill it in that moment."""
    start = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execve(contestant.command[0], [*contestant.command], env)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = b""
    while PROMPT not in seen:
        part = os.read(terminal, 1 << 16)
        if b"\x1b[6n" in part:  # where is the cursor?
            os.write(terminal, b"\x1b[1;1R")
        seen += part
    wall = time.perf_counter() - start
    os.kill(pid, signal.SIGKILL)
    _, _, used = os.wait4(pid, 0)
    os.close(terminal)
    return Run(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024, len(seen))


def race(
    contestants: Sequence[Contestant],
    rounds: int,
    env: Mapping[str, str],
    cwd: Path,
    once: Callable[[Contestant, Mapping[str, str], Path], Run] = piped,
) -> None:
    """Let all of them run `rounds` times in turn, after one round that only warms the caches."""
    for contestant in contestants:
        once(contestant, env, cwd)
    for number in range(rounds):
        # Every other round backwards: whoever follows a greedy one would always pay for it.
        for contestant in contestants if number % 2 else reversed(contestants):
            contestant.runs.append(once(contestant, env, cwd))


@contextmanager
def home(base_url: str = "") -> Iterator[tuple[dict[str, str], Path]]:
    """An environment with a key, an empty home and nothing of the user's, and its folder."""
    with tempfile.TemporaryDirectory(prefix="holychat-bench-") as folder:
        env = {
            "HOME": folder,
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "HOLYSHEEP_API_KEY": "hs-bench-0123456789",
            "HOLYSHEEP_BASE_URL": base_url or "http://127.0.0.1:9/v1",
        }
        yield env, Path(folder)


@contextmanager
def serving(chunks: int = 0, server: str = "server") -> Iterator[str]:
    """A loopback server (server.py, failing.py) in a process of its own; its origin."""
    command = [sys.executable, "-m", f"{__name__}.{server}", str(chunks)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join((row[0].ljust(widths[0]), *numbers)).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
