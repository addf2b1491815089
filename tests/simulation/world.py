"""A random cluster around the real core and desk: honest leaders, a bad network, deaths, one seed.

Leaders keep the protocol (what `roles` promises) and write into each other's memory like one-sided
transfers do: the receiver is not asked. Every write and read is checked against the core's leases,
so that a slot which is free, or somebody else's, while a sender may still write, is an error.
"""

import random
from collections import Counter, deque
from typing import Any

from orchestrator.core.commands import Completed, Preview
from orchestrator.core.config import Config
from orchestrator.core.events import (
    Cancel,
    Disconnected,
    DrainInstance,
    Received,
    RemoveInstance,
    SenderGone,
    Submit,
    Tick,
)
from orchestrator.core.slots import SlotTable
from orchestrator.jobs import events as desk_events
from orchestrator.jobs.model import Described, Idempotency, Job, JobEvent, JobSpec
from tests.simulation.orchestrator import Disk, Orchestrator
from tests.simulation.process import LANDS_LATE, Process
from tests.simulation.questions import Questions
from tests.support.bench import KIB, MODEL, OTHER, register
from transfer.ends import By, PoolEnd, RankEnd
from transfer.made import ImageMade
from transfer.messages import (
    PRIORITIES,
    Accepted,
    Delivered,
    Ended,
    ErrorInfo,
    Grant,
    Heartbeat,
    Inputs,
    Left,
    Media,
    ModelInfo,
    Params,
    Progressed,
    PushFailed,
    Role,
    StateChanged,
    Work,
)

TRIO: tuple[Role, ...] = ("encoder", "denoiser", "decoder")
SEVERAL: list[tuple[Role, ...]] = [
    ("encoder", "decoder"),
    ("encoder", "denoiser"),
    ("denoiser", "decoder"),
    TRIO,
]
THOROUGH = 8  # one world in so many looks at everything after events that did nothing, too
SHARE_OF_TWO = 0.2  # of the worlds that have two models
MAX_ATTEMPTS = 3
MAX_SPARED = Config().max_spared
SILENCE_S = 4.0  # then a leader looks for another orchestrator


