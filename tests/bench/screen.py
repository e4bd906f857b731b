"""What a token costs on the screen, by the length of the answer and in the worst blocks.

The contestants get the same tokens of four characters, `PER_FRAME` a frame (100 tokens a second at
20 frames), and write to a pipe that is drained: ours, `rich.live.Live` over the whole Markdown as
most clients do it, and plain text. CPU of this process per token, bytes per token and over those
of the whole document drawn once, worst frame; then what memory ours takes.
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import multiprocessing
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

PER_FRAME = 5
ROUNDS = 1
WIDTH, HEIGHT = 80, 24
SAID = 10  # frames between two changes of the foot's words
LIVE_MOST = 10_000  # tokens that Live(Markdown) is given at most: it is quadratic

PARAGRAPH = (
    "The quick **brown** fox jumps over `the` lazy dog and goes on its way, for it has "
    "[somewhere](https://a.example) to be.\n\n- item one with text\n- item two\n\n"
    "```python\ndef f(x):\n    return x + 1  # c\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
)
# Numbered: rows that are all the same hide what it costs to move them.
WORDS = "".join(f"w{n:05} " for n in range(15_000))
EXTREMES = {
    "one line of 48 kB of css": "```css\n" + ".a>b{color:#fff;margin:0 1px}" * 1650 + "\n```\n",
    "12,000 opening brackets": "[" * 12_000,
    "a fence of 5,000 lines": "```python\n"
    + "".join(f"x = f({n}) + 2  # comment\n" for n in range(5000))
    + "```\n",
    "a table of 3,000 rows": "| a | b |\n|---|---|\n"
    + "".join(f"| {n} | two **b** |\n" for n in range(3000))
    + "\nend\n",
    "a paragraph of 100 kB": WORDS,
    "the same in an unclosed **": "**" + WORDS,
    "2,000 bullets": "".join(f"- item {n} here\n" for n in range(2000)),
    "2,000 numbered items": "".join(f"{n}. item text\n" for n in range(1, 2001)),
    "a quote of 2,000 lines": "".join(f"> quoted line {n}\n" for n in range(2000)),
    "an item of 1,000 paragraphs": "- x\n\n"
    + "".join(f"  a paragraph {n} in it\n\n" for n in range(1000)),
}


def mixed(size: int) -> str:
    """Ordinary Markdown of so many tokens."""
    return (PARAGRAPH * (size * 4 // len(PARAGRAPH) + 1))[: size * 4]


def frames(text: str) -> list[str]:
    size = 4 * PER_FRAME
    return [text[at : at + size] for at in range(0, len(text), size)]


@contextlib.contextmanager
def drained() -> Iterator[list[int]]:
    """stdout is a pipe that somebody reads; the list gets the bytes that went through."""
    kept, (reading, writing) = os.dup(1), os.pipe()
    counted: list[int] = []

    def drain() -> None:
        while data := os.read(reading, 1 << 16):
            counted.append(len(data))

    reader = threading.Thread(target=drain)
    reader.start()
    os.dup2(writing, 1)
    os.close(writing)
    try:
        yield counted
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        reader.join()
        os.close(reading)


def ours(parts: list[str]) -> Iterator[None]:
    from holychat.core.blocks import Blocks
    from holychat.core.sanitize import visible
    from holychat.screen import Look
    from holychat.screen.draw import Drawer
    from holychat.screen.live import BUDGET
    from holychat.screen.paint import Painter
    from holychat.screen.panel import Panel

    panel = Panel(Look(color=True), "model")
    blocks, drawer = Blocks(), Drawer(WIDTH)
    painter = Painter(color=True, environ={"TERM": "xterm-256color"})

    for number, text in enumerate(itertools.chain(parts, [""])):
        final = []
        start = time.monotonic()
        pieces = blocks.feed(visible(text)) if text else blocks.finish()
        for line in (line for piece in pieces for line in drawer.draw(piece)):
            final.append(line)
            if time.monotonic() - start > BUDGET:
                painter.frame(final, [])
                final, start = [], time.monotonic()
                yield
        tail = drawer.tail(blocks.tail(), HEIGHT // 3) if text else []
        said = f"≈{number // SAID * SAID * PER_FRAME:,} tok"
        painter.frame(final, [*tail, panel.foot(said, WIDTH)] if text else [])
        yield


def rich_live(parts: list[str]) -> Iterator[None]:
    from rich.console import Console
    from rich.live import Live
    from rich.markdown import Markdown

    out = io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), write_through=True)
    console = Console(file=out, force_terminal=True, width=WIDTH, height=HEIGHT)
    text = ""
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        for part in parts:
            text += part
            live.update(Markdown(text), refresh=True)
            yield
    out.close()


def plain(parts: list[str]) -> Iterator[None]:
    for part in parts:
        os.write(1, part.encode())
        yield


def one_shot(text: str) -> int:
    """Bytes of the whole document drawn once, in the same colours."""
    from rich.console import Console

    from holychat.screen.draw import document

    console = Console(
        width=WIDTH,
        force_terminal=True,
        color_system="256",
        highlight=False,
        legacy_windows=False,
        _environ={},  # a NO_COLOR of whoever measures is not meant
    )
    with console.capture() as drawn:
        console.print(document(text), end="")
    return len(drawn.get().encode())


class Cost(NamedTuple):
    cpu: float  # us a token
    sent: float  # bytes a token
    times: float  # bytes over those of the document drawn once
    worst: float  # ms of CPU of the worst frame


def measure(contestant: Callable[[list[str]], Iterator[None]], text: str) -> Cost:
    parts, count = frames(text), len(text) / 4
    worst = 0.0
    with drained() as counted:
        begin = last = time.thread_time()
        for _ in contestant(parts):
            now = time.thread_time()
            worst, last = max(worst, now - last), now
        spent = time.thread_time() - begin
    sent = sum(counted)
    return Cost(spent / count * 1e6, sent / count, sent / one_shot(text), worst * 1000)


def memory(text: str) -> int:
    """Bytes that ours takes at its peak, beyond the text; for a process of its own.

    Traced, and not the kernel's figure: the pages of an interpreter are too coarse for a text of
    40 kB, and a peak that its start-up left would hide the growth.
    """
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # a reader in this process would take memory too
    for _ in ours(frames(mixed(100))):  # what is loaded once a process
        pass
    parts = frames(text)
    gc.collect()
    tracemalloc.start()
    for _ in ours(parts):
        pass
    return tracemalloc.get_traced_memory()[1]


def apart(text: str) -> int:
    """`memory` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(memory, text).result()


