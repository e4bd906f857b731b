"""The relay before scripted upstreams, for the tests with clients that others wrote.

async with relayed(place) as (server, relay):
    server.script(*call())                        # a call of the function `weather`
    server.script(*answer("It rains in Oslo."))
    ... a client, with relay.base and relay.token
    asked_with_the_result(called(server)[-1])
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.process import KEY
from tests.provider import DONE, Provider, chunk, event, usage
from tests.relay import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.process import Place
    from tests.relay import Relay

ONCE = "[failover]\nattempts = 1\n"


@asynccontextmanager
async def relayed(place: Place, more: str = ONCE) -> AsyncIterator[tuple[Provider, Relay]]:
    async with Provider() as server:
        place.provider(server.base_url, more)
        async with serving(place) as relay:
            yield server, relay


@asynccontextmanager
async def spared(place: Place) -> AsyncIterator[tuple[Provider, Provider, Relay]]:
    """With a second provider, which goes on where the first one was cut."""
    async with Provider() as spare:
        more = f'[providers.spare]\nbase_url = "{spare.base_url}"\nmodel = "other-model"\n'
        place.environ["SPARE_API_KEY"] = KEY
        on = '[failover]\nproviders = "spare"\nattempts = 1\n'
        async with relayed(place, more + on) as (server, relay):
            yield server, spare, relay


def called(server: Provider) -> list[Any]:
    """The bodies of what was asked, without the lists of models."""
    return [one.json for one in server.requests if one.method == "POST"]


def call() -> list[bytes]:
    """An answer that is a call of `weather`, in pieces as servers send it."""

    def piece(arguments: str, name: str = "", **more: Any) -> bytes:
        function = {**({"name": name} if name else {}), "arguments": arguments}
        delta = {"tool_calls": [{"index": 0, **more, "function": function}]}
        return event({"model": "test-model", "choices": [{"index": 0, "delta": delta}]})

    first = piece("", "weather", id="call_1", type="function")
    end = [chunk(finish="tool_calls"), usage(), DONE]
    return [first, piece('{"place":'), piece(' "Oslo"}'), *end]


def asked_with_the_result(body: Any) -> None:
    """The second request of a round trip, as the provider saw it."""
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "tool"]
    _, said, result = body["messages"]
    assert said["tool_calls"][0]["id"] == result["tool_call_id"] == "call_1"
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"place": "Oslo"}
    assert "Oslo: rain" in result["content"]
    assert body["tools"][0]["function"]["name"] == "weather"
