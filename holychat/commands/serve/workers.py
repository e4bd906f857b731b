"""Several processes at one socket: begun, begun anew where one dies, and ended together.

Owns the forks and which signals go on to them. What a worker does is `host`'s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from holychat import env
from holychat.commands.serve.host import endings, hurries
from holychat.core.failure import SettingsError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from holychat.commands.serve.status import Status

SOON = 1.0  # seconds after its start in which a worker has no business to end
TRIES = 3  # of workers that do in a row


def several(many: int, work: Callable[[int], int], sock: socket.socket, status: Status) -> int:
    """Run `work` in so many processes, and anew where one dies; returns what ended us, negative.

    Each gets a number. They are forked before any of them has a loop, a thread or a file of the
    store. A signal goes on to all of them, and the second one ends them at once.
    """
    if sys.platform == "win32":
        raise SettingsError("--workers takes 1 on this system")
    return _Workers(work, sock, status).run(many)


class _Workers:
    """The processes; their numbers, and since when they run."""

    def __init__(self, work: Callable[[int], int], sock: socket.socket, status: Status) -> None:
        self._work = work
        self._sock = sock
        self._status = status
        self._running: dict[int, tuple[int, float]] = {}
        self._signals = endings()
        self._caught = 0

    def run(self, many: int) -> int:
        for number in self._signals:
            signal.signal(number, lambda caught, _: self._pass_on(caught))
        for place in range(many):
            self._fork(place)
        short = 0
        while self._running:
            pid, status = self._wait()
            place, began = self._running.pop(pid, (0, 0.0))
            if self._caught:
                continue
            code = os.waitstatus_to_exitcode(status)
            short = short + 1 if time.monotonic() - began < SOON else 0
            if short >= TRIES:
                self._status.say("the workers end as soon as they begin; giving up")
                self._pass_on(signal.SIGTERM)
                return 1
            self._status.say(f"worker {pid} ended by itself ({code}): another one begins")
            self._fork(place)
        self._status.wipe()
        return -self._caught

    def _wait(self) -> tuple[int, int]:
        """For the next one that ends."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                return pid, status
            self._status.look()
            time.sleep(0.1)

    def _pass_on(self, number: int) -> None:
        """The terminal and supervisors may have told them already: only the second one needs a
        signal that says so."""
        again = self._caught and hurries(number)
        self._caught = self._caught or number
        self._sock.close()  # else clients would wait at it until we end
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1 if again else signal.SIGTERM)

    def _fork(self, place: int) -> None:
        # A signal between the fork and the note of it would be passed on to all but this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        if self._caught:  # just before: the socket is closed
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
            return
        pid = os.fork()
        if pid == 0:
            for each in self._signals:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
            code = 1
            try:
                code = self._work(place)
            except Exception as error:  # noqa: BLE001 - the last resort, and it says so
                env.trace(error)
                self._status.say(f"a worker failed ({type(error).__name__}: {error})")
            finally:
                os._exit(max(code, 0))  # that a signal ended it is ours to say
        self._running[pid] = place, time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
