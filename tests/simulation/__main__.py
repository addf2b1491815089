"""`python -m tests.simulation --seeds 100000`: many runs; the first that fails tells its story.

`--engines` puts real leaders with real engines around the core, in virtual time, instead of doubles
around the core and the desk. `--seed N` runs one and tells of it, `--mutations` shows which
deliberate bugs are found, and after how many seeds.
"""

import argparse
import importlib
import os
import sys
import time

from tests.simulation.mutations import table
from tests.simulation.runs import failures


def main() -> int:
    parser = argparse.ArgumentParser("tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, help="one, with its story")
    parser.add_argument("--mutations", action="store_true", help="the table of docs/reliability.md")
    parser.add_argument("--engines", action="store_true", help="with real leaders")
    options = parser.parse_args()
    runs = importlib.import_module(f"tests.simulation{'.engines' * options.engines}.runs")
    if options.mutations:
        print(table(options.seeds))
        return 0
    if options.seed is not None:
        told = runs.story(options.seed)
        print(told)
        return int("Traceback" in told)
    began = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    for failure in failures(seeds, options.processes, runs.first_failure):
        print(runs.story(failure.seed))
        flags = f"{'--engines ' * options.engines}--seed {failure.seed}"
        print(f"again: python -m tests.simulation {flags}", file=sys.stderr)
        return 1
    print(f"{options.seeds} seeds hold ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
