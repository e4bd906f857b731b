"""What the store costs: as it grows to a million messages, and while an answer streams."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from holychat.core.chat import Finish, Timings, Turn, Usage
from holychat.core.history import Filter
from holychat.store import conversations, turns
from holychat.store.db import Database
from holychat.store.search import search
from tests.bench import Contestant, home, race, serving, table
from tests.bench.stores import (
    FRAGMENT,
    FREQUENT,
    HAN,
    HAN_FREQUENT,
    RARE,
    START,
    fill,
)

ROUNDS = 15
SIZES = (10_000, 100_000, 1_000_000)
CHUNKS = 10_000
LIST_AIM = RESUME_AIM = 50  # ms
SEARCH_AIM = 100  # ms
JOURNAL_AIM = 1.10  # times the CPU without a store
ANSWER = Turn(
    "An answer of some words, as they come. " * 12,
    "",
    Finish.STOP,
    "box",
    "gpt-large",
    Usage(500, 200),
    Timings(0.1, 0.2, 3.5),
)
ABOUT: dict[str, Any] = {"provider": "box", "model": "gpt-large", "system": "", "params": {}}

# What is searched, and the aim in ms.
SEARCHES: dict[str, tuple[str, Filter | None]] = {
    "search, a rare word": (RARE, None),
    "search, a frequent word": (FREQUENT, None),
    "search, two frequent words": (f"{FREQUENT} that", None),
    "search, three letters of a word": ("ban", None),
    "search, a fragment of code": (FRAGMENT, None),
    "search, two characters, rare": (HAN, None),
    "search, two characters, frequent": (HAN_FREQUENT, None),
    "search, no such word": ("xyzzyx", None),
    "search, frequent, of the oldest 500": (
        FREQUENT,
        Filter(until=START + 500 * 3_600_000),
    ),
}


def main(python: str, rounds: int = ROUNDS) -> None:
    print(f"The store as it grows, {rounds} rounds, wall in ms (median / slowest)\n")
    columns = [grown(messages, rounds) for messages in SIZES]
    rows = [["messages", *(f"{messages:,}" for messages in SIZES), "aim"]]
    rows += [[name, *(column[name] for column in columns), _aim(name)] for name in columns[0]]
    print(table(rows), end="\n\n", flush=True)
    journal(python, rounds)


def _aim(name: str) -> str:
    aims = {"list": LIST_AIM, "resume": RESUME_AIM, "search": SEARCH_AIM}
    found = [f"< {aim}" for start, aim in aims.items() if name.startswith(start)]
    return found[0] if found else ""


def grown(messages: int, rounds: int) -> dict[str, str]:
    """The figures of a store with so many messages, which is made and thrown away."""
    with tempfile.TemporaryDirectory(prefix="holychat-bench-") as folder:
        path = str(Path(folder) / "conversations.db")
        begin = time.perf_counter()
        fill(path, messages)
        seconds = time.perf_counter() - begin
        figures = measured(path, rounds)
        figures["the file, MB"] = f"{Path(path).stat().st_size / 1e6:.0f}"
        figures["made in s"] = f"{seconds:.0f}"
    return figures


def measured(path: str, rounds: int) -> dict[str, str]:
    figures = {"open": timed(lambda: Database(path).close(), rounds)}
    with closing(Database(path)) as db:
        some = conversations.listing(db, most=1000)[500]
        figures["list, first 50"] = timed(lambda: conversations.listing(db, most=50), rounds)

        def resume() -> None:
            conversations.branch(db, conversations.find(db, some.id[:6]))

        figures["resume by 6 letters of the id"] = timed(resume, rounds)
        for name, (query, narrowed) in SEARCHES.items():

            def look(query: str = query, narrowed: Filter | None = narrowed) -> None:
                search(db, query, narrowed)

            figures[name] = timed(look, rounds)
        writer = turns.enlist(db)

        def append() -> None:
            prompt = f"And then, {time.perf_counter_ns()}?"
            turns.close(db, turns.begin(db, writer, some.id, prompt, some.head, **ABOUT), ANSWER)

        figures["append a turn (begin and close)"] = timed(append, rounds * 4)
        # The wall time is the disk's, which syncs twice.
        figures["append a turn, CPU"] = timed(append, rounds * 4, time.process_time)
    return figures


def timed(
    work: Callable[[], object], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> str:
    """Milliseconds, after one time that warms the caches."""
    work()
    times = []
    for _ in range(rounds):
        begin = clock()
        work()
        times.append((clock() - begin) * 1000)
    return f"{median(times):.1f} / {max(times):.1f}"


def journal(python: str, rounds: int) -> None:
    """A long answer at full speed through a pipe, kept and not kept."""
    script = str(Path(python).with_name("holychat"))
    contestants = [
        Contestant("holychat ask --no-store", [script, "ask", "--no-store", "hi"]),
        Contestant("holychat ask", [script, "ask", "hi"]),
    ]
    print(f"The journal, {CHUNKS:,} chunks, {rounds} rounds, CPU of a process in ms (median)\n")
    with serving(CHUNKS) as origin, home(f"{origin}/one/v1") as (env, folder):
        race(contestants, rounds, env, folder)
        kept = subprocess.run(
            [script, "history", "list"], env=env, capture_output=True, text=True, check=False
        )
        if kept.returncode == 0 and not kept.stdout.strip():
            raise RuntimeError("nothing was kept")
    base = contestants[0]
    rows = [["", "CPU", "least", "ratio", "wall", "aim"]]
    rows += [
        [
            one.name,
            f"{one.cpu() * 1000:.1f}",
            f"{one.least_cpu() * 1000:.1f}",
            f"{one.cpu() / base.cpu():.3f}",
            f"{one.wall() * 1000:.1f}",
            "" if one is base else f"< {JOURNAL_AIM:.2f}",
        ]
        for one in contestants
    ]
    print(table(rows), end="\n\n")
