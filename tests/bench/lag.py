"""How far the screen is behind the stream, and what of a core it takes to keep up.

Real processes on a pty, against a server in this process that notes when it sends each word. What
comes out of the pty is only kept, with its time; afterwards an emulator plays it again and tells
with which read each word was first whole on the screen. Searching the bytes would not do: a frame
may write the second half of a word alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import pyte

from tests.bench import home, table
from tests.bench.server import HEAD, NOTHING, event

ROUNDS = 1
WORDS = 800
RATE = 100  # tokens a second
LUMP = 50  # words that come together in the last run
FPS = 20  # holychat's default
AIM_MEDIAN = 1000 / FPS + 30  # ms
AIM_P99 = 100  # ms
AIM_CPU = 10  # % of a core
AIM_BEHIND = 150  # ms, for the end of a lump
BEFORE = 0.5  # seconds before the first token: nobody's start-up is measured here
SILENCE = 20.0  # seconds after which a contestant is given up
WIDTH, HEIGHT = 80, 24

BARE = str(Path(__file__).with_name("bare.py"))
BARE_LIVE = str(Path(__file__).with_name("bare_live.py"))
WORD = re.compile(r"w\d{4}")
# Forty words of Markdown, each `w` one of them; cut into tokens behind each.
MARKDOWN = (
    "w " * 16 + "\n\n" + "- w w **w** w\n" * 3 + "\n```python\n" + "w = w(w, w)\n" * 3 + "```\n\n"
)


class Read(NamedTuple):
    """What one read of the pty gave: when, the process's CPU time until then, and the bytes."""

    at: float
    cpu: float
    data: bytes


class Contestant(NamedTuple):
    name: str
    command: Sequence[str]
    mark: bytes  # what each frame begins with; b"" where there are none
    ours: bool = False


@dataclass
class Seen:
    """What one process showed. Times are in ms, `cpu` in % of a core."""

    lags: list[float] = field(default_factory=list)  # of each word
    ends: list[float] = field(default_factory=list)  # of the last word of each lump
    most: int = 0  # words that one frame brought
    fps: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, other: Seen) -> None:
        self.lags += other.lags
        self.ends += other.ends
        self.most = max(self.most, other.most)
        self.fps += other.fps
        self.cpu += other.cpu


@dataclass
class Server:
    """Sends the tokens at their times, `together` at once, and notes when each word went out."""

    tokens: Sequence[str] = ()
    together: int = 1
    sent: dict[str, float] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if found := re.search(rb"content-length: *(\d+)", head, re.IGNORECASE):
                await reader.readexactly(int(found[1]))
            if head.startswith(b"POST"):
                await self._answer(writer)
            else:
                writer.write(NOTHING)
            await writer.drain()
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        self.sent = {}
        begin = time.monotonic() + BEFORE
        for at in range(0, len(self.tokens), self.together):
            lump = self.tokens[at : at + self.together]
            data = b"".join(event({"content": token}) for token in lump)
            await asyncio.sleep(begin + at / RATE - time.monotonic())
            now = time.monotonic()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.sent.update((word, now) for word in WORD.findall("".join(lump)))
        # The end would bring out at once whatever is held back: the last words are like all others.
        await asyncio.sleep(LUMP / RATE)
        end = event({}, "stop") + b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[str]:
    """The server on a port; its base URL."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    finally:
        listener.close()


def paragraphs() -> list[str]:
    return [f"w{n:04} " + "\n\n" * (n % 40 == 39) for n in range(WORDS)]


def markdown() -> list[str]:
    """A word a token, with the marks that stand before it."""
    numbers = iter(range(WORDS))
    source = re.sub("w", lambda _: f"w{next(numbers):04}", MARKDOWN * (WORDS // 40))
    return re.findall(r".*?w\d{4}\s?", source, re.DOTALL)


def cpu_of(pid: int) -> float:
    """Seconds of CPU of another process: its own clock, finer than the ticks in /proc."""
    return time.clock_gettime((~pid << 3) | 2)


async def recorded(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> list[Read]:
    """Run it on a terminal to its end. Raises if it fails or falls silent."""
    reads: list[Read] = []
    terminal, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    os.close(slave)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # Linux says EIO when the last process has left
            data = b""
        if data:
            reads.append(Read(time.monotonic(), cpu_of(process.pid), data))
        else:
            loop.remove_reader(terminal)
            ended.set()

    loop.add_reader(terminal, read)
    try:
        async with asyncio.timeout(WORDS / RATE + SILENCE):
            await ended.wait()
        code = process.wait(SILENCE)
    finally:
        process.kill()
        process.wait()
        loop.remove_reader(terminal)
        os.close(terminal)
    if code:
        raise RuntimeError(f"{command[0]}: exit code {code}: {reads[-1].data[-500:]!r}")
    return reads


def played(reads: Sequence[Read], server: Server, mark: bytes) -> Seen:
    """Play what was read on an emulator, frame by frame, and see which words it brings."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.ByteStream(screen)
    first: dict[str, Read] = {}
    seen = Seen()
    brought = 0  # words, by the frame that is being played
    for read in reads:
        parts = re.split(b"(?=" + re.escape(mark) + b")", read.data) if mark else [read.data]
        for part in filter(None, parts):
            stream.feed(part)
            if part.startswith(mark):
                brought = 0
            # Not joined by newlines: the terminal has broken words where nobody wraps.
            new = set(WORD.findall("".join(screen.display))) - first.keys()
            first.update((word, read) for word in new)
            brought += len(new)
            seen.most = max(seen.most, brought)
    if missing := server.sent.keys() - first.keys():
        raise RuntimeError(f"{len(missing)} words never came, {min(missing)} the first of them")

    words = sorted(server.sent)
    seen.lags = [(first[word].at - server.sent[word]) * 1000 for word in words]
    seen.ends = seen.lags[server.together - 1 :: server.together]
    begin, end = first[words[0]], max(first.values(), key=lambda read: read.at)
    between = b"".join(read.data for read in reads if begin.at <= read.at <= end.at)
    seconds = end.at - begin.at
    if mark:
        seen.fps = [between.count(mark) / seconds]
    seen.cpu = [(end.cpu - begin.cpu) / seconds * 100]
    return seen


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def shown(title: str, results: Sequence[tuple[Contestant, Seen]]) -> str:
    """The table of a steady stream."""
    rows = [[title, "p50", "aim", "p95", "p99", "aim", "max", "fps", "CPU %", "aim"]]
    for one, seen in results:
        p50, p95, p99 = (f"{quantile(seen.lags, share):.0f}" for share in (0.5, 0.95, 0.99))
        aims = [f"< {AIM_MEDIAN:.0f}", f"< {AIM_P99}", f"< {AIM_CPU}"] if one.ours else [""] * 3
        most = f"{max(seen.lags):.0f}"
        fps = f"{mean(seen.fps):.1f}" if seen.fps else ""
        cpu = f"{mean(seen.cpu):.1f}"
        rows.append([one.name, p50, aims[0], p95, p99, aims[1], most, fps, cpu, aims[2]])
    return table(rows)


