"""`holychat ask` and the pipe, as real processes against real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests import process
from tests.process import KEY, PIPE, Place
from tests.provider import (
    DONE,
    Cut,
    Gate,
    Hang,
    Provider,
    Raw,
    Reset,
    Status,
    answer,
    chunk,
    error,
    event,
    on_loop,
    until,
    usage,
)
from tests.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.provider import Step

FINISH = chunk(finish="stop")
H = f"{sys.executable} -m holychat"
JSON = {"content-type": "application/json"}
LINUX = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
TURN_KEYS = [
    "text", "reasoning", "provider", "model", "served_model", "finish", "complete", "refusal",
    "usage", "timings", "error", "seams", "attempts",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def prompt(server: Provider) -> str:
    """What the server was asked, in the only request that it got."""
    (seen,) = [seen for seen in server.requests if seen.method == "POST"]
    (message,) = [each for each in seen.json["messages"] if each["role"] == "user"]
    return str(message["content"])


# --- The prompt -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["ask", "hi"], None, "hi"),
        (["ask", "two", "words"], None, "two words"),
        (["ask", "why?"], b"line 1\nline 2\n", "why?\n\nline 1\nline 2\n"),
        (["ask", "-"], b"all of it\n", "all of it\n"),
        (["ask"], b"all of it\n", "all of it\n"),
        ([], b"all of it\n", "all of it\n"),
        (["-"], b"all of it\n", "all of it\n"),
        (["two words"], None, "two words"),
        (["two words"], b"and more", "two words\n\nand more"),
        (["two\nlines"], None, "two\nlines"),
        (["ask", "hi"], b"", "hi"),
        (["ask", "hi"], b" \n\n", "hi"),
        (["ask", "hi"], b"\xef\xbb\xbfna\xc3\xafve", "hi\n\nnaïve"),
        (["ask", "hi"], b"bad \xff byte", "hi\n\nbad � byte"),
        (["ask", "--", "-v is what?"], None, "-v is what?"),
        (["ask", "--no-stdin", "hi"], b"never read", "hi"),
        (["ask", b"bad \xff byte"], None, "bad � byte"),
    ],
)
@on_loop
async def test_what_is_asked(
    place: Place, arguments: list[str], stdin: bytes | None, expected: str
) -> None:
    async with Provider() as server:
        server.script(*answer("Hello there"))
        place.provider(server.base_url)
        ended = await place.run(*arguments, stdin=process.DEVNULL if stdin is None else stdin)
    assert (ended.code, ended.out) == (0, b"Hello there\n")
    assert ("not all UTF-8" in ended.err) == (stdin is not None and b"\xff" in stdin)
    assert prompt(server) == expected


@on_loop
async def test_a_large_stdin_is_sent_whole(place: Place) -> None:
    text = "".join(f"line {number} 数\n" for number in range(60_000))
    async with Provider() as server:
        server.script(*answer("ok"))
        place.provider(server.base_url)
        ended = await place.run("ask", "count", stdin=text.encode())
    assert ended.code == 0
    assert prompt(server) == f"count\n\n{text}"


@on_loop
async def test_an_idle_stdin_is_left_after_a_second(place: Place) -> None:
    async with Provider() as server:
        server.script(*answer("ok"))
        place.provider(server.base_url)
        async with place.start("ask", "hi", stdin=PIPE) as running:
            ended = await running.end_with_open_stdin()
    assert (ended.code, ended.out) == (0, b"ok\n")
    assert "nothing came on stdin for 1 s" in ended.err
    assert prompt(server) == "hi"


@on_loop
async def test_no_stdin_does_not_wait_for_an_idle_one(place: Place) -> None:
    async with Provider() as server:
        server.script(*answer("ok"))
        place.provider(server.base_url)
        async with place.start("ask", "--no-stdin", "hi", stdin=PIPE) as running:
            ended = await running.end_with_open_stdin()
    assert ended == process.Ended(0, b"ok\n", "")


@on_loop
async def test_a_slow_stdin_is_read_to_its_end(place: Place) -> None:
    async with Provider() as server:
        server.script(*answer("ok"))
        place.provider(server.base_url)
        async with place.start("ask", "hi", stdin=PIPE) as running:
            stdin = running.process.stdin
            assert stdin is not None
            await asyncio.sleep(0.3)
            stdin.write(b"first ")
            await asyncio.sleep(1.3)  # longer than the patience for the first byte
            stdin.write(b"last")
            stdin.close()
            ended = await running.end()
    assert ended == process.Ended(0, b"ok\n", "")
    assert prompt(server) == "hi\n\nfirst last"


@on_loop
async def test_a_stdin_that_somebody_made_non_blocking_is_read_to_its_end(place: Place) -> None:
    here, there = os.pipe()
    os.set_blocking(here, False)
    async with Provider() as server:
        server.script(*answer("ok"))
        place.provider(server.base_url)
        try:
            async with place.start("ask", stdin=here) as running:
                os.write(there, b"first ")
                await asyncio.sleep(0.5)
                os.write(there, b"last")
                os.close(there)
                ended = await running.end()
        finally:
            os.close(here)
    assert ended == process.Ended(0, b"ok\n", "")
    assert prompt(server) == "first last"


@pytest.mark.parametrize("line", ["$H ask hi <&-", "$H ask hi < /dev/null"])
@on_loop
async def test_a_closed_or_empty_stdin_is_no_prompt(place: Place, line: str) -> None:
    async with Provider() as server:
        server.script(*answer("ok"))
        place.provider(server.base_url)
        ended = await place.shell(line)
    assert ended == process.Ended(0, b"ok\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demmo"], "Did you mean 'demo'?"),
        (["ask", "--jason", "hi"], "--json"),
        (["ask"], "nothing to ask"),
        ([], "nothing to ask"),
        (["ask", "-"], "nothing to ask"),
        (["ask", "--json", "--jsonl", "hi"], "exclude each other"),
        (["ask", "-o", "temperature", "hi"], "KEY=VALUE"),
        (["ask", "-o", "stream=false", "hi"], "stream"),
        (["ask", "--reasoning", "maybe", "hi"], "show, hide"),
        (["ask", "--timeout", "0", "hi"], "--timeout"),
        (["config", "two words"], "two words"),
    ],
)
@on_loop
async def test_a_wrong_command_line(place: Place, arguments: list[str], words: str) -> None:
    ended = await place.run(*arguments)
    assert (ended.code, ended.out) == (2, b"")
    assert words in ended.err
    assert "Traceback" not in ended.err


# --- stdout ---------------------------------------------------------------------------------------


@on_loop
async def test_words_are_out_before_the_server_sends_the_rest(place: Place) -> None:
    gate = Gate()
    async with Provider() as server:
        server.script(chunk("first words"), gate, chunk(" and the last"), FINISH, DONE)
        place.provider(server.base_url)
        async with place.start("ask", "hi") as running:
            await running.until(b"first words")
            assert running.out == b"first words"
            gate.open()
            ended = await running.end()
    assert ended == process.Ended(0, b"first words and the last\n", "")


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("no end", b"no end\n"),
        ("one end\n", b"one end\n"),
        ("two ends\n\n", b"two ends\n\n"),
        ("  indented\r\n", b"  indented\r\n"),
        ("a\u2028b\x85c\x0bd", "a\u2028b\x85c\x0bd\n".encode()),
        ("\x1b[31mred\x1b]0;title\x07\x1b[6n\x00", b"\x1b[31mred\x1b]0;title\x07\x1b[6n\x00\n"),
        ("数据 🎄👩\u200d👩 a\u0308", "数据 🎄👩\u200d👩 a\u0308\n".encode()),
    ],
)
@on_loop
async def test_a_pipe_gets_the_text_verbatim(place: Place, text: str, out: bytes) -> None:
    async with Provider() as server:
        server.script(*(chunk(character) for character in text), FINISH, DONE)
        place.provider(server.base_url)
        ended = await place.run("ask", "hi")
    assert ended == process.Ended(0, out, "")


@on_loop
async def test_a_long_answer_passes_whole(place: Place) -> None:
    words = [f"word {number} " for number in range(20_000)]
    async with Provider() as server:
        server.script(b"".join(map(chunk, words)), FINISH, DONE)
        place.provider(server.base_url)
        ended = await place.run("ask", "hi")
    assert ended == process.Ended(0, "".join(words).encode() + b"\n", "")


@on_loop
async def test_the_reader_leaves_in_mid_answer(place: Place) -> None:
    async with Provider() as server:
        server.script(chunk("first\n"), Hang())
        place.provider(server.base_url)
        async with place.start("ask", "hi") as running:
            await running.until(b"first")
            running.leave()
            ended = await running.end()
            await asyncio.wait_for(server.gone.wait(), 5)
    assert (ended.code, ended.err) == (141, "")


@on_loop
async def test_what_came_until_the_reader_left_is_kept(place: Place) -> None:
    async with Provider() as server:
        # Not at a line's end: the newline that is still owed cannot be written any more.
        server.script(chunk("one\n"), chunk("two and no newline"), Hang())
        place.provider(server.base_url)
        await place.shell("$H ask hi | head -n 1")
    shown = await place.run("history", "show", "hi", "--json")
    kept = json.loads(shown.out)["messages"]
    assert kept[-1]["role"] == "assistant"
    assert kept[-1]["text"].startswith("one\n")
    assert kept[-1]["turn"]["finish"] == "interrupted"


@on_loop
async def test_going_on_where_an_ask_was_killed(place: Place) -> None:
    async with Provider() as server:
        server.script(chunk("It is a zeb"), Hang())
        place.provider(server.base_url)
        async with place.start("ask", "what is it?") as running:
            await running.until(b"zeb")
            await until(lambda: b"It is a zeb" in written(place))
            running.process.kill()
            await running.end()
        server.script(*answer("Stripes."))
        ended = await place.run("ask", "-c", "why?")
    assert (ended.code, ended.out) == (0, b"Stripes.\n")
    assert "broke off" in ended.err
    said = [message["content"] for message in server.requests[-1].json["messages"]]
    assert said == ["what is it?", "It is a zeb", "why?"]


def written(place: Place) -> bytes:
    """What is in the files of the store, however it is laid out there."""
    files = [file for file in place.home.rglob("*.db*") if file.is_file()]
    return b"".join(file.read_bytes() for file in files)


@on_loop
async def test_the_reader_leaves_while_everybody_waits(place: Place) -> None:
    async with Provider() as server:
        server.script(Hang())
        place.provider(server.base_url)
        async with place.start("ask", "hi") as running:
            await until(lambda: server.requests, 20)
            running.leave()
            ended = await running.end()
            await asyncio.wait_for(server.gone.wait(), 5)
    assert (ended.code, ended.err) == (141, "")


@on_loop
async def test_the_reader_leaves_while_the_models_are_listed(place: Place) -> None:
    async with Provider() as server:
        server.models = None
        server.script(Hang())
        place.config(f'provider = "box"\n[providers.box]\nbase_url = "{server.base_url}"\n')
        async with place.start("ask", "hi") as running:
            await until(lambda: server.requests, 20)
            running.leave()
            ended = await running.end()
    assert (ended.code, ended.err) == (141, "")


@on_loop
async def test_head_ends_it(place: Place) -> None:
    async with Provider() as server:
        server.script(chunk("one\ntwo\n"), Hang())
        place.provider(server.base_url)
        ended = await place.shell("{ $H ask hi; echo $? >&2; } | head -n 1")
    assert ended == process.Ended(0, b"one\n", "141\n")


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl"], ["--render"]])
@LINUX
@on_loop
async def test_a_full_disk(place: Place, form: list[str]) -> None:
    async with Provider() as server:
        server.script(*answer("Hello there"))
        place.provider(server.base_url)
        ended = await place.shell(f"$H ask {' '.join(form)} hi > /dev/full")
    assert ended.code == 1
    assert "No space left on device" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("form", ["--raw", "--json", "--jsonl", "--render"])
@on_loop
async def test_a_closed_stdout(place: Place, form: str) -> None:
    async with Provider() as server:
        server.script(*answer("Hello there"))
        place.provider(server.base_url)
        ended = await place.shell(f"$H ask {form} hi >&-")
    assert (ended.code, ended.out) == (1, b"")
    assert "Bad file descriptor" in ended.err
    assert "bug" not in ended.err


@on_loop
async def test_closed_streams_are_not_taken_for_sockets(place: Place) -> None:
    async with Provider() as server:
        server.script(*error(400, "to nobody"))
        place.provider(server.base_url)
        ended = await place.shell("$H ask hi <&- >&- 2>&-")
    assert ended == process.Ended(4, b"", "")
    assert len(server.requests) == 1
    assert not server.requests[0].gone


# --- The end of the process -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("steps", [[chunk("first words")], []])
@on_loop
async def test_a_signal_ends_it_by_itself(
    place: Place, number: signal.Signals, steps: list[Step]
) -> None:
    async with Provider() as server:
        server.script(*steps, Hang())
        place.provider(server.base_url)
        async with place.start("ask", "hi") as running:
            await until(lambda: server.requests, 20)
            if steps:
                await running.until(b"first words")
            running.process.send_signal(number)
            ended = await running.end()
            await asyncio.wait_for(server.gone.wait(), 5)
    assert ended.code == -number
    assert ended.out == (b"first words\n" if steps else b"")
    assert ended.err == f"holychat: stopped{'; what came is above' if steps else ''}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@on_loop
async def test_a_signal_leaves_the_object_of_what_came(
    place: Place, number: signal.Signals
) -> None:
    async with Provider() as server:
        gate = Gate()
        server.script(chunk("first words"), gate)
        place.provider(server.base_url)
        async with place.start("ask", "--json", "hi") as running:
            await asyncio.wait_for(gate.reached.wait(), 20)
            await asyncio.sleep(0.2)  # until the words are there
            running.process.send_signal(number)
            ended = await running.end()
    turn = json.loads(ended.out)
    assert ended.code == -number
    assert (turn["text"], turn["finish"], turn["complete"]) == ("first words", "interrupted", False)


@on_loop
async def test_sigterm_ends_it_though_nobody_reads_the_pipe(place: Place) -> None:
    here, there = os.pipe()
    async with Provider() as server:
        server.script(b"".join([chunk("x" * 1000)] * 200), Hang())
        place.provider(server.base_url)
        async with place.start("ask", "hi", stdout=there) as running:
            os.close(there)
            await until(lambda: server.requests, 20)
            await asyncio.sleep(0.5)  # until the pipe is full
            running.process.send_signal(signal.SIGTERM)
            ended = await running.end()
    os.close(here)
    assert ended.code == -signal.SIGTERM


@on_loop
async def test_a_shell_loop_stops_at_ctrl_c(place: Place) -> None:
    """bash ends a loop only if the command died by the signal itself."""
    async with Provider() as server:
        server.default = [chunk("first\n"), Hang()]
        place.provider(server.base_url)
        script = "while true; do $H ask hi < /dev/null; done"
        term = Terminal(
            "-c", script, home=place.home, program=("bash",), environ={**place.environ, "H": H}
        )
        async with term:
            await term.until("first")
            term.type("\x03")
            code = await term.end()
    assert code != 0
    assert len([seen for seen in server.requests if seen.method == "POST"]) == 1


@on_loop
async def test_sigint_while_stdin_is_read(place: Place) -> None:
    async with place.start("ask", "-p", "demo", stdin=PIPE) as running:
        await asyncio.sleep(0.8)
        running.process.send_signal(signal.SIGINT)
        ended = await running.end_with_open_stdin()
    assert ended == process.Ended(-signal.SIGINT, b"", "")


# --- Exit codes and what stderr says --------------------------------------------------------------


@on_loop
async def test_without_a_key_nobody_answers(place: Place) -> None:
    ended = await place.run("ask", "hi")
    assert (ended.code, ended.out) == (3, b"")
    assert "no key for holysheep" in ended.err
    assert "HOLYSHEEP_API_KEY" in ended.err
    assert "holychat setup" in ended.err


@on_loop
async def test_a_config_with_a_mistake_names_its_line(place: Place) -> None:
    place.config('provider = "demo"\n\ntimeouts.frist = 3\n')
    ended = await place.run("ask", "hi")
    assert (ended.code, ended.out) == (3, b"")
    assert f"{place.config_path}:3: " in ended.err
    assert "timeouts.first" in ended.err


STREAM_ERROR = event({"error": {"message": "the GPU is on fire", "code": 500}})
ENDS = [
    ("401", error(401, "no such key"), 3, b"", "no such key"),
    ("403", error(403, "not yours"), 3, b"", "not yours"),
    ("402", error(402, "no money"), 4, b"", "no money"),
    ("404", error(404, "no such model"), 4, b"", "no such model"),
    ("429", error(429, "slow down"), 4, b"", "slow down"),
    ("500", error(500, "broken"), 4, b"", "broken"),
    ("html", [Status(502, {"content-type": "text/html"}), b"<h1>Bad gateway</h1>"], 4, b"", "502"),
    ("no answer at all", [Raw(b""), Cut()], 4, b"", "box"),
    ("empty", [FINISH, DONE], 4, b"", "empty"),
    ("nothing", [DONE], 4, b"", "box"),
    ("error first", [STREAM_ERROR, DONE], 4, b"", "the GPU is on fire"),
    ("error after text", [chunk("Hel"), STREAM_ERROR, DONE], 5, b"Hel\n", "the GPU is on fire"),
    ("cut", [chunk("Hel"), Cut()], 5, b"Hel\n", "box"),
    ("reset", [chunk("Hel"), Reset()], 5, b"Hel\n", "box"),
    ("no finish", [chunk("Hel")], 5, b"Hel\n", "without ending the answer"),
    ("length", [chunk("Hel"), chunk(finish="length"), DONE], 5, b"Hel\n", "token limit"),
    ("filter", [chunk("Hel"), chunk(finish="content_filter"), DONE], 5, b"Hel\n", "filter"),
    ("[DONE] only", [chunk("Hello"), DONE], 0, b"Hello\n", ""),
    ("finish only", [chunk("Hello"), FINISH], 0, b"Hello\n", ""),
    ("cut after the finish", [chunk("Hello"), FINISH, Reset()], 0, b"Hello\n", ""),
]


@pytest.mark.parametrize("form", ["plain", "json"])
@pytest.mark.parametrize(("steps", "code", "out", "words"), [row[1:] for row in ENDS],
                         ids=[row[0] for row in ENDS])  # fmt: skip
@on_loop
async def test_every_end_has_its_code(
    place: Place, steps: list[Step], code: int, out: bytes, words: str, form: str
) -> None:
    async with Provider() as server:
        server.script(*steps)
        place.provider(server.base_url)
        more = ["--json"] if form == "json" else []
        ended = await place.run("ask", *more, "hi")
    assert ended.code == code
    assert words in ended.err
    assert bool(ended.err) == bool(code)
    assert KEY not in ended.err
    if form == "plain":
        assert ended.out == out
        return
    turn = json.loads(ended.out)
    assert list(turn) == TURN_KEYS
    assert turn["text"].encode() == out.rstrip()
    assert turn["complete"] == (code == 0)
    assert (turn["error"] is not None) == (code != 0 and turn["finish"] in ("cut", "failed"))


@on_loop
async def test_nobody_listens(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
    ended = await place.run("ask", "hi")
    assert (ended.code, ended.out) == (4, b"")
    assert "refuses the connection" in ended.err
    assert "Traceback" not in ended.err


@on_loop
async def test_nobody_listens_where_the_models_should_be_listed(place: Place) -> None:
    async with Provider() as server:
        place.config(f'provider = "box"\n[providers.box]\nbase_url = "{server.base_url}"\n')
    ended = await place.run("ask", "--json", "hi")
    turn = json.loads(ended.out)
    assert ended.code == 4
    assert list(turn) == TURN_KEYS
    assert (turn["provider"], turn["finish"], turn["error"]["kind"]) == ("box", "failed", "connect")


@on_loop
async def test_silence_ends_by_the_timeout(place: Place) -> None:
    async with Provider() as server:
        server.script(chunk("Hel"), Hang())
        server.script(Hang())
        place.provider(server.base_url, top="failover.attempts = 1")
        cut = await place.run("ask", "--timeout", "0.3", "hi")
        failed = await place.run("ask", "--timeout", "0.3", "hi")
    assert (cut.code, cut.out) == (5, b"Hel\n")
    assert (failed.code, failed.out) == (4, b"")
    assert "0.3 s" in cut.err
    assert "0.3 s" in failed.err


@on_loop
async def test_what_a_server_says_cannot_drive_the_terminal(place: Place) -> None:
    evil = "no\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\u202ekey\r\nholychat: all is well"
    async with Provider() as server:
        server.script(*error(401, evil))
        server.script(chunk("Hel"), event({"error": {"message": evil}}))
        server.script(chunk(None, reasoning="\x1b[2Jhm\x9b1m"), *answer("Hello"))
        place.provider(server.base_url)
        said = [(await place.run("ask", "--reasoning", "show", "hi")).err for _ in range(3)]
    for text in said:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert not [line for line in said[0].splitlines() if line.startswith("holychat: all is well")]


@on_loop
async def test_the_key_is_nowhere(place: Place) -> None:
    debug = place.work / "debug.txt"
    echo = f"bad key {KEY}, Bearer {KEY}"
    async with Provider() as server:
        server.script(*error(401, echo))
        server.script(*error(500, echo))
        server.script(chunk("Hel"), event({"error": {"message": echo}}))
        server.script(Raw(b"HTP nonsense\r\n\r\n"), Cut())
        place.provider(server.base_url)
        said = [
            await place.run("--debug", str(debug), "ask", *form, "hi")
            for form in ([], ["--json"], ["--jsonl"], [])
        ]
    assert all(ended.code in (3, 4, 5) for ended in said)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    for text in [*(ended.err + ended.text for ended in said), debug.read_text()]:
        assert KEY not in text
        assert text
    assert "Traceback" in debug.read_text()
    assert not [ended for ended in said if "Traceback" in ended.err]


@on_loop
async def test_a_debug_file_that_cannot_be_written(place: Place) -> None:
    ended = await place.run("--debug", "/nowhere/x", "ask", "hi")
    assert ended.code == 3
    assert "no key" in ended.err
    assert "/nowhere/x" in ended.err
    assert "Traceback" not in ended.err


# --- Options --------------------------------------------------------------------------------------


@on_loop
async def test_json_is_one_object(place: Place) -> None:
    async with Provider() as server:
        server.script(chunk(None, reasoning="hm"), *answer("Hi\u2028\x9b数"))
        place.provider(server.base_url)
        ended = await place.run("ask", "--json", "hi")
    assert ended.code == 0
    assert ended.out.endswith(b"}\n")
    assert ended.out.count(b"\n") == 1
    assert len(ended.text.splitlines()) == 1  # which also splits at U+2028
    turn = json.loads(ended.out)
    assert list(turn) == TURN_KEYS
    assert turn["text"] == "Hi\u2028\x9b数"
    assert turn["reasoning"] == "hm"
    assert (turn["provider"], turn["model"], turn["served_model"]) == ("box",) + ("test-model",) * 2
    assert turn["usage"] == {
        "prompt": 5, "completion": 7, "cached": 0, "reasoning": 0, "estimated": False,
        "cost": None, "unpriced": True,
    }  # fmt: skip
    assert 0 <= turn["timings"]["headers"] <= turn["timings"]["first"] <= turn["timings"]["total"]
    assert turn["error"] is None


@on_loop
async def test_jsonl_is_an_event_a_line_as_it_comes(place: Place) -> None:
    gate = Gate()
    async with Provider() as server:
        server.script(chunk("Hel"), gate, chunk("lo"), FINISH, usage(), DONE)
        place.provider(server.base_url)
        async with place.start("ask", "--jsonl", "hi") as running:
            await running.until(b'"Hel"}\n')
            gate.open()
            ended = await running.end()
    lines = [json.loads(line) for line in ended.text.splitlines()]
    kinds = [line.pop("type") for line in lines]
    assert kinds[0] == "attempt"
    assert kinds[-1] == "done"
    assert set(kinds[1:-1]) == {"delta"}
    assert lines[0] == {"provider": "box", "model": "test-model"}
    assert "".join(line.get("text", "") for line in lines[1:-1]) == "Hello"
    assert [line["finish"] for line in lines[1:-1] if "finish" in line] == ["stop"]
    assert list(lines[-1]) == TURN_KEYS


@on_loop
async def test_jsonl_of_a_failure_ends_with_done(place: Place) -> None:
    async with Provider() as server:
        server.script(*error(429, "slow down", **{"retry-after": "0.01"}))
        server.script(*error(429, "slow down", **{"retry-after": "70"}))
        place.provider(server.base_url)
        ended = await place.run("ask", "--jsonl", "hi")
    lines = [json.loads(line) for line in ended.text.splitlines()]
    assert ended.code == 4
    assert [line["type"] for line in lines] == ["attempt", "failed", "attempt", "failed", "done"]
    assert [(line["then"], line["wait"]) for line in lines[1:4:2]] == [("box", 0.01), (None, 0.0)]
    assert lines[-1]["error"]["kind"] == "rate-limit"
    assert (lines[-1]["error"]["status"], lines[-1]["error"]["retry_after"]) == (429, 70.0)


@on_loop
async def test_options_reach_the_request(place: Place) -> None:
    async with Provider() as server:
        server.models = ["alpha-large", "alpha-small"]
        server.script(*answer("ok"))
        place.provider(
            server.base_url, top='model = "test-model"\nsystem = "Be kind."\nparams.top_p = 0.5'
        )
        args = ["-o", "temperature=0.2", "ask", "-m", "other", "-s", "Be brief.", "-o", "seed=7",
                "-o", 'stop=["a", "b"]', "hi"]  # fmt: skip
        ended = await place.run(*args)
        body = server.requests[-1].json
    assert ended.code == 0
    assert body["model"] == "other"
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["stream"] is True
    sent = {name: body[name] for name in ("temperature", "top_p", "seed", "stop")}
    assert sent == {"temperature": 0.2, "top_p": 0.5, "seed": 7, "stop": ["a", "b"]}


@pytest.mark.parametrize("arguments", [["-s", "", "ask"], ["ask", "-s", ""]])
@on_loop
async def test_an_empty_system_prompt_is_none(place: Place, arguments: list[str]) -> None:
    async with Provider() as server:
        server.script(*answer("ok"))
        place.provider(server.base_url, top='system = "Be kind."')
        await place.run(*arguments, "hi")
        assert [message["role"] for message in server.requests[-1].json["messages"]] == ["user"]


@pytest.mark.parametrize("arguments", [["-p", "demo", "ask"], ["ask", "-p", "demo"]])
@on_loop
async def test_the_demo_answers_when_it_is_asked(place: Place, arguments: list[str]) -> None:
    ended = await place.run(*arguments, "hello")
    assert ended.code == 0
    assert ended.text.startswith("I am a script, not a model")


@on_loop
async def test_no_stream_asks_for_one_piece(place: Place) -> None:
    whole = {
        "model": "test-model",
        "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7},
    }
    async with Provider() as server:
        server.script(Status(headers=JSON), json.dumps(whole).encode())
        place.provider(server.base_url)
        ended = await place.run("ask", "--no-stream", "hi")
    assert ended == process.Ended(0, b"Hello\n", "")
    assert not server.requests[-1].json.get("stream")


@pytest.mark.parametrize(
    ("arguments", "setting", "err"),
    [
        ([], "show", ""),  # in a pipe it is noise
        (["--reasoning", "show"], "hide", "hm,\nso\n\n"),
        (["--reasoning", "hide"], "show", ""),
    ],
)
@on_loop
async def test_reasoning_goes_to_stderr_only(
    place: Place, arguments: list[str], setting: str, err: str
) -> None:
    async with Provider() as server:
        thought = [chunk(None, reasoning="hm,\n"), chunk(None, reasoning="so")]
        server.script(*thought, *answer("Hello"))
        place.provider(server.base_url, top=f'ui.reasoning = "{setting}"')
        ended = await place.run("ask", *arguments, "hi")
    assert ended == process.Ended(0, b"Hello\n", err)


@pytest.mark.parametrize(("arguments", "told"), [([], True), (["-q"], False)])
@on_loop
async def test_quiet_keeps_notices_away(place: Place, arguments: list[str], told: bool) -> None:
    async with Provider() as server:
        server.default = answer("Hello")
        place.provider(server.base_url)
        (place.work / ".env").write_text("HOLYCHAT_SYSTEM=evil\n")
        ended = await place.run("ask", *arguments, "hi")
        assert (ended.code, ended.out) == (0, b"Hello\n")
        assert ("HOLYCHAT_SYSTEM is ignored" in ended.err) == told
        server.default = error(500, "broken")
        assert "broken" in (await place.run("ask", *arguments, "hi")).err


@on_loop
async def test_render_draws_in_a_pipe_too_and_raw_does_not(place: Place) -> None:
    async with Provider() as server:
        server.default = answer("**bold** text")
        place.provider(server.base_url)
        drawn = await place.run("ask", "--render", "hi")
        plain = await place.run("ask", "--raw", "hi")
    assert drawn.out.rstrip() == b"bold text"
    assert plain.out == b"**bold** text\n"


# --- On a terminal --------------------------------------------------------------------------------


@on_loop
async def test_a_terminal_shows_the_drawn_answer_once(place: Place) -> None:
    gate = Gate()
    async with Provider() as server:
        server.script(chunk("A **bold** "), gate, chunk("word\n\n- one\n- two"), FINISH, DONE)
        place.provider(server.base_url)
        async with Terminal("ask", "hi", home=place.home, environ=place.environ) as term:
            await term.until("A bold")
            gate.open()
            assert await term.end() == 0
    assert term.text().count("A bold word") == 1
    assert "**" not in term.text()
    assert "• two" in term.text()
    assert "waiting" not in term.text()
    assert b"\x1b[1mbold" in term.raw
    assert term.raw.rfind(b"\x1b[?25h") > term.raw.rfind(b"\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize("term_name", ["dumb", ""])
@on_loop
async def test_a_terminal_that_cannot_paint_gets_plain_text(place: Place, term_name: str) -> None:
    async with Provider() as server:
        server.script(chunk(None, reasoning="hm"), *answer("A **bold**\nword"))
        place.provider(server.base_url)
        environ = {**place.environ, "TERM": term_name}
        async with Terminal("ask", "hi", home=place.home, environ=environ) as term:
            assert await term.end() == 0
    assert b"\x1b" not in term.raw
    assert "A **bold**\nword" in term.text()
    assert "hm" in term.text()
    assert "test-model on box" in term.text()


CONTROLS = "\x1b[2Jcleared \x1b]0;title\x07 \x9b31mred \x1b[6n"


@pytest.mark.parametrize("arguments", [[], ["--raw"], ["--json"], ["--jsonl"], ["--render"]])
@on_loop
async def test_controls_are_seen_and_not_obeyed(place: Place, arguments: list[str]) -> None:
    async with Provider() as server:
        server.script(chunk(None, reasoning=CONTROLS), chunk(CONTROLS), FINISH, DONE)
        place.provider(server.base_url)
        term = Terminal("ask", *arguments, "hi", home=place.home, environ=place.environ)
        async with term:
            assert await term.end() == 0
    for control in (b"\x1b[2Jcleared", b"\x1b]0;", b"\x9b31m", b"\xc2\x9b", b"\x1b[6n", b"\x07"):
        assert control not in term.raw
    assert "cleared" in term.text()


@pytest.mark.parametrize(
    ("environ", "arguments", "coloured"),
    [
        ({}, [], True),
        ({}, ["--no-color"], False),
        ({"NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": "", "FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1"}, ["--no-color"], False),
    ],
)
@on_loop
async def test_colours(
    place: Place, environ: dict[str, str], arguments: list[str], coloured: bool
) -> None:
    async with Provider() as server:
        server.script(*answer("`code` text"))
        place.provider(server.base_url)
        (place.work / ".env").write_text("HOLYCHAT_SYSTEM=evil\n")
        everything = {**place.environ, **environ}
        async with Terminal(
            "ask", "--raw", *arguments, "hi", home=place.work, environ=everything
        ) as term:
            assert await term.end() == 0
    assert (b"\x1b[" in term.raw) == coloured


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@on_loop
async def test_a_signal_gives_the_terminal_back(place: Place, number: signal.Signals) -> None:
    async with Provider() as server:
        server.script(chunk("first words"), Hang())
        place.provider(server.base_url)
        async with Terminal("ask", "hi", home=place.home, environ=place.environ) as term:
            await term.until("first words")
            term.process.send_signal(number)
            assert await term.end() == -number
    assert term.text().count("first words") == 1
    assert "stopped" in term.text()
    assert term.raw.rfind(b"\x1b[?25h") > term.raw.rfind(b"\x1b[?25l")


@on_loop
async def test_each_stream_decides_for_itself(place: Place) -> None:
    """stdout on a terminal, stderr in a file: notices are written without escapes."""
    async with Provider() as server:
        server.script(*answer("**bold**"))
        place.provider(server.base_url)
        term = Terminal(
            "-c", '$H ask hi 2> "$HOME/err"; $H ask --bogus 2>> "$HOME/err"', home=place.home,
            program=("sh",), environ={**place.environ, "H": H},
        )  # fmt: skip
        async with term:
            await term.end()
    assert "bold" in term.text()
    assert "\x1b" not in (place.home / "err").read_text()


@on_loop
async def test_the_answer_in_a_file_and_the_summary_on_the_terminal(place: Place) -> None:
    async with Provider() as server:
        server.script(chunk("Hello"), FINISH, usage(prompt=11, completion=3), DONE)
        place.provider(server.base_url)
        term = Terminal(
            "-c", '$H ask hi > "$HOME/out"', home=place.home, program=("sh",),
            environ={**place.environ, "H": H},
        )  # fmt: skip
        async with term:
            assert await term.end() == 0
    assert (place.home / "out").read_bytes() == b"Hello\n"
    assert "test-model on box · 11 in · 3 out" in term.text()
