"""`holychat history show`: one conversation, drawn as it was on the screen.

Owns the order of its messages, what is said of each, and what of a tree is shown. In a pipe it is
the Markdown source; an answer that is not whole says so in every form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holychat import env
from holychat.commands.history import row
from holychat.commands.history.lines import data, titled
from holychat.core.history import as_json, path_to
from holychat.core.sanitize import one_line, visible
from holychat.engine.shelf import opened, place
from holychat.engine.times import now
from holychat.exits import Exit
from holychat.screen.data import usage_object
from holychat.screen.pen import Pen
from holychat.screen.words import ending, price, tokens, when, who

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from holychat.core.history import Conversation, Kept, Open
    from holychat.screen.words import Cash
    from holychat.settings import Settings

UNFINISHED = "not finished: it is being written, or its writer died"


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation with all that is in it."""

    conversation: Conversation
    messages: Mapping[int, Kept]
    unfinished: Sequence[Open]
    branch: Sequence[Kept] = field(default_factory=list)  # the one that is gone on with


def show(settings: Settings, name: str, *, raw: bool | None, every: bool, json: bool) -> Exit:
    """Print the conversation; `raw` None: as source in a pipe, drawn on a terminal."""
    talk = _read(place(settings), name)
    if json:
        data(_object(talk, every=every))
        return Exit.OK
    pen = Pen(settings["ui.theme"])
    raw = not pen.terminal if raw is None else raw
    pieces = _pieces(talk, pen, settings.cash, every=every, raw=raw)
    pen.page("\n\n".join(pieces).split("\n"))
    return Exit.OK


def _read(path: str, name: str) -> Talk:
    from holychat.store import conversations

    with opened(path) as db:
        conversation = conversations.find(db, name)
        messages = conversations.tree(db, conversation.id)
        unfinished = conversations.unfinished(db, conversation.id)
    branch = path_to(messages, _end(conversation, messages, unfinished))
    return Talk(conversation, messages, unfinished, branch)


def _end(
    conversation: Conversation, messages: Mapping[int, Kept], unfinished: Sequence[Open]
) -> int | None:
    """The last message that belongs to the branch: the prompt too whose answer is still open, or
    that never got one where there is nothing else."""
    head = conversation.head
    for each in unfinished:
        prompt = messages.get(each.prompt) if each.onto is None else None
        if prompt is not None and prompt.parent == head:
            return prompt.id
    if head is None and all(message.role == "user" for message in messages.values()):
        return max(messages, default=None)
    return head


def _object(talk: Talk, *, every: bool) -> dict[str, Any]:
    """The conversation as `--json` shows it; the names of the store's values."""
    shown = list(talk.messages.values()) if every else talk.branch
    ids = {message.id for message in shown}
    return {
        **row(talk.conversation),
        "system": talk.conversation.system,
        "params": as_json(talk.conversation.params),
        "head": talk.conversation.head,
        "branch": [message.id for message in talk.branch],
        "messages": [_message(message) for message in shown],
        "unfinished": [as_json(each) for each in talk.unfinished if each.prompt in ids],
    }


def _message(message: Kept) -> dict[str, Any]:
    """Its turn does not repeat what the message says."""
    shown: dict[str, Any] = {
        "id": message.id,
        "parent": message.parent,
        "role": message.role,
        "text": message.text,
        "reasoning": message.reasoning,
        "created": message.created,
    }
    turn = message.turn
    if turn is not None:
        known = as_json(turn)
        failure = turn.failure
        shown["turn"] = {
            name: known[name] for name in known if name not in ("text", "reasoning", "failure")
        }
        if turn.usage is not None:
            shown["turn"]["usage"] = usage_object(turn.usage)
        shown["turn"]["complete"] = turn.finish.complete
        if failure is not None:
            shown["turn"]["error"] = {"kind": failure.kind.value, "message": failure.what}
    return shown


# --- As text ------------------------------------------------------------------------------------


def _pieces(talk: Talk, pen: Pen, cash: Cash, *, every: bool, raw: bool) -> Iterator[str]:
    """What stands between blank lines."""
    yield _head(talk.conversation, pen)
    yield from _messages(talk.branch, talk, pen, cash, raw=raw)
    if not talk.branch:
        said = (
            "nothing is left on this branch; --all shows the others" if talk.messages else "empty"
        )
        yield pen.dim(f"· {said}")
    if every:
        for chain in others(talk.messages, talk.branch):
            yield pen.dim(f"── {_parting(talk.messages.get(chain[0].parent or 0))} ──")
            yield from _messages(chain, talk, pen, cash, raw=raw)
    for each in talk.unfinished:
        if each.onto is None and not _ends(talk.branch, each.prompt):
            yield pen.dim(f"── {_parting(talk.messages.get(each.prompt))} ──")
            yield from _partial(each, pen, raw=raw)


