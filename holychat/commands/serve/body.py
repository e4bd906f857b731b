"""The body of a request: read within its bounds, and JSON of the right shape, or refused.

What is wrong with it is the client's to know, in one line that names the field.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn

from holychat.commands.serve.errors import Refused
from holychat.engine.relay import Given, given

if TYPE_CHECKING:
    from starlette.requests import Request

SENT = 30.0  # seconds that a client may take to send its body
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
DEPTH = 100  # of nested lists and objects; a whole schema of a tool has about 20


async def read(request: Request) -> dict[str, Any]:
    """The object that was sent. Raises Refused."""
    try:
        async with asyncio.timeout(SENT):
            raw = await request.body()
    except TimeoutError as error:
        raise Refused(408, "the body did not come in time", "timeout") from error
    try:
        value = json.loads(raw, parse_constant=_no_number)
    except _NumberError as error:
        raise Refused(400, f"the body is no JSON: {error} is none", "bad_json") from error
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is no JSON", "bad_json") from error
    if not isinstance(value, dict):
        raise Refused(400, "the body must be a JSON object", "bad_json")
    if _deep(value):
        raise Refused(400, f"the body is nested deeper than {DEPTH} levels", "bad_json")
    return value


class _NumberError(ValueError):
    """Python reads NaN and Infinity, which JSON does not have."""


def _no_number(name: str) -> NoReturn:
    raise _NumberError(name)


def _deep(value: object) -> bool:
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def completion(body: dict[str, Any]) -> Given:
    """What is asked by a body in OpenAI's form. Raises Refused."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages must be a list with something in it", param="messages")
    for number, each in enumerate(messages):
        _sound(each, f"messages[{number}]")
    if type(body.get("stream", False)) is not bool and body["stream"] is not None:
        raise Refused(400, "stream must be true or false", param="stream")
    many = body.get("n")
    if many is not None and (type(many) is not int or many != 1):
        raise Refused(400, "n must be 1: one answer is relayed", "unsupported", param="n")
    return given(body)


def _sound(message: object, where: str) -> None:
    if not isinstance(message, dict):
        raise Refused(400, f"{where} must be an object", param=where)
    if message.get("role") not in ROLES:
        raise Refused(400, f"{where}.role must be one of {', '.join(ROLES)}", param=f"{where}.role")
    if not isinstance(message.get("content"), (str, list, type(None))):
        raise Refused(400, f"{where}.content must be text or a list", param=f"{where}.content")


def text(body: dict[str, Any], name: str, default: str | None = None) -> str:
    """A field that is text. Raises Refused."""
    value = body.get(name, default)
    if not isinstance(value, str):
        raise Refused(400, f"{name} must be text", param=name)
    return value


def history(value: object) -> list[dict[str, str]]:
    """Messages of the seed documents' form: a role, user where none is said, and a content.
    Raises Refused."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused(400, "history must be a list", param="history")
    messages: list[dict[str, str]] = []
    for number, each in enumerate(value):
        role = each.get("role", "user") if isinstance(each, dict) else None
        content = each.get("content") if isinstance(each, dict) else None
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            what = "must be an object with a role (system, user, assistant) and a content"
            raise Refused(400, f"history[{number}] {what}", param=f"history[{number}]")
        messages.append({"role": role, "content": content})
    return messages
