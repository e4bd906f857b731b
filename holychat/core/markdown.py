"""A conversation as a Markdown document: for reading, and for other programs.

What was said is in it word for word. A fence, a comment or a tag that a message leaves open would
swallow what follows: then a line that closes it stands behind the message. One branch is written,
the one that is gone on with.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from holychat.core.blocks import Blocks, Heading
from holychat.core.history import path_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holychat.core.chat import Turn
    from holychat.core.formats import Whole
    from holychat.core.history import Kept

_SPECIAL = re.compile(r"([\\`*_\[\]<>&#|~])")
_OPENS = re.compile(r"```|~~~|<[!?a-zA-Z]")  # without these nothing can stay open
_CLOSERS = (">", "-->", "?>", "]]>")
# What goes on until it is closed, over blank lines too (CommonMark 4.6).
_TAG = re.compile(r"<(script|pre|style|textarea)\b", re.IGNORECASE)


def branch(whole: Whole) -> list[Kept]:
    """The messages that are shown: the branch that is gone on with, and a last prompt below it
    that has no answer."""
    tree = {message.id: message for message in whole.messages}
    path = path_to(tree, whole.conversation.head)
    if whole.messages:
        last = whole.messages[-1]
        if last.role == "user" and last.parent == whole.conversation.head:
            path.append(last)
    return path


def markdown(
    wholes: Iterable[Whole], date: Callable[[int], str], ending: Callable[[Turn], str]
) -> Iterator[str]:
    """The document, one conversation at a time.

    `date` writes Unix time in milliseconds, `ending` says why an answer is not whole.
    """
    for number, whole in enumerate(wholes):
        yield ("\n" if number else "") + "\n".join(_lines(whole, date, ending))


def _lines(
    whole: Whole, date: Callable[[int], str], ending: Callable[[Turn], str]
) -> Iterator[str]:
    about, path = whole.conversation, branch(whole)
    yield f"# {escaped(about.title) or 'Untitled'}\n"
    facts = {"Date": date(about.created), "Model": about.model, "From": about.origin}
    yield from (f"- {name}: {escaped(fact)}" for name, fact in facts.items() if fact)
    if about.system:
        yield from ("\n## System\n", _closed(about.system))
    for message in path:
        yield f"\n## {' · '.join(filter(None, (_who(message), date(message.created))))}\n"
        yield _closed(message.text)
        if message.turn is not None and (why := ending(message.turn)):
            yield f"\n*({escaped(why)})*"
    if path and path[-1].role == "user":
        yield "\n*(not answered)*"
    if left := len(whole.messages) - len(path):
        yield f"\n---\n\n*(left out: {left} of other branches; an export to JSON has all)*"
    yield ""


def _who(message: Kept) -> str:
    if message.role == "user":
        return "You"
    model = message.turn.model if message.turn else ""
    return f"Answer ({escaped(model)})" if model else "Answer"


def escaped(text: str) -> str:
    """A text as one line without markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _closed(text: str) -> str:
    """The text, and behind it what closes a block that it leaves open."""
    if _is_closed(text):
        return text
    runs = [max(map(len, re.findall(f"{mark}+", text)), default=0) for mark in "`~"]
    fences = (mark * max(3, run) for mark, run in zip("`~", runs, strict=True))
    tags = (f"</{tag}>" for tag in _TAG.findall(text)[-1:])
    for closer in (*fences, *_CLOSERS, *tags):
        if _is_closed(f"{text}\n{closer}"):
            return f"{text}\n{closer}"
    return text


def _is_closed(text: str) -> bool:
    """Whether a heading below the text is one."""
    if not _OPENS.search(text):
        return True
    blocks, lines = Blocks(whole=True), text.replace("\r\n", "\n").replace("\r", "\n")
    pieces = [*blocks.feed(f"{lines}\n\n## .\n"), *blocks.finish()]
    return bool(pieces) and isinstance(pieces[-1], Heading) and not pieces[-1].path
