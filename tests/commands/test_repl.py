"""The chat on a real pty, typed by keys and read by a terminal emulator."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.provider import Cut, Gate, Hang, Provider, Wait, answer, chunk, error, on_loop
from tests.terminal import Terminal

GOLDEN = Path(__file__).parent / "golden"
KEY = "hs-test-0123456789abcdef"
PROMPT = "›"


def to(server: Provider, **more: str) -> dict[str, str]:
    """The environment that makes the server the default provider."""
    return {"HOLYSHEEP_BASE_URL": server.base_url, "HOLYSHEEP_API_KEY": KEY, **more}


def golden(name: str, rows: list[str]) -> None:
    """Compare with the file; GOLDEN=write writes it anew, for a person to look at."""
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(rows) + "\n"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
@on_loop
async def test_a_whole_session_by_keys(tmp_path: Path, columns: int, lines: int) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=columns, lines=lines, environ=to(server)) as term,
    ):
        size = f"{columns}x{lines}"
        server.models = ["deepseek-chat", "deepseek-reasoner"]
        await term.until(PROMPT)
        await term.quiet()
        golden(f"start-{size}", term.shown())

        server.script(*answer("Hello, **you**: `code` and\n\n- one\n- two"))
        term.type("hi\r")
        await term.until("tok/s|first")
        await term.until(PROMPT, times=2)

        server.script(*answer("Three lines came."))
        term.type("first\x1b\rsecond\\\rthird\nfourth\r")
        await term.until("Three lines came")
        await term.until(PROMPT, times=3)
        await term.quiet()
        golden(f"chat-{size}", term.shown())
        sent = [message["content"] for message in server.requests[-1].json["messages"]]
        assert sent == [
            "hi",
            "Hello, **you**: `code` and\n\n- one\n- two",
            "first\nsecond\nthird\nfourth",
        ]

        gate = Gate()
        server.script(chunk("This will be "), chunk("stopped"), gate, *answer("never seen"))
        term.type("long\r")
        await term.until("stopped")
        term.type("\x03")
        await term.until("stopped ·")
        await server.gone.wait()

        term.type("/model reasoner\r")
        await term.until("now deepseek-reasoner on holysheep")
        server.script(*answer("As a reasoner."))
        term.type("who?\r")
        await term.until("As a reasoner")
        last = server.requests[-1].json
        assert last["model"] == "deepseek-reasoner"
        assert [m["content"] for m in last["messages"]][-3:] == [
            "long",
            "This will be stopped",
            "who?",
        ]
        await term.until(PROMPT, times=6)
        await term.quiet()
        golden(f"model-{size}", term.shown())

        term.type("CLEAR\r")
        await term.until("a new conversation")
        server.script(*answer("Fresh."))
        term.type("again\r")
        await term.until("Fresh")
        assert len(server.requests[-1].json["messages"]) == 1
        term.type("quit\r")
        assert await term.end() == 0


@on_loop
async def test_without_a_key_it_opens_on_the_demo_and_says_so(tmp_path: Path) -> None:
    async with Terminal(home=tmp_path) as term:
        await term.until(PROMPT)
        assert "offline demo: a script, no model" in term.text()
        assert "holychat setup" in term.text()
        assert "HOLYSHEEP_API_KEY" in term.text()
        term.type("hello\r")
        await term.until("I am a script, not a model")
        term.type("\x04")  # ends nothing: an answer streams
        await term.until("first .* tok/s")
        assert await term.end() == 0  # it was kept for the prompt, and leaves there


@on_loop
async def test_a_provider_chosen_by_hand_without_its_key_is_an_error(tmp_path: Path) -> None:
    async with Terminal("-p", "openai", home=tmp_path) as term:
        assert await term.end() == 3
        assert "OPENAI_API_KEY" in term.text()


@on_loop
async def test_an_answer_taller_than_the_screen_is_whole_and_once(tmp_path: Path) -> None:
    words = [f"line-{number}" for number in range(200)]
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=60, lines=12, environ=to(server)) as term,
    ):
        parts = []
        for word in words:
            parts += [chunk(f"{word}\n\n"), Wait(0.004)]
        server.script(*parts, chunk(finish="stop"))
        await term.until(PROMPT)
        term.type("count\r")
        await term.until(PROMPT, times=2)
        assert re.findall(r"^line-\d+$", term.text(), re.MULTILINE) == words


@on_loop
async def test_frames_are_paced_and_not_one_a_token(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        steps = []
        for number in range(400):
            steps += [chunk(f"w{number} "), Wait(0.0025)]
        server.script(*steps, chunk(finish="stop"))
        await term.until(PROMPT)
        term.type("go\r")
        await term.until(PROMPT, times=2)
        frames = term.raw.count(b"\x1b[?2026h")
        assert 5 < frames < 200  # 400 tokens over a second or more, 20 frames a second


@on_loop
async def test_typing_during_an_answer_waits_for_the_prompt(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        gate = Gate()
        server.script(chunk("Before "), gate, chunk("after."), chunk(finish="stop"))
        await term.until(PROMPT)
        term.type("q\r")
        await term.until("Before")
        term.type("typed ahead")
        term.paste("two\nlines")
        await term.quiet()
        assert "typed ahead" not in term.text()
        gate.open()
        await term.until("typed aheadtwo")
        assert "Before after." in term.text()
        assert len(server.requests) == 1  # the lines of the paste did not send themselves


@on_loop
async def test_a_failed_request_keeps_the_prompt_for_retry(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*error(500, "on \x1b[31mfire\x1b]52;c;aGk=\x07"))
        term.type("important question\r")
        await term.until("/retry sends it again")
        assert "on ␛[31mfire" in term.text()
        assert b"\x1b]52" not in term.raw
        server.script(*answer("Here you are."))
        term.type("/retry\r")
        await term.until("Here you are")
        messages = server.requests[-1].json["messages"]
        assert messages == [{"role": "user", "content": "important question"}]


@on_loop
async def test_a_cut_answer_is_kept_and_said_to_be_cut(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(chunk("Half an ans"), Cut())
        term.type("q\r")
        await term.until("Half an ans")
        await term.until("cut off")
        server.script(*answer("Yes."))
        term.type("more\r")
        await term.until("Yes")
        assert [m["content"] for m in server.requests[-1].json["messages"]] == [
            "q",
            "Half an ans",
            "more",
        ]


@on_loop
async def test_controls_from_a_model_are_seen_and_not_obeyed(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        hostile = "a\x1b]52;c;aGk=\x07b\x1b[2Jc\x9b31md\u202ee[red]f[/red]"
        server.script(chunk(reasoning=hostile), chunk(hostile), chunk(finish="stop"))
        term.type("q\r")
        await term.until(PROMPT, times=2)
        assert "a␛]52;c;aGk=␇b␛[2Jc" in term.text()
        assert "[red]f[/red]" in term.text()
        for forbidden in (b"\x1b]52", b"\x1b[2J", "\x9b".encode(), "\u202e".encode()):
            assert forbidden not in term.raw


@on_loop
async def test_ctrl_c_and_ctrl_d_at_the_prompt(tmp_path: Path) -> None:
    async with Terminal(home=tmp_path) as term:
        await term.until(PROMPT)
        await term.quiet()
        term.type("\x03")
        await term.until("Ctrl-D or quit leaves")
        term.type("a draft that matters")
        await term.until("a draft that matters")
        term.type("\x03")
        await term.quiet()
        assert "matters" not in term.text()
        term.type("\x1b[A")  # arrow up brings it back
        await term.until("a draft that matters")
        term.type("\x03")
        await term.quiet()
        term.type("\x04")
        assert await term.end() == 0


@on_loop
async def test_the_input_history_survives_and_is_private(tmp_path: Path) -> None:
    environ = {"XDG_DATA_HOME": str(tmp_path / "data")}
    async with Terminal(home=tmp_path, environ=environ) as term:
        await term.until(PROMPT)
        term.type("/tokens\r")
        await term.until("0 exchanges")
        term.type("/quit\r")
        assert await term.end() == 0
    file = tmp_path / "data" / "holychat" / "inputs.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line) for line in file.read_text().split()] == ["/tokens", "/quit"]
    async with Terminal(home=tmp_path, environ=environ) as term:
        await term.until(PROMPT)
        await term.quiet()
        term.type("\x1b[A\x1b[A")
        await term.until("› /tokens")


@on_loop
async def test_a_large_paste_folds_and_is_sent_in_full(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        text = "\n".join(f"row {number} \x1b[31m" for number in range(50))
        term.type("see: ")
        term.paste(text)
        await term.until(r"\[pasted 50 lines #1\]")
        server.script(*answer("Seen."))
        term.type("\r")
        await term.until("Seen")
        sent = server.requests[-1].json["messages"][0]["content"]
        assert sent == "see: " + text.replace("\x1b", "␛")


@on_loop
async def test_triple_quotes_hold_lines_together(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("Ok."))
        term.type('"""\rone\rtwo\r"""\r')
        await term.until("Ok")
        assert server.requests[-1].json["messages"][0]["content"] == "one\ntwo"


@on_loop
async def test_ctrl_z_suspends_an_answer_and_it_goes_on(tmp_path: Path) -> None:
    shell = ("bash", "--norc", "-i", "-c")
    import sys

    command = f"{sys.executable} -m holychat; echo after"
    async with (
        Provider() as server,
        Terminal(command, home=tmp_path, environ=to(server), program=shell) as term,
    ):
        gate = Gate()
        server.script(chunk("Before."), gate, chunk(" Behind."), chunk(finish="stop"))
        await term.until(PROMPT)
        term.type("q\r")
        await term.until("Before")
        before = term.process.pid
        term.type("\x1a")
        await term.until("Stopped")
        assert "Before" not in term.screen.display[-1]
        os.killpg(_job(before), signal.SIGCONT)
        gate.open()
        await term.quiet()


def _job(shell: int) -> int:
    """The process group of the shell's only child."""
    children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    return int(children[0]) if children else shell


