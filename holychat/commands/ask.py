"""`holychat ask` and the pipe: one prompt, one answer, an exit code that tells the truth.

Owns the making of the prompt from arguments and stdin, the choice of the writer, and the end of
the process by a signal or a reader that left. stdout carries the answer and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.core.chat import Done
from holychat.core.failure import Failure, Kind, UsageError
from holychat.engine.session import Session
from holychat.exits import Exit
from holychat.screen import Look, writer
from holychat.screen.words import ending, summary

if TYPE_CHECKING:
    from holychat.core.chat import Turn
    from holychat.screen import Writer
    from holychat.settings import Settings

PATIENCE = 1.0  # seconds for the first byte of an inherited stdin, where there is a prompt too


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for. `form` is a WRITERS name, empty to decide by the streams."""

    prompt: str | None = None
    model: str = ""
    provider: str = ""
    form: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    stream: bool = True
    quiet: bool = False
    no_color: bool = False
    no_stdin: bool = False
    reasoning: str = ""  # "show", "hide", or the setting
    timeout: float | None = None


def run(settings: Settings, wish: Wish) -> Exit:
    """Answer one prompt. Raises HolychatError before anything was sent."""
    prompt = compose(wish)
    if not wish.quiet:
        for notice in settings.notices:
            env.err(f"holychat: {notice}", dim=True)
    try:
        with asyncio.Runner() as runner:
            return runner.run(_ask(settings, wish, prompt))
    except env.ReaderLeft:
        return Exit.PIPE
    except env.OutputFailed as error:
        env.err(f"holychat: the answer cannot be written: {error}")
        return Exit.INTERNAL


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
    try:
        provider, model = await session.choose(wish.model, wish.provider)
    except Failure as failure:
        return _failed(failure, failure.hint)
    chat = session.chat(provider, model)
    chat.params.update(wish.params)
    chat.stream = wish.stream
    out = writer(form(wish), _look(settings, wish))
    task = asyncio.current_task()
    left = _watch_reader(task)
    try:
        async with aclosing(chat.send(prompt)) as events:
            async for event in events:
                out.show(event)
    except asyncio.CancelledError:
        if left:
            raise env.ReaderLeft from None
        _interrupted(out, chat.latest)
        raise
    finally:
        out.close()
    turn = chat.latest
    if turn is None:  # cannot be: every turn ends with Done
        return Exit.INTERNAL
    return _report(session, wish, turn)


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
        fps=settings["ui.fps"],
    )


def _watch_reader(task: asyncio.Task[Any] | None) -> list[bool]:
    """Cancel the task when the reader of our pipe leaves, also while nothing is being written.

    Returns a list that is not empty once that happened. The write end of a pipe becomes readable
    when its reader closes; other kinds of stdout are told by the next write.
    """
    left: list[bool] = []
    try:
        if task is None or not stat.S_ISFIFO(os.fstat(env.STDOUT).st_mode):
            return left

        def gone() -> None:
            asyncio.get_running_loop().remove_reader(env.STDOUT)
            left.append(True)
            task.cancel()

        asyncio.get_running_loop().add_reader(env.STDOUT, gone)
    except (OSError, NotImplementedError):  # closed; Windows
        pass
    return left


def _interrupted(out: Writer, turn: Turn | None) -> None:
    """Ctrl-C: what came is shown to its end, and said to be a part."""
    if turn is not None:
        try:
            out.show(Done(turn))
        except (env.ReaderLeft, env.OutputFailed):
            return
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
        env.err(f"· {turn.model} on {turn.provider} · {summary(turn)}", dim=True)
    return Exit.OK


def _failed(failure: Failure, hint: str, *, cut: bool = False) -> Exit:
    env.err(f"holychat: {failure.what}")
    if cut:
        env.err("  The answer is cut off; what came was printed.")
    elif hint:
        env.err(f"  {hint}")
    if cut:
        return Exit.CUT
    return Exit.SETTINGS if failure.kind is Kind.AUTH else Exit.PROVIDERS
