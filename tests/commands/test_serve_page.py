"""The relay's web page as it is sent: what it must not hold. What it does, see tests/real/page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from holychat.commands.serve import page as pages

FOLDER = Path(pages.__file__).with_name("page")
VOID = frozenset({"meta", "input", "br", "link", "img"})
LOADING = ("src", "href", "srcset", "action", "formaction", "data", "poster", "ping", "background")


class Page(HTMLParser):
    """The tags with their attributes and text, checked to nest."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.source = pages.load().decode()
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.text[tag][-1] += data

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page()


@pytest.fixture(scope="module")
def script(page: Page) -> str:
    return page.text["script"][0]


def test_each_file_of_the_folder_is_in_it_once(page: Page) -> None:
    parts = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    index = parts.pop("index.html")
    assert sorted(re.findall(r'(?:src|href)="([\w.]+)"', index)) == sorted(parts)
    for name, text in parts.items():
        assert page.source.count(text) == 1
        assert text.startswith("/* ")  # with what it owns
        assert text.endswith("\n")
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", text), name  # text that turns around
        assert text.count("\n") < 400


def test_the_parts_go_in_where_they_are_named() -> None:
    files = {
        "index.html": '<link rel="stylesheet" href="a.css">\n<p>\n<script src="b.js"></script>\n'
        '<script src="c.js"></script>\n</body>\n',
        "a.css": "p { content: '\\1\\g<0>'; }\n", "b.js": "const b = 1;\n", "c.js": "b;\n",
    }  # fmt: skip
    style = "<style>\n" + files["a.css"] + "</style>"
    script = '<script>\n"use strict";\n(() => {\nconst b = 1;\n\nb;\n})();\n</script>'
    assert pages.joined(files.__getitem__) == f"{style}\n<p>\n{script}\n</body>\n"


def test_one_style_and_one_script_that_a_hash_can_name(page: Page) -> None:
    assert page.all("style", "script") == [{}, {}]
    for tag in ("style", "script"):
        (inside,) = page.text[tag]
        assert inside.strip()
        assert page.source.count(f"<{tag}>") == page.source.count(f"</{tag}>") == 1
        assert "<!--" not in inside  # changes how a script is read, and where it ends


def test_nothing_comes_from_outside(page: Page) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"link", "base", "iframe", "object", "embed", "img", "video", "audio"}
    loading = [value for _, named in page.tags for name, value in named.items() if name in LOADING]
    assert loading == ["#prompt"]
    assert not re.search(r"@import|url\(|image-set\(|@font-face", page.text["style"][0])
    assert "http-equiv" not in page.source.lower()


def test_no_handlers_and_no_styles_in_tags(page: Page) -> None:
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]


@pytest.mark.parametrize(
    "word",
    [
        "innerHTML", "outerHTML", "insertAdjacentHTML", "setHTML", "document.write", "DOMParser",
        "createContextualFragment", "parseFromString", "srcdoc", "eval(", "Function(", "import(",
        "localStorage", "document.cookie", "postMessage", "importScripts", "XMLHttpRequest",
        "sendBeacon", "EventSource", "javascript:",
    ],
)  # fmt: skip
def test_foreign_text_cannot_become_markup_or_code(script: str, word: str) -> None:
    assert word not in script


def test_the_script_asks_its_own_server_only(script: str) -> None:
    assert not re.search(r"""["'`](?:https?:|wss?:)?//""", script)
    assert len(re.findall(r"\bfetch\(", script)) == 1
    assert re.findall(r"new WebSocket\(.*", script) == [
        'new WebSocket(new URL("ws", location.href.replace(/^http/, "ws").replace(/#.*/, "")),'
    ]
    assert set(re.findall(r'api\([`"](\w+/\w+)', script)) == {"api/models", "api/conversations"}


def test_elements_are_made_by_names_that_stand_in_the_script(script: str) -> None:
    assert script.count("createElement") == 1
    made = set(re.findall(r'\bmake\("(\w+)"', script))
    assert not made & {"script", "iframe", "img", "object", "embed", "style", "link", "svg", "form"}
    variable = set(re.findall(r"\bmake\(([^\"][^,)]*)", script))
    assert variable == {'number ? "ol" : "ul"', "tag"}


def test_links_are_checked_before_they_are_made(script: str) -> None:
    assert "const SAFE = /^(?:https?:\\/\\/[^/]|mailto:[^?])/i;" in script
    assert len(re.findall(r"\.href\s*=[^=]", script)) == 1
    assert 'made.rel = "noopener noreferrer";' in script


def test_every_control_has_a_name(page: Page) -> None:
    labelled = {attributes["for"] for attributes in page.all("label")}
    texts = iter(page.text["button"])
    for attributes in page.all("input", "select", "textarea"):
        assert attributes["id"] in labelled
    for attributes in page.all("button"):
        assert next(texts).strip()
        assert attributes["type"] in ("button", "submit")
        assert "aria-label" in attributes or attributes.get("id") not in (
            "menu",
            "shut",
        )  # a sign is no name
    for attributes in page.all("nav", "dialog", "form"):
        assert {"aria-label", "aria-labelledby", "id"} & set(attributes)


def test_what_a_reader_of_the_screen_needs(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert page.text["title"] == ["holychat"]
    metas = {one.get("name", "charset"): one.get("content", "") for one in page.all("meta")}
    assert metas["viewport"].startswith("width=device-width, initial-scale=1")
    assert not re.search(r"maximum-scale|user-scalable", metas["viewport"])
    assert metas["referrer"] == "no-referrer"
    roles = {one["role"]: one for _, one in page.tags if "role" in one}
    assert roles["log"]["aria-live"] == "off"  # not every token
    assert roles["status"].get("aria-live", "polite") == "polite"
    assert "alert" not in roles
    ids = [one["id"] for _, one in page.tags if "id" in one]
    assert len(ids) == len(set(ids))
    for _, one in page.tags:
        for name in ("for", "aria-controls", "aria-labelledby", "aria-describedby"):
            assert set(one.get(name, "").split()) <= set(ids)
    assert ("a", {"class": "skip", "href": "#prompt"}) in page.tags
    assert [tag for tag, _ in page.tags].count("main") == 1


def test_every_name_that_the_script_looks_up_is_there(page: Page, script: str) -> None:
    ids = {one["id"] for _, one in page.tags if "id" in one}
    assert set(re.findall(r'\$\("([\w-]+)"\)', script)) <= ids


def test_the_looks_follow_the_reader(page: Page) -> None:
    style = page.text["style"][0]
    for feature in ("prefers-color-scheme: dark", "prefers-reduced-motion: reduce", "print"):
        assert feature in style
    assert ":focus-visible" in style
