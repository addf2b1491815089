"""What a file imports, for tests of purity."""

import ast
from collections.abc import Iterator
from pathlib import Path

WORLDLY = {"asyncio", "io", "os", "pathlib", "random", "socket", "subprocess", "threading", "time"}
"""Modules of the standard library that touch the world."""


def imported(path: Path) -> Iterator[str]:
    """The names of the modules that it imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
