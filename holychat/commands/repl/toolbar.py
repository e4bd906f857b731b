"""The line below the prompt: who answers, how much was said, and a short hint.

Owns its looks. Everything in it comes from values; foreign text is cleaned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.formatted_text import FormattedText

from holychat.core.sanitize import one_line
from holychat.screen.theme import color
from holychat.screen.words import price

if TYPE_CHECKING:
    from holychat.core.chat import Usage
    from holychat.screen.words import Cash


LITTLE = 0.01  # of the context: less is not worth a word
NEARLY = 0.8  # from here on it is coloured


def style(theme: str) -> dict[str, str]:
    """prompt_toolkit's styles for the prompt, the menu and the toolbar, in a theme's colours."""
    accent, warn = (f"ansi{color(theme, role).replace('_', '')}" for role in ("accent", "warn"))
    menu = "completion-menu"
    return {
        "bottom-toolbar": "noreverse",
        "bottom-toolbar.text": "noreverse dim",
        "accent": f"fg:{accent}",
        "hint": f"fg:{warn}",
        "prompt": f"fg:{accent} bold",
        "continuation": "dim",
        "auto-suggestion": "dim",
        menu: "bg:default fg:default",
        f"{menu}.completion": "bg:default fg:default",
        f"{menu}.completion.current": f"bg:default fg:{accent} bold noreverse",
        f"{menu}.meta.completion": "bg:default dim",
        f"{menu}.meta.completion.current": "bg:default dim bold",
        f"{menu}.multi-column-meta": "bg:default dim",
        f"{menu}.completion fuzzymatch.outside": "fg:default",
        f"{menu}.completion fuzzymatch.inside": f"fg:{accent} nobold",
        f"{menu}.completion fuzzymatch.inside.character": f"fg:{accent} nounderline bold",
        "scrollbar.background": "bg:default",
        "scrollbar.button": "bg:ansibrightblack",
    }


def line(
    left: str,
    usage: Usage,
    hint: str,
    *,
    cash: Cash,
    title: str,
    multiline: bool,
    width: int,
    fill: float | None = None,
) -> FormattedText:
    """The fragments of the toolbar, at most `width` cells. `fill` is how full the context is."""
    said = usage.prompt + usage.completion
    full = f"ctx {fill * 100:.0f} %" if fill and fill >= LITTLE else ""
    right = [full] if full else []
    right += [f"{'≈' if usage.estimated else ''}{said:,} tok"] if said else []
    paid = price(usage, cash)
    if paid and said and len("   ".join([left, *right, paid])) + 4 <= width:  # else it can wait
        right.append(paid)
    if multiline:
        right.append("Enter: new line · Esc Enter: send")
    tail = "   ".join(right)
    room = max(8, width - len(tail) - 4)
    free = width - min(len(left), room) - len(tail) - 8
    if title and free > 12:
        tail += f"{'   ' if tail else ''}{one_line(title, min(40, free))}"
    shown = FormattedText([("class:accent", one_line(left, room))])
    if hint:
        shown.append(("class:hint", f"   {one_line(hint, max(8, width - len(left) - 4))}"))
    elif tail:
        if full and (fill or 0) >= NEARLY:
            shown.append(("class:hint", f"   {full}"))
            tail = tail.removeprefix(full).lstrip()
        shown.append(("class:bottom-toolbar.text", f"   {tail}"))
    return shown
