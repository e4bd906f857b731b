"""Waits in the chat on a real pty: what is counted down, and the key that ends it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.commands.test_repl import PROMPT
from tests.process import Place
from tests.provider import Cut, Provider, Wait, answer, chunk, error, on_loop
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NEXT = "\x0e"  # Ctrl-N


@asynccontextmanager
async def chatting(
    root: Path, own: str = "", failover: str = 'providers = "spare"'
) -> AsyncIterator[tuple[Terminal, Provider, Provider]]:
    """A chat with `box`, for which `spare` stands in."""
    place = Place(root)
    async with Provider() as box, Provider() as spare:
        place.config(
            f'provider = "box"\n[failover]\n{failover}\n'
            f'[providers.box]\nbase_url = "{box.base_url}"\nmodel = "m"\nneeds_key = false\n{own}\n'
            f'[providers.spare]\nbase_url = "{spare.base_url}"\nmodel = "n"\nneeds_key = false\n'
        )
        async with Terminal(home=place.home) as term:
            await term.until(PROMPT)
            yield term, box, spare


@on_loop
async def test_a_wait_counts_down_and_its_key_asks_the_next(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (term, box, spare):
        box.script(*error(429, **{"retry-after": "4.5"}))
        spare.script(*answer("from the spare"))
        term.type("hello\r")
        await term.until("box again in 4.")
        await term.until("box again in 3.")
        assert "Ctrl-N asks spare" in term.text()
        term.type(NEXT)
        await term.until("from the spare")
        await term.until("via spare after box 429, handed-on")
        assert len(box.requests) == 1


@on_loop
async def test_a_place_in_line_is_one_row_that_counts_down(tmp_path: Path) -> None:
    # Of a minute that has one request the next has to wait for most; nobody else may be asked.
    failover = 'providers = "none"\nwait = 100'
    async with chatting(tmp_path, "requests_per_minute = 1", failover) as (term, box, _):
        box.script(*answer("first"))
        term.type("one\r")
        await term.until("7 out")
        await term.until(PROMPT, times=2)
        term.type("two\r")
        await term.until("number 1 in line for box, about 5[4-9]")
        await term.until("number 1 in line for box, about 5[0-3]")
        assert term.text().count("in line") == 1
        term.type("\x03")
        await term.until("stopped")
        assert "in line" not in term.text()
        assert len(box.requests) == 1


@on_loop
async def test_a_wait_in_mid_answer_is_counted_down_in_the_foot(tmp_path: Path) -> None:
    failover = 'providers = "none"\nattempts = 3'
    async with chatting(tmp_path, "", failover) as (term, box, _):
        words = [chunk(f"word{number} ") for number in range(40)]
        box.script(*words[:20], Wait(0.2), Cut())
        box.script(*error(429, **{"retry-after": "4"}))
        box.script(*words[20:], chunk(finish="stop"))
        term.type("hello\r")
        await term.until("broke off, box goes on in 3 s")
        await term.until("broke off, box goes on in 2 s")
        assert "word19" in term.text()
        await term.until("via box after|after box")
        assert "word39" in term.text()
        text, _, _ = term.text().partition("after box")  # the notes below quote it
        assert text.count("word19") == 1
