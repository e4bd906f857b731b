"""`python -m tests.bench [NAME ...] [--python PATH] [--rounds N]`; all of them without a name."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench import failover, lag, relay, screen, startup, stats, store, throughput

BENCHMARKS = {
    "startup": startup,
    "throughput": throughput,
    "screen": screen,
    "lag": lag,
    "store": store,
    "stats": stats,
    "failover": failover,
    "relay": relay,
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
    of_relay = parser.add_argument_group("relay")
    of_relay.add_argument("--litellm", default="", help="LiteLLM's program, for comparison")
    of_relay.add_argument(
        "--streams", default=relay.STREAMS, type=_numbers, metavar="N,...", help="at once"
    )
    of_relay.add_argument(
        "--begin", default=relay.BEGINNING, type=int, metavar="N", help="new ones a second"
    )
    of_relay.add_argument("--no-store", action="store_true", help="the relay keeps nothing")
    given = parser.parse_args()
    # absolute, but not resolved: the link in a virtual environment is what makes it one
    python = str(Path(given.python).absolute())
    if not Path(python).with_name("holychat").exists():
        parser.error(f"holychat is not installed beside {python}")
    litellm = given.litellm and str(Path(given.litellm).absolute())
    for name in given.which or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        more = {}
        if benchmark is relay:
            more = {"streams": given.streams, "litellm": litellm}
            more |= {"stored": not given.no_store, "beginning": max(1, given.begin)}
        benchmark.main(python, given.rounds or benchmark.ROUNDS, **more)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(max(1, int(one)) for one in text.split(",")))


if __name__ == "__main__":
    main()
