"""A cluster of real leaders around the real core, in virtual time: one seed decides everything."""

import asyncio
import itertools
import random
import traceback
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from orchestrator.core.commands import Completed
from orchestrator.core.events import Event, Received, SenderGone
from roles.calls import Begin, MediaFile
from tests.simulation.engines import compute
from tests.simulation.engines.accidents import Accidents
from tests.simulation.engines.clock import VirtualLoop
from tests.simulation.engines.memory import Write, header_of
from tests.simulation.engines.network import Link, Network
from tests.simulation.engines.orchestrator import LIFETIME, Orchestrator
from tests.simulation.engines.process import Process
from tests.simulation.engines.ranks import POISON
from tests.simulation.questions import Questions
from tests.support.bench import MODEL, OTHER
from transfer.errors import PayloadError
from transfer.header import check_header
from transfer.messages import (
    PRIORITIES,
    SPLIT_ROUTE,
    ErrorInfo,
    Inputs,
    Media,
    ModelInfo,
    Params,
    Role,
    from_instance,
)

SHARE_OF_TWO = 0.25  # of the worlds that have two models
RATES = {
    "rank death": 0.003,
    "rank hang": 0.0005,
    "rank error": 0.005,
    "load": 0.1,
    "publish": 0.02,
    "corrupt": 0.01,
    "unreachable": 0.02,
    "broken write": 0.05,
}
"""How often each fault strikes where it can, in a world of middling weather."""

LANDS = ("granted", "quarantined")
"""States of a lease into which its sender may write."""
UNWANTED = ("stalled", "internal")
"""What no fault of ours excuses: a request that was lost sight of, and a surprise."""
HOME_S = 750.0
"""After the last fault, for all that is under way. Ranks that hang in their first self-test are
given up after 600 s, in a change after 300 s; 30 s a keeper may wait."""
SETTLED_S = 3.0
LATE_S = 0.2  # the orchestrator looks at its clock more often than that
CANARIES = 3
WHOLE = 8  # one seed in so many has instances that run whole pipelines, and no others


class Violation(AssertionError):
    """What had to hold does not."""


