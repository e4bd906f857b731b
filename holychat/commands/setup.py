"""`holychat setup`: who is asked, with which key, for which model; checked, then written at once.

Owns the questions and their order; every answer is also a flag. Until the last step nothing is
written, and no key is ever shown: it is typed without echo and told by its mask. Where a key may
be sent is decided by `settings`, as always: a key that is typed here is resolved as if the
environment held it, so that a `.env` in the working directory cannot lead it anywhere.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from holychat import env
from holychat import settings as rules
from holychat.core.choose import match, nearest
from holychat.core.failure import Failure, Kind, SettingsError, UsageError, key_variable
from holychat.core.provider import DEFAULT_PROVIDER, DEMO, Provider, Secret
from holychat.core.sanitize import one_line, visible
from holychat.engine.about import default_model, key_of
from holychat.exits import Exit, of_failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holychat.settings import Settings

ROWS = 12  # models of a long list that are shown at once: the question stays in sight
PATIENCE = 15.0  # seconds for the server's list, with somebody waiting
OTHER = "another"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the command line answered already; an empty string is a question left open."""

    provider: str = ""
    model: str = ""
    key: str = ""  # "-" for stdin
    base_url: str = ""
    yes: bool = False
    check: bool = True


class _Left(Exception):  # noqa: N818 - nobody is at fault
    """The user left, or what was found lets nobody go on: nothing is written."""

    def __init__(self, code: Exit) -> None:
        super().__init__(code)
        self.code = code


def run(settings: Settings, answers: Answers) -> Exit:
    """Ask what is not answered, check it, write it. Raises UsageError and SettingsError."""
    try:
        with asyncio.Runner() as runner:
            wizard = _Wizard(settings, answers, runner)
            changes = wizard.changes()
    except KeyboardInterrupt:
        env.err("\nholychat: nothing was written")
        raise
    except EOFError:
        env.err("\nholychat: nothing was written")
        return Exit.SETTINGS
    except _Left as left:
        env.err("holychat: nothing was written")
        return left.code
    needed = {name: value for name, value in changes.items() if not _holds(settings, name, value)}
    if needed:
        rules.write(settings.path, needed)
    _report(settings, changes, needed)
    env.err()
    env.err("Next: holychat" if "provider" in changes else f"Next: holychat -p {wizard.name}")
    return Exit.OK


def _holds(settings: Settings, name: str, value: str | None) -> bool:
    """Whether the config says so already, or says nothing and it is the default."""
    try:
        held = settings.value(name)
    except SettingsError:
        return False  # a provider that is not there yet
    if isinstance(held.value, Secret):
        return bool(value) and held.value.reveal() == value and _of_file(held)
    return held.value == (value or "") and _of_file(held)


def _of_file(held: rules.Value) -> bool:
    return held.source.layer <= rules.Layer.CONFIG