@on_loop
async def test_sigint_from_outside_stops_the_answer_only(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        server.script(chunk("Going"), Gate())
        await term.until(PROMPT)
        term.type("q\r")
        await term.until("Going")
        os.kill(term.process.pid, signal.SIGINT)
        await term.until("stopped ·")
        await term.until(PROMPT, times=2)
        server.script(*answer("Alive."))
        term.type("still there?\r")
        await term.until("Alive")


@on_loop
async def test_unknown_commands_name_the_nearest_and_send_nothing(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        term.type("/modle x\r")
        await term.until("Did you mean /model")
        server.script(*answer("A path."))
        term.type("/usr/bin/env what is it?\r")
        await term.until("A path")
        assert [r.path for r in server.requests] == ["/v1/chat/completions"]


@on_loop
async def test_edit_undo_set_system_and_completion(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        term.type("/set temperature=0.25\r")
        await term.until("temperature = 0.25")
        term.type("/system Be brief.\r")
        await term.until("system prompt set")
        server.script(*answer("First."))
        term.type("orig\r")
        await term.until("First")
        assert server.requests[-1].json["temperature"] == 0.25
        assert server.requests[-1].json["messages"][0] == {
            "role": "system",
            "content": "Be brief.",
        }
        term.type("/edit\r")
        await term.until("› orig", times=2)
        server.script(*answer("Second."))
        term.type("inal\r")
        await term.until("Second")
        assert [m["content"] for m in server.requests[-1].json["messages"]] == [
            "Be brief.",
            "original",
        ]
        term.type("/undo\r")
        await term.until("taken back: original")
        term.type("/mult")
        await term.until("/multiline +Enter adds")
        term.type("\t\r")
        await term.until("Esc Enter sends")


@on_loop
async def test_the_first_prompt_is_painted_before_httpx_and_rich_are_loaded(tmp_path: Path) -> None:
    environ = {"PYTHONPROFILEIMPORTTIME": "1"}
    async with Terminal(home=tmp_path, environ=environ, columns=300) as term:
        await term.until_raw(rb"\| +holychat\.screen\.draw\r")
        painted = term.raw.index("› ".encode())
        for late in (rb"\| +httpx\r", rb"\| +rich\.console\r"):
            found = re.search(late, term.raw)
            assert found is not None
            assert painted < found.start()


@on_loop
async def test_resizing_while_it_streams_leaves_a_clean_prompt(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        steps = []
        for number in range(60):
            steps += [chunk(f"word{number} "), Wait(0.02)]
        server.script(*steps, chunk(finish="stop"))
        await term.until(PROMPT)
        term.type("q\r")
        await term.until("word5 ")
        for columns, lines in ((40, 12), (100, 30), (60, 20), (80, 24)):
            term.resize(columns, lines)
            await asyncio.sleep(0.15)
        await term.until(r"tok/s")
        words = re.findall(r"word\d+", term.text())
        assert words == [f"word{number}" for number in range(60)]
        server.script(*answer("Still in order."))
        term.type("next\r")
        await term.until("Still in order")


@on_loop
async def test_vi_keys_by_setting(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, HOLYCHAT_KEYS="vi")) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("Seen."))
        term.type("wrong words")
        await term.until("wrong words")
        term.type("\x1b")
        await term.quiet(1.0)  # Esc alone is told from Alt by time
        term.type("0dwi")
        term.type("right \r")
        await term.until("Seen")
        assert server.requests[-1].json["messages"][0]["content"] == "right words"


@on_loop
async def test_the_editor_and_the_search(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "from the editor" > "$1"\n')
    editor.chmod(0o755)
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, EDITOR=str(editor))) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("One."))
        term.type("draft\x18\x05")
        await term.until("from the editor")
        await term.quiet()
        term.type("\r")
        await term.until("One")
        sent = server.requests[-1].json["messages"][-1]["content"]
        assert sent.strip() == "from the editor"
        server.script(*answer("Two."))
        term.type("\x12the edi")
        await term.until("search")
        await term.quiet()
        term.type("\r")
        await term.quiet()
        term.type("\r")
        await term.until("Two")
        assert server.requests[-1].json["messages"][-1]["content"].strip() == "from the editor"


