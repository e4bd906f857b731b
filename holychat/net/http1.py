"""HTTP/1.1 over asyncio sockets: h11 keeps the protocol, this module keeps the connections.

Owns sockets, TLS, the proxy tunnel and the idle connections. Must not know httpx, JSON or a chat.

Why not httpx's stock transport: it comes with httpcore and anyio, which cost 60 ms of CPU at the
first request, hand the body over in one piece per HTTP chunk through five generators, and leak a
pool slot when a task is cancelled at the wrong await (encode/httpcore #658, #1093). Here a
connection is either in the idle list or owned by exactly one Exchange, and closing is synchronous:
there is no await in which a cancellation could lose it.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import socket
import ssl
import weakref
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import h11

from holychat.core.failure import Failure, Kind
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from urllib.parse import SplitResult

Headers = list[tuple[bytes, bytes]]

READ_SIZE = 64 * 1024
MAX_HEAD = 128 * 1024  # bytes of a response's head
IDLE = 10.0  # seconds; servers close idle connections from about 5 to 75 s
STAGGER = 0.25  # seconds between two addresses of one name
DRAIN = 1.0  # seconds to wait for the end of a body whose content is complete


class Target(NamedTuple):
    """Where to connect, and how: connections to equal targets may be shared."""

    scheme: str
    host: str
    port: int
    proxy: str = ""
    ca: str = ""

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Connection:
    """One open socket with its protocol state."""

    __slots__ = ("__weakref__", "idle_since", "protocol", "reader", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self.idle_since = 0.0  # 0 while it never was

    def abort(self) -> None:
        """Close at once, without waiting for anything: the server sees it now."""
        self.writer.transport.abort()

    @property
    def stale(self) -> bool:
        """Closed by the server, or sent something nobody asked for: a late 408 is no answer."""
        if self.writer.transport.is_closing():
            return True
        reading = self.reader.read(1)
        try:
            reading.send(None)
        except (StopIteration, OSError):
            return True  # there is something to read, or the end, or an error
        finally:
            reading.close()
        return False


class Exchange:
    """One request and its response. Read it to the end, or `close` it; both may come any time."""

    __slots__ = (
        "_connection", "_ended", "_fault", "_pool", "_target",
        "eof", "headers", "received", "status",
    )  # fmt: skip

    def __init__(self, pool: Pool, target: Target, connection: Connection) -> None:
        self._pool = pool
        self._target = target
        self._connection: Connection | None = connection
        self._fault: Failure | None = None
        self._ended = False
        self.received = False  # whether any byte came back
        self.eof = False  # whether the server closed the connection
        self.status = 0
        self.headers: Headers = []

    async def begin(self, request: bytes) -> None:
        """Send the request and read the head of the response, past any 1xx."""
        connection = self._connection
        if connection is None:
            raise self._fault or Failure(Kind.RESET, "the connection was closed")
        connection.writer.write(request)
        await connection.writer.drain()
        while True:
            event = connection.protocol.next_event()
            if event is h11.NEED_DATA:
                await self._receive(connection)
            elif isinstance(event, h11.Response):
                self.status = event.status_code
                self.headers = list(event.headers)
                return
            elif not isinstance(event, h11.InformationalResponse):
                raise Failure(Kind.RESET, f"{self._target.address} closed without an answer")

    async def read(self) -> bytes:
        """The next bytes of the body, all that one read of the socket brought; b"" at its end."""
        parts: list[bytes] = []
        while not self._ended:
            connection = self._connection
            if connection is None:
                raise self._fault or Failure(Kind.RESET, "the connection was closed")
            try:
                event = connection.protocol.next_event()
                if event is h11.NEED_DATA:
                    if parts:
                        break
                    await self._receive(connection)
                    continue
            except (h11.RemoteProtocolError, OSError) as error:
                self._fault = self._fault or _translated(error, self._target, self.eof)
                if parts:
                    break  # what came first; the next read meets the error again
                self.close()
                raise self._fault from error
            if isinstance(event, h11.Data):
                if event.data:
                    parts.append(bytes(event.data))
            else:
                self._ended = True
                self._connection = None
                self._pool.release(self._target, connection)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _receive(self, connection: Connection) -> None:
        data = await connection.reader.read(READ_SIZE)
        if self._fault is not None:
            raise self._fault
        self.received = self.received or bool(data)
        self.eof = not data
        connection.protocol.receive_data(data)

    def abort(self, fault: Failure) -> None:
        """Close now; whoever reads gets `fault`. For the timers."""
        self._fault = self._fault or fault
        if self._connection is not None:
            self._connection.abort()

    def close(self) -> None:
        """Give the connection up. Closes it, unless the body has ended."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def drain(self) -> None:
        """Like `close`, where the content is complete: the connection is kept if it ends soon."""
        connection, self._connection = self._connection, None
        if connection is not None:
            rest = Exchange(self._pool, self._target, connection)
            self._pool.background(_read_to_end(rest))


