"""The step scheduler: which request's unit the ranks run next. Pure: events in, plan out.

No torch, no sockets, no clock. The engine feeds it what happened and asks it for the next plan.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from roles.calls import Groups, Key, Measured, Unit
from roles.leader.batch_costs import BatchCosts, Line
from roles.leader.turns import SINGLE_UNIT, Job, Schedule, turns
from transfer.costs import CostModel, Shape, Workload
from transfer.messages import PRIORITIES, Priority, Role
from transfer.priority import Precedence

__all__ = ["SINGLE_UNIT", "Arrived", "Ended", "InvalidEvent", "Plan", "Ran", "Scheduler", "Spent"]


@dataclass(frozen=True)
class Arrived:
    """A request is there to be begun. `work`: what it asks for; None: nobody knows. `spare`: it is
    a preview, which is to delay nobody: its units run when there is no other unit to run, or take
    turns with steps."""

    key: Key
    role: Role
    priority: Priority = "normal"
    work: Workload | None = None
    spare: bool = False


@dataclass(frozen=True)
class Spent:
    """The planned unit has kept the ranks busy with this request for `seconds`, its share where it
    was not alone. `step` of `steps` are complete, in a group of `batch`; `whole`: with this, all of
    an encode or decode is done. Comes before `Ran`."""

    key: Key
    seconds: float
    step: int = 0
    steps: int = 0
    batch: int = 1
    whole: bool = True


@dataclass(frozen=True)
class Ran:
    """The planned unit of this request was executed, and the request goes on. Requests with the
    same `batch_key` may share their next forward; None: this one runs alone. `branches`: calls with
    that key that it waits for, which may share one too. After an encode: it has read its prompt,
    and goes on to write, token by token."""

    key: Key
    batch_key: str | None = None
    branches: int = 1


@dataclass(frozen=True)
class Ended:
    """This request is over: done, failed or aborted; at any time, also while it is planned."""

    key: Key


Event = Arrived | Spent | Ran | Ended | Measured


@dataclass(frozen=True)
class Plan:
    """What the ranks do next: one unit, for groups of requests that share their forwards, `share`
    calls in one at most; 0: as many as there are."""

    unit: Unit
    groups: Groups
    share: int = 0

    @property
    def keys(self) -> list[Key]:
        return [key for group in self.groups for key in group]


class InvalidEvent(Exception):
    """An event that cannot be, with the scheduler's whole state: a mistake of the engine."""


