"""What `holychat serve` adds to its upstream: time, CPU and memory, beside LiteLLM's proxy.

Three contestants take turns at the same upstream (upstream.py): nobody between, holychat, LiteLLM.
The load generator (load.py) is this process. Both are lean, and how much of a core they took stands
below each table, because there are no more than two cores here.

A piece's delay is from the upstream's write to the generator's read; what a relay adds is the
difference to what it is without one in the same round. "Streams a core" are the seconds of stream
that were relayed over the seconds of CPU that this took: so many streams of that pace, as long as
these, one core could carry.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil, isnan, nan
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import home, table
from tests.bench.lag import cpu_of, quantile
from tests.bench.load import Answer, Target, crowd, heard, sequence

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

ROUNDS = 3
STREAMS = (10, 100, 1000)
AIM_FIRST = 3.0  # ms that the first piece may be later, p50
AIM_RATIO = 10  # times LiteLLM's streams a core

SHORT, LONG = 200, 6  # answers a round, one at a time: of one piece, and of PIECES
PIECES, PACE = 100, 5  # ms
CROWD_PIECES, CROWD_PACE = 20, 250
BEGINNING = 250  # new streams a second
LEAST_RAMP = 1.0  # seconds
LARGE = 1000  # half of the rounds; beyond it there is one, without LiteLLM
SETTLED = 0.3  # seconds after the last byte in which a relay tidies up
FILES = 2  # of a relay for each stream
STARTING = 240.0  # seconds for a large program on a cold disk

CONFIG = """
provider = "box"
[providers.box]
base_url = "http://127.0.0.1:{port}/v1"
model = "bench-model"
streams = 0
"""
LITELLM = """
model_list:
  - model_name: bench-model
    litellm_params:
      {{model: openai/bench-model, api_key: none, api_base: "http://127.0.0.1:{port}/v1"}}
