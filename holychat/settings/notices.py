"""One line for everything about the settings that the user should know and did not ask.

Owns the wording and the conditions. Must not decide anything: what is refused was refused in
`providers`. No line holds a value that may be secret.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holychat.core.failure import key_variable
from holychat.core.provider import DEFAULT_PROVIDER
from holychat.settings.fields import FIELDS
from holychat.settings.layers import Layer
from holychat.settings.providers import NETWORK, is_local, prefix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holychat.settings.providers import Providers

USUAL_KEYS = ("hs-", "sk-")  # how HolySheep's keys start, by the seed documents
OTHERS = ("HOLYCHAT_CONFIG",)  # read elsewhere
# Ours, but nothing that a stranger's folder should decide.
NOT_FROM_DOTENV = {
    "HOLYCHAT_CONFIG",
    *(name for field in FIELDS if not field.dotenv for name in field.env),
}


def notices(providers: Providers, enabled: list[str]) -> Iterator[str]:
    """Every notice about the enabled providers and the files."""
    yield from providers.layers.dotenv.notices
    yield from _not_taken(providers)
    yield from _unknown_variables(providers)
    yield from _refused_addresses(providers, enabled)
    yield from _refused_network(providers, enabled)
    yield from _held_headers(providers, enabled)
    yield from _unusual_key(providers, enabled)
    yield from _unencrypted(providers, enabled)
    yield from _open_files(providers, enabled)


def _not_taken(providers: Providers) -> Iterator[str]:
    for variable, (_, line) in providers.layers.dotenv.values.items():
        if variable in NOT_FROM_DOTENV:
            yield f".env:{line}: {variable} is ignored: it is not taken from a .env"


def _unknown_variables(providers: Providers) -> Iterator[str]:
    """A mistyped HOLYCHAT_ name would do nothing, and say nothing."""
    names = [name for field in FIELDS for name in field.env]
    for variable in providers.layers.environ:
        known = variable in names or variable in OTHERS or "_TEST_" in variable
        if variable.startswith("HOLYCHAT_") and not known:
            from difflib import get_close_matches

            near = get_close_matches(variable, names, 1, 0.5)
            yield f"{variable} is no setting" + (f"; is it {near[0]}?" if near else "")


def _refused_addresses(providers: Providers, enabled: list[str]) -> Iterator[str]:
    for who in enabled:
        variable = f"{prefix(who)}_BASE_URL"
        said = providers.layers.from_dotenv(variable)
        used = providers.get(who, "base_url")
        # Outranked or the same as what holds anyway: then nothing is refused.
        if said and used.layer < Layer.DOTENV and said[0].rstrip("/") != used.value:
            yield (
                f"{said[1]}: {variable} is ignored: its key {key_variable(who)}"
                " is not from the same file"
            )


def _refused_network(providers: Providers, enabled: list[str]) -> Iterator[str]:
    trusting = [who for who in enabled if providers.trusts_dotenv(who)]
    for name in NETWORK:
        variable = f"HOLYCHAT_{name.upper()}"
        said = providers.layers.from_dotenv(variable)
        if not said or providers.general(name).layer > Layer.DOTENV:
            continue
        use = f"used only for {', '.join(trusting)}: no other" if trusting else "ignored: no"
        yield f"{said[1]}: {variable} is {use} key is from the same file"


def _held_headers(providers: Providers, enabled: list[str]) -> Iterator[str]:
    for who in enabled:
        headers = providers.get(who, "headers")
        if headers.value and providers.foreign(who):
            at = providers.layers.source(headers)
            yield f"{at}: the headers of {who} are not sent where a .env leads"


def _unusual_key(providers: Providers, enabled: list[str]) -> Iterator[str]:
    key = providers.key(DEFAULT_PROVIDER) if DEFAULT_PROVIDER in enabled else None
    if key and key[0] == "api_key" and not key[1].value.reveal().startswith(USUAL_KEYS):
        at = providers.layers.source(key[1])
        usual = " or ".join(USUAL_KEYS)
        yield f"{at}: the key of {DEFAULT_PROVIDER} looks unusual: they start with {usual}"


def _unencrypted(providers: Providers, enabled: list[str]) -> Iterator[str]:
    for who in enabled:
        address = providers.get(who, "base_url")
        plain = address.value.lower().startswith("http://") and not is_local(address.value)
        if plain and providers.key(who):
            at = providers.layers.source(address)
            yield f"{at}: the key of {who} travels unencrypted: its address is http://"


def _open_files(providers: Providers, enabled: list[str]) -> Iterator[str]:
    layers = providers.layers
    files: dict[Path, str] = {}
    if any(keys[0] == "providers" and keys[2] == "api_key" for keys in layers.given):
        files[layers.config.path] = "the keys in it"
    for who in enabled:
        key = providers.key(who)
        if key and key[0] == "key_file":
            files[layers.file(key[1])] = f"the key of {who}"
    for path, what in files.items():
        if _readable_by_others(path):
            yield f"{path}: others can read {what}; chmod 600 ends that"


def _readable_by_others(path: Path) -> bool:
    """Where the system has such modes."""
    try:
        return os.name == "posix" and bool(path.stat().st_mode & 0o077)
    except OSError:
        return False  # what is not there is told when it is needed
