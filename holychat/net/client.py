"""The chat client: a request goes out, deltas come up, everything that fails is a Failure.

The only importer of httpx, which builds the requests and undoes gzip and br; `http1` carries them.
Owns the timers of an answer, the key on its way to its origin, and the translation of foreign
errors. Must not retry (the engine does, in one place) except where the protocol itself asks for
it: a field that the provider refuses, an idle connection that was already dead.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

# httpx imports its command line tool where click and rich are installed, 100 ms that nobody needs.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402 - the line above must come first

from holychat import __version__  # noqa: E402
from holychat.core import sse, wire  # noqa: E402
from holychat.core.chat import Delta, Finish  # noqa: E402
from holychat.core.failure import Failure, Kind, hint, key_variable  # noqa: E402
from holychat.core.provider import DEMO  # noqa: E402
from holychat.core.sanitize import one_line  # noqa: E402
from holychat.net import http1  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
    from typing import Any

    from holychat.core.chat import Request
    from holychat.core.pacing import Rates
    from holychat.core.provider import Provider, Quirks

MAX_ERROR = 64 * 1024  # bytes of an error body that are read
MAX_WHOLE = 64 * 1024 * 1024  # bytes of an answer that is not a stream
MAX_LIST = 8 * 1024 * 1024  # bytes of a list of models; the longest known is under 1 MB
AFTER_FINISH = 2.0  # seconds for the usage and `[DONE]` to follow a finish_reason
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds of silence after which an attempt has failed, phase by phase.

    Comments (`: keep-alive`) are not tokens: they hold the socket open, not the timers.
    """

    connect: float = 10.0
    headers: float = 60.0
    first: float = 120.0
    gap: float = 60.0


