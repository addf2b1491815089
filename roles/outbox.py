"""Room for computed payloads: whoever finds the outbox full waits in line."""

import asyncio
from collections import deque

from roles.attempt import Attempt
from transfer.pool import Outbox


class OutboxLine:
    """The leader's outbox, with attempts that wait for room in it, first come first served.

    A payload that waits stays in the memory of its ranks, and its attempt keeps its place there:
    so a full outbox slows the computing down instead of growing.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._line: deque[tuple[Attempt, int, asyncio.Future[None]]] = deque()

    def reserve(self, attempt: Attempt, nbytes: int) -> "asyncio.Future[None]":
        """Done when `attempt.slots` has room for a payload of `nbytes`.

        Raises `PayloadTooLarge` at once if there will never be.
        """
        if nbytes > self._outbox.limit:
            self._outbox.allocate(nbytes)  # raises, with the limit
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((attempt, nbytes, future))
        self._serve()
        return future

    def leave(self, attempt: Attempt) -> None:
        """Takes the attempt's slots back, and its place in the line."""
        self._line = deque(entry for entry in self._line if entry[0] is not attempt)
        if attempt.slots:
            self._outbox.free(attempt.slots)
            attempt.slots = []
        self._serve()

    @property
    def free_slots(self) -> int:
        return self._outbox.free_slots

    def _serve(self) -> None:
        while self._line:
            attempt, nbytes, future = self._line[0]
            slots = self._outbox.allocate(nbytes)
            if slots is None:
                return
            self._line.popleft()
            attempt.slots = slots
            future.set_result(None)
