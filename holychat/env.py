"""The process around us: streams, terminals, colours, folders.

The only reader of stdin, stdout and stderr. Owns what may be written where: answers go to stdout
and everything else to stderr, controls are made visible before they reach a terminal, and a
reader that left is an event of its own, not an error. Must not know a provider or a setting.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
from typing import TYPE_CHECKING

from holychat.core.failure import UsageError
from holychat.core.sanitize import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import NoReturn

STDIN, STDOUT, STDERR = 0, 1, 2


class ReaderLeft(Exception):  # noqa: N818 - an event, not an error
    """Whoever read our stdout closed it (`| head -1`)."""


class OutputFailed(Exception):  # noqa: N818 - as above
    """stdout cannot be written: a full disk, a closed descriptor."""


class Terminated(Exception):  # noqa: N818 - as above
    """SIGTERM came (`timeout`, a supervisor), and what came until then has been kept."""


def fill_closed() -> None:
    """Give a closed stdin, stdout or stderr (`>&-`) something that fails when it is used.

    Else the next socket would get its number, and the answer would be written into it. The wrong
    direction on purpose, as GNU's programs do: whoever closed a stream meant nobody to read it.
    """
    for stream, way in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_RDONLY)):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, way)  # gets the lowest number that is free: this one
    if sys.stdout is None:  # what Python makes of it; writing to that would be silent, or a crash
        sys.stdout = open(STDOUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def end_by(number: signal.Signals) -> NoReturn:
    """End by the signal itself, so that a shell loop around us stops too."""
    if sys.platform != "win32":
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(128 + number)  # Windows; or another thread is about to get it


def is_terminal(stream: int) -> bool:
    """Whether the descriptor is a terminal; a closed one is none."""
    try:
        return os.isatty(stream)
    except OSError:
        return False


def can_move_cursor(environ: Mapping[str, str]) -> bool:
    """Whether stdout is a terminal that can be painted on, and not only written to."""
    return is_terminal(STDOUT) and environ.get("TERM", "") not in ("", "dumb", "unknown")


def clickable(environ: Mapping[str, str]) -> bool:
    """Whether stdout is a terminal that opens links (OSC 8), as far as it is known.

    Those that do not either say so by their name or ignore what they do not understand, and then
    the address would be nowhere to be seen.
    """
    if not can_move_cursor(environ) or environ.get("NO_COLOR"):
        return False
    if "XTERM_VERSION" in environ or environ.get("TERM_PROGRAM") == "Apple_Terminal":
        return False
    term = environ.get("TERM", "")
    return term != "linux" and (bool(environ.get("TMUX")) or not term.startswith("screen"))


def colour(stream: int, environ: Mapping[str, str], no_color: bool = False) -> bool:
    """Whether to write colours to the stream: NO_COLOR, the flag, FORCE_COLOR, the terminal."""
    if environ.get("NO_COLOR") or no_color:
        return False
    if environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return is_terminal(stream) and environ.get("TERM", "dumb") not in ("", "dumb")


def blocks(environ: Mapping[str, str]) -> bool:
    """Whether what is drawn may be made of block characters.

    Not on the Linux console, whose font lacks most of them, nor where a terminal is dumb or the
    locale names another encoding than UTF-8; one that says nothing is believed to be of our days.
    """
    if is_terminal(STDOUT) and environ.get("TERM", "") in ("dumb", "linux"):
        return False
    names = (environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    locale = next(filter(None, names), "utf-8").lower()
    return "utf-8" in locale or "utf8" in locale


def write(data: bytes, stream: int = STDOUT) -> None:
    """Write all of `data` now. Raises ReaderLeft or OutputFailed.

    Straight to the descriptor: a token is useful when it is out, and Python's buffers would also
    repeat a failed write at exit. A descriptor that somebody made non-blocking is waited for.
    """
    view = memoryview(data)
    try:
        while view:
            try:
                view = view[os.write(stream, view) :]
            except BlockingIOError:
                select.select([], [stream], [])
    except BrokenPipeError as error:
        raise ReaderLeft from error
    except OSError as error:
        raise OutputFailed(error.strerror or str(error)) from error


def out(text: str = "") -> None:
    """One line or text of a command's output (not an answer's) on stdout, newline included."""
    shown = visible(text) if is_terminal(STDOUT) else text
    write(f"{shown}\n".encode("utf-8", "replace"))


def err(text: str = "", *, dim: bool = False) -> None:
    """One line on stderr, controls made visible. Never raises: nobody is left to be told."""
    shown = visible(text)
    if dim and colour(STDERR, os.environ):
        shown = f"\x1b[2m{shown}\x1b[22m"
    try:
        write(f"{shown}\n".encode("utf-8", "replace"), STDERR)
    except (ReaderLeft, OutputFailed):
        pass


def waiting_input() -> bytes:
    """What stands on a terminal's stdin now; nothing is waited for."""
    if sys.platform == "win32" or not is_terminal(STDIN):
        return b""
    data = b""
    while select.select([STDIN], [], [], 0)[0] and (part := os.read(STDIN, 4096)):
        data += part
    return data


