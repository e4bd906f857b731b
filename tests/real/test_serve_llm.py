"""Simon Willison's `llm` as it is, unchanged, with the relay as one more of its models.

Owns what its user does: extra-openai-models.yaml, the key, prompts, `-c`, tools, Ctrl-C. Each test
has its folders in a place of its own.
"""

from __future__ import annotations

import json
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import Place
from tests.provider import Cut, Gate, Hang, answer, chunk, error, on_loop, until
from tests.real.conftest import named
from tests.real.relayed import asked_with_the_result, call, called, relayed, spared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.process import Ended, Running
    from tests.relay import Relay

pytestmark = pytest.mark.filterwarnings("default")

MODELS = """
- model_id: relay
  model_name: auto
  api_base: "{base}/v1"
  api_key_name: holychat
  supports_tools: true
"""
WEATHER = """
def weather(place: str) -> str:
    "The weather of a place"
    return f"{place}: rain"
"""


class Llm:
    """The program, with a folder and a model of its own."""

    def __init__(self, place: Place, program: str) -> None:
        self._place = place
        self._folder = place.home / "llm"
        self._folder.mkdir()
        self._how: dict[str, Any] = {
            "program": (program,),
            "LLM_USER_PATH": str(self._folder),
            "PYTHONWARNINGS": "",  # its own are its own
        }

    async def meet(self, relay: Relay) -> None:
        (self._folder / "extra-openai-models.yaml").write_text(MODELS.format(base=relay.base))
        assert (await self.run("keys", "set", "holychat", "--value", relay.token)).code == 0

    def start(self, *arguments: str) -> AbstractAsyncContextManager[Running]:
        return self._place.start(*arguments, **self._how)

    async def run(self, *arguments: str, **more: Any) -> Ended:
        return await self._place.run(*arguments, **self._how, **more)

    async def text(self, *arguments: str, **more: Any) -> str:
        """What it answered; nothing went wrong."""
        ended = await self.run(*arguments, **more)
        assert (ended.code, ended.err) == (0, "")
        return ended.text


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def llm(place: Place) -> Llm:
    return Llm(place, named("HOLYCHAT_TEST_LLM_BIN", "pip install llm"))


@asynccontextmanager
async def met(place: Place, llm: Llm) -> AsyncIterator[Any]:
    async with relayed(place) as (server, relay):
        await llm.meet(relay)
        yield server, relay


async def kept(place: Place) -> list[tuple[str, int]]:
    """What `holychat history` lists: title and messages."""
    ended = await place.run("history", "list", "--json")
    assert ended.code == 0
    return [(one["title"], one["messages"]) for one in json.loads(ended.text)]


@on_loop
async def test_a_stream(place: Place, llm: Llm) -> None:
    gate = Gate()
    async with met(place, llm) as (server, _):
        assert "OpenAI Chat: relay" in await llm.text("models", "list")
        server.script(chunk("Hällo "), gate, *answer("from 世界"))
        async with llm.start("-m", "relay", "hi") as running:
            await running.until("Hällo ".encode())  # and the rest is not said yet
            gate.open()
            ended = await running.end()
    assert (ended.code, ended.text) == (0, "Hällo from 世界\n")


