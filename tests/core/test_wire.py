from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holychat.core import wire
from holychat.core.chat import Delta, Finish, Message, Request, Usage
from holychat.core.failure import Failure, Kind
from holychat.core.provider import QUIRKS, Quirks
from holychat.core.sse import Event
from holychat.core.wire import Reader, amend, body, model_ids, refused, retry_after

DONE = Event("[DONE]")


def ask(stream: bool = True, **params: object) -> Request:
    messages = (Message("system", "Be brief."), Message("user", "Hi"))
    return Request("m", messages, params, stream)


def event(value: Any, name: str = "") -> Event:
    return Event(json.dumps(value), name)


def chunk(finish: str | None = None, **delta: Any) -> Event:
    return event({"model": "m-1", "choices": [{"delta": delta, "finish_reason": finish}]})


def read(*events: Event) -> tuple[Reader, list[Delta]]:
    reader = Reader("p")
    deltas = reader.read(events)
    return reader, deltas + reader.rest()


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def thought(deltas: list[Delta]) -> str:
    return "".join(delta.reasoning for delta in deltas)


def failure(*events: Event) -> Failure:
    reader, _ = read(*events)
    assert reader.failure is not None
    return reader.failure


# --- body() --------------------------------------------------------------------------------------


def test_body() -> None:
    assert body(ask(temperature=0.5), Quirks()) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
    }


def test_body_without_streaming() -> None:
    sent = body(ask(stream=False), Quirks())
    assert sent["stream"] is False
    assert "stream_options" not in sent


@pytest.mark.parametrize("dialect", QUIRKS)
def test_body_of_each_dialect(dialect: str) -> None:
    quirks = QUIRKS[dialect]
    sent = body(ask(max_tokens=9), quirks)
    assert ("stream_options" in sent) == quirks.stream_options
    assert sent[quirks.max_tokens] == 9
    assert len({"max_tokens", "max_completion_tokens"} & sent.keys()) == 1
    assert quirks.body.items() <= sent.items()
    json.dumps(sent)


def test_dialects_that_differ() -> None:
    assert "max_completion_tokens" in body(ask(max_tokens=9), QUIRKS["openai"])
    assert "max_tokens" in body(ask(max_completion_tokens=9), QUIRKS["plain"])
    assert "stream_options" not in body(ask(), QUIRKS["mistral"])
    assert body(ask(), QUIRKS["openrouter"])["usage"] == {"include": True}


def test_the_users_parameters_win_over_all_but_the_switch() -> None:
    sent = body(ask(stream_options={}, usage=None), QUIRKS["openrouter"])
    assert (sent["stream_options"], sent["usage"]) == ({}, None)
    assert body(Request("m", (), {"stream": False}), Quirks())["stream"] is True


# --- amend() -------------------------------------------------------------------------------------


def refusal(said: str, status: int = 400) -> Failure:
    return refused("p", status, json.dumps({"error": {"message": said}}).encode())


