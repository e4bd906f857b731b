"""A race for the first token: a second provider is asked when the first one is late.

Owns the race between two attempts until one of them has a token; the other one is stopped, and
both are told, for both may cost. Must not know why somebody is late, or who is asked: `failover`
does.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from holychat.core.chat import Delta, Failed, Lost
from holychat.core.failure import Failure, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from holychat.core.chat import Event


class Runner:
    """One of the two: its events, of which those before its first token may have to wait."""

    def __init__(self, name: str, model: str, events: AsyncGenerator[Event, None]) -> None:
        self.name = name
        self.model = model
        self.events = events
        self.held: list[Event] = []
        self._coming: asyncio.Task[Event | None] | None = None

    def coming(self) -> asyncio.Task[Event | None]:
        """Its next event, None at the end. Holds the Failure of the attempt."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(self.events, None))
            self._coming.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._coming

    def take(self) -> Event | None:
        """The event that came. Raises its Failure."""
        task, self._coming = self.coming(), None
        return task.result()

    def flush(self) -> list[Event]:
        """What waited."""
        held, self.held = self.held, []
        return held

    async def stop(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait({self._coming})
        await self.events.aclose()


class Race:
    """Two attempts until one of them has a token; then that one alone.

    `second` is begun after `late` seconds; it may find that there is nobody.
    """

    def __init__(
        self, first: Runner, late: float, second: Callable[[], Awaitable[Runner | None]]
    ) -> None:
        self._first = first
        self._late = late
        self._second = second
        self._runners = [first]
        self._winner: Runner | None = None
        self._began = 0.0  # seconds after which the second one did

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of the one that wins, with what became of the other. Raises Failure where
        both failed."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            while self._winner is None:
                runner = await self._coming(start + self._late - loop.time())
                if runner is not None:
                    for event in await self._step(runner):
                        yield event
                    continue
                self._began, self._late = loop.time() - start, math.inf
                if (other := await self._second()) is not None:
                    self._runners.append(other)
            async for event in self._winner.events:
                yield event
        finally:
            for each in self._runners:
                await each.stop()

    async def _coming(self, patience: float) -> Runner | None:
        """Who has an event; None where the first one is late."""
        tasks = {runner.coming(): runner for runner in self._runners}
        timeout = None if math.isinf(patience) else max(0.0, patience)
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return next((runner for task, runner in tasks.items() if task in done), None)

    async def _step(self, runner: Runner) -> list[Event]:
        """One event of a runner, and what follows from it."""
        try:
            event = runner.take()
        except Failure as failure:
            return await self._fell(runner, failure)
        if event is None or _token(event):
            self._winner = runner
            return [*await self._lost(runner), *runner.flush(), *([event] if event else [])]
        if runner is self._runners[0]:
            return [event]
        runner.held.append(event)
        return []

    async def _fell(self, runner: Runner, failure: Failure) -> list[Event]:
        """One failed: the other goes on alone, if there is one."""
        await self._out(runner)
        if not self._runners:
            raise failure
        self._late = math.inf
        if runner is not self._first:
            return [Lost(runner.name, runner.model, self._began, failure)]
        left = self._runners[0]
        return [Failed(runner.name, failure, left.name), *left.flush()]

    async def _lost(self, winner: Runner) -> list[Event]:
        """The other one is stopped, and that is said."""
        for loser in [each for each in self._runners if each is not winner]:
            await self._out(loser)
            if loser is not self._first:
                return [Lost(loser.name, loser.model, self._began)]
            late = Failure(Kind.OUTRUN, f"{loser.name} is late")
            return [Failed(loser.name, late, winner.name)]
        return []

    async def _out(self, runner: Runner) -> None:
        self._runners.remove(runner)
        await runner.stop()


def _token(event: Event) -> bool:
    return isinstance(event, Delta) and event.token
