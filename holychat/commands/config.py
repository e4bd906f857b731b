"""`holychat config`: where the settings are, which hold and why, and how to change them.

Owns the looks of these listings, the template of a new file and the call of the editor. Must not
judge a value or touch the file's text: `settings` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holychat import settings as rules
from holychat.core.failure import SettingsError, UsageError
from holychat.core.provider import BUILT_IN, DEFAULT_PROVIDER
from holychat.core.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from holychat.settings import Field, Settings

LONGEST = 48  # characters of a value in a column; `config get` prints all of it
EDITORS = ("nano", "vi") if os.name != "nt" else ("notepad",)


def path(settings: Settings | Path) -> None:
    """Print where the config file is, also if it is not there yet."""
    from holychat import env

    env.out(str(_file(settings)))


def _file(settings: Settings | Path) -> Path:
    """Of settings, or the path itself where the file is too broken for settings."""
    return settings.path if isinstance(settings, rules.Settings) else settings


def show(settings: Settings, json: bool) -> None:
    """Print every setting with its value and who said it; secrets masked."""
    from holychat import env

    rows = settings.rows()
    if json:
        from json import dumps

        keys = ("name", "value", "source")
        listing = [dict(zip(keys, row, strict=True)) for row in rows]
        env.out(dumps(listing, ensure_ascii=False, indent=2))
        return
    env.out("\n".join(columns(rows)))


def columns(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Aligned; a long value is cut, an empty one shows as a dash."""
    table = [(name, one_line(value, LONGEST) or "-", source) for name, value, source in rows]
    first, second = (max((len(row[at]) for row in table), default=0) for at in (0, 1))
    return [f"{name:<{first}}  {value:<{second}}  {source}" for name, value, source in table]


def get(settings: Settings, name: str) -> None:
    """Print the value of one setting, secrets masked."""
    from holychat import env

    try:
        _, shown, _ = settings.row(name)
    except SettingsError as error:
        raise UsageError(error.what, error.hint) from error
    env.out(shown)


def set_(settings: Settings | Path, name: str, value_text: str) -> None:
    """Write one setting to the config file, and say so if something outranks it."""
    from holychat import env

    file = _file(settings)
    value = rules.parsed(name, value_text)
    if isinstance(settings, rules.Settings) and name == "provider" and value:
        value = settings.canonical(value)  # a mistyped one would stop the next start
    rules.write(file, {name: value})
    env.err(f"{name} is set in {file}")
    if isinstance(settings, rules.Settings) and (above := _outranking(settings, name)):
        env.err(f"but {above} says something else, and counts")


def _outranking(settings: Settings, name: str) -> str:
    """Who speaks above the config file, if anybody does."""
    try:
        source = settings.value(name).source
    except SettingsError:
        return ""  # a provider that did not exist until now
    return str(source) if source.layer > rules.Layer.CONFIG else ""


def edit(settings: Settings | Path, environ: Mapping[str, str]) -> int:
    """Open the config file in the user's editor, and look at it afterwards.

    Returns the exit code. What was written stays, also if it is wrong: then SettingsError says
    where.
    """
    import subprocess
    from pathlib import Path

    from holychat import env

    file = _file(settings)
    if not file.exists():
        try:
            rules.save(file, template())
        except OSError as error:
            raise SettingsError(f"{file}: cannot be made: {error.strerror}") from error
    command = editor(environ)
    try:
        status = subprocess.run([*command, str(file)], check=False).returncode
    except OSError as error:
        raise UsageError(
            f"the editor {command[0]} does not start: {error.strerror}", "Set EDITOR to another."
        ) from error
    if status != 0:
        env.err(f"{command[0]} ended with status {status}")
        return 1
    try:
        rules.load(environ=environ, cwd=Path.cwd(), path=file)
    except SettingsError as error:
        again = "Your changes are kept; `holychat config edit` opens them again."
        raise SettingsError(error.what, f"{error.hint} {again}".strip()) from error
    return 0