@pytest.mark.parametrize(
    "said",
    [
        "Unrecognized request argument supplied: stream_options",
        'Unknown name "stream_options": Cannot find field.',
        "property 'include_usage' is unsupported",
        "Extra inputs are not permitted: body.stream_options",
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_stream_options_are_left_out_once_refused(said: str, status: int) -> None:
    quirks = amend(Quirks(), body(ask(), Quirks()), refusal(said, status))
    assert quirks == Quirks(stream_options=False)
    # It was not sent now: a refusal that names it again is about something else.
    assert amend(quirks, body(ask(), quirks), refusal(said, status)) is None


def test_the_name_of_the_bound_is_learnt() -> None:
    said = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead."
    )
    sent = body(ask(max_tokens=1), Quirks())
    assert amend(Quirks(), sent, refusal(said)) == Quirks(max_tokens="max_completion_tokens")
    openai = QUIRKS["openai"]
    said = "Unrecognized request argument supplied: max_completion_tokens"
    assert amend(openai, body(ask(max_tokens=1), openai), refusal(said)) == Quirks()


@pytest.mark.parametrize(
    "said",
    [
        "max_completion_tokens is too large: 999999. This model supports at most 16384.",
        "Invalid 'max_completion_tokens': integer below minimum value.",
        "temperature must be below 2",
    ],
)
def test_a_wrong_value_is_not_a_wrong_name(said: str) -> None:
    openai = QUIRKS["openai"]
    assert amend(openai, body(ask(max_tokens=10**6), openai), refusal(said)) is None


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_other_statuses_teach_nothing(status: int) -> None:
    assert amend(Quirks(), body(ask(), Quirks()), refusal("stream_options", status)) is None


# --- Reader: the shapes of text ------------------------------------------------------------------

EMOJI = "😀"
HIGH, LOW = "\ud83d", "\ude00"

SHAPES: dict[str, tuple[list[Event], str, str]] = {  # events, text, reasoning
    "plain": ([chunk(content="a"), chunk(content="b")], "ab", ""),
    "role in each delta": ([chunk(role="assistant", content=c) for c in "ab"], "ab", ""),
    "null content": ([chunk(role="assistant", content=None), chunk(content="a")], "a", ""),
    "reasoning_content": ([chunk(reasoning_content="r"), chunk(content="a")], "a", "r"),
    "reasoning_content beside null": ([chunk(reasoning_content="r", content=None)], "", "r"),
    "reasoning": ([chunk(reasoning="r", content=""), chunk(content="a")], "a", "r"),
    "both names are one text": ([chunk(reasoning="r", reasoning_content="r")], "", "r"),
    "both in one delta": ([chunk(reasoning="r", content="a")], "a", "r"),
    "list parts": (
        [chunk(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c", 7])],
        "abc",
        "",
    ),
    "mistral thinking": (
        [
            chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}]),
            chunk(content=[{"type": "thinking", "thinking": "s"}]),
            chunk(content=[{"type": "text", "text": "a"}]),
            chunk(content="b"),
        ],
        "ab",
        "rs",
    ),
    "empty choices": ([event({"choices": []}), chunk(content="a")], "a", ""),
    "choices null": ([event({"choices": None}), chunk(content="a")], "a", ""),
    "no choices": ([event({"id": "x"}), chunk(content="a")], "a", ""),
    "azure's first frame": (
        [event({"choices": [], "prompt_filter_results": [{}]}), chunk(content="a")],
        "a",
        "",
    ),
    "azure's annotations": (
        [chunk(content="a"), event({"choices": [{"content_filter_offsets": {}, "index": 0}]})],
        "a",
        "",
    ),
    "message instead of delta": ([event({"choices": [{"message": {"content": "a"}}]})], "a", ""),
    "empty delta beside message": (
        [event({"choices": [{"delta": {}, "message": {"content": "a"}}]})],
        "a",
        "",
    ),
    "text": ([event({"choices": [{"text": "a"}]}), event({"choices": [{"text": "b"}]})], "ab", ""),
    "data null": ([Event("null"), chunk(content="a")], "a", ""),
    "data 42": ([Event("42"), chunk(content="a"), Event("true"), Event('"x"')], "a", ""),
    "nan": (
        [Event('{"x":NaN,"y":-Infinity,"choices":[{"delta":{"content":"a"}}]}')],
        "a",
        "",
    ),
    "nothing but nan": ([Event("NaN"), chunk(content="a")], "a", ""),
    "noise": ([Event("ping"), chunk(content="a"), Event("keep-alive")], "a", ""),
    "surrogates in one": (
        [Event(r'{"choices":[{"delta":{"content":"\ud83d\ude00"}}]}')],
        EMOJI,
        "",
    ),
    "surrogates in two": ([chunk(content="a" + HIGH), chunk(content=LOW + "b")], f"a{EMOJI}b", ""),
    "surrogates in two of reasoning": (
        [chunk(reasoning=HIGH), chunk(reasoning=LOW), chunk(content="a")],
        "a",
        EMOJI,
    ),
    "surrogates in both at once": (
        [chunk(reasoning=HIGH, content=HIGH), chunk(reasoning=LOW, content=LOW)],
        EMOJI,
        EMOJI,
    ),
    "surrogates around an empty chunk": (
        [chunk(content=HIGH), chunk(content=""), event({"choices": []}), chunk(content=LOW)],
        EMOJI,
        "",
    ),
    "half without its other": ([chunk(content=HIGH), chunk(content="a")], "\ufffda", ""),
    "half at the end": ([chunk(content="a" + HIGH)], "a\ufffd", ""),
    "other half alone": ([chunk(content=LOW + "a")], "\ufffda", ""),
    "two first halves": ([chunk(content=HIGH), chunk(content=HIGH + LOW)], "\ufffd" + EMOJI, ""),
    "deltas of odd types": (
        [chunk(content=c) for c in (1, True, {"a": 1}, [None], "a")]
        + [event({"choices": c}) for c in ({}, "x", [None], [[]], [1], 3)]
        + [event({"choices": [{"delta": d}]}) for d in (None, [], "x", 1)],
        "a",
        "",
    ),
    "refusal": ([chunk(refusal="I ca"), chunk(refusal="n't")], "I can't", ""),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name: str) -> None:
    events, said, thought_of = SHAPES[name]
    for batches in ([events], [[event] for event in events]):
        reader = Reader("p")
        deltas = [delta for batch in batches for delta in reader.read(batch)]
        assert (reader.failure, reader.finished, reader.done) == (None, False, False)
        deltas += reader.rest()
        assert (text(deltas), thought(deltas)) == (said, thought_of)


def test_neighbours_are_joined() -> None:
    _, deltas = read(*(chunk(content=c) for c in "abc"), *(chunk(reasoning=c) for c in "xyz"))
    assert deltas == [Delta("abc", model="m-1"), Delta(reasoning="xyz")]


