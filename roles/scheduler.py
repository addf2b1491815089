"""The step scheduler: which request's unit the ranks run next. Pure: events in, plan out.

No torch, no sockets, no clock. The engine feeds it what happened and asks it for the next plan.
"""

from collections import deque
from dataclasses import dataclass

from roles.batch_costs import BatchCosts
from roles.calls import Groups, Key, Measured, Unit
from transfer.messages import Role

SINGLE_UNIT: dict[Role, Unit] = {"encoder": "encode", "decoder": "decode"}


@dataclass(frozen=True)
class Arrived:
    """A request is there to be begun. `spare`: it is a preview, which is to delay nobody: its units
    run when there is no other unit to run, or take turns with steps."""

    key: Key
    role: Role
    spare: bool = False


@dataclass(frozen=True)
class Ran:
    """The planned unit of this request was executed, and the request goes on. Requests with the
    same `batch_key` may share their next forward; None: this one runs alone."""

    key: Key
    batch_key: str | None = None


@dataclass(frozen=True)
class Ended:
    """This request is over: done, failed or aborted; at any time, also while it is planned."""

    key: Key


Event = Arrived | Ran | Ended | Measured


@dataclass(frozen=True)
class Plan:
    """What the ranks do next: one unit, for groups of requests that share their forwards."""

    unit: Unit
    groups: Groups

    @property
    def keys(self) -> list[Key]:
        return [key for group in self.groups for key in group]


class InvalidEvent(Exception):
    """An event that cannot be, with the scheduler's whole state: a mistake of the engine."""


@dataclass
class _Job:
    key: Key
    role: Role
    round: int  # the last one in which it had its turn
    begun: bool = False
    batch_key: str | None = None
    spare: bool = False

    @property
    def stepped(self) -> bool:
        return self.role not in SINGLE_UNIT


class Scheduler:
    """Takes turns between all requests of an instance.

    Every runnable request gets one turn in each round, in the order of a ring; what arrives waits
    for the next round. Whoever has the turn takes others along that wait for theirs and may share
    its forward, as many as `costs` says pays. So between two turns of one request any other gets
    one, or two if it was taken along, and over time all get the same number.

    Without `costs` nothing is shared. A request is

    - waiting: its next unit is `begin`, which frees the slots that its payload lies in;
    - begun: `encode` or `decode` ends it; a stepped one (denoiser, monolithic) waits for a place;
    - running: it has one of `max_batch` places, and its next unit is `step`. Places are given in
      the order in which requests began, and kept until they end.

    So one request more than there are places can be accepted and begun early: when a place becomes
    free, its first step runs at once.

    `handle(event)` for everything that happens, `plan()` for the next plan (None: nothing can run).
    After a plan, each of its keys gets exactly one `Ran` or `Ended` before the next `plan()`.
    """

    def __init__(self, max_batch: int, costs: BatchCosts | None = None) -> None:
        assert max_batch > 0
        self._max_batch = max_batch
        self._costs = costs
        self._round = 0
        self._jobs: dict[Key, _Job] = {}
        self._ring: deque[Key] = deque()
        self._places: deque[Key] = deque()  # stepped and begun: the first max_batch of them run
        self._planned: set[Key] = set()

    def handle(self, event: Event) -> None:
        """Takes note of what happened. Raises `InvalidEvent`."""
        match event:
            case Arrived(key, role, spare):
                self._arrive(key, role, spare)
            case Ran(key, batch_key):
                self._ran(self._job(key, event), batch_key)
            case Ended(key):
                self._end(self._job(key, event))
            case Measured():
                if self._costs is not None:
                    self._costs.learn(event)

    def plan(self) -> Plan | None:
        """The next unit to run. Raises `InvalidEvent` while another one is being executed."""
        if self._planned:
            raise InvalidEvent(f"plan() before the outcome of {self._planned}; {self}")
        runnable = [job for job in map(self._jobs.__getitem__, self._ring) if self._unit(job)]
        if any(not job.spare and self._unit(job) != "step" for job in runnable):
            runnable = [job for job in runnable if not job.spare]
        if not runnable:
            return None
        waiting = [job for job in runnable if job.round < self._round]
        if not waiting:
            self._round += 1
            waiting = runnable
        unit = self._unit(waiting[0])
        assert unit is not None
        group = self._group(waiting) if unit == "step" else waiting[:1]
        for job in group:
            job.round = self._round
            self._ring.remove(job.key)
            self._ring.append(job.key)
        keys = tuple(job.key for job in group)
        self._planned = set(keys)
        return Plan(unit, (keys,))

    def planned(self, key: Key) -> bool:
        """Whether the ranks are at work on this request."""
        return key in self._planned

    @property
    def running(self) -> list[Key]:
        """The requests that are denoised in turns."""
        return list(self._places)[: self._max_batch]

    def __contains__(self, key: Key) -> bool:
        return key in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def __str__(self) -> str:
        return f"jobs {list(self._jobs.values())}, running {self.running}, planned {self._planned}"

    def _group(self, waiting: list[_Job]) -> list[_Job]:
        """The first of those that wait for their turn, and whom it takes along."""
        head, *others = waiting
        if head.batch_key is None or self._costs is None:
            return [head]
        others = [o for o in others if o.batch_key == head.batch_key and self._unit(o) == "step"]
        return [head, *others][: self._costs.size(head.batch_key, 1 + len(others))]

    def _unit(self, job: _Job) -> Unit | None:
        if not job.begun:
            return "begin"
        if not job.stepped:
            return SINGLE_UNIT[job.role]
        return "step" if job.key in self.running else None

    def _arrive(self, key: Key, role: Role, spare: bool) -> None:
        if key in self._jobs:
            raise InvalidEvent(f"{key} arrived again; {self}")
        self._jobs[key] = _Job(key, role, self._round, spare=spare)
        self._ring.append(key)

    def _ran(self, job: _Job, batch_key: str | None) -> None:
        if job.key not in self._planned:
            raise InvalidEvent(f"{job.key} ran unplanned; {self}")
        self._planned.discard(job.key)
        job.batch_key = batch_key
        if not job.begun:
            job.begun = True
            if job.stepped:
                self._places.append(job.key)

    def _end(self, job: _Job) -> None:
        del self._jobs[job.key]
        self._ring.remove(job.key)
        self._planned.discard(job.key)
        if job.key in self._places:
            self._places.remove(job.key)

    def _job(self, key: Key, event: Event) -> _Job:
        if key not in self._jobs:
            raise InvalidEvent(f"{event}, but there is no such request; {self}")
        return self._jobs[key]
