"""The desk is pure: it imports messages, the core, itself, and nothing that touches the world."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator.jobs

JOBS = Path(orchestrator.jobs.__file__).parent
PURE = ("books", "case", "commands", "desk", "entries", "events", "limits", "model", "pictures")
HARMLESS = ("transfer.made", "transfer.messages", "transfer.priority")
WORLDLY = {"asyncio", "io", "os", "pathlib", "random", "socket", "subprocess", "threading", "time"}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("name", [*PURE, "retention", "writing"])
def test_imports_only_what_is_pure(name: str) -> None:
    for module in _imports(JOBS / f"{name}.py"):
        top = module.partition(".")[0]
        mine = module.startswith(("orchestrator.core", "orchestrator.jobs"))
        harmless = top in sys.stdlib_module_names and top not in WORLDLY
        assert mine or harmless or module in HARMLESS, module


def test_loads_no_sockets_no_database_and_no_tensors() -> None:
    script = "import sys, orchestrator.jobs.desk; print(*sys.modules)"
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"zmq", "torch", "asyncio", "uvicorn", "sqlalchemy", "sqlite3"} & loaded
