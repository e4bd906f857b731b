"""The questions of setup in their order; every answer is also a flag.

Writes nothing. Where a key may be sent is decided by `settings`, as always: what is answered here
counts as if the environment held it, so that a `.env` in the working directory leads it nowhere.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from holychat import env
from holychat import settings as rules
from holychat.commands.setup import talk
from holychat.commands.setup.answers import Answers, address, listed, many, name_of, usable_key
from holychat.core.choose import match
from holychat.core.failure import Failure, Kind, SettingsError, UsageError, key_variable
from holychat.core.provider import DEFAULT_PROVIDER, DEMO, Provider, Secret
from holychat.core.sanitize import one_line
from holychat.engine.about import default_model, key_of
from holychat.net.probe import NO_LIST, local_servers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holychat.settings import Settings

OTHER = "another"


class Wizard:
    """Each question takes its answer from the flags where they have it."""

    def __init__(self, settings: Settings, answers: Answers) -> None:
        self.settings = settings
        self.answers = answers
        self.asks = not answers.yes and env.is_terminal(env.STDIN) and env.is_terminal(env.STDERR)
        self.name = ""
        self.base_url = address(answers.base_url) if answers.base_url else ""
        self.key = ""  # a new one; empty where the one that holds is kept

    def changes(self) -> dict[str, str]:
        """Dotted names and what they shall be; an empty one is taken out.

        Raises UsageError, SettingsError, EOFError, and Failure where that ends it.
        """
        self._choose_provider()
        self._take_key()
        model = self._model(self._checked())
        own, active = f"providers.{self.name}", self._shall_be_active()
        changes = {
            "provider": self.name if active else "",
            f"{own}.base_url": self.base_url,
            f"{own}.api_key": self.key,
            f"{own}.model": model,
        }
        changes = {name: value for name, value in changes.items() if value}
        general = self.settings.value("model")
        if active and general.value and general.source.layer is rules.Layer.CONFIG:
            if general.value in (model, f"{self.name}/{model}"):
                changes.pop(f"{own}.model", None)
            else:
                changes["model"] = ""  # it would outrank the choice
        return changes

    def now(self) -> Settings:
        """The settings as they would be with the answers so far. Raises SettingsError."""
        start = key_variable(self.name).removesuffix("API_KEY")
        answered = {f"{start}API_KEY": self.key, f"{start}BASE_URL": self.base_url}
        environ = os.environ | {name: text for name, text in answered.items() if text}
        path = self.settings.path
        return rules.load(environ=environ, cwd=Path.cwd(), path=path, more=self.name)

    # --- Who ------------------------------------------------------------------------------------

    def _choose_provider(self) -> None:
        usual = self.settings["provider"] or DEFAULT_PROVIDER
        wanted = self.answers.provider.strip() or (usual if self.answers.yes else "")
        if not wanted and self.asks:
            self._ask_provider(usual)
            return
        if not wanted:
            hint = f"Say -p NAME, or --yes for {usual}."
            raise UsageError("there is no terminal to ask on: which provider?", hint)
        try:
            self.name = self.settings.canonical(wanted)
        except SettingsError as error:
            if not self.base_url:
                hint = f"{error.hint} One of your own needs its address too: --base-url."
                raise UsageError(error.what, hint) from error
            self._new(wanted)
        if self.name not in self.now().names():
            self.settings.provider(self.name)  # says that it is disabled, and by whom

    def _ask_provider(self, usual: str) -> None:
        env.err("holychat setup · nothing is written before the end; Ctrl-C leaves")
        known = [name for name in self.settings.names() if name != DEMO]
        bare = [Provider(name, self.settings[f"providers.{name}.base_url"]) for name in known]
        running = asyncio.run(local_servers(bare))
        rows = {}
        for one in bare:
            text, _ = key_of(self.settings, one.name)
            absent = not text and one.name == "fallback"  # which only old environments have
            text = f"key {text}" if text else ""
            if one.local:
                absent, ids = one.name not in running, running.get(one.name)
                text = many(ids) if ids is not None else "" if absent else "runs, wants a key"
            if one.name == usual or not absent:
                rows[one.name] = f"{one_line(one.base_url.partition('://')[2], 36):<36}  {text}"
        rows[OTHER] = "any other OpenAI-compatible address"
        self.name = talk.choose("Provider", rows, usual if usual in rows else next(iter(rows)))
        if self.name == OTHER:
            self._ask_another()

    def _ask_another(self) -> None:
        """Address and name of one that nobody knows yet."""
        while not self.base_url:
            try:
                self.base_url = address(env.ask("Its address, up to /chat/completions: "))
            except UsageError as error:
                env.err(f"  The address {error.what.partition(' ')[2]}.")
        usual = name_of(self.base_url)
        while True:
            try:
                self._new(env.ask(f"A name for it (Enter for {usual}): ") or usual)
                return
            except UsageError as error:
                env.err(f"  {error.what}")

    def _new(self, name: str) -> None:
        """Take the name of a new provider. Raises UsageError where the settings refuse it."""
        if name in self.settings.names():
            raise UsageError(f"there is a provider {name} already: give it another name")
        self.name = name
        try:
            self.now()
        except SettingsError as error:
            raise UsageError(error.what.partition(": ")[2]) from error

    # --- The key --------------------------------------------------------------------------------

    def _take_key(self, *, again: bool = False) -> None:
        """Set `key`, or leave it empty to keep the one that holds."""
        self.key = ""
        now = self.now()
        what, source = key_of(now, self.name)
        given = "" if again else self.answers.key.strip()
        if given == "-" and not env.is_terminal(env.STDIN):
            self.key = usable_key(env.piped_input(None) or "")
        elif given and given != "-":
            env.err(
                "Others can see a key on the command line: --key - reads it from stdin", dim=True
            )
            self.key = usable_key(given)
        elif given or (self.asks and (again or what or not now.has_key(self.name))):
            self.key = self._ask_key(what, source)
        elif not now.has_key(self.name):
            hint = f"--key - reads it from stdin; or set {key_variable(self.name)}."
            raise UsageError(f"there is no key for {self.name}", hint)
        if self.key:
            env.err(f"  key {Secret(self.key).mask}", dim=True)
            for line in self.now().notices:
                by, _, text = line.partition(": ")  # by nobody's environment
                if line not in now.notices and by.startswith("environment "):
                    env.err(f"  {text[:1].upper()}{text[1:]}.")

    def _ask_key(self, what: str, source: str) -> str:
        """A new key; empty for the one that holds."""
        keep = f"Enter keeps {what}" if what else "it is not shown"
        while True:
            typed = env.ask(f"Key for {self.name} ({keep}): ", echo=False)
            if not typed and what:
                env.err(f"  keeping {what} of {source}", dim=True)
                return ""
            try:
                return usable_key(typed)
            except UsageError as error:
                env.err(f"  {error.what}")

    # --- The model ------------------------------------------------------------------------------

    def _checked(self) -> list[str]:
        """What the server lists; empty where it keeps no list or was not asked."""
        while self.answers.check:
            try:
                return listed(self.now().provider(self.name))
            except (SettingsError, Failure) as error:
                if isinstance(error, Failure) and error.status in NO_LIST:
                    env.err(f"  {self.name} answers, but keeps no list of models")
                    break
                if not self.asks:
                    raise
                env.err(f"  {error.what}")
                wants_key = isinstance(error, SettingsError) or error.kind is Kind.AUTH
                what = "another key" if wants_key else "try again"
                said = env.ask(f"[a] {what}, [g] go on all the same, [l] leave (Enter for a): ")
                if said.lower() == "l":
                    raise
                if said.lower() == "g":
                    break
                if wants_key:
                    self._take_key(again=True)
        return []

    def _model(self, ids: Sequence[str]) -> str:
        """The default model; empty where the server's list decides each time."""
        now, wanted = self.now(), self.answers.model.strip()
        if wanted:
            model = match(wanted, ids)
            if ids and model not in ids:
                env.err(f"  {self.name} does not list {model}; it is taken all the same")
            return model
        usual = default_model(now, self.name)
        if ids and usual not in ids:
            if usual:
                env.err(f"  it does not list {usual}", dim=True)
            usual = ids[0]
        if self.asks and len(ids) != 1:
            return talk.choose("Model", dict.fromkeys(ids, ""), usual, self.name)
        if not usual and not Provider("", now[f"providers.{self.name}.base_url"]).local:
            raise UsageError(f"which model of {self.name}?", "Say -m MODEL.")
        return usual

    def _shall_be_active(self) -> bool:
        """Whether it is asked from now on. Somebody else who was chosen is not pushed aside."""
        chosen = self.settings["provider"]
        if not self.asks or chosen in ("", self.name):
            return True
        said = env.ask(f"Ask {self.name} from now on, and not {chosen}? [Y/n] ")
        return not said.lower().startswith("n")