@on_loop
async def test_a_dumb_terminal_gets_plain_text(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, TERM="dumb")) as term,
    ):
        await term.until(PROMPT)
        server.script(chunk("**raw** \x1b[31m"), chunk(finish="stop"))
        term.type("q\r")
        await term.until(r"\*\*raw\*\* ␛\[31m")
        term.type("quit\r")
        assert await term.end() == 0
        assert b"\x1b[31m" not in term.raw
        assert b"\x1b[?2026" not in term.raw


@on_loop
async def test_a_tiny_window(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=20, lines=5, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("A few words that do not fit into one row of this window."))
        term.type("q\r")
        await term.until("window")
        await term.until(PROMPT, times=2)
        assert all(len(row) <= 20 for row in term.rows())


@on_loop
async def test_a_server_that_is_not_there_keeps_what_was_typed(tmp_path: Path) -> None:
    environ = {"OLLAMA_BASE_URL": "http://127.0.0.1:9/v1"}
    async with Terminal("-p", "ollama", home=tmp_path, environ=environ) as term:
        await term.until(PROMPT)
        term.type("a question\r")
        await term.until("refuses the connection")
        await term.until("› a question", times=2)  # it stands in the prompt again


@on_loop
async def test_no_color_and_quiet_notices(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, NO_COLOR="1")) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("# Title\n\ntext"))
        term.type("q\r")
        await term.until("text")
        await term.until(PROMPT, times=2)
        assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m|\x1b\[[0-9;]*9[0-7]m|38;5", term.raw)


@on_loop
async def test_a_dead_server_can_be_left_or_exchanged(tmp_path: Path) -> None:
    async with Provider() as server:
        environ = to(server, OLLAMA_BASE_URL="http://127.0.0.1:9/v1")
        async with Terminal("-p", "ollama", home=tmp_path, environ=environ) as term:
            await term.until(PROMPT)
            term.type("/help\r")
            await term.until("This list")
            term.type("/provider holysheep\r")
            await term.until("now deepseek-chat on holysheep")
            server.script(*answer("Back."))
            term.type("hi\r")
            await term.until("Back")
        async with Terminal("-p", "ollama", home=tmp_path, environ=environ) as term:
            await term.until(PROMPT)
            term.type("quit\r")
            assert await term.end() == 0


@on_loop
async def test_a_retry_that_fails_leaves_the_old_answer(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("A good answer."))
        term.type("q\r")
        await term.until("A good answer")
        server.script(*error(500))
        term.type("/retry\r")
        await term.until("sends it again")
        term.type("/edit\r")
        await term.until("› q", times=2)
        term.type("\x03/tokens\r")
        await term.until("1 exchange:")
        server.script(*answer("Better."))
        term.type("/retry\r")
        await term.until("Better")
        assert [m["content"] for m in server.requests[-1].json["messages"]] == ["q"]
        server.script(*answer("Three."))
        term.type("next\r")
        await term.until("Three")
        sent = [m["content"] for m in server.requests[-1].json["messages"]]
        assert sent == ["q", "Better.", "next"]


@on_loop
async def test_what_is_typed_while_it_starts_is_sent(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        server.script(*answer("Early."))
        term.type("hi early\r")
        await term.until("Early")
        assert server.requests[-1].json["messages"][0]["content"] == "hi early"


@on_loop
async def test_words_behind_a_command_that_takes_none_are_not_swallowed(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("One."))
        term.type("q\r")
        await term.until("One")
        term.type("/undo this please\r")
        await term.until("takes nothing behind it")
        term.type("/tokens\r")
        await term.until("1 exchange:")


@on_loop
async def test_ctrl_c_stops_a_flood_at_once(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        flood = "Some **words** with `code` in them. " * 30 + "\n\n"
        server.script(*[chunk(flood * 10)] * 100, Gate())  # 1 MB
        term.type("q\r")
        await term.until("Some words")
        term.type("\x03")
        await server.gone.wait()
        await term.until("stopped ·", 60)


@on_loop
async def test_keys_do_not_show_in_the_panel_of_ask(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal("ask", "hi", home=tmp_path, environ=to(server)) as term,
    ):
        gate = Gate()
        server.script(chunk("Before"), gate, chunk(" after."), chunk(finish="stop"))
        await term.until("Before")
        term.type("typed\rmore\r")
        await term.quiet()
        gate.open()
        assert await term.end() == 0
        assert "typed" not in term.text()
        assert term.text().count("deepseek-chat · holysheep") == 1
        assert "Before after." in term.text()


# --- The last answer again: /last, /raw, /code, /copy ----------------------------------------

BLOCKS = """\
Two files:

```make
all: x
\tcc -o x x.c
```

1. first

   ```python
   def f():
       return 1
   ```

2. second

       indented = True

   > ```
   > quoted
   > ```

~~~sh
echo last
~~~
"""
CODE = ("all: x\n\tcc -o x x.c\n", "def f():\n    return 1\n", "quoted\n", "echo last\n")


async def enter(term: Terminal, line: str) -> list[str]:
    """Type a line, wait for the prompt behind what it does, and give what it said."""
    start = len(term.raw)
    term.type(f"{line}\r")
    # One that reads turns bracketed pastes on; so does what keeps the keys until then.
    await term.until_raw(rb"(?s)(\x1b\[\?2004l.*\x1b\[\?2004h.*){2}", since=start)
    await term.quiet(0.15)
    return said(term, line)


def said(term: Terminal, line: str) -> list[str]:
    """The rows between the last such prompt and the empty one below."""
    rows = term.rows()
    first = max(at for at, row in enumerate(rows) if row == f"{PROMPT} {line}") + 1
    last = next(at for at, row in enumerate(rows) if at >= first and row == PROMPT)
    found = rows[first:last]
    while found and not found[-1]:
        found.pop()
    return found


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@on_loop
async def test_last_opens_the_pager_and_gives_the_terminal_back(tmp_path: Path) -> None:
    pager = program(
        tmp_path / "pager",
        f"""cat > {tmp_path}/seen
        trap 'echo interrupted' INT
        echo paging
        while ! read -r line < /dev/tty; do :; done
        echo "closed by $line" """,
    )
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, PAGER=pager)) as term,
    ):
        await term.until(PROMPT)
        assert "there is no answer yet" in "\n".join(await enter(term, "/last"))
        server.script(chunk(reasoning="One\nthought"), *answer("A **bold** word.\n\n- one\n- two"))
        await enter(term, "q")
        term.type("/last\r")
        await term.until("paging")
        term.type("\x03")  # the pager's, and nobody else's
        await term.until("interrupted")
        await term.quiet()
        term.type("me\r")
        await term.until("closed by me")
        await term.quiet()
        text = (tmp_path / "seen").read_text()
        assert "\x1b[1mbold" in text
        assert "• " in text
        assert re.search("One.*thought.*A .*bold.*word", text, re.DOTALL)
        server.script(*answer("Still here."))
        term.paste("and\nnow")
        term.type("?\r")
        await term.until("Still here")
        await term.until(PROMPT, times=5)
        assert server.requests[-1].json["messages"][-1]["content"] == "and\nnow?"
        term.type("\x04")
        assert await term.end() == 0


