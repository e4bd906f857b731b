"""`holychat doctor`: what holds, how each provider answers by phases, and what to mend.

Owns the choice of what to look at, the sentences at the end and the looks of the report. The
measuring is `net/probe`'s. Changes nothing, and costs nothing but one token with -p.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holychat import __version__, env
from holychat.core.choose import nearest
from holychat.core.failure import Failure, HolychatError, Kind, SettingsError, key_variable
from holychat.core.provider import DEMO, Provider
from holychat.core.sanitize import one_line
from holychat.engine.about import default_model, key_of
from holychat.exits import Exit, of_failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holychat.net.probe import Probe
    from holychat.settings import Settings

PACKAGES = ("httpx", "rich", "prompt_toolkit", "typer")
NOT, FAILS = "-", "fails"  # a phase that was not measured, and the one that failed
FULL_LIMIT = 15.0  # seconds with a token, which a model that is loaded first takes longer for


@dataclass(frozen=True, slots=True)
class Finding:
    """One provider, as it was found: what was measured, or why nothing was."""

    name: str
    model: str = ""
    probe: Probe | None = None
    fault: HolychatError | None = None  # a key that is missing or cannot be fetched


def run(settings: Settings, name: str, *, json: bool, offline: bool) -> Exit:
    """Look at everything, or with a `name` at that provider alone, with a token. Prints.

    Raises SettingsError for a `name` that is unknown.
    """
    chosen = settings.canonical(name) if name else ""
    active, faults = _active(settings)
    needed = chosen or active
    findings: list[Finding] = []
    facts = _facts(settings)
    if not json:
        _print_facts(settings, facts)
    if offline:
        if needed and not settings.has_key(needed):
            findings.append(_no_key(needed))
    else:
        if not json and env.is_terminal(env.STDERR):
            costs = f"; {chosen} is asked for one token" if chosen else ""
            costs += ", which may cost" if chosen not in ("", DEMO) else ""
            env.err(f"· measuring, {FULL_LIMIT:g} s at most{costs}", dim=True)
        with asyncio.Runner() as runner:
            findings += runner.run(_look(settings, chosen, needed))
    mend = [*faults, *(line for found in findings for line in sentences(settings, found))]
    code = _code(findings, needed)
    if json:
        _print_json(settings, facts, findings, mend, needed, code)
    else:
        _print_findings(findings, needed)
        for line in mend:
            _wrapped("mend", line)
        if code is Exit.OK:
            _wrapped("well", _well(findings, needed, offline=offline))
    return code


def _active(settings: Settings) -> tuple[str, list[str]]:
    """The provider that is asked by default, or why there is none."""
    try:
        return settings.active(), []
    except SettingsError as error:
        return "", [f"{error.what}. {error.hint}".rstrip(". ") + "."]


def _no_key(name: str) -> Finding:
    return Finding(name, fault=SettingsError("there is no key"))


def _code(findings: Sequence[Finding], needed: str) -> Exit:
    """What the shell is told: about the provider that is needed, the others may be ill."""
    if not needed:
        return Exit.SETTINGS
    for found in findings:
        if found.name != needed:
            continue
        if found.fault is not None:
            return Exit.SETTINGS
        if found.probe is not None and found.probe.failure is not None:
            return of_failure(found.probe.failure)
    return Exit.OK


# --- Measuring ------------------------------------------------------------------------------------


async def _look(settings: Settings, chosen: str, needed: str) -> list[Finding]:
    """Every provider that could be asked, all at once; in the order of the settings."""
    names = [chosen] if chosen else await _worth_asking(settings, needed)
    return list(await asyncio.gather(*(_find(settings, name, name == chosen) for name in names)))


async def _worth_asking(settings: Settings, needed: str) -> list[str]:
    """The needed one, those with a key, and of those on this machine the ones that run."""
    from holychat.net.probe import local_servers

    usable = [name for name in settings.names() if name != DEMO and settings.has_key(name)]
    unasked = [name for name in usable if not key_of(settings, name)[0] and name != needed]
    bare = [Provider(name, settings[f"providers.{name}.base_url"]) for name in unasked]
    off = {one.name for one in bare if one.local} - (await local_servers(bare)).keys()
    return [name for name in settings.names() if name == needed or name in {*usable} - off]


async def _find(settings: Settings, name: str, with_token: bool) -> Finding:
    from holychat.net import probe
    from holychat.store.learned import Learned

    if not settings.has_key(name):
        return _no_key(name)
    try:
        provider = settings.provider(name)
        learned = Learned(env.home(os.environ, "cache"), settings.provider)
        model = _model(settings, name, learned.models(name))
    except SettingsError as error:
        return Finding(name, fault=error)
    limit = FULL_LIMIT if with_token else probe.LIMIT
    wanted = model if with_token else None
    seen = await probe.measure(provider, wanted, limit=limit, quirks=learned.quirks)
    return Finding(name, model, seen)


def _model(settings: Settings, name: str, listed: Sequence[str]) -> str:
    """What a chat would ask for; empty where the server's list decides, or nobody is active."""
    if not _active(settings)[0]:
        return ""
    model = default_model(settings, name)
    return default_model(settings, name, listed) if model else ""


