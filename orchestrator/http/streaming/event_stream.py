"""Server-sent events of one job, as the WHATWG's HTML standard defines them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Literal

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.http.gone import until_gone
from orchestrator.http.streaming.streamed import Writer
from orchestrator.jobs.model import Job, JobEvent, Shown

HEADERS = {
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold events back until it has a page of them
}
RETRY = b"retry: 1000\n\n"  # milliseconds after which a browser connects again
PING = b": ping\n\n"  # a comment: proxies and clients see that the line is alive


class EventStream(Response):
    """`id`: the event's number, `event`: its name, `data`: the job as it was then. What is to be
    seen is written by `show`.

    Ends after the event with which the job is over, when the client goes, or when the server
    leaves: a client that comes back with `Last-Event-ID` misses nothing that matters. The next
    event is asked for when the client has taken this one; so whoever reads slowly costs the
    events' bounded queue, and whoever takes nothing is cut off by the envelope.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[JobEvent, None],
        write: Callable[[Job], bytes],
        show: Callable[[Writer, JobEvent, Shown], Awaitable[None]],
        leaving: asyncio.Event,
        ping_s: float,
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]  # of the empty body that it was made with
        self._events, self._write, self._show = events, write, show
        self._leaving, self._ping_s = leaving, ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_gone(receive, self._send(send))
        finally:
            await self._events.aclose()

    async def _send(self, send: Send) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        await _write(send, RETRY)
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await self._follow(send, leaving)
        finally:
            leaving.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _follow(self, send: Send, leaving: asyncio.Future[Literal[True]]) -> None:
        coming = asyncio.ensure_future(self._next())
        try:
            while not leaving.done():
                either: set[asyncio.Future[Any]] = {coming, leaving}
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait(either, timeout=self._ping_s, return_when=first)
                if not coming.done():
                    if not leaving.done():
                        await _write(send, PING)
                    continue
                event = coming.result()
                if event is None:
                    return
                if event.shown is not None:
                    await self._show(Writer(send), event, event.shown)
                else:
                    await _write(send, self._frame(event))
                coming = asyncio.ensure_future(self._next())
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _next(self) -> JobEvent | None:
        """None: there are no more."""
        return await anext(self._events, None)

    def _frame(self, event: JobEvent) -> bytes:
        head = f"id: {event.number}\nevent: {event.name}\ndata: ".encode()
        return head + self._write(event.job) + b"\n\n"


async def _write(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