def test_reasoning_comes_before_the_text_of_its_chunk() -> None:
    _, deltas = read(chunk(content="a", reasoning="r"))
    assert [(delta.reasoning, delta.text) for delta in deltas] == [("r", ""), ("", "a")]


def test_a_refusal_is_marked() -> None:
    _, deltas = read(chunk(refusal="no"))
    assert deltas[0].refusal


def test_the_served_model_is_told_once() -> None:
    _, deltas = read(chunk(content="a"), chunk(content="b"), chunk(reasoning="c"))
    assert [delta.model for delta in deltas] == ["m-1", ""]


def test_the_served_model_may_come_late() -> None:
    # Azure's first frame has an empty one.
    _, deltas = read(event({"model": "", "choices": []}), chunk(content="a"))
    assert deltas == [Delta("a", model="m-1")]


# --- Reader: ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["[DONE]", "  [DONE] ", "[DONE]\n"])
def test_done(data: str) -> None:
    reader, deltas = read(chunk(content="a"), Event(data), chunk(content="never"))
    assert (reader.done, reader.finished, reader.failure) == (True, True, None)
    assert text(deltas) == "a"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", Finish.STOP),
        ("STOP", Finish.STOP),
        ("eos", Finish.STOP),
        ("length", Finish.LENGTH),
        ("model_length", Finish.LENGTH),
        ("content_filter", Finish.FILTERED),
        ("SAFETY", Finish.FILTERED),
        ("tool_calls", Finish.TOOL_CALLS),
        ("function_call", Finish.TOOL_CALLS),
        ("insufficient_system_resource", Finish.OVERLOADED),
        ("aborted", Finish.OVERLOADED),
        ("error", Finish.OVERLOADED),
    ],
)
def test_finish(reason: str, expected: Finish) -> None:
    reader, deltas = read(chunk(content="a"), chunk(reason, content="b"))
    assert (text(deltas), deltas[-1].finish) == ("ab", expected)
    assert (reader.finished, reader.done) == (True, False)


@pytest.mark.parametrize("reason", [None, "", 0, False, [], {}, 1, ["stop"]])
def test_no_finish(reason: Any) -> None:
    reader, deltas = read(chunk(reason, content="a"))
    assert not reader.finished
    assert deltas[0].finish is None


def test_usage_after_the_finish() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    _, deltas = read(chunk("stop"), event({"choices": [], "usage": usage}), DONE)
    assert [(delta.finish, delta.usage) for delta in deltas] == [
        (Finish.STOP, None),
        (None, Usage(3, 4)),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"usage": None}, None),
        ({"usage": []}, None),
        ({}, None),
        ({"usage": {}}, Usage()),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}, Usage(1, 2)),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": None}}, Usage(1, 0)),
        ({"usage": {"prompt_tokens": "1", "completion_tokens": -5}}, Usage(0, 0)),
        ({"usage": {"prompt_tokens": 1.0, "completion_tokens": float("nan")}}, Usage(1, 0)),
        ({"usage": {"prompt_tokens": 10**40, "completion_tokens": float("inf")}}, Usage(0, 0)),
        (
            {
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 3},
                }
            },
            Usage(9, 5, cached=4, reasoning=3),
        ),
        (
            {
                "usage": {
                    "prompt_tokens": 9,
                    "prompt_cache_hit_tokens": 6,
                    "prompt_cache_miss_tokens": 3,
                }
            },
            Usage(9, 0, cached=6),
        ),
        (
            {
                "usage": {
                    "prompt_tokens_details": None,
                    "completion_tokens_details": [],
                    "cost": 0.1,
                }
            },
            Usage(cost=10**11),
        ),
        ({"usage": {"prompt_tokens": 1, "cost": 0.0000042}}, Usage(1, cost=4_200_000)),
        ({"usage": {"prompt_tokens": 1, "cost": -0.1}}, Usage(1)),
        ({"usage": {"prompt_tokens": 1, "cost": float("nan")}}, Usage(1)),
        ({"usage": {"prompt_tokens": 1, "cost": True}}, Usage(1)),
        ({"usage": {"prompt_tokens": 1, "cost": {"total": 1}}}, Usage(1)),
        (
            {"x_groq": {"id": "r", "usage": {"prompt_tokens": 2, "completion_tokens": 3}}},
            Usage(2, 3),
        ),
        ({"x_groq": None}, None),
        ({"choices": None, "usage": {"prompt_tokens": 2}}, Usage(2)),
    ],
)
def test_usage(value: dict[str, Any], expected: Usage | None) -> None:
    assert wire.usage(value) == expected
    reader, deltas = read(chunk(content="a"), event(value))
    assert reader.failure is None
    assert deltas[-1].usage == expected


# --- Reader: errors in a 200 stream --------------------------------------------------------------

