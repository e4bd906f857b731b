"""OpenAI's form: `POST /v1/chat/completions`, whole and in pieces, and `GET /v1/models`.

Owns the shape of chunks and completions that go out. What a client sent goes to the provider as it
is, and what a provider says beside the text comes back as it was. The shapes: platform.openai.com,
chat completion object and chunk.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from holychat.commands.serve import body as bodies
from holychat.commands.serve.desk import AUTO, about, attempts_of, usage_of
from holychat.commands.serve.errors import Refused, dumped
from holychat.commands.serve.stream import Stream, collected, deliver, served_by
from holychat.core.chat import Finish

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from holychat.commands.serve.desk import Desk
    from holychat.commands.serve.guard import Receive, Scope, Send
    from holychat.core.chat import Delta, Turn

_FINISHES = {Finish.OVERLOADED: "stop", Finish.CUT: "length", Finish.INTERRUPTED: "stop"}
_quoted = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


async def completions(
    desk: Desk, scope: Scope, receive: Receive, send: Send, request: Request
) -> None:
    """Answer one request. Raises Refused."""
    asked = bodies.completion(await bodies.read(request))
    with desk.seat():
        chat = await desk.turn(asked, request.headers)
        if asked.body.get("stream"):
            options = asked.body.get("stream_options")
            counted = bool(isinstance(options, dict) and options.get("include_usage"))
            await Stream(desk, chat, asked.prompt, Chunks(counted=counted))(scope, receive, send)
            return
        came = await collected(desk, chat, asked.prompt, scope, receive)
        if came is None:
            return
        turn, deltas = came
        if turn.failure is not None:
            raise desk.explained(turn.failure, chat)
        body = dumped(whole(turn, deltas, desk.price(turn.usage)))
        head = served_by(turn.provider, turn.model, attempts_of(turn), turn.seams)
        await deliver(desk, scope, send, body, head)


async def models(desk: Desk) -> Response:
    """All providers' models, and `auto`, which is the configured one."""
    return JSONResponse({"object": "list", "data": await _listed(desk)})


async def model(desk: Desk, name: str) -> Response:
    """One of them. Raises Refused."""
    found = next((one for one in await _listed(desk) if one["id"] == name), None)
    if found is None:
        raise Refused(404, f"no provider lists the model {name}", "model_not_found", param="model")
    return JSONResponse(found)


async def _listed(desk: Desk) -> list[dict[str, Any]]:
    rows = [(AUTO, "holychat"), *((f"{name}/{model}", name) for name, model in await desk.models())]
    return [{"id": one, "object": "model", "created": 0, "owned_by": owner} for one, owner in rows]


def new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def finish_of(turn: Turn, deltas_finish: str = "") -> str:
    """The finish_reason, as the provider spelled it where that is known."""
    return deltas_finish or _FINISHES.get(turn.finish, turn.finish.value)


# --- In pieces ----------------------------------------------------------------------------------