def lumps_shown(title: str, results: Sequence[tuple[Contestant, Seen]]) -> str:
    """The table of a stream that comes in lumps: when the end of each is on the screen."""
    rows = [[title, "p50", "p95", "max", "aim", "words a frame", "fps", "CPU %"]]
    for one, seen in results:
        p50, p95 = (f"{quantile(seen.ends, share):.0f}" for share in (0.5, 0.95))
        aim = f"< {AIM_BEHIND}" if one.ours else ""
        fps = f"{mean(seen.fps):.1f}" if seen.fps else ""
        most = f"{max(seen.ends):.0f}"
        cpu = f"{mean(seen.cpu):.1f}"
        rows.append([one.name, p50, p95, most, aim, f"{seen.most}", fps, cpu])
    return table(rows)


async def _run(contestants: Sequence[Contestant], server: Server, rounds: int) -> list[Seen]:
    results = [Seen() for _ in contestants]
    async with listening(server) as url:
        for _ in range(rounds):
            for one, result in zip(contestants, results, strict=True):
                with home(url) as (env, folder):
                    reads = await recorded(one.command, env, folder)
                result.add(played(reads, server, one.mark))
    return results


def main(python: str, rounds: int = ROUNDS) -> None:
    contestants = [
        Contestant("bare httpx, plain text", [python, BARE, "flush"], b""),
        Contestant("httpx, Live(Markdown)", [python, BARE_LIVE], b"\r\x1b[2K"),
        Contestant(
            "holychat ask",
            [str(Path(python).with_name("holychat")), "ask", "hi"],
            b"\x1b[?2026h",
            ours=True,
        ),
    ]
    print(f"The screen behind the stream, {RATE} tokens a second, {rounds} rounds, lag in ms\n")
    for title, tokens in (("paragraphs", paragraphs()), ("lists and code", markdown())):
        results = asyncio.run(_run(contestants, Server(tokens), rounds))
        print(shown(title, list(zip(contestants, results, strict=True))), end="\n\n")
    results = asyncio.run(_run(contestants, Server(paragraphs(), LUMP), rounds))
    title = f"the end of {LUMP} words each {LUMP / RATE * 1000:.0f} ms"
    print(lumps_shown(title, list(zip(contestants, results, strict=True))), end="\n\n")