general_settings: {{master_key: "{key}"}}
"""


HEADS = ["wrong", "first", "added", "piece", "added"]


class Round(NamedTuple):
    """What one contestant did in one round. Times are in ms, CPU in seconds, memory in MB."""

    many: int
    wrong: int
    first: tuple[float, float]  # p50, p99
    delay: tuple[float, float]
    cpu: float
    wall: float
    memory: float
    beside: tuple[float, float]  # of a core: the generator, the upstream


@dataclass
class Contestant:
    """Who is asked, and by which process; its rounds by the load."""

    name: str
    target: Target
    pid: int
    rounds: dict[int, list[Round]] = field(default_factory=dict)  # 0: one at a time
    costs: list[tuple[float, float]] = field(default_factory=list)  # CPU s a request, a piece
    wrongs: list[str] = field(default_factory=list)


def main(
    python: str,
    rounds: int = ROUNDS,
    *,
    streams: Sequence[int] = STREAMS,
    litellm: str = "",
    stored: bool = True,
    beginning: int = BEGINNING,
) -> None:
    with ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        files = stack.enter_context(_many_files())
        _, folder = stack.enter_context(home())
        pid, port = stack.enter_context(_upstream())
        direct = Contestant("nobody between", Target(port, "bench-model", "none"), pid)
        name = "holychat" if stored else "holychat --no-store"
        ours = Contestant(name, *stack.enter_context(_holychat(python, port, streams, stored)))
        contestants = [direct, ours]
        if litellm:
            found = stack.enter_context(_litellm(litellm, port, folder))
            contestants.append(Contestant("LiteLLM", *found))
        else:
            print("LiteLLM is left out: --litellm names its program.\n")
        asyncio.run(_warmed(contestants))
        _one_at_a_time(contestants, rounds)
        for many in streams:
            if many * FILES + 200 > files:
                print(f"{many:,} streams are left out: no more than {files:,} files are allowed.\n")
                continue
            _at_once(contestants, many, rounds, beginning)


# --- The two parts --------------------------------------------------------------------------------


async def _warmed(contestants: Sequence[Contestant]) -> None:
    for one in contestants:
        for answer in await sequence(one.target, 20, 2, 1):
            if wrong := heard(answer, 2).wrong:
                raise RuntimeError(f"{one.name}: {wrong}")


def _one_at_a_time(contestants: Sequence[Contestant], rounds: int) -> None:
    for each in _turns(contestants, rounds):
        short = _measured(each, contestants[0], 1, sequence(each.target, SHORT, 1, 1))
        long = _measured(each, contestants[0], PIECES, sequence(each.target, LONG, PIECES, PACE))
        request = short.cpu / SHORT
        each.costs.append((request, (long.cpu - LONG * request) / (LONG * (PIECES - 1))))
        both = short._replace(many=SHORT + LONG, wrong=short.wrong + long.wrong, delay=long.delay)
        each.rounds.setdefault(0, []).append(both)
    print(
        f"One stream at a time, {rounds} rounds: the first piece in {SHORT} answers, the others in"
        f" {LONG} of {PIECES} at {PACE} ms, ms as p50, p99 (aim: the first added under"
        f" {AIM_FIRST:.0f}, p50)\n"
    )
    costs = ["CPU a request, ms", "a piece, us"]
    rows = [["", *HEADS, *costs]]
    for one in contestants:
        request, piece = (median(cost[i] for cost in one.costs) for i in (0, 1))
        cpu = [f"{request * 1e3:.2f}", f"{piece * 1e6:.0f}"] if one is not contestants[0] else []
        rows.append([*_shown(one, contestants, 0), *(cpu or ["", ""])])
    print(table(rows), end="\n\n", flush=True)
    _explained(contestants, 0)


def _at_once(contestants: Sequence[Contestant], many: int, rounds: int, beginning: int) -> None:
    ramp = max(LEAST_RAMP, many / beginning)
    pieces = max(CROWD_PIECES, ceil((ramp + 1) * 1000 / CROWD_PACE))  # all of them at once
    if many > LARGE:
        print(f"LiteLLM is left out beyond {LARGE:,}.\n" if contestants[2:] else "", end="")
        contestants, rounds = contestants[:2], 1
    elif many == LARGE:
        rounds = (rounds + 1) // 2
    for each in _turns(contestants, rounds):
        if _drowned(each, many):
            continue
        work = crowd(each.target, many, ramp, pieces, CROWD_PACE)
        each.rounds.setdefault(many, []).append(_measured(each, contestants[0], pieces, work))
    there = [one for one in contestants if many in one.rounds]
    print(
        f"{many:,} streams at once, {rounds} rounds: {pieces} pieces each, one every {CROWD_PACE}"
        f" ms, begun within {ramp:.0f} s, ms as p50, p99\n"
    )
    print(table([["", *HEADS], *(_shown(one, contestants, many) for one in there)]), end="\n\n")
    print(table(_costs(there[1:], many, pieces)), end="\n\n")
    shares = [each.beside for each in contestants[0].rounds[many]]
    generator, upstream = (median(share[i] for share in shares) * 100 for i in (0, 1))
    print(f"Alone, the generator took {generator:.0f} % of a core, the upstream {upstream:.0f} %.")
    _explained(contestants, many)


def _costs(relays: Sequence[Contestant], many: int, pieces: int) -> list[list[str]]:
    """The second table of a crowd."""
    heads = ["CPU ms a stream", "s/1,000 pieces", "of a core", "peak MB", "streams a core"]
    rows, carried = [["", *heads]], []
    for one in relays:
        rounds = one.rounds[many]
        cpu = median(each.cpu for each in rounds)
        good = median(each.many - each.wrong for each in rounds)
        carried.append(good * pieces * CROWD_PACE / 1000 / cpu)
        rows.append(
            [
                one.name,
                f"{cpu / many * 1e3:.1f}",
                f"{cpu / many / pieces * 1e3:.2f}",
                f"{median(each.cpu / each.wall for each in rounds) * 100:.0f} %",
                f"{max(each.memory for each in rounds):.0f}",
                f"{carried[-1]:,.0f}",
            ]
        )
    if len(carried) > 1:
        ratio = f"{carried[0] / carried[1]:.1f}" if carried[1] else "–"
        rows.append([f"times {relays[1].name}'s (aim {AIM_RATIO})", *[""] * 4, ratio])
    return rows


def _turns(contestants: Sequence[Contestant], rounds: int) -> Iterator[Contestant]:
    """Every other round backwards."""
    for number in range(rounds):
        yield from contestants if number % 2 == 0 else reversed(contestants)


def _drowned(one: Contestant, many: int) -> bool:
    """Whether it could not carry so many, or fewer, before: half of them is not worth the time."""
    met = [each for load, found in one.rounds.items() if load <= many for each in found]
    return any(each.wrong * 2 > each.many for each in met)


def _measured(
    one: Contestant,
    direct: Contestant,
    pieces: int,
    work: Coroutine[None, None, list[Answer]],
) -> Round:
    for pid in _family(one.pid):  # the peak of memory begins anew
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
    wall, mine, upstream = time.monotonic(), time.process_time(), cpu_of(direct.pid)
    begin = _cpu(one.pid)
    answers = asyncio.run(work)
    wall, mine = time.monotonic() - wall, time.process_time() - mine
    upstream = cpu_of(direct.pid) - upstream
    time.sleep(SETTLED)
    cpu = _cpu(one.pid) - begin
    memory = sum(_peak(pid) for pid in _family(one.pid))
    said = [heard(answer, pieces) for answer in answers]
    wrongs = [each.wrong for each in said if each.wrong]
    one.wrongs += wrongs
    firsts = [each.first / 1e6 for each in said if not each.wrong] or [nan]
    delays = [delay / 1e6 for each in said for delay in each.delays] or [nan]
    return Round(
        len(answers),
        len(wrongs),
        (quantile(firsts, 0.5), quantile(firsts, 0.99)),
        (quantile(delays, 0.5), quantile(delays, 0.99)),
        cpu,
        wall,
        memory,
        (mine / wall, upstream / wall),
    )


def _shown(one: Contestant, contestants: Sequence[Contestant], load: int) -> list[str]:
    """Its row, as far as it is the same in both parts; what was added is that of each round."""
    rounds, base = one.rounds[load], contestants[0].rounds[load]
    cells = [one.name, f"{sum(each.wrong for each in rounds)} of {sum(e.many for e in rounds):,}"]
    for what in ("first", "delay"):
        pairs: list[tuple[float, float]] = [getattr(each, what) for each in rounds]
        bases: list[tuple[float, float]] = [getattr(each, what) for each in base]
        added = [(a - c, b - d) for (a, b), (c, d) in zip(pairs, bases, strict=False)]
        cells.append(_both(pairs))
        cells.append(_both(added) if one is not contestants[0] else "")
    return cells


def _both(pairs: Sequence[tuple[float, float]]) -> str:
    return ", ".join(_digits(median(pair[i] for pair in pairs)) for i in (0, 1))


def _digits(milliseconds: float) -> str:
    if isnan(milliseconds):
        return "–"
    return f"{milliseconds:.2f}" if abs(milliseconds) < 10 else f"{milliseconds:,.0f}"


def _explained(contestants: Sequence[Contestant], load: int) -> None:
    """What was wrong, in the words of the first of each contestant."""
    for one in contestants:
        if one.wrongs:
            print(f"{one.name}: {len(one.wrongs)} answers are wrong, the first: {one.wrongs[0]}")
            one.wrongs.clear()
        if load not in one.rounds:
            print(f"{one.name} is left out: it lost more than half at a smaller load.")
    print(flush=True)


# --- Processes ------------------------------------------------------------------------------------


def _family(pid: int) -> list[int]:
    """The process and all that it has started."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{each}/task").glob("*/children"):
                found += map(int, path.read_text().split())
    return found