class _Wizard:
    """The questions in their order. Each takes its answer from the flags where they have it."""

    def __init__(self, settings: Settings, answers: Answers, runner: asyncio.Runner) -> None:
        self.settings = settings
        self.answers = answers
        self.runner = runner
        self.asks = _can_ask() and not answers.yes
        self.name = ""
        self.own = False  # whether the provider is a new one of the user's own
        self.base_url = answers.base_url
        self.key = ""  # a new one; empty where the one that holds is kept
        self.local: dict[str, list[str] | None] = {}

    def changes(self) -> dict[str, str | None]:
        """Dotted names and what they shall be; None takes one out."""
        name = self.name = self._provider()
        self._check_address(name)
        self._take_key(name)
        listed = self._checked(name)
        model = self._model(name, listed)
        changes: dict[str, str | None] = {}
        chosen = True  # whether the model has to be said for the provider
        if self._shall_be_active(name):
            changes["provider"] = name
            general = self.settings.value("model")
            if general.value and _of_file(general):
                chosen = general.value not in (model, f"{name}/{model}")
                changes |= {"model": None} if chosen else {}  # it would outrank the choice
        if self.base_url:
            changes[f"providers.{name}.base_url"] = self.base_url
        if self.key:
            changes[f"providers.{name}.api_key"] = self.key
        if model and chosen:
            changes[f"providers.{name}.model"] = model
        return changes

    # --- Who ------------------------------------------------------------------------------------

    def _provider(self) -> str:
        wanted = self.answers.provider.strip()
        if wanted:
            try:
                name = self.settings.canonical(wanted)
            except SettingsError as error:
                if not self.base_url:
                    hint = f"{error.hint} One of your own needs its address too: --base-url."
                    raise UsageError(error.what, hint) from error
                self._new(wanted)
                return wanted
            if name not in self.settings.names():
                self.settings.provider(name)  # says that it is disabled, and by whom
            return name
        usual = self.settings["provider"] or DEFAULT_PROVIDER
        if self.answers.yes:
            return self.settings.canonical(usual)
        if not self.asks:
            raise UsageError(
                "there is no terminal to ask on: which provider?",
                f"Say -p NAME, or --yes for {usual}.",
            )
        return self._chosen(usual)

    def _chosen(self, usual: str) -> str:
        """Of the list: by number, name or unique part of it."""
        from holychat.net.probe import local_servers

        _say("holychat setup", "nothing is written before the end; Ctrl-C leaves")
        names = [name for name in self.settings.names() if name != DEMO]
        bare = [Provider(name, self._address(name)) for name in names]
        self.local = self.runner.run(local_servers(bare))
        absent = {one.name for one in bare if one.local and one.name not in self.local}
        # The second provider of old environments is of interest to those who have one.
        absent |= {
            name for name in names if name == "fallback" and not key_of(self.settings, name)[0]
        }
        names = [name for name in names if name not in absent or name == usual]
        rows = [(name, self._row(name)) for name in names]
        rows.append((OTHER, "any other OpenAI-compatible address"))
        env.err(_numbered([f"{name:<{_widest(rows)}}  {text}" for name, text in rows]))
        env.err()
        if usual not in names:
            usual = names[0]
        while True:
            said = _read(f"Provider (Enter for {usual}): ") or usual
            name = self._meant(said, [*names, OTHER])
            if name == OTHER:
                return self._another()
            if name:
                return name

    def _row(self, name: str) -> str:
        address = self._address(name).partition("://")[2]
        if name in self.local:
            ids = self.local[name]
            many = f"{len(ids)} model{'' if len(ids) == 1 else 's'}" if ids is not None else ""
            return f"{one_line(address, 36):<36}  {many or 'runs, wants a key'}"
        what, _ = key_of(self.settings, name)
        return f"{one_line(address, 36):<36}  {f'key {what}' if what else ''}".rstrip()

    def _address(self, name: str) -> str:
        return str(self.settings[f"providers.{name}.base_url"])

    def _meant(self, said: str, names: Sequence[str]) -> str:
        """The name that was meant; empty, and said why, where that is not clear."""
        if said.isdecimal() and 1 <= int(said) <= len(names):
            return names[int(said) - 1]
        if not said.isdecimal():
            try:
                name = match(said, names)
            except UsageError as error:
                env.err(f"  {error.what}")
                return ""
            if name in names:
                return name
        env.err(f"  Type a number from 1 to {len(names)}, or a name.")
        return ""

    def _another(self) -> str:
        """Address and name of one that nobody knows yet."""
        while True:
            url = self.base_url or _read("Its address, up to /chat/completions: ")
            try:
                self.base_url = rules.parsed(f"providers.{OTHER}.base_url", url)
                break
            except SettingsError as error:
                env.err(f"  The address {error.what.partition(' ')[2]}.")
                self.base_url = ""
        usual = _name_of(self.base_url)
        while True:
            name = _read(f"A name for it (Enter for {usual}): ") or usual
            try:
                self._new(name)
                return name
            except UsageError as error:
                env.err(f"  {error.what}")

    def _new(self, name: str) -> None:
        """Check the name of a new provider. Raises UsageError."""
        try:
            self.base_url = rules.parsed(f"providers.{name}.base_url", self.base_url)
        except SettingsError as error:
            raise UsageError(error.what, error.hint) from error
        for other in self.settings.names():
            if key_variable(other) == key_variable(name):
                raise UsageError(f"there is a provider {other} already: give it another name")
        self.own = True

    def _check_address(self, name: str) -> None:
        if self.base_url:
            try:
                self.base_url = rules.parsed(f"providers.{name}.base_url", self.base_url)
            except SettingsError as error:
                raise UsageError(f"--base-url {error.what.partition(' ')[2]}") from error

    # --- The key --------------------------------------------------------------------------------

    def _take_key(self, name: str, *, again: bool = False) -> None:
        """Set `key`, or leave it empty to keep the one that holds."""
        what, source = ("", "") if self.own else key_of(self.settings, name)
        given = self.answers.key.strip()
        if given and not again:
            self.key = self._given(given)
        elif self.asks and (again or what or self._lacks_key(name)):
            self.key = self._typed(name, what, source)
        elif self._lacks_key(name):
            raise UsageError(
                f"there is no key for {name}",
                f"--key - reads it from stdin; or set {key_variable(name)}.",
            )
        if self.key:
            shown = Secret(self.key).mask
            env.err(f"  key {shown}" if shown else "  a very short key", dim=True)
            for line in self._odd(name):
                env.err(f"  {line}")

    def _given(self, given: str) -> str:
        if given != "-":
            env.err(
                "holychat: others on this machine can see a key on the command line,"
                " and the shell keeps it: --key - reads it from stdin",
                dim=True,
            )
        elif env.is_terminal(env.STDIN):
            given = _read("Key (it is not shown): ", echo=False)
        else:
            given = env.piped_input(None) or ""
        key = Secret(given).reveal()
        if not key:
            raise UsageError("there is no key on stdin")
        if not (key.isascii() and key.isprintable()):
            raise UsageError("the key holds characters that no key has")
        return key

    def _typed(self, name: str, what: str, source: str) -> str:
        """A new key; empty for the one that holds."""
        keep = f"Enter keeps {what}" if what else "it is not shown"
        while True:
            key = Secret(_read(f"Key for {name} ({keep}): ", echo=False)).reveal()
            if not key and what:
                env.err(f"  keeping {what} of {source}", dim=True)
                return ""
            if key.isascii() and key.isprintable() and key:
                return key
            env.err("  It holds characters that no key has." if key else "  It needs a key.")

    def _lacks_key(self, name: str) -> bool:
        if self.own:
            return not Provider(name, self.base_url).local
        if self.local.get(name, []) is None:
            return True  # it runs, and refused to list anything
        return not self._settings(name).has_key(name)

    def _odd(self, name: str) -> Iterator[str]:
        """What is worth a warning about the new key, in the words of the settings."""
        if self.own:
            provider = self._resolved(name)
            if self.base_url.startswith("http://") and not provider.local:
                yield "The key travels unencrypted: the address is http://."
            return
        known = {line.rpartition(": ")[2] for line in self.settings.notices}
        for line in self._settings(name).notices:
            # The first part is its source, which here is nobody's environment.
            source, _, what = line.partition(": ")
            if source.startswith("environment ") and line.rpartition(": ")[2] not in known:
                yield what[:1].upper() + what[1:] + "."

    # --- The check ------------------------------------------------------------------------------

    def _settings(self, name: str) -> Settings:
        """The settings as they would be if the environment held what was answered."""
        said = dict(os.environ)
        if self.key:
            said[key_variable(name)] = self.key
        if self.base_url:
            said[key_variable(name).removesuffix("_API_KEY") + "_BASE_URL"] = self.base_url
        return rules.load(environ=said, cwd=Path.cwd(), path=self.settings.path)

    def _resolved(self, name: str) -> Provider:
        if not self.own:
            return self._settings(name).provider(name)
        local = Provider(name, self.base_url).local
        proxy = "" if local else self.settings["proxy"]
        key = Secret(self.key)
        ca = self.settings["ca"]
        return Provider(name, self.base_url, key=key, needs_key=not local, proxy=proxy, ca=ca)

    def _checked(self, name: str) -> list[str]:
        """What the server lists; empty where it keeps no list or was not asked. Raises _Left."""
        from holychat.net.probe import NO_LIST

        while self.answers.check:
            try:
                provider = self._resolved(name)
                _wait(f"· asking {name} for its models …")
                ids, public = self.runner.run(_fetched(provider))
            except SettingsError as error:  # a key_command that fails, a key_file that is gone
                if not self.asks:
                    raise
                env.err(f"  {error.what}")
                self._take_key(name, again=True)
                continue
            except Failure as failure:
                if failure.status in NO_LIST:
                    env.err(f"  {name} answers, but keeps no list of models")
                    return []
                if not self._again(name, failure):
                    return []
                continue
            many = f"{len(ids)} model{'' if len(ids) == 1 else 's'}"
            env.err(f"  {name} answers and lists {many}")
            if public:
                env.err("  It lists them for anybody, which proves no key:")
                env.err(f"  `holychat doctor -p {name}` tries it for one token.")
            self._remember(provider, ids)
            return ids
        return []

    def _again(self, name: str, failure: Failure) -> bool:
        """What to do about a failed check: True tries again, False goes on. Raises _Left."""
        env.err(f"{'  ' if self.asks else 'holychat: '}{failure.what}")
        if not self.asks:
            env.err("  --no-check writes it without asking the server.")
            raise _Left(of_failure(failure))
        refused = failure.kind is Kind.AUTH
        what = "another key" if refused else "try again"
        while True:
            said = _read(f"[a] {what}, [g] go on all the same, [l] leave (Enter for a): ").lower()
            if said in ("", "a"):
                if refused:
                    self._take_key(name, again=True)
                return True
            if said == "g":
                return False
            if said == "l":
                raise _Left(of_failure(failure))

    def _remember(self, provider: Provider, ids: Sequence[str]) -> None:
        """For `-m` by a part of the name, from the first prompt on."""
        import time

        from holychat.store.learned import Learned

        cache = Learned(env.home(os.environ, "cache"), lambda _: provider)
        cache.remember_models(provider.name, ids, time.time())

    # --- The model ------------------------------------------------------------------------------

    def _model(self, name: str, ids: Sequence[str]) -> str:
        """The default model; empty where the server's list decides each time."""
        usual = "" if self.own else self._usual(name)
        if ids and usual not in ids:
            if usual and not self.answers.model:
                env.err(f"  it does not list {usual}", dim=True)
            usual = ids[0]
        wanted = self.answers.model.strip()
        if wanted:
            model = match(wanted, ids)
            if ids and model not in ids:
                env.err(f"  {name} does not list {model}; it is taken all the same")
            return model
        if not self.asks:
            if (
                not usual
                and not ids
                and not Provider(name, self.base_url or self._address(name)).local
            ):
                raise UsageError(f"which model of {name}?", "Say -m MODEL.")
            return usual
        return self._asked_model(name, ids, usual)

    def _usual(self, name: str) -> str:
        return default_model(self.settings, name) if self._known_active() else ""

    def _known_active(self) -> bool:
        try:
            return bool(self.settings.active())
        except SettingsError:
            return False

    def _asked_model(self, name: str, ids: Sequence[str], usual: str) -> str:
        if len(ids) == 1:
            env.err(f"  model {ids[0]}", dim=True)
            return ids[0]
        _show_models(ids, ids)
        question = f"Model (Enter for {usual}): " if usual else "Model: "
        last = ""
        while True:
            said = _read(question) or usual
            if said.isdecimal() and 1 <= int(said) <= len(ids):
                return ids[int(said) - 1]
            if not said or said in ids or not ids or said == last:
                if said:
                    return said
                continue
            hits = [one for one in ids if said.lower() in one.lower()]
            if len(hits) == 1:
                env.err(f"  {hits[0]}", dim=True)
                return hits[0]
            if hits:
                _show_models(ids, hits)
                continue
            last = said
            near = nearest(said, ids)
            hint = f" Near: {', '.join(near)}." if near else ""
            env.err(f"  {name} does not list that.{hint} Type it again to take it all the same.")

    def _shall_be_active(self, name: str) -> bool:
        """Whether it is asked from now on. Somebody else who was chosen is not pushed aside."""
        chosen = self.settings.value("provider")
        if not self.asks or not chosen.value or chosen.value == name:
            return True
        said = _read(f"Ask {name} from now on, and not {chosen.value}? [Y/n] ").lower()
        return not said.startswith("n")


