"""Whose a conversation is, turn by turn: real settings, a real store, two real providers."""

from __future__ import annotations

import threading
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from holychat import settings as rules
from holychat.core import migrate
from holychat.core.chat import Done, Notice
from holychat.core.migrate import BACK, DONE, SHADOW, Compared
from holychat.core.route import share
from holychat.engine import split
from holychat.engine.choice import substitutes
from holychat.engine.session import Session
from holychat.store import facts, migration
from tests.provider import Provider, answer, on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holychat.engine.conversation import Chat
    from holychat.settings import Settings

EASY = "[migrate]\nsample = 3\nlook = 0.0\n"


@dataclass
class Desk:
    """Two providers, a config, and the sessions that they make."""

    root: Path
    a: Provider
    b: Provider
    store: str

    def settings(self, more: str = "", provider: str = "a", **environ: str) -> Settings:
        path = self.root / "config.toml"
        rows = "".join(
            f"[providers.{name}]\nbase_url = '{each.base_url}'\nmodel = 'model-{name}'\n"
            for name, each in (("a", self.a), ("b", self.b))
        )
        path.write_text(f"provider = '{provider}'\nstore = '{self.store}'\n{rows}{EASY}{more}\n")
        path.chmod(0o600)
        return rules.load(environ=environ, cwd=self.root, path=path)

    @asynccontextmanager
    async def session(
        self, more: str = "", provider: str = "a", **environ: str
    ) -> AsyncIterator[Session]:
        settings = self.settings(more, provider, **environ)
        made = Session(settings, {"HOME": str(self.root), "XDG_CACHE_HOME": str(self.root / "c")})
        try:
            yield made
        finally:
            await made.aclose()


@asynccontextmanager
async def desk(root: Path, store: str = "") -> AsyncIterator[Desk]:
    async with Provider() as a, Provider() as b:
        a.default, b.default = [*answer("I am a")], [*answer("I am b")]
        yield Desk(root, a, b, store or str(root / "s.db"))


async def begun(session: Session, wanted: str = "", pinned: str = "") -> Chat:
    return session.chat(*await session.choose(wanted, pinned), pinned=session.pins(wanted, pinned))


async def said(chat: Chat, prompt: str = "hi") -> tuple[str, list[str]]:
    """(who answered, what was said beside it)."""
    notices, who = [], ""
    async with aclosing(chat.send(prompt)) as events:
        async for event in events:
            if isinstance(event, Notice):
                notices.append(event.text)
            if isinstance(event, Done):
                who = event.turn.provider
    return who, notices


async def put(session: Session, stage: str, shadow: float = 0.0) -> None:
    state = replace(migrate.started("a", "b", shadow, 1), stage=stage)
    state = replace(state, said=session.settings.written)
    text = migration._text(state)
    await session.stored(lambda db: facts.update(db, "migration", lambda _: (text, None)))


SPLIT = "[split]\nb = 50\na = 50\n"
PARTS = {"b": 50.0, "a": 50.0}


@on_loop
async def test_each_new_conversation_is_placed_by_its_own_id(tmp_path: Path) -> None:
    async with desk(tmp_path) as at, at.session(SPLIT) as session:
        chat = await begun(session)
        seen = {}
        for _ in range(12):
            who, notices = await said(chat)
            assert (who, notices) == (share(PARTS, chat.id), [])
            assert session.recorder.conversation == chat.id
            assert (await said(chat))[0] == who
            seen[chat.id] = who
            chat.clear()
        assert len(seen) == 12
        assert set(seen.values()) == {"a", "b"}


