"""The chat and its store on a real pty: found again, gone on with, and killed on the way."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands.test_repl import PROMPT, enter, to
from tests.process import Place
from tests.provider import Cut, Gate, Hang, Provider, answer, chunk, error, on_loop, until
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAFE = 0.4  # seconds after which what came is on the disk
OFFER = "an answer broke off when holychat ended"


def store(home: Path) -> Path:
    return home / ".local" / "share" / "holychat" / "conversations.db"


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def messages(path: Path) -> list[tuple[str, str]]:
    return rows(path, "SELECT role, text FROM messages ORDER BY id")


def draft(path: Path) -> str:
    return "".join(row[0] for row in rows(path, "SELECT draft FROM writers"))


def sent(server: Provider) -> list[tuple[str, str]]:
    """The messages of the last request."""
    return [(each["role"], each["content"]) for each in server.requests[-1].json["messages"]]


def toolbar(term: Terminal) -> str:
    return term.rows()[-1]


async def begin(term: Terminal) -> None:
    """Until it listens, and what was left behind has been taken over."""
    await term.until(PROMPT)
    await term.quiet(0.25)


async def kill(term: Terminal) -> None:
    """kill -9, as the kernel does it when memory is short."""
    os.killpg(term.process.pid, signal.SIGKILL)
    assert await term.end() == -signal.SIGKILL


async def ask(term: Terminal, server: Provider, prompt: str, text: str) -> None:
    server.script(*answer(text))
    await enter(term, prompt)


async def killed(home: Path, server: Provider, *before: tuple[str, str]) -> None:
    """A holychat that is killed in mid-answer, behind some whole exchanges."""
    async with Terminal(home=home, environ=to(server)) as term:
        await term.until(PROMPT)
        for prompt, text in before:
            await ask(term, server, prompt, text)
        server.script(chunk("Rivers run to "), Hang())
        term.type("Tell me about rivers\r")
        await term.until("Rivers run to")
        await asyncio.sleep(SAFE)
        await kill(term)


# --- Found again ---------------------------------------------------------------------------------


@on_loop
async def test_conversations_are_listed_searched_and_resumed(tmp_path: Path) -> None:
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await term.until(PROMPT)
            assert await enter(term, "/sessions") == ["  (none)"]
            await ask(term, server, "Tell me about rivers", "They run **down**.")
            assert toolbar(term).endswith("   12 tok   cost ?   Tell me about rivers")
            await ask(term, server, "and lakes", "They rest.")
            await enter(term, "/new")
            assert "Tell me" not in toolbar(term)
            await ask(term, server, "Tell me about mountains", "They stand.")
            term.type("quit\r")
            assert await term.end() == 0
        pairs = rows(store(tmp_path), "SELECT id, title FROM conversations ORDER BY updated DESC")
        (high, _), (low, _) = pairs
        async with Terminal(home=tmp_path, environ=to(server), columns=100) as term:
            await begin(term)
            assert OFFER not in term.text()
            assert await enter(term, "/sessions") == [
                f"  {high[:8]}  Tell me about mountains",
                f"  {low[:8]}  Tell me about rivers",
            ]
            (only,) = await enter(term, "/sessions MOUNT")
            assert only == f"  {high[:8]}  Tell me about mountains"
            found = await enter(term, "/search lakes")
            assert found[0] == f"  {low[:8]}  Tell me about rivers"
            assert found[1].strip() == "and lakes"
            assert await enter(term, "/search glaciers") == ["  (nothing found)"]
            assert await enter(term, "/resume tell me") == [
                "· tell me may be several conversations; /resume ID goes on with one",
                f"  {high[:8]}  Tell me about mountains  just now",
                f"  {low[:8]}  Tell me about rivers     just now",
            ]
            assert (await enter(term, "/resume glaciers"))[0] == (
                "· no conversation is called glaciers"
            )
            assert "takes an id or a part of a title" in (await enter(term, "/resume"))[0]
            assert await enter(term, f"/resume {low[:4]}") == [
                "· Tell me about rivers",
                "› and lakes",
                "They rest.",
            ]
            shown = "deepseek-chat on holysheep   24 tok   cost ?   Tell me about rivers"
            assert toolbar(term) == shown
            await ask(term, server, "and seas", "They are wide.")
            assert sent(server) == [
                ("user", "Tell me about rivers"),
                ("assistant", "They run **down**."),
                ("user", "and lakes"),
                ("assistant", "They rest."),
                ("user", "and seas"),
            ]
            assert (await enter(term, "/resume MOUNTAINS"))[0] == "· Tell me about mountains"
            await ask(term, server, "how high", "Very.")
            assert sent(server)[0] == ("user", "Tell me about mountains")
            assert (await enter(term, "/sessions"))[0].startswith(f"› {high[:8]}")
    assert len(messages(store(tmp_path))) == 10


@on_loop
async def test_a_fork_a_title_and_a_file(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        assert await enter(term, "/fork") == ["· there is nothing to fork yet"]
        assert await enter(term, "/rename x") == ["· there is no conversation to rename yet"]
        await ask(term, server, "q1", "Answer one.")
        assert await enter(term, "/save out.md") == ["· saved in out.md"]
        assert (tmp_path / "out.md").read_text() == "Answer one.\n"
        (said,) = await enter(term, "/fork")
        assert re.fullmatch(r"· a copy, \w{8}; the one until here is \w{8}", said)
        assert await enter(term, "/rename  The   other way") == ["· it is called The other way"]
        assert toolbar(term).endswith("   The other way")  # though nothing was spent in it yet
        await ask(term, server, "q2", "Answer two.")
        assert [text for _, text in sent(server)] == ["q1", "Answer one.", "q2"]
        assert await enter(term, "/save out.md") == [
            "· out.md is there already",
            "· Nothing was written.",
        ]
        assert (tmp_path / "out.md").read_text() == "Answer one.\n"
        counts = dict(rows(store(tmp_path), "SELECT title, messages FROM conversations"))
        assert counts == {"q1": 2, "The other way": 4}
        await enter(term, "/resume q1")
        await ask(term, server, "q3", "Answer three.")
        assert [text for _, text in sent(server)] == ["q1", "Answer one.", "q3"]


@on_loop
async def test_a_resumed_conversation_has_its_model_or_says_why_not(tmp_path: Path) -> None:
    async with Provider() as server:
        both = to(server, OPENAI_API_KEY="sk-0123456789abcdef", OPENAI_BASE_URL=server.base_url)
        arguments = ("-p", "openai", "-m", "gpt-x")
        async with Terminal(*arguments, home=tmp_path, environ=both) as term:
            await term.until(PROMPT)
            await ask(term, server, "q1", "One.")
            term.type("quit\r")
            await term.end()
        async with Terminal(home=tmp_path, environ=both) as term:
            await term.until("\ndeepseek-chat on holysheep")
            await enter(term, "/resume q1")
            assert toolbar(term).startswith("gpt-x on openai")
            await ask(term, server, "q2", "Two.")
            assert server.requests[-1].json["model"] == "gpt-x"
            await enter(term, "/new")
        async with Terminal(home=tmp_path, environ=to(server), columns=130) as term:
            await term.until(PROMPT)
            instead = "going on with deepseek-chat on holysheep"
            assert await enter(term, "/resume q1") == [
                "· q1",
                "› q2",
                "Two.",
                f"· gpt-x on openai cannot be had now (there is no key for openai): {instead}",
            ]
            await ask(term, server, "q3", "Three.")
            assert server.requests[-1].json["model"] == "deepseek-chat"
            assert term.text().count("cannot be had now") == 1


@on_loop
async def test_the_command_line_goes_on_with_a_conversation(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with Provider() as server:
        place.environ |= to(server)
        server.script(*answer("They run."))
        assert (await place.run("ask", "about rivers")).code == 0
        server.script(*answer("They stand."))
        assert (await place.run("ask", "about mountains")).code == 0
        server.script(*answer("High."))
        assert (await place.run("ask", "-c", "how high")).code == 0
        assert [text for _, text in sent(server)] == ["about mountains", "They stand.", "how high"]
        server.script(*answer("Long."))
        assert (await place.run("ask", "--session", "rivers", "how long")).code == 0
        assert [text for _, text in sent(server)] == ["about rivers", "They run.", "how long"]
        missing = await place.run("ask", "--session", "lakes", "how deep")
        assert missing.code == 2
        assert "no conversation is called lakes" in missing.err
        home = place.home
        for arguments, tail in (
            (("-c",), ["· about rivers", "› how long", "Long."]),
            (("--session", "mount"), ["· about mountains", "› how high", "High."]),
        ):
            async with Terminal(*arguments, home=home, environ=to(server)) as term:
                await begin(term)
                assert term.rows()[2:5] == tail
                await ask(term, server, "and now", "So.")
                assert len(sent(server)) == 5
        async with Terminal("--session", "lakes", home=home, environ=to(server)) as term:
            assert await term.end() == 2
            assert "no conversation is called lakes" in term.text()
        async with Terminal("-c", home=tmp_path / "work", environ=to(server)) as term:
            assert await term.end() == 2
            assert "there is no conversation to go on with yet" in term.text()


@on_loop
async def test_no_store_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal("--no-store", home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        await ask(term, server, "q1", "One.")
        await ask(term, server, "q2", "Two.")
        assert [text for _, text in sent(server)] == ["q1", "One.", "q2"]
        for line in ("/sessions", "/search One", "/resume q1"):
            assert await enter(term, line) == ["· nothing is kept here: --no-store"]
        assert toolbar(term).endswith("q1")
    assert not store(tmp_path).exists()


@on_loop
async def test_the_store_is_where_the_environment_says(tmp_path: Path) -> None:
    async with Provider() as server:
        environ = to(server, HOLYCHAT_STORE="~/kept/chats.db")
        async with Terminal(home=tmp_path, environ=environ) as term:
            await term.until(PROMPT)
            await ask(term, server, "q1", "One.")
            term.type("quit\r")
            assert await term.end() == 0
    kept = tmp_path / "kept" / "chats.db"
    assert messages(kept) == [("user", "q1"), ("assistant", "One.")]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not store(tmp_path).exists()


# --- Killed --------------------------------------------------------------------------------------


@on_loop
async def test_a_killed_answer_is_offered_and_gone_on_with_in_place(tmp_path: Path) -> None:
    async with Provider() as server:
        await killed(tmp_path, server)
        assert messages(store(tmp_path)) == [("user", "Tell me about rivers")]
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            text = " ".join(term.text().split())
            assert f"{OFFER}: Tell me about rivers (14 characters are kept)" in text
            server.script(*answer("the sea."))
            shown = await enter(term, "/continue")
            assert shown[:2] == ["· Tell me about rivers", "› Tell me about rivers"]
            assert "Rivers run to the sea." in shown
            assert not [row for row in shown if "/continue" in row]
            assert sent(server)[:2] == [
                ("user", "Tell me about rivers"),
                ("assistant", "Rivers run to "),
            ]
            assert messages(store(tmp_path)) == [
                ("user", "Tell me about rivers"),
                ("assistant", "Rivers run to the sea."),
            ]
            assert (await enter(term, "/continue"))[0] == "· the last answer is complete"
            await ask(term, server, "why", "Down.")
            assert sent(server) == [
                ("user", "Tell me about rivers"),
                ("assistant", "Rivers run to the sea."),
                ("user", "why"),
            ]
        assert rows(store(tmp_path), "SELECT finish FROM turns WHERE onto IS NOT NULL") == [
            ("stop",)
        ]


@on_loop
async def test_a_killed_answer_is_thrown_away(tmp_path: Path) -> None:
    async with Provider() as server:
        await killed(tmp_path, server, ("q1", "One."))
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert OFFER in term.text()
            term.type("/discard\r")
            await term.until("thrown away; its prompt stands in the line again")
            await term.quiet()
            assert "› Tell me about rivers" in term.rows()
            server.script(*answer("They run."))
            term.type("\r")
            await term.until("They run")
            assert sent(server) == [
                ("user", "q1"),
                ("assistant", "One."),
                ("user", "Tell me about rivers"),
            ]
            await term.quiet()
            assert "there is no such answer" in (await enter(term, "/discard"))[0]


@on_loop
async def test_a_killed_answer_of_which_nothing_is_said_stays(tmp_path: Path) -> None:
    async with Provider() as server:
        await killed(tmp_path, server)
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            await ask(term, server, "Something else", "Else.")
            assert sent(server) == [("user", "Something else")]
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert OFFER not in term.text()  # once is enough
            assert await enter(term, "/resume rivers") == [
                "· Tell me about rivers",
                "› Tell me about rivers",
                "Rivers run to",
                "· broke off when holychat ended; /continue goes on with it",
            ]
    assert ("assistant", "Rivers run to ") in messages(store(tmp_path))


@on_loop
async def test_an_answer_that_the_user_stopped_is_not_said_to_have_broken_off(
    tmp_path: Path,
) -> None:
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await term.until(PROMPT)
            server.script(chunk("Rivers run to "), Hang())
            term.type("about rivers\r")
            await term.until("Rivers run to")
            term.type("\x03")
            await term.until("─ stopped ·")
            await term.quiet()
            term.type("quit\r")
            assert await term.end() == 0
        async with Terminal("-c", home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert term.rows()[4:6] == ["Rivers run to", "· stopped; /continue goes on with it"]


@on_loop
async def test_c_goes_on_behind_the_killed_answer(tmp_path: Path) -> None:
    async with Provider() as server:
        await killed(tmp_path, server, ("q1", "One."))
        async with Terminal("-c", home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert term.rows()[2:6] == [
                "· q1",
                "› Tell me about rivers",
                "Rivers run to",
                "· broke off when holychat ended; /continue goes on with it",
            ]
            server.script(*error(500, "no"))
            server.script(*error(500, "boom"))
            assert await enter(term, "/continue") == [
                "· holysheep: no (500): again now",
                "· holysheep: boom (500)",
                "· /continue tries it again",
            ]
            server.script(*answer("the sea."))
            assert (await enter(term, "/continue"))[1] == "Rivers run to the sea."
    assert messages(store(tmp_path))[2:] == [
        ("user", "Tell me about rivers"),
        ("assistant", "Rivers run to the sea."),
    ]


@on_loop
async def test_a_continuation_that_is_killed_keeps_what_came(tmp_path: Path) -> None:
    async with Provider() as server:
        await killed(tmp_path, server)
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            server.script(chunk("the sea, "), Hang())
            term.type("/continue\r")
            await term.until("Rivers run to the sea,")
            await asyncio.sleep(SAFE)
            await kill(term)
        async with Terminal("-c", home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert "Rivers run to the sea," in term.rows()
            server.script(*answer("all of them."))
            await enter(term, "/continue")
    assert messages(store(tmp_path)) == [
        ("user", "Tell me about rivers"),
        ("assistant", "Rivers run to the sea, all of them."),
    ]


@pytest.mark.parametrize("arguments", [(), ("-c",)])
@on_loop
async def test_what_was_being_typed_stands_in_the_next_prompt(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            await ask(term, server, "q1", "One.")
            term.type("a long thou")
            await asyncio.sleep(0.5)
            term.type("ght")
            await asyncio.sleep(0.6)
            await kill(term)
        async with Terminal(*arguments, home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert OFFER not in term.text()
            await term.until("› a long thought")
            server.script(*answer("Done."))
            term.type(" of mine\r")
            await term.until("Done")
            assert sent(server)[-1] == ("user", "a long thought of mine")
            await term.quiet()
            term.type("quit\r")
            assert await term.end() == 0
        async with Terminal(*arguments, home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert PROMPT in term.rows()  # it was sent: there is no draft any more


@on_loop
async def test_a_question_without_any_answer_stands_in_the_next_prompt(tmp_path: Path) -> None:
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await term.until(PROMPT)
            server.script(Hang())
            term.type("Tell me about rivers\r")
            await until(lambda: any(seen.method == "POST" for seen in server.requests))
            await kill(term)
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert OFFER not in term.text()
            assert "› Tell me about rivers" in term.rows()


@on_loop
async def test_two_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    async with Provider() as server:
        gate = Gate()
        async with Terminal(home=tmp_path, environ=to(server)) as one:
            await begin(one)
            server.script(chunk("Rivers run to "), gate, *answer("the sea."))
            one.type("Tell me about rivers\r")
            await one.until("Rivers run to")
            one.type("a draft")
            await asyncio.sleep(SAFE)
            async with Terminal(home=tmp_path, environ=to(server)) as other:
                await begin(other)
                assert OFFER not in other.text()
                assert "a draft" not in other.text()
                await ask(other, server, "Something else", "Else.")
                gate.open()
                await one.until("Rivers run to the sea")
                await one.quiet()
                assert len(await enter(other, "/sessions")) == 2
    assert set(messages(store(tmp_path))) == {
        ("user", "Tell me about rivers"),
        ("assistant", "Rivers run to the sea."),
        ("user", "Something else"),
        ("assistant", "Else."),
    }


@on_loop
async def test_what_is_typed_while_an_answer_streams_survives_too(tmp_path: Path) -> None:
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            server.script(chunk("Rivers run to "), Hang())
            term.type("Tell me about rivers\r")
            await term.until("Rivers run to")
            term.type("and now lakk\x7f")
            await asyncio.sleep(0.3)
            term.type("es,")
            term.paste(" and\nmore")
            await until(lambda: "more" in draft(store(tmp_path)))
            await kill(term)
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert OFFER in term.text()
            assert term.rows()[-5:-3] == ["› and now lakes, and", "· more"] or (
                "› and now lakes, and" in term.rows()
            )


@on_loop
async def test_what_was_typed_ahead_and_sent_is_no_draft(tmp_path: Path) -> None:
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            gate = Gate()
            server.script(chunk("Rivers run to "), gate, *answer("the sea."))
            server.script(*answer("They rest."))
            term.type("Tell me about rivers\r")
            await term.until("Rivers run to")
            term.type("and lakes\r")
            await until(lambda: draft(store(tmp_path)) == "and lakes\n")
            gate.open()
            await term.until("They rest")
            await term.quiet()
            await kill(term)
        assert messages(store(tmp_path))[2] == ("user", "and lakes")
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await begin(term)
            assert PROMPT in term.rows()


# --- A store that fails --------------------------------------------------------------------------


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another program has begun to write, and does not end it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


def in_the_way(home: Path) -> tuple[Path, dict[str, str]]:
    """A file where the store's folder should be, and the environment that names it."""
    place = home / "place"
    place.write_text("")
    return place, {"HOLYCHAT_STORE": str(place / "chats.db")}


