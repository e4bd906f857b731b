from __future__ import annotations

import pytest

from holychat import env
from holychat.core.chat import Attempt, Delta, Done, Finish, Notice, Turn
from holychat.screen import Look, Writer, writer

DONE = Done(Turn("", "", Finish.STOP, "box", "m"))
Caught = pytest.CaptureFixture[str]


def shown(out: Writer, *events: Attempt | Delta | Notice | Done) -> None:
    for event in events:
        out.show(event)
    out.close()


def test_text_and_one_final_newline(capfd: Caught) -> None:
    shown(writer("plain", Look()), Attempt("box", "m"), Delta(), Delta("a\n"), Delta("b"), DONE)
    assert capfd.readouterr() == ("a\nb\n", "")


def test_a_newline_at_the_end_is_not_doubled(capfd: Caught) -> None:
    shown(writer("plain", Look()), Delta("a\n"), DONE)
    assert capfd.readouterr() == ("a\n", "")


def test_nothing_is_nothing(capfd: Caught) -> None:
    shown(writer("plain", Look()), Attempt("box", "m"), DONE)
    assert capfd.readouterr() == ("", "")


def test_a_pipe_gets_controls_and_a_terminal_sees_them(capfd: Caught) -> None:
    for terminal in (False, True):
        shown(writer("plain", Look(terminal=terminal)), Delta("\x1b[2J\r\n"), DONE)
    assert capfd.readouterr().out == "\x1b[2J\r\n" + "␛[2J\n"


def test_reasoning_goes_to_stderr_and_ends_before_the_answer(capfd: Caught) -> None:
    look = Look(reasoning=True)
    shown(writer("plain", look), Delta(reasoning="h\x1b"), Delta(reasoning="m"), Delta("a"), DONE)
    assert capfd.readouterr() == ("a\n", "h␛m\n\n")
    shown(writer("plain", Look(reasoning=False)), Delta(reasoning="hm"), Delta("a"), DONE)
    assert capfd.readouterr() == ("a\n", "")


def test_notices_unless_quiet(capfd: Caught) -> None:
    shown(writer("plain", Look()), Notice("via b"), DONE)
    shown(writer("plain", Look(quiet=True)), Notice("via b"), DONE)
    assert capfd.readouterr() == ("", "via b\n")


def test_lone_surrogates_do_not_stop_it(capfd: Caught) -> None:
    shown(writer("plain", Look()), Delta("\ud83c"), DONE)
    assert capfd.readouterr().out == "?\n"


def test_a_missing_stderr_costs_no_answer(capfd: Caught, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "STDERR", 9999)
    shown(writer("plain", Look()), Delta(reasoning="hm"), Delta("a"), DONE)
    assert capfd.readouterr().out == "a\n"


def test_what_begins_anew_says_that_the_first_part_does_not_count(capfd: Caught) -> None:
    first, again = Attempt("box", "m"), Attempt("box", "m", "")
    shown(writer("plain", Look()), first, Delta("half"), again, Delta("whole"), DONE)
    assert capfd.readouterr() == (
        "half\nwhole\n",
        "what came does not count: the answer begins anew\n",
    )
    shown(writer("plain", Look()), first, Delta("half "), Attempt("spare", "n", "half "), DONE)
    assert capfd.readouterr().err == ""
    shown(writer("plain", Look(quiet=True)), first, Delta("half"), again, Delta("whole"), DONE)
    assert capfd.readouterr().err == ""
