"""What a rank records of itself."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from roles.rank.profiling import Profiling
from transfer.actions import Profile


def nothing() -> None:
    """A CPU is done when the call returns."""


def compute() -> None:
    torch.ones(64, 64) @ torch.ones(64, 64)


def test_the_operators_are_told_and_traced(tmp_path: Path) -> None:
    profiling = Profiling("cpu", nothing)
    begun = profiling.act(Profile("start", path=str(tmp_path / "traces")))
    assert begun.recording
    for _ in range(3):
        compute()
    told = profiling.act(Profile("stop"))
    assert (told.recording, told.file) == (False, begun.file)
    assert told.seconds > 0
    (product,) = [op for op in told.top if op.name == "aten::mm"]
    assert (product.calls, product.device_s) == (3, 0.0)
    assert product.cpu_s > 0
    with gzip.open(told.file) as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert "aten::mm" in names
    assert profiling.act(Profile("stop")) == told


def test_it_ends_though_nobody_stops_it(tmp_path: Path) -> None:
    profiling = Profiling("cpu", nothing)
    profiling.start(str(tmp_path), 120.0)
    profiling.look()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="recording already"):
        profiling.start(str(tmp_path), 120.0)
    profiling.stop()
    second = profiling.start(str(tmp_path), 1e-6)
    compute()
    profiling.look()
    told = profiling.stop()
    assert told.file == second.file
    assert len(list(tmp_path.iterdir())) == 2
    torch.ones(1)
    assert profiling.stop() == told


def test_nothing_is_recorded() -> None:
    with pytest.raises(ValueError, match="nothing is being recorded"):
        Profiling("cpu", nothing).stop()
