"""The figures as tables of docs/hops.md, and back: the page is the record of what was measured."""

from collections.abc import Iterable
from typing import Any

from benchmarks.hops.figures import Figures
from roles.split.survey import Crossing

BEGIN, END = "<!-- benchmarks.hops -->", "<!-- end -->"
# bytes a second: a good network of 10 Gbit/s, and one of 200
SLOW, FAST = 1e9, 25e9
_WEIGHTS = (
    "| model | pipeline | denoiser's parameters | encoder | denoiser | decoder | sizes from |"
)
_HOPS = (
    "| model | request | encoder → denoiser | denoiser → decoder | both at 1 GB/s | at 25 GB/s "
    "| what crosses to the denoiser |"
)


def tables(found: Iterable[Figures]) -> str:
    found = list(found)
    weights = _table(_WEIGHTS, map(_weights, found))
    hops = _table(_HOPS, map(_hops, found))
    return f"{BEGIN}\n\n## Weights of each role, in bfloat16\n\n{weights}\n\n" + (
        f"## What one request hands on\n\n{hops}\n\n{END}"
    )


def put(text: str, page: str) -> str:
    """The page with these tables in the place of its own."""
    before, rest = page.split(BEGIN)
    return before + text + rest.split(END)[1]


def _weights(one: Figures) -> list[str]:
    roles = [size(one.weights[role]) for role in ("encoder", "denoiser", "decoder")]
    billions = f"{one.parameters / 1e9:.3g} B"
    return [one.name, one.pipeline, billions, *roles, one.source]


def _hops(one: Figures) -> list[str]:
    told = [size(each.nbytes) if each.nbytes is not None else "?" for each in one.crossings]
    return [one.name, one.asked, *told, *_seconds(one.crossings), _names(one.crossings[0])]


def _seconds(crossings: list[Crossing]) -> list[str]:
    sizes = [each.nbytes for each in crossings]
    if None in sizes:
        return ["?", "?"]
    total = sum(each or 0 for each in sizes)
    return [duration(total / speed) for speed in (SLOW, FAST)]


def _names(crossing: Crossing) -> str:
    return crossing.why_not or ", ".join(f"`{name}`" for name in crossing.names)


def size(count: int) -> str:
    """Of 1024s: `3.2 GiB`."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.2g} {unit}"


def duration(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.2g} ms"


def _table(head: str, rows: Iterable[list[str]]) -> str:
    columns = head.count("|") - 1
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * columns, *lines])


def rows(page: str) -> list[list[str]]:
    """The cells of all tables between the marks, for those who check the page."""
    own: Any = page.split(BEGIN)[1].split(END)[0]
    lines = [line for line in own.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
