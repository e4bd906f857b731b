from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from holychat.core.failure import UsageError
from holychat.core.formats import (
    Attempted,
    Summary,
    Whole,
    decoded,
    document,
    finite,
    healed,
    is_ours,
    plain,
    record,
    wholes,
)
from tests.wholes import AT, RICH, WHOLE
from tests.wholes import wholes as any_wholes


def there_and_back(*given: Whole) -> list[Whole]:
    data = "".join(document(given)).encode()
    return wholes(decoded(data, "file"), "file")


def test_all_of_a_conversation_comes_back() -> None:
    assert there_and_back(WHOLE) == [WHOLE]
    assert there_and_back(RICH, WHOLE, RICH) == [RICH, WHOLE, RICH]
    assert there_and_back() == []


@given(any_wholes())
def test_so_does_any_other(whole: Whole) -> None:
    again = there_and_back(whole)
    assert again == [whole]
    assert "".join(document(again)) == "".join(document([whole]))


def test_the_document_says_what_it_is_and_leaves_out_what_says_nothing() -> None:
    value = json.loads("".join(document([WHOLE])))
    assert is_ours(value)
    assert value["version"] == 1
    first = value["conversations"][0]
    assert first["messages"][0] == {
        "id": 1,
        "role": "user",
        "text": "Why is the sky blue?",
        "created": WHOLE.conversation.created,
    }
    assert first["turns"][1]["usage"] == {
        "prompt": 10,
        "cached": 0,
        "completion": 20,
        "estimated": True,
    }
    assert first["turns"][0]["failure"] == {"kind": "rate", "what": "429"}
    assert "served_model" not in first["turns"][0]


def test_what_stands_beside_it_is_added_where_old_readers_do_not_look() -> None:
    """Names that they do not know, never another value for one that they do."""
    value = record(RICH)
    assert value["summaries"] == [
        {"parent": 2, "text": "Of the *sky*.", "created": AT + 6000},
        {"parent": 5, "created": -1},
    ]
    assert [each.get("pinned") for each in value["messages"]] == [True, True, None, None, None]
    turn = value["turns"][1]
    assert (turn["usage"]["cost_picos"], turn["unpriced"]) == ((1 << 62) + 1, True)
    usages = [each.get("usage", {}) for each in turn["attempts"]]
    assert [each.get("cost_picos") for each in usages] == [7, 0, None, 9, 11]
    own = [
        {name: each[name] for name in ("number", "role", "at") if name in each}
        for each in turn["attempts"]
    ]
    assert own == [{"role": "summary"}, {}, {"at": 17}, {"role": "hedge"},
                   {"number": 4, "role": "shadow"}]  # fmt: skip


def test_a_document_from_before_says_the_same_as_ever() -> None:
    """Word for word what 0.1 wrote, and read."""
    turn = {
        "prompt": 1, "answer": 2, "started": 5, "finish": "stop", "provider": "box", "model": "m",
        "usage": {"prompt": 3, "completion": 0},
        "attempts": [
            {"started": 5, "finish": "cut", "provider": "box", "model": "m"},
            {"started": 6, "finish": "stop", "provider": "box", "model": "m"},
        ],
    }  # fmt: skip
    about = {"id": "abcdefghjkmn", "created": 5, "updated": 6, "head": 2}
    messages = [
        {"id": 1, "role": "user", "text": "a", "created": 5},
        {"id": 2, "parent": 1, "role": "assistant", "text": "b", "created": 6},
    ]
    old = about | {"messages": messages, "turns": [turn]}
    (whole,) = wholes({"format": "holychat", "version": 1, "conversations": [old]}, "file")
    assert whole.exchanges[0].figures.cost is None
    assert [(each.number, each.role, each.at) for each in whole.exchanges[0].attempts] == [
        (1, "", 0), (2, "", 0),
    ]  # fmt: skip
    assert (whole.pinned, whole.summaries) == (frozenset(), ())
    assert plain(whole) == whole
    assert json.dumps(record(whole)) == json.dumps(old)


def test_a_zero_is_known_and_what_says_nothing_is_left_out() -> None:
    free = replace(RICH.exchanges[1].figures, cost=0)
    exchange = replace(RICH.exchanges[1], figures=free, unpriced=False, attempts=(Attempted(),))
    value = record(replace(RICH, exchanges=(exchange,), summaries=(), pinned=frozenset()))
    assert value["turns"][0]["usage"]["cost_picos"] == 0
    assert value["turns"][0]["attempts"] == [{"started": 0}]
    assert "unpriced" not in value["turns"][0]
    assert "summaries" not in value


def test_what_documents_said_before_of_what_is_richer() -> None:
    before = plain(RICH)
    assert plain(before) == before
    assert (before.messages, before.conversation) == (RICH.messages, RICH.conversation)
    assert [each.number for each in before.exchanges[1].attempts] == [1, 2, 3, 4, 5]
    value = record(before)
    assert {"summaries", "pinned", "unpriced", "cost_picos", "number", "at"}.isdisjoint(
        name
        for each in (value, *value["messages"], *value["turns"], *value["turns"][1]["attempts"])
        for name in (*each, *each.get("usage", ()))
    )
    assert not any("role" in each for each in value["turns"][1]["attempts"])
    stood = replace(
        RICH.exchanges[1], attempts=(Attempted(1, role="import"), Attempted(2, number=2))
    )
    (left,) = plain(replace(RICH, exchanges=(stood,))).exchanges
    assert left.attempts == (Attempted(2),)


