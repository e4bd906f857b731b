"""What is known of how each model counts its tokens, shared by all holychats of this store.

Owns the table `ratios`, one row a provider and model. What a row says and how it learns is
`core.tokens`' own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat.core.tokens import Ratios, as_json, counted, from_json, learn
from holychat.store.ids import now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.store.db import Database

    # The texts of a request's messages, and its prompt tokens; or an answer's and its own.
    Report = tuple[Sequence[str], bool, int]


def get(db: Database, model: str) -> Ratios:
    """Of `provider/model`; what is documented where nothing was learned. Raises StoreTrouble."""
    row = db.row("SELECT value FROM ratios WHERE model = ?", (model,))
    return from_json(row["value"] if row else None)


def taught(db: Database, model: str, reports: Sequence[Report]) -> Ratios:
    """Learn from what a server reported: (texts, whether they are a request's messages, tokens).

    A power cut may undo it. Raises StoreTrouble.
    """
    with db.write(durable=False):
        ratios = after(get(db, model), reports)
        db.run(
            "INSERT INTO ratios (model, value, updated) VALUES (?, ?, ?) ON CONFLICT (model)"
            " DO UPDATE SET value = excluded.value, updated = excluded.updated",
            (model, as_json(ratios), now()),
        )
    return ratios


def after(ratios: Ratios, reports: Sequence[Report]) -> Ratios:
    """The ratios after these reports."""
    for texts, sent, tokens in reports:
        ratios = learn(ratios, counted(texts), len(texts) if sent else 0, tokens)
    return ratios
