"""How many cells a text takes, on the safe side, and where it is broken.

Terminals disagree: about spacing marks (Devanagari, Tamil), skin tones, and emoji that are joined.
A row that is wider for the terminal than for us takes two rows there, and everything above it is
painted in the wrong place; one that is narrower is only a little short. So the widest reading
counts. Owns that reading, and the breaking of lines by it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

TAB = 4
JOINER = "\u200d"
# What must not begin a row in Chinese and Japanese; the character before it goes along.
_CLOSING = frozenset("。，、．；：？！）」』】》〉〕］｝…ー々ゝ％℃")
_WORD = re.compile(r"\s*\S+\s*")


@lru_cache(maxsize=4096)
def _one(character: str) -> int:
    if unicodedata.category(character) == "Mc":
        return 1
    if "\U0001f3fb" <= character <= "\U0001f3ff":  # skin tones: some terminals draw them alone
        return 2
    return cell_len(character)


def cells(text: str) -> int:
    """The cells of a text in the terminal that gives it the most."""
    if text.isascii():
        return len(text)
    return max(sum(map(_one, text)), cell_len(text))


def fit(text: str, most: int) -> str:
    """The text cut to so many cells, with an ellipsis where something is missing."""
    if cells(text) <= most:
        return text
    room = max(0, most - 1)
    return next(chop(text, room), "").rstrip() + "…" if room else "…"[:most]


def wrap(text: Text, width: int) -> list[Text]:
    """The rows of a text: broken between words, in a word only where it is too long for a row."""
    rows: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        line.expand_tabs(TAB)
        for row in line.divide(_breaks(line.plain, width)):
            row.rstrip()
            rows.append(row)
    return rows


def fold(text: Text, width: int) -> list[Text]:
    """The rows of a text that must not be changed: broken at the width, wherever that is."""
    if cells(text.plain) <= width:
        return [text]
    places: list[int] = []
    for part in chop(text.plain, width):
        places.append(len(part) + (places[-1] if places else 0))
    return list(text.divide(places[:-1]))


def chop(text: str, width: int) -> Iterator[str]:
    """Parts of at most `width` cells; what is drawn as one character stays together."""
    start = used = 0
    for cluster in _clusters(text):
        at, size = cluster.start(), cells(cluster.group())
        if used + size > width and at > start:
            yield text[start:at]
            start, used = at, 0
        used += size
    if start < len(text) or not text:
        yield text[start:]


# A character with everything that hangs on it: marks, variation selectors, joined characters,
# skin tones; and closing punctuation behind a wide character.
_MARK = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u200c\ufe00-\ufe0f"
    "\u20d0-\u20ff"
)
_TONE = "\U0001f3fb-\U0001f3ff"
_CLUSTER = re.compile(
    f"(?s:.)(?:[{_MARK}{_TONE}]|{JOINER}(?s:.)?)*(?:(?<=[\u2e80-\uffef])[{''.join(_CLOSING)}]{{1,2}})?"
)


def _clusters(text: str) -> Iterator[re.Match[str]]:
    return _CLUSTER.finditer(text)


def _breaks(text: str, width: int) -> list[int]:
    """Where a line of words is broken."""
    places: list[int] = []
    used = 0
    for found in _WORD.finditer(text):
        word, start = found.group(), found.start()
        size = cells(word.rstrip())
        if used + size <= width:
            used += cells(word)
            continue
        if size <= width:
            if start:
                places.append(start)
            used = cells(word)
            continue
        for part in chop(word, width):
            if start:
                places.append(start)
            start += len(part)
            used = cells(part)
    return places