IN_STREAM: dict[str, tuple[Event, Kind, str]] = {
    "openai": (
        event({"error": {"message": "boom", "type": "server_error", "code": None}}),
        Kind.IN_STREAM,
        "p: boom (in mid-stream)",
    ),
    "openrouter": (
        event(
            {
                "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
                "error": {"code": 502, "message": "Provider disconnected"},
            }
        ),
        Kind.SERVER,
        "p: Provider disconnected (in mid-stream)",
    ),
    "openrouter with a word": (
        event(
            {
                "choices": [{"delta": {}, "finish_reason": "error"}],
                "error": {"code": "server_error", "message": "gone", "metadata": {"raw": "why"}},
            }
        ),
        Kind.IN_STREAM,
        "p: gone: why (in mid-stream)",
    ),
    "vllm": (
        event({"object": "error", "message": "out of memory", "type": "X", "code": 500}),
        Kind.SERVER,
        "p: out of memory (in mid-stream)",
    ),
    "vllm nested": (event({"error": {"message": "oom", "code": 400}}), Kind.REQUEST, "p: oom"),
    "lm studio": (
        event({"error": {"message": "Model unloaded."}, "message": "Model unloaded."}),
        Kind.IN_STREAM,
        "p: Model unloaded. (in mid-stream)",
    ),
    "lm studio, other case": (
        event({"error": "Unexpected endpoint or method. Returning 200 anyway"}),
        Kind.IN_STREAM,
        "p: Unexpected endpoint",
    ),
    "litellm": (
        event({"error": {"message": "m", "type": "None", "param": "None", "code": "429"}}),
        Kind.RATE,
        "p: m (in mid-stream)",
    ),
    "gemini": (
        event([{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}]),
        Kind.SERVER,
        "p: overloaded (in mid-stream)",
    ),
    "llama.cpp": (
        event({"code": 500, "message": "context shift", "type": "server_error"}, "error"),
        Kind.SERVER,
        "p: context shift (in mid-stream)",
    ),
    "event: error": (event({"message": "x"}, "error"), Kind.IN_STREAM, "p: x (in mid-stream)"),
    "event: error without json": (Event("it broke", "error"), Kind.IN_STREAM, "p: it broke"),
    "a bare string": (event({"error": "boom"}), Kind.IN_STREAM, "p: boom (in mid-stream)"),
    "type error": (
        event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        Kind.IN_STREAM,
        "p: Overloaded (in mid-stream)",
    ),
    "detail": (event({"detail": "no"}), Kind.IN_STREAM, "p: no (in mid-stream)"),
    "true": (event({"error": True}), Kind.IN_STREAM, "p reported an error (in mid-stream)"),
    "a wrong key at 200": (
        event({"error": {"message": "bad", "code": "invalid_api_key"}}),
        Kind.AUTH,
        "p: bad (in mid-stream)",
    ),
    "quota": (
        event({"error": {"message": "quota", "code": "insufficient_quota"}}),
        Kind.BALANCE,
        "p: quota (in mid-stream)",
    ),
    "rate": (
        event({"error": {"message": "slow", "code": "rate_limit_exceeded"}}),
        Kind.RATE,
        "p: slow (in mid-stream)",
    ),
    "context": (
        event({"error": {"message": "x", "code": "context_length_exceeded"}}),
        Kind.CONTEXT,
        "p: x (in mid-stream)",
    ),
    "a digit that is no number": (
        event({"error": {"message": "x", "code": "\u00b2"}}),
        Kind.IN_STREAM,
        "p: x (in mid-stream)",
    ),
}


@pytest.mark.parametrize("name", IN_STREAM)
def test_error_in_stream(name: str) -> None:
    sent, kind, what = IN_STREAM[name]
    reader, deltas = read(chunk(content="before"), sent, chunk(content="after"))
    assert text(deltas) == "before"
    assert reader.failure is not None
    assert reader.failure.kind is kind
    assert reader.failure.what.startswith(what)
    assert all(delta.finish is None for delta in deltas)


def test_text_beside_an_error_is_kept() -> None:
    value = {"choices": [{"delta": {"content": "last"}}], "error": {"message": "x"}}
    reader, deltas = read(chunk(content="a "), event(value))
    assert text(deltas) == "a last"
    assert reader.failure is not None


@pytest.mark.parametrize(
    "data",
    [
        '{"choices":[{"delta":{"content":"lo',
        '{"choices":[{"delta":{"content":"a"}}]}}',
        '{"n":' + "1" * 5000 + "}",
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "{'choices': []}",
    ],
    ids=["half", "one brace too many", "5000 digits", "nested lists", "nested objects", "python"],
)
def test_a_piece_that_cannot_be_read_is_a_failure(data: str) -> None:
    reader, deltas = read(chunk(content="before"), Event(data), chunk(content="after"))
    assert text(deltas) == "before"
    assert reader.failure is not None
    assert reader.failure.kind is Kind.GARBAGE
    assert len(reader.failure.what) < 200


