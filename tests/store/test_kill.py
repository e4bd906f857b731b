"""The short form of kill.py: nothing that was acknowledged is lost, whenever the power goes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import median

from tests.store.kill import kill_many


def test_kill(tmp_path: Path) -> None:
    result = asyncio.run(kill_many(tmp_path, rounds=24, at_once=4))
    assert (result.lost, result.wrong, result.unsound) == ([], [], []), str(result)
    # A machine that tests may be slow; the script says how far behind the journal really is.
    assert result.streaming >= 6, str(result)
    assert median(result.tails) < 0.5, str(result)
