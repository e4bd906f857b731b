"""ask against `transformers serve` and a tiny random model; see README.md for how to have one."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.process import Place
from tests.provider import on_loop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.conftest import Server


@pytest.fixture
def place(tmp_path: Path, tfserve: Server) -> Place:
    place = Place(tmp_path)
    model = f'model = "{tfserve.model}"\n' if tfserve.model else ""
    place.config(f'provider = "box"\n[providers.box]\nbase_url = "{tfserve.base_url}"\n{model}')
    return place


@pytest.mark.parametrize("more", [[], ["--no-stream"]])
@on_loop
async def test_a_bound_is_kept_and_told(place: Place, more: list[str]) -> None:
    ended = await place.run("ask", "--json", "-o", "max_tokens=12", *more, "hi")
    turn = json.loads(ended.out)
    assert (ended.code, turn["finish"], turn["error"]) == (5, "length", None)
    assert turn["text"]
    assert turn["usage"]["completion"] == 12
    assert not turn["usage"]["estimated"]
    assert "token limit" in ended.err


@on_loop
async def test_the_pipe_gets_text_and_a_newline(place: Place) -> None:
    ended = await place.run("ask", "-o", "max_tokens=30", "-o", "temperature=0.1", "hi")
    assert ended.code in (0, 5)  # a random model may stop by itself
    assert ended.out.endswith(b"\n")
    assert len(ended.out) > 1


@on_loop
async def test_it_streams(place: Place) -> None:
    ended = await place.run("ask", "--jsonl", "-o", "max_tokens=30", "hi")
    lines = [json.loads(line) for line in ended.text.splitlines()]
    pieces = [line["text"] for line in lines if line["type"] == "delta" and "text" in line]
    assert "".join(pieces) == lines[-1]["text"]
    assert len(pieces) > 1


@on_loop
async def test_stdin_is_part_of_the_prompt(place: Place) -> None:
    async def asked(stdin: bytes) -> int:
        ended = await place.run("ask", "--json", "-o", "max_tokens=4", "hi", stdin=stdin)
        tokens: int = json.loads(ended.out)["usage"]["prompt"]
        return tokens

    assert await asked(b"many words " * 50) > await asked(b"few words") + 100


@on_loop
async def test_ctrl_c_leaves_the_server_well(place: Place) -> None:
    async with place.start("ask", "--jsonl", "-o", "max_tokens=1500", "hi") as running:
        await running.until(b'"delta"')
        running.process.send_signal(signal.SIGINT)
        ended = await running.end()
    assert ended.code in (-signal.SIGINT, 0, 5)  # it may have been quicker than the signal
    async with asyncio.timeout(20):
        assert (await place.run("ask", "-o", "max_tokens=4", "again")).code in (0, 5)


@on_loop
async def test_an_unknown_model_is_refused(place: Place) -> None:
    ended = await place.run("ask", "-m", "no-such/model", "hi")
    assert (ended.code, ended.out) == (4, b"")
    assert "Traceback" not in ended.err
