"""What holychat is told, by whom, and whom it believes.

    fields     what can be set and what fits: one row a setting
    files      config.toml and .env as they are read, with lines; how the former is written
    layers     flags > environment > .env > config.toml > defaults, each value with its source
    providers  the providers by the layers, and the law of keys
    notices    what the user should know about all that

This file owns `Settings`, which ties them, and the choice of a provider when nobody made one.
Must not read `os.environ`, write to a stream or know a network. Nothing outside imports the files
beside it. It is on the way of every `ask`: what is not needed is not imported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holychat.core.failure import SettingsError
from holychat.core.provider import DEFAULT_PROVIDER, DEMO, Provider, Secret
from holychat.core.sanitize import one_line
from holychat.settings.fields import (
    FIELDS,
    FREE,
    NESTED,
    PROVIDER_FIELDS,
    Field,
    Keys,
    field_of,
    fit,
    keys_of,
    parse,
)
from holychat.settings.files import read_config, read_dotenv, rewrite, save
from holychat.settings.layers import Found, Layer, Layers, Source, Value, checked, expanded
from holychat.settings.notices import NOT_FROM_DOTENV, notices
from holychat.settings.providers import NETWORK, Providers, known, prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "FIELDS",
    "PROVIDER_FIELDS",
    "Field",
    "Layer",
    "Settings",
    "Source",
    "Value",
    "config_path",
    "load",
    "parsed",
    "save",
    "write",
]

FALLBACK = "fallback"  # the second provider of the seed documents: first in line on a rollback


class Settings:
    """Everything that was said, resolved; nothing in it changes.

    Making one raises SettingsError (UsageError for a flag) if any layer holds a value that does
    not fit: a mistake is told before it matters. `path` is the config file, which may not exist;
    `notices` are lines for the user, without secrets.
    """

    __slots__ = ("_fields", "_layers", "_providers", "notices", "path")

    def __init__(self, layers: Layers, providers: Providers) -> None:
        self.path = layers.config.path
        self._layers = layers
        self._providers = providers
        self._fields = {field.name: self._field(field) for field in FIELDS}
        for name in layers.flags:
            self._place(name)
        for keys in layers.given:
            if keys[0] == "split":
                self._weighed(keys)
        for who in self.names():
            if not providers.get(who, "base_url").value:
                raise providers.no_address(who)
        lines = (
            *notices(providers, self.names()),
            *self._switched(),
            *self._left_out(),
            *self._unmeasured(),
        )
        self.notices: tuple[str, ...] = tuple(one_line(line) for line in lines)

    # --- Values -----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        found = self._fields.get(name)
        return found.value if found else self.value(name).value

    def value(self, name: str) -> Value:
        """The value of a dotted name, also `providers.NAME.FIELD`, `params.X`, `aliases.X`.

        Raises SettingsError for an unknown name.
        """
        found = self._place(name)
        return Value(found.value, self._layers.source(found))

    def rows(self) -> list[tuple[str, str, str]]:
        """(name, shown value, source) of every field, and of all else that is set.

        No secret is shown, nor a header's value or the password of a proxy.
        """
        names = [field.name for field in FIELDS]
        names += [
            f"providers.{who}.{field.name}"
            for who in self._providers.rows
            for field in PROVIDER_FIELDS
            if self._providers.get(who, field.name).layer > Layer.DEFAULT
        ]
        given = self._layers.given
        names += [".".join(keys) for keys in given if keys[0] in FREE or keys[:2] in NESTED]
        return [self.row(name) for name in names]

    def row(self, name: str) -> tuple[str, str, str]:
        """(name, shown value, source) of one name, as in `rows`."""
        value = self.value(name)
        return name, _shown(keys_of(name), value.value), str(value.source)

    @property
    def params(self) -> dict[str, object]:
        """The [params] table: what goes into every request."""
        return self._free("params")

    @property
    def aliases(self) -> dict[str, str]:
        """The [aliases] table: short name -> `provider/model` or `model`."""
        return self._free("aliases")

    @property
    def split(self) -> dict[str, float]:
        """The [split] table: the weights of the providers, in the order of the file. Without
        those that are switched off or have no key."""
        weights = {self.canonical(name): weight for name, weight in self._free("split").items()}
        return {
            name: weight
            for name, weight in weights.items()
            if self._providers.enabled(name) and self.has_key(name)
        }

    @property
    def prices(self) -> dict[str, dict[str, Any]]:
        """The [prices] table: `provider/model` or `model` -> what is said of it, prices as text."""
        tables: dict[str, dict[str, Any]] = {}
        for keys, value in self._layers.given.items():
            if keys[0] == "prices":
                tables.setdefault(keys[1], {})[keys[2]] = value
        return tables

    def cash(self, pico: int | None) -> str:
        """A sum of 10^-12 US dollars in the user's currency; "?" for None."""
        from holychat.core.price import exact_of, money

        exchange = {name: exact_of(value, 12) for name, value in self.rates.items()}
        return money(pico, self["money.currency"], exchange)

    @property
    def rates(self) -> dict[str, str]:
        """The [money.rates] table: currency -> how much of it one US dollar buys, as text."""
        given = self._layers.given
        return {keys[2].upper(): value for keys, value in given.items() if keys[:2] in NESTED}

    @property
    def written(self) -> str:
        """Who is asked by the config file alone, as it stands there: to see that it was changed."""
        said = [str(self._layers.given.get(("provider",), ""))]
        return "|".join(
            [*said, *(f"{name}={value}" for name, value in self._free("split").items())]
        )

    def _weighed(self, keys: Keys) -> None:
        """Raises SettingsError where a weight is that of nobody."""
        try:
            self.canonical(keys[1])
        except SettingsError as error:
            found = Found(Layer.CONFIG, None, keys=keys)
            raise self._layers.error(found, f"[split]: {error.what}", error.hint) from error

    def _free(self, table: str) -> dict[str, Any]:
        given = self._layers.given
        return {keys[1]: value for keys, value in given.items() if keys[0] == table}

    def _field(self, field: Field) -> Found:
        if field.name in NETWORK:  # a `.env` has a say in them for some providers only
            return self._providers.general(field.name)
        found = self._layers.find(field, tuple(field.name.split(".")), field.env)
        return found or Found(Layer.DEFAULT, field.default)

    def _place(self, name: str) -> Found:
        if name in self._fields:
            return self._fields[name]
        keys = keys_of(name)
        try:
            field = field_of(keys)
        except ValueError as error:
            raise SettingsError(f"{one_line(name)} {error}") from error
        if keys[0] != "providers":
            given = self._layers.given
            layer = Layer.CONFIG if keys in given else Layer.DEFAULT
            return Found(layer, given.get(keys, field.default), keys=keys if layer else ())
        who = self._providers.canonical(keys[1])
        if len(keys) == 3:
            return self._providers.get(who, field.name)
        headers = self._providers.get(who, "headers")
        if keys[3] not in headers.value:
            return Found(Layer.DEFAULT, field.default)
        return Found(headers.layer, headers.value[keys[3]], headers.where, headers.keys)

    # --- Providers --------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The enabled providers: the built-in ones in their order, then the user's own."""
        return [name for name in self._providers.rows if self._providers.enabled(name)]

    def canonical(self, name: str) -> str:
        """A provider's name as it is spelled here. Raises SettingsError for an unknown one."""
        return self._providers.canonical(name)

    def provider(self, name: str) -> Provider:
        """Everything about one provider. Raises SettingsError if it is unknown or disabled.

        A missing key is no error here (`has_key`); one that cannot be fetched is. Only this runs
        a key_command, once.
        """
        name = self.canonical(name)
        if not self._providers.enabled(name):
            by = self._layers.source(self._providers.get(name, "enabled"))
            raise SettingsError(f"the provider {name} is disabled ({by})")
        return self._providers.resolve(name)

    def has_key(self, name: str) -> bool:
        """Whether it can be asked: it has a key or needs none. Fetches nothing."""
        name = self.canonical(name)
        return not self._providers.needs_key(name) or self._providers.key(name) is not None

    def active(self) -> str:
        """The provider to ask when nobody says otherwise; it may lack a key.

        A choice that is disabled is passed over (that is the rollback), but not one by a flag.
        Raises SettingsError where the chosen one is unknown.
        """
        chosen = self._chosen()
        flag = self._fields["provider"].layer is Layer.FLAG
        usable = chosen and (flag or chosen in self.names())
        return chosen if usable else self._first_choice(self.names())

    def home(self) -> str:
        """Who the configured model is meant for, where it names nobody: who would be asked by what
        is said on its layer and below, had nobody been switched off.

        Raises SettingsError where that is unknown.
        """
        said = self._fields["provider"].value
        if self._fields["provider"].layer > self._fields["model"].layer:
            said = self._layers.given.get(("provider",), "")
        return self.canonical(said) if said.strip() else self._first_choice([*self._providers.rows])

    def _chosen(self) -> str:
        found = self._fields["provider"]
        try:
            return self.canonical(found.value) if found.value.strip() else ""
        except SettingsError as error:
            raise self._layers.error(found, error.what, error.hint) from error

    def _first_choice(self, names: list[str]) -> str:
        if DEFAULT_PROVIDER not in names:
            names.sort(key=lambda name: name != FALLBACK)
        for name in names:
            if self._providers.needs_key(name) and self.has_key(name):
                return name
        for name in names:
            # A server without a key is asked only if the user's own file speaks of it.
            mine = name in self._layers.config.table.get("providers", {}) and name != DEMO
            if mine and not self._providers.needs_key(name):
                return name
        return next(filter(self._providers.needs_key, names), DEFAULT_PROVIDER)

    def _switched(self) -> Iterator[str]:
        """A choice that is passed over; an unknown one is told by `active`."""
        try:
            chosen = self._chosen()
        except SettingsError:
            return
        if chosen and chosen != self.active():
            by = self._layers.source(self._providers.get(chosen, "enabled"))
            yield f"{chosen} is disabled ({by}): asking {self.active()} instead"

    def _left_out(self) -> Iterator[str]:
        """Who has a weight and no key. One that is switched off was switched off on purpose."""
        for name, weight in self._free("split").items():
            who = self.canonical(name)
            if weight and self._providers.enabled(who) and not self.has_key(who):
                by = self._layers.config.where(("split", name))
                yield f"{by}: {who} has no key, so it gets nothing of the split"

    def _unmeasured(self) -> Iterator[str]:
        """Currencies that nobody gave a rate for."""
        known = {"USD", *self.rates}
        places: dict[Keys, Found] = {(): self._fields["money.currency"]}
        for keys, value in self._layers.given.items():
            if keys[0] == "prices" and keys[2] == "currency":
                places[keys] = Found(Layer.CONFIG, value, keys=keys)
        for keys, found in places.items():
            if found.value not in known:
                so = f"the cost of {keys[1]} is not known" if keys else "costs are in dollars"
                by = self._layers.source(found)
                yield f"{by}: [money.rates] has no {found.value}, so {so}"


