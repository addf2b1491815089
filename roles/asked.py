"""What operators ask of an instance: passed on to every rank, and answered in time."""

import asyncio
from collections.abc import Callable

from roles.calls import Act, Value
from roles.door import Door
from roles.pool import HOST
from transfer.codec import Message
from transfer.messages import Answered, Ask, RankInfo
from transfer.results import PoolResult, RankError, RankResult

Answer = PoolResult[Value]


class Asked:
    """Answers each `Ask` with one `Answered`, by its deadline and at once if ranks die meanwhile.

    A rank comes to it between two of its units. One that is amid a long forward is named as silent
    when the time is over, and nothing else happens to it: what it says later is dropped. Neither
    requests nor aborts wait for any of this. `ranks`: who they are at this moment.
    """

    def __init__(
        self, door: Door, send: Callable[[Message], None], ranks: Callable[[], list[RankInfo]]
    ) -> None:
        self._door = door
        self._send = send
        self._ranks = ranks
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, ask: Ask) -> None:
        """Returns at once."""
        task = asyncio.get_running_loop().create_task(self._answer(ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def forget(self) -> None:
        """The epoch has ended: nobody waits for answers any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, ask: Ask) -> None:
        result = await self._door.ask(Act(ask.action), ask.seconds)
        self._send(Answered(ask.epoch, ask.number, result or self._closed()))  # type: ignore[arg-type]

    def _closed(self) -> Answer:
        """There are no ranks to be asked at this moment."""
        error = RankError("closed", "PoolClosed", "was not asked: it is being started")
        told = (
            RankResult[Value](x.rank, x.pid, False, None, error, 0.0, HOST) for x in self._ranks()
        )
        return PoolResult(tuple(told))
