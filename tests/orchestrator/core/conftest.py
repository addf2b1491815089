import pytest

from tests.support.bench import Bench, Trio


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def trio(bench: Bench) -> Trio:
    return bench.trio()
