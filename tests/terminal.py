"""holychat on a real pty, read by a terminal emulator: what a person types and sees.

    async with Terminal("-m", "demo/long-100", columns=80, lines=24) as term:
        await term.until("›")
        term.type("hello\\r")
        await term.until("tok/s")
        term.rows()                  # scrollback and screen, as text

The emulator answers cursor position requests, as terminals do.
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
from pathlib import Path
from typing import Any

import pyte


class _Screen(pyte.HistoryScreen):
    """pyte's screen, which can answer the program."""

    def __init__(self, columns: int, lines: int, answer: Any) -> None:
        super().__init__(columns, lines, history=100_000, ratio=0.001)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())


class Terminal:
    """One holychat process on its own pty; `environ` is added to an almost empty environment."""

    def __init__(
        self,
        *arguments: str,
        home: Path,
        columns: int = 80,
        lines: int = 24,
        environ: dict[str, str] | None = None,
        program: tuple[str, ...] = (sys.executable, "-m", "holychat"),
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
        self.screen = _Screen(columns, lines, self._write)
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
        self.columns, self.lines = columns, lines
        self.screen.resize(lines, columns)
        self._size()

    def rows(self) -> list[str]:
        """Scrollback and screen from the top, without trailing blanks and empty rows at the end."""
        history = [
            "".join(row[column].data for column in range(self.columns)).rstrip()
            for row in self.screen.history.top
        ]
        rows = [*history, *(line.rstrip() for line in self.screen.display)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def text(self) -> str:
        return "\n".join(self.rows())

    def shown(self) -> list[str]:
        """The screen alone, without the empty rows at its end, and with its numbers blurred.

        Times, rates and counts differ from run to run; golden screens hold `#` in their place,
        with the blanks and rules around them folded.
        """
        rows = [line.rstrip() for line in self.screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return [_blurred(row) for row in rows]

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

    async def until_raw(self, wanted: bytes, seconds: float = 20.0) -> None:
        """Wait until the program has written the bytes (a regular expression)."""
        async with asyncio.timeout(seconds):
            while not re.search(wanted, self.raw):
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

    def _read(self) -> None:
        try:
            data = os.read(self._master, 1 << 16)
        except BlockingIOError:
            return
        except OSError:  # Linux says EIO when the last process has left
            data = b""
        if data:
            self.raw += data
            self._stream.feed(data)
        else:
            self._ended = True
            asyncio.get_running_loop().remove_reader(self._master)
        self._changed.set()

    def _write(self, data: bytes) -> None:
        os.write(self._master, data)

    def _size(self) -> None:
        size = struct.pack("HHHH", self.lines, self.columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)


def _blurred(row: str) -> str:
    if re.search(r"first \d|waiting|thinking|thought for", row):
        row = re.sub(r"─{2,}", "──", row)
        row = re.sub(r"≈?\d[\d,.]*", "#", row).replace(" · # tok/s", "")
    return re.sub(r"≈?\d[\d,]* tok$", "# tok", row)
