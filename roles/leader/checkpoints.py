"""Checkpoints: when the state of a running request is worth keeping, and its way into the outbox.

A checkpoint is a payload with which another denoiser can go on with the request where it was. It
takes the ranks a few milliseconds; what it saves is the seconds since the one before.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from roles.calls import Key, Marked
from roles.leader.attempt import Attempt
from roles.leader.door import Door
from roles.leader.outbox import OutboxLine
from transfer.codec import Message
from transfer.messages import Checkpointed

log = logging.getLogger(__name__)

PORTABLE = "denoiser"
AGAIN_S = 5.0  # for an instance that drains: until it asks again for a place elsewhere


class Checkpoints:
    """Chooses whose state is kept, and keeps it. One for all attempts of an instance.

    A running request is due when it has computed for `every_s` seconds since the last checkpoint,
    and has as much before it; 0: never. While the instance drains (`moving`), everything that runs
    is due, so that the orchestrator can let it go on elsewhere.
    """

    def __init__(
        self, every_s: float, outbox: OutboxLine, ranks: Door, send: Callable[[Message], None]
    ) -> None:
        self.moving = False
        self._every_s = every_s
        self._outbox = outbox
        self._ranks = ranks
        self._send = send
        self._latest: dict[Key, _Mark] = {}
        self._reasons: set[str] = set()
        self._storing: set[asyncio.Task[None]] = set()

    def mark(self, attempts: Iterable[Attempt]) -> None:
        """Called before steps of these attempts: marks those that are due."""
        for attempt in attempts:
            attempt.marked = attempt.work.role == PORTABLE and self._due(attempt)

    def note(self, attempt: Attempt, marked: Marked) -> None:
        """The ranks have made a checkpoint, or say why there is none."""
        latest = self._latest.get(attempt.key)
        if latest is None or latest.storing:
            return
        if marked.why_not is not None:
            latest.possible = False
            self._say(marked.why_not)
            return
        latest.computed_s, latest.step, latest.moving = attempt.computed_s, marked.step, self.moving
        slots = self._outbox.spare(marked.nbytes)
        if slots is None:
            return  # the next one may find some
        latest.storing = True
        storing = self._store(attempt, latest, marked, slots)
        task = asyncio.get_running_loop().create_task(storing)
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    def forget(self, attempt: Attempt) -> None:
        """The attempt is over; what was kept of it stays."""
        self._latest.pop(attempt.key, None)

    def _due(self, attempt: Attempt) -> bool:
        latest = self._latest.get(attempt.key)
        if latest is None:
            latest = self._latest[attempt.key] = _Mark(attempt.computed_s, attempt.step)
        if not latest.possible or latest.storing:
            return False
        spent = attempt.computed_s - latest.computed_s
        if self.moving:
            return not latest.moving or spent >= (self._every_s or AGAIN_S)
        steps = attempt.step - latest.step
        if not self._every_s or spent < self._every_s or steps < 1:
            return False
        return (attempt.steps - attempt.step) * spent / steps >= self._every_s

    async def _store(
        self, attempt: Attempt, latest: "_Mark", marked: Marked, slots: list[int]
    ) -> None:
        checksum = None
        try:
            checksum = await self._ranks.store_checkpoint(attempt, slots)
        finally:
            latest.storing = False
            if checksum is None or not attempt.going_on:
                self._outbox.give_back(slots)
        if checksum is not None and attempt.going_on:
            self._outbox.keep_checkpoint(attempt, slots, marked.nbytes, checksum)
            about = (attempt.epoch, *attempt.key, attempt.work.role)
            self._send(Checkpointed(*about, step=marked.step, nbytes=marked.nbytes))

    def _say(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.info("requests start again from their encodings if this instance ends: %s", reason)


class _Mark:
    """What is known of an attempt's latest checkpoint: when it was made, in seconds of compute and
    steps, whether the instance drained then, and whether it is being stored."""

    def __init__(self, computed_s: float, step: int) -> None:
        self.computed_s = computed_s
        self.step = step
        self.moving = False
        self.storing = False
        self.possible = True
