"""`holychat stats`: what was used, what it cost and how fast it was, over a period.

Owns the choice of the form and where it is written. What is counted is the store's and the
engine's, what it looks like is screen's. Asks no provider, and changes nothing.

data      the same for programs: JSON and CSV, and what stands in them
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from holychat import env
from holychat.core.failure import SettingsError, UsageError
from holychat.core.report import Report
from holychat.core.sanitize import one_line, visible
from holychat.core.tally import Period
from holychat.engine.ledger import money_of
from holychat.engine.shelf import here, opened, place
from holychat.engine.times import LAST, now, period
from holychat.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holychat.core.report import By
    from holychat.engine.statistics import Records
    from holychat.settings import Settings

# Counters only grow, so what is scraped has no beginning unless one is asked for.
FOREVER = "all"


class Asked(NamedTuple):
    """The options: the period, whose calls, by what (empty: the first screen), in which form
    ("json", "csv", "html", "prometheus", or empty: on the screen), and into which file."""

    last: str = ""
    since: str = ""
    until: str = ""
    provider: str = ""
    model: str = ""
    by: By | None = None
    form: str = ""
    out: str = ""


def run(settings: Settings, asked: Asked, at: int | None = None) -> Exit:
    """Show it as of `at`, Unix time in milliseconds; of now. Raises HolychatError."""
    at = now() if at is None else at
    days = _checked(settings, asked, at)
    path = place(settings)
    if not here(path):
        return _show(settings, asked, Report(days, days.since, days.until, asked.by or "pair"))
    from holychat.engine import statistics

    with opened(path) as db:
        if days.model:
            days = statistics.meant(db, days, days.model)
        said = statistics.records(db, days, settings)
        if asked.form == "prometheus":
            return _expose(said)
        return _show(settings, asked, statistics.report(db, said, asked.by or "pair", at), path)


def _checked(settings: Settings, asked: Asked, at: int) -> Period:
    """The period of the options. Raises UsageError for what makes no sense, before anything is
    read."""
    if asked.form == "prometheus" and asked.by:
        raise UsageError("--prometheus is by provider and model", "Leave --by out.")
    if asked.form == "html":
        if asked.out == "-" and env.is_terminal(env.STDOUT):
            raise UsageError("a web page is not for the terminal", "Name a file: --html FILE.")
        if asked.out != "-" and os.path.lexists(asked.out):
            from holychat.engine.export import there

            raise there(asked.out)
    default = FOREVER if asked.form == "prometheus" else LAST
    days = period(asked.last, asked.since, asked.until, at, default)
    return Period(days.since, days.until, _provider(settings, asked.provider), asked.model)


def _provider(settings: Settings, name: str) -> str:
    """As it is spelled in the settings; one that was removed from them may be in the store."""
    try:
        return settings.canonical(name) if name else ""
    except SettingsError:
        return name


# --- The forms ----------------------------------------------------------------------------------


def _show(settings: Settings, asked: Asked, report: Report, path: str = "") -> Exit:
    if asked.form == "prometheus":
        from holychat.screen.prometheus import exposition

        _print((exposition((), {}),))
    elif asked.form in ("json", "csv"):
        from holychat.commands.stats import data

        _print((data.FORMS[asked.form](report),))
    elif asked.form == "html":
        _page(settings, asked, report)
    elif not report.total.calls:
        env.err(f"· {_nothing(report, path)}", dim=True)
    else:
        _draw(settings, asked, report, path)
    return Exit.OK


def _expose(said: Records) -> Exit:
    from holychat.screen.prometheus import exposition

    _print((exposition(said.entries, said.paces),))
    return Exit.OK


def _nothing(report: Report, path: str) -> str:
    """Why there is nothing to see."""
    if not path:
        return "nothing was asked yet"
    asked = report.asked
    whom = "/".join(one_line(name, 60) for name in (asked.provider, asked.model) if name)
    since = f" since {asked.since}" if asked.since else ""
    until = f" until {asked.until}" if asked.until else ""
    return f"nothing was asked{f' of {whom}' if whom else ''}{since}{until or ' yet' * (not since)}"


def _draw(settings: Settings, asked: Asked, report: Report, path: str) -> None:
    from holychat.screen import stats
    from holychat.screen.pen import Pen

    for notice in settings.notices:
        env.err(f"holychat: {notice}", dim=True)
    pen = Pen(settings["ui.theme"])
    plain = not env.blocks(os.environ)
    looks = stats.Looks(pen, pen.width or env.width() - 1, money_of(settings), plain)
    pen.page((stats.table if asked.by else stats.screen)(report, path, looks))


def _page(settings: Settings, asked: Asked, report: Report) -> None:
    from holychat.screen.statspage import page

    parts = page(report, money_of(settings))
    if asked.out == "-":
        _print(parts)
        return
    from holychat.engine.export import to_file

    to_file(asked.out, parts)
    env.err(f"written to {asked.out}")


def _print(parts: Iterable[str]) -> None:
    terminal = env.is_terminal(env.STDOUT)
    for part in parts:
        env.write((visible(part) if terminal else part).encode("utf-8", "replace"))
