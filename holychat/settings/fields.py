"""What can be set, and what fits: one row a setting.

Owns the tables FIELDS and PROVIDER_FIELDS, the spelling of dotted names, and the check of a single
value. Must not know layers, files or the environment: `settings` finds values, this judges them.
Every check raises ValueError with the end of a sentence ("must be a number").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holychat.core.provider import QUIRKS, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True, slots=True)
class Field:
    """One setting. `env` are its names in the environment, the first one that is set wins.

    `type` is str, int, float, bool, a tuple of the choices, dict (a table of strings) or object
    (any scalar or array, or what `clean` makes of it). `dotenv` says whether a `.env` in the
    working directory may set it.
    """

    name: str
    default: Any
    type: type | tuple[str, ...]
    env: tuple[str, ...]
    help: str
    dotenv: bool = False
    low: float = -inf
    high: float = inf
    clean: Callable[[Any], Any] | None = None


# --- Addresses ----------------------------------------------------------------------------------


def clean_url(text: str) -> str:
    """A base_url without a slash at its end and without a pasted `/chat/completions`.

    What it refuses is what could hide the host that is really asked, or would be lost when the
    path is appended.
    """
    bare = text.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    if not bare.isprintable() or " " in bare or "\\" in bare:
        raise ValueError("must hold no white space, control character or backslash")
    parts = _split(bare)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be like https://HOST/v1")
    if "@" in parts.netloc:
        raise ValueError("must hold no user name or password: the key has its own setting")
    if "?" in bare or "#" in bare:
        raise ValueError("must end with the path: it cannot have a query or fragment")
    return bare


def clean_proxy(text: str) -> str:
    """An HTTP proxy's address, or nothing for none. The value is never quoted: it may hold a
    password."""
    if not text:
        return ""
    parts = _split(text)
    printable = text.isprintable() and " " not in text and "\\" not in text
    if not printable or parts.scheme != "http" or not parts.hostname:
        raise ValueError("must be like http://HOST:PORT")
    return text.rstrip("/")


def clean_store(text: str) -> str:
    """A file, or "none"; what switches other things off is no name of a file."""
    return "none" if text.strip().lower() in ("none", "off", "false", "no", "0") else text


def _split(text: str) -> Any:
    """`urlsplit`, with its port looked at too: both raise ValueError on nonsense, in own words."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError("is no valid address") from error
    return parts


# --- Money --------------------------------------------------------------------------------------


def clean_price(raw: object) -> str:
    """A price as the decimal text that it is; a number of TOML counts as it is written."""
    from holychat.core.price import per_token

    per_token(raw)
    return str(raw).strip()


def clean_rate(raw: object) -> str:
    """How much of a currency one US dollar buys, as a decimal text."""
    from holychat.core.price import exact_of

    if not exact_of(raw, 12):
        raise ValueError("must be how much one US dollar buys, like 7.1")
    return str(raw).strip()


def clean_currency(text: str) -> str:
    code = text.strip().upper()
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        raise ValueError("must be a currency's three letters, like USD")
    return code


def clean_limit(raw: object) -> str:
    """A limit as it was written; empty for none."""
    from holychat.core.limits import written

    if str(raw).strip():
        written(raw)
    return str(raw).strip()


def check_measured(currency: str) -> None:
    """A rate is that of a currency, and the dollar has none."""
    if clean_currency(currency) == "USD":
        raise ValueError("is always 1: the others are measured in it")


# --- The tables ---------------------------------------------------------------------------------

LONGEST = 86_400.0  # a day: a timer beyond it is a slip of the keyboard


def _seconds(name: str, default: float, text: str) -> Field:
    env = (f"HOLYCHAT_TIMEOUT_{name.upper()}",)
    return Field(f"timeouts.{name}", default, float, env, text, low=0.001, high=LONGEST)


def _breaker(name: str, default: float, text: str, low: float, high: float) -> Field:
    env = (f"HOLYCHAT_BREAKER_{name.upper()}",)
    return Field(f"breaker.{name}", default, type(default), env, text, low=low, high=high)


