"""A media store that takes nothing any more (F19), and a rank that hangs (F3)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.directed_program import Directions
from tests.support.troupe import Book, eventually, picture, troupe

NAMES = ("encoder-0", "denoiser-0", "decoder-0")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "store"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_f19_a_full_media_store_fails_that_request_with_the_cause(
    small_disk: Path, tmp_path: Path
) -> None:
    settings = {"media_store": str(small_disk)}
    options = {"media_store": str(small_disk)}
    async with troupe(tmp_path / "state", *NAMES, settings=settings, **options) as them:
        assert await them.ask(1) == picture(1)
        await eventually(lambda: _is_empty(small_disk))  # or what is deleted makes room again
        full = small_disk / "full"
        full.write_bytes(bytes(4096 * (_free(small_disk) // 4096)))
        reply = await them.post(2)
        assert reply.status_code == 500
        assert "No space left on device" in reply.json()["error"]["message"]
        assert (await them.client.get("/health")).status_code == 200
        full.unlink()
        assert await them.ask(3) == picture(3)
        await them.comes_home()
        await eventually(lambda: _is_empty(small_disk))


async def _is_empty(store: Path) -> bool:
    """What was fetched is deleted after the reply."""
    return not any(store.iterdir())


def _free(folder: Path) -> int:
    return psutil.disk_usage(str(folder)).free


async def test_f3_f19_a_hung_rank_and_a_store_that_is_no_folder(
    tmp_path: Path,
) -> None:
    """The same without a mount, and with a rank that hangs beside it."""
    store, book = tmp_path / "store", Book(tmp_path / "book")
    store.mkdir()
    settings = {"media_store": str(store), "rank_timeout_s": 15.0}  # which no honest unit takes
    async with troupe(
        tmp_path / "state", *NAMES, settings=settings, media_store=str(store)
    ) as them:
        hanging = Directions("2", act="hang", once=str(tmp_path / "once"), book=str(book.path))
        assert await them.ask(70, hanging.prompt) == picture(70)
        hung, after = book.pids("2")
        assert hung != after
        assert not psutil.pid_exists(hung)
        await eventually(lambda: _is_empty(store))
        store.rmdir()
        store.touch()
        reply = await them.post(2)
        assert reply.status_code == 500
        assert "the finished file cannot be kept" in reply.json()["error"]["message"]
        store.unlink()
        store.mkdir()
        assert await them.ask(3) == picture(3)
        await them.comes_home()
