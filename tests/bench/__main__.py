"""`python -m tests.bench [NAME ...] [--python PATH] [--rounds N]`; all of them without a name."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench import failover, lag, screen, startup, stats, store, throughput

BENCHMARKS = {
    "startup": startup,
    "throughput": throughput,
    "screen": screen,
    "lag": lag,
    "store": store,
    "stats": stats,
    "failover": failover,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("which", nargs="*", choices=[*BENCHMARKS, []], metavar="|".join(BENCHMARKS))
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="the interpreter beside which holychat is installed, best not as editable",
    )
    parser.add_argument("--rounds", type=int, help="runs of each contestant")
    given = parser.parse_args()
    # absolute, but not resolved: the link in a virtual environment is what makes it one
    python = str(Path(given.python).absolute())
    if not Path(python).with_name("holychat").exists():
        parser.error(f"holychat is not installed beside {python}")
    for name in given.which or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        benchmark.main(python, given.rounds or benchmark.ROUNDS)


if __name__ == "__main__":
    main()
