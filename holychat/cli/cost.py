"""`holychat cost`: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from holychat.cli.options import (
    Again,
    Json,
    Kept,
    Model,
    NoColor,
    ProviderName,
    Store,
    System,
    load,
    uncoloured,
)


def cost(
    ctx: typer.Context,
    prompt: Annotated[
        list[str] | None, typer.Argument(help="A prompt to price; - reads it from stdin.")
    ] = None,
    model: Model = "",
    provider: ProviderName = "",
    system: System = None,
    again: Again = False,
    session: Kept = "",
    answer: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Tokens of its answer.")
    ] = None,
    last: Annotated[
        str, typer.Option(metavar="30d", help="Recorded work: 7d, 12w, 6m, 1y, all.")
    ] = "",
    on: Annotated[
        list[str], typer.Option(metavar="MODEL", help="Compare with these; repeat it, or commas.")
    ] = [],  # noqa: B006 - typer's form
    tokens: Annotated[
        str, typer.Option(metavar="10M", help="A month of as many tokens in as out.")
    ] = "",
    prompted: Annotated[str, typer.Option("--in", metavar="10M", help="Tokens in.")] = "",
    completed: Annotated[str, typer.Option("--out", metavar="10M", help="Tokens out.")] = "",
    cached: Annotated[
        str, typer.Option(metavar="30%", help="The part of the tokens in that a cache has.")
    ] = "",
    fixed: Annotated[
        str, typer.Option(metavar="SUM", help="What moving costs a month: does it pay?")
    ] = "",
    all_: Annotated[bool, typer.Option("--all", help="All models, not the cheapest 15.")] = False,
    json: Json = False,
    no_color: NoColor = False,
    store: Store = "",
) -> None:
    """What a prompt, a conversation or a month costs, here and elsewhere.

    Sends nothing and needs no key.

    \b
    holychat cost "why is the sky blue?"
    holychat cost --last 30d --on gpt-4.1 --on deepseek/deepseek-chat
    holychat cost --tokens 10M --on gpt-4.1 --fixed 20
    """
    from holychat.commands import cost as front

    uncoloured(no_color)
    root = ctx.obj
    shared = {**root, "provider": provider or root["provider"], "store": store or root["store"]}
    shared["no_store"] = root["no_store"] and not store
    shared["system"] = root["system"] if system is None else system
    asked = front.Asked(
        prompt=" ".join(prompt) if prompt else None,
        model=model or root["model"],
        provider=shared["provider"],
        session=session or root["session"],
        again=again or root["again"],
        last=last,
        on=tuple(on),
        answer=answer,
        tokens=tokens,
        prompted=prompted,
        completed=completed,
        cached=cached,
        fixed=fixed,
        all_=all_,
        json=json,
    )
    raise typer.Exit(front.run(load(shared), asked))
