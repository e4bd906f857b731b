"""`holychat doctor --simulate`: the user's own configuration against a provider that fails.

Owns the rehearsal: the settings with one provider behind the fault proxy, the prompt, the verdict.
The turn itself runs the ordinary way (Session, Chat), and nothing of it is kept: neither the answer
nor what the faults would do to the provider's health. What the events say is `script`'s.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holychat import env
from holychat.commands.doctor import report
from holychat.commands.doctor.script import Line, Script
from holychat.core.chat import Finish, Turn
from holychat.core.failure import Failure, UsageError
from holychat.core.provider import DEMO
from holychat.engine.about import key_of
from holychat.engine.choice import chosen, missing_key
from holychat.engine.session import Session
from holychat.exits import Exit, of_failure
from holychat.net.faults import FAULTS, FaultProxy
from holychat.screen.words import ending
from holychat.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holychat.core.provider import Provider

LIMIT = 120.0  # seconds for one rehearsal
GAP = 3.0  # seconds of silence that end an answer while a stall is rehearsed
# An answer in which a missing or doubled word shows.
PROMPT = "Count from 1 to 40 in digits, separated by spaces, and write nothing else."
COUNTED = [str(number) for number in range(1, 41)]
TOKENS = 100  # that the prompt and such an answer make, about


class Fronted(Settings):
    """The settings as they are, but one provider is asked at another address, and nothing is kept.

    Settings do not change, so what they hold can be shared.
    """

    def __init__(self, real: Settings, name: str, front: Provider, fault: str) -> None:
        for slot in Settings.__slots__:
            setattr(self, slot, getattr(real, slot))
        self._name, self._front, self._fault = name, front, fault

    def __getitem__(self, name: str) -> Any:
        if name == "store" or (name, self._name) == ("failover.providers", DEMO):
            return "none"  # nobody stands in for the demo, whatever it is called here
        value = super().__getitem__(name)
        return min(value, GAP) if (self._fault, name) == ("stall", "timeouts.gap") else value

    def provider(self, name: str) -> Provider:
        """The provider, the one behind the proxy for its name."""
        return self._front if self.canonical(name) == self._name else super().provider(name)


@dataclass(slots=True)
class Rehearsal:
    """What one fault came to. `verdict` is a sentence; `lines` are what happened, in order."""

    fault: str
    provider: str
    lines: list[Line] = field(default_factory=list)
    turn: Turn | None = None
    struck: int = 0  # how often it befell a request
    asked: list[str] = field(default_factory=list)  # a provider for each attempt
    verdict: str = ""
    code: Exit = Exit.INTERNAL


def run(settings: Settings, name: str, faults: Sequence[str], *, json: bool) -> Exit:
    """Rehearse the faults one after the other. Prints; returns the worst of their codes.

    Raises UsageError for an unknown fault, SettingsError where there is no key for `name`.
    """
    for fault in faults:
        if fault not in FAULTS:
            raise UsageError(f"there is no fault {fault}", f"Faults are {', '.join(FAULTS)}.")
    for notice in settings.notices:
        env.err(f"holychat: {notice}", dim=True)
    name = _who(settings, name)
    settings.provider(name)  # a key that cannot be fetched is told before anything is shown
    if not json:
        _introduce(settings, name)
    show = _ignored if json else _shown
    done = [asyncio.run(_rehearse(settings, name, fault, show)) for fault in dict.fromkeys(faults)]
    code = min((one.code for one in done if one.code), default=Exit.OK)  # the graver, the lower
    if json:
        _print_json(done, code)
    return code


def _who(settings: Settings, name: str) -> str:
    """The provider that is to fail: the one that would be asked first; the demo without any key."""
    wanted = settings.canonical(name) if name else chosen(settings, lambda _: (), "", "")[0]
    if settings.has_key(wanted):
        return wanted
    if name or any(key_of(settings, one)[0] for one in settings.names()):
        raise missing_key(settings, wanted)
    env.err("· no provider has a key: the built-in demo is rehearsed in its place", dim=True)
    return DEMO


def _introduce(settings: Settings, name: str) -> None:
    base_url = urlsplit(str(settings[f"providers.{name}.base_url"]))
    where = "built in" if name == DEMO else f"{base_url.scheme}://{base_url.netloc}"
    what = (
        f"{name} ({where}) behind a fault proxy on 127.0.0.1, everything else as your settings"
        " say. Nothing of it is kept."
    )
    report.wrapped("rehearsal", what)
    if name != DEMO:
        costs = f"a short prompt for each fault, about {TOKENS} tokens an attempt, which costs."
        report.wrapped("sends", costs)


# --- One fault ------------------------------------------------------------------------------------


async def _rehearse(
    settings: Settings, name: str, fault: str, show: Callable[[Line], None]
) -> Rehearsal:
    done = Rehearsal(fault, name)
    does = FAULTS[fault].does
    if fault == "stall":
        does += f"; silence counts after {min(GAP, settings['timeouts.gap']):g} s here"
    show(Line(None, fault, does))
    async with FaultProxy(settings.provider(name), fault) as proxy:
        front = Fronted(settings, name, proxy.provider, fault)
        try:
            async with asyncio.timeout(LIMIT):
                await _send(front, name, proxy, done, show)
        except Failure as failure:  # asked for its models: nobody was sent a prompt
            done.turn = Turn("", "", Finish.FAILED, name, "", failure=failure)
        except TimeoutError:
            _tell(done, Line(LIMIT, "end", f"given up after {LIMIT:g} s"), show)
        done.struck = len(proxy.deeds)
    done.code, done.verdict = judge(done.turn, done.struck, done.asked)
    show(Line(None, "verdict", done.verdict))
    return done


async def _send(
    settings: Settings,
    name: str,
    proxy: FaultProxy,
    done: Rehearsal,
    show: Callable[[Line], None],
) -> None:
    """One prompt the ordinary way, each event told as it comes."""
    session, script, told = Session(settings, os.environ), Script(done.asked), 0
    clock = asyncio.get_running_loop().time
    start = clock()
    try:
        chat = session.chat(*await session.choose("", name))
        chat.place = chat.ended = None  # whatever the split says: this one is rehearsed
        try:
            async with aclosing(chat.send(PROMPT)) as events:
                async for event in events:
                    for deed in proxy.deeds[told:]:
                        _tell(done, Line(deed.at - start, "fault", deed.what), show)
                    told = len(proxy.deeds)
                    for label, text in script.lines(event):
                        _tell(done, Line(clock() - start, label, text), show)
        finally:
            done.turn = chat.latest
    finally:
        await session.aclose()


def _tell(done: Rehearsal, line: Line, show: Callable[[Line], None]) -> None:
    done.lines.append(line)
    show(line)


# --- The verdict ----------------------------------------------------------------------------------


def judge(turn: Turn | None, struck: int, asked: Sequence[str]) -> tuple[Exit, str]:
    """(exit code, verdict) of a rehearsal that came to `turn`: its fault struck so often, and these
    providers were asked."""
    if turn is None:
        return Exit.PROVIDERS, "the answer did not survive: there was none in time."
    if not (turn.finish.complete and turn.failure is None):
        code = of_failure(turn.failure) if turn.failure and not turn.text else Exit.CUT
        alone = " Nobody else was asked." if len(set(asked)) == 1 else ""
        cause = "" if struck else " It was not the fault's doing, which was not met."
        return code, f"the answer did not survive: {_why(turn)}.{alone}{cause}"
    if not struck:  # 0 would tell a script that the fault is survived
        what = "nothing is proven: the answer is whole, but the fault was not met."
        return Exit.INTERNAL, what
    if turn.seams and (wrong := miscounted(turn.text)):  # else it is the model's own counting
        return Exit.CUT, f"the answer did not survive word for word: {wrong}."
    words = f"{len(turn.text.split())} words from {turn.provider.lower()}"
    exact = ", no number missing or doubled" if turn.text.split() == COUNTED else ""
    return Exit.OK, f"the answer survived: {words}{exact}."


def _why(turn: Turn) -> str:
    parts = [ending(turn) if turn.text else "nothing came"]
    if turn.failure:
        parts += [turn.failure.what.rstrip("."), turn.failure.hint.rstrip(".")]
    return "; ".join(filter(None, parts))


def miscounted(text: str) -> str:
    """Where an answer that counts goes wrong; empty for a sound one, and one that does not count.

    A model may say something else instead, which is not the fault's doing.
    """
    numbers = re.findall(r"\d+", text)
    pairs = zip_longest(numbers, COUNTED, fillvalue="")
    right = next((at for at, (one, other) in enumerate(pairs) if one != other), 0)
    if right < 3:
        return ""
    return f"after {numbers[right - 1]} comes {''.join(numbers[right : right + 1]) or 'the end'}"


# --- The looks ------------------------------------------------------------------------------------


def _shown(line: Line) -> None:
    if line.at is None:
        if line.label in FAULTS:
            env.out()
        report.wrapped(line.label, line.text)
        return
    head = f"{line.at:7.2f} s  {line.label:<8}"
    for text in wrap(line.text, max(30, env.width() - len(head) - 2), break_on_hyphens=False):
        env.out(f"{head}  {text}")
        head = " " * len(head)


def _ignored(_: Line) -> None:
    """JSON comes at the end."""


def _print_json(done: Sequence[Rehearsal], code: Exit) -> None:
    from json import dumps

    env.out(dumps({"simulations": [_as_json(one) for one in done], "exit": int(code)}, indent=2))


def _as_json(one: Rehearsal) -> dict[str, Any]:
    turn = one.turn
    return {
        "fault": one.fault,
        "provider": one.provider,
        "events": [
            {"at": round(line.at or 0.0, 3), "event": line.label, "text": line.text}
            for line in one.lines
        ],
        "struck": one.struck,
        "survived": one.code is Exit.OK,
        "finish": turn.finish.value if turn else None,
        "text": turn.text if turn else "",
        "failure": turn.failure.kind.value if turn and turn.failure else None,
        "verdict": one.verdict,
        "exit": int(one.code),
    }
