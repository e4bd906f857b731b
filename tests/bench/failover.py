"""What it takes to survive a provider: the decision when one fails, the loop when none does.

The decision is timed by the server (failing.py), from its failure to the request that it gets
next, on a connection that has yet to be opened. There is no back-off in it: each provider is asked
once. The loop is measured against what it wraps, `net.client.stream`, in turn with it.
"""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from holychat import settings as rules
from holychat.core.chat import Delta, Message, Request
from holychat.core.provider import Provider, Secret
from holychat.core.route import Rules
from holychat.engine.failover import Candidate, Reply, Way
from holychat.engine.session import Session
from holychat.net import http1
from holychat.net.client import Client
from tests.bench import home, serving, table
from tests.bench.server import text_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from holychat.core.chat import Event

ROUNDS = 300
AIM = 50  # ms
FAULTS = {"500": "500", "reset": "reset before headers", "cut": "cut in mid-answer"}
PROCESSES = 10  # rounds for each process of its own: it takes that much longer

CHUNKS = 20_000
SMALL = 212  # bytes: an event with what frames it
TURNS = 15  # rounds for each one of the loop
LOOP_AIM = 1.05  # times the CPU of net.client.stream alone
FORMS = {
    "one": "one event in an HTTP chunk",
    "many": "50 events in an HTTP chunk",
    "read": "one event in a read of the socket",
}

# The breaker would not let a provider be asked that fails hundreds of times.
CONFIG = """
provider = "box"
[failover]
providers = "spare"
attempts = 1
[breaker]
errors = 1.0
row = 0
slow = 0.0
[providers.box]
base_url = "{origin}/{first}/v1"
model = "m"
[providers.spare]
base_url = "{origin}/spare/v1"
model = "n"
"""

REQUEST = Request("m", (Message("user", "hi"),))


