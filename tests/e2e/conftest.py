"""A tiny pipeline, and one real cluster of it that all modules share: a start takes seconds."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import Cluster
from tests.support.local_cluster import small_cluster

HERE = Path(__file__).parent
LONG = {
    "test_command_line.py",
    "test_divided_pipelines.py",
    "test_documented_examples.py",
    "test_encoder_cache.py",
    "test_faults.py",
    "test_placement.py",
    "test_serve.py",
    "test_start_and_stop.py",
    "test_step_cache.py",
}
"""Several clusters or whole pipelines each: `make chaos` runs them, `make test` those of their
parts."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("CHAOS") == "all":
        return
    long = [item for item in items if item.path.parent == HERE and item.path.name in LONG]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.pipelines import build

    return build("sd15", tmp_path_factory.mktemp("models") / "sd15")


@pytest.fixture(scope="session")
def cluster(model: Path) -> Iterator[Cluster]:
    """For tests that do it no harm."""
    with small_cluster(model) as running:
        yield running
