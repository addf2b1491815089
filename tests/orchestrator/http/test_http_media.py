"""Finished files through the real media channel, and out of a store."""

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from orchestrator.http import HttpOptions, MediaGateway, create_app
from orchestrator.http.server import bind, serving
from orchestrator.service import Completed
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import TIMINGS, FakeMedia, FakeService, picture, soon
from transfer.errors import MediaError
from transfer.media import MediaServer
from transfer.messages import Inputs, Media


@pytest.fixture
async def instance() -> AsyncIterator[MediaServer]:
    async with MediaServer("tcp://127.0.0.1:*") as server:
        yield server


def finished(server: MediaServer, id: str, content: bytes) -> Media:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        server.add(id, os.dup(file.fileno()))
    return Media(
        id=id, kind="image", mime="image/png", nbytes=len(content), endpoint=server.endpoint
    )


async def read(gateway: MediaGateway, media: Media) -> bytes:
    return b"".join([chunk async for chunk in gateway.chunks(media)])


@pytest.mark.parametrize("nbytes", [0, 1, 262_144, 3_000_000])
async def test_a_file_is_read_and_released(instance: MediaServer, nbytes: int) -> None:
    gateway = MediaGateway()
    media = finished(instance, "a", picture(1, nbytes))
    assert await read(gateway, media) == picture(1, nbytes)
    await gateway.release(media)
    await soon(lambda: instance.held == 0)
    await gateway.close()


async def test_a_file_that_was_released_is_gone(instance: MediaServer) -> None:
    gateway = MediaGateway()
    media = finished(instance, "a", b"abc")
    instance.release("a")
    with pytest.raises(MediaError):
        await read(gateway, media)
    await gateway.close()


async def test_connections_are_shared_and_bounded(instance: MediaServer) -> None:
    gateway = MediaGateway(idle=1)
    async with MediaServer("tcp://127.0.0.1:*") as other:
        for i in range(3):
            assert await read(gateway, finished(instance, f"a{i}", b"a")) == b"a"
            assert await read(gateway, finished(other, f"b{i}", b"b")) == b"b"
            assert len(gateway._clients) == 1
    await gateway.close()
    assert gateway._clients == {}


async def test_a_connection_in_use_stays(instance: MediaServer) -> None:
    gateway = MediaGateway(idle=0)
    big = finished(instance, "big", picture(1, 3_000_000))
    reading = gateway.chunks(big)
    first = await anext(reading)
    assert await read(gateway, finished(instance, "small", b"s")) == b"s"
    assert first + b"".join([chunk async for chunk in reading]) == picture(1, 3_000_000)
    assert gateway._clients == {}
    await gateway.close()


async def test_a_file_in_the_store_is_read_and_deleted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    gateway = MediaGateway(str(tmp_path))
    media = Media(id="a", kind="image", mime="image/png", nbytes=3, store_key="a.png")
    assert await read(gateway, media) == b"abc"
    await gateway.release(media)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MediaError):
        await read(gateway, media)
    await gateway.release(media)


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "a/../../b", ""])
async def test_a_key_stays_below_the_store(
    key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    gateway = MediaGateway(str(store))
    media = Media(id="a", kind="image", mime="image/png", nbytes=1, store_key=key)
    with pytest.raises(MediaError):
        await read(gateway, media)
    await gateway.release(media)
    assert (tmp_path / "secret").exists()


async def test_a_file_that_lies_nowhere_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    gateway = MediaGateway()
    nowhere = Media(id="a", kind="image", mime="image/png", nbytes=1)
    stored = msgspec.structs.replace(nowhere, store_key="a")
    elsewhere = msgspec.structs.replace(nowhere, endpoint="nonsense")
    for media in (nowhere, stored, elsewhere):
        with pytest.raises(MediaError):
            await read(gateway, media)
        await gateway.release(media)
    await gateway.close()


async def test_a_picture_travels_from_the_instance_to_the_client(instance: MediaServer) -> None:
    """The whole way, with nothing but the service doubled."""
    service = FakeService(FakeMedia())
    content = picture(5, 5_000_001)

    async def make(inputs: Inputs, request_id: str) -> Completed:
        media = finished(instance, request_id, content)
        return Completed(media=[media], timings=TIMINGS, attempts=1)

    service.behave = make
    app = create_app(service, MediaGateway(), FakeJobs(), HttpOptions())
    async with (
        serving(app, bind("127.0.0.1:0"), grace_s=2) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        body = {"prompt": "a", "response_format": "url", "n": 2}
        reply = (await client.post("/v1/images/generations", json=body)).json()
        for item in reply["data"]:
            file = await client.get(item["url"])
            assert hashlib.sha256(file.content).digest() == hashlib.sha256(content).digest()
        reply = await client.post("/v1/images/generations", json={"prompt": "a", "n": 3})
        assert len(reply.json()["data"]) == 3
        await soon(lambda: instance.held == 0)
