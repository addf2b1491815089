"""Who follows a job: its latest events, and a bell."""

import asyncio
from collections import deque

from orchestrator.jobs.model import JobEvent

KEPT = 64  # events of one job; a reader that is further behind misses some


class News:
    """The latest events of one job; of previews, which say where a picture lies and do not hold it,
    the latest of each picture. Readers keep their own place, so that each of them costs nothing but
    itself, however slow it is."""

    def __init__(self) -> None:
        self._events: deque[JobEvent] = deque(maxlen=KEPT)
        self._shown: dict[int, JobEvent] = {}
        self._bell = asyncio.Event()

    def add(self, event: JobEvent) -> None:
        if event.shown is not None:
            self._shown[event.shown.index] = event
        else:
            self._events.append(event)
        self._bell.set()
        self._bell = asyncio.Event()

    def after(self, number: int) -> list[JobEvent]:
        """What is kept of the events with higher numbers, and in any case the last one of all."""
        kept = [*self._events, *self._shown.values()]
        newer = [event for event in kept if event.number > number or event.job.over]
        return sorted(newer, key=lambda event: event.number)

    async def more(self) -> None:
        """Waits for the next event. What `after` gave is not waited for again: nothing may be
        awaited between the two."""
        await self._bell.wait()