async def _fetched(provider: Provider) -> tuple[list[str], bool]:
    """What it lists, and whether it lists the same to somebody without the key."""
    from holychat.net.client import Client, Timers

    async def without_key() -> bool:
        try:
            await client.models(replace(provider, key=Secret(), headers={}))
        except Failure:
            return False
        return True

    client = Client(Timers(10.0, PATIENCE, PATIENCE, PATIENCE))
    stranger = asyncio.create_task(without_key()) if provider.key else None
    try:
        ids = await client.models(provider)
        if stranger:
            await asyncio.wait([stranger], timeout=2.0)
        return ids, bool(stranger and stranger.done() and stranger.result())
    finally:
        if stranger:
            stranger.cancel()
            await asyncio.gather(stranger, return_exceptions=True)
        await client.aclose()


def _name_of(base_url: str) -> str:
    """`together` of https://api.together.xyz/v1, `box` of http://box:8000/v1, else `own`."""
    host = urlsplit(base_url).hostname or ""
    parts = [part for part in host.split(".") if part]
    if not parts or host.replace(".", "").isdecimal() or ":" in host:
        return "own"
    word = parts[-2] if len(parts) > 1 else parts[0]
    return word if word.replace("-", "").isalnum() and word.isascii() else "own"


def _can_ask() -> bool:
    return env.is_terminal(env.STDIN) and env.is_terminal(env.STDERR)


