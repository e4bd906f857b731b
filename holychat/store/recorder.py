"""What is said is written down while it is said, in a thread of its own.

Owns the thread, the pace (`EVERY` seconds or `SIZE` characters) and what becomes of a store that
fails: one warning, and what is said is held in memory, as steps that are owed to the file. They are
done in their order when the store works again, which is tried at each turn, now and then between
them, and at the end. Everything is done in the order in which it was asked for, so nobody else
needs to lock. Nothing here raises for the store's sake.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from holychat.core.failure import StoreTrouble
from holychat.core.sanitize import one_line
from holychat.store import turns
from holychat.store.branch import Branch
from holychat.store.ids import now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from holychat.core.chat import Tried, Turn
    from holychat.core.history import Conversation, Kept, Orphan
    from holychat.store.db import Database

EVERY = 0.25  # seconds between two entries of the journal
SIZE = 4096  # characters after which one is written at once
ALIVE = 5.0  # seconds between two signs of life, and between two looks at a store that failed
SOON = 1.0  # seconds after which what was said beside a recorder is on the disk
BREATH = 1.0  # seconds after a failure in which nobody else beside it tries the store again
RETRY = 0.5  # seconds that such a look waits for a lock: less than a prompt waits to be kept
AGAIN = "kept again: everything that was said is in the store"


class _Piece(NamedTuple):
    """A row for the journal, and which texts it is made of: the first ones of two lists."""

    whose: Recorder
    row: tuple[int, int, str, str]
    texts: list[str]
    thoughts: list[str]
    many: int
    more: int


@dataclass(frozen=True, slots=True)
class Step:
    """Something to be done in the file. `talk` counts the conversations, `prompt` is whose turn."""

    run: Callable[[Database], None]
    talk: int
    prompt: str = ""


class Recorder:
    """Keeps one conversation at a time. `path` None keeps nothing.

    `warnings` are sentences for the user; whoever shows one takes it out. `ours` says that the
    path is holychat's own and not one that the user gave.

    `beside` is another recorder, whose thread and file it uses: for turns that run at the same
    time. It has a branch and debts of its own, which the other one looks after, and whose warnings
    are the other one's: once for all of them. What came of their answers is journalled together,
    and all of it goes to the disk at once, every `SOON` seconds: a thousand open turns cost one
    transaction a second, and one each at their beginning and end. It lives no longer than the other
    one.
    """

    def __init__(
        self, path: str | None, *, ours: bool = False, beside: Recorder | None = None
    ) -> None:
        self.path = path
        self.warnings: deque[str] = beside.warnings if beside else deque()
        self._beside = beside
        self._others: dict[Recorder, None] = {}  # beside this one, with an open turn or debts
        self._ours: bool = ours if beside is None else beside._ours  # noqa: SLF001 - ours
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._own_db: Database | None = None
        self._branch = Branch(durable=beside is None)
        if beside is not None:
            self._branch.writer = beside.writer
        self._signed = 0.0  # when the last sign of life was given
        self._flushed = 0.0  # when what was said beside it went to the disk
        self._soft = False  # whether something was written since then
        self._talk = 0  # the number of the conversation, as the event loop sees it
        self._prompt = ""  # of its last turn
        self._draft: str | None = None  # what stands at the prompt, if that is not in the file yet
        self._lock = threading.Lock()  # around what both sides change: the texts and the bell
        self._bell: Future[None] | None = None
        self._clear()
        # --- What befell the store: the thread's alone
        self._trouble: Exception | None = None
        self._tried = 0.0  # when it was last looked at
        self._refused: tuple[float, Exception] | None = None  # when a try of any of them failed
        self._told: set[int] = set()  # the conversations beside which it was said
        self._said: list[str] = []  # the warnings of it
        self._owed: deque[Step] = deque()
        self._lost: list[str] = []  # prompts that cannot be kept any more

    @property
    def writer(self) -> str:
        """The id under which its turns are open in the file."""
        return self._branch.writer

    @property
    def messages(self) -> tuple[int, ...]:
        """The ids of the branch's messages; to be read when what was asked for is done."""
        return self._branch.messages

    @property
    def keeping(self) -> bool:
        """Whether what is said is kept."""
        return self.path is not None and self._trouble is None

    @property
    def conversation(self) -> str:
        """The id of the conversation that is being kept; empty before its first prompt."""
        return self._branch.conversation

    @property
    def turn(self) -> int | None:
        """The turn that is open in the file, for `budget.reserve`; to be read when `begin` is done.
        None where there is none: the store failed, or nothing is kept."""
        return self._branch.open.turn if self._branch.open is not None else None

    @property
    def unkept(self) -> list[str]:
        """The prompts whose turns are not in the file, or not whole; to be asked after `close`."""
        all_ = (self, *self._others)
        owed = (step.prompt for one in all_ for step in one._owed if step.prompt)  # noqa: SLF001
        return list(dict.fromkeys([*self._lost, *owed]))

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
        fresh: str = "",
    ) -> Future[None]:
        """Open a turn below the first `kept` exchanges; done when it is on the disk, or cannot be.

        `joined`: it goes on with the answer of the next one, and its end brings all of that text.
        `fresh` is the id of a conversation that begins with it.
        """
        self._clear()  # what is left of the turn before is in its `end`
        self._prompt, at, held = prompt, now(), dict(params)
        return self._keep(
            lambda db: self._branch.begin(
                db,
                prompt,
                kept,
                joined=joined,
                at=at,
                provider=provider,
                model=model,
                system=system,
                params=held,
                fresh=fresh,
            ),
            prompt,
        )

    def add(self, text: str, reasoning: str) -> None:
        """A piece of the answer. Costs next to nothing: the thread collects them."""
        if self.path is None:
            return
        with self._lock:
            if text:
                self._text.append(text)
            if reasoning:
                self._reasoning.append(reasoning)
            self._size += len(text) + len(reasoning)
            full = self._size >= SIZE
        if full and self._trouble is None and self._beside is None:
            self._hurry.set()

    def restart(self) -> None:
        """The answer begins anew: what came of it so far does not count."""
        self._clear()
        self._keep(self._branch.forget, tries=False)

    def end(self, turn: Turn) -> Future[None]:
        """Close the turn."""
        at = now()
        return self._keep(lambda db: self._branch.end(db, turn, at), self._prompt)

    def rewind(self, kept: int) -> Future[None]:
        """Go on behind the first `kept` exchanges; the others stay in the file."""
        return self._keep(lambda db: self._branch.rewind(db, kept), tries=False)

    def new(self) -> Future[None]:
        """What comes next is another conversation."""
        return self._enter("", [])

    def enter(self, conversation: Conversation, path: Sequence[Kept]) -> Future[None]:
        """What comes next goes on with this one."""
        return self._enter(conversation.id, [message.id for message in path])

    def _enter(self, conversation: str, messages: list[int]) -> Future[None]:
        self._talk += 1
        return self._keep(lambda _: self._branch.enter(conversation, list(messages)), tries=False)

    def pin(self, number: int, *, pinned: bool) -> Future[None]:
        """Have exchange `number` (from 0) of this conversation stay in what is sent, or no more."""
        return self._keep(lambda db: self._branch.pin(db, number, pinned=pinned), tries=False)

    def summary(self, turns: int, text: str) -> Future[None]:
        """Keep what stands for the first `turns` exchanges."""
        return self._keep(lambda db: self._branch.summarise(db, turns, text), tries=False)

    def spent(self, tried: Tried) -> Future[None]:
        """Keep an attempt that was made beside the turns: it counts with the last one."""
        return self._keep(lambda db: self._branch.spent(db, tried), tries=False)

    def draft(self, text: str) -> Future[None]:
        """What stands at the prompt, not sent yet."""
        self._draft = text
        return self._do(self._unless_in_trouble)

    def caught_up(self) -> Future[bool]:
        """Try to write what is owed; whether everything that was said is in the file now."""
        done: Future[bool] = Future()

        def work() -> None:
            self._catch_up()
            self._looked_after()
            _settle(done, self.keeping)

        if self.path is None:
            _settle(done, False)  # noqa: FBT003 - a result
        else:
            self._put(work)
        return done

    def heard(self) -> list[str]:
        """The warnings, taken out."""
        found = []
        with contextlib.suppress(IndexError):  # the thread may take one back at any time
            while True:
                found.append(self.warnings.popleft())
        return found

    def warned(self) -> Future[None]:
        """Done as soon as there is a warning to be shown."""
        bell: Future[None] = Future()
        with self._lock:
            self._bell = bell
        if self.warnings:
            _settle(bell, None)
        return bell

    def bury(self) -> Future[tuple[list[Orphan], list[str]]]:
        """Take over what dead holychats left; see turns.bury."""
        done: Future[tuple[list[Orphan], list[str]]] = Future()

        def work() -> None:
            found: tuple[list[Orphan], list[str]] = ([], [])
            if self._trouble is None:
                try:
                    found = self._careful(turns.bury)
                except Exception as error:  # noqa: BLE001 - a warning, as for everything else
                    self._fail(error)
            _settle(done, found)

        if self.path is None:
            _settle(done, ([], []))
        else:
            self._put(work)
        return done

    def ask(self, what: Callable[[Database], Any]) -> Future[Any]:
        """Something else, in the same order. The future holds its result or its HolychatError."""
        done: Future[Any] = Future()

        def work() -> None:
            if not done.set_running_or_notify_cancel():
                return  # nobody waits for it any more
            try:
                done.set_result(self._careful(what))
            except Exception as error:  # noqa: BLE001 - it is for whoever asked
                done.set_exception(error)

        self._put(work)
        return done

    def close(self) -> None:
        """Write what is left, and end."""
        if self._thread is not None:
            self._put(self._leave)
            self._put(None)
            self._thread.join()
            self._thread = None

    # --- From one side to the other -----------------------------------------------------------

    def _clear(self) -> None:
        with self._lock:  # new lists: what the thread writes at this moment are the old ones
            self._text: list[str] = []
            self._reasoning: list[str] = []
            self._size = 0

    def _keep(
        self, run: Callable[[Database], None], prompt: str = "", *, tries: bool = True
    ) -> Future[None]:
        """A step of the conversation; `tries` also where the store failed before."""
        step = Step(run, self._talk, prompt)

        def work() -> None:
            self._owe(step)
            if tries:
                self._catch_up()
            else:
                self._unless_in_trouble()
            self._looked_after()

        return self._do(work)

    def _looked_after(self) -> None:
        """By the one beside which it is, as long as there is something to look after."""
        if self._beside is not None:
            others = self._beside._others  # noqa: SLF001 - ours
            if self._owed or self._branch.open is not None:
                others[self] = None
            else:
                others.pop(self, None)

    def _do(self, work: Callable[[], object]) -> Future[None]:
        done: Future[None] = Future()

        def whole() -> None:
            work()
            _settle(done, None)

        if self.path is None:
            _settle(done, None)
        else:
            self._put(whole)
        return done

    @property
    def _db(self) -> Database | None:
        return self._own_db if self._beside is None else self._beside._db  # noqa: SLF001 - ours

    @_db.setter
    def _db(self, db: Database | None) -> None:
        if self._beside is None:
            self._own_db = db
        else:
            self._beside._db = db  # noqa: SLF001 - as above

    def _put(self, work: Callable[[], None] | None) -> None:
        if self._beside is not None:
            self._beside._put(work)  # noqa: SLF001 - as above
            return
        self._work.put(work)
        self._hurry.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="store", daemon=True)
            self._thread.start()

    # --- The thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._hurry.wait(self._pause())
            self._hurry.clear()
            while not self._work.empty():
                work = self._work.get()
                if work is None:
                    if self._db is not None:
                        self._db.close()
                    return
                work()
            self._between()

    def _pause(self) -> float:
        if self._trouble is not None:
            return max(EVERY, self._tried + ALIVE - time.monotonic())
        if self._soft or self._others:
            return max(0.0, self._flushed + SOON - time.monotonic())
        return EVERY if self._branch.open is not None else ALIVE

    def _between(self) -> None:
        """What is done when nothing is asked for."""
        for one in (self, *self._others):
            if one._trouble is not None and time.monotonic() >= one._tried + ALIVE:  # noqa: SLF001
                one._catch_up()  # noqa: SLF001 - ours
                one._looked_after()  # noqa: SLF001
        if self._trouble is None:
            try:
                self._flush()
            except Exception as error:  # noqa: BLE001 - the thread must outlive it
                self._fail(error)

    def _leave(self) -> None:
        from holychat.store.db import PATIENCE

        self._refused = None  # the last try is a real one, once for all of them
        if self._others and self._db is not None:
            with contextlib.suppress(StoreTrouble):
                self._db.wait_at_most(PATIENCE)
        for one in (*self._others, self):
            one._catch_up()  # noqa: SLF001 - ours
        if self._trouble is None and self._db is not None:
            with contextlib.suppress(StoreTrouble):  # we are taken for dead a little later
                turns.leave(self._db, self._branch.writer)

    def _careful(self, what: Callable[[Database], Any]) -> Any:
        """Do it; where nothing is kept yet and the file is damaged, again with a new one."""
        try:
            return what(self._open())
        except StoreTrouble:
            if self._branch.conversation or not (self._db and self._db.damaged):
                raise
        self._put_aside()
        return what(self._open())

    def _open(self) -> Database:
        if self._db is None:
            # Here, beside the network, and only if needed.
            from holychat.store.db import PATIENCE, Database

            if self.path is None:
                raise StoreTrouble("no conversation is kept here", "Leave out --no-store.")
            patience = PATIENCE if self._trouble is None else RETRY
            self._db = Database(self.path, patience=patience, ours=self._ours)
            self._signed = time.monotonic()
            if self._db.put_aside:
                self._say_damaged(self._db.put_aside)
        return self._db

    def _put_aside(self) -> None:
        """The file turned out to be damaged while it was used."""
        db, self._db = self._db, None
        if db is not None:
            try:
                aside = db.quarantine()
            finally:
                db.close()
            if aside:
                self._say_damaged(aside)

    def _flush(self) -> None:
        """Append what came since the last time to the journal: of this recorder's turn, and now and
        then of those beside it. It is a sign of life too."""
        at = time.monotonic()
        due = self._branch.open is not None or not turns.known()
        due = due and at >= self._signed + ALIVE
        own = [piece for piece in [self._piece()] if piece is not None]
        if (own or due) and self._db is not None:
            self._journal(own)
            self._signed = at
        if at < self._flushed + SOON:
            return
        self._flushed = at
        theirs = [piece for one in self._others if (piece := one._piece())]  # noqa: SLF001 - ours
        if (theirs or self._soft) and self._db is not None:
            self._journal(theirs, missing_ok=True)  # one that was deleted is met at its end
            self._soft = False

    def _journal(self, pieces: Sequence[_Piece], *, missing_ok: bool = False) -> None:
        assert self._db is not None  # noqa: S101 - whoever calls has looked
        rows = (piece.row for piece in pieces)
        turns.journal(self._db, self._branch.writer, rows, missing_ok=missing_ok)
        for piece in pieces:
            piece.whose._written(piece)  # noqa: SLF001 - ours

    def _piece(self) -> _Piece | None:
        """What came of the open turn since the last time."""
        place = self._branch.journal()
        if place is None or self._owed or self._trouble is not None:
            return None
        with self._lock:
            texts, thoughts = self._text, self._reasoning
            many, more = len(texts), len(thoughts)
            row = (*place, "".join(texts), "".join(thoughts))
        return _Piece(self, row, texts, thoughts, many, more) if row[2] or row[3] else None

    def _written(self, piece: _Piece) -> None:
        """Until it is in the journal it stays here: the next try may work."""
        self._branch.journalled()
        with self._lock:
            del piece.texts[: piece.many], piece.thoughts[: piece.more]
            if piece.texts is self._text:
                self._size -= len(piece.row[2]) + len(piece.row[3])

    # --- What is owed -------------------------------------------------------------------------

    def _owe(self, step: Step) -> None:
        """One more step; what was deleted under us ends with its conversation."""
        if _is(self._trouble, "deleted") and self._owed and step.talk != self._owed[0].talk:
            self._lost += [each.prompt for each in self._owed if each.prompt]
            self._owed.clear()
            self._over()
        self._owed.append(step)

    def _catch_up(self) -> None:
        """Do what is owed, in its order, as far as the store lets us."""
        if self._trouble is not None and not _is(self._trouble, "passing"):
            self._warn()
            return
        if (refused := self._just_refused()) is not None:
            self._tried, error = refused
            self._trouble = self._trouble or error
            return
        try:
            self._look_again()
            if self._trouble is not None and not self._owed:
                self._careful(lambda db: turns.renew(db, self._branch.writer))  # does it work?
            while self._owed:
                self._careful(self._mending(self._owed[0].run))
                self._owed.popleft()
                if self._beside is not None:
                    self._beside._soft = True  # noqa: SLF001 - ours
            self._keep_draft()
        except Exception as error:  # noqa: BLE001 - the thread must outlive it
            self._fail(error)
        else:
            self._recover()

    def _just_refused(self) -> tuple[float, Exception] | None:
        """When whoever tried a moment ago met which trouble, where there are many: each try waits
        for the lock, and all of them together would hold everything up."""
        root = self._beside or self
        if root._refused is None or not root._others:  # noqa: SLF001 - ours
            return None
        return root._refused if time.monotonic() < root._refused[0] + BREATH else None  # noqa: SLF001

    def _unless_in_trouble(self) -> None:
        if self._trouble is None:
            self._catch_up()

    def _mending(self, run: Callable[[Database], None]) -> Callable[[Database], None]:
        """The step; where a search index is damaged, with that made anew."""

        def work(db: Database) -> None:
            try:
                run(db)
            except StoreTrouble:
                if not db.index_damaged:
                    raise
                db.reindex()
                self._say("the search index of the store was damaged: it is made anew")
                run(db)

        return work

    def _keep_draft(self) -> None:
        line = self._draft
        if line is not None:
            self._careful(lambda db: turns.renew(db, self._branch.writer, line))
            if self._draft is line:
                self._draft = None

    def _look_again(self) -> None:
        """At a store that failed: as it is now, unless it was only locked."""
        db = self._db
        if db is not None and _is(self._trouble, "stale"):
            db.still_there()
            db.close()
            self._db = None

    def _recover(self) -> None:
        if self._trouble is None:
            return
        self._over()
        root = self._beside or self
        root._refused = None  # noqa: SLF001 - ours
        if all(one._trouble is None and not one._owed for one in (root, *root._others)):  # noqa: SLF001
            root._heard_again()  # noqa: SLF001

    def _heard_again(self) -> None:
        """Say that the trouble is over, to whoever heard of it."""
        heard = False
        for warning in self._said:
            try:
                self.warnings.remove(warning)
            except ValueError:
                heard = True
        if heard:
            self._say(AGAIN)
        self._said.clear()

    def _over(self) -> None:
        from holychat.store.db import PATIENCE

        self._trouble = None
        self._told.clear()
        if self._db is not None:
            with contextlib.suppress(StoreTrouble):
                self._db.wait_at_most(PATIENCE)

    def _fail(self, error: Exception) -> None:
        self._trouble, self._tried = error, time.monotonic()
        if _is(error, "passing"):
            (self._beside or self)._refused = self._tried, error  # noqa: SLF001 - ours
        if self._db is not None and self._db.damaged:
            with contextlib.suppress(StoreTrouble):  # it is left where it is, as the hint says
                aside = self._db.quarantine()
                if aside:
                    self._trouble = StoreTrouble(_what(error)[0], f"It is kept as {aside}.")
        elif self._db is not None:
            with contextlib.suppress(StoreTrouble):
                self._db.wait_at_most(RETRY)
        self._warn()

    def _warn(self) -> None:
        """Once for each conversation, and never as if it were of another."""
        if self._trouble is None:
            return
        if self._beside is not None or self._others:
            (self._beside or self)._warn_of_all(self._trouble)  # noqa: SLF001 - ours
            return
        step = next((each for each in reversed(self._owed) if each.prompt), None)
        talk = step.talk if step else self._talk
        if talk in self._told or (step is None and self._told):
            return
        self._told.add(talk)
        which = "this conversation"
        if step is not None and talk != self._talk:
            which = f"the conversation with “{one_line(step.prompt, 40)}”"
        what, hint = _what(self._trouble)
        self._said.append(f"{which} is not being kept: {what}. {hint}".rstrip())
        self._say(self._said[-1])

    def _warn_of_all(self, trouble: Exception) -> None:
        """Once for all that are beside this one: there may be a thousand of them."""
        what, hint = _what(trouble)
        text = f"what is said is not being kept: {what}. {hint}".rstrip()
        if text not in self._said:
            self._said.append(text)
            self._say(text)

    def _say_damaged(self, aside: str) -> None:
        self._say(f"the store was damaged: it is kept as {aside}, a new one is begun")

    def _say(self, text: str) -> None:
        if self._beside is not None:
            self._beside._say(text)  # noqa: SLF001 - ours
            return
        self.warnings.append(text)
        with self._lock:
            bell = self._bell
        if bell is not None:
            _settle(bell, None)


def _settle(future: Future[Any], result: Any) -> None:
    """Its result, unless whoever waited has cancelled it."""
    with contextlib.suppress(InvalidStateError):
        future.set_result(result)


def _is(trouble: Exception | None, what: str) -> bool:
    """Whether it is `passing`, `stale` or `deleted`, as store.db tells of what came from SQLite."""
    return bool(getattr(trouble, what, False))


def _what(error: Exception) -> tuple[str, str]:
    """(what happened, what to do)."""
    if isinstance(error, StoreTrouble):
        return error.what, error.hint
    return str(error) or type(error).__name__, ""
