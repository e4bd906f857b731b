"""The context on a real pty: how full it is, what is left out, pins, summaries, and `stop`."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from tests.commands.test_repl import PROMPT, to
from tests.commands.test_repl_store import begin, enter, rows, sent, store, toolbar
from tests.engine.test_fitting import Windowed
from tests.process import Place
from tests.provider import DONE, Provider, answer, chunk, error, on_loop, usage
from tests.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 'prices."holysheep/deepseek-chat".window = 1000\n'
LONG = "word " * 110  # 120 tokens or so


def config(home: Path, text: str = SMALL) -> None:
    folder = home / ".config" / "holychat"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(text)
    (folder / "config.toml").chmod(0o600)


async def talk(term: Terminal, server: Provider, *numbers: int) -> None:
    for number in numbers:
        server.script(chunk(f"answer {number} {LONG}"), chunk(finish="stop"), DONE)
        await enter(term, f"question {number}")


@on_loop
async def test_the_toolbar_says_how_full_it_is_and_a_line_what_is_left_out(tmp_path: Path) -> None:
    config(tmp_path)
    async with Provider() as server, Terminal(home=tmp_path, environ=to(server)) as term:
        await term.until(PROMPT)
        assert "ctx" not in toolbar(term)
        await talk(term, server, 1)
        assert "ctx 1" in toolbar(term)
        await talk(term, server, *range(2, 8))
        assert "to fit 1,000 tokens (context.policy = trim)" in " ".join(term.text().split())
        first = sent(server)[0][1]
        assert first.startswith("question 4")
        shown = "\n".join(await enter(term, "/context"))
        assert "1,000 tokens, 250 kept free for the answer; policy trim" in shown
        assert "of 750, " in shown
        assert "the first 3 turns of 7, since turn 7" in " ".join(shown.split())
        assert "nothing; /pin N keeps exchange N" in shown


@on_loop
async def test_a_pin_stays_and_is_kept(tmp_path: Path) -> None:
    config(tmp_path)
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await term.until(PROMPT)
            assert "there are no exchanges" in (await enter(term, "/pin"))[0]
            await talk(term, server, 1)
            assert (await enter(term, "/pin"))[0].startswith("· exchange 1 is pinned: “question 1")
            assert "and 7 is none" in (await enter(term, "/pin 7"))[0]
            await talk(term, server, *range(2, 8))
            assert sent(server)[0][1].startswith("question 1")
            assert not sent(server)[2][1].startswith("question 2")
            term.type("quit\r")
            assert await term.end() == 0
        assert len(rows(store(tmp_path), "SELECT id FROM messages WHERE pinned")) == 2
        async with Terminal("-c", home=tmp_path, environ=to(server)) as term:
            await begin(term)
            await talk(term, server, 7)
            assert sent(server)[0][1].startswith("question 1")
            assert "exchange 1 is no more pinned" in (await enter(term, "/unpin"))[0]
            assert "nothing is pinned" in (await enter(term, "/unpin"))[0]
            await talk(term, server, 8)
            assert not sent(server)[0][1].startswith("question 1")
        assert rows(store(tmp_path), "SELECT id FROM messages WHERE pinned") == []


@on_loop
async def test_compact_by_hand(tmp_path: Path) -> None:
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server), lines=40) as term:
            await term.until(PROMPT)
            assert "nothing to summarise" in (await enter(term, "/compact"))[0]
            for number in (1, 2, 3, 4):
                server.script(*answer(f"answer {number}"))
                await enter(term, f"question {number}")
            assert "takes a number" in (await enter(term, "/compact all"))[0]
            server.script(*error(400, "no summaries"))
            said = " ".join(await enter(term, "/compact"))
            assert "no summary could be made (holysheep: no summaries" in said
            assert "Nothing was changed" in said
            said = "They **counted** to two."
            server.script(chunk(said), chunk(finish="stop"), usage(90, 9), DONE)
            said = " ".join(await enter(term, "/compact"))
            assert "for the first 2 turns from now on (90 in · 9 out · cost ?)" in said
            asked = server.requests[-1].json["messages"]
            assert len(asked) == 1
            assert "question 2" in asked[0]["content"]
            assert "question 3" not in asked[0]["content"]
            assert "nothing to summarise" in (await enter(term, "/compact"))[0]
            shown = " ".join(await enter(term, "/context"))
            assert "the first 2 turns of 4" in shown
            assert "They counted to two." in shown
            server.script(*answer("answer 5"))
            await enter(term, "question 5")
            texts = [text for _, text in sent(server)]
            assert texts[0].endswith("They **counted** to two.")
            assert texts[2:] == ["question 3", "answer 3", "question 4", "answer 4", "question 5"]
            before = texts[:2]
            term.type("quit\r")
            assert await term.end() == 0
        spent = "SELECT prompt_tokens, finish FROM attempts WHERE role = 'summary' ORDER BY id"
        assert rows(store(tmp_path), spent) == [(None, "failed"), (90, "stop")]
        async with Terminal("-c", home=tmp_path, environ=to(server)) as term:
            await begin(term)
            server.script(*answer("answer 6"))
            await enter(term, "question 6")
            assert [text for _, text in sent(server)][:2] == before


@on_loop
async def test_with_stop_the_prompt_stands_again(tmp_path: Path) -> None:
    config(tmp_path, SMALL + '[context]\npolicy = "stop"\n')
    async with Provider() as server, Terminal(home=tmp_path, environ=to(server)) as term:
        await term.until(PROMPT)
        await talk(term, server, 1, 2, 3, 4)
        requests = len(server.requests)
        term.type(f"question 5 {LONG}{LONG}{LONG}\r")
        await term.until("/compact")
        await term.until("question 5", times=2)  # what was typed, and what stands there again
        await term.quiet()
        text = " ".join(term.text().split())
        assert "tokens too long for deepseek-chat on holysheep: 1,000 tokens" in text
        assert len(server.requests) == requests


@on_loop
async def test_what_one_run_learned_of_a_window_the_next_one_knows(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with Windowed(1000) as server, Windowed() as cheap:
        server.models, cheap.models = ["test-model"], ["s"]
        server.answers = repeat(LONG)
        more = f'[providers.cheap]\nbase_url = "{cheap.base_url}"\nneeds_key = false\n'
        place.provider(server.base_url, more=more, top='context.model = "cheap/s"')
        for number in range(12):
            words = ("ask", "-c") if number else ("ask",)
            ended = await place.run(*words, f"question {number}", HOLYCHAT_CONTEXT="summarize")
            assert (ended.code, ended.out.decode()) == (0, f"{LONG.rstrip()} \n")
            if "summarising" in ended.err:
                assert "to fit 1,000 tokens; /context shows it" in ended.err
        assert server.refusals == 1
        assert cheap.summaries > 1
        assert server.summaries == 0
        assert server.sent[-1][0].endswith("They spoke of many things.")


@on_loop
async def test_ask_goes_by_it_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with Provider() as server:
        place.provider(server.base_url, top='prices."box/test-model".window = 600\n')
        for number in range(5):
            server.script(chunk(f"answer {number}"), chunk(finish="stop"), DONE)
            words = ("ask", "-c") if number else ("ask",)
            ended = await place.run(*words, f"question {number} {LONG}")
            assert ended.code == 0
        assert "are left out to fit 600 tokens (context.policy = trim)" in ended.err
        assert len(server.requests[-1].json["messages"]) < 9
        requests = len(server.requests)
        told = await place.run("ask", "-c", f"question 6 {LONG}", HOLYCHAT_CONTEXT="stop")
        assert (told.code, told.out, len(server.requests)) == (2, b"", requests)
        assert "tokens too long for test-model on box: 600 tokens" in told.err
