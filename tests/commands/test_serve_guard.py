"""Who gets into the relay: Host x Origin x token x route, against a real process."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.process import KEY, Place
from tests.provider import Provider, answer, on_loop, until
from tests.relay import Relay, completion, serving, started

if TYPE_CHECKING:
    from pathlib import Path

FRIEND = "https://friend.example"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


HOSTS = {"own": True, "localhost": True, "[::1]": True, "evil.example": False, "other port": False}
ORIGINS = {None: True, "own": True, FRIEND: True, "https://evil.example": False, "null": False}
TOKENS = {"right": True, None: False, "wrong": False, "empty": False}
ROUTES = (
    ("GET", "/"), ("GET", "/health"), ("POST", "/v1/chat/completions"), ("GET", "/nothing"),
    ("WS", "/ws"),
)  # fmt: skip


def expected(method: str, path: str, host: bool, origin: bool, token: bool) -> int:
    if not (host and origin):
        return 403
    if not token and path != "/":
        return 401
    return {"/": 200, "/health": 200, "/v1/chat/completions": 200, "/nothing": 404, "/ws": 101}[
        path
    ]


async def tried(
    relay: Relay, method: str, path: str, host: str, origin: str | None, token: str | None
) -> int:
    names = {"own": f"127.0.0.1:{relay.port}", "other port": "127.0.0.1:1"}
    own = f"http://localhost:{relay.port}"
    headers: dict[str, str | None] = {
        "host": names.get(host, host if "." in host else f"{host}:{relay.port}"),
        "origin": own if origin == "own" else origin,
        "authorization": None,
    }
    words = {"right": relay.token, "wrong": relay.token[:-1] + "~", "empty": ""}
    if method == "WS":
        key = base64.b64encode(b"0123456789abcdef").decode()
        offered = "holychat" + (f", bearer.{words[token]}" if token else "")
        headers |= {
            "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
            "sec-websocket-key": key, "sec-websocket-protocol": offered,
        }  # fmt: skip
        asked = await relay.start("GET", path, headers)
        got = await asked.head()
        asked.leave()
        if got.status == 101:
            assert got.headers["sec-websocket-protocol"] == "holychat"
        return got.status
    if token is not None:
        headers["authorization"] = f"Bearer {words[token]}"
    body = b'{"messages": [{"role": "user", "content": "hi"}]}' if method == "POST" else b""
    got = await (await relay.start(method, path, headers, body)).end()
    if got.status >= 400:
        assert got.error["message"]
    return got.status


@on_loop
async def test_only_the_right_ones_get_in(place: Place) -> None:
    seen = 0
    async with Provider() as server:
        server.default = [*answer("Hello")]
        place.provider(server.base_url)
        async with serving(place, "--allow-origin", FRIEND, "-q") as relay:
            for route, host, origin, token in product(ROUTES, HOSTS, ORIGINS, TOKENS):
                status = await tried(relay, *route, host, origin, token)
                right = expected(*route, HOSTS[host], ORIGINS[origin], TOKENS[token])
                assert status == right, (route, host, origin, token)
                seen += 1
        asked = [one for one in server.requests if one.method == "POST"]
        assert len(asked) == sum(map(bool, HOSTS.values())) * sum(map(bool, ORIGINS.values()))
    assert seen == 500


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content_type": "text/plain"}, 415, "unsupported_media_type"),
        ({"content_type": None}, 415, "unsupported_media_type"),
        ({"content_type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        ({"content_type": "application/json; charset=utf-8"}, 200, ""),
        ({"authorization": "Basic abc"}, 401, "invalid_api_key"),
        ({"authorization": "bearer {token}"}, 200, ""),
        ({"authorization": "Bearer {token}x"}, 401, "invalid_api_key"),
    ],
)
@on_loop
async def test_what_a_request_must_say(
    place: Place, headers: dict[str, str | None], status: int, code: str
) -> None:
    async with Provider() as server:
        server.default = [*answer("Hello")]
        place.provider(server.base_url)
        async with serving(place) as relay:
            said = {n: v.format(token=relay.token) if v else v for n, v in headers.items()}
            got = await relay.post("/v1/chat/completions", completion("hi"), **said)
            assert got.status == status, got.body
            if code:
                assert got.error["code"] == code
                assert not [one for one in server.requests if one.method == "POST"]


@on_loop
async def test_bodies_are_bounded_chunked_ones_too(place: Place) -> None:
    async with Provider() as server:
        server.default = [*answer("Hello")]
        place.provider(server.base_url)
        async with serving(place, "--max-body", "2000") as relay:
            assert (await relay.chat("x" * 1000)).status == 200
            got = await relay.chat("x" * 3000)
            assert (got.status, got.error["code"]) == (413, "body_too_large")
            asked = await relay.start(
                "POST", "/v1/chat/completions", {"transfer-encoding": "chunked"}
            )
            for _ in range(3):
                asked.writer.write(b"3e8\r\n" + b" " * 1000 + b"\r\n")
            got = await asked.end()
            assert (got.status, got.error["code"]) == (413, "body_too_large")
            lie = await relay.start("POST", "/chat", {"content-length": "9" * 30}, b"{}")
            assert (await lie.end()).status == 400
            head = await relay.start("GET", "/health", {"x-long": "y" * 200_000})
            assert (await head.end()).status in (400, 431)


@on_loop
async def test_two_headers_of_one_kind_are_refused(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            for name in ("Origin", "AUTHORIZATION"):
                good = (
                    f"http://localhost:{relay.port}"
                    if name == "Origin"
                    else f"Bearer {relay.token}"
                )
                twice = {name.lower(): good, name: good}
                got = await (await relay.start("GET", "/health", twice)).end()
                assert got.status == 400


@on_loop
async def test_a_preflight_is_for_friends_only(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place, "--allow-origin", FRIEND) as relay:
            ask = {"access-control-request-method": "POST", "authorization": None}
            got = await (await relay.start("OPTIONS", "/chat", {"origin": FRIEND, **ask})).end()
            assert got.status == 204
            assert got.headers["access-control-allow-origin"] == FRIEND
            assert "authorization" in got.headers["access-control-allow-headers"]
            own = f"http://127.0.0.1:{relay.port}"
            got = await (await relay.start("OPTIONS", "/chat", {"origin": own, **ask})).end()
            assert got.status == 401
            assert "access-control-allow-origin" not in got.headers
            got = await relay.get("/health", origin=FRIEND)
            assert got.headers["access-control-allow-origin"] == FRIEND
            assert got.headers["vary"] == "Origin"
            got = await relay.get("/health", origin=FRIEND, authorization=None)
            assert got.status == 401  # which the page there may read
            assert got.headers["access-control-allow-origin"] == FRIEND


@on_loop
async def test_the_page_keeps_to_itself(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            got = await relay.get("/", authorization=None)
            assert got.headers["content-type"] == "text/html; charset=utf-8"
            policy = got.headers["content-security-policy"]
            for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'",
                         "form-action 'none'", f"ws://127.0.0.1:{relay.port}"):  # fmt: skip
                assert rule in policy
            assert "unsafe" not in policy
            assert got.headers["x-content-type-options"] == "nosniff"
            assert got.headers["referrer-policy"] == "no-referrer"
            assert got.headers["cache-control"] == "no-store"
            assert relay.token.encode() not in got.body


def test_every_inline_block_has_its_hash() -> None:
    pytest.importorskip("starlette")
    import hashlib

    from holychat.commands.serve import page

    text = b"<style>a</style><SCRIPT type='module'>b\r\nc</script><script>d</script>"
    policy = page.headers(text, frozenset({"h:1"}))["content-security-policy"]
    for block in (b"a", b"b\nc", b"d"):
        assert base64.b64encode(hashlib.sha256(block).digest()).decode() in policy
    assert policy.count("sha256-") == 3


# --- The token -----------------------------------------------------------------------------------


@on_loop
async def test_the_token_stays_and_is_its_owners(place: Place) -> None:
    async with Provider() as server:
        place.provider(server.base_url)
        async with serving(place) as relay:
            first = relay.token
        async with serving(place) as relay:
            assert relay.token == first
    path = place.home / ".local/share/holychat/serve-token"
    assert path.read_text().strip() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first) >= 43
    assert [name for name in os.listdir(path.parent) if "token" in name] == ["serve-token"]


def test_many_that_begin_at_once_agree(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from holychat.commands.serve.secret import token

    path = str(tmp_path / "deep" / "token")
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: token(path), range(64)))) == 1
    assert os.listdir(tmp_path / "deep") == ["token"]


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [("short", 0o600, "holds no token"), ("", 0o600, "holds no token"),
     ("a" * 40, 0o644, "can be read by others"), ("two words " * 4, 0o600, "holds no token")],
)  # fmt: skip
@on_loop
async def test_a_token_file_that_is_none(place: Place, content: str, mode: int, said: str) -> None:
    path = place.work / "t"
    path.write_text(content)
    path.chmod(mode)
    ended = await place.run("serve", "--port", "0", "--token-file", str(path))
    assert ended.code == 3
    assert said in ended.err


@on_loop
async def test_other_machines_need_a_token_file(place: Place) -> None:
    ended = await place.run("serve", "--port", "0", "--host", "0.0.0.0")
    assert ended.code == 2
    assert "--token-file" in ended.err
    for options in (
        ("--allow-origin", "*"),
        ("--allow-origin", "example.org"),
        ("--allow-host", "a/b"),
    ):
        assert (await place.run("serve", "--port", "0", *options)).code == 2
    async with Provider() as server:
        place.provider(server.base_url)
        path = place.work / "t"
        options = ("--host", "0.0.0.0", "--token-file", str(path), "--allow-host", "box.local")
        async with serving(place, *options) as relay:
            assert path.read_text().strip() == relay.token
            assert (await relay.get("/health")).status == 200
            for host in ("box.local", f"box.local:{relay.port}"):
                assert (await relay.get("/health", host=host)).status == 200
            assert (await relay.get("/health", host=f"0.0.0.0:{relay.port}")).status == 403
            got = await relay.get("/health", host="box.local", origin="https://box.local")
            assert got.status == 200


@on_loop
async def test_nothing_secret_is_logged(place: Place) -> None:
    async with Provider() as server:
        server.default = [*answer("Hello")]
        place.provider(server.base_url)
        async with started(place) as (relay, running):
            await relay.chat("my secret prompt")
            await relay.get(f"/health?token={relay.token}")
            await relay.get(f"/%1b]52;{'x' * 500}")
            await until(lambda: len(server.requests) >= 1)
            running.process.terminate()
            ended = await running.end()
    assert relay.token not in ended.err
    assert "secret prompt" not in ended.err
    assert "Hello" not in ended.err
    assert KEY not in ended.err
    assert "\x1b" not in ended.err
    lines = ended.err.splitlines()
    assert lines[0].split(" ")[1:4] == ["POST", "/v1/chat/completions", "200"]
    assert lines[1].split(" ")[1:4] == ["GET", "/health", "200"]


@on_loop
async def test_without_the_extra_one_line_says_how_to_get_it(place: Place) -> None:
    (place.work / "starlette.py").write_text("raise ImportError('gone')\n")
    ended = await place.run("serve", PYTHONPATH=str(place.work))
    assert (ended.code, ended.out) == (3, b"")
    assert "pip install 'holychat[serve]'" in ended.err


@on_loop
async def test_a_port_that_is_taken(place: Place) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ended = await place.run("serve", "--port", str(port))
    server.close()
    assert ended.code == 3
    assert f"127.0.0.1:{port} cannot be listened at" in ended.err