# --- What to mend ---------------------------------------------------------------------------------


def sentences(settings: Settings, found: Finding) -> Iterator[str]:
    """What is wrong with one provider, and what to do about it."""
    name = found.name
    if found.fault is not None:
        if found.fault.what == "there is no key":
            variable = key_variable(name)
            yield f"{name}: there is no key: run `holychat setup -p {name}`, or set {variable}."
        else:
            yield f"{name}: {found.fault.what}."
        return
    if found.probe is None:
        return
    if found.probe.failure is not None:
        yield _of_failure(settings, name, found.probe)
    listed = found.probe.models
    if listed and found.model and _model(settings, name, listed) not in listed:
        near = nearest(found.model, listed, 2)
        hint = f"; {' or '.join(near)} would be near" if near else ""
        yield (
            f"{name}: does not list its default model {found.model}{hint}:"
            f" `holychat setup -p {name}` chooses another."
        )


def _of_failure(settings: Settings, name: str, probe: Probe) -> str:
    failure = probe.failure or Failure(Kind.RESET, "")
    what = failure.what if failure.what.startswith(name) else f"{name}: {failure.what}"
    match failure.kind:
        case Kind.AUTH:
            _, source = key_of(settings, name)
            by = f" It comes from {source}." if source else ""
            status = f" ({failure.status})" if failure.status else ""
            do = f"run `holychat setup -p {name}`"
            return f"{name}: the key was refused{status}: {do}.{by} It said: {_said(failure)}"
        case Kind.CONNECT | Kind.TIMEOUT_CONNECT:
            base_url = settings.value(f"providers.{name}.base_url")
            if Provider(name, base_url.value).local:
                return f"{what}. Start the server, or mend its address ({base_url.source})."
            return (
                f"{what}. Is the network up, does it want a proxy (HOLYCHAT_PROXY),"
                f" is the address right ({base_url.source})?"
            )
    return f"{what}. {failure.hint}".rstrip()


def _said(failure: Failure) -> str:
    return one_line(failure.what.partition(": ")[2] or failure.what, 100)


# --- The report -----------------------------------------------------------------------------------


def _facts(settings: Settings) -> dict[str, Any]:
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
        "terminal": {
            "stdin": env.is_terminal(env.STDIN),
            "stdout": env.is_terminal(env.STDOUT),
            "stderr": env.is_terminal(env.STDERR),
            "term": os.environ.get("TERM", ""),
            "size": _size(),
            "colour": env.colour(env.STDOUT, os.environ),
        },
    }


def _mode(settings: Settings) -> str:
    """`0600`; empty where there is no file."""
    try:
        return f"{stat.S_IMODE(settings.path.stat().st_mode):04o}"
    except OSError:
        return ""


