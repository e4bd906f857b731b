"""The routes, each behind the guard, and what becomes of an error.

Owns the table of routes. A route that streams is an ASGI function of its own; the others return a
response.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from holychat import __version__
from holychat.commands.serve import chat, openai, page, shelf
from holychat.commands.serve.desk import AUTO
from holychat.commands.serve.errors import Refused, refused
from holychat.commands.serve.guard import LOG, SOCKET, Guard
from holychat.commands.serve.openapi import description
from holychat.commands.serve.socket import Talk
from holychat.core.failure import HolychatError
from holychat.screen.prometheus import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.guard import App, Door, Receive, Scope, Send

    Streaming = Callable[[Desk, Scope, Receive, Send, Request], Awaitable[None]]

STORED = 2.0  # seconds that /metrics waits for the store; who scrapes waits 10


def build(desk: Desk, rules: Door) -> App:
    """The whole application."""
    document = page.load()
    headers = page.headers(document, rules.hosts)

    async def index(_: Request) -> Response:
        return Response(document, headers=headers)

    async def talk(socket: WebSocket) -> None:
        await Talk(desk, socket).run()

    reading = {
        "/v1/models": _models,
        "/v1/models/{model:path}": _model,
        "/health": _health,
        "/metrics": _metrics,
        "/openapi.json": _openapi,
        "/api/models": _listed,
        "/api/conversations": _conversations,
        "/api/conversations/{identity}": _conversation,
    }
    routes = [
        Route("/", index),
        Route("/v1/chat/completions", _Route(desk, openai.completions), methods=["POST"]),
        Route("/chat", _Route(desk, chat.chat), methods=["POST"]),
        *(Route(path, partial(answer, desk)) for path, answer in reading.items()),
        WebSocketRoute("/ws", talk),
    ]
    handlers: dict[Any, Any] = {
        Refused: _refused, HTTPException: _lost, HolychatError: _failed, ClientDisconnect: _left,
        Exception: _broken,
    }  # fmt: skip
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = False  # what is not there has an error that says so
    return _Logged(desk, Guard(inner, rules))


class _Route:
    """A route that writes its response itself. A class, so that Starlette takes it for ASGI."""

    def __init__(self, desk: Desk, serve: Streaming) -> None:
        self._desk = desk
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(self._desk, scope, receive, send, Request(scope, receive))


class _Logged:
    """A line for each request; a bug of ours ends the request and not the relay."""

    def __init__(self, desk: Desk, app: App) -> None:
        self._desk = desk
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began, seen = time.monotonic(), _Seen(send, bodiless=scope.get("method") == "HEAD")
        # Whoever writes a long answer may have to drop a reader who does not read (stream.py).
        scope[SOCKET] = getattr(getattr(send, "__self__", None), "transport", None)
        try:
            await self._app(scope, receive, seen)
        except Exception as error:  # noqa: BLE001 - the last resort, and it says so
            self._desk.fault(error)
            if not seen.status and scope["type"] == "http":
                await JSONResponse(_BUG, 500)(scope, receive, seen)
        finally:
            more = scope.get(LOG, "")
            if scope["type"] == "http" and seen.status:  # a socket says it of each answer
                if not seen.whole:
                    more += " left"
                elif LOG in scope and self._desk.cut.is_set():
                    more += " cut: the relay was stopped"
            method, path = scope.get("method", "WS"), scope["path"]
            self._desk.status.request(method, path, seen.status, seen.size, began, more)


class _Seen:
    """What went out. `whole`: a response did to its end."""

    def __init__(self, send: Send, *, bodiless: bool) -> None:
        self._send = send
        self._bodiless = bodiless  # uvicorn leaves the body out
        self.status = 0
        self.size = 0
        self.whole = False

    async def __call__(self, event: Any) -> None:
        kind = event["type"]
        if kind.endswith("response.start"):
            self.status = event["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close":
            self.status = self.status or 403  # which uvicorn makes of it
        else:
            if not self._bodiless:
                self.size += len(event.get("body") or event.get("text") or b"")
            self.whole = not event.get("more_body", False)
        await self._send(event)


_BUG = {
    "error": {
        "message": "something went wrong inside; the relay's own log says more",
        "type": "server_error",
        "code": None,
        "param": None,
    }
}


async def _refused(request: Request, error: Refused) -> Response:
    said = error.error
    # What is wrong with a request is its client's to know, and may quote it.
    why = said["message"] if error.status >= 500 else said["code"] or said["param"] or ""
    request.scope.setdefault(LOG, why)
    return Response(error.body, error.status, error.headers, "application/json")


async def _broken(_: Request, __: Exception) -> Response:
    """The error itself goes on to _Logged."""
    return JSONResponse(_BUG, 500)


async def _left(_: Request, __: ClientDisconnect) -> None:
    """Nobody is there to be answered."""


async def _lost(request: Request, error: HTTPException) -> Response:
    what = {404: "there is nothing at this path", 405: "this path has no such method"}
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    answer = Refused(error.status_code, what.get(error.status_code, error.detail), code)
    answer.headers.update(error.headers or {})
    return await _refused(request, answer)


async def _failed(request: Request, error: HolychatError) -> Response:
    return await _refused(request, refused(error))


# --- What the relay says of itself --------------------------------------------------------------


async def _models(desk: Desk, _: Request) -> Response:
    return await openai.models(desk)


async def _model(desk: Desk, request: Request) -> Response:
    return await openai.model(desk, request.path_params["model"])


async def _conversations(desk: Desk, request: Request) -> Response:
    return JSONResponse(await shelf.conversations(desk, request.query_params))


async def _conversation(desk: Desk, request: Request) -> Response:
    return JSONResponse(await shelf.conversation(desk, request.path_params["identity"]))


async def _openapi(_: Desk, __: Request) -> Response:
    return JSONResponse(description())


async def _listed(desk: Desk, _: Request) -> Response:
    """The models for the page: the same list, with the configured one marked."""
    names = [f"{name}/{model}" for name, model in await desk.models()]
    default = desk.default()  # none without a key: the page says so at the first prompt
    rows = [{"id": AUTO, "default": False}, *({"id": n, "default": n == default} for n in names)]
    return JSONResponse({"object": "list", "models": rows, "data": rows})


async def _health(desk: Desk, _: Request) -> Response:
    """How the providers do, in the seed documents' form with more in it."""
    settings = desk.settings
    names = [name for name in settings.names() if settings.has_key(name)]
    found = await desk.session.standings(names)
    providers = {
        name: {
            "state": one.state,
            "why": one.why,
            "seconds_left": round(one.seconds, 1),
            "first_token_p50": one.p50,
            "first_token_p95": one.p95,
            "error_rate": one.error_rate,
            "calls": one.calls,
            "streams": one.streams,
            "queue": one.queue,
            "key_refused": one.refused,
        }
        for name, one in found.items()
    }
    said = {
        "status": desk.health(found),
        "service": "holychat",
        "version": __version__,
        "streams": desk.status.sums.of("streams"),
        "store": desk.session.recorder.keeping,
        "providers": providers,
    }
    return JSONResponse(said)


async def _metrics(desk: Desk, _: Request) -> Response:
    from holychat.core.tally import Period
    from holychat.engine import statistics

    text, settings, recorder, sums = "", desk.settings, desk.session.recorder, desk.status.sums
    own = [
        ("holychat_relay_streams", "Answers that are under way.", "gauge", sums.of("streams")),
        ("holychat_relay_requests_total", "Requests.", "counter", sums.of("requests")),
    ]  # of all workers: a scrape meets any of them
    if recorder.path is not None:
        with suppress(HolychatError, TimeoutError):
            async with asyncio.timeout(STORED):  # what it still does then, nobody hears of
                found = desk.session.stored(lambda db: statistics.records(db, Period(), settings))
                said = await found
            text = exposition(said.entries, said.paces)
        own.append(("holychat_store_up", "Whether the store answers.", "gauge", int(bool(text))))
    for name, said_of, kind, value in own:
        text += f"# HELP {name} {said_of}\n# TYPE {name} {kind}\n{name} {value}\n"
    return Response(text, media_type=CONTENT_TYPE)
