"""The orchestrator's core on a bench: events in, commands out, everything checked after each."""

from collections import defaultdict
from typing import Any

from msgspec.structs import replace

from orchestrator.core import integrity
from orchestrator.core.commands import (
    Command,
    Completed,
    Discard,
    Log,
    Preview,
    Reject,
    Resolve,
    Send,
)
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
from orchestrator.core.models import Model
from orchestrator.core.view import InstanceView
from transfer.made import ImageMade
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    Delivered,
    ErrorInfo,
    Failed,
    Finished,
    Grant,
    Heartbeat,
    HostInfo,
    Inputs,
    Left,
    Media,
    ModelInfo,
    Parameter,
    PoolAddress,
    Progressed,
    PushFailed,
    RankInfo,
    Register,
    Role,
    Staged,
    StageReport,
    Welcome,
    Work,
)

PARAMETERS = [Parameter("prompt", "str", True)]
MODEL = ModelInfo("demo", "DemoPipeline", "f00d", "image", PARAMETERS)
OTHER = replace(MODEL, name="other", fingerprint="beef")
INPUTS = Inputs({"prompt": "a red circle"}, seed=7)
PICTURE = Media("m1", ImageMade(128, 128), "image/png", 1000, endpoint="tcp://decoder:1")
KIB = 1024


def register(name: str, *roles: Role, **changes: Any) -> Register:
    """What a leader says first: 8 slots of 1 KiB, capacity 2, one ready rank."""
    capacity = changes.pop("capacity", 2)
    slots, slot_bytes = changes.pop("slots", 8), changes.pop("slot_bytes", KIB)
    fields: dict[str, Any] = {
        "name": name,
        "incarnation": f"{name}/1",
        "last_epoch": 0,
        "endpoint": f"tcp://{name}:1",
        "roles": list(roles),
        "capacity": {role: capacity for role in roles},
        "model": MODEL,
        "pool": PoolAddress(slots, slot_bytes, 4096),
        "ranks": [RankInfo(0, 100, "ready")],
        "host": HostInfo("host", "boot", 99, 1),
    }
    return Register(**(fields | changes))


class Scripted:
    """One leader that says what the test tells it to. `inbox` is what it was sent."""

    def __init__(self, bench: "Bench", info: Register, connection: bytes) -> None:
        self.bench = bench
        self.info = info
        self.name = info.name
        self.connection = connection
        self.epoch = 0
        self.inbox: list[Any] = []

    def register(self, **changes: Any) -> "Scripted":
        fields = {f: getattr(self.info, f) for f in self.info.__struct_fields__}
        self.info = Register(**(fields | {"last_epoch": self.epoch} | changes))
        self.say(self.info)
        return self

    def say(self, message: Any) -> list[Command]:
        return self.bench.do(Received(self.connection, message))

    def take(self, kind: type) -> Any:
        """Takes the oldest message of that kind out of the inbox; there has to be one."""
        for index, message in enumerate(self.inbox):
            if isinstance(message, kind):
                return self.inbox.pop(index)
        raise AssertionError(f"{self.name} got no {kind.__name__}: {self.inbox}")

    def got(self, kind: type) -> list[Any]:
        return [message for message in self.inbox if isinstance(message, kind)]

    def delivers(
        self, work: Work, nbytes: int = 100, *, grant: Grant | None = None, **changes: Any
    ) -> list[Command]:
        """Says that the payload lies in the slots of the grant, by default the work's own."""
        grant = grant or work.grant
        assert grant is not None
        fields: dict[str, Any] = {
            "epoch": self.epoch,
            "request": work.request,
            "attempt": work.attempt,
            "role": work.role,
            "generation": grant.generation,
            "nbytes": nbytes,
            "checksum": 1,
            "report": StageReport(compute_s=1.0),
        }
        return self.say(Delivered(**(fields | changes)))

    def stages(self, work: Work, nbytes: int = 100, released: int | None = None) -> list[Command]:
        about = (self.epoch, work.request, work.attempt, work.role)
        return self.say(Staged(*about, nbytes, released, StageReport(compute_s=1.0)))

    def steps(self, work: Work, step: int, steps: int = 20) -> list[Command]:
        about = (self.epoch, work.request, work.attempt, work.role)
        return self.say(Progressed(*about, step, steps))

    def fails(self, work: Work, kind: Any = "rank_failed", released: int | None = None) -> None:
        about = (self.epoch, work.request, work.attempt, work.role)
        self.say(Failed(*about, ErrorInfo(kind, "scripted"), released))

    def push_fails(self, work: Work, grant: Grant, may_land: bool, nbytes: int = 100) -> None:
        about = (self.epoch, work.request, work.attempt, work.role, grant.generation)
        self.say(PushFailed(*about, may_land, nbytes, ErrorInfo("transfer_failed", "scripted")))

    def accepts(self, work: Work) -> None:
        """Says that the payload is out of the slots."""
        assert work.delivery is not None
        about = (self.epoch, work.request, work.attempt, work.role)
        self.say(Accepted(*about, work.delivery.generation))

    def aborted(self, work: Work, released: int | None = None) -> None:
        """Answers the Abort that it must have got."""
        self.take(Abort)
        self.say(Aborted(self.epoch, work.request, work.attempt, released))

    def finishes(self, work: Work) -> list[Command]:
        about = (self.epoch, work.request, work.attempt, work.role)
        return self.say(Finished(*about, [PICTURE], StageReport(compute_s=1.0)))

    @property
    def seen(self) -> InstanceView:
        """What the cluster view says of it."""
        return self.bench.seen(self.name)


