"""`holychat stats`: its options."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from holychat.cli.history import WHEN
from holychat.cli.options import Json, NoColor, Store, load, uncoloured
from holychat.core.failure import UsageError

By = Literal["day", "provider", "model", "conversation", "hour"]


def stats(
    ctx: typer.Context,
    last: Annotated[
        str, typer.Option(metavar="DAYS", help="7d, 12w, 6m (months), 1y or all; else 30d.")
    ] = "",
    since: Annotated[str, typer.Option(metavar="WHEN", help=f"From: {WHEN}.")] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="To, that day included.")] = "",
    by: Annotated[
        By | None,
        typer.Option(metavar="WHAT", help="day, provider, model, conversation or hour."),
    ] = None,
    provider: Annotated[
        str, typer.Option("-p", "--provider", metavar="NAME", help="Only of this provider.")
    ] = "",
    model: Annotated[
        str, typer.Option("-m", "--model", metavar="NAME", help="Only of this model.")
    ] = "",
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line for each group.")] = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page into a new file; - prints it.")
    ] = None,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print Prometheus' text; of all days.")
    ] = False,
    store: Store = "",
    no_color: NoColor = False,
) -> None:
    """Tokens, cost, speed and errors of a period.

    \b
    holychat stats --last 7d
    holychat stats --by conversation --since 2026-01-01
    holychat stats --by day --csv > days.csv
    """
    from holychat.commands import stats as front

    uncoloured(no_color)
    wanted = {"json": json, "csv": csv, "html": html is not None, "prometheus": prometheus}
    forms = [name for name, on in wanted.items() if on]
    if len(forms) > 1:
        raise UsageError(f"--{forms[0]} and --{forms[1]} exclude each other")
    if html == "":
        raise UsageError("--html names no file", "- prints the page.")
    root = ctx.obj
    asked = front.Asked(
        last, since, until, provider or root["provider"], model or root["model"], by,
        "".join(forms), html or "",
    )  # fmt: skip
    kept = {"store": store or root["store"], "no_store": root["no_store"] and not store}
    raise typer.Exit(front.run(load(kept), asked))
