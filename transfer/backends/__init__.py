"""The ways to carry bytes from one instance's slots into another's, behind one small interface.

A backend knows its own kind of address inside a `PoolAddress`. `reach` makes a `Peer` of it, once;
every payload after that is one `Peer.write`. All calls that may take long are made off the event
loop, by `transfer.transport.Transport`, which owns backends and peers.
"""

import asyncio
from collections.abc import Hashable, Sequence
from typing import Protocol

from transfer.messages import MooncakeAddress, PoolAddress
from transfer.slots import Copy


class Unreachable(Exception):
    """This backend cannot write to that address; the message says why. Nothing was written."""


class Stop:
    """Asks a write to end early. Set by the event loop, looked at by the thread that writes."""

    __slots__ = ("asked",)

    def __init__(self) -> None:
        self.asked = False


class Peer(Protocol):
    """A receiver's memory; let go of when the last reference to the peer goes."""

    def start(
        self, copies: Sequence[Copy], until: float, stop: Stop
    ) -> "asyncio.Future[None] | None":
        """Copies from the own segment into the receiver's.

        Called in the event loop, and holds it up for a millisecond at most: None if all bytes are
        there by then, else a future, not to be cancelled, of when they will be. It is done by
        `until` (monotonic seconds), or earlier if `stop` asks and that can be. The call or the
        future raises `TransferFailed`, which says whether more bytes may land.
        """

    def alive(self) -> bool:
        """False if the receiver is certain to be gone: its memory need not be kept."""


class Backend(Protocol):
    """Made for one pool; the pool outlives it."""

    name: str

    @property
    def mooncake(self) -> MooncakeAddress | None:
        """What peers need to write to this pool through Mooncake, if this is that backend."""

    def key(self, address: PoolAddress) -> Hashable | None:
        """What identifies the receiver's process for this backend; None: not reachable this way."""

    def reach(self, address: PoolAddress, seconds: float) -> Peer:
        """First contact. Blocks for at most `seconds`. Raises `Unreachable`."""

    def close(self) -> None:
        """Ends the backend. No write is under way."""
