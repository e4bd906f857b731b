"""`python -m tests.pictures`: holychat on its demo provider, as SVG, beside this file.

A process on a pty writes to the tests' terminal emulator, and Rich makes pictures of its cells.
They fetch nothing: whoever looks at one sees it in a monospaced font of their own.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.terminal_theme import TerminalTheme

from tests.terminal import Terminal

if TYPE_CHECKING:
    from pyte.screens import Char

    from tests.terminal import Screen

HERE = Path(__file__).parent
FRAMED = b"\x1b[?2026l"  # the end of a frame
PROMPT = "›"
BLANKS = re.compile("(^ +| {2,}| +$)")
PAD = 18  # around the rows
CHARACTER, ROW = 20 * 0.6, 20 * 1.22  # as Rich lays them out

DARK = TerminalTheme(
    (27, 30, 38),
    (208, 212, 220),
    [
        (27, 30, 38),
        (224, 128, 134),
        (158, 198, 138),
        (224, 194, 132),
        (128, 174, 232),
        (196, 152, 220),
        (112, 190, 196),
        (208, 212, 220),
    ],
    [(136, 144, 160)] * 8,
)
LIGHT = TerminalTheme(
    (252, 251, 248),
    (52, 56, 66),
    [
        (52, 56, 66),
        (184, 56, 62),
        (66, 128, 50),
        (150, 104, 10),
        (38, 98, 182),
        (142, 64, 160),
        (10, 118, 130),
        (52, 56, 66),
    ],
    [(112, 116, 128)] * 8,
)

# Filled in by Rich, but for what stands in @: its own frame is a window of one system's kind.
FORMAT = f"""\
<svg viewBox="0 0 @width @height" width="@width" height="@height"\
 xmlns="http://www.w3.org/2000/svg">
<style>
.{{unique_id}}-matrix {{{{
font: 20px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
white-space: pre;
}}}}
{{styles}}
</style>
<rect x="0.5" y="0.5" width="@inner" height="@low" rx="10" fill="@back" stroke="@line"/>
<g transform="translate({PAD}, {PAD - 2})">
{{backgrounds}}
<g class="{{unique_id}}-matrix">
{{matrix}}
</g>
</g>
</svg>
"""


def picture(screen: Screen, theme: TerminalTheme) -> str:
    """The rows of the screen as SVG, without the empty ones at its ends."""
    cells = [[screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)]
    if not screen.cursor.hidden:
        x, row = min(screen.cursor.x, screen.columns - 1), cells[screen.cursor.y]
        row[x] = row[x]._replace(reverse=not row[x].reverse)
    rows = [spans(row) for row in cells]
    full = [y for y, row in enumerate(rows) if "".join(segment.text for segment in row).strip()]
    rows = rows[full[0] : full[-1] + 1]
    console = Console(
        width=screen.columns, record=True, file=StringIO(), force_terminal=True, _environ={}
    )
    for row in rows:
        console.print(Segments([*row, Segment.line()]), end="")
    width, height = screen.columns * CHARACTER + 2 * PAD, len(rows) * ROW + 2 * PAD
    sizes = {
        "@width": width,
        "@height": height,
        "@inner": width - 1,
        "@low": height - 1,
        "@back": theme.background_color.hex,
        "@line": theme.ansi_colors[8].hex + "55",
    }
    form = FORMAT
    for name, value in sizes.items():
        form = form.replace(name, f"{value:g}" if isinstance(value, float) else value)
    svg = console.export_svg(theme=theme, code_format=form, unique_id="t", font_aspect_ratio=0.6)
    svg = re.sub(r' clip-path="[^"]*"|<text [^>]*>\n</text>', "", svg)
    return svg.replace("</text>", "</text>\n").replace(";;", ";")


def spans(cells: list[Char]) -> list[Segment]:
    """A row as texts of one style each; some viewers drop blanks at the ends of a text."""
    return [
        Segment(part, style)
        for style, group in groupby(cells, key=style_of)
        for part in BLANKS.split("".join(cell.data for cell in group))
        if part
    ]


def style_of(cell: Char) -> Style:
    fg = cell.fg.replace("bright", "bright_").replace("brown", "yellow")
    return Style(
        color=f"#{fg}" if re.fullmatch("[0-9a-f]{6}", fg) else fg,
        bold=cell.bold,
        italic=cell.italics,
        underline=cell.underscore,
        strike=cell.strikethrough,
        reverse=cell.reverse,
    )


async def shown(term: Terminal, wanted: str) -> None:
    """Wait for the text, and for the end of a frame."""
    await term.until(wanted)
    while not term.raw.endswith(FRAMED):
        await asyncio.sleep(0.001)


def chat(home: str, lines: int) -> Terminal:
    return Terminal("-p", "demo", home=Path(home), columns=80, lines=lines)


def save(name: str, screen: Screen, theme: TerminalTheme = DARK) -> None:
    svg = picture(screen, theme)
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', ""), "it would fetch"
    assert tempfile.gettempdir() not in svg, "a path of this machine is in it"
    path = HERE / f"{name}.svg"
    path.write_text(svg)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


async def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        async with chat(home, 24) as term:
            await term.until(PROMPT)
            term.type("python: count the words of a file\r")
            await shown(term, r"for word, count in")
            save("stream", term.screen)
        async with chat(home, 36) as term:
            await term.until(PROMPT)
            term.type("how do I set it up?\r")
            await term.until(PROMPT, times=2)
            await term.quiet()
            save("answer", term.screen)
            save("answer-light", term.screen, LIGHT)
        prompt = "why is 0.1 + 0.2 not 0.3?"
        term = Terminal("ask", "-p", "demo", prompt, home=Path(home), columns=80, lines=24)
        term.screen.draw(f'$ holychat ask -p demo "{prompt}"')
        term.screen.linefeed()
        term.screen.carriage_return()
        async with term:
            await shown(term, "neighbours")
            save("reasoning", term.screen)


if __name__ == "__main__":
    asyncio.run(main())