@pytest.mark.parametrize("depth", [500, 900, 2000, 9000])
def test_deep_but_readable(depth: int) -> None:
    content: Any = '{"thinking":[' * depth + '{"thinking":"x"}' + "]}" * depth
    data = '{"choices":[{"delta":{"content":[' + content + "]}}]}"
    read(Event(data), chunk(content="a"))  # whatever comes of it, it does not raise


def test_half_a_piece_at_the_end_is_no_failure_of_its_own() -> None:
    # The stream was cut, and that is what the user should read.
    reader = Reader("p")
    assert text(reader.read([chunk(content="a")])) == "a"
    assert reader.last([Event('{"choices":[{"delta":{"content":"b')]) == []
    assert (reader.failure, reader.finished) == (None, False)


def test_a_whole_piece_at_the_end_counts() -> None:
    reader = Reader("p")
    assert text(reader.last([chunk(content="b")])) == "b"
    reader.last([DONE])
    assert reader.finished
    reader = Reader("p")
    reader.last([event({"error": "boom"})])
    assert reader.failure is not None


def test_noise_is_remembered() -> None:
    reader, _ = read(Event("ping"), Event("pong"))
    assert (reader.noise, reader.failure) == ("ping", None)


# --- whole() -------------------------------------------------------------------------------------


def whole(raw: bytes | dict[str, Any] | list[Any]) -> tuple[Reader, list[Delta]]:
    reader = Reader("p")
    deltas = reader.whole(raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    return reader, deltas


COMPLETION = {
    "object": "chat.completion",
    "model": "m-1",
    "choices": [
        {"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop", "index": 0}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(COMPLETION).encode(),
        b"\xef\xbb\xbf" + json.dumps(COMPLETION).encode(),
        b"\n\n" + json.dumps(COMPLETION, indent=2).encode() + b"\n",
    ],
)
def test_whole_completion(raw: bytes) -> None:
    reader, deltas = whole(raw)
    assert (reader.failure, reader.finished, reader.done) == (None, True, True)
    assert deltas == [Delta("Hi", finish=Finish.STOP, usage=Usage(1, 2), model="m-1")]


def test_whole_with_reasoning() -> None:
    message = {"content": "Hi", "reasoning_content": "Hm"}
    reader, deltas = whole({"choices": [{"message": message, "finish_reason": "length"}]})
    assert (text(deltas), thought(deltas), deltas[-1].finish) == ("Hi", "Hm", Finish.LENGTH)
    assert reader.finished


def test_whole_without_a_reason_is_whole() -> None:
    reader, deltas = whole({"choices": [{"message": {"content": "Hi"}}]})
    assert (text(deltas), reader.finished) == ("Hi", True)


def test_whole_with_a_bad_byte() -> None:
    raw = json.dumps(COMPLETION).encode().replace(b"Hi", b"H\xffi")
    reader, deltas = whole(raw)
    assert (reader.failure, text(deltas)) == (None, "H\ufffdi")


def test_whole_with_a_lone_surrogate() -> None:
    reader, deltas = whole({"choices": [{"message": {"content": "a\ud83d"}}]})
    assert text(deltas + reader.rest()) == "a\ufffd"


@pytest.mark.parametrize(
    "value",
    [
        {"error": {"message": "boom", "type": "x"}},
        {"error": "boom"},
        {"message": "boom"},
        {"detail": "boom"},
        {"object": "error", "message": "boom"},
        [{"error": {"message": "boom", "code": "x"}}],
    ],
)
def test_whole_error(value: Any) -> None:
    reader, deltas = whole(value)
    assert deltas == []
    assert reader.failure is not None
    assert (reader.failure.kind, reader.failure.what[:7]) == (Kind.IN_STREAM, "p: boom")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"<html><head><title>502 Bad\n Gateway</title>", "502 Bad Gateway"),
        (b"<!doctype html><body><script>var x</script><h1>Log in</h1>please", "Log in please"),
        (b"Hello", "Hello"),
        (b"", "nothing"),
        (b"{}", "{}"),
        (b"[]", "[]"),
        (b"null", "null"),
        (b'{"id":"x","choices":[]}', '{"id":"x","choices":[]}'),
        (b"[1,2]", "[1,2]"),
        (b'{"status":"ok"}', '{"status":"ok"}'),
        (b'{"x":' + b"9" * 5000 + b"}", '{"x":999'),
        (b"[" * 100_000, "[[["),
        (b"<title>\x1b]52;c;x\x07\xff</title>", "␛]52;c;x␇\ufffd"),
    ],
)
def test_whole_garbage(raw: bytes, shown: str) -> None:
    reader, deltas = whole(raw)
    assert deltas == []
    assert reader.failure is not None
    assert reader.failure.kind is Kind.GARBAGE
    assert shown in reader.failure.what
    assert len(reader.failure.what) < 250


