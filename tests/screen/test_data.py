from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from holychat.core.chat import Attempt, Delta, Done, Finish, Notice, Timings, Turn, Usage
from holychat.core.failure import Failure, Kind
from holychat.screen import Look, writer

if TYPE_CHECKING:
    from holychat.core.chat import Event

FAILURE = Failure(Kind.RATE, "slow down", "Wait.", status=429, code="rate", retry_after=2.0)
TURN = Turn("Hi", "hm", Finish.STOP, "box", "m", Usage(1, 2, 0, 1), Timings(0.12345678, None, 1.0))
OBJECT: dict[str, Any] = {
    "text": "Hi",
    "reasoning": "hm",
    "provider": "box",
    "model": "m",
    "served_model": "m",
    "finish": "stop",
    "complete": True,
    "refusal": False,
    "usage": {"prompt": 1, "completion": 2, "cached": 0, "reasoning": 1, "estimated": False},
    "timings": {"headers": 0.1235, "first": None, "total": 1.0},
    "error": None,
}
ERROR = {
    "kind": "rate-limit",
    "message": "slow down",
    "hint": "Wait.",
    "status": 429,
    "code": "rate",
    "retry_after": 2.0,
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


def test_an_event_a_line(capfd: Caught) -> None:
    shown = lines(
        capfd,
        "jsonl",
        Attempt("box", "m"),
        Delta(),
        Delta(reasoning="hm"),
        Delta("Hi"),
        Notice("via b"),
        Delta(finish=Finish.STOP, usage=Usage(1, 2)),
        Done(TURN),
    )
    assert shown == [
        {"type": "attempt", "provider": "box", "model": "m"},
        {"type": "delta", "reasoning": "hm"},
        {"type": "delta", "text": "Hi"},
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