def _limit(scope: str, text: str) -> Field:
    env = (f"HOLYCHAT_LIMIT_{scope.upper()}",)
    help_ = f"What {text} may use at most: a sum of money like 2.50, or 200k tokens."
    return Field(f"limits.{scope}", "", object, env, help_, clean=clean_limit)


def _migrate(name: str, default: float, text: str, low: float, high: float) -> Field:
    env = (f"HOLYCHAT_MIGRATE_{name.upper()}",)
    return Field(f"migrate.{name}", default, type(default), env, text, low=low, high=high)


FIELDS: tuple[Field, ...] = (
    Field(
        "provider",
        "",
        str,
        ("ACTIVE_PROVIDER", "HOLYCHAT_PROVIDER"),
        "Who is asked. Empty: holysheep, or the first one with a key.",
        dotenv=True,
    ),
    Field(
        "model",
        "",
        str,
        ("HOLYCHAT_MODEL",),
        "The model, an alias, or provider/model. Empty: the provider's own default.",
        dotenv=True,
    ),
    Field("system", "", str, ("HOLYCHAT_SYSTEM",), "The system prompt of every conversation."),
    Field(
        "title",
        "words",
        ("words", "model"),
        ("HOLYCHAT_TITLE",),
        "What a conversation in the terminal is called: its first words, or what the model says,"
        " which is one more request.",
    ),
    Field(
        "store",
        "",
        str,
        ("HOLYCHAT_STORE",),
        "The file that conversations are kept in. Empty: the usual one; none or off: nothing is"
        " kept.",
        clean=clean_store,
    ),
    Field(
        "proxy",
        "",
        str,
        ("HOLYCHAT_PROXY",),
        "An HTTP proxy, like http://proxy.example:3128.",
        dotenv=True,
        clean=clean_proxy,
    ),
    Field(
        "ca",
        "",
        str,
        ("HOLYCHAT_CA",),
        "A file of certificate authorities (PEM) to trust beside the public ones.",
        dotenv=True,
    ),
    Field(
        "on_cut",
        "continue",
        ("continue", "stop", "restart"),
        ("HOLYCHAT_ON_CUT",),
        "What becomes of an answer that breaks off: it is gone on with, left, or begun anew.",
    ),
    _seconds("connect", 10.0, "Seconds until the connection stands."),
    _seconds("headers", 60.0, "Seconds until the answer's headers."),
    _seconds("first", 120.0, "Seconds until the first token."),
    _seconds("gap", 60.0, "Seconds between two tokens."),
    Field(
        "failover.providers",
        "",
        str,
        ("HOLYCHAT_FAILOVER_PROVIDERS",),
        "Who is asked when a provider fails, in order, with commas. Empty: fallback, then each one"
        " with a key, unless the first is on this machine; none: nobody.",
    ),
    Field(
        "failover.attempts",
        2,
        int,
        ("HOLYCHAT_FAILOVER_ATTEMPTS",),
        "Attempts at one provider.",
        low=1,
        high=10,
    ),
    Field(
        "failover.most",
        3,
        int,
        ("HOLYCHAT_FAILOVER_MOST",),
        "Providers that are asked for one answer at most.",
        low=1,
        high=20,
    ),
    Field(
        "failover.wait",
        60.0,
        float,
        ("HOLYCHAT_FAILOVER_WAIT",),
        "Seconds that one answer waits between its attempts, in all.",
        low=0.0,
        high=3600.0,
    ),
    Field(
        "failover.hedge",
        default=False,
        type=bool,
        env=("HOLYCHAT_FAILOVER_HEDGE",),
        help="true: the next provider is asked too when the first is later than 19 times in 20,"
        " and the faster one answers. Both cost; one request in 20 at most.",
    ),
    _breaker("errors", 0.05, "The share of failed calls above which a provider rests.", 0.0, 1.0),
    _breaker("calls", 10, "Calls within the window before that share counts.", 1, 200),
    _breaker("row", 3, "Failures in a row after which it rests too. 0: never.", 0, 200),
    _breaker(
        "slow",
        0.5,
        "It rests too when all answers begin later than this, in seconds, for a whole window."
        " 0: never.",
        0.0,
        LONGEST,
    ),
    _breaker("window", 60.0, "Seconds that are looked back on.", 1.0, 3600.0),
    _breaker(
        "cooldown",
        30.0,
        "Seconds of its first rest; each trial that fails doubles them.",
        0.001,
        LONGEST,
    ),
    _breaker("longest", 600.0, "Seconds that it rests at most.", 0.001, LONGEST),
    _migrate("sample", 30, "Answers of either provider before a stage is judged.", 1, 1e6),
    _migrate("errors", 0.02, "How much larger the share of failed calls may be.", 0.0, 1.0),
    _migrate("slower", 0.25, "How much later or dearer the new one may be, as a share.", 0.0, 1e6),
    _migrate("settle", 48.0, "Hours at 100 % before it may be finished.", 0.0, 8760.0),
    _migrate("look", 60.0, "Seconds between two looks at the errors of the new one.", 0.0, LONGEST),
    Field(
        "context.policy",
        "trim",
        ("trim", "stop", "summarize"),
        ("HOLYCHAT_CONTEXT",),
        "What becomes of a conversation that is longer than the model's window: the oldest turns"
        " are left out, nothing is sent, or what is left out is summarised.",
    ),
    Field(
        "context.reserve",
        0,
        int,
        ("HOLYCHAT_CONTEXT_RESERVE",),
        "Tokens of the window that are kept free for the answer. 0: max_tokens, else what the"
        " model's longest answer takes, a quarter of the window at most.",
        low=0,
        high=1e9,
    ),
    Field(
        "context.model",
        "",
        str,
        ("HOLYCHAT_CONTEXT_MODEL",),
        "The model that summarises, an alias or provider/model. Empty: that of the conversation.",
    ),
    _limit("answer", "an answer"),
    _limit("conversation", "a conversation"),
    _limit("day", "all of a day"),
    _limit("month", "all of a month"),
    Field(
        "limits.hold",
        default=True,
        type=bool,
        env=("HOLYCHAT_LIMITS",),
        help="false: the limits are shown, and nothing is refused.",
    ),
    Field(
        "money.currency",
        "USD",
        str,
        ("HOLYCHAT_CURRENCY",),
        "The currency in which costs are shown; one that [money.rates] names.",
        clean=clean_currency,
    ),
    Field(
        "ui.reasoning",
        "show",
        ("show", "hide"),
        ("HOLYCHAT_REASONING",),
        "Whether a model's reasoning is shown while it comes.",
    ),
    Field(
        "ui.panel",
        "rules",
        ("rules", "bar", "none"),
        ("HOLYCHAT_PANEL",),
        "What frames an answer: rules above and below, a bar at its left, nothing.",
    ),
    Field(
        "ui.theme",
        "calm",
        ("calm", "warm"),
        ("HOLYCHAT_THEME",),
        "The colours: both are made of the terminal's own sixteen.",
    ),
    Field("ui.keys", "emacs", ("emacs", "vi"), ("HOLYCHAT_KEYS",), "The keys of the line editor."),
    Field(
        "ui.multiline",
        default=False,
        type=bool,
        env=("HOLYCHAT_MULTILINE",),
        help="true: Enter adds a line, and Esc-Enter sends.",
    ),
    Field(
        "ui.fps",
        20,
        int,
        ("HOLYCHAT_FPS",),
        "Repaints a second while an answer streams.",
        low=5,
        high=30,
    ),
)

