"""holychat on a real pty, read by a terminal emulator: what a person types and sees.

    async with Terminal("-m", "demo/long-100", columns=80, lines=24) as term:
        await term.until("›")
        term.type("hello\\r")
        await term.until("tok/s")
        term.rows()                  # scrollback and screen, as text

The emulator answers cursor position requests, as terminals do, and takes resizes as one of the two
kinds of terminals does: see `Screen`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyte
import pyte.modes as mo
from pyte.screens import Char, StaticDefaultDict
from wcwidth import wcwidth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


class Row(StaticDefaultDict[int, Char]):
    """A row of cells, which knows what became of it."""

    def __init__(self) -> None:
        super().__init__(Char(" "))
        self.end = 0  # where autowrap left it for the next row; 0 if nothing did
        self.cut = ""  # what a narrower window took from it

    def text(self) -> str:
        """Its cells to its own extent: it may be older than the width of now."""
        return "".join(self[column].data for column in range(max(self, default=-1) + 1))

    def erase(self, start: int) -> None:
        for column in [column for column in self if column >= start]:
            del self[column]
        if self.get(start - 1, self.default).data and _width(self[start - 1].data) == 2:
            del self[start - 1]  # half of a wide character is none
        self.end, self.cut = 0, ""

    def narrow(self, columns: int) -> None:
        """Take what is right of the width, with a wide character that stands across the edge."""
        edge = columns - (columns in self and not self[columns].data)
        cut = "".join(self[column].data for column in range(edge, max(self, default=-1) + 1))
        for column in [column for column in self if column >= edge]:
            del self[column]
        self.cut = cut + self.cut
        self.end = min(self.end, columns)


class Screen(pyte.HistoryScreen):
    """pyte's screen, which answers the program, and which terminals would know as one of theirs.

    Two kinds of resizing. With `reflows`, as VTE, kitty and tmux do it: rows are joined where
    autowrap broke them and wrapped anew, also in the scrollback. Without, as xterm, the Linux
    console and GNU screen do it: rows stay and lose what is right of the window. In both a lower
    window pushes into the scrollback what must leave for the cursor to stay in sight.
    """

    def __init__(
        self,
        columns: int,
        lines: int,
        answer: Callable[[bytes], object] = lambda _: None,
        *,
        reflows: bool = False,
    ) -> None:
        super().__init__(columns, lines, history=100_000, ratio=0.001)
        self.buffer: Any = defaultdict(Row)  # of Row by y
        self._answer = answer
        self._reflows = reflows

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())

    def report_device_status(self, mode: int) -> None:
        """Behind a full row the cursor is said to be on its last cell."""
        with self._on_a_cell():
            super().report_device_status(mode)

    def draw(self, data: str) -> None:
        """As pyte does, but a wide character is not split at the edge and no joiner is lost."""
        buffer, cursor, columns = self.buffer, self.cursor, self.columns
        row, attrs = buffer[cursor.y], cursor.attrs
        for char in data.translate(self.g1_charset if self.charset else self.g0_charset):
            width = 1 if " " <= char <= "~" else _width(char)
            if width <= 0:
                self._combine(char)
                continue
            if cursor.x + width > columns:
                if mo.DECAWM in self.mode:
                    row.end = cursor.x
                    self.carriage_return()
                    self.linefeed()
                    row = buffer[cursor.y]
                else:
                    cursor.x = columns - width
            x = cursor.x
            if x in row and not row[x].data:  # the second half of a wide one
                row[x - 1] = Char(" ")
            row[x] = attrs._replace(data=char)
            if width == 2:
                row[x + 1] = attrs._replace(data="")
            cursor.x = x + width
            if cursor.x in row and not row[cursor.x].data:
                row[cursor.x] = Char(" ")

    def _combine(self, char: str) -> None:
        """Onto the character before the cursor, which may end the row above."""
        row, x = self.buffer[self.cursor.y], self.cursor.x
        if x == 0 and self.cursor.y and self.buffer[self.cursor.y - 1].end:
            row = self.buffer[self.cursor.y - 1]
            x = row.end
        x -= 1 if row[x - 1].data else 2
        if x >= 0:
            row[x] = row[x]._replace(data=row[x].data + char)

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        row = self.buffer[self.cursor.y]
        with self._on_a_cell():
            if how == 1:
                super().erase_in_line(how, private)
            else:
                row.erase(0 if how == 2 else self.cursor.x)

    def erase_in_display(self, how: int = 0, *args: Any, **kwargs: Any) -> None:
        super().erase_in_display(how, *args, **kwargs)
        first = {0: self.cursor.y + 1, 2: 0, 3: 0}.get(how, self.lines)
        for y in range(first, self.lines):
            self.buffer.pop(y, None)

    @contextmanager
    def _on_a_cell(self) -> Iterator[None]:
        """pyte puts the cursor behind a full row; terminals keep it on the last cell."""
        x = self.cursor.x
        self.cursor.x = min(x, self.columns - 1)
        yield
        self.cursor.x = x

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        lines, columns = lines or self.lines, columns or self.columns
        if columns != self.columns:
            if self._reflows:
                self._reflow(columns)
            else:
                self.cursor.x = min(self.cursor.x, columns - 1, self.columns - 1)
                for row in self.buffer.values():
                    row.narrow(columns)
            self.columns = columns
        self._scroll(max(0, self.cursor.y - lines + 1))
        for y in [y for y in self.buffer if y >= lines]:
            del self.buffer[y]
        self.lines = lines
        self.margins = None

    def _scroll(self, count: int) -> None:
        """Rows leave at the top; the cursor goes along."""
        rows = [self.buffer[y] for y in range(max([self.cursor.y, *self.buffer]) + 1)]
        self.history.top.extend(rows[:count])
        self.buffer.clear()
        self.buffer.update(enumerate(rows[count:]))
        self.cursor.y -= count

    def _reflow(self, columns: int) -> None:
        """Wrap everything anew; what was at the top of the screen stays there."""
        old = list(self._all())
        top, here = len(self.history.top), len(self.history.top) + self.cursor.y
        new: list[Row] = []
        new_top, new_here = 0, (0, 0)
        cells: list[Char] = []
        marks: list[tuple[int, bool]] = []  # offsets in the line: of the top, of the cursor
        for at, row in enumerate(old):
            if at == top:
                marks.append((len(cells), False))
            if at == here:
                marks.append((len(cells) + self.cursor.x, True))
            cells += _cells(row)
            if row.end and at + 1 < len(old):
                continue
            first = len(new)
            starts = _wrapped(cells, columns, new)
            for offset, is_cursor in marks:
                down = max(n for n, start in enumerate(starts) if start <= offset)
                if is_cursor:
                    edge = columns - (offset > len(cells))  # behind a full row, but not in the void
                    new_here = (first + down, min(offset - starts[down], edge))
                else:
                    new_top = first + down
            cells, marks = [], []
        self.history.top.clear()
        self.history.top.extend(new[:new_top])
        self.buffer.clear()
        self.buffer.update(enumerate(new[new_top:]))
        self.cursor.y, self.cursor.x = new_here[0] - new_top, new_here[1]

    def rows(self) -> list[str]:
        """Scrollback and screen, without trailing blanks and empty rows at the end."""
        return _ended(self.written())

    def written(self) -> list[str]:
        """Scrollback and screen with the blanks that the program wrote at the ends of rows."""
        return [row.text() for row in self._all()]

    def joined(self) -> list[str]:
        """The same, joined where autowrap broke it, and with what narrower windows took away."""
        lines, open_ = [""], False
        for row in self._all():
            if not open_:
                lines.append("")
            lines[-1] += row.text() + row.cut
            open_ = row.end > 0
        return _ended(lines[1:])

    def _all(self) -> Iterator[Row]:
        top: Any = self.history.top
        yield from top
        yield from (self.buffer[y] for y in range(self.lines))


def _width(text: str) -> int:
    return wcwidth(text[0]) if text else 0


def _cells(row: Row) -> list[Char]:
    """What belongs to a row's line: up to where autowrap left it, else to its last character."""
    end = row.end or max((x for x, char in row.items() if char.data not in ("", " ")), default=-1)
    end += 0 if row.end else 1
    return [row[x] for x in range(end + (end in row and not row[end].data))]


