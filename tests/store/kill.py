"""kill -9 while the answer streams: `python -m tests.store.kill --rounds 1000`.

Each round is a real `holychat ask` against a server of this process that sends a numbered word
every few milliseconds, without an end, and notes when. All rounds share one store. The process is
killed at a random moment between its exec and two seconds later; then its turn is buried as the
next holychat would, and what is in the store is held against what was sent:

- a prompt whose request reached the server is there (it is committed before the request goes out);
- the text is a beginning of what was sent;
- `tail`: how old the oldest word that is missing was when the process was killed. It holds the
  pace of the journal, the sync of the disk, and the way through the socket and the decoder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from bisect import bisect_right
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from holychat.store import turns
from holychat.store.db import Database
from tests.process import Place
from tests.provider import chunk

PACE = 0.006  # seconds between two words
LONGEST = 2.0  # seconds from exec to the kill
TAIL = 0.3  # seconds of text that may be lost
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Round:
    """One process: what the server sent it and when, and when it was killed."""

    prompt: str
    arrived: bool = False
    words: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    killed: float = 0.0


@dataclass
class Result:
    rounds: int = 0
    arrived: int = 0  # requests that reached the server
    streaming: int = 0  # rounds in which text had been sent
    lost: list[str] = field(default_factory=list)  # prompts that reached it and are not kept
    wrong: list[str] = field(default_factory=list)  # texts that nobody sent
    tails: list[float] = field(default_factory=list)  # seconds, one a round that streamed
    unsound: list[str] = field(default_factory=list)  # what the checks of the file say

    def __str__(self) -> str:
        tails = sorted(self.tails) or [0.0]
        shares = ((name, tails[int(len(tails) * share)]) for name, share in _SHARES)
        late = sum(tail > TAIL for tail in tails)
        return "\n".join(
            (
                f"{self.rounds} kills, {self.arrived} when the request had arrived",
                f"{self.streaming} of them while text came",
                f"prompts lost: {len(self.lost)} {self.lost[:3]}",
                f"texts that are no beginning of what was sent: {len(self.wrong)}",
                f"quick_check and the indexes: {self.unsound or 'ok'}",
                "tail in ms: "
                + ", ".join(f"{name} {tail * 1000:.0f}" for name, tail in shares)
                + f", max {tails[-1] * 1000:.0f}; over {TAIL * 1000:.0f} ms: {late}",
            )
        )


_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


class Server:
    """Sends words to whoever asks, until the reader is gone."""

    def __init__(self) -> None:
        self.rounds: dict[str, Round] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(found[1]) if found else 0)
            one = self.rounds[json.loads(body)["messages"][-1]["content"]]
            one.arrived = True
            writer.write(HEAD)
            while True:
                word = f"w{len(one.words)} "
                data = chunk(word)
                one.times.append(time.monotonic())
                one.words.append(word)
                writer.write(b"%x\r\n%b\r\n" % (len(data), data))
                await writer.drain()
                await asyncio.sleep(PACE)
        writer.close()


async def kill_many(folder: Path, rounds: int, at_once: int, batch: int = 100) -> Result:
    """Run and kill; the file is checked after each batch."""
    place, store, server, result = Place(folder), folder / "s.db", Server(), Result()
    Database(str(store)).close()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    place.provider(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1")
    place.environ["HOLYCHAT_STORE"] = str(store)
    gate = asyncio.Semaphore(at_once)
    for begin in range(0, rounds, batch):
        numbers = range(begin, min(rounds, begin + batch))
        some = [Round(f"round {number}") for number in numbers]
        server.rounds.update((one.prompt, one) for one in some)
        await asyncio.gather(*(_kill_one(place, one, gate) for one in some))
        await asyncio.to_thread(_judge, store, some, result)
    listener.close()
    return result


async def _kill_one(place: Place, one: Round, gate: asyncio.Semaphore) -> None:
    async with gate, place.start("ask", one.prompt) as running:
        await asyncio.sleep(random.uniform(0.05, LONGEST))
        one.killed = time.monotonic()
        running.process.kill()
        await running.process.wait()


def _judge(store: Path, rounds: list[Round], result: Result) -> None:
    with closing(Database(str(store))) as db:
        texts = {orphan.prompt: orphan.text for orphan in turns.bury(db)[0]}
        kept = {row["text"] for row in db.rows("SELECT text FROM messages WHERE role = 'user'")}
        open_ = db.rows("SELECT count(*) AS n FROM turns WHERE writer IS NOT NULL")[0]["n"]
        result.unsound += db.check() + ([f"{open_} turns are open still"] if open_ else [])
    for one in rounds:
        result.rounds += 1
        result.arrived += one.arrived
        if one.arrived and one.prompt not in kept:
            result.lost.append(one.prompt)
        text = texts.get(one.prompt, "")
        if not "".join(one.words).startswith(text):
            result.wrong.append(one.prompt)
            continue
        sent = bisect_right(one.times, one.killed)
        if sent:
            result.streaming += 1
            whole = bisect_right(list(accumulate(map(len, one.words))), len(text))
            result.tails.append(one.killed - one.times[whole] if whole < sent else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.store.kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holychat-kill-") as folder:
        print(asyncio.run(kill_many(Path(folder), given.rounds, given.at_once)))


if __name__ == "__main__":
    main()
