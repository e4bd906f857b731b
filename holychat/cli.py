"""The command line: options, and one call into a front for each command.

Owns the options, their help, and the one place where an error becomes an exit code. Bodies are a
few lines; every front is imported by its own command only, so that `ask` never loads the REPL.
"""

from __future__ import annotations

import math
import os
import signal
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from holychat import __version__, env
from holychat.core.failure import Failure, HolychatError, SettingsError, StoreTrouble, UsageError
from holychat.exits import Exit

if TYPE_CHECKING:
    from holychat.core.wish import Wish
    from holychat.settings import Settings

# --- Options that several commands share ----------------------------------------------------------

Model = Annotated[
    str, typer.Option("-m", "--model", help="Model; a unique part is enough, PROVIDER/MODEL too.")
]
ProviderName = Annotated[str, typer.Option("-p", "--provider", help="Provider to ask.")]
System = Annotated[str | None, typer.Option("-s", "--system", help="System prompt.")]
Param = Annotated[
    list[str],
    typer.Option("-o", "--option", metavar="KEY=VALUE", help="temperature, top_p, max_tokens, ..."),
]
Reasoning = Annotated[str, typer.Option(metavar="show|hide", help="The model's reasoning.")]
Timeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Give up after so much silence.", min=0.1)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No notices on stderr, only errors.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours.")]
Store = Annotated[str, typer.Option(metavar="FILE", help="Where conversations are kept.")]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep nothing of it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Group(typer.core.TyperGroup):
    """`holychat "two words"` is `ask`: an argument with white space cannot be a command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and ctx.parent is None and _is_prompt(args[0]):
            args = ["ask", *args]
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Click's form
        return list(self.commands)  # in the order of this file: what is used most comes first


def _is_prompt(argument: str) -> bool:
    return argument == "-" or any(c.isspace() for c in argument)


app = typer.Typer(
    cls=Group,
    name="holychat",
    rich_markup_mode=None,  # plain help: calm, and without loading rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Settings: `holychat config show`. Exit codes: 0 complete, 2 usage, 3 settings or key, "
    "4 every provider failed, 5 the answer was cut.",
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    model: Model = "",
    provider: ProviderName = "",
    system: System = None,
    option: Param = [],  # noqa: B006 - typer's form
    reasoning: Reasoning = "",
    timeout: Timeout = None,
    store: Store = "",
    no_store: NoStore = False,
    quiet: Quiet = False,
    no_color: NoColor = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    debug: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append tracebacks to FILE.")
    ] = None,
) -> None:
    """Chat with OpenAI-compatible models in the terminal.

    \b
    holychat                              chat
    holychat ask "why is the sky blue?"   one answer
    cat log | holychat ask "why?"         ask about what is piped in
    holychat demo                         try it without a key
    """
    if version:
        env.out(f"holychat {__version__}")
        raise typer.Exit(0)
    env.debug_to(debug)
    _no_color(no_color)
    shared = _shared(locals())
    ctx.obj = shared
    if ctx.invoked_subcommand is None:
        if env.is_terminal(env.STDIN):
            raise typer.Exit(_chat(shared))
        raise typer.Exit(_ask(shared, None))


@app.command()
def ask(
    ctx: typer.Context,
    prompt: Annotated[
        list[str] | None, typer.Argument(help="The prompt; - reads it from stdin.")
    ] = None,
    model: Model = "",
    provider: ProviderName = "",
    system: System = None,
    option: Param = [],  # noqa: B006 - typer's form
    json: Annotated[bool, typer.Option("--json", help="One JSON object at the end.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON event a line.")] = False,
    raw: Annotated[
        bool | None, typer.Option("--raw/--render", help="Plain text / drawn Markdown.")
    ] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Ask for one piece.")] = False,
    no_stdin: Annotated[bool, typer.Option("--no-stdin", help="Leave stdin alone.")] = False,
    reasoning: Reasoning = "",
    timeout: Timeout = None,
    store: Store = "",
    no_store: NoStore = False,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> None:
    """One answer to one prompt.

    \b
    holychat ask "capital of France?"
    git diff | holychat ask "a commit message, please"
    holychat ask -m gpt -o temperature=0 --json "a haiku" | jq -r .text
    """
    own = _shared(locals())
    shared = {name: value or ctx.obj[name] for name, value in own.items()}
    shared["option"] = [*ctx.obj["option"], *option]
    if system is not None:  # an empty one is a wish too: none, whatever the settings say
        shared["system"] = system
    _no_color(no_color)
    form = _form(json, jsonl, raw)
    words = " ".join(prompt) if prompt else None
    raise typer.Exit(_ask(shared, words, form=form, stream=not no_stream, no_stdin=no_stdin))


@app.command()
def demo(
    ctx: typer.Context,
) -> None:
    """Chat with the built-in offline provider: a script, no model, no key."""
    raise typer.Exit(_chat({**ctx.obj, "provider": "demo"}))


@app.command()
def setup(
    ctx: typer.Context,
    provider: ProviderName = "",
    model: Model = "",
    key: Annotated[str, typer.Option(help="The key; - reads it from stdin.")] = "",
    base_url: Annotated[str, typer.Option(help="Address of the provider's API.")] = "",
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing, take defaults.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not ask the server.")] = False,
) -> None:
    """First run: key, provider, default model; checked, then written to the config.

    \b
    holychat setup
    holychat setup -p deepseek --key - --yes < key.txt
    """
    from holychat.commands import setup as front

    answers = front.Answers(
        provider=provider or ctx.obj["provider"],
        model=model or ctx.obj["model"],
        key=key,
        base_url=base_url,
        yes=yes,
        check=not no_check,
    )
    raise typer.Exit(front.run(_load({}), answers))


@app.command()
def models(
    ctx: typer.Context,
    search: Annotated[str, typer.Argument(help="Part of the name.")] = "",
    provider: ProviderName = "",
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the server again.")] = False,
    json: Json = False,
) -> None:
    """List a provider's models.

    \b
    holychat models
    holychat models -p openrouter claude
    """
    from holychat.commands import models as front

    name = provider or ctx.obj["provider"]
    raise typer.Exit(front.run(_load(ctx.obj), name, search, refresh=refresh, json=json))


@app.command()
def providers(ctx: typer.Context, json: Json = False) -> None:
    """List the providers and whether they can be asked."""
    from holychat.commands import providers as front

    raise typer.Exit(front.run(_load(ctx.obj), json=json))


@app.command()
def doctor(
    ctx: typer.Context,
    provider: ProviderName = "",
    json: Json = False,
    offline: Annotated[bool, typer.Option("--offline", help="Settings only.")] = False,
) -> None:
    """Look for what is wrong: settings, keys, network, provider by phases."""
    from holychat.commands import doctor as front

    name = provider or ctx.obj["provider"]
    raise typer.Exit(front.run(_load(ctx.obj), name, json=json, offline=offline))


config = typer.Typer(
    cls=Group, rich_markup_mode=None, no_args_is_help=True, help="See and change the settings."
)
app.add_typer(config, name="config")


@config.command("path")
def config_path() -> None:
    """Where the config file is."""
    from holychat import settings
    from holychat.commands import config as front

    front.path(settings.config_path(os.environ))


@config.command("show")
def config_show(ctx: typer.Context, json: Json = False) -> None:
    """Every setting, its value and who said it."""
    from holychat.commands import config as front

    front.show(_load(ctx.obj), json)


@config.command("get")
def config_get(ctx: typer.Context, name: str) -> None:
    """One setting's value."""
    from holychat.commands import config as front

    front.get(_load(ctx.obj), name)


