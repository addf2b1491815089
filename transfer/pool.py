"""The slots of an instance: one sealed, preallocated piece of shared memory.

The leader creates the pool and its ranks attach to it by the inherited file descriptor. A sender
on the same host opens it too (`transfer.backends.shm`); another host writes into it through
Mooncake, with which it is registered once.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Iterable, Sequence
from typing import Self

from transfer import memory
from transfer.errors import PayloadTooLarge, PoolError
from transfer.messages import MooncakeAddress, PoolAddress, ShmAddress
from transfer.slots import Span, spans

PAGE_BYTES = 4096
NONCE_BYTES = 16
# F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW: nobody can truncate the memory under those who map it
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

# of the memory that is free, how much a pool may take
SHARE = 0.9

# after the nonce: slots, slot_bytes, outbox_slots
_GEOMETRY = struct.Struct("<QQQ")


class SlotPool:
    """Equal slots that others may write to (the inbox), and slots to send from (the outbox).

    Inbox slots are numbered 0 … slots-1, outbox slots slots … slots+outbox_slots-1. The segment is
    `PAGE_BYTES` about the pool, beginning with a random nonce by which a peer recognises it, then
    the slots. All of it is allocated at creation, so a full machine is a `PoolError` then and not
    a SIGBUS later. The memory goes when the last process that maps it ends; nothing has a name
    that could be left behind.

    The leader creates the pool, gives out its address and closes it; ranks attach to it. Both fill
    and read `segments`.
    """

    def __init__(
        self, fd: int, nonce: bytes, slots: int, slot_bytes: int, outbox_slots: int
    ) -> None:
        self.fd = fd
        self.nonce = nonce
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.outbox_slots = outbox_slots
        self.offset = PAGE_BYTES
        self.nbytes = PAGE_BYTES + (slots + outbox_slots) * slot_bytes
        self._map = mmap.mmap(fd, self.nbytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._view = memoryview(self._map)

    @classmethod
    def create(cls, slots: int, slot_bytes: int, outbox_slots: int) -> Self:
        """A new pool. `slot_bytes` is rounded up to whole pages. Raises `PoolError`."""
        if slots < 1 or slot_bytes < 1 or outbox_slots < 0:
            raise PoolError(f"a pool of {slots}+{outbox_slots} slots of {slot_bytes} bytes")
        slot_bytes = -(-slot_bytes // PAGE_BYTES) * PAGE_BYTES
        fd = _allocate(PAGE_BYTES + (slots + outbox_slots) * slot_bytes)
        nonce = secrets.token_bytes(NONCE_BYTES)
        os.pwrite(fd, nonce + _GEOMETRY.pack(slots, slot_bytes, outbox_slots), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return cls(fd, nonce, slots, slot_bytes, outbox_slots)

    @classmethod
    def attach(cls, fd: int) -> Self:
        """The pool behind an inherited descriptor, which from now on belongs to this object."""
        try:
            page = os.pread(fd, NONCE_BYTES + _GEOMETRY.size, 0)
            slots, slot_bytes, outbox_slots = _GEOMETRY.unpack(page[NONCE_BYTES:])
            sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
        except (OSError, struct.error) as error:
            raise PoolError(f"descriptor {fd} is not a slot pool: {error}") from error
        expected = PAGE_BYTES + (slots + outbox_slots) * slot_bytes
        if not sealed or os.fstat(fd).st_size != expected:
            raise PoolError(f"descriptor {fd} is not a slot pool")
        return cls(fd, page[:NONCE_BYTES], slots, slot_bytes, outbox_slots)

    def segments(self, slots: Sequence[int], nbytes: int | None = None) -> list[memoryview]:
        """The writable bytes of a payload in these slots, in order; all bytes if `nbytes` is None.

        Raises as `transfer.slots.spans` does.
        """
        return [self._view[at : at + size] for at, size in self.spans(slots, nbytes)]

    def spans(self, slots: Sequence[int], nbytes: int | None = None) -> list[Span]:
        """Where in the segment these slots lie."""
        return spans(
            slots,
            len(slots) * self.slot_bytes if nbytes is None else nbytes,
            count=self.slots + self.outbox_slots,
            slot_bytes=self.slot_bytes,
            offset=self.offset,
        )

    def address(self, mooncake: MooncakeAddress | None = None) -> PoolAddress:
        """What others need to write into the inbox; `Transport.address` adds Mooncake's part."""
        shm = ShmAddress(pid=os.getpid(), fd=self.fd, nonce=self.nonce, nbytes=self.nbytes)
        return PoolAddress(
            slots=self.slots,
            slot_bytes=self.slot_bytes,
            offset=self.offset,
            shm=shm,
            mooncake=mooncake,
        )

    @property
    def view(self) -> memoryview:
        """The whole segment."""
        return self._view

    @property
    def base(self) -> int:
        """The address at which this process maps the segment."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def close(self) -> None:
        """Gives the memory back. Views that are still out keep their bytes until they go."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        try:
            self._view.release()
            self._map.close()
        except BufferError:
            pass  # unmapped when the last view goes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Outbox:
    """Which outbox slots hold payloads that still have to go. Used by the leader's one thread.

    It rules over `count` of the pool's outbox slots from the `first` on; over all by default. When
    nothing is staged, all of them are in `free_slots`.
    """

    def __init__(self, pool: SlotPool, first: int = 0, count: int | None = None) -> None:
        self._slot_bytes = pool.slot_bytes
        count = pool.outbox_slots - first if count is None else count
        if first < 0 or count < 0 or first + count > pool.outbox_slots:
            raise ValueError(f"{count} from {first} on, of {pool.outbox_slots} outbox slots")
        self._all = range(pool.slots + first, pool.slots + first + count)
        self._free = set(self._all)

    @property
    def limit(self) -> int:
        """The largest payload, in bytes, that an empty outbox takes."""
        return len(self._all) * self._slot_bytes

    @property
    def free_slots(self) -> int:
        return len(self._free)

    def need(self, nbytes: int) -> int:
        """How many slots a payload of that size takes."""
        return max(1, -(-nbytes // self._slot_bytes))

    def allocate(self, nbytes: int) -> list[int] | None:
        """Slots for a payload, neighbours where there are; None if others hold too many now.

        Raises `PayloadTooLarge` if it would not fit even into an empty outbox.
        """
        if nbytes > self.limit:
            raise PayloadTooLarge(nbytes, self.limit)
        count = self.need(nbytes)
        if count > len(self._free):
            return None
        taken = _neighbours(sorted(self._free), count)
        self._free.difference_update(taken)
        return taken

    def free(self, slots: Iterable[int]) -> None:
        """Takes slots back. Raises ValueError if one of them was not allocated."""
        slots = list(slots)
        wrong = [s for s in slots if s not in self._all or s in self._free]
        if wrong or len(set(slots)) != len(slots):
            raise ValueError(f"outbox slots {slots} freed, not allocated: {wrong}")
        self._free.update(slots)


def _neighbours(free: list[int], count: int) -> list[int]:
    """The first run of `count` neighbours among sorted slots, or simply the first `count`."""
    for start in range(len(free) - count + 1):
        if free[start + count - 1] - free[start] == count - 1:
            return free[start : start + count]
    return free[:count]


def _allocate(nbytes: int) -> int:
    """An anonymous file of `nbytes`, every page of it allocated. Raises `PoolError`."""
    # asked for more than there is, the kernel does not refuse: it kills somebody
    room = memory.available()
    if nbytes > room * SHARE:
        raise PoolError(_no_room(nbytes, f"{memory.readable(room)} are free"))
    fd = os.memfd_create("triptych-slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, nbytes)
        os.posix_fallocate(fd, 0, nbytes)
    except (OSError, OverflowError) as error:
        os.close(fd)
        raise PoolError(_no_room(nbytes, _reason(error))) from error
    return fd


def _no_room(nbytes: int, reason: str) -> str:
    wanted = memory.readable(nbytes)
    return f"the slots need {wanted} of memory: {reason}; lower --slots or --slot-bytes"


def _reason(error: OSError | OverflowError) -> str:
    name = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
    return f"{error} ({name})"
