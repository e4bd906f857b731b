"""Who said what: the layers, the highest one that speaks, and where exactly it was said.

Owns `Layer`, `Source` and the search of one field through the layers; judges every value on the
way. Must not know what a provider is or whom a `.env` may lead where: `providers` decides that,
and says with `dotenv=False` that it is not to be asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holychat.core.failure import HolychatError, SettingsError, UsageError
from holychat.settings.fields import Field, Keys, field_of, fit, is_table, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holychat.settings.files import ConfigFile, DotEnv


class Layer(IntEnum):
    """Who said it; a higher one wins."""

    DEFAULT = 0
    CONFIG = 1
    DOTENV = 2
    ENVIRON = 3
    FLAG = 4


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: `--model`, `HOLYCHAT_MODEL`, `.env:3`, `config.toml:12`."""

    layer: Layer
    where: str

    def __str__(self) -> str:
        return f"environment {self.where}" if self.layer is Layer.ENVIRON else self.where


@dataclass(frozen=True, slots=True)
class Value:
    """A value and who said it. Keys are `Secret`."""

    value: Any
    source: Source


class Found(NamedTuple):
    """A `Value` before anybody asked for its line: that of a config is `keys` until then.

    A tuple, because every start makes a hundred of them.
    """

    layer: Layer
    value: Any
    where: str = ""
    keys: Keys = ()


class Layers:
    """Flags, environment, `.env` and config (as `checked` gave it), each value judged."""

    __slots__ = ("config", "cwd", "dotenv", "environ", "flags", "given")

    def __init__(
        self,
        flags: Mapping[str, Any],
        environ: Mapping[str, str],
        dotenv: DotEnv,
        config: ConfigFile,
        given: dict[Keys, Any],
        cwd: Path,
    ) -> None:
        self.flags = {name: value for name, value in flags.items() if value is not None}
        self.environ = environ
        self.dotenv = dotenv
        self.config = config
        self.cwd = cwd
        self.given = given

    def find(
        self, field: Field, keys: Keys, env: tuple[str, ...], *, dotenv: bool = True
    ) -> Found | None:
        """What the highest layer says; None where only the default is left. White space alone
        says nothing. Raises SettingsError, or UsageError for a flag, if it does not fit."""
        if (name := ".".join(keys)) in self.flags:
            where = "--timeout" if keys[0] == "timeouts" else f"--{keys[-1]}"
            value = _judged(fit, field, self.flags[name], where, UsageError)
            return Found(Layer.FLAG, value, where)
        for variable in env:
            text = self.environ.get(variable, "")
            if text and not text.isspace():
                return Found(Layer.ENVIRON, _judged(parse, field, text, variable), variable)
        for variable in env if dotenv and field.dotenv else ():
            if said := self.from_dotenv(variable):
                text, where = said
                value = _judged(parse, field, text, f"{where}: {variable}")
                return Found(Layer.DOTENV, value, where)
        if keys in self.given:
            return Found(Layer.CONFIG, self.given[keys], keys=keys)
        return None

    def from_dotenv(self, variable: str) -> tuple[str, str] | None:
        """(text, `.env:LINE`) of a name that says something there."""
        text, line = self.dotenv.values.get(variable, ("", 0))
        return (text, f".env:{line}") if text and not text.isspace() else None

    def source(self, found: Found) -> Source:
        where = self.config.where(found.keys) if found.keys else found.where or "default"
        return Source(found.layer, where)

    def error(self, found: Found, what: str, hint: str = "") -> SettingsError:
        """The error that `what` about a value, said at the place of the value."""
        if found.keys:
            at = f"{self.config.path}:{self.config.line(found.keys)}: "
        else:
            at = f"{found.where}: " if found.where else ""
        return SettingsError(f"{at}{what}", hint)

    def file(self, found: Found) -> Path:
        """A path that somebody wrote: from the config's folder if it stands there, else from the
        working directory."""
        base = self.config.path.parent if found.layer is Layer.CONFIG else self.cwd
        return base / expanded(found.value, self.environ)


def expanded(path: str, environ: Mapping[str, str]) -> str:
    """With the home folder for a leading `~`."""
    if path != "~" and not path.startswith("~/"):
        return path
    home = environ.get("HOME", "")
    return (home if home.startswith("/") else str(Path.home())) + path[1:]


def _judged(
    how: Callable[[Field, Any], Any],
    field: Field,
    raw: Any,
    where: str,
    kind: type[HolychatError] = SettingsError,
) -> Any:
    try:
        return how(field, raw)
    except ValueError as error:
        raise kind(f"{where} {error}") from error


def checked(config: ConfigFile) -> dict[Keys, Any]:
    """Every value of the file by its place. Raises SettingsError with the line of the first one
    that is unknown or does not fit."""
    given: dict[Keys, Any] = {}
    for key, raw in config.table.items():
        _check(config, (key,), raw, given)
    return given


def _check(config: ConfigFile, keys: Keys, raw: Any, given: dict[Keys, Any]) -> None:
    if is_table(keys):
        if not isinstance(raw, dict):
            raise config.error(keys, "must be a table")
        for key, inner in raw.items():
            _check(config, (*keys, key), inner, given)
        return
    try:
        given[keys] = fit(field_of(keys), raw)
    except ValueError as error:
        raise config.error(keys, str(error)) from error