@on_loop
async def test_what_is_not_kept_is_caught_up_with_when_the_trouble_is_over(tmp_path: Path) -> None:
    place, named = in_the_way(tmp_path)
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=200, environ=to(server, **named)) as term,
    ):
        await begin(term)
        await ask(term, server, "q1", "One.")
        for line in ("/fork", "/rename x", "/export talk.md"):
            assert (await enter(term, line))[0] == "· this conversation is not being kept"
        await ask(term, server, "q2", "Two.")
        assert len(re.findall("is not being kept: ", term.text())) == 1
        place.unlink()
        assert "· it is called The whole" in await enter(term, "/rename The whole")
        await ask(term, server, "q3", "Three.")
        assert "a copy" in (await enter(term, "/fork"))[0]
        term.type("quit\r")
        assert await term.end() == 0
        assert term.text().count("kept again") == 1
        assert "not kept" not in term.text()
    said = [("user", "q1"), ("assistant", "One."), ("user", "q2"), ("assistant", "Two.")]
    said += [("user", "q3"), ("assistant", "Three.")]
    assert messages(place / "chats.db") == said * 2
    titles = rows(place / "chats.db", "SELECT title, messages FROM conversations")
    assert titles == [("The whole", 6)] * 2


@on_loop
async def test_in_the_end_it_says_what_is_not_kept(tmp_path: Path) -> None:
    place, named = in_the_way(tmp_path)
    async with Provider() as server:
        async with Terminal(home=tmp_path, columns=200, environ=to(server, **named)) as term:
            await begin(term)
            for number in range(5):
                await ask(term, server, f"q{number}", "So.")
            await enter(term, "/clear")
            await ask(term, server, "another", "So.")
            term.type("quit\r")
            assert await term.end() == 0
            await term.quiet()
            assert term.rows()[-1] == (
                "· not kept, or not whole: “q3”, “q4”, “another” and 3 before"
            )
        async with Terminal(home=tmp_path, columns=200, environ=to(server, **named)) as term:
            await begin(term)
            await ask(term, server, "q1", "One.")
            place.unlink()
            term.type("quit\r")
            assert await term.end() == 0
            await term.quiet()
            assert "not kept" not in term.text()
    assert messages(place / "chats.db") == [("user", "q1"), ("assistant", "One.")]


