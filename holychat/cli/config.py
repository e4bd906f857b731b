"""`holychat config`: its commands."""

from __future__ import annotations

import os

import typer

from holychat.cli.options import Group, Json, load, loaded_or_path

app = typer.Typer(
    cls=Group, rich_markup_mode=None, no_args_is_help=True, help="See and change the settings."
)


@app.command("path")
def config_path() -> None:
    """Where the config file is."""
    from holychat import settings
    from holychat.commands import config as front

    front.path(settings.config_path(os.environ))


@app.command("show")
def config_show(ctx: typer.Context, json: Json = False) -> None:
    """Every setting, its value and who said it."""
    from holychat.commands import config as front

    front.show(load(ctx.obj), json)


@app.command("get")
def config_get(ctx: typer.Context, name: str) -> None:
    """One setting's value."""
    from holychat.commands import config as front

    front.get(load(ctx.obj), name)


@app.command("set")
def config_set(name: str, value: str) -> None:
    """Write one setting to the config file.

    \b
    holychat config set provider deepseek
    holychat config set providers.box.base_url http://127.0.0.1:9000/v1
    """
    from holychat.commands import config as front

    front.set_(loaded_or_path(), name, value)


@app.command("edit")
def config_edit() -> None:
    """Open the config file in $EDITOR."""
    from holychat.commands import config as front

    front.edit(loaded_or_path(), os.environ)