@pytest.mark.skipif(not shutil.which("less"), reason="there is no less")
@on_loop
async def test_last_in_less(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, PAGER="less")) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("\n\n".join(f"line-{number}" for number in range(60))))
        await enter(term, "q")
        term.type("/last\r")
        await term.until("line-10\n", times=2)
        await term.quiet()
        assert "line-59" not in "\n".join(term.screen.display)
        term.type("\x03")
        await term.quiet()
        term.type("G")
        await term.until("line-59", times=2)
        await term.quiet()
        term.type("q")
        await term.quiet()
        assert await enter(term, "/tokens")


@on_loop
async def test_last_with_cat_for_a_pager_is_printed(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, PAGER="cat")) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("A **bold** word.\n\n- one"))
        await enter(term, "q")
        assert await enter(term, "/last") == ["A bold word.", "", " • one"]


@on_loop
async def test_raw_and_code_print_the_source(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=80, lines=60, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("Some **words** \x1b[31m and\n\n| a |\n|---|\n| 1 |\n"))
        await enter(term, "q")
        source = ["Some **words** ␛[31m and", "", "| a |", "|---|", "| 1 |"]
        assert await enter(term, "/raw") == source
        assert await enter(term, "/code") == ["  (no code blocks)"]
        assert "the answer has no code blocks" in (await enter(term, "/code 1"))[0]

        server.script(*answer(BLOCKS))
        await enter(term, "q2")
        listed = [row.split() for row in await enter(term, "/code")]
        assert [row[:2] for row in listed] == [
            ["1", "make"],
            ["2", "python"],
            ["3", "quoted"],  # it says no language
            ["4", "sh"],
        ]
        start = len(term.raw)
        await enter(term, "/code 1")
        assert b"all: x\r\n\tcc -o x x.c\r\n" in term.raw[start:]
        assert await enter(term, "/code 2") == ["def f():", "    return 1"]
        assert await enter(term, "/code 4") == ["echo last"]
        for wrong in ("0", "5", "-1", "x"):
            rows = await enter(term, f"/code {wrong}")
            assert rows == [f"· the answer has 4 code blocks, and {wrong} is none of them"]
        await enter(term, "/raw")
        assert "~~~sh" in term.text()


