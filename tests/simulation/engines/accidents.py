"""What happens to a cluster from outside: deaths, stops, partitions, and orders that come late."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.core.events import DrainInstance, RemoveInstance
from tests.simulation.engines.network import Link
from transfer.codec import encode
from transfer.messages import Abort, Push, Release, Work

if TYPE_CHECKING:
    from tests.simulation.engines.process import Process
    from tests.simulation.engines.world import World


LOOKS = 200  # for one that is at work, at most: one every 10 ms


class Accidents:
    """One after the other, to any of the leaders that live; now and then to the orchestrator."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._orders: deque[tuple[Process, Any]] = deque(maxlen=40)

    async def happen(self) -> None:
        """Until the faults stop."""
        while self._world.faults:
            await asyncio.sleep(self._world.dice.expovariate(1.0 / self._world.accident_s))
            victims = self._world.living
            if self._world.dice.random() < 0.3:
                await self._at_work()
            elif victims:
                self._one(self._world.dice.choice(victims))

    async def _at_work(self) -> None:
        """Waits for one that is in the middle of what could go on elsewhere, and ends it there."""
        dice = self._world.dice
        kind, copied = dice.choice([(self._drain, False), (self._world.kill, dice.random() < 0.8)])
        for _ in range(LOOKS):
            names = self._world.copied() if copied else None
            busy = [p for p in self._world.living if p.denoises]
            if busy := [p for p in busy if names is None or p.name in names]:
                victim = dice.choice(busy)
                self._world.note(victim, f"{kind.__name__} at work")
                kind(victim)
                return
            await asyncio.sleep(0.01)

    def _one(self, victim: "Process") -> None:
        kinds: list[Callable[[Process], None]] = [
            self._world.kill,
            self._stop,
            self._wake,
            self._wake,
        ]
        kinds += [self._break, self._partition, self._partition, self._heal, self._heal]
        kinds += [self._drain, self._remove, self._kill_rank, self._late_order, self._late_order]
        kind = self._world.dice.choice(kinds)
        if self._world.crashing and self._world.dice.random() < 0.1:
            self._world.crash()
            return
        self._world.note(victim, kind.__name__)
        kind(victim)

    def _stop(self, victim: "Process") -> None:
        victim.life.stop()

    def _wake(self, victim: "Process") -> None:
        for process in self._world.living:
            process.life.wake(self._world.loop)

    def _break(self, victim: "Process") -> None:
        if victim.dealer is not None:
            victim.dealer.reconnect()

    def _partition(self, victim: "Process") -> None:
        link = victim.dealer and victim.dealer.link
        if link is not None:
            link.closed = self._world.dice.choice([[True, True], [True, False], [False, True]])

    def _heal(self, victim: "Process") -> None:
        self.heal()

    def heal(self) -> None:
        for process in self._world.living:
            link = process.dealer and process.dealer.link
            if link is not None:
                link.heal()

    def _drain(self, victim: "Process") -> None:
        if self._world.dice.random() < 0.5:
            self._world.post(DrainInstance(victim.name))
        elif signal.SIGTERM in victim.life.signals:
            self._world.loop.call_soon(
                victim.life.signals[signal.SIGTERM], context=victim.life.context
            )

    def _remove(self, victim: "Process") -> None:
        self._world.post(RemoveInstance(victim.name))

    def _kill_rank(self, victim: "Process") -> None:
        if victim.ranks:
            self._world.dice.choice(victim.ranks).die("died of SIGKILL")

    def ordered(self, process: "Process", message: Any) -> None:
        """The orchestrator has said something; it may come once more, much later."""
        if isinstance(message, Work | Push | Release | Abort):
            self._orders.append((process, message))

    def _late_order(self, victim: "Process") -> None:
        """F8: an order of an epoch that has ended comes again."""
        for process, order in list(self._orders):
            link = process.dealer and process.dealer.link
            leader = process.leader
            if not process.alive or link is None or leader is None:
                continue
            if order.epoch < leader.control.epoch:
                link.carry(Link.DOWN, encode(order))
