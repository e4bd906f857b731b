"""What the relay tells whoever runs it: one line for each request, and one that lives.

Owns stderr while the relay runs, and the figures of its processes, which are in memory that they
share. Must not show a token, a body, or anything of an address behind its `?`.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.sanitize import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 0.5  # seconds between two looks of the live line
MINUTE = 60.0  # seconds in which the same trouble is told once
CLEAR = b"\r\x1b[K"
NAMES = ("streams", "requests", "pieces", "cost", "unpriced")
_BIGGEST = (1 << 63) - 1


class Sums:
    """The figures of all processes, a row for each; to be made before they are forked."""

    def __init__(self, rows: int = 1) -> None:
        self._cells = memoryview(mmap.mmap(-1, rows * len(NAMES) * 8)).cast("q")

    def row(self, number: int) -> memoryview:
        return self._cells[number * len(NAMES) : (number + 1) * len(NAMES)]

    def of(self, name: str) -> int:
        return sum(self._cells[NAMES.index(name) :: len(NAMES)])


class _Figure:
    """A cell of a process's row, as an attribute."""

    def __init__(self, name: str) -> None:
        self._at = NAMES.index(name)

    def __get__(self, status: Status, _: type | None = None) -> int:
        found: int = status.row[self._at]
        return found

    def __set__(self, status: Status, value: int) -> None:
        status.row[self._at] = min(value, _BIGGEST)


class Status:
    """Figures of one process. `cost` is in 10^-12 dollars, `unpriced` counts the answers of which
    all or a part is not in it, `pieces` is what went out to clients.

    `live`: it keeps a line alive; `beside`: another process does, at the same terminal.
    """

    streams = _Figure("streams")
    requests = _Figure("requests")
    pieces = _Figure("pieces")
    cost = _Figure("cost")
    unpriced = _Figure("unpriced")

    def __init__(
        self,
        cash: Callable[[int | None], str],
        sums: Sums | None = None,
        number: int = 0,
        *,
        quiet: bool = False,
        live: bool = False,
        beside: bool = False,
    ) -> None:
        self.sums = sums or Sums()
        self.row = self.sums.row(number)
        self.streams = 0  # of one that died in this place they have ended too
        self._cash = cash
        self._quiet = quiet
        self._live = live
        self._beside = beside
        self._shown = False
        self._looked = self.sums.of("pieces"), time.monotonic()
        self._told: dict[str, float] = {}

    # --- Lines ----------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, status: int, size: int, began: float, more: str = ""
    ) -> None:
        """A request is over; `status` 0: nothing went out before the client left."""
        self.requests += 1
        if self._quiet:
            return
        took = (time.monotonic() - began) * 1000
        shown, said = one_line(path, 200), one_line(more, 400)
        self._write(f"{method} {shown} {status or 'left'} {size}B {took:.0f}ms {said}".rstrip())

    def say(self, text: str) -> None:
        """A line that is no request's."""
        self._write(f"holychat: {text}")

    def rarely(self, text: str, about: str = "") -> None:
        """The same, once a minute at most for what it is about."""
        now, about = time.monotonic(), about or text
        told = self._told.get(about)
        if told is None or now >= told + MINUTE:
            self._told = {**self._told, about: now} if len(self._told) < 100 else {about: now}
            self.say(text)

    def _write(self, line: str) -> None:
        """In one piece: other processes may write here too."""
        clear = CLEAR if self._shown or self._beside else b""
        self._shown = False
        at = time.strftime("%Y-%m-%dT%H:%M:%S")
        _raw(clear + visible(f"{at} {line}\n").encode("utf-8", "replace"))

    # --- The live line --------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the live line up to date, on a terminal."""
        try:
            while self._live:
                await asyncio.sleep(EVERY)
                self.look()
        finally:
            self.wipe()

    def look(self) -> None:
        """Show how it stands now, where there is a live line and it is time for it."""
        before, at = self._looked
        now = time.monotonic()
        if not self._live or now < at + EVERY * 0.9:
            return
        pieces = self.sums.of("pieces")
        self._looked = pieces, now
        rate = (pieces - before) / (now - at)
        line = f"· {self.sums.of('streams')} open · {rate:.0f} pieces/s · {self._paid()}"
        _raw(CLEAR + line[: env.width() - 1].encode())
        self._shown = True

    def wipe(self) -> None:
        if self._shown:
            self._shown = False
            _raw(CLEAR)

    def _paid(self) -> str:
        """The costs: `≥` where there is more that is not known, `?` where nothing is."""
        cost, unknown = self.sums.of("cost"), self.sums.of("unpriced")
        if unknown and not cost:
            return self._cash(None)
        return f"{'≥ ' if unknown else ''}{self._cash(cost)}"


def lively() -> bool:
    """Whether a line can live on stderr."""
    return env.is_terminal(env.STDERR) and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _raw(data: bytes) -> None:
    with suppress(env.ReaderLeft, env.OutputFailed):
        env.write(data, env.STDERR)


# --- What the libraries log -----------------------------------------------------------------------

# By how it begins: what is said in its place, once a minute at most. Empty: it is no news. A client
# that went away, or that is shown the door, has its request's line.
_WORDS = {
    "ASGI callable returned without completing": "",
    "Unsupported upgrade request": "",
    "socket.send() raised exception": "",
    "Invalid HTTP request received": (
        "a client sent what is no HTTP request (https:// at this port?), and was refused"
    ),
    "Invalid UTF-8 sequence": "a client's message was no UTF-8, and its connection was closed",
}


class Words(logging.Handler):
    """One line of ours; tracebacks go to the file of --debug, and nowhere else."""

    def __init__(self, status: Status) -> None:
        super().__init__(logging.WARNING)
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError):
            return  # it was we who ended it
        if error is not None:
            env.trace(error)
        text = record.getMessage()
        for begins, said in _WORDS.items():
            if text.startswith(begins):
                if said:
                    self._status.rarely(said)
                return
        first = text.strip().partition("\n")[0]
        why = f": {type(error).__name__}: {error}" if error is not None else ""
        self._status.rarely(one_line(f"{record.name}: {first}{why}"), str(record.msg))
