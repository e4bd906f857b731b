"""What is said is written down while it is said, in a thread of its own.

Owns the thread, the pace (`EVERY` seconds or `SIZE` characters) and what becomes of a store that
fails: one warning, and the conversation goes on in memory. Everything is done in the order in
which it was asked for, so nobody else needs to lock. Nothing here raises for the store's sake.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from holychat.core.failure import StoreTrouble
from holychat.store import turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from holychat.core.chat import Turn
    from holychat.core.history import Conversation, Kept, Orphan
    from holychat.store.db import Database

EVERY = 0.25  # seconds between two entries of the journal
SIZE = 4096  # characters after which one is written at once
ALIVE = 5.0  # seconds between two signs of life


class Recorder:
    """Keeps one conversation at a time. `path` None keeps nothing.

    `warnings` are sentences for the user; whoever shows one takes it out.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.warnings: deque[str] = deque()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._broken = path is None
        self._db: Database | None = None
        self._writer = ""
        self._signed = 0.0  # when the last sign of life was given
        self._conversation = ""
        self._messages: list[int] = []  # of the branch: prompt, answer, prompt, answer
        self._begun: turns.Begun | None = None
        self._kept = 0  # exchanges above the open turn
        self._lock = threading.Lock()  # around the two texts that follow
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._size = 0
        self._number = 0  # of the next entry
        self._hurry = threading.Event()

    @property
    def keeping(self) -> bool:
        """Whether what is said is kept."""
        return not self._broken

    @property
    def conversation(self) -> str:
        """The id of the conversation that is being kept; empty before its first prompt."""
        return self._conversation

    # --- What may be asked of it, from the event loop -------------------------------------------

    def begin(
        self,
        prompt: str,
        kept: int,
        *,
        provider: str,
        model: str,
        system: str,
        params: Mapping[str, object],
        joined: bool = False,
    ) -> Future[None]:
        """Open a turn below the first `kept` exchanges; done when it is on the disk.

        `joined`: it goes on with the answer of the next one, and its end brings all of that text.
        """
        with self._lock:  # what is left of the turn before is in its `end`
            self._text.clear()
            self._reasoning.clear()
            self._size = 0
        return self._do(
            lambda db: self._begin(
                db,
                prompt,
                kept,
                joined,
                provider=provider,
                model=model,
                system=system,
                params=dict(params),
            )
        )

    def add(self, text: str, reasoning: str) -> None:
        """A piece of the answer. Costs next to nothing: the thread collects them."""
        if self._broken:
            return
        with self._lock:
            if text:
                self._text.append(text)
            if reasoning:
                self._reasoning.append(reasoning)
            self._size += len(text) + len(reasoning)
            full = self._size >= SIZE
        if full:
            self._hurry.set()

    def end(self, turn: Turn) -> Future[None]:
        """Close the turn."""
        return self._do(lambda db: self._end(db, turn))

    def rewind(self, kept: int) -> Future[None]:
        """Go on behind the first `kept` exchanges; the others stay in the file."""
        return self._do(lambda db: self._rewind(db, kept))

    def new(self) -> Future[None]:
        """What comes next is another conversation."""
        return self._do(lambda _: self._enter("", []))

    def enter(self, conversation: Conversation, path: Sequence[Kept]) -> Future[None]:
        """What comes next goes on with this one."""
        messages = [message.id for message in path]
        return self._do(lambda _: self._enter(conversation.id, messages))

    def draft(self, text: str) -> Future[None]:
        """What stands at the prompt, not sent yet."""
        return self._do(lambda db: turns.renew(db, self._writer, text))

    def bury(self) -> Future[tuple[list[Orphan], list[str]]]:
        """Take over what dead holychats left; see turns.bury."""
        return self._ask(turns.bury, ([], []))

    def ask(self, what: Callable[[Database], Any]) -> Future[Any]:
        """Something else, in the same order. The future holds its result or its HolychatError."""
        return self._ask(what, None, strict=True)

    def close(self) -> None:
        """Write what is left, and end."""
        if self._thread is not None:
            if not self._broken:
                self._do(lambda db: turns.leave(db, self._writer))
            self._work.put(None)
            self._hurry.set()
            self._thread.join()
            self._thread = None

    # --- The thread ---------------------------------------------------------------------------

    def _do(self, what: Callable[[Database], None]) -> Future[None]:
        return self._ask(what, None)

    def _ask(
        self, what: Callable[[Database], Any], otherwise: Any, *, strict: bool = False
    ) -> Future[Any]:
        """`what` in the thread; `otherwise` is its result where the store cannot be used."""
        done: Future[Any] = Future()

        def work() -> None:
            if self._broken and not strict:
                done.set_result(otherwise)
                return
            try:
                done.set_result(self._careful(what))
            except Exception as error:  # noqa: BLE001 - nobody looks at what is not strict
                if strict:
                    done.set_exception(error)
                else:
                    self._fail(error)
                    done.set_result(otherwise)

        if self._broken and not strict:
            done.set_result(otherwise)
            return done
        self._work.put(work)
        self._hurry.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="store", daemon=True)
            self._thread.start()
        return done

    def _careful(self, what: Callable[[Database], Any]) -> Any:
        """Do it; where nothing is kept yet and the file is damaged, again with a new one."""
        try:
            return what(self._open())
        except StoreTrouble:
            if self._conversation or not (self._db and self._db.damaged):
                raise
        self._put_aside()
        return what(self._open())

    def _run(self) -> None:
        while True:
            self._hurry.wait(EVERY if self._begun is not None else ALIVE)
            self._hurry.clear()
            while not self._work.empty():
                work = self._work.get()
                if work is None:
                    if self._db is not None:
                        self._db.close()
                    return
                work()
            try:
                self._flush()
                self._sign()
            except Exception as error:  # noqa: BLE001 - the thread must outlive it
                self._fail(error)

    def _open(self) -> Database:
        if self._db is None:
            from holychat.store.db import Database  # here, beside the network, and only if needed

            if self.path is None:
                raise StoreTrouble("no conversation is kept here", "Leave out --no-store.")
            self._db = Database(self.path)
            if self._db.put_aside:
                self._say_damaged(self._db.put_aside)
        if not self._writer:
            self._writer = turns.new_writer()
            self._signed = time.monotonic()
        return self._db

    def _put_aside(self) -> None:
        """The file turned out to be damaged while it was used."""
        db, self._db, self._writer = self._db, None, ""
        if db is not None:
            try:
                aside = db.quarantine()
            finally:
                db.close()
            if aside:
                self._say_damaged(aside)

    def _say_damaged(self, aside: str) -> None:
        self.warnings.append(f"the store was damaged: it is kept as {aside}, a new one is begun")

    def _fail(self, error: Exception) -> None:
        if self._broken:
            return
        self._broken = True
        what, hint = str(error) or type(error).__name__, ""
        if isinstance(error, StoreTrouble):
            what, hint = error.what, error.hint
        if self._db is not None and self._db.damaged:
            with contextlib.suppress(StoreTrouble):  # it is left where it is, as the hint says
                aside = self._db.quarantine()
                hint = f"It is kept as {aside}." if aside else hint
        self.warnings.append(f"this conversation is not being kept: {what}. {hint}".rstrip())

    def _flush(self) -> None:
        """Append what came since the last time to the journal."""
        if self._begun is None or self._broken or self._db is None:
            return
        with self._lock:
            text, reasoning = "".join(self._text), "".join(self._reasoning)
            self._text.clear()
            self._reasoning.clear()
            self._size = 0
        if text or reasoning:
            turns.journal(self._db, self._writer, self._begun.turn, self._number, text, reasoning)
            self._number += 1
            self._signed = time.monotonic()

    def _sign(self) -> None:
        if self._db is None or self._broken or (self._begun is None and turns.known()):
            return
        if time.monotonic() >= self._signed + ALIVE:
            self._signed = time.monotonic()
            turns.renew(self._db, self._writer)

    def _begin(self, db: Database, prompt: str, kept: int, joined: bool, **about: Any) -> None:
        self._kept = kept
        if joined and len(self._messages) > 2 * kept + 1:
            about["onto"] = self._messages[2 * kept + 1]
        parent = self._messages[2 * kept - 1] if kept and self._messages else None
        self._number = 0
        self._begun = turns.begin(db, self._writer, self._conversation, prompt, parent, **about)
        self._conversation = self._begun.conversation

    def _end(self, db: Database, turn: Turn) -> None:
        begun, self._begun = self._begun, None
        if begun is None:
            return
        answer = turns.close(db, begun, turn)
        if answer is not None:  # until then the old branch is gone on with
            self._messages[2 * self._kept :] = [begun.prompt, answer]

    def _rewind(self, db: Database, kept: int) -> None:
        del self._messages[2 * kept :]
        if self._conversation:
            turns.rewind(db, self._conversation, self._messages[-1] if self._messages else None)

    def _enter(self, conversation: str, messages: list[int]) -> None:
        self._conversation, self._messages = conversation, messages