# `{}` is the provider's name in capitals, as in its key's variable.
PROVIDER_FIELDS: tuple[Field, ...] = (
    Field(
        "base_url",
        "",
        str,
        ("{}_BASE_URL",),
        "The address up to /chat/completions.",
        dotenv=True,
        clean=clean_url,
    ),
    Field("model", "", str, (), "The default model."),
    Field("api_key", "", str, ("{}_API_KEY",), "The key itself.", dotenv=True),
    Field("key_file", "", str, (), "A file that holds the key."),
    Field("key_command", "", str, (), 'A command that prints the key, like "pass show holysheep".'),
    Field("dialect", "plain", tuple(QUIRKS), (), "Where the server differs from OpenAI's form."),
    Field(
        "needs_key",
        default=True,
        type=bool,
        env=(),
        help="Whether it wants a key. An own provider on loopback does not.",
    ),
    Field("headers", {}, dict, (), "More HTTP headers, sent with every request."),
    Field("proxy", "", str, (), "As `proxy`, for this provider.", clean=clean_proxy),
    Field("ca", "", str, (), "As `ca`, for this provider."),
    Field(
        "enabled",
        default=True,
        type=bool,
        env=("ENABLE_{}",),
        help="false: as if the provider were not there.",
        dotenv=True,
    ),
    Field(
        "requests_per_minute",
        0,
        int,
        (),
        "Requests that all holychats here send it in a minute. 0: as many as it takes.",
        low=0,
        high=1e6,
    ),
    Field(
        "tokens_per_minute",
        0,
        int,
        (),
        "Tokens of prompts and answers in a minute. 0: as many as it takes.",
        low=0,
        high=1e12,
    ),
    Field(
        "streams",
        5,
        int,
        (),
        "Answers that stream from it at once; further ones wait their turn. 0: any number.",
        low=0,
        high=1000,
    ),
)