# --- refused() -----------------------------------------------------------------------------------


def says(value: Any) -> bytes:
    return json.dumps(value).encode()


HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

REFUSED: list[tuple[int, bytes, Kind, str]] = [
    (401, says({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}), Kind.AUTH,
     "p: Incorrect API key (401)"),
    (403, says({"error": {"message": "no", "type": "forbidden"}}), Kind.AUTH, "p: no (403)"),
    (402, says({"error": {"message": "Insufficient Balance"}}), Kind.BALANCE,
     "p: Insufficient Balance (402)"),
    (429, says({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}),
     Kind.BALANCE, "p: You exceeded your quota (429)"),
    (429, says({"error": {"message": "slow down", "type": "requests"}}), Kind.RATE,
     "p: slow down (429)"),
    (429, b"", Kind.RATE, "p reported an error (429)"),
    (400, says({"error": {"message": "This model's maximum context length is 8192 tokens",
                          "code": "context_length_exceeded"}}), Kind.CONTEXT, "p: This model's"),
    (400, says({"error": {"message": "prompt is too long: 9 tokens > 8"}}), Kind.CONTEXT, "p: "),
    (400, says({"error": {"code": 400, "message": "the request exceeds the available context size",
                          "type": "exceed_context_size_error"}}), Kind.CONTEXT, "p: the request"),
    (413, b"", Kind.CONTEXT, "p reported an error (413)"),
    (404, says({"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}),
     Kind.MODEL, "p: The model `x` does not exist (404)"),
    (400, says({"error": {"message": "Model Not Exist"}}), Kind.MODEL, "p: Model Not Exist (400)"),
    (404, says({"error": "model 'x' not found"}), Kind.MODEL, "p: model 'x' not found (404)"),
    (404, b"404 page not found", Kind.REQUEST, "p: 404 page not found (404)"),
    (404, says({"detail": "Not Found"}), Kind.REQUEST, "p: Not Found (404)"),
    (405, says({"detail": "Method Not Allowed"}), Kind.REQUEST, "p: Method Not Allowed (405)"),
    (400, says([{"error": {"code": 400, "message": "Unknown name", "status": "INVALID"}}]),
     Kind.REQUEST, "p: Unknown name (400)"),
    (400, says([{"error": {"code": 400, "status": "INVALID_ARGUMENT",
                           "message": "API key not valid. Please pass a valid API key."}}]),
     Kind.AUTH, "p: API key not valid."),
    (422, says({"detail": [{"loc": ["body", "x"], "msg": "Field required", "type": "missing"},
                           {"loc": ["body"], "msg": "Extra inputs", "type": "extra"}]}),
     Kind.REQUEST, "p: Field required; Extra inputs (422)"),
    (422, says({"object": "error", "message": {"detail": [{"msg": "bad"}]}}), Kind.REQUEST,
     "p: bad (422)"),
    (408, b"", Kind.SERVER, "p reported an error (408)"),
    (409, b"{}", Kind.SERVER, "p reported an error (409)"),
    (500, says("oops"), Kind.SERVER, "p: oops (500)"),
    (500, says({"error": {"message": "None", "type": "None", "code": "500"}}), Kind.SERVER,
     "p reported an error (500)"),
    (500, b"None", Kind.SERVER, "p reported an error (500)"),
    (500, b"null", Kind.SERVER, "p reported an error (500)"),
    (500, b"[]", Kind.SERVER, "p reported an error (500)"),
    (500, says({"error": {}}), Kind.SERVER, "p reported an error (500)"),
    (502, HTML, Kind.SERVER, "p: 502 Bad Gateway (502)"),
    (503, b"upstream connect error\x1b[2J\r\n\r\n\x9b reset", Kind.SERVER,
     "p: upstream connect error␛[2J"),
    (503, b"no healthy upstream", Kind.SERVER, "p: no healthy upstream (503)"),
    (529, says({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
     Kind.SERVER, "p: Overloaded (529)"),
    (502, says({"error": {"message": "Provider returned error", "code": 502,
                          "metadata": {"raw": '{"x":1}', "provider_name": "y"}}}),
     Kind.SERVER, 'p: Provider returned error: {"x":1} (502)'),
    (500, says({"error": {"error": {"error": {"message": "deep"}}}}), Kind.SERVER, "p: deep (500)"),
    (500, says({"errors": [{"message": "a"}, {"message": "b"}]}), Kind.SERVER, "p: a; b (500)"),
    (500, b"\xff\xfe\x00x", Kind.SERVER, "p: \ufffd\ufffd␀x (500)"),
    (500, b"[" * 100_000, Kind.SERVER, "p: [[["),
    (500, b"9" * 5000, Kind.SERVER, "p: 999"),
    (301, b"", Kind.GARBAGE, "p answered with a redirect (301)"),
    (302, HTML, Kind.GARBAGE, "p answered with a redirect (302)"),
    (418, b"teapot", Kind.REQUEST, "p: teapot (418)"),
    (999, b"linkedin", Kind.SERVER, "p: linkedin (999)"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "raw", "kind", "what"), REFUSED)
def test_refused(status: int, raw: bytes, kind: Kind, what: str) -> None:
    found = refused("p", status, raw, 7.0)
    assert (found.kind, found.status) == (kind, status)
    assert found.what.startswith(what)
    assert len(found.what) < 350
    assert re.search("[\x00-\x1f\x7f-\x9f]", found.what) is None


def test_refused_keeps_code_and_wait() -> None:
    raw = says({"error": {"message": "x", "code": "slow", "type": "t"}})
    assert (refused("p", 429, raw, 7.0).code, refused("p", 429, raw, 7.0).retry_after) == (
        "slow",
        7,
    )
    assert refused("p", 400, says({"error": {"message": "x", "code": 1234}})).code == "1234"
    assert (
        refused("p", 400, says({"error": {"message": "x", "code": None, "type": "t"}})).code == "t"
    )
    assert refused("p", 400, says({"code": "\x1b\nx"})).code == "␛ x"


def test_a_hostile_page_costs_little() -> None:
    start = time.perf_counter()
    for piece in (b"<", b"<title", b"<script", b"<style ", b"<script></style>", b"\n ", b"a "):
        refused("p", 500, b"<" + piece * (64 * 1024 // len(piece)))
        whole(b"<" + piece * (2_000_000 // len(piece)))
    whole(b"[" + b" " * 10_000_000)
    assert time.perf_counter() - start < 20


# --- retry_after() -------------------------------------------------------------------------------

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "5"}, 5),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, None),  # as good as nothing: our own back-off
        ({"retry-after": "-3"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-inf"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, None),
        ({"retry-after": "Fri, 31 Dec 9999 99:99:99 GMT"}, None),
        ({"retry-after": "Mon, 99"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({"retry-after-ms": "x"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers, NOW) == expected


_words = st.sampled_from(
    ["Mon", ",", " ", "1", "Jan", "2026", "10:00:00", "GMT", "-0000", "+9999", ":", "99", "(", "ms"]
)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(_words, max_size=9).map(" ".join)))
def test_retry_after_is_seconds_or_nothing(raw: str) -> None:
    for name in ("retry-after", "retry-after-ms"):
        seconds = retry_after({name: raw}, NOW)
        assert seconds is None or 0 <= seconds < float("inf")


# --- model_ids() ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ({"object": "list", "data": [{"id": "b"}, {"id": "a"}, {"id": "b"}]}, ["b", "a"]),
        ({"models": [{"name": "models/gemini"}, {"name": "models/gemini"}]}, ["gemini"]),
        ({"models": [{"name": "llama", "model": "llama"}], "object": "list", "data": [{"id": "x"}]},
         ["x"]),
        ([{"id": "a"}, "b", {"id": None, "name": "c"}, {"id": 7}, None, 3, []], ["a", "b", "c"]),
        ({"data": None, "models": ["a"]}, ["a"]),
        ({"data": {}}, []),
        ({}, []),
        (None, []),
        ("x", []),
    ],
)  # fmt: skip
def test_model_ids(value: Any, ids: list[str]) -> None:
    assert model_ids(value) == ids


def test_many_models_cost_little() -> None:
    start = time.perf_counter()
    assert len(model_ids([str(n) for n in range(200_000)])) == 200_000
    assert time.perf_counter() - start < 20  # with a look through a list for each: 222 s


# --- Whatever comes ------------------------------------------------------------------------------

_KEYS = st.sampled_from(
    ["choices", "delta", "message", "content", "text", "type", "thinking", "reasoning", "refusal",
     "reasoning_content", "finish_reason", "usage", "x_groq", "prompt_tokens", "error", "errors",
     "code", "detail", "msg", "metadata", "raw", "object", "model", "id", "data", "models", "name",
     "completion_tokens", "prompt_tokens_details", "cached_tokens", "status"]
)  # fmt: skip
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["stop", "error", "", "thinking", "²", "404", HIGH, LOW, "[DONE]", "\x1b[2J"]),
)
anything = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)
# Random JSON seldom has a chunk's form, so one is put around some of it.
chunks = st.one_of(
    anything,
    anything.map(lambda x: {"choices": x}),
    anything.map(lambda x: {"choices": [x]}),
    anything.map(lambda x: {"choices": [{"delta": x}]}),
    anything.map(lambda x: {"choices": [{"delta": {"content": x}}]}),
    anything.map(lambda x: {"error": x, "choices": [{"delta": {"content": "a"}}]}),
    anything.map(lambda x: {"usage": x}),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(chunks, max_size=5), st.sampled_from(["", "error", "x"]))
def test_reading_never_raises(values: list[Any], name: str) -> None:
    reader = Reader("p")
    deltas = reader.read([event(value) for value in values])
    deltas += reader.last([event(value, name) for value in values]) + reader.rest()
    for delta in deltas:
        assert isinstance(delta.text, str)
        assert delta.finish is None or isinstance(delta.finish, Finish)
        (delta.text + delta.reasoning + delta.model).encode()
    raw = json.dumps(values[0] if values else None).encode()
    for each in (refused("p", 400, raw), reader.failure, whole(raw)[0].failure):
        assert each is None or "\n" not in each.what
        assert each is None or each.verdict
    model_ids(json.loads(raw))


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=8), st.text(max_size=8).map(str.encode)), max_size=5))
def test_bytes_never_raise(pieces: list[bytes]) -> None:
    for raw in (b"".join(pieces), b"{" + b"".join(pieces), b"<" + b"".join(pieces)):
        whole(raw)
        refused("p", 500, raw)


