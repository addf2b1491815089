"""The sending side of a transfer test: a pool whose outbox holds random bytes, and grants."""

import os
import time
from collections.abc import Sequence
from typing import Self

from tests.support.instance import digest
from transfer.messages import Grant, PoolAddress
from transfer.pool import SlotPool
from transfer.transport import Kind, Transport

SLOT_BYTES = 64 << 10


class Sender:
    """A pool with random bytes in its outbox, and a transport."""

    def __init__(self, transfer: Kind, slots: int = 24, host: str = "127.0.0.1") -> None:
        self.pool = SlotPool.create(2, SLOT_BYTES, slots)
        self.transport = Transport(self.pool, transfer, host)
        self.slots = list(range(2, 2 + slots))
        self.shuffle()

    def shuffle(self) -> None:
        """Other random bytes."""
        for segment in self.pool.segments(self.slots):
            segment[:] = os.urandom(len(segment))

    async def send(self, nbytes: int, grant: Grant, slots: Sequence[int] | None = None) -> None:
        await self.transport.send(slots or self.slots, nbytes, grant, time.monotonic())

    async def close(self) -> None:
        await self.transport.close()
        self.pool.close()

    def digest(self, nbytes: int, slots: Sequence[int] | None = None) -> str:
        return digest(self.pool.segments(slots or self.slots, nbytes))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def grant(pool: PoolAddress, slots: Sequence[int] | None = None, seconds: float = 30.0) -> Grant:
    return Grant(
        request="r",
        attempt=1,
        generation=7,
        receiver="receiver",
        receiver_epoch=1,
        slots=list(range(pool.slots) if slots is None else slots),
        seconds=seconds,
        pool=pool,
    )
