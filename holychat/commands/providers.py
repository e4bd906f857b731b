"""`holychat providers`: who can be asked, with whose key, for which model, where.

Owns the looks of that list, with what is known of their health. Asks nobody: `holychat doctor`
does.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.failure import SettingsError
from holychat.core.history import as_json
from holychat.core.provider import DEMO, Provider
from holychat.core.sanitize import one_line
from holychat.engine.about import default_model, key_of
from holychat.engine.place import store_path
from holychat.exits import Exit
from holychat.screen.standings import standings_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.core.health import Standing
    from holychat.settings import Settings

WIDEST = (16, 24, 23)  # columns of name, key and model; the address takes what is left


def run(settings: Settings, *, json: bool) -> Exit:
    """Print every enabled provider, the active one marked, and how those did that were asked."""
    for notice in settings.notices:
        env.err(f"holychat: {notice}", dim=True)
    try:
        active = settings.active()
    except SettingsError as error:  # the list is what helps against it
        active = ""
        env.err(f"holychat: {error.what}")
    rows = [_row(settings, name, active) for name in settings.names()]
    standings, shares = _known(settings)
    if json:
        from json import dumps

        for row in rows:
            one = standings.get(str(row["name"]))
            row["health"] = None if one is None else as_json(one)
            row["share"] = shares.get(str(row["name"]))
        env.out(dumps(rows, ensure_ascii=False, indent=2))
    else:
        width = env.width() if env.is_terminal(env.STDOUT) else 0
        env.out("\n".join(table(rows, width)))
        if standings:
            env.out("\n".join(["", *standings_table(standings, shares, active)]))
        if active and not settings.has_key(active):
            env.err(f"· {active} is asked by default and has no key: `holychat setup`", dim=True)
    return Exit.OK


def _known(settings: Settings) -> tuple[dict[str, Standing], dict[str, float]]:
    """How those did that were asked before or have a share, and the shares; a store that is not
    there is not made for it."""
    path = store_path(settings, os.environ)
    if not settings.split and (path is None or not os.path.exists(path)):
        return {}, {}
    from holychat.engine.session import Session

    async def read() -> tuple[dict[str, Standing], dict[str, float]]:
        session = Session(settings, os.environ)
        try:
            shares = await session.shares()
            return await session.standings(settings.names()), shares
        finally:
            await session.aclose()

    standings, shares = asyncio.run(read())
    told = {name: one for name, one in standings.items() if one.calls or name in shares}
    return told, shares


def _row(settings: Settings, name: str, active: str) -> dict[str, object]:
    key, source = key_of(settings, name)
    return {
        "name": name,
        "active": name == active,
        "key": key,  # its mask, or the setting that leads to it
        "key_source": source,
        "usable": settings.has_key(name),
        "model": default_model(settings, name) if active else settings[f"providers.{name}.model"],
        "base_url": settings[f"providers.{name}.base_url"],
    }


def table(rows: Sequence[dict[str, object]], width: int = 0) -> list[str]:
    """Aligned lines of at most `width` columns; 0 cuts nothing."""
    cells: list[tuple[str, ...]] = [
        (
            f"{'*' if row['active'] else ' '} {row['name']}",
            _key(row),
            str(row["model"]) or "-",
            "built in, offline" if row["name"] == DEMO else _address(str(row["base_url"])),
        )
        for row in rows
    ]
    if width:
        cells = [(*_cut(line[:3]), line[3]) for line in cells]
    wide = [max(len(line[at]) for line in cells) for at in range(3)]
    left = max(8, width - sum(wide) - 6) if width else 1000
    return [_line(line, (*wide, left)) for line in cells]


def _cut(cells: tuple[str, ...]) -> tuple[str, ...]:
    """one_line would take the mark's place away."""
    return tuple(
        text if len(text) <= most else text[: most - 1] + "…"
        for text, most in zip(cells, WIDEST, strict=True)
    )


def _line(cells: Sequence[str], wide: Sequence[int]) -> str:
    padded = [f"{text:<{to}}" for text, to in zip(cells[:-1], wide, strict=False)]
    return "  ".join([*padded, one_line(cells[-1], wide[-1])])


def _key(row: dict[str, object]) -> str:
    if row["key"]:
        # The variable's name follows from the provider's; `holychat config show` spells it out.
        source = str(row["key_source"])
        return f"{row['key']} {'environment' if source.startswith('environment') else source}"
    return "needs none" if row["usable"] else "no key"


def _address(base_url: str) -> str:
    """Without its scheme where that says nothing: http:// to another machine does."""
    bare = base_url.removeprefix("https://")
    return bare.removeprefix("http://") if Provider("", base_url).local else bare
