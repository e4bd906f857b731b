"""Chat against the scripted server: what is sent, what is kept, however a turn ends."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from holychat.core.chat import (
    Attempt,
    Delta,
    Done,
    Event,
    Failed,
    Finish,
    Lost,
    Message,
    Request,
    Timings,
    Tried,
    Turn,
    Usage,
)
from holychat.core.failure import Failure, Kind, keyless
from holychat.core.provider import Provider, Secret
from holychat.engine.conversation import Chat
from holychat.engine.fold import Fold
from holychat.net.client import Client
from tests import provider as loopback
from tests.provider import DONE, Cut, Gate, answer, chunk, error, on_loop, usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "sk-holy-0123456789-secret"
FINISH = chunk(finish="stop")


@asynccontextmanager
async def talking(system: str = "") -> AsyncIterator[tuple[Chat, loopback.Provider]]:
    async with loopback.Provider() as server:
        client = Client()
        try:
            box = Provider("box", server.base_url, "test-model", Secret(KEY))
            yield Chat(client, box, "test-model", system), server
        finally:
            await client.aclose()


async def said(chat: Chat, prompt: str) -> list[Event]:
    async with aclosing(chat.send(prompt)) as events:
        return [event async for event in events]


def sent(server: loopback.Provider, number: int = -1) -> list[tuple[str, Any]]:
    messages = server.requests[number].json["messages"]
    return [(message["role"], message["content"]) for message in messages]


@on_loop
async def test_each_turn_carries_the_history() -> None:
    async with talking("Be kind.") as (chat, server):
        for number in range(3):
            server.script(*answer(f"answer {number}"))
            events = await said(chat, f"question {number}")
            assert isinstance(events[0], Attempt)
            assert events[-1] == Done(chat.latest)  # type: ignore[arg-type]
    assert sent(server) == [
        ("system", "Be kind."),
        ("user", "question 0"),
        ("assistant", "answer 0"),
        ("user", "question 1"),
        ("assistant", "answer 1"),
        ("user", "question 2"),
    ]
    assert [exchange.turn.text for exchange in chat.exchanges] == [
        "answer 0",
        "answer 1",
        "answer 2",
    ]


@on_loop
async def test_a_turn_and_its_numbers() -> None:
    async with talking() as (chat, server):
        thought = chunk(None, reasoning="hm")
        server.script(thought, chunk("Hi"), FINISH, usage(11, 3), DONE)
        await said(chat, "question")
    turn = chat.latest
    assert turn is not None
    assert (turn.text, turn.reasoning, turn.finish) == ("Hi", "hm", Finish.STOP)
    assert (turn.provider, turn.model, turn.served_model) == ("box", "test-model", "")
    assert (turn.usage, turn.failure) == (Usage(11, 3), None)
    assert turn.timings.headers is not None
    assert turn.timings.first is not None
    assert 0 < turn.timings.headers <= turn.timings.first <= turn.timings.total
    assert chat.last is turn


@on_loop
async def test_a_failed_turn_is_no_history_but_can_be_sent_again() -> None:
    async with talking() as (chat, server):
        server.script(*answer("answer"))
        await said(chat, "question")
        server.script(*error(500, "broken"))
        events = await said(chat, "lost?")
        assert isinstance(events[-1], Done)
        assert events[-1].turn.finish is Finish.FAILED
        assert events[-1].turn.failure is not None
        assert events[-1].turn.failure.kind is Kind.SERVER
        assert (chat.failed, len(chat.exchanges)) == ("lost?", 1)
        server.script(*answer("found"))
        await said(chat, chat.take_back())
    assert sent(server)[-1] == ("user", "lost?")
    assert [text for _, text in sent(server)] == ["question", "answer", "lost?"]
    assert chat.failed == ""


@on_loop
async def test_a_cut_answer_keeps_what_came() -> None:
    async with talking() as (chat, server):
        server.script(chunk("half an "), Cut())
        await said(chat, "question")
        assert chat.last is not None
        assert (chat.last.text, chat.last.finish) == ("half an ", Finish.CUT)
        assert chat.last.failure is not None
        server.script(*answer("answer"))
        await said(chat, "go on")
    assert [text for _, text in sent(server)] == ["question", "half an ", "go on"]


@pytest.mark.parametrize("text", ["half an answer", ""])
@on_loop
async def test_a_stopped_turn_keeps_what_came(text: str) -> None:
    gate = Gate()
    async with talking() as (chat, server):
        server.script(*([chunk(text)] if text else []), gate, DONE)
        task = asyncio.ensure_future(said(chat, "question"))
        await gate.reached.wait()
        await asyncio.sleep(0.05)  # until the client has read it
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await asyncio.wait_for(server.gone.wait(), 5)
    assert chat.latest is not None
    assert (chat.latest.text, chat.latest.finish) == (text, Finish.INTERRUPTED)
    assert [exchange.prompt for exchange in chat.exchanges] == (["question"] if text else [])
    assert chat.failed == ("" if text else "question")


@on_loop
async def test_a_reader_that_stops_reading_keeps_what_came() -> None:
    async with talking() as (chat, server):
        server.script(chunk("half"), Gate(), DONE)
        async with aclosing(chat.send("question")) as events:
            async for event in events:
                if isinstance(event, Delta) and event.text:
                    break
        await asyncio.wait_for(server.gone.wait(), 5)
    assert chat.last is not None
    assert (chat.last.text, chat.last.finish) == ("half", Finish.INTERRUPTED)


@on_loop
async def test_a_screen_that_breaks_loses_nothing() -> None:
    async with talking() as (chat, server):
        server.script(chunk("half"), Gate(), DONE)

        async def show() -> None:
            async with aclosing(chat.send("question")) as events:
                async for event in events:
                    if isinstance(event, Delta) and event.text:
                        _ = 1 / 0

        with pytest.raises(ZeroDivisionError):
            await show()
    assert chat.last is not None
    assert chat.last.text == "half"


@on_loop
async def test_another_model_goes_on_with_the_history() -> None:
    async with talking() as (chat, server), loopback.Provider() as other:
        server.script(*answer("answer"))
        await said(chat, "question")
        chat.provider = Provider("other", other.base_url, "", Secret("sk-other-012345678"))
        chat.model, chat.system = "model-2", "Be brief."
        chat.params["temperature"] = 0
        other.script(*answer("and more"))
        await said(chat, "go on")
        body = other.requests[-1].json
        assert (body["model"], body["temperature"]) == ("model-2", 0)
        assert KEY not in str(other.requests[-1].headers)
        assert [text for _, text in sent(other)] == ["Be brief.", "question", "answer", "go on"]
    assert chat.last is not None
    assert (chat.last.provider, chat.last.model) == ("other", "model-2")
    assert chat.last.served_model == "test-model"


@on_loop
async def test_usage_is_estimated_where_none_comes_and_says_so() -> None:
    async with talking() as (chat, server):
        server.script(*answer("counted"))
        await said(chat, "question")
        assert chat.used == Usage(5, 7)
        server.script(chunk(None, reasoning="hm " * 10), chunk("not counted"), FINISH, DONE)
        await said(chat, "go on")
        assert chat.last is not None
        assert chat.last.usage is not None
        assert chat.last.usage.estimated
        assert chat.last.usage.completion > chat.last.usage.reasoning > 0
        assert chat.last.usage.prompt > 10
        assert chat.used == Usage(
            5 + chat.last.usage.prompt,
            7 + chat.last.usage.completion,
            0,
            chat.last.usage.reasoning,
            estimated=True,
        )
        server.script(*error(500))
        await said(chat, "nothing")
        assert chat.latest is not None
        assert chat.latest.usage is None


@on_loop
async def test_take_back_and_clear() -> None:
    async with talking("Be kind.") as (chat, server):
        assert chat.take_back() == ""
        assert chat.last is None
        for number in range(2):
            server.script(*answer(f"answer {number}"))
            await said(chat, f"question {number}")
        assert chat.take_back() == "question 1"
        assert [exchange.prompt for exchange in chat.exchanges] == ["question 0"]
        server.script(*answer("again"))
        await said(chat, "question 1, better")
        assert [text for _, text in sent(server)][1:] == [
            "question 0",
            "answer 0",
            "question 1, better",
        ]
        chat.failed = "lost"
        chat.clear()
        assert (chat.exchanges, chat.failed, chat.system) == ([], "", "Be kind.")


@on_loop
async def test_params_of_a_later_turn_do_not_change_an_earlier_request() -> None:
    async with talking() as (chat, server):
        server.script(*answer("answer"))
        async with aclosing(chat.send("question")) as events:
            async for _ in events:
                chat.params["temperature"] = 2
        assert "temperature" not in server.requests[0].json


def test_a_fold_is_a_turn_at_any_moment() -> None:
    now = [0.0]
    fold = Fold("box", "m", Request("m", (Message("user", "q"),)), lambda: now[0])
    now[0] = 1.0  # nothing of the time before an attempt is its own
    fold.add(Attempt("other", "n"))
    sent = Usage(prompt=7, estimated=True)  # it may be at work on it
    tried = Tried("other", "n", Finish.STOP, started=1.0, usage=sent)
    assert fold.turn() == Turn(
        "", "", Finish.STOP, "other", "n", sent, Timings(total=1), attempts=(tried,)
    )
    now[0] = 3.0
    fold.add(Delta())
    now[0] = 4.0
    fold.add(Delta("Hi", finish=Finish.LENGTH, usage=Usage(1, 1)))
    now[0] = 6.0
    turn = fold.turn(Finish.INTERRUPTED)
    assert (turn.text, turn.finish, turn.usage) == ("Hi", Finish.INTERRUPTED, Usage(1, 1))
    assert turn.timings == Timings(2, 4, 6)  # who waits, waits from the beginning on
    assert turn.attempts[0].timings == Timings(2, 3, 5)
    assert fold.turn().finish is Finish.LENGTH


def test_what_never_went_out_and_what_was_refused_costs_nothing() -> None:
    fold = Fold("box", "m", Request("m", (Message("user", "q"),)), lambda: 0.0, lambda *_: 7)
    assert fold.turn(Finish.INTERRUPTED).usage is None
    fold.add(Attempt("box", "m"))
    fold.add(Failed("box", Failure(Kind.RATE, "no", status=429), "box"))
    assert fold.turn(Finish.INTERRUPTED).usage is None
    fold.add(Attempt("box", "m"))
    fold.add(Failed("box", Failure(Kind.TIMEOUT_FIRST, "late"), "other"))
    assert fold.turn(Finish.INTERRUPTED).usage == Usage(prompt=7, estimated=True, cost=7)


def test_every_attempt_has_its_own_price() -> None:
    prices = {("box", "m"): 10, ("other", "n-2025"): 1}

    def price(provider: str, model: str, usage: Usage) -> int | None:
        each = prices.get((provider, model))
        return each and each * (usage.prompt + usage.completion)

    fold = Fold("box", "m", Request("m", (Message("user", "q"),)), lambda: 0.0, price)
    fold.add(Attempt("box", "m"))
    fold.add(Delta("half ", usage=Usage(10, 2)))
    fold.add(Failed("box", Failure(Kind.RESET, "broke"), "other"))
    fold.add(Lost("third", "unheard of", 0.1))
    fold.add(Attempt("other", "n", "half "))  # it has a price under the name that the server says
    fold.add(Delta("a whole", model="n-2025", finish=Finish.STOP, usage=Usage(15, 3)))
    turn = fold.turn()
    assert [one.usage and one.usage.cost for one in turn.attempts] == [120, None, 18]
    assert turn.usage is not None
    assert (turn.usage.cost, turn.usage.unpriced) == (138, True)  # third's prompt has no price
    fold.add(Delta(usage=Usage(15, 3, cost=5)))  # what the server says itself counts
    assert fold.turn().attempts[-1].usage == Usage(15, 3, cost=5)


def test_a_fold_of_more_than_one_attempt() -> None:
    fold = Fold("box", "m", Request("m", (Message("user", "q"),)), lambda: 0.0)
    refused, broken = Failure(Kind.RATE, "no", status=429), Failure(Kind.RESET, "broke")
    fold.add(Attempt("box", "m"))
    fold.add(Failed("box", refused, "box", 1.0))
    fold.add(Attempt("box", "m"))
    fold.add(Delta("half ", usage=Usage(10, 2)))
    fold.add(Failed("box", broken, "other"))
    fold.add(Attempt("other", "n", "half "))
    fold.add(Delta("a whole", finish=Finish.STOP, usage=Usage(15, 3)))
    turn = fold.turn()
    assert (turn.text, turn.provider, turn.usage) == ("half a whole", "other", Usage(25, 5))
    assert [(one.provider, one.finish, one.failure) for one in turn.attempts] == [
        ("box", Finish.FAILED, refused),
        ("box", Finish.CUT, broken),
        ("other", Finish.STOP, None),
    ]
    assert turn.seams == (5,)


def test_an_answer_that_begins_anew_forgets_what_came() -> None:
    fold = Fold("box", "m", Request("m", (Message("user", "q"),)), lambda: 0.0)
    fold.add(Attempt("box", "m"))
    fold.add(Delta("half", "thought"))
    fold.add(Failed("box", Failure(Kind.RESET, "broke"), "box"))
    assert not fold.add(Attempt("box", "m"))
    assert fold.turn().text == "half"  # as long as nothing takes its place
    assert fold.add(Delta("whole"))
    assert not fold.add(Delta(""))
    assert (fold.turn().text, fold.turn().reasoning, fold.turn().seams) == ("whole", "", ())


def test_one_that_could_not_even_be_asked_is_an_attempt_too() -> None:
    fold = Fold("box", "m", Request("m", ()), lambda: 0.0)
    fold.add(Attempt("box", "m"))
    fold.add(Failed("box", Failure(Kind.RESET, "broke"), "other"))
    fold.add(Failed("other", Failure(Kind.AUTH, "no key")))
    turn = fold.turn(failure=Failure(Kind.SERVER, "every provider failed"))
    assert [one.provider for one in turn.attempts] == ["box", "other"]
    assert turn.finish is Finish.FAILED


def test_the_names_of_a_model_that_are_no_other_model() -> None:
    fold = Fold("box", "m", Request("m", ()), lambda: 0.0)
    for served, shown in (("m", ""), ("box/m", ""), ("m-2025", "m-2025"), ("", "m-2025")):
        fold.add(Delta(model=served))
        assert fold.turn().served_model == shown


@pytest.mark.parametrize(
    "text",
    [
        f"the key {KEY} is wrong",
        f"the key {KEY[:15]}…",
        f"{KEY}{KEY}",
        f"Bearer {KEY[:12]}",
    ],
)
def test_a_failure_that_quotes_the_key_no_longer_does(text: str) -> None:
    failure = Failure(Kind.AUTH, text, "Check it.")
    keyless(failure, Provider("box", "http://x", key=Secret(KEY)))
    for shown in (failure.what, str(failure), repr(failure)):
        assert KEY[:12] not in shown
    assert failure.hint == "Check it."


def test_a_key_that_is_hardly_one_hides_nothing() -> None:
    failure = Failure(Kind.AUTH, "none of the models is a lm")
    box = Provider("box", "http://x", key=Secret("lm"))
    keyless(failure, box)
    assert failure.what == "none of the models is a lm"
    keyless(failure, replace(box, key=Secret("")))
    assert failure.what == "none of the models is a lm"
