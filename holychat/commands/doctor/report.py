"""The looks of doctor's report: on a terminal, and as JSON. Must not judge anything."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from holychat import __version__, env
from holychat.commands.doctor import store
from holychat.core.failure import Failure
from holychat.core.sanitize import one_line
from holychat.net import probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.commands.doctor import Finding
    from holychat.exits import Exit
    from holychat.settings import Settings

PACKAGES = ("httpx", "rich", "prompt_toolkit", "typer")
COLUMNS = 9 * len(probe.PHASES) + 21  # of a row after its name, the longest verdict included
NOT, FAILS = "-", "fails"  # a phase that was not measured, and the one that failed


def facts_of(settings: Settings) -> dict[str, Any]:
    """What holds before anybody is asked."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"holychat": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "missing"
    return {
        "versions": versions,
        "config": {"path": str(settings.path), "mode": _mode(settings)},
        "store": store.facts(settings, os.environ),
        "terminal": {
            "stdin": env.is_terminal(env.STDIN),
            "stdout": env.is_terminal(env.STDOUT),
            "stderr": env.is_terminal(env.STDERR),
            "term": os.environ.get("TERM", ""),
            "size": list(filter(None, env.size())),
            "colour": env.colour(env.STDOUT, os.environ),
        },
    }


def _mode(settings: Settings) -> str:
    """`0600`; empty where there is no file."""
    try:
        return f"{stat.S_IMODE(settings.path.stat().st_mode):04o}"
    except OSError:
        return ""


def print_facts(settings: Settings, facts: dict[str, Any]) -> None:
    config, rows = facts["config"], settings.rows()
    given = [row for row in rows if row[2] != "default"]
    wrapped("versions", ", ".join(f"{name} {at}" for name, at in facts["versions"].items()))
    wrapped("config", f"{config['path']} ({config['mode'] or 'not there: all defaults'})")
    wrapped("store", store.line(facts["store"]))
    wrapped("terminal", _terminal(facts["terminal"]))
    env.out()
    for line in columns(given, env.width()):
        env.out(line)
    env.out(f"{len(rows) - len(given)} settings are at their defaults: `holychat config show`")
    env.out()
    for notice in settings.notices:
        wrapped("notice", notice)
    if settings.notices:
        env.out()


def columns(rows: Sequence[tuple[str, str, str]], width: int) -> list[str]:
    """Aligned, the values cut to what names and sources leave; a variable is written as $NAME."""
    cells = [(name, value, source.replace("environment ", "$")) for name, value, source in rows]
    names, values, sources = (max((len(row[at]) for row in cells), default=0) for at in range(3))
    values = max(8, min(values, width - names - sources - 4))
    return [
        f"{name:<{names}}  {one_line(value, values) or '-':<{values}}  {source}"
        for name, value, source in cells
    ]


def _terminal(facts: dict[str, Any]) -> str:
    streams = [name for name in ("stdin", "stdout", "stderr") if facts[name]]
    where = "on " + ", ".join(streams) if streams else "none"
    size = "x".join(map(str, facts["size"]))
    colour = "colour" if facts["colour"] else "no colour"
    return ", ".join(filter(None, (facts["term"] or "no TERM", size, colour, where)))


def wrapped(name: str, text: str) -> None:
    """A named line, folded under itself at the terminal's width."""
    from textwrap import wrap

    wide = max(30, env.width() - 11)
    lines = wrap(text, wide, break_long_words=False, break_on_hyphens=False)
    for at, line in enumerate(lines):
        env.out(f"{'' if at else name:<9}  {line}")


def print_findings(findings: Sequence[Finding], needed: str) -> None:
    measured = [(found, found.seen) for found in findings if found.seen]
    if not measured:
        return
    wide = max(12, *(len(found.name) + 2 for found, _ in measured))
    wide = min(wide, max(12, env.width() - COLUMNS))
    env.out(f"{'':<{wide}}" + "".join(f"{phase:>9}" for phase in probe.PHASES))
    for found, seen in measured:
        mark = "*" if found.name == needed else " "
        env.out(f"{mark} {one_line(found.name, wide - 2):<{wide - 2}}" + _cells(seen))
    env.out()


def _cells(seen: probe.Probe) -> str:
    """The phases, and what came of it."""
    times = {phase: milliseconds(getattr(seen, phase)) for phase in probe.PHASES}
    # A refusal has headers too: their time stands, and the last column says what it was.
    cells = [
        FAILS if phase == seen.failed and took == NOT else took for phase, took in times.items()
    ]
    many = len(seen.models or ())
    verdict = "no list" if seen.models is None else f"{many} model{'' if many == 1 else 's'}"
    verdict = seen.failure.kind.value if seen.failure else verdict
    return "".join(f"{cell:>9}" for cell in cells) + f"  {verdict}"


def milliseconds(seconds: float | None) -> str:
    """`0.4 ms`, `38 ms`; a dash for what was not measured."""
    if seconds is None:
        return NOT
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def print_json(
    settings: Settings,
    facts: dict[str, Any],
    findings: Sequence[Finding],
    mend: list[str],
    needed: str,
    code: Exit,
) -> None:
    from json import dumps

    keys = ("name", "value", "source")
    report = {
        **facts,
        "settings": [dict(zip(keys, row, strict=True)) for row in settings.rows()],
        "notices": list(settings.notices),
        "providers": [_as_json(found, found.name == needed) for found in findings],
        "mend": mend,
        "exit": int(code),
    }
    env.out(dumps(report, ensure_ascii=False, indent=2))


def _as_json(found: Finding, needed: bool) -> dict[str, Any]:
    seen, fault = found.seen or probe.Probe(), found.fault
    kind = fault.kind.value if isinstance(fault, Failure) else "key"
    times = {phase: getattr(seen, phase) for phase in probe.PHASES}
    return {
        "name": found.name,
        "active": needed,
        "model": found.model,
        "ms": {phase: took and round(took * 1000, 1) for phase, took in times.items()},
        "models": None if seen.models is None else len(seen.models),
        "clock_ahead": found.skew,  # seconds
        "failed": seen.failed,
        "failure": {"kind": kind, "what": fault.what, "hint": fault.hint} if fault else None,
    }
