"""OpenAI's form: what goes through, in both ways, and what an error looks like."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.process import KEY, Place
from tests.provider import (
    DONE,
    Cut,
    Gate,
    Hang,
    Provider,
    Status,
    Wait,
    answer,
    chunk,
    error,
    event,
    on_loop,
    run,
    until,
    usage,
)
from tests.relay import Relay, completion, serving, started

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def two(place: Place, first: Provider, second: Provider, top: str = "") -> None:
    """A config with a second provider that stands in for the first."""
    more = f'[providers.spare]\nbase_url = "{second.base_url}"\nmodel = "other-model"\n'
    failover = '[failover]\nproviders = "spare"\nattempts = 1\n'
    place.provider(first.base_url, more + failover, top)
    place.environ["SPARE_API_KEY"] = KEY


def called(server: Provider) -> list[Any]:
    return [one.json for one in server.requests if one.method == "POST"]


# --- What goes through --------------------------------------------------------------------------


@on_loop
async def test_a_stream(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(*answer("Hello there my friend"))
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=True)
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.headers["x-holychat-provider"] == "box"
    assert got.text == "Hello there my friend"
    chunks = got.events
    assert chunks[-1] == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert len({one["id"] for one in chunks[:-1]}) == 1
    assert all("usage" not in one for one in chunks[:-1])
    about = json.loads(got.comments[-1].removeprefix("holychat "))
    assert about["provider"] == "box"


@on_loop
async def test_the_usage_when_it_is_asked_for(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        counts = {"prompt_tokens_details": {"cached_tokens": 3}}
        server.script(chunk("Hi"), chunk(finish="length"), usage(5, 7, **counts), DONE)
        async with serving(place) as relay:
            got = await relay.chat(
                "hi", stream=True, stream_options={"include_usage": True, "x": 1}
            )
    last = got.events[-2]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 12
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}
    assert last["holychat"]["attempts"] == 1
    assert all(one["usage"] is None for one in got.events[:-2])
    assert got.events[-3]["choices"][0]["finish_reason"] == "length"
    assert called(server)[0]["stream_options"] == {"include_usage": True, "x": 1}


@on_loop
async def test_whole(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(chunk(reasoning="hm"), *answer("Hello there"))
        async with serving(place) as relay:
            got = await relay.chat("hi")
    assert got.json["object"] == "chat.completion"
    choice = got.json["choices"][0]
    assert choice["message"] == {
        "role": "assistant", "content": "Hello there", "reasoning_content": "hm",
    }  # fmt: skip
    assert choice["finish_reason"] == "stop"
    assert got.json["usage"]["total_tokens"] == 12
    assert got.headers["x-holychat-provider"] == "box"
    assert got.headers["x-holychat-model"] == "test-model"
    assert got.headers["x-holychat-attempts"] == "1"
    assert got.headers["x-holychat-seams"] == ""


@on_loop
async def test_what_we_do_not_know_goes_through_as_it_is(place: Place) -> None:
    body = {
        "model": "auto",
        "messages": [
            {"role": "developer", "content": "be brief", "name": "dev"},
            {"role": "user", "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
        ],
        "tools": [TOOL], "tool_choice": "auto", "temperature": 0.25, "seed": 7, "user": "me",
        "max_tokens": 99, "response_format": {"type": "json_object"}, "made_up": {"a": [1, None]},
    }  # fmt: skip
    async with Provider() as server:
        place.provider(server.base_url, top="[params]\ntemperature = 1.5\n")
        server.script(*answer("ok"))
        async with serving(place) as relay:
            assert (await relay.post(PATH, body)).status == 200
    sent = called(server)[0]
    assert sent.pop("stream") is True
    assert sent.pop("stream_options") == {"include_usage": True}
    assert sent == {**body, "model": "test-model"}


def calls(number: int, arguments: str, **more: Any) -> bytes:
    call = {"index": number, "function": {"arguments": arguments}, **more}
    return event({"model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


def tools(finish: str = "tool_calls") -> list[bytes]:
    first = {"id": "call_1", "type": "function"}
    head = calls(
        0,
        "",
        **first,
    )
    named = json.loads(head[6:])
    named["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] = "f"
    return [
        event(named), calls(0, '{"a":'), calls(0, " 1}"),
        calls(1, "{}", id="call_2", type="function"), chunk(finish=finish), usage(), DONE,
    ]  # fmt: skip


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call"])
@on_loop
async def test_tool_calls_in_a_stream(place: Place, finish: str) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(*tools(finish))
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=True, tools=[TOOL])
    pieces = [one["choices"][0]["delta"].get("tool_calls") for one in got.events[:-1]]
    said = [one[0] for one in pieces if one]
    assert said[0] == {
        "index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""},
    }  # fmt: skip
    assert "".join(one["function"]["arguments"] for one in said[1:3]) == '{"a": 1}'
    assert got.events[-2]["choices"][0]["finish_reason"] == finish


@on_loop
async def test_tool_calls_as_a_whole(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(*tools())
        async with serving(place) as relay:
            got = await relay.chat("hi", tools=[TOOL])
    message = got.json["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "call_2", "type": "function", "function": {"arguments": "{}"}},
    ]
    assert got.json["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [True, False])
@on_loop
async def test_logprobs_of_each_token(place: Place, stream: bool) -> None:
    def token(text: str) -> bytes:
        logs = {"content": [{"token": text, "logprob": -0.5}]}
        choice = {"index": 0, "delta": {"content": text}, "logprobs": logs}
        return event({"model": "m", "system_fingerprint": "fp", "choices": [choice]})

    async with Provider() as server:
        place.provider(server.base_url)
        server.script(token("a"), token("b"), chunk(finish="stop"), DONE)
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=stream, logprobs=True)
    if stream:
        found = [one["choices"][0] for one in got.events[:-1] if one["choices"][0].get("logprobs")]
        assert [one["delta"]["content"] for one in found] == ["a", "b"]
        logs = [one["logprobs"]["content"][0]["token"] for one in found]
    else:
        logs = [one["token"] for one in got.json["choices"][0]["logprobs"]["content"]]
        assert got.json["system_fingerprint"] == "fp"
    assert logs == ["a", "b"]


@on_loop
async def test_a_refusal_is_one(place: Place) -> None:
    refusal = event({"model": "m", "choices": [{"index": 0, "delta": {"refusal": "I won't."}}]})
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            server.script(refusal, chunk(finish="stop"), DONE)
            got = await relay.chat("hi", stream=True)
            assert got.text == ""
            said = [one["choices"][0]["delta"].get("refusal") for one in got.events[:-1]]
            assert "I won't." in said
            server.script(refusal, chunk(finish="stop"), DONE)
            message = (await relay.chat("hi")).json["choices"][0]["message"]
            assert (message["content"], message["refusal"]) == (None, "I won't.")


@on_loop
async def test_models_by_name(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.models = ["test-model", "big-one", "maker/odd-one"]
        server.default = [*answer("ok")]
        async with serving(place) as relay:
            got = await relay.get("/v1/models")
            assert [one["id"] for one in got.json["data"]] == [
                "auto", "box/test-model", "box/big-one", "box/maker/odd-one",
            ]  # fmt: skip
            marked = (await relay.get("/api/models")).json["models"]
            assert [one["id"] for one in marked if one["default"]] == ["box/test-model"]
            for wanted, meant in {
                "auto": "test-model", "": "test-model", None: "test-model",
                "box/big-one": "big-one",
                "big-one": "big-one", "big": "big-one", "maker/odd-one": "maker/odd-one",
                "box/maker/odd-one": "maker/odd-one", "box/": "test-model",
            }.items():  # fmt: skip
                assert (await relay.chat("hi", model=wanted)).status == 200
                assert called(server)[-1]["model"] == meant, wanted
            got = await relay.chat("hi", model="-o")
            assert (got.status, got.error["code"]) == (404, "model_not_found")  # may be several
            server.default = error(404, "The model `x` does not exist")
            got = await relay.chat("hi", model="x")
            assert (got.status, got.error["code"], got.error["param"]) == (
                404, "model_not_found", "model",
            )  # fmt: skip


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (error(401, f"wrong key {KEY}"), 502, "upstream_auth"),
        (error(403, "no"), 502, "upstream_auth"),
        (error(402, "pay"), 502, "upstream_balance"),
        (error(429, "slow down", **{"retry-after": "70"}), 429, "rate_limit_exceeded"),
        (error(500, "oops"), 502, "t"),
        (error(503, "busy"), 503, "t"),
        (error(504, "late"), 504, "t"),
        (error(400, "temperature is wrong"), 400, "t"),
        (error(422, "temperature is wrong"), 422, "t"),
        (error(400, "maximum context length is 5 tokens"), 400, "context_length_exceeded"),
        ([Status(200, {"content-type": "text/html"}), b"<p>hello</p>"], 502, "not_the_protocol"),
        ([chunk(finish="stop"), DONE], 502, "empty"),
        ([Hang()], 504, "timeout"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [True, False])
@on_loop
async def test_a_failure_before_the_first_piece_has_its_status(
    place: Place, script: list[Any], status: int, code: str, stream: bool
) -> None:
    async with Provider() as server:
        place.provider(server.base_url, "[failover]\nattempts = 1\n")
        server.default = script
        async with serving(place, "--timeout", "0.4") as relay:
            got = await relay.chat("hi", stream=stream)
    assert got.status == status, got.body
    assert got.error["code"] == code
    assert KEY not in got.body.decode()
    assert got.headers["content-type"] == "application/json"
    if status == 429:
        assert 60 <= int(got.headers["retry-after"]) <= 70
    else:
        assert got.headers["x-should-retry"] == "false"


@on_loop
async def test_a_failure_in_mid_answer_is_an_event(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, "[failover]\nattempts = 1\n")
        server.script(chunk("Hel"), chunk("lo"), Cut())
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=True)
    assert got.status == 200
    assert got.text == "Hello"
    assert "[DONE]" not in got.events
    assert got.events[-1]["error"]["type"] == "upstream_error"


@on_loop
async def test_a_cut_tool_call_is_not_gone_on_with(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        spare.default = [*answer("never")]
        server.script(*tools()[:2], Cut())
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=True, tools=[TOOL])
        assert "error" in got.events[-1]
        assert called(spare) == []


@on_loop
async def test_an_answer_is_gone_on_with_elsewhere_in_the_same_stream(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        async with serving(place) as relay:
            server.script(chunk("The quick brown fox "), Cut())
            spare.script(*answer("jumps over the lazy dog."))
            got = await relay.chat("hi", stream=True, stream_options={"include_usage": True})
            assert got.text == "The quick brown fox jumps over the lazy dog."
            assert got.events[-1] == "[DONE]"
            about = got.events[-2]["holychat"]
            assert (about["provider"], about["attempts"]) == ("spare", 2)
            assert about["seams"] == [len("The quick brown fox ")]
            assert got.headers["x-holychat-provider"] == "box"  # what was known then
            sent = called(spare)[0]["messages"]
            assert sent[0] == {"role": "user", "content": "hi"}
            assert sent[1] == {"role": "assistant", "content": "The quick brown fox "}
            server.script(chunk("One two three "), Cut())
            spare.script(*answer("four five."))
            whole = await relay.chat("count")
            assert whole.json["choices"][0]["message"]["content"] == "One two three four five."
            assert whole.headers["x-holychat-attempts"] == "2"
            assert whole.headers["x-holychat-seams"] == str(len("One two three "))


@on_loop
async def test_a_named_provider_is_the_only_one(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        spare.default = [*answer("spare")]
        server.default = error(500)
        async with serving(place) as relay:
            assert (await relay.chat("hi", model="box/test-model")).status == 502
            assert called(spare) == []
            assert (await relay.chat("hi")).headers["x-holychat-provider"] == "spare"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None), (b"nonsense", None), (b"[]", None), (b"{", None), (b"\xff", None),
        (b'{"messages": NaN}', None), (b'{"messages": ' + b"9" * 5000 + b"}", None),
        (b"[" * 200_000, None), (b'{"a":' * 150 + b"1" + b"}" * 150, None),
        ({}, "messages"), ({"messages": []}, "messages"), ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({**completion("x"), "stream": "yes"}, "stream"), ({**completion("x"), "n": 2}, "n"),
        ({**completion("x"), "model": 5}, "model"),
        ({**completion("x"), "model": "m" * 999}, "model"),
    ],
)  # fmt: skip
@on_loop
async def test_what_makes_no_sense(place: Place, body: Any, param: str | None) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            got = await relay.post(PATH, body)
            assert got.status == 400
            assert got.error["param"] == param
            assert called(server) == []


# --- Time ---------------------------------------------------------------------------------------


@on_loop
async def test_a_silent_upstream_is_bridged_by_comments(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(Wait(0.7), chunk("a"), Wait(0.7), *answer("b"))
        async with serving(place, "--keep-alive", "0.2") as relay:
            got = await relay.chat("hi", stream=True)
            assert got.comments.count("waiting") >= 4
            assert got.text == "ab"
            assert got.body.startswith(b": waiting\n\n")
            assert got.events[-1] == "[DONE]"
            server.default = [Wait(0.5), *error(503)]
            got = await relay.chat("hi", stream=True)  # too late for a status
            assert got.status == 200
            assert got.events[-1]["error"]["type"] == "upstream_error"


@pytest.mark.parametrize("stream", [True, False])
@on_loop
async def test_who_leaves_has_the_upstream_stopped(place: Place, stream: bool) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(chunk("Hello"), usage(11, 3), Hang())
        async with started(place) as (relay, running):
            asked = await relay.ask(PATH, completion("hi", stream=stream))
            if stream:
                await asked.head()
                await asked.until(b"Hello")
            await until(lambda: called(server))
            await asyncio.sleep(0.1)
            asked.leave()
            await asyncio.wait_for(server.gone.wait(), 5)
            await until(lambda: rows(place, "SELECT * FROM turns WHERE finish <> ''"))
            running.process.terminate()
            await running.end()
        assert server.open == 0
    (turn,) = rows(place, "SELECT * FROM turns")
    assert (turn["finish"], turn["writer"]) == ("interrupted", None)
    (tried,) = rows(place, "SELECT * FROM attempts")
    assert (tried["prompt_tokens"], tried["completion_tokens"]) == (11, 3)


def rows(place: Place, query: str) -> list[sqlite3.Row]:
    path = place.home / ".local/share/holychat/conversations.db"
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        found = db.execute(query).fetchall()
    db.close()
    return found


@on_loop
async def test_streams_are_bounded(place: Place) -> None:
    gate = Gate()
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("a"), gate, *answer("b")]
        async with serving(place, "--max-streams", "2") as relay:
            asked = [await relay.ask(PATH, completion("hi", stream=True)) for _ in range(2)]
            for one in asked:
                await one.head()
            got = await relay.chat("hi")
            assert (got.status, got.error["code"]) == (429, "too_many_streams")
            assert got.headers["retry-after"] == "1"
            assert (await relay.get("/health")).json["streams"] == 2
            gate.open()
            assert [(await one.end()).text for one in asked] == ["ab", "ab"]
            assert (await relay.chat("hi")).status == 200


@on_loop
async def test_the_limits_hold(place: Place) -> None:
    async with Provider() as server:
        server.default = [chunk("hi"), chunk(finish="stop"), usage(400, 500), DONE]
        place.provider(server.base_url, '[limits]\nday = "2000 tokens"\n')
        async with serving(place) as relay:
            assert (await relay.chat("hi")).status == 200
            got = await relay.chat("hi", max_tokens=5000)
            assert got.status == 429
            assert got.error["type"] == "limit_reached"
            assert len(called(server)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@on_loop
async def test_the_end_waits_for_answers(place: Place, number: signal.Signals) -> None:
    gate = Gate()
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("a"), gate, *answer("b")]
        async with started(place) as (relay, running):
            asked = await relay.ask(PATH, completion("hi", stream=True))
            await asked.head()
            running.process.send_signal(number)
            await running.err_until(b"stopping")
            with pytest.raises(ConnectionRefusedError):
                await relay.chat("another")
            gate.open()
            got = await asked.end()
            assert got.text == "ab"
            assert got.events[-1] == "[DONE]"
            assert await running.process.wait() == -number


@on_loop
async def test_the_second_signal_ends_at_once(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("a"), Hang()]
        async with started(place) as (relay, running):
            asked = await relay.ask(PATH, completion("hi", stream=True))
            await asked.head()
            running.process.terminate()
            await running.err_until(b"stopping")
            running.process.terminate()
            assert await asyncio.wait_for(running.process.wait(), 8) == -signal.SIGTERM
            asked.leave()
    (turn,) = rows(place, "SELECT * FROM turns")
    assert turn["finish"] == "interrupted"


@pytest.mark.slow
@on_loop
async def test_who_does_not_end_in_time_is_cut_with_an_error(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("a"), Hang()]
        async with started(place) as (relay, running):
            asked = await relay.ask(PATH, completion("hi", stream=True))
            await asked.head()
            running.process.terminate()
            got = await asked.end()
            assert got.events[-1]["error"]["code"] == "stopping"
            assert await running.process.wait() == -signal.SIGTERM


# --- Anything at all ----------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["messages", "model", "stream", "stream_options", "n", "tools", "max_tokens", "logprobs",
     "modalities", "message", "history", "temperature"]
)  # fmt: skip
MESSAGE = (
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": VALUES}
    )
    | VALUES
)
BODIES = VALUES | st.dictionaries(FIELDS, VALUES) | st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, min_size=1, max_size=3), "message": st.text(max_size=9)},
    optional={"history": st.lists(MESSAGE, max_size=2), "tools": VALUES, "max_tokens": VALUES,
              "stream": VALUES, "stream_options": VALUES, "model": st.just("auto") | VALUES},
)  # fmt: skip


def test_no_body_makes_a_500(tmp_path: Path) -> None:
    place = Place(tmp_path)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Provider() as server:
            server.default = [*answer("ok")]
            place.provider(server.base_url)
            async with started(place, "-q") as (relay, running):
                await loop.run_in_executor(None, fuzz, relay, loop)
                running.process.terminate()
                ended = await running.end()
                assert "went wrong" not in ended.err, ended.err

    def fuzz(relay: Relay, loop: asyncio.AbstractEventLoop) -> None:
        @settings(
            max_examples=200, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.sampled_from([PATH, "/chat"]), BODIES)
        def check(path: str, body: Any) -> None:
            asked = relay.post(path, body)
            got = asyncio.run_coroutine_threadsafe(asked, loop).result(30)
            assert got.status in (200, 400, 404), (body, got.body)

        check()

    run(main())


@on_loop
async def test_one_model(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            listed = (await relay.get("/v1/models")).json["data"]
            assert len(listed) > 1
            for each in (listed[0], listed[-1]):
                got = await relay.get(f"/v1/models/{each['id']}")
                assert (got.status, got.json) == (200, each)
            got = await relay.get("/v1/models/box/none")
            assert (got.status, got.error["code"]) == (404, "model_not_found")
            for path in ("/health/", "/chat/"):
                assert (await relay.get(path)).error["code"] == "not_found"


@on_loop
async def test_a_tool_call_that_breaks_is_made_anew_where_nobody_saw_it(place: Place) -> None:
    """In a stream part of it is out, and that is an error; a whole answer is begun anew."""
    start = event({"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "old", "type": "function", "function": {"name": "f", "arguments": "{"}}
    ]}}]})  # fmt: skip
    for words in ([], [chunk("Let me look. ")]):
        async with Provider() as first, Provider() as second:
            two(place, first, second)
            async with serving(place) as relay:
                first.script(*words, start, Cut())
                second.script(*tools())
                got = await relay.chat("hi", tools=[TOOL])
                assert got.status == 200, got.body
                message = got.json["choices"][0]["message"]
                assert [one["id"] for one in message["tool_calls"]] == ["call_1", "call_2"]
                assert message["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
                assert message["content"] is None
                assert got.headers["x-holychat-provider"] == "spare"
                first.script(*words, start, Cut())
                streamed = await relay.chat("hi", tools=[TOOL], stream=True)
                assert "error" in streamed.events[-1]


@on_loop
async def test_what_comes_beside_plain_text_comes_back(place: Place) -> None:
    """In whichever chunk it comes; what each chunk says alike is said once."""

    def piece(text: str, choice: Any = (), **more: Any) -> bytes:
        said = {"index": 0, "delta": {"content": text}, "finish_reason": None, **dict(choice)}
        fields = {"id": "c", "model": "m", "system_fingerprint": "fp", **more}
        return event({**fields, "choices": [said]})

    filtered = {"content_filter_results": {"hate": {"filtered": False}}}
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [
            piece("a "), piece("b "), piece("c ", filtered), piece("d ", citations=["x"]),
            piece("e "), piece("f", citations=["x", "y"]), chunk(finish="stop"), DONE,
        ]  # fmt: skip
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=True)
            whole = (await relay.chat("hi")).json
    assert got.text == "a b c d e f"
    chunks = [one for one in got.events[:-1] if one["choices"]]
    assert [one["citations"] for one in chunks if "citations" in one] == [["x"], ["x", "y"]]
    assert [one["choices"][0].get("content_filter_results") for one in chunks].count(
        filtered["content_filter_results"]
    ) == 1
    assert whole["citations"] == ["x", "y"]
    assert whole["choices"][0]["content_filter_results"] == filtered["content_filter_results"]
    assert whole["system_fingerprint"] == "fp"


@on_loop
async def test_nothing_goes_past_a_limit_by_not_being_kept(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, '[limits]\nday = "1000 tokens"\n')
        server.default = [*answer("well")]
        async with serving(place) as relay:
            got = await relay.chat("hi", max_tokens=5)
            assert got.status == 200
            body = completion("hi", max_tokens=5)
            refused = await relay.post(PATH, body, x_holychat_store="none")
            assert (refused.status, refused.error["code"]) == (400, "limits_need_the_store")