def _wrapped(cells: list[Char], columns: int, rows: list[Row]) -> list[int]:
    """Add the rows of a line; at which of its cells they start."""
    starts = [0]
    rows.append(Row())
    for at, cell in enumerate(cells):
        wide = at + 1 < len(cells) and not cells[at + 1].data
        if at - starts[-1] + 1 + wide > columns:
            rows[-1].end = at - starts[-1]
            rows.append(Row())
            starts.append(at)
        rows[-1][at - starts[-1]] = cell
    return starts


def _ended(rows: Iterable[str]) -> list[str]:
    stripped = [row.rstrip() for row in rows]
    while stripped and not stripped[-1]:
        stripped.pop()
    return stripped


class Terminal:
    """One holychat process on its own pty; `environ` is added to an almost empty environment.

    `reflows` is the kind of the terminal: whether it wraps what stands on it anew at a resize.
    """

    def __init__(
        self,
        *arguments: str,
        home: Path,
        columns: int = 80,
        lines: int = 24,
        environ: dict[str, str] | None = None,
        program: tuple[str, ...] = (sys.executable, "-m", "holychat"),
        reflows: bool = False,
    ) -> None:
        self._command = [*program, *arguments]
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            **(environ or {}),
        }
        self._home = home
        self.columns, self.lines = columns, lines
        self.screen = Screen(columns, lines, self._write, reflows=reflows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()  # everything that was painted
        self._changed = asyncio.Event()
        self._ended = False

    async def __aenter__(self) -> Terminal:
        self._master, slave = pty.openpty()
        self._size()
        self.process = subprocess.Popen(
            self._command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._environ,
            cwd=self._home,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def type(self, keys: str) -> None:
        """Press keys: `\\r` is Enter, `\\x03` Ctrl-C, `\\x1b\\r` Alt-Enter."""
        self._write(keys.encode())

    def paste(self, text: str) -> None:
        """A bracketed paste, as terminals send it."""
        self._write(b"\x1b[200~" + text.encode() + b"\x1b[201~")

    def resize(self, columns: int, lines: int) -> None:
        """Another size; what was written until now is taken in at the old one."""
        self.columns, self.lines = columns, lines
        self._size()
        while not self._ended and self._read():
            pass
        self.screen.resize(lines, columns)

    def rows(self) -> list[str]:
        """Scrollback and screen from the top, without trailing blanks and empty rows at the end."""
        return self.screen.rows()

    def text(self) -> str:
        return "\n".join(self.rows())

    def shown(self) -> list[str]:
        """The screen alone, without the empty rows at its end, and with its numbers blurred.

        Times, rates and counts differ from run to run; golden screens hold `#` in their place,
        with the blanks and rules around them folded.
        """
        return [_blurred(row) for row in _ended(self.screen.display)]

    async def until(self, wanted: str, seconds: float = 20.0, *, times: int = 1) -> None:
        """Wait until the text (a regular expression) is there `times` times."""
        try:
            async with asyncio.timeout(seconds):
                while len(re.findall(wanted, self.text())) < times:
                    assert not self._ended, f"ended without {wanted!r}:\n{self.text()}"
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{wanted!r} never came:\n{self.text()}") from None

    async def until_raw(self, wanted: bytes, seconds: float = 20.0, *, since: int = 0) -> None:
        """Wait until the program has written the bytes (a regular expression), behind `since`."""
        async with asyncio.timeout(seconds):
            while not re.search(wanted, self.raw[since:]):
                self._changed.clear()
                await self._changed.wait()

    async def quiet(self, seconds: float = 0.3) -> None:
        """Wait until nothing is painted for a while."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return
            if self._ended:
                return

    async def end(self, seconds: float = 20.0) -> int:
        """Wait for the process to end; its exit code, negative for a signal."""
        async with asyncio.timeout(seconds):
            while self.process.poll() is None:
                await asyncio.sleep(0.02)
        self._read()
        return self.process.returncode

    def _read(self) -> bool:
        """Take in what the program wrote; whether there was anything."""
        try:
            data = os.read(self._master, 1 << 16)
        except BlockingIOError:
            return False
        except OSError:  # Linux says EIO when the last process has left
            data = b""
        if data:
            self.raw += data
            self._stream.feed(data)
        else:
            self._ended = True
            asyncio.get_running_loop().remove_reader(self._master)
        self._changed.set()
        return bool(data)

    def _write(self, data: bytes) -> None:
        os.write(self._master, data)

    def _size(self) -> None:
        size = struct.pack("HHHH", self.lines, self.columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)


def _blurred(row: str) -> str:
    if re.search(r"first \d|waiting|thinking|thought for", row):
        row = re.sub(r"─{2,}", "──", row)
        row = re.sub(r"≈?\d[\d,.]*", "#", row).replace(" · # tok/s", "")
    return re.sub(r"≈?\d[\d,]* tok(?=$|   )", "# tok", row)
