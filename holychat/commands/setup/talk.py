"""Setup on the terminal: a numbered list, and one of it by number, name or a part of the name.

Everything goes to stderr. Must not know what the names stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holychat import env
from holychat.core.choose import nearest
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROWS = 12  # of a long list that are shown at once: the question stays in sight


def choose(what: str, rows: Mapping[str, str], usual: str, lister: str = "") -> str:
    """One of `rows` (a name and the text beside it); Enter takes `usual`.

    With a `lister` somebody else keeps the list: a name that is not in it is taken when it is
    typed twice. Raises EOFError.
    """
    names, last = list(rows), ""
    _show(rows, names)
    while True:
        said = env.ask(f"{what} (Enter for {usual}): " if usual else f"{what}: ") or usual
        if said.isdecimal() and 1 <= int(said) <= len(names):
            return names[int(said) - 1]
        if said in names or (said and (not names or said == last)):
            return said
        hits = [name for name in names if said.lower() in name.lower()]
        if len(hits) == 1:
            env.err(f"  {hits[0]}", dim=True)
            return hits[0]
        if hits:
            _show(rows, hits)
        elif lister and said:
            last, near = said, ", ".join(nearest(said, names))
            hint = f" Near: {near}." if near else ""
            env.err(f"  {lister} does not list that.{hint} Type it again to take it all the same.")
        elif names:
            env.err(f"  Type a number from 1 to {len(names)}, or a name.")


def _show(rows: Mapping[str, str], hits: Sequence[str]) -> None:
    """Some of the rows, under the numbers that they have among all."""
    shown = hits[:ROWS] if not any(rows.values()) else hits
    wide = max((len(name) for name in rows if rows[name]), default=0)
    places = {name: at for at, name in enumerate(rows, 1)}
    env.err()
    for name in shown:
        env.err(f"{places[name]:>4}  {one_line(name, 70):<{wide}}  {rows[name]}".rstrip())
    if len(hits) > len(shown):
        env.err(f"      and {len(hits) - len(shown)} more: type a part of the name to find them")
    if hits:
        env.err()
