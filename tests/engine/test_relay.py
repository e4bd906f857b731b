"""What is known of a client's body, and the conversation that it goes on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from holychat.core.chat import Finish, Turn
from holychat.engine import relay
from holychat.store.recorder import Recorder
from holychat.store.threads import ending

if TYPE_CHECKING:
    from pathlib import Path


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def test_what_is_a_conversation_and_what_is_not() -> None:
    found = relay.given(
        body(
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "42"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image_url"}]},
            tools=[{"type": "function"}],
        )
    )
    assert found.system == "be brief"
    assert found.before == (("user", "a"), ("assistant", "b"))
    assert found.prompt == "c\n[image_url]"
    assert [one.role for one in found.flat] == [
        "system", "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert '"id"' in found.flat[3].content


VALUES = st.none() | st.text(max_size=5) | st.integers() | st.lists(
    st.dictionaries(st.sampled_from(["type", "text"]), st.text(max_size=4) | st.integers())
)  # fmt: skip
FIELDS = st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), VALUES)


@given(st.lists(FIELDS, max_size=4))
def test_nothing_trips_it(messages: list[Any]) -> None:
    relay.given(body(*messages))


def turn(text: str) -> Turn:
    return Turn(text, "", Finish.STOP, "box", "m")


def test_recorders_side_by_side(tmp_path: Path) -> None:
    """Many turns are open at once, on one thread, each with a branch of its own."""
    first = Recorder(str(tmp_path / "c.db"))
    many = [Recorder(first.path, beside=first) for _ in range(5)]
    for number, each in enumerate(many):
        each.begin(
            f"p{number}", 0, provider="box", model="m", system="", params={}, fresh=f"c{number}"
        )
    for number, each in reversed([*enumerate(many)]):
        each.end(turn(f"a{number}"))
    assert all(each.caught_up().result(5) for each in many)
    assert [each.conversation for each in many] == [f"c{number}" for number in range(5)]
    assert {each.writer for each in many} == {first.writer}
    assert len({each.messages for each in many}) == 5
    found = first.ask(lambda db: ending(db, [("user", "p3"), ("assistant", "a3")])).result(5)
    assert found == ("c3", many[3].messages)
    for said in ([], [("user", "p3")], [("user", "p1"), ("assistant", "a3")]):
        assert first.ask(lambda db, said=said: ending(db, said)).result(5) is None
    open_ = first.ask(lambda db: db.rows("SELECT * FROM turns WHERE writer IS NOT NULL")).result(5)
    assert open_ == []
    first.close()


def test_a_store_that_fails_is_said_once_by_each(tmp_path: Path) -> None:
    (tmp_path / "c.db").mkdir()
    first = Recorder(str(tmp_path / "c.db"))
    one = Recorder(first.path, beside=first)
    one.begin("p", 0, provider="box", model="m", system="", params={}).result(5)
    one.end(turn("a")).result(5)
    assert len(one.warnings) == 1
    assert not one.keeping
    assert one.unkept == ["p"]
    first.close()
