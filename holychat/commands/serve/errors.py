"""What went wrong, as a client of OpenAI's protocol understands it: a status and an error object.

Owns the statuses, and what a client can do about each: hints of the other fronts name their flags
and commands. Texts come scrubbed: a Failure's `what` is one line without keys, and what we quote of
a request is cut to size.
"""

from __future__ import annotations

import json
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core.failure import Failure, HolychatError, Kind, SettingsError, UsageError
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST = "invalid_request_error"
UPSTREAM = "upstream_error"


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """A request gets this in place of what it asked for."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str = "",
        kind: str = REQUEST,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.error: dict[str, Any] = {
            "message": one_line(message, 600),
            "type": kind,
            "code": code or None,
            "param": param,
        }

    @property
    def body(self) -> bytes:
        return dumped({"error": self.error})


class _Row(NamedTuple):
    """How a kind of failure is told: the status, OpenAI's type, the code."""

    status: int
    type: str = UPSTREAM
    code: str = ""


# The upstream's 401 is about our key and not about the client's, so it must not look like one.
_ROWS: dict[Kind, _Row] = {
    Kind.AUTH: _Row(502, UPSTREAM, "upstream_auth"),
    Kind.BALANCE: _Row(502, UPSTREAM, "upstream_balance"),
    Kind.MODEL: _Row(404, REQUEST, "model_not_found"),
    Kind.CONTEXT: _Row(400, REQUEST, "context_length_exceeded"),
    Kind.REQUEST: _Row(400, REQUEST),
    Kind.RATE: _Row(429, "rate_limit_error", "rate_limit_exceeded"),
    Kind.LIMIT: _Row(429, "limit_reached", "limit_reached"),
    Kind.TIMEOUT_CONNECT: _Row(504, UPSTREAM, "timeout"),
    Kind.TIMEOUT_HEADERS: _Row(504, UPSTREAM, "timeout"),
    Kind.TIMEOUT_FIRST: _Row(504, UPSTREAM, "timeout"),
    Kind.STALL: _Row(504, UPSTREAM, "timeout"),
}
_SERVER = {408: 504, 503: 503, 504: 504, 529: 503}

_OTHER = "name another `model`"
_BUSY = f"It may be busy: ask again later, or {_OTHER}."
_LISTED = "GET /v1/models lists what can be asked."
KEYLESS = f"Set {{}} where the relay runs, or {_OTHER}: {_LISTED}"
_HINTS: dict[Kind, str] = {
    Kind.CONNECT: f"Is its server running, and the network up? Else {_OTHER}.",
    Kind.AUTH: f"It is the relay's key that was not taken: set another one there, or {_OTHER}.",
    Kind.BALANCE: f"Top up the account, or {_OTHER}.",
    Kind.MODEL: _LISTED,
    Kind.CONTEXT: f"It is longer than the model's window: send less, or {_OTHER}.",
    Kind.RATE: f"Wait a little, or {_OTHER}.",
    Kind.TIMEOUT_FIRST: _BUSY,
    Kind.TIMEOUT_HEADERS: _BUSY,
    Kind.STALL: _BUSY,
}
_OWN = (Kind.TLS, Kind.GARBAGE, Kind.REQUEST, Kind.LIMIT)  # theirs name settings only
LIMITED = "limits.{} is the setting of the relay; a lower `max_tokens` takes less of it."
# What can be tried was tried here, or will not help: openai's clients need not do it again.
_ONCE = {"x-should-retry": "false"}


def refused(error: HolychatError, near: str = "") -> Refused:
    """The answer to a request that failed so; `near` are the models that were perhaps meant."""
    hint = error.hint
    if isinstance(error, Failure):
        hint = _HINTS.get(error.kind, error.hint if error.kind in _OWN else "")
    hint = " ".join(filter(None, (near, hint)))
    said = error.what
    if hint:
        said += f" {hint}" if said.endswith(".") else f". {hint}"
    if isinstance(error, Failure):
        return _failed(error, said)
    if isinstance(error, UsageError):
        return Refused(404, said, "model_not_found", REQUEST, "model")
    if isinstance(error, SettingsError):
        return Refused(503, said, "not_configured", "configuration_error", headers=_ONCE)
    return Refused(503, said, "unavailable", "server_error")


def _failed(failure: Failure, said: str) -> Refused:
    row = _ROWS.get(failure.kind, _Row(502))
    status = row.status
    if failure.kind is Kind.SERVER:
        status = _SERVER.get(failure.status, 502)
    if failure.kind is Kind.REQUEST and failure.status in (413, 422):
        status = failure.status
    headers = _ONCE
    if status == 429 and failure.kind is Kind.RATE:
        headers = {"retry-after": str(max(1, ceil(failure.retry_after or 1)))}
    param = "model" if failure.kind is Kind.MODEL else None
    code = row.code or failure.code or failure.kind.value.replace("-", "_")
    return Refused(status, said, code, row.type, param, headers)


def dumped(value: object) -> bytes:
    """JSON, also of text that is none."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
