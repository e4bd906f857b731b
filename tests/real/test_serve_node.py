"""Node's clients as they are, unchanged, against the relay: the openai SDK and Vercel's AI SDK.

Owns what is asserted; the programs are in clients/, one for each SDK, and print what came to them.
Each runs from a copy beside a link to the packages, as in a project of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import PATIENT, Place
from tests.provider import Cut, Gate, Hang, answer, chunk, error, on_loop, until
from tests.real.conftest import HERE, named
from tests.real.relayed import asked_with_the_result, call, called, relayed, spared

if TYPE_CHECKING:
    from tests.relay import Relay

pytestmark = pytest.mark.filterwarnings("default")
PACKAGES = pytest.mark.parametrize("package", ["openai-compatible", "openai"])
RAIN = "It rains in Oslo."


class Client:
    """Programs of clients/ in a folder of their own."""

    def __init__(self, folder: Path, node: str) -> None:
        self._folder = folder
        self._node = node

    async def run(
        self, relay: Relay, program: str, check: str, *more: str, first: Gate | None = None
    ) -> list[Any]:
        """What it printed, as values; `first` opens with the first line."""
        process = await asyncio.create_subprocess_exec(
            self._node, program, f"{relay.base}/v1", relay.token, check, *more,
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENT):
                line = b""
                if first is not None:
                    assert process.stdout is not None
                    line = await process.stdout.readline()
                    first.open()
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert (process.returncode, err.decode()) == (0, ""), out.decode()
        return [json.loads(each) for each in (line + out).decode().splitlines()]

    async def openai(self, relay: Relay, check: str, **more: Any) -> list[Any]:
        return await self.run(relay, "openai.mjs", check, **more)

    async def aisdk(self, relay: Relay, check: str, package: str, **more: Any) -> list[Any]:
        return await self.run(relay, "aisdk.mjs", check, package, **more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    variable = "HOLYCHAT_TEST_NODE"
    packages = named(variable, "npm install openai ai @ai-sdk/openai @ai-sdk/openai-compatible zod")
    modules = Path(packages).absolute() / "node_modules"
    assert modules.is_dir(), f"{variable} names a folder without node_modules"
    node = shutil.which("node")
    assert node is not None, f"{variable} is set, and there is no node"
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "node_modules").symlink_to(modules)
    for program in (HERE / "clients").glob("*.mjs"):
        shutil.copy(program, folder)
    return Client(folder, node)


# --- The openai SDK -------------------------------------------------------------------------------


@on_loop
async def test_openai_lists_the_models(place: Place, client: Client) -> None:
    async with relayed(place) as (_, relay):
        assert await client.openai(relay, "models") == [{"ids": ["auto", "box/test-model"]}]


@on_loop
async def test_openai_whole(place: Place, client: Client) -> None:
    async with relayed(place) as (server, relay):
        server.script(*answer("Hällo from 世界"))
        (got,) = await client.openai(relay, "whole")
    assert (got["text"], got["finish"], got["provider"]) == ("Hällo from 世界", "stop", "box")
    assert got["usage"]["total_tokens"] == 12
    assert called(server)[0]["messages"] == [{"role": "user", "content": "hi"}]


@on_loop
async def test_openai_streams(place: Place, client: Client) -> None:
    async with relayed(place) as (server, relay):
        gate = Gate()
        server.script(chunk("Hello "), gate, *answer("there my friend"))
        chunks = await client.openai(relay, "stream", first=gate)  # nothing is held back
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == (
            "Hello there my friend"
        )
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert not any(one.get("usage") for one in chunks)
        server.script(*answer("Hello there"))
        *chunks, last = await client.openai(relay, "usage")
    assert last["choices"] == []
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (5, 7)
    assert all(one["usage"] is None for one in chunks)


@on_loop
async def test_openai_calls_a_function_and_brings_its_result(place: Place, client: Client) -> None:
    async with relayed(place) as (server, relay):
        for _ in range(2):
            server.script(*call())
            server.script(*answer(RAIN))
        for got in await client.openai(relay, "tools"):
            function = {"name": "weather", "arguments": '{"place": "Oslo"}'}
            (made,) = got["calls"]
            assert {name: made["function"][name] for name in function} == function
            assert (made["id"], made["type"]) == ("call_1", "function")
            assert (got["finish"], got["text"]) == ("tool_calls", RAIN)
        for body in called(server)[1::2]:
            asked_with_the_result(body)
        server.script(*call())
        server.script(*answer(RAIN))
        assert await client.openai(relay, "runner") == [{"text": RAIN}]
        asked_with_the_result(called(server)[-1])


@on_loop
async def test_openai_knows_every_error_by_its_class(place: Place, client: Client) -> None:
    async with relayed(place) as (server, relay):
        for got in await client.openai(relay, "authentication"):
            assert (got["error"], got["status"]) == ("AuthenticationError", 401)
            assert got["code"] == "invalid_api_key"
        assert server.requests == []

        first, second = await client.openai(relay, "wrong")
        assert (first["error"], first["param"]) == ("BadRequestError", "messages")
        assert (second["error"], second["param"]) == ("BadRequestError", "n")
        assert called(server) == []

        server.script(*error(404, "The model `nope` does not exist"))
        first, second = await client.openai(relay, "lost")
        assert (first["error"], first["code"]) == ("NotFoundError", "model_not_found")
        assert (second["error"], second["status"]) == ("NotFoundError", 404)

        asked = len(called(server))
        server.script(*error(429, "slow down", **{"retry-after": "7"}))
        (got,) = await client.openai(relay, "rate")
        assert (got["error"], got["code"]) == ("RateLimitError", "rate_limit_exceeded")
        assert 6 <= int(got["after"]) <= 7
        assert len(called(server)) == asked + 1


@on_loop
async def test_openai_waits_as_long_as_it_is_told(place: Place, client: Client) -> None:
    async with relayed(place) as (server, relay):
        server.script(*error(429, "slow down", **{"retry-after": "2"}))
        server.script(*answer("at last"))
        (got,) = await client.openai(relay, "patience")
    assert got["text"] == "at last"
    assert 1.9 <= got["seconds"] < 8
    assert len(called(server)) == 2


@on_loop
async def test_openai_does_not_try_again_what_the_relay_has_tried(
    place: Place, client: Client
) -> None:
    async with relayed(place) as (server, relay):
        server.default = error(503, "busy")
        (got,) = await client.openai(relay, "busy")
        assert (got["error"], got["status"]) == ("InternalServerError", 503)
        assert len(called(server)) == 1


@on_loop
async def test_openai_hears_of_a_stream_that_breaks(place: Place, client: Client) -> None:
    async with relayed(place) as (server, relay):
        server.script(chunk("Hel"), chunk("lo"), Cut())
        failed, got = await client.openai(relay, "broken")
    assert failed["error"] == "APIError"
    assert failed["type"] == "upstream_error"
    assert got["text"] == "Hello"


@on_loop
async def test_openai_gets_an_answer_that_two_providers_gave(place: Place, client: Client) -> None:
    async with spared(place) as (server, spare, relay):
        server.script(chunk("The quick brown fox "), Cut())
        spare.script(*answer("jumps over the lazy dog."))
        chunks = await client.openai(relay, "usage")
        said = [one["choices"][0]["delta"].get("content", "") for one in chunks[:-1]]
        assert "".join(said) == "The quick brown fox jumps over the lazy dog."
        assert len({one["id"] for one in chunks}) == 1
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        about = chunks[-1]["holychat"]
        assert (about["provider"], about["attempts"], about["seams"]) == ("spare", 2, [20])
        sent = called(spare)[0]["messages"]
        assert sent[:2] == [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "The quick brown fox "},
        ]


@pytest.mark.parametrize("check", ["abort", "abort whole"])
@on_loop
async def test_openai_aborts_and_the_upstream_stops(
    place: Place, client: Client, check: str
) -> None:
    async with relayed(place) as (server, relay):
        server.script(chunk("Hello"), Hang())
        (got,) = await client.openai(relay, check)
        if check == "abort":
            assert got == {"text": "Hello", "aborted": True}
        else:
            assert got["error"] == "APIUserAbortError"
        await asyncio.wait_for(server.gone.wait(), 5)
        (asked,) = [one for one in server.requests if one.method == "POST"]
        assert asked.gone


# --- The AI SDK -----------------------------------------------------------------------------------


@PACKAGES
@on_loop
async def test_aisdk_generates(place: Place, client: Client, package: str) -> None:
    async with relayed(place) as (server, relay):
        server.script(chunk(reasoning="Hm."), *answer("Hello there"))
        (got,) = await client.aisdk(relay, "whole", package)
    assert (got["text"], got["finish"]) == ("Hello there", "stop")
    assert got["usage"]["inputTokens"] == 5
    assert got["usage"]["outputTokens"] == 7
    # OpenAI's own package knows no reasoning in this form.
    assert got["reasoning"] == ("Hm." if package == "openai-compatible" else None)


@PACKAGES
@on_loop
async def test_aisdk_streams(place: Place, client: Client, package: str) -> None:
    async with relayed(place) as (server, relay):
        gate = Gate()
        said = answer("there my friend")
        server.script(chunk(reasoning="Hm."), chunk("Hello "), gate, *said)
        *pieces, got = await client.aisdk(relay, "stream", package, first=gate)
    assert pieces[0] == {"piece": "Hello "}  # it came before the rest was said
    assert "".join(one["piece"] for one in pieces) == "Hello there my friend"
    assert got["finish"] == "stop"
    assert got["reasoning"] == ("Hm." if package == "openai-compatible" else None)
    assert (got["usage"]["inputTokens"], got["usage"]["outputTokens"]) == (5, 7)
    assert called(server)[0]["stream_options"] == {"include_usage": True}


@PACKAGES
@on_loop
async def test_aisdk_calls_a_tool_and_brings_its_result(
    place: Place, client: Client, package: str
) -> None:
    async with relayed(place) as (server, relay):
        for _ in range(2):
            server.script(*call())
            server.script(*answer(RAIN))
        whole, streamed = await client.aisdk(relay, "tools", package)
        for got in (whole, streamed):
            assert got["text"] == RAIN
            assert got["steps"] == [[["weather", {"place": "Oslo"}]], []]
        assert {"tool-call", "tool-result", "text-delta", "finish"} <= {*streamed["kinds"]}
        assert "error" not in streamed["kinds"]
        for body in called(server)[1::2]:
            asked_with_the_result(body)


@PACKAGES
@on_loop
async def test_aisdk_asks_for_an_object(place: Place, client: Client, package: str) -> None:
    async with relayed(place) as (server, relay):
        server.script(*answer('{"place": "Oslo", "degrees": 3}'))
        (got,) = await client.aisdk(relay, "object", package)
    assert got == {"output": {"place": "Oslo", "degrees": 3}}
    form = called(server)[0]["response_format"]  # as it was sent, through the relay
    assert form["type"] == "json_schema"
    assert {*form["json_schema"]["schema"]["properties"]} == {"place", "degrees"}


@PACKAGES
@on_loop
async def test_aisdk_knows_the_errors(place: Place, client: Client, package: str) -> None:
    async with relayed(place) as (server, relay):
        server.script(*error(404, "The model `nope` does not exist"))
        server.script(*error(429, "slow down", **{"retry-after": "7"}))
        wrong, lost, rate = await client.aisdk(relay, "errors", package)
    assert (wrong["api"], wrong["status"], wrong["again"]) == (True, 401, False)
    assert "the bearer token is missing or wrong" in wrong["message"]
    assert (rate["api"], rate["status"], rate["again"]) == (True, 429, True)
    assert 6 <= int(rate["after"]) <= 7
    assert (lost["api"], lost["status"], lost["again"]) == (True, 404, False)
    assert "nope" in lost["message"]


@PACKAGES
@on_loop
async def test_aisdk_waits_as_long_as_it_is_told(
    place: Place, client: Client, package: str
) -> None:
    async with relayed(place) as (server, relay):
        server.script(*error(429, "slow down", **{"retry-after": "3"}))
        server.script(*answer("at last"))
        (got,) = await client.aisdk(relay, "patience", package)
    assert got["text"] == "at last"
    assert 2.9 <= got["seconds"] < 9  # without a Retry-After it waits two
    assert len(called(server)) == 2


@PACKAGES
@on_loop
async def test_aisdk_hears_of_a_stream_that_breaks(
    place: Place, client: Client, package: str
) -> None:
    async with relayed(place) as (server, relay):
        server.script(chunk("Hel"), chunk("lo"), Cut())
        (got,) = await client.aisdk(relay, "broken", package)
    assert got["text"] == "Hello"
    assert got["errors"]
    assert got["finish"] == "error"


@PACKAGES
@on_loop
async def test_aisdk_gets_an_answer_that_two_providers_gave(
    place: Place, client: Client, package: str
) -> None:
    async with spared(place) as (server, spare, relay):
        server.script(chunk("The quick brown fox "), Cut())
        spare.script(*answer("jumps over the lazy dog."))
        *pieces, got = await client.aisdk(relay, "stream", package)
        whole = "".join(one["piece"] for one in pieces)
        assert whole == "The quick brown fox jumps over the lazy dog."
        assert got["finish"] == "stop"
        assert called(spare)[0]["messages"][1]["content"] == "The quick brown fox "


@PACKAGES
@pytest.mark.parametrize("check", ["abort", "abort whole"])
@on_loop
async def test_aisdk_aborts_and_the_upstream_stops(
    place: Place, client: Client, package: str, check: str
) -> None:
    async with relayed(place) as (server, relay):
        server.script(chunk("Hello"), Hang())
        (got,) = await client.aisdk(relay, check, package)
        if check == "abort":
            assert got == {"text": "Hello", "last": "abort"}
        else:
            assert got["error"] in ("AbortError", "TimeoutError")
        await until(server.gone.is_set)
        (asked,) = [one for one in server.requests if one.method == "POST"]
        assert asked.gone