def _size() -> list[int]:
    """[columns, rows]; empty where no stream is a terminal."""
    for stream in (env.STDOUT, env.STDERR, env.STDIN):
        try:
            return list(os.get_terminal_size(stream))
        except OSError:
            continue
    return []


def _print_facts(settings: Settings, facts: dict[str, Any]) -> None:
    versions = [f"{name} {number}" for name, number in facts["versions"].items()]
    config = facts["config"]
    rows = [
        ("versions", ", ".join(versions)),
        ("config", f"{config['path']} ({config['mode'] or 'not there: all defaults'})"),
        ("terminal", _terminal(facts["terminal"])),
    ]
    for name, text in rows:
        _wrapped(name, text)
    env.out()
    given = [row for row in settings.rows() if row[2] != "default"]
    rest = len(settings.rows()) - len(given)
    for line in columns(given, env.width()):
        env.out(line)
    env.out(f"{rest} settings are at their defaults: `holychat config show`")
    env.out()
    for notice in settings.notices:
        _wrapped("notice", notice)
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


def _wrapped(name: str, text: str) -> None:
    """A named line, folded under itself at the terminal's width."""
    from textwrap import wrap

    lines = wrap(
        text, max(30, env.width() - 11), break_long_words=False, break_on_hyphens=False
    ) or [""]
    for at, line in enumerate(lines):
        env.out(f"{'' if at else name:<9}  {line}")


def _print_findings(findings: Sequence[Finding], needed: str) -> None:
    from holychat.net.probe import PHASES

    measured = [found for found in findings if found.probe is not None]
    if not measured:
        return
    wide = max(12, *(len(found.name) + 2 for found in measured))
    env.out(f"{'':<{wide}}" + "".join(f"{phase:>9}" for phase in PHASES))
    for found in measured:
        mark = "*" if found.name == needed else " "
        env.out(f"{f'{mark} {found.name}':<{wide}}" + _cells(found) + f"  {_verdict(found)}")
    env.out()


def _cells(found: Finding) -> str:
    from holychat.net.probe import PHASES

    failed = found.probe.failed if found.probe else ""
    times = {phase: milliseconds(getattr(found.probe, phase)) for phase in PHASES}
    # A refusal has headers too: their time stands, and the last column says what it was.
    cells = [FAILS if phase == failed and took == NOT else took for phase, took in times.items()]
    return "".join(f"{cell:>9}" for cell in cells)


def milliseconds(seconds: float | None) -> str:
    """`0.4 ms`, `38 ms`; a dash for what was not measured."""
    if seconds is None:
        return NOT
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _verdict(found: Finding) -> str:
    probe = found.probe
    if probe is None:
        return ""
    if probe.failure is not None:
        return f"{probe.failure.kind.value}"
    if probe.models is None:
        return "no list"
    return f"{len(probe.models)} model{'' if len(probe.models) == 1 else 's'}"


def _well(findings: Sequence[Finding], needed: str, *, offline: bool) -> str:
    """What is proven, and no more: a list of models is given to anybody by some."""
    if offline:
        return "the settings hold; the network was not looked at."
    for found in findings:
        if found.probe is not None and found.probe.first is not None:
            return f"{found.name} answers with a token of {found.model or 'its first model'}."
    return f"{needed} answers; `holychat doctor -p {needed}` asks it for a token too."


def _print_json(
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
    from holychat.net.probe import PHASES

    probe = found.probe
    times = {phase: getattr(probe, phase, None) for phase in PHASES}
    fault: HolychatError | None = found.fault or (probe.failure if probe else None)
    kind = fault.kind.value if isinstance(fault, Failure) else "key"
    return {
        "name": found.name,
        "active": needed,
        "model": found.model,
        "ms": {
            name: None if took is None else round(took * 1000, 1) for name, took in times.items()
        },
        "models": None if probe is None or probe.models is None else len(probe.models),
        "failed": probe.failed if probe else "",
        "failure": {"kind": kind, "what": fault.what, "hint": fault.hint} if fault else None,
    }
