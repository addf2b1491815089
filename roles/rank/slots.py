"""Where a rank reads payloads and what came with requests from: its leader's slots and files, or,
on another host, rank 0."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from roles.calls import InputFile
from roles.rank import enclosed
from transfer.messages import Delivery
from transfer.pool import SlotPool

if TYPE_CHECKING:
    from roles.rank.world import World


class Slots:
    """The leader's slots as one rank sees them. `pool`: None on a host where they are not; there
    rank 0 sends what is read. `read` and `file` are called by all ranks of `world` for the same
    deliveries and files."""

    def __init__(self, pool: SlotPool | None, world: "World | None") -> None:
        self._pool = pool
        self._world = world
        self._spreads = world is not None and world.here < world.parallel.ranks

    def read(self, delivery: Delivery) -> list[memoryview]:
        """The bytes of a payload, in order; whoever uses them checks their checksum. Raises as
        `SlotPool.segments` does."""
        if not self._spreads or (self._pool is not None and self._rank > 0):
            return self._own(delivery.slots, delivery.nbytes)
        return self._spread(delivery.nbytes, lambda: self._own(delivery.slots, delivery.nbytes))

    def file(self, file: InputFile) -> bytes:
        """Raises `PayloadError`: it is not what its hash says."""
        if not self._spreads or (self._pool is not None and self._rank > 0):
            return enclosed.read(file)
        segments = self._spread(file.upload.nbytes, lambda: [memoryview(enclosed.read(file))])
        return enclosed.checked(file.upload, b"".join(segments))

    def to_write(self, slots: Sequence[int], nbytes: int) -> list[memoryview]:
        """Only rank 0 writes."""
        return self._own(slots, nbytes)

    def _spread(self, nbytes: int, own: Callable[[], list[memoryview]]) -> list[memoryview]:
        """An error of rank 0 is told to it alone: zeros have another checksum, so that the others
        have an error of their own, and none of them waits for what does not come."""
        assert self._world is not None
        segments, error = None, None
        if self._rank == 0:
            try:
                segments = own()
            except Exception as reason:
                error = reason
        found = self._world.spread(nbytes, segments)
        if error is not None:
            raise error
        return found

    def _own(self, slots: Sequence[int], nbytes: int) -> list[memoryview]:
        assert self._pool is not None, "there are no slots on this host"
        return self._pool.segments(slots, nbytes)

    @property
    def _rank(self) -> int:
        return 0 if self._world is None else self._world.rank
