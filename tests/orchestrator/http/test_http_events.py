"""The events of a job over a real socket: as they come, resumed, slow, cut off, many at once."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import pytest

from orchestrator.http import HttpOptions
from tests.support.fake_jobs import FakeJobs
from tests.support.front_door import Door, soon
from transfer.messages import ErrorInfo

BODY = {"prompt": "a cat", "seed": 7}
EVENTS = "/v1/jobs/job_0/events"


class Event(NamedTuple):
    id: str
    name: str
    data: dict[str, object]


class Stream:
    """A reader of server-sent events, by the rules of the HTML standard."""

    def __init__(self, reply: httpx.Response) -> None:
        self.reply = reply
        self.comments = 0
        self._lines = reply.aiter_lines()

    async def next(self) -> Event | None:
        """None: the server has ended the stream."""
        async with asyncio.timeout(10):
            fields: dict[str, str] = {}
            async for line in self._lines:
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    return Event(fields["id"], fields["event"], json.loads(fields["data"]))
        return None

    async def rest(self) -> list[Event]:
        events = []
        while event := await self.next():
            events.append(event)
        return events


@contextlib.asynccontextmanager
async def following(url: str, after: str | None = None) -> AsyncIterator[Stream]:
    headers = {} if after is None else {"last-event-id": after}
    async with (
        httpx.AsyncClient(base_url=url) as client,
        client.stream("GET", EVENTS, headers=headers) as reply,
    ):
        yield Stream(reply)


@contextlib.asynccontextmanager
async def started(options: HttpOptions | None = None) -> AsyncIterator[tuple[Door, str]]:
    """A front door with one job that waits."""
    door = Door(options, jobs=FakeJobs(at_once=False))
    async with door.listening() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/v1/jobs", json=BODY)).status_code == 202
        yield door, url


async def test_events_come_as_they_happen_and_end_with_the_job() -> None:
    async with started() as (door, url), following(url) as stream:
        assert stream.reply.headers["content-type"].startswith("text/event-stream")
        assert stream.reply.headers["cache-control"] == "no-store"
        first = await stream.next()
        assert first is not None
        assert (first.id, first.name, first.data["status"]) == ("1", "queued", "queued")
        await door.jobs.step("job_0", "denoiser", 1, 8)
        second = await stream.next()
        assert second is not None
        assert (second.id, second.name) == ("2", "progress")
        assert second.data["progress"] == {"stage": "denoiser", "step": 1, "steps": 8}
        await door.jobs.complete("job_0")
        [last] = await stream.rest()
        assert (last.id, last.name, last.data["status"]) == ("3", "completed", "completed")
        assert last.data["files"]
        async with httpx.AsyncClient(base_url=url) as client:
            assert last.data == (await client.get("/v1/jobs/job_0")).json()
        await soon(lambda: door.jobs.readers == 0)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_every_end_is_an_event(how: str) -> None:
    async with started() as (door, url), following(url) as stream:
        await stream.next()
        if how == "failed":
            await door.jobs.fail("job_0", ErrorInfo(kind="deadline", message="too late"))
        else:
            await door.jobs.cancel("job_0")
        [last] = await stream.rest()
        assert (last.name, last.data["status"]) == (how, how)


async def test_a_reader_resumes_after_what_it_has_seen() -> None:
    async with started() as (door, url):
        for step in range(1, 5):
            await door.jobs.step("job_0", "denoiser", step, 8)
        async with following(url) as stream:
            seen = [await stream.next() for _ in range(3)]
        assert seen[-1] is not None
        await door.jobs.complete("job_0")
        async with following(url, seen[-1].id) as stream:
            rest = await stream.rest()
        assert [event.id for event in rest] == ["4", "5", "6"]
        assert rest[-1].name == "completed"


async def test_whoever_has_seen_the_end_is_told_to_stay_away() -> None:
    """A browser connects again after each end of a stream, unless the answer is 204."""
    async with started() as (door, url):
        await door.jobs.complete("job_0")
        async with httpx.AsyncClient(base_url=url) as client:
            reply = await client.get(EVENTS, headers={"last-event-id": "2"})
            assert (reply.status_code, reply.content) == (204, b"")
            late = await client.get(EVENTS, headers={"last-event-id": "1"})
            assert "event: completed" in late.text
            first = await client.get(EVENTS)
            assert "event: queued" in first.text
        await soon(lambda: door.jobs.readers == 0)


@pytest.mark.parametrize("id", ["-1", "x", "1.5", "99999999999999999999"])
async def test_a_last_event_that_is_no_number_is_refused(id: str) -> None:
    async with started() as (_, url), httpx.AsyncClient(base_url=url) as client:
        reply = await client.get(EVENTS, headers={"last-event-id": id})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "Last-Event-ID")


async def test_a_quiet_stream_shows_that_it_is_alive() -> None:
    async with started(HttpOptions(ping_s=0.01)) as (door, url), following(url) as stream:
        coming = asyncio.create_task(stream.rest())
        await soon(lambda: stream.comments >= 3)
        await door.jobs.complete("job_0")
        assert [event.name for event in await coming] == ["queued", "completed"]


async def test_a_reader_that_leaves_costs_nothing_and_the_job_goes_on() -> None:
    async with started() as (door, url):
        async with following(url) as stream:
            await stream.next()
            assert door.jobs.readers == 1
        await soon(lambda: door.jobs.readers == 0)
        assert not door.jobs.jobs["job_0"].over


async def test_many_readers_see_the_same() -> None:
    async with started() as (door, url), contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(following(url)) for _ in range(20)]
        reading = [asyncio.create_task(stream.rest()) for stream in streams]
        await soon(lambda: door.jobs.readers == 20)
        for step in range(1, 9):
            await door.jobs.step("job_0", "denoiser", step, 8)
        await door.jobs.complete("job_0")
        first, *others = await asyncio.gather(*reading)
        assert len(first) == 10
        assert others == [first] * 19


async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    async with started(HttpOptions(stall_s=0.2)) as (door, url):
        host, port = url.removeprefix("http://").split(":")
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 10)
        plug.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plug, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=plug, limit=1 << 10)
        try:
            writer.write(b"GET %s HTTP/1.1\r\nHost: d\r\n\r\n" % EVENTS.encode())
            await reader.readuntil(b"\r\n\r\n")
            await soon(lambda: door.jobs.readers == 1)
            long = "denoiser" * 2000  # what the kernel holds is full soon
            async with asyncio.timeout(30):
                while door.jobs.readers:
                    await door.jobs.step("job_0", long)
                    await asyncio.sleep(0.001)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_streams_end_when_the_server_leaves() -> None:
    """They could go on for hours; a client comes back, and resumes."""
    door = Door(jobs=FakeJobs(at_once=False))
    async with contextlib.AsyncExitStack() as stack:
        async with door.listening() as url:
            async with httpx.AsyncClient(base_url=url) as client:
                await client.post("/v1/jobs", json=BODY)
            stream = await stack.enter_async_context(following(url))
            await stream.next()
            rest = asyncio.create_task(stream.rest())
            await soon(lambda: door.jobs.readers == 1)
        # cut off, it would be an error and not an end
        assert await rest == []
        assert door.jobs.readers == 0


async def test_a_preview_is_an_event_as_in_a_stream_of_pictures() -> None:
    async with started() as (door, url), following(url) as stream:
        await stream.next()
        content = bytes(range(256)) * 40
        await door.jobs.step("job_0", "denoiser", 4, 8)
        await door.jobs.show("job_0", 0, content)
        await stream.next()
        event = await stream.next()
        assert event is not None
        assert (event.id, event.name) == ("3", "image_generation.partial_image")
        data = event.data
        assert (data["type"], data["partial_image_index"], data["image_index"]) == (
            event.name,
            0,
            0,
        )
        assert (data["size"], data["output_format"]) == ("128x96", "png")
        assert base64.b64decode(str(data["b64_json"])) == content
        await door.jobs.complete("job_0")
        assert [each.name for each in await stream.rest()] == ["completed"]


async def test_a_preview_that_is_gone_is_left_out() -> None:
    async with started() as (door, url):
        await door.jobs.show("job_0", 0, b"early")
        await door.jobs.show("job_0", 1, b"later")
        await door.jobs.complete("job_0")
        async with following(url, "1") as stream:
            events = await stream.rest()
        assert [(each.id, each.name) for each in events] == [
            ("3", "image_generation.partial_image"),
            ("4", "completed"),
        ]
        assert events[0].data["partial_image_index"] == 1
