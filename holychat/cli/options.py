"""What the commands of the command line share: options, and the way from them to the fronts.

Owns the options that several commands have, the settings with the flags that are settings too, and
the wish that a chat is started with.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from holychat import env
from holychat.core.failure import SettingsError, UsageError

if TYPE_CHECKING:
    from holychat.core.wish import Wish
    from holychat.exits import Exit
    from holychat.settings import Settings

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
Store = Annotated[
    str, typer.Option(metavar="FILE", help="Where conversations are kept; `none` keeps nothing.")
]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep nothing of it.")]
NoLimits = Annotated[bool, typer.Option("--no-limits", help="Go past the limits, this time.")]
Hedge = Annotated[bool, typer.Option("--hedge", help="Ask a second one when it is late.")]
NoFailover = Annotated[bool, typer.Option("--no-failover", help="Ask nobody but the provider.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Again = Annotated[bool, typer.Option("-c", "--continue", help="Go on with the last conversation.")]


def _named(ctx: typer.Context, param: typer.CallbackParam, value: str) -> str:
    """An empty name is that of a script whose variable is not set, and no wish for a new one."""
    source = ctx.get_parameter_source(param.name or "")
    if source is not None and source.name == "COMMANDLINE" and not value.strip():
        raise UsageError(
            "--session names no conversation",
            "It takes an id or a title; --continue goes on with the last one.",
        )
    return value


Kept = Annotated[
    str,
    typer.Option(
        "--session", metavar="NAME", callback=_named, help="Go on with this one: its id or title."
    ),
]


class Group(typer.core.TyperGroup):
    """`holychat "two words"` is `ask`: an argument with white space cannot be a command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and ctx.parent is None and is_prompt(args[0]):
            args = ["ask", *args]
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Click's form
        return list(self.commands)  # in the order of this file: what is used most comes first


def is_prompt(argument: str) -> bool:
    return argument == "-" or any(c.isspace() for c in argument)


# --- From options to fronts -----------------------------------------------------------------------


def uncoloured(wanted: bool) -> None:
    """The flag as the variable, which every writer on both streams knows."""
    if wanted:
        os.environ["NO_COLOR"] = "1"


_SHARED = (
    "model", "provider", "system", "option", "reasoning", "timeout", "store", "no_store", "quiet",
    "no_color", "session", "again", "no_failover", "hedge", "no_limits",
)  # fmt: skip


def common(given: dict[str, Any]) -> dict[str, Any]:
    """The options that `holychat` and `holychat ask` have in common, out of a body's locals."""
    return {name: given[name] for name in _SHARED}


def load(shared: dict[str, Any]) -> Settings:
    """The settings, with the flags that are settings too."""
    from holychat import settings

    flags = {
        "provider": shared.get("provider") or None,
        "system": shared.get("system"),
        "ui.reasoning": shared.get("reasoning") or None,
        "limits.hold": False if shared.get("no_limits") else None,
        "failover.hedge": True if shared.get("hedge") else None,
        "failover.providers": "none" if shared.get("no_failover") else None,
        "store": "none" if shared.get("no_store") else shared.get("store") or None,
    }
    try:
        cwd = Path.cwd()
    except OSError:  # it was removed under us: it has no `.env`, and nothing else is asked of it
        cwd = Path(os.devnull)
    return settings.load(environ=os.environ, cwd=cwd, flags=flags)


def loaded_or_path() -> Settings | Path:
    """The settings, or the file alone where it is too broken to load but may be mended."""
    from holychat import settings

    try:
        return load({})
    except SettingsError:
        return settings.config_path(os.environ)


def wished(settings: Settings, shared: dict[str, Any], **more: Any) -> Wish:
    """What is asked of a chat. Raises UsageError for what does not fit together."""
    from holychat.core.wish import Wish

    if shared["again"] and shared["session"]:
        raise UsageError("--continue and --session exclude each other")
    if (shared["again"] or shared["session"]) and settings["store"] == "none":
        raise UsageError("nothing is kept (--no-store), so there is nothing to go on with")
    if shared["timeout"] is not None and not math.isfinite(shared["timeout"]):
        raise UsageError("--timeout takes seconds")
    return Wish(
        model=shared["model"],
        provider=shared["provider"],
        params=params_of(shared["option"]),
        reasoning=shared["reasoning"],
        timeout=shared["timeout"],
        quiet=shared["quiet"],
        no_color=shared["no_color"],
        session=shared["session"],
        again=shared["again"],
        **more,
    )


def chat(shared: dict[str, Any]) -> Exit:
    """The chat in the terminal. Raises UsageError where there is none."""
    if not env.is_terminal(env.STDIN):
        raise UsageError("the chat needs a terminal", 'For one answer: holychat ask "..."')
    env.echo(on=False)  # what is typed while the prompt is being made comes with the prompt
    try:
        from holychat.commands.repl import loop as front

        settings = load(shared)
        return front.run(settings, wished(settings, shared))
    finally:
        env.echo(on=True)


def form_of(json: bool, jsonl: bool, raw: bool | None) -> str:
    """The writer's name; empty where nothing was said."""
    if json and jsonl:
        raise UsageError("--json and --jsonl exclude each other")
    if json or jsonl:
        return "json" if json else "jsonl"
    if raw is None:
        return ""
    return "plain" if raw else ("live" if env.can_move_cursor(os.environ) else "render")


def params_of(pairs: list[str]) -> dict[str, Any]:
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
