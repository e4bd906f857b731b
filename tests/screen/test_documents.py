"""Answers as people get them, through the real thing: a provider, a process, a pty, an emulator.

What stands in the scrollback is what `document` draws, row by row, at any width and however the
text came; and a window that is resized while an answer comes loses and doubles nothing of it.
"""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from holychat.screen.draw import document
from tests.provider import DONE, Provider, Wait, chunk, on_loop, usage
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.provider import Step

FILES = sorted((Path(__file__).parents[1] / "data" / "documents").glob("*.md"))
SIZES = [(80, 24), (120, 40), (40, 20)]
TITLE = "deepseek-chat · holysheep"
FOOT = re.compile(r"─* ?.*\bfirst \d.* ─")
PROMPT = re.compile(r"› ?|deepseek-chat on holysheep +[\d,]+ tok( +\S.*)?")  # and the line below it
# The foot, and then a prompt that reads: it turns bracketed paste on.
READY = re.compile(" in · 7 out · .*first .*\x1b\\[\\?2004h".encode(), re.DOTALL)

# rich counts a cluster of emoji as one picture of two cells, the emulator (with half of the
# terminals in use) as its parts; so a row may be too long for the emulator, which then wraps it.
PICTURES = {"13-emoji"}


def long_document() -> str:
    """About 120 kB, of the others; without those that leave something open for all that follows."""
    chance = random.Random(120)
    open_ended = {"19-unclosed-fence"}
    sources = [f.read_text() for f in FILES if f.stem not in open_ended | PICTURES]
    parts: list[str] = []
    while sum(len(part.encode()) for part in parts) < 117_000:
        parts.append(chance.choice(sources))
    return "\n\n".join(parts)


def documents() -> dict[str, str]:
    return {**{file.stem: file.read_text() for file in FILES}, "long": long_document()}


def whole(source: str, width: int) -> list[str]:
    """The rows of `document`."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as drawn:
        console.print(document(source), end="")
    return drawn.get().split("\n")[:-1]


def streamed(source: str, chance: random.Random, most: int) -> list[Step]:
    """The answer in chunks of random sizes, some of them late enough for a frame between them."""
    steps: list[Step] = []
    at = 0
    while at < len(source):
        size = chance.randrange(1, most)
        steps.append(chunk(source[at : at + size]))
        if chance.random() < 0.05 and len(source) < 20_000:
            steps.append(Wait(0.03))
        at += size
    return [*steps, chunk(finish="stop"), usage(), DONE]


def to(server: Provider) -> dict[str, str]:
    return {"HOLYSHEEP_BASE_URL": server.base_url, "HOLYSHEEP_API_KEY": "hs-test-0123456789abcdef"}


def panel(rows: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands between the last title and its foot, and what stands below the foot."""
    title = max(at for at, row in enumerate(rows) if TITLE in row and row.startswith("─"))
    feet = [at for at, row in enumerate(rows) if at > title and FOOT.fullmatch(row)]
    assert len(feet) == 1, rows[title:]
    return list(rows[title + 1 : feet[0]]), list(rows[feet[0] + 1 :])


def difference(name: str, rows: list[str], wanted: list[str]) -> str:
    """Empty, or the first row that is not what it should be."""
    if rows == wanted:
        return ""
    for at, (row, other) in enumerate(zip(rows, wanted, strict=False)):
        if row != other:
            return f"{name}, row {at}:\n  {row!r} stands where\n  {other!r} should"
    return (
        f"{name}: {len(rows)} rows for {len(wanted)}: {rows[len(wanted) :] or wanted[len(rows) :]}"
    )


@pytest.mark.parametrize(("columns", "lines"), SIZES)
@on_loop
async def test_every_document_comes_as_it_is_drawn_at_once(
    tmp_path: Path, columns: int, lines: int
) -> None:
    chance = random.Random(columns)
    wrong = []
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=columns, lines=lines, environ=to(server)) as term,
    ):
        await term.until("›")
        for name, source in documents().items():
            server.script(*streamed(source, chance, 3000 if len(source) > 20_000 else 90))
            term.screen.history.top.clear()
            term.type("x\r")
            start = len(term.raw)
            async with asyncio.timeout(20):
                while not READY.search(term.raw, start):
                    await asyncio.sleep(0.005)
            got = term.screen.joined() if name in PICTURES else term.screen.written()
            rows, below = panel(got)
            wrong.append(difference(name, rows, whole(source, columns)))
            left = [row for row in below if row and not PROMPT.fullmatch(row)]
            wrong += [f"{name}: {row!r} below the foot" for row in left]
            if ended := [row for row in rows if row.endswith(" ")]:
                wrong.append(f"{name}: blanks at the end of {ended[0]!r}")
    assert not any(wrong), "\n".join(filter(None, wrong))


