"""The answer in a live panel: pieces are drawn as they become final, a timer paces the frames.

Owns the pace: at most `fps` frames a second, none where nothing changed and none while the window
is being dragged; text that comes in lumps is let out evenly, never more than `LAG` late. What a
frame costs does not depend on how long the answer is. Must not know where events come from.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from itertools import chain, islice
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.blocks import Blocks
from holychat.core.chat import Attempt, Delta, Done, Failed, Finish, Queued, Turn
from holychat.core.sanitize import visible
from holychat.core.tokens import weight
from holychat.screen.draw import Drawer, Line
from holychat.screen.paint import Painter
from holychat.screen.panel import SPIN, Panel
from holychat.screen.words import beside, place, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holychat.core.blocks import Piece
    from holychat.core.chat import Event
    from holychat.screen import Look

LAG = 0.12  # seconds over which a lump of text is let out
SMALL = 48  # characters that are no lump
LUMP = 2000  # characters that are let out at least, where more than that waits
BUDGET = 0.015  # seconds of drawing a frame; what is left comes with the next
CALM = 0.5  # seconds between two changes of the foot's words
PATIENCE = 3.0  # seconds of waiting after which the key that hands the turn on is named
SILENT = 2.0  # seconds without a token after which the foot says so


class LiveWriter:
    """Paints turns on a terminal; one panel a turn."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._painter = Painter(color=look.color, environ=os.environ, typed=look.typed)
        self._timer: asyncio.TimerHandle | None = None
        self._open = False  # a panel is on the screen
        self._troubled = False  # an attempt of this turn failed
        self._until = 0.0  # when the next one is made
        self._next = ""  # and by whom
        self._line = ""  # where it stands in which line
        self._usual: float | None = None  # seconds in which its first token comes as a rule
        self._then = ""  # who could be asked instead
        self._reset("")

    def _reset(self, title: str) -> None:
        self._panel = Panel(self._look, title)
        self._blocks = Blocks()
        self._drawer = Drawer(80, self._panel.theme, clickable=env.clickable(os.environ))
        self._rows: Iterator[Line] = iter(())  # final rows that are still to be drawn
        self._pending = False  # the time of a frame was over before they were
        self._waiting: list[Piece] = []  # final pieces behind them
        self._drawn: list[Line] = []  # final rows that wait for the window to be at rest
        self._end: list[Line] = []  # the rows of the open end, as they were last painted
        self._buffer = ""  # text that came and is not let out yet
        self._due = 0.0  # when all of it has to be
        self._recent = ""  # the end of it
        self._begun = False  # text is on the screen
        self._thoughts: list[str] = []  # the reasoning that goes on now
        self._thought_size = 0
        self._thought_for = 0.0
        self._weight = 0.0  # tokens so far, estimated
        self._start = self._heard = time.monotonic()
        self._state, self._stated = "", 0.0
        self._notes: list[str] = []  # what was said beside the text, for below the foot
        self._changed = True
        self._last = 0.0

    def show(self, event: Event) -> None:
        if isinstance(event, Attempt):
            self._attempt(event)
        elif isinstance(event, Delta):
            self._add(event)
        elif isinstance(event, Done):
            self._finish(event.turn)
            self._troubled = False
        elif isinstance(event, Queued):
            self._queue(event)
        else:
            if isinstance(event, Failed):
                self._wait(event)
            if not self._look.quiet and (said := beside(event)):
                self._notice(said)

    def _attempt(self, event: Attempt) -> None:
        """The first of a turn begins a panel; a later one goes on in it, or begins anew below."""
        self._until, self._line = 0.0, ""
        self._usual, self._then = event.usual, event.then
        if self._begun and event.partial:
            self._thoughts.clear()
        else:
            start = self._start
            if self._begun:
                self._part()
            names = dict.fromkeys((event.model, event.provider))  # one, where they are the same
            self._reset(" · ".join(filter(None, names)))
            self._start = start if self._troubled else self._start
            self._stand(event.partial)
        self._schedule()

    def _wait(self, event: Failed) -> None:
        """What comes is on its way again: until when it waits, and who is asked."""
        self._troubled = True
        self._until = time.monotonic() + event.wait
        self._next, self._then = event.then, event.other
        self._stated = 0.0

    def _queue(self, event: Queued) -> None:
        """It stands in a line: for how long, in the place of the spinner's words, no line each."""
        if not (self._open or self._begun):
            self._reset(event.provider)
        self._troubled, self._until = True, time.monotonic() + event.seconds
        self._line, self._then = place(event), event.other
        self._stated = 0.0
        self._schedule()

    def _stand(self, before: str) -> None:
        """The beginning of an answer that is gone on with: its final rows stand on the screen
        already, and only its open end is shown again."""
        for piece in self._blocks.feed(visible(before)):
            for _ in self._drawer.draw(piece):
                pass

    def close(self) -> None:
        """Take what is not final off the screen; Done prints it, a next delta paints it again."""
        self._unschedule()
        if self._open:
            self._painter.erase()
            self._painter.show_cursor()
        self._open = False

    def _add(self, delta: Delta) -> None:
        self._heard = time.monotonic()
        self._weight += weight(delta.text) + weight(delta.reasoning)
        if delta.reasoning:
            self._thoughts.append(delta.reasoning)
            self._thought_size += len(delta.reasoning)
            self._changed = True
        if delta.text:
            if not self._thought_for:
                self._thought_for = self._heard - self._start
            if not self._buffer:
                self._due = self._heard + LAG
            self._buffer += delta.text
            self._recent = (self._recent + delta.text)[-80:]
            self._changed = True
        self._schedule()

    def _notice(self, text: str) -> None:
        """Above the answer at once, below it when it is done; never in its text."""
        if self._begun:
            words = " ".join(self._recent.split()[-4:])
            self._notes.append(f"{text} (behind “{words}”)" if self._until else text)
            return
        columns, lines = self._painter.size()
        tail = self._tail(columns, lines, time.monotonic()) if self._open else []
        self._painter.frame(self._panel.notes(text, columns), tail)

    # --- Frames -----------------------------------------------------------------------------

    def _schedule(self, wait: float | None = None) -> None:
        """The next frame: soon where something changed, else with the spinner's next step."""
        if wait is None:
            pause = 1 / self._look.fps if self._changed else SPIN
            wait = max(0.0, self._last + pause - time.monotonic())
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + wait:
                return
            self._timer.cancel()
        self._timer = loop.call_later(wait, self._frame)

    def _unschedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _frame(self) -> None:
        self._timer = None
        now = time.monotonic()
        if not self._painter.steady(now):
            self._schedule(self._painter.settle)
            return
        columns, lines = self._painter.size()
        self._let_out(now, columns)
        self._open = True
        width = self._panel.inner(columns)
        self._changed = self._changed or width != self._drawer.width
        self._drawer.width = width
        self._drawn += self._final(now + BUDGET)
        tail = self._tail(columns, lines, now)
        if not self._painter.steady(time.monotonic()):  # drawing took its time
            self._schedule(self._painter.settle)
            return
        final, self._drawn = self._drawn, []
        self._painter.frame(final, tail)
        self._last = now
        self._changed = bool(self._waiting) or self._pending or bool(self._buffer)
        self._schedule()

    def _let_out(self, now: float, columns: int) -> None:
        """Hand on as much of the text as is due, so that a lump still reads as a stream."""
        if not self._buffer:
            return
        frames = max(1, math.ceil((self._due - now) * self._look.fps))
        least = LUMP if len(self._buffer) > LUMP else SMALL
        size = max(least, math.ceil(len(self._buffer) / frames))
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        self._take(text, columns)

    def _take(self, text: str, columns: int) -> None:
        if not self._begun:
            self._begun = True
            self._rows = iter(self._head(columns))
        self._thoughts.clear()
        self._waiting += self._blocks.feed(visible(text))

    def _head(self, columns: int) -> list[Line]:
        """What stands above the answer, final as soon as there is one."""
        rows = self._panel.head(columns)
        if self._thoughts and self._look.reasoning:
            rows.append(self._panel.thought(self._thought_for, self._thought_size, columns))
        rows += map(self._panel.row, self._drawer.again())
        return rows

    def _final(self, until: float | None) -> Iterator[Line]:
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
            self._rows = map(self._panel.row, self._drawer.draw(self._waiting.pop(0)))

    def _tail(self, columns: int, lines: int, now: float) -> list[Line]:
        """The part of the panel that is not final: the open end, or the wait; and the foot."""
        room = max(1, min(lines // 3, lines - 3))
        panel = self._panel
        rows: list[Line] = []
        if not self._begun:
            rows += panel.head(columns)
        elif self._pending or self._waiting:
            self._end = []
        else:
            if self._changed:
                drawn = self._drawer.tail(self._blocks.tail(), room)
                self._end = [panel.row(line) for line in drawn]
            rows += self._end
        if self._thoughts and self._look.reasoning:
            rows += panel.thinking(self._thoughts, columns, max(1, room - 2))
        if not self._begun:
            if self._until > now:
                doing = f"{self._line}, about" if self._line else f"{self._next} again in"
                rows.append(panel.waiting(doing, self._until - now, self._key(), columns))
            else:
                rows.append(panel.waiting(*self._waits(now), columns))
        return [*rows, panel.foot(self._said(now) if self._begun else "", columns)]

    def _waits(self, now: float) -> tuple[str, float, str]:
        """What the spinner says: what it does, for how long, and what helps."""
        if self._line:
            return self._line, now - self._start, self._key()
        doing, waited = "thinking" if self._thoughts else "waiting", now - self._start
        said = f"usually {self._usual:.1f} s" if self._usual and not self._thoughts else ""
        late = waited >= max(PATIENCE, 2 * (self._usual or 0.0))
        return doing, waited, (late and self._key()) or said

    def _key(self) -> str:
        """The key that hands the turn on, and to whom."""
        passing = self._look.passing
        return f"{passing} asks {self._then}" if passing and self._then else ""

    def _said(self, now: float) -> str:
        """What the foot says while the answer comes."""
        if now - self._stated >= CALM:
            silent = now - self._heard
            doing = "thinking" if self._thoughts else "writing"
            doing = f"silent for {silent:.0f} s" if silent >= SILENT else doing
            if self._until > self._heard:  # nothing came since it broke off
                left = math.ceil(self._until - now)
                doing = f"broke off, {self._next} goes on" + (f" in {left} s" if left > 0 else "")
            doing = self._line or doing
            tokens = f"≈{max(1, round(self._weight)):,} tok"
            self._state = f"{doing} · {tokens} · {now - self._start:.0f} s"
            self._stated = now
        return self._state

    def _finish(self, turn: Turn) -> None:
        """Everything that is left, and the foot; a turn without text leaves no trace."""
        columns = self._rest()
        foot: list[Line] = []
        warn = turn.finish is not Finish.STOP
        if self._begun:
            foot = [self._panel.foot(summary(turn, self._look.cash), columns, warn=warn)]
        elif turn.failure is None:
            foot = self._panel.notes(summary(turn, self._look.cash), columns)
        foot += [row for text in self._notes for row in self._panel.notes(text, columns)]
        self._painter.frame(foot, [])
        self._painter.show_cursor()
        self._open = False

    def _rest(self) -> int:
        """The rows of all that is left; returns the columns of the window."""
        self._unschedule()
        columns, _ = self._settled()
        self._drawer.width = self._panel.inner(columns)
        if self._buffer:
            self._take(self._buffer, columns)
            self._buffer = ""
        if self._begun:  # else there may be the end of what was to be gone on with
            self._waiting += self._blocks.finish()
        rows = chain(self._drawn, self._final(None))
        while part := list(islice(rows, 200)):
            self._painter.frame(part, [])
        return columns

    def _part(self) -> None:
        """An answer that does not count any more: what came of it stays on the screen."""
        columns = self._rest()
        foot = [self._panel.foot("broke off; it begins anew below", columns, warn=True)]
        foot += [row for text in self._notes for row in self._panel.notes(text, columns)]
        self._painter.frame(foot, [])

    def _settled(self) -> tuple[int, int]:
        """The window's size; a window that is being dragged is waited for, a moment."""
        until = time.monotonic() + 1.0
        while not self._painter.steady(now := time.monotonic()) and now < until:
            time.sleep(0.01)
        return self._painter.size()
