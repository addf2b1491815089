"""`make test` tries each kind of fault at one place; `make chaos` at all of them, for minutes."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EVERYTHING = os.environ.get("CHAOS") == "all"
WHOLE = {"test_hostile_bytes.py"}
"""Of these, `make test` runs everything: they are quick."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if EVERYTHING:
        return
    tried: set[tuple[Path, str]] = set()
    kept, left_out = [], []
    for item in items:
        function = item.path, getattr(item, "originalname", item.name)
        again = item.path.parent == HERE and item.path.name not in WHOLE and function in tried
        tried.add(function)
        (left_out if again else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
