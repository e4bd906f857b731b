"""`holychat history` as a process, on a real store and a real terminal; times and columns alone."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from holychat.commands.history import lines
from holychat.commands.history.show import others
from holychat.core.chat import Finish, Timings, Turn, Usage
from holychat.core.failure import Failure, Kind, UsageError
from holychat.core.history import Conversation, Kept
from holychat.engine import times
from holychat.screen.pen import Pen, cells
from holychat.screen.words import when
from holychat.store import conversations, turns
from holychat.store.db import Database
from tests.process import Place
from tests.provider import on_loop
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process import Ended

HOUR = 3_600_000
EVIL = "evil \x1b[2J\u202e title"
ANSWER = "Use **sorted**:\n\n```python\nsorted(d)\n```\n"


class Shelf:
    """A store that holds what a test says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = Database(str(path))
        self._writer = turns.enlist(self.db)

    def say(
        self,
        prompt: str,
        answer: str,
        *,
        into: str = "",
        parent: int | None = None,
        finish: Finish = Finish.STOP,
        who: tuple[str, str] = ("holysheep", "deepseek-chat"),
        age: int = 0,
        failure: Failure | None = None,
    ) -> tuple[str, int]:
        """One exchange, `age` hours ago; (conversation, the answer's number or 0)."""
        provider, model = who
        begun = turns.begin(
            self.db,
            self._writer,
            into,
            prompt,
            parent,
            provider=provider,
            model=model,
            system="Be brief.",
            params={},
        )
        usage = Usage(1200, 40, cached=1000) if answer else None
        turn = Turn(answer, "hm", finish, provider, model, usage, Timings(0.1, 0.2, 1), failure)
        made = turns.close(self.db, begun, turn)
        then = times.now() - age * HOUR
        self.db.run("UPDATE conversations SET updated = ? WHERE id = ?", (then, begun.conversation))
        return begun.conversation, made or 0

    def open(
        self,
        prompt: str,
        text: str,
        into: str = "",
        parent: int | None = None,
        onto: int | None = None,
    ) -> str:
        """An answer that nobody closes."""
        begun = turns.begin(
            self.db, self._writer, into, prompt, parent,
            provider="box", model="m", system="", params={}, onto=onto,
        )  # fmt: skip
        turns.journal(self.db, self._writer, [(begun.turn, 0, text, "")])
        return begun.conversation

    def titles(self) -> list[str]:
        return sorted(each.title for each in conversations.listing(self.db))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def shelf(place: Place) -> Iterator[Shelf]:
    shelf = Shelf(place.home / ".local" / "share" / "holychat" / "conversations.db")
    yield shelf
    shelf.db.close()


async def history(place: Place, *arguments: str, code: int = 0, **more: Any) -> Ended:
    ended = await place.run("history", *arguments, **more)
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    return ended


async def left(seen: Terminal) -> int:
    """Its exit code, when all that it wrote has been read."""
    code = await seen.end()
    while not seen._ended:
        seen._read()
    return code


def term(place: Place, *arguments: str, **more: Any) -> Terminal:
    return Terminal("history", *arguments, home=place.home, **more)


# --- Without anything ---------------------------------------------------------------------------


@on_loop
async def test_without_a_store_there_is_nothing_and_nothing_is_made(place: Place) -> None:
    for command in (["list"], ["search", "x"], ["prune", "--older-than", "1d"]):
        ended = await history(place, *command)
        assert (ended.out, ended.err) == (b"", "· no conversations yet\n")
    for command in (["list", "--json"], ["search", "x", "--json"]):
        assert (await history(place, *command)).text == "[]\n"
    for command in (
        ["show", "x"], ["delete", "x", "-y"], ["fork", "x"], ["backup", "b.db"], ["export"],
        ["export", "x"], ["export", "-o", "a.json"], ["rename", "x", "y"],
    ):  # fmt: skip
        ended = await history(place, *command, code=2)
        assert ended.err.startswith("holychat: no conversations yet\n")
    assert os.listdir(place.home) == os.listdir(place.work) == []


@on_loop
async def test_no_store_is_said(place: Place) -> None:
    ended = await place.run("--no-store", "history", "list")
    assert ended.code == 2
    assert ended.err.startswith("holychat: no conversations are kept: store is none (--store)")
    ended = await history(place, "show", "x", code=2, HOLYCHAT_STORE="none")
    assert "HOLYCHAT_STORE" in ended.err


