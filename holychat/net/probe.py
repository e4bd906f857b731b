"""How a provider answers, phase by phase; and which servers run on this machine.

Owns the stopwatch and the one connection that it looks at, which the pool of a client of its own
takes over for the requests. Nothing is retried and nothing raises: a failure is a finding. The
dialling, the words for foreign errors and the law of keys are those of `http1` and `client`, the
other rooms of this floor's network; only the order of steps is here.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11

from holychat.core.chat import Message, Request
from holychat.core.failure import Failure, Kind
from holychat.core.provider import DEMO, Provider
from holychat.net.client import Client, Timers, named, target_of
from holychat.net.http1 import (
    READ_SIZE,
    Connection,
    connect_failure,
    connected_socket,
    open_tunnel,
    proxy_of,
    trust,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, MutableMapping

    import httpx

    from holychat.core.provider import Quirks
    from holychat.net.http1 import Target

LIMIT = 12.0  # seconds for all phases of one provider
LOCAL_LIMIT = 0.5  # seconds for a server on loopback: one that runs answers in a few ms
ADDRESS_LIMIT = 3.0  # seconds for one address of a name that has several
NO_LIST = (404, 405, 501)  # a server that answers so to GET /models has no list, and may be well

PHASES = ("dns", "connect", "tls", "headers", "first")


@dataclass(frozen=True, slots=True)
class Probe:
    """Seconds of each phase, None for one that was not reached or does not exist (TLS on http).

    `headers` is the time from the request for `GET /models` to the head of its answer, `first` that
    from a request for one token to the token. `failed` names the phase in which `failure` came.
    `models` is what the server lists; None where it has no list or it did not come to that.
    """

    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    headers: float | None = None
    first: float | None = None
    models: tuple[str, ...] | None = None
    failed: str = ""
    failure: Failure | None = None


async def measure(
    provider: Provider,
    model: str | None = None,
    *,
    limit: float = LIMIT,
    quirks: MutableMapping[str, Quirks] | None = None,
) -> Probe:
    """Look at one provider, within `limit` seconds in all. Never raises Failure.

    With a `model`, one token is asked of it, which costs; "" stands for the first that is listed.
    """
    watch = _Stopwatch()
    client = _TimedClient(Timers(limit, limit, limit, limit), quirks)
    listed: tuple[str, ...] | None = None
    failure: Failure | None = None
    try:
        async with asyncio.timeout(limit):
            if provider.name != DEMO:
                await _connect(provider, client, watch)
            listed = await _list(provider, client, watch)
            if model is not None:
                await _first_token(provider, model or (listed or ("",))[0], client, watch)
    except TimeoutError:
        failure = _late(provider, watch.phase, limit)
    except Failure as error:
        failure = named(error, provider)
    finally:
        await client.aclose()
    return Probe(
        **watch.seconds, models=listed, failed=watch.phase if failure else "", failure=failure
    )


async def local_servers(
    providers: Iterable[Provider], limit: float = LOCAL_LIMIT
) -> dict[str, list[str] | None]:
    """Which of the local providers run, and what each lists; None for one that wants a key.

    All are asked at once. Whatever else sits on a port is passed over: it does not speak JSON.
    """
    asked = [provider for provider in providers if provider.local]
    client = Client(Timers(limit, limit, limit, limit))
    try:
        answers = await asyncio.gather(*(_listed(client, one, limit) for one in asked))
    finally:
        await client.aclose()
    found = zip(asked, answers, strict=True)
    return {provider.name: ids for provider, (runs, ids) in found if runs}


async def _listed(
    client: Client, provider: Provider, limit: float
) -> tuple[bool, list[str] | None]:
    try:
        async with asyncio.timeout(limit):
            return True, await client.models(provider)
    except TimeoutError:
        return False, None
    except Failure as failure:
        return failure.kind is Kind.AUTH, None


# --- The phases -----------------------------------------------------------------------------------


class _Stopwatch:
    """Seconds by phase, and the phase that is on."""

    def __init__(self) -> None:
        self.phase = PHASES[0]
        self.seconds: dict[str, Any] = {}

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        self.phase = phase
        start = asyncio.get_running_loop().time()
        yield
        self.seconds[phase] = asyncio.get_running_loop().time() - start


class _TimedClient(Client):
    """A client that knows when the head of an answer came, also of one that refuses."""

    answered = 0.0  # the loop's time; 0 while none came

    async def _open(
        self, provider: Provider, method: str, path: str, body: dict[str, Any] | None
    ) -> httpx.Response:
        try:
            response = await super()._open(provider, method, path, body)
        except Failure as failure:
            if failure.status:
                self.answered = asyncio.get_running_loop().time()
            raise
        self.answered = asyncio.get_running_loop().time()
        return response


async def _connect(provider: Provider, client: Client, watch: _Stopwatch) -> None:
    """Open a connection by its steps and leave it to the client's pool. Raises Failure."""
    target = target_of(provider)
    try:
        tls = await asyncio.to_thread(trust, target.ca) if target.scheme == "https" else None
        proxy = proxy_of(target) if target.proxy else None
        host, port = (proxy.hostname or "", proxy.port or 80) if proxy else target[1:3]
        with watch.time("dns"):
            addresses = await _resolved(host, port)
        with watch.time("connect"):
            sock = await _first_to_connect(addresses)
            reader, writer = await asyncio.open_connection(sock=sock, limit=READ_SIZE * 2)
        try:
            if tls is not None:
                with watch.time("tls"):
                    await _secured(target, tls, reader, writer)
        except BaseException:
            writer.transport.abort()
            raise
    except TimeoutError:
        raise
    except (OSError, h11.ProtocolError, ValueError) as error:
        raise connect_failure(error, target) from error
    client.pool.keep(target, Connection(reader, writer))


