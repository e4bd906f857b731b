"""What statistics cost: all of them over a year of turns, and what keeping the sums costs a turn.

The store is made as the version before the sums had it (`old`), and opened: that measures the
migration. It holds no messages, for no query here reads one; conversations, turns and attempts are
as a year leaves them: two conversations of three have one turn, the others a few up to hundreds.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, get_args
from unittest.mock import patch

from holychat.core.chat import Finish, Timings, Tried, Turn, Usage
from holychat.core.limits import Limit, Scope, Unit
from holychat.core.tally import Period, grouped, total
from holychat.store import budget, rollup, tally, turns
from holychat.store import db as db_module
from holychat.store.db import Database
from holychat.store.ids import LETTERS
from holychat.store.schema import MIGRATIONS
from tests.bench import table
from tests.bench.store import timed
from tests.bench.stores import BATCH, START, Words

ROUNDS = 7
SIZES = (100_000, 1_000_000)
AIM = 1000  # ms, to open the store and ask everything
APPEND_AIM = 1.30  # times the CPU without the sums
MIGRATION_AIM = 15  # s for a million
YEAR = 365 * 86_400_000
ONE_SHOT = 2 / 3  # of the conversations
MEAN = 10 / 3  # turns of a conversation
PAIRS = (
    ("holysheep", "deepseek-v3.2"),
    ("holysheep", "gpt-4.1"),
    ("holysheep", "claude-sonnet-4.5"),
    ("deepseek", "deepseek-chat"),
    ("local", "qwen-next"),
)
USAGE = Usage(500, 200, 100, 0, cost=1_234_567)
TRIED = Tried("holysheep", "gpt-4.1", Finish.STOP, usage=USAGE, timings=Timings(0.1, 0.2, 3.5))
ANSWER = Turn(
    "An answer of some words, as they come. " * 12,
    "",
    Finish.STOP,
    "holysheep",
    "gpt-4.1",
    USAGE,
    TRIED.timings,
    attempts=(TRIED,),
)
ABOUT: dict[str, Any] = {"provider": "holysheep", "model": "gpt-4.1", "system": "", "params": {}}
MONTH = Period("2020-11-01", "2020-11-30")
LIMITS = [Limit(scope, unit, 10**18) for scope in get_args(Scope) for unit in get_args(Unit)]

QUERIES: dict[str, Callable[[Database, Period], object]] = {
    "by day": lambda db, period: grouped(tally.entries(db, period), "day"),
    "by provider": lambda db, period: grouped(tally.entries(db, period), "provider"),
    "by model": lambda db, period: grouped(tally.entries(db, period), "model"),
    "by hour": tally.hours,
    "by conversation, the top": lambda db, period: tally.top(db, period, [], 20),
    "by conversation, in all": tally.kept,
    "by conversation, without a price": tally.unpriced_of,
    "percentiles": lambda db, period: [
        (each.first.percentiles((0.5, 0.95, 0.99)), each.total.percentiles((0.5, 0.95, 0.99)))
        for each in tally.paces(db, period).values()
    ],
    "to be priced anew": tally.recorded,
}


def main(python: str, rounds: int = ROUNDS) -> None:
    print(f"Statistics as a year of turns grows, {rounds} rounds, wall in ms (median / slowest)\n")
    columns = [grown(count, rounds) for count in SIZES]
    rows = [["turns", *(f"{count:,}" for count in SIZES), "aim"]]
    aims = {"open, and all of it": f"< {AIM}", "append a turn, ratio": f"< {APPEND_AIM:.2f}"}
    aims["migration, s"] = f"< {MIGRATION_AIM}"
    rows += [
        [name, *(column[name] for column in columns), aims.get(name, "")] for name in columns[0]
    ]
    print(table(rows), end="\n\n", flush=True)


def grown(count: int, rounds: int) -> dict[str, str]:
    """The figures of a store with so many turns, which is made and thrown away."""
    with tempfile.TemporaryDirectory(prefix="holychat-bench-") as folder:
        path = str(Path(folder) / "conversations.db")
        old(path, count)
        before = Path(path).stat().st_size
        begin = time.perf_counter()
        Database(path).close()
        seconds = time.perf_counter() - begin
        priced(path)
        figures = measured(path, rounds)
        figures |= append(path, rounds * 30)
        figures["migration, s"] = f"{seconds:.1f}"
        figures["the file, MB; of it the sums"] = sizes(path, before)
    return figures


def sizes(path: str, before: int) -> str:
    after = Path(path).stat().st_size
    return f"{after / 1e6:.0f}; {(after - before) / 1e6:.0f}"


def measured(path: str, rounds: int) -> dict[str, str]:
    def everything() -> None:
        with closing(Database(path)) as db:
            for query in QUERIES.values():
                query(db, Period())

    figures = {"open, and all of it": timed(everything, rounds)}
    figures["open"] = timed(lambda: Database(path).close(), rounds)
    with closing(Database(path)) as db:
        for what, period in (("", Period()), (", of a month", MONTH)):
            for name, query in QUERIES.items():

                def ask(
                    query: Callable[[Database, Period], object] = query, period: Period = period
                ) -> None:
                    query(db, period)

                figures[name + what] = timed(ask, rounds)
        figures["reserve, six limits"] = timed(lambda: reserve(db), rounds)
        assert total(each.tally for each in tally.entries(db, Period())).calls > 0
    return figures


def reserve(db: Database) -> None:
    turn = db.rows("SELECT max(id) FROM turns")[0][0]
    budget.reserve(db, turn, LIMITS, cost=1, tokens=1, at=START + 70 * 86_400_000)


def append(path: str, rounds: int) -> dict[str, str]:
    """A turn begun and closed, CPU, with the sums and without them in turn."""
    counted: dict[bool, list[float]] = {True: [], False: []}
    count = rollup.count
    with closing(Database(path)) as db:
        writer = turns.enlist(db)
        for number in range(rounds * 2):
            with_sums = number % 2 == 0
            with patch.object(rollup, "count", count if with_sums else lambda *_: None):
                begin = time.process_time()
                begun = turns.begin(db, writer, "", f"And then, {number}?", None, **ABOUT)
                turns.close(db, begun, ANSWER)
                counted[with_sums].append(time.process_time() - begin)
    after, before = median(counted[True]) * 1000, median(counted[False]) * 1000
    return {
        "append a turn, CPU": f"{after:.2f}",
        "append a turn, without the sums": f"{before:.2f}",
        "append a turn, ratio": f"{after / before:.2f}",
    }


# --- The material ---------------------------------------------------------------------------------


def old(path: str, count: int) -> None:
    """A store of the version before the sums."""
    with patch.object(db_module, "MIGRATIONS", MIGRATIONS[:2]):
        Database(path).close()
    draw, titles = random.Random(3), Words().english
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        made = 0
        while made < count:
            connection.execute("BEGIN IMMEDIATE")
            until = min(count, made + BATCH)
            while made < until:
                made += _conversation(connection, draw, titles, made, count)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _conversation(
    connection: sqlite3.Connection,
    draw: random.Random,
    titles: list[str],
    made: int,
    count: int,
) -> int:
    """Returns how many turns it has."""
    identity = "".join(draw.choices(LETTERS, k=12))
    many = 1
    if draw.random() > ONE_SHOT:
        many += round(draw.expovariate(1 / ((MEAN - 1) / (1 - ONE_SHOT))))
    many = min(many, count - made)
    at = START + YEAR * made // count
    provider, model = draw.choices(PAIRS, weights=(5, 3, 2, 3, 1))[0]
    connection.execute(
        "INSERT INTO conversations (id, title, created, updated, provider, model, head, messages)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (identity, draw.choice(titles), at, at, provider, model, 1, 2 * many),
    )
    rows = []
    for number in range(many):
        at += draw.randrange(20_000, 600_000) if draw.random() < 0.95 else 50_000_000
        rows.append((made + number + 1, identity, at, *_request(draw, provider, model)))
    connection.executemany(
        "INSERT INTO turns (id, conversation, prompt, answer, started, finish, kind, provider,"
        " model, prompt_tokens, cached_tokens, completion_tokens, first, total)"
        " VALUES (?, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    connection.executemany(
        "INSERT INTO attempts (turn, started, finish, kind, provider, model, prompt_tokens,"
        " cached_tokens, completion_tokens, first, total) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(row[0], *row[2:]) for row in rows],
    )
    return many


def _request(draw: random.Random, provider: str, model: str) -> tuple[Any, ...]:
    if draw.random() < 0.02:
        return ("failed", "server-error", provider, model, None, None, None, None, 0.3)
    prompt, completion = draw.randrange(20, 4000), draw.randrange(10, 900)
    first = draw.lognormvariate(-0.7, 0.5)
    rest = completion / draw.uniform(30, 120)
    cached = prompt // 2 if draw.random() < 0.4 else 0
    return ("stop", "", provider, model, prompt, cached, completion, first, first + rest)


def priced(path: str) -> None:
    """Give nine of ten attempts a cost, and make the sums anew."""
    with closing(Database(path)) as db, db.write():
        db.run(
            "UPDATE attempts SET cost = prompt_tokens * 270000 + completion_tokens * 1100000"
            " WHERE id % 10 > 0"
        )
        for name in ("tally", "pace", "spent"):
            db.run(f"DELETE FROM {name}")
            (fill,) = [
                each for each in MIGRATIONS[2] if each.lstrip().startswith(f"INSERT INTO {name}")
            ]
            db.run(fill)
