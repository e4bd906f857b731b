"""Completion and the input history, for prompt_toolkit.

Owns what is offered where: commands with their help after a slash, then what the command takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.completion import Completer, Completion, FuzzyWordCompleter
from prompt_toolkit.history import History

from holychat.store import inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from holychat.commands.repl.slash import Command


class SlashCompleter(Completer):
    """`/mo` offers /model; `/model ` offers models."""

    def __init__(
        self,
        commands: dict[str, Command],
        values: Callable[[str], dict[str, str]],
    ) -> None:
        self._commands = commands
        self._values = values

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        word, space, _ = text.partition(" ")
        if space:
            command = self._commands.get(word[1:])
            offered = self._values(command.takes) if command and command.takes else {}
        else:
            offered = {f"/{name}": command.help for name, command in self._commands.items()}
        if offered:
            # Model ids hold slashes, dots and colons: a word is what stands between blanks.
            fuzzy = FuzzyWordCompleter(list(offered), meta_dict=offered, WORD=True)
            yield from fuzzy.get_completions(document, complete_event)


class InputHistory(History):
    """What was typed in earlier sessions; pastes are kept in full. A full disk costs nothing."""

    def __init__(self, path: str, unfold: Callable[[str], str]) -> None:
        super().__init__()
        self._path = path
        self._unfold = unfold

    def load_history_strings(self) -> Iterable[str]:
        """Newest first."""
        return reversed(inputs.read(self._path))

    def append_string(self, string: str) -> None:
        super().append_string(self._unfold(string))

    def store_string(self, string: str) -> None:
        try:
            inputs.add(self._path, string)
        except OSError:
            pass  # it is still in memory, for this session