async def _resolved(host: str, port: int) -> list[tuple[Any, ...]]:
    """The addresses of a name, one of each family. Raises OSError and UnicodeError.

    Not in the loop's own threads: those are waited for at the end, and a resolver can hang for
    half a minute.
    """
    from concurrent.futures import ThreadPoolExecutor

    threads = ThreadPoolExecutor(1)
    try:
        found = await asyncio.get_running_loop().run_in_executor(
            threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
    finally:
        threads.shutdown(wait=False)
    by_family: dict[int, tuple[Any, ...]] = {}
    for one in found:
        by_family.setdefault(one[0], one)
    return list(by_family.values())


async def _first_to_connect(addresses: list[tuple[Any, ...]]) -> socket.socket:
    """A socket to the first address that takes it, in their order: no race, so that the time is
    that of one connection. Raises OSError, and TimeoutError where the last one is silent."""
    for found in addresses[:-1]:
        try:
            async with asyncio.timeout(ADDRESS_LIMIT):
                return await connected_socket(found)
        except OSError:  # TimeoutError is one
            continue
    return await connected_socket(addresses[-1])


async def _secured(
    target: Target, tls: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """TLS on an open connection, through the proxy's tunnel where there is one."""
    if target.proxy:
        await open_tunnel(target, reader, writer)
    await writer.start_tls(tls, server_hostname=target.host)


async def _list(
    provider: Provider, client: _TimedClient, watch: _Stopwatch
) -> tuple[str, ...] | None:
    watch.phase = "headers"
    start = asyncio.get_running_loop().time()
    try:
        return tuple(await client.models(provider))
    except Failure as failure:
        if failure.status not in NO_LIST:
            raise
        return None
    finally:
        if client.answered:
            watch.seconds["headers"] = client.answered - start


async def _first_token(provider: Provider, model: str, client: Client, watch: _Stopwatch) -> None:
    request = Request(model, (Message("user", "Hi"),), {"max_tokens": 1})
    with watch.time("first"):
        async with aclosing(client.stream(provider, request)) as deltas:
            async for delta in deltas:
                if delta.text or delta.reasoning or delta.finish:
                    break


_LATE = {
    "dns": (Kind.TIMEOUT_CONNECT, "its name is not resolved"),
    "connect": (Kind.TIMEOUT_CONNECT, "no connection"),
    "tls": (Kind.TIMEOUT_CONNECT, "no TLS"),
    "headers": (Kind.TIMEOUT_HEADERS, "no answer"),
    "first": (Kind.TIMEOUT_FIRST, "no token"),
}


def _late(provider: Provider, phase: str, limit: float) -> Failure:
    kind, what = _LATE[phase]
    return Failure(kind, f"{provider.name}: {what} within {limit:g} s")
