"""One denoiser in a queueing model: the real scheduler, costs and predictions, and a line in front
of them as the orchestrator's. No torch and no clock of the machine; who computes is given."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from roles.calls import Key, Measured
from roles.leader.batch_costs import BatchCosts
from roles.leader.scheduler import Arrived, Ended, Ran, Scheduler, Spent
from roles.leader.turns import Schedule
from transfer.costs import STRETCH, Shape, Workload

MAX_BATCH = 4
LONG, SHORT = (256, 50), (64, 10)


class Asked(NamedTuple):
    """One request: when it arrives (seconds), its side in pixels, its steps."""

    at: float
    side: int
    steps: int


@dataclass
class Live:
    """A request that was begun, or waits to be."""

    key: Key
    asked: Asked
    step: int = 0

    @property
    def batch_key(self) -> str | None:
        return str(self.asked.side)

    def close(self) -> None:
        """It has ended."""


class Ranks(Protocol):
    """`live` makes a request; `begin` it; `take` one step of a group: its seconds, and what was
    measured."""

    def live(self, key: Key, asked: Asked) -> Live: ...

    def begin(self, live: Live) -> None: ...

    def take(self, group: Sequence[Live]) -> tuple[float, Measured | None]: ...


class MeasuredRanks:
    """Steps take what they were measured to take: {side: {requests: seconds}}."""

    def __init__(self, seconds: dict[int, dict[int, float]]) -> None:
        self._seconds = seconds

    def live(self, key: Key, asked: Asked) -> Live:
        return Live(key, asked)

    def begin(self, live: Live) -> None:
        live.step = 0

    def take(self, group: Sequence[Live]) -> tuple[float, Measured | None]:
        side = group[0].asked.side
        taken = self._seconds[side][len(group)]
        for live in group:
            live.step += 1
        return taken, Measured(str(side), len(group), taken)


@dataclass
class Denoiser:
    """A leader's scheduler with its ranks, and the line in front of it."""

    schedule: str
    ranks: Ranks
    clock: float = 0.0
    line: list[tuple[float, int, Live]] = field(default_factory=list)
    latencies: list[tuple[Asked, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        alone = self.schedule == "one at a time"
        name: Schedule = "fifo" if alone else self.schedule  # type: ignore[assignment]
        costs = None if alone else BatchCosts(prompt=name == "sjf")
        most = 1 if alone else MAX_BATCH
        self._scheduler = Scheduler(most, costs, name)
        self._places = (2 * most if name == "sjf" else most) + 1
        self._live: dict[Key, Live] = {}
        self._numbers = itertools.count()

    def run(self, story: Sequence[Asked]) -> list[tuple[Asked, float]]:
        """Every request's latency, in seconds."""
        coming = list(reversed(story))
        while coming or self.line or self._live:
            while coming and coming[-1].at <= self.clock:
                self._arrive(coming.pop())
            self._admit()
            plan = self._scheduler.plan()
            if plan is None:
                self.clock = coming[-1].at
                continue
            self._execute(plan.unit, [self._live[key] for key in plan.keys])
        return self.latencies

    def _arrive(self, asked: Asked) -> None:
        number = next(self._numbers)
        live = self.ranks.live((f"r{number}", 1), asked)
        due = asked.at
        if self.schedule == "sjf":
            due += STRETCH * self._scheduler.predictions.seconds(work(asked))
        self.line.append((due, number, live))
        self.line.sort(key=lambda entry: entry[:2])

    def _admit(self) -> None:
        while self.line and len(self._live) < self._places:
            live = self.line.pop(0)[2]
            self._live[live.key] = live
            self._scheduler.handle(Arrived(live.key, "denoiser", work=work(live.asked)))

    def _execute(self, unit: str, group: list[Live]) -> None:
        if unit == "begin":
            self.ranks.begin(group[0])
            self._scheduler.handle(Ran(group[0].key, group[0].batch_key))
            return
        seconds, measured = self.ranks.take(group)
        self.clock += seconds
        if measured is not None:
            self._scheduler.handle(measured)
        for live in group:
            share = seconds / len(group)
            spent = Spent(live.key, share, live.step, live.asked.steps, len(group))
            self._scheduler.handle(spent)
            if live.step < live.asked.steps:
                self._scheduler.handle(Ran(live.key, live.batch_key))
            else:
                self._end(live)

    def _end(self, live: Live) -> None:
        self._scheduler.handle(Ended(live.key))
        del self._live[live.key]
        self.latencies.append((live.asked, self.clock - live.asked.at))
        live.close()


def work(asked: Asked) -> Workload:
    return Workload(Shape("denoiser", asked.side, asked.side), asked.steps)


def head_of_line() -> list[Asked]:
    return [Asked(0.0, *LONG)] * 4 + [Asked(1e-6, *SHORT)] * 36