def test_messages_are_numbered_anew() -> None:
    value = {
        "format": "holychat",
        "version": 1,
        "conversations": [
            {
                "id": "x",
                "head": 7,
                "messages": [
                    {"id": 70, "role": "user", "pinned": True},
                    {"id": 7, "parent": 70, "role": "assistant"},
                ],
                "turns": [{"prompt": 70, "answer": 7}],
                "summaries": [{"parent": 7, "text": "x"}],
            }
        ],
    }
    (whole,) = wholes(value, "file")
    assert [(each.id, each.parent) for each in whole.messages] == [(1, None), (2, 1)]
    assert whole.conversation.head == 2
    assert (whole.exchanges[0].prompt, whole.exchanges[0].answer) == (1, 2)
    assert (whole.pinned, whole.summaries) == ({1}, (Summary(2, "x"),))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"format":\n  "holychat",}', "file: line 2, column 14: "),
        (b"[1, 2", "file: line 1, column 6: "),
        (b"", "file: line 1, column 1: "),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": "\xff"}', "byte 8 is no UTF-8"),
        (b"[" * 200_000, "nested too deep"),
        (b"1" * 5000, "file: Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_said_in_one_line(data: bytes, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        decoded(data, "file")
    assert said in caught.value.what
    assert "\n" not in caught.value.what


def test_marks_of_the_encoding_are_understood() -> None:
    assert decoded(b"\xef\xbb\xbf[1]", "file") == [1]
    assert decoded("[1]".encode("utf-16"), "file") == [1]


@pytest.mark.parametrize("version", [0, 2, 99, None, "1", True, {}])
def test_another_version_is_not_guessed_at(version: object) -> None:
    with pytest.raises(UsageError, match="reads 1"):
        wholes({"format": "holychat", "version": version, "conversations": []}, "file")


def broken(**changed: Any) -> dict[str, Any]:
    raw = json.loads(json.dumps(record(WHOLE)))
    for path, value in changed.items():
        *way, name = [int(part) if part.isdigit() else part for part in path.split("__")]
        at = raw
        for part in way:
            at = at[part]
        at[name] = value
    return {"format": "holychat", "version": 1, "conversations": [raw]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"id": ""}, "conversation 1: it must be an object with an id"),
        ({"title": 7}, "title must be a text"),
        ({"created": "now"}, "created must be a whole number"),
        ({"created": 1 << 63}, "created must be a whole number of 64 bits"),
        ({"created": True}, "created must be"),
        ({"head": 77}, "head must be one of its messages"),
        ({"params": []}, "params must be an object"),
        ({"named": 1}, "named must be true or false"),
        ({"messages": {}}, "messages must be a list"),
        ({"messages": [7]}, "messages must be a list of objects"),
        ({"messages__1__role": "tool"}, "message 2: role must be one of"),
        ({"messages__1__id": 1}, "message 2: it must have an id of its own"),
        ({"messages__1__parent": 4}, "message 2: its parent must be a message before it"),
        ({"messages__1__parent": 2}, "message 2: its parent must be a message before it"),
        ({"messages__1__text": None, "messages__1__reasoning": []}, "reasoning must be a text"),
        ({"turns__0__prompt": None}, "turn 1: prompt and answer must be messages"),
        ({"turns__0__answer": 99}, "turn 1: prompt and answer must be messages"),
        ({"turns__1__usage__prompt": 1.5}, "turn 2, usage: prompt must be a whole number"),
        ({"turns__1__timings__first": "x"}, "turn 2, timings: first must be a number"),
        ({"turns__1__attempts__0__started": []}, "turn 2, attempt 1: started must be"),
        ({"turns__1__attempts__1__role": 1}, "turn 2, attempt 2: role must be a text"),
        ({"turns__1__attempts__1__number": "2"}, "turn 2, attempt 2: number must be"),
        ({"turns__1__attempts__1__at": True}, "turn 2, attempt 2: at must be a whole number"),
        ({"turns__1__usage__cost_picos": 0.5}, "usage: cost_picos must be a whole number"),
        ({"turns__1__usage__cost_picos": 1 << 63}, "cost_picos must be a whole number of 64"),
        ({"turns__1__unpriced": 1}, "turn 2: unpriced must be true or false"),
        ({"messages__1__pinned": 1}, "message 2: pinned must be true or false"),
        ({"summaries": {}}, "summaries must be a list"),
        ({"summaries": [{"text": "x"}]}, "summary 1: its parent must be one of the messages"),
        ({"summaries": [{"parent": 9}]}, "summary 1: its parent must be one of the messages"),
        ({"summaries": [{"parent": 1, "text": 1}]}, "summary 1: text must be a text"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        wholes(broken(**changed), "file")
    assert said in caught.value.what
    assert caught.value.what.startswith("file: conversation 1")


def test_a_document_without_conversations_is_none() -> None:
    with pytest.raises(UsageError, match="must be a list"):
        wholes({"format": "holychat", "version": 1}, "file")


def test_lone_surrogates_do_not_crash() -> None:
    (whole,) = wholes(broken(messages__0__text="a\ud800b \ud83d\ude00", title="\udfff"), "file")
    assert whole.messages[0].text == "a\ufffdb 😀"
    assert whole.conversation.title == "\ufffd"
    odd = replace(WHOLE.conversation, params={"stop": "\ud800"})
    text = "".join(document([replace(WHOLE, conversation=odd)]))
    assert json.loads(text.encode())["conversations"][0]["params"] == {"stop": "\ud800"}


def test_helpers() -> None:
    assert healed("ok \x00 \ud83d\ude00") == "ok \ufffd 😀"
    assert (finite(1.5), finite(None), finite(float("inf"))) == (1.5, None, None)
