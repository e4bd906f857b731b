"""`holychat ask` and the pipe: one prompt, one answer, an exit code that tells the truth.

Owns the making of the prompt from arguments and stdin, the choice of the writer, and the end of
the process by a signal or a reader that left. stdout carries the answer and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.chat import Done, Finish, Turn
from holychat.core.failure import Failure, StoreTrouble, UsageError
from holychat.engine.session import Session
from holychat.exits import Exit, of_failure
from holychat.screen import Look, writer
from holychat.screen.words import ending, summary

if TYPE_CHECKING:
    from holychat.core.wish import Wish
    from holychat.engine.conversation import Chat
    from holychat.screen import Writer
    from holychat.settings import Settings

GRACE = 1.0  # seconds after a SIGTERM to write what came
PATIENCE = 1.0  # seconds for the first byte of an inherited stdin, where there is a prompt too


def run(settings: Settings, wish: Wish) -> Exit:
    """Answer one prompt. Raises HolychatError before anything was sent."""
    prompt = compose(wish)
    if not wish.quiet:
        for notice in settings.notices:
            env.err(f"holychat: {notice}", dim=True)
    if wish.dry:
        return asyncio.run(_rehearse(settings, wish, prompt))
    painted = form(wish) == "live"
    if painted:
        env.echo(on=False)  # a key that is pressed meanwhile would show in the panel
    try:
        # Not closed: that waits for a name that is being looked up in a thread, and we end anyway.
        return asyncio.Runner().run(_ask(settings, wish, prompt))
    except env.ReaderLeft:
        return Exit.PIPE
    except env.OutputFailed as error:
        env.err(f"holychat: the answer cannot be written: {error}")
        return Exit.INTERNAL
    finally:
        if painted:
            env.echo(on=True)


def compose(wish: Wish) -> str:
    """The prompt: the argument, then what was piped in. Raises UsageError for nothing at all."""
    words = wish.prompt
    if words == "-":
        words, piped = None, env.piped_input(None)
        if piped is None:
            raise UsageError("there is nothing on stdin to read the prompt from")
    elif wish.no_stdin:
        piped = None
    else:
        piped = env.piped_input(PATIENCE if words else None)
    parts = [part for part in (words, piped) if part and part.strip()]
    if not parts:
        raise UsageError("there is nothing to ask", 'Try: holychat ask "why is the sky blue?"')
    return "\n\n".join(parts)


def form(wish: Wish) -> str:
    """Which writer: what was asked for, else by what stdout is."""
    if wish.form:
        return wish.form
    return "live" if env.can_move_cursor(os.environ) else "plain"


async def _ask(settings: Settings, wish: Wish, prompt: str) -> Exit:
    session = Session(settings, os.environ, wish.timeout)
    out = writer(form(wish), _look(settings, wish))
    chat: Chat | None = None
    said = ""
    ends = _watch()
    _suspendable(out, painted=form(wish) == "live")
    try:
        if wish.session or wish.again:
            chat = await session.resumed(wish.session, wish.model, wish.provider)
        else:
            provider, model = await session.choose(wish.model, wish.provider)
            pinned = session.pins(wish.model, wish.provider)
            chat = session.chat(provider, model, pinned=pinned)
        chat.params.update(wish.params)
        chat.stream = wish.stream
        async with aclosing(chat.send(prompt)) as events:
            async for event in events:
                out.show(event)
        if chat.latest is not None:  # a copy for a migration, if any: no longer than the answer
            out.close()
            await session.shadow.wait(chat.latest.timings.total)
    except asyncio.CancelledError:
        if not ends or isinstance(ends[0], env.Terminated):
            _interrupted(out, chat.latest if chat else None, painted=form(wish) == "live")
        if ends:
            raise ends[0] from None
        raise
    except Failure as failure:  # a server that was asked for its models; nobody was sent anything
        name = wish.provider or settings.active()
        out.show(Done(Turn("", "", Finish.FAILED, name, wish.model, failure=failure)))
        return _failed(failure, failure.hint)
    except StoreTrouble as trouble:  # whoever ends us says it
        said = trouble.what
        raise
    finally:
        try:
            out.close()
        finally:  # also where the reader has left: what came is kept
            session.recorder.close()
            _warn(session, wish, said)
    turn = chat.latest
    if turn is None:  # cannot be: every turn ends with Done
        return Exit.INTERNAL
    return _report(session, wish, turn)


def _warn(session: Session, wish: Wish, said: str) -> None:
    """What the store has to say, but for what is `said` as the reason of our end."""
    for warning in session.recorder.warnings if not wish.quiet else ():
        if not said or said not in warning:
            env.err(f"holychat: {warning}")


def _look(settings: Settings, wish: Wish) -> Look:
    terminal = env.is_terminal(env.STDOUT)
    # In a pipe, reasoning on stderr is noise unless it was asked for.
    asked = wish.reasoning or (settings["ui.reasoning"] if terminal else "hide")
    return Look(
        color=env.colour(env.STDOUT, os.environ, wish.no_color),
        terminal=terminal,
        reasoning=asked == "show",
        quiet=wish.quiet,
        panel=settings["ui.panel"],
        theme=settings["ui.theme"],
        fps=settings["ui.fps"],
        cash=settings.cash,
    )


async def _rehearse(settings: Settings, wish: Wish, prompt: str) -> Exit:
    """What would be sent: the body on stdout, the rest beside it."""
    from json import dumps

    from holychat.engine.preview import preview, whom

    session = Session(settings, os.environ, wish.timeout)
    try:
        if wish.session or wish.again:
            chat = await session.resumed(wish.session, wish.model, wish.provider)
        else:
            chat = session.chat(*whom(session, wish.model, wish.provider))
        chat.params.update(wish.params)
        chat.stream = wish.stream
        found = await preview(session, chat, prompt)
    finally:
        session.recorder.close()
    if wish.form in ("json", "jsonl"):
        usd = {"cost": found.cost, "answer": found.answer}
        costs = {name: None if one is None else one / 10**12 for name, one in usd.items()}
        env.out(dumps({**found._asdict(), **costs}, ensure_ascii=False))
        return Exit.OK
    env.out(dumps(found.body, ensure_ascii=False, indent=2))
    cost, answer = settings.cash(found.cost), settings.cash(found.answer)
    lines = [
        f"nothing is sent; it would go to {found.url}",
        f"≈{found.tokens:,} tokens in: {cost}; each 1,000 tokens of the answer: {answer}",
    ]
    if found.left_out:
        lines.append(f"the first {found.left_out} turns would be left out")
    if found.refused:
        lines.append(f"it would be refused: {found.refused}")
    for line in () if wish.quiet else lines:
        env.err(f"· {line}", dim=True)
    return Exit.OK


def _watch() -> list[Exception]:
    """Cancel the current task when the reader of our pipe leaves, and on SIGTERM.

    Returns a list that then holds what happened. SIGINT is asyncio.Runner's.
    """
    ends: list[Exception] = []
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is None:  # cannot be: a coroutine that runs is in one
        return ends

    def gone() -> None:
        loop.remove_reader(env.STDOUT)
        ends.append(env.ReaderLeft())
        task.cancel()

    def terminated(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the second one ends us on the spot
        if sys.platform != "win32":  # and so does a full pipe that nobody reads
            signal.signal(signal.SIGALRM, lambda *_: env.end_by(signal.SIGTERM))
            signal.setitimer(signal.ITIMER_REAL, GRACE)
        ends.append(env.Terminated())
        loop.call_soon_threadsafe(task.cancel)

    signal.signal(signal.SIGTERM, terminated)
    try:
        # The write end of a pipe becomes readable when its reader closes, also while nothing is
        # being written; other kinds of stdout are told by the next write.
        if stat.S_ISFIFO(os.fstat(env.STDOUT).st_mode):
            loop.add_reader(env.STDOUT, gone)
    except (OSError, NotImplementedError):  # closed; Windows
        pass
    return ends


def _suspendable(out: Writer, *, painted: bool) -> None:
    """Ctrl-Z takes the panel off the screen first; a next token paints it again."""

    def suspend() -> None:
        out.close()
        env.echo(on=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        env.echo(on=False)

    if painted and hasattr(signal, "SIGTSTP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, suspend)


def _interrupted(out: Writer, turn: Turn | None, *, painted: bool) -> None:
    """Ctrl-C: what came is shown to its end, and said to be a part."""
    if turn is not None:
        try:
            out.show(Done(turn))
        except (env.ReaderLeft, env.OutputFailed):
            return
        if not painted:  # the panel's foot says it
            env.err("holychat: stopped; what came is above" if turn.text else "holychat: stopped")


def _report(session: Session, wish: Wish, turn: Turn) -> Exit:
    """The line about the answer on stderr, and the exit code."""
    if turn.failure is not None:
        hint = session.explain(turn.failure, turn.provider, turn.model)
        return _failed(turn.failure, hint, cut=bool(turn.text))
    if not turn.finish.complete:
        env.err(f"holychat: the answer is not complete: {ending(turn)}")
        return Exit.CUT
    if not wish.quiet and form(wish) == "plain" and env.is_terminal(env.STDERR):
        env.err(
            f"· {turn.model} on {turn.provider} · {summary(turn, session.settings.cash)}", dim=True
        )
    return Exit.OK


def _failed(failure: Failure, hint: str, *, cut: bool = False) -> Exit:
    env.trace(failure)
    env.err(f"holychat: {failure.what}")
    if cut:
        env.err("  The answer is cut off; what came was printed.")
    elif hint:
        env.err(f"  {hint}")
    if cut:
        return Exit.CUT
    return of_failure(failure)
