"""Slot memory that others write into: one-sided, slow, late, broken off, or wrong."""

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transfer.backends import Stop, Unreachable
from transfer.errors import TransferFailed
from transfer.header import HEADER_BYTES
from transfer.messages import MooncakeAddress, PoolAddress
from transfer.pool import Outbox, SlotPool
from transfer.slots import Copy

if TYPE_CHECKING:
    from tests.simulation.engines.process import Process

PIECE_BYTES = 3000
GENERATION_AT = 16  # in the header: magic (8), version (4), attempt (4), generation (8)


@dataclass(eq=False)
class Write:
    """A payload on its way, piece by piece. `loose`: its sender has been told of an end, and the
    rest may land all the same. `source`: the sender's outbox slots, which have to stay as they
    are until the write has ended."""

    backend: "Backend"
    receiver: "Process"
    pieces: list[Copy]
    generation: int
    source: set[int]
    done: asyncio.Future[None]
    stop: Stop
    loose: bool = False
    over: bool = False

    def land(self) -> None:
        """The next piece arrives."""
        world, sender = self.backend.process.world, self.backend.process
        if self.over or not self.pieces:
            return
        if not sender.life.alive:
            self.over = True
        elif not self.receiver.life.alive:
            self._end(TransferFailed("it is gone", may_land=False))
        elif self.stop.asked and not self.loose:
            self._end(TransferFailed("stopped", may_land=False))
        else:
            world.lands(self)
            self._copy(self.pieces.pop(0))
            if not self.pieces:
                self._end(None)

    def _copy(self, piece: Copy) -> None:
        source, target, nbytes = piece
        world = self.backend.process.world
        view = self.receiver.pool.view
        view[target : target + nbytes] = self.backend.pool.view[source : source + nbytes]
        if world.strikes("corrupt"):
            view[target + world.dice.randrange(nbytes)] ^= 1 << world.dice.randrange(8)

    def break_off(self, may_land: bool) -> None:
        """It has failed. What may land does so any time later, or never."""
        if self.over or self.loose:
            return
        self.loose = may_land
        self._end(TransferFailed("scripted", may_land=may_land))
        self.over = not may_land

    def _end(self, error: TransferFailed | None) -> None:
        self.over = True
        self.backend.writes.pop(self, None)
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Backend:
    """`transfer.backends.Backend` for one process of the simulation."""

    name = "simulated"

    def __init__(self, process: "Process", pool: SlotPool) -> None:
        self.process = process
        self.pool = pool
        self.writes: dict[Write, None] = {}

    @property
    def mooncake(self) -> MooncakeAddress:
        return MooncakeAddress(str(self.process.life.pid), 0)

    def key(self, address: PoolAddress) -> Hashable | None:
        return None if address.mooncake is None else address.mooncake.session

    def reach(self, address: PoolAddress, seconds: float) -> "Peer":
        assert address.mooncake is not None
        process = self.process.world.processes.get(int(address.mooncake.session))
        if process is None or not process.life.alive or self.process.world.strikes("unreachable"):
            raise Unreachable("nobody is there")
        return Peer(self, process)

    def close(self) -> None:
        """Nothing is open."""


class Peer:
    """`transfer.backends.Peer`: the memory of another process, or of its own."""

    def __init__(self, backend: Backend, process: "Process") -> None:
        self._backend = backend
        self._process = process

    def alive(self) -> bool:
        return self._process.life.alive

    def start(
        self, copies: Sequence[Copy], until: float, stop: Stop
    ) -> "asyncio.Future[None] | None":
        world, loop = self._backend.process.world, asyncio.get_running_loop()
        pieces = [piece for copy in copies for piece in _cut(copy)]
        write = Write(
            self._backend,
            self._process,
            pieces,
            _generation(self._backend.pool, copies),
            {slot_at(self._backend.pool, piece.source) for piece in pieces},
            loop.create_future(),
            stop,
        )
        world.started(write)
        if world.dice.random() < 0.2 and not world.strikes("broken write"):
            for _ in range(len(pieces)):
                write.land()
            return write.done
        self._backend.writes[write] = None
        self._schedule(write)
        return write.done

    def _schedule(self, write: Write) -> None:
        """A network card goes on while its process is stopped; a thread that copies does not."""
        world = self._backend.process.world
        context = world.dice.choice([world.nobody, self._backend.process.life.context])
        at, broken = world.loop.now, world.strikes("broken write")
        last = world.dice.randrange(len(write.pieces)) if broken else -1
        may_land = world.dice.random() < 0.5
        for number in range(len(write.pieces)):
            at += world.dice.random() * world.dice.choice([0.001, 0.01, 0.2])
            if number == last:
                world.loop.call_at(at, write.break_off, may_land, context=context)
                at += world.dice.random() * world.dice.choice([0.01, 1.0, 10.0])
            if number < last or not broken:
                world.loop.call_at(at, write.land, context=context)
            else:
                world.loop.call_at(at, _late, write, context=context)


class WatchedOutbox(Outbox):
    """An outbox that knows when a slot is freed from which a write still goes on."""

    def __init__(self, process: "Process", *args: Any) -> None:
        super().__init__(*args)
        self._process = process
        self.total = self.free_slots

    def free(self, slots: Any) -> None:
        slots = list(slots)
        for write in self._process.backend.writes:
            if not write.done.done() and write.source & set(slots):
                self._process.world.wrong(f"{self._process} frees {slots}, which are being sent")
        super().free(slots)


def _late(write: Write) -> None:
    """Something of a write that failed arrives after all."""
    if write.loose:
        write.land()


def _cut(copy: Copy) -> list[Copy]:
    return [
        Copy(copy.source + at, copy.target + at, min(PIECE_BYTES, copy.nbytes - at))
        for at in range(0, copy.nbytes, PIECE_BYTES)
    ]


def slot_at(pool: SlotPool, offset: int) -> int:
    return (offset - pool.offset) // pool.slot_bytes


def header_of(pool: SlotPool, slots: Sequence[int]) -> bytes:
    """What stands at the beginning of the first of these slots."""
    return bytes(pool.segments(slots[:1], HEADER_BYTES)[0])


def generation_in(header: bytes) -> int:
    return int.from_bytes(header[GENERATION_AT : GENERATION_AT + 8], "little")


def _generation(pool: SlotPool, copies: Sequence[Copy]) -> int:
    at = copies[0].source
    return generation_in(bytes(pool.view[at : at + HEADER_BYTES]))
