"""A random cluster around the real core: honest leaders, a bad network, deaths, and one seed.

Leaders keep the protocol (what `roles` promises) and write into each other's memory like one-sided
transfers do: the receiver is not asked. Every write and read is checked against the core's leases,
so that a slot which is free, or somebody else's, while a sender may still write, is an error.
"""

import random
from collections import Counter, deque
from typing import Any

from orchestrator.core import integrity
from orchestrator.core.commands import Command, Reject, Resolve, Send, Watch
from orchestrator.core.config import Config
from orchestrator.core.events import (
    Cancel,
    Disconnected,
    DrainInstance,
    Event,
    Received,
    RemoveInstance,
    SenderGone,
    Submit,
    Tick,
)
from orchestrator.core.machine import Machine
from orchestrator.core.slots import SlotTable
from tests.support.bench import INPUTS, KIB, register
from tests.support.simulated_process import Process
from transfer.messages import Accepted, Grant, Heartbeat, Left, Progressed, Role


class World:
    """Processes, connections, a clock and a core. `run` does something random, many times."""

    def __init__(
        self, seed: int, *, accident_rate: float | None = None, failures: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.machine = Machine(Config(max_queue=20, policy=self._policy()))
        self.now = 0.0
        self.faults = True
        self.failures = failures  # of ranks and writes, too
        drawn = self.random.choice([0.0, 0.003, 0.01, 0.03])
        self.accident_rate = drawn if accident_rate is None else accident_rate
        self.processes: list[Process] = []
        self.connections: dict[bytes, Process] = {}
        self.open: set[str] = set()  # accepted, without a result
        self.results: Counter[str] = Counter()  # by kind
        self.asked = 0
        self._watched: dict[int, tuple[str, int]] = {}  # pid → name and epoch
        self._broken: list[bytes] = []
        self._count = 0
        self._said: deque[tuple[bytes, Any]] = deque(maxlen=40)
        for role in ("encoder", "denoiser", "decoder"):
            for index in range(self.random.randint(1, 3)):
                self.start(f"{role}-{index}", (role,))
        if self.random.random() < 0.3:
            self.start("both-0", ("encoder", "decoder"))

    @property
    def failing(self) -> bool:
        return self.faults and self.failures

    def _policy(self) -> str:
        return self.random.choice(["round_robin", "least_loaded"])

    # ------------------------------------------------------------ processes

    def start(self, name: str, roles: tuple[Role, ...]) -> Process:
        self._count += 1
        slots, capacity = self.random.randint(3, 6), self.random.randint(1, 3)
        process = Process(self, name, roles, slots, capacity, f"i{self._count}", self._count)
        self.processes.append(process)
        process.connect()
        return process

    def new_connection(self, process: Process) -> bytes:
        self._count += 1
        connection = f"c{self._count}".encode()
        self.connections[connection] = process
        return connection

    def leave(self, process: Process, reason: str) -> None:
        """It says goodbye and ends."""
        process.say(Left(process.epoch, reason))
        while process.outbox:
            self._pass_on(process)
        self.die(process)

    def die(self, process: Process) -> None:
        process.alive = False
        process.jobs.clear()
        self.connections.pop(process.connection, None)
        if process in self.processes:
            self.processes.remove(process)

    # ------------------------------------------------------------ memory

    def land(self, grant: Grant) -> bool:
        """Bytes of a grant's payload reach the receiver's memory, if that still exists."""
        receiver = self._owner(grant)
        if receiver is None:
            return False
        lease = self._table(receiver).leases.get(grant.generation)
        assert lease is not None, f"{receiver}: {grant.generation} is written into free slots"
        assert lease.state in ("granted", "quarantined"), f"written while {lease.state}"
        for slot in grant.slots:
            receiver.memory[slot] = grant.generation
        return True

    def _owner(self, grant: Grant) -> Process | None:
        for process in self.processes:
            if process.name == grant.receiver and process.pid == grant.pool.offset:
                return process
        return None

    def _table(self, process: Process) -> SlotTable:
        registry = self.machine.books.registry
        for instance in registry.live.values():
            if instance.info.incarnation == process.incarnation:
                return instance.slots
        info = register(process.name, *process.roles, incarnation=process.incarnation)
        return registry.table_of(info) or SlotTable(process.slots, KIB)

    # ------------------------------------------------------------ the core

    def do(self, event: Event) -> list[Command]:
        commands = self.machine.handle(event, self.now)
        integrity.check(self.machine.books)
        for command in commands:
            match command:
                case Send(connection=connection, message=message):
                    self._deliver(connection, message)
                case Resolve(request=id, result=result):
                    self.open.remove(id)  # KeyError: it has its result already
                    self.results[getattr(result, "kind", "completed")] += 1
                case Watch(name=name, epoch=epoch, host=host):
                    self._watched[host.pid] = (name, epoch)
        return commands

    def _deliver(self, connection: bytes, message: Any) -> None:
        process = self.connections.get(connection)
        if process is not None:
            process.inbox.append(message)
        elif self.random.random() < 0.5:
            self._broken.append(connection)  # the loop is told on sending; not always at once

    def _pass_on(self, process: Process) -> None:
        message = process.outbox.popleft()
        self._said.append((process.connection, message))
        self.do(Received(process.connection, message))

    # ------------------------------------------------------------ what happens

    def step(self) -> None:
        self._network()
        self._time()
        if self.faults:
            self._clients()
            self._accidents()

    def _network(self) -> None:
        running = [p for p in self.processes if not p.stopped]
        if not running:
            return
        process = self.random.choice(running)
        choice = self.random.random()
        if choice < 0.4 and process.inbox:
            process.hear()
        elif choice < 0.8 and process.outbox:
            self._pass_on(process)
        else:
            process.turn()

    def _time(self) -> None:
        while self._broken:
            self.do(Disconnected(self._broken.pop()))
        if self.random.random() < 0.3:
            self.now += self.random.random() * 0.03
        for process in list(self.processes):
            if process.epoch and not process.stopped and self.now >= process.beat_at:
                process.beat_at = self.now + 1.0
                process.say(Heartbeat(process.epoch))
        if self.random.random() < 0.1:
            self.do(Tick())

    def _clients(self) -> None:
        chance = self.random.random()
        if chance < 0.03:
            self.asked += 1
            # ids come back, after they are over and before
            id = f"r{self.random.randint(max(1, self.asked - 5), self.asked)}"
            commands = self.do(Submit(id, INPUTS, self.random.choice([2.0, 10.0, 60.0])))
            if not any(isinstance(command, Reject) for command in commands):
                assert id not in self.open, f"{id} is under way twice"
                self.open.add(id)
        elif chance < 0.034 and self.asked:
            self.do(Cancel(f"r{self.random.randint(1, self.asked)}", "scripted"))

    def _accidents(self) -> None:
        if self.random.random() > self.accident_rate or not self.processes:
            return
        victim = self.random.choice(self.processes)
        kinds = [self._repeat, self._repeat, self._break, self._kill, self._stop, self._wake]
        kinds += [self._land_late, self._land_late, self._drain, self._remove, self._swap]
        kinds += [self._join]
        self.random.choice(kinds)(victim)

    def _repeat(self, victim: Process) -> None:
        """An old message comes once more."""
        if self._said:
            connection, message = self.random.choice(self._said)
            self.do(Received(connection, message))

    def _swap(self, victim: Process) -> None:
        """A message overtakes the one before it. Not one that ends what the other is about: no
        transport that keeps order within a connection does that."""
        harmless = (Heartbeat, Progressed, Accepted)
        if len(victim.outbox) > 1 and isinstance(victim.outbox[0], harmless):
            victim.outbox[0], victim.outbox[1] = victim.outbox[1], victim.outbox[0]

    def _break(self, victim: Process) -> None:
        """The connection breaks; the leader notices and comes back on a new one."""
        if self.random.random() < 0.5:
            self.do(Disconnected(victim.connection))
        if not victim.stopped:
            victim.connect()

    def _kill(self, victim: Process) -> None:
        """SIGKILL; somebody starts it again. Sometimes its end can be proved."""
        self.die(victim)
        if self.random.random() < 0.7 and victim.pid in self._watched:
            self.do(SenderGone(*self._watched[victim.pid]))
        self.start(victim.name, victim.roles)

    def _stop(self, victim: Process) -> None:
        victim.stopped = True

    def _wake(self, victim: Process) -> None:
        victim.stopped = False

    def _land_late(self, victim: Process) -> None:
        """Something of a write that failed arrives after all."""
        if victim.may_land:
            self.land(self.random.choice(victim.may_land))

    def _drain(self, victim: Process) -> None:
        if self.random.random() < 0.5:
            self.do(DrainInstance(victim.name))
        elif not victim.stopped and victim.epoch:
            victim.start_draining()

    def _remove(self, victim: Process) -> None:
        self.do(RemoveInstance(victim.name))

    def _join(self, victim: Process) -> None:
        for role in ("encoder", "denoiser", "decoder"):
            if not any(role in process.roles for process in self.processes):
                self.start(f"{role}-{self.random.randint(0, 3)}", (role,))

    # ------------------------------------------------------------ the end

    def quiesce(self) -> None:
        """No more faults and no more requests: everything that was accepted comes to its end,
        and everything comes home, but for what may still land."""
        self.faults = False
        for process in list(self.processes):
            process.stopped = False
        for role in ("encoder", "denoiser", "decoder"):
            self.start(f"fresh-{role}", (role,))
        for _ in range(60_000):
            if self.machine.idle and not any(p.inbox or p.outbox for p in self.processes):
                break
            self._network()
            self._time()
        assert self.machine.idle, self._stories()
        self.do(Tick())
        for process in self.processes:
            while process.inbox:
                process.hear()
        self._end_those_with_pins()

    def _stories(self) -> str:
        ledger = self.machine.books.ledger
        lingering = [attempt.request for attempt in ledger.lingering.values()]
        return "\n".join(r.tell() for r in (*ledger.active.values(), *lingering))

    def _end_those_with_pins(self) -> None:
        """Pinned slots come home with the end of the process that failed to write."""
        registry = self.machine.books.registry
        for instance in list(registry.live.values()):
            if instance.borrowed:
                self.do(SenderGone(instance.name, instance.epoch))
        for ghost in list(registry.ghosts.values()):
            self.do(SenderGone(ghost.name, ghost.epoch))

    def assert_home(self) -> None:
        """Each accepted request has one result, and every slot and all capacity is free."""
        assert not self.open
        registry = self.machine.books.registry
        assert not registry.ghosts
        assert not any(process.kept for process in self.processes)
        for instance in registry.live.values():
            assert instance.slots.free == instance.slots.total, instance
            assert not instance.borrowed
            assert not instance.outbox
            assert all(post.load == 0 for post in instance.posts.values())
