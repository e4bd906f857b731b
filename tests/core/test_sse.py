from __future__ import annotations

import time
from itertools import pairwise

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given, settings
from hypothesis import strategies as st

from holychat.core.sse import Decoder, Event, EventTooLong


def decoded(*pieces: bytes, limit: int = 16 * 1024 * 1024) -> list[Event]:
    decoder = Decoder(limit)
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    return events + decoder.end()


def data(*pieces: bytes) -> list[str]:
    return [event.data for event in decoded(*pieces)]


def one_by_one(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def cut(stream: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted(point % (len(stream) + 1) for point in points), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


# --- The rules -----------------------------------------------------------------------------------

BOM = b"\xef\xbb\xbf"

RULES: dict[str, tuple[bytes, list[Event]]] = {
    "lf": (b"data: a\n\n", [Event("a")]),
    "cr": (b"data: a\r\r", [Event("a")]),
    "crlf": (b"data: a\r\n\r\n", [Event("a")]),
    "mixed line ends": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", [Event(x) for x in "abc"]),
    "lf cr is two line ends": (b"data: a\n\rdata: b\n\r", [Event("a"), Event("b")]),
    "no space": (b"data:a\n\n", [Event("a")]),
    "only one space is dropped": (b"data:  a\n\n", [Event(" a")]),
    "a tab is data": (b"data:\ta\n\n", [Event("\ta")]),
    "bom": (BOM + b"data: a\n\n", [Event("a")]),
    "a second bom is part of the name": (BOM + BOM + b"data: a\n\ndata: b\n\n", [Event("b")]),
    "a bom later is part of the name": (b"data: a\n\n" + BOM + b"data: b\n\n", [Event("a")]),
    "a bom inside data stays": (b"data: " + BOM + b"a\n\n", [Event("\ufeffa")]),
    "half a bom is no bom": (BOM[:2] + b"data: a\n\ndata: b\n\n", [Event("b")]),
    "comment": (b": keep-alive\n\n:\n\n:data: x\ndata: a\n\n", [Event("a")]),
    "comment inside an event": (b"data: a\n: hm\ndata: b\n\n", [Event("a\nb")]),
    "lines are joined with lf": (b"data: a\r\ndata: b\rdata\ndata:\n\n", [Event("a\nb\n\n")]),
    "name": (b"event: error\ndata: a\n\ndata: b\n\n", [Event("a", "error"), Event("b")]),
    "name after data": (b"data: a\nevent:error\n\n", [Event("a", "error")]),
    "name without data": (b"event: error\n\ndata: a\n\n", [Event("a")]),
    "name taken back": (b"event: x\nevent\ndata: a\n\n", [Event("a")]),
    "id, retry and unknown fields": (
        b"id: 1\nretry: 5\nfoo: x\nfoo\nDATA: x\n data: x\ndatax: x\nxdata: x\ndata: a\n\n",
        [Event("a")],
    ),
    "empty data is no event": (b"data:\n\ndata\n\ndata: \n\ndata: a\n\n", [Event("a")]),
    "no blank line at the end": (b"data: a\n\ndata: b\n", [Event("a"), Event("b")]),
    "no line end at the end": (b"data: a\n\ndata: [DONE]", [Event("a"), Event("[DONE]")]),
    "many blank lines": (b"\n\n\r\r\r\n\r\ndata: a\n\n\n\n", [Event("a")]),
    "colons in the value": (b"data: a: b:c\n\n", [Event("a: b:c")]),
    "nul": (b"data: a\0b\n\n", [Event("a\0b")]),
    "invalid utf-8": (b"data: a\xffb\xc3\n\ndata: c\n\n", [Event("a\ufffdb\ufffd"), Event("c")]),
    "llama.cpp's error line": (b'error: {"code":500}\n\n', [Event('{"code":500}', "error")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    stream, expected = RULES[name]
    assert decoded(stream) == expected
    assert decoded(*one_by_one(stream)) == expected


@pytest.mark.parametrize("name", RULES)
def test_rule_at_each_single_cut(name: str) -> None:
    stream, expected = RULES[name]
    for i in range(len(stream) + 1):
        assert decoded(stream[:i], stream[i:]) == expected


# What str.splitlines takes for a line end, and the rules do not.
ODD = "\u2028 \u2029 \u0085 \x0b \x0c \x1c \x1d \x1e"


def test_only_cr_and_lf_end_a_line() -> None:
    stream = f"data: a{ODD}b\n\n".encode()
    assert data(stream) == data(*one_by_one(stream)) == [f"a{ODD}b"]


def test_utf8_cut_anywhere() -> None:
    text = "é 你好 😀 👩‍👩‍👧 \u2028"
    stream = f"data: {text}\n\n".encode()
    for i in range(len(stream)):
        assert data(stream[:i], stream[i:]) == [text]


def test_a_cr_at_the_end_of_a_read_dispatches_at_once() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\n\r") == [Event("a")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: b\r\r") == [Event("b")]
    assert decoder.feed(b"\ndata: c\n\n") == [Event("c")]


def test_an_event_is_returned_with_the_byte_that_completes_it() -> None:
    decoder = Decoder()
    stream = b"data: a\n\n"
    got = [decoder.feed(piece) for piece in one_by_one(stream)]
    assert got == [[]] * (len(stream) - 1) + [[Event("a")]]


# --- Any split gives the same --------------------------------------------------------------------

_PIECES = (
    b"data", b"data:", b"data: ", b"event:", b"event: error", b"error:", b"id: 1", b"retry: 3",
    b":", b": hi", b"\n", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b" ", b"x", b"[DONE]",
    b'{"a":1}', BOM, b"\xe2\x80\xa8", b"\xc2\x85", b"\xf0\x9f\x98\x80", b"\xff", b"\x0b", b"\0",
)  # fmt: skip
streams = st.lists(
    st.one_of(st.sampled_from(_PIECES), st.binary(max_size=4)), max_size=40
).map(b"".join)  # fmt: skip
points = st.lists(st.integers(0, 2000), max_size=12)


@settings(deadline=None)
@given(streams, points)
def test_any_split_gives_the_same_events(stream: bytes, where: list[int]) -> None:
    assert decoded(*cut(stream, where)) == decoded(stream)


def bounded(pieces: list[bytes], limit: int) -> tuple[list[Event], bool]:
    """All events that came out, and whether the bound was met."""
    decoder = Decoder(limit)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
    except EventTooLong as error:
        return events + error.events, True
    return events + decoder.end(), False


@settings(deadline=None)
@given(streams, points, st.integers(0, 40))
def test_the_bound_does_not_depend_on_the_split(
    stream: bytes, where: list[int], limit: int
) -> None:
    whole = bounded([stream], limit)
    assert bounded(cut(stream, where), limit) == whole
    assert bounded(one_by_one(stream), limit) == whole


# --- An independent decoder as the oracle --------------------------------------------------------

_text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n"), max_size=20)
_line = st.one_of(
    _text.map(lambda t: f"data:{t}"),
    _text.map(lambda t: f"data: {t}"),
    _text.map(lambda t: f":{t}"),
    st.sampled_from(["data", "event: error", "event", "event:", "id: 7", "retry: 10", "foo: bar"]),
)
# CR is not mixed with the others: a CR and a LF of two lines would become one line end.
_ends = st.sampled_from([["\r"], ["\n", "\r\n"]])


@st.composite
def well_formed(draw: st.DrawFn) -> bytes:
    """Whole events with any line end; without what the two treat differently on purpose."""
    end = st.sampled_from(draw(_ends))
    out = []
    for lines in draw(st.lists(st.lists(_line, max_size=5), max_size=5)):
        out += [line + draw(end) for line in [*lines, ""]]
    return "".join(out).encode()


@settings(deadline=None)
@given(well_formed(), points)
def test_agrees_with_httpx_sse(stream: bytes, where: list[int]) -> None:
    response = httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content=iter([stream])
    )
    expected = [
        Event(event.data, "" if event.event == "message" else event.event)
        for event in EventSource(response).iter_sse()
        if event.data  # an event of no data is dropped here
    ]
    assert decoded(*cut(stream, where)) == expected


# --- Cost and bound ------------------------------------------------------------------------------


def cost(pieces: list[bytes]) -> float:
    """Seconds for feeding all of it; the best of three, which leaves out what else runs here."""
    best = float("inf")
    for _ in range(3):
        decoder = Decoder()
        start = time.perf_counter()
        for piece in pieces:
            decoder.feed(piece)
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.parametrize(
    "build",
    [
        lambda n: one_by_one(b"data: " + b"x" * n),  # one endless line
        lambda n: one_by_one(b"data: a\r\r" * (n // 9)),
        lambda n: [b"data: a\r\r" * (n // 9)],  # LF never comes
        lambda n: [b"data: a\n\n" * (n // 9)],  # CR never comes
        lambda n: [b"\r" * n + b"\n"],
        lambda n: [b"data: x\n" * (n // 8)],  # one event of many lines
    ],
)
def test_cost_is_linear(build: object) -> None:
    # Ten times the input in at most forty times the time: a quadratic decoder needs a hundred.
    assert callable(build)
    small, large = cost(build(50_000)), cost(build(500_000))
    assert large < 40 * max(small, 1e-4)


def test_bound_of_a_line_that_never_ends() -> None:
    with pytest.raises(EventTooLong, match="100 bytes"):
        decoded(*[b"data: xxxx"] * 1000, limit=100)


def test_bound_of_an_event_that_never_ends() -> None:
    with pytest.raises(EventTooLong):
        decoded(*[b"data: x\n"] * 1000, limit=100)


def test_bound_is_of_one_event() -> None:
    assert len(decoded(b"data: xxxxxxxxxx\n\n" * 1000, limit=20)) == 1000


def test_events_before_the_bound_are_not_lost() -> None:
    with pytest.raises(EventTooLong) as caught:
        Decoder(limit=20).feed(b"data: a\n\ndata: b\n\ndata: " + b"x" * 50 + b"\n\ndata: c\n\n")
    assert caught.value.events == [Event("a"), Event("b")]
