"""The web page: the files of page/ joined into one, served with the headers that keep it to itself.

Owns the joining and the content security policy: nothing is allowed but the style and the script
that stand in the page, by their hashes, and connections back to where it came from.

page/index.html names its parts as any page does. Here the style goes in where it is named, and the
scripts become one, in the order in which they are named, in a scope of their own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_STYLE = re.compile(r'<link rel="stylesheet" href="([\w-]+\.css)">')
_SCRIPT = re.compile(r'<script src="([\w-]+\.js)"></script>\n')
_SCRIPTS = re.compile(rf"(?:{_SCRIPT.pattern})+")
_BLOCK = r"<{0}(?:\s[^>]*)?>(.*?)</{0}\s*>"


def load() -> bytes:
    """The page as it is sent."""
    folder = files("holychat.commands.serve").joinpath("page")
    return joined(lambda name: folder.joinpath(name).read_text("utf-8")).encode()


def joined(read: Callable[[str], str]) -> str:
    """index.html with its parts in it; `read` gives a file of the folder."""

    def style(named: re.Match[str]) -> str:
        return f"<style>\n{read(named[1])}</style>"

    def script(named: re.Match[str]) -> str:
        parts = "\n".join(read(name) for name in _SCRIPT.findall(named[0]))
        return f'<script>\n"use strict";\n(() => {{\n{parts}}})();\n</script>\n'

    return _SCRIPTS.sub(script, _STYLE.sub(style, read("index.html")))


def headers(page: bytes, hosts: frozenset[str]) -> dict[str, str]:
    """`hosts` are the names under which it is reached: the sockets of its own."""
    text = page.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"<!--.*?-->", "", text, count=0, flags=re.DOTALL)
    # A policy has no form for an IPv6 address; 'self' covers it where the browser is up to date.
    named = sorted(host for host in hosts if "[" not in host)
    sockets = " ".join(f"{scheme}://{host}" for host in named for scheme in ("ws", "wss"))
    policy = {
        "default-src": "'none'",
        "style-src": _hashes(text, "style"),
        "script-src": _hashes(text, "script"),
        "connect-src": f"'self' {sockets}",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
        "cross-origin-opener-policy": "same-origin",
    }


def _hashes(page: str, tag: str) -> str:
    """As a policy names the blocks of a tag; what the browser hashes is the text between them."""
    blocks = re.findall(_BLOCK.format(tag), page, re.DOTALL | re.IGNORECASE)
    digests = (hashlib.sha256(each.encode()).digest() for each in blocks)
    return " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests) or "'none'"
