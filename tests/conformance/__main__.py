"""`python -m tests.conformance [PATTERN …]`: judges the cases whose names match, one after the
other, and says what holds of each."""

import argparse
import fnmatch
import time

from tests.conformance.judge import judge
from tests.conformance.suite import cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="e.g. 'Flux*/inpainting'")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    for case in cases():
        if any(fnmatch.fnmatch(case.name, pattern) for pattern in args.patterns):
            began = time.monotonic()
            verdict = judge(case, args.dtype)
            word = "exact" if verdict.exact else "DIFFERS"
            print(f"{case.name}: {word} ({verdict.how}) {time.monotonic() - began:.1f} s")
            if verdict.why:
                print(f"    {verdict.why}")


if __name__ == "__main__":
    main()
