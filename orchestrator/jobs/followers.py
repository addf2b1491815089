"""Who follows a job: its latest events, and a bell."""

import asyncio
from collections import deque

from orchestrator.jobs.model import JobEvent

KEPT = 64  # events of one job; a reader that is further behind misses some


class News:
    """The latest events of one job. Readers keep their own place, so that each of them costs
    nothing but itself, however slow it is."""

    def __init__(self) -> None:
        self._events: deque[JobEvent] = deque(maxlen=KEPT)
        self._bell = asyncio.Event()

    def add(self, event: JobEvent) -> None:
        self._events.append(event)
        self._bell.set()
        self._bell = asyncio.Event()

    def after(self, number: int) -> list[JobEvent]:
        """What is kept of the events with higher numbers, and in any case the last one of all."""
        return [event for event in self._events if event.number > number or event.job.over]

    async def more(self) -> None:
        """Waits for the next event. What `after` gave is not waited for again: nothing may be
        awaited between the two."""
        await self._bell.wait()