_pieces = st.one_of(
    st.text(max_size=4).map(lambda t: chunk(content=t)),
    st.sampled_from([HIGH, LOW, HIGH + LOW, "é", "a"]).map(lambda t: chunk(content=t)),
    st.sampled_from([HIGH, LOW, "r"]).map(lambda t: chunk(reasoning=t)),
    st.sampled_from([HIGH, LOW, "r"]).map(lambda t: chunk(reasoning_content=t, content=t)),
    st.sampled_from(["stop", "length", None]).map(lambda f: chunk(f, content="z")),
    st.sampled_from(
        [Event("ping"), Event("null"), event({"choices": []}), Event("{half"), DONE,
         event({"usage": {"prompt_tokens": 1}}), event({"error": "boom"}),
         event({"model": "other"})]
    ),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_pieces, max_size=12), st.lists(st.integers(0, 12), max_size=6))
def test_the_batching_of_events_changes_nothing(events: list[Event], where: list[int]) -> None:
    def outcome(batches: list[list[Event]]) -> tuple[object, ...]:
        reader = Reader("p")
        deltas: list[Delta] = []
        for batch in batches:
            if not (reader.done or reader.failure):
                deltas += reader.read(batch)
        deltas += reader.rest()
        return (
            text(deltas),
            thought(deltas),
            [delta.finish for delta in deltas if delta.finish],
            [delta.usage for delta in deltas if delta.usage],
            [delta.model for delta in deltas if delta.model],
            reader.finished,
            reader.done,
            repr(reader.failure),
            reader.noise,
        )

    edges = [0, *sorted(min(n, len(events)) for n in where), len(events)]
    assert outcome([events[a:b] for a, b in pairwise(edges)]) == outcome([events])


