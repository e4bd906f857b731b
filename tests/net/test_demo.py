"""The demo provider through the real client: bytes, decoder, wire and timers, nothing patched but
the pace."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.chat import Delta, Finish, Message, Request, Usage
from holychat.core.failure import Failure, Kind
from holychat.core.provider import BUILT_IN, DEMO
from holychat.net import demo, demo_scripts, demo_texts
from holychat.net.client import Client, Timers
from holychat.net.demo_scripts import Answer, End, Said

if TYPE_CHECKING:
    from collections.abc import Coroutine

PROVIDER = next(provider for provider in BUILT_IN if provider.name == DEMO)
TEXTS = {
    name: value
    for name, value in vars(demo_texts).items()
    if name.isupper() and isinstance(value, str)
}
PAIRS = {
    name: value
    for name, value in vars(demo_texts).items()
    if name.isupper() and isinstance(value, tuple)
}


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PACE", 0.0)


at_once = pytest.mark.usefixtures("_at_once")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def user(*prompts: str) -> tuple[Message, ...]:
    return tuple(Message("user", prompt) for prompt in prompts)


async def collect(
    request: Request, timers: Timers | None = None
) -> tuple[list[Delta], Failure | None]:
    client = Client(timers)
    deltas: list[Delta] = []
    failure = None
    try:
        async with aclosing(client.stream(PROVIDER, request)) as stream:
            async for delta in stream:
                deltas.append(delta)  # noqa: PERF401 - those before a Failure must stay
    except Failure as error:
        failure = error
    finally:
        await client.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return deltas, failure


def ask(
    model: str,
    *messages: Message,
    timers: Timers | None = None,
    stream: bool = True,
    **params: object,
) -> tuple[Answer, Finish | None, Usage | None, Failure | None]:
    request = Request(model, messages or user("hi"), params, stream=stream)
    deltas, failure = run(collect(request, timers))
    return (
        Answer("".join(d.text for d in deltas), "".join(d.reasoning for d in deltas)),
        next((d.finish for d in deltas if d.finish), None),
        next((d.usage for d in deltas if d.usage), None),
        failure,
    )


def post(body: object, pace: float = 0.0) -> tuple[demo.Exchange, bytes]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def go() -> tuple[demo.Exchange, bytes]:
        exchange = await demo.exchange("POST", "/v1/chat/completions", content, pace=pace)
        data = b""
        while part := await exchange.read():
            data += part
        return exchange, data

    result: tuple[demo.Exchange, bytes] = run(go())
    return result


def body(model: str = "demo", **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "hi"}]
    return {"model": model, "messages": messages, "stream": True, **more}


# --- Each model, through the client -------------------------------------------------------------


@at_once
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["demo", "reasoning", "slow", "long-300"])
def test_good_models_end_well_and_send_their_script(model: str, stream: bool) -> None:
    said, finish, usage, failure = ask(model, stream=stream)
    row = demo.find(model)
    assert row is not None
    assert failure is None
    assert finish is Finish.STOP
    assert said == demo.answer(row, [Said("user", "hi")])
    assert usage is not None
    assert usage.completion == demo.tokens(said.text) + usage.reasoning
    assert (usage.reasoning > 0) == bool(said.reasoning) == (model == "reasoning")


@at_once
@pytest.mark.parametrize(
    ("model", "kind", "pair"),
    [
        ("cut", Kind.RESET, demo_texts.CUT),
        ("error", Kind.IN_STREAM, demo_texts.ERROR),
        ("stall", Kind.STALL, demo_texts.STALL),
        ("empty", Kind.EMPTY, ("", "")),
        ("429", Kind.RATE, ("", "")),
        ("500", Kind.SERVER, ("", "")),
        ("nonsense", Kind.MODEL, ("", "")),
    ],
)
def test_bad_models_fail_in_their_way(model: str, kind: Kind, pair: tuple[str, str]) -> None:
    said, _, usage, failure = ask(model, timers=Timers(first=0.3, gap=0.3))
    assert failure is not None
    assert failure.kind is kind
    assert said.text == pair[0]
    assert usage is None or model == "empty"


@at_once
@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("cut", Kind.RESET),
        ("error", Kind.IN_STREAM),
        ("stall", Kind.TIMEOUT_HEADERS),
        ("empty", Kind.EMPTY),
    ],
)
def test_bad_models_fail_without_streaming_too(model: str, kind: Kind) -> None:
    timers = Timers(headers=0.2, first=0.2)
    said, _, _, failure = ask(model, stream=False, timers=timers)
    assert failure is not None
    assert failure.kind is kind
    assert said.text == ""


@at_once
def test_429_says_how_long_to_wait() -> None:
    failure = ask("429")[-1]
    assert failure is not None
    assert (failure.status, failure.retry_after) == (429, 1.0)
    assert failure.code == "rate_limit_exceeded"


@at_once
def test_an_unknown_model_is_told_which_there_are() -> None:
    failure = ask("gpt-9")[-1]
    assert failure is not None
    assert failure.status == 404
    assert all(name in failure.what for name in ("gpt-9", *demo.listed()))


@at_once
@pytest.mark.parametrize("stream", [True, False])
def test_length_ends_at_its_limit(stream: bool) -> None:
    said, finish, _, failure = ask("length", stream=stream)
    assert failure is None
    assert finish is Finish.LENGTH
    assert said.text == demo_texts.LENGTH[0]


@at_once
def test_models_are_listed_and_each_is_known() -> None:
    async def go() -> list[str]:
        client = Client()
        try:
            return await client.models(PROVIDER)
        finally:
            await client.aclose()

    names = run(go())
    assert names[0] == PROVIDER.model == "demo"
    assert names == demo.listed()
    assert all(demo.find(name) or name in demo.REFUSALS for name in names)


@at_once
def test_the_model_is_labelled_and_its_label_is_accepted() -> None:
    deltas, _ = run(collect(Request("demo", user("hi"))))
    label = next(d.model for d in deltas if d.model)
    assert label == "demo/demo"
    assert run(collect(Request(label, user("hi"))))[1] is None


# --- What a request may ask ---------------------------------------------------------------------


@at_once
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["demo", "reasoning", "cut", "long-500"])
def test_max_tokens_bounds_reasoning_and_text_together(model: str, stream: bool) -> None:
    said, finish, usage, failure = ask(model, stream=stream, max_tokens=10)
    assert failure is None
    assert finish is Finish.LENGTH
    assert len(said.reasoning + said.text) == 40
    assert usage is not None
    assert usage.completion == 10


@at_once
def test_max_tokens_that_suffice_change_nothing() -> None:
    whole = ask("demo")[0].text
    assert ask("demo", max_tokens=demo.tokens(whole))[:2] == (Answer(whole), Finish.STOP)


def test_usage_comes_only_if_asked() -> None:
    _, without = post(body())
    _, included = post(body(stream_options={"include_usage": True}))
    assert b'"usage"' not in without
    assert included.count(b'"usage"') == 1
    assert without.endswith(b"data: [DONE]\n\n")
    assert included.endswith(b"data: [DONE]\n\n")


def test_prompt_tokens_grow_with_the_messages() -> None:
    def prompt(*contents: object) -> int:
        rows = [{"role": "user", "content": content} for content in contents]
        _, raw = post(body(stream=False, messages=rows))
        return int(json.loads(raw)["usage"]["prompt_tokens"])

    assert prompt("a" * 400) == 104
    assert prompt("a" * 400, "b") == 109
    assert prompt([{"type": "text", "text": "a" * 400}]) == 104


def test_chunks_have_openais_shape() -> None:
    exchange, raw = post(body())
    assert exchange.status == 200
    assert dict(exchange.headers)[b"content-type"].startswith(b"text/event-stream")
    *chunks, done, rest = raw.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    values = [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks]
    for value in values:
        assert set(value) == {"id", "model", "object", "created", "choices"}
        assert value["object"] == "chat.completion.chunk"
        assert set(value["choices"][0]) == {"index", "delta", "finish_reason"}
    assert values[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [v["choices"][0]["finish_reason"] for v in values[-2:]] == [None, "stop"]
    assert len({value["id"] for value in values}) == 1


def test_the_same_request_gets_the_same_bytes() -> None:
    assert post(body("reasoning"))[1] == post(body("reasoning"))[1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        json.dumps(body(messages=None)).encode(),
        json.dumps(body(messages=["x"])).encode(),
        *(json.dumps(body(max_tokens=n)).encode() for n in (0, -1, True, "9", 1.5)),
    ],
)
def test_a_bad_request_is_refused(content: bytes) -> None:
    exchange, raw = post(content)
    assert exchange.status == 400
    assert json.loads(raw)["error"]["message"]


def test_odd_messages_are_borne() -> None:
    rows: list[object] = [{}, {"role": 3, "content": 4}, {"role": "user", "content": "\ud800"}]
    rows.append({"role": "user", "content": "what did I say?"})
    exchange, raw = post(body(messages=rows, stream=False))
    assert exchange.status == 200
    assert "\ufffd" in json.loads(raw)["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/files", 404),
        ("GET", "/", 404),
    ],
)
def test_other_ways_lead_nowhere(method: str, path: str, status: int) -> None:
    assert demo.reply(method, path, b"").status == status


# --- Conversation -------------------------------------------------------------------------------


@at_once
def test_history_is_counted_and_quoted() -> None:
    messages = (
        Message("system", "Be brief."),
        Message("user", "My cat is {called} Mäx\nand 小猫"),
        Message("assistant", "Hello Mäx."),
        Message("user", "What did I say?"),
    )
    text = ask("demo", *messages)[0].text
    assert "**4 messages**: 1 from the system prompt, 2 from you, 1 of mine" in text
    assert "> My cat is {called} Mäx\n> and 小猫" in text
    assert "first message" in ask("demo", *user("do you remember?"))[0].text


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("write some Python code", demo_texts.CODE),
        ("compare prices in a table", demo_texts.TABLE),
        ("which models are there", demo_texts.TABLE),
        ("in Chinese, please", demo_texts.CJK),
        ("日本語", demo_texts.CJK),
        ("你好!", demo_texts.CJK),
        ("안녕", demo_texts.CJK),
        ("Why is that?", demo_texts.REASONING),
        ("show me everything", demo_texts.EVERYTHING),
        ("How do I set my key?", demo_texts.SETUP),
        ("HELP", demo_texts.SETUP),
        ("Hello, how are you?", demo_texts.GREETING),
        ("hi", demo_texts.GREETING),
    ],
)
def test_words_choose_the_answer(prompt: str, text: str) -> None:
    later = demo_scripts.by_prompt([Said("user", "x"), Said("user", prompt)])
    first = demo_scripts.by_prompt([Said("user", prompt)])
    assert later.text == text
    assert first.text.endswith(text)
    opening = re.split(r"[.:]", first.text, maxsplit=1)[0]
    assert "I am a script, not a model" in opening


def test_words_are_whole_words() -> None:
    tour = demo_scripts.by_prompt([Said("user", "x"), Said("user", "this shifts")])
    assert tour.text == demo_texts.EVERYTHING


def test_a_tour_shows_everything_and_goes_round() -> None:
    turns = [demo_scripts.by_prompt([Said("user", "next")] * n) for n in range(1, 15)]
    shown = [turn.text for turn in turns]
    assert len(set(shown[:7])) == 7
    assert shown[0] == demo_texts.GREETING
    assert shown[7:13] == shown[1:7]
    assert sum(bool(turn.reasoning) for turn in turns[:7]) == 1


@at_once
@pytest.mark.parametrize("model", ["cut", "stall", "error", "length"])
@pytest.mark.parametrize("asked", [True, False])
def test_a_broken_answer_is_made_whole_when_continued(model: str, asked: bool) -> None:
    before, after = PAIRS[model.upper()]
    history = (*user("go"), Message("assistant", before))
    if asked:
        history += user("Continue exactly where you left off.")
    said, finish, _, failure = ask(model, *history)
    assert failure is None
    assert finish is Finish.STOP
    assert said.text == after


def test_any_prefix_is_continued_without_a_seam() -> None:
    model = demo.MODELS["demo"]
    history = [Said("user", "python")]
    whole = demo.answer(model, history).text
    for at in range(1, len(whole), 37):
        begun = [*history, Said("assistant", whole[:at])]
        assert whole[:at] + demo.answer(model, begun).text == whole
        assert demo.answer(model, [*begun, Said("user", "new: hi")]).text == demo_texts.GREETING


def test_a_new_question_after_a_cut_is_no_continuation() -> None:
    history = [Said("user", "go"), Said("assistant", demo_texts.CUT[0]), Said("user", "again")]
    assert demo.answer(demo.MODELS["cut"], history).end is End.CUT


# --- Pace ---------------------------------------------------------------------------------------


def waits(model: str, prompt: str = "hi") -> list[tuple[float, bytes]]:
    request = body(model, messages=[{"role": "user", "content": prompt}])
    reply = demo.reply("POST", "/v1/chat/completions", json.dumps(request).encode())
    steps = [(s.wait, s.data) for s in reply.steps if isinstance(s.data, bytes)]
    return [(reply.wait + steps[0][0], steps[0][1]), *steps[1:]]


def test_the_pace_is_human() -> None:
    steps = waits("demo")
    assert 0.2 <= steps[0][0] <= 0.3
    between = [wait for wait, data in steps[1:] if b'"content":' in data]
    assert all(0.025 <= wait <= 0.04 for wait in between)
    assert len(set(between)) > 10  # no metronome


def test_slow_keeps_the_line_alive_for_four_seconds() -> None:
    steps = waits("slow")
    assert [data for _, data in steps[:4]] == [b": keep-alive\n\n"] * 4
    assert 3.9 < sum(wait for wait, _ in steps[:5]) < 4.5
    assert all(wait >= 0.2 for wait, data in steps[5:] if b'"content":' in data)


def test_long_comes_at_400_words_a_second() -> None:
    assert 4.0 < sum(wait for wait, _ in waits("long-2000")) < 6.0


@pytest.mark.parametrize("text", [*TEXTS.values(), demo_scripts.long(3000), "", " ", "\n a\n\n"])
def test_tokens_join_to_the_text(text: str) -> None:
    tokens = [token for _, token in demo.paced(text, demo.Speed(0, 0, 0))]
    assert "".join(tokens) == text
    assert all(len(token.split()) <= 2 for token in tokens)


@given(st.text())
def test_tokens_join_to_any_text(text: str) -> None:
    tokens = [token for _, token in demo.paced(text, demo.Speed(0, 0, 0))]
    assert "".join(tokens) == text
    assert "" not in tokens


def test_wide_text_comes_in_pieces() -> None:
    tokens = [token for _, token in demo.paced("这一行故意写得很长" * 20, demo.Speed(0, 0, 0))]
    assert max(map(len, tokens)) <= 4


# --- Cancelling, closing, ending ----------------------------------------------------------------


def test_cancelling_at_any_time_leaves_nothing_behind() -> None:
    async def go(seconds: float) -> None:
        task = asyncio.ensure_future(collect(Request("demo", user("hi"))))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    for seconds in (0.0, 0.02, 0.1, 0.3):
        run(go(seconds))


def _begin(model: str, pace: float) -> Coroutine[Any, Any, demo.Exchange]:
    content = json.dumps(body(model)).encode()
    return demo.exchange("POST", "/v1/chat/completions", content, pace=pace)


@pytest.mark.parametrize("pending", [True, False])
def test_abort_reaches_the_reader(pending: bool) -> None:
    async def go() -> None:
        exchange = await _begin("stall", 0.0)
        assert await exchange.read()
        fault = Failure(Kind.STALL, "too long")
        if pending:
            reading = asyncio.ensure_future(exchange.read())
            await asyncio.sleep(0.01)
            assert not reading.done()
            exchange.abort(fault)
        else:
            exchange.abort(fault)
            reading = asyncio.ensure_future(exchange.read())
        with pytest.raises(Failure) as caught:
            await reading
        assert caught.value is fault

    run(go())


def test_after_close_a_read_is_a_reset_and_after_the_end_it_is_the_end() -> None:
    async def go() -> None:
        exchange = await _begin("demo", 1.0)
        exchange.close()
        with pytest.raises(Failure) as caught:
            await exchange.read()
        assert caught.value.kind is Kind.RESET
        exchange = await _begin("demo", 0.0)
        while await exchange.read():
            pass
        exchange.drain()
        exchange.close()
        assert await exchange.read() == b""

    run(go())


def test_a_late_reader_finds_what_came_meanwhile() -> None:
    async def go() -> None:
        exchange = await _begin("demo", 1.0)
        assert await exchange.read()
        await asyncio.sleep(0.4)
        assert (await exchange.read()).count(b"data: ") > 5

    run(go())


# --- Long ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [1, 2, 11, 12, 13, 57, 100, 2000, 200_000])
def test_long_has_its_number_of_words(words: int) -> None:
    text = demo_scripts.long(words)
    assert len(text.split()) == words
    assert text.count("```") % 2 == 0
    assert text == demo_scripts.long(words)


def test_long_is_varied_and_bounded() -> None:
    text = demo_scripts.long(2000)
    for mark in ("## ", "- ", "  - ", "```python", "| ", "> ", "**", "`", "数据"):
        assert mark in text
    blocks = text.split("\n\n")
    assert len(set(blocks)) > len(blocks) * 0.9
    for name, words in (("long-0", 1), ("long-200001", 200_000), ("long-" + "9" * 18, 200_000)):
        model = demo.find(name)
        assert model is not None
        assert len(model.script([]).text.split()) == words
    for name in ("long-", "long--1", "long-x", "long-١", "long-1\n", "long-" + "9" * 5000):
        assert demo.find(name) is None


@at_once
def test_the_longest_comes_through_whole() -> None:
    said, finish, _, _ = ask("long-200000")
    assert finish is Finish.STOP
    assert said.text == demo_scripts.long(200_000)


# --- The texts ----------------------------------------------------------------------------------

COMMANDS = {
    "/help", "/quit", "/clear", "/new", "/model", "/provider", "/system", "/retry", "/undo",
    "/edit", "/copy", "/set", "/tokens", "/multiline", "/reasoning",
}  # fmt: skip
CALLS = {"setup", "ask", "config", "models", "providers", "doctor"}


@pytest.mark.parametrize("text", [*TEXTS.values(), *map("".join, PAIRS.values())])
def test_texts_are_whole_markdown_and_promise_only_what_is(text: str) -> None:
    from markdown_it import MarkdownIt

    assert text.strip()
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    assert tokens
    fences = [token for token in tokens if token.type == "fence"]
    assert text.count("```") == 2 * len(fences)
    for fence in fences:
        assert fence.info in ("python", "sh")
        if fence.info == "python":
            ast.parse(fence.content)
    for code in re.findall(r"`(/[a-z]+)", text):
        assert code in COMMANDS
    for call in re.findall(r"`(?:[^`\n]*\| )?holychat ([a-z]+)", text):
        assert call in CALLS


def test_the_code_in_the_answers_runs(tmp_path: Any) -> None:
    source = re.findall(r"```python\n(.*?)```", demo_texts.CODE, re.DOTALL)[0]
    script = tmp_path / "words.py"
    script.write_text(source, encoding="utf-8")
    (tmp_path / "text").write_text("tea naïve tea 数据 x_1\n", encoding="utf-8")
    command = [sys.executable, "-X", "utf8", str(script), str(tmp_path / "text")]
    out = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    assert out.splitlines()[:3] == ["     2  tea", "     1  naïve", "     1  数据"]
    sums = re.findall(r" {3}```python\n(.*?)```", demo_texts.REASONING, re.DOTALL)[0]
    exec(re.sub(r"^ {3}", "", sums, flags=re.MULTILINE), {})


def test_the_table_names_every_model() -> None:
    assert all(f"`{name}`" in demo_texts.TABLE for name in demo.listed())


def test_httpx_is_not_imported() -> None:
    code = "import sys, holychat.net.demo; sys.exit('httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