@on_loop
async def test_code_saves_a_block_in_a_new_file_only(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=100, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer(BLOCKS))
        await enter(term, "q")
        assert await enter(term, "/code 1 Makefile") == ["· wrote 2 lines to Makefile"]
        assert (tmp_path / "Makefile").read_bytes() == CODE[0].encode()
        assert await enter(term, "/code 3 ~/with blanks.txt") == [
            "· wrote 1 line to ~/with blanks.txt"
        ]
        assert (tmp_path / "with blanks.txt").read_bytes() == CODE[2].encode()
        assert await enter(term, "/code 2 Makefile") == [
            "· Makefile is there already",
            "· Nothing was written.",
        ]
        assert (tmp_path / "Makefile").read_bytes() == CODE[0].encode()
        for place in ("nowhere/f.py", "/proc/f.py", "/code/"):
            rows = await enter(term, f"/code 2 {place}")
            assert len(rows) == 1
            assert rows[0].startswith(f"· {place} cannot be written: ")
        # A link that leads nowhere is something that is there, too.
        (tmp_path / "link").symlink_to(tmp_path / "target")
        assert "there already" in (await enter(term, "/code 2 link"))[0]
        assert not (tmp_path / "target").exists()


@on_loop
async def test_copy_counts_blocks_as_the_screen_does(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=80, lines=50, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer(BLOCKS))
        rows = await enter(term, "q")
        labels = ("make 1", "python 2", "code 3", "sh 4")
        shown = [row.strip(" ▌") for row in rows]
        assert [row for row in shown if row in labels] == list(labels)
        # Below its number stands the block that it names; the indented one has none.
        for number, code in enumerate(CODE, 1):
            first = shown.index(labels[number - 1]) + 1
            assert shown[first] == code.split("\n")[0]
            start = len(term.raw)
            assert f"copied code block {number} " in (await enter(term, f"/copy {number}"))[0]
            copied = re.search(rb"\x1b\]52;c;([^\x07]*)\x07", term.raw[start:])
            assert copied is not None
            assert base64.b64decode(copied[1]).decode() == code
        assert shown[shown.index("indented = True") - 1] == ""
        assert "5 is none of them" in (await enter(term, "/copy 5"))[0]
        start = len(term.raw)
        assert "copied the answer" in (await enter(term, "/copy"))[0]
        copied = re.search(rb"\x1b\]52;c;([^\x07]*)\x07", term.raw[start:])
        assert copied is not None
        assert base64.b64decode(copied[1]).decode() == BLOCKS


