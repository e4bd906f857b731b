"""How long it takes to begin.

`--version` and one token of an answer from exec to exit; the REPL from exec to its first prompt.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench import Contestant, home, painted, race, serving, table
from tests.bench.server import text_of

ROUNDS = 40
VERSION_AIM = 1.6  # times `python -c pass`
TOKEN_AIM = 1.0  # times the bare httpx script
BARE = str(Path(__file__).with_name("bare.py"))
BARE_PROMPT = str(Path(__file__).with_name("bare_prompt.py"))


def main(python: str, rounds: int = ROUNDS) -> None:
    script = str(Path(python).with_name("holychat"))
    print(f"Start-up, {rounds} rounds, CPU and wall in ms (median)\n")

    nothing = Contestant("python -c pass", [python, "-c", "pass"])
    versions = [
        nothing,
        Contestant("holychat --version", [script, "--version"]),
        Contestant("python -m holychat --version", [python, "-m", "holychat", "--version"]),
    ]
    with home() as (env, folder):
        race(versions, rounds, env, folder)
    show(versions, VERSION_AIM)

    text = text_of(1)
    ask = ["ask", "hi"]
    bare = Contestant("bare httpx, one token", [python, BARE], len(text))
    tokens = [
        bare,
        Contestant("holychat ask, one token", [script, *ask], len(text) + 1),
        Contestant("python -m holychat ask", [python, "-m", "holychat", *ask], len(text) + 1),
    ]
    with serving(1) as origin, home(f"{origin}/token/v1") as (env, folder):
        race(tokens, rounds, env, folder)
    show(tokens, TOKEN_AIM)

    prompts = [
        Contestant("bare prompt_toolkit, prompt", [python, BARE_PROMPT]),
        Contestant("holychat, first prompt", [script]),
    ]
    with home() as (env, folder):
        race(prompts, rounds, env, folder, painted)
    show(prompts)


def show(contestants: list[Contestant], aim: float | None = None) -> None:
    """The table of some contestants, the first of which is the baseline."""
    base = contestants[0]
    rows = [["", "CPU", "least", "ratio", "wall", "ratio", "aim"]]
    rows += [
        [
            one.name,
            f"{one.cpu() * 1000:.1f}",
            f"{one.least_cpu() * 1000:.1f}",
            f"{one.cpu() / base.cpu():.2f}",
            f"{one.wall() * 1000:.1f}",
            f"{one.wall() / base.wall():.2f}",
            "" if aim is None or one is base else f"<= {aim}",
        ]
        for one in contestants
    ]
    print(table(rows), end="\n\n")
