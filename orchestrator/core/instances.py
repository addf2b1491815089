"""One registered instance, and what the machine has given it to do."""

from typing import TYPE_CHECKING

from orchestrator.core.attempts import Attempt
from orchestrator.core.crowds import Crowd, Tally
from orchestrator.core.history import Change
from orchestrator.core.slots import Borrowed, SlotTable
from transfer.costs import Shape
from transfer.messages import (
    PRIORITIES,
    CacheReport,
    InstanceState,
    Priority,
    RankInfo,
    Register,
    Role,
)

if TYPE_CHECKING:
    from orchestrator.core.models import Model

Key = tuple[str, int]  # (endpoint, epoch)
SUSPECT = 3  # requests
RECEIVERS: frozenset[Role] = frozenset({"denoiser", "decoder"})
PORTABLE: frozenset[Role] = frozenset({"denoiser"})


class Post:
    """An instance in one role: its capacity there, and the attempts that count against it.

    `working`: given to it, and not confirmed to be over: the capacity in use.
    `parked`: payload in its slots, waiting for capacity. `pushing`: payload being written.
    `promised`: a grant travelled with the work of the role before; the payload will come.
    A promise holds slots, but those that are ready now go first: a denoiser that takes a minute
    must not keep a decoder idle. `looking`: previews that it makes of what it computes anyway; they
    take no place. `moved_at`: when it said something of any attempt. `failed`: the requests that
    failed here, one after the other, by order; a success clears them.

    Each class of requests has the whole capacity for itself, because what is of a lower one gives
    way inside the instance. `shapes` counts what those that are here compute. `pace`: the seconds
    that it takes for what is predicted to take one. `listed`: the shapes under which the roster
    has it.
    """

    def __init__(self, instance: "Instance", role: Role, capacity: int, order: int) -> None:
        self.instance = instance
        self.role: Role = role
        self.capacity = capacity
        self.order = order
        self._tally = Tally()
        self.shapes = self._tally.shapes
        self.working = Crowd(role, self._tally)
        self.parked = Crowd(role, self._tally)
        self.pushing = Crowd(role, self._tally)
        self.promised = Crowd(role, self._tally)
        self.looking: dict[Attempt, None] = {}
        self.pace = 1.0
        self.listed: set[Shape] = set()
        self.moved_at = 0.0
        self.failed: set[int] = set()

    @property
    def suspect(self) -> bool:
        """Different requests failed here, and none succeeded since: others are preferred."""
        return len(self.failed) >= SUSPECT

    @property
    def imminent(self) -> int:
        return len(self.working) + len(self.parked) + len(self.pushing)

    @property
    def load(self) -> int:
        return self.imminent + len(self.promised)

    def backlog(self, priority: Priority) -> float:
        """Seconds of work that goes before a newcomer of this class, or beside it."""
        return self.pace * self._tally.seconds(priority)

    def room(self, priority: Priority = "normal") -> tuple[bool, bool]:
        """Has it room for a request that is ready? For a promise, and one that is ready besides?"""
        instance, capacity = self.instance, self.capacity
        if not instance.available:
            return False, False
        imminent = self._imminent(priority)
        free = instance.slots.free if self.role in RECEIVERS else 2
        ahead = imminent + self.promised.count(priority) < capacity and free > 1
        return imminent < capacity and free > 0, ahead

    def has_place(self, priority: Priority) -> bool:
        """Has it room for a request of this class, once its payload finds slots?"""
        return self.instance.available and self._imminent(priority) < self.capacity

    def _imminent(self, priority: Priority) -> int:
        crowds = (self.working, self.parked, self.pushing)
        return sum(crowd.count(priority) for crowd in crowds)

    @property
    def idle(self) -> bool:
        """Nothing is here, or is to come."""
        here = self.working or self.parked or self.pushing or self.promised or self.looking
        return not here and self._tally.empty

    def complaints(self) -> list[str]:
        """What does not add up of its seconds."""
        crowds = [x for x in (self.working, self.parked, self.pushing, self.promised) if x]
        found, total = [], 0.0
        for priority in PRIORITIES:
            for crowd in crowds:
                total += crowd.costs(priority)
            if abs(total - self._tally.seconds(priority)) > 1e-6 * max(1.0, total):
                found.append(f"{total} s up to class {priority}, not {self._tally}")
        if sum(self.shapes.values()) != sum(len(crowd) for crowd in crowds):
            found.append(f"{self.load} requests of shapes {self.shapes}")
        return found

    def next_parked(self) -> Attempt | None:
        """Whose payload is here, and who has capacity now."""
        for priority in PRIORITIES if self.parked else ():
            if self.parked.count(priority) and self.working.count(priority) < self.capacity:
                return self.parked.first(priority)
        return None

    def fits(self, nbytes: int) -> bool:
        """A payload of that size would find its slots. What comes first has no payload."""
        slots = self.instance.slots
        return self.role not in RECEIVERS or slots.need(nbytes) <= slots.free

    def could_take(self, nbytes: int) -> bool:
        """It is ready, and such a payload would find its slots some time, without anybody's death:
        those that are pinned come back only with the end of a process."""
        slots = self.instance.slots
        fits = self.role not in RECEIVERS or slots.need(nbytes) <= slots.total - slots.pinned
        return self.instance.available and fits

    def forget(self, attempt: Attempt) -> None:
        """Nothing comes or waits any more; `working` ends only by the instance's word."""
        self.instance.copies.pop(attempt, None)
        self.parked.pop(attempt, None)
        self.pushing.pop(attempt, None)
        self.promised.pop(attempt, None)