# What [prices."PROVIDER/MODEL"] may say; what it leaves out stays as in holychat's own list.
PRICE_FIELDS: tuple[Field, ...] = (
    Field("input", "", object, (), "For a million tokens of the prompt.", clean=clean_price),
    Field("cached", "", object, (), "For a million of those from a cache.", clean=clean_price),
    Field("output", "", object, (), "For a million tokens of the answer.", clean=clean_price),
    Field("currency", "USD", str, (), "That of these prices.", clean=clean_currency),
    Field("window", 0, int, (), "Tokens that the model takes in.", low=1, high=1e12),
    Field("max_output", 0, int, (), "Tokens of its longest answer.", low=1, high=1e12),
)

BY_NAME = {field.name: field for field in FIELDS}
BY_PROVIDER_NAME = {field.name: field for field in PROVIDER_FIELDS}
BY_PRICE_NAME = {field.name: field for field in PRICE_FIELDS}
GROUPS = frozenset(name.partition(".")[0] for name in BY_NAME if "." in name)
HEADER = Field("headers.*", "", str, (), "One HTTP header.")
# The free tables: any name, one kind of value.
FREE = {
    "params": Field("params.*", None, object, (), "Sent with every request."),
    "aliases": Field("aliases.*", "", str, (), "A short name for a model."),
    "split": Field(
        "split.*",
        0.0,
        float,
        (),
        "A provider's weight in the split of the traffic.",
        low=0.0,
        high=1e6,
    ),
    "prices": Field("prices.*", None, object, (), "What a model costs."),
}
RATE = Field("money.rates.*", "", object, (), "How much one US dollar buys.", clean=clean_rate)
NESTED = {("money", "rates")}  # the table that a group holds
RESERVED_PARAMS = ("model", "messages", "stream")  # holychat's own part of a request


# --- Names --------------------------------------------------------------------------------------

Keys = tuple[str, ...]


def keys_of(name: str) -> Keys:
    """The place of a dotted name in the file: `providers.my.box.model` has three parts."""
    top, _, rest = name.partition(".")
    if top == "providers":
        who, _, header = rest.partition(".headers.")
        if header:
            return (top, who, "headers", header)
    for table, known in (("providers", BY_PROVIDER_NAME), ("prices", BY_PRICE_NAME)):
        who, dot, last = rest.rpartition(".")
        if top == table and dot and last in known:
            return (top, who, last)
    group, dot, last = rest.partition(".")
    if dot and (top, group) in NESTED:
        return (top, group, last)
    return (top, rest) if rest else (top,)


def is_table(keys: Keys) -> bool:
    """Whether tables stand at that place, and no value."""
    if len(keys) == 1:
        return keys[0] in FREE or keys[0] in GROUPS or keys[0] == "providers"
    return keys in NESTED or (len(keys) == 2 and keys[0] in ("providers", "prices"))