Trio = tuple[Scripted, Scripted, Scripted]


class Bench:
    """A machine, its clock, and everyone who is connected to it.

    Requests are tried once, unless a test says otherwise.
    """

    def __init__(self, **config: Any) -> None:
        self.machine = Machine(Config(**({"max_attempts": 1} | config)))
        self.now = 100.0
        self.scripted: dict[bytes, Scripted] = {}
        self.results: dict[str, list[Completed | ErrorInfo]] = defaultdict(list)
        self.refused: dict[str, Any] = {}
        self.previews: list[Preview] = []
        self.discarded: list[Media] = []
        self.logs: list[Log] = []

    def do(self, event: Event) -> list[Command]:
        commands = self.machine.handle(event, self.now)
        for command in commands:
            self._carry_out(command)
        integrity.check(self.machine.books)
        return commands

    def join(self, name: str, *roles: Role, **changes: Any) -> Scripted:
        """A leader that registers and, if it is welcome, knows its epoch."""
        connection = changes.pop("connection", name.encode())
        leader = Scripted(self, register(name, *roles, **changes), connection)
        self.scripted[connection] = leader
        leader.say(leader.info)
        return leader

    def trio(self, **changes: Any) -> Trio:
        """An encoder, a denoiser and a decoder."""
        return (
            self.join("encoder-0", "encoder", **changes),
            self.join("denoiser-0", "denoiser", **changes),
            self.join("decoder-0", "decoder", **changes),
        )

    def submit(self, id: str, deadline_s: float = 60.0, previews: int = 0, model: str = "") -> None:
        self.do(Submit(id, INPUTS, deadline_s, previews=previews, model=model))

    def cancel(self, id: str) -> None:
        self.do(Cancel(id, "the client has gone"))

    def wait(self, seconds: float) -> None:
        """Time passes and nobody says anything."""
        self.now += seconds
        self.do(Tick())

    def drain(self, name: str) -> None:
        self.do(DrainInstance(name))

    def do_leave(self, leader: Scripted, epoch: int) -> None:
        """The leader, or the one that came after it, says goodbye."""
        self.do(Received(leader.connection, Left(epoch, "scripted")))

    def do_disconnect(self, leader: Scripted) -> None:
        """Its connection breaks, and nobody knows what became of it."""
        self.do(Disconnected(leader.connection))

    def remove(self, name: str) -> None:
        self.do(RemoveInstance(name))

    def end(self, leader: Scripted) -> None:
        """The leader's process is dead, and that can be proved."""
        self.do(SenderGone(leader.name, leader.epoch))

    def beat(self, seconds: float, *leaders: Scripted) -> None:
        """Time passes while these leaders beat once a second."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1.0)
            for leader in leaders:
                leader.say(Heartbeat(leader.epoch))
            self.do(Tick())

    def result(self, id: str) -> Completed | ErrorInfo:
        """The one and only result of a request."""
        assert len(self.results[id]) == 1, self.results[id]
        return self.results[id][0]

    def error(self, id: str) -> ErrorInfo:
        result = self.result(id)
        assert isinstance(result, ErrorInfo)
        return result

    def count(self, name: str) -> int:
        return self.machine.counters[name]

    @property
    def model(self) -> Model:
        """What the core knows of the one that all but a few tests have."""
        return self.machine.books.registry.models[MODEL.name]

    def seen(self, name: str) -> InstanceView:
        roles = self.machine.view().roles.values()
        return next(x for posts in roles for x in posts if x.name == name)

    def assert_home(self) -> None:
        """Nothing is under way, and all slots and capacity are free."""
        assert self.machine.idle
        integrity.check(self.machine.books)
        for posts in self.machine.view().roles.values():
            for instance in posts:
                slots = instance.slots
                assert (instance.in_flight, slots.leased, slots.quarantined) == (0, 0, 0), instance

    def _carry_out(self, command: Command) -> None:
        match command:
            case Send(connection=connection, message=message):
                leader = self.scripted.get(connection)
                if leader is not None:
                    leader.inbox.append(message)
                    if isinstance(message, Welcome):
                        leader.epoch = message.epoch
            case Resolve(request=id, result=result):
                self.results[id].append(result)
            case Reject(request=id, refusal=refusal):
                self.refused[id] = refusal
            case Preview():
                self.previews.append(command)
            case Discard(media=media):
                self.discarded += media
            case Log():
                self.logs.append(command)


def to_denoiser(bench: Bench, trio: Trio, id: str = "a") -> Work:
    """A request whose encoding has been delivered; the denoiser's work."""
    encoder, denoiser, _ = trio
    bench.submit(id)
    encoder.delivers(encoder.take(Work))
    work: Work = denoiser.take(Work)
    return work