async def _read_to_end(exchange: Exchange) -> None:
    try:
        async with asyncio.timeout(DRAIN):
            while await exchange.read():
                pass
    except (Failure, TimeoutError):
        pass  # the answer is complete; how its connection ends concerns nobody
    finally:
        exchange.close()


class Pool:
    """Opens connections and keeps idle ones for `IDLE` seconds.

    `connect_timeout` is in seconds and covers DNS, TCP, proxy and TLS together.
    """

    def __init__(self, connect_timeout: float = 10.0) -> None:
        self.connect_timeout = connect_timeout
        self._idle: dict[Target, list[Connection]] = {}
        self._warming: dict[Target, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open_ones: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = False

    async def exchange(
        self, target: Target, method: str, path: str, headers: Headers, content: bytes
    ) -> Exchange:
        """Send one request and return when the head of its response is there.

        A reused connection that dies before its first byte was closed by the server while idle:
        the request goes out once more, on a fresh one. Raises Failure.
        """
        while True:
            connection = await self._take(target)
            reused = connection.idle_since > 0
            exchange = Exchange(self, target, connection)
            try:
                await exchange.begin(_encoded(connection, target, method, path, headers, content))
                return exchange
            except h11.LocalProtocolError:
                exchange.close()
                # Not chained: h11 quotes the illegal header, which may be the one with the key.
                raise Failure(
                    Kind.REQUEST, "a header holds a character that HTTP forbids"
                ) from None
            except (h11.RemoteProtocolError, OSError, ValueError, Failure) as error:
                exchange.close()
                if not reused or exchange.received:
                    raise _translated(error, target, exchange.eof) from error
                self._discard(target)  # its siblings are as old
            except BaseException:
                exchange.close()
                raise

    def warm(self, target: Target) -> None:
        """Begin to open a connection, unless one is at hand. Never raises; failing is harmless."""
        if target not in self._warming and not self._fresh(target):
            task = self.background(self._warm(target))
            self._warming[target] = task
            task.add_done_callback(lambda _: self._warming.pop(target, None))

    async def _warm(self, target: Target) -> None:
        try:
            self.keep(target, await self._open(target))
        except Failure:
            pass  # the request itself will meet the failure, and report it

    async def aclose(self) -> None:
        """Close everything. Exchanges that are still open fail with a reset."""
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        for connection in tuple(self._open_ones):
            connection.abort()
        self._idle.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def background(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def release(self, target: Target, connection: Connection) -> None:
        """Take back a connection whose exchange has ended; closes it if it cannot serve again."""
        protocol = connection.protocol
        done = protocol.our_state is h11.DONE and protocol.their_state is h11.DONE
        # Bytes after the end would be taken for the next answer.
        if done and not any(protocol.trailing_data):
            protocol.start_next_cycle()
            self.keep(target, connection)
        else:
            connection.abort()

    @property
    def idle(self) -> int:
        """Connections that are open and free."""
        return sum(len(kept) for kept in self._idle.values())

    def keep(self, target: Target, connection: Connection) -> None:
        """Have an open connection at hand for the next request; it may be one of others' making."""
        self._open_ones.add(connection)
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.setdefault(target, []).append(connection)

    def _discard(self, target: Target) -> None:
        for connection in self._idle.pop(target, ()):
            connection.abort()

    def _fresh(self, target: Target) -> list[Connection]:
        """The idle connections that may still be used; closes the others."""
        oldest = asyncio.get_running_loop().time() - IDLE
        kept: list[Connection] = []
        for connection in self._idle.pop(target, ()):
            if connection.stale or connection.idle_since < oldest:
                connection.abort()
            else:
                kept.append(connection)
        if kept:
            self._idle[target] = kept
        return kept

    async def _take(self, target: Target) -> Connection:
        if (warming := self._warming.get(target)) is not None:
            await asyncio.wait([warming])
        kept = self._fresh(target)
        return kept.pop() if kept else await self._open(target)

    async def _open(self, target: Target) -> Connection:
        if self._closed:
            raise Failure(Kind.RESET, "the connection was closed")
        if target.scheme not in ("http", "https") or not 0 < target.port < 65536:
            what = "an address must be http://HOST:PORT/PATH or https://HOST:PORT/PATH"
            raise Failure(Kind.REQUEST, what)
        try:
            async with asyncio.timeout(self.connect_timeout):
                connection = await _connect(target)
        except TimeoutError as error:
            seconds = f"{self.connect_timeout:g} s"
            raise Failure(
                Kind.TIMEOUT_CONNECT, f"no connection to {target.address} within {seconds}"
            ) from error
        except (OSError, h11.ProtocolError, ValueError) as error:
            raise connect_failure(error, target) from error
        self._open_ones.add(connection)
        return connection


# --- Opening ------------------------------------------------------------------------------------

_contexts: dict[str, ssl.SSLContext] = {}


def trust(ca: str = "") -> ssl.SSLContext:
    """The TLS context: the system's authorities, certifi's, and a private one from file `ca`."""
    if ca not in _contexts:
        import certifi

        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        if ca:
            path = os.path.expanduser(ca)
            try:
                context.load_verify_locations(path)
            except (OSError, ssl.SSLError) as error:
                raise Failure(Kind.TLS, f"the CA file {ca} cannot be used: {error}") from error
        context.set_alpn_protocols(["http/1.1"])
        _contexts[ca] = context
    return _contexts[ca]


async def _connect(target: Target) -> Connection:
    # Reading the authorities takes 30 ms: not on the loop, which is painting the prompt.
    tls = await asyncio.to_thread(trust, target.ca) if target.scheme == "https" else None
    if target.proxy:
        reader, writer = await _through_proxy(target, tls)
    else:
        reader, writer = await _dial(target.host, target.port, tls)
    return Connection(reader, writer)


async def _dial(
    host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = await _socket(host, port)
    return await asyncio.open_connection(
        sock=sock, ssl=tls, limit=READ_SIZE * 2, server_hostname=host if tls else None
    )


async def _socket(host: str, port: int) -> socket.socket:
    """A connected socket. The addresses of a name race, each `STAGGER` after the one before it.

    So a broken IPv6 route costs 0.25 s instead of the whole time-out (RFC 8305). Not asyncio's own
    race: that one loses a socket when it is cancelled in the moment in which it is connected.
    """
    loop = asyncio.get_running_loop()
    by_family: dict[int, list[tuple[Any, ...]]] = {}
    for found in await _addresses(host, port):
        by_family.setdefault(found[0], []).append(found)
    waiting = [one for each in zip_longest(*by_family.values()) for one in each if one]
    tasks: list[asyncio.Task[socket.socket]] = []
    running: set[asyncio.Task[socket.socket]] = set()
    error: BaseException = OSError(errno.EADDRNOTAVAIL, "the name has no address")
    try:
        while waiting or running:
            if waiting:
                tasks.append(loop.create_task(connected_socket(waiting.pop(0))))
                running.add(tasks[-1])
            pause = STAGGER if waiting else None
            done, running = await asyncio.wait(
                running, timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception() or error
                if task.exception() is None:
                    tasks.remove(task)
                    return task.result()
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(_close_result)
    raise error


async def _addresses(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """What getaddrinfo says; only a name has to be asked for, in a thread that takes 1 ms."""
    loop, kind = asyncio.get_running_loop(), socket.SOCK_STREAM
    try:
        return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await loop.getaddrinfo(host, port, type=kind)


async def connected_socket(found: tuple[Any, ...]) -> socket.socket:
    """A socket to one address as getaddrinfo gives it. Raises OSError."""
    family, kind, protocol, _, address = found
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _through_proxy(
    target: Target, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An HTTP proxy: CONNECT for https, absolute-form requests (see `_encoded`) for http."""
    proxy = proxy_of(target)
    reader, writer = await _dial(proxy.hostname or "", proxy.port or 80, None)
    if tls is None:
        return reader, writer
    try:
        await open_tunnel(target, reader, writer)
        await writer.start_tls(tls, server_hostname=target.host)
        return reader, writer
    except BaseException:
        writer.transport.abort()
        raise


async def open_tunnel(
    target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """CONNECT on an open connection to the proxy. Raises Failure where that refuses."""
    tunnel = h11.Connection(h11.CLIENT)
    headers = [(b"host", target.address.encode()), *_proxy_authorization(target)]
    connect = h11.Request(method="CONNECT", target=target.address, headers=headers)
    writer.write(tunnel.send(connect) or b"")
    while (event := tunnel.next_event()) is h11.NEED_DATA:
        tunnel.receive_data(await reader.read(READ_SIZE))
    if not isinstance(event, h11.Response) or event.status_code != 200:
        status = event.status_code if isinstance(event, h11.Response) else "nothing"
        raise Failure(Kind.CONNECT, f"the proxy answered {status} to CONNECT {target.address}")


def proxy_of(target: Target) -> SplitResult:
    """The proxy's address, which no message may quote whole: it can hold a password."""
    try:
        proxy = urlsplit(target.proxy)
        good = proxy.scheme == "http" and proxy.hostname and proxy.port != 0
    except ValueError:
        good = False
    if not good:
        raise Failure(Kind.CONNECT, "the proxy must be given as http://HOST:PORT") from None
    return proxy


def _proxy_authorization(target: Target) -> Headers:
    proxy = proxy_of(target)
    if not proxy.username:
        return []
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return [(b"proxy-authorization", b"Basic " + base64.b64encode(pair.encode()))]


def _encoded(
    connection: Connection,
    target: Target,
    method: str,
    path: str,
    headers: Headers,
    content: bytes,
) -> bytes:
    """The whole request as bytes; moves the connection's protocol state along."""
    if target.proxy and target.scheme == "http":
        path = f"http://{target.address}{path}"
        headers = headers + _proxy_authorization(target)
    send: Callable[[h11.Event], bytes | None] = connection.protocol.send
    events: Sequence[h11.Event] = (
        h11.Request(method=method, target=path, headers=headers),
        *([h11.Data(data=content)] if content else []),
        h11.EndOfMessage(),
    )
    return b"".join(send(event) or b"" for event in events)


# --- Foreign errors, in our words ---------------------------------------------------------------


def connect_failure(error: BaseException, target: Target) -> Failure:
    """Why no connection came about."""
    host, where = target.host, target.address
    if target.proxy:
        proxy = proxy_of(target)
        host, where = (f"{word} {proxy.hostname}" for word in ("proxy", "the proxy"))
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(
            Kind.TLS, f"the certificate of {target.host} does not hold: {error.verify_message}"
        )
    if isinstance(error, ssl.SSLError):
        return Failure(Kind.TLS, f"no TLS with {target.address}: {error.reason or error}")
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Failure(Kind.CONNECT, f"there is no address for the host {host}")
    if isinstance(error, ConnectionRefusedError):
        return Failure(Kind.CONNECT, f"{where} refuses the connection")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Failure(Kind.CONNECT, f"no connection to {where}: {reason}")


def _translated(error: BaseException, target: Target, eof: bool) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, (h11.RemoteProtocolError, ValueError)) and not eof:
        said = one_line(str(error), 120)  # h11 quotes what came, in full
        return Failure(Kind.GARBAGE, f"{target.address} does not speak HTTP/1.1: {said}")
    return Failure(Kind.RESET, f"{target.address} broke the connection")
