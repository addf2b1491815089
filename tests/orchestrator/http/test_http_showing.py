"""`stream=True`: events that the unmodified `openai` package reads, and what ends them."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from orchestrator.http import HttpOptions
from orchestrator.service import Busy, Completed, RequestFailed
from tests.support.front_door import Door, picture, soon
from transfer.errors import MediaError
from transfer.messages import ErrorInfo, Inputs

LARGE = picture(1) + bytes(200_000)


@contextlib.asynccontextmanager
async def opened(options: HttpOptions | None = None) -> AsyncIterator[tuple[Door, Any]]:
    door = Door(options)
    async with door.listening() as url:
        sdk = openai.AsyncOpenAI(api_key="unused", base_url=f"{url}/v1", max_retries=0)
        async with sdk:
            yield door, sdk


def directed(door: Door, *contents: bytes) -> asyncio.Event:
    """Each picture shows these previews first; then it is made when the event is set."""
    go = asyncio.Event()

    async def behave(inputs: Inputs, request_id: str) -> Completed:
        for content in contents:
            door.service.show(request_id, content)
        await go.wait()
        return await door.service.make(inputs, request_id)

    door.service.behave = behave
    return go


async def test_partial_images_come_while_the_picture_is_made() -> None:
    async with opened() as (door, sdk):
        go = directed(door, picture(1), LARGE)
        stream = await sdk.images.generate(
            prompt="a cat", stream=True, partial_images=2, size="128x96", extra_body={"seed": 5}
        )
        assert stream.response.headers["x-triptych-seed"] == "5"
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        for index, content in enumerate((picture(1), LARGE)):
            event = await anext(stream)
            assert event.type == "image_generation.partial_image"
            assert event.partial_image_index == index
            assert base64.b64decode(event.b64_json) == content
            assert (event.size, event.output_format, event.quality) == ("128x96", "png", "high")
            assert event.background == "opaque"
            assert event.created_at > 1_600_000_000
        assert door.service.previews[door.service.asked[0][0]].count == 2
        go.set()
        [event] = [event async for event in stream]
        assert event.type == "image_generation.completed"
        assert base64.b64decode(event.b64_json) == picture(5)
        assert event.usage.total_tokens == event.usage.input_tokens_details.text_tokens == 0
        assert event.timings["total_s"] == 0.25
        await soon(lambda: len(door.media.released) == 3)
        assert door.media.open == 0


def test_the_sync_client_reads_it_too() -> None:
    async def serve() -> list[str]:
        async with opened() as (door, sdk):
            directed(door, picture(1)).set()

            def ask() -> list[str]:
                with openai.OpenAI(api_key="unused", base_url=str(sdk.base_url)) as client:
                    stream: Any = client.images.generate(
                        prompt="a cat", stream=True, partial_images=1
                    )
                    return [event.type for event in stream]

            return await asyncio.to_thread(ask)

    assert asyncio.run(serve()) == ["image_generation.partial_image", "image_generation.completed"]


@pytest.mark.parametrize("arguments", [{}, {"partial_images": 0}])
async def test_without_partial_images_there_is_one_event(arguments: dict[str, int]) -> None:
    async with opened() as (door, sdk):
        stream = await sdk.images.generate(prompt="a cat", stream=True, **arguments)
        assert [event.type async for event in stream] == ["image_generation.completed"]
        assert not door.service.previews


async def test_several_pictures_say_which_they_are() -> None:
    async with opened() as (door, sdk):
        directed(door, picture(1), picture(2)).set()
        stream = await sdk.images.generate(
            prompt="a cat", n=2, stream=True, partial_images=2, extra_body={"seed": 5}
        )
        events = [event async for event in stream]
        partial = [e for e in events if e.type == "image_generation.partial_image"]
        told = [(e.image_index, e.partial_image_index) for e in partial]
        assert sorted(told) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        done = {e.image_index: base64.b64decode(e.b64_json) for e in events if e not in partial}
        assert done == {0: picture(5), 1: picture(6)}
        await soon(lambda: len(door.media.released) == 6)


async def test_what_fails_at_once_has_its_status() -> None:
    async with opened() as (door, sdk):

        async def full(inputs: Inputs, request_id: str) -> Completed:
            raise Busy(3.0)

        door.service.behave = full
        with pytest.raises(openai.RateLimitError):
            await sdk.images.generate(prompt="a cat", stream=True)
        door.service.lacking = ["decoder"]
        with pytest.raises(openai.InternalServerError, match="decoder"):
            await sdk.images.generate(prompt="a cat", stream=True)


async def test_what_fails_later_is_an_event_that_the_sdk_raises() -> None:
    async with opened() as (door, sdk):
        go = asyncio.Event()

        async def fail(inputs: Inputs, request_id: str) -> Completed:
            door.service.show(request_id, picture(1))
            await go.wait()
            raise RequestFailed(ErrorInfo("rank_died", "the denoiser died", instance="d0"))

        door.service.behave = fail
        stream = await sdk.images.generate(prompt="a cat", n=2, stream=True, partial_images=1)
        await anext(stream)
        go.set()
        with pytest.raises(openai.APIError, match="the denoiser died") as caught:
            async for _ in stream:
                pass
        assert caught.value.code == "rank_died"
        await soon(lambda: len(door.media.released) == 2)


async def test_the_client_goes_and_everything_is_cancelled() -> None:
    async with opened() as (door, sdk):
        directed(door, picture(1))
        stream = await sdk.images.generate(prompt="a cat", n=2, stream=True, partial_images=1)
        await anext(stream)
        await stream.close()
        await soon(lambda: len(door.service.cancelled) == 2)
        await soon(lambda: len(door.media.released) == 2)
        assert door.media.open == 0


async def test_the_client_goes_before_the_first_event() -> None:
    async with opened() as (door, sdk):
        directed(door)
        asking = asyncio.create_task(sdk.images.generate(prompt="a cat", stream=True))
        await soon(lambda: bool(door.service.asked))
        asking.cancel()
        await soon(lambda: len(door.service.cancelled) == 1)


async def test_a_preview_that_is_gone_is_left_out() -> None:
    async with opened() as (door, sdk):

        async def behave(inputs: Inputs, request_id: str) -> Completed:
            door.service.show(request_id, picture(1))
            door.media.files.clear()
            return await door.service.make(inputs, request_id)

        door.service.behave = behave
        stream = await sdk.images.generate(prompt="a cat", stream=True, partial_images=1)
        assert [event.type async for event in stream] == ["image_generation.completed"]


async def test_a_picture_whose_decoder_died_is_made_again() -> None:
    async with opened() as (door, sdk):
        tries: list[bool] = []

        async def behave(inputs: Inputs, request_id: str) -> Completed:
            result = await door.service.make(inputs, request_id)
            tries.append(True)
            if len(tries) == 1:
                door.media.files.clear()
            return result

        door.service.behave = behave
        stream = await sdk.images.generate(prompt="a cat", stream=True, extra_body={"seed": 5})
        events = [event async for event in stream]
        assert [base64.b64decode(event.b64_json) for event in events] == [picture(5)]
        assert len(tries) == 2


async def test_a_file_that_breaks_off_is_a_stream_that_breaks_off() -> None:
    async with opened() as (door, sdk):

        async def pieces() -> Any:
            yield LARGE[:1000]
            raise MediaError("its process is gone")

        async def behave(inputs: Inputs, request_id: str) -> Completed:
            result = await door.service.make(inputs, request_id)
            door.media.files[result.media[0].id] = pieces
            return result

        door.service.behave = behave
        stream = await sdk.images.generate(prompt="a cat", stream=True)
        with pytest.raises((httpx.RemoteProtocolError, openai.APIError, httpx.ReadError)):
            [event async for event in stream]
        await soon(lambda: door.media.open == 0)


async def test_a_quiet_stream_shows_that_it_is_alive() -> None:
    async with opened(HttpOptions(ping_s=0.01)) as (door, sdk):
        go = directed(door)
        url = f"{sdk.base_url}images/generations"
        body = {"prompt": "a cat", "stream": True}
        async with httpx.AsyncClient() as client, client.stream("POST", url, json=body) as reply:
            lines = reply.aiter_lines()
            pings = [line async for line in _some(lines, 3)]
            assert pings == [": ping"] * 3
            go.set()
            rest = [line async for line in lines if line.startswith(("event", "data"))]
        assert rest[0] == "event: image_generation.completed"
        assert json.loads(rest[1].removeprefix("data: "))["type"] == "image_generation.completed"


async def _some(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async for line in lines:
        if line:
            yield line
            count -= 1
            if not count:
                return


@pytest.mark.parametrize("address", ["images/generations", "jobs"])
async def test_a_job_streams_elsewhere(address: str) -> None:
    async with opened() as (_, sdk), httpx.AsyncClient() as client:
        reply = await client.post(
            f"{sdk.base_url}{address}",
            json={"prompt": "a cat", "stream": True},
            headers={"idempotency-key": "k"},
        )
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "stream"
