"""Going on with an answer: what each kind of provider is asked, and what becomes of the two parts.

Against the scripted server, which speaks the dialect that the provider's row names.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing, asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest

from holychat.core.chat import Delta, Done, Event, Finish, Notice, Usage
from holychat.core.failure import UsageError
from holychat.core.provider import Provider, Secret
from holychat.core.route import Rules
from holychat.core.seam import instruction
from holychat.engine.conversation import Chat
from holychat.net.client import Client
from holychat.store.recorder import Recorder
from tests import provider as loopback
from tests.provider import DONE, Cut, Gate, answer, chunk, error, on_loop, until, usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

QUESTION = "What is it?"
BEGUN = "It is half of "


@asynccontextmanager
async def talking(
    dialect: str = "plain", store: Path | None = None
) -> AsyncIterator[tuple[Chat, loopback.Provider]]:
    async with loopback.Provider() as server:
        client, recorder = Client(), Recorder(str(store) if store else None)
        try:
            row = Provider("box", server.base_url, "m", Secret("sk-0123456789abcdef"), dialect)
            rules = Rules("stop", attempts=1)  # what comes of one attempt
            yield Chat(client, row, "m", "Be kind.", recorder=recorder, rules=rules), server
        finally:
            await client.aclose()
            await asyncio.to_thread(recorder.close)


async def said(chat: Chat, prompt: str) -> list[Event]:
    async with aclosing(chat.send(prompt)) as events:
        return [event async for event in events]


async def more(chat: Chat) -> list[Event]:
    async with aclosing(chat.carry_on()) as events:
        return [event async for event in events]


async def cut(chat: Chat, server: loopback.Provider, text: str = BEGUN) -> None:
    """An answer that breaks off."""
    server.script(chunk(text), usage(5, 3), Cut())
    await said(chat, QUESTION)
    assert chat.last is not None
    assert (chat.last.text, chat.last.finish) == (text, Finish.CUT)


def spoken(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def bodies(server: loopback.Provider) -> list[dict[str, Any]]:
    return [seen.json for seen in server.requests]


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


ASKED = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": QUESTION}]
BEGINNING = {"role": "assistant", "content": BEGUN}
IN_WORDS = [*ASKED, BEGINNING, {"role": "user", "content": instruction(BEGUN)}]
PREFIXED = [*ASKED, {**BEGINNING, "prefix": True}]


# --- What is asked ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "path", "messages", "fields"),
    [
        ("plain", "/v1", IN_WORDS, {}),
        ("openai", "/v1", IN_WORDS, {}),
        ("gemini", "/v1", IN_WORDS, {}),
        ("openrouter", "/v1", [*ASKED, BEGINNING], {}),
        ("mistral", "/v1", PREFIXED, {}),
        ("deepseek", "/beta", PREFIXED, {}),
        (
            "vllm",
            "/v1",
            [*ASKED, BEGINNING],
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
        ("llamacpp", "/v1", [*ASKED, BEGINNING], {}),
    ],
)
@on_loop
async def test_each_dialect_is_asked_in_its_own_way(
    dialect: str, path: str, messages: list[Any], fields: dict[str, Any]
) -> None:
    async with talking(dialect) as (chat, server):
        await cut(chat, server)
        server.script(*answer("a whole."))
        events = await more(chat)
        server.script(*answer("Thanks."))
        await said(chat, "I see")
    assert spoken(events) == "a whole."
    first, second, third = bodies(server)
    assert second["messages"] == messages
    assert {name: second.get(name) for name in fields} == fields
    assert "continue_final_message" not in first
    assert set(second) - set(first) == set(fields)
    assert [seen.path for seen in server.requests] == [
        "/v1/chat/completions",
        f"{path}/chat/completions",
        "/v1/chat/completions",
    ]
    # Nothing of it is left in the history.
    assert third["messages"] == [
        *ASKED,
        {"role": "assistant", "content": "It is half of a whole."},
        {"role": "user", "content": "I see"},
    ]


@pytest.mark.parametrize("status", [400, 404, 405, 422])
@pytest.mark.parametrize("dialect", ["deepseek", "mistral", "vllm", "llamacpp"])
@on_loop
async def test_who_refuses_the_prefix_is_asked_in_words_and_that_is_remembered(
    dialect: str, status: int
) -> None:
    async with talking(dialect) as (chat, server):
        await cut(chat, server)
        server.script(*error(status, "no"))
        server.script(chunk("a whole, "), Cut())
        await more(chat)
        server.script(*answer("as it is."))
        await more(chat)
        assert chat.last is not None
        assert chat.last.text == "It is half of a whole, as it is."
    asked = bodies(server)
    assert len(asked) == 4
    assert asked[1]["messages"][-1]["role"] == "assistant"
    assert asked[2]["messages"] == IN_WORDS
    assert "continue_final_message" not in asked[2]
    assert asked[3]["messages"][-1]["content"] == instruction("It is half of a whole, ")
    assert [seen.path for seen in server.requests][2:] == ["/v1/chat/completions"] * 2


@on_loop
async def test_a_server_that_refuses_both_is_not_asked_for_ever() -> None:
    async with talking("deepseek") as (chat, server):
        await cut(chat, server)
        server.default = error(400, "no")
        events = await more(chat)
        assert isinstance(events[-1], Done)
        assert events[-1].turn.finish is Finish.FAILED
        assert len(server.requests) == 3
        assert chat.last is not None
        assert chat.last.text == BEGUN


@on_loop
async def test_other_failures_of_a_prefix_are_failures() -> None:
    async with talking("deepseek") as (chat, server):
        await cut(chat, server)
        server.script(*error(401, "who are you"))
        await more(chat)
        assert len(server.requests) == 2
        server.script(*answer("a whole."))
        await more(chat)
    assert bodies(server)[2]["messages"] == PREFIXED


@on_loop
async def test_the_parameters_and_the_stream_switch_go_along() -> None:
    async with talking() as (chat, server):
        await cut(chat, server)
        chat.params["temperature"] = 0.5
        chat.stream = False
        server.script(*answer("a whole."))
        await more(chat)
        assert (bodies(server)[1]["temperature"], bodies(server)[1]["stream"]) == (0.5, False)


# --- What becomes of the two parts ------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "rest", "whole"),
    [
        (BEGUN, "a whole.", "It is half of a whole."),
        ("It is recogni", "tion.", "It is recognition."),
        (
            "The wolf sleeps in the forest. It ",
            "The wolf sleeps in the forest. It dreams.",
            "The wolf sleeps in the forest. It dreams.",
        ),
        ("It goes on", "Continuing from where I left off: and on.", "It goes on and on."),
    ],
)
@on_loop
async def test_what_is_said_for_the_second_time_is_left_out(
    begun: str, rest: str, whole: str
) -> None:
    async with talking() as (chat, server):
        await cut(chat, server, begun)
        server.script(*answer(rest))
        events = await more(chat)
        assert chat.last is not None
        assert chat.last.text == whole
        assert begun + spoken(events) == whole
        assert (chat.last.finish, len(chat.exchanges)) == (Finish.STOP, 1)
        with pytest.raises(UsageError, match="complete"):
            await more(chat)


@pytest.mark.parametrize("dialect", ["mistral", "deepseek", "vllm", "llamacpp"])
@on_loop
async def test_who_goes_on_with_a_prefix_means_what_it_repeats(dialect: str) -> None:
    begun, rest = "```\nfirst\nresult_table\n", "result_table\n```\n"
    async with talking(dialect) as (chat, server):
        await cut(chat, server, begun)
        server.script(*answer(rest))
        await more(chat)
        assert chat.last is not None
        assert chat.last.text == begun + rest


@on_loop
async def test_who_refused_the_prefix_is_not_taken_at_its_word() -> None:
    begun = "```\nfirst\nresult_table\n"
    async with talking("mistral") as (chat, server):
        await cut(chat, server, begun)
        server.script(*error(422, "no"))
        server.script(*answer("result_table\nlast\n```\n"))
        await more(chat)
        assert chat.last is not None
        assert chat.last.text == begun + "last\n```\n"


@on_loop
async def test_another_answer_stands_below_and_is_said_to_be_one() -> None:
    begun = "The first thing that I would like to say about rivers is that they run to the"
    other = "The first thing that I would like to say about rivers is how blue they are."
    async with talking() as (chat, server):
        await cut(chat, server, begun)
        server.script(*answer(other))
        events = await more(chat)
        assert chat.last is not None
        assert chat.last.text == f"{begun}\n\n{other}"
    assert [event.text for event in events if isinstance(event, Notice)] == [
        "the model began another answer instead of going on: it stands below"
    ]


@on_loop
async def test_usage_and_reasoning_are_of_both_parts(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with talking(store=store) as (chat, server):
        server.script(chunk(reasoning="First."), chunk(BEGUN), usage(5, 3), Cut())
        await said(chat, QUESTION)
        finish = chunk(finish="stop")
        server.script(chunk(reasoning="Then."), chunk("a whole."), finish, usage(11, 4), DONE)
        await more(chat)
        assert chat.last is not None
        assert chat.last.usage == Usage(16, 7)
        assert chat.used == Usage(16, 7)
        assert chat.last.reasoning == "First.\n\nThen."
    # Each turn is noted with what it cost itself.
    assert rows(store, "SELECT prompt_tokens, completion_tokens FROM turns ORDER BY id") == [
        (5, 3),
        (11, 4),
    ]
    assert rows(store, "SELECT role, text, reasoning FROM messages") == [
        ("user", QUESTION, ""),
        ("assistant", "It is half of a whole.", "First.\n\nThen."),
    ]


@on_loop
async def test_a_continuation_that_breaks_off_keeps_what_came(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with talking(store=store) as (chat, server):
        await cut(chat, server)
        server.script(chunk("a whole, "), Cut())
        await more(chat)
        assert chat.last is not None
        assert (chat.last.text, chat.last.finish) == ("It is half of a whole, ", Finish.CUT)
        gate = Gate()
        server.script(chunk("as every"), gate)
        seen: list[Event] = []

        async def watch() -> None:
            async with aclosing(chat.carry_on()) as events:
                async for event in events:
                    seen.append(event)  # noqa: PERF401 - what came is looked at meanwhile

        task = asyncio.ensure_future(watch())
        await until(lambda: spoken(seen) or gate.reached.is_set())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert chat.last.finish is Finish.INTERRUPTED
        assert chat.last.text == "It is half of a whole, as every"
        server.script(*answer("body knows."))
        await more(chat)
        assert chat.last.text == "It is half of a whole, as everybody knows."
    texts = rows(store, "SELECT text FROM messages WHERE role = 'assistant'")
    assert texts == [("It is half of a whole, as everybody knows.",)]


@pytest.mark.parametrize("steps", [error(500, "boom"), [Cut()], [chunk(reasoning="Hm"), Cut()]])
@on_loop
async def test_a_continuation_that_fails_leaves_the_old_part_as_it_was(
    tmp_path: Path, steps: list[Any]
) -> None:
    store = tmp_path / "store.db"
    async with talking(store=store) as (chat, server):
        await cut(chat, server)
        before = list(chat.exchanges)
        server.script(*steps)
        events = await more(chat)
        assert spoken(events) == ""
        assert isinstance(events[-1], Done)
        assert events[-1].turn.failure is not None
        assert (chat.exchanges, chat.failed) == (before, "")
        server.script(*answer("a whole."))
        await more(chat)
    texts = rows(store, "SELECT text FROM messages WHERE role = 'assistant'")
    assert texts == [("It is half of a whole.",)]


@on_loop
async def test_a_continuation_stopped_before_its_first_word_changes_nothing() -> None:
    async with talking() as (chat, server):
        await cut(chat, server)
        before, gate = list(chat.exchanges), Gate()
        server.script(gate, *answer("never"))
        task = asyncio.ensure_future(more(chat))
        await gate.reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (chat.exchanges, chat.failed) == (before, "")
        assert chat.latest is not None
        assert chat.latest.finish is Finish.INTERRUPTED


@on_loop
async def test_an_answer_that_is_only_said_once_more_was_complete() -> None:
    async with talking() as (chat, server):
        await cut(chat, server)
        server.script(*answer(BEGUN))
        await more(chat)
        assert chat.last is not None
        assert (chat.last.text, chat.last.finish) == (BEGUN, Finish.STOP)


@on_loop
async def test_there_must_be_an_answer_that_broke_off() -> None:
    async with talking() as (chat, server):
        with pytest.raises(UsageError, match="no answer to go on with"):
            await more(chat)
        server.script(*answer("Whole."))
        await said(chat, QUESTION)
        with pytest.raises(UsageError, match="complete"):
            await more(chat)
        assert len(server.requests) == 1


@on_loop
async def test_only_the_last_answer_is_gone_on_with() -> None:
    async with talking() as (chat, server):
        await cut(chat, server)
        server.script(*answer("Too", finish="length"))
        await said(chat, "second")
        server.script(*answer(" long."))
        await more(chat)
        assert [exchange.turn.text for exchange in chat.exchanges] == [BEGUN, "Too long."]
    sent = [message["content"] for message in bodies(server)[-1]["messages"]]
    assert sent[:5] == ["Be kind.", QUESTION, BEGUN, "second", "Too"]
