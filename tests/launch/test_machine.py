import os
from pathlib import Path

import pytest

from launch import machine


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000\n", 4), ("250000 100000\n", 2), ("50000 100000\n", 1), ("900000 100000", 4)],
)
def test_cores_are_those_of_mask_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(machine, "_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert machine.usable_cores() == cores


def test_without_a_quota_the_mask_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CPU_MAX", tmp_path / "none")
    assert machine.usable_cores() == len(os.sched_getaffinity(0))


def test_without_a_driver_nobody_asks_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path / "none")
    assert machine.cuda_devices() == 0
