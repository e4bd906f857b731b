"""The fenced code blocks of an answer, numbered as the screen numbers them: for /copy N, /code N.

Owns nothing but the question: `blocks` reads the Markdown, here as there.
"""

from __future__ import annotations

from typing import NamedTuple

from holychat.core.blocks import Blocks, Code


class CodeBlock(NamedTuple):
    """`language` is the first word of the info string, empty where there is none."""

    language: str
    code: str  # whole lines; empty for an empty block


def code_blocks(text: str) -> list[CodeBlock]:
    """The blocks in order; one that was never closed ends with the text."""
    parser = Blocks(whole=True)
    found: list[tuple[str, list[str]]] = []
    pieces = parser.feed(text.replace("\r\n", "\n")) + parser.finish()
    for piece in pieces:
        if isinstance(piece, Code) and piece.fenced:
            if piece.first:
                found.append((piece.language, []))
            found[-1][1].extend(piece.lines)
    return [
        CodeBlock(language, "".join(f"{line}\n" for line in lines)) for language, lines in found
    ]
