"""Bytes that cross each hop, and bytes of weights per role, of published models at real scale.

    python -m benchmarks.hops [NAME …] [--write] [--json FILE]

No weights and no network: each model is built from the sizes of its published config on torch's
meta device, where parameters have shapes and no memory. Its pipeline's own program then runs as in
the roles, with modules that say zeros of the right shapes, and what would cross is packed as a real
payload is. `--write` puts the tables into docs/hops.md; for that, all are measured.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.environment import describe
from benchmarks.hops import page
from benchmarks.hops.family import Family
from benchmarks.hops.figures import Figures, measure

PAGE = Path(__file__).parents[2] / "docs" / "hops.md"


def families() -> list[Family]:
    from benchmarks.hops import films, images

    return [*images.FAMILIES, *films.FAMILIES]


def main() -> None:
    options = _options()
    if options.one:
        sys.stdout.buffer.write(msgspec.json.encode(measure(_named(options.one))))
        return
    chosen = [each for each in families() if _wanted(each.name, options.names)]
    if not chosen:
        sys.exit("there is no such model: " + ", ".join(each.name for each in families()))
    found = []
    for family in chosen:
        found.append(_apart(family.name))
        print(family.name, *[each.nbytes for each in found[-1].crossings], file=sys.stderr)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    print(describe(), end="\n\n")
    print(page.tables(found))
    if options.write:
        PAGE.write_text(page.put(page.tables(found), PAGE.read_text()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hops", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names; without: all")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/hops.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write and options.names:
        parser.error("--write is for all of them")
    return options


def _wanted(name: str, parts: list[str]) -> bool:
    return not parts or any(part.lower() in name.lower() for part in parts)


def _named(name: str) -> Family:
    return next(each for each in families() if each.name == name)


def _apart(name: str) -> Figures:
    """In a process of its own, whose memory the system has back when it is done."""
    command = [sys.executable, "-m", "benchmarks.hops", "--one", name]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return msgspec.json.decode(said, type=Figures)


if __name__ == "__main__":
    main()
