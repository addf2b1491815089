"""Finished files over the media channel, real sockets and all."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
import zmq.asyncio

from tests.support.descriptors import held_open
from transfer import media
from transfer.codec import encode
from transfer.errors import MediaError
from transfer.keys import cluster_keys, make
from transfer.made import ImageMade
from transfer.media import AHEAD, CHUNK_BYTES, MediaClient, MediaServer
from transfer.messages import (
    Heartbeat,
    Media,
    MediaChunk,
    MediaGone,
    MediaRead,
    from_media,
    to_media,
)

PATIENCE_S = 30.0


def a_file(data: bytes) -> int:
    fd = os.memfd_create("media")
    os.write(fd, data)
    return fd


def described(data: bytes, id: str = "m") -> Media:
    return Media(id, ImageMade(), "image/png", len(data))


async def until(condition: object) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with MediaServer("tcp://127.0.0.1:*") as made:
        yield made


@pytest.fixture
async def client(server: MediaServer) -> AsyncIterator[MediaClient]:
    async with MediaClient(server.endpoint, chunk_s=PATIENCE_S) as made:
        yield made


async def read(client: MediaClient, wanted: Media) -> bytes:
    return b"".join([chunk async for chunk in client.read(wanted)])


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 9 * CHUNK_BYTES + 5]
)
async def test_a_file_arrives(server: MediaServer, client: MediaClient, size: int) -> None:
    data = os.urandom(size)
    server.add("m", a_file(data))
    assert await read(client, described(data)) == data
    assert (server.garbage, client.garbage) == (0, 0)


async def test_a_file_on_disk_arrives(
    server: MediaServer, client: MediaClient, tmp_path: object
) -> None:
    data = os.urandom(3 * CHUNK_BYTES)
    path = f"{tmp_path}/file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, data)
    os.unlink(path)
    server.add("m", fd)
    assert await read(client, described(data)) == data


async def test_what_is_not_in_memory_is_read_in_a_thread(
    server: MediaServer, client: MediaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_now(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(media.os, "preadv", not_now)
    data = os.urandom(3 * CHUNK_BYTES)
    server.add("m", a_file(data))
    assert await read(client, described(data)) == data


async def test_many_readers_share_one_client(server: MediaServer, client: MediaClient) -> None:
    files = {f"m{i}": os.urandom(2 * CHUNK_BYTES + i) for i in range(20)}
    for id, data in files.items():
        server.add(id, a_file(data))
    async with asyncio.timeout(PATIENCE_S):
        came = await asyncio.gather(
            *(read(client, described(data, id)) for id, data in files.items())
        )
    assert came == list(files.values())


async def test_a_reader_that_takes_nothing_is_sent_little(
    server: MediaServer, client: MediaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    answer = server._answer

    async def counting(frames: list[bytes]) -> None:
        asked.append(frames)
        await answer(frames)

    monkeypatch.setattr(server, "_answer", counting)
    data = os.urandom(20 * CHUNK_BYTES)
    server.add("m", a_file(data))
    chunks = client.read(described(data))
    first = await anext(chunks)
    await until(lambda: len(asked) >= AHEAD)
    await read(client, described(b""))
    assert len(asked) == AHEAD
    rest = [chunk async for chunk in chunks]
    assert first + b"".join(rest) == data


async def test_a_slow_reader_does_not_hold_up_another(
    server: MediaServer, client: MediaClient
) -> None:
    data = os.urandom(20 * CHUNK_BYTES)
    server.add("m", a_file(data))
    server.add("other", a_file(data))
    slow = client.read(described(data))
    await anext(slow)
    assert await read(client, described(data, "other")) == data
    await slow.aclose()


async def test_a_reading_given_up_can_be_begun_anew(
    server: MediaServer, client: MediaClient
) -> None:
    data = os.urandom(20 * CHUNK_BYTES)
    server.add("m", a_file(data))
    for _ in range(10):
        chunks = client.read(described(data))
        await anext(chunks)
        await chunks.aclose()
    assert await read(client, described(data)) == data


async def test_a_released_file_is_gone(server: MediaServer, client: MediaClient) -> None:
    before = held_open()
    server.add("m", a_file(b"data"))
    assert await read(client, described(b"data")) == b"data"
    await client.release("m")
    await client.release("m")
    await until(lambda: server.held == 0)
    with pytest.raises(MediaError, match="released"):
        await read(client, described(b"data"))
    assert held_open() <= before


async def test_release_right_before_close_still_arrives(server: MediaServer) -> None:
    server.add("m", a_file(b"data"))
    async with MediaClient(server.endpoint) as client:
        await client.release("m")
    await until(lambda: server.held == 0)


async def test_a_file_expires_when_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(media, "time", SimpleNamespace(monotonic=lambda: now))
    async with (
        MediaServer("tcp://127.0.0.1:*", ttl_s=60) as server,
        MediaClient(server.endpoint) as client,
    ):
        server.add("m", a_file(b"data"))
        server.add("n", a_file(b"data"))
        now = 1059.0
        assert await read(client, described(b"data")) == b"data"
        now = 1061.0
        with pytest.raises(MediaError, match="expired"):
            await read(client, described(b"data", "n"))
        assert await read(client, described(b"data")) == b"data"
        now = 1200.0
        server.add("new", a_file(b"x"))
        assert server.held == 1


async def test_bytes_are_bounded() -> None:
    before = held_open()
    async with MediaServer("tcp://127.0.0.1:*", max_bytes=10) as server:
        server.add("m", a_file(b"12345678"))
        with pytest.raises(MediaError, match="8 of 10 bytes are held"):
            server.add("n", a_file(b"123"))
        with pytest.raises(MediaError, match="is not taken"):
            server.add("m", a_file(b"1"))
        server.release("m")
        server.add("n", a_file(b"123"))
    assert held_open() <= before


async def test_a_taken_port_is_a_clear_error(server: MediaServer) -> None:
    with pytest.raises(MediaError, match="cannot be bound"):
        MediaServer(server.endpoint)


async def test_an_endpoint_that_is_none() -> None:
    with pytest.raises(MediaError, match="no endpoint"):
        MediaClient("nonsense")


async def test_nobody_there_is_bounded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        async with MediaClient(endpoint, chunk_s=0.05) as client:
            with pytest.raises(MediaError, match="sent no piece"):
                await read(client, described(b"data"))


async def test_more_than_the_file_has_is_refused(server: MediaServer, client: MediaClient) -> None:
    server.add("m", a_file(b"data"))
    with pytest.raises(MediaError, match="4 bytes of m came, 5 were asked for"):
        await read(client, described(b"data!"))


# ---------------------------------------------------------------- garbage


def bare(kind: int) -> zmq.asyncio.Socket:
    made = zmq.asyncio.Context.instance().socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    keys = cluster_keys()
    (keys.of_server if kind == zmq.ROUTER else keys.of_client)(made)
    return made


async def ask(endpoint: str, *frames: bytes) -> zmq.asyncio.Socket:
    made = bare(zmq.DEALER)
    made.connect(endpoint)
    await made.send_multipart(list(frames))
    return made


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"garbage"],
        [b"T\x02\x00\x00"],
        [encode(Heartbeat(1))],
        [encode(MediaRead("m", 0, 1)), b"more"],
        [b"", encode(MediaRead("m", 0, 1))],
    ],
    ids=["empty", "text", "version", "another message", "two frames", "REQ's empty frame"],
)
async def test_garbage_costs_a_counter(
    server: MediaServer, client: MediaClient, frames: list[bytes]
) -> None:
    server.add("m", a_file(b"data"))
    stranger = await ask(server.endpoint, *frames)
    await until(lambda: server.garbage == 1)
    assert await read(client, described(b"data")) == b"data"
    stranger.close()


@pytest.mark.parametrize(
    "wrong",
    [
        MediaRead("m", -1, 1),
        MediaRead("m", 5, 1),
        MediaRead("m", 0, 0),
        MediaRead("m", 0, -1),
        MediaRead("m", 0, 1 << 40),
        MediaRead("m", 1 << 62, 1),
        MediaRead("none", 0, 1),
    ],
    ids=repr,
)
async def test_pieces_that_are_not_there_are_refused(server: MediaServer, wrong: MediaRead) -> None:
    server.add("m", a_file(b"data"))
    stranger = await ask(server.endpoint, encode(wrong))
    async with asyncio.timeout(PATIENCE_S):
        (frame,) = await stranger.recv_multipart()
    assert isinstance(from_media.decode(frame), MediaGone)
    stranger.close()


async def test_other_protocols_on_the_port(server: MediaServer, client: MediaClient) -> None:
    port = int(server.endpoint.rsplit(":", 1)[1])
    for bytes_ in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", os.urandom(4000)):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(bytes_)
    half_open = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    server.add("m", a_file(b"data"))
    assert await read(client, described(b"data")) == b"data"
    for stranger in half_open:
        stranger.close()


async def test_an_oversized_frame_costs_its_connection(
    server: MediaServer, client: MediaClient
) -> None:
    stranger = await ask(server.endpoint, bytes(1 << 20))
    server.add("m", a_file(b"data"))
    assert await read(client, described(b"data")) == b"data"
    assert server.garbage == 0  # it never reached the loop
    stranger.close()


async def test_an_asker_that_takes_nothing_holds_up_nobody(
    server: MediaServer, client: MediaClient
) -> None:
    data = os.urandom(media.MAX_READ_BYTES)
    server.add("m", a_file(data))
    greedy = bare(zmq.DEALER)
    greedy.setsockopt(zmq.RCVHWM, 1)
    greedy.connect(server.endpoint)
    for _ in range(200):
        await greedy.send(encode(MediaRead("m", 0, len(data))))
    assert await read(client, described(data)) == data
    greedy.close()


async def test_strangers_without_the_key_are_counted_and_read_nothing(
    server: MediaServer, client: MediaClient, tmp_path: Path
) -> None:
    server.add("m", a_file(b"secret"))
    async with MediaClient(server.endpoint, make(tmp_path / "other"), chunk_s=0.5) as stranger:
        with pytest.raises(MediaError, match="sent no piece"):
            await read(stranger, described(b"secret"))
    await until(lambda: server.refused > 0)
    assert server.garbage == 0
    assert await read(client, described(b"secret")) == b"secret"


async def test_a_server_s_garbage_costs_the_client_a_counter() -> None:
    impostor = bare(zmq.ROUTER)
    impostor.bind("tcp://127.0.0.1:*")
    endpoint = impostor.get_string(zmq.LAST_ENDPOINT)
    async with MediaClient(endpoint, chunk_s=PATIENCE_S) as client:
        reading = asyncio.create_task(read(client, described(b"data")))
        peer, frame = await impostor.recv_multipart()
        wanted = to_media.decode(frame)
        assert wanted == MediaRead("m", 0, 4)
        for wrong in (b"garbage", encode(Heartbeat(1)), encode(MediaChunk("m", 9, b"x"))):
            await impostor.send_multipart([peer, wrong])
        await impostor.send_multipart([peer, encode(MediaChunk("m", 0, b"data"))])
        assert await reading == b"data"
        assert client.garbage == 3
    impostor.close()


async def test_a_short_piece_is_an_error() -> None:
    impostor = bare(zmq.ROUTER)
    impostor.bind("tcp://127.0.0.1:*")
    async with MediaClient(impostor.get_string(zmq.LAST_ENDPOINT)) as client:
        reading = asyncio.create_task(read(client, described(b"data")))
        peer, _ = await impostor.recv_multipart()
        await impostor.send_multipart([peer, encode(MediaChunk("m", 0, b"dat"))])
        with pytest.raises(MediaError, match="3 bytes of m came"):
            await reading
    impostor.close()
