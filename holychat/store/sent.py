"""What had gone out and come in for a turn that nobody closed, in estimated tokens.

Owns the reading of what such a turn had sent. `turns` asks when it buries one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.tokens import estimate

if TYPE_CHECKING:
    from sqlite3 import Row

    from holychat.store.db import Database

# UNION, not UNION ALL: a circle ends.
_SENT = """
    WITH RECURSIVE up (id) AS (
        SELECT ?1
        UNION SELECT m.parent FROM up JOIN messages AS m ON m.id = up.id WHERE m.parent IS NOT NULL
    )
    SELECT m.text FROM up JOIN messages AS m ON m.id = up.id
    UNION ALL SELECT system FROM conversations WHERE id = ?2
    UNION ALL SELECT text FROM messages WHERE id = ?3
"""


def tokens_of(db: Database, turn: Row, came: str) -> tuple[int, int]:
    """(prompt, completion): all that leads to its prompt, with the answer that it goes on with;
    and what came. To be asked before that is joined to the answer."""
    rows = db.rows(_SENT, (turn["prompt"], turn["conversation"], turn["onto"]))
    return sum(estimate(row["text"]) for row in rows), estimate(came)
