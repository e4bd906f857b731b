"""Many processes with one budget: `python -m tests.store.spend` is the long form.

python -m tests.store.spend --processes 8 --times 500

All reserve as quickly as they can, of one day's limits in money and in tokens, and then use at most
what they reserved, or nothing. After each reservation each looks at what is used and reserved of
the limits; and at the end no more may be used than the limits say, nor room be left for another.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

from holychat.core.chat import Finish, Tried, Turn, Usage
from holychat.core.limits import Limit, Spent
from holychat.store import budget, tally, turns
from holychat.store.db import Database
from tests.store.many import _together

AT = 1_790_000_000_000  # the day that all of them spend on
LEAST, MOST = 50, 400  # of one reservation, in money and in tokens
ABOUT: dict[str, Any] = {"provider": "p", "model": "m", "system": "", "params": {}, "at": AT}


class Outcome(NamedTuple):
    wrong: list[str]
    limits: tuple[Limit, Limit]
    spent: Spent
    refused: int
    granted: int


def spend(path: Path, processes: int, times: int) -> Outcome:
    """Let them; the limits are half of what all of them want."""
    with closing(Database(str(path))) as db, db.write():
        most = processes * times * (LEAST + MOST) // 4
        db.run("INSERT INTO facts VALUES ('limits', ?)", (str(most),))
    wrong = _together(_spend, path, processes, times)
    with closing(Database(str(path))) as db:
        limits = _limits(db)
        used = tally.spent(db, day=tally.days(db, AT))
        rows = db.rows("SELECT finish, count(*) AS n FROM turns GROUP BY finish")
        ended = {row["finish"]: row["n"] for row in rows}
    return Outcome(wrong, limits, used, ended.get("failed", 0), ended.get("stop", 0))


def _limits(db: Database) -> tuple[Limit, Limit]:
    most = int(db.rows("SELECT value FROM facts WHERE name = 'limits'")[0]["value"])
    return Limit("day", "cost", most), Limit("day", "tokens", most)


def _spend(path: Path, times: int, barrier: Barrier) -> None:
    with closing(Database(str(path))) as db:
        limits, writer, draw = _limits(db), turns.enlist(db), random.Random()
        day = tally.days(db, AT)
        barrier.wait(120)
        held: list[tuple[turns.Begun, int]] = []
        for number in range(times):
            begun = turns.begin(db, writer, "", f"word {number}", None, **ABOUT)
            asked = draw.randint(LEAST, MOST)
            verdict = budget.reserve(db, begun.turn, limits, cost=asked, tokens=asked, at=AT)
            _look(tally.spent(db, day=day), limits)
            if verdict.refusing is not None:
                turns.close(db, begun, Turn("", "", Finish.FAILED, "p", "m"), at=AT)
                continue
            held.append((begun, asked))
            if len(held) > 3:  # several are open at a time
                _use(db, *held.pop(0), draw)
        for begun, asked in held:
            _use(db, begun, asked, draw)
        # What is left is used up, by whoever comes first.
        while _last(db, writer, limits):
            pass


def _use(db: Database, begun: turns.Begun, asked: int, draw: random.Random) -> None:
    _close(db, begun, draw.choice((0, draw.randint(0, asked), asked)))


def _close(db: Database, begun: turns.Begun, used: int) -> None:
    usage = Usage(used, 0, cost=used)
    attempts = (Tried("p", "m", Finish.STOP, usage=usage),)
    turns.close(db, begun, Turn("a", "", Finish.STOP, "p", "m", usage, attempts=attempts), at=AT)


def _last(db: Database, writer: str, limits: tuple[Limit, Limit]) -> bool:
    begun = turns.begin(db, writer, "", "the rest", None, **ABOUT)
    verdict = budget.reserve(db, begun.turn, limits, cost=MOST, tokens=MOST, at=AT)
    if verdict.refusing is None:
        _close(db, begun, MOST)
    else:
        turns.close(db, begun, Turn("", "", Finish.FAILED, "p", "m"), at=AT)
    return verdict.refusing is None


def _look(used: Spent, limits: tuple[Limit, Limit]) -> None:
    money, tokens = limits
    assert used.cost + used.reserved <= money.most, (used, limits)
    assert used.tokens + used.reserved_tokens <= tokens.most, (used, limits)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.store.spend", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--times", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holychat-spend-") as folder:
        begin = time.monotonic()
        found = spend(Path(folder) / "s.db", given.processes, given.times)
        seconds = time.monotonic() - begin
    print(f"{given.processes} x {given.times} reservations in {seconds:.1f} s:")
    print(f"  {found.granted} granted, {found.refused} refused, {len(found.wrong)} in trouble")
    print(f"  {found.wrong[:3]}")
    print(f"  {found.spent.cost} spent of {found.limits[0].most}")


if __name__ == "__main__":
    main()
