"""Which providers there are, and the law of keys.

**A key goes only where somebody who may send it there has said.** Flags, the environment and the
user's own config are the user's and combine freely. A `.env` in the working directory may be a
stranger's: its address, proxy or CA is used only with a key from that same file, and never
together with headers of the user's, which may hold a secret too.

Owns the resolving of a `Provider` and the fetching of its key. Must not choose one: `Settings`
does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holychat.core.failure import SettingsError, key_variable
from holychat.core.provider import BUILT_IN, Provider, Secret
from holychat.core.sanitize import one_line
from holychat.settings.fields import (
    BY_NAME,
    BY_PROVIDER_NAME,
    check_provider_name,
    did_you_mean,
)
from holychat.settings.layers import Found, Layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from holychat.settings.files import ConfigFile
    from holychat.settings.layers import Layers

KEY_SETTINGS = ("api_key", "key_file", "key_command")  # the first one that is set counts
NETWORK = ("proxy", "ca")  # what can be set for all providers, and for one
COMMAND_SECONDS = 30.0


def prefix(who: str) -> str:
    """What a provider's names in the environment start with."""
    return key_variable(who).removesuffix("_API_KEY")


def is_local(base_url: str) -> bool:
    return Provider("", base_url).local


def known(config: ConfigFile) -> dict[str, Provider]:
    """The built-in rows, then the user's own as bare ones, in their order.

    Raises SettingsError for two that share their names in the environment: one's key would go to
    the other.
    """
    rows = {row.name: row for row in BUILT_IN}
    taken = {prefix(name): name for name in rows}
    mine = config.table.get("providers", {})
    for name in mine:
        if name in rows:
            continue
        try:
            check_provider_name(name)
        except ValueError as error:
            raise config.error(("providers", name), str(error)) from error
        other = taken.setdefault(prefix(name), name)
        if other != name:
            fault = f"would share {key_variable(name)} with {other}: rename it"
            raise config.error(("providers", name), fault)
        rows[name] = Provider(name, "")
    return rows


