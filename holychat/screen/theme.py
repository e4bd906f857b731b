"""Colours by role. A theme is one row in _THEMES; everything painted asks one.

The two built-in themes use the terminal's own sixteen colours, which are right on light and dark
backgrounds alike; bright black is none of them, for in Solarized it is the background. Without
colours only weights remain. The values are rich's words for styles; `color` gives a role's colour
to those who paint without rich.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.style import Style

    Theme = dict[str, Style]

_COMMON = {
    "text": "none",
    "strong": "bold",
    "emphasis": "italic",
    "strike": "strike",
    "h1": "bold underline",
    "h2": "bold",
    "h3": "bold italic",
    "h4": "italic",
    "math": "none",
    "html": "dim",
    "table.head": "bold",
}

_THEMES: dict[str, dict[str, str]] = {
    "calm": {
        **_COMMON,
        "accent": "cyan",
        "dim": "dim",
        "warn": "yellow",
        "code": "cyan",
        "link": "cyan underline",
        "address": "dim",
        "quote": "dim",
        "marker": "cyan",
    },
    "warm": {
        **_COMMON,
        "accent": "magenta",
        "dim": "dim",
        "warn": "red",
        "code": "yellow",
        "link": "blue underline",
        "address": "dim",
        "quote": "magenta",
        "marker": "magenta",
    },
}
THEMES = tuple(_THEMES)


def theme(name: str = "calm") -> Theme:
    """The styles of a theme by role."""
    from rich.style import Style  # not at the first prompt

    return {role: Style.parse(style) for role, style in _THEMES[name].items()}


def color(name: str, role: str) -> str:
    """The name of a role's colour among the terminal's sixteen, as rich spells it; or "dim"."""
    return _THEMES[name][role].split()[0]
