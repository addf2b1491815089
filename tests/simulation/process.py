"""The leaders of a simulated cluster: what an honest one does with each message, turn by turn."""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.simulation.questions import Held, Refusal, do, parts_of
from tests.support.bench import KIB, register
from transfer.actions import Action, Adapter, PutWeights, Sleep, Told, UpdateWeights
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    Answered,
    Ask,
    Beat,
    Checkpointed,
    Close,
    Delivered,
    Drain,
    ErrorInfo,
    Failed,
    Finished,
    Grant,
    HostInfo,
    InstanceState,
    ModelInfo,
    PoolAddress,
    Progressed,
    Push,
    PushFailed,
    RankInfo,
    Refused,
    RegisterAgain,
    Release,
    Reload,
    Role,
    Shelf,
    Staged,
    StageReport,
    StateChanged,
    Welcome,
    Work,
)
from transfer.results import PoolResult, RankError, RankResult

if TYPE_CHECKING:
    from tests.simulation.world import World

Key = tuple[str, int]
OF_AN_EPOCH = (Work, Push, Release, Abort, Ask, Reload)
LANDS_LATE = ("granted", "quarantined")
"""States of a lease into which its sender may write."""


@dataclass(eq=False)
class Job:
    """One attempt in a leader: compute for `left` turns, then hand over."""

    work: Work
    left: int
    read: bool
    grant: Grant | None = None
    until: float = 0.0  # the grant is void then
    nbytes: int = 0
    writing: int = 0  # turns that the write still takes
    staged: bool = False  # the payload is in the outbox
    computing: bool = True  # takes one of the leader's places
    aborted: bool = False
    steps: int = 0
    shelf: Shelf | None = None  # where it was kept, if it was
    copy: bool = False  # where it still is


