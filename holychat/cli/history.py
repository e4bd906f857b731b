"""`holychat history`: its commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core

from holychat.cli.options import Group, Json, Store, chat, load
from holychat.core.failure import UsageError

if TYPE_CHECKING:
    from holychat.settings import Settings

WHEN = "7d, 12h, 2w, 3m (months), today or a date, 2026-01-31"

Name = Annotated[str, typer.Argument(help="Its id, 4 letters of it or more, or its title.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Their ids or titles.")]
Since = Annotated[str, typer.Option(metavar="WHEN", help=f"Not older than: {WHEN}.")]
Until = Annotated[str, typer.Option(metavar="WHEN", help="Not newer than.")]
Provider = Annotated[
    str, typer.Option("-p", "--provider", metavar="NAME", help="Only with this provider.")
]
Model = Annotated[
    str, typer.Option("-m", "--model", metavar="NAME", help="Only with this model; a part will do.")
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]

_DASHED = re.compile(r"-+[^-\w]")


class Search(typer.core.TyperCommand):
    """Code may begin with a dash: `->bar` cannot be an option, so it is a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = [each for each in args if _DASHED.match(each)]
        rest = [each for each in args if each not in words]
        try:
            return super().parse_args(ctx, [*args])
        except Exception as error:
            if type(error).__name__ != "NoSuchOption":  # Click's own, which is typer's secret
                raise
            if words and "--" not in args:
                return self.parse_args(ctx, [*rest, "--", *words])
            raise UsageError(
                f"there is no option {getattr(error, 'option_name', '')}",
                "Words that begin with - stand behind --: holychat history search -- WORDS",
            ) from error


app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Find, show and keep in order what was said.",
)


def _settings(ctx: typer.Context, store: str) -> Settings:
    """Of them only the store and the looks matter here."""
    root = ctx.obj
    return load({"store": store or root["store"], "no_store": root["no_store"] and not store})


@app.command("list")
def history_list(
    ctx: typer.Context,
    since: Since = "",
    until: Until = "",
    provider: Provider = "",
    model: Model = "",
    number: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help="At most so many.")
    ] = None,
    json: Json = False,
    store: Store = "",
) -> None:
    """The conversations, the newest first.

    \b
    holychat history list --since 7d
    holychat history list -m deepseek --json | jq -r '.[].title'
    """
    from holychat.commands import history as front

    narrowed = front.narrowed(
        since, until, provider or ctx.obj["provider"], model or ctx.obj["model"]
    )
    raise typer.Exit(front.list_(_settings(ctx, store), narrowed, number, json=json))


@app.command("show")
def history_show(
    ctx: typer.Context,
    name: Name,
    raw: Annotated[
        bool | None, typer.Option("--raw/--render", help="Markdown source / drawn.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="With the branches that were left.")] = False,
    json: Json = False,
    store: Store = "",
) -> None:
    """A whole conversation; in a pipe as Markdown source.

    \b
    holychat history show k3jx
    """
    from holychat.commands.history import show as front

    raise typer.Exit(front.show(_settings(ctx, store), name, raw=raw, every=every, json=json))


@app.command("search", cls=Search)
def history_search(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="WORDS...", help="All of them must be in.")],
    since: Since = "",
    until: Until = "",
    provider: Provider = "",
    model: Model = "",
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, help="At most so many.")] = 50,
    json: Json = False,
    store: Store = "",
) -> None:
    """Messages with these words, the best first.

    \b
    holychat history search sourdough starter
    holychat history search -- --force-with-lease
    """
    from holychat.commands import history as front

    narrowed = front.narrowed(
        since, until, provider or ctx.obj["provider"], model or ctx.obj["model"]
    )
    settings = _settings(ctx, store)
    raise typer.Exit(front.search(settings, " ".join(words), narrowed, number, json=json))


