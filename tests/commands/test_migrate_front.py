"""`holychat migrate` as a process, and the prompts that a split and a migration give away."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from holychat.core.chat import Finish, Timings, Tried, Turn
from holychat.core.route import share
from holychat.store import turns
from holychat.store.db import Database
from tests.commands.test_repl import enter
from tests.process import Ended, Place
from tests.provider import Gate, Provider, answer, chunk, error, on_loop
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

EASY = "\n[migrate]\nsample = 3\nslower = 1000.0\nsettle = 0.0\nlook = 0.0\n"


@dataclass
class Two:
    """Two providers on loopback, and the place of one user."""

    place: Place
    a: Provider
    b: Provider

    def config(self, more: str = "", provider: str = "a", beyond: str = "") -> None:
        rows = "".join(
            f'[providers.{name}]\nbase_url = "{each.base_url}"\nmodel = "model-{name}"\n'
            for name, each in (("a", self.a), ("b", self.b))
        )
        self.place.config(f'provider = "{provider}"\n{beyond}\n{rows}{EASY}{more}\n')

    async def ask(self, *more: str, **environ: str) -> str:
        """Who answered."""
        ended = await self.place.run("ask", "--json", *more, "hi", **environ)
        assert ended.code == 0, ended.err
        return str(json.loads(ended.out)["provider"])

    async def migrate(self, *arguments: str, code: int = 0, **more: Any) -> Ended:
        ended = await self.place.run("migrate", *arguments, **more)
        assert ended.code == code, ended.err
        if arguments[0] != "report" and code != 3:  # a document; the settings' own words
            assert all(len(line) <= 80 for line in (ended.text + ended.err).splitlines()), ended
        assert "Traceback" not in ended.err
        return ended

    async def stage(self) -> dict[str, Any]:
        found = json.loads((await self.migrate("status", "--json")).out)
        assert isinstance(found, dict)
        return found

    @property
    def db(self) -> Database:
        return Database(str(self.place.home / ".local/share/holychat/conversations.db"))

    def rows(self, sql: str) -> list[Any]:
        db = self.db
        try:
            return [tuple(row) for row in db.rows(sql)]
        finally:
            db.close()

    def answered(self, provider: str, times: int = 3) -> None:
        """As many answers as a gate wants, without a process for each."""
        db = self.db
        for _ in range(times):
            begun = turns.begin(
                db, "w", "", "hi", None, provider=provider, model="m", system="", params={}
            )
            tried = Tried(provider, "m", Finish.STOP, timings=Timings(0.1, 0.2, 0.3))
            turn = Turn("hello", "", Finish.STOP, provider, "m", attempts=(tried,))
            turns.close(db, begun, turn)
        db.close()


@asynccontextmanager
async def both(root: Path) -> AsyncIterator[Two]:
    async with Provider() as a, Provider() as b:
        a.default, b.default = [*answer("I am a")], [*answer("I am b")]
        two = Two(Place(root), a, b)
        two.config()
        yield two


# --- The split ------------------------------------------------------------------------------------


@on_loop
async def test_processes_split_by_the_conversation_and_keep_to_it(tmp_path: Path) -> None:
    weights = {"b": 50.0, "a": 50.0}
    async with both(tmp_path) as two:
        two.config("[split]\nb = 50\na = 50\n")
        for _ in range(3):
            await asyncio.gather(*(two.ask() for _ in range(4)))
        found = dict(two.rows("SELECT id, provider FROM conversations"))
        assert len(found) == 12
        assert found == {each: share(weights, each) for each in found}
        assert {len(two.a.requests), len(two.b.requests)} == {
            sum(each == name for each in found.values()) for name in "ab"
        }
        one, who = next(iter(found.items()))
        assert await two.ask("--session", one) == who
        other = "b" if who == "a" else "a"
        two.config(f"[split]\n{other} = 100\n{who} = 0\n")
        ended = await two.place.run("ask", "--session", one, "hi")
        assert f"{other} answers from here on, by the split" in ended.err
        assert ended.text == f"I am {other}\n"


@on_loop
async def test_what_was_said_by_hand_comes_first(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        two.config("[split]\nb = 100\n")
        assert await two.ask() == "b"
        assert await two.ask("-p", "a") == "a"
        assert await two.ask("-m", "a/") == "a"
        assert await two.ask("-c") == "a"  # the last one was switched by hand
        assert await two.ask("-c", "-p", "b") == "b"
        assert await two.ask(ACTIVE_PROVIDER="a") == "a"
        assert await two.ask(ENABLE_B="false") == "a"
        (two.place.work / ".env").write_text("ACTIVE_PROVIDER=a\n")
        assert await two.ask() == "a"


@on_loop
async def test_the_chat_shows_whose_the_first_prompt_will_be(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        two.config("[split]\nb = 100\n")
        async with Terminal(home=two.place.home) as term:
            await term.until("split: b 100")
            await term.until("model-b on b")
            assert not two.b.requests  # before anything is sent
            await enter(term, "/providers")
            await term.until("100 %")
        async with Terminal(home=two.place.home, environ={"ACTIVE_PROVIDER": "a"}) as term:
            await term.until("holychat · model-a on a")


@on_loop
async def test_the_others_of_the_split_stand_in(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        two.config("[split]\nb = 99.999999\na = 0.000001\n")
        two.b.default = error(400, "no")
        two.b.script(*error(401, "no"))
        assert await two.ask() == "a"
        ended = await two.place.run("ask", "--no-failover", "hi")
        assert ended.code == 4
        assert len(two.a.requests) == 1


@on_loop
async def test_a_model_that_was_asked_for_is_not_lost(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        two.config("[split]\nb = 100\n")
        two.b.models, two.a.models = ["model-b", "shared"], ["model-a", "shared", "own"]
        assert await two.ask("-m", "shared") == "b"
        assert two.b.requests[-1].json["model"] == "shared"
        ended = await two.place.run("ask", "-m", "own", "hi")
        assert ended.text == "I am a\n"
        assert "b is not known to have own: a answers" in ended.err
        assert two.a.requests[-1].json["model"] == "own"


@on_loop
async def test_without_a_store_the_split_holds_too(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        two.config("[split]\nb = 1\n")
        assert await two.ask("--no-store") == "b"


# --- A whole migration ----------------------------------------------------------------------------


@on_loop
async def test_a_whole_migration(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        ended = await two.migrate("start", "--from", "a", "--to", "b")
        assert "a: nothing in the store of the last 30 days" in ended.text
        refused = await two.migrate("next", code=2)
        assert "a has 0 of the 3 calls that are needed to compare" in refused.err
        for _ in range(3):
            assert await two.ask() == "a"
        await two.migrate("next")
        for percent in (10, 25, 50, 100):
            found = await two.stage()
            assert (found["percent"], found["passed"]) == (percent, False)
            refused = await two.migrate("next" if percent < 100 else "finish", code=2)
            assert "b has 0 of the 3 calls" in refused.err
            who = [await two.ask() for _ in range(2)]
            ids = [row[0] for row in two.rows("SELECT id FROM conversations ORDER BY rowid")][-2:]
            parts = {"b": float(percent), "a": 100.0 - percent}
            assert who == [share(parts, each) for each in ids]
            two.answered("b")
            two.answered("a")
            assert (await two.stage())["passed"]
            await two.migrate("next" if percent < 100 else "finish")
        assert (await two.stage())["stage"] == "done"
        assert await two.ask() == "b"  # in the place of what the settings say
        await _after_the_end(two)


async def _after_the_end(two: Two) -> None:
    assert "is done" in (await two.migrate("next", code=2)).err
    assert "→ b: done" in (await two.migrate("status")).text
    await two.migrate("report", "moved.md")
    text = (two.place.work / "moved.md").read_text()
    for part in (
        "# From a to b",
        "### 25 % of the conversations",
        "## Decisions",
        "finish, to done",
    ):
        assert part in text
    assert "is there already" in (await two.migrate("report", "moved.md", code=2)).err
    assert (await two.migrate("report", "-")).text.startswith("# From a to b\n")
    await two.migrate("rollback", "--why", "too dear")
    assert await two.ask() == "a"
    two.config(provider="b")  # whoever changes the settings is obeyed
    assert await two.ask() == "b"
    await two.migrate("start", "--from", "b", "--to", "a")


@on_loop
async def test_a_conversation_that_goes_on_rolls_back_too(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        await two.ask()
        two.answered("a", 5)
        await two.migrate("start", "--from", "a", "--to", "b")
        await two.migrate("next")
        for _ in range(3):
            await two.migrate("next", "--force")
        two.b.default = error(401, "expired")
        await two.ask()
        said = ""
        for _ in range(4):
            said += (await two.place.run("ask", "-c", "more")).err
        assert said.count("migration rolled back: 100.0 % of 3 calls failed at b") == 1
        assert (await two.stage())["stage"] == "back"


@on_loop
async def test_a_provider_that_fails_is_rolled_back_by_itself(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        await two.ask()
        two.answered("a", 5)
        await two.migrate("start", "--from", "a", "--to", "b")
        await two.migrate("next")
        for _ in range(3):
            await two.migrate("next", "--force")
        two.b.default = error(401, "expired")
        said = []
        for _ in range(5):
            ended = await two.place.run("ask", "hi")
            assert (ended.code, ended.text) == (0, "I am a\n")
            said += [line for line in ended.err.splitlines() if "rolled back" in line]
        assert said == ["migration rolled back: 100.0 % of 3 calls failed at b, 0.0 % of 3 at a"]
        assert len(two.b.requests) == 3
        found = await two.stage()
        assert (found["stage"], found["percent"]) == ("back", 0)
        assert found["entries"][-1]["what"] == "automatic rollback"
        assert [entry["what"] for entry in found["entries"]][:3] == [
            "start",
            "next",
            "next, forced",
        ]
        assert "100.0 % of 3 calls failed" in (await two.migrate("status")).text


@on_loop
async def test_what_holds_elsewhere_is_said(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        two.config(provider="b")
        ended = await two.migrate("start", "--from", "a", "--to", "b")
        assert "· b is asked by the settings, and not a" in ended.err
        ended = await two.migrate("next", "--force", ACTIVE_PROVIDER="b")
        assert "environment ACTIVE_PROVIDER says b, which comes before the migration" in ended.err
        assert "is going on" in (await two.migrate("start", "--from", "a", "--to", "b", code=2)).err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("start", "--from", "a", "--to", "a"), 2, "is none"),
        (("start", "--from", "a", "--to", "c"), 3, 'there is no provider "c"'),
        (("start", "--from", "a", "--to", "demo"), 2, "the demo is a script"),
        (("start", "--from", "a", "--to", "deepseek"), 3, "there is no key for deepseek"),
        (("start", "--from", "a", "--to", "b", "--shadow", "5"), 2, "from 0 to 1"),
        (("start", "--from", "a", "--to", "b", "--shadow", "0.1"), 2, "nobody can be asked here"),
        (("status", "--store", "none"), 3, "a migration needs the store"),
        (("next",), 2, "there is no migration"),
        (("finish",), 2, "there is no migration"),
        (("rollback",), 2, "there is no migration"),
        (("report", "x.md"), 2, "there is no migration"),
    ],
)
@on_loop
async def test_what_makes_no_sense(
    tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    async with both(tmp_path) as two:
        ended = await two.migrate(*arguments, code=code)
        assert said in ended.err
        ended = await two.place.run("--no-store", "migrate", "rollback")
        assert (ended.code, "needs the store" in ended.err) == (3, True)


@on_loop
async def test_no_migration_is_no_error_to_ask_for(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        await two.ask()
        assert "there is no migration" in (await two.migrate("status")).err
        assert json.loads((await two.migrate("status", "--json")).out) is None


# --- The shadow -----------------------------------------------------------------------------------


@on_loop
async def test_copies_go_to_the_other_one_unseen_and_are_compared(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        await two.ask()
        two.config('[prices."b/model-b"]\ninput = "2.00"\noutput = "8.00"\n')
        ended = await two.migrate("start", "--from", "a", "--to", "b", "--shadow", "1", "--yes")
        said = " ".join(ended.err.split())
        assert "A copy of 100 % of the prompts goes to b: ≈ 12 tokens a day" in said
        assert "≈ <$0.0001" in said  # 5 in at 2.00 a million and 7 out at 8.00: 0.000066
        assert await two.ask() == "a"
        assert not two.b.requests
        await two.migrate("next", "--force")
        two.a.default, two.b.default = [*answer("one two three")], [*answer("one two four")]
        ended = await two.place.run("ask", "hi")
        assert (ended.out, ended.err) == (b"one two three\n", "")
        copied = two.b.requests[-1].json
        assert (copied["model"], copied["messages"][-1]["content"]) == ("model-b", "hi")
        await two.ask("-p", "a")  # pinned: nobody else is asked
        await two.ask("--no-failover")
        assert len(two.b.requests) == 1
        rows = two.rows("SELECT provider, role, finish FROM attempts WHERE role <> ''")
        assert rows == [("b", "shadow", "stop")]
        found = await two.stage()
        assert found["likeness"]["count"] == 1
        assert 0.6 < found["likeness"]["mean"] < 0.7
        assert found["figures"]["to"]["count"] == 1
        assert "Words alike in 1 copies: 67 %" in (await two.migrate("status")).text
        assert "## Shadow" in (await two.migrate("report", "-")).text
        assert {row[0] for row in two.rows("SELECT text FROM messages")} >= {"one two three"}
        assert "one two four" not in {row[0] for row in two.rows("SELECT text FROM messages")}


@on_loop
async def test_a_copy_holds_nobody_up(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        await two.ask()
        await two.migrate("start", "--from", "a", "--to", "b", "--shadow", "1", "--yes")
        await two.migrate("next", "--force")
        gate = Gate()
        two.b.default = [chunk("never"), gate]  # it does not end
        ended = await two.place.run("ask", "hi")
        assert (ended.code, ended.out, ended.err) == (0, b"I am a\n", "")
        rows = two.rows("SELECT role, finish FROM attempts WHERE provider = 'b'")
        assert rows == [("shadow", "interrupted")]
        two.b.default = error(500, "down")
        assert await two.ask() == "a"
        gate.open()


@on_loop
async def test_copies_are_agreed_to_or_nothing_is_begun(tmp_path: Path) -> None:
    async with both(tmp_path) as two:
        await two.ask()
        start = ("start", "--from", "a", "--to", "b", "--shadow", "0.5")
        assert "--yes does not ask." in (await two.migrate(*start, code=2, stdin=b"y\n")).err
        for key, stage in (("n", None), ("\x04", None), ("y", "assess")):
            async with Terminal("migrate", *start, home=two.place.home) as seen:
                await seen.until(r"Begin with the shadow\? \[y/N\]")
                assert "tokens a day" in seen.text()
                seen.type(key if key == "\x04" else f"{key}\r")
                assert await seen.end() == 0
            found = json.loads((await two.migrate("status", "--json")).out)
            assert (found and found["stage"]) == stage