@on_loop
async def test_whole(place: Place, llm: Llm) -> None:
    async with met(place, llm) as (server, _):
        server.script(*answer("Hello there"))
        ended = await llm.run("-m", "relay", "--no-stream", "--usage", "-s", "Be brief.", "hi")
        assert (ended.code, ended.text) == (0, "Hello there\n")
        assert "5 input, 7 output" in ended.err
        assert called(server)[-1]["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ]


@on_loop
async def test_a_conversation_that_is_gone_on_with_is_one_of_ours_too(
    place: Place, llm: Llm
) -> None:
    async with met(place, llm) as (server, _):
        for said in ("one", "two", "three", "elsewhere"):
            server.script(*answer(f"Answer {said}."))
        assert await llm.text("-m", "relay", "First?") == "Answer one.\n"
        assert await llm.text("-c", "Second?") == "Answer two.\n"
        assert await llm.text("-c", "--no-stream", "Third?") == "Answer three.\n"
        talk = ["First?", "Answer one.", "Second?", "Answer two.", "Third?"]
        assert [one["content"] for one in called(server)[-1]["messages"]] == talk
        assert await llm.text("-m", "relay", "Quite another?") == "Answer elsewhere.\n"
        assert await kept(place) == [("Quite another?", 2), ("First?", 6)]
        found = await place.run("history", "search", "Second")
        assert "Second?" in found.text
    # In a new process of the relay too, which knows of it by the store.
    async with met(place, llm) as (server, _):
        server.script(*answer("Answer four."))
        assert await llm.text("-c", "Further?") == "Answer four.\n"
        assert [one["content"] for one in called(server)[-1]["messages"]] == [
            "Quite another?", "Answer elsewhere.", "Further?",
        ]  # fmt: skip
        assert await kept(place) == [("Quite another?", 4), ("First?", 6)]


@on_loop
async def test_its_chat_is_one_conversation(place: Place, llm: Llm) -> None:
    async with met(place, llm) as (server, _):
        server.script(*answer("Answer one."))
        server.script(*answer("Answer two."))
        said = await llm.text("chat", "-m", "relay", stdin=b"First?\nSecond?\nexit\n")
        assert "Answer one." in said
        assert "Answer two." in said
        assert await kept(place) == [("First?", 4)]


@pytest.mark.parametrize("options", [(), ("--no-stream",)])
@on_loop
async def test_it_calls_a_function_and_brings_its_result(
    place: Place, llm: Llm, options: tuple[str, ...]
) -> None:
    async with met(place, llm) as (server, _):
        server.script(*call())
        server.script(*answer("It rains in Oslo."))
        asked = ("-m", "relay", "--functions", WEATHER, *options, "How is it in Oslo?")
        assert (await llm.text(*asked)).strip() == "It rains in Oslo."
        asked_with_the_result(called(server)[-1])


@on_loop
async def test_what_went_wrong_is_told(place: Place, llm: Llm) -> None:
    async with met(place, llm) as (server, _):
        ended = await llm.run("-m", "relay", "--key", "sk-wrong", "hi")
        assert ended.code == 1
        assert "the bearer token is missing or wrong" in ended.err
        assert server.requests == []
        server.script(*error(404, "The model `nope` does not exist"))
        ended = await llm.run("-m", "relay", "hi")
        assert ended.code == 1
        assert "The model `nope` does not exist" in ended.err
        server.script(chunk("Hel"), chunk("lo"), Cut())
        ended = await llm.run("-m", "relay", "hi")
        assert (ended.code, ended.text.strip()) == (1, "Hello")
        assert "broke the connection" in ended.err


@on_loop
async def test_an_answer_that_two_providers_gave(place: Place, llm: Llm) -> None:
    async with spared(place) as (server, spare, relay):
        await llm.meet(relay)
        server.script(chunk("The quick brown fox "), Cut())
        spare.script(*answer("jumps over the lazy dog."))
        whole = "The quick brown fox jumps over the lazy dog."
        assert await llm.text("-m", "relay", "hi") == f"{whole}\n"
        spare.default = [*answer("Yes.")]
        assert await llm.text("-c", "Really?") == "Yes.\n"
        assert await kept(place) == [("hi", 4)]


@on_loop
async def test_ctrl_c_stops_the_upstream(place: Place, llm: Llm) -> None:
    async with met(place, llm) as (server, _):
        server.script(chunk("Hello"), Hang())
        async with llm.start("-m", "relay", "hi") as running:
            await running.until(b"Hello")
            running.process.send_signal(signal.SIGINT)
            assert (await running.end()).code != 0
        await until(server.gone.is_set)
