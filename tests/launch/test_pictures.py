import os
from pathlib import Path

import pytest

from launch.errors import LaunchError
from launch.pictures import check_writable, format_of, numbered, write_whole


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "png"),
        ("a.JPG", "jpeg"),
        ("a.b.jpeg", "jpeg"),
        ("a.webp", "webp"),
        ("a.flac", "flac"),
    ],
)
def test_the_extension_names_the_format(name: str, expected: str) -> None:
    assert format_of(Path(name)) == expected


@pytest.mark.parametrize("name", ["a", "a.gif", ".png"])
def test_other_extensions_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="--format"):
        format_of(Path(name))


def test_several_files_are_numbered_so_that_they_sort() -> None:
    assert numbered(Path("d/a.png"), 1) == [Path("d/a.png")]
    assert numbered(Path("d/a.png"), 2) == [Path("d/a-1.png"), Path("d/a-2.png")]
    assert numbered(Path("a.png"), 10)[0] == Path("a-01.png")


def test_a_file_is_replaced_whole_and_can_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    before = os.umask(0o022)
    try:
        write_whole(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.mkdir()
    with pytest.raises(LaunchError, match="cannot write"):
        write_whole(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_where_nothing_can_be_written_is_seen_beforehand(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="there is no folder"):
        check_writable(tmp_path / "none" / "a.png")
    with pytest.raises(LaunchError, match="is a folder"):
        check_writable(tmp_path)
    check_writable(tmp_path / "a.png")
