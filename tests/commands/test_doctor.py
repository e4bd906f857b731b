"""`holychat doctor` against real servers: what it reports, what it says to mend, its exit code."""

from __future__ import annotations

import json
import re
import socket
import stat
import time
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from holychat import settings as rules
from holychat.commands import doctor
from holychat.commands.doctor import rehearsal, report
from holychat.commands.doctor.script import Script
from holychat.core.chat import Attempt, Delta, Finish, Tried, Turn
from holychat.core.failure import Failure, Kind, SettingsError
from holychat.exits import Exit
from holychat.store.db import Database
from tests.process import Ended, Place
from tests.provider import Hang, Seen, Status, Wait, answer, error, on_loop
from tests.provider import Provider as Server
from tests.served import served
from tests.store.test_db import made, spoiled_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Doctor = Callable[..., Exit]

KEY = "hs-0123456789abcdef"
OFF = {
    f"{name}_BASE_URL": "http://127.0.0.1:9/v1"  # discard: nobody listens
    for name in ("OLLAMA", "LMSTUDIO", "LLAMACPP", "VLLM")
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def run(name: str = "", config: str = "", **given: Any) -> Exit:
        path = tmp_path / "config.toml"
        path.write_text(config)
        path.chmod(given.pop("mode", 0o600))
        flags = {"json": False, "offline": False, "ask": False}
        flags |= {flag: given.pop(flag) for flag in tuple(given) if flag in flags}
        settings = rules.load(environ=OFF | given, cwd=tmp_path, path=path)
        return doctor.run(settings, name, **flags)

    return run


def at(base_url: str, key: str = KEY) -> dict[str, str]:
    return {"HOLYSHEEP_BASE_URL": base_url, "HOLYSHEEP_API_KEY": key}


def flat(text: str) -> str:
    return " ".join(text.split())


def test_all_is_well(run: Doctor, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with served(models=["deepseek-chat", "b"]) as server:
        assert run(config="[ui]\nfps = 9\n", **at(server.base_url)) is Exit.OK
        assert [one.method for one in server.requests if one.headers.get("authorization")] == [
            "GET"
        ]
    out, err = capfd.readouterr()
    assert err == ""
    text = flat(out)
    assert f"config {tmp_path}/config.toml (0600)" in text
    assert "python 3." in text
    assert "httpx 0.28" in text
    assert "ui.fps 9 config.toml:2" in text
    assert "providers.holysheep.api_key …cdef $HOLYSHEEP_API_KEY" in text
    [row] = [line for line in out.splitlines() if line.startswith("* ")]
    assert row.split()[:2] == ["*", "holysheep"]
    assert row.split()[6] == "-"  # no TLS on http
    assert row.endswith("2 models")
    assert "well holysheep answers;" in text
    assert "mend" not in out
    assert KEY not in out
    rows = [row for row in out.splitlines() if "conversations.db" not in row]  # paths stay whole
    assert max(map(len, rows)) <= 80


def test_a_token_is_asked_only_where_that_is_wanted(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(models=["deepseek-chat"], default=[Wait(0.05), *answer("hi")]) as server:
        assert run("holysheep", **at(server.base_url)) is Exit.OK
        assert [one.method for one in server.requests] == ["GET"]
        assert "`holychat doctor -p holysheep --ask` asks for a token too, which costs" in flat(
            capfd.readouterr().out
        )
        assert run("holysheep", ask=True, **at(server.base_url)) is Exit.OK
        assert [one.method for one in server.requests[1:]] == ["GET", "POST"]
        assert server.requests[2].json["model"] == "deepseek-chat"
        assert server.requests[2].json["max_tokens"] == 1
    out, err = capfd.readouterr()
    assert "well holysheep answers with a token of deepseek-chat." in flat(out)
    assert "each is asked for one token, which costs" in err
    [row] = [line for line in out.splitlines() if line.startswith("* ")]
    assert row.split()[9:11] != ["-", "1"], "the first token has a time"


def test_every_provider_is_asked_for_a_token(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    both = {"models": ["deepseek-chat"], "default": answer("hi")}
    with served(**both) as one, served(**both) as other:
        more = {"OPENAI_BASE_URL": other.base_url, "OPENAI_API_KEY": "sk-0000000000"}
        assert run(ask=True, **at(one.base_url), **more) is Exit.OK
        assert [[seen.method for seen in each.requests] for each in (one, other)] == [
            ["GET", "POST"]
        ] * 2
    rows = [line for line in capfd.readouterr().out.splitlines() if line.endswith("1 model")]
    assert len(rows) == 2
    assert max(map(len, rows)) <= 80


def test_a_refused_key(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=None, default=error(401, "bad \x1b[2J key")) as server:
        assert run(**at(server.base_url)) is Exit.SETTINGS
    out = capfd.readouterr().out
    assert (
        "mend holysheep: the key was refused (401): run `holychat setup -p holysheep`."
        " It comes from environment HOLYSHEEP_API_KEY."
    ) in flat(out)
    assert "\x1b" not in out
    assert "well" not in out


def test_no_key(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    assert run() is Exit.SETTINGS
    words = (
        "holysheep: there is no key: run `holychat setup -p holysheep`, or set HOLYSHEEP_API_KEY"
    )
    assert words in flat(capfd.readouterr().out)


def test_a_key_command_that_fails(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(config='[providers.holysheep]\nkey_command = "false"\n') is Exit.SETTINGS
    assert "config.toml:2: providers.holysheep.key_command failed" in flat(capfd.readouterr().out)


def test_one_that_cannot_be_reached(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(**at("http://127.0.0.1:9/v1")) is Exit.PROVIDERS
    out = capfd.readouterr().out
    [row] = [line for line in out.splitlines() if line.startswith("* ")]
    assert row.split()[4:] == ["fails", "-", "-", "-", "connect"]
    assert "127.0.0.1:9 refuses the connection. Start the server, or mend" in flat(out)
    assert "(environment HOLYSHEEP_BASE_URL)" in flat(out)


def test_another_one_that_is_ill_does_not_change_the_code(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(models=["deepseek-chat"]) as server:
        more = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "sk-0000000000"}
        assert run(**at(server.base_url), **more) is Exit.OK
    text = flat(capfd.readouterr().out)
    assert "mend openai: 127.0.0.1:9 refuses" in text
    assert "well holysheep" in text


def test_providers_are_measured_at_once(run: Doctor) -> None:
    slow = {"models": None, "default": [Wait(0.5), b'["m"]']}
    with served(**slow) as one, served(**slow) as two, served(**slow) as three:
        environ = at(one.base_url)
        for name, server in (("OPENAI", two), ("GROQ", three)):
            environ |= {f"{name}_BASE_URL": server.base_url, f"{name}_API_KEY": "sk-0000000000"}
        start = time.monotonic()
        assert run(**environ) is Exit.OK
        took = time.monotonic() - start
        assert [len(server.requests) for server in (one, two, three)] == [1, 1, 1]
    assert took < 1.4


def test_a_local_server_is_shown_where_it_runs(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(models=["qwen3"]) as server:
        run(OLLAMA_BASE_URL=server.base_url)
    out = capfd.readouterr().out
    assert "\n  ollama " in out
    assert "vllm " not in out


def test_a_default_model_that_is_not_listed(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=["deepseek-chat-v3", "x"]) as server:
        assert run(**at(server.base_url)) is Exit.OK
    text = flat(capfd.readouterr().out)
    assert "does not list" not in text  # a unique part is enough to name it
    with served(models=["deepseek-caht", "x"]) as server:
        run(**at(server.base_url))
    text = flat(capfd.readouterr().out)
    assert "does not list its default model deepseek-chat; deepseek-caht would be near" in text


def test_offline_opens_no_connection(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    with served() as server:
        assert run(offline=True, **at(server.base_url)) is Exit.OK
        assert server.connections == 0
    assert "the network was not looked at" in capfd.readouterr().out
    assert run(offline=True) is Exit.SETTINGS


def test_a_long_name_keeps_the_table_in_its_width(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "the-box-in-the-cellar-of-the-old-house"
    with served(models=None, default=error(401, "no")) as server:
        run(config=f'[providers.{name}]\nbase_url = "{server.base_url}"\n')
    [row] = [line for line in capfd.readouterr().out.splitlines() if "  auth" in line]
    assert row.startswith("* the-box-in-…")
    assert len(row) <= 80


# --- The clock ----------------------------------------------------------------------------------

# The same machine, by a name that the rule for local servers does not know.
FAR = "http://127.1:{}/v1"


def dated(seconds: float) -> list[Any]:
    """An answer from a server whose clock is `seconds` ahead of ours."""
    date = formatdate(time.time() + seconds, usegmt=True)
    return [
        Status(headers={"date": date, "content-type": "application/json"}),
        b'["deepseek-chat"]',
    ]


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (0, ""),
        (-40, ""),
        (90, "this machine's is (89|90) seconds behind that of holysheep"),
        (-7300, "this machine's is 2 hours ahead of that of holysheep"),
    ],
)
def test_a_clock_that_is_off_is_told(
    run: Doctor, capfd: pytest.CaptureFixture[str], ahead: float, said: str
) -> None:
    with served(models=None, default=dated(ahead)) as server:
        assert run(**at(FAR.format(server.port))) is Exit.OK
        assert [one.method for one in server.requests] == ["GET", "HEAD"]
        assert "authorization" not in server.requests[1].headers
        assert KEY not in str(server.requests[1].headers)
    out = flat(capfd.readouterr().out)
    assert re.search(said, out)
    assert ("mend clock:" in out) is bool(said)


def test_the_clock_is_in_the_json(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    with served(models=None, default=dated(-300)) as server:
        run(json=True, **at(FAR.format(server.port)))
    told = json.loads(capfd.readouterr().out)
    assert 295 < told["providers"][0]["clock_ahead"] < 305
    assert told["mend"][0].startswith("clock: this machine's is 5 minutes ahead")


def test_a_server_that_does_not_say_the_time_is_no_finding(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = [Status(headers={"date": "yesterday"}), b'["deepseek-chat"]']
    with served(models=None, default=wrong) as server:
        assert run(json=True, **at(FAR.format(server.port))) is Exit.OK
    told = json.loads(capfd.readouterr().out)
    assert told["providers"][0]["clock_ahead"] is None
    assert told["mend"] == []


def test_an_unknown_choice_is_a_finding_and_an_unknown_flag_an_error(
    run: Doctor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(config='provider = "opnai"\n') is Exit.SETTINGS
    assert 'there is no provider "opnai"; did you mean "openai"?' in flat(capfd.readouterr().out)
    with pytest.raises(SettingsError, match="no provider"):
        run("opnai")


def test_notices_are_part_of_it(run: Doctor, capfd: pytest.CaptureFixture[str]) -> None:
    config = f'[providers.holysheep]\napi_key = "{KEY}"\n'
    run(config=config, mode=0o644, offline=True)
    out = capfd.readouterr().out
    assert "(0644)" in out
    assert "others can read the keys in it; chmod 600 ends that" in flat(out)


def test_json(run: Doctor, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with served(models=None, default=error(401, "no")) as server:
        assert run(json=True, **at(server.base_url)) is Exit.SETTINGS
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert err == ""
    assert told["exit"] == 3
    assert told["config"]["path"] == str(tmp_path / "config.toml")
    assert int(told["config"]["mode"], 8) == stat.S_IRUSR | stat.S_IWUSR
    [found] = told["providers"]
    assert (found["name"], found["active"], found["failed"]) == ("holysheep", True, "headers")
    assert found["failure"]["kind"] == "auth"
    assert found["ms"]["tls"] is None
    assert found["ms"]["headers"] > 0
    assert "the key was refused" in told["mend"][0]
    assert {"name", "value", "source"} == set(told["settings"][0])
    assert KEY not in out


def test_a_hung_server_is_given_up(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("holychat.net.probe.LIMIT", 0.3)
    with served(models=None, default=[Hang()]) as server:
        start = time.monotonic()
        assert run(**at(server.base_url)) is Exit.PROVIDERS
        assert time.monotonic() - start < 3
    assert "no answer within 0.3 s" in flat(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0004, "0.4 ms"), (0.0384, "38 ms"), (2.5, "2500 ms")],
)
def test_milliseconds(seconds: float | None, text: str) -> None:
    assert report.milliseconds(seconds) == text


def test_settings_fit_the_width() -> None:
    rows = [("providers.box.base_url", "x" * 200, "environment BOX_BASE_URL"), ("a", "", "default")]
    first, second = report.columns(rows, 80)
    assert len(first) <= 80
    assert first.endswith("$BOX_BASE_URL")
    assert second.split() == ["a", "-", "default"]


def test_the_discard_port_is_closed() -> None:
    with socket.socket() as sock, pytest.raises(OSError, match="refused"):
        sock.connect(("127.0.0.1", 9))


def test_the_store_is_looked_at(
    run: Doctor, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(offline=True, **at("http://127.0.0.1:9/v1"))
    assert "conversations.db (not there yet)" in flat(capfd.readouterr().out)
    path = tmp_path / "talk.db"
    Database(str(path)).close()
    run(offline=True, HOLYCHAT_STORE=str(path), **at("http://127.0.0.1:9/v1"))
    assert "0 conversations" in (out := flat(capfd.readouterr().out))
    assert "sound" in out
    spoiled_index(made(path))
    run(offline=True, HOLYCHAT_STORE=str(path), **at("http://127.0.0.1:9/v1"))
    said = flat(capfd.readouterr().out)
    assert "the search index was damaged and is made anew, sound" in said
    run(offline=True, HOLYCHAT_STORE=str(path), **at("http://127.0.0.1:9/v1"))
    assert "search index" not in flat(capfd.readouterr().out)
    path.write_bytes(b"no database at all" * 100)
    run(offline=True, json=True, HOLYCHAT_STORE=str(path), **at("http://127.0.0.1:9/v1"))
    report = json.loads(capfd.readouterr().out)
    assert "it is no database" in report["store"]["wrong"][0]
    assert any("it is no database" in line for line in report["mend"])
    assert path.read_bytes().startswith(b"no database"), "doctor changes nothing"


# --- Rehearsals, as a process -------------------------------------------------------------------

COUNTED = " ".join(str(number) for number in range(1, 41))
PROXY = re.compile(r"127\.0\.0\.1:\d+/[\w-]{20,}")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def goes_on(seen: Seen) -> list[Any]:
    """The whole count, or what is missing of it where a beginning of it was sent along."""
    begun = "".join(m["content"] for m in seen.json["messages"] if m["role"] == "assistant")
    return answer(COUNTED.removeprefix(begun))


class Counting(Server):
    """A provider that counts to 40, and goes on with a count."""

    def _next(self, seen: Seen) -> list[Any]:
        return goes_on(seen) if seen.method == "POST" else super()._next(seen)


def two(place: Place, one: str, other: str, more: str = "") -> None:
    """A config with two providers that each have a key of their own."""
    place.config(
        f'provider = "box"\n{more}\n'
        f'[providers.box]\nbase_url = "{one}"\nmodel = "a"\nneeds_key = true\n'
        f'[providers.spare]\nbase_url = "{other}"\nmodel = "b"\nneeds_key = true\n'
    )
    place.environ |= {"BOX_API_KEY": KEY, "SPARE_API_KEY": "sk-spare-9876543210"}


def well_told(ended: Ended) -> str:
    """What was told, where it keeps to its width and holds no secret; on one line."""
    assert "Traceback" not in ended.text + ended.err
    assert KEY not in ended.text + ended.err
    assert not PROXY.search(ended.text + ended.err)
    assert max(map(len, ended.text.splitlines())) <= 80
    return flat(ended.text)


def events(told: dict[str, Any], name: str) -> list[str]:
    [simulation] = told["simulations"]
    return [event["text"] for event in simulation["events"] if event["event"] == name]


@pytest.mark.parametrize(
    ("fault", "deed"),
    [
        ("429", "the proxy answers 429, Retry-After: 1"),
        ("cut", "the stream ends after"),
        ("stall", "silence after"),
        ("slow", "the headers are held back"),
        ("reset", "the connection is reset after"),
    ],
)
@on_loop
async def test_an_answer_survives(place: Place, fault: str, deed: str) -> None:
    async with Counting() as server:
        two(place, server.base_url, server.base_url)
        ended = await place.run("doctor", "--simulate", fault)
        text = well_told(ended)
        assert (ended.code, ended.err) == (0, "")
        assert {one.headers["authorization"] for one in server.requests} == {f"Bearer {KEY}"}
        assert server.requests[0].json["messages"][-1]["content"].startswith("Count from 1 to 40")
    assert "rehearsal box (http://127.0.0.1:" in text
    assert "sends a short prompt for each fault" in text
    assert f"fault {deed}" in text
    assert "s attempt a on box" in text
    assert "verdict the answer survived: 40 words from box, no number missing or doubled." in text
    assert not (place.home / ".local").exists(), "nothing is kept"


@on_loop
async def test_the_next_provider_answers_in_its_place_with_its_own_key(place: Place) -> None:
    async with Counting() as box, Counting() as spare:
        two(place, box.base_url, spare.base_url, 'failover.providers = "spare"')
        ended = await place.run("doctor", "--simulate", "500", "--json")
        assert box.requests == [], "what is refused by the proxy goes nowhere"
        [seen] = spare.requests
    told = json.loads(ended.text)
    [simulation] = told["simulations"]
    assert (ended.code, ended.err, told["exit"]) == (0, "", 0)
    assert (simulation["survived"], simulation["text"]) == (True, COUNTED)
    assert simulation["struck"] == 2
    assert seen.headers["authorization"] == "Bearer sk-spare-9876543210"
    assert events(told, "attempt") == ["a on box", "a on box", "b on spare"]


@on_loop
async def test_an_answer_that_is_left_where_it_was_cut(place: Place) -> None:
    async with Counting() as server:
        two(place, server.base_url, server.base_url, 'on_cut = "stop"')
        ended = await place.run("doctor", "--simulate", "cut", "--json")
    told = json.loads(ended.text)
    assert ended.code == told["exit"] == 5
    [simulation] = told["simulations"]
    assert not simulation["survived"]
    assert COUNTED.startswith(simulation["text"])
    assert simulation["failure"] == "cut"
    assert "cut off" in simulation["verdict"]
    assert "Nobody else was asked." in simulation["verdict"]


@on_loop
async def test_several_faults_give_the_worst_code(place: Place) -> None:
    place.environ["HOLYCHAT_FAILOVER_PROVIDERS"] = "none"
    async with Counting() as server:
        two(place, server.base_url, server.base_url)
        ended = await place.run("doctor", "--simulate", "reset", "--simulate", "500")
    text = well_told(ended)
    assert ended.code == 4
    assert text.index("reset the connection breaks") < text.index("500 every request is refused")
    assert "the answer survived" in text
    assert "the answer did not survive: nothing came; box" in text


@on_loop
async def test_without_any_key_the_demo_is_rehearsed(place: Place) -> None:
    ended = await place.run("doctor", "--simulate", "cut")
    text = well_told(ended)
    assert ended.code == 0
    assert "no provider has a key: the built-in demo is rehearsed" in ended.err
    assert "verdict the answer survived:" in text
    assert "which costs" not in text


@on_loop
async def test_nobody_stands_in_for_the_demo(place: Place) -> None:
    async with Counting() as server:
        two(place, server.base_url, server.base_url, 'failover.providers = "spare"')
        ended = await place.run("doctor", "-p", "demo", "--simulate", "500")
        assert server.connections == 0
    assert ended.code == 4
    well_told(ended)


@pytest.mark.parametrize("fault", ["cut", "500"])
@on_loop
async def test_a_dead_provider_ends_in_words(place: Place, fault: str) -> None:
    place.environ["HOLYCHAT_FAILOVER_PROVIDERS"] = "none"
    two(place, "http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1")
    ended = await place.run("doctor", "--simulate", fault)
    text = well_told(ended)
    assert ended.code == 4
    assert "the answer did not survive: nothing came; box" in text
    assert ("It was not the fault's doing" in text) is (fault == "cut")
    ended = await place.run("doctor", "-p", "box", "--ask")
    assert ended.code == 4
    assert "Traceback" not in ended.err
    assert "127.0.0.1:9 refuses the connection" in flat(ended.text)


@on_loop
async def test_a_dead_provider_without_a_model_ends_in_words_too(place: Place) -> None:
    place.provider("http://127.0.0.1:9/v1")
    place.config('provider = "box"\n[providers.box]\nbase_url = "http://127.0.0.1:9/v1"\n')
    ended = await place.run("doctor", "--simulate", "cut")
    well_told(ended)
    assert ended.code == 4


@on_loop
async def test_the_store_and_the_memory_of_the_provider_stay_as_they_were(place: Place) -> None:
    store = place.home / "talk.db"
    async with Counting() as server:
        two(place, server.base_url, server.base_url, f'store = "{store}"')
        assert (await place.run("doctor", "--simulate", "429")).code == 0
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--simulate", "501"], 2, "there is no fault 501"),
        (["--simulate", "cut", "--offline"], 2, "--simulate asks a provider"),
        (["--simulate", "cut", "-p", "openai"], 3, "there is no key for openai"),
        (["--simulate", "cut", "-p", "opnai"], 3, 'did you mean "openai"?'),
    ],
)
@on_loop
async def test_what_cannot_be_rehearsed(
    place: Place, arguments: list[str], code: int, said: str
) -> None:
    ended = await place.run("doctor", *arguments)
    assert (ended.code, ended.text) == (code, "")
    assert said in ended.err
    assert "Traceback" not in ended.err


# --- The verdict, and what events say -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (COUNTED, ""),
        (COUNTED.replace(" ", "\n"), ""),
        (COUNTED.replace(" 17 ", " "), "after 16 comes 18"),
        (COUNTED.replace(" 17 ", " 17 17 "), "after 17 comes 17"),
        (COUNTED.removesuffix(" 40"), "after 39 comes the end"),
        (f"{COUNTED} 40", "after 40 comes 40"),
        ("I would rather not.", ""),
        ("From 1 to 40: no.", ""),
        ("", ""),
    ],
)
def test_a_count_shows_what_is_missing_or_doubled(text: str, wrong: str) -> None:
    assert rehearsal.miscounted(text) == wrong


def turn(text: str, finish: Finish, failure: Failure | None = None) -> Turn:
    return Turn(text, "", finish, "box", "a", failure=failure)


def joined(text: str) -> Turn:
    parts = (Tried("box", "a", Finish.CUT), Tried("box", "a", Finish.STOP, 5))
    return replace(turn(text, Finish.STOP), attempts=parts)


@pytest.mark.parametrize(
    ("ended", "struck", "code", "said"),
    [
        (turn(COUNTED, Finish.STOP), 1, 0, "survived: 40 words"),
        (turn(COUNTED, Finish.STOP), 0, 1, "nothing is proven"),
        (turn("1 2", Finish.CUT, Failure(Kind.CUT, "it ended")), 0, 5, "not the fault's doing"),
        (joined(f"{COUNTED} 40"), 1, 5, "not survive word for word"),
        (turn("1 2 3", Finish.STOP), 1, 0, "survived: 3 words"),  # nothing was joined
        (turn("1 2", Finish.CUT, Failure(Kind.CUT, "it ended")), 1, 5, "cut off"),
        (turn("1 2", Finish.LENGTH), 1, 5, "token limit"),
        (turn("", Finish.FAILED, Failure(Kind.RATE, "too many")), 1, 4, "nothing came; too many"),
        (turn("", Finish.FAILED, Failure(Kind.AUTH, "bad key")), 1, 3, "bad key"),
        (None, 1, 4, "none in time"),
    ],
)
def test_the_verdict(ended: Turn | None, struck: int, code: int, said: str) -> None:
    got, text = rehearsal.judge(ended, struck, ["box", "spare"])
    assert int(got) == code
    assert said in text


@dataclass(frozen=True)
class Novelty:
    """An event that nobody thought of when the script was written."""

    provider: str
    left: float = 0.0
    failure: Failure | None = None
    note: str = ""


def test_an_event_that_is_new_is_told_by_its_fields_and_a_countdown_once() -> None:
    script = Script([])
    failure = Failure(Kind.RATE, "too many\x1b[2J")
    [(label, text)] = script.lines(Novelty("box", 2.5, failure))
    assert label == "novelty"
    assert text == "provider box, left 2.5, failure rate-limit: too many␛[2J"
    assert script.lines(Novelty("box", 1.5, failure)) == []
    assert script.lines(Novelty("spare", 1.5, failure)) != []
    assert script.lines("no event at all") == [("str", "no event at all")]


def test_of_the_pieces_of_an_answer_only_the_first_is_told() -> None:
    asked: list[str] = []
    script = Script(asked)
    assert script.lines(Attempt("box", "a")) == [("attempt", "a on box")]
    assert script.lines(Delta()) == []
    assert script.lines(Delta("one")) == [("answer", "begins: one")]
    assert script.lines(Delta("two")) == []
    going_on = script.lines(Attempt("box", "a", "one two"))
    assert going_on == [("attempt", "a on box, to go on after 7 characters")]
    assert script.lines(Delta(reasoning="hm")) == [("answer", "its reasoning begins")]
    assert asked == ["box", "box"]
