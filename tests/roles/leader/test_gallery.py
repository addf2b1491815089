"""Finished files between a rank and the front door."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import pytest

from roles.calls import MediaFile
from roles.leader.gallery import Gallery
from tests.support.descriptors import held_open
from transfer.errors import MediaError
from transfer.local import LocalReader, NotLocal
from transfer.made import ImageMade
from transfer.media import MediaClient, MediaServer


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with MediaServer("tcp://127.0.0.1:*", max_bytes=1000) as made:
        yield made


@pytest.fixture
def held() -> IO[bytes]:
    """A file as a rank holds it (the rank being this process)."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(b"a picture")
    file.flush()
    return file


def facts(file: IO[bytes], mime: str = "image/png") -> MediaFile:
    return MediaFile(file.fileno(), ImageMade(3, 2), mime, 9)


async def test_a_file_outlives_the_rank_that_made_it(server: MediaServer, held: IO[bytes]) -> None:
    gallery = Gallery(server, server.endpoint, None)
    (media,) = await gallery.publish(os.getpid(), [facts(held)])
    held.close()
    assert (media.endpoint, media.store_key) == (server.endpoint, None)
    assert (media.nbytes, media.made) == (9, ImageMade(3, 2))
    async with MediaClient(server.endpoint) as client:
        assert b"".join([chunk async for chunk in client.read(media)]) == b"a picture"
    gallery.discard([media])
    assert server.held == 0


async def test_t11_a_front_door_on_the_same_host_opens_it_itself(
    server: MediaServer, held: IO[bytes]
) -> None:
    before = held_open()
    gallery = Gallery(server, server.endpoint, None)
    (media,) = await gallery.publish(os.getpid(), [facts(held)])
    assert media.local is not None
    with contextlib.closing(LocalReader.open(media.local, media.nbytes)) as reader:
        assert [piece async for piece in reader.pieces()] == [b"a picture"]
    gallery.discard([media])
    with pytest.raises(NotLocal):
        LocalReader.open(media.local, media.nbytes)
    assert held_open() <= before
    held.close()


async def test_a_rank_that_is_gone_is_an_error(server: MediaServer) -> None:
    gallery = Gallery(server, server.endpoint, None)
    with pytest.raises(FileNotFoundError):
        await gallery.publish(2**22 + 1, [MediaFile(3, ImageMade(), "image/png", 9)])


async def test_all_files_or_none(server: MediaServer, held: IO[bytes]) -> None:
    gallery = Gallery(server, server.endpoint, None)
    large = tempfile.TemporaryFile()  # noqa: SIM115
    large.write(b"x" * 1000)
    large.flush()
    before = held_open()
    with pytest.raises(MediaError, match="is not taken"):
        await gallery.publish(os.getpid(), [facts(held), facts(large), facts(held)])
    assert server.held == 0
    assert held_open() <= before
    held.close()
    large.close()


async def test_with_a_store_the_file_goes_there(
    server: MediaServer, held: IO[bytes], tmp_path: Path
) -> None:
    gallery = Gallery(server, server.endpoint, str(tmp_path))
    (media,) = await gallery.publish(os.getpid(), [facts(held, "image/jpeg")])
    held.close()
    assert media.endpoint is None
    assert media.store_key == f"{media.id}.jpg"
    assert (tmp_path / media.store_key).read_bytes() == b"a picture"
    assert server.held == 0


async def test_a_store_that_cannot_be_written_is_an_error(
    server: MediaServer, held: IO[bytes], tmp_path: Path
) -> None:
    gallery = Gallery(server, server.endpoint, str(tmp_path / "gone"))
    with pytest.raises(OSError, match="gone"):
        await gallery.publish(os.getpid(), [facts(held)])
    held.close()
