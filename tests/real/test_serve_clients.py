"""Clients as they are, unchanged, against the relay: the openai SDK for Python, curl."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import Place
from tests.provider import Cut, Provider, answer, chunk, error, event, on_loop, usage
from tests.relay import serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@on_loop
async def test_the_openai_sdk(place: Place) -> None:
    openai = pytest.importorskip("openai")
    async with Provider() as server:
        place.provider(server.base_url, "[failover]\nattempts = 1\n")
        async with serving(place) as relay:
            client = openai.AsyncOpenAI(base_url=f"{relay.base}/v1", api_key=relay.token)
            listed = [one.id async for one in client.models.list()]
            assert listed == ["auto", "box/test-model"]
            hello: Any = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}

            server.script(*answer("Hello there"))
            whole = await client.chat.completions.create(**hello)
            assert whole.choices[0].message.content == "Hello there"
            assert whole.usage.total_tokens == 12

            server.script(*answer("Hello there"))
            stream = await client.chat.completions.create(
                **hello, stream=True, stream_options={"include_usage": True}
            )
            chunks = [one async for one in stream]
            said = (one.choices[0].delta.content or "" for one in chunks if one.choices)
            assert "".join(said) == "Hello there"
            assert chunks[-1].usage.completion_tokens == 7

            call = {"index": 0, "id": "c", "type": "function",
                    "function": {"name": "f", "arguments": '{"a": 1}'}}  # fmt: skip
            piece = {"model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
            server.script(event(piece), chunk(finish="tool_calls"), usage())
            tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
            whole = await client.chat.completions.create(**hello, tools=[tool])
            assert whole.choices[0].message.tool_calls[0].function.arguments == '{"a": 1}'

            asked = len(server.requests)
            server.default = error(503, "busy")
            with pytest.raises(openai.InternalServerError) as failed:
                await client.chat.completions.create(**hello)
            assert failed.value.status_code == 503
            assert len(server.requests) == asked + 1  # it did not try again: we had
            server.default = error(404, "The model `nope` does not exist")
            with pytest.raises(openai.NotFoundError) as lost:
                await client.chat.completions.create(**{**hello, "model": "nope"})
            assert lost.value.code == "model_not_found"
            server.script(chunk("Hel"), Cut())
            with pytest.raises(openai.APIError):
                async for _ in await client.chat.completions.create(**hello, stream=True):
                    pass
            wrong = openai.AsyncOpenAI(base_url=f"{relay.base}/v1", api_key="sk-wrong")
            with pytest.raises(openai.AuthenticationError):
                await wrong.chat.completions.create(**hello)
            await wrong.close()
            await client.close()


async def output(*program: str) -> str:
    process = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@on_loop
async def test_curl_with_the_seeds_request(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(*answer("I am well"))
        async with serving(place) as relay:
            out = await output(
                "curl", "-sS", "-X", "POST", f"http://localhost:{relay.port}/chat",
                "-H", "Content-Type: application/json",
                "-H", f"Authorization: Bearer {relay.token}",
                "-d", '{"message": "Hello, how are you?"}',
            )  # fmt: skip
    assert out.rstrip().endswith("data: [DONE]")
    assert '"content":"I am well"' in out


NODE = """
const http = require("http");
const [port, token] = process.argv.slice(1);
const body = JSON.stringify({ model: "auto", stream: true,
  messages: [{ role: "user", content: "hi" }] });
const request = http.request({ host: "127.0.0.1", port, path: "/v1/chat/completions",
  method: "POST", headers: { "Content-Type": "application/json",
    Authorization: `Bearer ${token}` } }, (response) => {
  let buffer = "", text = "";
  response.on("data", (data) => {
    buffer += data;
    const lines = buffer.split("\\n");
    buffer = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const said = line.slice(6);
      if (said === "[DONE]") { console.log(text + "|done"); continue; }
      text += JSON.parse(said).choices[0]?.delta?.content || "";
    }
  });
});
request.end(body);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
@on_loop
async def test_node_in_the_seeds_way(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        server.script(*answer("Hällo from 世界"))
        async with serving(place) as relay:
            out = await output("node", "-e", NODE, str(relay.port), relay.token)
    assert out == "Hällo from 世界|done\n"
