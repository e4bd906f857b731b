"""`holychat migrate`: its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from holychat.cli.options import Group, Json, Store, load

if TYPE_CHECKING:
    from holychat.settings import Settings

Force = Annotated[bool, typer.Option("--force", help="Also where the gate is not passed.")]

app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Move from one provider to another, in stages.",
)


def _settings(ctx: typer.Context, store: str) -> Settings:
    root = ctx.obj
    return load({"store": store or root["store"], "no_store": root["no_store"] and not store})


@app.command("start")
def migrate_start(
    ctx: typer.Context,
    old: Annotated[str, typer.Option("--from", metavar="NAME", help="The provider to leave.")],
    new: Annotated[str, typer.Option("--to", metavar="NAME", help="The one to go to.")],
    shadow: Annotated[
        float, typer.Option(metavar="SHARE", help="Copy this share of prompts first; it costs.")
    ] = 0.0,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    store: Store = "",
) -> None:
    """Assess what is used; nothing goes to the new provider yet.

    \b
    holychat migrate start --from deepseek --to holysheep
    holychat migrate start --from deepseek --to holysheep --shadow 0.05
    """
    from holychat.commands import migrate as front

    raise typer.Exit(front.start(_settings(ctx, store), old, new, shadow, yes=yes))


@app.command("status")
def migrate_status(ctx: typer.Context, json: Json = False, store: Store = "") -> None:
    """Where it stands, and what the stage still lacks."""
    from holychat.commands import migrate as front

    raise typer.Exit(front.status(_settings(ctx, store), json=json))


@app.command("next")
def migrate_next(ctx: typer.Context, force: Force = False, store: Store = "") -> None:
    """Go on to the next stage: 10, 25, 50, 100 % of the conversations."""
    from holychat.commands import migrate as front

    raise typer.Exit(front.forward(_settings(ctx, store), force=force))


@app.command("rollback")
def migrate_rollback(
    ctx: typer.Context,
    why: Annotated[str, typer.Option(metavar="TEXT", help="The reason, for the report.")] = "",
    store: Store = "",
) -> None:
    """Send nothing to the new provider any more, at once."""
    from holychat.commands import migrate as front

    raise typer.Exit(front.rollback(_settings(ctx, store), why))


@app.command("finish")
def migrate_finish(ctx: typer.Context, force: Force = False, store: Store = "") -> None:
    """End a migration that is at 100 %."""
    from holychat.commands import migrate as front

    raise typer.Exit(front.finish(_settings(ctx, store), force=force))


@app.command("report")
def migrate_report(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE.md", help="A new file; - is stdout.")],
    store: Store = "",
) -> None:
    """Write stages, figures and decisions as Markdown."""
    from holychat.commands import migrate as front

    raise typer.Exit(front.write(_settings(ctx, store), file))
