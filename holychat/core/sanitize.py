"""What foreign text may say to a terminal: nothing but itself.

A filter by code point, so that it is safe at any split of the text: no state, no sequence to
parse. Every control becomes visible; nothing is hidden. Used before every write to a tty, and on
pasted text; never on a pipe, which gets the text verbatim.

The threats: OSC 52 writes the clipboard, OSC 8 hides an address, `CSI 6n` makes the terminal type
an answer into the shell, bidi overrides show source code in another order than it has
(CVE-2021-42574).
"""

from __future__ import annotations

import re


def _picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)  # Control Pictures: ESC is ␛
    if code == 0x7F:
        return "\u2421"
    if 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000:
        return "\ufffd"  # C1 controls and lone surrogates
    return f"\\u{code:04x}"  # bidi overrides and isolates, spelled out


_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_UNSAFE_CODES = (
    *(code for code in range(0x20) if code not in (0x09, 0x0A)),
    *range(0x7F, 0xA0),
    *_BIDI,
)
_TABLE: dict[int, str] = {code: _picture(code) for code in _UNSAFE_CODES}
_TABLE[0x0D] = ""  # CR: with LF it is half of a newline, alone it would overwrite the row
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with every control but newline and tab made visible. Linear; usually a no-op."""
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(lambda hit: _TABLE.get(ord(hit.group()), "\ufffd"), text)


def one_line(text: str, limit: int = 300) -> str:
    """`visible`, folded to one line of at most `limit` characters: for notices and error bodies."""
    folded = " ".join(visible(text).split())
    return folded if len(folded) <= limit else folded[: limit - 1].rstrip() + "…"
