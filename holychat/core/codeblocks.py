"""The fenced code blocks of an answer, numbered as they come: for /copy N and /code N.

Fences by CommonMark 0.31 section 4.5: up to three blanks, three or more backticks or tildes, closed
by at least as many of the same.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FENCE = re.compile(r"^( {0,3}(?:(?:[-*+]|\d+[.)]) {1,4})*)(`{3,}|~{3,})([^\n]*)$")


class CodeBlock(NamedTuple):
    """`language` is the first word of the info string, empty where there is none."""

    language: str
    code: str


def code_blocks(text: str) -> list[CodeBlock]:
    """The blocks in order; one that was never closed ends with the text."""
    blocks: list[CodeBlock] = []
    lines: list[str] = []
    fence, indent, language = "", 0, ""
    for line in text.split("\n"):
        if not fence:
            opened = _FENCE.match(line)
            if opened and not (opened[2][0] == "`" and "`" in opened[3]):
                fence, indent = opened[2], len(opened[1])
                language = (opened[3].split() or [""])[0]
                lines = []
        elif line.strip() and not line.strip().strip(fence[0]) and len(line.strip()) >= len(fence):
            blocks.append(CodeBlock(language, "\n".join(lines) + "\n" if lines else ""))
            fence = ""
        else:
            blanks = len(line) - len(line.lstrip(" "))
            lines.append(line[min(indent, blanks) :])
    if fence:
        blocks.append(CodeBlock(language, "\n".join(lines)))
    return blocks
