"""The line below the prompt: who answers, how much was said, and a short hint.

Owns its looks. Everything in it comes from values; foreign text is cleaned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.formatted_text import FormattedText

from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from holychat.core.chat import Usage

STYLE = {
    "bottom-toolbar": "noreverse",
    "bottom-toolbar.text": "noreverse fg:ansibrightblack",
    "accent": "fg:ansicyan",
    "hint": "fg:ansiyellow",
    "prompt": "fg:ansicyan bold",
    "continuation": "fg:ansibrightblack",
    "auto-suggestion": "fg:ansibrightblack",
    "completion-menu": "bg:default fg:default",
    "completion-menu.completion": "bg:default fg:default",
    "completion-menu.completion.current": "bg:default fg:ansicyan bold noreverse",
    "completion-menu.meta.completion": "bg:default fg:ansibrightblack",
    "completion-menu.meta.completion.current": "bg:default fg:ansibrightblack bold",
    "completion-menu.multi-column-meta": "bg:default fg:ansibrightblack",
    "completion-menu.completion fuzzymatch.outside": "fg:default",
    "completion-menu.completion fuzzymatch.inside": "fg:ansicyan nobold",
    "completion-menu.completion fuzzymatch.inside.character": "fg:ansicyan nounderline bold",
    "scrollbar.background": "bg:default",
    "scrollbar.button": "bg:ansibrightblack",
}


def line(left: str, usage: Usage, hint: str, *, multiline: bool, width: int) -> FormattedText:
    """The fragments of the toolbar, at most `width` cells."""
    right = [f"{'≈' if usage.estimated else ''}{usage.prompt + usage.completion:,} tok"]
    if not usage.prompt + usage.completion:
        right = []
    if multiline:
        right.append("Enter: new line · Esc Enter: send")
    tail = "   ".join(right)
    room = max(8, width - len(tail) - 4)
    shown = FormattedText([("class:accent", one_line(left, room))])
    if hint:
        shown.append(("class:hint", f"   {one_line(hint, max(8, width - len(left) - 4))}"))
    elif tail:
        shown.append(("class:bottom-toolbar.text", f"   {tail}"))
    return shown
