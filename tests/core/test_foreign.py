from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holychat.core.foreign import Node, chatgpt, is_chatgpt, moment, woven
from holychat.core.formats import Whole
from holychat.core.history import Conversation, path_to


def message(role: str, *parts: Any, at: float | None = None, **more: Any) -> dict[str, Any]:
    content = more.pop("content", {"content_type": "text", "parts": list(parts)})
    return {"author": {"role": role}, "create_time": at, "content": content, **more}


def talk(*nodes: tuple[str, str | None, Any], **more: Any) -> dict[str, Any]:
    """A conversation as ChatGPT exports it, from (id, parent, message)."""
    mapping: dict[str, Any] = {
        key: {"id": key, "parent": parent, "message": said, "children": []}
        for key, parent, said in nodes
    }
    for key, parent, _ in nodes:
        if parent in mapping:
            mapping[parent]["children"].append(key)
    return {
        "title": "A talk",
        "create_time": 1700000000.5,
        "update_time": 1700000100.0,
        "mapping": mapping,
        "current_node": nodes[-1][0],
        "conversation_id": "6f9a",
        **more,
    }


HIDDEN = {"is_visually_hidden_from_conversation": True}
TALK = talk(
    ("root", None, None),
    ("s", "root", message("system", "", metadata=HIDDEN)),
    ("h", "s", message("user", "my custom instructions", metadata=HIDDEN)),
    ("u1", "h", message("user", "Hi", at=1700000001.0)),
    (
        "old",
        "u1",
        message("assistant", "Old", at=1700000002.0, metadata={"model_slug": "gpt-4"}),
    ),
    ("think", "u1", message("assistant", content={
        "content_type": "thoughts",
        "thoughts": [{"summary": "Greeting", "content": "They greet."}],
    })),
    ("call", "think", message("assistant", recipient="python", content={
        "content_type": "code", "language": "python", "text": "1+1",
    })),
    ("ran", "call", message("tool", content={"content_type": "execution_output", "text": "2"})),
    (
        "new",
        "ran",
        message(
            "assistant",
            "New\ue200cite\ue202turn0search0\ue201",
            at=1700000003.0,
            metadata={"model_slug": "gpt-5", "finish_details": {"type": "interrupted"}},
        ),
    ),
    ("u2", "new", message("user", content={
        "content_type": "multimodal_text",
        "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "x"}, "What is it?"],
    })),
    ("a2", "u2", message("assistant", "A cat.")),
    ("a3", "a2", message("assistant", "Or a dog.")),
)  # fmt: skip


def shown(whole: Whole) -> list[tuple[int | None, str, str]]:
    return [(each.parent, each.role, each.text) for each in whole.messages]


def test_a_talk_with_chatgpt() -> None:
    assert is_chatgpt([TALK])
    (whole,) = chatgpt([TALK])
    assert shown(whole) == [
        (None, "user", "Hi"),
        (1, "assistant", "New"),
        (2, "user", "[image]\n\nWhat is it?"),
        (3, "assistant", "A cat.\n\nOr a dog."),
        (1, "assistant", "Old"),
    ]
    about = whole.conversation
    assert (about.id, about.title, about.origin) == ("chatgpt:6f9a", "A talk", "chatgpt")
    assert (about.created, about.updated) == (1700000000500, 1700000100000)
    assert (about.head, about.model, about.provider) == (4, "gpt-4", "")
    assert whole.messages[1].reasoning == "Greeting\n\nThey greet."
    assert whole.messages[1].created == 1700000003000
    turns = [(each.prompt, each.answer, each.figures.finish, each.figures.model)
             for each in whole.exchanges]  # fmt: skip
    assert turns == [
        (1, 2, "interrupted", "gpt-5"),
        (3, 4, "stop", ""),
        (1, 5, "stop", "gpt-4"),
    ]
    assert {each.figures.provider for each in whole.exchanges} == {"chatgpt"}


