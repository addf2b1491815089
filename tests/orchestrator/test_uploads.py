"""What clients uploaded, kept by its content's hash."""

import hashlib
import os
from pathlib import Path

import pytest

from orchestrator.http.request.enclosed import NoRoom
from orchestrator.uploads import Uploads


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def read(uploads: Uploads, hash: str) -> bytes | None:
    fd = uploads.find(hash)
    if fd is None:
        return None
    with open(fd, "rb") as file:
        return file.read()


def test_a_file_is_kept_once_under_its_hash(tmp_path: Path) -> None:
    uploads = Uploads().open(tmp_path / "uploads")
    hash = uploads.keep(b"a picture")
    assert hash == hashlib.sha256(b"a picture").hexdigest() == uploads.keep(b"a picture")
    assert read(uploads, hash) == b"a picture"
    assert os.listdir(tmp_path / "uploads") == [hash]
    assert read(Uploads().open(tmp_path / "uploads"), hash) == b"a picture"  # in another life


@pytest.mark.parametrize("name", ["", "../journal.db", "x" * 64, "0" * 64])
def test_nothing_else_is_given_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "journal.db").touch()
    assert Uploads().open(tmp_path / "uploads").find(name) is None
    assert Uploads().find(name) is None  # not open yet


def test_what_nobody_wants_any_more_makes_room(tmp_path: Path) -> None:
    clock = Clock()
    uploads = Uploads(kept_s=100.0, most_bytes=10, clock=clock).open(tmp_path)
    first, second = uploads.keep(b"aaaa"), uploads.keep(b"bbbb")
    with pytest.raises(NoRoom, match="8 of 10 bytes"):
        uploads.keep(b"cccc")
    clock.now += 90
    assert read(uploads, second) == b"bbbb"  # somebody does
    clock.now += 20
    uploads.keep(b"cccc")
    assert read(uploads, first) is None
    assert read(uploads, second) == b"bbbb"


def test_what_a_crash_left_half_written_goes(tmp_path: Path) -> None:
    half = tmp_path / f"{'0' * 64}.partial1"
    half.touch()
    os.utime(half, (0, 0))
    Uploads().open(tmp_path)
    assert not half.exists()
