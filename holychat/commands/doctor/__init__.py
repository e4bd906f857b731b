"""`holychat doctor`: what holds, how each provider answers by phases, and what to mend.

Owns the choice of what to look at and the sentences at the end; `report` has the looks, and the
measuring is `net/probe`'s. Changes nothing but a damaged search index, and costs nothing but one
token each with --ask.
`rehearsal` is the other half of this room: --simulate, which lets a provider fail.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holychat import env
from holychat.commands.doctor import clock, report
from holychat.core.choose import nearest
from holychat.core.failure import Failure, HolychatError, Kind, SettingsError, key_variable
from holychat.core.provider import DEMO, Provider
from holychat.core.sanitize import one_line
from holychat.engine.about import default_model, key_of
from holychat.exits import Exit, of_failure
from holychat.net import probe
from holychat.store.learned import Learned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holychat.settings import Settings

FULL_LIMIT = 15.0  # seconds with a token, which a model that is loaded first takes longer for


@dataclass(frozen=True, slots=True)
class Finding:
    """One provider, as it was found: what was measured, or why nothing was."""

    name: str
    model: str = ""
    seen: probe.Probe | None = None
    fault: HolychatError | None = None  # the failure that was seen; or a key that cannot be had
    skew: float | None = None  # seconds that this machine's clock is ahead of the server's


def run(settings: Settings, name: str, *, json: bool, offline: bool, ask: bool = False) -> Exit:
    """Look at everything, or with a `name` at that provider alone. Prints.

    With `ask`, each provider is asked for one token too, which costs. Raises SettingsError for a
    `name` that is unknown.
    """
    chosen = settings.canonical(name) if name else ""
    mend: list[str] = []
    needed = chosen
    try:
        needed = chosen or settings.active()
    except SettingsError as error:
        mend.append(f"{error.what}. {error.hint}".rstrip(". ") + ".")
    facts = report.facts_of(settings)
    mend += [f"store: {wrong}." for wrong in facts["store"].get("wrong", ())]
    if not json:
        report.print_facts(settings, facts)
    if offline:
        findings = [_no_key(needed)] if needed and not settings.has_key(needed) else []
    else:
        if not json and (ask or env.is_terminal(env.STDERR)):
            costs = "; each is asked for one token, which costs" if ask and chosen != DEMO else ""
            limit = FULL_LIMIT if ask else probe.LIMIT
            env.err(f"· measuring, {limit:g} s at most{costs}", dim=True)
        findings = asyncio.run(_look(settings, chosen, needed, ask))
    mend += [line for found in findings for line in sentences(settings, found)]
    skews = {found.name: found.skew for found in findings if found.skew is not None}
    mend += filter(None, [clock.sentence(skews)])
    code = _code(findings, needed)
    if json:
        report.print_json(settings, facts, findings, mend, needed, code)
        return code
    report.print_findings(findings, needed)
    for line in mend:
        report.wrapped("mend", line)
    if code is Exit.OK:
        report.wrapped("well", _well(findings, needed, chosen, offline=offline))
    return code


def _no_key(name: str) -> Finding:
    do = f"run `holychat setup -p {name}`, or set {key_variable(name)}"
    return Finding(name, fault=SettingsError("there is no key", do))


def _code(findings: Sequence[Finding], needed: str) -> Exit:
    """What the shell is told: about the provider that is needed, the others may be ill."""
    for found in findings:
        if found.name == needed and found.fault:
            return of_failure(found.fault) if isinstance(found.fault, Failure) else Exit.SETTINGS
    return Exit.OK if needed else Exit.SETTINGS


# --- Measuring ------------------------------------------------------------------------------------


async def _look(settings: Settings, chosen: str, needed: str, ask: bool) -> list[Finding]:
    """Every provider that could be asked, all at once; in the order of the settings."""
    names = [chosen] if chosen else await _worth_asking(settings, needed)
    return list(await asyncio.gather(*(_find(settings, name, ask) for name in names)))


async def _worth_asking(settings: Settings, needed: str) -> list[str]:
    """The needed one, those with a key, and of those on this machine the ones that run."""
    usable = [name for name in settings.names() if name != DEMO and settings.has_key(name)]
    unasked = [name for name in usable if not key_of(settings, name)[0] and name != needed]
    bare = [Provider(name, settings[f"providers.{name}.base_url"]) for name in unasked]
    off = {one.name for one in bare if one.local} - (await probe.local_servers(bare)).keys()
    return [name for name in settings.names() if name == needed or name in {*usable} - off]


async def _find(settings: Settings, name: str, with_token: bool) -> Finding:
    if not settings.has_key(name):
        return _no_key(name)
    try:
        provider = settings.provider(name)
    except SettingsError as error:
        return Finding(name, fault=error)
    learned = Learned(env.home(os.environ, "cache"), lambda _: provider)
    model = _model(settings, name, learned.models(name))
    limit = FULL_LIMIT if with_token else probe.LIMIT
    wanted = model if with_token else None
    seen = await probe.measure(provider, wanted, limit=limit, quirks=learned.quirks)
    # After the measuring, which it would disturb; a server on this machine has this clock.
    far = seen.headers is not None and not provider.local and name != DEMO
    return Finding(name, model, seen, seen.failure, await clock.skew(provider) if far else None)


def _model(settings: Settings, name: str, listed: Sequence[str]) -> str:
    """What a chat would ask for; empty where the server's list decides."""
    return default_model(settings, name) and default_model(settings, name, listed)


