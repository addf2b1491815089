"""`python -m tests.simulation --seeds 100000`: many runs; the first that fails tells its story.

`--seed N` runs one and tells of it, `--mutations` shows which deliberate bugs are found, and after
how many seeds.
"""

import argparse
import os
import sys
import time

from tests.simulation.mutations import table
from tests.simulation.runs import failures, story


def main() -> int:
    parser = argparse.ArgumentParser("tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, help="one, with its story")
    parser.add_argument("--mutations", action="store_true", help="the table of docs/reliability.md")
    options = parser.parse_args()
    if options.mutations:
        print(table(options.seeds))
        return 0
    if options.seed is not None:
        told = story(options.seed)
        print(told)
        return int("Traceback" in told)
    began = time.monotonic()
    for failure in failures(range(options.first, options.first + options.seeds), options.processes):
        print(story(failure.seed))
        print(f"again: python -m tests.simulation --seed {failure.seed}", file=sys.stderr)
        return 1
    print(f"{options.seeds} seeds hold ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
