"""How many tokens a text takes, without a vocabulary: counted by script, corrected by what servers
reported.

Owns the estimate: the classes of characters (`features`), the documented ratio of each, and the
value that learns a model's own (`Ratios`, `learn`). Pure: who keeps the ratios of a model, and who
feeds them, is not known here. Whatever shows an estimate marks it with `≈`.

The law: tokens ≈ Σ count × ratio over the classes, and for a request as much per message and once
per request again. Everything is a sum, so the counts of a conversation are those of its messages
added up, and nothing is scanned twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from operator import add, mul, sub
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Counts(NamedTuple):
    """What a text is made of. Counts of parts can be added, and taken away again.

    A text cut in two counts the same as a whole but for a word or a run of blanks at the cut.
    """

    letters: int = 0  # of the Latin alphabet, without marks
    words: int = 0  # where such letters begin after something else
    accents: int = 0  # Latin letters with marks: ä, é, ø, ł
    digits: int = 0
    marks: int = 0  # ASCII punctuation, and control characters
    blanks: int = 0  # line ends, and runs of blanks that another character ends
    han: int = 0
    kana: int = 0  # with the CJK punctuation and the full-width forms
    hangul: int = 0
    greek: int = 0  # alphabets of two bytes that vocabularies know well: Greek, Cyrillic
    scripts: int = 0  # Hebrew, Arabic, and those of three bytes: Devanagari, Thai, ...
    symbols: int = 0  # typographic, mathematical; an emoji is two

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(*map(add, self, other))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*map(sub, self, other))


NOTHING: Final = Counts()

# The documented ratios, in tokens. DeepSeek's documentation (token usage) says that an English
# character is about 0.3 token and a Chinese one about 0.6; OpenAI's help centre says four
# characters, or three quarters of a word, of English to a token. Both are rough: each class was set
# near the middle of what cl100k, o200k, DeepSeek V3, Claude 2 and Mistral's Tekken count in the
# translations that come with GNU programs, in source code and in made-up logs (by least squares;
# not the texts of the tests): 0.22 for a character of English prose. They differ by up to two times
# (Han: 0.66 and 1.13), which is what `learn` is there for.
RATIOS: Final = (0.18, 0.25, 1.6, 0.75, 0.55, 0.7, 0.85, 0.8, 0.9, 0.4, 0.65, 1.3)
# What wraps a message: <|im_start|>role\n ... <|im_end|>\n is four tokens and the text (OpenAI's
# cookbook, "How to count tokens": 3 and the role); three more prime the answer.
MESSAGE: Final = 4.0
REQUEST: Final = 3.0

# Each UTF-8 byte that begins a character, and the class of that character, by one letter. The
# bytes that go on with one are deleted, which leaves one byte a character.
_GOING_ON: Final = bytes(range(0x80, 0xC0))


def _table(*rows: tuple[range | bytes, bytes], rest: bytes) -> bytes:
    table = bytearray(rest * 256)
    for places, letter in rows:
        for place in places:
            table[place] = letter[0]
    return bytes(table)


_LATIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KINDS: Final = _table(
    (_LATIN, b"a"),
    (b"0123456789", b"9"),
    (b" \t\r", b" "),
    (b"\n", b"n"),
    (range(0xC2, 0xC3), b"s"),  # U+0080: § ° « »
    (range(0xC3, 0xCD), b"e"),  # U+00C0
    (range(0xCD, 0xD6), b"g"),  # U+0340: Greek, Cyrillic, Armenian
    (range(0xD6, 0xE2), b"o"),  # U+0580: Hebrew to Georgian, and Vietnamese
    (range(0xE2, 0xE3), b"s"),  # U+2000
    (range(0xE3, 0xE4), b"k"),  # U+3000
    (range(0xE4, 0xEA), b"h"),  # U+4000
    (range(0xEA, 0xEE), b"w"),  # U+A000, of which Hangul is nearly all
    (range(0xEE, 0xF0), b"k"),  # U+E000
    (range(0xF0, 0x100), b"m"),  # U+10000: emoji
    rest=b".",
)
_WORDS: Final = _table((_LATIN, b"a"), (range(0xC3, 0xCD), b"a"), rest=b" ")
_BLANKS: Final = _table((b" \t\r", b" "), rest=b".")


def features(text: str) -> Counts:
    """The text by classes. Linear: a few passes of C over its bytes, no loop over characters."""
    raw = text.encode("utf-8", "surrogatepass")
    plain = text.isascii()
    kinds = raw.translate(_KINDS) if plain else raw.translate(_KINDS, _GOING_ON)
    words = raw.translate(_WORDS) if plain else raw.translate(_WORDS, _GOING_ON)
    count = kinds.count
    blanks = count(b"n")
    if b"  " in kinds:
        blanks += raw.translate(_BLANKS).count(b"  .")
    latin = count(b"a"), words.count(b" a")
    common = count(b"9"), count(b"."), blanks
    if plain:
        return Counts(*latin, 0, *common)
    east = count(b"h"), count(b"k"), count(b"w")
    return Counts(
        *latin, count(b"e"), *common, *east, count(b"g"), count(b"o"), count(b"s") + 2 * count(b"m")
    )


def counted(texts: Iterable[str]) -> Counts:
    """The features of several texts."""
    return sum(map(features, texts), NOTHING)


def weight(text: str) -> float:
    """Tokens of the text by the documented ratios, with their fraction: parts of a text can be
    summed. Linear."""
    tokens: float = sum(map(mul, features(text), RATIOS))
    return tokens


def estimate(text: str) -> int:
    """Tokens of the text by the documented ratios, at least 1 for any text at all. Linear."""
    return max(1, round(weight(text))) if text else 0


# --- What a model's own ratios are ---------------------------------------------------------------
#
# A Kalman filter with a diagonal covariance: each ratio has a doubt, a report moves the ratios by
# as much as they are in doubt and took part in it, and then they are doubted less. The full
# matrix did no better (medians within 0.5 points of each other on the turns of tests/data) and is
# seven times as much to keep.


def _short(number: float) -> float:
    """Five digits: more are noise, and what is kept reads back the same."""
    return float(f"{number:.5g}")


_PRIOR: Final = (*RATIOS, MESSAGE, REQUEST)
# No ratio leaves a quarter to four times of the documented one, whatever is reported. A request's
# own share is what the server adds unseen: a system prompt, the description of tools.
_LOW: Final = (*(_short(one / 4) for one in RATIOS), 0.0, 0.0)
_HIGH: Final = (*(_short(one * 4) for one in RATIOS), 16.0, 100_000.0)
# Variances at the beginning: ratios may well be 40 % off, and nothing is known of hidden prompts.
_UNKNOWN: Final = (*(_short((0.4 * one) ** 2) for one in RATIOS), 2.0**2, 1000.0**2)
# What a variance grows by with each report, so that a changed tokenizer is followed.
_DRIFT: Final = (*(_short(0.003 * one) for one in _UNKNOWN[:-1]), 4.0**2)
_SPREAD: Final = 0.1  # texts of the same counts differ by this share in their tokens,
_GRAIN: Final = 2.0  # and by so many
_PULL: Final = 3.0  # deviations by which one report moves the estimate at most
_ODD: Final = 6.0  # deviations from which a report is not believed before the next confirms it
_MOST: Final = 100_000_000  # more than any window holds


@dataclass(frozen=True, slots=True)
class Ratios:
    """What is known of one model's tokenizer, on one provider. By default what is documented.

    `values` are tokens per count of each class, then per message, then per request; `doubts` are
    their variances. `odd`: whether the last report of a request, and of an answer, was not
    believed. `reports`: how many taught something.
    """

    values: tuple[float, ...] = _PRIOR
    doubts: tuple[float, ...] = _UNKNOWN
    odd: tuple[bool, bool] = (False, False)
    reports: int = 0

    def weight(self, counts: Counts, messages: int = 0) -> float:
        """Tokens with their fraction. With messages it is a request of so many, else bare text."""
        tokens: float = sum(map(mul, _sample(counts, messages), self.values))
        return tokens

    def estimate(self, counts: Counts, messages: int = 0) -> int:
        """Tokens of a request of so many messages, or (0) of bare text; 0 only for nothing.

        Better for a request that goes on with one which the server counted: its prompt and
        completion tokens and `round(weight(counts of what is new) + new messages * MESSAGE)`.
        """
        if not messages and not any(counts):
            return 0
        return max(1, round(self.weight(counts, messages)))


DOCUMENTED: Final = Ratios()


def _sample(counts: Counts, messages: int) -> tuple[float, ...]:
    return (*counts, messages, 1 if messages else 0)


def _variance(doubts: tuple[float, ...], sample: tuple[float, ...]) -> float:
    return sum(doubt * one * one for doubt, one in zip(doubts, sample, strict=True))


def learn(ratios: Ratios, counts: Counts, messages: int, reported: int) -> Ratios:
    """The ratios after a server reported so many tokens for what was counted.

    A request: the counts of all its messages, how many they are, and the prompt tokens (cached
    ones among them). An answer: its counts, 0, and its completion tokens without those of
    reasoning. A report that lies far off is kept in mind only; a second in a row is believed: the
    server has begun to add something to requests, or its tokenizer is another.
    """
    if not 0 < reported <= _MOST or not any(counts):
        return ratios
    sample, which = _sample(counts, messages), 0 if messages else 1
    expected = ratios.weight(counts, messages)
    miss = reported - expected
    noise = (_SPREAD * max(0.0, expected) + _GRAIN) ** 2
    doubts = ratios.doubts
    deviation = (_variance(doubts, sample) + noise) ** 0.5
    if abs(miss) > _ODD * deviation:
        if not ratios.odd[which]:
            return replace(ratios, odd=_with(ratios.odd, which, now=True))
        doubts = (*doubts[:-1], doubts[-1] + miss * miss) if messages else _doubting(doubts)
        deviation = (_variance(doubts, sample) + noise) ** 0.5
    miss = max(-_PULL * deviation, min(_PULL * deviation, miss))
    return _moved(ratios, doubts, sample, miss / deviation**2, deviation**2, which)


def _moved(
    ratios: Ratios,
    doubts: tuple[float, ...],
    sample: tuple[float, ...],
    pull: float,
    variance: float,
    which: int,
) -> Ratios:
    """The ratios moved by a believed report, each by its share, within the bounds."""
    values, left = [], []
    for value, doubt, one, low, high, most, drift in zip(
        ratios.values, doubts, sample, _LOW, _HIGH, _UNKNOWN, _DRIFT, strict=True
    ):
        values.append(_short(max(low, min(high, value + doubt * one * pull))))
        kept = max(0.0, 1 - doubt * one * one / variance)
        left.append(_short(min(most, doubt * kept + drift)))
    odd = _with(ratios.odd, which, now=False)
    return Ratios(tuple(values), tuple(left), odd, ratios.reports + 1)


def _with(odd: tuple[bool, bool], which: int, *, now: bool) -> tuple[bool, bool]:
    return (odd[0], now) if which else (now, odd[1])


def _doubting(doubts: tuple[float, ...]) -> tuple[float, ...]:
    """The ratios of text as unknown as at the beginning; what surrounds it as known as it was."""
    return (*_UNKNOWN[:-2], *doubts[-2:])


def request(texts: Sequence[str], ratios: Ratios = DOCUMENTED) -> int:
    """Tokens of a request with messages of these texts."""
    return ratios.estimate(counted(texts), len(texts))


# --- What the store keeps -----------------------------------------------------------------------


def as_json(ratios: Ratios) -> str:
    """A few hundred characters."""
    said = {
        "values": ratios.values,
        "doubts": ratios.doubts,
        "odd": [int(one) for one in ratios.odd],
        "reports": ratios.reports,
    }
    return json.dumps(said, separators=(",", ":"))


def from_json(text: str | None) -> Ratios:
    """What `as_json` wrote. Anything else, of another version or damaged, gives `DOCUMENTED`."""
    try:
        said = json.loads(text or "")
    except (ValueError, RecursionError):
        return DOCUMENTED
    if not isinstance(said, dict):
        return DOCUMENTED
    values = _numbers(said.get("values"), _LOW, _HIGH)
    doubts = _numbers(said.get("doubts"), _DRIFT, _UNKNOWN)
    odd = _numbers(said.get("odd"), (0, 0), (1, 1))
    reports = said.get("reports")
    if not values or not doubts or not odd or type(reports) is not int or reports < 0:
        return DOCUMENTED
    return Ratios(values, doubts, (odd[0] > 0, odd[1] > 0), reports)


def _numbers(
    given: object, low: tuple[float, ...], high: tuple[float, ...]
) -> tuple[float, ...] | None:
    """The numbers, if they are as many as there should be and each lies where it may."""
    if not isinstance(given, list) or len(given) != len(low):
        return None
    for one, least, most in zip(given, low, high, strict=True):
        if type(one) not in {int, float} or not least <= one <= most:
            return None
    return tuple(float(one) for one in given)
