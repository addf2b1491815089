"""Finished files on their way into the state folder, from a decoder on the same host."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from orchestrator.http.media.gateway import LARGE_BYTES, MediaGateway
from orchestrator.jobs import media as keeping
from orchestrator.jobs.media import SYNC_BYTES, FileGone, MediaKeeper
from tests.support.descriptors import held_open
from transfer.made import ImageMade
from transfer.media import MediaServer
from transfer.messages import Media

CONTENT = os.urandom(1 << 20) * 17 + b"and a rest"


@pytest.fixture
async def deaf() -> AsyncIterator[MediaServer]:
    """A decoder's files; its media channel answers nobody."""
    server = MediaServer("tcp://127.0.0.1:*")
    yield server
    await server.close()


@pytest.fixture
async def gateway() -> AsyncIterator[MediaGateway]:
    made = MediaGateway()
    yield made
    await made.close()


def held(server: MediaServer) -> Media:
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.flush()
        server.add("a", os.dup(file.fileno()))
    return Media("a", ImageMade(), "video/mp4", len(CONTENT), local=server.tell("a"))


async def test_t11_a_large_file_is_stored_without_the_channel(
    deaf: MediaServer, gateway: MediaGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(keeping.os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_size))
    media, before = held(deaf), held_open()
    (file,) = await MediaKeeper(tmp_path, gateway).store("job-0", [media])
    assert (tmp_path / file.key.partition(":")[2]).read_bytes() == CONTENT
    assert held_open() <= before
    assert synced == [SYNC_BYTES, 2 * SYNC_BYTES]
    assert SYNC_BYTES % LARGE_BYTES == 0


async def test_t11_a_file_that_shrinks_is_not_stored(
    deaf: MediaServer, gateway: MediaGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media, before = held(deaf), held_open()
    assert media.local is not None
    path = f"/proc/self/fd/{media.local.fd}"
    monkeypatch.setattr(keeping.os, "fdatasync", lambda _: os.truncate(path, SYNC_BYTES))
    with pytest.raises(FileGone, match="0 bytes at"):
        await MediaKeeper(tmp_path, gateway).store("job-0", [media])
    assert list(tmp_path.iterdir()) == []
    assert held_open() <= before


async def test_t11_a_file_that_has_shrunk_before_is_not_stored(
    deaf: MediaServer, tmp_path: Path
) -> None:
    media = msgspec.structs.replace(held(deaf), nbytes=len(CONTENT) + 1)  # nobody else has it
    gateway = MediaGateway()
    with pytest.raises(FileGone, match="nobody knows"):
        await MediaKeeper(tmp_path, gateway).store("job-0", [media])
    assert list(tmp_path.iterdir()) == []
    await gateway.close()
