"""The table of slash commands: one row each, which also feeds help and completion.

Owns what a row says. Must not know a command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holychat.commands.repl.loop import Repl


@dataclass(frozen=True, slots=True)
class Command:
    """`takes` names what completion offers after it: models, providers, params, or words.

    `alone`: it works without a conversation, also where the provider cannot be reached.
    `kept`: it works on what is kept, and so not where nothing is.
    """

    name: str
    usage: str
    help: str
    run: Callable[[Repl, str], Awaitable[None] | None]
    takes: str = ""
    alone: bool = False
    kept: bool = False


class Table(dict[str, Command]):
    """Commands by their names, in the order of /help; called, it is the decorator that adds one."""

    def __call__(
        self,
        usage: str = "",
        takes: str = "",
        name: str = "",
        *,
        alone: bool = False,
        kept: bool = False,
    ) -> Callable[[Any], Any]:
        """Register a function as `/its_name`; the first line of its docstring is its help."""

        def register(function: Callable[[Repl, str], Awaitable[None] | None]) -> Any:
            called = name or function.__name__.rstrip("_")
            text = (function.__doc__ or "").strip().split("\n")[0].rstrip(".")
            self[called] = Command(called, usage, text, function, takes, alone, kept)
            return function

        return register
