"""Who may come in: checked before anything of a request is looked at, on every way in.

Owns the Host and Origin lists, the token, the form and the size of bodies, and CORS. An ASGI
middleware, so that WebSocket upgrades and unknown paths go through it too. Must not know a route,
but for the page, which is all that is served without a token: it holds no secret and brings the
token along in the fragment of its address.

Why each: a web page anywhere can send requests to this port. The Host list stops one that points
its own name here (DNS rebinding), the Origin list and the content type stop forms and fetches of
other sites, the token stops other users and programs of this machine.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holychat.commands.serve.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    Scope = MutableMapping[str, Any]
    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PROTOCOL = "holychat"  # the WebSocket's
BEARER = "bearer."
# What we put into a request's scope: the socket under it, and a word for the log.
SOCKET, LOG = "holychat-socket", "holychat-log"
EXPOSED = "x-holychat-provider, x-holychat-model, x-holychat-attempts, x-holychat-seams"
AGE = "600"  # seconds that a browser remembers what was allowed


@dataclass(frozen=True)
class Door:
    """What is let in. `hosts` and `origins` are in lower case; `foreign` are the origins of others,
    who get CORS headers."""

    token: str = field(repr=False)
    hosts: frozenset[str]
    origins: frozenset[str]
    foreign: frozenset[str] = frozenset()
    most: int = 1 << 20


def door(
    token: str, host: str, port: int, hosts: Iterable[str], origins: Iterable[str], most: int
) -> Door:
    """The rules of a relay that listens at `host` and `port`; `hosts` and `origins` are what the
    user allows besides."""
    bracketed = f"[{host}]" if ":" in host else host
    names = {*LOOPBACK, *({bracketed} if host not in ("0.0.0.0", "::", "") else ())}  # noqa: S104
    own = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
    ours = {f"http://{name}" for name in own}
    for name in (each.lower() for each in hosts):
        ported = name.rpartition("]")[2].count(":") == 1
        mine = {name} if ported else {name, f"{name}:{port}"}
        own |= mine
        # Behind a proxy it is reached by https.
        ours |= {f"{scheme}://{each}" for scheme in ("http", "https") for each in mine}
    foreign = frozenset(each.lower().rstrip("/") for each in origins)
    return Door(token, frozenset(own), frozenset(ours), foreign, most)


class Guard:
    """The middleware."""

    def __init__(self, app: App, rules: Door) -> None:
        self._app = app
        self._rules = rules
        self._token = rules.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        try:
            origin = self._placed(headers)
        except Refused as refused:
            await refuse(scope, send, refused)
            return
        more = self._cors(origin)
        try:
            if origin in self._rules.foreign and _preflight(scope, headers):
                await _answer(send, 204, {**more, **_allowed()}, b"")
                return
            self._known(scope, headers)
            if scope["type"] == "websocket":
                await self._app(scope, receive, send)
                return
            self._sound(scope, headers)
        except Refused as refused:
            refused.headers.update(more)
            await refuse(scope, send, refused)
            return
        await self._served(scope, receive, send, more)

    # --- What is asked of whom ------------------------------------------------------------------

    def _placed(self, headers: dict[bytes, list[bytes]]) -> str:
        """The origin, empty where none is said. Raises Refused."""
        host = _only(headers, b"host").lower()
        if host not in self._rules.hosts:
            raise Refused(403, "this host name is not served here", "host_not_allowed", "forbidden")
        if b"origin" not in headers:
            return ""
        origin = _only(headers, b"origin").lower()
        if origin not in self._rules.origins and origin not in self._rules.foreign:
            raise Refused(403, "this origin is not allowed", "origin_not_allowed", "forbidden")
        return origin

    def _known(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> None:
        """The token. Raises Refused."""
        page = scope["type"] == "http" and scope["path"] == "/"
        if page and scope["method"] in ("GET", "HEAD"):
            return
        said = _only(headers, b"authorization")
        kind, _, token = said.partition(" ")
        if kind.lower() != "bearer":
            token = ""
        if scope["type"] == "websocket" and not said:
            names = [name.strip() for name in scope.get("subprotocols") or ()]
            bearers = [name for name in names if name.startswith(BEARER)]
            token = bearers[0].removeprefix(BEARER) if len(bearers) == 1 else ""
            if PROTOCOL not in names:
                token = ""
        if not hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._token):
            raise Refused(
                401,
                "the bearer token is missing or wrong; `holychat serve` shows it when it starts",
                "invalid_api_key",
                "authentication_error",
                headers={"www-authenticate": "Bearer"},
            )

    def _sound(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> None:
        """The form and the announced size of a body. Raises Refused."""
        if scope["method"] == "POST":
            form = _only(headers, b"content-type").partition(";")[0].strip().lower()
            if form != "application/json":
                raise Refused(
                    415, "the content type must be application/json", "unsupported_media_type"
                )
        length = _only(headers, b"content-length") if b"content-length" in headers else "0"
        if not length.isdecimal() or len(length) > 18:
            raise Refused(400, "the content length is none", "bad_length")
        if int(length) > self._rules.most:
            raise self._too_big()

    def _too_big(self) -> Refused:
        what = f"the body is larger than {self._rules.most} bytes"
        return Refused(413, what, "body_too_large", headers={"connection": "close"})

    def _cors(self, origin: str) -> dict[str, str]:
        if not self._rules.foreign:
            return {}
        vary = {"vary": "Origin"}
        if origin not in self._rules.foreign:
            return vary
        return {
            **vary,
            "access-control-allow-origin": origin,
            "access-control-expose-headers": EXPOSED,
        }

    # --- And then -------------------------------------------------------------------------------

    async def _served(
        self, scope: Scope, receive: Receive, send: Send, more: dict[str, str]
    ) -> None:
        came = 0

        async def bounded() -> Event:
            nonlocal came
            event = await receive()
            if event["type"] == "http.request":
                came += len(event.get("body", b""))
                if came > self._rules.most:
                    raise self._too_big()
            return event

        async def marked(event: Event) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event.get("headers", ()), *_raw(more)]
            await send(event)

        await self._app(scope, bounded, marked if more else send)


def _only(headers: dict[bytes, list[bytes]], name: bytes) -> str:
    """The one value of a header; empty where there is none. Two of them are nobody's mistake."""
    values = headers.get(name, [])
    if len(values) > 1:
        raise Refused(400, f"there are several {name.decode()} headers", "bad_header")
    return values[0].decode("latin-1").strip() if values else ""


def _preflight(scope: Scope, headers: dict[bytes, list[bytes]]) -> bool:
    asks = b"access-control-request-method" in headers
    return scope["type"] == "http" and scope["method"] == "OPTIONS" and asks


def _allowed() -> dict[str, str]:
    return {
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type, x-holychat-store",
        "access-control-max-age": AGE,
    }


async def refuse(scope: Scope, send: Send, refused: Refused) -> None:
    """Answer with an error, before anything else was; also to a WebSocket upgrade."""
    scope.setdefault(LOG, refused.error["code"] or "")
    headers = {"content-type": "application/json", **refused.headers}
    if scope["type"] == "http":
        await _answer(send, refused.status, headers, refused.body)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await _answer(send, refused.status, headers, refused.body, "websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": ""})


async def _answer(
    send: Send, status: int, headers: dict[str, str], body: bytes, kind: str = "http.response"
) -> None:
    said = _raw({**headers, "content-length": str(len(body))} if status != 204 else headers)
    await send({"type": f"{kind}.start", "status": status, "headers": said})
    await send({"type": f"{kind}.body", "body": body})


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
