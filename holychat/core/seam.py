"""Where a cut answer goes on: the continuation without what it says for the second time.

Owns the rules of the join. Must not know who continues or why it was cut.

The beginning of the continuation is compared with what came before: with its end (a repetition)
and with its beginning (an answer that starts anew), modulo white space and the form of quotes.
While it may still be the one or the other it is held back; the character that decides it lets the
rest out, and from then on everything passes untouched. Each decision depends on the text alone,
never on the chunks. Held are at most about `REACH` characters, or what agrees with the beginning
of the answer and so has been seen before.

What is a repetition, when white space cannot tell: `_repeats`. The trade-off is always the same:
a word that is said twice is a blemish, a word that is missing is a lie, so what is short and could
have been meant ("that that", "    end") stays.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from itertools import product

INSTRUCTION = (
    "Your answer was cut off. Please continue exactly where it stopped, in mid-word if need be. "
    "Do not repeat anything, and write no preamble and no comment."
)
_ANCHORED = (
    "Your answer was cut off. Please continue it: first write its last words once more, exactly as "
    "they are quoted below, and go straight on from there. Repeat nothing else, and write no "
    "preamble and no comment.\n\n"
)

REACH = 2000  # characters before the cut, white space not counted, in which a repetition may begin
LONG = 20  # letters and digits (CJK ones count twice) that are a repetition wherever they are
LONG_SPACED = 40  # the same where it could be meant; see `_enough`
ANEW = 40  # letters that must agree with the beginning for another answer, where it could be chance
ANEW_FUSED = 8  # the same where the plain join would be "…of the smaHere is the"
_VARIETY = 6  # different characters in a long repetition: rules and number columns have fewer
_HEAD = 60  # characters of a fence line or preamble, at most


def tail(before: str, most: int = 60) -> str:
    """The last words of `before`, whole ones, for the instruction: the anchor of the join.

    About `most` characters, or as many as it takes for a certain repetition, up to `REACH` / 2.
    """
    text = before.strip()
    words = list(re.finditer(r"\S+", text[-REACH // 2 :]))
    for word in reversed(words[1:]):
        cut = text[word.start() - len(text[-REACH // 2 :]) :]
        if len(cut) >= most and _weigh(cut)[1] >= LONG_SPACED and len(set(cut)) > _VARIETY:
            return cut
    return text[-REACH // 2 :]


def instruction(before: str) -> str:
    """What to say to a model without prefix support.

    It asks for the last words once more, because no rule can tell "recogni" + "tion" from "the
    quick" + "brown" when the model drops the leading space of its first word, as most do. With the
    anchor the join is certain, and the anchor is dropped like any repetition.
    """
    quoted = tail(before)
    return _ANCHORED + quoted if quoted else INSTRUCTION


# --- Characters ----------------------------------------------------------------------------------

_SAME = str.maketrans("“”„‟‘’‚‛", "\"\"\"\"''''")  # models are not faithful to these
# Scripts that write no space between words: Thai to Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_WIDE = re.compile(_UNSPACED.pattern[:-1] + "\uac00-\ud7a3]")  # a character says more than a letter


def _is_mark(mark: str) -> bool:
    return unicodedata.category(mark).startswith("M")


def _wordy(mark: str) -> bool:
    return bool(mark) and (mark.isalnum() or mark in "_\u200d" or _is_mark(mark))


def _weigh(text: str) -> tuple[int, int]:
    """(letters, letters and digits) of the text; wide ones count twice."""
    wide = len(_WIDE.findall(text))
    return (
        sum(map(str.isalpha, text)) + wide,
        sum(map(str.isalnum, text)) + wide,
    )


def _parted(last: str, after: str) -> bool:
    """Whether `after` may follow `last` where white space did: as such, or in a script without."""
    return not after or after.isspace() or bool(_UNSPACED.match(last) or _UNSPACED.match(after))


def _compact(text: str) -> str:
    return "".join(text.split()).translate(_SAME)


# --- What models say before they go on ------------------------------------------------------------

_YES: tuple[str, ...] = (
    "",
    "sure,",
    "sure!",
    "sure.",
    "certainly,",
    "certainly!",
    "certainly.",
    "ofcourse,",
)
_YES += ("ofcourse!", "ofcourse.", "okay,", "ok,")
_CONTINUING = (
    *("continuing" + where for where in (
        "", "fromwhereileftoff", "fromwhereistopped", "fromwhereitstopped", "fromwhereitwascutoff",
        "exactlywhereileftoff", "exactlywhereitstopped", "whereileftoff", "whereitstopped",
        "fromwhereweleftoff", "wheretheanswerstopped", "myanswer", "mypreviousanswer",
    )),
    *(f"here{be}the{what}" for be, what in product(
        ("is", "'s"), ("continuation", "rest", "restoftheanswer", "restofmyanswer"),
    )),
    "continued", "continuation",
)  # fmt: skip
_PREAMBLES = frozenset(
    (
        *(yes + body + end for yes, body, end in product(_YES, _CONTINUING, (":", "...", "…"))),
        *("(continued)", "[continued]", "(continuing)", "[continuing]", "(cont.)", "[cont.]"),
        *(
            yes + body + end
            for yes, body, end in product(
                ("", "好的，", "好的,", "当然，", "好，"),
                (
                    "继续",
                    "接上文",
                    "续上文",
                    "接着上文",
                    "继续上文",
                    "接上",
                    "以下是续写",
                    "下面继续",
                ),
                ("：", ":", "……", "..."),
            )
        ),
        *("（续）", "（接上文）", "（继续）", "(续)", "(接上文)", "(继续)", "【接上文】", "【续】"),
    )
)


@dataclass(frozen=True, slots=True)
class _Fence:
    mark: str
    info: str


_FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(`{3,}|~{3,})([^\n]*)")
_ITEM = re.compile(r"[ \t>]*(?:([-*+])|\d{1,9}([.)]))[ \t]")


def _open_fence(before: str) -> _Fence | None:
    """The code fence that is open where `before` ends; its own line must have ended."""
    fence: _Fence | None = None
    lines = before.replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        hit = _FENCE.match(line) if "```" in line or "~~~" in line else None
        if hit is None:
            continue
        mark, info = hit[1], hit[2].strip()
        if fence is None:
            if number < len(lines) and not (mark[0] == "`" and "`" in info):
                fence = _Fence(mark, info)
        elif not info and mark.startswith(fence.mark):
            fence = None
    return fence


def _missing(have: str, want: str) -> str:
    """What is to be added to the white space `have` where the model wrote `want`."""
    have, plain = have.replace("\r\n", "\n"), want.replace("\r\n", "\n")
    if not have:
        return want
    if plain.startswith(have):
        return plain[len(have) :]
    if plain.count("\n") > have.count("\n"):
        return plain.lstrip(" \t")
    return plain.rpartition("\n")[2] if have.endswith("\n") and "\n" in plain else ""


@dataclass(slots=True)
class _Reading:
    """One way to read what is held: all of it, or from `start` on, behind a preamble."""

    start: int = 0
    sure: bool = False  # what is before `start` goes, even if nothing is repeated after it
    ellipsis: bool = False
    head: bool = True  # may still be a preamble itself
    known: str = ""  # what came since, as long as it is found in the end of `before`
    at: int = 0  # where, the leftmost place; -1: nowhere
    ends: list[int] = field(default_factory=list)  # lengths that reached the end of `before`
    agreed: int = 0  # characters that agree with the beginning of `before`
    anew: bool = True  # all did

    @property
    def alive(self) -> bool:
        return self.at >= 0 or self.anew or self.head


class Seam:
    """Feed the deltas of a continuation, get the text that is to be appended to `before`.

    `exact`: the provider continues a prefix as such, so that white space and repeated words are
    meant; only a long repetition or a new start says that it did not. Otherwise the model was
    asked, and known preambles, reopened fences and repeated words go as well.

    `diverged` is set before the first character of another answer is let out: the model started
    anew, agreed for a while, then said something else. Two answers cannot be joined, so it is let
    out whole, as a new paragraph; who has another attempt to make throws it away.
    """

    def __init__(self, before: str, exact: bool = False) -> None:
        self.restarted = False  # the model began anew, from the start of the answer
        self.diverged = False  # and then said something else
        self.dropped = 0  # characters that were not let out
        self._before = before
        self._exact = exact
        self._whole = _compact(before)
        self._end = self._whole[-REACH:]
        self._fence = _open_fence(before)
        self._held: list[str] = []
        self._readings = [_Reading(head=not exact)]
        self._open = not self._whole
        self._places: list[int] = []  # of each character of _end in _before

    def feed(self, text: str) -> str:
        """What is certain now."""
        if self._open:
            return text
        for index, mark in enumerate(text):
            self._held.append(mark)
            if self._step(mark):
                return self._decide() + text[index + 1 :]
        return ""

    def finish(self, *, cut: bool = False) -> str:
        """What was held, at the continuation's end.

        `cut`: it did not end by itself, so what may be a repetition that has not come to its end
        can wait for the next attempt. A finished answer is not cut short for a likeness, unless
        it is one with the beginning of the answer.
        """
        if self._open or not self._held:
            return ""
        return self._decide(over=True, cut=cut)

    # --- Reading ---

    def _step(self, mark: str) -> bool:
        """Take one character; whether it decided the matter."""
        for reading in [one for one in self._readings if one.head]:
            self._look_for_head(reading)
        if mark.isspace():
            # The word that the joint waited for has come to its end.
            return not any(reading.alive for reading in self._readings)
        mark = mark.translate(_SAME)
        for reading in self._readings:
            if reading.start < len(self._held):
                self._compare(reading, mark)
        return not any(reading.alive for reading in self._readings) and not self._joint_waits()

    def _joint_waits(self) -> bool:
        """Whether the first word must be seen whole, for the white space before it."""
        last, first = self._before[-1], self._held[0]
        if self._exact or self._fence is not None or last.isspace() or first.isspace():
            return False
        if (_wordy(last) and _wordy(first)) or len(self._held) > _HEAD:
            return False
        return not any(map(str.isspace, self._held))

    def _compare(self, reading: _Reading, mark: str) -> None:
        if reading.at >= 0:
            reading.known += mark
            reading.at = self._end.find(reading.known, reading.at)
            if reading.at >= 0 and self._end.endswith(reading.known):
                reading.ends.append(len(reading.known))
        if reading.anew:
            if self._whole.startswith(mark, reading.agreed):
                reading.agreed += 1
            else:
                reading.anew = False

    def _look_for_head(self, reading: _Reading) -> None:
        """Whether what is held so far is a preamble (then read on behind it) or may become one."""
        here = len(self._held)
        if here - reading.start > 4 * _HEAD:  # blanks
            reading.head = False
            return
        text = "".join(self._held[reading.start :]).lstrip()
        if len(text) > _HEAD:
            reading.head = False
            return
        plain = _compact(text).casefold()
        forms = [form for form in _PREAMBLES if form.startswith(plain)]
        fence = self._fence is not None and re.fullmatch(r"(`+|~+)([^`\n]*)(\n?)", text)
        reading.head = bool(forms or fence or "...".startswith(plain) or not text)
        if not text or (text[-1].isspace() and not (fence and fence[3])):
            return
        if plain in ("...", "…"):
            self._readings.append(_Reading(here, ellipsis=True))
        elif plain in forms:
            self._readings.append(_Reading(here, sure=True))
        elif fence and fence[3] and self._fence:
            reading.head = False
            if fence[1].startswith(self._fence.mark):
                info = fence[2].strip()
                sure = bool(info) and self._fence.info in ("", info)
                self._readings.append(_Reading(here, sure=sure))

    # --- Deciding ---

    def _decide(self, *, over: bool = False, cut: bool = False) -> str:
        self._open = True
        held = "".join(self._held)
        self._held = []
        length, reading = max(
            ((self._overlap(one, held), one) for one in self._readings), key=lambda it: it[0]
        )
        if over and any(self._unfinished(one, cut) for one in self._readings):
            self.dropped = len(held)
            return ""
        if length:
            return self._joined(held, reading.start, length)
        if self._is_another(held):
            self.restarted = self.diverged = True
            return self._apart() + held.lstrip()
        start = max((one.start for one in self._readings if self._goes(one, held)), default=0)
        self.dropped = start
        return held if self._exact else self._beside(held[start:])

    def _overlap(self, reading: _Reading, held: str) -> int:
        """How many characters of `before`'s end are repeated, white space not counted."""
        lengths = reading.ends
        whole = len(self._whole)
        if reading.agreed == whole > REACH:
            lengths = [*lengths, whole]
        for length in reversed(lengths):
            if self._repeats(length, reading.start, held):
                return length
        return 0

    def _repeats(self, length: int, start: int, held: str) -> bool:
        """Whether the last `length` characters, found again from `start` on, are a repetition.

        They begin with a word, are no doubling themselves ("ha ha"), and are followed by white
        space where they were before. Then, in this order:
        - many letters and digits of some variety are one, see `_enough`;
        - so is all that came before, from one letter on, or three after white space;
        - so are two letters behind a preamble or a reopened fence;
        - and what is shorter by the rules of `_short`.
        """
        piece = self._whole[-length:]
        whole = length == len(self._whole)
        first = self._place(length)
        begin = start + len(held[start:]) - len(held[start:].lstrip())
        end = self._behind(held, start, length)
        if not whole and not self._begins_word(first):
            return False
        if self._before[-1].isspace() and not _parted(piece[-1], held[end : end + 1]):
            return False
        if piece in (piece + piece)[1:-1]:
            return False
        letters, weight = _weigh(piece)
        deliberate = start < begin  # white space of the continuation's own
        spaced = deliberate or self._before[-1].isspace()
        if weight >= self._enough(first, spaced, deliberate) and len(set(piece)) >= _VARIETY:
            return True
        if self._exact:
            return whole and letters >= (12 if spaced else 1)
        if whole or start:
            return letters >= (1 if whole and not spaced else 3 if whole else 2)
        if deliberate or self._before[first:].split() != held[begin:end].split():
            return False
        return self._short(first, piece, letters, held[end : end + 2])

    def _enough(self, first: int, spaced: bool, deliberate: bool) -> int:
        """How many letters and digits are a repetition wherever they are.

        Fewer where nothing else can be meant: with no white space at the cut, or from the start of
        a line or sentence on.
        """
        if self._exact or deliberate:
            return LONG_SPACED
        if spaced and not self._begins_line(first):
            ahead = self._before[:first].rstrip()[-1:]
            return LONG if ahead in ".!?。！？" else LONG_SPACED
        return LONG

    def _short(self, first: int, piece: str, letters: int, after: str) -> bool:
        """Whether a short piece, without white space before it, is a repetition.

        - A numbered item with its number is one, and the line of a fence that is just opening.
        - With no white space at the cut, so is the beginning of a line: with a letter behind its
          marker, or with six letters in more than a word.
        - So is then a word of three letters before another, or of four ("recogni" "recognition"),
          or three characters of CJK, because "thethe" is no word. In prose a mark may be its end;
          in code not, since `f(f(` is meant.
        - With white space before the cut it could be meant ("very very", equal lines): from eight
          letters on, or ten for a line.
        """
        line = self._begins_line(first)
        if line and re.match(r"\d{1,9}[.)]\D", piece):
            return letters > 0
        if self._before[-1].isspace():
            ends = after.lstrip(" \r")[:1] in ("", "\n")
            return letters >= (10 if line and ends else 8)
        if line and re.match(r"```|~~~", piece):
            return True
        if line and re.match(r"(?:[-*+>|]|#{1,6})\s", self._before[first : first + 7]):
            return letters > 0
        if line and letters >= 6 and len(self._before[first:].split()) > 1:
            return True
        if _UNSPACED.match(piece[-1]):
            return letters >= 6
        if not _wordy(piece[-1]) and (self._in_code() or piece[-1] not in ".,;:!?"):
            return False
        return letters >= (4 if _wordy(after[:1]) or after[:1] in ("", "\n", "\r") else 3)

    def _unfinished(self, reading: _Reading, cut: bool) -> bool:
        """Whether the continuation ended within a repetition."""
        if (
            reading.anew
            and reading.agreed < len(self._whole)
            and _weigh(self._whole[: reading.agreed])[1] >= LONG
        ):
            self.restarted = True
            return True
        return (
            cut
            and 0 <= reading.at < len(self._end) - len(reading.known)
            and _weigh(reading.known)[1] >= LONG
            and len(set(reading.known)) >= _VARIETY
            and self._begins_word(self._place(len(self._end) - reading.at))
        )

    def _is_another(self, held: str) -> bool:
        fused = _wordy(self._before[-1]) and held[:1].isalpha()
        need = ANEW_FUSED if fused and not self._exact else ANEW
        return any(
            not one.anew and _weigh(self._whole[: one.agreed])[0] >= need for one in self._readings
        )

    def _goes(self, reading: _Reading, held: str) -> bool:
        """Whether a preamble goes though nothing is repeated behind it."""
        if reading.ellipsis:
            return _wordy(held[reading.start : reading.start + 1]) and not self._in_code()
        return reading.sure

    # --- Places ---

    def _place(self, length: int) -> int:
        """Where in `before` its last `length` characters begin, white space not counted."""
        if not self._places:
            index = len(self._before)
            while len(self._places) < len(self._end):
                index -= 1
                if not self._before[index].isspace():
                    self._places.append(index)
        return self._places[length - 1] if length <= len(self._places) else 0

    def _begins_word(self, place: int) -> bool:
        if place == 0:
            return True
        ahead, first = self._before[place - 1], self._before[place]
        if ahead.isspace():
            return True
        if _UNSPACED.match(ahead) or _UNSPACED.match(first):
            return not _is_mark(first)
        return _wordy(first) and not _wordy(ahead)

    def _begins_line(self, place: int) -> bool:
        return not self._before[self._before.rfind("\n", 0, place) + 1 : place].strip(" \t>")

    @staticmethod
    def _behind(held: str, start: int, length: int) -> int:
        """The index behind `length` characters from `start` on, white space not counted."""
        index = start
        while length:
            length -= not held[index].isspace()
            index += 1
        return index

    def _in_code(self) -> bool:
        if self._fence is not None:
            return True
        return self._before.rpartition("\n\n")[2].count("`") % 2 == 1

    # --- Joining ---

    def _joined(self, held: str, start: int, length: int) -> str:
        self.restarted = length == len(self._whole)
        end = self._behind(held, start, length)
        self.dropped = end
        rest = held[end:]
        bare = rest.lstrip()
        have = self._before[len(self._before.rstrip()) :]
        return _missing(have, rest[: len(rest) - len(bare)]) + bare

    def _beside(self, rest: str) -> str:
        """`rest` with the white space that the join lacks or has twice; where in doubt, as it is.

        A letter after a letter is in doubt: it stays as the model wrote it.
        """
        last, first = self._before[-1], rest[:1]
        if self._fence is None and re.search(r"\S \Z", self._before) and re.match(r" \w", rest):
            return rest[1:]
        if last.isspace() or not first or first.isspace():
            return rest
        return self._space(rest) + rest

    def _space(self, rest: str) -> str:
        line = self._before[self._before.rfind("\n") + 1 :]
        if self._fence is not None:
            shut = re.match(r"(`{3,}|~{3,})[ \t]*(?:\n|\Z)", rest)
            return "\n" if shut and shut[1].startswith(self._fence.mark) else ""
        if self._in_code():
            return ""
        if re.match(r"#{1,6} ", rest) and line[-1] != "#":
            return "\n\n"
        old, new = _ITEM.match(line), _ITEM.match(rest)
        if old and new and old.groups() == new.groups() and line[-1] in ".!?:;)":
            return "\n"
        ended = re.search(r"(?:^|\s)[\"“(*]*[^\W\d_]+[.!?][\"”)*]*\Z", line)
        if ended and rest[0].isupper() and re.match(r"[^\W\d_]+[ ,]", rest):
            return " "
        return ""

    def _apart(self) -> str:
        shut = f"\n{self._fence.mark}" if self._fence is not None else ""
        return f"{shut}\n\n"