# --- What to mend ---------------------------------------------------------------------------------


def sentences(settings: Settings, found: Finding) -> Iterator[str]:
    """What is wrong with one provider, and what to do about it."""
    name, listed = found.name, found.seen.models if found.seen else None
    if isinstance(found.fault, Failure):
        yield _of_failure(settings, name, found.fault)
    elif found.fault:
        parts = (name, found.fault.what, found.fault.hint.rstrip("."))
        yield ": ".join(filter(None, parts)) + "."
    if listed and found.model and _model(settings, name, listed) not in listed:
        near = " or ".join(nearest(found.model, listed, 2))
        yield (
            f"{name}: does not list its default model {found.model}"
            f"{f'; {near} would be near' if near else ''}:"
            f" `holychat setup -p {name}` chooses another."
        )


def _of_failure(settings: Settings, name: str, failure: Failure) -> str:
    what = failure.what if failure.what.startswith(name) else f"{name}: {failure.what}"
    if failure.kind is Kind.AUTH:
        _, source = key_of(settings, name)
        by = f" It comes from {source}." if source else ""
        status = f" ({failure.status})" if failure.status else ""
        said = one_line(failure.what.partition(": ")[2] or failure.what, 100)
        do = f"run `holychat setup -p {name}`"
        return f"{name}: the key was refused{status}: {do}.{by} It said: {said}"
    if failure.kind in (Kind.CONNECT, Kind.TIMEOUT_CONNECT):
        base_url = settings.value(f"providers.{name}.base_url")
        if Provider(name, base_url.value).local:
            return f"{what}. Start the server, or mend its address ({base_url.source})."
        return (
            f"{what}. Is the network up, does it want a proxy (HOLYCHAT_PROXY),"
            f" is the address right ({base_url.source})?"
        )
    if failure.kind is Kind.TLS and ("expired" in what or "not yet valid" in what):
        now = time.strftime("%Y-%m-%d %H:%M")
        return f"{what}. This machine's clock says {now}: is that right?"
    return f"{what}. {failure.hint}".rstrip()


def _well(findings: Sequence[Finding], needed: str, chosen: str, *, offline: bool) -> str:
    """What is proven, and no more: a list of models is given to anybody by some."""
    if offline:
        return "the settings hold; the network was not looked at."
    for found in findings:
        if found.name == needed and found.seen and found.seen.first is not None:
            return f"{found.name} answers with a token of {found.model or 'its first model'}."
    more = f"-p {chosen} --ask" if chosen else "--ask"
    return f"{needed} answers; `holychat doctor {more}` asks for a token too, which costs one."
