"""Cores that ranks share, asked by this process and held by real others."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from roles.cores import Cores, OwnCores, share

HOLDER = """
import sys
from roles.cores import Cores
cores = Cores(1, 8, sys.argv[1])
cores.work()
print("busy", flush=True)
for line in sys.stdin:
    cores.rest()
    print("idle", flush=True)
"""


@pytest.fixture
def file() -> Iterator[str]:
    fd = os.memfd_create("cores")
    yield f"/proc/{os.getpid()}/fd/{fd}"
    os.close(fd)


@pytest.fixture
def cores(file: str) -> Iterator[Cores]:
    made = Cores(1, 8, file)
    yield made
    made.close()


@contextmanager
def computing(file: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that is busy."""
    command = [sys.executable, "-c", HOLDER, file]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "busy\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("own", "total", "others", "threads"),
    [
        (1, 2, 0, 2),
        (1, 2, 1, 1),
        (1, 2, 5, 1),
        (2, 8, 0, 8),
        (2, 8, 1, 4),
        (2, 8, 2, 2),
        (3, 8, 2, 3),
    ],
)
def test_cores_are_divided_among_those_that_compute(
    own: int, total: int, others: int, threads: int
) -> None:
    assert share(own, total, others) == threads


def test_one_that_is_alone_has_all_cores(cores: Cores) -> None:
    cores.work()
    assert cores.threads(alone=False) == 8


def test_each_that_computes_takes_its_share(file: str, cores: Cores) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(computing(file))
        assert cores.threads(alone=False) == 2
    assert cores.threads(alone=False) == 8


def test_who_rests_gives_its_cores(file: str, cores: Cores) -> None:
    with computing(file) as other:
        assert other.stdin
        assert other.stdout
        print("rest", file=other.stdin, flush=True)
        assert other.stdout.readline() == "idle\n"
        assert cores.threads(alone=False) == 8


def test_it_tells_when_the_number_has_become_another(file: str, cores: Cores) -> None:
    assert cores.threads(alone=False) == 8
    with computing(file):
        assert cores.changed()
        assert cores.threads(alone=False) == 4
        assert not cores.changed()
    assert cores.changed()


def test_one_that_was_killed_computes_no_more(file: str, cores: Cores) -> None:
    with computing(file) as other:
        assert cores.threads(alone=False) == 4
        other.kill()
        other.wait()
        assert cores.threads(alone=False) == 8


def test_what_is_exact_keeps_to_its_own(file: str, cores: Cores) -> None:
    assert cores.threads(alone=True) == 1
    assert not cores.changed()  # whoever comes and goes
    with computing(file):
        assert not cores.changed()


def test_costs_are_told_apart_by_threads(file: str, cores: Cores) -> None:
    assert cores.threads(alone=True) == 1
    assert cores.label("form:values") == "form:values"
    assert cores.threads(alone=False) == 8
    assert cores.label("form:values") == "8xform:values"


def test_who_shares_with_nobody_has_its_own() -> None:
    cores = OwnCores(3)
    cores.work()
    assert (cores.threads(alone=False), cores.threads(alone=True)) == (3, 3)
    cores.rest()
    assert not cores.changed()
    assert cores.label("form:values") == "form:values"


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        Cores(1, 2, "/proc/self/fd/none")
