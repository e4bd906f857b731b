"""Long conversations against a server that has a window and its own tokenizer: what is sent, what
is left out, what is learned of it, and what it costs.

The server counts with DeepSeek's vocabulary, which the estimate has never seen, and refuses what
does not fit. Texts are those of tests/data/turns, in many languages and kinds, cut short.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from holychat.core import context
from holychat.core.chat import Failed, Finish, Notice, Turn
from holychat.core.context import Known
from holychat.core.failure import Kind, UsageError
from holychat.core.provider import Provider, Secret
from holychat.engine.context import Fitting
from holychat.engine.conversation import Chat, Exchange
from holychat.engine.failover import Candidate
from holychat.engine.summary import summarise
from holychat.net.client import Client
from holychat.store import side
from holychat.store.conversations import branch, latest
from holychat.store.db import Database
from holychat.store.recorder import Recorder
from tests import provider as loopback
from tests.core.turns import deepseek, turns
from tests.provider import DONE, Gate, Status, Step, chunk, error, on_loop, usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from holychat.core.chat import Event

WINDOW = 8000
ANSWER = 500  # max_tokens
LONG = 2000  # turns
NAMED = (  # how servers say it
    "This model's maximum context length is {window} tokens. However, you requested {sum} tokens"
    " ({sent} in the messages, {answer} in the completion). Please reduce the length."
)
YES = itertools.repeat("Yes.")
UNNAMED = "the request exceeds the available context size, try increasing it"


@cache
def tokens(text: str) -> int:
    return deepseek()(text)


class Windowed(loopback.Provider):
    """A server with a window; `refusals` counts what did not fit, `summaries` who asked for one."""

    def __init__(self, window: int = WINDOW, said: str = NAMED) -> None:
        super().__init__()
        self.window = window
        self.said = said
        self.answers: Iterator[str] = YES
        self.refusals = 0
        self.summaries = 0
        self.fails = False  # at summaries
        self.largest = 0
        self.sent: list[list[str]] = []  # the contents of what was answered, but for summaries

    def _next(self, seen: loopback.Seen) -> list[Step]:
        if seen.method == "GET":
            return super()._next(seen)
        body = seen.json
        seen.body = b""
        contents = [message["content"] for message in body["messages"]]
        sent = sum(tokens(one) + 4 for one in contents) + 3
        answer = body.get("max_tokens", 0)
        if sent + answer > self.window:
            self.refusals += 1
            said = self.said.format(window=self.window, sum=sent + answer, sent=sent, answer=answer)
            what = {"message": said, "code": "context_length_exceeded"}
            head = Status(400, {"content-type": "application/json"})
            return [head, json.dumps({"error": what}).encode()]
        self.largest = max(self.largest, sent + answer)
        if contents[0].startswith(context.ASKED[:40]):
            self.summaries += 1
            if self.fails:
                return error(500, "no summaries today")
            text = f"Summary {self.summaries}. " + "They spoke of many things. " * 20
        else:
            self.sent.append(contents)
            text = next(self.answers)
        return [chunk(text), chunk(finish="stop"), usage(sent, tokens(text)), DONE]


@dataclass
class Talk:
    """A conversation that is going on, and all that was said beside it."""

    chat: Chat
    server: Windowed
    notices: list[str] = field(default_factory=list)
    failures: list[Kind] = field(default_factory=list)

    async def say(self, prompt: str) -> Turn:
        async with aclosing(self.chat.send(prompt)) as events:
            async for event in events:
                self._hear(event)
        assert self.chat.latest is not None
        return self.chat.latest

    def _hear(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.text)
        elif isinstance(event, Failed):
            self.failures.append(event.failure.kind)

    def cuts(self) -> int:
        """How often what is sent did not begin with all that was sent before."""
        pairs = itertools.pairwise(self.server.sent)
        return sum(after[: len(before)] != before for before, after in pairs)


@asynccontextmanager
async def talking(
    policy: str = "trim",
    path: Path | None = None,
    window: int | None = WINDOW,
    real: int = WINDOW,
    said: str = NAMED,
    **more: Any,
) -> AsyncIterator[Talk]:
    async with Windowed(real, said) as server:
        client, recorder = Client(), Recorder(str(path) if path else None)
        box = Provider("box", server.base_url, "m", Secret("sk-0123456789-secret"))
        chat = Chat(client, box, "m", "Be kind.", {"max_tokens": ANSWER}, recorder=recorder)
        chat.fitting = Fitting(policy, sizes=lambda *_: (window, None), **more)
        try:
            yield Talk(chat, server)
        finally:
            await client.aclose()
            await asyncio.to_thread(recorder.close)


def texts() -> Iterator[tuple[str, str]]:
    """Prompts and answers, no two the same."""
    for number, turn in enumerate(itertools.cycle(turns()), 1):
        yield f"{number}: {turn.user[:160]}", f"{number}. {turn.answer[: 120 + number % 300]}"


async def converse(talk: Talk, count: int) -> list[Turn]:
    prompts, answers = itertools.tee(itertools.islice(texts(), count))
    talk.server.answers = itertools.chain((answer for _, answer in answers), YES)
    return [await talk.say(prompt) for prompt, _ in prompts]


# --- Two thousand turns ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["trim", "summarize"])
@on_loop
async def test_2000_turns_and_never_an_error(tmp_path: Path, policy: str) -> None:
    async with talking(policy, tmp_path / "s.db") as talk:
        ended = await converse(talk, LONG)
        server, chat = talk.server, talk.chat
        assert {turn.finish for turn in ended} == {Finish.STOP}
        assert (server.refusals, talk.failures) == (0, [])
        assert server.largest > WINDOW * 0.75  # of use it was made
        assert len(chat.exchanges) == LONG
        total = sum(tokens(one.prompt) + tokens(one.turn.text) + 8 for one in chat.exchanges)
        stride = (WINDOW - ANSWER) / context.STRIDES
        print(f"{policy}: {total} tokens, {talk.cuts()} cuts, {server.summaries} summaries,")
        print(f"{server.refusals} refusals, at most {server.largest} of {WINDOW} tokens")
        assert talk.cuts() <= total / stride + 2
        assert all(sent[0] == "Be kind." for sent in server.sent)
        if policy == "trim":
            assert len(talk.notices) == talk.cuts()
            assert server.summaries == 0
        else:
            assert server.summaries == talk.cuts()
            assert server.sent[-1][1].startswith(context.BEFORE + f"Summary {server.summaries}.")
            roles = [one.role for turn in ended for one in turn.attempts]
            assert roles.count("summary") == server.summaries


@on_loop
async def test_2000_turns_that_stop() -> None:
    async with talking("stop") as talk:
        prompts, answers = itertools.tee(itertools.islice(texts(), LONG))
        talk.server.answers = (answer for _, answer in answers)
        told = [await refusal(talk, prompt) for prompt, _ in prompts]
        assert len(talk.server.requests) == len(talk.chat.exchanges) == told.count(None)
        assert (talk.server.refusals, talk.failures, talk.notices) == (0, [], [])
        refused = [one for one in told if one is not None]
        assert len(refused) > LONG * 0.9
        assert all("too long for m on box: 8,000 tokens" in one.what for one in refused)
        assert all("/compact" in one.hint for one in refused)


async def refusal(talk: Talk, prompt: str) -> UsageError | None:
    """Why it was not sent; None where it was."""
    try:
        await talk.say(prompt)
    except UsageError as told:
        return told
    return None


# --- The same where nobody knows the window -------------------------------------------------------


@pytest.mark.parametrize("said", [NAMED, UNNAMED], ids=["named", "unnamed"])
@pytest.mark.parametrize("policy", ["trim", "summarize"])
@on_loop
async def test_what_an_error_names_is_learned(policy: str, said: str) -> None:
    known: dict[tuple[str, str], Known] = {}
    async with talking(policy, window=None, said=said, known=known) as talk:
        ended = await converse(talk, 300)
        assert {turn.finish for turn in ended} == {Finish.STOP}
        assert talk.failures == [Kind.CONTEXT] * talk.server.refusals
        assert talk.server.refusals == 1
        (again,) = (turn for turn in ended if any(one.failure for one in turn.attempts))
        roles = [(one.role, one.provider, one.finish) for one in again.attempts]
        assert roles[-1] == ("", "box", Finish.STOP)
        assert ("", "box", Finish.FAILED) in roles
        assert talk.cuts() < 20
    if said is NAMED:
        assert known["box", "m"].window == WINDOW
    assert WINDOW / 2 < known["box", "m"].window <= WINDOW
    async with talking(policy, window=None, said=said, known=known) as talk:
        await converse(talk, 100)
        assert talk.server.refusals == 0


@on_loop
async def test_a_second_such_error_ends_the_turn() -> None:
    async with talking(window=None, real=2000) as talk:
        await converse(talk, 5)
        turn = await talk.say("too long " * 4000)
        assert turn.failure is not None
        assert (turn.finish, turn.failure.kind) == (Finish.FAILED, Kind.CONTEXT)
        assert talk.server.refusals == 2
        assert talk.chat.failed == "too long " * 4000
        assert (await talk.say("short")).finish is Finish.STOP
        turn = await talk.say("too long " * 4000)  # it is tried, alone: we may be wrong
        assert talk.server.refusals == 3
        assert turn.finish is Finish.FAILED


@on_loop
async def test_with_stop_an_error_is_the_end_of_the_turn_and_teaches() -> None:
    async with talking("stop", window=None) as talk:
        while not talk.server.refusals:
            turn = await talk.say("And a few more words to fill the window. " * 20)
        assert turn.failure is not None
        assert turn.failure.kind is Kind.CONTEXT
        assert "context.policy" in turn.failure.hint
        assert await refusal(talk, turn.text or talk.chat.failed) is not None
        assert talk.server.refusals == 1


# --- What we believe of a token -------------------------------------------------------------------


@on_loop
async def test_a_tokenizer_that_needs_far_more_is_followed_before_it_is_too_late() -> None:
    async with talking() as talk:
        text = "ḝ̵̨̛̗ ẇ̶̢ȯ̶r̷͉̔d̸̰͝ s̷ " * 12
        assert tokens(text) > 1.3 * context.weigh(text)
        for _ in range(150):
            assert (await talk.say(text)).finish is Finish.STOP
        assert talk.server.refusals == 0
        assert talk.chat.fitting.known["box", "m"].scale > 1.3


@on_loop
async def test_what_was_thought_to_fit_and_did_not() -> None:
    async with talking() as talk:
        await converse(talk, 30)
        odd = "ḝ̵̨̛̗ ẇ̶̢ȯ̶r̷͉̔d̸̰͝ s̷ " * 170
        assert tokens(odd) < WINDOW - ANSWER < tokens(odd) + 1500
        turn = await talk.say(odd)
        assert turn.finish is Finish.STOP
        assert talk.server.refusals <= 1


# --- What stays, and what another process sends ---------------------------------------------------


@pytest.mark.parametrize("policy", ["trim", "summarize"])
@on_loop
async def test_another_process_goes_on_with_the_same_bytes(tmp_path: Path, policy: str) -> None:
    path, known = tmp_path / "s.db", dict[tuple[str, str], Known]()
    async with talking(policy, path, known=known) as talk:
        await converse(talk, 100)
        talk.chat.pin(3)
        talk.chat.pin(80)
        turns_before = len(talk.server.sent)
        await talk.say("the last one")
        before, plan = talk.server.sent[-1], talk.chat.fitting.plan
        assert turns_before == 100
        assert plan.cut > 4
        answer = talk.chat.exchanges[-1].turn.text
    with closing(Database(str(path))) as db:
        found = latest(db)
        kept = branch(db, found)
        beside = side.beside(db, found.id, kept)
    async with talking(policy, path, known=known) as talk:
        talk.chat.enter(found, kept, *beside)
        assert [at for at, one in enumerate(talk.chat.exchanges) if one.pinned] == [3, 80]
        await talk.say("and one more")
        assert talk.server.sent[0] == [*before, answer, "and one more"]
        texts = [one.prompt for one in talk.chat.exchanges]
        assert texts[3] in before
        assert texts[4] not in before
        assert talk.server.summaries == 0  # the one that is kept is used


@on_loop
async def test_a_summary_is_of_the_former_one_and_what_came_since(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with talking("summarize", path) as talk:
        await converse(talk, 200)
        assert talk.server.summaries > 3
        summary, identity = talk.chat.summary, talk.chat.id
        assert summary is not None
        assert summary.text.startswith(f"Summary {talk.server.summaries}.")
        assert len([one for one in talk.notices if "summarising" in one]) == talk.server.summaries
    with closing(Database(str(path))) as db:
        kept = side.summaries(db, identity)
        assert len(kept) == talk.server.summaries
        assert kept[-1].text == summary.text
        rows = db.rows("SELECT prompt_tokens, completion_tokens FROM attempts WHERE role='summary'")
        assert len(rows) == len(kept)
        assert all(row["prompt_tokens"] > 100 and row["completion_tokens"] > 50 for row in rows)
        assert db.check() == []


@on_loop
async def test_without_a_summary_it_is_trimmed_and_said() -> None:
    async with talking("summarize") as talk:
        talk.server.fails = True
        ended = await converse(talk, 100)
        assert {turn.finish for turn in ended} == {Finish.STOP}
        assert talk.server.refusals == 0
        assert any(
            "no summary could be made (box: no summaries today" in one for one in talk.notices
        )
        assert talk.chat.summary is None
        talk.server.fails = False
        await talk.say("once more")
        assert talk.chat.summary is not None


@on_loop
async def test_another_model_summarises_in_as_many_pieces_as_it_takes() -> None:
    async with Windowed(1500) as cheap, talking("summarize") as talk:
        other = Provider("cheap", cheap.base_url, "s", Secret("sk-cheap-0123456789"))

        async def summariser(_: Chat) -> Candidate:
            return Candidate(other, "s")

        fitting = talk.chat.fitting
        fitting.summariser = summariser
        fitting.sizes = lambda provider, _: (1500 if provider.name == "cheap" else WINDOW, None)
        await converse(talk, 100)
        assert talk.server.summaries == cheap.refusals == 0
        assert cheap.summaries > 2
        assert talk.chat.summary is not None
        talk.chat.pinned = True  # nobody else is asked, so nobody else reads it
        done = cheap.summaries
        await summarise(talk.chat, talk.chat.exchanges, 95, [])
        assert cheap.summaries == done
        assert talk.server.summaries > 0


@on_loop
async def test_a_summary_that_is_stopped_is_paid_for(tmp_path: Path) -> None:
    async with talking("summarize", tmp_path / "s.db") as talk:
        gate = Gate()
        before = talk.server._next

        def held(seen: loopback.Seen) -> list[Step]:
            steps = before(seen)
            return [chunk("Half a"), gate, DONE] if talk.server.summaries else steps

        talk.server._next = held  # type: ignore[method-assign]
        task = asyncio.ensure_future(converse(talk, 100))
        await gate.reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        turn = talk.chat.latest
        assert turn is not None
        assert (turn.finish, turn.attempts[0].role) == (Finish.INTERRUPTED, "summary")
        assert talk.chat.failed  # its prompt
        assert talk.chat.summary is None


@on_loop
async def test_taking_back_more_than_the_summary_knows() -> None:
    async with talking("summarize") as talk:
        await converse(talk, 100)
        summary = talk.chat.summary
        assert summary is not None
        while len(talk.chat.exchanges) >= summary.turns:
            talk.chat.take_back()
        await talk.say("from here")
        assert not talk.server.sent[-1][1].startswith(context.BEFORE)


@on_loop
async def test_a_retry_of_the_last_one_is_fitted_too() -> None:
    async with talking() as talk:
        await converse(talk, 100)
        prompt = talk.chat.exchanges[-1].prompt
        async with aclosing(talk.chat.send(prompt, again=True)) as events:
            async for _ in events:
                pass
        assert talk.server.sent[-1] == talk.server.sent[-2]
        assert len(talk.chat.exchanges) == 100


def test_how_full_it_is() -> None:
    def made(window: int | None, count: int) -> float | None:
        box = Provider("box", "http://127.0.0.1:9/v1")
        chat = Chat(None, box, "m")  # type: ignore[arg-type]
        chat.fitting = Fitting(sizes=lambda *_: (window, None))
        one = Exchange("word " * 100, Turn("word " * 100, "", Finish.STOP, "box", "m"))
        chat.exchanges = [replace(one) for _ in range(count)]
        return chat.fitting.fill(chat)

    assert made(None, 5) is None
    empty, some, much = made(8000, 0), made(8000, 10), made(8000, 200)
    assert empty is not None
    assert some is not None
    assert much is not None
    assert empty < 0.01 < 0.3 < some < 0.6 < much <= 1


def test_the_smaller_of_two_windows_counts_and_max_tokens_is_kept_free() -> None:
    box = Provider("box", "http://127.0.0.1:9/v1")
    chat = Chat(None, box, "m")  # type: ignore[arg-type]
    fitting = chat.fitting = Fitting(sizes=lambda *_: (8000, 1000))
    assert fitting.room(chat, box, "m") == (8000, 1000)
    fitting.known["box", "m"] = Known(4000, 1.0)
    assert fitting.room(chat, box, "m") == (4000, 1000)
    chat.params["max_tokens"] = 300
    assert fitting.room(chat, box, "m") == (4000, 300)
    fitting.reserve = 50
    assert fitting.room(chat, box, "m") == (4000, 50)
