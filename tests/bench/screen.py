"""What a token costs on the screen, by the length of the answer and in the worst blocks.

The contestants get the same tokens of four characters, `PER_FRAME` a frame (100 tokens a second at
20 frames), and write to a pipe that is drained: ours, `rich.live.Live` over the whole Markdown as
most clients do it, and plain text. CPU of this process per token, bytes per token, worst frame.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator

PER_FRAME = 5
ROUNDS = 1
WIDTH, HEIGHT = 80, 24
LIVE_MOST = 10_000  # tokens that Live(Markdown) is given at most: it is quadratic

PARAGRAPH = (
    "The quick **brown** fox jumps over `the` lazy dog and goes on its way, for it has "
    "[somewhere](https://a.example) to be.\n\n- item one with text\n- item two\n\n"
    "```python\ndef f(x):\n    return x + 1  # c\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
)
EXTREMES = {
    "a fence of 5,000 lines": "```python\n" + "x = f(1) + 2  # comment\n" * 5000 + "```\n",
    "a table of 3,000 rows": "| a | b |\n|---|---|\n" + "| one | two **b** |\n" * 3000 + "\nend\n",
    "a paragraph of 100 kB": "word " * 20_000,
    "the same in an unclosed **": "**" + "word " * 20_000,
    "2,000 bullets": "- item text here\n" * 2000,
    "2,000 numbered items": "".join(f"{n}. item text\n" for n in range(1, 2001)),
    "a quote of 2,000 lines": "> quoted line here\n" * 2000,
    "an item of 1,000 paragraphs": "- x\n\n" + "  a paragraph in it\n\n" * 1000,
}


def tokens(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


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
    from holychat.screen.draw import Drawer
    from holychat.screen.live import BUDGET
    from holychat.screen.paint import Painter

    blocks, drawer = Blocks(), Drawer(WIDTH)
    painter = Painter(color=True, environ={"TERM": "xterm-256color"})

    for text in [*parts, ""]:
        final = []
        start = time.monotonic()
        pieces = blocks.feed(visible(text)) if text else blocks.finish()
        for line in (line for piece in pieces for line in drawer.draw(piece)):
            final.append(line)
            if time.monotonic() - start > BUDGET:
                painter.frame(final, [])
                final, start = [], time.monotonic()
                yield
        painter.frame(final, drawer.tail(blocks.tail(), HEIGHT // 2) if text else [])
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


def measure(contestant: Callable[[list[str]], Iterator[None]], text: str) -> tuple[float, ...]:
    """(us of CPU a token, bytes a token, worst frame in ms of CPU)."""
    all_tokens = tokens(text)
    parts = [
        "".join(all_tokens[at : at + PER_FRAME]) for at in range(0, len(all_tokens), PER_FRAME)
    ]
    worst = 0.0
    with drained() as counted:
        begin = last = time.thread_time()
        for _ in contestant(parts):
            now = time.thread_time()
            worst, last = max(worst, now - last), now
        spent = time.thread_time() - begin
    return spent / len(all_tokens) * 1e6, sum(counted) / len(all_tokens), worst * 1000


def main(python: str, rounds: int) -> None:
    """Print both tables. `python` and `rounds` are the other benchmarks' business."""
    measure(ours, EXTREMES["2,000 bullets"][:200])
    measure(ours, "```python\nx = 1\n```\n")  # pygments is loaded once a process
    print("\nThe screen, CPU a token of 4 characters in us\n")
    print(f"{'':28}{'us':>8}{'bytes':>8}{'worst ms':>10}")
    for size in (1_000, 10_000, 100_000):
        text = PARAGRAPH * (size * 4 // len(PARAGRAPH) + 1)
        rows = [("plain text", plain), ("holychat", ours)]
        rows += [("Live(Markdown)", rich_live)] if size <= LIVE_MOST else []
        for name, contestant in rows:
            us, sent, worst = measure(contestant, text[: size * 4])
            print(f"{name + f', {size:,}':28}{us:8.1f}{sent:8.1f}{worst:10.1f}")
    print()
    for name, text in EXTREMES.items():
        us, sent, worst = measure(ours, text)
        print(f"{name:28}{us:8.1f}{sent:8.1f}{worst:10.1f}")
