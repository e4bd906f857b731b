"""Who can be asked: the provider value, its dialect, and the built-in rows.

Owns `Provider`, `Secret`, the QUIRKS table (one row a dialect) and the BUILT_IN table (one row a
provider). Must not resolve settings or read keys: `settings` fills a row in, `wire` reads QUIRKS.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


class Secret:
    """A key that does not show itself: `repr`, `str` and format give a mask, `reveal` the value.

    White space around and inside is removed: keys are pasted with newlines, and no key has any.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = "".join(value.split())

    def reveal(self) -> str:
        return self._value

    @property
    def mask(self) -> str:
        """The last four characters at most, and never more than a quarter of the key."""
        shown = min(4, len(self._value) // 4)
        return ("…" + self._value[len(self._value) - shown :]) if self._value else ""

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({self.mask})"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled or copied")


@dataclass(frozen=True, slots=True)
class Quirks:
    """Where a provider differs from OpenAI's form. The defaults are OpenAI's form.

    What a server teaches (a 400 that names a field) is the same fields, replaced.
    """

    stream_options: bool = True  # accepts stream_options.include_usage
    max_tokens: str = "max_tokens"  # the name of the bound on the answer
    body: Mapping[str, object] = field(default_factory=dict)  # sent with every request
    prefix: str = ""  # how it goes on with an answer, one of wire.PREFIXES; empty: it is asked to
    prefix_path: str = ""  # where that is asked for, instead of the base URL's own path


QUIRKS: dict[str, Quirks] = {
    "openai": Quirks(max_tokens="max_completion_tokens"),
    "plain": Quirks(),
    "gemini": Quirks(),
    # Sends usage unasked; 422 on unknown fields. `prefix` is in its OpenAPI AssistantMessage.
    "mistral": Quirks(stream_options=False, prefix="prefix"),
    # Chat prefix completion is a beta there, at an address of its own (api-docs.deepseek.com).
    "deepseek": Quirks(prefix="prefix", prefix_path="/beta"),
    "vllm": Quirks(prefix="continue_final_message"),
    "llamacpp": Quirks(prefix="last"),
    # Passes a last assistant message on to whoever goes on with it; a 400 or an answer that begins
    # anew says that this one does not.
    "openrouter": Quirks(body={"usage": {"include": True}}, prefix="last"),
}


@dataclass(frozen=True, slots=True)
class Provider:
    """One endpoint with everything that is needed to ask it.

    `base_url` ends without a slash and without `/chat/completions`. `model` is the default model;
    empty means the first one that the server lists. The key belongs to `origin` and is sent
    nowhere else.
    """

    name: str
    base_url: str
    model: str = ""
    key: Secret = field(default_factory=Secret)
    dialect: str = "plain"
    needs_key: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str = ""
    ca: str = ""

    @property
    def origin(self) -> str:
        """`scheme://host:port`, the unit that a key belongs to."""
        return _origin(self.base_url)

    def at(self, path: str) -> Provider:
        """The same provider at another path of the same origin; an empty one is its own."""
        parts = urlsplit(self.base_url)
        return replace(self, base_url=f"{parts.scheme}://{parts.netloc}{path}") if path else self

    @property
    def quirks(self) -> Quirks:
        """The row of its dialect; what a server taught us meanwhile is kept by the net client."""
        return QUIRKS.get(self.dialect, QUIRKS["plain"])

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return urlsplit(self.base_url).hostname in {"localhost", "127.0.0.1", "::1"}


# In the order in which they are looked at when none is chosen. holysheep comes first: it is the
# default. Ports of the local servers are their documented defaults.
BUILT_IN: tuple[Provider, ...] = (
    Provider("holysheep", "https://api.holysheep.ai/v1", "deepseek-chat"),
    Provider("deepseek", "https://api.deepseek.com/v1", "deepseek-flash", dialect="deepseek"),
    Provider("openai", "https://api.openai.com/v1", "gpt-4.1", dialect="openai"),
    Provider("openrouter", "https://openrouter.ai/api/v1", "openrouter/auto", dialect="openrouter"),
    Provider("groq", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"),
    Provider("mistral", "https://api.mistral.ai/v1", "mistral-small-latest", dialect="mistral"),
    Provider(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-2.5-flash",
        dialect="gemini",
    ),
    # The second provider of the seed documents' environment: FALLBACK_BASE_URL, FALLBACK_API_KEY.
    Provider("fallback", "https://api.deepseek.com/v1", "deepseek-flash"),
    Provider("ollama", "http://127.0.0.1:11434/v1", needs_key=False),
    Provider("lmstudio", "http://127.0.0.1:1234/v1", needs_key=False),
    Provider("llamacpp", "http://127.0.0.1:8080/v1", dialect="llamacpp", needs_key=False),
    Provider("vllm", "http://127.0.0.1:8000/v1", dialect="vllm", needs_key=False),
    Provider("demo", "http://demo.invalid/v1", "demo", needs_key=False),
)
DEFAULT_PROVIDER = "holysheep"
DEMO = "demo"
