"""Slots are leased, never assumed.

A slot that was granted is free again only when its sender has said that it is done with it, or
the sender is gone for good. Until then it is quarantined: a one-sided write may still land.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from orchestrator.core.instances import Instance

LeaseState = Literal["granted", "delivered", "quarantined", "free"]


class SlotError(Exception):
    """A lease was moved in a way that no protocol allows: a bug of ours."""


class Borrowed(dict[int, "Lease"]):
    """Leases by generation, seen from the sender that may still write into them: an instance in
    one epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch


class Lease:
    """Some slots of one receiver, lent to one sender for one payload of one attempt.

    granted → delivered → free: written, then read. granted → free: the sender gave it back.
    granted → quarantined → free: no longer wanted, but the sender has not confirmed yet.
    `pinned`: a write into it failed and may still land, so that not even the sender's word frees
    it, only the end of the sender's process (or of the receiver's). `epoch` is the sender's epoch
    in which it was granted. `yields`: what was delivered gives way to whoever needs its slots.
    """

    __slots__ = (
        "attempt",
        "checksum",
        "epoch",
        "generation",
        "nbytes",
        "pinned",
        "request",
        "sender",
        "slots",
        "state",
        "table",
        "yields",
    )

    def __init__(
        self,
        generation: int,
        request: str,
        attempt: int,
        slots: list[int],
        table: "SlotTable",
        sender: Borrowed,
    ) -> None:
        self.generation = generation
        self.request = request
        self.attempt = attempt
        self.slots = slots
        self.table = table
        self.sender = sender
        self.epoch = sender.epoch
        self.state: LeaseState = "granted"
        self.pinned = False
        self.yields = False
        self.nbytes = 0
        self.checksum = 0

    @property
    def room(self) -> int:
        """Bytes that fit."""
        return len(self.slots) * self.table.slot_bytes

    def deliver(self, nbytes: int, checksum: int) -> None:
        """The sender has written the payload and will not write there again."""
        self._move("delivered", "granted")
        del self.sender[self.generation]
        self.nbytes, self.checksum = nbytes, checksum

    def offer(self) -> None:
        """What was delivered may never be read: its slots count as free."""
        self._move("delivered", "delivered")
        self.yields = True
        self.table.yielding += len(self.slots)

    def claim(self) -> None:
        """What was offered will be read after all."""
        if self.yields:
            self.yields = False
            self.table.yielding -= len(self.slots)

    def quarantine(self, pinned: bool = False) -> None:
        """Nobody wants what may come, but the sender may still write it."""
        self.pinned = self.pinned or pinned
        if self.state == "quarantined":
            return
        self._move("quarantined", "granted")
        self.table.quarantined += len(self.slots)

    def release(self) -> None:
        """The slots are free: the payload was read, or the sender will not write."""
        quarantined = self.state == "quarantined"
        self._move("free", "granted", "delivered", "quarantined")
        self.claim()
        if quarantined:
            self.table.quarantined -= len(self.slots)
        self.sender.pop(self.generation, None)
        self.table.take_back(self)

    def move_to(self, sender: Borrowed) -> None:
        """The sender's process goes on under a new epoch, and so does what it may still write."""
        del self.sender[self.generation]
        self.sender = sender
        sender[self.generation] = self

    def _move(self, to: LeaseState, *allowed: LeaseState) -> None:
        if self.state not in allowed:
            raise SlotError(f"grant {self.generation} of {self.request}: {self.state} → {to}")
        self.state = to


class SlotTable:
    """The slots of one receiver. empty + leased + quarantined = total, always.

    `yielding` are leased ones that can be had at once. `owner` is the live instance whose memory
    this is; None while it is lost.
    """

    def __init__(self, total: int, slot_bytes: int) -> None:
        self.total = total
        self.slot_bytes = slot_bytes
        self.quarantined = 0
        self.yielding = 0
        self.owner: Instance | None = None
        self.leases: dict[int, Lease] = {}
        self._free = list(range(total - 1, -1, -1))

    @property
    def nbytes(self) -> int:
        return self.total * self.slot_bytes

    @property
    def empty(self) -> int:
        """Those that are lent to nobody."""
        return len(self._free)

    @property
    def free(self) -> int:
        """Those that a payload may have: empty ones, and what gives way."""
        return len(self._free) + self.yielding

    @property
    def leased(self) -> int:
        return self.total - len(self._free) - self.quarantined

    @property
    def pinned(self) -> int:
        """Those in quarantine for as long as their sender's process lives."""
        return sum(len(lease.slots) for lease in self.leases.values() if lease.pinned)

    def need(self, nbytes: int) -> int:
        """How many slots a payload of that size takes."""
        return max(1, -(-nbytes // self.slot_bytes))

    def lend(
        self, generation: int, request: str, attempt: int, count: int, sender: Borrowed
    ) -> Lease:
        """Leases `count` empty slots. Asking for more than there are is a bug of the caller."""
        if not 0 < count <= len(self._free):
            raise SlotError(f"{count} slots for {request}, {len(self._free)} free")
        slots = [self._free.pop() for _ in range(count)]
        lease = Lease(generation, request, attempt, slots, self, sender)
        self.leases[generation] = sender[generation] = lease
        return lease

    def take_back(self, lease: Lease) -> None:
        """Called by the lease when it is released."""
        del self.leases[lease.generation]
        self._free.extend(lease.slots)

    def complaints(self) -> list[str]:
        """What does not add up; empty when every slot is in exactly one place."""
        if not (self.leases or self.quarantined or self.yielding):
            every = len(self._free) == len(set(self._free)) == self.total
            return [] if every else [f"slots {sorted(self._free)} free of {self.total}"]
        lent, held, yielding = [], 0, 0
        for lease in self.leases.values():
            lent += lease.slots
            held += len(lease.slots) if lease.state == "quarantined" else 0
            yielding += len(lease.slots) if lease.yields else 0
        found = []
        if sorted(lent + self._free) != list(range(self.total)):
            found.append(f"slots {sorted(lent)} lent and {sorted(self._free)} free of {self.total}")
        if yielding != self.yielding:
            found.append(f"{yielding} slots give way, counted {self.yielding}")
        if held != self.quarantined:
            found.append(f"{held} slots quarantined, counted {self.quarantined}")
        return found
