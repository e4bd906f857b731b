"""Many processes at one provider: `python -m tests.store.probe` is the long form.

python -m tests.store.probe --processes 4 --rounds 2000

Trials: in each round a provider is half-open, and all ask at the same moment; one may try.
Streams: all ask as quickly as they can for one of two streams, and hold it for a moment.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from holychat.core import breaker, health, pacing
from holychat.core.health import Health
from holychat.store.db import Database
from holychat.store.health import update

STREAMS = 2
HELD = 0.002  # seconds that a stream lasts
_CONTEXT = multiprocessing.get_context("spawn")
_Work = Callable[[Database, int, str, Barrier], list[tuple[float, float]]]


def half_open(path: Path, rounds: int) -> None:
    """Providers that rested long enough, by the number of their round."""
    with closing(Database(str(path))) as db:
        for number in range(rounds):
            now = time.time() - 60
            rests = breaker.Breaker(opened=now, until=now + 30, rest=30, why="a test")
            update(db, str(number), lambda _, rests=rests: (Health(rests), None))  # type: ignore[misc]


def trials(path: Path, processes: int, rounds: int) -> Counter[int]:
    """How many may try, by round."""
    half_open(path, rounds)
    got = _together(_try, path, processes, rounds)
    return Counter(int(number) for number, _ in got)


def streams(path: Path, processes: int, rounds: int) -> tuple[int, int]:
    """(streams, how many of them there were at once at most)."""
    spans = _together(_stream, path, processes, rounds)
    steps = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    most = at_once = 0
    for _, step in steps:
        at_once += step
        most = max(most, at_once)
    return len(spans), most


def _together(work: _Work, path: Path, processes: int, rounds: int) -> list[tuple[float, float]]:
    barrier, said = _CONTEXT.Barrier(processes), _CONTEXT.Queue()
    running = [
        _CONTEXT.Process(target=_run, args=(work, path, rounds, f"w{number}", barrier, said))
        for number in range(processes)
    ]
    for process in running:
        process.start()
    results = [said.get(timeout=600) for _ in running]
    for process in running:
        process.join()
        process.close()
    said.close()
    said.join_thread()
    wrong = [result for result in results if isinstance(result, str)]
    assert not wrong, wrong
    return [one for result in results if not isinstance(result, str) for one in result]


def _run(
    work: _Work,
    path: Path,
    rounds: int,
    who: str,
    barrier: Barrier,
    said: Queue[list[tuple[float, float]] | str],
) -> None:
    try:
        with closing(Database(str(path))) as db:
            said.put(work(db, rounds, who, barrier))
    except Exception as error:  # noqa: BLE001 - whoever waits for us is to know
        barrier.abort()
        said.put(f"{type(error).__name__}: {error}")


def _ask(db: Database, name: str, who: str) -> bool:
    limits = pacing.Limits(streams=STREAMS)

    def change(known: Health) -> tuple[Health, bool]:
        known, said = health.admit(known, who, who, 10, time.time(), breaker.DEFAULT, limits)
        return known, isinstance(said, pacing.Granted)

    return update(db, name, change)


def _try(db: Database, rounds: int, who: str, barrier: Barrier) -> list[tuple[float, float]]:
    won = []
    for number in range(rounds):
        barrier.wait(120)
        if _ask(db, str(number), who):
            won.append((float(number), 0.0))
    return won


def _stream(db: Database, rounds: int, who: str, barrier: Barrier) -> list[tuple[float, float]]:
    spans = []
    barrier.wait(120)
    for _ in range(rounds):
        while not _ask(db, "p", who):
            time.sleep(HELD / 2)
        begin = time.monotonic()
        time.sleep(HELD)
        spans.append((begin, time.monotonic()))
        update(db, "p", lambda known: (health.holds(known, who, 0, time.time()), None))
    return spans


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.store.probe", description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holychat-probe-") as folder:
        begin = time.monotonic()
        tried = trials(Path(folder) / "trials.db", given.processes, given.rounds)
        wrong = given.rounds - sum(count == 1 for count in tried.values())
        print(f"{given.rounds} trials of {given.processes} in {time.monotonic() - begin:.1f} s:")
        print(f"  {wrong} without exactly one who tried")
        begin = time.monotonic()
        count, most = streams(Path(folder) / "streams.db", given.processes, given.rounds)
        print(f"{count} streams in {time.monotonic() - begin:.1f} s: {most} at once, {STREAMS} may")


if __name__ == "__main__":
    main()
