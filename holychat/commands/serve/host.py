"""The process that serves: its socket, its signals, its end; and several of them at one socket.

Owns the way out. At the first signal nobody new is let in and what runs has `GRACE` seconds, then
it is cut with an error that says so; at the second one everything ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import uvicorn

from holychat.core.failure import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.guard import App

GRACE = 10.0  # seconds that running answers get at the end
LAST = 2.0  # seconds for them to say that they were cut
HEAD = 64 * 1024  # bytes of a request's head
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SOON = 1.0  # seconds after its start in which a worker has no business to end
TRIES = 3  # of workers that do in a row


def listening(host: str, port: int) -> socket.socket:
    """A socket for all workers. Raises SettingsError where the address cannot be had."""
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, proto, _, address = rows[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise SettingsError(f"{host}:{port} is no address here: {error.strerror}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        hint = "Another program has that port; --port takes another one, 0 any that is free."
        raise SettingsError(
            f"{host}:{port} cannot be listened at: {error.strerror}", hint
        ) from error
    sock.setblocking(False)  # noqa: FBT003 - socket's form
    return sock


class Server(uvicorn.Server):
    """uvicorn's, with an end of ours."""

    def __init__(self, app: App, desk: Desk, most: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",  # the one with a bound on the head
                ws="websockets-sansio",
                ws_max_size=most,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=HEAD,
                timeout_graceful_shutdown=1,
            )
        )
        self._desk = desk
        self.caught: signal.Signals | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(number, self.caught_one, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)

    def caught_one(self, number: signal.Signals) -> None:
        self.force_exit = self.caught is not None
        self.caught = self.caught or number
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        desk = self._desk
        desk.closing = True
        for server in self.servers:
            server.close()
        if desk.status.streams:
            desk.status.say(f"stopping: {desk.status.streams} answers have {GRACE:.0f} s to end")
        await self._until_none(GRACE)
        desk.cut.set()
        await self._until_none(LAST)
        await super().shutdown(sockets)

    async def _until_none(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        # Once in a life, and three things to wait for: a look now and then is enough.
        while self._desk.status.streams and not self.force_exit and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def several(many: int, work: Callable[[], int], say: Callable[[str], None]) -> int:
    """Run `work` in so many processes, and anew where one dies; returns what ended us, negative.

    They are forked before any of them has a loop, a thread or a file of the store. A signal goes on
    to all of them, and the second one ends them at once.
    """
    if sys.platform == "win32":
        raise SettingsError("--workers takes 1 on this system")
    return _Workers(work, say).run(many)


class _Workers:
    """The processes; their numbers, and since when they run."""

    def __init__(self, work: Callable[[], int], say: Callable[[str], None]) -> None:
        self._work = work
        self._say = say
        self._running: dict[int, float] = {}
        self._caught = 0

    def run(self, many: int) -> int:
        for number in SIGNALS:
            signal.signal(number, lambda caught, _: self._pass_on(caught))
        for _ in range(many):
            self._fork()
        short = 0
        while self._running:
            pid, status = os.wait()
            began = self._running.pop(pid, 0.0)
            if self._caught:
                continue
            code = os.waitstatus_to_exitcode(status)
            short = short + 1 if time.monotonic() - began < SOON else 0
            if short >= TRIES:
                self._say("the workers end as soon as they begin; giving up")
                self._pass_on(signal.SIGTERM)
                self._caught = 0
                return 1
            self._say(f"worker {pid} ended by itself ({code}): another one begins")
            self._fork()
        return -self._caught

    def _pass_on(self, number: int) -> None:
        self._caught = self._caught or number
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _fork(self) -> None:
        # A signal between the fork and the note of it would be passed on to all but this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            code = 1
            try:
                code = self._work()
            finally:
                os._exit(max(code, 0))  # that a signal ended it is ours to say
        self._running[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
