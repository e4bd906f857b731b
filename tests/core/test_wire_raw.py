"""A client's own body on its way out, and what a chunk says beside the text on its way back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core import sse, wire
from holychat.core.chat import Finish, Message, Request
from holychat.core.provider import QUIRKS, Quirks

BODY: dict[str, Any] = {
    "model": "auto",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "me"}],
    "tools": [{"type": "function"}],
    "odd": None,
    "stream": False,
}


def asked(**more: Any) -> Request:
    fields: dict[str, Any] = {"raw": BODY, **more}
    return Request("m", (Message("user", "hi"),), **fields)


def test_it_goes_out_as_it_is() -> None:
    assert wire.body(asked(), Quirks()) == {
        **BODY,
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert BODY["model"] == "auto"


def test_options_of_the_stream_are_put_right() -> None:
    raw = {**BODY, "stream_options": {"include_usage": False, "x": 1}}
    options = wire.body(asked(raw=raw), Quirks())["stream_options"]
    assert options == {"include_usage": True, "x": 1}
    for request, quirks in (
        (asked(raw=raw), Quirks(stream_options=False)),
        (asked(raw=raw, stream=False), Quirks()),
        (asked(raw={**raw, "stream_options": 5}, stream=False), Quirks()),
    ):
        assert "stream_options" not in wire.body(request, quirks)


def test_a_bound_has_the_providers_name_once() -> None:
    raw = {**BODY, "max_tokens": 50}
    sent = wire.body(asked(raw=raw, params={"max_tokens": 20}), QUIRKS["openai"])
    assert (sent["max_completion_tokens"], "max_tokens" in sent) == (20, False)
    assert wire.body(asked(raw=raw), QUIRKS["openai"])["max_tokens"] == 50


@pytest.mark.parametrize("dialect", ["plain", "deepseek", "vllm", "openrouter"])
def test_a_beginning_is_gone_on_with_behind_the_clients_messages(dialect: str) -> None:
    sent = wire.body(asked(partial="Once upon"), QUIRKS[dialect])
    assert sent["messages"][0] == BODY["messages"][0]
    assert sent["messages"][1]["content"] == "Once upon"
    assert len(BODY["messages"]) == 1


def read(*chunks: Any, **form: bool) -> list[Any]:
    import json

    reader = wire.Reader("box", **form)
    data = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks)
    return reader.read(sse.Decoder().feed(data))


def piece(choice: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "1", "model": "m", "choices": [{"index": 0, **choice}], **more}


def test_what_is_not_ours_comes_along() -> None:
    call = [{"index": 0, "function": {"arguments": "{"}}]
    first, second, third = read(
        piece({"delta": {"content": "a"}}, system_fingerprint="fp", obfuscation="xx"),
        piece({"delta": {"tool_calls": call, "content": None}, "logprobs": {"content": []}}),
        piece({"delta": {}, "finish_reason": "function_call"}),
        whole=True,
    )
    assert (first.text, first.more) == ("a", {"chunk": {"system_fingerprint": "fp"}})
    assert not first.calls
    assert second.more == {"delta": {"tool_calls": call}, "choice": {"logprobs": {"content": []}}}
    assert second.token
    assert second.calls
    assert (third.finish, third.more) == (Finish.TOOL_CALLS, {"finish": "function_call"})
    plain = read(piece({"delta": {"tool_calls": call}}), piece({"delta": {"content": "b"}}))
    assert [one.more for one in plain] == [None] * len(plain)


def test_each_token_has_its_own_where_that_is_wanted() -> None:
    said = [piece({"delta": {"content": text}, "logprobs": {"content": [text]}}) for text in "abc"]
    found = read(*said, whole=True, slow=True)
    assert [one.more["choice"]["logprobs"]["content"] for one in found] == [["a"], ["b"], ["c"]]
    assert "".join(one.text for one in read(*said)) == "abc"


ANY = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "tool_calls", "finish_reason", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.lists(ANY, max_size=4))
def test_nothing_trips_it(chunks: list[Any]) -> None:
    read(*chunks, whole=True, slow=True)