@on_loop
async def test_a_store_that_cannot_be_used_is_one_sentence(place: Place, shelf: Shelf) -> None:
    other = place.work / "other.db"
    other.write_bytes(b"this is no database at all" * 100)
    ended = await history(place, "list", "--store", str(other), code=1)
    assert "it is no database\n  It is left as it is" in ended.err
    assert os.listdir(place.work) == ["other.db"]
    with closing(sqlite3.connect(place.work / "new.db")) as newer:
        newer.execute("PRAGMA user_version = 999")
    ended = await history(place, "list", code=1, HOLYCHAT_STORE=str(place.work / "new.db"))
    assert "was written by a newer holychat" in ended.err
    ended = await history(place, "list", "--store", str(place.work), code=1)
    assert ended.err.startswith("holychat: the store ")
    os.mkfifo(place.work / "pipe")
    for command in (["list"], ["export"]):
        ended = await history(place, *command, "--store", "pipe", code=1)
        assert ended.err.startswith(f"holychat: the store {place.work / 'pipe'}: it is no file\n")


@pytest.mark.parametrize("word", ["off", "OFF", "false", "0", "no", "none"])
@on_loop
async def test_a_store_that_is_off_is_none(place: Place, word: str) -> None:
    ended = await history(place, "list", code=2, HOLYCHAT_STORE=word)
    assert ended.err.startswith("holychat: no conversations are kept: store is none")
    assert os.listdir(place.work) == []


@on_loop
async def test_an_empty_store_holds_no_conversations(place: Place, shelf: Shelf) -> None:
    for command in (["list"], ["list", "-n", "3"]):
        assert (await history(place, *command)).err == "· no conversations yet\n"
    assert (await history(place, "list", "--since", "7d")).err == "· no conversation fits\n"


# --- The list -----------------------------------------------------------------------------------


@on_loop
async def test_a_list_in_a_pipe_is_aligned_and_whole(place: Place, shelf: Shelf) -> None:
    first, _ = shelf.say("How do I sort?", ANSWER, age=50)
    long = "a-very-long-vendor/a-model-with-a-very-long-name-2025-01-01"
    second, _ = shelf.say("如何用 Python 排序", "用 sorted", who=("box", long), age=2)
    ended = await history(place, "list", COLUMNS="30")
    assert ended.text.splitlines() == [
        f"{second[:8]}  2 h ago  如何用 Python 排序  {long}  2 msg",
        f"{first[:8]}  2 d ago  How do I sort?      {'deepseek-chat':<{len(long)}}  2 msg",
    ]
    assert ended.err == ""


@on_loop
async def test_a_list_is_narrowed(place: Place, shelf: Shelf) -> None:
    shelf.say("one", "1", age=1)
    shelf.say("two", "2", age=30, who=("box", "GPT-4.1-mini"))
    shelf.say("three", "3", age=24 * 40)

    async def titles(*options: str) -> list[str]:
        return [
            row["title"]
            for row in json.loads((await history(place, "list", *options, "--json")).out)
        ]

    day = times.datetime.fromtimestamp((times.now() - 30 * HOUR) / 1000).date().isoformat()
    assert await titles() == ["one", "two", "three"]
    assert await titles("-n", "2") == ["one", "two"]
    assert await titles("--since", "12h") == ["one"]
    assert await titles("--since", "2d") == ["one", "two"]
    assert await titles("--until", "1m") == ["three"]
    assert await titles("--since", day, "--until", day) == ["two"]
    assert await titles("-p", "box") == await titles("-m", "gpt") == ["two"]
    assert json.loads((await place.run("-m", "gpt", "history", "list", "--json")).out)
    assert "no conversation fits" in (await history(place, "list", "-p", "nobody")).err


@pytest.mark.parametrize("said", ["soon", "7", "7x", "2026-13-01", "9999999d", "", "-7d"])
@on_loop
async def test_a_time_that_is_none(place: Place, shelf: Shelf, said: str) -> None:
    ended = await history(place, "prune", f"--older-than={said}", code=2)
    assert ended.err.count("\n") == 1
    assert "--older-than takes 12h, 7d" in ended.err


