"""Slots: where they are, the permission to write there, and what was written."""

from transfer.codec import Record


class ShmAddress(Record, frozen=True):
    """A memfd that a process of the same user on the same host can open as /proc/PID/fd/FD.

    The segment begins with `nonce`; whoever opens it compares, so a recycled pid or another
    host's pid is never mistaken for the owner.
    """

    pid: int
    fd: int
    nonce: bytes
    nbytes: int


class MooncakeAddress(Record, frozen=True):
    """The session of the owner's transfer engine, and the registered base address."""

    session: str
    base: int


class PoolAddress(Record, frozen=True):
    """An instance's slots, and the ways to write to them. Slot i begins at
    `offset + i * slot_bytes` of the segment."""

    slots: int
    slot_bytes: int
    offset: int
    shm: ShmAddress | None = None
    mooncake: MooncakeAddress | None = None


class Grant(Record, frozen=True):
    """The permission to write one request's payload into given slots of a receiver.

    `generation` is unique among all grants of the orchestrator's life. `seconds` after its
    receipt the grant is void: the sender starts no write then.
    """

    request: str
    attempt: int
    generation: int
    receiver: str
    receiver_epoch: int
    slots: list[int]
    seconds: float
    pool: PoolAddress


class Delivery(Record, frozen=True):
    """What lies in the receiver's slots for this request, as its sender described it."""

    generation: int
    slots: list[int]
    nbytes: int
    checksum: int