class Scheduler:
    """Chooses whose turn it is, among all requests of an instance.

    First by class: those of a higher `priority` have the turn, and one in eight is left to each
    class below. Since every plan is one unit, a request gives way between two steps, keeps all
    that it has, and goes on at its step when its class has a turn again. Then, in the class, by
    `schedule` (`roles.leader.turns`). Whoever has the turn takes along others of its class that
    wait for theirs and may share its forward, as many as `costs` says pays; branches of guidance
    that one request waits for are as many calls, which share with each other, or run one after the
    other. Without `costs` nothing is shared. A request is

    - waiting: its next unit is `begin`, which frees the slots that its payload lies in;
    - begun: `encode` or `decode` ends it; a stepped one (denoiser, monolithic, and an encoder whose
      model writes something first, once that has read its prompt) waits for a place;
    - running: its next unit is `step`. With `round_robin`, each class has `max_batch` places, given
      in the order in which requests began and kept until they end; otherwise all that have begun
      are running, and the schedule alone says whose turn it is.

    So one request more than there are places can be accepted and begun early: when a place becomes
    free, its first step runs at once.

    `handle(event)` for everything that happens, `plan()` for the next plan (None: nothing can run).
    After a plan, each of its keys gets exactly one `Ran` or `Ended` before the next `plan()`.
    `predictions` are learned from `Spent`, and order the requests of `sjf`.
    """

    def __init__(
        self,
        max_batch: int,
        costs: BatchCosts | None = None,
        schedule: Schedule = "round_robin",
    ) -> None:
        assert max_batch > 0
        self.predictions = CostModel()
        self._max_batch = max_batch
        self._costs = costs
        self._turns = turns(schedule, self.predictions)
        self._precedence = Precedence()
        self._clock = 0.0  # seconds that the ranks have worked
        self._numbers = itertools.count()
        self._jobs: dict[Key, Job] = {}
        self._places: deque[Key] = deque()  # stepped and begun
        self._planned: set[Key] = set()

    def handle(self, event: Event) -> None:
        """Takes note of what happened. Raises `InvalidEvent`."""
        match event:
            case Arrived():
                self._arrive(event)
            case Spent(key=key):
                self._spent(self._job(key, event), event)
            case Ran(key, batch_key, branches):
                self._ran(self._job(key, event), batch_key, branches)
            case Ended(key):
                self._end(self._job(key, event))
            case Measured():
                if self._costs is not None:
                    self._costs.learn(event)

    def plan(self) -> Plan | None:
        """The next unit to run. Raises `InvalidEvent` while another one is being executed."""
        if self._planned:
            raise InvalidEvent(f"plan() before the outcome of {self._planned}; {self}")
        running = set(self.running)
        runnable = [job for job in self._jobs.values() if _unit(job, running)]
        if any(not job.spare and _unit(job, running) != "step" for job in runnable):
            runnable = [job for job in runnable if not job.spare]
        if not runnable:
            return None
        classes = {job.priority for job in runnable}
        chosen = self._precedence.order(classes)[0]
        self._precedence.took(chosen, classes)
        line = self._turns.line([job for job in runnable if job.priority == chosen])
        unit = _unit(line[0], running)
        assert unit is not None
        group, share = self._group(line) if unit == "step" else (line[:1], 0)
        self._turns.took(group)
        keys = tuple(job.key for job in group)
        self._planned = set(keys)
        return Plan(unit, (keys,), share)

    def planned(self, key: Key) -> bool:
        """Whether the ranks are at work on this request."""
        return key in self._planned

    @property
    def running(self) -> list[Key]:
        """The requests that are denoised in turns, those of higher classes first."""
        most = self._max_batch if self._turns.limited else len(self._places)
        found: list[Key] = []
        for priority in PRIORITIES:
            found += [key for key in self._places if self._jobs[key].priority == priority][:most]
        return found

    def __contains__(self, key: Key) -> bool:
        return key in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def __str__(self) -> str:
        return f"jobs {list(self._jobs.values())}, running {self.running}, planned {self._planned}"

    def _group(self, line: Sequence[Job]) -> tuple[list[Job], int]:
        """The first in the line, whom it takes along, and how many calls share a forward."""
        head, *others = line
        if head.batch_key is None or self._costs is None:
            return [head], 1
        stepping = [job for job in others if job.stepping]
        same = [job for job in stepping if job.batch_key == head.batch_key]
        fit = same[: self._max_batch - 1]
        waits = Line(_calls(head, *same), head.branches, len(stepping) - len(same))
        size = self._costs.size(head.batch_key, _calls(head, *fit), waits)
        group, room = [head], size - head.branches
        for job in fit:
            if job.branches > room:
                break
            group.append(job)
            room -= job.branches
        return group, size

    def _arrive(self, event: Arrived) -> None:
        if event.key in self._jobs:
            raise InvalidEvent(f"{event.key} arrived again; {self}")
        work = event.work or Workload(Shape(event.role, 1, 1), 1)
        job = Job(event.key, event.role, event.priority, work, next(self._numbers), self._clock)
        job.spare = event.spare
        self._jobs[event.key] = job
        self._turns.arrive(job)

    def _spent(self, job: Job, event: Spent) -> None:
        if job.key not in self._planned:
            raise InvalidEvent(f"{event} unplanned; {self}")
        self._clock += event.seconds
        if not job.begun:
            job.step, job.steps = event.step, event.steps  # it may begin in the middle
            return
        job.spent += event.seconds
        if job.role in SINGLE_UNIT:  # nobody knows how much will be written: it counts as one
            if event.whole:
                self.predictions.learn(job.work.shape, job.spent)
            return
        done = event.step - job.step
        if done > 0:
            self.predictions.learn(job.work.shape, job.spent / done, event.batch)
            job.spent = 0.0
        job.step, job.steps = event.step, event.steps

    def _ran(self, job: Job, batch_key: str | None, branches: int) -> None:
        if job.key not in self._planned:
            raise InvalidEvent(f"{job.key} ran unplanned; {self}")
        self._planned.discard(job.key)
        job.batch_key, job.branches = batch_key, branches
        job.writes |= job.begun and job.role == "encoder"
        job.begun = True
        if job.stepped and job.key not in self._places:
            self._places.append(job.key)

    def _end(self, job: Job) -> None:
        del self._jobs[job.key]
        self._planned.discard(job.key)
        if job.key in self._places:
            self._places.remove(job.key)

    def _job(self, key: Key, event: Event) -> Job:
        if key not in self._jobs:
            raise InvalidEvent(f"{event}, but there is no such request; {self}")
        return self._jobs[key]


def _calls(*jobs: Job) -> int:
    return sum(job.branches for job in jobs)


def _unit(job: Job, running: set[Key]) -> Unit | None:
    if not job.begun:
        return "begin"
    if not job.stepped:
        return SINGLE_UNIT[job.role]
    return "step" if job.key in running else None