def main(python: str, rounds: int) -> None:
    """Print the tables. `python` and `rounds` are the other benchmarks' business."""
    measure(ours, EXTREMES["2,000 bullets"][:200])
    measure(ours, "```python\nx = 1\n```\n")  # pygments is loaded once a process
    print("\nThe screen, CPU a token of 4 characters in us\n")
    head = f"{'us':>8}{'bytes':>9}{'x one-shot':>12}{'worst ms':>10}"
    print(f"{'':28}{head}")
    for size in (1_000, 10_000, 100_000):
        rows = [("plain text", plain), ("holychat", ours)]
        rows += [("Live(Markdown)", rich_live)] if size <= LIVE_MOST else []
        for name, contestant in rows:
            show(f"{name}, {size:,}", measure(contestant, mixed(size)))
    print()
    for name, text in EXTREMES.items():
        show(name, measure(ours, text))
    print(f"\n{'holychat, memory at its peak':28}{'kB':>8}{'a byte of text':>17}")
    for size in (10_000, 100_000):
        text = mixed(size)
        peak = apart(text)
        print(f"{f'{size:,}':28}{peak / 1000:8.0f}{peak / len(text.encode()):17.2f}", flush=True)


def show(name: str, cost: Cost) -> None:
    print(
        f"{name:28}{cost.cpu:8.1f}{cost.sent:9.1f}{cost.times:12.2f}{cost.worst:10.1f}", flush=True
    )
