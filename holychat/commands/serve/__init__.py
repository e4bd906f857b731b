"""`holychat serve`: the models behind one local address, with failover, limits, costs and history.

Owns the start: what must be there, who may be let in, and the one line with the way in.

host     the process: its socket, its clients, its signals, several workers
app      the routes
guard    who may come in
desk     what all requests share: the session, the choice of models, the bound on streams
openai   OpenAI's form; chat: the seed documents'; socket: the WebSocket
stream   an answer on its way to a client
body     what comes in; errors: what went wrong
shelf    the conversations of the store; page: the web page; openapi: the description
status   the access log, the live line, the figures of all workers
secret   the token
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from ipaddress import ip_address
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.failure import HolychatError, SettingsError, UsageError
from holychat.exits import Exit

if TYPE_CHECKING:
    from socket import socket

    from holychat.commands.serve.guard import Door
    from holychat.commands.serve.status import Status
    from holychat.engine.session import Session
    from holychat.settings import Settings
    from holychat.store.db import Database

PACKAGES = ("starlette", "uvicorn", "websockets")
INSTALL = "pip install 'holychat[serve]'"
MOST = 1 << 20  # bytes of a body
STREAMS = 256
WAITING = 10.0  # seconds of silence after which a client gets a comment


@dataclass(frozen=True)
class Asked:
    """The options."""

    host: str = "127.0.0.1"
    port: int = 8787
    token_file: str = ""
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    workers: int = 1
    most: int = MOST
    streams: int = STREAMS
    waiting: float = WAITING
    quiet: bool = False
    timeout: float | None = None


def run(settings: Settings, asked: Asked) -> int:
    """Serve until a signal. Raises HolychatError."""
    _checked(asked)
    # httpx imports its command line tool where click is installed, and uvicorn brings click.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    try:
        for name in PACKAGES:  # only whether they are there
            import_module(name)
    except ImportError as error:
        raise SettingsError("`holychat serve` needs three more packages", INSTALL) from error
    from holychat.commands.serve import guard, host, secret
    from holychat.commands.serve.status import Status, Sums, lively

    token = secret.token(
        os.path.expanduser(asked.token_file)
        or os.path.join(env.home(os.environ, "data"), secret.NAME)
    )
    for notice in () if asked.quiet else settings.notices:
        env.err(f"holychat: {notice}", dim=True)
    sock = host.listening(asked.host, asked.port)
    port = sock.getsockname()[1]
    rules = guard.door(token, asked.host, port, asked.hosts, asked.origins, asked.most)
    shown = asked.host if ":" not in asked.host else f"[{asked.host}]"
    if _everywhere(asked.host):
        shown = "127.0.0.1"
    env.out(f"http://{shown}:{port}/#token={token}")
    many, quiet = asked.workers, asked.quiet
    sums, live = Sums(many + 1), lively() and not quiet
    # With several the live line is the parent's, whose own row stays empty.
    own = Status(settings.cash, sums, many, quiet=quiet, live=live)
    if many == 1:
        code = _serve(settings, asked, rules, sock, own)
    else:
        parent = os.getpid()

        def work(number: int) -> int:
            status = Status(settings.cash, sums, number, quiet=quiet, beside=live)
            return _serve(settings, asked, rules, sock, status, parent)

        from holychat.commands.serve import workers

        code = workers.several(many, work, sock, own)
    if code < 0:
        env.end_by(signal.Signals(-code))
    return code


def _checked(asked: Asked) -> None:
    """Raises UsageError."""
    if not _loopback(asked.host) and not asked.token_file:
        raise UsageError(
            f"--host {asked.host} lets in other machines: name the token's file with --token-file",
            "They also need a name for this one: --allow-host NAME.",
        )
    for origin in asked.origins:
        found = _ORIGIN.fullmatch(origin)
        usual = {"http": "80", "https": "443"}
        # A browser does not say the usual port.
        if not found or _bad_port(found[2]) or found[2] == usual[found[1].lower()]:
            raise UsageError(
                f"--allow-origin takes an origin like https://example.org, not {origin}"
            )
    for name in asked.hosts:
        found = _HOST.fullmatch(name)
        if not found or _bad_port(found[1]):
            raise UsageError(f"--allow-host takes a host name, not {name}")


# As browsers say them: other alphabets in punycode.
_NAME = r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{1,5}))?"
_HOST = re.compile(_NAME)
_ORIGIN = re.compile(rf"([Hh][Tt][Tt][Pp][Ss]?)://{_NAME}/?")


def _bad_port(port: str | None) -> bool:
    return port is not None and not (0 < int(port) <= 65535 and port == str(int(port)))


def _loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host.lower() == "localhost"


def _everywhere(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_unspecified
    return False


def _serve(
    settings: Settings, asked: Asked, rules: Door, sock: socket, status: Status, parent: int = 0
) -> int:
    """One process, `parent`'s worker if given; returns 0, or the signal that ended it, negative."""
    return asyncio.run(_serving(settings, asked, rules, sock, status, parent))


async def _serving(
    settings: Settings, asked: Asked, rules: Door, sock: socket, status: Status, parent: int
) -> int:
    from holychat.commands.serve.app import build
    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.host import Server
    from holychat.commands.serve.status import Words
    from holychat.engine.session import Session

    logging.getLogger().addHandler(Words(status))
    session = Session(settings, os.environ, asked.timeout)
    desk = Desk(session, status, asked.streams, asked.waiting)
    server = Server(build(desk, rules), desk, asked.most, parent)
    works = (status.run(), _bury(session, status), _warn(session, status))
    beside = [asyncio.create_task(work) for work in works]
    try:
        await server.serve([sock])
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await session.aclose()
        for warning in session.recorder.heard():
            status.say(warning)
        if many := len(session.recorder.unkept):
            prompts = "1 prompt and its answer are" if many == 1 else f"{many} prompts are"
            status.say(f"{prompts} not kept")
    return -server.caught if server.caught else Exit.OK


async def _warn(session: Session, status: Status) -> None:
    """What befalls the store when nobody is there to be told."""
    while True:
        await asyncio.wrap_future(session.recorder.warned())
        for warning in session.recorder.heard():
            status.say(warning)


async def _bury(session: Session, status: Status) -> None:
    """Close the turns that dead holychats left open; with what came of them they are answers that
    were cut. What stood at their prompts stays where it is, for the REPL to offer."""
    with suppress(HolychatError):  # a store that fails is told of at the first turn
        many = await session.stored(_closed) if session.recorder.path else 0
        if many:
            answers = "1 answer is" if many == 1 else f"{many} answers are"
            status.say(f"{answers} kept as cut, which a holychat left open that was killed")


def _closed(db: Database) -> int:
    from holychat.store.turns import bury_open

    query = "SELECT count(*) AS many FROM turns WHERE writer IS NOT NULL"
    if not db.rows(query)[0]["many"]:
        return 0
    with db.write():
        before = db.rows(query)[0]["many"]
        bury_open(db)
        return int(before - db.rows(query)[0]["many"])