# --- Going on with an answer ----------------------------------------------------------------------


ASKED = [{"role": "user", "content": "q"}]


@pytest.mark.parametrize(
    ("prefix", "last", "fields"),
    [
        ("prefix", {"prefix": True}, {}),
        (
            "continue_final_message",
            {},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
        ("last", {}, {}),
    ],
)
def test_the_beginning_of_an_answer_is_gone_on_with(
    prefix: str, last: dict[str, Any], fields: dict[str, Any]
) -> None:
    request = Request("m", (Message("user", "q"),), partial="It is ")
    sent = body(request, Quirks(prefix=prefix))
    assert sent["messages"] == [*ASKED, {"role": "assistant", "content": "It is ", **last}]
    assert {name: sent[name] for name in fields} == fields
    assert body(replace(request, partial=""), Quirks(prefix=prefix))["messages"] == ASKED


def test_who_has_no_prefix_is_asked_in_words() -> None:
    request = Request("m", (Message("user", "q"),), partial="It is ")
    *before, words = body(request, Quirks())["messages"]
    assert before == [*ASKED, {"role": "assistant", "content": "It is "}]
    assert words["role"] == "user"
    assert "continue" in words["content"].lower()


@pytest.mark.parametrize(
    ("status", "given_up"),
    [(400, True), (404, True), (405, True), (422, True), (401, False), (429, False), (500, False)],
)
def test_a_refused_prefix_is_given_up_with_its_path(status: int, given_up: bool) -> None:
    quirks = Quirks(prefix="prefix", prefix_path="/beta", stream_options=False)
    request = Request("m", (Message("user", "q"),), partial="It is ")
    no = refused("p", status, b'{"error": {"message": "no"}}')
    amended = amend(quirks, body(request, quirks), no)
    assert amended == (Quirks(stream_options=False) if given_up else None)
    # A refusal of something else teaches nothing about prefixes.
    assert amend(quirks, body(replace(request, partial=""), quirks), no) is None


def test_every_dialect_goes_on_in_a_way_that_there_is() -> None:
    assert {row.prefix for row in QUIRKS.values()} <= set(wire.PREFIXES)
    assert all(row.prefix for row in QUIRKS.values() if row.prefix_path)
