"""What came with requests, on its way from the orchestrator into the leader's memory."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from roles.calls import InputFile
from roles.enclosed import media_of
from roles.given import GivenFiles
from roles.split.program import BadInput
from tests.support.descriptors import held_open
from tests.transfer.test_pictures import RED, saved
from transfer.errors import MediaError, PayloadError
from transfer.media import MediaServer
from transfer.messages import Upload


class Store:
    """What an orchestrator has, and how often each was opened."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.opened: list[str] = []

    def upload(self, data: bytes, hash: str | None = None) -> Upload:
        hash = hash or hashlib.sha256(data).hexdigest()
        self.files[hash] = data
        return Upload("image", hash, len(data))

    def find(self, id: str) -> int | None:
        if id not in self.files:
            return None
        self.opened.append(id)
        fd = os.memfd_create("upload")
        os.write(fd, self.files[id])
        return fd


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def server(store: Store) -> AsyncIterator[MediaServer]:
    async with MediaServer("tcp://127.0.0.1:0", find=store.find) as made:
        yield made


def content(file: InputFile) -> bytes:
    return os.pread(file.fd, 1 << 20, 0)


async def test_a_file_is_read_once_for_all_who_want_it(store: Store, server: MediaServer) -> None:
    given = GivenFiles("tcp://127.0.0.1")
    upload = store.upload(os.urandom(600_000))
    first, second = await asyncio.gather(*(given.fetch(upload, server.port) for _ in range(2)))
    assert content(first) == store.files[upload.hash]
    assert first.fd == second.fd
    given.release_all([first, second])
    again = await given.fetch(upload, server.port)  # nobody used it, and it was still there
    assert (again.fd, store.opened) == (first.fd, [upload.hash])
    given.release(upload)


async def test_what_was_unused_for_longest_goes_first(store: Store, server: MediaServer) -> None:
    given = GivenFiles("tcp://127.0.0.1", kept_bytes=250)
    uploads = [store.upload(bytes([i]) * 100) for i in range(3)]
    files = await given.fetch_all(uploads, server.port)
    before = held_open()
    given.release_all(files)
    await asyncio.sleep(0)
    assert len(before - held_open()) == 1
    await given.fetch(uploads[1], server.port)
    assert len(store.opened) == 3
    await given.fetch(uploads[0], server.port)


async def test_what_is_not_what_its_hash_says_is_refused(store: Store, server: MediaServer) -> None:
    given = GivenFiles("tcp://127.0.0.1")
    good, false = store.upload(b"good"), store.upload(b"false", hash="0" * 64)
    with pytest.raises(MediaError, match="not what its hash says"):
        await given.fetch_all([good, false], server.port)
    store.files["0" * 64] = b"other"
    with pytest.raises(MediaError):
        await given.fetch(false, server.port)
    with pytest.raises(MediaError, match="gone"):
        await given.fetch(Upload("image", "1" * 64, 4), server.port)
    with pytest.raises(MediaError, match="at most"):
        await given.fetch(Upload("image", good.hash, 1 << 40), server.port)


async def test_who_gives_up_leaves_nothing_behind(store: Store, server: MediaServer) -> None:
    given = GivenFiles("tcp://127.0.0.1")
    before = held_open()
    fetching = asyncio.create_task(given.fetch(Upload("image", "2" * 64, 4), 1))  # nobody is there
    await asyncio.sleep(0)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    async with asyncio.timeout(5):
        while held_open() > before:
            await asyncio.sleep(0.005)


def in_memory(upload: Upload, data: bytes) -> InputFile:
    fd = os.memfd_create("upload")
    os.write(fd, data)
    return InputFile(upload, os.getpid(), fd)


def test_the_rank_makes_pictures_of_them(store: Store) -> None:
    data = saved(RED)
    first, second = (in_memory(store.upload(data), data) for _ in range(2))
    found = media_of([first, second], None)
    assert [picture.size for picture in found["image"]] == [(8, 6), (8, 6)]
    os.ftruncate(second.fd, 10)
    with pytest.raises(PayloadError, match="hash"):
        media_of([first, second], None)
    for file in (first, second):
        os.close(file.fd)
    with pytest.raises(PayloadError):
        media_of([first], None)


def test_what_is_no_picture_is_the_request_s_fault(store: Store) -> None:
    file = in_memory(store.upload(b"text"), b"text")
    with pytest.raises(BadInput, match="no picture") as caught:
        media_of([file], None)
    assert caught.value.param == "image"
    os.close(file.fd)
