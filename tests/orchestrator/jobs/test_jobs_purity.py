"""The desk is pure: it imports messages, the core, itself, and nothing that touches the world."""

import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator.jobs
from tests.support.imports import WORLDLY, imported

JOBS = Path(orchestrator.jobs.__file__).parent
PURE = ("books", "case", "commands", "desk", "entries", "events", "limits", "model", "pictures")
HARMLESS = ("transfer.made", "transfer.messages", "transfer.priority")


@pytest.mark.parametrize("name", [*PURE, "lanes", "retention", "unfinished", "writing"])
def test_imports_only_what_is_pure(name: str) -> None:
    for module in imported(JOBS / f"{name}.py"):
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