class Client:
    """Talks to providers for the life of the process.

    `quirks` remembers by provider name what a provider refused; whoever passes one in may keep it.
    `rates` holds by provider name what it last said of its rate limits.
    """

    def __init__(
        self, timers: Timers | None = None, quirks: MutableMapping[str, Quirks] | None = None
    ) -> None:
        self.timers = timers or Timers()
        self.quirks = {} if quirks is None else quirks
        self.rates: dict[str, Rates] = {}
        self.pool = http1.Pool(self.timers.connect)
        self._http = httpx.AsyncClient(
            transport=_Transport(self.pool),
            timeout=None,  # noqa: S113 - the timers are ours: httpx's are reset by comments
            trust_env=False,
            follow_redirects=False,
            headers={"user-agent": f"holychat/{__version__}"},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def warm(self, provider: Provider) -> None:
        """Begin to open a connection, so that it stands when the user presses Enter."""
        if provider.name != DEMO:
            try:
                target = target_of(provider)
            except (httpx.InvalidURL, ValueError):
                return  # the request itself will meet the failure, and report it
            self.pool.warm(target)

    async def stream(self, provider: Provider, request: Request) -> AsyncGenerator[Delta, None]:
        """The answer as it comes. An empty Delta says that the headers are there.

        Ends after the answer's own end, which is a finish_reason or `[DONE]`; raises Failure for
        everything else, after yielding what came. Close it (aclosing) to cancel: the connection is
        closed at once.
        """
        tried = [self.quirks.get(provider.name, provider.quirks)]
        while True:
            body = wire.body(request, tried[-1])
            path = "/chat/completions"
            at = provider.at(tried[-1].prefix_path) if request.partial else provider
            try:
                response = await self._open(at, "POST", path, body)
                break
            except Failure as failure:
                amended = wire.amend(tried[-1], body, failure)
                # A server that names a field whatever it gets would be asked for ever.
                if amended is None or amended in tried:
                    raise
                tried.append(amended)
        if len(tried) > 1:
            self.quirks[provider.name] = tried[-1]
        try:
            yield Delta()
            async with aclosing(self._deltas(provider, request, response)) as deltas:
                async for delta in deltas:
                    yield delta
        except Failure as failure:
            named(failure, provider)
            raise
        finally:
            await response.aclose()

    async def models(self, provider: Provider) -> list[str]:
        """The model ids that `GET /models` lists, in the server's order. Raises Failure."""
        response = await self._open(provider, "GET", "/models", None)
        raw = bytearray()
        try:
            await _collect(response, raw, MAX_LIST, self.timers.headers)
        except TimeoutError as error:
            raise _late(provider, self.timers.headers) from error
        except Failure as failure:
            named(failure, provider)
            raise
        finally:
            await response.aclose()
        text = raw.decode("utf-8-sig", "replace")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise wire.garbage(provider.name, text) from error
        ids = wire.model_ids(value)
        if not ids and isinstance(value, dict) and wire.is_error(value):
            raise wire.error(provider.name, value)
        return ids

    async def _open(
        self, provider: Provider, method: str, path: str, body: dict[str, Any] | None
    ) -> httpx.Response:
        """Send a request; the response's body is unread. Raises Failure for any status but 2xx."""
        request = self._build(provider, method, path, body)
        # A server that ignores or is told not to stream sends its headers when it is done.
        patient = body is not None and not body.get("stream")
        limit = max(self.timers.headers, self.timers.first) if patient else self.timers.headers
        try:
            async with asyncio.timeout(limit):
                response = await self._http.send(request, stream=True)
        except TimeoutError as error:
            raise _late(provider, limit) from error
        except Failure as failure:
            named(failure, provider)
            raise
        if rates := wire.rates(response.headers, time.time()):
            self.rates[provider.name] = rates
        if 200 <= response.status_code < 300:
            return response
        try:
            raw = await _bounded(response, MAX_ERROR, 5.0)
        finally:
            await response.aclose()
        wait = wire.retry_after(response.headers, time.time())
        raise wire.refused(provider.name, response.status_code, raw, wait)

    def _build(
        self, provider: Provider, method: str, path: str, body: dict[str, Any] | None
    ) -> httpx.Request:
        """The request with its key. Errors never quote a header: they could show the key."""
        headers = {"accept": "text/event-stream, application/json"}
        headers |= {name.lower(): value for name, value in provider.headers.items()}
        key = provider.key.reveal()
        if key:
            if not (key.isascii() and key.isprintable()):
                what = f"the key for {provider.name} holds characters that no key has"
                raise Failure(Kind.AUTH, what, f"Set {key_variable(provider.name)} again.")
            headers["authorization"] = f"Bearer {key}"
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = _json(provider, body)
        try:
            return self._http.build_request(
                method,
                provider.base_url + path,
                content=content,
                headers=headers,
                extensions={"provider": provider},
            )
        except (httpx.InvalidURL, ValueError, TypeError):
            what = f"the address of {provider.name} or one of its headers is malformed"
            raise Failure(Kind.REQUEST, what, f"See providers.{provider.name}.") from None

    async def _deltas(
        self, provider: Provider, request: Request, response: httpx.Response
    ) -> AsyncGenerator[Delta, None]:
        raw = request.raw
        slow = raw is not None and bool(raw.get("logprobs") or raw.get("modalities"))
        reader = wire.Reader(provider.name, whole=raw is not None, slow=slow)
        first = self.timers.first if request.stream else max(self.timers.first, 600.0)
        watch = _Watch(provider.name, response.extensions["exchange"], first, self.timers.gap)
        try:
            async with aclosing(_batches(response, reader)) as batches:
                async for deltas in batches:
                    for delta in deltas:
                        watch.saw(delta)
                        watch.pause()
                        yield delta
                        watch.resume()
                    if reader.failure:
                        raise reader.failure
                    if reader.done:
                        break
        except Failure:
            if not reader.finished or reader.failure:
                raise
            # A complete answer stays complete, however badly the connection ends after it.
        finally:
            watch.stop()
        # Half a character at the end is one that is lost; at a cut it is one that is still to come.
        for delta in reader.rest() if reader.finished else ():
            yield delta
        if not (reader.finished and watch.answered):
            raise _incomplete(provider.name, reader, watch)
        exchange: Exchange = response.extensions["exchange"]
        exchange.drain()


def _incomplete(name: str, reader: wire.Reader, watch: _Watch) -> Failure:
    """The Failure of a stream that ended without an error, and without an answer."""
    if reader.finished:
        what = "reasoning and no answer" if watch.thought else "an empty answer"
        return Failure(Kind.EMPTY, f"{name} sent {what}")
    if reader.noise and not (watch.answered or watch.thought):
        return wire.garbage(name, reader.noise)
    return Failure(Kind.CUT, f"{name} ended the stream without ending the answer")


class _Watch:
    """The token timers of one answer: one timer handle, moved lazily, so a token costs nothing.

    When the limit has passed without a token it aborts the exchange, and the reader gets the
    Failure. A loop that was blocked (a full pipe, a suspended process) gets a fresh start: the
    time it slept is not the provider's silence. Nor is the time between `pause` and `resume`.

    `answered` tells whether there was anything in the answer, `thought` in the reasoning.
    """

    def __init__(self, name: str, exchange: Exchange, first: float, gap: float) -> None:
        self._name = name
        self._exchange = exchange
        self._gap = gap
        self._limit = first
        self._kind = Kind.TIMEOUT_FIRST
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._paused = 0.0
        self._handle = self._loop.call_at(self._last + first, self._look)
        self.answered = self.thought = False

    def saw(self, delta: Delta) -> None:
        if delta.text or delta.reasoning or delta.token:
            called = bool(delta.more) and delta.calls
            self.answered = self.answered or bool(delta.text and not delta.text.isspace()) or called
            self.thought = self.thought or bool(delta.reasoning)
            self._token()
        if delta.finish is not None:
            self.answered = self.answered or delta.finish is not Finish.STOP
            self._finished()

    def _token(self) -> None:
        self._last = self._loop.time()
        if self._kind is Kind.TIMEOUT_FIRST:
            self._kind, self._limit = Kind.STALL, self._gap
            self._rearm()

    def _finished(self) -> None:
        """The answer is complete; only its usage may still come."""
        self._last = self._loop.time()
        self._limit = AFTER_FINISH
        self._rearm()

    def pause(self) -> None:
        """Somebody else's time begins: whoever reads the answer works on what came."""
        self._paused = self._loop.time()

    def resume(self) -> None:
        now = self._loop.time()
        self._last += now - self._paused
        self._paused = 0.0
        if self._handle.when() <= now:  # it came while nobody was waiting for the server
            self._rearm()

    def stop(self) -> None:
        self._handle.cancel()

    def _rearm(self) -> None:
        self._handle.cancel()
        self._handle = self._loop.call_at(self._last + self._limit, self._look)

    def _look(self) -> None:
        if self._paused:
            return
        now = self._loop.time()
        if now - self._handle.when() > 1.0:
            self._last = now
        if now - self._last < self._limit:
            self._rearm()
            return
        phase = "began no answer" if self._kind is Kind.TIMEOUT_FIRST else "fell silent"
        self._exchange.abort(Failure(self._kind, f"{self._name} {phase} for {self._limit:g} s"))


async def _batches(
    response: httpx.Response, reader: wire.Reader
) -> AsyncGenerator[list[Delta], None]:
    """Deltas, one list for each read of the socket, whatever form the body has."""
    async with aclosing(_decoded(response)) as chunks:
        head = await _head(chunks)
        # The form is told by the first byte, not by a Content-Type that is often wrong.
        if head.removeprefix(BOM).lstrip()[:1] in (b"{", b"[", b"<"):
            yield reader.whole(await _whole(head, chunks))
            return
        decoder = sse.Decoder()
        try:
            yield reader.read(decoder.feed(head))
            async for data in chunks:
                yield reader.read(decoder.feed(data))
        except sse.EventTooLong as error:
            yield reader.read(error.events)
            raise Failure(Kind.TOO_BIG, str(error)) from error
        except Failure:
            yield reader.last(decoder.end())
            raise
        yield reader.last(decoder.end())


async def _head(chunks: AsyncGenerator[bytes, None]) -> bytes:
    """The first bytes that say something: white space is how some servers keep a client waiting."""
    head = b""
    async for data in chunks:
        head = (head + data).lstrip()
        if not BOM.startswith(head):
            break
    return head


async def _whole(head: bytes, chunks: AsyncGenerator[bytes, None]) -> bytes:
    whole = bytearray(head)
    async for data in chunks:
        whole += data
        if len(whole) > MAX_WHOLE:
            raise Failure(Kind.TOO_BIG, f"the answer is larger than {MAX_WHOLE} bytes")
    return bytes(whole)


async def _decoded(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body, decompressed, in the pieces that came: a chunk size would hold text back."""
    encodings = response.headers.get("content-encoding", "").replace(" ", "").lower()
    unknown = set(encodings.split(",")) - {"", "identity", "gzip", "deflate", "br"}
    if unknown:
        what = one_line(", ".join(sorted(unknown)), 60)
        raise Failure(Kind.GARBAGE, f"the answer is encoded as {what}")
    if not encodings or encodings == "identity":  # past the five generators of httpx
        exchange: Exchange = response.extensions["exchange"]
        while data := await exchange.read():
            yield data
        return
    try:
        async for data in response.aiter_bytes():
            if data:
                yield data
    except httpx.DecodingError as error:
        raise Failure(Kind.RESET, f"the {encodings} stream is broken: {error}") from error


async def _bounded(response: httpx.Response, limit: int, seconds: float) -> bytes:
    """At most `limit` bytes of a body, and what had come after `seconds`; never raises Failure."""
    raw = bytearray()
    try:
        await _collect(response, raw, limit, seconds)
    except (TimeoutError, Failure):
        pass  # half an error body still says more than none
    return bytes(raw[:limit])


async def _collect(response: httpx.Response, raw: bytearray, limit: int, seconds: float) -> None:
    """Put the body into `raw`, until it is over `limit` bytes. Raises TimeoutError and Failure."""
    async with asyncio.timeout(seconds), aclosing(_decoded(response)) as chunks:
        async for data in chunks:
            raw += data
            if len(raw) > limit:
                break


class _Transport(httpx.AsyncBaseTransport):
    """httpx's seam: its requests go through our connections, or to the demo provider."""

    def __init__(self, pool: http1.Pool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        provider: Provider = request.extensions["provider"]
        exchange: Exchange
        if provider.name == DEMO:
            from holychat.net import demo

            exchange = await demo.exchange(request.method, request.url.path, request.content)
        else:
            path = request.url.raw_path.decode("ascii")
            exchange = await self._pool.exchange(
                target_of(provider), request.method, path, request.headers.raw, request.content
            )
        return httpx.Response(
            exchange.status,
            # httpx prepares the next request of a redirect even where it is not to follow it, and
            # trips over an address that is none.
            headers=[header for header in exchange.headers if header[0].lower() != b"location"],
            stream=_Body(exchange),
            extensions={"exchange": exchange},
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._exchange.read():
            yield data

    async def aclose(self) -> None:
        self._exchange.close()


class Exchange(Protocol):
    """What carries one request and its response: http1's, and the demo provider's in its place."""

    status: int
    headers: http1.Headers

    async def read(self) -> bytes: ...
    def abort(self, fault: Failure) -> None: ...
    def close(self) -> None: ...
    def drain(self) -> None: ...


def target_of(provider: Provider) -> http1.Target:
    """Where its connections go. Raises httpx.InvalidURL and ValueError."""
    return _target(provider.base_url, provider.proxy, provider.ca)


@cache
def _target(base_url: str, proxy: str, ca: str) -> http1.Target:
    url = httpx.URL(base_url)
    port = url.port or {"https": 443, "http": 80}.get(url.scheme, 0)
    host = url.raw_host.decode("ascii").strip("[]")
    return http1.Target(url.scheme, host, port, proxy, ca)


def _json(provider: Provider, body: dict[str, Any]) -> bytes:
    """The body as bytes. Raises Failure for a parameter that JSON cannot hold."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        what = f"a parameter for {provider.name} cannot be sent: {one_line(str(error), 120)}"
        raise Failure(Kind.REQUEST, what) from error
    return wire.whole_characters(text).encode()


def _late(provider: Provider, seconds: float) -> Failure:
    what = f"{provider.name} accepted the request but did not answer within {seconds:g} s"
    return Failure(Kind.TIMEOUT_HEADERS, what, hint(Kind.TIMEOUT_HEADERS, provider.name))


def named(failure: Failure, provider: Provider) -> Failure:
    """The failure with the provider's name and a hint, which the floors below do not know."""
    if provider.name not in failure.what:
        failure.what = f"{provider.name}: {failure.what}"
        failure.args = (failure.what,)
    failure.hint = failure.hint or hint(failure.kind, provider.name)
    return failure
