"""The process that serves: its socket, clients, signals and end.

Owns who is let in: as many as there are descriptors for, and nobody for long who asks nothing.

Owns the way out. At the first signal nobody new is let in and what runs has `GRACE` seconds, then
it is cut with an error that says so; at the second one everything ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from holychat.core.failure import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.guard import App

GRACE = 10.0  # seconds that running answers get at the end
LAST = 2.0  # seconds for them to say that they were cut
HEAD = 64 * 1024  # bytes of a request's head
PATIENCE = 10.0  # seconds that a client may take to send it
BRIEF = 1.0  # of them, that it keeps where others wait for its place
CLIENTS = 2048  # connections at the same time; more where more streams are allowed
FILES = 10_240  # descriptors that are wanted, if they can be had; macOS has no more
PART = 3  # of them, for clients: an answer needs another one, and the store has some
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


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


def descriptors(wanted: int = FILES) -> int:
    """How many there are, with their limit raised to that many if it can be."""
    if sys.platform == "win32":
        return 512
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for many in (wanted, FILES):
        many = many if hard == resource.RLIM_INFINITY else min(hard, many)
        if soft == resource.RLIM_INFINITY or soft >= many:
            return many if soft == resource.RLIM_INFINITY else soft
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (many, hard))
            return many
    return soft


def endings() -> tuple[signal.Signals, ...]:
    """Those that end it. A terminal that is closed does not where somebody saw to it (nohup)."""
    if sys.platform == "win32" or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return SIGNALS
    return (*SIGNALS, signal.SIGHUP)


def hurries(number: int) -> bool:
    """Whether it ends everything at once, as the second one. That of a terminal that is closed
    comes twice: from the system and from the shell."""
    return sys.platform == "win32" or number != signal.SIGHUP


class Connection(H11Protocol):
    """uvicorn's, with a bound on the time without a request.

    It stands among those that wait from the beginning, and again from the end of each response; a
    head that begins later on begins its time anew.
    """

    def __init__(self, waiting: dict[Connection, float], **more: Any) -> None:
        super().__init__(**more)
        self._waiting = waiting
        self._rests = False  # after a response, without a byte of the next request
        self._unread = 0  # bytes of the response that were left at the last look

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._rests:
            self._rests = False
            self._wait()
        super().data_received(data)
        if self._busy() and not self.reads():
            self._waiting.pop(self, None)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._waiting.pop(self, None)
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._rests = not self._busy()  # a next one may have been sent along
        if self._rests or self.reads():
            self._wait()

    def _wait(self) -> None:
        self._waiting.pop(self, None)
        self._waiting[self] = self.loop.time()

    def overdue(self) -> None:
        """Its time is over: unless it still reads its response, or has read it and asked again."""
        unread = self.transport.get_write_buffer_size()
        if unread and unread != self._unread:
            self._unread = unread
            self._wait()
        elif unread or not self._busy():
            self.drop()
        else:
            self._waiting.pop(self, None)

    def reads(self) -> bool:
        """Its response is not all out yet."""
        return self.transport.get_write_buffer_size() > 0

    def _busy(self) -> bool:
        """It has a request under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def idle(self) -> bool:
        """It has none, and nothing to read."""
        return not self._busy() and not self.reads()

    def drop(self) -> None:
        self._waiting.pop(self, None)
        self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's, with a beginning and an end of ours. `parent` is whose worker it is."""

    def __init__(self, app: App, desk: Desk, most: int, parent: int = 0) -> None:
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
            )
        )
        self._desk = desk
        self._parent = parent
        self._files = descriptors(max(FILES, PART * 2 * desk.most))
        self._most = max(1, min(max(CLIENTS, 2 * desk.most), self._files // PART))
        self._waiting: dict[Connection, float] = {}  # without a request, the longest one first
        self._joining: set[asyncio.Task[Any]] = set()
        self._ears: list[asyncio.Task[None]] = []
        self.caught: signal.Signals | None = None

    # --- Signals --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = endings()
        for number in numbers:
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(number, self.caught_one, number)
        if sys.platform != "win32" and self._parent:
            loop.add_signal_handler(signal.SIGUSR1, self.at_once)
        try:
            yield
        finally:
            for number in numbers:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)

    def caught_one(self, number: signal.Signals) -> None:
        """A worker's may come from the terminal, from a supervisor and from the parent, all for the
        same key: the parent knows which one is the second."""
        if self.caught is not None and not self._parent and hurries(number):
            self.force_exit = True
        self.caught = self.caught or number
        self.should_exit = True

    def at_once(self) -> None:
        self.force_exit = self.should_exit = True

    # --- Clients --------------------------------------------------------------------------------

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.servers = []
        self._ears = [loop.create_task(self._listen(sock)) for sock in sockets or ()]
        self.started = True

    async def _listen(self, sock: socket.socket) -> None:
        """Let them in. asyncio's own way of doing it knows no bound, and where the descriptors are
        used up it tries and complains a thousand times a second."""
        loop = asyncio.get_running_loop()
        many = 0
        while True:
            await self._room()
            try:
                client, _ = await loop.sock_accept(sock)
            except OSError as error:
                await self._not_in(error)
                continue
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, client))
            self._joining.add(task)
            task.add_done_callback(self._joined)
            many += 1
            if many % 64 == 0:
                await asyncio.sleep(0)  # an accept that needs not wait lets nobody else work

    async def _not_in(self, error: OSError) -> None:
        """A pause, as the next try would not wait; and a word, unless its client has left."""
        if error.errno in SCARCE:
            why = f"for want of descriptors (ulimit -n: {self._files})"
            self._desk.status.rarely(f"no more clients get in, {why}")
            self._make_room(len(self._waiting) // 4 + 1)
        elif not isinstance(error, ConnectionError):
            self._desk.status.rarely(f"a client does not get in: {error.strerror}")
        await asyncio.sleep(0.1)

    def _protocol(self) -> Connection:
        return Connection(
            self._waiting, config=self.config, server_state=self.server_state, app_state={}
        )

    def _joined(self, task: asyncio.Task[Any]) -> None:
        self._joining.discard(task)
        if not task.cancelled():
            task.exception()  # whoever left before it was in

    async def _room(self) -> None:
        """Until there is room for one more. Who comes meanwhile waits in the kernel."""
        while len(self.server_state.connections) + len(self._joining) >= self._most:
            said = f"{self._most} connections are open: new ones take the place of idle ones"
            self._desk.status.rarely(said)
            await asyncio.sleep(0 if self._make_room() else 0.05)

    def _make_room(self, many: int = 1) -> bool:
        """Close so many of those that have been without a request for the longest time; whoever has
        just come may have sent one, and whoever still reads has had one."""
        before = time.monotonic() - BRIEF
        late = itertools.takewhile(lambda one: one[1] <= before, self._waiting.items())
        found = [*itertools.islice((one for one, _ in late if one.idle()), many)]
        for connection in found:
            connection.drop()
        return bool(found)

    def _sweep(self) -> None:
        before = time.monotonic() - PATIENCE  # which is asyncio's clock
        while self._waiting:
            connection, since = next(iter(self._waiting.items()))
            if since > before:
                return
            connection.overdue()

    async def on_tick(self, counter: int) -> bool:
        self._sweep()
        if self._parent and counter % 10 == 0 and os.getppid() != self._parent:
            self._desk.status.say("the process that began this worker is gone")
            self.caught_one(signal.SIGTERM)
        return await super().on_tick(counter)

    # --- The end --------------------------------------------------------------------------------

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        desk, state = self._desk, self.server_state
        desk.closing = True
        for ear in self._ears:
            ear.cancel()
        await asyncio.gather(*self._ears, return_exceptions=True)
        for sock in sockets or ():
            sock.close()
        if many := desk.status.streams:
            answers = "1 answer has" if many == 1 else f"{many} answers have"
            desk.status.say(f"stopping: {answers} {GRACE:.0f} s to end")
        await self._until(lambda: not desk.status.streams, GRACE)
        desk.cut.set()
        await self._until(lambda: not desk.status.streams, LAST)
        for connection in list(state.connections):
            try:
                connection.shutdown()
            except Exception:  # noqa: BLE001 - h11 and websockets, of what is closed already
                connection.transport.abort()
        await self._until(lambda: not state.connections and not state.tasks, 1.0)
        for connection in list(state.connections):  # who does not read, or still sends
            connection.transport.abort()
        await self._until(lambda: not state.tasks, 1.0)
        for task in state.tasks:
            task.cancel()
        if state.tasks:
            await asyncio.wait(list(state.tasks), timeout=1.0)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        # Once in a life, and several things to wait for: a look now and then is enough.
        while not done() and not self.force_exit and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
