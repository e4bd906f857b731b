"""From what the user said to a provider and a model; and what one run teaches the next."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from holychat import settings as rules
from holychat.core.failure import Failure, Kind, SettingsError, UsageError
from holychat.engine.session import Session
from tests import provider as loopback
from tests.provider import Status, answer, error, on_loop

if TYPE_CHECKING:
    from pathlib import Path

HS = {"HOLYSHEEP_API_KEY": "hs-0123456789abcdef"}
FB = {"FALLBACK_API_KEY": "sk-fallback-0123456"}
OR = {"OPENROUTER_API_KEY": "sk-or-0123456789ab"}
OA = {"OPENAI_API_KEY": "sk-openai-012345678"}
DS = {"DEEPSEEK_API_KEY": "sk-deep-0123456789"}
OFF = {"ENABLE_HOLYSHEEP": "false"}


class Desk:
    """A config, an environment, and the session that they make."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {"HOME": str(root), "XDG_CACHE_HOME": str(root / "cache")}
        self.dotenv = root / ".env"

    def session(self, config: str = "", flag: str = "", **environ: str) -> Session:
        path = self.root / "config.toml"
        path.write_text(config)
        path.chmod(0o600)
        everything = {**self.environ, **environ}
        settings = rules.load(
            environ=everything, cwd=self.root, path=path, flags={"provider": flag or None}
        )
        return Session(settings, everything)

    async def chosen(
        self, config: str = "", model: str = "", provider: str = "", **environ: str
    ) -> tuple[str, str]:
        """As the command line does it: -p is a setting and pins as well."""
        session = self.session(config, provider, **environ)
        try:
            found, name = await session.choose(model, provider)
        finally:
            await session.aclose()
        return found.name, name


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


ROUTER = "provider = 'openrouter'"
OWN = "provider = 'box'\n[providers.box]\nbase_url = 'http://127.0.0.1:9/v1'\nmodel = 'b'"
MODEL = 'model = "m-1"\n'
ROWS = [
    # config, -m, -p, environment, expected
    ("", "", "", HS, ("holysheep", "deepseek-chat")),
    ("", "gpt-4.1", "", HS, ("holysheep", "gpt-4.1")),
    ("", "deepseek/deepseek-chat", "", HS | DS, ("deepseek", "deepseek-chat")),
    ("", "deepseek/", "", HS | DS, ("deepseek", "deepseek-flash")),
    ("", "anthropic/claude", "", HS, ("holysheep", "anthropic/claude")),
    ("", "", "openai", HS | OA, ("openai", "gpt-4.1")),
    ("", "", "OpenAI", HS | OA, ("openai", "gpt-4.1")),
    ("", "openai/gpt-4o", "openrouter", OR | OA, ("openrouter", "openai/gpt-4o")),
    ("", "openrouter/openai/gpt-4o", "", HS | OR | OA, ("openrouter", "openai/gpt-4o")),
    ("", "openrouter/auto", "", HS | OR, ("openrouter", "openrouter/auto")),
    ("aliases.fast = 'deepseek/x'", "fast", "", HS | DS, ("deepseek", "x")),
    ("aliases.fast = 'x'", "fast", "", HS, ("holysheep", "x")),
    ("aliases.fast = 'x'", "fast", "openai", HS | OA, ("openai", "x")),
    ("aliases.fast = 'x'\nmodel = 'fast'", "", "", HS, ("holysheep", "x")),
    # OpenRouter's ids look like providers; without a key for those they are its own
    (ROUTER + "\nmodel = 'openai/o3'", "", "", OR, ("openrouter", "openai/o3")),
    (ROUTER, "openai/o3", "", OR, ("openrouter", "openai/o3")),
    (ROUTER, "openai/o3", "", OR | OA, ("openai", "o3")),
    # the configured model goes to who it is meant for
    (MODEL, "", "", HS, ("holysheep", "m-1")),
    (MODEL, "", "", OA, ("openai", "m-1")),
    (MODEL, "", "openai", HS | OA, ("openai", "gpt-4.1")),
    (MODEL, "", "holysheep", HS | OA, ("holysheep", "m-1")),
    (MODEL, "m-2", "openai", HS | OA, ("openai", "m-2")),
    (MODEL + "provider = 'openai'", "", "", HS | OA, ("openai", "m-1")),
    (MODEL + "provider = 'openai'", "", "openai", HS | OA, ("openai", "m-1")),
    (MODEL + "provider = 'openai'", "", "deepseek", DS | OA, ("deepseek", "deepseek-flash")),
    (MODEL, "", "", HS | OA | {"ACTIVE_PROVIDER": "openai"}, ("openai", "gpt-4.1")),
    (MODEL, "", "", HS | OA | {"ACTIVE_PROVIDER": "holysheep"}, ("holysheep", "m-1")),
    (
        MODEL + "provider = 'openai'",
        "",
        "",
        HS | OA | {"ACTIVE_PROVIDER": "openai"},
        ("openai", "m-1"),
    ),
    ("provider = 'openai'", "", "", HS | OA | {"HOLYCHAT_MODEL": "m-1"}, ("openai", "m-1")),
    (
        "",
        "",
        "",
        HS | OA | {"HOLYCHAT_MODEL": "m-1", "ACTIVE_PROVIDER": "openai"},
        ("openai", "m-1"),
    ),
    # the rollback: with no other change, the old model does not go along
    (MODEL, "", "", HS | FB | OFF, ("fallback", "deepseek-flash")),
    (MODEL + "provider = 'holysheep'", "", "", HS | FB | OFF, ("fallback", "deepseek-flash")),
    (MODEL + "provider = 'holysheep'", "", "", FB | OFF, ("fallback", "deepseek-flash")),
    ("model = 'holysheep/m-1'", "", "", HS | FB | OFF, ("fallback", "deepseek-flash")),
    ("model = 'fallback/m-1'", "", "", HS | FB | OFF, ("fallback", "m-1")),
    (MODEL, "", "", FB | OFF, ("fallback", "m-1")),  # holysheep was never asked
    (MODEL, "", "", FB | OA | OFF, ("fallback", "deepseek-flash")),  # openai was asked
    (MODEL, "", "demo", {}, ("demo", "demo")),
    (MODEL, "m-2", "", HS | FB | OFF, ("fallback", "m-2")),
    (MODEL + "provider = 'fallback'", "", "", HS | FB | OFF, ("fallback", "m-1")),
    # a configured model may name its provider, unless somebody said another one since
    ("model = 'openai/m-1'", "", "", HS | OA, ("openai", "m-1")),
    ("model = 'openai/m-1'\nprovider = 'holysheep'", "", "", HS | OA, ("openai", "m-1")),
    ("model = 'openai/m-1'", "", "openai", HS | OA, ("openai", "m-1")),
    ("model = 'openai/m-1'", "", "deepseek", DS | OA, ("deepseek", "deepseek-flash")),
    (
        "model = 'openai/m-1'",
        "",
        "",
        HS | OA | DS | {"ACTIVE_PROVIDER": "deepseek"},
        ("deepseek", "deepseek-flash"),
    ),
    # servers of one's own
    (OWN, "", "", {}, ("box", "b")),
    (OWN, "", "", HS, ("box", "b")),
    ("", "x", "demo", {}, ("demo", "x")),
]  # fmt: skip


