"""What the forms of the relay promise their clients: heads that are true, every word, whole errors,
bounds for who does not read, and what it says of its own state."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import KEY, Place
from tests.provider import (
    DONE,
    Cut,
    Gate,
    Hang,
    Provider,
    Wait,
    answer,
    chunk,
    error,
    event,
    on_loop,
    until,
    usage,
)
from tests.relay import Relay, completion, ended, hurried, serving, started

if TYPE_CHECKING:
    from pathlib import Path


PATH = "/v1/chat/completions"
PRICES = '[prices."box/test-model"]\ninput = "1"\noutput = "2"\n'
ONCE = "[failover]\nattempts = 1\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def two(place: Place, first: Provider, second: Provider, more: str = "", top: str = "") -> None:
    """A config with a second provider that stands in for the first."""
    spare = f'[providers.spare]\nbase_url = "{second.base_url}"\nmodel = "other-model"\n'
    failover = '[failover]\nproviders = "spare"\nattempts = 1\n'
    place.provider(first.base_url, spare + failover + more, top)
    place.environ["SPARE_API_KEY"] = KEY


def called(server: Provider) -> list[Any]:
    return [one.json for one in server.requests if one.method == "POST"]


def role(fingerprint: str, model: str = "test-model") -> bytes:
    """The first chunk as OpenAI sends it: nothing of the answer is in it."""
    delta = {"role": "assistant", "content": ""}
    said = {"model": model, "system_fingerprint": fingerprint}
    return event({**said, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


# --- The head of a stream ---------------------------------------------------------------------


@on_loop
async def test_a_chunk_without_text_is_no_beginning(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        server.script(role("fp-box"), Wait(0.1), Cut())
        spare.script(role("fp-spare", "other-model"), *answer("Hello there"))
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=True)
    assert got.status == 200
    assert got.headers["x-holychat-provider"] == "spare"
    assert got.headers["x-holychat-model"] == "other-model"
    assert got.headers["x-holychat-attempts"] == "2"
    assert got.headers["x-holychat-seams"] == ""
    assert got.text == "Hello there"
    assert got.events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert got.events[1]["system_fingerprint"] == "fp-spare"
    assert {one["model"] for one in got.events[:-1]} == {"other-model"}
    assert b"fp-box" not in got.body


@pytest.mark.parametrize("stream", [True, False])
@on_loop
async def test_where_all_fail_after_such_a_chunk_it_is_a_status(place: Place, stream: bool) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        server.default = spare.default = [role("fp"), Wait(0.1), Cut()]
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=stream)
            assert got.status == 502
            assert got.error["type"] == "upstream_error"
            got = await relay.post("/chat", {"message": "hi"})
            assert got.status == 502


CALL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}
FILTERED = [chunk(finish="content_filter"), usage(), DONE]


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        (answer("Hello"), {"content": "Hello"}),
        ([chunk(reasoning="hm"), *answer("x")], {"reasoning_content": "hm"}),
        ([event({"choices": [{"delta": CALL}]}), chunk(finish="tool_calls"), DONE], CALL),
        (FILTERED, {}),
    ],
)
@on_loop
async def test_what_was_held_comes_with_what_is_of_the_answer(
    place: Place, rest: list[Any], found: dict[str, Any]
) -> None:
    gate = Gate()
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(role("fp"), gate, *rest)
        async with serving(place) as relay:
            asked = await relay.ask(PATH, completion("hi", stream=True))
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.3):
                    await asked.reader.readexactly(1)
            gate.open()
            got = await asked.end()
    begin, held, first = got.events[:3]
    assert begin["choices"][0]["delta"]["role"] == "assistant"
    assert held["system_fingerprint"] == "fp"
    assert first["choices"][0]["delta"] == found
    assert got.events[-1] == "[DONE]"


@on_loop
async def test_a_comment_commits_to_nobody(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        server.script(role("fp-box"), Wait(0.7), Cut())
        spare.script(role("fp-spare", "other-1"), *answer("Hello"))
        async with serving(place, "--keep-alive", "0.2") as relay:
            got = await relay.chat("hi", stream=True)
    assert got.body.startswith(b": waiting\n\n")
    assert not [name for name in got.headers if name.startswith("x-holychat")]
    assert got.text == "Hello"
    assert {one["model"] for one in got.events[:-1]} == {"other-1"}
    assert b"fp-box" not in got.body
    assert json.loads(got.comments[-1].removeprefix("holychat "))["provider"] == "spare"


@on_loop
async def test_the_model_is_who_served_in_pieces_and_whole(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            for named in ("test-model-2025", "test-model", "box/test-model"):
                script = [event({"model": named, "choices": [{"delta": {"content": "Hi"}}]})]
                server.default = [*script, chunk(finish="stop"), DONE]
                pieces = await relay.chat("hi", stream=True)
                whole = await relay.chat("hi")
                expected = named if named != "box/test-model" else "test-model"
                assert {one["model"] for one in pieces.events[:-1]} == {expected}
                assert whole.json["model"] == expected
                for got in (pieces, whole):
                    assert got.headers["x-holychat-model"] == "test-model"
                    assert got.headers["x-holychat-attempts"] == "1"
                    assert got.headers["x-holychat-seams"] == ""


# --- The seed documents' form -------------------------------------------------------------------


@on_loop
async def test_every_word_is_in_the_seeds_field(place: Place) -> None:
    def token(text: str, **more: Any) -> bytes:
        choice = {
            "index": 0,
            "delta": {"content": text},
            "logprobs": {"content": [{"token": text}]},
        }
        return event({"model": "m", "system_fingerprint": "fp", "choices": [choice], **more})

    refusal = event({"choices": [{"index": 0, "delta": {"refusal": " No."}}]})
    odd = {"content": "not a word of it", "obfuscation": "xyz"}
    thought = event({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}], **odd})
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(
            role("fp"), token("a "), chunk("b "), token("c", **odd),
            thought, refusal, chunk(finish="stop"), DONE,
        )  # fmt: skip
        async with serving(place) as relay:
            got = await relay.post("/chat", {"message": "hi"})
    assert "".join(one.get("content", "") for one in got.events[:-1]) == "a b c No."
    assert got.text == "a b c"


@pytest.mark.parametrize("message", ["", " \n"])
@on_loop
async def test_nothing_is_no_prompt(place: Place, message: str) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        async with serving(place) as relay:
            for history in (None, [{"content": "a"}, {"role": "assistant", "content": "b"}]):
                got = await relay.post("/chat", {"message": message, "history": history})
                assert (got.status, got.error["param"]) == (400, "message")
        assert called(server) == []


# --- Who does not read ----------------------------------------------------------------------------


@on_loop
async def test_a_slow_reader_of_a_whole_answer_is_dropped(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        gate = Gate()
        server.default = [*[chunk("x" * 60_000) for _ in range(400)], gate, *answer("end")]
        async with hurried(place, "stream.SLOW = 1.5") as (relay, running):
            asked = await relay.ask(PATH, completion("hi"))
            asked.writer.transport.pause_reading()
            await asyncio.wait_for(gate.reached.wait(), 20)
            gate.open()
            await asyncio.sleep(0.7)
            assert (await relay.get("/health")).json["streams"] == 1  # it still takes a place
            await running.err_until(b"did not read")
            assert (await relay.get("/health")).json["streams"] == 0
            asked.writer.transport.resume_reading()
            with suppress(ConnectionResetError):
                async with asyncio.timeout(10):
                    while await asked.reader.read(1 << 20):
                        pass
            assert asked.reader.at_eof() or asked.reader.exception()
            asked.leave()
            assert b'"end"' not in asked.got.body
            got = await relay.chat("hi")  # and whoever reads gets all of it
            text = got.json["choices"][0]["message"]["content"]
            assert text == "x" * 60_000 * 400 + "end"
            got = await relay.chat("hi", stream=True)
            assert got.text == text


# --- Health ---------------------------------------------------------------------------------------


async def failed(relay: Relay, model: str = "auto") -> None:
    for _ in range(2):
        await relay.chat("hi", model=model)
    await asyncio.sleep(0.2)


@on_loop
async def test_health_is_that_of_whom_auto_asks(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare, "[breaker]\nrow = 2\n")
        server.default = error(500)
        spare.default = [*answer("Hello")]
        async with serving(place) as relay:
            assert (await relay.get("/health")).json["status"] == "healthy"
            await failed(relay)
            found = (await relay.get("/health")).json
            assert found["providers"]["box"]["state"] == "open"
            assert found["status"] == "healthy"  # there is another one
            spare.default = error(500)
            await failed(relay, "spare/other-model")
            found = (await relay.get("/health")).json
            assert found["providers"]["spare"]["state"] == "open"
            assert found["status"] == "degraded"


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("", "degraded"),  # nobody is configured
        ('provider = "demo"\n', "healthy"),
        ('provider = "box"\n[providers.box]\nbase_url = "http://127.0.0.1:9/v1"\n', "healthy"),
        ('provider = "box"\n[providers.box]\nbase_url = "https://b.invalid/v1"\n', "degraded"),
        (
            """provider = "box"
            failover.providers = "none"
            providers.box.base_url = "https://b.invalid/v1"
            providers.c = {base_url = "https://c.invalid/v1", needs_key = false}
            """,
            "degraded",
        ),
        (
            """provider = "box"
            failover.providers = "none"
            split = {box = 1, c = 99}
            providers.box.base_url = "https://b.invalid/v1"
            providers.c = {base_url = "https://c.invalid/v1", needs_key = false}
            """,
            "healthy",
        ),
    ],
)
@on_loop
async def test_health_of_a_configuration(place: Place, config: str, word: str) -> None:
    place.config(config)
    async with serving(place) as relay:
        assert (await relay.get("/health")).json["status"] == word


@on_loop
async def test_a_key_that_is_refused_is_no_health(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = error(401)
        async with serving(place) as relay:
            await relay.chat("hi")
            await asyncio.sleep(0.2)
            assert (await relay.get("/health")).json["status"] == "degraded"


# --- The models -----------------------------------------------------------------------------------


@on_loop
async def test_a_silent_provider_delays_the_list_once(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        spare.models, spare.default = None, [Hang()]
        async with hurried(place, "desk.LISTING = 1.0; desk.UNLISTED = 2.0") as (relay, _):
            began = time.monotonic()
            both = (relay.get("/v1/models"), relay.get("/api/models"))
            first, other = await asyncio.gather(*both)
            assert time.monotonic() - began < 1.8
            ids = [one["id"] for one in first.json["data"]]
            assert ids == ["auto", "box/test-model", "spare/other-model"]
            assert [one["id"] for one in other.json["models"]] == ids
            for path in ("/v1/models", "/api/models", "/v1/models"):
                began = time.monotonic()
                assert [one["id"] for one in (await relay.get(path)).json["data"]] == ids
                assert time.monotonic() - began < 0.5
            assert len(spare.requests) == 1
            marked = [one["id"] for one in other.json["models"] if one["default"]]
            assert marked == ["box/test-model"]
            spare.models = ["other-model", "third-model"]
            await asyncio.sleep(2.2)  # it is asked again in time
            ids = [one["id"] for one in (await relay.get("/v1/models")).json["data"]]
            assert "spare/third-model" in ids


@on_loop
async def test_a_silent_provider_whose_model_nobody_named(place: Place) -> None:
    async with Provider() as server:
        server.models, server.default = None, [Hang()]
        place.config(f'provider = "box"\n[providers.box]\nbase_url = "{server.base_url}"\n')
        async with hurried(place, "desk.LISTING = 1.0") as (relay, _):
            for path, seconds in (("/api/models", 1.8), ("/api/models", 0.5), ("/v1/models", 0.5)):
                began = time.monotonic()
                assert [one["id"] for one in (await relay.get(path)).json["data"]] == ["auto"]
                assert time.monotonic() - began < seconds
            server.models = ["first", "second"]
        async with serving(place) as relay:  # and in a new process it may be another one
            found = (await relay.get("/api/models")).json["models"]
            assert [one["id"] for one in found if one["default"]] == ["box/first"]


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@on_loop
async def test_the_wait_that_providers_ask_for_is_passed_on(place: Place, stream: bool) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        server.default = error(429, "slow down", **{"retry-after": "9"})
        spare.default = error(429, "slow down", **{"retry-after": "7"})
        async with serving(place) as relay:
            got = await relay.chat("hi", stream=stream)
    assert (got.status, got.headers["retry-after"]) == (429, "7")


@on_loop
async def test_every_provider_is_named(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare)
        server.default = spare.default = [chunk(), Wait(0.05), Cut()]
        async with serving(place) as relay:
            got = await relay.chat("hi")
    _, _, said = got.error["message"].partition("every provider failed: ")
    first, second = said.split("; ")
    assert "box" in first
    assert "spare" in second


BIG = {"max_tokens": 5000}


@pytest.mark.parametrize(
    ("script", "more", "says"),
    [
        (error(400, "maximum context length is 5 tokens"), {}, ["send less", "`model`"]),
        (error(402, "pay"), {}, ["`model`"]),
        (error(429, "slow"), {}, ["`model`"]),
        (error(401, "no"), {}, ["`model`"]),
        (error(404, "The model `x` does not exist"), {"model": "box/tost"}, ["test-model", "/v1/"]),
        ([Hang()], {}, ["`model`"]),
        ([], BIG, ["max_tokens"]),
    ],
)
@on_loop
async def test_hints_are_for_who_reads_them(
    place: Place, script: list[Any], more: dict[str, Any], says: list[str]
) -> None:
    limited = '[limits]\nday = "2000 tokens"\n' if more is BIG else ""
    async with Provider() as server:
        place.provider(server.base_url, ONCE + limited)
        server.default = script
        async with serving(place, "--timeout", "0.4") as relay:
            await relay.get("/v1/models")
            message = (await relay.chat("hi", **more)).error["message"]
    assert all(one in message for one in says), message
    for terminal in ("/compact", "/clear", "-p", "-m", "--timeout", "--no-limits", "holychat "):
        assert f"{terminal} " not in f"{message} ".replace(".", " "), message


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([Cut()], "reset"),
        ([chunk("a")], "cut"),
        ([b"data: [\n\n"], "not_the_protocol"),
        ([DONE], "empty"),
        ([*error(500, "x")[:1], b""], "server_error"),
    ],
)
@on_loop
async def test_codes_have_underscores(place: Place, script: list[Any], code: str) -> None:
    async with Provider() as server:
        place.provider(server.base_url, ONCE)
        server.default = script
        async with serving(place) as relay:
            assert (await relay.chat("hi")).error["code"] == code


@on_loop
async def test_a_limit_is_spelled_as_the_others_are(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, '[limits]\nday = "20 tokens"\n')
        async with serving(place) as relay:
            got = await relay.chat("hi")
            assert (got.status, got.error["type"], got.error["code"]) == (
                429, "limit_reached", "limit_reached",
            )  # fmt: skip
            assert got.headers["x-should-retry"] == "false"


@on_loop
async def test_a_method_that_there_is_not(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            got = await relay.get(PATH)
            assert (got.status, got.error["code"]) == (405, "method_not_allowed")
            assert got.headers["allow"] == "POST"
            got = await relay.get("/nothing")
            assert (got.status, got.error["code"]) == (404, "not_found")


@on_loop
async def test_a_number_that_is_none_is_named(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            for number in ("NaN", "Infinity", "-Infinity"):
                got = await relay.post(PATH, b'{"temperature": ' + number.encode() + b"}")
                assert got.status == 400
                assert got.error["message"] == f"the body is no JSON: {number} is none"


@on_loop
async def test_a_store_that_there_is_not(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        async with serving(place) as relay:
            for path, body in ((PATH, completion("hi")), ("/chat", {"message": "hi"})):
                for wrong in ("no", "false", "nnone", "none, x"):
                    got = await relay.post(path, body, x_holychat_store=wrong)
                    assert (got.status, got.error["param"]) == (400, "x-holychat-store")
            assert called(server) == []
            for right in ("none", " NONE", ""):
                got = await relay.post(PATH, completion("hi"), x_holychat_store=right)
                assert got.status == 200
            listed = (await relay.get("/api/conversations")).json["conversations"]
            assert len(listed) == 1


@on_loop
async def test_who_names_a_provider_without_a_key_need_not_ask_again(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            got = await relay.chat("hi", model="openai/gpt-4.1")
            assert (got.status, got.error["code"]) == (503, "not_configured")
            assert got.headers["x-should-retry"] == "false"
            assert "OPENAI_API_KEY" in got.error["message"]
            assert "`model`" in got.error["message"]
            assert "-p" not in got.error["message"]


# --- What it says of itself -----------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@on_loop
async def test_the_log_says_why(place: Place, stream: bool) -> None:
    async with Provider() as server:
        place.provider(server.base_url, ONCE)
        server.script(*error(500, f"the engine\n\x1b[31m is off, {KEY}"))
        server.script(chunk("Hel"), Wait(0.05), Cut())
        async with started(place) as (relay, running):
            assert (await relay.chat("hi", stream=stream)).status == 502
            got = await relay.chat("hi", stream=stream)
            assert got.status == (200 if stream else 502)
            lines = [line for line in (await ended(running)).splitlines() if PATH in line]
    assert len(lines) == 2
    assert "the engine" in lines[0]
    assert "is off" in lines[0]
    assert "\x1b" not in lines[0]
    assert KEY not in lines[0]
    assert "broke" in lines[1] or "ended the stream" in lines[1]


@on_loop
async def test_the_log_shows_what_was_stopped(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [chunk("Hel"), Hang()]
        async with started(place) as (relay, running):
            asked = await relay.ask(PATH, completion("hi", stream=True))
            await asked.head()
            asked.leave()
            await asyncio.wait_for(server.gone.wait(), 5)
            await until(lambda: server.open == 0)
            (line,) = [line for line in (await ended(running)).splitlines() if PATH in line]
    assert " box " in line
    assert line.endswith(" left")


@on_loop
async def test_the_live_line_knows_what_it_does_not_know(place: Place) -> None:
    pytest.importorskip("pyte")
    from tests.terminal import Terminal

    async with Provider() as server:
        place.provider(server.base_url, PRICES)
        server.default = [*answer("Hello")]
        environ = {"BOX_API_KEY": KEY}
        terminal = Terminal("serve", "--port", "0", home=place.home, columns=120, environ=environ)
        async with terminal as term:
            await term.until("token=")
            await term.until(r"0 open · 0 pieces/s · \$0")
            (link,) = [row for row in term.rows() if "token=" in row]
            base, _, token = link.partition("/#token=")
            relay = Relay("127.0.0.1", int(base.rpartition(":")[2]), token)
            assert (await relay.chat("hi", model="box/test-model")).status == 200
            await term.until(r"pieces/s · <?\$0\.0")
            server.default = [chunk("Hi", model="unheard-of"), *answer("")]
            assert (await relay.chat("hi", model="box/unheard-of")).status == 200
            await term.until(r"pieces/s · ≥ <?\$0\.0")


@on_loop
async def test_a_cost_of_which_nothing_is_known(place: Place) -> None:
    pytest.importorskip("pyte")
    from tests.terminal import Terminal

    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*answer("Hello")]
        terminal = Terminal(
            "serve", "--port", "0", home=place.home, columns=120, environ={"BOX_API_KEY": KEY}
        )
        async with terminal as term:
            await term.until("token=")
            (link,) = [row for row in term.rows() if "token=" in row]
            base, _, token = link.partition("/#token=")
            relay = Relay("127.0.0.1", int(base.rpartition(":")[2]), token)
            assert (await relay.chat("hi")).json["holychat"]["cost_text"] == "?"
            await term.until(r"pieces/s · \?")


@on_loop
async def test_a_cost_in_which_something_is_missing(place: Place) -> None:
    async with Provider() as server, Provider() as spare:
        two(place, server, spare, PRICES)
        server.default = [chunk("The quick brown fox "), usage(5, 7), Wait(0.05), Cut()]
        spare.default = [*answer("jumps.")]
        async with started(place) as (relay, running):
            got = await relay.chat("hi")
            assert got.json["holychat"]["cost_text"].startswith("≥ ")
            got = await relay.chat("hi", stream=True)
            about = json.loads(got.comments[-1].removeprefix("holychat "))
            assert about["cost_text"].startswith("≥ ")
            lines = [line for line in (await ended(running)).splitlines() if PATH in line]
    assert all(" spare ≥ " in line for line in lines)


@pytest.mark.parametrize("stream", [True, False])
@on_loop
async def test_tool_calls_count_where_nobody_counted(place: Place, stream: bool) -> None:
    call = {"index": 0, "id": "c", "type": "function"}
    named = {**call, "function": {"name": "look_up", "arguments": '{"town": "Wo'}}
    more = {"index": 0, "function": {"arguments": 'rcester", "country": "England"}'}}
    pieces = [event({"choices": [{"delta": {"tool_calls": [one]}}]}) for one in (named, more)]
    async with Provider() as server:
        place.provider(server.base_url)
        server.default = [*pieces, chunk(finish="tool_calls"), DONE]
        async with serving(place) as relay:
            options = {"stream_options": {"include_usage": True}} if stream else {}
            got = await relay.chat("hi", stream=stream, **options)
    found = got.events[-2] if stream else got.json
    assert found["holychat"]["estimated"] is True
    assert 8 <= found["usage"]["completion_tokens"] <= 40
