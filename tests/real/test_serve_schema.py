"""The relay held to its own description by a fuzzer: schemathesis, before /openapi.json.

Owns which checks make sense, and the upstreams. Left out are those that want more refused than a
relay may refuse (fields that it does not know go through), and the one that wants 405 where the
guard, which knows no routes, has said 415 already. The checks of our own: schema_hooks.py.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from holychat.commands.serve.openapi import description
from tests.process import Place
from tests.provider import DONE, Cut, Provider, Status, answer, chunk, error, on_loop
from tests.real.conftest import HERE, named
from tests.real.relayed import call
from tests.relay import completion, serving, started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process import Running
    from tests.provider import Seen, Step
    from tests.relay import Relay

pytestmark = pytest.mark.filterwarnings("default")

CHECKS = (
    "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "ignored_auth", "allow_header_conformance", "described",
)  # fmt: skip
LONGEST = 120.0  # seconds; a run takes a tenth of that
# Nobody rests, so that each fault is told as what it is.
AWAKE = "streams = 50\n[failover]\nattempts = 1\nwait = 0\n[breaker]\nrow = 0\nerrors = 1\n"
MOODS: list[list[Step]] = [
    [*answer("It is well.")],
    error(400, "temperature is wrong"),
    error(422, "temperature is wrong"),
    [*call()],
    error(404, "The model `nope` does not exist"),
    error(500, "oops"),
    [chunk("Hel"), chunk("lo"), Cut()],
    error(503, "busy"),
    error(504, "late"),
    [chunk(reasoning="Hm."), chunk(finish="stop"), DONE],
    [Status(200, {"content-type": "text/html"}), b"<p>hello</p>"],
    [Cut()],
]


class Moody(Provider):
    """Another fault each time."""

    def __init__(self) -> None:
        super().__init__()
        self._moods = cycle(MOODS)

    def _next(self, seen: Seen) -> list[Step]:
        return next(self._moods) if seen.method == "POST" else super()._next(seen)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def fuzzed(relay: Relay, place: Place, identity: str, checks: str, many: int) -> str:
    """What schemathesis says; fails where it found something."""
    program = named("HOLYCHAT_TEST_SCHEMATHESIS_BIN", "pip install schemathesis")
    process = await asyncio.create_subprocess_exec(
        program, "run", f"{relay.base}/openapi.json",
        "--header", f"Authorization: Bearer {relay.token}",
        "--checks", checks, "--max-examples", str(many), "--seed", "7",
        "--phases", "coverage,fuzzing", "--continue-on-failure", "--no-color",
        "--generation-database", "none", "--request-timeout", "20",
        cwd=place.work,
        env={
            "PATH": os.environ["PATH"], "HOME": str(place.home), "LANG": "C.UTF-8",
            "SCHEMATHESIS_HOOKS": str(HERE / "schema_hooks.py"), "CONVERSATION": identity,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONGEST):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, out.decode()[-20_000:]
    return out.decode()


async def log_of(running: Running) -> str:
    """All of the relay's stderr, read as it comes, so that it never waits to write."""
    assert running.process.stderr is not None
    return (await running.process.stderr.read()).decode()


async def statuses(place: Place, server: Provider, checks: tuple[str, ...], many: int) -> set[int]:
    """Fuzz, and see what was answered to anybody."""
    place.provider(server.base_url, AWAKE)
    async with started(place) as (relay, running):
        log = asyncio.ensure_future(log_of(running))
        try:
            await relay.post("/v1/chat/completions", completion("hi", "there", "you"))
            (talk,) = (await relay.get("/api/conversations")).json["conversations"]
            out = await fuzzed(relay, place, talk["id"], ",".join(checks), many)
            running.process.terminate()
            said = await log
        finally:
            log.cancel()
            await asyncio.gather(log, return_exceptions=True)
    met = re.search(r"Operations: +(\d+) selected / \1 total", out)
    assert met, out
    known = int(met[1])
    assert known >= len(description()["paths"]) - 1
    assert "went wrong" not in said, said
    counted = Counter(re.findall(r"^\S+ (?:GET|POST) \S* ?(\d{3}) ", said, re.MULTILINE))
    assert counted.total() > known * 10
    return {int(each) for each in counted}


@on_loop
async def test_whatever_is_asked_is_answered_as_described(place: Place) -> None:
    async with Provider() as server:
        server.default = [*answer("It is well.")]
        checks = ("not_a_server_error", "positive_data_acceptance", *CHECKS)
        seen = await statuses(place, server, checks, 200)
    assert {200, 400, 401, 404, 415} <= seen


@on_loop
async def test_whatever_the_upstream_does_is_answered_as_described(place: Place) -> None:
    async with Moody() as server:
        seen = await statuses(place, server, CHECKS, 120)
    assert {200, 400, 404, 422, 502, 503, 504} <= seen


@on_loop
async def test_what_the_guard_says_on_every_path_is_described(place: Place) -> None:
    """What schemathesis cannot send: a header twice, a length that is not there."""
    place.config('provider = "demo"\n')
    async with serving(place) as relay:
        paths = (await relay.get("/openapi.json")).json["paths"]
        for path, methods in paths.items():
            for method, said in methods.items():
                for name, value in {
                    "origin": "http://a\r\norigin: http://b", "content-length": "9999999",
                    "host": "elsewhere", "authorization": "Bearer wrong", "content-type": "x/y",
                }.items():  # fmt: skip
                    asked = await relay.start(method.upper(), path, {name: value})
                    got = await asked.end()
                    assert str(got.status) in said["responses"], (path, name, got.status)