@app.command("resume")
def history_resume(ctx: typer.Context, name: Name, store: Store = "") -> None:
    """Go on with a conversation: the same as holychat --session NAME."""
    if not name.strip():  # which would begin a new one
        raise UsageError("a conversation is named by its id or its title")
    shared = {**ctx.obj, "session": name, "again": False}
    shared["store"] = store or shared["store"]
    raise typer.Exit(chat(shared))


@app.command("fork")
def history_fork(
    ctx: typer.Context,
    name: Name,
    at: Annotated[
        int | None, typer.Option(metavar="MESSAGE", help="Its last message; `show` numbers them.")
    ] = None,
    json: Json = False,
    store: Store = "",
) -> None:
    """Copy a conversation to go another way with it; prints the new id."""
    from holychat.commands.history import change as front

    raise typer.Exit(front.fork(_settings(ctx, store), name, at, json=json))


@app.command("rename")
def history_rename(
    ctx: typer.Context,
    name: Name,
    title: Annotated[list[str], typer.Argument(metavar="TITLE", help="The new title.")],
    json: Json = False,
    store: Store = "",
) -> None:
    """Give a conversation another title."""
    from holychat.commands.history import change as front

    raise typer.Exit(front.rename(_settings(ctx, store), name, " ".join(title), json=json))


@app.command("export")
def history_export(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Ids or titles; else all.")
    ] = None,
    form: Annotated[
        Literal["md", "json", "html", ""],
        typer.Option("--format", metavar="md|json|html", help="Else by FILE's ending, else md."),
    ] = "",
    out: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="A new file; else stdout.")
    ] = "",
    json: Annotated[
        bool, typer.Option("--json", help="Tell as JSON what FILE holds; to stdout: JSON itself.")
    ] = False,
    store: Store = "",
) -> None:
    """Write conversations as Markdown, JSON (lossless) or one web page.

    \b
    holychat history export k3jx -o talk.html
    """
    from holychat.commands.history import transfer
    from holychat.engine.shelf import place

    path = place(_settings(ctx, store))
    raise typer.Exit(transfer.export(path, names or [], form, out, json=json))


@app.command("import")
def history_import(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; - reads stdin.")],
    form: Annotated[
        Literal["holychat", "llm", "chatgpt", ""],
        typer.Option("--from", metavar="holychat|llm|chatgpt", help="Else by what is in it."),
    ] = "",
    json: Json = False,
    store: Store = "",
) -> None:
    """Take in a file of holychat, llm or ChatGPT.

    \b
    holychat history import logs.db             of llm
    holychat history import conversations.json  of ChatGPT
    """
    from holychat.commands.history import transfer
    from holychat.engine.shelf import place

    path = place(_settings(ctx, store))
    raise typer.Exit(transfer.import_(path, file, form, json=json))


@app.command("delete")
def history_delete(
    ctx: typer.Context, names: Names, yes: Yes = False, json: Json = False, store: Store = ""
) -> None:
    """Delete conversations for good."""
    from holychat.commands.history import change as front

    raise typer.Exit(front.delete(_settings(ctx, store), names, yes=yes, json=json))


@app.command("prune")
def history_prune(
    ctx: typer.Context,
    older_than: Annotated[str, typer.Option(metavar="WHEN", help=f"{WHEN}.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    yes: Yes = False,
    json: Json = False,
    store: Store = "",
) -> None:
    """Delete what was not spoken in for long.

    \b
    holychat history prune --older-than 90d --dry-run
    """
    from holychat.commands.history import change as front

    settings = _settings(ctx, store)
    raise typer.Exit(front.prune(settings, older_than, dry_run=dry_run, yes=yes, json=json))


@app.command("backup")
def history_backup(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file that is not there yet.")],
    json: Json = False,
    store: Store = "",
) -> None:
    """Copy the whole store to a file, while others go on writing."""
    from holychat.commands.history import change as front

    raise typer.Exit(front.backup(_settings(ctx, store), path, json=json))