def cursor(typed: Callable[[bytes], None] | None, patience: float = 0.5) -> tuple[int, int] | None:
    """The cursor's (row, column), from 1, as the terminal says; None where it does not answer.

    Blocks for `patience` seconds at most. Keys that stand before the answer are handed to `typed`;
    without it nothing is asked where a key waits already, for it belongs to whoever reads next.
    """
    if sys.platform == "win32" or not (is_terminal(STDIN) and is_terminal(STDOUT)):
        return None
    import re
    import termios
    import time

    before = termios.tcgetattr(STDIN)
    raw = [*before[:3], before[3] & ~(termios.ICANON | termios.ECHO), *before[4:]]
    data = b""
    try:
        termios.tcsetattr(STDIN, termios.TCSANOW, raw)
        if typed is None and select.select([STDIN], [], [], 0)[0]:
            return None
        write(b"\x1b[6n")
        until = time.monotonic() + patience
        while not (said := re.search(rb"\x1b\[(\d+);(\d+)R", data)):
            left = until - time.monotonic()
            if left <= 0 or not select.select([STDIN], [], [], left)[0]:
                return None
            data += os.read(STDIN, 4096)
        data = data[: said.start()] + data[said.end() :]
        return int(said[1]), int(said[2])
    except (OSError, termios.error):
        return None  # the terminal went away
    finally:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(STDIN, termios.TCSANOW, before)
        if typed is not None and data:
            typed(data)


def echo(*, on: bool) -> None:
    """Whether keys that are pressed show; signals and line editing stay as they are."""
    if sys.platform != "win32" and is_terminal(STDIN):
        import termios

        flags = termios.tcgetattr(STDIN)
        echoes = termios.ECHO | termios.ECHOCTL
        flags[3] = flags[3] | echoes if on else flags[3] & ~echoes
        termios.tcsetattr(STDIN, termios.TCSANOW, flags)


_debug_file: Path | None = None


def debug_to(path: Path | None) -> None:
    """Where `trace` writes; None leaves it as it was."""
    global _debug_file
    _debug_file = path or _debug_file


def trace(error: BaseException) -> None:
    """Append the traceback to the file of --debug, if there is one. Never raises."""
    if _debug_file is None:
        return
    import traceback

    try:
        with _debug_file.open("a", encoding="utf-8", errors="replace") as file:
            traceback.print_exception(error, file=file)
    except OSError as problem:
        err(f"holychat: nothing is written to {_debug_file}: {problem.strerror}")


def size() -> tuple[int, int]:
    """Columns and rows of the terminal on any of our streams; zeros where there is none."""
    for stream in (STDOUT, STDERR, STDIN):
        try:
            columns, rows = os.get_terminal_size(stream)
        except OSError:
            continue
        return columns, rows
    return 0, 0


def width(default: int = 80) -> int:
    """Columns of the terminal; COLUMNS wins, as everywhere."""
    said = os.environ.get("COLUMNS", "")
    return max(20, int(said) if said.isdigit() else size()[0] or default)


def piped_input(patience: float | None) -> str | None:
    """The text on stdin; see piped_bytes."""
    data = piped_bytes(patience)
    if data is None:
        return None
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    if "\ufffd" in text and b"\xef\xbf\xbd" not in data:
        err("holychat: stdin is not all UTF-8; the rest goes out as U+FFFD")
    return text


def piped_bytes(patience: float | None) -> bytes | None:
    """What is on stdin, where stdin is no terminal; None where nothing comes.

    `patience`: seconds to wait for the first byte, None for as long as it takes. An inherited pipe
    that nobody writes to must not hang the program; once a byte came it is read to the end.
    Raises UsageError for a stdin that cannot be read.
    """
    if is_terminal(STDIN):
        return None
    try:
        if patience is not None and sys.platform != "win32":
            ready, _, _ = select.select([STDIN], [], [], patience)
            if not ready:
                err(f"holychat: nothing came on stdin for {patience:g} s, going on without it")
                err("  (--no-stdin does not wait)")
                return None
        return _read_all()
    except OSError as error:
        if error.errno == errno.EBADF:
            return None  # closed, as cron and some supervisors do
        raise UsageError(f"stdin cannot be read: {error.strerror}") from error


def _read_all() -> bytes:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(STDIN, 1 << 16)
        except BlockingIOError:  # another owner of the pipe made it so
            select.select([STDIN], [], [])
            continue
        if not part:
            return b"".join(parts)
        parts.append(part)


def ask(prompt: str, *, echo: bool = True) -> str:
    """One line that is typed at the terminal, by its own line editor; without `echo`, unseen.

    Raises EOFError at Ctrl-D, and where the terminal went away.
    """
    if not echo:
        from getpass import getpass

        return getpass(visible(prompt)).strip()
    write(visible(prompt).encode("utf-8", "replace"), STDERR)
    try:
        line = sys.stdin.buffer.readline()
    except OSError as error:
        raise EOFError from error
    if not line:
        raise EOFError
    return line.decode("utf-8", "replace").strip()


def home(environ: Mapping[str, str], kind: str) -> str:
    """Our folder for `kind` (config, cache or data), by the system's custom; not created.

    The XDG folders on Linux are spelled out here: platformdirs costs 10 ms and is asked elsewhere.
    """
    if sys.platform.startswith("linux"):
        variable, default = {
            "config": ("XDG_CONFIG_HOME", ".config"),
            "cache": ("XDG_CACHE_HOME", ".cache"),
            "data": ("XDG_DATA_HOME", ".local/share"),
        }[kind]
        base = environ.get(variable, "")
        if not os.path.isabs(base):
            base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), default)
        return os.path.join(base, "holychat")
    else:  # noqa: RET505 - mypy knows only this form of "another system"
        import platformdirs

        ask = {
            "config": platformdirs.user_config_dir,
            "cache": platformdirs.user_cache_dir,
            "data": platformdirs.user_data_dir,
        }[kind]
        return ask("holychat", appauthor=False)