@on_loop
async def test_json_is_raw_and_whole(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say(EVIL, "answer \x1b[2J", who=("box", "m"))
    [row] = json.loads((await history(place, "list", "--json")).out)
    assert set(row) == {
        "id", "title", "created", "updated", "provider", "model", "messages", "origin",
    }  # fmt: skip
    assert (row["id"], row["title"], row["messages"]) == (made, EVIL, 2)
    [hit] = json.loads((await history(place, "search", "answer", "--json")).out)
    assert hit["conversation"]["id"] == made
    assert (hit["role"], hit["match"]) == ("assistant", "answer")
    shown = json.loads((await history(place, "show", made, "--json")).out)
    assert [each["text"] for each in shown["messages"]] == [EVIL, "answer \x1b[2J"]
    assert shown["messages"][1]["turn"]["finish"] == "stop"
    assert shown["messages"][1]["turn"]["usage"]["cached"] == 1000
    assert shown["system"] == "Be brief."


@on_loop
async def test_a_very_long_title_floods_nothing(place: Place, shelf: Shelf) -> None:
    """It is cut where it is given, and where it was given before there was a limit."""
    long, _ = shelf.say("long", "text")
    shelf.say("short", "text", who=("box", "m" * 1000))
    ended = await history(place, "rename", long, "x" * 100_000)
    assert ended.err == f"· {long[:8]} is called {'x' * 199}…\n"
    for title in (None, "y" * 100_000):
        if title is not None:
            shelf.db.run("UPDATE conversations SET title = ? WHERE id = ?", (title, long))
        for command in (["list"], ["show", long], ["search", "text"], ["export", long]):
            ended = await history(place, *command)
            assert max(len(line) for line in ended.text.splitlines()) < 500, command
        rows = {row.split()[0]: row for row in (await history(place, "list")).text.splitlines()}
        assert len(rows[long[:8]]) > 200
        assert all(" " * 62 not in row for row in rows.values())
    [row] = [
        row for row in json.loads((await history(place, "list", "--json")).out) if row["id"] == long
    ]
    assert row["title"] == "y" * 199 + "…"


@on_loop
async def test_days_have_names(place: Place, shelf: Shelf) -> None:
    shelf.say("one", "1")
    assert (await history(place, "list", "--since", "today")).text
    assert (await history(place, "list", "--since", "Tomorrow")).text == ""
    assert (await history(place, "list", "--until", "yesterday")).text == ""


# --- One conversation ---------------------------------------------------------------------------


@on_loop
async def test_show_in_a_pipe_is_the_source(place: Place, shelf: Shelf) -> None:
    made, answer = shelf.say("How do I\nsort?", ANSWER, age=3)
    ended = await history(place, "show", made[:4])
    assert ended.text == (
        f"{made[:8]}  How do I sort?\n"
        "· 3 h ago · deepseek-chat on holysheep\n"
        "· system: Be brief.\n\n"
        "› How do I\n  sort?\n\n"
        f"{ANSWER}\n"
        f"· {answer} · deepseek-chat on holysheep · 1,200 in (1,000 cached) · 40 out\n"
    )
    drawn = await history(place, "show", "i sort", "--render")
    assert "Use sorted:\n\npython 1\nsorted(d)\n" in drawn.text


@on_loop
async def test_a_conversation_without_a_provider_names_none(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say("one", "two", who=("", "gpt-4o"))
    shelf.db.run("UPDATE conversations SET origin = 'chatgpt' WHERE id = ?", (made,))
    shown = (await history(place, "show", made)).text
    assert " · gpt-4o · from chatgpt\n" in shown
    assert " on " not in shown


@on_loop
async def test_what_is_not_whole_says_so(place: Place, shelf: Shelf) -> None:
    failure = Failure(Kind.RESET, "the connection broke")
    cut, _ = shelf.say("cut one", "half", finish=Finish.CUT, failure=failure)
    ended = await history(place, "show", cut)
    assert ended.text.endswith("40 out · cut off: what came is kept\n")
    turn = json.loads((await history(place, "show", cut, "--json")).out)["messages"][1]["turn"]
    assert turn["complete"] is False
    assert turn["error"] == {"kind": "reset", "message": "the connection broke"}
    stopped, _ = shelf.say("stopped one", "half", finish=Finish.INTERRUPTED)
    assert "40 out · stopped\n" in (await history(place, "show", stopped)).text
    failed, _ = shelf.say("failed one", "", finish=Finish.FAILED)
    ended = await history(place, "show", failed)
    assert ended.text.endswith("› failed one\n\n· no answer was kept\n")


@on_loop
async def test_an_open_answer_is_shown_as_far_as_it_came(place: Place, shelf: Shelf) -> None:
    made, answer = shelf.say("one", "two")
    shelf.open("three", "half of fo", made, answer)
    ended = await history(place, "show", made)
    assert ended.text.endswith(
        "› three\n\nhalf of fo\n\n· m on box · not finished: it is being written, "
        "or its writer died\n"
    )
    shown = json.loads((await history(place, "show", made, "--json")).out)
    assert shown["unfinished"][0]["text"] == "half of fo"


@on_loop
async def test_an_answer_that_is_gone_on_with_or_asked_for_again(
    place: Place, shelf: Shelf
) -> None:
    made, answer = shelf.say("one", "two and", finish=Finish.CUT)
    shelf.open("one", " a half", made, onto=answer)
    text = (await history(place, "show", made)).text
    assert "› one\n\ntwo and a half\n\n· " in text
    assert text.endswith("is kept · not finished: it is being written, or its writer died\n")
    made, answer = shelf.say("three", "four")
    shelf.open("three", "again", made)
    for every in ([], ["--all"]):
        text = (await history(place, "show", made, *every)).text
        assert "four\n\n" in text
        assert text.count("── another answer to “three” ──\n\nagain\n\n· m on box · not") == 1


@on_loop
async def test_all_branches(place: Place, shelf: Shelf) -> None:
    made, first = shelf.say("one", "first")
    shelf.say("two", "left", into=made, parent=first)
    shelf.say("two", "taken", into=made, parent=first)
    shelf.say("other", "beginning", into=made)
    shelf.say("two", "taken again", into=made, parent=first)
    one = (await history(place, "show", made)).text
    assert "taken again\n" in one
    assert "left" not in one
    every = (await history(place, "show", made, "--all")).text
    assert every.startswith(one.rstrip("\n"))
    assert every.count("── another answer to “two” ──") == 2
    assert every.count("── another beginning ──") == 1
    for text in ("left", "taken", "beginning", "taken again", "first"):
        assert every.splitlines().count(text) == 1
    shown = json.loads((await history(place, "show", made, "--all", "--json")).out)
    assert len(shown["messages"]) == 8
    assert len(shown["branch"]) == 4


def test_others_holds_every_message_once_and_is_not_recursive() -> None:
    chain = {n: Kept(n, n - 1 or None, "user", "") for n in range(1, 5001)}
    [only] = others(chain, [])
    assert [each.id for each in only] == list(chain)
    assert others(chain, only) == []
    loop = {1: Kept(1, 2, "user", ""), 2: Kept(2, 1, "user", "")}  # a damaged file
    assert sum(map(len, others(loop, []))) == 2


@on_loop
async def test_a_name_that_fits_several_lists_them(place: Place, shelf: Shelf) -> None:
    ids = [shelf.say(f"Sourdough {n}", "flour")[0] for n in range(7)]
    ended = await history(place, "show", "sourDOUGH", code=2)
    head, *listed = ended.err.splitlines()
    assert head == "holychat: sourDOUGH may be several conversations:"
    assert len(listed) == 5
    assert all(line.split()[0] in {each[:8] for each in ids} for line in listed)
    assert listed[-1].endswith(", ...")
    ended = await history(place, "show", "nothing", code=2)
    assert "no conversation is called nothing" in ended.err


@on_loop
async def test_titles_are_found_whatever_their_letters(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say("Über die Brücke", "ja")
    for name in ("Über", "über DIE", "BRÜCKE", "Über die Brücke"):
        assert made[:8] in (await history(place, "show", name)).text


# --- The search ---------------------------------------------------------------------------------


@on_loop
async def test_search_in_a_pipe(place: Place, shelf: Shelf) -> None:
    made, answer = shelf.say("Feed a starter?", "Feed the Starter\ntwice a day.", age=3)
    shelf.say("more", "the starter again", into=made, parent=answer, age=3)
    shelf.say("other", "nothing of it", who=("box", "m"))
    ended = await history(place, "search", "starter")
    head, *hits = ended.text.splitlines()
    assert head == f"{made[:8]}  Feed a starter?  3 h ago"
    assert sorted(hits) == [
        "    Feed the Starter twice a day.",
        "    the starter again",
        "  › Feed a starter?",
    ]
    assert ended.err == ""
    ended = await history(place, "search", "starter", "-n", "1")
    assert len(ended.text.splitlines()) == 2
    assert ended.err == "· the best 1; -n takes more\n"
    assert (
        "nothing with “nowhere to be”" in (await history(place, "search", "nowhere", "to be")).err
    )
    assert "nothing with" in (await history(place, "search", "starter", "-p", "box")).err
    assert (await history(place, "search", "", code=0)).out == b""


@on_loop
async def test_words_that_begin_with_a_dash_are_words(place: Place, shelf: Shelf) -> None:
    shelf.say("one", "foo->bar and --force-with-lease")
    for command in (["->bar"], ["foo", "->bar", "-n", "5"], ["--", "--force-with-lease"]):
        ended = await history(place, "search", *command)
        assert "foo->bar" in ended.text
    ended = await history(place, "search", "->bar", "--json")
    assert json.loads(ended.out)[0]["match"] == "->bar"
    ended = await history(place, "search", "--force-with-lease", code=2)
    assert ended.err == (
        "holychat: there is no option --force-with-lease\n"
        "  Words that begin with - stand behind --: holychat history search -- WORDS\n"
    )
    assert "--since takes" in (await history(place, "search", "x", "--since", "-7d", code=2)).err


@on_loop
async def test_colours_only_where_they_are_wanted(place: Place, shelf: Shelf) -> None:
    shelf.say("one", "the match here")
    plain = await history(place, "search", "match")
    assert b"\x1b" not in plain.out
    forced = await history(place, "search", "match", FORCE_COLOR="1")
    assert "the \x1b[1;36mmatch\x1b[0m here" in forced.text
    off = await place.run("--no-color", "history", "search", "match", FORCE_COLOR="1")
    assert off.out == plain.out


# --- Changes ------------------------------------------------------------------------------------


@on_loop
async def test_rename(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say("one", "two")
    ended = await history(place, "rename", made[:5], "A  new\ttitle", "of words")
    assert ended.err == f"· {made[:8]} is called A new title of words\n"
    assert shelf.titles() == ["A new title of words"]
    assert "at least one letter" in (await history(place, "rename", made, " ", code=2)).err


@on_loop
async def test_fork(place: Place, shelf: Shelf) -> None:
    made, first = shelf.say("one", "first")
    shelf.say("two", "second", into=made, parent=first)
    whole = (await history(place, "fork", made)).text.strip()
    assert len(conversations.tree(shelf.db, whole)) == 4
    ended = await history(place, "fork", made, "--at", str(first))
    part = conversations.get(shelf.db, ended.text.strip())
    assert [each.text for each in conversations.branch(shelf.db, part)] == ["one", "first"]
    assert f"holychat --session {part.short}" in ended.err
    ended = await history(place, "fork", made, "--at", "999999", code=2)
    assert "has no message 999999" in ended.err
    ended = await history(place, "fork", made, "--at", str(first + 1), code=2)
    assert f"The answer before it is {first}." in ended.err
    assert len(shelf.titles()) == 3


@on_loop
async def test_delete_is_asked_for(place: Place, shelf: Shelf) -> None:
    ids = [shelf.say(f"talk {n}", "text")[0] for n in range(3)]
    ended = await history(place, "delete", ids[0], code=2)
    assert "--yes does not ask" in ended.err
    ended = await history(place, "delete", ids[0], "no such", "--yes", code=2)
    assert len(shelf.titles()) == 3
    ended = await history(place, "delete", ids[0], "talk 0", ids[1][:6], "--yes")
    assert ended.err.endswith("· 2 conversations deleted\n")
    assert shelf.titles() == ["talk 2"]
    assert shelf.db.check() == []
    assert (await history(place, "search", "text", "--json")).text.count('"message"') == 1


@on_loop
async def test_prune(place: Place, shelf: Shelf) -> None:
    for n in range(130):  # more than goes in one transaction
        shelf.say(f"old {n}", "text", age=24 * 100)
    shelf.say("new", "text", age=24)
    dry = await history(place, "prune", "--older-than", "90d", "--dry-run")
    assert len(dry.text.splitlines()) == 130
    assert "130 conversations not spoken in since " in dry.err
    assert (await history(place, "prune", "--older-than", "90d", code=2)).err.count("--yes") == 1
    assert len(shelf.titles()) == 131
    ended = await history(place, "prune", "--older-than", "90d", "--yes")
    assert ended.err.endswith("· 130 conversations deleted\n")
    assert shelf.titles() == ["new"]
    assert "0 conversations" in (await history(place, "prune", "--older-than", "90d", "-y")).err
    assert "Missing option '--older-than'" in (await history(place, "prune", code=2)).err


@on_loop
async def test_backup(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say("one", "two")
    ended = await history(place, "backup", "copy.db")
    copy = place.work / "copy.db"
    assert ended.err == f"· {copy.stat().st_size / 1e6:.1f} MB in {copy}\n"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    listed = await history(place, "list", "--store", str(copy))
    assert listed.text.startswith(made[:8])
    before = copy.read_bytes()
    for command in (["backup", "copy.db"], ["export", "--format", "md", "-o", "copy.db"]):
        ended = await history(place, *command, code=2)
        assert "copy.db is there already\n  Nothing was written" in ended.err
    assert copy.read_bytes() == before
    ended = await history(place, "backup", "no/such/folder.db", code=2)
    assert ended.err == "holychat: no/such/folder.db cannot be written: No such file or directory\n"
    (place.work / "closed").mkdir(mode=0o500)
    if os.access(place.work / "closed", os.W_OK):  # root may write anywhere
        return
    ended = await history(place, "backup", "closed/copy.db", code=2)
    assert ended.err == "holychat: closed/copy.db cannot be written: Permission denied\n"


@on_loop
async def test_every_change_can_be_told_as_json(place: Place, shelf: Shelf) -> None:
    async def told(*arguments: str) -> Any:
        ended = await history(place, *arguments, "--json")
        assert "·" not in ended.err
        return json.loads(ended.out)

    made, _ = shelf.say("one", "two", age=24 * 100)
    row = {"id": made, "title": "new name", "messages": 2}
    assert row.items() <= (await told("rename", made, "new name")).items()
    copy = await told("fork", made)
    assert (copy["origin"], copy["title"]) == (made, "new name")
    assert conversations.get(shelf.db, copy["id"]).messages == 2
    assert await told("backup", "copy.db") == {
        "path": str(place.work / "copy.db"),
        "bytes": (place.work / "copy.db").stat().st_size,
    }
    written = await told("export", made, "-o", "a.html")
    assert (written["path"], written["format"]) == (str(place.work / "a.html"), "html")
    assert [each["id"] for each in written["conversations"]] == [made]
    gone = await told("delete", copy["id"], "--yes")
    assert (gone["deleted"], [each["id"] for each in gone["conversations"]]) == (1, [copy["id"]])
    dry = await told("prune", "--older-than", "90d", "--dry-run")
    assert (dry["dry_run"], dry["deleted"]) == (True, 0)
    assert [each["id"] for each in dry["conversations"]] == [made]
    assert abs(times.now() - 90 * 24 * HOUR - dry["before"]) < HOUR
    gone = await told("prune", "--older-than", "90d", "-y")
    assert (gone["dry_run"], gone["deleted"], len(gone["conversations"])) == (False, 1, 1)
    assert (await told("prune", "--older-than", "90d"))["conversations"] == []
    assert shelf.titles() == []


@on_loop
async def test_without_a_store_json_is_json(place: Place) -> None:
    ended = await history(place, "prune", "--older-than", "1d", "--json")
    assert json.loads(ended.out)["deleted"] == 0


@on_loop
async def test_what_is_deleted_is_asked_for_with_json_too(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say("one", "two", age=24 * 100)
    for command in (["delete", made], ["prune", "--older-than", "1d"]):
        ended = await history(place, *command, "--json", code=2)
        assert (ended.out, "--yes does not ask" in ended.err) == (b"", True)
    async with term(place, "delete", made, "--json") as seen:
        await seen.until(r"\[y/N\]")
        seen.type("n\r")
        assert await left(seen) == 0
    assert '"deleted": 0' in seen.text()
    assert shelf.titles() == ["one"]


@on_loop
async def test_out_and_in_again(place: Place, shelf: Shelf) -> None:
    """The commands reach their front; what it does is told in test_transfer.py."""
    made, _ = shelf.say("one", "two")
    await history(place, "export", made, "-o", "out.json")
    other = str(place.work / "other.db")
    ended = await history(place, "import", "out.json", "--store", other, "--json")
    assert json.loads(ended.out)["imported"] == 1
    data = (place.work / "out.json").read_bytes()
    ended = await history(place, "import", "-", "--store", other, stdin=data)
    assert ended.text == "1 conversation there already, unchanged\n"
    ended = await history(place, "export", "--json")
    assert ended.out == data
    listed = await history(place, "list", "--store", other, "--json")
    assert [row["title"] for row in json.loads(listed.out)] == ["one"]


# --- Going on -----------------------------------------------------------------------------------


@on_loop
async def test_going_on_needs_one_conversation_and_a_store(place: Place) -> None:
    for arguments in (["-c", "--session", "x", "ask", "hi"], ["ask", "-c", "--session", "x", "hi"]):
        ended = await place.run("-p", "demo", *arguments)
        assert (ended.code, ended.out) == (2, b"")
        assert "--continue and --session exclude each other" in ended.err
    ended = await place.run("ask", "-p", "demo", "--no-store", "-c", "hi")
    assert (ended.code, ended.out) == (2, b"")
    assert "nothing is kept" in ended.err
    assert "needs a terminal" in (await history(place, "resume", "x", code=2)).err


@pytest.mark.parametrize("name", ["", " "])
@on_loop
async def test_an_empty_name_begins_no_new_conversation(place: Place, name: str) -> None:
    """What a script says whose variable is not set."""
    for arguments in (["ask", "--session", name, "hi"], ["--session", name, "ask", "hi"]):
        ended = await place.run("-p", "demo", *arguments)
        assert (ended.code, ended.out) == (2, b"")
        assert ended.err.startswith("holychat: --session names no conversation\n")
    async with term(place, "resume", name, environ={"ACTIVE_PROVIDER": "demo"}) as seen:
        assert await left(seen) == 2
    assert "holychat: a conversation is named by its id or its title" in seen.text()
    assert os.listdir(place.home) == []


@on_loop
async def test_a_store_that_cannot_be_opened_is_said_once(place: Place) -> None:
    ended = await place.run("ask", "-p", "demo", "-c", "hi", HOLYCHAT_STORE=str(place.work))
    assert (ended.code, ended.out) == (1, b"")
    assert ended.err.count(str(place.work)) == 1, ended.err


@on_loop
async def test_resume_opens_the_chat(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say("one", "two", who=("demo", "demo"))
    async with term(place, "resume", made, environ={"ACTIVE_PROVIDER": "demo"}) as seen:
        await seen.until("›")
        seen.type("\x04")
        assert await left(seen) == 0


# --- On a terminal ------------------------------------------------------------------------------


@on_loop
async def test_a_list_fits_into_every_window(place: Place, shelf: Shelf) -> None:
    long = "vendor/model-with-a-rather-long-name"
    shelf.say("word " * 40, "text", who=("box", long))
    shelf.say("如何" * 30, "text", who=("box", long))
    shelf.say(EVIL, "text")
    for columns in (120, 80, 60, 40, 25, 20):
        async with term(place, "list", columns=columns, lines=10) as seen:
            assert await left(seen) == 0
        rows = seen.rows()
        assert len(rows) == 3, rows
        assert all(cells(row) < columns for row in rows)
        assert "␛" in rows[0] or columns < 40
        assert b"\x1b[2J" not in seen.raw
        assert b"\x1b[36m" in seen.raw
        assert ("msg" in rows[1]) is (columns >= 60)


@on_loop
async def test_a_long_list_goes_through_the_pager(
    place: Place, shelf: Shelf, tmp_path: Path
) -> None:
    for n in range(12):
        shelf.say(f"talk {n}", "text")
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\nhead -3\n")
    pager.chmod(0o755)
    for height, paged in ((10, True), (12, True), (13, False)):
        environ = {"PAGER": str(pager)}
        async with term(place, "list", lines=height, environ=environ) as seen:
            assert await left(seen) == 0
        assert ("PAGED" in seen.text()) is paged
        assert len(seen.rows()) == (4 if paged else 12)
    async with term(place, "list", "--json", lines=5, environ={"PAGER": str(pager)}) as seen:
        assert await left(seen) == 0
    assert "PAGED" not in seen.text()


@on_loop
async def test_show_on_a_terminal_is_drawn(place: Place, shelf: Shelf) -> None:
    made, answer = shelf.say(EVIL, f"{ANSWER}\n\x1b]0;title\x07\n")
    async with term(place, "show", made, lines=40) as seen:
        assert await left(seen) == 0
    text = seen.text()
    assert "› evil ␛[2J\\u202e title" in text
    assert "Use sorted:" in text
    assert "\npython 1\n" in text
    assert f"· {answer} · deepseek-chat on holysheep" in text
    assert b"\x1b]0;" not in seen.raw
    assert "\x1b[36m›".encode() in seen.raw
    async with term(place, "show", made, "--raw", lines=40) as seen:
        assert await left(seen) == 0
    assert "```python" in seen.text()
    assert b"\x1b]0;" not in seen.raw


@on_loop
async def test_a_match_is_highlighted_and_in_sight(place: Place, shelf: Shelf) -> None:
    shelf.say("one", f"{'before ' * 30}needle {'after ' * 30}")
    async with term(place, "search", "needle", columns=50) as seen:
        assert await left(seen) == 0
    assert b"\x1b[1;36mneedle\x1b[0m" in seen.raw
    assert all(len(row) < 50 for row in seen.rows())
    assert seen.rows()[1].startswith("    …")
    assert seen.rows()[1].endswith("…")
    async with term(place, "search", "needle", environ={"NO_COLOR": "1"}) as seen:
        assert await left(seen) == 0
    assert b"\x1b[" not in seen.raw


@on_loop
async def test_the_question_before_something_is_gone(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say("one", "two", age=24 * 100)
    for keys, rest in (("n\r", ["one"]), ("\r", ["one"]), ("\x04", ["one"]), ("y\r", [])):
        async with term(place, "delete", made) as seen:
            await seen.until(r"delete 1 conversation\? \[y/N\]")
            seen.type(keys)
            assert await left(seen) == 0
        assert shelf.titles() == rest
        assert ("nothing is deleted" in seen.text()) is bool(rest)
    shelf.say("old", "two", age=24 * 100)
    async with term(place, "prune", "--older-than", "3m") as seen:
        await seen.until(r"1 conversation not spoken in since .*\n.*delete it\?")
        seen.type("y\r")
        assert await left(seen) == 0
    assert shelf.titles() == []


@on_loop
async def test_ctrl_c_at_the_question_ends_it(place: Place, shelf: Shelf) -> None:
    made, _ = shelf.say("one", "two")
    async with term(place, "delete", made) as seen:
        await seen.until(r"\[y/N\]")
        await asyncio.sleep(0.1)
        seen.type("\x03")
        assert await left(seen) == -2
    assert shelf.titles() == ["one"]


# --- Times and columns --------------------------------------------------------------------------

AT = int(datetime.fromisoformat("2026-05-20T12:00:00").timestamp() * 1000)


@pytest.mark.parametrize(
    ("hours", "shown"),
    [
        (0, "just now"), (0.5, "30 min ago"), (1, "1 h ago"), (23.9, "23 h ago"), (24, "1 d ago"),
        (24 * 6.9, "6 d ago"), (24 * 7, "13 May"), (24 * 200, "1 Nov 2025"), (-1, "20 May"),
        (1e15, "?"),
    ],
)  # fmt: skip
def test_when(hours: float, shown: str) -> None:
    assert when(AT - int(hours * HOUR), AT) == shown


@pytest.mark.parametrize(
    ("said", "iso"),
    [
        ("12h", "2026-05-20T00:00"), ("7d", "2026-05-13T12:00"), ("2W", "2026-05-06T12:00"),
        ("3m", "2026-02-19T12:00"), ("2026-01-31", "2026-01-31T00:00"),
        ("2026-01-31T10:30", "2026-01-31T10:30"), ("2026-01-31T10:30Z", "2026-01-31T10:30Z"),
    ],
)  # fmt: skip
def test_moment(said: str, iso: str) -> None:
    expected = datetime.fromisoformat(iso).timestamp() * 1000
    assert abs(times.moment("--since", said, AT) - expected) in (0, HOUR)  # summer time


@pytest.mark.parametrize(
    ("said", "iso"),
    [("today", "2026-05-20"), ("Yesterday", "2026-05-19"), (" tomorrow ", "2026-05-21")],
)
@pytest.mark.parametrize("end", [False, True])
def test_named_days(said: str, iso: str, end: bool) -> None:
    day = times.moment("--since", iso, AT, end=end)
    assert times.moment("--since", said, AT, end=end) == day


def test_a_day_that_ends() -> None:
    day = times.moment("--since", "2026-01-31", AT)
    assert times.moment("--until", "2026-01-31", AT, end=True) - day == 24 * HOUR
    at = times.moment("--until", "2026-01-31 10:00", AT, end=True)
    assert at - day == 10 * HOUR
    with pytest.raises(UsageError, match="--until takes"):
        times.moment("--until", "9999-12-31", AT, end=True)


def test_a_table_of_nothing() -> None:
    pen = Pen("calm")
    assert lines.table([], pen, AT) == []
    [row] = lines.table([Conversation("abcdefghijkl", updated=AT)], pen, AT)
    assert row == "abcdefgh  just now  (no title)  -  0 msg"
