"""The pictures of one streamed request while they are made: news of them, in the order in which it
comes."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from orchestrator.http.media.files import Files
from orchestrator.http.media.reading import Reading
from orchestrator.http.ports import MediaSource, Service
from orchestrator.http.request.plan import Plan
from orchestrator.metrics import Metrics
from orchestrator.service import Completed, Previews
from transfer.errors import MediaError
from transfer.messages import Media

MAKES = 3  # times at most that a picture is made whose file is gone before it was read

log = logging.getLogger(__name__)


class Preview(msgspec.Struct, frozen=True):
    """A picture half done. `number` counts those of picture `index` from 0."""

    index: int
    number: int
    media: Media


class Made(msgspec.Struct, frozen=True):
    """A picture is ready, and the first piece of its file is read."""

    index: int
    result: Completed
    reading: Reading


class Broken(msgspec.Struct, frozen=True):
    """A picture cannot be made, so all of the request ends."""

    error: Exception


News = Preview | Made | Broken


class Making:
    """Makes every picture of a plan at once, each a request of its own, and says what becomes of
    them: in the end `Made` of each, or `Broken` once.

    `start(plan, request_id)`, then `await news(seconds)` again and again. `await close()` cancels
    what is still being made, and gives all files back. At most n * (previews + 1) news wait.
    """

    def __init__(self, service: Service, source: MediaSource, metrics: Metrics) -> None:
        self.files = Files(source)
        self._service = service
        self._metrics = metrics
        self._news: asyncio.Queue[News] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, plan: Plan, request_id: str) -> None:
        several = len(plan.inputs) > 1
        for index in range(len(plan.inputs)):
            id = f"{request_id}-{index}" if several else request_id
            self._begin(self._make(plan, index, id))

    async def news(self, seconds: float) -> News | None:
        """What comes next; None if nothing does within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._news.get()
        return None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._news.empty():
            if isinstance(news := self._news.get_nowait(), Made):
                await news.reading.close()
        await self.files.release()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _make(self, plan: Plan, index: int, request_id: str) -> None:
        try:
            self._news.put_nowait(await self._made(plan, index, request_id))
        except Exception as error:
            self._news.put_nowait(Broken(error))

    async def _made(self, plan: Plan, index: int, request_id: str) -> Made:
        """Makes it again if its decoder died before its first byte was read."""
        previews = Previews(plan.previews, self._shower(index)) if plan.previews else None
        for _ in range(MAKES - 1):
            try:
                return await self._once(plan, index, request_id, previews)
            except MediaError as error:
                log.warning("%s; the picture is made again", error)
                previews = None  # whoever waits has seen them
        return await self._once(plan, index, request_id, previews)

    async def _once(
        self, plan: Plan, index: int, request_id: str, previews: Previews | None
    ) -> Made:
        result = await self._service.generate(
            plan.inputs[index], request_id=request_id, model=plan.model, previews=previews
        )
        self.files.add(result.media)
        self._metrics.generated(result)
        reading = self.files.read(result.media[0])
        try:
            await reading.prime()
        except BaseException:
            await reading.close()
            raise
        return Made(index, result, reading)

    def _shower(self, index: int) -> Callable[[list[Media]], None]:
        numbers = itertools.count()

        def show(media: list[Media]) -> None:
            self.files.add(media)
            self._news.put_nowait(Preview(index, next(numbers), media[0]))

        return show