@config.command("set")
def config_set(name: str, value: str) -> None:
    """Write one setting to the config file.

    \b
    holychat config set provider deepseek
    holychat config set providers.box.base_url http://127.0.0.1:9000/v1
    """
    from holychat.commands import config as front

    front.set_(_loaded_or_path(), name, value)


@config.command("edit")
def config_edit() -> None:
    """Open the config file in $EDITOR."""
    from holychat.commands import config as front

    front.edit(_loaded_or_path(), os.environ)


# --- From options to fronts -----------------------------------------------------------------------


def _no_color(wanted: bool) -> None:
    """The flag as the variable, which every writer on both streams knows."""
    if wanted:
        os.environ["NO_COLOR"] = "1"


_SHARED = (
    "model", "provider", "system", "option", "reasoning", "timeout", "store", "no_store", "quiet",
    "no_color",
)  # fmt: skip


def _shared(given: dict[str, Any]) -> dict[str, Any]:
    """The options that `holychat` and `holychat ask` have in common, out of a body's locals."""
    return {name: given[name] for name in _SHARED}


def _load(shared: dict[str, Any]) -> Settings:
    """The settings, with the flags that are settings too."""
    from holychat import settings

    flags = {
        "provider": shared.get("provider") or None,
        "system": shared.get("system"),
        "ui.reasoning": shared.get("reasoning") or None,
        "store": "none" if shared.get("no_store") else shared.get("store") or None,
    }
    try:
        cwd = Path.cwd()
    except OSError:  # it was removed under us: it has no `.env`, and nothing else is asked of it
        cwd = Path(os.devnull)
    return settings.load(environ=os.environ, cwd=cwd, flags=flags)


def _loaded_or_path() -> Settings | Path:
    """The settings, or the file alone where it is too broken to load but may be mended."""
    from holychat import settings

    try:
        return _load({})
    except SettingsError:
        return settings.config_path(os.environ)


