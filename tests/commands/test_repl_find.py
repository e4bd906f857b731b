"""Conversations found again in the chat, on a real pty: where they are kept, and where not."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.commands.test_repl import PROMPT, enter, foreground, to
from tests.provider import Provider, answer, error, on_loop, until
from tests.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

LONG = f"{'before ' * 30}needle {'after ' * 30}"
HOUR = 3_600_000  # milliseconds


async def ask(term: Terminal, server: Provider, prompt: str, text: str = "So.") -> None:
    server.script(*answer(text))
    await enter(term, prompt)


def store(home: Path) -> Path:
    return home / ".local" / "share" / "holychat" / "conversations.db"


def titles(home: Path) -> list[str]:
    with closing(sqlite3.connect(store(home))) as db:
        return [str(title) for (title,) in db.execute("SELECT title FROM conversations")]


def aged(home: Path, title: str, ago: int) -> str:
    """Put a conversation so many milliseconds into the past; its short id."""
    with closing(sqlite3.connect(store(home))) as db, db:
        db.execute("UPDATE conversations SET updated = updated - ? WHERE title = ?", (ago, title))
        found = db.execute("SELECT id FROM conversations WHERE title = ?", (title,)).fetchone()
    return str(found[0][:8])


# --- Words ---------------------------------------------------------------------------------------


@on_loop
async def test_a_match_is_highlighted_and_in_sight(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, columns=60, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        await ask(term, server, "q1", LONG)
        start = len(term.raw)
        shown = await enter(term, "/search needle")
        assert b"\x1b[1;36mneedle\x1b[0m" in term.raw[start:]
        assert "needle" in shown[1]
        assert shown[1].strip().startswith("…")
        assert shown[1].endswith("…")
        assert all(len(row) < 60 for row in shown)
        await enter(term, "/theme warm")
        await enter(term, "/search needle")
        assert foreground(term, "needle after") == "magenta"


@on_loop
async def test_a_match_is_plain_without_colours_and_has_no_controls(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, NO_COLOR="1")) as term,
    ):
        await term.until(PROMPT)
        await ask(term, server, "q1", "a \x1b[31mneedle\x1b]52;c;aGk=\x07 in hay")
        start = len(term.raw)
        shown = await enter(term, "/search needle")
        assert shown[1].strip() == "a ␛[31mneedle␛]52;c;aGk=␇ in hay"
        assert shown[-1] == "  /resume ID goes on with one"
        assert b"36m" not in term.raw[start:]
        assert b"\x1b]52" not in term.raw


# --- Names ---------------------------------------------------------------------------------------


@on_loop
async def test_a_name_that_fits_several_lists_them_one_a_row(tmp_path: Path) -> None:
    long = "about mountains " + "and more of them " * 2 + "and more"
    async with Provider() as server:
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await term.until(PROMPT)
            for prompt in (
                "about rivers",
                long,
                "关于河流的一个问题，还有很多别的问题，一直到这里为止吧 about",
            ):
                await ask(term, server, prompt)
                await enter(term, "/new")
            term.type("quit\r")
            assert await term.end() == 0
        low = aged(tmp_path, "about rivers", 3 * HOUR)
        async with Terminal(home=tmp_path, environ=to(server)) as term:
            await term.until(PROMPT)
            head, wide, high, rivers = await enter(term, "/resume About")
            assert head == "· About may be several conversations; /resume ID goes on with one"
            assert rivers.startswith(f"  {low}  about rivers  ")
            assert rivers.endswith("3 h ago")
            assert high.split("  ")[2].startswith("about mountains and more")
            assert high.endswith("just now")
            assert wide.endswith("just now")
            assert max(len(row) for row in (head, high, rivers)) < 80
            assert (await enter(term, f"/resume {low}"))[0] == "· about rivers"


@on_loop
async def test_of_very_many_that_a_name_fits_the_newest_are_listed(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        await ask(term, server, "about 0")
        with closing(sqlite3.connect(store(tmp_path))) as db, db:
            db.executemany(
                "INSERT INTO conversations (id, title, created, updated) VALUES (?, ?, 1, ?)",
                [(f"aaaa{number:08}", f"about {number}", number) for number in range(1, 31)],
            )
        shown = await enter(term, "/resume about")
        assert len(shown) == 14
        assert shown[-1] == "  … 19 more; /sessions about lists more of them"


@on_loop
async def test_a_name_that_fits_none_says_where_to_look(tmp_path: Path) -> None:
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server)) as term,
    ):
        await term.until(PROMPT)
        await ask(term, server, "about rivers")
        assert await enter(term, "/resume glaciers") == [
            "· no conversation is called glaciers",
            "· /sessions lists them, /search finds words in them.",
        ]


# --- Nothing is kept -----------------------------------------------------------------------------

KEPT = (
    "/fork",
    "/rename",
    "/rename x",
    "/sessions",
    "/search",
    "/search One",
    "/resume",
    "/resume q1",
    "/export",
    "/export out.md",
)


@pytest.mark.parametrize(
    ("arguments", "environ", "why"),
    [
        (("--no-store",), {}, "--no-store"),
        ((), {"HOLYCHAT_STORE": "none"}, "store is none (environment HOLYCHAT_STORE)"),
    ],
)
@on_loop
async def test_what_needs_the_store_says_that_nothing_is_kept(
    tmp_path: Path, arguments: tuple[str, ...], environ: dict[str, str], why: str
) -> None:
    async with (
        Provider() as server,
        Terminal(*arguments, home=tmp_path, environ=to(server, **environ)) as term,
    ):
        await term.until(PROMPT)
        assert await enter(term, "/fork") == [f"· nothing is kept here: {why}"]
        await ask(term, server, "q1", "One.")
        for line in KEPT:
            assert await enter(term, line) == [f"· nothing is kept here: {why}"], line
        # It needs no store: the answer is here.
        assert await enter(term, "/save out.md") == ["· saved in out.md"]
        assert (tmp_path / "out.md").read_text() == "One.\n"
    assert not store(tmp_path).exists()


@on_loop
async def test_a_store_that_cannot_be_used_is_not_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    async with (
        Provider() as server,
        Terminal(home=tmp_path, environ=to(server, HOLYCHAT_STORE=str(tmp_path / "store"))) as term,
    ):
        await term.until(PROMPT)
        await ask(term, server, "q1", "One.")
        assert term.text().count("this conversation is not being kept") == 1  # with its reason
        for line in ("/fork", "/rename x", "/export out.md"):
            assert await enter(term, line) == ["· this conversation is not being kept"], line
        assert "out.md" not in os.listdir(tmp_path)
        await ask(term, server, "q2", "Two.")
        assert len(server.requests[-1].json["messages"]) == 3


@on_loop
async def test_a_title_that_the_model_makes(tmp_path: Path) -> None:
    async with Provider() as server:
        environ = {**to(server), "HOLYCHAT_TITLE": "model"}
        async with Terminal(home=tmp_path, environ=environ, columns=100) as term:
            await term.until(PROMPT)
            server.script(*answer("They run down."))
            server.script(*answer('"Where rivers run"\nand more\x1b[31m'))
            await enter(term, "Tell me about rivers, if you please")
            await term.until("Where rivers run")  # in the toolbar
            server.script(*answer("They rest."))
            await enter(term, "and lakes")
            term.type("quit\r")
            assert await term.end() == 0
    assert len(server.requests) == 3
    assert titles(tmp_path) == ["Where rivers run"]
    assert "Tell me about rivers" in str(server.requests[1].json["messages"])


@on_loop
async def test_a_title_that_cannot_be_had_is_the_first_words(tmp_path: Path) -> None:
    async with Provider() as server:
        environ = {**to(server), "HOLYCHAT_TITLE": "model"}
        async with Terminal(home=tmp_path, environ=environ, columns=100) as term:
            await term.until(PROMPT)
            server.script(*answer("They run down."))
            server.script(*error(500, "no title today"))
            await enter(term, "Tell me about rivers")
            await until(lambda: len(server.requests) == 2)
            term.type("quit\r")
            assert await term.end() == 0
            assert "no title today" not in term.text()
    assert titles(tmp_path) == ["Tell me about rivers"]