class World:
    """Processes, connections, a clock, an orchestrator and its disk. `step` does something random.

    Safety: `step` again and again, with faults all the time. Liveness: then `quiesce`, after which
    everything that was accepted is over, and `assert_home`.
    """

    def __init__(
        self, seed: int, *, accident_rate: float | None = None, failures: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.faults = True
        self.failures = failures  # of ranks and writes, too
        drawn = self.random.choice([0.0, 0.003, 0.01, 0.03])
        self.accident_rate = drawn if accident_rate is None else accident_rate
        self.journal_fault_rate = self.random.choice([0.0, 0.02, 0.2]) if failures else 0.0
        self.rank_death_rate = self.random.choice([0.0, 0.004, 0.08])  # at each turn of a job
        self.crash_share = self.random.choice([0.0, 0.0, 0.1]) if failures else 0.0
        self.policy = self.random.choice(["round_robin", "least_loaded", "least_backlog"])
        self.schedule = self.random.choice(["fifo", "sjf"])
        self.dice_of_models = random.Random(f"models of {seed}")  # a world of one rolls the others
        self.thorough = seed % THOROUGH == 0
        two = self.dice_of_models.random() < SHARE_OF_TWO
        self.models = [MODEL, OTHER] if two else [MODEL]
        self.processes: list[Process] = []
        self.connections: dict[bytes, Process] = {}
        self.results: Counter[str] = Counter()  # of clients that waited, by kind
        self.asked = 0
        self.crashes = 0
        self.watched: dict[int, tuple[str, int]] = {}  # pid → name and epoch
        self.written: dict[int, tuple[str, int]] = {}  # generation → what the header names
        self.made: dict[tuple[str, int], str] = {}  # with which weights attempts have begun
        self.victims: Counter[tuple[int, str]] = Counter()  # (life, request) → workers it killed
        self._broken: list[bytes] = []
        self._count = 0
        self._said: deque[tuple[bytes, Any]] = deque(maxlen=40)
        self._files: dict[str, Process] = {}
        # jobs
        self.acknowledged: set[str] = set()
        self.ends: dict[str, str] = {}  # what was told of a job's end
        self._asking: dict[int, str] = {}  # asker → idempotency key
        self._keys: dict[str, str] = {}  # key → job
        self.questions = Questions(seed, _wrong)
        self.disk = Disk()
        self.orchestrator = self._boot()
        for role in TRIO:
            for index in range(self.random.randint(1, 3)):
                self.start(f"{role}-{index}", (role,))
        if self.random.random() < 0.4:
            self.start("several-0", self.random.choice(SEVERAL))
        if two and self.dice_of_models.random() < 0.8:  # else its roles come later
            for role in TRIO:
                for index in range(self.dice_of_models.randint(1, 2)):
                    self.start(f"other-{role}-{index}", (role,), OTHER)

    def _boot(self) -> Orchestrator:
        config = Config(
            max_queue=20,
            policy=self.policy,
            schedule=self.schedule,
            max_attempts=MAX_ATTEMPTS,
            backoff_s=0.02,
            patience_s=2.0,
            stall_s=30.0,
            first_generation=1 + 1_000_000 * self.crashes,
        )
        return Orchestrator(self, config, self.disk)

    @property
    def failing(self) -> bool:
        return self.faults and self.failures

    # ------------------------------------------------------------ processes

    def start(self, name: str, roles: tuple[Role, ...], model: ModelInfo = MODEL) -> Process:
        self._count += 1
        slots, capacity = self.random.randint(3, 6), self.random.randint(1, 3)
        number = self._count
        process = Process(self, name, roles, model, slots, capacity, f"i{number}", number)
        self.processes.append(process)
        process.connect()
        return process

    def new_connection(self, process: Process) -> bytes:
        self._count += 1
        connection = f"c{self._count}".encode()
        self.connections[connection] = process
        return connection

    def leave(self, process: Process, reason: str) -> None:
        """It says goodbye and ends; a third of them without a last word."""
        process.tell_state(reason, "closing")
        process.say(Left(process.epoch, reason))
        if process.pid % 3:
            by: By = "request" if process.pid % 2 else "nothing"
            end = PoolEnd([RankEnd(0, process.pid, by)], asked=True, seconds=1.0)
            process.say(Ended(process.epoch, end.state, str(end), end.ranks, end.seconds))
        while process.outbox:
            self._pass_on(process)
        self.die(process)

    def die(self, process: Process) -> None:
        process.alive = False
        process.jobs.clear()
        process.kept.clear()
        self.connections.pop(process.connection, None)
        if process in self.processes:
            self.processes.remove(process)

    def kill(self, victim: Process) -> None:
        """SIGKILL; somebody starts it again. Sometimes its end can be proved."""
        if victim not in self.processes:
            return
        self.die(victim)
        if self.random.random() < 0.7 and victim.pid in self.watched:
            self.orchestrator.do(SenderGone(*self.watched[victim.pid]))
        model = victim.model
        if self.dice_of_models.random() < 0.05:  # the name may get another model
            model = self.dice_of_models.choice(self.models)
        self.start(victim.name, victim.roles, model)

    def begun(self, request: str) -> None:
        """A new request, though one that is over may have had its id."""
        self.victims.pop((self.crashes, request), None)

    def poisoned(self, request: str) -> None:
        """I8: the request has killed this worker."""
        self.victims[self.crashes, request] += 1
        killed = self.victims[self.crashes, request]
        assert killed <= MAX_ATTEMPTS, f"{request} has killed {killed} workers"

    # ------------------------------------------------------------ memory and files

    def land(self, grant: Grant) -> bool:
        """Bytes of a grant's payload reach the receiver's memory, if that still exists."""
        receiver = self._owner(grant)
        if receiver is None:
            return False
        if grant.generation // 1_000_000 == self.crashes:
            lease = self._table(receiver).leases.get(grant.generation)
            assert lease is not None, f"{receiver}: {grant.generation} is written into free slots"
            assert lease.state in LANDS_LATE, f"written while {lease.state}"
        # else an earlier orchestrator granted it: only the payload's check protects the receiver
        self.written[grant.generation] = (grant.request, grant.attempt)
        corrupt = self.failing and self.random.random() < 0.01
        for slot in grant.slots:
            receiver.memory[slot] = -1 if corrupt else grant.generation
        return True

    def check_model(self, sender: Process, grant: Grant) -> None:
        """Payloads never cross from one model to another."""
        receiver = self._owner(grant)
        same = receiver is None or receiver.model is sender.model
        assert same, f"{sender} is to write to {receiver}, which has another model"

    def _owner(self, grant: Grant) -> Process | None:
        for process in self.processes:
            if process.name == grant.receiver and process.pid == grant.pool.offset:
                return process
        return None

    def _table(self, process: Process) -> SlotTable:
        registry = self.orchestrator.machine.books.registry
        for instance in registry.live.values():
            if instance.info.incarnation == process.incarnation:
                return instance.slots
        info = register(process.name, *process.roles, incarnation=process.incarnation)
        return registry.table_of(info) or SlotTable(process.slots, KIB)

    def picture(self, process: Process) -> Media:
        """A finished file, which lies at the process that made it."""
        self._count += 1
        self._files[f"m{self._count}"] = process
        made = ImageMade(128, 128)
        return Media(f"m{self._count}", made, "image/png", 1000, endpoint=process.name)

    def exists(self, media: Media) -> bool:
        return media.id in self._files and self._files[media.id].alive

    def release(self, media: list[Media]) -> None:
        for each in media:
            self._files.pop(each.id, None)

    # ------------------------------------------------------------ what the orchestrator tells

    def heard(self, event: object) -> None:
        """The core, or the desk, is given an event. For those who want to know."""

    def deliver(self, connection: bytes, message: Any) -> None:
        process = self.connections.get(connection)
        if process is not None:
            if isinstance(message, Work):
                self._is_fit(process, message)
            process.inbox.append(message)
        elif self.random.random() < 0.5:
            self._broken.append(connection)  # the loop is told on sending; not always at once

    def _is_fit(self, process: Process, work: Work) -> None:
        """Who begins a request has each adapter that it has on. One that is offered no more may be
        gone: of a job that has waited for long, it was loaded then. A denoiser may have got new
        ranks while the payload was on its way, and says so when it comes to that."""
        if work.delivery is not None or work.preview_of is not None:
            return
        offered = self.orchestrator.machine.adapters(process.model.name)
        worn = [lora for lora in work.inputs.loras if lora.name in offered]
        found = [process.held.loaded.get(lora.name) for lora in worn]
        assert found == [offered[lora.name].digest for lora in worn], (
            f"{process} is given {work.role} of {work.request} with {worn}, and has {found}"
        )

    def shown(self, preview: Preview) -> None:
        """A picture of a request half done: only while somebody waits for the whole."""
        assert preview.request in self.orchestrator.open, f"a preview of {preview.request}"
        assert all(media.id in self._files for media in preview.media), "a file that was let go"
        self.release(preview.media)
        self.results["previews"] += 1

    def resolved(self, request: str, result: Completed | ErrorInfo) -> None:
        """A client has its reply."""
        if isinstance(result, Completed):
            assert all(media.id in self._files for media in result.media), "a file that was let go"
            self.release(result.media)
        else:
            self._blames_nobody_else(request, result)
        self.results[getattr(result, "kind", "completed")] += 1

    def _blames_nobody_else(self, request: str, error: ErrorInfo | None) -> None:
        """Who was only beside a request that killed its rank is tried again, up to a bound."""
        spared = 0 if error is None else len(error.history)
        assert error is None or not error.bystander or spared >= MAX_SPARED, (
            f"{request} failed for what another request did: {error.message}"
        )

    def answered(self, asker: int, reply: object) -> None:
        """I2, F24: an idempotency key belongs to one job for ever."""
        key = self._asking.get(asker)
        if not isinstance(reply, Job) or key is None:
            return
        assert self._keys.setdefault(key, reply.id) == reply.id, f"{key} has two jobs"
        self.acknowledged.add(reply.id)
        if reply.status in ("completed", "failed", "cancelled"):
            self._ended(reply)

    def notified(self, event: JobEvent) -> None:
        if event.shown is not None:
            assert event.shown.media.id in self.orchestrator.taken, "a preview that was let go"
            self.results["previews"] += 1
        if event.job.status in ("completed", "failed", "cancelled"):
            self._ended(event.job)

    def _ended(self, job: Job) -> None:
        self._blames_nobody_else(job.id, job.error)
        known = self.ends.setdefault(job.id, job.status)
        assert known == job.status, f"{job.id} was {known}, and is {job.status} now"
        for file in job.files:
            assert file.key in self.disk.files, f"{job.id} is {job.status} without its files"

    # ------------------------------------------------------------ what happens

    def step(self) -> None:
        self._network()
        self._time()
        if self.random.random() < 0.3:
            self.orchestrator.work()
        if self.faults:
            self._clients()
            self._accidents()

    def _pass_on(self, process: Process) -> None:
        message = process.outbox.popleft()
        if not (isinstance(message, StateChanged) and message.state == "divergent"):
            self._said.append((process.connection, message))
        self.orchestrator.do(Received(process.connection, message))

    def _network(self) -> None:
        running = [p for p in self.processes if not p.stopped]
        if not running:
            return
        process = self.random.choice(running)
        choice = self.random.random()
        if choice < 0.4 and process.inbox and not process.deaf:
            process.hear()
        elif choice < 0.8 and process.outbox and not process.mute:
            self._pass_on(process)
        else:
            process.turn()

    def _time(self) -> None:
        while self._broken:
            self.orchestrator.do(Disconnected(self._broken.pop()))
        if self.random.random() < 0.3:
            self.now += self.random.random() * 0.03
        if self.random.random() < 0.01:  # a quiet while
            self.now += self.random.random()
        now = self.now
        for process in [process for process in self.processes if now >= process.beat_at]:
            if process.epoch and not process.stopped:
                process.beat_at = now + 1.0
                sick = self.failing and process.pid % 4 == 0 and int(self.now) % 5 == 0
                process.say(Heartbeat(process.epoch, healthy=not sick))
                if self.now - process.heard_at > SILENCE_S:
                    process.connect()
        if self.random.random() < 0.1:
            self.orchestrator.do(Tick())
            self.orchestrator.tell(desk_events.Tick())

    def _clients(self) -> None:
        chance = self.random.random()
        if chance < 0.03:
            self.asked += 1
            # ids come back, after they are over and before
            id = f"r{self.random.randint(max(1, self.asked - 5), self.asked)}"
            poison = self.failing and self.random.random() < 0.05
            model = self._model()
            inputs = _poison(model) if poison else self._inputs(model)
            deadline_s, previews = self.random.choice([2.0, 10.0, 60.0]), self.random.randint(0, 3)
            self.orchestrator.submit(Submit(id, inputs, deadline_s, previews=previews, model=model))
        elif chance < 0.034 and self.asked:
            self.orchestrator.do(Cancel(f"r{self.random.randint(1, self.asked)}", "scripted"))
        elif chance < 0.044:
            self._ask_for_a_job()
        elif chance > 0.99:
            names = [process.name for process in self.processes]
            self.orchestrator.do(self.questions.ask(names, self.now))
        elif chance < 0.046 and self.acknowledged:
            self._count += 1
            job = self.random.choice(sorted(self.acknowledged))
            self.orchestrator.tell(desk_events.CancelAsked(self._count, job))

    def _model(self) -> str:
        """What a client names; where there is one model only, it may as well name none."""
        names = [model.name for model in self.models]
        return self.dice_of_models.choice(names if len(names) > 1 else ["", *names])

    def _inputs(self, model: str) -> Inputs:
        """Of any class, and of a few sizes, so that costs differ. They say whose they are."""
        side, steps = self.random.choice([64, 128]), self.random.choice([2, 4])
        params: Params = {"prompt": "a circle", "width": side, "num_inference_steps": steps}
        params["model"] = model or MODEL.name
        loras = self.questions.wears(self.orchestrator.machine.adapters(model or MODEL.name))
        priority = self.random.choice(PRIORITIES)
        return Inputs(params, seed=7, priority=priority, loras=loras)

    def _ask_for_a_job(self) -> None:
        """With a new key, or one that was used before."""
        self._count += 1
        key = f"k{self.random.randint(1, len(self._asking) + 2)}"
        self._asking[self._count] = key
        model = self._model()
        inputs = [self._inputs(model)] * self.random.randint(1, 2)
        described = Described(1, "png", "high", False, model=model)
        previews = self.random.randint(0, 3)
        spec = JobSpec(inputs[:1], described, 60.0, previews=previews)
        idempotency = Idempotency(key, b"digest")
        self.orchestrator.tell(
            desk_events.JobAsked(self._count, f"j{self._count}", spec, idempotency)
        )

    def _accidents(self) -> None:
        if self.random.random() > self.accident_rate or not self.processes:
            return
        if self.random.random() < self.crash_share:
            self.crash()
            return
        victim = self.random.choice(self.processes)
        kinds = [self._repeat, self._repeat, self._break, self._kill, self._stop, self._wake]
        kinds += [self._land_late, self._land_late, self._drain, self._remove, self._swap]
        kinds += [self._join, self._partition, self._heal]
        if any(process.denoises for process in self.processes):
            kinds += 3 * [self._kill, self._drain]
        self.random.choice(kinds)(victim)

    def crash(self) -> None:
        """SIGKILL of the orchestrator, and another one on the same disk. Its clients' connections
        are broken; those who asked for jobs do not know whether they were accepted."""
        self.orchestrator.crash()
        self.questions.lost()
        self.results["lost with the orchestrator"] += len(self.orchestrator.open)
        self.crashes += 1
        self.watched.clear()
        self._broken.clear()
        self._said.clear()
        self.orchestrator = self._boot()
        for job in self.acknowledged:
            assert self.orchestrator.desk.books.find(job), f"{job} was promised, and is forgotten"
        for process in self.processes:  # what was on its way is lost, and some notice it at once
            process.inbox.clear()
            if self.random.random() < 0.5 and not process.stopped:
                process.connect()

    def _repeat(self, victim: Process) -> None:
        """An old message comes once more. None that says that the instance begins anew: nothing
        but its next beginning takes that back, and no transport of ours repeats it."""
        weighty = [said for said in self._said if isinstance(said[1], Delivered | PushFailed)]
        if self._said:
            known = weighty if weighty and self.random.random() < 0.5 else self._said
            connection, message = self.random.choice(known)
            speaker = self.connections.get(connection)
            if speaker is not None and self.random.random() < 0.5:
                connection = speaker.connection  # it comes on the newest connection
            self.orchestrator.do(Received(connection, message))

    def _swap(self, victim: Process) -> None:
        """A message overtakes the one before it. Not one that ends what the other is about: no
        transport that keeps order within a connection does that."""
        harmless = (Heartbeat, Progressed, Accepted)
        if len(victim.outbox) > 1 and isinstance(victim.outbox[0], harmless):
            victim.outbox[0], victim.outbox[1] = victim.outbox[1], victim.outbox[0]

    def _break(self, victim: Process) -> None:
        """The connection breaks; the leader notices and comes back on a new one."""
        if self.random.random() < 0.5:
            self.orchestrator.do(Disconnected(victim.connection))
        if not victim.stopped:
            victim.connect()

    def _partition(self, victim: Process) -> None:
        """One way or both: nothing gets through, and nobody is told."""
        victim.mute, victim.deaf = self.random.choice([(True, True), (True, False), (False, True)])

    def _heal(self, victim: Process) -> None:
        victim.mute = victim.deaf = False

    def _stop(self, victim: Process) -> None:
        """SIGSTOP, best in the middle of a write."""
        writing = [p for p in self.processes if any(job.writing for job in p.jobs.values())]
        (self.random.choice(writing) if writing else victim).stopped = True

    def _kill(self, victim: Process) -> None:
        self.kill(self._at_work(victim))

    def _at_work(self, victim: Process) -> Process:
        """Best one that is in the middle of what could go on elsewhere."""
        busy = [p for p in self.processes if p.denoises]
        return self.random.choice(busy) if busy and self.random.random() < 0.8 else victim

    def _wake(self, victim: Process) -> None:
        victim.stopped = False

    def _land_late(self, victim: Process) -> None:
        """Something of a write that failed arrives after all."""
        unsettled = [process for process in self.processes if process.may_land]
        if unsettled:
            self.land(self.random.choice(self.random.choice(unsettled).may_land))

    def _drain(self, victim: Process) -> None:
        victim = self._at_work(victim)
        if self.random.random() < 0.5:
            self.orchestrator.do(DrainInstance(victim.name))
        elif not victim.stopped and victim.epoch:
            victim.start_draining()

    def _remove(self, victim: Process) -> None:
        self.orchestrator.do(RemoveInstance(victim.name))

    def _join(self, victim: Process) -> None:
        for model in self.models:
            mine = [process for process in self.processes if process.model is model]
            prefix = "" if model is MODEL else "other-"
            for role in TRIO:
                if not any(role in process.roles for process in mine):
                    self.start(f"{prefix}{role}-{self.random.randint(0, 3)}", (role,), model)

    # ------------------------------------------------------------ the end

    def quiesce(self) -> None:
        """No more faults and no more requests: everything that was accepted comes to its end,
        and everything comes home, but for what may still land."""
        self.faults = False
        for process in list(self.processes):
            process.stopped = process.mute = process.deaf = False
        for model in self.models:
            for role in TRIO:
                self.start(f"fresh-{model.name}-{role}", (role,), model)
        for _ in range(60_000):
            if self.orchestrator.idle and self._quiet() and not self._unlike():
                break
            self._network()
            self._time()
            self.orchestrator.work()
        assert self.orchestrator.idle, self.stories()
        self.orchestrator.do(Tick())
        for process in self.processes:
            while process.inbox:
                process.hear()
        self._end_those_with_pins()

    def _quiet(self) -> bool:
        """Nothing is on its way, and everybody has been heard since the last crash, too."""
        here = self.orchestrator.machine.books.registry.by_connection
        still = not any(process.inbox or process.outbox for process in self.processes)
        return still and all(process.connection in here for process in self.processes)

    def _unlike(self) -> list[str]:
        """Changes under way, and who has other adapters than it should have."""
        books = self.orchestrator.machine.books
        changes = (change for model in books.models for change in model.changes)
        found = [f"{change} is not over" for change in (*changes, *books.rests)]
        for process in self.processes:
            instance = books.registry.by_connection.get(process.connection)
            if instance is None or instance.draining:
                continue
            if bool(process.held.level) != (instance.state == "sleeping"):
                found.append(f"{process} sleeps at {process.held.level}, {instance.state} is known")
            if process.held.level:
                continue  # it gets what it lacks when it is woken
            if lacking := process.held.lacks(instance.model.weights):
                found.append(f"{process} has other weights of {lacking}")
            if not process.held.adaptable:
                continue
            wanted = {adapter.name: adapter.digest for adapter in instance.model.adapters.values()}
            if process.held.loaded != wanted:
                found.append(f"{process} has {process.held.loaded}, not {wanted}")
            if not instance.tidy:
                found.append(f"{instance} waits to be equipped")
        return found

    def _unsettled(self) -> list[str]:
        """Instances of which nobody will hear that they have closed, or could not."""
        history = self.orchestrator.machine.books.history
        last = {(change.name, change.epoch): change for change in history.changes}
        awaited = [(change.name, change.epoch) for change in history.awaited]
        return [
            f"{change.name} is closing for ever"
            for key, change in last.items()
            if change.state == "closing" and key not in awaited
        ]

    def stories(self) -> str:
        """What becomes of the requests that are under way."""
        ledger = self.orchestrator.machine.books.ledger
        lingering = [attempt.request for attempt in ledger.lingering.values()]
        return "\n".join(r.tell() for r in (*ledger.active.values(), *lingering))

    def _end_those_with_pins(self) -> None:
        """Pinned slots come home with the end of the process that failed to write."""
        registry = self.orchestrator.machine.books.registry
        for instance in list(registry.live.values()):
            if instance.borrowed:
                self.orchestrator.do(SenderGone(instance.name, instance.epoch))
        for ghost in list(registry.ghosts.values()):
            self.orchestrator.do(SenderGone(ghost.name, ghost.epoch))

    def assert_home(self) -> None:
        """Each accepted request has one result, and every slot and all capacity is free."""
        assert not self.orchestrator.open
        assert not self.questions.overdue(self.now)
        assert not self._unlike()
        assert not self._unsettled()
        assert not self.orchestrator.taken, "files that the desk was given and never released"
        assert not self.orchestrator.desk.complaints()
        for id in self.acknowledged:
            job = self.orchestrator.desk.books.find(id)
            assert job is not None, f"{id} was promised, and is forgotten"
            assert job.over, f"{id} was promised, and is still {job.status}"
            assert self.ends.get(id, job.status) == job.status, f"{id} has ended twice"
        registry = self.orchestrator.machine.books.registry
        assert not registry.ghosts
        assert not any(process.kept for process in self.processes)
        for instance in registry.live.values():
            assert instance.slots.free == instance.slots.total, instance
            assert not instance.borrowed
            assert not instance.outbox
            assert all(post.load == 0 for post in instance.posts.values())


def _poison(model: str) -> Inputs:
    return Inputs({"prompt": "poison", "model": model or MODEL.name}, seed=1)


def _wrong(what: str) -> None:
    raise AssertionError(what)
