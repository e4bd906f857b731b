"""Many processes at one store: `python -m tests.store.many` is the long form.

python -m tests.store.many --processes 16 --writes 1000 --races 100
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from holychat.store import turns
from holychat.store.db import Database

_CONTEXT = multiprocessing.get_context("spawn")


def write_at_once(path: Path, processes: int, writes: int) -> list[str]:
    """Each process makes its writes as quickly as it can; what went wrong."""
    return _together(_write, path, processes, writes)


def race(path: Path, processes: int) -> list[str]:
    """All open one file at the same moment and sign in; what went wrong."""
    return _together(_open, path, processes, 1)


def races(folder: Path, processes: int, times: int) -> list[str]:
    """The same with many files, one after the other, without starting processes for each."""
    return _together(_open_each, folder, processes, times)


def _together(
    work: Callable[[Path, int, Barrier], None], path: Path, processes: int, times: int
) -> list[str]:
    barrier, wrong = _CONTEXT.Barrier(processes), _CONTEXT.Queue()
    running = [
        _CONTEXT.Process(target=_run, args=(work, path, times, barrier, wrong))
        for _ in range(processes)
    ]
    for process in running:
        process.start()
    said = [wrong.get(timeout=600) for _ in running]
    for process in running:
        process.join()
        process.close()
    wrong.close()
    wrong.join_thread()
    return [one for one in said if one]


def _run(
    work: Callable[[Path, int, Barrier], None],
    path: Path,
    times: int,
    barrier: Barrier,
    wrong: Queue[str],
) -> None:
    try:
        work(path, times, barrier)
        wrong.put("")
    except Exception as error:  # noqa: BLE001 - all of it is to be counted
        barrier.abort()
        wrong.put(f"{type(error).__name__}: {error}")


def _write(path: Path, times: int, barrier: Barrier) -> None:
    with closing(Database(str(path))) as db:
        writer = turns.enlist(db)
        about = {"provider": "p", "model": "m", "system": "", "params": {}}
        barrier.wait(120)
        conversation, parent = "", None
        for number in range(times):
            begun = turns.begin(db, writer, conversation, f"word {number}", parent, **about)
            conversation, parent = begun.conversation, begun.prompt


def _open(path: Path, _: int, barrier: Barrier) -> None:
    barrier.wait(120)
    with closing(Database(str(path))) as db:
        turns.enlist(db)


def _open_each(folder: Path, times: int, barrier: Barrier) -> None:
    for number in range(times):
        _open(folder / f"{number}.db", 1, barrier)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.store.many", description=__doc__)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--writes", type=int, default=1000)
    parser.add_argument("--races", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holychat-many-") as folder:
        root = Path(folder)
        begin = time.monotonic()
        wrong = write_at_once(root / "s.db", given.processes, given.writes)
        seconds = time.monotonic() - begin
        with closing(Database(str(root / "s.db"))) as db:
            found = db.rows("SELECT count(*) AS n FROM messages")[0]["n"]
            checked = db.check()
        lost = given.processes * given.writes - found
        print(f"{given.processes} x {given.writes} writes in {seconds:.1f} s: {lost} lost,")
        print(f"  {len(wrong)} processes in trouble {wrong[:3]}, check: {checked or 'ok'}")

        (root / "races").mkdir()
        begin = time.monotonic()
        wrong = races(root / "races", given.processes, given.races)
        aside = len(list((root / "races").glob("*damaged*")))
        seconds = time.monotonic() - begin
        print(f"{given.races} first runs of {given.processes} at once in {seconds:.1f} s:")
        print(f"  {len(wrong)} failures {wrong[:3]}, {aside} files put aside")


if __name__ == "__main__":
    main()
