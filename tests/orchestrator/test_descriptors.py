"""The soft limit of descriptors, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from orchestrator.descriptors import allow_connections
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(allow_connections(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "limit"),
    [(256, 4096, 1000), (256, 512, 512), (2000, 4096, 2000)],
    ids=["raised", "as far as permitted", "higher already"],
)
def test_the_limit(soft: int, hard: int, limit: int) -> None:
    argv = [sys.executable, "-c", SCRIPT, str(soft), str(hard), "1000"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert [int(word) for word in done.stdout.split()] == [limit, limit, hard]
