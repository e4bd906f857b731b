"""The attempts loop against scripted servers: what is asked, what is said, what remains."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from holychat.core.breaker import Policy
from holychat.core.chat import (
    Attempt,
    Delta,
    Done,
    Event,
    Failed,
    Finish,
    Lost,
    Notice,
    Queued,
    Turn,
)
from holychat.core.failure import Kind, SettingsError
from holychat.core.pacing import Limits
from holychat.core.provider import Provider, Secret
from holychat.core.route import Rules
from holychat.engine.conversation import Chat
from holychat.engine.failover import Candidate
from holychat.engine.health import Board, Ticket
from holychat.engine.health import Queued as InLine
from holychat.net.client import Client, Timers
from holychat.store.recorder import Recorder
from tests import provider as loopback
from tests.provider import (
    DONE,
    Cut,
    Gate,
    Hang,
    Reset,
    Status,
    Wait,
    answer,
    chunk,
    error,
    event,
    on_loop,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.provider import Step

WORDS = [f"word{number} " for number in range(20)]
WHOLE = "".join(WORDS)
BEFORE, AFTER = WORDS[:8], WORDS[8:]
FINISH = chunk(finish="stop")
BROKEN: dict[str, list[Step]] = {
    "cut": [Cut()],
    "end": [],
    "reset": [Reset()],
    "stall": [Hang()],
    "error": [event({"error": {"message": "overloaded", "code": 503}})],
    "overloaded": [chunk(finish="insufficient_system_resource")],
}
REFUSED: dict[str, list[Step]] = {
    "429": error(429, "slow down", **{"retry-after": "0"}),
    "408": error(408),
    "409": error(409),
    "500": error(500),
    "503": error(503),
    "error first": [event({"error": {"message": "no room"}}), DONE],
    "empty": [FINISH, DONE],
    "cut": [Cut()],
    "reset": [Reset()],
    "no headers": [Hang()],
}


@dataclass
class World:
    """A chat with `box`, and `spare` to stand in for it."""

    chat: Chat
    box: loopback.Provider
    spare: loopback.Provider
    events: list[Event] = field(default_factory=list)

    async def say(self, prompt: str = "count") -> Turn:
        self.events.clear()
        async with aclosing(self.chat.send(prompt)) as events:
            async for each in events:
                self.events.append(each)
        assert isinstance(self.events[-1], Done)
        return self.events[-1].turn

    @property
    def spoken(self) -> str:
        return "".join(each.text for each in self.events if isinstance(each, Delta))

    @property
    def asked(self) -> list[str]:
        return [each.provider for each in self.events if isinstance(each, Attempt)]

    @property
    def failures(self) -> list[Kind]:
        return [each.failure.kind for each in self.events if isinstance(each, Failed)]


@asynccontextmanager
async def world(
    dialect: str = "plain", *, rules: Rules | None = None, alone: bool = False
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        box = await stack.enter_async_context(loopback.Provider())
        spare = await stack.enter_async_context(loopback.Provider())
        client = Client(Timers(connect=2, headers=0.3, first=0.3, gap=0.3))
        stack.push_async_callback(client.aclose)
        first = Provider("box", box.base_url, "m", Secret("sk-0123456789abcdef"), dialect)
        other = Provider("spare", spare.base_url, "n", Secret("sk-fedcba9876543210"))

        async def resolve(name: str) -> Candidate:
            assert name == "spare"
            return Candidate(other, "n")

        chat = Chat(client, first, "m", rules=rules or Rules(base=0.01), resolve=resolve)
        if not alone:
            chat.others = lambda _: ["spare"]
        yield World(chat, box, spare)


def partial(server: loopback.Provider) -> list[Any]:
    """The messages behind the prompt in the last request."""
    messages: list[Any] = server.requests[-1].json["messages"]
    return messages[1:]


# --- Before the first token -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", REFUSED)
@on_loop
async def test_what_may_pass_is_tried_again(fault: str) -> None:
    async with world() as the:
        the.box.script(*REFUSED[fault])
        the.box.script(*answer("Hi"))
        turn = await the.say()
    assert (turn.text, turn.finish, turn.failure) == ("Hi", Finish.STOP, None)
    assert the.asked == ["box", "box"]
    assert [one.finish for one in turn.attempts] == [Finish.FAILED, Finish.STOP]
    assert turn.seams == ()


@pytest.mark.parametrize("fault", REFUSED)
@on_loop
async def test_what_does_not_pass_goes_to_the_next(fault: str) -> None:
    async with world() as the:
        the.box.script(*REFUSED[fault])
        the.box.script(*REFUSED[fault])
        the.spare.script(*answer("Hi"))
        turn = await the.say()
    assert (turn.text, turn.finish, turn.provider, turn.model) == ("Hi", Finish.STOP, "spare", "n")
    assert the.asked == ["box", "box", "spare"]
    assert the.chat.provider.name == "box"  # who is asked first the next time


@pytest.mark.parametrize("code", [401, 402, 403])
@on_loop
async def test_a_refused_key_is_passed_over_at_once(code: int) -> None:
    async with world() as the:
        the.box.script(*error(code))
        the.spare.script(*answer("Hi"))
        turn = await the.say()
    assert turn.text == "Hi"
    assert the.asked == ["box", "spare"]


@pytest.mark.parametrize("code", [400, 404, 422])
@on_loop
async def test_a_wrong_request_is_wrong_everywhere(code: int) -> None:
    async with world() as the:
        the.box.script(*error(code))
        turn = await the.say()
    assert (turn.finish, the.asked) == (Finish.FAILED, ["box"])
    assert the.spare.requests == []


@on_loop
async def test_what_a_substitute_does_not_like_is_its_own_matter() -> None:
    async with world(rules=Rules(base=0.01, attempts=1)) as the:
        the.chat.others = lambda _: ["spare", "third"]
        the.chat.resolve = None
        turn = await the.say()  # the script is over: 500
    assert the.asked == ["box"]
    assert turn.failure is not None
    assert "every provider failed" in turn.failure.what


@on_loop
async def test_a_key_that_cannot_be_had_is_told_and_passed_over() -> None:
    async with world(rules=Rules(base=0.01, attempts=1)) as the:
        good = the.chat.resolve
        assert good is not None

        async def resolve(name: str) -> Candidate:
            if name == "keyless":
                raise SettingsError("providers.keyless.key_command failed: exit status 1")
            return await good(name)

        the.chat.resolve = resolve
        the.chat.others = lambda _: ["keyless", "spare"]
        the.box.script(*error(500))
        the.spare.script(*answer("Hi"))
        turn = await the.say()
    assert turn.text == "Hi"
    assert [(one.provider, one.finish) for one in turn.attempts] == [
        ("box", Finish.FAILED),
        ("keyless", Finish.FAILED),
        ("spare", Finish.STOP),
    ]
    assert the.failures == [Kind.SERVER, Kind.AUTH]


@on_loop
async def test_everybody_fails() -> None:
    async with world() as the:
        for _ in range(2):
            the.box.script(*error(429, "slow down", **{"retry-after": "0"}))
            the.spare.script(*error(503, "asleep"))
        turn = await the.say()
    assert the.asked == ["box", "box", "spare", "spare"]
    assert turn.failure is not None
    assert "box" in turn.failure.what
    assert "spare" in turn.failure.what
    assert len(turn.attempts) == 4
    assert the.chat.failed == "count"


@on_loop
async def test_alone_it_is_tried_twice() -> None:
    async with world(alone=True) as the:
        turn = await the.say()
    assert the.asked == ["box", "box"]
    assert turn.failure is not None
    assert "every provider" not in turn.failure.what


@on_loop
async def test_a_long_wait_is_for_the_next_provider() -> None:
    async with world() as the:
        the.box.script(*error(429, "slow down", **{"retry-after": "6"}))
        the.spare.script(*answer("Hi"))
        turn = await the.say()
    assert (turn.text, the.asked) == ("Hi", ["box", "spare"])


@on_loop
async def test_an_absurd_wait_is_not_waited() -> None:
    async with world(alone=True) as the:
        the.box.script(*error(429, "slow down", **{"retry-after": "86400"}))
        turn = await the.say()
    assert the.asked == ["box"]
    assert turn.failure is not None
    assert turn.failure.kind is Kind.RATE


@on_loop
async def test_a_wait_is_ended_by_stopping() -> None:
    async with world(alone=True) as the:
        the.box.script(*error(429, "slow down", **{"retry-after": "50"}))
        saying = asyncio.ensure_future(the.say())
        await until(lambda: the.failures)
        saying.cancel()
        await asyncio.wait({saying}, timeout=5)
    assert saying.cancelled()
    assert the.chat.latest is not None
    assert the.chat.latest.finish is Finish.INTERRUPTED


@on_loop
async def test_a_wait_may_be_handed_on() -> None:
    async with world(alone=False, rules=Rules(patience=60.0)) as the:
        gate = Gate()
        the.box.script(gate, *answer("too late"))
        the.spare.script(*answer("Hi"))
        the.chat.client.timers = Timers(headers=30, first=30)
        saying = asyncio.ensure_future(the.say())
        await until(lambda: the.box.requests)
        the.chat.handed.set()
        await saying
        gate.open()
    assert the.spoken == "Hi"
    assert the.failures == [Kind.PASSED]
    assert the.asked == ["box", "spare"]


# --- In mid-answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["plain", "deepseek", "mistral", "vllm", "llamacpp"])
@pytest.mark.parametrize("fault", BROKEN)
@on_loop
async def test_an_answer_is_gone_on_with(dialect: str, fault: str) -> None:
    async with world(dialect) as the:
        the.box.script(*map(chunk, BEFORE), *BROKEN[fault])
        the.box.script(*map(chunk, AFTER), FINISH, DONE)
        turn = await the.say()
    assert (turn.text, the.spoken) == (WHOLE, WHOLE)
    assert (turn.finish, turn.failure, the.asked) == (Finish.STOP, None, ["box", "box"])
    assert turn.seams == (len("".join(BEFORE)),)
    assert partial(the.box)[0]["content"] == "".join(BEFORE)


@pytest.mark.parametrize("fault", BROKEN)
@on_loop
async def test_then_by_the_next_provider(fault: str) -> None:
    async with world() as the:
        the.box.script(*map(chunk, WORDS[:5]), *BROKEN[fault])
        the.box.script(*map(chunk, WORDS[5:9]), *BROKEN[fault])
        the.spare.script(*map(chunk, WORDS[9:]), FINISH, DONE)
        turn = await the.say()
    assert (turn.text, the.spoken) == (WHOLE, WHOLE)
    assert (turn.provider, turn.finish) == ("spare", Finish.STOP)
    assert turn.seams == (len("".join(WORDS[:5])), len("".join(WORDS[:9])))
    assert [one.finish for one in turn.attempts] == [Finish.CUT, Finish.CUT, Finish.STOP]


@on_loop
async def test_an_answer_that_nobody_ends_is_cut() -> None:
    async with world() as the:
        the.box.script(*map(chunk, BEFORE), Cut())
        turn = await the.say()
    assert (turn.text, turn.finish) == ("".join(BEFORE), Finish.CUT)
    assert turn.failure is not None
    assert the.asked == ["box", "box", "spare", "spare"]


@on_loop
async def test_a_continuation_says_its_last_words_once() -> None:
    async with world() as the:
        the.box.script(*map(chunk, BEFORE), Cut())
        the.box.script(*map(chunk, WORDS[3:]), FINISH, DONE)
        turn = await the.say()
    assert (turn.text, the.spoken) == (WHOLE, WHOLE)


@on_loop
async def test_an_answer_that_starts_anew_is_said_once() -> None:
    async with world() as the:
        the.box.script(*map(chunk, BEFORE), Cut())
        the.box.script(*map(chunk, WORDS), FINISH, DONE)
        turn = await the.say()
    assert (turn.text, the.spoken) == (WHOLE, WHOLE)


@on_loop
async def test_who_ignores_a_prefix_is_asked_in_words_and_that_is_remembered() -> None:
    text = "The zebra is an animal with many stripes that lives in Africa and eats grass, mostly."
    other = "The zebra is an animal with many stripes that lives in Asia, says another answer."
    async with world("deepseek", rules=Rules(base=0.01, attempts=3)) as the:
        the.box.script(chunk(text[:75]), Cut())
        the.box.script(*answer(other))
        the.box.script(*answer(text[75:]))
        turn = await the.say()
    assert (turn.text, the.spoken) == (text, text)
    assert the.failures == [Kind.RESET, Kind.IGNORED]
    assert [seen.path for seen in the.box.requests][-2:] == [
        "/beta/chat/completions",
        "/v1/chat/completions",
    ]
    assert the.chat.client.quirks["box"].prefix == ""


@on_loop
async def test_on_cut_stop() -> None:
    async with world(rules=Rules("stop")) as the:
        the.box.script(*map(chunk, BEFORE), Cut())
        turn = await the.say()
    assert (turn.text, turn.finish, the.asked) == ("".join(BEFORE), Finish.CUT, ["box"])


@on_loop
async def test_on_cut_restart() -> None:
    async with world(rules=Rules("restart", base=0.01)) as the:
        the.box.script(*map(chunk, BEFORE), Cut())
        the.box.script(*map(chunk, WORDS), FINISH, DONE)
        turn = await the.say()
    assert (turn.text, turn.finish, turn.seams) == (WHOLE, Finish.STOP, ())
    assert len(the.box.requests[-1].json["messages"]) == 1


@on_loop
async def test_blanks_are_no_answer_yet() -> None:
    async with world() as the:
        the.box.script(chunk("\n\n"), Cut())
        the.box.script(*answer("Hi"))
        turn = await the.say()
    assert (turn.text, turn.seams) == ("Hi", ())


@on_loop
async def test_reasoning_of_an_attempt_that_said_nothing_is_dropped() -> None:
    async with world() as the:
        the.box.script(chunk(None, reasoning="first"), Cut())
        the.box.script(chunk(None, reasoning="second"), *answer("Hi"))
        turn = await the.say()
    assert (turn.reasoning, turn.text) == ("second", "Hi")


@on_loop
async def test_what_stops_within_a_joint_keeps_what_it_held() -> None:
    async with world() as the:
        the.box.script(*map(chunk, BEFORE), Cut())
        the.box.script(chunk("word7"), Hang())  # may be a repetition: it is held back
        the.chat.client.timers = Timers()
        saying = asyncio.ensure_future(the.say())
        await until(lambda: len(the.box.requests) == 2)
        await asyncio.sleep(0.1)
        saying.cancel()
        await asyncio.wait({saying}, timeout=5)
    turn = the.chat.latest
    assert turn is not None
    assert turn.finish is Finish.INTERRUPTED
    assert turn.text.startswith("".join(BEFORE))


@on_loop
async def test_a_switch_is_said() -> None:
    async with world() as the:
        the.box.script(*error(401))
        the.spare.script(*answer("Hi"))
        await the.say()
    said = [each for each in the.events if isinstance(each, (Failed, Notice))]
    assert [(each.provider, each.then) for each in said if isinstance(each, Failed)] == [
        ("box", "spare")
    ]


@on_loop
async def test_what_was_handed_on_is_nobodys_fault() -> None:
    async with world() as the:
        board = the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits())
        gate = Gate()
        the.box.script(gate, *answer("too late"))
        the.spare.script(*answer("Hi"))
        the.chat.client.timers = Timers(headers=30, first=30)
        saying = asyncio.ensure_future(the.say())
        await until(lambda: the.box.requests)
        the.chat.handed.set()
        await saying
        gate.open()
        spare = await the.chat.resolve("spare")  # type: ignore[misc]
        standings = await board.standings([the.chat.provider, spare.provider])
    assert (standings["box"].calls, standings["box"].streams) == (0, 0)
    assert (standings["spare"].calls, standings["spare"].error_rate) == (1, 0.0)


@on_loop
async def test_the_first_token_of_an_answer_that_is_cut_counts() -> None:
    async with world(rules=Rules(attempts=1)) as the:
        board = the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits())
        the.box.script(chunk("Half"), Cut())
        the.spare.script(*answer(" of it"))
        await the.say()
        standing = (await board.standings([the.chat.provider]))["box"]
    assert standing.p50 is not None
    assert 0 < standing.p50 < 10


@on_loop
async def test_who_rests_is_passed_over_and_said() -> None:
    async with world(rules=Rules(base=0.01, attempts=1)) as the:
        the.chat.board = Board(Recorder(None), Policy(row=1, cooldown=30), lambda _: Limits())
        the.box.script(*error(500))
        for _ in range(2):
            the.spare.script(*answer("Hi"))
        await the.say()
        turn = await the.say()
    assert (turn.provider, the.asked) == ("spare", ["spare"])
    assert [each.text for each in the.events if isinstance(each, Notice)] == [
        "box rests: 1 failure in a row: asking spare"
    ]


@on_loop
async def test_where_all_rest_the_soonest_is_asked_anyway() -> None:
    async with world(rules=Rules(base=0.01, attempts=1)) as the:
        the.chat.board = Board(Recorder(None), Policy(row=1, cooldown=30), lambda _: Limits())
        the.box.script(*error(500))
        the.spare.script(*error(500))
        await the.say()
        the.box.script(*answer("Hi"))
        turn = await the.say()
    assert (turn.text, the.asked) == ("Hi", ["box"])


@on_loop
async def test_a_substitute_without_its_key_is_no_fault_of_the_one_that_rests() -> None:
    async with world(rules=Rules(base=0.01, attempts=1)) as the:
        the.chat.board = Board(Recorder(None), Policy(row=1, cooldown=30), lambda _: Limits())
        good = the.chat.resolve
        assert good is not None

        async def resolve(name: str) -> Candidate:
            if name == "keyless":
                raise SettingsError("providers.keyless.key_command failed: exit status 1")
            return await good(name)

        the.box.script(*error(500))
        the.spare.script(*answer("Hi"))
        await the.say()
        the.chat.resolve, the.chat.others = resolve, lambda _: ["keyless", "spare"]
        the.spare.script(*answer("Hi again"))
        turn = await the.say()
    assert (turn.text, [one.provider for one in turn.attempts]) == ("Hi again", ["spare"])
    said = [each.text for each in the.events if isinstance(each, Notice)]
    assert len(said) == 1
    assert "key_command failed" in said[0]
    assert said[0].endswith(": asking spare")


@on_loop
async def test_a_full_provider_is_waited_for_in_line() -> None:
    async with world(alone=True) as the:
        the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits(streams=1))
        gate = Gate()
        the.box.script(chunk("a"), gate, FINISH, DONE)
        the.box.script(*answer("b"))
        the.chat.client.timers = Timers()
        chat = replace(the.chat, exchanges=[], handed=asyncio.Event())
        other = World(chat, the.box, the.spare)
        first = asyncio.ensure_future(the.say())
        await until(lambda: the.box.requests)
        waiting = asyncio.ensure_future(other.say("two"))
        await until(lambda: any(isinstance(each, Queued) for each in other.events))
        assert len(the.box.requests) == 1
        gate.open()
        await first
        assert (await waiting).text == "b"
    assert next(each.position for each in other.events if isinstance(each, Queued)) == 1


@on_loop
async def test_a_place_in_line_is_said_once() -> None:
    async with world(alone=True) as the:
        board = the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits(streams=1))
        ticket = await board.admit(the.chat.provider, 1)
        the.box.script(*answer("Hi"))
        saying = asyncio.ensure_future(the.say())
        await asyncio.sleep(0.6)  # it looks each half second
        board.cancelled(ticket)  # type: ignore[arg-type]
        assert (await saying).text == "Hi"
    assert sum(isinstance(each, Queued) for each in the.events) == 1


@on_loop
async def test_who_asks_for_more_patience_than_we_have_is_passed_over() -> None:
    """A 429 holds the provider for everybody: later turns go elsewhere, as the first one did."""
    async with world() as the:
        the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits())
        the.box.script(*error(429, **{"retry-after": "20"}))
        the.spare.script(*answer("one"))
        the.spare.script(*answer("two"))
        assert (await the.say()).text == "one"
        turn = await the.say()
    assert (turn.text, the.asked) == ("two", ["spare"])
    failed = next(each for each in the.events if isinstance(each, Failed))
    assert failed.then == "spare"
    assert "box takes no request for" in failed.failure.what
    async with world(alone=True) as the:  # where nobody else can be asked, nobody is asked twice
        the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits())
        the.box.script(*error(429, **{"retry-after": "100"}))
        await the.say()
        turn = await the.say()
    assert (turn.failure and turn.failure.kind, the.asked) == (Kind.RATE, [])
    assert len(turn.attempts) == 1


@pytest.mark.parametrize("before", [[], BEFORE], ids=["before the answer", "in it"])
@on_loop
async def test_a_wait_is_handed_on(before: list[str]) -> None:
    async with world(rules=Rules(base=100, longest=100, patience=500, wait=500)) as the:
        the.box.script(*([*map(chunk, before), Cut()] if before else error(500)))
        the.spare.script(*map(chunk, WORDS[len(before) :]), FINISH, DONE)
        saying = asyncio.ensure_future(the.say())
        await until(lambda: any(isinstance(each, Failed) for each in the.events))
        failed = next(each for each in the.events if isinstance(each, Failed))
        assert (failed.then, failed.other) == ("box", "spare")
        the.chat.handed.set()
        turn = await saying
    assert (turn.text, the.asked) == (WHOLE, ["box", "spare"])
    assert the.failures[-1] is Kind.PASSED


@on_loop
async def test_a_place_in_line_is_handed_on() -> None:
    async with world() as the:
        board = the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits(streams=1))
        ticket = await board.admit(the.chat.provider, 1)
        the.spare.script(*answer("Hi"))
        saying = asyncio.ensure_future(the.say())
        await until(lambda: any(isinstance(each, Queued) for each in the.events))
        assert next(e for e in the.events if isinstance(e, Queued)).other == "spare"
        the.chat.handed.set()
        assert (await saying).text == "Hi"
        standing = (await board.standings([the.chat.provider]))["box"]
        assert (standing.streams, standing.queue) == (1, 0)
        board.cancelled(ticket)  # type: ignore[arg-type]
    assert the.asked == ["spare"]


@on_loop
async def test_where_nobody_else_can_be_asked_a_wait_goes_on() -> None:
    async with world(alone=True) as the:
        the.box.script(*error(429, **{"retry-after": "0.5"}))
        the.box.script(*answer("Hi"))
        saying = asyncio.ensure_future(the.say())
        await until(lambda: any(isinstance(each, Failed) for each in the.events))
        the.chat.handed.set()
        assert (await saying).text == "Hi"
    assert the.asked == ["box", "box"]


@on_loop
async def test_a_key_that_was_not_taken_is_not_tried_again() -> None:
    async with world() as the:
        board = the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits())
        the.box.script(*error(401))
        for _ in range(2):
            the.spare.script(*answer("Hi"))
        await the.say()
        assert (await board.standings([the.chat.provider]))["box"].refused
        await the.say()
        assert the.asked == ["spare"]
        notices = [each.text for each in the.events if isinstance(each, Notice)]
        assert notices == ["box does not take the key: asking spare"]
        the.chat.provider = replace(the.chat.provider, key=Secret("another"))
        the.box.script(*answer("Hi"))
        await the.say()
        assert the.asked == ["box"]
        assert not (await board.standings([the.chat.provider]))["box"].refused
    async with world(alone=True) as the:  # it is what there is
        the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits())
        for _ in range(2):
            the.box.script(*error(401))
            await the.say()
            assert the.asked == ["box"]


@on_loop
async def test_what_is_said_of_limits_is_known_while_the_answer_comes() -> None:
    async with world(alone=True) as the:
        board = the.chat.board = Board(
            Recorder(None), Policy(), lambda _: Limits(), rates=the.chat.client.rates
        )
        gate = Gate()
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
        the.box.script(
            Status(headers={"content-type": "text/event-stream", **headers}),
            chunk("a"),
            gate,
            FINISH,
            DONE,
        )
        saying = asyncio.ensure_future(the.say())
        await until(lambda: any(isinstance(each, Delta) for each in the.events))
        got = await board.admit(the.chat.provider, 1)
        assert isinstance(got, InLine), got
        assert got.seconds > 20
        gate.open()
        await saying


@on_loop
async def test_a_line_that_is_left_is_left() -> None:
    async with world(alone=True) as the:
        board = the.chat.board = Board(Recorder(None), Policy(), lambda _: Limits(streams=1))
        ticket = await board.admit(the.chat.provider, 1)
        saying = asyncio.ensure_future(the.say())
        await until(lambda: any(isinstance(each, Queued) for each in the.events))
        saying.cancel()
        await asyncio.wait({saying}, timeout=5)
        standing = (await board.standings([the.chat.provider]))["box"]
        assert (standing.streams, standing.queue) == (1, 0)
        board.cancelled(ticket)  # type: ignore[arg-type]
    assert the.box.requests == []


@on_loop
async def test_who_stops_reading_at_the_door_leaves_no_stream_behind() -> None:
    async with world(rules=Rules(attempts=1)) as the:
        board = the.chat.board = Board(
            Recorder(None), Policy(row=1, cooldown=30), lambda _: Limits()
        )
        the.box.script(*error(500))
        the.spare.script(*answer("Hi"))
        await the.say()
        async with aclosing(the.chat.send("again")) as events:
            async for each in events:
                if isinstance(each, Notice):  # the box rests; the spare has been admitted
                    break
        spare = await the.chat.resolve("spare")  # type: ignore[misc]
        standing = (await board.standings([spare.provider]))["spare"]
    assert (standing.streams, standing.calls) == (0, 1)


# --- A second one beside it -----------------------------------------------------------------------


@asynccontextmanager
async def hedging(late: float = 0.05) -> AsyncIterator[World]:
    """A world in which the box is known well, and nearly always has a token before `late`."""
    async with world(rules=Rules(base=0.01, attempts=1)) as the:
        board = the.chat.board = Board(Recorder(None), Policy(slow=0), lambda _: Limits())
        the.chat.hedged = True
        the.chat.client.timers = Timers()
        for _ in range(20):
            ticket = await board.admit(the.chat.provider, 1)
            assert isinstance(ticket, Ticket)
            board.answered(ticket, late, late)
        yield the


def lost(the: World) -> list[Lost]:
    return [each for each in the.events if isinstance(each, Lost)]


@on_loop
async def test_who_is_in_time_is_asked_alone() -> None:
    async with hedging(late=30.0) as the:
        the.box.script(*answer("Hi"))
        turn = await the.say()
    assert (turn.text, the.asked, the.spare.requests) == ("Hi", ["box"], [])


@on_loop
async def test_who_is_late_is_outrun() -> None:
    async with hedging() as the:
        the.box.script(Hang())
        the.spare.script(*answer("Hi"))
        turn = await the.say()
        await until(the.box.gone.is_set)
        standings = await the.chat.board.standings([the.chat.provider])  # type: ignore[union-attr]
    assert (turn.text, turn.provider, turn.finish) == ("Hi", "spare", Finish.STOP)
    assert (the.asked, the.failures) == (["box", "spare"], [Kind.OUTRUN])
    assert [(one.provider, one.role) for one in turn.attempts] == [("box", "hedge"), ("spare", "")]
    assert turn.attempts[0].usage is not None
    assert turn.attempts[0].usage.estimated
    assert standings["box"].calls == 20  # being late is no failure


@on_loop
async def test_the_first_one_may_still_win() -> None:
    async with hedging() as the:
        gate = Gate()
        the.box.script(gate, *answer("Hi"))
        the.spare.script(Hang())
        saying = asyncio.ensure_future(the.say())
        await until(lambda: the.spare.requests)
        gate.open()
        turn = await saying
        await until(the.spare.gone.is_set)
    assert (turn.text, turn.provider, the.spoken) == ("Hi", "box", "Hi")
    assert [each.provider for each in lost(the)] == ["spare"]
    assert [(one.provider, one.role) for one in turn.attempts] == [("spare", "hedge"), ("box", "")]


@on_loop
async def test_the_second_one_fails_and_the_first_goes_on() -> None:
    async with hedging() as the:
        gate = Gate()
        the.box.script(gate, *answer("Hi"))
        the.spare.script(*error(500))
        saying = asyncio.ensure_future(the.say())
        await until(lambda: lost(the))
        gate.open()
        turn = await saying
    assert (turn.text, turn.provider) == ("Hi", "box")
    assert [each.failure.kind for each in lost(the) if each.failure] == [Kind.SERVER]


@on_loop
async def test_the_first_one_fails_and_the_second_goes_on() -> None:
    async with hedging() as the:
        gates = Gate(), Gate()
        the.box.script(gates[0], *error(500))
        the.spare.script(gates[1], *answer("Hi"))
        saying = asyncio.ensure_future(the.say())
        await until(lambda: the.spare.requests)
        gates[0].open()
        await until(lambda: the.failures)
        gates[1].open()
        turn = await saying
    assert (turn.text, turn.provider, the.failures) == ("Hi", "spare", [Kind.IN_STREAM])


@on_loop
async def test_one_request_in_twenty_at_most() -> None:
    async with hedging() as the:
        for _ in range(5):
            the.box.script(Wait(0.2), *answer("slow"))
            the.spare.script(*answer("quick"))
        said = [(await the.say()).text for _ in range(5)]
    assert said == ["quick", *["slow"] * 4]


@on_loop
async def test_stopping_a_race_stops_both() -> None:
    async with hedging() as the:
        the.box.script(Hang())
        the.spare.script(Hang())
        saying = asyncio.ensure_future(the.say())
        await until(lambda: the.spare.requests)
        saying.cancel()
        await asyncio.wait({saying}, timeout=5)
        await until(the.box.gone.is_set)
        await until(the.spare.gone.is_set)
        standings = await the.chat.board.standings([the.chat.provider])  # type: ignore[union-attr]
    assert standings["box"].streams == 0
