"""What came with requests, on its way from the orchestrator into the leader's memory."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch

from roles.calls import InputFile
from roles.leader.given import GivenFiles
from roles.parallel import Parallel
from roles.rank.enclosed import media_of, read
from roles.rank.slots import Slots
from roles.rank.world import World
from roles.split.program import BadInput
from tests.support.descriptors import held_open
from tests.support.media_files import RATE, film, frames, tone, wav
from tests.transfer.test_pictures import RED, saved
from transfer.errors import MediaError, PayloadError
from transfer.media import MediaServer
from transfer.messages import MediaKind, Upload


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


def given_to(files: list[InputFile], sample_rate: int | None = None) -> dict[str, list[Any]]:
    return media_of([(file.upload, read(file)) for file in files], sample_rate)


def test_the_rank_makes_pictures_of_them(store: Store) -> None:
    data = saved(RED)
    first, second = (in_memory(store.upload(data), data) for _ in range(2))
    found = given_to([first, second])
    assert [picture.size for picture in found["image"]] == [(8, 6), (8, 6)]
    os.ftruncate(second.fd, 10)
    with pytest.raises(PayloadError, match="hash"):
        given_to([first, second])
    for file in (first, second):
        os.close(file.fd)
    with pytest.raises(PayloadError):
        given_to([first])


def test_what_is_no_picture_is_the_request_s_fault(store: Store) -> None:
    file = in_memory(store.upload(b"text"), b"text")
    with pytest.raises(BadInput, match="no picture") as caught:
        given_to([file])
    assert caught.value.param == "image"
    os.close(file.fd)


@pytest.mark.parametrize("rate", [None, 44_100])
def test_the_rank_makes_films_and_sounds_of_them(rate: int | None) -> None:
    sent = {"video": film(frames()), "mask_video": film(frames(3)), "audio": wav()}
    kinds: dict[str, MediaKind] = {"video": "film", "mask_video": "film", "audio": "sound"}
    files = [
        in_memory(Upload(name, sha(data), len(data), "mask" in name, kinds[name]), data)
        for name, data in sent.items()
    ]
    found = given_to(files, rate)
    (video,), (mask,), (audio,) = (found[name] for name in sent)
    assert [(frame.mode, frame.size) for frame in video] == [("RGB", (32, 16))] * 5
    assert all(np.array_equal(a, b) for a, b in zip(video, frames(), strict=True))
    assert [frame.mode for frame in mask] == ["L"] * 3
    assert (audio.dtype, audio.shape) == (torch.float32, (2, (rate or RATE) // 4))
    if rate is None:
        assert np.allclose(audio, tone(), atol=1e-4)
    for file in files:
        os.close(file.fd)


@pytest.mark.parametrize("kind", ["film", "sound"])
def test_what_is_none_is_the_request_s_fault(kind: MediaKind) -> None:
    file = in_memory(Upload("video", sha(b"#EXTM3U"), 7, kind=kind), b"#EXTM3U")
    with pytest.raises(BadInput, match=f"video: it is no {kind} of") as caught:
        given_to([file])
    assert caught.value.param == "video"
    os.close(file.fd)


class TwoHosts:
    """Rank 0 sends, and rank 1, on another host, gets it: a world without a network."""

    def __init__(self, rank: int, sent: list[bytes]) -> None:
        self.rank, self.here, self.parallel, self.sent = rank, 1, Parallel(guidance=2), sent

    def spread(self, nbytes: int, segments: Sequence[memoryview] | None) -> list[memoryview]:
        if self.rank == 0:
            self.sent.append(b"".join(segments) if segments is not None else bytes(nbytes))
            return list(segments or [])
        return [memoryview(self.sent.pop(0))]


def test_ranks_on_other_hosts_get_files_from_the_first() -> None:
    data, sent = saved(RED), list[bytes]()
    file = in_memory(Upload("image", sha(data), len(data)), data)
    first, second = (Slots(None, cast(World, TwoHosts(rank, sent))) for rank in range(2))
    elsewhere = InputFile(file.upload, pid=1 << 30, fd=file.fd)  # no process of this host
    assert first.file(file) == data
    assert second.file(elsewhere) == data
    os.ftruncate(file.fd, 10)  # what the first cannot read no rank has, and none waits for it
    for slots, wanted in ((first, file), (second, elsewhere)):
        with pytest.raises(PayloadError, match="hash"):
            slots.file(wanted)
    assert not sent
    os.close(file.fd)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
