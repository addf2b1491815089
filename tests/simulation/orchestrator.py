"""One life of the orchestrator in the simulation: the real core and the real desk of jobs, around
them a journal, a storage and sockets that obey the world's dice."""

from collections import deque
from typing import TYPE_CHECKING

from orchestrator.core import integrity
from orchestrator.core.commands import (
    Answers,
    Command,
    Completed,
    Discard,
    Preview,
    Progress,
    Reject,
    Resolve,
    Send,
    Watch,
)
from orchestrator.core.config import Config
from orchestrator.core.events import Cancel, Event, Received, Submit, Tick
from orchestrator.core.machine import Machine
from orchestrator.jobs import commands as desk_commands
from orchestrator.jobs import events as desk_events
from orchestrator.jobs.desk import Desk
from orchestrator.jobs.entries import Entry
from orchestrator.jobs.limits import Limits
from orchestrator.jobs.model import StoredFile
from transfer.made import ImageMade
from transfer.messages import Heartbeat, Media

if TYPE_CHECKING:
    from tests.simulation.world import World

LIMITS = Limits(unfinished=12, ahead=3, runs=4, store_again_s=0.05, submit_again_s=0.02)


class Disk:
    """What outlives the orchestrator: the journal's entries, and stored files."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.files: set[str] = set()
        self.lives = 0


class Orchestrator:
    """A process that decides. `work` does one thing of those that the journal and the storage have
    to do; `crash` loses everything but the disk."""

    def __init__(self, world: "World", config: Config, disk: Disk) -> None:
        self.world = world
        self.dice = world.random
        self.machine = Machine(config)
        self.desk = Desk(LIMITS)
        self.disk = disk
        self.writes: deque[desk_commands.Write] = deque()
        self.stores: deque[desk_commands.Store] = deque()
        self.open: set[str] = set()  # requests of clients that wait, without a result
        self.taken: set[str] = set()  # files that the desk was given, and has not released
        disk.lives += 1
        self.tell(desk_events.Recovered(list(disk.entries), disk.lives - 1))

    @property
    def idle(self) -> bool:
        return self.machine.idle and self.desk.idle and not self.writes and not self.stores

    # ------------------------------------------------------------ the core

    def do(self, event: Event) -> list[Command]:
        self.world.heard(event)
        commands = self.machine.handle(event, self.world.now)
        if self.world.thorough or not _did_nothing(event, commands):
            integrity.check(self.machine.books)
        for command in commands:
            self._carry_out(command)
        return commands

    def submit(self, event: Submit) -> None:
        """A client that waits for its reply."""
        commands = self.do(event)
        if not any(isinstance(command, Reject) for command in commands):
            assert event.request not in self.open, f"{event.request} is under way twice"
            self.open.add(event.request)
            self.world.begun(event.request)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Send(connection=connection, message=message):
                self.world.deliver(connection, message)
            case Watch(name=name, epoch=epoch, host=host):
                self.world.watched[host.pid] = (name, epoch)
            case Discard(media=media):
                self.world.release(media)
            case Preview() if self.desk.owns(command.request):
                self.taken |= {media.id for media in command.media}
                self.tell(command)
            case Preview():
                self.world.shown(command)
            case Answers():
                self.world.questions.answered(command, self.world.now, float("inf"))
            case Progress() | Reject() | Resolve() if self.desk.owns(command.request):
                if isinstance(command, Resolve) and isinstance(command.result, Completed):
                    self.taken |= {media.id for media in command.result.media}
                self.tell(command)
            case Resolve(request=id, result=result):
                self.open.remove(id)  # KeyError: it has its result already
                self.world.resolved(id, result)

    # ------------------------------------------------------------ the desk

    def tell(self, event: desk_events.Event) -> None:
        self.world.heard(event)
        for command in self.desk.handle(event, self.world.now):
            self._do_for_desk(command)

    def _do_for_desk(self, command: desk_commands.Command) -> None:
        match command:
            case desk_commands.Write():
                self.writes.append(command)
            case desk_commands.Store():
                self.stores.append(command)
            case Submit() | Cancel():
                self.do(command)
            case desk_commands.Release(media=media):
                self.taken -= {each.id for each in media}
                self.world.release(media)
            case desk_commands.Delete(files=files):
                self.disk.files -= {file.key for file in files}
            case desk_commands.Sweep(keep=keep):
                self.disk.files &= set(keep)
            case desk_commands.Answer(asker=asker, reply=reply):
                self.world.answered(asker, reply)
            case desk_commands.Notify(event=event):
                self.world.notified(event)

    # ------------------------------------------------------------ journal and storage

    def work(self) -> None:
        """The journal's thread, or a copy into the storage, gets on by one step."""
        if self.writes and (not self.stores or self.dice.random() < 0.6):
            self._commit(self.dice.randint(1, len(self.writes)))
        elif self.stores:
            self._copy(self.stores.popleft())

    def _commit(self, count: int) -> None:
        """A group of entries goes to the disk, or fails to."""
        group = [self.writes.popleft() for _ in range(count)]
        if self.world.faults and self.dice.random() < self.world.journal_fault_rate:
            if self.dice.random() < 0.3:  # the commit had happened, and only its answer was lost
                self.disk.entries += [write.entry for write in group]
            for write in group:
                self.tell(desk_events.WriteFailed(write.ticket, "scripted"))
            return
        self.disk.entries += [write.entry for write in group]
        for write in group:
            self.tell(desk_events.Written(write.ticket))

    def _copy(self, store: desk_commands.Store) -> None:
        if not all(self.world.exists(media) for media in store.media):
            self.taken -= {media.id for media in store.media}
            self.tell(desk_events.StoreFailed(store.request, "its process is gone", gone=True))
        elif self.world.faults and self.dice.random() < 0.05:
            self.tell(desk_events.StoreFailed(store.request, "scripted", gone=False))
        else:
            files = [_stored(media) for media in store.media]
            self.disk.files |= {file.key for file in files}
            self.tell(desk_events.Stored(store.request, files))

    def crash(self) -> None:
        """What was on its way to the disk may have arrived: all of it up to some point."""
        for _ in range(self.dice.randint(0, len(self.writes))):
            self.disk.entries.append(self.writes.popleft().entry)


def _stored(media: Media) -> StoredFile:
    return StoredFile(f"{media.id}.png", ImageMade(), media.mime, media.nbytes)


def _did_nothing(event: Event, commands: list[Command]) -> bool:
    """A beat that was answered, or a look at the clock: every other event is one. What they leave
    behind is looked at with the next event, and in one world of eight at once."""
    if isinstance(event, Tick):
        return not commands
    beat = isinstance(event, Received) and isinstance(event.message, Heartbeat)
    return beat and len(commands) <= 1