# --- Talking --------------------------------------------------------------------------------------


def _say(head: str, text: str) -> None:
    env.err(f"{head} · {text}")
    env.err()


def _widest(rows: Sequence[tuple[str, str]]) -> int:
    return max(len(name) for name, _ in rows)


def _numbered(rows: Sequence[str], numbers: Sequence[int] = ()) -> str:
    counted = numbers or range(1, len(rows) + 1)
    return "\n".join(f"{at:>4}  {row}" for at, row in zip(counted, rows, strict=True))


def _show_models(ids: Sequence[str], hits: Sequence[str]) -> None:
    """Some of a list under the numbers that they have in all of it."""
    if not hits:
        return
    shown = hits[:ROWS]
    places = {one: at for at, one in enumerate(ids, 1)}
    env.err()
    env.err(_numbered([one_line(one, 70) for one in shown], [places[one] for one in shown]))
    if len(hits) > len(shown):
        env.err(f"      and {len(hits) - len(shown)} more: type a part of the name to find them")
    env.err()


def _wait(text: str) -> None:
    if env.is_terminal(env.STDERR):
        env.err(text, dim=True)


def _read(prompt: str, *, echo: bool = True) -> str:
    """One line from the terminal, as its own line editor gives it. Raises EOFError at Ctrl-D."""
    with _echo(echo):
        env.write(visible(prompt).encode("utf-8", "replace"), env.STDERR)
        data = b""
        while not data.endswith(b"\n"):
            try:
                part = os.read(env.STDIN, 4096)
            except OSError as error:  # the terminal went away
                raise EOFError from error
            if not part:
                raise EOFError
            data += part
    return data.decode("utf-8", "replace").strip()