@dataclass(eq=False)
class Process:
    """A leader's process: its memory, its connection, and what it works on."""

    world: "World"
    name: str
    roles: tuple[Role, ...]
    model: ModelInfo
    slots: int
    capacity: int
    incarnation: str
    pid: int
    epoch: int = 0
    connection: bytes = b""
    alive: bool = True
    stopped: bool = False  # SIGSTOP: it says, hears and does nothing, until it is woken
    draining: bool = False
    no_more: bool = False
    asking: bool = False  # it has introduced itself, and was not welcomed yet
    mute: bool = False  # what it says does not get through
    deaf: bool = False  # it does not hear
    beat_at: float = 0.0
    heard_at: float = 0.0
    jobs: dict[Key, Job] = field(default_factory=dict)
    held: Held = field(default_factory=Held)  # by its one rank
    memory: dict[int, int] = field(default_factory=dict)  # slot → generation of what lies there
    may_land: list[Grant] = field(default_factory=list)
    kept: dict[tuple[Shelf, str, int], Job] = field(
        default_factory=dict
    )  # delivered, and still in the outbox
    inbox: deque[Any] = field(default_factory=deque)
    outbox: deque[Any] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.held = self._fresh()

    def __repr__(self) -> str:
        return f"{self.name}/{self.incarnation}@{self.epoch}"

    def _fresh(self) -> Held:
        """Ranks that have just begun."""
        return Held(parts=parts_of(self.roles))

    @property
    def denoises(self) -> bool:
        """It has done some steps of something."""
        jobs = self.jobs.values()
        return any(job.work.role == "denoiser" and job.computing and job.steps for job in jobs)

    # ------------------------------------------------------------ the control channel

    def connect(self) -> None:
        """A new connection; what was on its way on the old one is lost."""
        self.world.connections.pop(self.connection, None)
        self.connection = self.world.new_connection(self)
        self.heard_at = self.world.now
        self.inbox.clear()
        self.outbox.clear()
        self.forget()
        if self.alive:
            self.introduce()

    def introduce(self) -> None:
        info = register(
            self.name,
            *self.roles,
            model=self.model,
            incarnation=self.incarnation,
            last_epoch=self.epoch,
            capacity=self.capacity,
            endpoint=f"tcp://{self.name}:{self.pid}",
            pool=PoolAddress(self.slots, KIB, offset=self.pid),
            host=HostInfo("host", "boot", self.pid, 1),
            adapters=self.adapters,
            parts=self.held.parts,
            weights=list(self.held.weights.values()),
            adaptable=self.held.adaptable,
            ranks=[RankInfo(0, self.pid, "sleeping" if self.held.level else "ready")],
            may_land=[grant.generation for grant in self.may_land],
        )
        self.outbox.append(info)
        self.asking = True

    def forget(self) -> None:
        """The promise that comes with a registration: nothing of older epochs is written."""
        self.jobs.clear()
        self.kept.clear()
        if self.draining:
            self.world.leave(self, "the orchestrator was lost while it drained")

    def say(self, message: Any) -> None:
        self.outbox.append(message)

    def hear(self) -> None:
        message = self.inbox.popleft()
        self.heard_at = self.world.now
        if (
            isinstance(message, Work | Push | Release | Abort | Ask | Reload)
            and message.epoch != self.epoch
        ):
            return
        match message:
            case Welcome(epoch=epoch):
                if self.asking:
                    self.asking, self.epoch = False, epoch
                    self.tell_state("registered")
            case Refused():
                self.world.die(self)
            case RegisterAgain():
                self.connect()
            case Work():
                self.accept(message)
            case Push():
                self.push(message)
            case Release(kept=kept):
                for shelf, request, attempt in kept:
                    self.kept.pop((shelf, request, attempt), None)
            case Abort():
                self.abort(message)
            case Ask():
                self.ask(message)
            case Reload():
                self.reload()
            case Drain(more=more):
                self.no_more = self.no_more or not more
                self.start_draining()
            case Close(reason=reason):
                self.world.leave(self, reason)
            case Beat():
                pass

    # ------------------------------------------------------------ work

    def accept(self, work: Work) -> None:
        key = (work.request, work.attempt)
        if key in self.jobs:
            return
        whose = work.inputs.params["model"]
        assert whose == self.model.name, f"{self} has {self.model.name}, and is given {whose}'s"
        if work.preview_of is not None and work.role == "denoiser":
            self._look(work, key)
            return
        kind = (work.role, work.inputs.priority)
        computing = [j.work for j in self.jobs.values() if j.computing]
        busy = sum((each.role, each.inputs.priority) == kind for each in computing)
        assert busy < self.capacity, f"{self} is given more than it takes"
        assert not self.held.level, f"{self} is given work while it sleeps"
        turns = self.world.random.randint(0, 8 if work.role == "denoiser" else 4)
        if work.delivery is None:
            self.world.made[key] = self.held.shared
        job = self.jobs[key] = Job(work, turns, work.delivery is None)
        self._receive(job, work.grant)

    def _look(self, work: Work, key: Key) -> None:
        """A preview of what is denoised here, if it still is; it takes no place."""
        shown = self.jobs.get(work.preview_of or key)
        job = self.jobs[key] = Job(work, 0, read=True, computing=False)
        self._receive(job, work.grant)
        if shown is None or not shown.computing:
            error = ErrorInfo("internal", "it is not denoised here any more")
            self._end(job, Failed(*self._about(job), error, self._unused(job)))

    def push(self, push: Push) -> None:
        job = self.jobs.get((push.request, push.attempt))
        shelf: Shelf = "checkpoint" if push.checkpoint else push.role
        place = (shelf, push.request, push.held)
        kept = self.kept.get(place) if job is None else None
        if kept is not None:
            if not push.copy:
                del self.kept[place]
            made = self.world.made
            made[push.request, push.attempt] = made.get((push.request, push.held), "")
            work = replace(kept.work, attempt=push.attempt, role=push.role)
            job = Job(work, 0, read=True, nbytes=kept.nbytes, staged=True, computing=False)
            job.shelf, job.copy = shelf, push.copy
            self.jobs[push.request, push.attempt] = job
        if job is not None and job.staged and not job.writing and job.grant is None:
            self._receive(job, push.grant)
            self._write(job)
        elif job is None:
            about = (self.epoch, push.request, push.attempt, push.role, push.grant.generation)
            self.say(PushFailed(*about, False, 0, ErrorInfo("transfer_failed", "it is gone")))

    def ask(self, ask: Ask) -> None:
        """Its rank is fine, or fails, or nothing is heard of it: whether it did it or not."""
        chance = self.world.random.random() if self.world.failing else 1.0
        result = RankResult(0, self.pid, False, None, RankError("raised", "ValueError", "scripted"))
        if chance > 0.15:
            result = self._do(ask.action)
        if not 0.1 < chance < 0.2:
            self.say(Answered(self.epoch, ask.number, PoolResult((result,))))

    def _do(self, action: Action) -> RankResult[Told]:
        other = isinstance(action, UpdateWeights | PutWeights)
        if (isinstance(action, Sleep) or other) and not self.held.level:
            computing = [job for job in self.jobs.values() if job.computing and not job.aborted]
            assert not computing, f"{self} is asked for {action} while it computes {computing}"
        level = self.held.level
        try:
            result = RankResult(0, self.pid, True, do(action, self.held))
        except Refusal as error:
            refusal = RankError("raised", type(error).__name__, str(error))
            result = RankResult(0, self.pid, False, None, refusal)
        if level != self.held.level or other:
            self.tell_state("it was asked to")
        return result

    def reload(self) -> None:
        """New ranks, with nothing of what the old ones had."""
        self.held = self._fresh()
        self.tell_state("begins anew", None if self.draining else "divergent")
        for job in [each for each in self.jobs.values() if each.read and each.computing]:
            if not (job.writing or job.staged):
                error = ErrorInfo("rank_died", "it begins anew", instance=self.name, bystander=True)
                self._end(job, Failed(*self._about(job), error, self._unused(job)))
        self.tell_state("the ranks are there")

    def tell_state(self, cause: str, state: InstanceState | None = None) -> None:
        at_rest: InstanceState = "sleeping" if self.held.level else "ready"
        state = state or ("draining" if self.draining else at_rest)
        had = (self.adapters, list(self.held.weights.values()))
        self.say(StateChanged(self.epoch, state, cause, [], None, *had))

    @property
    def adapters(self) -> list[Adapter]:
        return [Adapter(name, f"/{name}", 1.0, digest) for name, digest in self.held.loaded.items()]

    def abort(self, abort: Abort) -> None:
        job = self.jobs.get((abort.request, abort.attempt))
        if job is None:
            self.say(Aborted(self.epoch, abort.request, abort.attempt))
            return
        job.aborted = True
        if not job.writing:
            self._end(job, Aborted(self.epoch, abort.request, abort.attempt, self._unused(job)))

    def turn(self) -> None:
        """Some job goes on by one turn, if there is any."""
        if not self.jobs:
            if self.draining and self.no_more:
                self.world.leave(self, "drained")
            return
        job = self.world.random.choice(list(self.jobs.values()))
        if job.writing:
            self._go_on_writing(job)
        elif not job.read:
            self._read(job)
        elif not job.staged:
            self._compute(job)

    def start_draining(self) -> None:
        if not self.draining:
            self.draining = True
            self.tell_state("asked to")

    def _read(self, job: Job) -> None:
        delivery = job.work.delivery
        assert delivery is not None
        job.read = True
        written = self.world.written.get(delivery.generation, self._key(job))
        assert written == self._key(job), f"{self} begins {self._key(job)} with that of {written}"
        for slot in delivery.slots:
            found = self.memory.get(slot)
            if found == -1 or (found != delivery.generation and self.world.crashes):
                # I12: the checksum does not fit, or the header is of an earlier orchestrator
                error = ErrorInfo("payload", "what lies there is something else")
                self._end(job, Failed(*self._about(job), error, self._unused(job)))
                return
            assert found == delivery.generation, f"{self} reads {found}, not {delivery.generation}"
        made = self.world.made.get(self._key(job), "")
        if job.work.preview_of is None:
            assert made == self.held.shared, f"{self} goes on with what {made!r} has made"
        self.say(Accepted(*self._about(job), delivery.generation))

    def _compute(self, job: Job) -> None:
        chance = self.world.random.random()
        if job.work.inputs.params["prompt"] == "poison" and job.work.role == "denoiser":
            self._poisoned(job)
        elif self.world.failing and chance < self.world.rank_death_rate:
            self._rank_dies(job)
        elif self._lacks(job):
            error = ErrorInfo("rank_failed", "an adapter is not there", instance=self.name)
            self._end(job, Failed(*self._about(job), error, self._unused(job)))
        elif self.world.failing and chance > 0.99:
            error = ErrorInfo("rank_failed", "scripted")
            self._end(job, Failed(*self._about(job), error, self._unused(job)))
        elif job.left > 0:
            job.left -= 1
            job.steps += 1
            self.say(Progressed(*self._about(job), job.steps, max(4, job.steps + job.left)))
            if job.work.role == "denoiser" and (self.draining or chance > 0.7):
                self._checkpoint(job)
        elif job.work.last:
            self._end(
                job, Finished(*self._about(job), [self.world.picture(self)], self._report(job))
            )
        else:
            job.nbytes = self.world.random.choice([1, 500, KIB, KIB + 1, 3 * KIB])
            self._hand_over(job)

    def _lacks(self, job: Job) -> bool:
        """It is to have on what is not there."""
        return job.work.role != "decoder" and self.held.worn(job.work.inputs.loras) is None

    def _checkpoint(self, job: Job) -> None:
        """Its state is kept beside it, in the place of an earlier one."""
        nbytes = self.world.random.choice([1, KIB + 1, 3 * KIB])
        state = Job(job.work, 0, read=True, nbytes=nbytes)
        self._keep(("checkpoint", *self._key(job)), state)
        self.say(Checkpointed(*self._about(job), job.steps, nbytes))

    def _poisoned(self, job: Job) -> None:
        """The request takes its rank with it, or all of the leader."""
        self.world.poisoned(job.work.request)
        if self.world.random.random() < 0.5:
            self._rank_dies(job)
        else:
            self.world.kill(self)

    def _rank_dies(self, job: Job) -> None:
        """At work on this one. What else was in its memory is lost with it, and is not to blame."""
        for lost in [each for each in self.jobs.values() if each.read and each.computing]:
            if not (lost.writing or lost.staged):
                text = "the rank died"
                error = ErrorInfo(
                    "rank_died", text, instance=self.name, rank=0, bystander=lost is not job
                )
                self._end(lost, Failed(*self._about(lost), error, self._unused(lost)))

    def _hand_over(self, job: Job) -> None:
        room = 0 if job.grant is None else len(job.grant.slots) * job.grant.pool.slot_bytes
        if job.nbytes <= room and self.world.now < job.until:
            self._write(job)
            return
        job.staged, job.computing = True, False
        self.say(Staged(*self._about(job), job.nbytes, self._unused(job), self._report(job)))

    def _receive(self, job: Job, grant: Grant | None) -> None:
        job.grant = grant
        if grant is not None:
            self.world.check_model(self, grant)
            job.until = self.world.now + grant.seconds

    def _unused(self, job: Job) -> int | None:
        grant, job.grant = job.grant, None
        return None if grant is None else grant.generation

    def _write(self, job: Job) -> None:
        job.staged = True
        if self.world.now >= job.until:
            self._push_failed(job, may_land=False)
            return
        job.writing = self.world.random.randint(1, 4)

    def _go_on_writing(self, job: Job) -> None:
        """One-sided: the bytes land whatever anybody thinks of it by now."""
        assert job.grant is not None
        reached = self.world.land(job.grant)
        job.writing -= 1
        if not reached:
            self._push_failed(job, may_land=False)
        elif self.world.failing and self.world.random.random() < 0.05:
            self.may_land.append(job.grant)
            self._push_failed(job, may_land=True)
            if self.world.random.random() < 0.3:
                self.connect()  # the same network is between it and the orchestrator
        elif not job.writing:
            self._written(job, job.grant)

    def _push_failed(self, job: Job, may_land: bool) -> None:
        assert job.grant is not None
        generation, job.writing = job.grant.generation, 0
        if job.aborted:
            released = None if may_land else generation
            self._end(job, Aborted(self.epoch, *self._key(job), released))
            return
        job.grant, job.computing = None, False
        error = ErrorInfo("transfer_failed", "scripted")
        self.say(PushFailed(*self._about(job), generation, may_land, job.nbytes, error))

    def _written(self, job: Job, grant: Grant) -> None:
        if job.aborted:
            self._end(job, Aborted(self.epoch, *self._key(job), grant.generation))
            return
        about = self._about(job)
        if job.work.preview_of is None and not job.copy:
            self._keep((job.shelf or job.work.role, *self._key(job)), job)
        self._end(job, Delivered(*about, grant.generation, job.nbytes, 1, self._report(job)))

    def _keep(self, place: tuple[Shelf, str, int], job: Job) -> None:
        self.kept[place] = job
        while len(self.kept) > self.world.random.randint(1, 6):
            del self.kept[next(iter(self.kept))]  # it needs the room

    def _end(self, job: Job, message: Any) -> None:
        del self.jobs[self._key(job)]
        self.say(message)

    def _report(self, job: Job) -> StageReport:
        """Costs as different as machines are."""
        return StageReport(steps=job.steps, busy_s=self.world.random.choice([0.0, 0.01, 5.0]))

    def _key(self, job: Job) -> Key:
        return job.work.request, job.work.attempt

    def _about(self, job: Job) -> tuple[int, str, int, Role]:
        return self.epoch, job.work.request, job.work.attempt, job.work.role
