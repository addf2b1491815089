"""One attempt at one request in this instance: what is known of it, and how it is interrupted."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from roles.calls import InputFile, Key, Outcome
from transfer.messages import ErrorInfo, Grant, Shelf, StageReport, Work

T = TypeVar("T")


class Stopped(Exception):
    """The attempt was aborted, or its epoch ended: nobody waits for its result."""


class AttemptFailed(Exception):
    """The attempt ends here, with this error and nothing else."""

    def __init__(self, error: ErrorInfo) -> None:
        super().__init__(error.message)
        self.error = error


class Attempt:
    """What the leader holds of one (request, attempt), from `Work` to its last message.

    Its coroutine (`Engine._attend`) waits only through `wait`; `interrupt` ends that wait, or the
    next one. `computed` is resolved by the engine's loop with the last unit's outcome.
    """

    def __init__(self, work: Work, epoch: int, shelf: Shelf | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.work = work
        self.key: Key = (work.request, work.attempt)
        self.epoch = epoch
        self.task: asyncio.Task[None] | None = None
        self.computed: asyncio.Future[Outcome] = loop.create_future()
        self.push: asyncio.Future[Grant] | None = None  # once it is staged
        self.forgotten: asyncio.Future[None] = loop.create_future()
        self.shelf: Shelf = shelf or work.role  # where its payload lies in the outbox
        self.slots: list[int] = []  # of the outbox
        self.files: list[InputFile] = []  # that came with the request
        self.copy = False  # nothing of it is kept, for it is a copy of something that is
        self.marked = False  # a checkpoint is to be made of it
        self.computing = True  # takes one of the places that `Register.capacity` told of
        self.in_ranks = False  # ranks hold something of it
        self.finishing = False  # ranks make its files, beside whatever else they do
        self.aborted = False
        self.step = 0
        self.steps = 0
        self.grant: Grant | None = None  # not yet written to, nor given back
        self.grant_at = 0.0  # when it came (time.monotonic)
        self._began = time.monotonic()
        self._spent = {"read_s": 0.0, "compute_s": 0.0, "write_s": 0.0}
        self._wait_s = 0.0
        self._busy_s = 0.0
        self._interrupted: asyncio.Future[Exception] = loop.create_future()
        if work.grant is not None:
            self.receive(work.grant)

    # ------------------------------------------------------------ waiting and interrupting

    def interrupt(self, error: Exception) -> None:
        """Makes the coroutine raise this where it waits, or at its next wait. The first counts."""
        if not self._interrupted.done():
            self._interrupted.set_result(error)

    @property
    def going_on(self) -> bool:
        """Its last unit was not run, and nothing has ended it."""
        return not self.computed.done() and not self._interrupted.done()

    def check(self) -> None:
        if self._interrupted.done():
            raise self._interrupted.result()

    async def wait(self, future: "asyncio.Future[T]") -> T:
        """The future's result, unless the attempt is interrupted first. Leaves the future alone."""
        self.check()
        await self.race(future)
        self.check()
        return future.result()

    async def race(self, future: "asyncio.Future[Any]") -> None:
        """Returns when the future is done, or the attempt interrupted."""
        waited: set[asyncio.Future[Any]] = {future, self._interrupted}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)

    def forget(self) -> None:
        """Its epoch has ended: it says nothing any more."""
        if not self.forgotten.done():
            self.forgotten.set_result(None)
        self.interrupt(Stopped())

    # ------------------------------------------------------------ grants

    def expect_push(self) -> "asyncio.Future[Grant]":
        """Done when the next `Push` comes."""
        self.push = asyncio.get_running_loop().create_future()
        return self.push

    def receive(self, grant: Grant) -> None:
        """The grant's time runs from now on."""
        self.grant = grant
        self.grant_at = time.monotonic()

    def grant_seconds(self) -> float:
        """How long the grant is still good."""
        return 0.0 if self.grant is None else self.grant_at + self.grant.seconds - time.monotonic()

    def release_grant(self) -> int | None:
        """The generation of a grant that will not be written to; None if there is none."""
        grant, self.grant = self.grant, None
        return None if grant is None else grant.generation

    # ------------------------------------------------------------ time

    def add(self, outcome: Outcome, busy_s: float) -> None:
        """Takes note of one executed unit, or of files that were made; `busy_s` is this attempt's
        share of its seconds in the ranks."""
        self._busy_s += busy_s
        self._spent["read_s"] += outcome.read_s
        self._spent["compute_s"] += outcome.compute_s
        if outcome.media is None:
            self.step, self.steps = outcome.step, outcome.steps
        known = self._spent["read_s"] + self._spent["compute_s"]
        self._wait_s = max(0.0, time.monotonic() - self._began - known)

    def wrote(self, seconds: float) -> None:
        self._spent["write_s"] += seconds

    @property
    def computed_s(self) -> float:
        """Seconds that the ranks have computed on it."""
        return self._spent["compute_s"]

    @property
    def report(self) -> StageReport:
        # tokens are no steps of a known number: an encode counts as one
        steps = 0 if self.work.role == "encoder" else self.steps
        return StageReport(wait_s=self._wait_s, steps=steps, busy_s=self._busy_s, **self._spent)


class Stopwatch:
    """`with Stopwatch(attempt.wrote):` adds the seconds of the block."""

    def __init__(self, note: Callable[[float], None]) -> None:
        self._note = note

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._note(time.monotonic() - self._began)
