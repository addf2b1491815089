"""A leader must start fast and stay small: what it imports pulls in no torch."""

import subprocess
import sys

import pytest

LIGHT = """transfer.transport transfer.pool transfer.media transfer.messages transfer.header
transfer.manifest transfer.record transfer.slots transfer.errors transfer.backends.shm
transfer.backends.mooncake""".split()  # noqa: SIM905

HEAVY = ("torch", "diffusers", "transformers", "PIL")


@pytest.mark.parametrize("heavy", HEAVY)
def test_leaders_import_nothing_heavy(heavy: str) -> None:
    code = f"import sys, {', '.join(LIGHT)}; sys.exit({heavy!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mooncake_is_imported_only_when_it_is_used() -> None:
    code = f"import sys, {', '.join(LIGHT)}; sys.exit('mooncake' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
