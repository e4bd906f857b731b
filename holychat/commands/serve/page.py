"""The web page: one file, served with the headers that keep it to itself.

Owns the content security policy: nothing is allowed but the style and the script that stand in the
file, by their hashes, and connections back to where it came from.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

PLACEHOLDER = (
    "<!doctype html><title>holychat</title><p>The relay runs. Its page is not in this build.</p>"
)
_BLOCK = r"<{0}(?:\s[^>]*)?>(.*?)</{0}\s*>"


def load() -> bytes:
    """The page as it is in the package."""
    try:
        return files("holychat.commands.serve").joinpath("page.html").read_bytes()
    except FileNotFoundError:
        return PLACEHOLDER.encode()


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
