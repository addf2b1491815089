"""Finished files through the real media channel, and out of a store."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest

from orchestrator.http import HttpOptions, MediaGateway, create_app
from orchestrator.http.server import bind, serving
from orchestrator.service import Completed
from tests.support.descriptors import held_open
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import TIMINGS, FakeMedia, FakeService, picture, soon
from transfer.errors import MediaError
from transfer.made import ImageMade
from transfer.media import MediaClient, MediaServer
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
        id=id, made=ImageMade(), mime="image/png", nbytes=len(content), endpoint=server.endpoint
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


async def test_connections_to_the_gone_are_closed_when_nobody_reads(
    instance: MediaServer,
) -> None:
    gateway = MediaGateway()
    big = finished(instance, "big", picture(1, 3_000_000))
    reading = gateway.chunks(big)
    first = await anext(reading)
    async with MediaServer("tcp://127.0.0.1:*") as other:
        await read(gateway, finished(other, "b", b"b"))
        await gateway.close_gone(lambda endpoint: endpoint == other.endpoint)
        assert set(gateway._clients) == {instance.endpoint, other.endpoint}
        assert first + b"".join([chunk async for chunk in reading]) == picture(1, 3_000_000)
        await gateway.close_gone(lambda endpoint: endpoint == other.endpoint)
        assert set(gateway._clients) == {other.endpoint}
        assert await read(gateway, finished(instance, "back", b"again")) == b"again"
    await gateway.close()


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
    media = Media(id="a", made=ImageMade(), mime="image/png", nbytes=3, store_key="a.png")
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
    media = Media(id="a", made=ImageMade(), mime="image/png", nbytes=1, store_key=key)
    with pytest.raises(MediaError):
        await read(gateway, media)
    await gateway.release(media)
    assert (tmp_path / "secret").exists()


async def test_a_file_that_lies_nowhere_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    gateway = MediaGateway()
    nowhere = Media(id="a", made=ImageMade(), mime="image/png", nbytes=1)
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


# ---------------------------------------------------------------- on the same host


@pytest.fixture
async def deaf() -> AsyncIterator[MediaServer]:
    """Its media channel answers nobody."""
    server = MediaServer("tcp://127.0.0.1:*")
    yield server
    await server.close()


@pytest.fixture
async def gateway() -> AsyncIterator[MediaGateway]:
    made = MediaGateway(connect=partial(MediaClient, chunk_s=0.5))
    yield made
    await made.close()


def local(server: MediaServer, id: str, content: bytes) -> Media:
    return msgspec.structs.replace(finished(server, id, content), local=server.tell(id))


def elsewhere(media: Media) -> Media:
    """As a front door on another host sees it: that process is not here, or is another one."""
    assert media.local is not None
    return msgspec.structs.replace(
        media, local=msgspec.structs.replace(media.local, nonce="0" * 32)
    )


@pytest.mark.parametrize("nbytes", [0, 1, 3_000_000])
@pytest.mark.parametrize("large", [False, True])
async def test_t11_on_one_host_the_channel_is_not_needed(
    deaf: MediaServer, gateway: MediaGateway, nbytes: int, large: bool
) -> None:
    content, before = picture(1, nbytes), held_open()
    media = local(deaf, "a", content)
    assert b"".join([chunk async for chunk in gateway.chunks(media, large)]) == content
    deaf.release("a")
    assert held_open() <= before


async def test_t11_what_cannot_be_opened_comes_over_the_channel(
    instance: MediaServer, gateway: MediaGateway
) -> None:
    content, before = picture(1, 3_000_000), held_open()
    assert await read(gateway, elsewhere(local(instance, "a", content))) == content
    instance.release("a")
    assert held_open() <= before


async def test_t11_what_cannot_be_had_in_any_way_is_an_error(
    deaf: MediaServer, gateway: MediaGateway
) -> None:
    with pytest.raises(MediaError, match="sent no piece"):
        await read(gateway, elsewhere(local(deaf, "a", b"abc")))


async def test_t11_a_file_that_was_released_is_not_read(
    instance: MediaServer, gateway: MediaGateway
) -> None:
    """Not even if another file of the same length has taken its descriptor."""
    media = local(instance, "a", b"abc")
    assert media.local is not None
    instance.release("a")
    other = local(instance, "b", b"xyz")
    assert other.local is not None
    assert other.local.fd == media.local.fd
    with pytest.raises(MediaError, match="released"):
        await read(gateway, media)


async def test_t11_a_release_in_the_middle_takes_nothing_away(
    deaf: MediaServer, gateway: MediaGateway
) -> None:
    content, before = picture(1, 3_000_000), held_open()
    chunks = gateway.chunks(local(deaf, "a", content))
    first = await anext(chunks)
    deaf.release("a")
    assert first + b"".join([chunk async for chunk in chunks]) == content
    assert held_open() <= before


async def test_t11_a_reading_given_up_leaves_no_descriptor(
    deaf: MediaServer, gateway: MediaGateway
) -> None:
    media, before = local(deaf, "a", picture(1, 3_000_000)), held_open()
    for reads in range(3):
        chunks = gateway.chunks(media)
        for _ in range(reads):
            await anext(chunks)
        await chunks.aclose()
    assert held_open() <= before


@pytest.mark.parametrize("kind", ["b64_json", "url"])
async def test_t11_a_file_that_shrinks_is_never_a_shorter_picture(
    deaf: MediaServer, kind: str
) -> None:
    service, nbytes, before = FakeService(FakeMedia()), 64 << 20, held_open()
    with tempfile.TemporaryFile() as file:
        file.truncate(nbytes)
        deaf.add("a", os.dup(file.fileno()))
        media = Media("a", ImageMade(), "image/png", nbytes, local=deaf.tell("a"))

        async def make(inputs: Inputs, request_id: str) -> Completed:
            return Completed(media=[media], timings=TIMINGS, attempts=1)

        class Shrinking(MediaGateway):
            """The file loses its end once its first piece has been read."""

            async def chunks(self, media: Media, large: bool = False) -> AsyncGenerator[bytes]:
                async with contextlib.aclosing(super().chunks(media, large)) as source:
                    async for chunk in source:
                        file.truncate(nbytes // 2)
                        yield chunk

        service.behave = make
        app = create_app(service, Shrinking(), FakeJobs(), HttpOptions())
        body = {"prompt": "a", "response_format": kind}
        async with (
            serving(app, bind("127.0.0.1:0"), grace_s=2) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
        ):
            if kind == "b64_json":
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post("/v1/images/generations", json=body)
            else:
                reply = await client.post("/v1/images/generations", json=body)
                assert reply.status_code == 503
                assert reply.json()["error"]["code"] == "media_lost"
        deaf.release("a")
    assert held_open() <= before
