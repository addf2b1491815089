"""Schedules: who of the runnable requests of one class has the next turn. Pure.

The scheduler asks for the line before each plan; the first in it has the turn, and takes along
whom it may of those behind it.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from roles.calls import Key, Unit
from transfer.costs import STRETCH, CostModel, Workload
from transfer.messages import Priority, Role

Schedule = Literal["sjf", "fifo", "round_robin"]

SINGLE_UNIT: dict[Role, Unit] = {"encoder": "encode", "decoder": "decode"}


@dataclass
class Job:
    """What the scheduler knows of a request.

    `number` counts arrivals. `arrived` and `due` are points on the scheduler's own clock, which
    counts the seconds that the ranks have worked. `step` of `steps` are done, as far as the ranks
    have told. `spent`: seconds since the last step that was complete.
    """

    key: Key
    role: Role
    priority: Priority
    work: Workload
    number: int
    arrived: float
    due: float | None = None
    begun: bool = False
    batch_key: str | None = None
    step: int = 0
    steps: int = 0
    spent: float = 0.0
    round: int = 0  # the last one in which it had its turn
    place: int = 0  # in the ring
    branches: int = 1  # calls of its next step
    spare: bool = False  # a preview, which is to delay nobody
    writes: bool = False  # its encode goes on in steps, of a token each

    @property
    def stepped(self) -> bool:
        return self.writes or self.role not in SINGLE_UNIT

    @property
    def stepping(self) -> bool:
        """Its next unit is a step, as soon as it may run."""
        return self.begun and self.stepped

    @property
    def steps_left(self) -> int:
        return max(1, (self.steps or self.work.steps) - self.step)


class Turns(Protocol):
    """`limited`: only as many requests of a class take turns as share a forward at most, the first
    ones to begin; else all that have begun do."""

    limited: bool

    def arrive(self, job: Job) -> None:
        """It is there from now on."""

    def line(self, runnable: Sequence[Job]) -> list[Job]:
        """Those that may have this turn, the first one first; not empty, as `runnable` is not."""

    def took(self, group: Sequence[Job]) -> None:
        """These have had it."""


class RoundRobin:
    """Every runnable request gets one turn in each round, in the order of a ring; what arrives
    waits for the next round. Between two turns of one request any other gets one, or two if it was
    taken along, and over time all get the same number."""

    limited = True

    def __init__(self) -> None:
        self._round = 0
        self._places = itertools.count()

    def arrive(self, job: Job) -> None:
        job.round, job.place = self._round, next(self._places)

    def line(self, runnable: Sequence[Job]) -> list[Job]:
        ring = sorted(runnable, key=lambda job: job.place)
        waiting = [job for job in ring if job.round < self._round]
        if not waiting:
            self._round += 1
        return waiting or ring

    def took(self, group: Sequence[Job]) -> None:
        for job in group:
            job.round, job.place = self._round, next(self._places)


class InOrder:
    """One after the other, by `rank`. What is no step (to begin, to encode, to decode) takes turns
    with the steps, so that neither ever waits for more than one unit of the other kind."""

    limited = False

    def __init__(self, rank: Callable[[Job], tuple[float, int]]) -> None:
        self._rank = rank
        self._stepped = False  # the last turn was one of steps

    def arrive(self, job: Job) -> None:
        pass

    def line(self, runnable: Sequence[Job]) -> list[Job]:
        steps = [job for job in runnable if job.stepping]
        others = [job for job in runnable if not job.stepping]
        chosen = others if others and (self._stepped or not steps) else steps
        return sorted(chosen, key=self._rank)

    def took(self, group: Sequence[Job]) -> None:
        self._stepped = group[0].stepping


class Fifo(InOrder):
    """In the order of arrival, each to its end."""

    def __init__(self) -> None:
        super().__init__(lambda job: (0.0, job.number))


class Shortest(InOrder):
    """The shortest predicted remaining seconds first, with ageing: whoever has let others pass for
    `STRETCH` times its own seconds lets nobody pass any more who came later than that.

    So each request has a point in time, `due`: its arrival and `STRETCH` times its predicted
    seconds. Nobody who arrives after it goes first. This is shortest first among those who come at
    about the same time, and first come, first served in the long run. Until the first step of all
    is measured, predictions are no seconds: they only tell who is the shortest.
    """

    def __init__(self, costs: CostModel, stretch: float = STRETCH) -> None:
        super().__init__(self._order)
        self._costs = costs
        self._stretch = stretch

    def arrive(self, job: Job) -> None:
        self._order(job)

    def _order(self, job: Job) -> tuple[float, int]:
        shape = job.work.shape
        seconds = job.steps_left * self._costs.step(shape)
        if not self._costs.knows(shape.workflow):
            return seconds, job.number
        point = job.arrived + self._stretch * seconds
        # a prediction that grows does not move a request back behind its first one
        job.due = point if job.due is None else min(job.due, point)
        return job.due, job.number


def turns(schedule: Schedule, costs: CostModel) -> Turns:
    """What a schedule is called on the command line. ValueError: there is none of that name."""
    match schedule:
        case "sjf":
            return Shortest(costs)
        case "fifo":
            return Fifo()
        case "round_robin":
            return RoundRobin()
    raise ValueError(f"schedule {schedule}: there are sjf, fifo and round_robin")