@pytest.mark.slow
@on_loop
async def test_a_locked_store_is_said_at_once_also_at_the_prompt(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=200, environ=to(server)) as term,
    ):
        await begin(term)
        await ask(term, server, "q1", "One.")
        with held(store(tmp_path)):
            await ask(term, server, "q2", "Two.")
            assert "not being kept" not in term.text()
            term.type("half a line")
            await term.until("this conversation is not being kept: .* holds it locked")
            await term.quiet()
            shown = term.rows()
            assert shown.index("Two.") < shown.index("› half a line")
            assert len([row for row in shown if "not being kept" in row]) == 1
            assert shown.index("› half a line") > next(
                at for at, row in enumerate(shown) if "not being kept" in row
            )
        await term.until("kept again")  # nobody has to do anything for it
        await term.quiet()
        assert messages(store(tmp_path))[2:] == [("user", "q2"), ("assistant", "Two.")]
        server.script(*answer("Three."))
        term.type(" and more\r")
        await term.until("Three")
        await term.quiet()
    assert messages(store(tmp_path))[4] == ("user", "half a line and more")


@pytest.mark.slow
@on_loop
async def test_a_locked_store_is_said_of_the_conversation_that_it_befell(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=200, environ=to(server)) as term,
    ):
        await begin(term)
        await ask(term, server, "q1", "One.")
        with held(store(tmp_path)):
            await ask(term, server, "q2", "Two.")
            await enter(term, "/clear")
            await term.until("the conversation with “q2” is not being kept: ")
            await term.quiet()
            await ask(term, server, "q3", "Three.")
            await term.until("this conversation is not being kept: ")
        await term.until("kept again")
        term.type("quit\r")
        assert await term.end() == 0
    counts = rows(store(tmp_path), "SELECT title, messages FROM conversations ORDER BY title")
    assert counts == [("q1", 4), ("q3", 2)]


