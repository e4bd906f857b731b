"""The answer as it is, byte for byte as it comes: for pipes and for terminals that cannot paint.

A pipe gets the model's text verbatim and one final newline; a terminal gets it with controls made
visible. Reasoning and notices go to stderr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat import env
from holychat.core.chat import Attempt, Delta, Done
from holychat.core.sanitize import visible
from holychat.screen.words import beside

if TYPE_CHECKING:
    from holychat.core.chat import Event
    from holychat.screen import Look


class PlainWriter:
    """Text to stdout, unbuffered."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._at_line_start = True  # of stdout
        self._thinking = False  # stderr is in the middle of a line of reasoning
        self._begun = False  # some of the answer is out

    def show(self, event: Event) -> None:
        if isinstance(event, Delta):
            if event.reasoning and self._look.reasoning:
                self._think(event.reasoning)
            if event.text:
                self._end_thought()
                self._write(event.text)
            self._begun = self._begun or bool(event.text.strip())
        elif isinstance(event, Done):
            self.close()
        elif isinstance(event, Attempt):
            if self._begun and not event.partial:
                self.close()
                if not self._look.quiet:
                    self._say("what came does not count: the answer begins anew")
        elif not self._look.quiet and (said := beside(event)):
            self._say(said)

    def close(self) -> None:
        self._end_thought()
        if not self._at_line_start:
            self._write("\n")

    def _say(self, text: str) -> None:
        """A line on stderr; on a terminal that both share, on a row of its own."""
        self._end_thought()
        if self._look.terminal and not self._at_line_start and env.is_terminal(env.STDERR):
            text = f"\n{text}"
        env.err(text, dim=True)

    def _write(self, text: str) -> None:
        shown = visible(text) if self._look.terminal else text
        env.write(shown.encode("utf-8", "replace"))
        self._at_line_start = text.endswith("\n")

    def _think(self, text: str) -> None:
        if self._look.terminal and not (self._thinking or self._at_line_start):
            self._write("\n")  # it would go on in the line of the answer
        try:
            env.write(visible(text).encode("utf-8", "replace"), env.STDERR)
        except (env.ReaderLeft, env.OutputFailed):
            return  # stderr is gone; the answer is not
        self._thinking = True

    def _end_thought(self) -> None:
        if self._thinking:
            self._thinking = False
            env.err("\n")