class Chunks:
    """Chunks of one answer; `counted`: with one of the usage at the end.

    `text` makes the chunk of a plain piece, `beside` what any other one has beside the choices: for
    forms that resemble this one.
    """

    def __init__(self, *, counted: bool) -> None:
        self._counted = counted
        self._finish = ""
        self._head = self._text = self._tail = ""
        self._base: dict[str, Any] = {}

    def first(self, model: str) -> bytes:
        self._base = {
            "id": new_id(),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        # A piece of nothing but text is nearly every one: it is put between two halves.
        self._head = "data: " + _quoted(self._base)[:-1] + ',"choices":[{"index":0,"delta":'
        self._text = self._head + '{"content":'
        usage = ',"usage":null' if self._counted else ""
        self._tail = '},"finish_reason":null}]' + usage + "}\n\n"
        return self._piece({"role": "assistant", "content": ""})

    def delta(self, delta: Delta) -> bytes:
        if delta.text and not (delta.more or delta.reasoning or delta.refusal):
            return self.text(delta.text, _quoted(delta.text)).encode()
        more = delta.more or {}
        self._finish = more.get("finish", self._finish)
        piece: dict[str, Any] = {}
        if delta.reasoning:
            piece["reasoning_content"] = delta.reasoning
        if delta.text:
            piece["refusal" if delta.refusal else "content"] = delta.text
        piece.update(more.get("delta", {}))
        if not (piece or "choice" in more or "chunk" in more):
            return b""
        return self._piece(piece, more.get("choice"), self.beside(delta))

    def beside(self, delta: Delta) -> dict[str, Any]:
        return delta.more.get("chunk", {}) if delta.more else {}

    def text(self, _: str, quoted: str) -> str:
        return f"{self._text}{quoted}{self._tail}"

    def last(self, turn: Turn, cash: str) -> bytes:
        said = about(turn, cash)
        out = self._piece({}, {"finish_reason": finish_of(turn, self._finish)})
        if self._counted:
            usage = {"choices": [], "usage": usage_of(turn), "holychat": said}
            out += b"data: " + dumped({**self._base, **usage}) + b"\n\n"
        else:
            out += b": holychat " + dumped(said) + b"\n\n"
        return out + b"data: [DONE]\n\n"

    def error(self, refused: Refused) -> bytes:
        return b"data: " + refused.body + b"\n\n"

    def _piece(
        self,
        delta: dict[str, Any],
        choice: dict[str, Any] | None = None,
        chunk: dict[str, Any] | None = None,
    ) -> bytes:
        one = {"index": 0, "delta": delta, "finish_reason": None, **(choice or {})}
        usage = {"usage": None} if self._counted else {}
        return (
            b"data: " + dumped({**self._base, "choices": [one], **usage, **(chunk or {})}) + b"\n\n"
        )


# --- Whole --------------------------------------------------------------------------------------


def whole(turn: Turn, deltas: list[Delta], cash: str) -> dict[str, Any]:
    """The completion object of an answer."""
    said: dict[str, Any] = {}
    for delta in deltas:
        if delta.more:
            _grown(said, delta.more)
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.refusal:
        message |= {"content": None, "refusal": turn.text}
    if turn.reasoning:
        message["reasoning_content"] = turn.reasoning
    message.update(_unnumbered(said.get("delta", {})))
    if not turn.refusal and message["content"] is None and not said.get("delta"):
        message["content"] = ""
    finish = finish_of(turn, str(said.get("finish", "")))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {
        "id": new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": turn.served_model or turn.model,
        "choices": [{**choice, **said.get("choice", {})}],
        "usage": usage_of(turn),
        **said.get("chunk", {}),
        "holychat": about(turn, cash),
    }


_REPLACED = ("index", "type", "id", "name", "finish", "role")


def _grown(into: dict[str, Any], piece: dict[str, Any], *, top: bool = True) -> None:
    """Put the pieces of a stream together: texts and lists grow, lists of numbered parts by their
    number, and what names something is said again (openai-python, accumulate_delta)."""
    for name, value in piece.items():
        before = into.get(name)
        if before is None or name in _REPLACED or type(before) is not type(value):
            into[name] = _copied(value)
        elif isinstance(value, dict):
            if top and name == "chunk":
                before.update(value)
            else:
                _grown(before, value, top=False)
        elif isinstance(value, list):
            _joined(before, value)
        elif isinstance(value, str):
            into[name] = before + value
        else:
            into[name] = value


def _joined(before: list[Any], pieces: list[Any]) -> None:
    for piece in pieces:
        number = piece.get("index") if isinstance(piece, dict) else None
        same = [one for one in before if isinstance(one, dict) and one.get("index") == number]
        if number is not None and same:
            _grown(same[0], piece, top=False)
        else:
            before.append(_copied(piece))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _unnumbered(delta: dict[str, Any]) -> dict[str, Any]:
    """Tool calls have a number in a stream only."""
    calls = delta.get("tool_calls")
    if not isinstance(calls, list):
        return delta
    bare = [
        {name: part for name, part in one.items() if name != "index"}
        if isinstance(one, dict)
        else one
        for one in calls
    ]
    return {**delta, "tool_calls": bare}