# --- Windows that are resized while an answer comes -----------------------------------------


def numbered(count: int) -> str:
    """Paragraphs, lists and code of words that are told from each other: `w0001 w0002`."""
    words = iter([f"w{number:04}" for number in range(count)])
    parts: list[str] = []
    turn = 0

    def some(most: int) -> str:
        return " ".join(word for word, _ in zip(words, range(most), strict=False))

    while text := some(60):
        parts.append(text)
        if turn % 2:
            parts.append("\n".join(f"- {item}" for _ in range(12) if (item := some(4))))
        else:  # short enough for the narrowest window: code is broken anywhere
            lines = "\n".join(f"{line} = 1" for _ in range(15) if (line := some(1)))
            parts.append(f"```python\n{lines}\n```")
        turn += 1
    return "\n\n".join(parts)


async def storm(home: Path, seed: int, *, reflows: bool) -> list[str]:
    """What is wrong after an answer that came while the window was resized at random moments."""
    chance = random.Random(seed)
    source = numbered(2000)
    wanted = re.findall(r"w\d{4}", source)
    steps: list[Step] = []
    for at in range(0, len(source), 90):
        steps += [chunk(source[at : at + 90]), Wait(0.03)]
    async with (
        Provider() as server,
        Terminal(
            "ask", "x", home=home, columns=80, lines=24, environ=to(server), reflows=reflows
        ) as term,
    ):
        server.script(*steps, chunk(finish="stop"), usage(), DONE)
        await term.until_raw(TITLE.encode())
        for _ in range(chance.randrange(6, 10)):
            await asyncio.sleep(0.3 * chance.random())
            # Just behind a frame, see calm_after.
            await term.until_raw(rb"\x1b\[\?2026l", since=len(term.raw))
            for _ in range(chance.randrange(1, 4)):
                term.resize(chance.randrange(20, 121), chance.randrange(5, 51))
                await asyncio.sleep(0.004 * chance.random())
        await asyncio.sleep(0.1)
        term.resize(80, 24)  # wide enough for the foot
        code = await term.end()
    lines = term.screen.joined()
    text = "\n".join(lines)
    came = re.findall(r"w\d{4}", text)
    wrong = [f"exit code {code}"] if code else []
    if came != wanted:
        lost, twice = sorted({*wanted} - {*came}), sorted({w for w in came if came.count(w) > 1})
        order = "" if lost or twice else ", in another order"
        wrong.append(
            f"{len(lost)} words lost {lost[:3]}, {len(twice)} more than once {twice[:3]}{order}"
        )
    titles = [line for line in lines if line.startswith("─ deepseek")]
    feet = [line for line in lines if FOOT.fullmatch(line)]
    if len(titles) != 1:
        wrong.append(f"titles {titles}")
    if len(feet) != 1 or lines[-1:] != feet:
        wrong.append(f"feet {feet}, and the last row is {lines[-1:]}")
    if left := [line for line in lines if re.fullmatch("─+", line) or "waiting" in line]:
        wrong.append(f"of a tail: {left}")
    return [f"storm {seed}: {what}" for what in wrong]


async def calm_after(home: Path, seed: int, *, reflows: bool) -> list[str]:
    """The storm again, at most twice, where something was wrong: a frame that is written in the
    very moment of a resize was made for a window that is no more, and no program can know it."""
    for _ in range(3):
        if not (wrong := await storm(home, seed, reflows=reflows)):
            return []
    return wrong


@pytest.mark.parametrize("reflows", [False, True])
@on_loop
async def test_resizing_loses_and_doubles_nothing(tmp_path: Path, reflows: bool) -> None:
    seeds = range(6)
    wrong = await asyncio.gather(*(calm_after(tmp_path, seed, reflows=reflows) for seed in seeds))
    assert not any(wrong), "\n".join(what for storm_ in wrong for what in storm_)
