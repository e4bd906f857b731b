"""The branch that is written on: its conversation, its messages, its open turn.

Owns the way from "behind the first n exchanges" to rows. Each step is one transaction, and nothing
changes here before that is committed: a step that failed can be done again as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.store import turns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holychat.core.chat import Tried, Turn
    from holychat.store.db import Database


class Branch:
    """Used from the store's thread. `conversation` is empty before the first prompt. Turns that are
    not `durable` do not wait for the disk: whoever keeps them sees to that it follows."""

    def __init__(self, *, durable: bool = True) -> None:
        self.writer = turns.new_writer()
        self.conversation = ""
        self._durable = durable
        self.open: turns.Begun | None = None
        self._messages: list[int] = []  # prompt, answer, prompt, answer
        self._kept = 0  # exchanges above the open turn
        self._number = 0  # of the next entry in the journal

    def begin(
        self,
        db: Database,
        prompt: str,
        kept: int,
        *,
        joined: bool,
        at: int,
        provider: str,
        model: str,
        system: str,
        params: Mapping[str, object],
        fresh: str = "",
    ) -> None:
        """Open a turn behind the first `kept` exchanges; `joined` with the next one's answer.
        `fresh` is the id of a conversation that begins with it."""
        onto = None
        if joined and len(self._messages) > 2 * kept + 1:
            onto = self._messages[2 * kept + 1]
        self.open = turns.begin(
            db,
            self.writer,
            self.conversation,
            prompt,
            self._messages[2 * kept - 1] if kept and self._messages else None,
            provider=provider,
            model=model,
            system=system,
            params=params,
            onto=onto,
            at=at,
            fresh=fresh,
            durable=self._durable,
        )
        self._kept, self._number = kept, 0
        self.conversation = self.open.conversation

    @property
    def messages(self) -> tuple[int, ...]:
        """Prompt, answer, prompt, answer."""
        return tuple(self._messages)

    def journal(self) -> tuple[int, int] | None:
        """(turn, number) of the next piece of the open turn, which `journalled` then counts."""
        return (self.open.turn, self._number) if self.open is not None else None

    def journalled(self) -> None:
        self._number += 1

    def forget(self, db: Database) -> None:
        """The answer begins anew."""
        if self.open is not None and self._number:
            turns.forget(db, self.open.turn)
            self._number = 0

    def end(self, db: Database, turn: Turn, at: int) -> None:
        if self.open is None:
            return
        answer = turns.close(db, self.open, turn, at=at, durable=self._durable)
        if answer is not None:  # until then the old branch is gone on with
            self._messages[2 * self._kept :] = [self.open.prompt, answer]
        self.open = None

    def rewind(self, db: Database, kept: int) -> None:
        messages = self._messages[: 2 * kept]
        if self.conversation:
            turns.rewind(db, self.conversation, messages[-1] if messages else None)
        self._messages = messages

    def enter(self, conversation: str, messages: list[int]) -> None:
        self.conversation, self._messages, self.open = conversation, messages, None

    # --- What stands beside the messages ------------------------------------------------------

    def pin(self, db: Database, number: int, *, pinned: bool) -> None:
        """Both messages of an exchange: a prompt that gets another answer stays pinned."""
        from holychat.store import side

        for message in self._messages[2 * number : 2 * number + 2]:
            side.pin(db, message, pinned=pinned)

    def summarise(self, db: Database, turns: int, text: str) -> None:
        from holychat.store import side

        if 0 < 2 * turns <= len(self._messages):
            side.summarise(db, self.conversation, self._messages[2 * turns - 1], text)

    def spent(self, db: Database, tried: Tried) -> None:
        from holychat.store import side

        if self.conversation:
            side.spent(db, self.conversation, tried)
