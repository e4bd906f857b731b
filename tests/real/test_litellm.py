"""ask against a LiteLLM proxy; see README.md for how to have one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.process import Place
from tests.provider import on_loop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.conftest import Server

HELLO = 'Grüße, 你好 🎄👩‍👩‍👧: a line\nand `code` with "quotes".'


@pytest.fixture
def place(tmp_path: Path, litellm: Server) -> Place:
    place = Place(tmp_path)
    place.provider(litellm.base_url)
    place.environ["BOX_API_KEY"] = litellm.key
    return place


@pytest.mark.parametrize("more", [[], ["--no-stream"]])
@on_loop
async def test_the_answer_comes_whole(place: Place, more: list[str]) -> None:
    ended = await place.run("ask", "-m", "real-hello", *more, "hi")
    assert (ended.code, ended.text, ended.err) == (0, HELLO + "\n", "")


@pytest.mark.parametrize("more", [[], ["--no-stream"]])
@on_loop
async def test_json_has_the_servers_own_counts(place: Place, more: list[str]) -> None:
    ended = await place.run("ask", "-m", "real-hello", "--json", *more, "hi")
    turn = json.loads(ended.out)
    assert (ended.code, turn["text"], turn["finish"], turn["error"]) == (0, HELLO, "stop", None)
    assert turn["usage"]["prompt"] > 0
    assert turn["usage"]["completion"] > 10
    assert not turn["usage"]["estimated"]


@on_loop
async def test_jsonl_streams(place: Place) -> None:
    ended = await place.run("ask", "-m", "real-hello", "--jsonl", "hi")
    lines = [json.loads(line) for line in ended.text.splitlines()]
    pieces = [line["text"] for line in lines if line["type"] == "delta" and "text" in line]
    assert "".join(pieces) == HELLO
    assert len(pieces) > 1


@pytest.mark.parametrize(
    ("model", "code", "kind", "status"),
    [
        ("real-429", 4, "rate-limit", 429),
        ("real-500", 4, "server-error", 500),
        ("real-dead", 4, "server-error", 500),
    ],
)
@on_loop
async def test_failures(place: Place, model: str, code: int, kind: str, status: int) -> None:
    ended = await place.run("ask", "-m", model, "--json", "hi")
    error = json.loads(ended.out)["error"]
    assert (ended.code, error["kind"], error["status"]) == (code, kind, status)
    # The first attempt has a line of its own.
    (said,) = [line for line in ended.err.splitlines() if line.startswith("holychat: ")]
    assert said.startswith("holychat: box: ")
    assert f"({status})" in said
    assert "Traceback" not in ended.err


@on_loop
async def test_a_model_that_is_not_there(place: Place) -> None:
    ended = await place.run("ask", "-m", "real-nothing", "hi")
    assert (ended.code, ended.out) == (4, b"")
    assert "real-nothing" in ended.err
    assert "holychat models -p box" in ended.err


@on_loop
async def test_a_part_of_the_name_is_enough(place: Place) -> None:
    ended = await place.run("ask", "-m", "hello", "hi")
    assert (ended.code, ended.text) == (0, HELLO + "\n")


@on_loop
async def test_a_wrong_key(place: Place) -> None:
    """LiteLLM says 401, or 400 and "No connected db." where it runs without one."""
    key = "sk-holychat-wrong-9876543210"
    ended = await place.run("ask", "-m", "real-hello", "hi", BOX_API_KEY=key)
    assert ended.code in (3, 4)
    assert ended.out == b""
    assert key not in ended.err
    assert "Traceback" not in ended.err


@on_loop
async def test_no_key_at_all(place: Place, litellm: Server) -> None:
    place.config(f'provider = "box"\n[providers.box]\nbase_url = "{litellm.base_url}"\n')
    ended = await place.run("ask", "-m", "real-hello", "hi", BOX_API_KEY="")
    assert (ended.code, ended.out) == (3, b"")
    assert "BOX_API_KEY" in ended.err
