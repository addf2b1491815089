"""One life of the orchestrator: the real core, and a loop around it that moves messages."""

from typing import TYPE_CHECKING

from orchestrator.core import integrity
from orchestrator.core.commands import (
    Answers,
    Command,
    Completed,
    Discard,
    Preview,
    Reject,
    Resolve,
    Send,
    Watch,
)
from orchestrator.core.config import Config
from orchestrator.core.events import Cancel, Disconnected, Event, SenderGone, Submit, Tick
from orchestrator.core.machine import Machine
from orchestrator.core.slots import SlotTable
from tests.simulation.engines.network import Link
from transfer.codec import encode
from transfer.messages import ErrorInfo, Inputs

if TYPE_CHECKING:
    from tests.simulation.engines.process import Process
    from tests.simulation.engines.world import World

LIFETIME = 1_000_000  # generations of one life
MAX_ATTEMPTS = 3
TICK_S = 0.1


class Orchestrator:
    """A process that decides. `open`: what was accepted and has no result yet."""

    def __init__(self, world: "World", life: int, policy: str) -> None:
        self.world = world
        self.life = life
        self.alive = True
        self.machine = Machine(
            Config(
                max_queue=20,
                policy=policy,
                max_attempts=MAX_ATTEMPTS,
                backoff_s=0.05,
                stall_s=150.0,
                first_generation=1 + LIFETIME * life,
            )
        )
        self.open: dict[str, tuple[Inputs, float]] = {}
        self._tick()

    def crash(self) -> None:
        self.alive = False

    def _tick(self) -> None:
        if self.alive:
            self.do(Tick())
            now, alarm = self.world.loop.now, self.machine.alarm
            at = now + TICK_S if alarm is None else min(max(alarm, now + 0.001), now + TICK_S)
            self.world.loop.call_at(at, self._tick, context=self.world.nobody)

    # ------------------------------------------------------------ events and commands

    def do(self, event: Event) -> list[Command]:
        self.world.note("core", event)
        commands = self.machine.handle(event, self.world.loop.now)
        integrity.check(self.machine.books)
        for command in commands:
            self._carry_out(command)
        return commands

    def submit(self, id: str, inputs: Inputs, deadline_s: float, previews: int, model: str) -> bool:
        """Whether it is accepted."""
        commands = self.do(Submit(id, inputs, deadline_s, previews=previews, model=model))
        if any(isinstance(command, Reject) for command in commands):
            return False
        if id in self.open:
            self.world.wrong(f"{id} is under way twice")
        self.open[id] = (inputs, self.world.loop.now + deadline_s)
        return True

    def cancel(self, id: str) -> None:
        self.do(Cancel(id, "scripted"))

    def _carry_out(self, command: Command) -> None:
        match command:
            case Send(connection=connection, message=message):
                link = self.world.network.links.get(connection)
                if link is not None:
                    self.world.note(link.process, message)
                    self.world.accidents.ordered(link.process, message)
                    link.carry(Link.DOWN, encode(message))
                elif self.world.dice.random() < 0.5:  # not always told at once
                    self._soon(Disconnected(connection))
            case Watch(name=name, epoch=epoch, host=host):
                self.world.watch(host.pid, SenderGone(name, epoch))
            case Discard(media=media):
                self.world.release(media)
            case Preview(request=id, media=media):
                if id not in self.open:
                    self.world.wrong(f"a preview of {id}, which is not under way")
                self.world.shown(id, self.open[id][0], media)
            case Answers():
                self.world.questions.answered(command, self.world.loop.now, TICK_S + 0.01)
            case Resolve(request=id, result=result):
                self._resolve(id, result)

    def _resolve(self, id: str, result: Completed | ErrorInfo) -> None:
        if id not in self.open:
            self.world.wrong(f"{id} has a second result: {result}")
            return
        inputs, _ = self.open.pop(id)
        self.world.resolved(id, inputs, result)

    def _soon(self, event: Event) -> None:
        def do() -> None:
            if self.alive:
                self.do(event)

        self.world.loop.call_soon(do, context=self.world.nobody)

    # ------------------------------------------------------------ what the core knows of memory

    def table(self, process: "Process") -> SlotTable | None:
        """The core's book of a process's slots; None if it has none."""
        assert process.leader is not None
        registry = self.machine.books.registry
        incarnation = process.leader._incarnation
        named = registry.by_name.get(process.name)
        if named is not None and named.info.incarnation == incarnation:
            return named.slots
        return registry._attic.get((process.name, incarnation))
