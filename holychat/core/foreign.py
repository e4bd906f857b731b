"""Conversations of other programs, told in our words.

Owns the way from a tree of foreign messages (tools, hidden ones, several answers in a row) to one
in which a prompt is followed by its answers; and ChatGPT's conversations.json, whose `mapping` is
such a tree. Must not know SQL: `store.llm_logs` reads the trees that are in a database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from holychat.core.formats import ROLES, Exchange, Figures, Whole, healed
from holychat.core.history import Conversation, Kept
from holychat.core.titles import title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_UNKNOWN = Figures()
_LATEST = 1 << 53  # milliseconds; what is later is no date


@dataclass(frozen=True, slots=True)
class Node:
    """A foreign message. A role that is none of ours is passed over, and so are the parents that
    are not there. `figures` say how an answer came to be."""

    key: str
    parent: str | None
    role: str
    text: str
    reasoning: str = ""
    created: int = 0
    figures: Figures = _UNKNOWN


@dataclass(slots=True, eq=False)
class _State:
    """A message of ours to be, and the one before it. It gets its number when it is final."""

    node: Node
    before: _State | None
    number: int = 0


def woven(
    about: Conversation, nodes: Iterable[Node], current: str | None, origin: str
) -> Whole | None:
    """The conversation whose messages are `nodes`, parents first; None where nothing is left.

    Messages of one role in a row become one, so that prompts and answers alternate. `current` is
    the node at which the conversation stands; a prompt without an answer is not gone on from.
    """
    states: dict[str, _State | None] = {}
    parents: set[str | None] = set()
    for node in nodes:
        before = states.get(node.parent or "")
        states[node.key] = _joined(before, node) if node.role in ROLES[1:] else before
        parents.add(node.parent)
    loom = _Loom(origin)
    # First what is gone on from: its messages get their numbers in the order of the talk.
    head = _said(states.get(current or ""))
    for state in (head, *(states[key] for key in states if key not in parents)):
        loom.add(_said(state))
    if not loom.messages:
        return None
    while head is not None and head.node.role != "assistant":
        head = _said(head.before)
    models = [each.figures.model for each in loom.exchanges if each.figures.model]
    dates = [each.created for each in loom.messages if each.created]
    prompts = [each.text for each in loom.messages if each.role == "user"]
    created = about.created or min(dates, default=0)
    conversation = replace(
        about,
        title=" ".join(healed(about.title).split())
        or title_of((prompts or [loom.messages[0].text])[0]),
        created=created,
        updated=about.updated or max(dates, default=created),
        model=healed(about.model) or (models[-1] if models else ""),
        system=healed(about.system),
        head=head.number if head else None,
        messages=len(loom.messages),
        origin=origin,
    )
    return Whole(conversation, tuple(loom.messages), tuple(loom.exchanges))


def _said(state: _State | None) -> _State | None:
    """The state itself, or the last one before it that says something."""
    while state is not None and not state.node.text.strip():
        state = state.before
    return state


def _joined(before: _State | None, node: Node) -> _State:
    """The node behind what was said before it, as one with it where the role is the same."""
    if before is None or before.node.role != node.role:
        before = _said(before)
    if before is None or before.node.role != node.role:
        return _State(node, before)
    old = before.node
    one = replace(
        node,
        text="\n\n".join(filter(None, (old.text, node.text))),
        reasoning="\n\n".join(filter(None, (old.reasoning, node.reasoning))),
        created=old.created or node.created,
        figures=_sum(old.figures, node.figures),
    )
    return _State(one, before.before)


def _sum(old: Figures, new: Figures) -> Figures:
    def both(one: Any, other: Any) -> Any:
        return other if one is None else one if other is None else one + other

    return replace(
        new,
        started=old.started or new.started,
        finish=new.finish or old.finish,
        model=new.model or old.model,
        prompt_tokens=both(old.prompt_tokens, new.prompt_tokens),
        cached_tokens=both(old.cached_tokens, new.cached_tokens),
        completion_tokens=both(old.completion_tokens, new.completion_tokens),
        reasoning_tokens=both(old.reasoning_tokens, new.reasoning_tokens),
        total=both(old.total, new.total),
    )


class _Loom:
    """Gives states their numbers, each behind its parent."""

    def __init__(self, origin: str) -> None:
        self.messages: list[Kept] = []
        self.exchanges: list[Exchange] = []
        self._origin = origin

    def add(self, state: _State | None) -> None:
        waiting: list[_State] = []
        while state is not None and not state.number:
            waiting.append(state)
            state = _said(state.before)
        for each in reversed(waiting):
            self._add(each)

    def _add(self, state: _State) -> None:
        node, before = state.node, _said(state.before)
        state.number = len(self.messages) + 1
        parent = before.number if before else None
        text, reasoning = healed(node.text), healed(node.reasoning)
        role: Any = node.role
        self.messages.append(Kept(state.number, parent, role, text, reasoning, node.created))
        if parent is not None and node.role == "assistant":
            figures = replace(
                node.figures,
                started=node.figures.started or node.created,
                finish=node.figures.finish or "stop",
                provider=self._origin,
                model=healed(node.figures.model),
            )
            self.exchanges.append(Exchange(parent, state.number, figures))


# --- ChatGPT ------------------------------------------------------------------------------------

CHATGPT = "chatgpt"
_CITATION = re.compile("\ue200[^\ue200\ue201]*\ue201")  # marks of sources that are not exported
_ENDS = {"interrupted": "interrupted", "max_tokens": "length"}


def is_chatgpt(value: Any) -> bool:
    """Whether it is a list of ChatGPT's conversations, or one."""
    listed = value if isinstance(value, list) else [value]
    return bool(listed) and all(
        isinstance(each, dict) and isinstance(each.get("mapping"), dict) for each in listed
    )