def main(python: str, rounds: int = ROUNDS) -> None:
    few = max(3, rounds // PROCESSES)
    print(
        f"From a failure to the next request, {rounds} rounds ({few} of processes of their own),"
        " wall in ms\n"
    )
    rows = [["", "median", "p99", "max", "aim"]]
    with serving(server="failing") as origin:
        for fault, name in FAULTS.items():
            times = asyncio.run(_alone(origin, fault, rounds))
            rows.append(_decision(f"{name}, the loop alone", times))
            times = asyncio.run(_kept(origin, fault, rounds))
            rows.append(_decision(f"{name}, with store and board", times))
            times = _asked(python, origin, fault, few)
            rows.append(_decision(f"{name}, first of an `ask`", times))
    print(table(rows), end="\n\n", flush=True)
    overhead(max(3, rounds // TURNS))


def _decision(name: str, times: list[float]) -> list[str]:
    last = quantiles(times, n=100, method="inclusive")[98]
    figures = (median(times), last, max(times))
    return [name, *(f"{figure:.2f}" for figure in figures), f"< {AIM}"]


# --- The decision ---------------------------------------------------------------------------------


def _told(text: str, fault: str) -> float:
    """The milliseconds in an answer. Raises where it is not the answer that it has to be."""
    found = re.fullmatch(r"(.*?)\s*in (\d+) ns\n?", text)
    if not found or bool(found[1]) != (fault == "cut"):
        raise RuntimeError(f"{fault}: the answer is {text!r}")
    return int(found[2]) / 1e6


async def _alone(origin: str, fault: str, rounds: int) -> list[float]:
    """Without a store, and with nothing that is known of anybody's health."""
    key = Secret("sk-bench-0123456789")
    box = Candidate(Provider("box", f"{origin}/{fault}/v1", key=key), "m")
    spare = Candidate(Provider("spare", f"{origin}/spare/v1", key=key), "n")

    async def resolve(_: str) -> Candidate:
        return spare

    times = []
    async with aclosing(Client()) as client:
        for _ in range(rounds + 1):
            way = Way(client, box, ("spare",), resolve, Rules(attempts=1))
            times.append(_told(await _text(Reply(way, REQUEST).events()), fault))
    return times[1:]


async def _kept(origin: str, fault: str, rounds: int) -> list[float]:
    """Whole turns of a chat, each a conversation of its own in one store."""
    times = []
    async with _session(origin, fault) as session:
        chat = session.chat(*await session.choose())
        for _ in range(rounds + 1):
            times.append(_told(await _text(chat.send("hi")), fault))
            chat.clear()
    return times[1:]


def _asked(python: str, origin: str, fault: str, rounds: int) -> list[float]:
    """A process each: what is imported and opened only in need is in it."""
    command = [str(Path(python).with_name("holychat")), "ask", "hi"]
    times = []
    with home() as (env, folder):
        _configured(env, folder, origin, fault)
        for _ in range(rounds + 1):
            ended = subprocess.run(command, env=env, cwd=folder, capture_output=True, check=True)
            times.append(_told(ended.stdout.decode(), fault))
    return times[1:]


def _configured(env: dict[str, str], folder: Path, origin: str, first: str) -> None:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(origin=origin, first=first))
    env["HOLYCHAT_CONFIG"] = str(path)


@asynccontextmanager
async def _session(origin: str, first: str) -> AsyncIterator[Session]:
    """A session with a store, as the program makes it."""
    with home() as (env, folder):
        _configured(env, folder, origin, first)
        session = Session(rules.load(environ=env, cwd=folder), env)
        try:
            yield session
            if not session.recorder.keeping:
                raise RuntimeError("the store was not used")
        finally:
            await session.aclose()


async def _text(events: AsyncGenerator[Event, None]) -> str:
    async with aclosing(events) as coming:
        return "".join([each.text async for each in coming if isinstance(each, Delta)])


# --- The loop -------------------------------------------------------------------------------------


@dataclass
class Runner:
    """One way to the same answer, and the CPU seconds that each of its deltas took."""

    name: str
    events: Callable[[], AsyncGenerator[Event, None]]
    cpu: list[float] = field(default_factory=list)

    async def run(self, size: int) -> tuple[float, int]:
        """CPU seconds, and how many deltas came. Raises where that was not the answer.

        The text is kept, as everybody does who wants an answer.
        """
        gc.collect()
        count, texts = 0, []
        begin = time.process_time()
        async with aclosing(self.events()) as events:
            async for each in events:
                if isinstance(each, Delta):
                    count += 1
                    texts.append(each.text)
        cpu = time.process_time() - begin
        if (length := len("".join(texts))) != size:
            raise RuntimeError(f"{self.name}: {length} characters instead of {size}")
        return cpu, count


def overhead(rounds: int) -> None:
    """Deltas are merged while they wait to be read, so at full speed there are few of them; small
    reads make as many as a model would that thinks, without the waiting, which is the system's."""
    print(f"The loop on a healthy answer, {CHUNKS:,} chunks, {rounds} rounds, CPU in us\n")
    with serving(CHUNKS) as origin:
        for form, name in FORMS.items():
            usual, path = http1.READ_SIZE, form
            if form == "read":
                http1.READ_SIZE, path = SMALL, "one"
            try:
                asyncio.run(_raced(origin, path, name, rounds))
            finally:
                http1.READ_SIZE = usual


async def _raced(origin: str, form: str, name: str, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_session(origin, form))
        client = session.client
        provider, model = await session.choose()
        box = Candidate(provider, model)

        async def resolve(name: str) -> Candidate:
            return Candidate(session.settings.provider(name), "n")

        watched = Way(client, box, ("spare",), resolve, board=session.board)
        runners = [
            Runner("net.client.stream", lambda: client.stream(provider, REQUEST)),
            Runner("the loop, alone", lambda: Reply(Way(client, box), REQUEST).events()),
            Runner("with substitute and board", lambda: Reply(watched, REQUEST).events()),
        ]
        size, counts = len(text_of(CHUNKS)), []
        for runner in runners:
            await runner.run(size)
        for number in range(rounds):
            for runner in runners if number % 2 else reversed(runners):
                cpu, count = await runner.run(size)
                runner.cpu.append(cpu / CHUNKS)
                counts.append(count)
    print(_shown(f"{name}, {median(counts):,.0f} deltas", runners), end="\n\n", flush=True)


def _shown(name: str, runners: list[Runner]) -> str:
    base = runners[0]
    rows = [[name, "a chunk", "least", "ratio", "of least", "aim"]]
    rows += [
        [
            one.name,
            f"{median(one.cpu) * 1e6:.2f}",
            f"{min(one.cpu) * 1e6:.2f}",
            f"{median(one.cpu) / median(base.cpu):.3f}",
            f"{min(one.cpu) / min(base.cpu):.3f}",
            f"< {LOOP_AIM}" if one is runners[-1] else "",
        ]
        for one in runners
    ]
    return table(rows)
