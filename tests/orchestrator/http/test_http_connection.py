"""What only a real socket shows: clients that leave, read slowly or not at all, broken replies."""

import asyncio
import base64
import contextlib
import json
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import pytest

from orchestrator.http import HttpOptions
from orchestrator.service import Completed
from tests.support.front_door import TIMINGS, Door, picture, soon
from transfer.errors import MediaError
from transfer.made import ImageMade
from transfer.messages import Inputs, Media

CHUNK = 256 << 10
BIG = 64 << 20
PATH = "/v1/images/generations"


@contextlib.asynccontextmanager
async def asked(
    url: str, **fields: object
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection with a small receive buffer, over which a request was sent."""
    host, port = url.removeprefix("http://").split(":")
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=plug, limit=16 << 10)
    body = json.dumps({"prompt": "a", "seed": 1, **fields}).encode()
    writer.write(b"POST %s HTTP/1.1\r\nHost: d\r\n" % PATH.encode())
    writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def serve_big(door: Door, nbytes: int = BIG) -> None:
    """Requests give a file that is made as it is read."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, nbytes, CHUNK):
            yield picture(start, 64) * (CHUNK // 64)

    async def make(inputs: Inputs, request_id: str) -> Completed:
        door.media.files["big"] = pieces
        media = Media(id="big", made=ImageMade(), mime="image/png", nbytes=nbytes)
        return Completed(media=[media], timings=TIMINGS, attempts=1)

    door.service.behave = make


async def forever(inputs: Inputs, request_id: str) -> Completed:
    await asyncio.Event().wait()
    raise AssertionError


async def settled(door: Door) -> int:
    """The number of chunks that were read, once no more are being read."""
    seen, quiet = -1, 0
    while quiet < 20:
        quiet = quiet + 1 if door.media.chunks_read == seen else 0
        seen = door.media.chunks_read
        await asyncio.sleep(0.01)
    return seen


@pytest.mark.parametrize("n", [1, 3])
async def test_a_client_that_leaves_cancels_its_requests(n: int) -> None:
    door = Door()
    door.service.behave = forever
    async with door.listening() as url:
        async with asked(url, n=n):
            await soon(lambda: len(door.service.asked) == n)
            assert door.service.cancelled == []
        await soon(lambda: len(door.service.cancelled) == n)
        metrics = httpx.AsyncClient(base_url=url)
        async with metrics:
            page = (await metrics.get("/metrics")).text
    assert f'route="{PATH}",status="499"}} 1.0' in page


async def test_a_client_that_leaves_in_its_body_leaves_nothing_behind() -> None:
    door = Door()
    async with door.listening() as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST %s HTTP/1.1\r\nHost: d\r\nContent-Length: 99\r\n\r\n{" % PATH.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/health")).status_code == 200
    assert door.service.asked == []


async def test_a_slow_client_is_waited_for() -> None:
    """However large the file is, only what sockets hold is read ahead of the client."""
    door = Door()
    serve_big(door)
    async with door.listening() as url, asked(url) as (reader, _):
        head = await reader.readuntil(b"\r\n\r\n")
        assert await settled(door) < 48  # of 256: what the kernel's buffers hold
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = json.loads(await read_in_pieces(reader, length))
        assert door.media.chunks_read == BIG // CHUNK
        await soon(lambda: door.media.released == ["big"])
    assert base64.b64decode(body["data"][0]["b64_json"]) == b"".join(
        picture(start, 64) * (CHUNK // 64) for start in range(0, BIG, CHUNK)
    )


async def read_in_pieces(reader: asyncio.StreamReader, length: int) -> bytes:
    body = bytearray()
    while len(body) < length:
        piece = await reader.read(1 << 20)
        assert piece, f"the reply ended after {len(body)} of {length} bytes"
        body += piece
    return bytes(body)


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    door = Door(HttpOptions(stall_s=0.2))
    serve_big(door)
    async with door.listening() as url, asked(url) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        await soon(lambda: door.media.released == ["big"])
        assert door.media.open == 0
        assert door.media.chunks_read < BIG // CHUNK


async def test_a_client_that_leaves_while_it_reads_ends_the_reading() -> None:
    door = Door()
    serve_big(door)
    async with door.listening() as url:
        async with asked(url) as (reader, _):
            await reader.readuntil(b"\r\n\r\n")
            await settled(door)
            assert door.media.released == []
        await soon(lambda: door.media.released == ["big"])
    assert door.media.open == 0
    assert door.media.chunks_read < BIG // CHUNK


@pytest.mark.parametrize("fault", ["error", "short", "long"])
async def test_a_file_that_breaks_cuts_the_reply(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door()

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"x" * 100_000
        if fault == "error":
            raise MediaError("its instance died")
        yield b"x" * (99_999 if fault == "short" else 100_001)

    async def make(inputs: Inputs, request_id: str) -> Completed:
        door.media.files["f"] = pieces
        media = Media(id="f", made=ImageMade(), mime="image/png", nbytes=200_000)
        return Completed(media=[media], timings=TIMINGS, attempts=1)

    door.service.behave = make
    async with door.listening() as url, httpx.AsyncClient(base_url=url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(PATH, json={"prompt": "a"})
        door.service.behave = door.service.make
        assert (await client.post(PATH, json={"prompt": "a"})).status_code == 200
    assert door.media.released[0] == "f"
    assert door.media.open == 0
    assert "reply cut off" in caplog.text


async def test_a_connection_serves_many_requests() -> None:
    door = Door()
    async with door.listening() as url, httpx.AsyncClient(base_url=url) as client:
        for seed in range(5):
            reply = await client.post(PATH, json={"prompt": "a", "seed": seed, "n": 2})
            data = reply.json()["data"]
            assert [base64.b64decode(item["b64_json"]) for item in data] == [
                picture(seed),
                picture(seed + 1),
            ]
    assert len(door.media.released) == 10
    assert door.media.closed


async def test_a_large_body_is_refused_while_it_is_sent() -> None:
    door = Door(HttpOptions(max_body_bytes=1000))

    async def chunked() -> AsyncIterator[bytes]:
        for _ in range(2000):
            yield b" " * 10_000

    async with door.listening() as url, httpx.AsyncClient(base_url=url) as client:
        for content in (chunked(), b" " * (20 << 20)):
            reply = await client.post(PATH, content=content)
            assert reply.status_code == 413
            assert reply.json()["error"]["code"] == "body_too_large"


async def test_leaving_waits_for_what_is_under_way() -> None:
    door = Door()
    go = asyncio.Event()

    async def make(inputs: Inputs, request_id: str) -> Completed:
        await go.wait()
        return await door.service.make(inputs, request_id)

    door.service.behave = make
    async with httpx.AsyncClient() as client:
        async with door.listening() as url:
            posting = asyncio.create_task(client.post(url + PATH, json={"prompt": "a"}))
            await soon(lambda: len(door.service.asked) == 1)
            asyncio.get_running_loop().call_later(0.05, go.set)
        assert (await posting).status_code == 200


async def test_what_takes_longer_than_leaving_waits_for_is_told_to_come_again() -> None:
    door = Door()

    async def make(inputs: Inputs, request_id: str) -> Completed:
        return await asyncio.get_running_loop().create_future()

    door.service.behave = make
    async with httpx.AsyncClient() as client:
        async with door.listening() as url:
            posting = asyncio.create_task(client.post(url + PATH, json={"prompt": "a"}))
            await soon(lambda: len(door.service.asked) == 1)
        reply = await posting
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "stopping"
    assert reply.headers["x-request-id"].startswith("req_")
    assert int(reply.headers["retry-after"]) > 0
    [(asked, _)] = door.service.asked
    assert door.service.cancelled == [asked]


async def test_garbage_costs_one_connection() -> None:
    door = Door()
    async with door.listening() as url:
        host, port = url.removeprefix("http://").split(":")
        for garbage in (b"\x16\x03\x01\x02\x00\x01", b"\x00" * 1000, b"GET / HTTP/9.9\r\n\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage + b"\r\n\r\n")
            async with asyncio.timeout(5):
                assert b"400" in await reader.read()
            writer.close()
            await writer.wait_closed()
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/health")).status_code == 200


async def test_clients_that_come_and_go_leave_nothing() -> None:
    """Every file is given back and every task ends, wherever a client gave up."""
    door = Door()
    chance = random.Random(4)

    async def make(inputs: Inputs, request_id: str) -> Completed:
        await asyncio.sleep(chance.random() * 0.01)
        media = door.media.add(request_id, picture(inputs.seed, 200_000))
        return Completed(media=[media], timings=TIMINGS, attempts=1)

    async def visit(client: httpx.AsyncClient) -> None:
        fields = {"prompt": "a", "n": chance.randint(1, 3), "response_format": "b64_json"}
        if chance.random() < 0.3:
            fields["response_format"] = "url"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.choice([0.005, 0.02, 0.1, 5])):
                assert (await client.post(PATH, json=fields)).status_code == 200

    door.service.behave = make
    before = len(asyncio.all_tasks())
    async with door.listening() as url, httpx.AsyncClient(base_url=url) as client:
        for _ in range(10):
            await asyncio.gather(*(visit(client) for _ in range(16)))
        made = set(door.media.files)
        assert len(made) > 100
        await soon(lambda: set(door.media.released) == made)
        assert len(door.media.released) == len(made)
        assert door.media.open == 0
    assert len(asyncio.all_tasks()) == before