# --- Looks: /theme, panels, reasoning, windows, poor terminals -------------------------------

SPINNER = "[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]"
CYAN, MAGENTA = rb"\x1b\[[0-9;]*36m", rb"\x1b\[[0-9;]*35m"
SHORT = "A **word** and `code`:\n\n- one\n- two\n\n```python\nx = 1\n```"


def foreground(term: Terminal, text: str) -> str:
    """The colour of the last such text on the screen."""
    for y in reversed(range(term.lines)):
        at = term.screen.display[y].find(text)
        if at >= 0:
            return str(term.screen.buffer[y][at].fg)
    raise AssertionError(f"no {text!r} in:\n{term.text()}")


@on_loop
async def test_theme_lists_and_switches(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        assert await enter(term, "/theme") == ["› calm", "  warm"]
        server.script(*answer("One."))
        await enter(term, "q1")
        assert foreground(term, "deepseek-chat · ") == "cyan"
        assert not re.search(MAGENTA, term.raw)
        start = len(term.raw)
        rows = await enter(term, "/theme warm")
        assert rows == ["· theme warm; holychat config set ui.theme warm keeps it"]
        server.script(*answer("Two."))
        await enter(term, "q2")
        assert foreground(term, "deepseek-chat · ") == "magenta"
        assert foreground(term, "deepseek-chat on ") == "magenta"  # the toolbar
        changed = re.search(MAGENTA, term.raw[start:])
        assert changed is not None
        assert not re.search(CYAN, term.raw[start + changed.end() :])
        rows = await enter(term, "/theme loud")
        assert rows == ["· there is no theme loud", "· There are: calm, warm."]
        assert await enter(term, "/theme") == ["  calm", "› warm"]


@on_loop
async def test_the_theme_of_the_settings(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, HOLYCHAT_THEME="warm")) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("One."))
        await enter(term, "q")
        assert re.search(MAGENTA, term.raw)
        assert not re.search(CYAN, term.raw)
    async with Terminal(home=tmp_path, environ={"HOLYCHAT_THEME": "loud"}) as term:
        assert await term.end() == 3
        assert "must be one of calm, warm" in term.text()