@contextmanager
def _echo(on: bool) -> Iterator[None]:
    """What is typed is shown, or not; only its Enter is."""
    if on:
        yield
        return
    if sys.platform == "win32":
        raise UsageError("a key cannot be typed here unseen", "Set it in the environment.")
    import termios

    before = termios.tcgetattr(env.STDIN)
    hidden = list(before)
    hidden[3] = (before[3] & ~termios.ECHO) | termios.ECHONL
    # What was typed ahead was visible: it is no key.
    termios.tcsetattr(env.STDIN, termios.TCSAFLUSH, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(env.STDIN, termios.TCSADRAIN, before)


def _report(
    settings: Settings, changes: dict[str, str | None], needed: dict[str, str | None]
) -> None:
    """What was written where, what outranks it, and what comes next."""
    env.err()
    if not needed:
        env.err(f"{settings.path} says all of it already.")
    else:
        env.err(f"Written to {settings.path}, which only you can read:")
        wide = max(map(len, needed))
        for name, value in needed.items():
            shown = Secret(value or "").mask if name.endswith(".api_key") else value
            env.err(f"  {name:<{wide}}  {shown if value else '(taken out, it would outrank)'}")
    for line in _outranked(settings, changes):
        env.err(line)


def _outranked(settings: Settings, changes: dict[str, str | None]) -> Iterator[str]:
    now = rules.load(environ=os.environ, cwd=Path.cwd(), path=settings.path)
    for name, value in changes.items():
        held = now.value(name)
        shown = held.value.reveal() if isinstance(held.value, Secret) else held.value
        if shown != (value or "") and not _of_file(held):
            yield f"But {held.source} says something else of {name}, and counts."
