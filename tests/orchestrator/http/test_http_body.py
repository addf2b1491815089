"""The JSON around streamed files: right for every length, and of the length that was announced."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from orchestrator.http.errors import ApiError
from orchestrator.http.media.reading import Reading, WrongLength
from orchestrator.http.request.body import Base64, Frame, read_body
from orchestrator.http.request.schema import ImagesReply

REPLY = ImagesReply(created=1, size="1x1", quality="high", output_format="png")


def encoded(chunks: list[bytes]) -> bytes:
    encoder = Base64()
    return b"".join([*(encoder.feed(chunk) for chunk in chunks), encoder.finish()])


@given(st.lists(st.binary(max_size=20)))
def test_base64_does_not_depend_on_the_chunks(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert encoded(chunks) == base64.b64encode(whole)
    assert len(encoded(chunks)) == Base64.length(len(whole))


@given(st.lists(st.binary(max_size=10), min_size=1, max_size=4))
def test_the_announced_length_is_the_length(files: list[bytes]) -> None:
    frame = Frame(REPLY)
    body = frame.head
    for i, file in enumerate(files):
        body += frame.opening(i) + encoded([file]) + frame.CLOSING
    body += frame.tail
    assert len(body) == frame.length([len(file) for file in files])
    data = json.loads(body)["data"]
    assert [base64.b64decode(item["b64_json"]) for item in data] == files


async def chunks_of(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


async def read_all(reading: Reading) -> bytes:
    whole = b""
    while chunk := await reading.next():
        whole += chunk
    return whole


@pytest.mark.parametrize("primed", [False, True])
async def test_a_reading_gives_every_byte_once(primed: bool) -> None:
    reading = Reading(chunks_of(b"", b"ab", b"", b"c"), 3)
    if primed:
        await reading.prime()
    assert await read_all(reading) == b"abc"
    await reading.close()


@pytest.mark.parametrize("nbytes", [0, 2, 4])
async def test_a_file_of_another_length_is_an_error(nbytes: int) -> None:
    reading = Reading(chunks_of(b"ab", b"c"), nbytes)
    with pytest.raises(WrongLength):
        await read_all(reading)
    await reading.close()


async def test_an_empty_file_is_a_file() -> None:
    reading = Reading(chunks_of(), 0)
    await reading.prime()
    assert await read_all(reading) == b""
    await reading.close()


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def receive() -> dict[str, object]:
        return await asyncio.get_running_loop().create_future()

    with pytest.raises(ApiError) as refused:
        await read_body(Request({"type": "http", "headers": []}, receive), 100, 0.01)
    assert (refused.value.status, refused.value.code) == (408, "body_timeout")