def others(messages: Mapping[int, Kept], branch: Sequence[Kept]) -> list[list[Kept]]:
    """The branches that were left, each from where it parts; every message once."""
    seen = {message.id for message in branch}
    last: dict[int | None, int] = {}
    for message in messages.values():  # in the order of their ids
        last[message.parent] = message.id
    chains: list[list[Kept]] = []
    for message in messages.values():
        chain: list[Kept] = []
        at: int | None = message.id
        while at is not None and at not in seen:
            seen.add(at)
            chain.append(messages[at])
            at = last.get(at)
        if chain:
            chains.append(chain)
    return chains


def _parting(after: Kept | None) -> str:
    if after is None:
        return "another beginning"
    if after.role == "user":
        return f"another answer to “{one_line(after.text, 40)}”"
    return f"another way on from {after.id}"


def _head(conversation: Conversation, pen: Pen) -> str:
    said = [
        when(conversation.updated, now()),
        who(one_line(conversation.model, 200), one_line(conversation.provider, 100)),
        f"from {one_line(conversation.origin, 40)}" if conversation.origin else "",
    ]
    lines = [
        f"{pen.accent(conversation.short)}  {pen.bold(titled(conversation))}",
        pen.dim(f"· {' · '.join(filter(None, said))}"),
    ]
    if conversation.system.strip():
        lines.append(pen.dim(f"· system: {one_line(conversation.system)}"))
    return "\n".join(lines)


def _messages(
    chain: Sequence[Kept], talk: Talk, pen: Pen, cash: Cash, *, raw: bool
) -> Iterator[str]:
    """The messages in their order; what is still being written where it will be."""
    answers = {each.prompt: each for each in talk.unfinished if each.onto is None}
    longer = {each.onto: each for each in talk.unfinished}
    for message in chain:
        if message.role != "user":
            more = longer.get(message.id)
            yield _drawn(message.text + (more.text if more else ""), pen, raw=raw)
            yield pen.dim(f"· {_said(message, cash)}{f' · {UNFINISHED}' if more else ''}")
            continue
        yield _prompt(message.text, pen)
        if message is not chain[-1]:
            continue
        if message.id not in answers:
            yield pen.dim("· no answer was kept")
        elif _ends(talk.branch, message.id):
            yield from _partial(answers[message.id], pen, raw=raw)


def _ends(branch: Sequence[Kept], message: int) -> bool:
    return bool(branch) and branch[-1].id == message


def _partial(answer: Open, pen: Pen, *, raw: bool) -> Iterator[str]:
    """What came of an answer until now."""
    if answer.text:
        yield _drawn(answer.text, pen, raw=raw)
    whom = who(one_line(answer.model, 200), one_line(answer.provider, 100))
    yield pen.dim(f"· {whom} · {UNFINISHED}")


def _prompt(text: str, pen: Pen) -> str:
    """Marked as at the prompt."""
    shown = visible(text) if pen.terminal else text
    first, *more = shown.strip("\n").split("\n")
    return "\n".join([f"{pen.accent('›')} {first}", *(f"  {line}".rstrip() for line in more)])


def _drawn(text: str, pen: Pen, *, raw: bool) -> str:
    if raw:
        return (visible(text) if pen.terminal else text).strip("\n")
    from holychat.screen import Look
    from holychat.screen.render import rendered

    look = Look(color=pen.color, terminal=pen.terminal, theme=pen.theme)
    return rendered(text, look, env.width()).strip("\n")


def _said(message: Kept, cash: Cash) -> str:
    """The line after an answer: its number, who gave it, tokens, cost, and why it is not whole."""
    turn = message.turn
    parts = [str(message.id), message.role if message.role != "assistant" else ""]
    if turn is not None:
        parts += [
            who(one_line(turn.model, 200), one_line(turn.provider, 100)),
            tokens(turn.usage) if turn.usage else "",
            price(turn.usage, cash) if turn.usage and turn.usage.cost is not None else "",
            ending(turn),
        ]
    return " · ".join(filter(None, parts))


__all__ = ["others", "show"]
