"""What the relay tells whoever runs it: one line for each request, and one that lives.

Owns stderr while the relay runs. Must not show a token, a body, or anything of an address behind
its `?`.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 0.5  # seconds between two looks of the live line
CLEAR = b"\r\x1b[K"


class Status:
    """Figures of one process. `cost` is in 10^-12 dollars, `pieces` what went out to clients."""

    def __init__(
        self, cash: Callable[[int | None], str], *, quiet: bool = False, live: bool = False
    ) -> None:
        self.streams = 0
        self.requests = 0
        self.pieces = 0
        self.cost = 0
        self._cash = cash
        self._quiet = quiet
        self._live = live
        self._shown = False

    def request(
        self, method: str, path: str, status: int, size: int, began: float, more: str = ""
    ) -> None:
        """A request is over."""
        self.requests += 1
        if self._quiet:
            return
        took = (time.monotonic() - began) * 1000
        at = time.strftime("%Y-%m-%dT%H:%M:%S")
        shown = one_line(path, 200)
        self._write(f"{at} {method} {shown} {status} {size}B {took:.0f}ms {more}".rstrip())

    def say(self, text: str) -> None:
        """A line that is no request's."""
        self._write(f"holychat: {text}")

    def _write(self, line: str) -> None:
        self._wipe()
        env.err(line)

    def _wipe(self) -> None:
        if self._shown:
            self._shown = False
            _raw(CLEAR)

    async def run(self) -> None:
        """Keep the live line up to date, on a terminal."""
        if not self._live:
            return
        before, at = self.pieces, time.monotonic()
        try:
            while True:
                await asyncio.sleep(EVERY)
                now = time.monotonic()
                rate = (self.pieces - before) / (now - at)
                before, at = self.pieces, now
                line = f"{self.streams} open · {rate:.0f} pieces/s · {self._cash(self.cost)}"
                _raw(CLEAR + f"· {line}"[: env.width() - 1].encode())
                self._shown = True
        finally:
            self._wipe()


def lively() -> bool:
    """Whether a line can live on stderr."""
    return env.is_terminal(env.STDERR) and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _raw(data: bytes) -> None:
    with suppress(env.ReaderLeft, env.OutputFailed):
        env.write(data, env.STDERR)