class World:
    """`run` is one life: safety, with faults all the time; then liveness, when they stop."""

    def __init__(self, seed: int, *, seconds: float = 12.0, weather: float | None = None) -> None:
        self.dice = random.Random(seed)
        self.loop = VirtualLoop()
        self.nobody = copy_context()  # the context of what belongs to no process
        self.seconds = seconds
        drawn = self.dice.choice([0.0, 0.3, 1.0, 3.0])
        self.weather = drawn if weather is None else weather
        self.accident_s = self.dice.choice([0.3, 1.0, 3.0])  # between two of them
        self.crashing = self.dice.random() < 0.3  # the orchestrator, too
        self.policy = self.dice.choice(["round_robin", "least_loaded", "least_backlog"])
        self.faults = self.weather > 0
        self.over = False
        self.failure: str | None = None
        self.dice_of_models = random.Random(f"models of {seed}")  # a world of one rolls the others
        two = self.dice_of_models.random() < SHARE_OF_TWO
        self.models = [MODEL, OTHER] if two else [MODEL]
        self.network = Network()
        self.accidents = Accidents(self)
        self.processes: dict[int, Process] = {}  # by pid, the dead ones too
        self.results: Counter[str] = Counter()
        self.questions = Questions(seed, self.wrong)
        self.crashes = 0
        self.asked = 0
        self._numbers = itertools.count(1)
        self._drawn: dict[int, str] = {}  # descriptor of a rank → what is in the file
        self._files: dict[str, tuple[Process, str]] = {}
        self._watched: dict[int, SenderGone] = {}
        self.orchestrator: Orchestrator | None = Orchestrator(self, 0, self.policy)
        self.route: tuple[Role, ...] = ("monolithic",) if seed % WHOLE == 5 else SPLIT_ROUTE
        for role in self.route:
            for index in range(self.dice.randint(1, 2)):
                self.start(f"{role}-{index}", (role,))
        if self.route == SPLIT_ROUTE and self.dice.random() < 0.3:
            self.start("both-0", ("encoder", "decoder"))
        if self.route == SPLIT_ROUTE and self.dice.random() < 0.1:
            self.start("all-0", SPLIT_ROUTE)
        if two:
            for role in self.route:
                self.start(f"other-{role}", (role,), OTHER)

    # ------------------------------------------------------------ running

    def run(self) -> None:
        """Raises `Violation`."""
        main = self.loop.create_task(self._live())
        main.add_done_callback(lambda _: self.loop.stop())
        self.loop.set_exception_handler(self._surprise)
        try:
            self.loop.run_forever()
            if self.failure is not None:
                raise Violation(self.failure)
            main.result()
        finally:
            self._put_away()

    def wrong(self, what: str) -> None:
        """The first violation ends the run, whoever might catch what we could raise."""
        if not self.over and self.failure is None:
            self.failure = what
            self.loop.stop()

    def note(self, who: object, what: object) -> None:
        """For those who want to tell the story."""

    async def _live(self) -> None:
        await asyncio.sleep(1.5)  # for most to have registered
        accidents = self.loop.create_task(self.accidents.happen())
        until = self.loop.now + self.seconds
        while self.loop.now < until:
            await asyncio.sleep(self.dice.expovariate(2.0))
            self._client()
        accidents.cancel()
        await self._quiesce()

    def _surprise(self, loop: object, context: dict[str, Any]) -> None:
        """What a callback raised. That a killed process leaves things undone is none."""
        if "Exception in callback" in context["message"]:
            error = context["exception"]
            raised = "".join(traceback.format_exception(error))
            self.wrong(f"{type(error).__name__}: {error}\n{raised}")

    def _put_away(self) -> None:
        """No task and no descriptor outlives the world."""
        self.over, self.faults = True, False
        lives = [process.life for process in self.processes.values()]
        for life in lives:
            life.put_away(self.loop)
        for _ in range(50):
            for _ in range(5):  # a task that has never run cannot be cancelled cleanly
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
            tasks = [task for life in lives for task in life.tasks if not task.done()]
            tasks += [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.loop.call_later(1.0, self.loop.stop)
            self.loop.run_forever()
        for process in self.processes.values():
            process.pool.close()
        self.loop.close()

    # ------------------------------------------------------------ numbers and dice

    def new_pid(self) -> int:
        return next(self._numbers)

    def strikes(self, fault: str) -> bool:
        """Whether it happens here and now."""
        return self.faults and self.dice.random() < RATES[fault] * self.weather

    # ------------------------------------------------------------ processes

    @property
    def living(self) -> list[Process]:
        return [process for process in self.processes.values() if process.alive]

    def start(self, name: str, roles: tuple[Role, ...], model: ModelInfo = MODEL) -> Process:
        process = Process(self, name, roles, model)
        self.processes[process.life.pid] = process
        process.start()
        return process

    def exited(self, process: Process, why: str) -> None:
        """Its main function has returned."""
        self.note(process, why)
        if process.alive:
            self._end(process)

    def kill(self, process: Process) -> None:
        self.note(process, "SIGKILL")
        self._end(process)

    def _end(self, process: Process) -> None:
        process.kill()
        self._files = {id: file for id, file in self._files.items() if file[0] is not process}
        if process.life.pid in self._watched and self.dice.random() < 0.7:
            self._later(0.2, lambda: self._prove(process.life.pid))
        self._later(2.0, lambda: self._restart(process))

    def _restart(self, process: Process) -> None:
        """By whoever supervises it."""
        if all(other.name != process.name for other in self.living):
            self.start(process.name, process.roles, process.model)

    def watch(self, pid: int, gone: SenderGone) -> None:
        self._watched[pid] = gone
        if not self.processes[pid].alive and self.dice.random() < 0.7:
            self._later(0.2, lambda: self._prove(pid))

    def _prove(self, pid: int) -> None:
        """The end of a process is seen on its host."""
        gone = self._watched.pop(pid, None)
        if gone is not None:
            self.post(gone)

    def _later(self, longest: float, action: Callable[[], Any]) -> None:
        at = self.loop.now + self.dice.random() * longest
        self.loop.call_at(at, lambda: None if self.over else action(), context=self.nobody)

    # ------------------------------------------------------------ the orchestrator

    def post(self, event: Event) -> None:
        if self.orchestrator is not None and not self.over:
            self.orchestrator.do(event)

    def copied(self) -> set[str]:
        """The instances that compute what could go on from a copy."""
        core = self.orchestrator
        requests = () if core is None else core.machine.books.ledger.active.values()
        running = [
            r.attempt for r in requests if r.copy is not None and r.copy.incoming is not None
        ]
        return {
            each.worker.name for each in running if each is not None and each.worker is not None
        }

    def hear(self, identity: bytes, frame: bytes) -> None:
        self.post(Received(identity, from_instance.decode(frame)))  # type: ignore[arg-type]

    def crash(self) -> None:
        """SIGKILL of the orchestrator; another one follows. Nobody knows of it but by silence, or
        by what the next one says."""
        if self.orchestrator is None:
            return
        self.note("core", "SIGKILL")
        self.orchestrator.crash()
        self.questions.lost()
        self.results["lost with the orchestrator"] += len(self.orchestrator.open)
        self.orchestrator = None
        self.crashes += 1
        self._watched.clear()
        for process in self.living:
            if process.dealer is not None:
                process.dealer.reconnect()
        self._later(self.dice.choice([0.01, 1.0, 10.0]), self._boot)

    def _boot(self) -> None:
        if self.orchestrator is not None:
            return
        self.orchestrator = Orchestrator(self, self.crashes, self.policy)
        for link in list(self.network.links.values()):
            link.deliver(Link.UP)

    # ------------------------------------------------------------ memory and files

    def started(self, write: Write) -> None:
        self.note(write.backend.process, f"writes {write.generation} to {write.receiver}")

    def lands(self, write: Write) -> None:
        """Law 3: nothing is written into slots that are free, or somebody else's. What an earlier
        orchestrator granted may be: there the payload's check protects the receiver. And who has
        said goodbye reads nothing any more."""
        core = self.orchestrator
        if self.over or core is None or write.generation // LIFETIME != core.life:
            return
        if write.receiver.leaving:
            return
        table = core.table(write.receiver)
        lease = None if table is None else table.leases.get(write.generation)
        if lease is None or lease.state not in LANDS:
            state = "free" if lease is None else lease.state
            sender, receiver = write.backend.process, write.receiver
            self.wrong(f"{sender} writes {write.generation} into {receiver}, while it is {state}")

    def reads(self, process: Process, call: Begin) -> None:
        """I12: what a rank reads is what was announced. When orchestrators have crashed, what an
        earlier one granted may still land between the leader's look and the rank's. (What is
        read after the end of its epoch is not asked about: it is for nobody any more.)"""
        assert call.delivery is not None
        try:
            header = header_of(process.pool, call.delivery.slots)
            check_header(memoryview(header), call.request, call.attempt, call.delivery)
        except PayloadError as error:
            if not self.crashes:
                self.wrong(f"{process} begins {call.request}, {call.attempt}: {error}")

    def new_file(self, value: str) -> int:
        number = self.new_pid()
        self._drawn[number] = value
        return number

    def publish(self, process: Process, file: MediaFile, endpoint: str) -> Media:
        id = f"m{file.fd}"
        self._files[id] = (process, self._drawn.pop(file.fd))
        return Media(id, file.made, file.mime, file.nbytes, endpoint=endpoint)

    def release(self, media: list[Media]) -> None:
        for each in media:
            self._files.pop(each.id, None)

    def held(self, process: Process) -> int:
        """Files that nobody has read yet."""
        return sum(owner is process for owner, _ in self._files.values())

    # ------------------------------------------------------------ clients

    def _client(self) -> None:
        core = self.orchestrator
        if core is None:
            return
        if self.questions.dice.random() < 0.3:
            names = [process.name for process in self.living]
            core.do(self.questions.ask(names, self.loop.now))
        if core.open and self.dice.random() < 0.1:
            core.cancel(self.dice.choice(list(core.open)))
            return
        for _ in range(self.dice.choice([1, 1, 1, 4])):
            poison = self.faults and self.dice.random() < 0.02
            self.ask(self.dice.choice([2.0, 10.0, 300.0]), POISON if poison else "a red circle")

    def ask(self, deadline_s: float, prompt: str = "a red circle") -> bool:
        """A request of its own inputs; ids come back. Whether it is accepted."""
        core = self.orchestrator
        self.asked += 1
        id = f"r{self.asked % 12}"
        if core is None or id in core.open:
            return False
        steps, priority = self.dice.choice([2, 4]), self.dice.choice(PRIORITIES)
        model = self.dice_of_models.choice(self.models).name
        params: Params = {"prompt": prompt, "num_inference_steps": steps, "model": model}
        loras = self.questions.wears(core.machine.adapters(model))
        inputs = Inputs(params, seed=self.asked, priority=priority, loras=loras)
        return core.submit(id, inputs, deadline_s, self.dice.randint(0, 3), model)

    def shown(self, id: str, inputs: Inputs, media: list[Media]) -> None:
        self.results["previews"] += 1
        for each in media:
            found = self._files.get(each.id)
            if found is not None and found[1] not in compute.expected_previews(inputs):
                self.wrong(f"{id} has a preview of something else")
        self.release(media)

    def resolved(self, id: str, inputs: Inputs, result: Completed | ErrorInfo) -> None:
        self.results[getattr(result, "kind", "completed")] += 1
        if isinstance(result, ErrorInfo):
            if result.kind in UNWANTED and "cannot be kept" not in result.message:
                self.wrong(f"{id} failed: {result}")
            return
        for media in result.media:
            found = self._files.get(media.id)  # None: its process has ended since
            if found is not None and found[1] not in compute.expected(inputs):
                self.wrong(f"{id} is another picture than it has to be")
        self.release(result.media)

    # ------------------------------------------------------------ the end

    async def _quiesce(self) -> None:
        """No more faults: everything that was accepted ends, and everything comes home."""
        self.faults = False
        self.note("world", "the faults stop")
        self._boot()
        for process in self.living:
            process.life.wake(self.loop)
        self.accidents.heal()
        for model in self.models:
            for role in self.route:
                self.start(f"fresh-{model.name}-{role}", (role,), model)
        self._prove_the_dead()
        await self._until(lambda: self._quiet(), "what was accepted does not end")
        self._prove_the_dead()
        await self._canaries()
        await asyncio.sleep(SETTLED_S)
        self._prove_the_dead()
        complaints = self._complaints()
        if complaints:
            self.wrong("\n".join(complaints))
            await asyncio.sleep(0)

    def _prove_the_dead(self) -> None:
        """What they may still write to stays shut for ever otherwise, in pools of a few slots."""
        for pid in [pid for pid in self._watched if not self.processes[pid].alive]:
            self._prove(pid)

    async def _canaries(self) -> None:
        """What is asked for now has to be completed."""
        before, asked = self.results["completed"], 0
        for _ in range(60):
            asked += self.ask(300.0)
            if asked == CANARIES:
                break
            await asyncio.sleep(0.5)
        await self._until(lambda: self._quiet(), "nothing gets done any more")
        if self.results["completed"] != before + CANARIES:
            self.wrong(f"{asked} canaries, {self.results['completed'] - before} came back")

    async def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        until = self.loop.now + HOME_S
        while not holds():
            if self.loop.now > until:
                self.wrong("\n".join([otherwise, *self.stories(), *self._complaints()]))
            await asyncio.sleep(0.2)

    def _quiet(self) -> bool:
        core = self.orchestrator
        assert core is not None
        idle = all(process.at_rest for process in self.living) and not self._unlike(core)
        return idle and core.machine.idle and not core.open

    def _unlike(self, core: Orchestrator) -> list[str]:
        """Changes under way, and ranks that have other adapters than they should have."""
        books = core.machine.books
        changes = (change for model in books.models for change in model.changes)
        found = [f"{change} is not over" for change in (*changes, *books.rests)]
        for instance in books.registry.live.values():
            excused = instance.draining or instance.state == "sleeping"
            if not (instance.tidy or excused):
                found.append(f"{instance} waits to be equipped")
        for rank in [rank for process in self.living for rank in process.ranks]:
            named = books.registry.by_name.get(rank._process.name)
            if named is not None and not named.draining and named.reported in ("ready", "sleeping"):
                known = named.reported == "sleeping"
                if bool(rank.held.level) != known:
                    found.append(f"rank {rank.rank} of {named} sleeps at {rank.held.level}")
            if named is None or not named.available:
                continue
            if lacking := rank.held.lacks(named.model.weights):
                found.append(f"rank {rank.rank} of {named} has other weights of {lacking}")
            if not rank.held.adaptable:
                continue
            wanted = {x.name: x.digest for x in named.model.adapters.values()}
            if wanted != rank.held.loaded:
                found.append(f"rank {rank.rank} of {named} has {rank.held.loaded}, not {wanted}")
        return found

    def stories(self) -> list[str]:
        """What becomes of the requests that are under way."""
        if self.orchestrator is None:
            return []
        ledger = self.orchestrator.machine.books.ledger
        lingering = [attempt.request for attempt in ledger.lingering.values()]
        return [request.tell() for request in (*ledger.active.values(), *lingering)]

    def _complaints(self) -> list[str]:
        """I3, I4: all that is not where it was in the beginning."""
        assert self.orchestrator is not None
        found = [line for p in self.living if p.leader is not None for line in p.complaints()]
        found += self._unlike(self.orchestrator)
        found += self.questions.overdue(self.loop.now - LATE_S)
        unsettled = {
            generation
            for process in self.living
            if process.leader is not None
            for generation in process.leader.engine.may_land
        }
        registry = self.orchestrator.machine.books.registry
        for instance in registry.live.values():
            for lease in instance.slots.leases.values():
                if lease.generation not in unsettled:
                    found.append(f"{instance}: {lease.generation} is {lease.state}")
            if instance.outbox or any(post.load for post in instance.posts.values()):
                found.append(f"{instance}: holds requests")
        for ghost in registry.ghosts.values():
            if ghost.borrowed.keys() - unsettled:
                found.append(f"{ghost} may still write {list(ghost.borrowed)}")
        return found
