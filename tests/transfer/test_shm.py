"""What only the shared-memory backend can meet."""

import asyncio
import errno
import gc
import os
import threading
import time
from types import SimpleNamespace

import msgspec
import pytest

from tests.support.descriptors import held_open
from tests.support.instance import Instance, digest
from tests.support.sending import SLOT_BYTES, Sender, grant
from transfer.backends import Stop, shm
from transfer.backends.shm import ShmBackend, ShmPeer
from transfer.errors import TransferFailed
from transfer.messages import PoolAddress, ShmAddress
from transfer.pool import SlotPool
from transfer.slots import Copy


@pytest.fixture
async def sender():
    async with Sender("shm") as made:
        yield made


@pytest.fixture
def pool():
    with SlotPool.create(4, SLOT_BYTES, 0) as made:
        yield made


def other(pool: SlotPool, **changes: object) -> PoolAddress:
    """The pool's address with something else in its shared-memory part."""
    address = pool.address()
    assert address.shm is not None
    return msgspec.structs.replace(address, shm=msgspec.structs.replace(address.shm, **changes))


async def refused(sender: Sender, address: PoolAddress) -> str:
    with pytest.raises(TransferFailed, match="cannot be reached") as failed:
        await sender.send(128, grant(address, [0]))
    assert not failed.value.may_land
    return str(failed.value)


async def test_another_nonce_is_not_the_same_host(sender: Sender, pool: SlotPool) -> None:
    before = digest(pool.segments([0]))
    assert "nonce differs" in await refused(sender, other(pool, nonce=bytes(16)))
    assert digest(pool.segments([0])) == before


@pytest.mark.parametrize("nonce", [b"", b"x" * 15, b"x" * 17])
async def test_a_nonce_of_another_length_is_refused(
    sender: Sender, pool: SlotPool, nonce: bytes
) -> None:
    await refused(sender, other(pool, nonce=nonce))


@pytest.mark.parametrize("pid", [0, -1, 1 << 22, 1 << 40])
async def test_no_such_process(sender: Sender, pool: SlotPool, pid: int) -> None:
    assert "no process" in await refused(sender, other(pool, pid=pid))


async def test_no_such_descriptor(sender: Sender, pool: SlotPool) -> None:
    assert "cannot be opened" in await refused(sender, other(pool, fd=1 << 20))


async def test_another_length_is_refused(sender: Sender, pool: SlotPool) -> None:
    await refused(sender, other(pool, nbytes=pool.nbytes + 1))


async def test_a_descriptor_that_is_a_pipe_does_not_block(sender: Sender, pool: SlotPool) -> None:
    reading, writing = os.pipe()
    try:
        assert "not a slot pool" in await refused(sender, other(pool, fd=reading))
    finally:
        os.close(reading)
        os.close(writing)


async def test_memory_that_could_shrink_is_refused(sender: Sender, pool: SlotPool) -> None:
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, pool.nbytes)
        os.pwrite(fd, pool.nonce, 0)
        await refused(sender, other(pool, fd=fd))
    finally:
        os.close(fd)


async def test_an_address_beyond_the_segment_is_refused(sender: Sender, pool: SlotPool) -> None:
    address = msgspec.structs.replace(pool.address(), slots=1 << 20)
    with pytest.raises(TransferFailed) as failed:
        await sender.send(128, grant(address, [1 << 19]))
    assert not failed.value.may_land
    await sender.send(128, grant(pool.address(), [0]))


async def test_an_address_into_the_nonce_is_refused(sender: Sender, pool: SlotPool) -> None:
    for offset in (0, 4095, -(1 << 20)):
        address = msgspec.structs.replace(pool.address(), offset=offset)
        with pytest.raises(TransferFailed) as failed:
            await sender.send(128, grant(address, [0]))
        assert not failed.value.may_land
    assert os.pread(pool.fd, 16, 0) == pool.nonce


async def test_an_address_without_shared_memory_is_refused(sender: Sender, pool: SlotPool) -> None:
    address = msgspec.structs.replace(pool.address(), shm=None)
    assert "no way in common" in await refused(sender, address)


