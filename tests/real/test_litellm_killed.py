"""A LiteLLM proxy that is killed in mid-answer, and another one that goes on with the answer.

Each has a scripted upstream of its own: LiteLLM's mock answers come at once, and nobody could be
killed in the middle of one. The proxies are started here, an address of one is not enough: see
README.md.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import Faulty, Strike
from tests.process import Place
from tests.provider import on_loop
from tests.real.conftest import LITELLM_KEY, litellm_of, wanted

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.process import Ended
    from tests.provider import Seen
    from tests.real.conftest import Server

MARKS = "一二三四五六七八九十"
WHOLE = "".join(f"- Item {mark} of ten, with `code` and words.\n" for mark in MARKS) + "So be it."
CONFIG = """
model_list:
  - model_name: relay
    litellm_params: {{model: openai/any, api_key: none, api_base: "{base_url}"}}
  - model_name: anew  # says all of it, whatever it is asked
    litellm_params: {{model: openai/any, api_key: none, mock_response: {whole}}}
litellm_settings: {{num_retries: 0, request_timeout: 60}}
router_settings: {{num_retries: 0, disable_cooldowns: true}}
general_settings: {{master_key: {key}}}
"""


class Upstream(Faulty):
    """Also asked for its models: LiteLLM does so at its start."""

    async def _answer(
        self,
        seen: Seen,
        strike: Strike | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if seen.method == "POST":
            return await super()._answer(seen, strike, reader, writer)
        self.requests.remove(seen)
        self.strikes[:0] = [strike] if strike else []  # it was for an answer
        writer.write(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n")
        return True


@dataclass
class World:
    """`box` and `spare` are the upstreams, `dies` is the proxy before `box`."""

    place: Place
    dies: subprocess.Popen[bytes]
    box: Upstream
    spare: Upstream

    async def killed(self, *more: str) -> Ended:
        """Ask, and kill the first proxy when some of the answer is out."""
        return await self.broken(self._kill, *more)

    async def broken(self, how: Callable[[], Awaitable[None]], *more: str) -> Ended:
        self.box.strikes = [Strike("time-out", "middle")]  # it waits there
        async with self.place.start("ask", *more, "count") as running:
            await running.until(MARKS[2].encode())
            await how()
            return await running.end()

    async def _kill(self) -> None:
        self.dies.kill()
        await asyncio.to_thread(self.dies.wait)


@asynccontextmanager
async def world(root: Path, model: str = "relay") -> AsyncIterator[World]:
    wanted("LITELLM")
    async with Upstream(WHOLE) as box, Upstream(WHOLE) as spare, AsyncExitStack() as stack:
        both = [_proxy(stack, root, name, up) for name, up in (("box", box), ("spare", spare))]
        (first, dies), (second, _) = await asyncio.gather(*both)
        place = Place(root)
        place.config(
            'provider = "box"\nfailover.providers = "spare"\n'
            f'[providers.box]\nbase_url = "{first.base_url}"\nmodel = "relay"\n'
            f'[providers.spare]\nbase_url = "{second.base_url}"\nmodel = "{model}"\n'
        )
        place.environ |= {"BOX_API_KEY": LITELLM_KEY, "SPARE_API_KEY": LITELLM_KEY}
        yield World(place, dies, box, spare)
        assert not box.strayed
        assert not spare.strayed


async def _proxy(
    stack: AsyncExitStack, root: Path, name: str, up: Upstream
) -> tuple[Server, subprocess.Popen[bytes]]:
    config = root / f"{name}.yaml"
    config.write_text(CONFIG.format(base_url=up.base_url, whole=json.dumps(WHOLE), key=LITELLM_KEY))
    proxy = litellm_of(config, root / f"{name}.log")
    up_now = await asyncio.to_thread(proxy.__enter__)
    stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
    return up_now


def course(turn: Any) -> list[tuple[str, str]]:
    return [(one["provider"], one["finish"]) for one in turn["attempts"]]


# "relay" goes on with the answer in the middle of a line, "anew" begins it again.
@pytest.mark.parametrize("model", ["relay", "anew"])
@on_loop
async def test_another_proxy_goes_on_with_the_answer(tmp_path: Path, model: str) -> None:
    async with world(tmp_path, model) as the:
        ended = await the.killed("--jsonl")
    turn = json.loads(ended.text.splitlines()[-1])
    assert (ended.code, turn["text"], turn["finish"]) == (0, WHOLE, "stop")
    assert (turn["complete"], turn["error"], turn["provider"]) == (True, None, "spare")
    assert course(turn) == [("box", "cut"), ("box", "failed"), ("spare", "stop")]
    assert [one["error"] and one["error"]["kind"] for one in turn["attempts"]] == [
        "reset",
        "connect",
        None,
    ]
    assert len(the.box.requests) == 1
    (at,) = turn["seams"]
    assert [one["at"] for one in turn["attempts"]] == [0, at, at]
    if model == "relay":  # the proxy passed on what was said so far
        assert the.spare.requests[-1].json["messages"][1]["content"] == WHOLE[:at]


@on_loop
async def test_the_pipe_gets_one_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as the:
        ended = await the.killed()
    assert (ended.code, ended.text) == (0, WHOLE + "\n")
    assert "spare" in ended.err
    assert "Traceback" not in ended.err


@on_loop
async def test_a_part_is_no_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as the:
        ended = await the.killed("--jsonl", "--no-failover")
    turn = json.loads(ended.text.splitlines()[-1])
    assert (ended.code, turn["finish"], turn["complete"]) == (5, "cut", False)
    assert course(turn) == [("box", "cut"), ("box", "failed")]
    assert turn["error"]["kind"] == "connect"
    assert WHOLE.startswith(turn["text"])
    assert MARKS[2] in turn["text"]
    assert the.spare.requests == []
    assert "Traceback" not in ended.err


@on_loop
async def test_a_proxy_that_lost_its_upstream(tmp_path: Path) -> None:
    """It lives, and tells of the break by an error in the stream, of the rest by a 500."""
    async with world(tmp_path) as the:
        ended = await the.broken(the.box.down, "--jsonl")
    turn = json.loads(ended.text.splitlines()[-1])
    assert (ended.code, turn["text"], turn["finish"]) == (0, WHOLE, "stop")
    assert course(turn) == [("box", "cut"), ("box", "failed"), ("spare", "stop")]
    errors = [one["error"] for one in turn["attempts"]]
    assert [error and error["kind"] for error in errors] == [
        "server-error",
        "server-error",
        None,
    ]
    assert len(turn["seams"]) == 1