@pytest.mark.parametrize("panel", ["rules", "bar", "none"])
@on_loop
async def test_the_kinds_of_panels(tmp_path: Path, panel: str) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, lines=24, environ=to(server, HOLYCHAT_PANEL=panel)) as term,
    ):
        await term.until(PROMPT)
        gate = Gate()
        server.script(chunk(reasoning="First I think.\n\nThen I know."), gate, *answer(SHORT))
        term.type("q\r")
        await term.until("Then I know")
        await term.quiet(0.05)
        golden(f"panel-{panel}-thinking", [re.sub(SPINNER, "⠋", row) for row in term.shown()])
        gate.open()
        await term.until("tok/s|first")
        await term.until(PROMPT, times=2)
        await term.quiet()
        golden(f"panel-{panel}", term.shown())


@on_loop
async def test_reasoning_is_dim_and_folds_to_one_line(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        gate = Gate()
        thoughts = " ".join(f"thought-{number}" for number in range(200))
        server.script(chunk(reasoning=thoughts), gate, *answer("So it is."))
        term.type("q\r")
        await term.until("thought-199")
        assert re.search(rb"\x1b\[2m[^\x1b]*thought-199", term.raw)
        assert "thought-0 " not in term.text()  # a few rows of it are shown, the last ones
        assert re.search("thinking [0-9.]+ s", term.text())
        gate.open()
        await term.until("So it is")
        await term.quiet()
        assert "thought-" not in term.text()
        assert re.search(r"· thought for [0-9.]+ s \(2,\d\d\d characters\)", term.text())
        assert foreground(term, "So it is") == "default"


@on_loop
async def test_hidden_reasoning_is_not_painted_at_all(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, HOLYCHAT_REASONING="hide")) as term,
    ):
        await term.until(PROMPT)
        gate = Gate()
        server.script(chunk(reasoning="A secret."), gate, *answer("So it is."))
        term.type("q\r")
        await term.until("thinking")  # the time is told all the same
        gate.open()
        await term.until("So it is")
        await term.until(PROMPT, times=2)
        assert b"secret" not in term.raw
        assert "thought for" not in term.text()


