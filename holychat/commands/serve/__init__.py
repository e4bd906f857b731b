"""`holychat serve`: the models behind one local address, with failover, limits, costs and history.

Owns the start: what must be there, who may be let in, and the one line with the way in.

host     the process: its socket, its signals, several workers
app      the routes
guard    who may come in
desk     what all requests share: the session, the choice of models, the bound on streams
openai   OpenAI's form; chat: the seed documents'; socket: the WebSocket
stream   an answer on its way to a client
body     what comes in; errors: what went wrong
shelf    the conversations of the store; page: the web page; openapi: the description
status   the access log and the live line
secret   the token
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from holychat import env
from holychat.core.failure import SettingsError, UsageError
from holychat.exits import Exit

if TYPE_CHECKING:
    from socket import socket

    from holychat.commands.serve.guard import Door
    from holychat.commands.serve.status import Status
    from holychat.settings import Settings

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
        import starlette  # noqa: F401 - only whether it is there
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SettingsError("`holychat serve` needs two more packages", INSTALL) from error
    from holychat.commands.serve import guard, host, secret

    token = secret.token(
        asked.token_file or os.path.join(env.home(os.environ, "data"), secret.NAME)
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
    if asked.workers == 1:
        code = _serve(settings, asked, rules, sock)
    else:
        code = host.several(
            asked.workers,
            lambda: _serve(settings, asked, rules, sock),
            lambda text: env.err(f"holychat: {text}"),
        )
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
        scheme, _, rest = origin.rstrip("/").partition("://")
        if scheme.lower() not in ("http", "https") or not rest or "/" in rest or "*" in rest:
            raise UsageError(
                f"--allow-origin takes an origin like https://example.org, not {origin}"
            )
    for name in asked.hosts:
        if not name.strip() or any(mark in name for mark in "/*@ "):
            raise UsageError(f"--allow-host takes a host name, not {name}")


def _loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host.lower() == "localhost"


def _everywhere(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_unspecified
    return False


def _serve(settings: Settings, asked: Asked, rules: Door, sock: socket) -> int:
    """One process; returns 0, or the signal that ended it, negative."""
    from holychat.commands.serve.status import Status, lively

    live = lively() and asked.workers == 1 and not asked.quiet
    status = Status(settings.cash, quiet=asked.quiet, live=live)
    return asyncio.run(_serving(settings, asked, rules, sock, status))


async def _serving(
    settings: Settings, asked: Asked, rules: Door, sock: socket, status: Status
) -> int:
    from holychat.commands.serve.app import build
    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.host import Server
    from holychat.engine.session import Session

    session = Session(settings, os.environ, asked.timeout)
    desk = Desk(session, status, asked.streams, asked.waiting)
    server = Server(build(desk, rules), desk, asked.most)
    line = asyncio.create_task(status.run())
    try:
        await server.serve([sock])
    finally:
        line.cancel()
        await asyncio.gather(line, return_exceptions=True)
        await session.aclose()
        for warning in session.recorder.warnings:
            status.say(warning)
    return -server.caught if server.caught else Exit.OK