class Providers:
    """The providers by the layers. Nothing changes, so what was resolved once is kept."""

    __slots__ = ("_kept", "_keys", "layers", "rows")

    def __init__(self, layers: Layers, rows: Mapping[str, Provider]) -> None:
        self.layers = layers
        self.rows = rows
        self._kept: dict[tuple[str, str], Found] = {}
        self._keys: dict[str, Secret] = {}

    def canonical(self, name: str) -> str:
        """The name as it is spelled here. Raises SettingsError for an unknown one."""
        name = name.strip()
        if name in self.rows:
            return name
        for known_name in self.rows:
            if known_name.lower() == name.lower():
                return known_name
        raise SettingsError(
            f'there is no provider "{one_line(name, 60)}"{did_you_mean(name, self.rows)}',
            f"Known are {', '.join(self.rows)}.",
        )

    def enabled(self, who: str) -> bool:
        return bool(self.get(who, "enabled").value)

    def needs_key(self, who: str) -> bool:
        found = self.get(who, "needs_key")
        if found.layer is Layer.DEFAULT and not self.rows[who].base_url:  # the user's own
            return not is_local(self.get(who, "base_url").value)
        return bool(found.value)

    def get(self, who: str, name: str) -> Found:
        """One field of a provider. Its address is the `.env`'s only if its key is too."""
        if (who, name) not in self._kept:
            self._kept[who, name] = self._get(who, name)
        return self._kept[who, name]

    def _get(self, who: str, name: str) -> Found:
        field = BY_PROVIDER_NAME[name]
        env = tuple(text.format(prefix(who)) for text in field.env)
        dotenv = name != "base_url" or self.trusts_dotenv(who)
        found = self.layers.find(field, ("providers", who, name), env, dotenv=dotenv)
        found = found or Found(Layer.DEFAULT, getattr(self.rows[who], name, field.default))
        if name == "api_key":
            return Found(found.layer, Secret(found.value), found.where, found.keys)
        return found

    def no_address(self, who: str) -> SettingsError:
        """The error of a provider of the user's own that lacks the one thing it must have."""
        built_in = [row.name for row in BUILT_IN]
        what = f"has no base_url{did_you_mean(who, built_in)}"
        return self.layers.config.error(("providers", who), what)

    def network(self, who: str, name: str) -> Found:
        """The proxy or CA of a provider: the higher layer, then what was said for it alone."""
        own = self.get(who, name)
        if name == "proxy" and is_local(self.get(who, "base_url").value):
            return own  # no proxy leads to this machine
        general = self.general(name, dotenv=self.trusts_dotenv(who))
        return own if own.layer and own.layer >= general.layer else general

    def general(self, name: str, *, dotenv: bool = False) -> Found:
        """The proxy or CA for all providers; without a key beside it, no `.env` has a say."""
        field = BY_NAME[name]
        found = self.layers.find(field, (name,), field.env, dotenv=dotenv)
        return found or Found(Layer.DEFAULT, field.default)

    def key(self, who: str) -> tuple[str, Found] | None:
        """Which of KEY_SETTINGS is in force, and what it says; nothing is fetched."""
        for name in KEY_SETTINGS:
            found = self.get(who, name)
            if found.value:
                return name, found
        return None

    def trusts_dotenv(self, who: str) -> bool:
        """Whether the key in force is the `.env`'s own, so that its address may have it."""
        key = self.key(who)
        return key is not None and key[1].layer is Layer.DOTENV

    def foreign(self, who: str) -> bool:
        """Whether a `.env` has a say in where the requests go."""
        ways = (self.get(who, "base_url"), *(self.network(who, name) for name in NETWORK))
        return any(way.layer is Layer.DOTENV for way in ways)

    def resolve(self, who: str) -> Provider:
        """Everything about one provider; a key that cannot be fetched is a SettingsError."""
        ca = self.network(who, "ca")
        return Provider(
            name=who,
            base_url=self.get(who, "base_url").value,
            model=self.get(who, "model").value,
            key=self.secret(who),
            dialect=self.get(who, "dialect").value,
            needs_key=self.needs_key(who),
            headers={} if self.foreign(who) else dict(self.get(who, "headers").value),
            proxy=self.network(who, "proxy").value,
            ca=str(self.layers.file(ca)) if ca.value else "",
        )

    def secret(self, who: str) -> Secret:
        """The key itself, fetched once; an empty one where none is set."""
        if who not in self._keys:
            key = self.key(who)
            self._keys[who] = self._fetch(who, *key) if key else Secret()
        return self._keys[who]

    def _fetch(self, who: str, name: str, found: Found) -> Secret:
        try:
            secret = self._fetched(name, found)
        except (OSError, ValueError) as error:
            why = str(error)
            if isinstance(error, OSError):
                why = error.strerror or why
            elif isinstance(error, UnicodeError):  # whose text quotes the key
                why = "it is not UTF-8"
            raise self.layers.error(found, f"providers.{who}.{name} failed: {why}") from None
        text = secret.reveal()
        if not text or not text.isascii() or not text.isprintable():
            fault = "holds characters that no key has" if text else "is empty"
            raise self.layers.error(found, f"the key of {who} {fault}")
        return secret

    def _fetched(self, name: str, found: Found) -> Secret:
        if name == "api_key":
            return Secret(found.value.reveal())
        if name == "key_file":
            return Secret(self.layers.file(found).read_text(encoding="utf-8-sig"))
        folder = self.layers.config.path.parent
        return Secret(run_key_command(found.value, self.layers.environ, folder))


def run_key_command(command: str, environ: Mapping[str, str], folder: Path) -> str:
    """The first line that the command prints. Raises OSError or ValueError, which never quote it.

    No shell. Not in the working directory, which may be a stranger's: a tool like git would read
    its settings there. stdin is not its business, there may be a prompt on it; whoever has to ask
    a pass phrase opens the terminal itself.
    """
    import shlex
    import subprocess

    words = shlex.split(command, posix=os.name != "nt")
    if not words:
        raise ValueError("it names no program")
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environ),
        cwd=folder if folder.is_dir() else None,
    ) as process:
        try:
            out, err = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            _abandon(process)
            raise ValueError(f"no answer within {COMMAND_SECONDS:g} s") from None
        except BaseException:
            _abandon(process)
            raise
    if process.returncode != 0:
        said = one_line(err.decode("utf-8", "replace").strip().rpartition("\n")[2], 200)
        raise ValueError(f"exit status {process.returncode}" + (f": {said}" if said else ""))
    return out.decode("utf-8").partition("\n")[0]


def _abandon(process: Any) -> None:
    """Kill it, and do not wait for children of its own that hold the pipes open."""
    process.kill()
    for pipe in (process.stdout, process.stderr):
        pipe.close()
