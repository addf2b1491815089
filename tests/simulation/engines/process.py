"""A leader's process: the real `roles.leader.leader.Leader` with all that is in it, around it a
machine that can be stopped and killed."""

import asyncio
from typing import TYPE_CHECKING, Any

from roles.leader.control import RegistrationRefused
from roles.leader.keeper import CannotLoad
from roles.leader.leader import Leader
from roles.leader.lifecycle import Deadline
from roles.options import RoleOptions
from tests.simulation.engines.clock import Life
from tests.simulation.engines.memory import WatchedOutbox
from transfer.messages import ModelInfo
from transfer.pool import SlotPool
from transfer.transport import Transport

if TYPE_CHECKING:
    from tests.simulation.engines.memory import Backend
    from tests.simulation.engines.network import Dealer
    from tests.simulation.engines.ranks import Rank
    from tests.simulation.engines.world import World
    from transfer.messages import Role

UNIT_S = 4.0  # the ranks' deadline, instead of minutes
RECEIVERS = ("denoiser", "decoder", "monolithic")


class Media:
    """`transfer.media.MediaServer`, as far as a leader looks at it."""

    task = None

    def __init__(self, process: "Process") -> None:
        self._process = process
        self.endpoint = f"tcp://{process.name}:{process.life.pid}"

    @property
    def held(self) -> int:
        return self._process.world.held(self._process)


class NoDeadline(Deadline):
    """Its threads would wait by the real clock; the simulation notices what does not end."""

    def start(self) -> None:
        pass


class Process:
    """From its start to its end. `ranks` are those that live; `leader` is there once it runs."""

    def __init__(
        self, world: "World", name: str, roles: "tuple[Role, ...]", model: ModelInfo
    ) -> None:
        dice = world.dice
        self.world = world
        self.model = model
        self.name = name
        self.roles = roles
        self.life = Life(world.new_pid())
        self.life.process = self
        self.options = RoleOptions(
            orchestrator="tcp://orchestrator:1",
            model="demo",
            roles=roles,
            name=name,
            ranks=dice.choice([1, 1, 2]),
            slots=dice.randint(3, 6),
            slot_bytes=4096,
            max_batch=dice.randint(1, 3),
            schedule=dice.choice(["sjf", "fifo", "round_robin"]),
            threads=1,
            rank_timeout_s=UNIT_S,
            checkpoint_s=dice.choice([0.0, 0.01, 0.02]),
        )
        self.slowness = dice.choice([0.5, 1.0, 1.0, 4.0])
        self.ranks: list[Rank] = []
        self.outboxes: list[WatchedOutbox] = []
        self.dealer: Dealer | None = None
        self.leader: Leader | None = None
        senders = sum(role in ("encoder", "denoiser") for role in roles)
        slots = self.options.slots
        receives = any(role in RECEIVERS for role in roles)
        self.pool = SlotPool.create(slots if receives else 1, 4096, slots * senders)
        self.backend: Backend
        self.main: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"{self.name}/{self.life.pid}"

    @property
    def alive(self) -> bool:
        return self.life.alive

    @property
    def denoises(self) -> bool:
        """It has done more than a step of something."""
        attempts = self.leader.engine._attempts.values() if self.leader else ()
        return any(each.step > 1 and each.work.role == "denoiser" for each in attempts)

    @property
    def at_rest(self) -> bool:
        """It is registered, or still loads its model, and nothing is under way in it."""
        leader = self.leader
        if leader is None or leader.keeper.info is None:
            return True
        idle = leader.engine.idle.is_set() and leader.control.registered.is_set()
        return idle and not leader._draining and not self.leaving

    @property
    def epoch(self) -> int:
        """In which it works; 0 while it is not registered."""
        control = self.leader and self.leader.control
        return control.epoch if control and control.registered.is_set() else 0

    @property
    def leaving(self) -> bool:
        """It ends, whatever happens."""
        return self.leader is not None and self.leader._exit.done()

    def start(self) -> None:
        loop = self.world.loop
        self.main = loop.create_task(self._run(), context=self.life.context)

    async def _run(self) -> None:
        """`roles.leader.leader.serve`, without the operating system."""
        transport = Transport(self.pool, "shm")
        media: Any = Media(self)
        keys: Any = object()
        try:
            self.leader = Leader(
                self.options, "scripted", self.pool, transport, media, keys, NoDeadline()
            )
            await self.leader.run()
            why = "exited"
        except (CannotLoad, RegistrationRefused) as error:
            why = str(error)
        except Exception as error:
            self.world.wrong(f"{self} crashed: {type(error).__name__}: {error}")
            raise
        if not self.world.over:
            self.world.loop.call_soon(self.world.exited, self, why, context=self.world.nobody)

    def outbox(self, pool: SlotPool, first: int, count: int) -> WatchedOutbox:
        """What `roles.leader.outbox` gets for `transfer.pool.Outbox`."""
        box = WatchedOutbox(self, pool, first, count)
        self.outboxes.append(box)
        return box

    def kill(self) -> None:
        """SIGKILL. Its ranks end with it, its memory is gone, its connection breaks."""
        self.life.kill()
        for rank in list(self.ranks):
            rank.die("died of SIGKILL")
        if self.dealer is not None and self.dealer.link is not None:
            self.dealer.link.end()

    def complaints(self) -> list[str]:
        """What has not come home, when nothing is under way (I3, I4)."""
        assert self.leader is not None
        engine, found = self.leader.engine, []
        if not engine.idle.is_set() or engine._attempts:
            found.append(f"attempts {list(engine._attempts)}")
        if len(engine._scheduler):
            found.append(f"scheduler: {engine._scheduler}")
        if self.leader._outbox.kept:
            found.append(f"{self.leader._outbox.kept} payloads are kept")
        lines = [line for line in self.leader._outbox._lines.values() if line]
        if lines:
            found.append(f"wait for room: {lines}")
        found += [f"{box.free_slots} of {box.total} free" for box in self.outboxes if not _all(box)]
        found += [f"rank {rank.rank} holds {list(rank.live)}" for rank in self.ranks if rank.live]
        if self.leader.asked.tasks:
            found.append(f"operators wait for {self.leader.asked.tasks}")
        if engine.door._asides or engine._handover._unwanted:
            found.append("calls or files that nobody waits for")
        tasks = [task for task in self.life.tasks if not task.done()]
        if len(tasks) > TASKS:
            found.append(f"{len(tasks)} tasks: {tasks}")
        return [f"{self}: {text}" for text in found]


TASKS = 8
"""Of an idle leader: itself, engine, keeper, control client, and of that to listen (with what it
waits for), to speak and to keep alive."""


def _all(box: WatchedOutbox) -> bool:
    return box.free_slots == box.total
