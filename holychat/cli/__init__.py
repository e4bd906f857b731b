"""The command line: options, and one call into a front for each command.

Owns the options, their help, and the one place where an error becomes an exit code. Bodies are a
few lines; every front is imported by its own command only, so that `ask` never loads the REPL.
"""

from __future__ import annotations

import signal
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import typer

from holychat import __version__, env
from holychat.cli import config, cost, history, migrate, serve, stats
from holychat.cli.options import (
    Again,
    Group,
    Hedge,
    Json,
    Kept,
    Model,
    NoColor,
    NoFailover,
    NoLimits,
    NoStore,
    Param,
    ProviderName,
    Quiet,
    Reasoning,
    Store,
    System,
    Timeout,
    chat,
    common,
    form_of,
    is_prompt,
    load,
    uncoloured,
    wished,
)
from holychat.core.failure import Failure, HolychatError, StoreTrouble, UsageError
from holychat.exits import Exit

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
    no_failover: NoFailover = False,
    hedge: Hedge = False,
    no_limits: NoLimits = False,
    quiet: Quiet = False,
    no_color: NoColor = False,
    again: Again = False,
    session: Kept = "",
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
    uncoloured(no_color)
    shared = common(locals())
    ctx.obj = shared
    if ctx.invoked_subcommand is None:
        if env.is_terminal(env.STDIN):
            raise typer.Exit(chat(shared))
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
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent and cost; send nothing.")
    ] = False,
    reasoning: Reasoning = "",
    timeout: Timeout = None,
    store: Store = "",
    no_store: NoStore = False,
    no_failover: NoFailover = False,
    hedge: Hedge = False,
    no_limits: NoLimits = False,
    quiet: Quiet = False,
    no_color: NoColor = False,
    again: Again = False,
    session: Kept = "",
) -> None:
    """One answer to one prompt.

    \b
    holychat ask "capital of France?"
    git diff | holychat ask "a commit message, please"
    holychat ask -m gpt -o temperature=0 --json "a haiku" | jq -r .text
    """
    own = common(locals())
    shared = {name: value or ctx.obj[name] for name, value in own.items()}
    shared["option"] = [*ctx.obj["option"], *option]
    if system is not None:  # an empty one is a wish too: none, whatever the settings say
        shared["system"] = system
    uncoloured(no_color)
    form = form_of(json, jsonl, raw)
    words = " ".join(prompt) if prompt else None
    stream = not no_stream
    raise typer.Exit(_ask(shared, words, form=form, stream=stream, no_stdin=no_stdin, dry=dry))


@app.command()
def demo(
    ctx: typer.Context,
) -> None:
    """Chat with the built-in offline provider: a script, no model, no key."""
    raise typer.Exit(chat({**ctx.obj, "provider": "demo"}))


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
    raise typer.Exit(front.run(load({}), answers))


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
    raise typer.Exit(front.run(load(ctx.obj), name, search, refresh=refresh, json=json))


@app.command()
def providers(ctx: typer.Context, json: Json = False) -> None:
    """List the providers and whether they can be asked."""
    from holychat.commands import providers as front

    raise typer.Exit(front.run(load(ctx.obj), json=json))


@app.command()
def doctor(
    ctx: typer.Context,
    provider: ProviderName = "",
    json: Json = False,
    offline: Annotated[bool, typer.Option("--offline", help="Settings only.")] = False,
    ask: Annotated[
        bool, typer.Option("--ask", help="Ask each provider for one token too; it costs.")
    ] = False,
    simulate: Annotated[
        list[str],
        typer.Option(
            metavar="FAULT",
            help="Rehearse a fault: 429, 500, cut, stall, slow, reset. Sends a short prompt.",
        ),
    ] = [],  # noqa: B006 - typer's form
) -> None:
    """Look for what is wrong: settings, keys, network, provider by phases.

    \b
    holychat doctor --ask
    holychat doctor --simulate cut --simulate 500
    """
    name = provider or ctx.obj["provider"]
    if simulate and offline:
        raise UsageError("--simulate asks a provider, and --offline nobody")
    if simulate:
        from holychat.commands.doctor import rehearsal

        raise typer.Exit(rehearsal.run(load(ctx.obj), name, simulate, json=json))
    from holychat.commands import doctor as front

    raise typer.Exit(front.run(load(ctx.obj), name, json=json, offline=offline, ask=ask))


# --- From options to fronts -----------------------------------------------------------------------


def _ask(shared: dict[str, Any], prompt: str | None, **more: Any) -> Exit:
    from holychat.commands import ask as front

    settings = load(shared)
    return front.run(settings, wished(settings, shared, prompt=prompt, **more))


def _asked(arguments: list[str]) -> typer.Typer:
    """The app with the command that is asked for, or with all where the first argument is none.

    typer builds the options before it looks at the arguments: 15 ms for all commands, a third of
    that for `ask`, the longest.
    """
    first = arguments[0] if arguments else ""
    name = "ask" if is_prompt(first) else first
    part = copy(app)
    part.registered_commands = [
        info for info in app.registered_commands if getattr(info.callback, "__name__", "") == name
    ]
    part.registered_groups = [copy(info) for info in app.registered_groups if info.name == name]
    for info in part.registered_groups:
        info.typer_instance = _narrowed(info.typer_instance, arguments[1:2])
    return part if part.registered_commands or part.registered_groups else app


def _narrowed(group: typer.Typer | None, wanted: list[str]) -> typer.Typer | None:
    """The same for a group's own commands."""
    part = copy(group)
    if group is None or part is None:
        return None
    part.registered_commands = [info for info in group.registered_commands if info.name in wanted]
    return part if part.registered_commands else group


app.command()(stats.stats)
app.command()(cost.cost)
app.command()(serve.serve)
app.add_typer(history.app, name="history")
app.add_typer(migrate.app, name="migrate")
app.add_typer(config.app, name="config")


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
