"""The description of the relay for programs (OpenAPI 3.1), at `/openapi.json`.

Written by hand; a test holds it to the routes. Only what a client may rely on is in it.
"""

from __future__ import annotations

from typing import Any

from holychat import __version__

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "number"}
_OBJECT: dict[str, Any] = {"type": "object"}
_STREAM: dict[str, Any] = {"text/event-stream": {"schema": _TEXT}}

_ERRORS = {
    "400": "The request makes no sense",
    "401": "The bearer token is missing or wrong",
    "403": "The Host or the Origin is not allowed",
    "404": "No such model, path or conversation",
    "408": "The body did not come in time",
    "413": "The body is too large",
    "415": "The content type is not application/json",
    "422": "The provider did not take a value",
    "429": "A limit of the user, of a provider or of the relay is reached",
    "502": "The provider failed",
    "503": "The relay stops, or nobody can be asked",
    "504": "The provider was silent for too long",
}


def description() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "holychat serve", "version": __version__},
        "security": [{"bearer": []}],
        "paths": {
            "/": {"get": {**_answer("The web page", {"text/html": {"schema": _TEXT}},
                                  ("400", "403", "413")),
                          "security": []}},
            "/v1/chat/completions": {"post": _post(_COMPLETION, {**_json(_OBJECT), **_STREAM})},
            "/chat": {"post": _post(_MESSAGE, _STREAM)},
            "/v1/models": _get("The models, as provider/model, and auto", _LIST),
            "/v1/models/{model}": _get(
                "One of them",
                _OBJECT,
                {"name": "model", "in": "path", "required": True, "schema": _TEXT},
            ),
            "/health": _get("How the providers do", _HEALTH),
            "/metrics": {
                "get": _answer("Prometheus' text", {"text/plain": {"schema": _TEXT}}, _READING)
            },
            "/openapi.json": _get("This description", _OBJECT),
            "/api/models": _get("The models, with the configured one marked", _OBJECT),
            "/api/conversations": _get(
                "The conversations, the newest first; with q those that hold its words",
                _OBJECT,
                {"name": "q", "in": "query", "schema": _TEXT},
                {"name": "limit", "in": "query",
                 "schema": {"type": "integer", "minimum": 1, "maximum": 500}},
            ),
            "/api/conversations/{identity}": _get(
                "One conversation with its messages",
                _OBJECT,
                {"name": "identity", "in": "path", "required": True, "schema": _TEXT},
            ),
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
    }  # fmt: skip


_READING = ("400", "401", "403", "404", "413", "503")  # the guard measures what they send too
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "code": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}
_LIST = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _OBJECT}},
}
_HEALTH = {
    "type": "object",
    "required": ["status", "service", "providers"],
    "properties": {
        "status": {"enum": ["healthy", "degraded"]},
        "service": {"const": "holychat"},
        "providers": _OBJECT,
    },
}
_COMPLETION = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "model": {"type": ["string", "null"], "maxLength": 300},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {
                    "role": {
                        "enum": ["system", "developer", "user", "assistant", "tool", "function"]
                    },
                    "content": {"type": ["string", "array", "null"]},
                },
            },
        },
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"]},
        "n": {"enum": [1, None]},
        "temperature": _NUMBER,
    },
}
_MESSAGE = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": {**_TEXT, "pattern": "\\S"},
        "model": {"type": ["string", "null"], "maxLength": 300},
        "history": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["content"],
                "properties": {
                    "role": {"enum": ["system", "user", "assistant"]},
                    "content": _TEXT,
                },
            },
        },
    },
}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _answer(said: str, content: dict[str, Any], errors: tuple[str, ...]) -> dict[str, Any]:
    error = _json({"$ref": "#/components/schemas/Error"})
    responses: dict[str, Any] = {"200": {"description": said, "content": content}}
    responses |= {one: {"description": _ERRORS[one], "content": error} for one in errors}
    return {"summary": said, "responses": responses}


def _get(said: str, schema: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    return {"get": {**_answer(said, _json(schema), _READING), "parameters": [*parameters]}}


def _post(schema: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    store = {"name": "x-holychat-store", "in": "header", "schema": {"enum": ["none", ""]}}
    return {
        **_answer("The answer", content, tuple(_ERRORS)),
        "parameters": [store],
        "requestBody": {"required": True, "content": _json(schema)},
    }
