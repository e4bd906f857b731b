"""`holychat serve`: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from holychat.cli.options import NoColor, Quiet, Store, Timeout, load, uncoloured


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen at; 0 takes a free one.", min=0, max=65535)
    ] = 8787,
    token_file: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="The bearer token, made where there is none; by default serve-token in the folder"
            " of holychat's data.",
        ),
    ] = "",
    allow_origin: Annotated[
        list[str], typer.Option(metavar="URL", help="Another web page that may come (CORS).")
    ] = [],  # noqa: B006 - typer's form
    allow_host: Annotated[
        list[str], typer.Option(metavar="NAME", help="Another name of this machine.")
    ] = [],  # noqa: B006 - typer's form
    workers: Annotated[
        int,
        typer.Option(
            help="Processes at the one port; each has its own --max-streams.", min=1, max=64
        ),
    ] = 1,
    max_body: Annotated[int, typer.Option(metavar="BYTES", help="Of a request.", min=1024)] = 1
    << 20,
    max_streams: Annotated[
        int, typer.Option(help="Answers at the same time, by process.", min=1)
    ] = 256,
    keep_alive: Annotated[
        float, typer.Option(metavar="SECONDS", help="Silence before a comment.", min=0.1)
    ] = 10.0,
    timeout: Timeout = None,
    store: Store = "",
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> None:
    """Serve all models at one local address, in OpenAI's form and as a web page.

    \b
    holychat serve
    TOKEN=$(cat ~/.local/share/holychat/serve-token)
    curl localhost:8787/v1/models -H "Authorization: Bearer $TOKEN"
    """
    from holychat.commands import serve as front

    uncoloured(no_color)
    asked = front.Asked(
        host, port, token_file, tuple(allow_origin), tuple(allow_host), workers, max_body,
        max_streams, keep_alive, quiet or ctx.obj["quiet"], timeout or ctx.obj["timeout"],
    )  # fmt: skip
    kept = {"store": store or ctx.obj["store"], "no_store": ctx.obj["no_store"] and not store}
    raise typer.Exit(front.run(load({**ctx.obj, **kept}), asked))
