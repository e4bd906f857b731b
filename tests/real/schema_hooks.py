"""What schemathesis is told beside the description: what a stream is, and an id that exists.

Owns the shape of streams: OpenAPI 3.1 has no words for their events. Loaded by `schemathesis run`,
which test_serve_schema.py starts, and never by pytest: there is no schemathesis where that runs.
"""

from __future__ import annotations

import importlib
import json
import os
from typing import Any

schemathesis: Any = importlib.import_module("schemathesis")  # in a venv of its own


@schemathesis.check  # type: ignore[untyped-decorator]
def described(_: Any, response: Any, case: Any) -> None:
    """response_schema_conformance, with streams as they are; and 500 is what we never mean."""
    assert response.status_code != 500, "a bug of ours"
    if response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        _stream(response.content.decode(), has_text=case.operation.path == "/chat")
    elif str(response.status_code) in case.operation.definition.raw["responses"]:
        case.operation.validate_response(response, case=case)


def _stream(body: str, *, has_text: bool) -> None:
    """Comments and chunks of one answer, and then `[DONE]` or an error."""
    assert body.endswith("\n\n"), "a stream that ends in mid-event"
    events = [event for event in body[:-2].split("\n\n") if not event.startswith(": ")]
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    *chunks, last = [event.removeprefix("data: ") for event in events]
    if last != "[DONE]":
        error = json.loads(last).get("error")
        assert error, "neither [DONE] nor an error at the end"
        assert set(error) == {"message", "type", "code", "param"}
    said = [json.loads(chunk) for chunk in chunks]
    assert len({chunk["id"] for chunk in said}) <= 1
    for chunk in said:
        assert chunk["object"] == "chat.completion.chunk"
        for choice in chunk["choices"]:
            text = choice["delta"].get("content")
            assert not (has_text and text) or chunk["content"] == text


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_path_parameters(_: Any, parameters: Any) -> Any:
    """One made-up id in two is that of a conversation."""
    identity = (parameters or {}).get("identity")
    if isinstance(identity, str) and len(identity) % 2:
        return {**parameters, "identity": os.environ["CONVERSATION"]}
    return parameters
