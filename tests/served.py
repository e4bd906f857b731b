"""The scripted server on a thread of its own, for code under test that brings its own loop."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from tests.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def served(**fields: Any) -> Iterator[Provider]:
    """A `Provider` that runs until the block ends; `fields` are set on it first."""
    server = Provider()
    for name, value in fields.items():
        setattr(server, name, value)
    ready, leave = Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        async with server:
            ready.set()
            await leave.wait()

    thread = Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        assert ready.wait(5)
        yield server
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join(5)
        loop.close()