def chatgpt(value: Any) -> Iterator[Whole]:
    """The conversations of such a list; those in which nothing was said are left out."""
    for each in value if isinstance(value, list) else [value]:
        mapping: Mapping[str, Any] = each["mapping"]
        nodes = [_node(key, raw) for key, raw in _in_order(mapping)]
        identity = _str(each.get("conversation_id")) or _str(each.get("id"))
        unnamed = f"{each.get('title')} {each.get('create_time')}"
        about = Conversation(
            id=f"{CHATGPT}:{identity or unnamed}",
            title=_str(each.get("title")),
            created=moment(each.get("create_time")),
            updated=moment(each.get("update_time")),
            model=_str(each.get("default_model_slug")),
            system=next((node.text for node in nodes if node.role == "system" and node.text), ""),
        )
        whole = woven(about, nodes, _str(each.get("current_node")), CHATGPT)
        if whole is not None:
            yield whole


def _in_order(mapping: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The nodes, parents first, siblings in their order; what hangs in a circle is left out."""
    sound = {key: raw for key, raw in mapping.items() if isinstance(raw, dict)}
    children: dict[str | None, list[str]] = {}
    for key, raw in sound.items():
        parent = raw.get("parent")
        known = isinstance(parent, str) and parent in sound
        children.setdefault(parent if known else None, []).append(key)
    waiting = children.get(None, [])[::-1]
    while waiting:
        key = waiting.pop()
        yield key, sound[key]
        listed = sound[key].get("children")
        places = {each: at for at, each in enumerate(_list(listed)) if isinstance(each, str)}
        below = children.get(key, [])
        waiting += sorted(below, key=lambda each: places.get(each, len(places)), reverse=True)


def _node(key: str, raw: dict[str, Any]) -> Node:
    message, parent = _dict(raw.get("message")), raw.get("parent")
    metadata, content = _dict(message.get("metadata")), _dict(message.get("content"))
    role = _str(_dict(message.get("author")).get("role"))
    hidden = metadata.get("is_visually_hidden_from_conversation") is True
    to_tool = role == "assistant" and message.get("recipient", "all") not in ("all", None)
    if hidden or to_tool:
        role = ""
    text, reasoning = _content(content)
    ended = _str(_dict(metadata.get("finish_details")).get("type"))
    return Node(
        key,
        parent if isinstance(parent, str) else None,
        role,
        _CITATION.sub("", text),
        reasoning,
        moment(message.get("create_time")),
        Figures(finish=_ENDS.get(ended, ""), model=_str(metadata.get("model_slug"))),
    )


def _content(content: dict[str, Any]) -> tuple[str, str]:
    """(text, reasoning) of a message, by the kind of its content."""
    kind = content.get("content_type")
    if kind == "thoughts":
        thoughts = map(_dict, _list(content.get("thoughts")))
        parts = (_str(each.get(name)) for each in thoughts for name in ("summary", "content"))
        return "", "\n\n".join(filter(None, parts))
    if kind in ("text", "multimodal_text"):
        return "\n\n".join(filter(None, map(_part, _list(content.get("parts"))))), ""
    if kind == "code":
        code, language = _str(content.get("text")), _str(content.get("language"))
        return f"```{language.replace('unknown', '')}\n{code}\n```" if code else "", ""
    return "", ""


def _part(part: Any) -> str:
    """A part as text: what was said aloud is written out, what cannot be shown is named."""
    if isinstance(part, str):
        return part
    raw = _dict(part)
    if text := _str(raw.get("text")):
        return text
    kind = _str(raw.get("content_type")).removesuffix("_pointer").removesuffix("_asset")
    return f"[{kind.replace('_', ' ')}]" if kind else ""


def moment(seconds: Any) -> int:
    """Seconds since 1970 in milliseconds; 0 for what is no date."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return 0
    return round(seconds * 1000) if 0 < seconds * 1000 < _LATEST else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""
