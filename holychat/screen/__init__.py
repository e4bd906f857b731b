"""Border to the eyes: events in, a terminal, a pipe or JSON out.

Owns the looks of an answer. Never fetches, never stores. A writer gets every event of a turn
through `show` and is closed once; one that is closed in the middle of a turn leaves what came
readable. Adding an output form is one row in WRITERS.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from holychat.core.price import money

if TYPE_CHECKING:
    from collections.abc import Callable

    from holychat.core.chat import Event


@dataclass(frozen=True, slots=True)
class Look:
    """What a writer may know of the user's wishes. `fps` bounds the frames a second.

    `typed` takes the keys that are read while the terminal is asked where its cursor is. `passing`
    is the key that hands a turn which waits to the next provider. `cash` says a sum of 10^-12 US
    dollars in the user's currency.
    """

    color: bool = False
    terminal: bool = False  # stdout is a terminal: controls are made visible
    reasoning: bool = True
    quiet: bool = False
    panel: str = "rules"
    theme: str = "calm"
    fps: int = 20
    typed: Callable[[bytes], None] | None = None
    passing: str = ""
    cash: Callable[[int | None], str] = money


class Writer(Protocol):
    """Where the events of turns go."""

    def show(self, event: Event) -> None:
        """Show one event. Raises env.ReaderLeft and env.OutputFailed."""

    def close(self) -> None:
        """Finish what is on the screen; called also after a cancellation."""


# Modules are named and not imported: a pipe must not pay for rich.
WRITERS: dict[str, tuple[str, str]] = {
    "live": ("holychat.screen.live", "LiveWriter"),
    "plain": ("holychat.screen.plain", "PlainWriter"),
    "render": ("holychat.screen.render", "RenderWriter"),
    "json": ("holychat.screen.data", "JsonWriter"),
    "jsonl": ("holychat.screen.data", "JsonLinesWriter"),
}


def writer(name: str, look: Look) -> Writer:
    """The writer of that name."""
    module, cls = WRITERS[name]
    made: Writer = getattr(import_module(module), cls)(look)
    return made
