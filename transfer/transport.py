"""Sends payloads from the outbox into the slots that a grant names, by the best way there is."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, NoReturn

import msgspec

from transfer.addresses import is_loopback
from transfer.backends import Backend, Peer, Stop, Unreachable
from transfer.backends.mooncake import MooncakeBackend
from transfer.backends.shm import ShmBackend
from transfer.errors import BackendMissing, PayloadTooLarge, TransferFailed
from transfer.messages import Grant, PoolAddress
from transfer.pool import SlotPool
from transfer.slots import Copy, copies, spans
from transfer.threads import in_thread

Kind = Literal["auto", "shm", "mooncake"]

CONTACT_S = 3.0
WRITE_S = 30.0
SLOWEST_BYTES_PER_S = 50e6  # what a write's bound allows for, beyond WRITE_S
MAX_PEERS = 64

log = logging.getLogger(__name__)


class _Way(NamedTuple):
    """A backend that may reach an address, and under which key its peer is remembered."""

    backend: Backend
    key: Hashable


class Transport:
    """What a leader sends payloads with.

    `transfer`: "shm" (same host only), "mooncake" (always through the network), or "auto": shared
    memory where the receiver is on the same host, Mooncake otherwise; where Mooncake cannot run,
    auto says once how to mend that and goes on without. `host` is the address under which other
    hosts reach this one; if that is a loopback address, no other host does, and auto opens no port
    for it. Raises `BackendMissing` if Mooncake was asked for by name and cannot run.

    Peers are remembered by what identifies their process (a nonce, a session), so an instance that
    restarted under its name is another peer; a peer that failed is forgotten.

    Close it before the pool, from the event loop that used it.
    """

    def __init__(
        self,
        pool: SlotPool,
        transfer: Kind = "auto",
        host: str = "127.0.0.1",
        *,
        contact_s: float = CONTACT_S,
        write_s: float = WRITE_S,
    ) -> None:
        self._pool = pool
        self._kind = transfer
        self._contact_s = contact_s
        self._write_s = write_s
        self._backends = _backends(pool, transfer, host)
        self._peers: OrderedDict[Hashable, Peer] = OrderedDict()
        self._contacts: dict[Hashable, asyncio.Future[Peer]] = {}
        self._sends: set[asyncio.Future[None]] = set()

    @property
    def backends(self) -> list[str]:
        """The names of the backends that run, in the order in which they are tried."""
        return [backend.name for backend in self._backends]

    def address(self) -> PoolAddress:
        """The pool's address for `Register`, with the ways that this transport offers."""
        sessions = [backend.mooncake for backend in self._backends if backend.mooncake]
        address = self._pool.address(mooncake=sessions[0] if sessions else None)
        return address if "shm" in self.backends else msgspec.structs.replace(address, shm=None)

    async def send(
        self, slots: Sequence[int], nbytes: int, grant: Grant, received_at: float
    ) -> None:
        """Writes the payload of `nbytes` in these outbox slots into the slots of the grant.

        `received_at`: `time.monotonic()` when the grant came; once `grant.seconds` have passed
        since then, no byte is written. Returns when every byte is in the receiver's slots: only
        then, or after an error, may the outbox slots be freed.

        Raises `TransferFailed`. Cancelled, it first waits until the write has ended, so that
        afterwards nothing of it is written; where that cannot be had (a Mooncake write that
        neither ends nor fails), it raises `TransferFailed` with `may_land` instead.
        """
        plan = self._plan(slots, nbytes, grant)
        until = received_at + grant.seconds
        _check_grant(grant, until)
        way, peer = await self._peer(grant)
        _check_grant(grant, until)  # first contact may have taken its time
        bound = time.monotonic() + self._write_s + nbytes / SLOWEST_BYTES_PER_S
        try:
            stop = Stop()
            write = peer.start(plan, bound, stop)
            if write is not None:
                await self._end_of(write, bound, stop)
        except TransferFailed as error:
            self._forget(way.key)
            message = f"{way.backend.name} to {grant.receiver}: {error}"
            raise TransferFailed(message, may_land=error.may_land) from error

    async def close(self) -> None:
        """Waits for the writes under way (each has its bound), then lets go of everything."""
        if self._sends:
            await asyncio.wait(self._sends)
        self._peers.clear()
        for backend in self._backends:
            backend.close()
        self._backends = []

    def _plan(self, slots: Sequence[int], nbytes: int, grant: Grant) -> list[Copy]:
        there = grant.pool
        try:
            target = spans(
                grant.slots,
                nbytes,
                count=there.slots,
                slot_bytes=there.slot_bytes,
                offset=there.offset,
            )
            return copies(self._pool.spans(slots, nbytes), target)
        except (ValueError, PayloadTooLarge) as error:
            message = f"the grant of {grant.receiver} does not fit: {error}"
            raise TransferFailed(message, may_land=False) from error

    async def _peer(self, grant: Grant) -> tuple[_Way, Peer]:
        """The first backend that reaches the receiver, and the peer."""
        reasons = []
        for backend in self._backends:
            key = backend.key(grant.pool)
            if key is None:
                continue
            way = _Way(backend, key)
            try:
                return way, self._remembered(key) or await self._contact(way, grant.pool)
            except Unreachable as error:
                reasons.append(f"{backend.name}: {error}")
        _unreachable(grant.receiver, reasons)

    def _remembered(self, key: Hashable) -> Peer | None:
        if key in self._peers:
            self._peers.move_to_end(key)
        return self._peers.get(key)

    async def _contact(self, way: _Way, address: PoolAddress) -> Peer:
        """First contact, made once however many sends wait for it."""
        if way.key not in self._contacts:
            contact = in_thread(way.backend.reach, address, self._contact_s)
            contact.add_done_callback(lambda done: self._contacted(way.key, done))
            self._contacts[way.key] = contact
        return await asyncio.shield(self._contacts[way.key])

    def _contacted(self, key: Hashable, contact: asyncio.Future[Peer]) -> None:
        del self._contacts[key]
        self._forget_the_dead()
        if not contact.cancelled() and contact.exception() is None:
            self._peers[key] = contact.result()
            while len(self._peers) > MAX_PEERS:
                self._peers.popitem(last=False)

    def _forget(self, key: Hashable) -> None:
        self._peers.pop(key, None)

    def _forget_the_dead(self) -> None:
        """Whoever starts again is a new peer; the memory of the old one would stay mapped."""
        for key in [key for key, peer in self._peers.items() if not peer.alive()]:
            self._forget(key)

    async def _end_of(self, write: asyncio.Future[None], bound: float, stop: Stop) -> None:
        self._sends.add(write)
        write.add_done_callback(self._sends.discard)
        # the engine may keep the call itself for longer than the write's bound
        last = bound + self._contact_s
        cancelled = False
        while not write.done() and time.monotonic() < last:
            try:
                await asyncio.wait([write], timeout=last - time.monotonic())
            except asyncio.CancelledError:
                cancelled = True
                stop.asked = True
        if not write.done():
            self._sends.discard(write)  # nobody will wait for it again
            write.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise TransferFailed("the write does not return", may_land=True)
        failure = write.exception()
        if cancelled and not (isinstance(failure, TransferFailed) and failure.may_land):
            raise asyncio.CancelledError
        write.result()


def _backends(pool: SlotPool, transfer: Kind, host: str) -> list[Backend]:
    found: list[Backend] = [ShmBackend(pool)] if transfer in ("auto", "shm") else []
    if transfer == "mooncake" or (transfer == "auto" and not is_loopback(host)):
        try:
            found.append(MooncakeBackend(pool, host))
        except BackendMissing as error:
            if transfer == "mooncake":
                raise
            log.warning("%s (until then, only instances on this host can be reached)", error)
    return found


def _check_grant(grant: Grant, until: float) -> None:
    if time.monotonic() >= until:
        message = f"the grant of {grant.receiver} (generation {grant.generation}) has expired"
        raise TransferFailed(message, may_land=False)


def _unreachable(receiver: str, reasons: list[str]) -> NoReturn:
    why = "; ".join(reasons) or "no way in common"
    if len(reasons) < 2 and not any(reason.startswith("mooncake") for reason in reasons):
        why += "; between hosts, both ends need Mooncake and an --advertise that others can reach"
    raise TransferFailed(f"{receiver} cannot be reached: {why}", may_land=False)
