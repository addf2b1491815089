"""One registered instance, and what the machine has given it to do."""

from orchestrator.core.attempts import Attempt
from orchestrator.core.slots import Borrowed, SlotTable
from transfer.messages import InstanceState, RankInfo, Register, Role

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
    must not keep a decoder idle. `moved_at`: when it said something of any attempt. `failed`: the
    requests that failed here, one after the other, by order; a success clears them.
    """

    def __init__(self, instance: "Instance", role: Role, capacity: int, order: int) -> None:
        self.instance = instance
        self.role: Role = role
        self.capacity = capacity
        self.order = order
        self.working: dict[Attempt, None] = {}
        self.parked: dict[Attempt, None] = {}
        self.pushing: dict[Attempt, None] = {}
        self.promised: dict[Attempt, None] = {}
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

    @property
    def room(self) -> tuple[bool, bool]:
        """Has it room for a request that is ready? For a promise, and one that is ready besides?"""
        instance, capacity = self.instance, self.capacity
        if not instance.available:
            return False, False
        imminent = len(self.working) + len(self.parked) + len(self.pushing)
        free = instance.slots.free if self.role in RECEIVERS else 2
        ahead = imminent + len(self.promised) < capacity and free > 1
        return imminent < capacity and free > 0, ahead

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
        self.parked.pop(attempt, None)
        self.pushing.pop(attempt, None)
        self.promised.pop(attempt, None)


class Instance:
    """One incarnation of a named instance, in one epoch.

    `slots` are those that others write into; `borrowed` the leases elsewhere that this instance
    may still write into; `outbox` the attempts whose staged payload it has. `heard` is when it last
    said anything.
    """

    def __init__(self, info: Register, epoch: int, connection: bytes, slots: SlotTable) -> None:
        self.info = info
        self.name = info.name
        self.endpoint = info.endpoint
        self.epoch = epoch
        self.key: Key = (info.endpoint, epoch)
        self.connection = connection
        self.slots = slots
        self.borrowed = Borrowed(epoch)
        self.outbox: dict[Attempt, None] = {}
        self.posts: dict[Role, Post] = {}
        self.ranks: list[RankInfo] = info.ranks
        self.reported: InstanceState = _first_state(info)
        self.live = True
        self.inherits = False  # leases of an older epoch, until it speaks in this one
        self.draining = False
        self.drain_told = self.drain_sent = False

    def __repr__(self) -> str:
        return f"{self.name} (epoch {self.epoch})"

    @property
    def available(self) -> bool:
        """May be given work."""
        return self.live and not self.draining and self.reported == "ready"

    @property
    def state(self) -> InstanceState:
        if not self.live:
            return "failed"
        if self.draining and self.reported in ("starting", "warming", "ready", "sleeping"):
            return "draining"
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

    def involved(self) -> list[Attempt]:
        """Every request that it works on, keeps, waits for or was promised, once each."""
        found = self.outbox.copy()
        for post in self.posts.values():
            found |= post.working | post.parked | post.pushing | post.promised
        return list(found)


def _first_state(info: Register) -> InstanceState:
    ready = all(rank.state == "ready" for rank in info.ranks)
    return "ready" if ready else "starting"