class Instance:
    """One incarnation of a named instance of a model, in one epoch.

    `slots` are those that others write into; `borrowed` the leases elsewhere that this instance
    may still write into; `outbox` the attempts whose staged payload it has. `heard` is when it last
    said anything. `encodings`: how its encoder's cache stood at its last heartbeat. `warmed`: how
    far its warm-up is.

    `copies` of other instances' checkpoints lie here or are on their way, the oldest first;
    `uncopied` are attempts here with a checkpoint of which there is no copy yet; `estranged` says
    until when no copy is sent to somebody to whom one could not be written (`core.copies`).

    `holds`: the adapters of its ranks, name and digest; `weights`: the digests of its components'
    weights, where they are not the model's own. It is `equipped` if all that the others have is
    among them, `tidy` if nothing else is; `equipping` while that is mended, which is tried again at
    `equip_at`. `resting`: it is about to sleep, and finishes what it has (`core.sleeping`).
    `renewing`: it was told to begin anew, and has not said yet that it does.
    """

    def __init__(
        self, info: Register, epoch: int, connection: bytes, slots: SlotTable, model: "Model"
    ) -> None:
        self.info = info
        self.model = model
        self.name = info.name
        self.endpoint = info.endpoint
        self.epoch = epoch
        self.key: Key = (info.endpoint, epoch)
        self.connection = connection
        self.slots = slots
        self.borrowed = Borrowed(epoch)
        self.outbox: dict[Attempt, None] = {}
        self.copies: dict[Attempt, None] = {}
        self.uncopied: dict[Attempt, None] = {}
        self.estranged: dict[Key, float] = {}
        self.posts: dict[Role, Post] = {}
        self.ranks: list[RankInfo] = info.ranks
        self.reported: InstanceState = _first_state(info)
        self.noted: Change | None = None  # the last change of its state
        self.encodings: CacheReport | None = None
        self.warmed: tuple[int, int] | None = None
        self.live = True
        self.healthy = True
        self.inherits = False  # leases of an older epoch, until it speaks in this one
        self.draining = False
        self.drain_told = self.drain_sent = False
        self.holds: dict[str, str] = {}
        self.weights: dict[str, str] = {}
        self.equipped = self.tidy = True
        self.equipping, self.equip_at = False, 0.0
        self.resting = False
        self.renewing = False

    def __repr__(self) -> str:
        return f"{self.name} (epoch {self.epoch})"

    @property
    def available(self) -> bool:
        """May be given work."""
        ready = self.reported == "ready" and self.equipped and not self.resting
        return self.live and self.healthy and not self.draining and ready

    @property
    def state(self) -> InstanceState:
        if not self.live:
            return "failed"
        if self.draining and self.reported in ("starting", "warming", "ready", "sleeping"):
            return "draining"
        if self.reported == "ready" and self.resting:
            return "sleeping"
        if self.reported == "ready" and not self.equipped:
            return "warming"
        return self.reported

    @property
    def expecting(self) -> bool:
        """Payloads are on their way to it, or wait in its slots for capacity, or in its outbox for
        a receiver: it does not count those that it has delivered before, and only keeps."""
        waits = any(p.parked or p.pushing or p.promised for p in self.posts.values())
        return waits or bool(self.outbox)

    @property
    def moving(self) -> bool:
        """It works on what may go on elsewhere."""
        return any(post.working for role, post in self.posts.items() if role in PORTABLE)

    @property
    def busy(self) -> int:
        """How many requests its ranks are at work on, or will be."""
        return sum(post.load + len(post.looking) for post in self.posts.values())

    def involved(self) -> list[Attempt]:
        """Every request that it works on, keeps, waits for or was promised, once each."""
        found = self.outbox | self.copies
        for post in self.posts.values():
            found |= post.working | post.looking | post.parked | post.pushing | post.promised
        return list(found)


def _first_state(info: Register) -> InstanceState:
    if any(rank.state == "sleeping" for rank in info.ranks):
        return "sleeping"
    ready = all(rank.state == "ready" for rank in info.ranks)
    return "ready" if ready else "starting"
