from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holychat.core.chat import Finish, Turn
from holychat.core.formats import Whole
from holychat.screen.html import body, highlighted, page, safe
from tests.wholes import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def made(*given: Whole) -> str:
    return "".join(page([each.conversation for each in given], given, lambda at: f"day {at}"))


def with_answer(text: str, *, title: str = "T") -> Whole:
    """The same text everywhere where foreign text may be."""
    turn = Turn(text, text, Finish.CUT, "box", text)
    messages = tuple(
        replace(each, text=text, reasoning=text, turn=turn if each.role == "assistant" else None)
        for each in WHOLE.messages
    )
    about = replace(WHOLE.conversation, title=title, model=text, system=text, origin=text)
    return replace(WHOLE, conversation=about, messages=messages)


class Reader(HTMLParser):
    """The tags with their attributes, checked to nest; and the text."""

    VOID = frozenset({"meta", "br", "hr"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data: str) -> None:
        self.text += data


OURS = {
    "html", "head", "meta", "title", "style", "body", "nav", "main", "header", "article", "div",
    "details", "summary", "time", "h1", "h2", "h3", "h4", "h5", "h6", "p", "ul", "ol", "li",
    "blockquote", "pre", "code", "span", "table", "tr", "th", "td", "a", "em", "strong", "s", "b",
    "br", "hr",
}  # fmt: skip
ATTRIBUTES = {
    "a": {"href", "rel"}, "span": {"class"}, "pre": {"class"}, "p": {"class"}, "ol": {"start"},
    "th": {"class"}, "td": {"class"}, "div": {"class"}, "article": {"class"}, "main": {"id"},
    "meta": {"charset", "http-equiv", "content", "name"}, "html": {"lang"},
}  # fmt: skip


def check(source: str) -> Reader:
    """Only our tags with our attributes, and links to where links may lead."""
    reader = Reader(source)
    for tag, attributes in reader.tags:
        assert tag in OURS
        assert set(attributes) <= ATTRIBUTES.get(tag, set()), (tag, attributes)
        href = attributes.get("href")
        assert href is None or re.match(r"https?://|mailto:|#c-", href, re.IGNORECASE), href
        assert re.fullmatch(r"[\w -]*", attributes.get("class") or "")
    return reader


# --- The page -----------------------------------------------------------------------------------


def test_the_page_of_a_conversation() -> None:
    turn = Turn("", "", Finish.INTERRUPTED, "box", "test-model")
    messages = (*WHOLE.messages[:3], replace(WHOLE.messages[3], turn=turn), WHOLE.messages[4])
    source = made(replace(WHOLE, messages=messages))
    reader = check(source)
    at = WHOLE.conversation.created
    assert "<title>Why is the sky blue?</title>" in source
    assert f"day {at} · test-model · from zzzzzzzzzzzz" in reader.text
    assert "<summary>System prompt</summary>\n<p>Be brief.</p>" in source
    assert "<summary>Reasoning</summary>\n<p>Hm, light.</p>" in source
    assert "<p>Because of <em>scattering</em>.</p>" in source
    assert f"<b>test-model</b> <time>day {at + 30000}</time>" in source
    assert '<p class="note">stopped</p>' in source
    assert "left out: 1 of other branches" in source
    assert "takes the red" not in source
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in source
    assert "prefers-color-scheme: dark" in source
    assert "@media print" in source
    assert "width=device-width" in source
    assert "<script" not in source
    assert not re.search(r"url\(|@import|<link|src=", source)


def test_several_conversations_are_one_page() -> None:
    other = replace(WHOLE, conversation=replace(WHOLE.conversation, id="mnpqrstuvwxy", title=""))
    reader = check(made(WHOLE, other))
    hrefs = [a["href"] for tag, a in reader.tags if tag == "a"]
    ids = [a["id"] for tag, a in reader.tags if tag == "main"]
    assert hrefs == [f"#{identity}" for identity in ids] == ["#c-abcdefghjkmn", "#c-mnpqrstuvwxy"]
    assert "2 conversations" in reader.text
    assert "Untitled" in reader.text


# --- Markdown -----------------------------------------------------------------------------------


LINK = '<a href="http://b.example" rel="noopener noreferrer nofollow">a</a>'
MARKDOWN = {
    "# A": "<h3>A</h3>|",
    "###### A": "<h6>A</h6>|",
    "a *b* **c** ~~d~~": "<p>a <em>b</em> <strong>c</strong> <s>d</s></p>|",
    "`e<`": "<p><code>e&lt;</code></p>|",
    "a\nb  \nc": "<p>a|b<br>|c</p>|",
    "- a\n- b": "<ul>|<li><p>a</p>|</li>|<li><p>b</p>|</li>|</ul>|",
    "- b\n  1. c": "<ul>|<li><p>b</p>|<ol>|<li><p>c</p>|</li>|</ol>|</li>|</ul>|",
    "- a\n\n1. b": "<ul>|<li><p>a</p>|</li>|</ul>|<ol>|<li><p>b</p>|</li>|</ol>|",
    "7. a": '<ol start="7">|<li><p>a</p>|</li>|</ol>|',
    "- [ ] a\n- [x] b": "<ul>|<li><p>☐ a</p>|</li>|<li><p>☑ b</p>|</li>|</ul>|",
    "> a\n> > b": "<blockquote>|<p>a</p>|<blockquote>|<p>b</p>|</blockquote>|</blockquote>|",
    "a | b\n--|-:": '<div class="table"><table>|<tr><th class="left">a</th>'
    '<th class="right">b</th></tr>|</table></div>|',
    "a |\n--|\n*2* |": '<div class="table"><table>|<tr><th class="left">a</th></tr>|'
    '<tr><td class="left"><em>2</em></td></tr>|</table></div>|',
    "---": "<hr>|",
    "```\na<b\n\n```": "<pre><code>a&lt;b|</code></pre>|",
    "<div>x\n\ny": '<pre class="raw">&lt;div&gt;x|</pre>|<p>y</p>|',
    "a <b>x</b> &lt;": "<p>a &lt;b&gt;x&lt;/b&gt; &lt;</p>|",
    "[a][1]\n\n[1]: http://b.example": f"<p>{LINK}</p>|"
    '<p class="definition">[1]: http://b.example</p>|',
    "": "",
    "-": "<ul>|<li><p></p>|</li>|</ul>|",
}


@pytest.mark.parametrize(("source", "expected"), MARKDOWN.items())
def test_markdown(source: str, expected: str) -> None:
    assert body(source) == expected.replace("|", "\n")
    check(body(source))


def test_code_is_coloured_and_stays_itself() -> None:
    shown = body('```python\ndef f(x):\n\treturn "<b>"\n```')
    assert '<span class="label">python</span>' in shown
    assert '<span class="k">def</span>' in shown
    assert Reader(shown).text == 'pythondef f(x):\n\treturn "<b>"\n\n'
    assert highlighted("<x>", "no-such-language") == "&lt;x&gt;"
    assert highlighted("x" * 300_000, "python") == "x" * 300_000
    assert "pre .k {" in made(WHOLE)


@pytest.mark.parametrize(
    "address", ["http://a.example", "HTTPS://a.example/?q=1#x", "mailto:a@b.example"]
)
def test_links_that_lead_somewhere(address: str) -> None:
    assert safe(address)
    shown = body(f"[a]({address})")
    assert [a["href"] for tag, a in check(shown).tags if tag == "a"] == [address]


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java&#x0A;script:alert(1)", "data:text/html,x",
     "vbscript:x", "file:///etc/passwd", "//a.example", "/x", "#x", "http:x", "mailto:",
     "&#106;avascript:alert(1)", "\x01javascript:alert(1)", "https:/\\evil"],
)  # fmt: skip
def test_links_that_lead_nowhere_stay_text(address: str) -> None:
    for source in (f"[a]({address})", f"![a]({address})", f"[a]\n\n[a]: {address}", f"<{address}>"):
        assert all(tag != "a" for tag, _ in check(body(source)).tags)
    assert not safe(address)


