"""The limits and `--dry-run` as a person and a script meet them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commands.test_repl import PROMPT, enter
from tests.process import Place
from tests.provider import DONE, Provider, answer, error, on_loop, usage
from tests.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = '[limits]\nday = "3000 tokens"\n'
PRICE = '[prices."box/test-model"]\ninput = "2.00"\noutput = "8.00"\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@on_loop
async def test_a_day_is_shared_by_processes(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, more=LIMIT)
        for _ in range(2):
            server.script(*answer("fine")[:-2], usage(10, 1490), DONE)
        assert (await place.run("ask", "one")).code == 0
        near = await place.run("ask", "two")
        assert "% of the limit for today" in near.err
        full = await place.run("ask", "three")
        assert full.code == 3
        assert full.text == ""
        assert "3,000 of 3,000 tokens; nothing was sent" in full.err
        assert "--no-limits" in full.err
        assert "/limits" not in full.err
        assert len(server.requests) == 2
        told = await place.run("ask", "--json", "three")
        assert json.loads(told.out)["error"]["kind"] == "limit-reached"
        server.script(*answer("past it"))
        assert (await place.run("ask", "--no-limits", "three")).text == "past it\n"


@on_loop
async def test_the_limits_in_the_chat(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, more=LIMIT)
        async with Terminal(home=place.home) as term:
            await term.until(PROMPT)
            server.script(*answer("fine")[:-2], usage(2000, 1000), DONE)
            await enter(term, "one")
            assert await enter(term, "/limits") == [
                "  100 % of the limit for today: 3,000 of 3,000 tokens"
            ]
            shown = "\n".join(await enter(term, "two"))
            assert "nothing was sent" in shown
            assert "/limits off" in shown
            assert "--no-limits" not in shown
            assert "  off: nothing is refused" in await enter(term, "/limits off")
            server.script(*answer("past it"))
            assert any("past it" in row for row in await enter(term, "/retry"))


@pytest.mark.parametrize("value", ['"two"', "-1", "0", '"5 apples"', "true"])
@on_loop
async def test_a_limit_that_is_none(place: Place, value: str) -> None:
    place.provider("http://127.0.0.1:9/v1", more=f"[limits]\nmonth = {value}\n")
    ended = await place.run("ask", "hi")
    assert ended.code == 3
    assert "limits.month" in ended.err
    assert len(ended.err.strip().splitlines()) <= 2
    assert ("leave it out" in ended.err) == (value in ("-1", "0"))


@on_loop
async def test_a_limit_is_shown_as_it_was_written(place: Place) -> None:
    async with Provider() as server:
        more = '[limits]\nconversation = "0.0225"\nanswer = "1234.5"\n' + PRICE
        place.provider(server.base_url, more=more)
        async with Terminal(home=place.home) as term:
            await term.until(PROMPT)
            server.script(*answer("fine")[:-2], usage(1000, 2500), DONE)  # 0.002 + 0.020
            await enter(term, "one")
            assert await enter(term, "/limits") == [
                "  an answer may use $1,234.50",
                "  97 % of the limit for this conversation: $0.022 of $0.0225",
            ]


@on_loop
async def test_a_dry_run_is_what_would_be_sent(place: Place) -> None:
    async with Provider() as server:
        limits = '[limits]\nanswer = "500 tokens"\nday = "600 tokens"\n'
        place.provider(server.base_url, more=limits)
        dry = await place.run("ask", "--dry-run", "hi")
        server.script(*answer("fine")[:-2], usage(300, 100), DONE)
        assert (await place.run("ask", "hi")).code == 0
        sent = server.requests[0].json
        assert sent["max_tokens"] < 500
        assert json.loads(dry.out) == sent
        assert "refuse" not in dry.err
        full = await place.run("ask", "--dry-run", "hi")
        assert full.code == 0
        assert "would be refused: 66 % of the limit for today: 400 of 600 tokens" in full.err
        told = json.loads((await place.run("ask", "--dry-run", "--json", "hi")).out)
        assert told["estimated"] is True
        assert "limit for today" in told["refused"]
        past = await place.run("ask", "--dry-run", "--json", "--no-limits", "hi")
        assert json.loads(past.out)["refused"] == ""
        assert len(server.requests) == 1


@on_loop
async def test_a_dry_run_sends_nothing(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, more=PRICE)
        server.script(*answer("Hello"))
        await place.run("ask", "first")
        server.requests.clear()
        ended = await place.run("ask", "--dry-run", "-o", "temperature=0", "hi there")
        assert ended.code == 0
        sent = json.loads(ended.out)
        assert sent["messages"] == [{"role": "user", "content": "hi there"}]
        assert (sent["model"], sent["temperature"]) == ("test-model", 0)
        assert f"{server.base_url}/chat/completions" in ended.err
        assert "each 1,000 tokens of the answer: $0.008" in ended.err  # 8.00 a million
        again = await place.run("ask", "--dry-run", "--json", "-c", "and now?")
        found = json.loads(again.out)
        assert [one["content"] for one in found["body"]["messages"]] == [
            "first",
            "Hello",
            "and now?",
        ]
        assert found["cost"] == pytest.approx(found["tokens"] * 2e-6)
        assert server.requests == []


@on_loop
async def test_a_dry_run_needs_no_key(place: Place) -> None:
    ended = await place.run("ask", "--dry-run", "-p", "openai", "hi")
    assert ended.code == 0
    assert json.loads(ended.out)["model"] == "gpt-4.1"
    assert "api.openai.com" in ended.err


@on_loop
async def test_the_foot_of_an_answer_names_its_cost(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url, more=PRICE)
        server.script(*answer("fine")[:-2], usage(1000, 500), DONE)
        ended = await place.run("ask", "--json", "first of all")
        # 1,000 in at 2.00 and 500 out at 8.00 a million: 0.002 + 0.004.
        assert json.loads(ended.out)["usage"]["cost"] == 0.006
        async with Terminal(home=place.home) as term:
            await term.until(PROMPT)
            server.script(*answer("fine")[:-2], usage(1000, 500), DONE)
            shown = await enter(term, "hi")
            assert "1,000 in · 500 out · $0.006 · first" in shown[-1]
            assert "1,500 tok   $0.006" in term.text()
            server.script(*error(400))
            await enter(term, "no")
            server.script(*answer("again")[:-2], usage(1000, 500), DONE)
            await enter(term, "/retry")
            assert "3,000 tok   $0.012" in term.text()
            await enter(term, "/undo")  # what was used was used
            assert "3,000 tok   $0.012" in term.text()
        async with Terminal("-c", home=place.home) as term:
            await term.until(r"3,000 tok   \$0\.012")
        shown = json.loads((await place.run("history", "show", "hi", "--json")).out)
        costs = [one["turn"]["usage"]["cost"] for one in shown["messages"] if "turn" in one]
        assert costs == [0.006] * len(costs) != []
        assert "500 out · $0.006" in (await place.run("history", "show", "hi")).text
