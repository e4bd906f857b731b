"""The chat on a pty against both independent servers; see README.md for how to have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.provider import on_loop
from tests.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.conftest import Server

PROMPT = "›"


@on_loop
async def test_a_chat_through_litellm(tmp_path: Path, litellm: Server) -> None:
    environ = {"HOLYSHEEP_BASE_URL": litellm.base_url, "HOLYSHEEP_API_KEY": litellm.key}
    async with Terminal("-m", "real-hello", home=tmp_path, environ=environ) as term:
        await term.until(PROMPT)
        for turn in (1, 2):
            term.type(f"question {turn}\r")
            await term.until("with .quotes.", times=turn)
            await term.until(r"in · \d+ out", times=turn)  # its own counts: no ≈
        term.type("/model real-500\r")
        await term.until("now real-500 on holysheep")
        term.type("fails\r")
        await term.until("/retry sends it again", 60)
        term.type("quit\r")
        assert await term.end() == 0


@on_loop
async def test_a_chat_with_a_tiny_model(tmp_path: Path, tfserve: Server) -> None:
    environ = {"VLLM_BASE_URL": tfserve.base_url}
    async with Terminal("-p", "vllm", "-m", tfserve.model, home=tmp_path, environ=environ) as term:
        await term.until(PROMPT)
        term.type("/set max_tokens=24\r")
        await term.until("max_tokens = 24", 60)
        term.type("hello\r")
        await term.until("stopped at the token limit", 60)
        term.type("and again\r")
        await term.until("stopped at the token limit", 60, times=2)
        term.type("quit\r")
        assert await term.end() == 0