@on_loop
async def test_reasoning_between_the_words_leaves_no_trace(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        gates = Gate(), Gate()
        server.script(
            chunk("Before and "),
            gates[0],
            chunk(reasoning="A thought\nof rows."),
            gates[1],
            *answer("behind."),
        )
        term.type("q\r")
        await term.until("Before and")
        gates[0].open()
        await term.until("A thought\nof rows")
        assert re.search(rb"\x1b\[2m[^\x1b]*of rows", term.raw)
        await term.until("thinking ·")
        gates[1].open()
        await term.until("Before and behind")
        await term.until(PROMPT, times=2)
        await term.quiet()
        assert "thought" not in term.text()
        assert "of rows" not in term.text()
        assert said(term, "q")[1] == "Before and behind."


@on_loop
async def test_the_foot_says_in_a_warning_why_an_answer_is_not_whole(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(chunk("Half an ans"), Cut())
        await enter(term, "q1")
        assert re.search("─ cut off: what came is kept · .* ─$", term.text(), re.MULTILINE)
        assert foreground(term, "cut off") == "brown"  # as the emulator calls yellow
        server.script(chunk("Half an ans"), Hang())
        term.type("q2\r")
        await term.until("Half an ans", times=2)
        term.type("\x03")
        await term.until("─ stopped ·")
        assert foreground(term, "stopped ·") == "brown"
        await term.until(PROMPT, times=3)
        server.script(*answer("As much as", finish="length"))
        await enter(term, "q3")
        assert re.search("─ stopped at the token limit · ", term.text())


@on_loop
async def test_the_spinner_leaves_no_trace(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        gate = Gate()
        server.script(gate, *answer("Here."))
        term.type("q1\r")
        await term.until("waiting 0.3 s")
        gate.open()
        await term.until("Here")
        await term.until(PROMPT, times=2)
        server.script(Hang())
        term.type("q2\r")
        await term.until("waiting 0.3 s")
        term.type("\x03")
        await term.until("stopped")
        await term.until(PROMPT, times=3)
        await term.quiet()
        assert not re.search(f"{SPINNER}|waiting", term.text())
        assert len(re.findall("deepseek-chat · holysheep", term.text())) == 1


@pytest.mark.parametrize(("columns", "lines"), [(20, 24), (80, 5), (20, 5), (80, 3)])
@on_loop
async def test_a_narrow_or_a_low_window_shows_everything_once(
    tmp_path: Path, columns: int, lines: int
) -> None:
    words = [f"w{number:03}" for number in range(120)]
    text = " ".join(words[:80]) + "\n\n- " + "\n- ".join(words[80:])
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=columns, lines=lines, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        gate = Gate()
        parts = [part for word in answer(text) for part in (word, Wait(0.008))]
        server.script(chunk(reasoning="A thought " * 40), gate, *parts)
        term.type("q\r")
        await term.until("thinking|A thought")
        gate.open()
        await term.until(r"first|in · ")
        await term.quiet()
        assert re.findall(r"w\d{3}", term.text()) == words
        assert all(len(row) <= columns for row in term.rows())
        assert "A thought" not in term.text()
        assert term.text().count("─ deepseek") == 1


@on_loop
async def test_a_dumb_terminal_gets_neither_colours_nor_movements(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, TERM="dumb", PAGER="cat")) as term,
    ):
        await term.until(PROMPT)
        server.script(chunk(reasoning="Hm."), *answer(SHORT))
        term.type("q\r")
        await term.until("x = 1\n```")
        await term.quiet()
        for line in ("/last", "/raw", "/code 1", "/theme warm", "/nothing"):
            term.type(f"{line}\r")
            await term.quiet()
        assert "there is no /nothing" in term.text()
        term.type("quit\r")
        assert await term.end() == 0
        # Pastes and the cursor's looks: see the next test.
        assert b"\x1b" not in re.sub(rb"\x1b\[\?(2004[hl]|12l|25h)", b"", term.raw)


@on_loop
async def test_a_dumb_terminal_gets_no_escape_sequence_at_all(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, TERM="dumb")) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer("One."))
        term.type("q\r")
        await term.until("One")
        await term.quiet()
        term.type("quit\r")
        assert await term.end() == 0
        assert b"\x1b" not in term.raw


@on_loop
async def test_the_linux_console_shows_where_links_lead(tmp_path: Path) -> None:
    text = "See [the page](https://a.example/page) and ![a cat](https://a.example/cat.png)."
    for name, clickable in (("linux", False), ("xterm-256color", True)):
        async with (
            Provider() as server,
            Terminal(home=tmp_path, columns=120, environ=to(server, TERM=name)) as term,
        ):
            await term.until(PROMPT)
            server.script(*answer(text))
            await enter(term, "q")
            assert ("the page (https://a.example/page)" in term.text()) is not clickable
            assert ("a cat (https://a.example/cat.png)" in term.text()) is not clickable
            assert (b"\x1b]8;" in term.raw) is clickable


@on_loop
async def test_without_colours_the_text_is_the_same(tmp_path: Path) -> None:
    shown: list[list[str]] = []
    for environ in ({}, {"NO_COLOR": "1"}):
        async with (
            Provider() as server,
            Terminal(home=tmp_path, lines=40, environ=to(server, **environ)) as term,
        ):
            await term.until(PROMPT)
            server.script(chunk(reasoning="Hm."), *answer(BLOCKS + SHORT))
            await enter(term, "q")
            await enter(term, "/theme")
            await enter(term, "/nothing")
            shown.append(term.shown())
            codes = re.findall(rb"\x1b\[([0-9;]*)m", term.raw)
            values = {int(value or 0) for code in codes for value in code.split(b";")} - {39, 49}
            coloured = any(30 <= value <= 49 or value >= 90 for value in values)
            assert coloured is not bool(environ)
    assert shown[0] == shown[1]
