"""The core is pure: it imports the messages, itself, and nothing that could touch the world."""

import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator.core
from tests.support.imports import WORLDLY, imported

CORE = Path(orchestrator.core.__file__).parent
ALLOWED = {"transfer.messages", "transfer.costs", "transfer.priority", "transfer.speed"}
ALLOWED |= {"transfer.previews", "transfer.actions", "transfer.results", "msgspec.structs"}


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.name)
def test_imports_only_messages_and_harmless_standard_modules(path: Path) -> None:
    for name in imported(path):
        top = name.partition(".")[0]
        mine = name.startswith("orchestrator.core") or name in ALLOWED
        assert mine or (top in sys.stdlib_module_names and top not in WORLDLY), name


def test_loads_no_sockets_and_no_tensors() -> None:
    script = "import sys, orchestrator.core.machine; print(*sys.modules)"
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert not {"zmq", "torch", "asyncio", "uvicorn"} & set(done.stdout.split())