def field_of(keys: Keys) -> Field:
    """The row that judges the value at `keys`. Raises ValueError for an unknown place."""
    match keys:
        case ("params", name) if name in RESERVED_PARAMS:
            raise ValueError("is not a parameter: holychat sets it itself")
        case ("params" | "aliases" | "split", name) if name:
            return FREE[keys[0]]
        case ("prices", model, name) if model and name in BY_PRICE_NAME:
            return BY_PRICE_NAME[name]
        case ("money", "rates", currency):
            check_measured(currency)
            return RATE
        case ("providers", who, name) if name in BY_PROVIDER_NAME:
            check_provider_name(who)
            return BY_PROVIDER_NAME[name]
        case ("providers", who, "headers", _):
            check_provider_name(who)
            return HEADER
    name = ".".join(keys)
    if name in BY_NAME:
        return BY_NAME[name]
    raise ValueError("is unknown" + did_you_mean(name, known_names(keys)))


def known_names(keys: Keys) -> list[str]:
    """What could have been meant at `keys`, in dotted form."""
    if keys[0] == "providers" and len(keys) > 1:
        # A name too many or too few: `providers.box.modle`, or written flat as one.
        who = keys[1] if len(keys) > 2 else keys[1].rpartition(".")[0] or keys[1]
        return [f"providers.{who}.{field.name}" for field in PROVIDER_FIELDS]
    if keys[0] == "prices" and len(keys) > 1:
        return [f"prices.{keys[1]}.{field.name}" for field in PRICE_FIELDS]
    return [*BY_NAME, *FREE, *sorted(GROUPS), "providers"]


def check_provider_name(name: str) -> None:
    """A provider's name becomes part of environment names and of `provider/model`."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (plain.isascii() and plain.isalnum()):
        raise ValueError("must be named with letters, digits, '-', '_' and '.' only")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?`, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


# --- One value ----------------------------------------------------------------------------------

_A: dict[object, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table of strings",
    object: "a string, a number, true, false or an array of them",
}
_WORDS = {"true": True, "1": True, "yes": True, "on": True}
_WORDS |= {"false": False, "0": False, "no": False, "off": False}


def fit(field: Field, raw: Any) -> Any:
    """`raw`, as TOML or a caller gives it, as the field's value."""
    if isinstance(raw, Secret):
        raw = raw.reveal()
    if isinstance(field.type, tuple):
        if raw not in field.type:
            near = did_you_mean(raw, field.type) if isinstance(raw, str) else ""
            raise ValueError(f"must be one of {', '.join(field.type)}{near}")
        return raw
    if field.type is object and field.clean is not None:
        return field.clean(raw)
    if not _is_a(field.type, raw):
        raise ValueError(f"must be {_A[field.type]}")
    if field.type in (int, float) and not field.low <= raw <= field.high:
        raise ValueError(f"must be from {field.low:g} to {field.high:g}")
    if field.clean is not None:
        raw = field.clean(raw)
    return float(raw) if field.type is float else raw


def _is_a(kind: type, raw: Any) -> bool:
    if kind is object:
        items = raw if isinstance(raw, list) else [raw]
        return all(isinstance(item, str | int | float) and _finite(item) for item in items)
    if kind is dict:
        return isinstance(raw, dict) and all(isinstance(item, str) for item in raw.values())
    if isinstance(raw, bool):  # which Python counts among the integers
        return kind is bool
    return isinstance(raw, (int, float) if kind is float else kind)


def _finite(item: object) -> bool:
    """JSON has no word for the others."""
    return not isinstance(item, float) or isfinite(item)


def parse(field: Field, text: str) -> Any:
    """A text, from the environment or the command line, as the field's value."""
    if field.type is object:
        return fit(field, _scalar(text))
    if field.type is dict:
        raise ValueError("must be set one header at a time, as headers.NAME")
    if field.type is bool:
        word = text.strip().lower()
        if word not in _WORDS:
            raise ValueError("must be true or false (or 1, 0, yes, no, on, off)")
        return _WORDS[word]
    if field.type in (int, float):
        try:
            return fit(field, field.type(text))
        except ValueError as error:
            if str(error).startswith("must"):
                raise
            raise ValueError(f"must be {_A[field.type]}") from error
    return fit(field, text.strip() if isinstance(field.type, tuple) else text)


def _scalar(text: str) -> Any:
    """`0.5`, `true`, `[1, 2]` as TOML reads them, anything else as the string that it is."""
    import tomllib

    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = table["value"]
    return value if len(table) == 1 and isinstance(value, str | int | float | list) else text