def _shown(keys: Keys, value: Any) -> str:
    if isinstance(value, Secret):
        return value.mask
    if "headers" in keys[2:]:
        return ", ".join(f"{name}: …" for name in value) if isinstance(value, dict) else "…"
    if keys[-1] == "proxy" and isinstance(value, str) and "@" in value:
        return f"http://…@{value.rpartition('@')[2]}"
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- From the outside ---------------------------------------------------------------------------


def load(
    *,
    environ: Mapping[str, str],
    cwd: Path,
    path: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    more: str = "",
) -> Settings:
    """Everything that holychat is told.

    `path` is the config file, by default the user's; `flags` has the names of FIELDS, and None is
    a flag that was not given. `more` is a provider that counts as if the file spoke of it: setup
    tries it before it writes. Raises SettingsError and UsageError.
    """
    config = read_config(path or config_path(environ))
    if more:
        config.table.setdefault("providers", {}).setdefault(more, {})
    given = checked(config)
    rows = known(config)
    dotenv = read_dotenv(cwd / ".env", set(_dotenv_names(rows)))
    layers = Layers(flags or {}, environ, dotenv, config, given, cwd)
    return Settings(layers, Providers(layers, rows))


def _dotenv_names(rows: Iterable[str]) -> Iterator[str]:
    """What is looked at in a `.env`; some of it only to say that it does not count."""
    yield from NOT_FROM_DOTENV
    for field in FIELDS:
        yield from field.env
    for who in rows:
        for field in PROVIDER_FIELDS:
            for name in field.env:
                yield name.format(prefix(who))


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the user's config is, or would be."""
    if own := environ.get("HOLYCHAT_CONFIG"):
        return Path(expanded(own, environ))
    if sys.platform.startswith("linux"):  # as platformdirs has it, which costs 10 ms
        base = environ.get("XDG_CONFIG_HOME", "")
        folder = base if base.startswith("/") else expanded("~/.config", environ)
        return Path(folder, "holychat", "config.toml")
    else:  # noqa: RET505  # mypy knows only this form of "another system"
        import platformdirs

        return Path(platformdirs.user_config_dir("holychat", appauthor=False), "config.toml")


def parsed(name: str, text: str) -> Any:
    """The value of a dotted name that a text means. Raises SettingsError."""
    try:
        return parse(field_of(keys_of(name)), text)
    except ValueError as error:
        raise SettingsError(f"{one_line(name)} {error}") from error


def write(path: Path, changes: Mapping[str, Any]) -> None:
    """Set dotted names in the config file; None removes one, `providers.NAME` a whole provider.

    Comments stay, the file is replaced at once and is readable by its owner only. Raises
    SettingsError for an unknown name or a value that does not fit, and then changes nothing.
    """
    places: dict[Keys, Any] = {}
    for name, value in changes.items():
        keys = keys_of(name)
        try:
            if value is not None:
                places[keys] = fit(field_of(keys), value)
                continue
            places[keys] = None
            # What is there can go, also a mistake; what is not there has to be a name at least.
            if not _holds(read_config(path).table, keys) and keys[:1] != ("providers",):
                field_of(keys)
        except ValueError as error:
            raise SettingsError(f"{one_line(name)} {error}") from error
    rewrite(path, places)


def _holds(table: Any, keys: Keys) -> bool:
    for key in keys:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True