async def test_a_stopped_receiver_is_written_to(sender: Sender) -> None:
    with Instance("shm") as receiver:
        receiver.stop()
        await sender.send(1 << 20, grant(receiver.address))
        receiver.wake()
        found = receiver.call("digest", slots=list(range(24)), nbytes=1 << 20)
        assert found == sender.digest(1 << 20)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in many small steps, and never on the event loop."""
    monkeypatch.setattr(shm, "CHUNK_BYTES", SLOT_BYTES)
    monkeypatch.setattr(shm, "INLINE_BYTES", 0)


@pytest.mark.usefixtures("small_chunks")
async def test_a_receiver_killed_in_the_middle(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Instance("shm") as receiver:
        looks = []

        def alive(peer: ShmPeer) -> bool:
            looks.append(peer)
            if len(looks) == 4:
                receiver.kill()
            return truly_alive(peer)

        truly_alive = ShmPeer.alive
        monkeypatch.setattr(ShmPeer, "alive", alive)
        with pytest.raises(TransferFailed, match="has died") as failed:
            await sender.send(24 * SLOT_BYTES, grant(receiver.address))
        assert len(looks) == 4
        assert not failed.value.may_land


@pytest.mark.usefixtures("small_chunks")
async def test_a_send_cancelled_in_the_middle_writes_no_more(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_middle, go_on, looks = threading.Event(), threading.Event(), []

    def alive(peer: ShmPeer) -> bool:
        looks.append(peer)
        if len(looks) == 4:
            in_the_middle.set()
            assert go_on.wait(30)
        return True

    monkeypatch.setattr(ShmPeer, "alive", alive)
    with SlotPool.create(24, SLOT_BYTES, 0) as pool:
        sending = asyncio.create_task(sender.send(24 * SLOT_BYTES, grant(pool.address())))
        await asyncio.to_thread(in_the_middle.wait, 30)
        sending.cancel()
        await asyncio.sleep(0)
        assert not sending.done()  # the thread still holds the slots
        sending.cancel()  # twice changes nothing
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert digest(pool.segments([0, 1, 2, 3])) == sender.digest(4 * SLOT_BYTES)
        assert not any(any(segment) for segment in pool.segments(range(4, 24)))


@pytest.mark.usefixtures("small_chunks")
async def test_a_sender_that_slept_too_long_stops_writing(
    sender: Sender, pool: SlotPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=time.monotonic)
    monkeypatch.setattr(shm, "time", clock)
    asleep = []

    def alive(peer: ShmPeer) -> bool:
        asleep.append(peer)
        if len(asleep) == 3:
            clock.monotonic = lambda: time.monotonic() + 3600
        return True

    monkeypatch.setattr(ShmPeer, "alive", alive)
    with pytest.raises(TransferFailed, match="too long") as failed:
        await sender.send(4 * SLOT_BYTES, grant(pool.address()))
    assert not failed.value.may_land
    assert not any(pool.segments([3])[0])


async def test_descriptors_come_home() -> None:
    gc.collect()
    before = held_open()
    for _ in range(3):
        async with Sender("shm") as sender:
            with SlotPool.create(4, SLOT_BYTES, 0) as pool:
                await sender.send(128, grant(pool.address(), [0]))
            await refused(sender, other(pool, fd=1 << 20))
    gc.collect()
    assert held_open() <= before


async def test_remembered_peers_are_bounded(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.transport.MAX_PEERS", 2)
    pools = [SlotPool.create(1, SLOT_BYTES, 0) for _ in range(4)]
    gc.collect()
    start = held_open()
    for pool in pools:
        await sender.send(128, grant(pool.address(), [0]))
    assert len(held_open() - start) == 2 * 2  # of each peer, its process and its memory
    for pool in pools:
        pool.close()


def test_an_unopenable_process_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "not allowed")

    monkeypatch.setattr(shm.os, "open", refuse)
    with SlotPool.create(1, SLOT_BYTES, 0) as pool, SlotPool.create(1, SLOT_BYTES, 0) as own:
        backend = ShmBackend(own)
        with pytest.raises(shm.Unreachable, match="not allowed"):
            backend.reach(pool.address(), 1)
    assert isinstance(pool.address().shm, ShmAddress)


def test_its_own_pool_is_not_mapped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("it opened its own pool")

    with SlotPool.create(1, SLOT_BYTES, 1) as pool:
        backend = ShmBackend(pool)
        monkeypatch.setattr(shm, "_open", refuse)
        peer = backend.reach(pool.address(), 1)
        pool.segments([1])[0][:5] = b"hello"
        [target], [source] = pool.spans([0], 5), pool.spans([1], 5)
        assert peer.start([Copy(source[0], target[0], 5)], time.monotonic() + 9, Stop()) is None
        assert bytes(pool.segments([0])[0][:5]) == b"hello"
        del peer
        backend.close()
