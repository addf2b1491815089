"""How much memory is said to be free."""

from pathlib import Path

import numpy as np
import pytest

from transfer import memory


def test_this_machine_says_something() -> None:
    assert memory.available() > 1 << 20


def test_a_machine_without_meminfo_asks_the_kernel(tmp_path: Path) -> None:
    assert memory._host(tmp_path / "none") > 1 << 20


@pytest.mark.parametrize(
    ("limit", "usage", "expected"),
    [("1000", "400", 600), ("1000", "4000", 0), ("max", "400", None), ("", "", None)],
)
def test_a_container_s_limit_counts(
    tmp_path: Path, limit: str, usage: str, expected: int | None
) -> None:
    (tmp_path / "max").write_text(limit)
    (tmp_path / "current").write_text(usage)
    assert memory._cgroup(tmp_path / "max", tmp_path / "current") == expected


def test_no_container_is_no_limit(tmp_path: Path) -> None:
    assert memory._cgroup(tmp_path / "max", tmp_path / "current") is None


@pytest.mark.parametrize("size", [0, 1, 4096, memory.HUGE_BYTES - 1, memory.HUGE_BYTES + 5])
def test_asking_for_large_pages_changes_no_byte(size: int) -> None:
    data = np.arange(size + 8, dtype=np.uint8)
    memory.prefer_huge_pages(data.ctypes.data + 3, size)
    assert np.array_equal(data, np.arange(size + 8, dtype=np.uint8))


@pytest.mark.parametrize(
    ("nbytes", "expected"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (1 << 40, "1 TiB")],
)
def test_sizes_are_readable(nbytes: int, expected: str) -> None:
    assert memory.readable(nbytes) == expected
