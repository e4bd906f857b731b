"""`holychat cost`: what a prompt, a conversation, a period or a month costs here and elsewhere.

Owns what can be asked, and what of it goes together. Sends nothing, and needs no key.

prompt  a prompt before it is sent
work    what was recorded, and a month that is only thought of
lines   how it looks, in words
table   and in columns
data    how `--json` says it
amounts tokens and shares as they are typed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holychat import env
from holychat.commands.cost import data, lines
from holychat.core.amounts import amount, share
from holychat.core.failure import UsageError
from holychat.core.price import PICO, divided, exact_of
from holychat.engine.market import Market
from holychat.engine.times import now
from holychat.exits import Exit
from holychat.screen.pen import Pen

if TYPE_CHECKING:
    from collections.abc import Callable

    from holychat.settings import Settings

PATIENCE = 1.0  # seconds for the first byte of an inherited stdin, where it need not bring any


@dataclass(frozen=True, slots=True)
class Asked:
    """The options, as they were typed."""

    prompt: str | None = None
    model: str = ""
    provider: str = ""
    session: str = ""
    again: bool = False
    last: str = ""
    on: tuple[str, ...] = ()
    answer: int | None = None
    tokens: str = ""
    prompted: str = ""  # --in
    completed: str = ""  # --out
    cached: str = ""
    fixed: str = ""
    all_: bool = False
    json: bool = False

    @property
    def month(self) -> bool:
        return bool(self.tokens or self.prompted or self.completed)

    @property
    def kept(self) -> bool:
        return bool(self.session or self.again)


def run(settings: Settings, asked: Asked) -> Exit:
    """Print it. Raises HolychatError."""
    _check(asked)
    text = "" if asked.last or asked.month else _text(asked)
    market = Market(settings, now() // 1000)
    for notice in settings.notices:
        env.err(f"holychat: {notice}", dim=True)
    if text:
        return _prompt(settings, asked, market, text)
    return _work(settings, asked, market)


def _prompt(settings: Settings, asked: Asked, market: Market, text: str) -> Exit:
    from holychat.commands.cost import prompt as front

    told = front.quote(settings, asked, market, text, cached=_cached(asked))
    if asked.json:
        env.out(data.encoded(data.of_quote(told)))
    else:
        cash = lines.Cash(settings["money.currency"], market.prices.exchange)
        pen = Pen(settings["ui.theme"])
        pen.page(lines.quote(told, pen, cash, everything=bool(asked.all_ or asked.on)))
    return Exit.OK


def _work(settings: Settings, asked: Asked, market: Market) -> Exit:
    from holychat.commands.cost import work

    if asked.answer is not None:
        raise UsageError("--answer is the length of a prompt's answer, and there is no prompt")
    fixed = _fixed(settings, market, asked.fixed) if asked.fixed else None
    if asked.month:
        report = work.month(settings, asked, market, *_amounts(asked), fixed)
    elif asked.kept:
        report = work.conversation(settings, asked, market)
    else:
        report = work.period(settings, asked, market, fixed)
    if asked.json:
        env.out(data.encoded(data.of_report(report)))
    elif report.nothing:
        env.err(f"· {report.nothing}", dim=True)
    else:
        cash = lines.Cash(settings["money.currency"], market.prices.exchange)
        pen = Pen(settings["ui.theme"])
        pen.page(lines.report(report, pen, cash, everything=bool(asked.all_ or asked.on)))
    return Exit.OK


# --- What was asked -------------------------------------------------------------------------------


def _check(asked: Asked) -> None:
    """Raises UsageError for what does not go together."""
    if asked.again and asked.session:
        raise UsageError("--continue and --session exclude each other")
    ways = {
        "a prompt": asked.prompt is not None,
        "--last": bool(asked.last),
        "--tokens, --in and --out": asked.month,
    }
    taken = [name for name, given in ways.items() if given]
    if len(taken) > 1:
        more = " (--on takes one model, or several with commas)" if asked.on else ""
        raise UsageError(f"{taken[0]} or {taken[1]}: take one{more}")
    if asked.kept and (asked.last or asked.month):
        raise UsageError(f"a conversation or {taken[0]}: take one")
    if asked.tokens and (asked.prompted or asked.completed):
        raise UsageError("--tokens is as many in as out: take it, or --in and --out")
    if asked.last and asked.cached:
        raise UsageError("--cached is for --tokens and prompts; what was recorded has its own")
    if asked.fixed and not (asked.last or asked.month):
        raise UsageError("--fixed is a month's: it goes with --last or --tokens")
    _cached(asked)  # before anybody waits for a prompt


def _text(asked: Asked) -> str:
    """The prompt: the argument, then what was piped in; empty where none is needed."""
    words = asked.prompt
    needed = not asked.kept
    if words == "-":
        words, needed = None, True
    if words is None and env.is_terminal(env.STDIN):
        return ""
    piped = env.piped_input(PATIENCE if words or asked.kept else None)
    text = "\n\n".join(part for part in (words, piped) if part and part.strip())
    if not text and needed:
        raise UsageError("there is no prompt on stdin (--last 30d prices what was recorded)")
    return text


def _read(option: str, text: str, reader: Callable[[str], int]) -> int:
    try:
        return reader(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from error


def _amounts(asked: Asked) -> tuple[int, int, int]:
    """Tokens in, cached ones of them in millionths of a per cent, and out."""
    if asked.tokens:
        both = _read("--tokens", asked.tokens, amount)
        return both, _cached(asked), both
    prompt = _read("--in", asked.prompted, amount) if asked.prompted else 0
    completion = _read("--out", asked.completed, amount) if asked.completed else 0
    return prompt, _cached(asked), completion


def _cached(asked: Asked) -> int:
    return _read("--cached", asked.cached, share) if asked.cached else 0


def _fixed(settings: Settings, market: Market, text: str) -> int:
    """A sum in the user's currency as 10^-12 US dollars."""
    number = _read("--fixed", text, lambda said: exact_of(said, 12))
    bought = market.prices.exchange.get(settings["money.currency"], PICO)
    return divided(number * PICO, bought)