def _cpu(pid: int) -> float:
    total = 0.0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            total += cpu_of(each)
    return total


def _peak(pid: int) -> float:
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) / 1024
    return 0.0


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What is started here ends with us, also where we are told to end."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _many_files() -> Iterator[int]:
    """As many as the system allows, for us and for what we start; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard if hard != resource.RLIM_INFINITY else sys.maxsize
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def _running(
    command: Sequence[str], env: Mapping[str, str] | None, cwd: Path, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which ends with all that it has started."""
    with ExitStack() as stack:
        errors = stack.enter_context(log.open("wb")) if log else None
        process = stack.enter_context(
            subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if not log or log.suffix == ".err" else errors,
                stderr=errors,
                start_new_session=True,
            )
        )
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _upstream() -> Iterator[tuple[int, int]]:
    """Its process and its port."""
    command = [sys.executable, "-m", "tests.bench.upstream"]
    with _running(command, None, Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())


@contextmanager
def _holychat(
    python: str, port: int, streams: Sequence[int], stored: bool
) -> Iterator[tuple[Target, int]]:
    key = secrets.token_urlsafe(24)
    with home() as (env, folder):
        del env["HOLYSHEEP_API_KEY"]  # nobody else is asked
        (folder / "config.toml").write_text(CONFIG.format(port=port))
        (folder / "token").write_text(key)
        (folder / "token").chmod(0o600)
        env["HOLYCHAT_CONFIG"] = str(folder / "config.toml")
        command = [
            str(Path(python).with_name("holychat")),
            *(() if stored else ("--no-store",)),
            *("serve", "--port", "0", "--token-file", str(folder / "token"), "--quiet"),
            *("--max-streams", str(2 * max(streams))),
        ]
        log = folder / "log.err"
        with _running(command, env, folder, log) as process:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            found = re.match(r"http://127\.0\.0\.1:(\d+)/", line)
            if not found:
                raise RuntimeError(f"`holychat serve` did not start: {line}{log.read_text()}")
            yield Target(int(found[1]), "auto", key), process.pid


@contextmanager
def _litellm(program: str, upstream: int, folder: Path) -> Iterator[tuple[Target, int]]:
    """As it is recommended for use: no debugging, no database."""
    key = f"sk-{secrets.token_urlsafe(24)}"
    config, log = folder / "litellm.yaml", folder / "litellm.log"
    config.write_text(LITELLM.format(port=upstream, key=key))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    env = {
        "HOME": str(folder),
        "PATH": os.environ.get("PATH", os.defpath),
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with _running([*command, "--num_workers", "1"], env, folder, log) as process:
        url, until = f"http://127.0.0.1:{port}/health/liveliness", time.monotonic() + STARTING
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"LiteLLM did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield Target(port, "bench-model", key), process.pid