def _wish(shared: dict[str, Any], **more: Any) -> Wish:
    from holychat.core.wish import Wish

    if shared["timeout"] is not None and not math.isfinite(shared["timeout"]):
        raise UsageError("--timeout takes seconds")
    return Wish(
        model=shared["model"],
        provider=shared["provider"],
        params=_params(shared["option"]),
        reasoning=shared["reasoning"],
        timeout=shared["timeout"],
        quiet=shared["quiet"],
        no_color=shared["no_color"],
        **more,
    )


def _ask(shared: dict[str, Any], prompt: str | None, **more: Any) -> Exit:
    from holychat.commands import ask as front

    return front.run(_load(shared), _wish(shared, prompt=prompt, **more))


def _chat(shared: dict[str, Any]) -> Exit:
    if not env.is_terminal(env.STDIN):
        raise UsageError("the chat needs a terminal", 'For one answer: holychat ask "..."')
    env.echo(on=False)  # what is typed while the prompt is being made comes with the prompt
    try:
        from holychat.commands.repl import loop as front

        return front.run(_load(shared), _wish(shared))
    finally:
        env.echo(on=True)


def _form(json: bool, jsonl: bool, raw: bool | None) -> str:
    if json and jsonl:
        raise UsageError("--json and --jsonl exclude each other")
    if json or jsonl:
        return "json" if json else "jsonl"
    if raw is None:
        return ""
    return "plain" if raw else ("live" if env.can_move_cursor(os.environ) else "render")


def _params(pairs: list[str]) -> dict[str, Any]:
    """`-o KEY=VALUE` pairs; a value is JSON where it can be, else text."""
    from holychat import settings

    params: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"-o takes KEY=VALUE, not {pair}", "For example: -o temperature=0.2")
        try:
            params[name.strip()] = settings.parsed(f"params.{name.strip()}", value.strip())
        except SettingsError as error:
            raise UsageError(error.what, error.hint) from error
    return params


def _asked(arguments: list[str]) -> typer.Typer:
    """The app with the command that is asked for, or with all where the first argument is none.

    typer builds the options before it looks at the arguments: 5 ms for all commands, half of that
    for `ask`, the longest.
    """
    first = arguments[0] if arguments else ""
    name = "ask" if _is_prompt(first) else first
    part = copy(app)
    part.registered_commands = [
        info for info in app.registered_commands if getattr(info.callback, "__name__", "") == name
    ]
    part.registered_groups = [info for info in app.registered_groups if info.name == name]
    return part if part.registered_commands or part.registered_groups else app


# --- The one place where an error becomes an exit code --------------------------------------------

SIGINT_BY_TYPER = 130  # what it makes of a KeyboardInterrupt; nothing of ours returns that


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code, or ends by the signal that ended the command."""
    try:
        front = _asked(arguments)
        code = int(front(args=arguments, prog_name="holychat", standalone_mode=False) or 0)
        if code == SIGINT_BY_TYPER:
            env.end_by(signal.SIGINT)
        return code
    except (KeyboardInterrupt, typer.Abort):
        env.end_by(signal.SIGINT)
    except env.Terminated:
        env.end_by(signal.SIGTERM)
    except env.ReaderLeft:
        return Exit.PIPE
    except SystemExit as leaving:  # typer's completion ends so, and its own output on EPIPE: 1
        return Exit.PIPE if leaving.code == 1 else Exit.OK
    except env.OutputFailed as error:
        env.err(f"holychat: the output cannot be written: {error}")
        return Exit.INTERNAL
    except HolychatError as error:
        env.err(f"holychat: {error.what}")
        if error.hint:
            env.err(f"  {error.hint}")
        env.trace(error)
        return _code(error)
    except Exception as error:  # noqa: BLE001 - the last resort, and it says so
        return _unexpected(error)


def _code(error: HolychatError) -> Exit:
    if isinstance(error, UsageError):
        return Exit.USAGE
    if isinstance(error, StoreTrouble):
        return Exit.INTERNAL
    return Exit.PROVIDERS if isinstance(error, Failure) else Exit.SETTINGS


def _unexpected(error: Exception) -> int:
    """typer's own errors (a wrong option) have a message and a code; anything else is our bug."""
    show = getattr(error, "format_message", None)
    if show is not None:
        context, message = getattr(error, "ctx", None), show()
        if message.startswith("Usage:"):  # a group without a command: the help is the message
            env.err(message)
            return Exit.USAGE
        if context is not None:
            env.err(context.get_usage())
        env.err(f"holychat: {message}")
        return Exit.USAGE
    env.trace(error)
    if isinstance(error, OSError):  # the machine, and not a bug: a full disk, a missing folder
        env.err(f"holychat: {error}")
        return Exit.INTERNAL
    kind = type(error).__name__
    env.err(f"holychat: something went wrong inside ({kind}: {error})")
    env.err("  This is a bug. Run it again with --debug FILE and report what FILE holds.")
    return Exit.INTERNAL