@on_loop
async def test_resumed_it_goes_by_the_same_hash(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        async with at.session() as session:  # before there was a split
            chat = await begun(session)
            assert (await said(chat))[0] == "a"
        for weights, who, moved in (("b = 1\na = 0", "b", True), ("b = 0\na = 1", "a", True),
                                    ("b = 0\na = 9", "a", False)):  # fmt: skip
            async with at.session(f"[split]\n{weights}\n") as session:
                again = await session.resumed(chat.id)
                found, notices = await said(again)
                assert (found, again.id) == (who, chat.id)
                assert notices == [f"{who} answers from here on, by the split"] * moved


@on_loop
async def test_what_the_user_switched_stays_switched(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        async with at.session("[split]\nb = 1\n") as session:
            chat = await begun(session)
            assert (await said(chat))[0] == "b"
            chat.provider, chat.model = await session.choose("", "a")
            chat.pinned = True
            assert (await said(chat))[0] == "a"
        async with at.session("[split]\nb = 1\n") as session:
            again = await session.resumed(chat.id)
            assert await said(again) == ("a", [])
            again.pinned = True
            assert await said(again) == ("a", [])
            again.pinned = False  # /provider auto
            assert (await said(again))[0] == "b"
        async with at.session("[split]\nb = 1\n") as session:
            assert (await said(await session.resumed(chat.id)))[0] == "b"


@on_loop
async def test_a_conversation_of_another_provider_stays_there(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        async with at.session() as session:
            chat = await begun(session)
            await said(chat)
        other = f"[split]\nc = 1\n[providers.c]\nbase_url = '{at.b.base_url}'\nmodel = 'm'\n"
        async with at.session(other) as session:
            assert (await said(await session.resumed(chat.id)))[0] == "a"
            assert (await said(await begun(session)))[0] == "c"


@on_loop
async def test_a_rollback_holds_from_the_next_prompt_on(tmp_path: Path) -> None:
    async with desk(tmp_path) as at, at.session() as session:
        await put(session, "100")
        chat = await begun(session)
        assert await said(chat) == ("b", [])
        assert session.split.near("b") == ["a"]
        await put(session, BACK)
        assert await said(chat) == ("a", ["a answers from here on, by the migration"])


@pytest.mark.parametrize(
    ("stage", "more", "provider", "environ", "who"),
    [
        ("10", "[split]\nb = 1\n", "a", {}, ""),  # by its own hash
        ("100", "", "a", {}, "b"),
        ("100", "[split]\nb = 0\na = 1\n", "a", {}, "b"),  # it comes before the split
        ("100", "", "a", {"ENABLE_B": "false"}, "a"),
        ("100", "", "a", {"ACTIVE_PROVIDER": "a"}, "a"),
        ("50", "", "a", {"ENABLE_A": "false"}, "b"),
        (SHADOW, "", "a", {}, "a"),
        (SHADOW, "[split]\nb = 1\n", "a", {}, "b"),
        (DONE, "", "a", {}, "b"),
        (BACK, "", "b", {}, "a"),
    ],
)
@on_loop
async def test_who_answers_in_a_migration(
    tmp_path: Path, stage: str, more: str, provider: str, environ: dict[str, str], who: str
) -> None:
    async with desk(tmp_path) as at, at.session(more, provider, **environ) as session:
        await put(session, stage)
        chat = await begun(session)
        expected = who or share({"b": 10.0, "a": 90.0}, chat.id)
        assert (await said(chat))[0] == expected


@on_loop
async def test_a_migration_that_cannot_be_read_leaves_the_settings(tmp_path: Path) -> None:
    async with desk(tmp_path) as at, at.session() as session:
        await session.stored(lambda db: facts.update(db, "migration", lambda _: ("{", None)))
        assert await said(await begun(session)) == ("a", [])


@on_loop
async def test_a_store_that_is_slow_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "PATIENCE", 0.01)
    async with desk(tmp_path) as at, at.session() as session:
        await put(session, "100")
        chat, gate = await begun(session), threading.Event()
        session.recorder.ask(lambda _: gate.wait(5))
        threading.Timer(0.2, gate.set).start()
        assert (await said(chat))[0] == "a"


@on_loop
async def test_a_placing_that_is_stopped_keeps_the_prompt(tmp_path: Path) -> None:
    async with desk(tmp_path) as at, at.session(SPLIT) as session:
        chat = await begun(session)

        async def stopped() -> list[str]:
            raise KeyboardInterrupt

        chat.place = stopped
        with pytest.raises(KeyboardInterrupt):
            await said(chat, "do not lose me")
        assert chat.failed == "do not lose me"
        rows = await session.stored(lambda db: db.rows("SELECT text FROM messages"))
        assert [row["text"] for row in rows] == ["do not lose me"]


@on_loop
async def test_who_stands_in(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        far = "".join(
            f"[providers.{name}]\nbase_url = 'https://{name}.example/v1'\n"
            "api_key = 'sk-0123456789ab'\n"
            for name in ("c", "d", "e")
        )
        settings = at.settings(far)
        assert substitutes(settings, "c") == ["d", "e"]
        assert substitutes(settings, "c", ["e", "a"]) == ["e", "a", "d"]
        assert substitutes(settings, "a") == []
        assert substitutes(settings, "a", ["b"]) == ["b"]
        listed = at.settings(f"{far}[failover]\nproviders = 'd'\n")
        assert substitutes(listed, "c", ["e"]) == ["d"]


@on_loop
async def test_the_figures_of_a_gate_are_those_of_the_turns(tmp_path: Path) -> None:
    async with desk(tmp_path) as at, at.session() as session:
        await put(session, "100")
        for _ in range(3):
            assert (await said(await begun(session)))[0] == "b"
            session.recorder.new()
        state = await session.stored(migration.load)
        compared: Compared = await session.stored(migration.compare, state, migrate.Terms())
        assert (compared.new.count, compared.new.failed, compared.new.whole) == (3, 0, 3)
        assert compared.new.first50 is not None