def test_a_prompt_without_an_answer_is_not_gone_on_from() -> None:
    asked, answered = message("user", "q"), message("assistant", "x")
    more = ("v", "a", message("user", "more"))
    (whole,) = chatgpt(talk(("u", None, asked), ("a", "u", answered), more))
    assert shown(whole)[-1] == (2, "user", "more")
    assert whole.conversation.head == 2
    (lone,) = chatgpt(talk(("u", None, asked)))
    assert (lone.conversation.head, len(lone.messages)) == (None, 1)


def test_prompts_in_a_row_are_one_as_the_model_saw_them() -> None:
    (whole,) = chatgpt(talk(("u", None, message("user", "one")),
                            ("e", "u", message("assistant", "")),
                            ("v", "e", message("user", "two")),
                            ("a", "v", message("assistant", "both"))))  # fmt: skip
    assert shown(whole) == [(None, "user", "one\n\ntwo"), (1, "assistant", "both")]


def test_the_system_prompt_and_a_talk_of_nothing() -> None:
    system = ("s", None, message("system", "You are a pirate."))
    (whole,) = chatgpt(talk(system, ("u", "s", message("user", "q"))))
    assert whole.conversation.system == "You are a pirate."
    assert list(chatgpt([talk(system), talk(("root", None, None))])) == []


def test_circles_and_lost_parents() -> None:
    broken = talk(("a", "b", message("user", "x")), ("b", "a", message("user", "y")),
                  ("u", "gone", message("user", "here")))  # fmt: skip
    (whole,) = chatgpt(broken)
    assert shown(whole) == [(None, "user", "here")]


@pytest.mark.parametrize("value", [None, [], {}, 7, "x", [7], [{"mapping": []}], {"title": "x"}])
def test_what_is_not_chatgpts(value: object) -> None:
    assert not is_chatgpt(value)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["message", "parent", "children", "author", "role", "content", "content_type", "parts",
             "metadata", "thoughts", "text", "create_time", "a", "b"]
        ),
        inner | st.sampled_from(["a", "b", "user", "assistant", "text", "thoughts", "code"]),
        max_size=5,
    ),
    max_leaves=30,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from("abcd"), JUNK), JUNK)
def test_no_junk_breaks_it(mapping: dict[str, Any], current: object) -> None:
    for whole in chatgpt({"mapping": mapping, "current_node": current}):
        check(whole)


@st.composite
def trees(draw: Any) -> list[Node]:
    nodes: list[Node] = []
    for number in range(draw(st.integers(0, 12))):
        parent = draw(st.none() | st.integers(0, number - 1)) if number else None
        role = draw(st.sampled_from(["user", "assistant", "tool", ""]))
        text = draw(st.sampled_from(["", " ", "text", "more"]))
        up = None if parent is None else str(parent)
        nodes.append(Node(str(number), up, role, text, draw(st.sampled_from(["", "hm"]))))
    return nodes


@given(trees(), st.integers(0, 12))
def test_prompts_and_answers_alternate_in_every_branch(nodes: list[Node], at: int) -> None:
    whole = woven(Conversation("x"), nodes, str(at), "test")
    if whole is None:
        assert not any(n.text.strip() and n.role in ("user", "assistant") for n in nodes)
        return
    check(whole)
    kept = "".join(each.text for each in whole.messages)
    for node in nodes:
        assert node.role not in ("user", "assistant") or node.text.strip() in kept


def check(whole: Whole) -> None:
    messages = {each.id: each for each in whole.messages}
    assert list(messages) == list(range(1, len(messages) + 1))
    for each in whole.messages:
        assert each.parent is None or each.parent < each.id
        assert each.parent is None or messages[each.parent].role != each.role
        assert each.text.strip()
    head = whole.conversation.head
    assert head is None or path_to(messages, head)[-1].role == "assistant"
    assert whole.conversation.title


def test_a_long_talk_is_no_deep_recursion() -> None:
    nodes = [Node(str(n), str(n - 1), ["user", "assistant"][n % 2], "x") for n in range(20_000)]
    whole = woven(Conversation("x"), nodes, "19999", "test")
    assert whole is not None
    assert whole.conversation.head == 20_000


def test_moments() -> None:
    assert moment(1.5) == 1500
    odd = [moment(value) for value in (None, "x", True, -1, float("nan"), float("inf"), 1e300)]
    assert odd == [0] * 7