def test_images_are_links_and_lies_are_told() -> None:
    shown = body("![a *cat*](https://a.example/c.png)")
    assert 'href="https://a.example/c.png"' in shown
    assert "🖼 a cat</a>" in shown
    shown = body("[https://bank.example](https://evil.example)")
    assert "https://bank.example</a> (https://evil.example)" in shown
    assert "(" not in body("<https://bank.example>")


def test_what_hides_is_shown() -> None:
    shown = body("a\u202eb\x1b[0m &#x202e; `\u2066` \x00\ud800")
    assert "\\u202eb␛[0m \\u202e" in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b\ud800-\udfff]", shown)


PIECES = st.sampled_from(
    ["<script>", "</script>", "</style>", "<img src=x onerror=alert(1)>", '"', "'", "<", ">", "&",
     "&lt;", "&#60;", "`", "```", "```html\n", "[", "](", ")", "![", "javascript:", "http://a.b",
     "*", "**", "_", "~~", "\n", "\n\n", "> ", "- ", "1. ", "    ", "|", "|-|\n", "\\", "<!--",
     "]: ", "<a href=", "x", "\t", "# ", "onclick=", "<http://a.b>", "\x00", "\ud800"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_nothing_that_is_written_becomes_markup(text: str) -> None:
    check(made(with_answer(text, title=text)))


@settings(deadline=None)
@given(st.text(st.characters()))
def test_nor_does_any_other_text(text: str) -> None:
    check(body(text))


def test_words_are_never_lost_however_deep_they_are() -> None:
    assert "end" in body("> " * 200 + "end")
    assert "end" in body("".join(f"{'  ' * n}- a\n" for n in range(100)) + "  " * 100 + "- end")
    assert "end" in body("[" * 3000 + "end")
    assert body("word " * 5000).count("word") == 5000


# --- In a real browser --------------------------------------------------------------------------

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
RUN = "document.title='RAN'"
ATTACKS = f"""
<script>{RUN};fetch('http://HOST/fetch')</script>

text <script>{RUN}</script> <img src=x onerror="{RUN}"> <img src="http://HOST/image">

</style><script>{RUN}</script></pre></code></main></body><svg onload="{RUN}">

<svg/onload={RUN}><iframe src="http://HOST/frame"></iframe><object data="http://HOST/object">

<link rel=stylesheet href="http://HOST/style"><base href="http://HOST/"><meta http-equiv=refresh
content="0;url=http://HOST/refresh"><style>@import 'http://HOST/import';</style>

[js](javascript:{RUN}) [d](data:text/html,<script>{RUN}</script>) <javascript:{RUN}>
![i](http://HOST/markdown-image) ![j](javascript:{RUN}) ![k](data:image/svg+xml,<svg/onload={RUN}>)
[e](&#106;avascript:{RUN}) [q](http://a.example/"onmouseover="{RUN}) [r]

[r]: javascript:{RUN}

&lt;script&gt;{RUN}&lt;/script&gt; &#60;img src=x onerror={RUN}&#62; &quot;>

`</code><script>{RUN}</script>`

```html"><script>{RUN}</script>
</code></pre><script>{RUN}</script>
```

```python
s = "</span></code><script>{RUN}</script>"  # <img src=x onerror={RUN}>
```

| <img src=x onerror={RUN}> | <script>{RUN}</script> |
|---|---|
| </td><svg onload={RUN}> | a |
"""


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and the paths that anybody asked it for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def dom(path: Path) -> str:
    """The page as Chromium has it after its scripts had two seconds."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={path.parent / 'profile'}", "--virtual-time-budget=2000",
        "--disable-background-networking", "--no-first-run", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode()


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
def test_nothing_runs_and_nothing_is_fetched(
    tmp_path: Path, requests: tuple[str, list[str]]
) -> None:
    host, asked = requests
    source = made(with_answer(ATTACKS.replace("HOST", host), title=ATTACKS.replace("HOST", host)))
    check(source)
    path = tmp_path / "page.html"
    # Once more without the policy: the escaping alone holds too.
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n')
    assert policy.search(source)
    for text in (source, policy.sub("", source)):
        path.write_text(text)
        seen = dom(path)
        assert "<title>RAN</title>" not in seen
        assert "alert" not in seen
        assert not re.search(r"<(?:script|img|svg|iframe|object|link|base)\b", seen)
        assert "Reasoning" in seen
        assert "document.title='RAN'" in seen.replace("&#x27;", "'")  # as text
    assert asked == []
    # The measure itself measures: this page runs and fetches.
    path.write_text(f"<title>x</title><script>{RUN}</script><img src='http://{host}/image'>")
    assert "<title>RAN</title>" in dom(path)
    assert asked == ["/image"]


def test_math_stands_as_it_was_written() -> None:
    shown = body("before\n\n$$\nx < y \\\\\n$$\n\nafter")
    assert "x &lt; y" in shown
    assert "<p>after</p>" in shown
