"""The answer in a live panel: pieces are drawn as they become final, a timer paces the frames.

Owns the panel's looks and its pace: at most `fps` frames a second, none when nothing changed, and
text that comes in lumps is let out evenly, never more than `LAG` late. What a frame costs does not
depend on how long the answer is. Must not know where events come from.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from holychat import env
from holychat.core.blocks import Blocks
from holychat.core.chat import Attempt, Delta, Done, Finish, Notice, Turn
from holychat.core.sanitize import one_line, visible
from holychat.screen.draw import WRAPPER, Drawer, Line, document
from holychat.screen.paint import Painter
from holychat.screen.theme import theme
from holychat.screen.words import seconds, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holychat.core.blocks import Piece
    from holychat.core.chat import Event
    from holychat.screen import Look

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPIN = 0.1  # seconds a spinner step
LAG = 0.12  # seconds over which a lump of text is let out
BUDGET = 0.015  # seconds of drawing a frame; what is left comes with the next
LUMP = 2000  # characters that are let out at least, where more than that waits


class LiveWriter:
    """Paints turns on a terminal; one panel a turn."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._theme = theme()
        self._painter = Painter(color=look.color, environ=os.environ)
        self._timer: asyncio.TimerHandle | None = None
        self._open = False  # a panel is on the screen
        self._reset("")

    def _reset(self, title: str) -> None:
        self._title = title
        self._blocks = Blocks()
        self._drawer = Drawer(80, self._theme, clickable=os.environ.get("TERM") != "linux")
        self._rows: Iterator[Line] = iter(())  # final rows that are still to be drawn
        self._pending = False  # the time of a frame was over before they were
        self._waiting: list[Piece] = []  # final pieces behind them
        self._buffer = ""  # text that came and is not let out yet
        self._due = 0.0  # when all of it has to be
        self._begun = False  # text is on the screen
        self._thoughts: list[str] = []
        self._thought_size = 0
        self._start = time.monotonic()
        self._thought_for = 0.0
        self._changed = True
        self._last = 0.0

    def show(self, event: Event) -> None:
        if isinstance(event, Attempt):
            self._reset(f"{event.model} · {event.provider}")
            self._schedule()
        elif isinstance(event, Delta):
            self._add(event)
        elif isinstance(event, Notice):
            if not self._look.quiet:
                self._painter.frame([self._dim(f"· {event.text}")], [])
        elif isinstance(event, Done):
            self._finish(event.turn)

    def close(self) -> None:
        """Take what is not final off the screen; Done prints it, a next delta paints it again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._open:
            self._painter.erase()
            self._painter.show_cursor()
        self._open = False

    def _add(self, delta: Delta) -> None:
        if delta.reasoning and not self._begun:
            self._thoughts.append(delta.reasoning)
            self._thought_size += len(delta.reasoning)
            self._thought_for = time.monotonic() - self._start
            self._changed = True
        if delta.text:
            if not self._buffer:
                self._due = time.monotonic() + LAG
            self._buffer += delta.text
            self._changed = True
        self._schedule()

    # --- Frames -----------------------------------------------------------------------------

    def _schedule(self) -> None:
        """The next frame, unless there is one coming."""
        if self._timer is None and (self._changed or not self._begun):
            pause = 1 / self._look.fps if self._changed else SPIN
            wait = max(0.0, self._last + pause - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._frame)

    def _frame(self) -> None:
        self._timer = None
        now = time.monotonic()
        self._let_out(now)
        self._open = True
        self._drawer.width = self._painter.size()[0]
        final = list(self._drawn(now + BUDGET))
        busy = bool(self._waiting) or self._pending
        self._painter.frame(final, self._tail(busy))
        self._last = now
        self._changed = busy or bool(self._buffer)
        self._schedule()

    def _let_out(self, now: float) -> None:
        """Hand on as much of the text as is due, so that a lump still reads as a stream."""
        if not self._buffer:
            return
        left = max(0.0, self._due - now)
        share = 1.0 if left <= 0 else min(1.0, (1 / self._look.fps) / left)
        size = max(LUMP if len(self._buffer) > LUMP else 1, math.ceil(len(self._buffer) * share))
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        self._take(text)

    def _take(self, text: str) -> None:
        if not self._begun:
            self._begun = True
            self._head()
        self._waiting += self._blocks.feed(visible(text))

    def _head(self) -> None:
        """What stands above the answer, final as soon as there is one."""
        rows = [self._rule(self._title, "accent")] if self._look.panel == "rules" else []
        if self._thoughts and self._look.reasoning:
            rows.append(self._folded())
        self._rows = iter(rows)

    def _drawn(self, until: float | None) -> Iterator[Line]:
        """Final rows, until the time is over (one at least)."""
        self._pending = False
        while True:
            for line in self._rows:
                yield line
                if until is not None and time.monotonic() > until:
                    self._pending = True
                    return
            if not self._waiting:
                return
            self._rows = self._drawer.draw(self._waiting.pop(0))

    def _tail(self, busy: bool) -> list[Line]:
        """The part of the panel that is not final: the open end, or the wait; and the foot."""
        columns, lines = self._painter.size()
        room = max(1, min(lines // 2, lines - 3))
        rows: list[Line] = []
        if self._begun:
            if not busy:
                rows = self._drawer.tail(self._blocks.tail(), room)
        else:
            if self._look.panel == "rules":
                rows.append(self._rule(self._title, "accent"))
            if self._thoughts and self._look.reasoning:
                rows += self._thinking(columns, room // 2)
            rows.append(self._wait_line())
        return [*rows, self._dim("─" * (columns - 1))]

    def _wait_line(self) -> Line:
        waited = time.monotonic() - self._start
        step = SPINNER[int(waited / SPIN) % len(SPINNER)]
        doing = "thinking" if self._thoughts else "waiting"
        return self._dim(f"{step} {doing} {seconds(waited)}")

    def _thinking(self, columns: int, room: int) -> list[Line]:
        """The last rows of the reasoning."""
        end = ""
        for thought in reversed(self._thoughts):
            end = thought + end
            if len(end) > columns * (room + 2):
                break
        text = Text(visible(end).strip(), end="")
        lines = text.wrap(WRAPPER, max(4, columns - 1), overflow="fold")[-max(1, room) :]
        return [self._dim(line.plain.rstrip()) for line in lines]

    # --- Looks ------------------------------------------------------------------------------

    def _dim(self, text: str) -> Line:
        columns, _ = self._painter.size()
        return [
            Segment(
                one_line(text, columns - 1) if len(text) >= columns else visible(text),
                self._theme["dim"],
            )
        ]

    def _rule(self, label: str, role: str, *, right: bool = False) -> Line:
        """A horizontal rule with a label near one end, one cell short of the width."""
        room = max(1, self._painter.size()[0] - 1)
        text = Text(f" {one_line(label, max(1, room - 4))} " if label else "", end="")
        text.truncate(max(1, room - 2))
        line = "─" * max(1, room - 1 - text.cell_len)
        dim: Style = self._theme["dim"]
        words = Segment(text.plain, self._theme[role])
        if right:
            return [Segment(line, dim), words, Segment("─", dim)]
        return [Segment("─", dim), words, Segment(line, dim)]

    def _folded(self) -> Line:
        """Reasoning, folded to one line."""
        return self._dim(
            f"· thought for {seconds(self._thought_for)} ({self._thought_size:,} characters)"
        )

    def _finish(self, turn: Turn) -> None:
        """Everything that is left, and the foot; a turn without text leaves no trace."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drawer.width = self._painter.size()[0]
        if self._buffer:
            self._take(self._buffer)
            self._buffer = ""
        self._waiting += self._blocks.finish()
        rows = self._drawn(None)
        while part := list(islice(rows, 200)):
            self._painter.frame(part, [])
        role = "dim" if turn.finish is Finish.STOP else "warn"
        foot: list[Line] = []
        if self._begun or turn.finish is Finish.INTERRUPTED:
            said = summary(turn)
            framed = self._look.panel == "rules" and self._begun
            foot = [self._rule(said, role, right=True)] if framed else [self._dim(said)]
        self._painter.frame(foot, [])
        self._painter.show_cursor()
        self._open = False


class RenderWriter:
    """`--render` where nothing can be painted: the whole answer, drawn once at its end."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def show(self, event: Event) -> None:
        if isinstance(event, Done) and event.turn.text:
            width = env.width()
            console = Console(
                width=width,
                force_terminal=self._look.color,
                no_color=not self._look.color,
                highlight=False,
            )
            with console.capture() as drawn:
                console.print(document(event.turn.text), end="")
            env.write(drawn.get().encode("utf-8", "replace"))
        elif isinstance(event, Notice) and not self._look.quiet:
            env.err(event.text, dim=True)

    def close(self) -> None:
        """Nothing is held open."""
