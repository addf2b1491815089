"""Tiny models, built once per session, loaded once per role and dtype."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from roles.split.loading import load
from roles.split.program import Program
from tests.support import pipelines

Folders = Callable[[str], Path]
Programs = Callable[..., Program]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    built: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in built:
            built[name] = pipelines.build(name, tmp_path_factory.mktemp("models") / name)
        return built[name]

    return get


@pytest.fixture(scope="session")
def program(folder: Folders) -> Programs:
    loaded: dict[tuple[str, ...], Program] = {}

    def get(name: str, *roles: str, dtype: str = "float32") -> Program:
        key = (name, dtype, *roles)
        if key not in loaded:
            loaded[key] = load(folder(name), roles, dtype)
        return loaded[key]

    return get
