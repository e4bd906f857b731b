"""What the keys do: at the prompt, and while an answer streams.

Owns the key bindings beyond prompt_toolkit's own (emacs, vi, Ctrl-R, Ctrl-X Ctrl-E), folded
pastes, and the terminal between two prompts: there it is in raw mode, so that typing is kept for
the next prompt and never echoed into the answer.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prompt_toolkit.filters import completion_is_selected, is_searching
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys

from holychat import env
from holychat.core.sanitize import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyPress, KeyPressEvent

FOLD_LINES, FOLD_CHARACTERS = 10, 2000  # a larger paste shows as a placeholder
LEAVE_HINT = "Ctrl-D or quit leaves"


class Pastes:
    """Large pastes, folded to a placeholder while the line is edited."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def fold(self, text: str) -> str:
        """What to insert for a pasted text."""
        lines = text.count("\n") + 1
        if lines <= FOLD_LINES and len(text) <= FOLD_CHARACTERS:
            return text
        size = f"{lines} lines" if lines > 1 else f"{len(text):,} characters"
        name = f"[pasted {size} #{len(self._texts) + 1}]"
        self._texts[name] = text
        return name

    def unfold(self, text: str) -> str:
        """The line with its pastes in full."""
        for name, pasted in self._texts.items():
            text = text.replace(name, pasted)
        return text


def unfinished(text: str) -> bool:
    """Whether Enter adds a line: a trailing backslash or an open triple quote."""
    return text.endswith("\\") or text.count('"""') % 2 == 1


def bindings(
    pastes: Pastes, multiline: Callable[[], bool], cleared: Callable[[str], None]
) -> KeyBindings:
    """The bindings of the prompt; `cleared` is told what Ctrl-C took away."""
    keys = KeyBindings()
    editing = ~is_searching  # Ctrl-R has an Enter and a Ctrl-C of its own
    keys.add("enter", filter=editing & completion_is_selected)(_take_completion)
    keys.add("c-j", filter=editing)(_add_line)

    @keys.add("enter", filter=editing & ~completion_is_selected)
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and unfinished(buffer.text):
            if buffer.text.endswith("\\"):
                buffer.delete_before_cursor()
            _add_line(event)
        elif multiline() and not buffer.text.startswith("/"):
            _add_line(event)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=editing)
    def other_enter(event: KeyPressEvent) -> None:
        if multiline():
            event.current_buffer.validate_and_handle()
        else:
            _add_line(event)

    @keys.add("c-c", filter=editing)
    @keys.add("<sigint>", filter=editing)
    def clear_line(event: KeyPressEvent) -> None:
        text = event.current_buffer.text
        event.current_buffer.reset(append_to_history=bool(text))  # the draft can be called back
        cleared(text)

    @keys.add(Keys.BracketedPaste)
    def paste(event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        event.current_buffer.insert_text(pastes.fold(visible(text)))

    return keys


def _add_line(event: KeyPressEvent) -> None:
    event.current_buffer.newline(copy_margin=False)


def _take_completion(event: KeyPressEvent) -> None:
    """Enter on an offered word takes it and sends nothing yet."""
    event.current_buffer.complete_state = None


def typed_before(source: Input) -> None:
    """Keys that were pressed before the first prompt go to it.

    The terminal was not raw yet and made line feeds of Enter, which would add lines.
    """
    keys: list[KeyPress] = []
    data = env.waiting_input()
    if data:
        parser = Vt100Parser(keys.append)
        parser.feed(data.decode("utf-8", "ignore").replace("\n", "\r"))
        parser.flush()
        store_typeahead(source, keys)


def text_of(keys: Iterable[KeyPress]) -> str:
    """What the keys would leave in an empty line; nearly, for the cursor stays at its end."""
    text = ""
    for press in keys:
        if press.key == Keys.BracketedPaste:
            text += visible(press.data.replace("\r\n", "\n").replace("\r", "\n"))
        elif press.key in (Keys.ControlM, Keys.ControlJ):
            text += "\n"
        elif press.key == Keys.Backspace:
            text = text[:-1]
        elif len(press.key) == 1:  # a character: the others have names
            text += press.key
    return text


class Typing:
    """The keyboard between two prompts, while an answer streams or a command works.

    Ctrl-C calls `stop`, Ctrl-Z suspends the process (`pause` takes the panel off the screen, the
    next token puts it back), Ctrl-N calls `pass_on`; every other key waits for the next prompt, and
    `typed` is told.
    """

    def __init__(
        self,
        source: Input,
        stop: Callable[[], None],
        pause: Callable[[], None],
        typed: Callable[[], None],
        pass_on: Callable[[], None],
    ) -> None:
        self._source = source
        self._pass_on = pass_on
        self._stop = stop
        self._pause = pause
        self._typed = typed
        self._kept: list[KeyPress] = []

    @property
    def ahead(self) -> str:
        """What waits for the next prompt."""
        return text_of(self._kept)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raw mode without echo until the block ends; then the kept keys go to the next prompt."""
        self._bracketed(on=True)
        try:
            with self._source.raw_mode(), self._source.attach(self._read):
                yield
                self._read()
        finally:
            self._bracketed(on=False)
            store_typeahead(self._source, [*self._kept, *self._source.flush_keys()])
            self._kept = []

    def feed(self, data: bytes) -> None:
        """Keys that somebody else read from the terminal, before what comes next."""
        parser = getattr(self._source, "vt100_parser", None)
        if parser is not None:  # not on Windows, where nobody reads in between
            parser.feed(data.decode("utf-8", "surrogateescape"))
            self._read()

    @contextmanager
    def released(self) -> Iterator[None]:
        """The terminal as another program wants it, and nothing of ours that reads from it."""
        self._bracketed(on=False)
        with self._source.detach(), self._source.cooked_mode():
            yield
        self._bracketed(on=True)

    def _read(self) -> None:
        for press in self._source.read_keys():
            if press.key == Keys.ControlC:
                self._stop()
            elif press.key == Keys.ControlN:
                self._pass_on()
            elif press.key == Keys.ControlZ:
                self._suspend()
            elif press.key not in (Keys.CPRResponse, Keys.SIGINT):
                self._kept.append(press)
                self._typed()

    def _suspend(self) -> None:
        if not hasattr(signal, "SIGTSTP"):
            return
        self._pause()
        with self.released():
            os.kill(0, signal.SIGTSTP)  # the whole job, as the terminal itself would

    @staticmethod
    def _bracketed(*, on: bool) -> None:
        """Pastes come as one key, so that their lines do not send themselves."""
        if not env.can_move_cursor(os.environ):
            return
        try:
            env.write(b"\x1b[?2004h" if on else b"\x1b[?2004l")
        except (env.ReaderLeft, env.OutputFailed):
            pass