@pytest.mark.parametrize(("config", "model", "provider", "environ", "expected"), ROWS)
@on_loop
async def test_who_is_asked_for_what(
    desk: Desk,
    config: str,
    model: str,
    provider: str,
    environ: dict[str, str],
    expected: tuple[str, str],
) -> None:
    assert await desk.chosen(config, model, provider, **environ) == expected


@on_loop
async def test_a_dotenv_can_roll_back_too(desk: Desk) -> None:
    desk.dotenv.write_text("ENABLE_HOLYSHEEP=false\n")
    assert await desk.chosen(MODEL, **HS, **FB) == ("fallback", "deepseek-flash")
    desk.dotenv.write_text("ACTIVE_PROVIDER=fallback\n")
    assert await desk.chosen(MODEL, **HS, **FB) == ("fallback", "deepseek-flash")


@pytest.mark.parametrize(
    ("model", "provider", "environ", "words"),
    [
        ("", "", {}, "no key for holysheep"),
        ("", "openai", HS, "no key for openai"),
        ("openai/x", "", HS, "no key for openai"),
        ("", "nope", HS, 'no provider "nope"'),
        ("", "holysheep", HS | OFF, "holysheep is disabled"),
        ("holysheep/x", "", HS | FB | OFF, "holysheep is disabled"),
    ],
)
@on_loop
async def test_who_cannot_be_asked(
    desk: Desk, model: str, provider: str, environ: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        await desk.chosen("", model, provider, **environ)


@on_loop
async def test_a_missing_key_says_what_to_do(desk: Desk) -> None:
    with pytest.raises(SettingsError) as caught:
        await desk.chosen("", "", "openai")
    for words in ("OPENAI_API_KEY", "holychat setup", "holychat demo"):
        assert words in caught.value.hint


def box(server: loopback.Provider, more: str = "") -> str:
    return f"provider = 'box'\n{more}\n[providers.box]\nbase_url = '{server.base_url}'\n"


@on_loop
async def test_a_server_without_a_default_gets_its_first_model(desk: Desk) -> None:
    async with loopback.Provider() as server:
        server.models = ["first", "second"]
        assert await desk.chosen(box(server)) == ("box", "first")
        server.models = ["new", "first"]  # asked again each time: it is the one that is loaded
        assert await desk.chosen(box(server)) == ("box", "new")
        assert await desk.chosen(box(server), "sec") == ("box", "sec")
        server.models = ["first", "second"]
        assert await desk.chosen(box(server)) == ("box", "first")
        asked = len(server.requests)
        assert await desk.chosen(box(server), "sec") == ("box", "second")
        assert len(server.requests) == asked  # by what the last run learned
        with pytest.raises(UsageError, match="first, second"):
            await desk.chosen(box(server), "S")


@on_loop
async def test_a_server_without_any_model(desk: Desk) -> None:
    async with loopback.Provider() as server:
        server.models = []
        with pytest.raises(Failure, match="lists no model") as caught:
            await desk.chosen(box(server))
    assert caught.value.kind is Kind.MODEL


@on_loop
async def test_a_listed_id_with_a_slash_is_no_provider(desk: Desk) -> None:
    async with loopback.Provider() as server:
        server.models = ["openai/gpt-oss", "b"]
        await desk.chosen(box(server))
        assert await desk.chosen(box(server), "openai/gpt-oss", **OA) == ("box", "openai/gpt-oss")
        assert await desk.chosen(box(server), "openai/o3", **OA) == ("openai", "o3")


@on_loop
async def test_model_lists_are_fetched_once_a_day(desk: Desk) -> None:
    async with loopback.Provider() as server:
        session = desk.session(box(server))
        provider = session.settings.provider("box")
        assert await session.models(provider) == ["test-model"]
        assert await session.models(provider) == ["test-model"]
        assert len(server.requests) == 1
        await session.models(provider, refresh=True)
        assert len(server.requests) == 2
        await session.aclose()
        again = desk.session(box(server))
        assert await again.models(provider) == ["test-model"]
        assert len(server.requests) == 2
        await again.aclose()


@on_loop
async def test_a_key_is_not_in_the_failure_of_a_model_list(desk: Desk) -> None:
    key = "sk-box-0123456789"
    async with loopback.Provider() as server:
        server.models = None
        server.script(*error(401, f"bad key {key}"))
        with pytest.raises(Failure) as caught:
            await desk.chosen(box(server), BOX_API_KEY=key)
    assert caught.value.kind is Kind.AUTH
    assert key not in str(caught.value)


@on_loop
async def test_what_a_server_refused_is_not_sent_by_the_next_process(desk: Desk) -> None:
    refusal = {"error": {"message": "Unrecognized request argument supplied: stream_options"}}
    no = [Status(400, {"content-type": "application/json"}), json.dumps(refusal).encode()]
    config = "model = 'test-model'"

    async def ask(server: loopback.Provider) -> None:
        session = desk.session(box(server, config))
        chat = session.chat(*await session.choose())
        async with aclosing(chat.send("hi")) as events:
            async for _ in events:
                pass
        assert chat.last is not None
        await session.aclose()

    async with loopback.Provider() as server:
        server.script(*no)
        server.script(*answer("ok"))
        await ask(server)
        server.script(*answer("ok"))
        await ask(server)
        asked = [seen for seen in server.requests if seen.method == "POST"]
        options = ["stream_options" in seen.json for seen in asked]
    assert options == [True, False, False]
    async with loopback.Provider() as other:  # the same name at another address
        other.script(*answer("ok"))
        await ask(other)
        assert "stream_options" in other.requests[-1].json


@on_loop
async def test_an_unknown_model_gets_the_nearest_names(desk: Desk) -> None:
    async with loopback.Provider() as server:
        server.models = ["claude-3-opus", "gpt-4.1"]
        session = desk.session(box(server))
        await session.models(session.settings.provider("box"))
        unknown = Failure(Kind.MODEL, "no such model", "See the list.")
        hint = session.explain(unknown, "box", "claude-3-opsu")
        assert hint == "Did you mean claude-3-opus? See the list."
        assert session.explain(unknown, "box", "zzz") == "See the list."
        assert session.explain(Failure(Kind.RATE, "slow", "Wait."), "box", "gpt") == "Wait."
        await session.aclose()


@on_loop
async def test_looking_up_what_was_learned_runs_no_key_command(desk: Desk) -> None:
    config = "[providers.deepseek]\nkey_command = 'touch ran'\n"
    session = desk.session(config, **HS)
    assert session.learned.models("deepseek") == []
    await session.choose("gpt-4.1")
    assert not (desk.root / "ran").exists()
    await session.aclose()


@on_loop
async def test_settings_become_timers(desk: Desk) -> None:
    session = desk.session("timeouts.first = 7")
    assert (session.client.timers.first, session.client.timers.gap) == (7.0, 60.0)
    settings = session.settings
    short = Session(settings, desk.environ, 0.5)
    timers = short.client.timers
    assert (timers.headers, timers.first, timers.gap) == (0.5, 0.5, 0.5)
    await session.aclose()
    await short.aclose()
