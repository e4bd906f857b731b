from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from holychat.core.chat import (
    Attempt,
    Delta,
    Done,
    Failed,
    Finish,
    Notice,
    Queued,
    Timings,
    Tried,
    Turn,
    Usage,
)
from holychat.core.failure import Failure, Kind
from holychat.screen import Look, writer

if TYPE_CHECKING:
    from holychat.core.chat import Event

FAILURE = Failure(Kind.RATE, "slow down", "Wait.", status=429, code="rate", retry_after=2.0)
TIMINGS = Timings(0.12345678, None, 1.0)
TRIED = (
    Tried("other", "n", Finish.FAILED, failure=FAILURE, role="hedge"),
    Tried("box", "m", Finish.STOP, 2, 0.5, Usage(1, 2, 0, 1), TIMINGS),
)
TURN = Turn("Hi", "hm", Finish.STOP, "box", "m", Usage(1, 2, 0, 1), TIMINGS, attempts=TRIED)
FREE = {"cost": None, "unpriced": True}
NO_TIMES = {"headers": None, "first": None, "total": 0.0}
ERROR = {
    "kind": "rate-limit",
    "message": "slow down",
    "hint": "Wait.",
    "status": 429,
    "code": "rate",
    "retry_after": 2.0,
}
OBJECT: dict[str, Any] = {
    "text": "Hi",
    "reasoning": "hm",
    "provider": "box",
    "model": "m",
    "served_model": "m",
    "finish": "stop",
    "complete": True,
    "refusal": False,
    "usage": {
        "prompt": 1,
        "completion": 2,
        "cached": 0,
        "reasoning": 1,
        "estimated": False,
        **FREE,
    },
    "timings": {"headers": 0.1235, "first": None, "total": 1.0},
    "error": None,
    "seams": [2],
    "attempts": [
        {
            "provider": "other",
            "model": "n",
            "finish": "failed",
            "at": 0,
            "usage": None,
            "timings": NO_TIMES,
            "error": ERROR,
            "role": "hedge",
        },
        {
            "provider": "box",
            "model": "m",
            "finish": "stop",
            "at": 2,
            "usage": {
                "prompt": 1,
                "completion": 2,
                "cached": 0,
                "reasoning": 1,
                "estimated": False,
                **FREE,
            },
            "timings": {"headers": 0.1235, "first": None, "total": 1.0},
            "error": None,
        },
    ],
}
Caught = pytest.CaptureFixture[str]


def lines(caught: Caught, form: str, *events: Event, quiet: bool = False) -> list[Any]:
    out = writer(form, Look(quiet=quiet))
    for event in events:
        out.show(event)
    out.close()
    return [json.loads(line) for line in caught.readouterr().out.splitlines()]


def test_one_object_at_the_end(capfd: Caught) -> None:
    events = (Attempt("box", "m"), Delta(), Delta("Hi"), Done(TURN))
    assert lines(capfd, "json", *events) == [OBJECT]


def test_a_failed_turn(capfd: Caught) -> None:
    turn = Turn("", "", Finish.FAILED, "box", "m", failure=FAILURE, served_model="m-2")
    (shown,) = lines(capfd, "json", Done(turn))
    assert list(shown) == list(OBJECT)
    assert shown["error"] == ERROR
    assert (shown["usage"], shown["served_model"], shown["complete"]) == (None, "m-2", False)


def test_the_cost_is_in_dollars(capfd: Caught) -> None:
    usage = Usage(1, 2, cost=12_340_000) + Usage(3, 4)
    (shown,) = lines(capfd, "json", Done(replace(TURN, usage=usage)))
    assert (shown["usage"]["cost"], shown["usage"]["unpriced"]) == (0.00001234, True)
    usage = Usage(1, 2, cost=0)
    (shown,) = lines(capfd, "json", Done(replace(TURN, usage=usage)))
    assert (shown["usage"]["cost"], shown["usage"]["unpriced"]) == (0.0, False)


def test_an_event_a_line(capfd: Caught) -> None:
    shown = lines(
        capfd,
        "jsonl",
        Attempt("box", "m"),
        Delta(),
        Delta(reasoning="hm"),
        Delta("Hi"),
        Failed("box", FAILURE, "other", 1.23456),
        Queued("other", 2, 1.5),
        Attempt("other", "n", "Hi"),
        Notice("via b"),
        Delta(finish=Finish.STOP, usage=Usage(1, 2)),
        Done(TURN),
    )
    assert shown == [
        {"type": "attempt", "provider": "box", "model": "m"},
        {"type": "delta", "reasoning": "hm"},
        {"type": "delta", "text": "Hi"},
        {"type": "failed", "provider": "box", "error": ERROR, "then": "other", "wait": 1.235},
        {"type": "queued", "provider": "other", "position": 2, "seconds": 1.5},
        {"type": "attempt", "provider": "other", "model": "n", "at": 2},
        {"type": "notice", "text": "via b"},
        {
            "type": "delta",
            "finish": "stop",
            "usage": {
                "prompt": 1,
                "completion": 2,
                "cached": 0,
                "reasoning": 0,
                "estimated": False,
                **FREE,
            },
        },
        {"type": "done", **OBJECT},
    ]


def test_notices_go_to_stderr_unless_quiet(capfd: Caught) -> None:
    writer("json", Look()).show(Notice("via b"))
    writer("json", Look(quiet=True)).show(Notice("via b"))
    assert capfd.readouterr() == ("", "via b\n")


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_no_character_ends_a_line_or_drives_a_terminal(capfd: Caught, form: str) -> None:
    every = "".join(map(chr, [*range(0x250), *range(0x2000, 0x2070), 0xFEFF, 0x1F384]))
    turn = Turn(every, "", Finish.STOP, "box", "m")
    writer(form, Look()).show(Done(turn))
    out = capfd.readouterr().out
    assert json.loads(out)["text"] == every
    assert len(out.splitlines()) == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out)
    assert "🎄" in out


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_lone_surrogates_do_not_stop_it(capfd: Caught, form: str) -> None:
    (shown,) = lines(capfd, form, Done(Turn("a\ud83c", "", Finish.STOP, "box", "m")))
    assert shown["text"] == "a?"
