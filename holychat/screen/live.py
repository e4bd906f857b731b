"""The answer in a live panel: rich draws it, a timer paces it.

Owns the panel's looks and its frames: at most `fps` a second, none when nothing changed, and never
so many that painting takes more than a quarter of the time. While it streams, only the last rows
that fit the window are painted, and they are erased before the whole answer is printed once: so
the scrollback has each row once, however tall the answer. Must not know where events come from.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments
from rich.text import Text
from rich.theme import Theme

from holychat import env
from holychat.core.chat import Attempt, Delta, Done, Finish, Notice, Turn
from holychat.core.sanitize import one_line, visible
from holychat.screen.words import seconds, summary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holychat.core.chat import Event
    from holychat.screen import Look

ACCENT = "cyan"
DIM = "bright_black"
# Rich puts inline code on a black ground, which is a hole in a light terminal.
STYLES = {"markdown.code": ACCENT, "markdown.h1": "bold", "markdown.h2": "bold"}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPIN = 0.1  # seconds a spinner step
CODE_THEME = "ansi_dark"  # the terminal's own colours: right on light and dark backgrounds
# Synchronized output: a terminal that knows it shows a frame whole, others ignore it.
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"


def console(look: Look) -> Console:
    """A rich console on stdout that takes nothing in a text for markup."""
    return Console(
        file=sys.stdout,
        theme=Theme(STYLES),
        force_terminal=look.terminal or None,
        no_color=not look.color,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def rule(label: str, width: int, style: str = DIM, *, right: bool = False) -> Text:
    """A horizontal rule with a label near one end, one cell short of the width."""
    room = max(1, width - 1)
    text = Text(f" {one_line(label, max(1, room - 4))} " if label else "", style)
    text.truncate(room - 2)
    line = "─" * max(1, room - 1 - text.cell_len)
    return (
        Text.assemble((line, DIM), text, ("─", DIM))
        if right
        else Text.assemble(("─", DIM), text, (line, DIM))
    )


def markdown(text: str) -> RenderableType:
    """A document as it is painted. The text is foreign: controls are made visible first."""
    return Markdown(visible(text), code_theme=CODE_THEME)


class LiveWriter:
    """Paints turns on a terminal; one panel a turn."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._console = console(look)
        self._live: Live | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reset("")

    def _reset(self, title: str) -> None:
        self._title = title
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._dirty = True
        self._begun = time.monotonic()
        self._thought_for = 0.0

    def show(self, event: Event) -> None:
        if isinstance(event, Attempt):
            self._reset(f"{event.model} · {event.provider}")
            self._start()
        elif isinstance(event, Delta):
            self._add(event)
        elif isinstance(event, Notice):
            if not self._look.quiet:
                self._console.print(Text(f"· {visible(event.text)}", DIM))
        elif isinstance(event, Done):
            self._finish(event.turn)

    def close(self) -> None:
        """Take the panel off the screen; Done prints what came, a next delta paints it again."""
        self._stop()

    def _add(self, delta: Delta) -> None:
        if self._live is None:
            self._start()
        if delta.reasoning and not self._texts:
            self._thoughts.append(delta.reasoning)
            self._thought_for = time.monotonic() - self._begun
            self._dirty = True
        if delta.text:
            self._texts.append(delta.text)
            self._dirty = True

    # --- Frames -----------------------------------------------------------------------------

    def _start(self) -> None:
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self._frame()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        live, self._live = self._live, None
        if live is not None:
            self._write(BEGIN)
            live.update("", refresh=False)
            live.stop()
            self._write(END)

    def _frame(self) -> None:
        live = self._live
        if live is None:
            return
        start = time.monotonic()
        waiting = not self._texts
        if self._dirty or waiting:
            self._dirty = False
            self._write(BEGIN)
            live.update(self._picture(), refresh=True)
            self._write(END)
        spent = time.monotonic() - start
        pause = max(SPIN if waiting else 1 / self._look.fps, 4 * spent)
        self._timer = asyncio.get_running_loop().call_later(pause, self._frame)

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()

    def _picture(self) -> RenderableType:
        """What fits the window: the end of the answer between its rules."""
        width, height = self._console.size
        room = max(1, height - 4)
        parts: list[RenderableType] = []
        if not self._texts:
            if self._thoughts and self._look.reasoning:
                parts.append(self._tail(Text(visible("".join(self._thoughts)), DIM), room // 2))
            waited = time.monotonic() - self._begun
            step = SPINNER[int(waited / SPIN) % len(SPINNER)]
            doing = "thinking" if self._thoughts else "waiting"
            parts.append(Text(f"{step} {doing} {seconds(waited)}", DIM))
        else:
            if self._thoughts:
                parts.append(self._folded())
            parts.append(self._tail(markdown("".join(self._texts)), room - len(parts)))
        return Group(*self._head(width), *parts, Text("─" * max(1, width - 1), DIM))

    def _tail(self, body: RenderableType, rows: int) -> RenderableType:
        """The last rows of a drawing."""
        lines = self._console.render_lines(body, pad=False)[-max(1, rows) :]
        return Segments(_joined(lines))

    def _head(self, width: int) -> list[RenderableType]:
        return [rule(self._title, width, ACCENT)] if self._look.panel == "rules" else []

    def _folded(self) -> Text:
        """Reasoning, folded to one line."""
        length = sum(len(thought) for thought in self._thoughts)
        return Text(f"· thought for {seconds(self._thought_for)} ({length:,} characters)", DIM)

    def _finish(self, turn: Turn) -> None:
        self._stop()
        width = self._console.width
        parts: list[RenderableType] = []
        if self._thoughts and self._look.reasoning:
            parts.append(self._folded())
        if turn.text:
            parts.append(markdown(turn.text))
        said = summary(turn)
        style = DIM if turn.finish is Finish.STOP else "yellow"
        if self._look.panel == "rules" and turn.text:
            parts = [*self._head(width), *parts, rule(said, width, style, right=True)]
        elif turn.text or turn.finish is Finish.INTERRUPTED:
            parts.append(Text(said, style))
        self._console.print(Group(*parts))


def _joined(lines: Iterable[list[Segment]]) -> list[Segment]:
    out: list[Segment] = []
    for line in lines:
        out += line
        out.append(Segment.line())
    return out


class RenderWriter:
    """`--render` where nothing can be painted: the whole answer, drawn once at its end."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._console = console(look)

    def show(self, event: Event) -> None:
        if isinstance(event, Done) and event.turn.text:
            self._console.print(markdown(event.turn.text))
        elif isinstance(event, Notice) and not self._look.quiet:
            env.err(event.text, dim=True)

    def close(self) -> None:
        """Nothing is held open."""
