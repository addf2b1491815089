"""A tiny pipeline, and one real cluster of it that all modules share: a start takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import Cluster
from tests.support.local_cluster import small_cluster


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