@pytest.mark.slow
@on_loop
async def test_a_locked_store_is_said_while_the_answer_is_waited_for(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=200, environ=to(server)) as term,
    ):
        await begin(term)
        await ask(term, server, "q1", "One.")
        gate = Gate()
        with held(store(tmp_path)):
            server.script(gate, *answer("Two."))
            term.type("q2\r")
            await term.until("this conversation is not being kept: ")
            assert "Two." not in term.text()
            gate.open()
            await term.until("Two")
            await term.quiet()
        term.type("quit\r")
        assert await term.end() == 0
    assert messages(store(tmp_path))[2:] == [("user", "q2"), ("assistant", "Two.")]


# --- Gone on with --------------------------------------------------------------------------------


@on_loop
async def test_answers_that_broke_off_are_gone_on_with(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        assert await enter(term, "/continue") == ["· there is no answer to go on with"]

        server.script(chunk("Stopped by "), Hang())
        term.type("q1\r")
        await term.until("Stopped by")
        term.type("\x03")
        await term.until("─ stopped ·")
        await term.quiet()
        server.script(*answer("the user."))
        assert (await enter(term, "/continue"))[1] == "Stopped by the user."

        server.script(*answer("Too long", finish="length"))
        await enter(term, "q2")
        server.script(*answer(" for it."))
        assert (await enter(term, "/continue"))[1] == "Too long for it."

        server.script(chunk("The wolf sleeps in the forest. It was cut "), Cut())
        rows_ = await enter(term, "q3")
        assert rows_[-1] == "· /continue goes on with it, /retry asks anew"
        server.script(*answer("The wolf sleeps in the forest. It was cut in the middle."))
        shown = await enter(term, "/continue")
        assert shown[1] == "The wolf sleeps in the forest. It was cut in the middle."

        asked = len(server.requests)
        assert await enter(term, "/continue") == [
            "· the last answer is complete",
            "· Ask for more in your own words.",
        ]
        assert len(server.requests) == asked
        await ask(term, server, "q4", "Four.")
        assert [text for _, text in sent(server)] == [
            "q1",
            "Stopped by the user.",
            "q2",
            "Too long for it.",
            "q3",
            "The wolf sleeps in the forest. It was cut in the middle.",
            "q4",
        ]
    kept = [text for role, text in messages(store(tmp_path)) if role == "assistant"]
    assert kept == [
        "Stopped by the user.",
        "Too long for it.",
        "The wolf sleeps in the forest. It was cut in the middle.",
        "Four.",
    ]


@on_loop
async def test_code_that_broke_off_goes_on_as_code(tmp_path: Path) -> None:
    begun = "Here it is:\n\n```python\ndef f(x):\n    y = x\n    retu"
    rest = "rn y\n\nprint(f(1))\n```\n\nThat is it."
    async with (
        Provider() as server,
        Terminal(home=tmp_path, lines=50, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        server.script(*answer(begun, finish="length"))
        assert "python 1" in [row.strip(" ▌") for row in await enter(term, "q")]
        server.script(*error(400, "boom"))
        assert len(await enter(term, "/continue")) == 2  # the failure and what to do
        server.script(*answer(rest))
        shown = [row.strip(" ▌") for row in await enter(term, "/continue")]
        assert "return y" in shown
        assert "print(f(1))" in shown
        assert "That is it." in shown
        assert [row for row in shown if "python" in row or "```" in row] == ["python 1"]
        assert shown.index("python 1") < shown.index("return y")
        assert await enter(term, "/code 1") == [
            "def f(x):",
            "    y = x",
            "    return y",
            "",
            "print(f(1))",
        ]
    assert messages(store(tmp_path)) == [("user", "q"), ("assistant", begun + rest)]