def editor(environ: Mapping[str, str]) -> list[str]:
    """The words of $VISUAL, $EDITOR or what is there. Raises UsageError."""
    import shlex
    from shutil import which

    for name in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(environ.get(name, ""), posix=os.name != "nt")
        except ValueError as error:
            raise UsageError(f"{name} cannot be understood: {error}") from error
        if words:
            return words
    for program in EDITORS:
        if found := which(program, path=environ.get("PATH")):
            return [found]
    raise UsageError("there is no editor", "Set EDITOR to one.")


# --- The template -------------------------------------------------------------------------------

_HEAD = """\
# holychat's settings. Everything here is optional, and what is commented out is the default.
#
# Flags come before the environment, that before a .env in the working directory, that before this
# file. `holychat config show` prints what holds and who said it, `holychat config path` where this
# file belongs.
"""
_PROVIDERS = (
    "Providers. Built in are {names}. A key is best left to the environment ({key}) or to"
    " key_command; a file with an api_key should be readable by you only (0600). A base_url, proxy"
    " or CA from a .env is used only with a key from that same .env. In the environment a provider"
    " is written in capitals, with _ for - and for a dot."
)
_OWN = "One of your own needs no more than this; on this machine it needs no key either."
_PARAMS = "Sent with every request."
_ALIASES = "Short names for models: `holychat -m fast`."
_RATES = "How much of a currency one US dollar buys, for prices in it and for costs shown in it."
_PRICES = (
    "What a model costs for a million tokens where you know better than holychat's own list; the"
    " name without PROVIDER/ means it at all of them. What is left out stays as listed. input and"
    " output are needed for a model that is not in the list, and where the currency is another;"
    " window and max_output are tokens."
)

# What the template shows where the default is empty or says too little.
_SHOWN = {
    "base_url": "https://api.holysheep.ai/v1",
    "model": "deepseek-chat",
    "api_key": "hs-...",
    "key_file": "~/.config/holychat/holysheep.key",
    "key_command": "pass show holysheep",
    "headers": {"X-Team": "docs"},
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "providers.box": {"base_url": "http://127.0.0.1:8001/v1", "model": "qwen3"},
    "params": {"temperature": 0.7, "max_tokens": 2048},
    "aliases": {"fast": "groq/llama-3.3-70b-versatile"},
    "money.rates": {"CNY": 7.1},
    'prices."openai/gpt-4.1"': {"input": "1.80", "cached": "0.45", "output": "7.20"},
}


def template() -> str:
    """A config file in which everything is named, explained and commented out.

    The tables stand open, so that a line can be uncommented alone. `config.example.toml` is this
    text; a test holds it to that.
    """
    out = [_HEAD]
    table = ""
    for field in rules.FIELDS:
        group, _, name = field.name.rpartition(".")
        if group != table:
            out.append(f"[{group}]\n")
            table = group
        out.append(_entry(field, name or field.name, field.default, field.env))
    names = ", ".join(row.name for row in BUILT_IN)
    key = f"{DEFAULT_PROVIDER.upper()}_API_KEY"
    out.append(_comment(_PROVIDERS.format(names=names, key=key)))
    out.append(f"[providers.{DEFAULT_PROVIDER}]\n")
    for field in rules.PROVIDER_FIELDS:
        env = tuple(text.format(DEFAULT_PROVIDER.upper()) for text in field.env)
        out.append(_entry(field, field.name, _SHOWN.get(field.name, field.default), env))
    texts = (_OWN, _PARAMS, _ALIASES, _RATES, _PRICES)
    for text, name in zip(texts, _EXAMPLES, strict=True):
        header = f"[{name}]\n" if "." not in name else f"# [{name}]\n"
        lines = [f"# {key} = {_toml(value)}\n" for key, value in _EXAMPLES[name].items()]
        out.append(_comment(text) + header + "".join(lines))
    return "\n".join(out)


def _comment(text: str) -> str:
    from textwrap import fill

    return fill(text, 100, initial_indent="# ", subsequent_indent="# ") + "\n"


def _entry(field: Field, name: str, value: Any, env: tuple[str, ...]) -> str:
    choices = f" One of {', '.join(field.type)}." if isinstance(field.type, tuple) else ""
    bounds = f" From {field.low:g} to {field.high:g}." if field.type is int else ""
    also = f" ({', '.join(env)})" if env else ""
    return _comment(f"{field.help}{choices}{bounds}{also}") + f"# {name} = {_toml(value)}\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
