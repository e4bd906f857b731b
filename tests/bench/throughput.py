"""What a long answer costs: 100,000 chunks at full speed through a pipe."""

from __future__ import annotations

from pathlib import Path

from tests.bench import Contestant, home, race, serving, table
from tests.bench.server import text_of

CHUNKS = 100_000
ROUNDS = 7
AIM = 1.2  # times the CPU of the bare httpx script, per chunk
MEMORY_AIM = 45  # MB at the peak
BARE = str(Path(__file__).with_name("bare.py"))
FORMS = {
    "one": "one event in an HTTP chunk",
    "many": "50 events in an HTTP chunk",
}


def main(python: str, rounds: int = ROUNDS) -> None:
    script = str(Path(python).with_name("holychat"))
    print(f"Throughput, {CHUNKS:,} chunks, {rounds} rounds, CPU per chunk in us (median)\n")
    size = len(text_of(CHUNKS).encode())
    with serving(CHUNKS) as origin:
        for path, form in FORMS.items():
            contestants = [
                Contestant("bare httpx, buffered", [python, BARE], size),
                Contestant("bare httpx, flushed", [python, BARE, "flush"], size),
                Contestant("holychat ask", [script, "ask", "hi"]),
            ]
            with home(f"{origin}/{path}/v1") as (env, folder):
                race(contestants, rounds, env, folder)
            if {run.output - size for run in contestants[-1].runs} - {0, 1}:
                raise RuntimeError("holychat printed something else than the answer")
            show(form, contestants)


def show(form: str, contestants: list[Contestant]) -> None:
    """The table of one form of the answer; the first contestant is the baseline."""
    base = contestants[0]
    rows = [[form, "CPU", "least", "ratio", "aim", "wall s", "peak MB", "aim"]]
    for one in contestants:
        ours = one is contestants[-1]
        rows.append(
            [
                one.name,
                f"{one.cpu() / CHUNKS * 1e6:.2f}",
                f"{one.least_cpu() / CHUNKS * 1e6:.2f}",
                f"{one.cpu() / base.cpu():.2f}",
                f"<= {AIM}" if ours else "",
                f"{one.wall():.2f}",
                f"{one.memory():.1f}",
                f"< {MEMORY_AIM}" if ours else "",
            ]
        )
    print(table(rows), end="\n\n")
