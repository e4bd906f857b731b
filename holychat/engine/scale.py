"""How the models count: the ratios of the estimate, as they were learned from what servers report.

Owns what this process knows of them and when something is learned. Without a store it is learned
for this run. Must not estimate: `core.tokens` does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holychat.core.provider import DEMO
from holychat.core.tokens import DOCUMENTED, Ratios

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.core.chat import Request, Turn
    from holychat.store.ratios import Report
    from holychat.store.recorder import Recorder

PATIENCE = 0.2  # seconds that a prompt waits to hear of them; the documented ones do too


class Scale:
    """The ratios of the models of this session."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: dict[str, Ratios] = {}

    def of(self, provider: str, model: str) -> Ratios:
        return self._known.get(f"{provider}/{model}", DOCUMENTED)

    async def load(self, provider: str, model: str) -> None:
        """Hear from the store what is known of a model, once."""
        name = f"{provider}/{model}"
        if name in self._known or not self._stored:
            return
        from holychat.store.ratios import get

        asked = asyncio.wrap_future(self._recorder.ask(lambda db: get(db, name)))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({asked}, timeout=PATIENCE)
        if asked.done() and not asked.exception():
            self._known.setdefault(name, asked.result())

    def learn(self, request: Request, turn: Turn) -> None:
        """From a turn that ended; nobody waits for it."""
        reports = _reports(request, turn)
        if not reports:
            return
        from holychat.store import ratios

        name = f"{turn.provider}/{turn.model}"
        if not self._stored:
            self._known[name] = ratios.after(self._known.get(name, DOCUMENTED), reports)
            return
        told = self._recorder.ask(lambda db: ratios.taught(db, name, reports))

        def known(_: object) -> None:
            if not told.cancelled() and told.exception() is None:
                self._known[name] = told.result()

        told.add_done_callback(known)

    @property
    def _stored(self) -> bool:
        return self._recorder.path is not None and self._recorder.keeping


def _reports(request: Request, turn: Turn) -> Sequence[Report]:
    """What a turn teaches: only what the server counted, where it is known what that was."""
    last = turn.attempts[-1] if turn.attempts else None
    if last is None or last.role or last.at or request.partial or turn.provider == DEMO:
        return ()
    if request.raw is not None:  # there is more in it than its texts
        return ()
    usage = last.usage
    if usage is None or usage.estimated or turn.failure is not None:
        return ()
    reports: list[Report] = [([each.content for each in request.messages], True, usage.prompt)]
    alone = sum(not each.role for each in turn.attempts) == 1
    thought = bool(turn.reasoning) == bool(usage.reasoning)  # else nobody knows what was counted
    if alone and thought and turn.finish.complete:
        reports.append(([turn.text], False, usage.completion - usage.reasoning))
    return reports
