"""The tables of `roles/split/quirks.py` with their reasons, read from its source: there a comment
above a table, or the text beside an entry, says why."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roles.split import quirks

RULER = "# ----"


@dataclass(frozen=True)
class Quirk:
    """One entry of a table, and its reason: its own, or else what is said of the table."""

    table: str
    entry: str
    why: str


def known() -> list[Quirk]:
    """In the order of the file."""
    source = Path(quirks.__file__).read_text()
    lines = source.splitlines()
    found: list[Quirk] = []
    for node in ast.parse(source).body:
        target, value = _assigned(node)
        if target and not target.startswith("_") and target.isupper():
            about = _comment(lines, node.lineno)
            found += [Quirk(target, each, why or about) for each, why in _entries(value, target)]
    return found


def _assigned(node: ast.stmt) -> tuple[str, ast.expr | None]:
    match node:
        case ast.Assign(targets=[ast.Name(name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(name), value=value):
            return name, value
    return "", None


def _entries(value: ast.expr | None, table: str) -> Iterator[tuple[str, str]]:
    """What the table names, and its own reasons."""
    real = getattr(quirks, table)
    match value:
        case ast.Dict() if isinstance(real, dict):
            for entry, own in real.items():
                yield str(entry), own if isinstance(own, str) and " " in own else ""
        case ast.Set() | ast.List() | ast.Tuple() | ast.Call():
            for entry in sorted(map(str, real)):
                yield entry, ""


def _comment(lines: list[str], number: int) -> str:
    """What stands above a line, but for reasons that the table's entries share."""
    above: list[str] = []
    for line in reversed(lines[: number - 1]):
        if line.startswith("#") and not line.startswith(RULER):
            above.insert(0, line.removeprefix("#").strip())
        elif not line.startswith("_"):
            break
    return " ".join(above)
