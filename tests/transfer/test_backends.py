"""The contract of a backend, between two real processes. Every test runs against each of them."""

import asyncio
import time

import pytest

from tests.support.instance import FILL, Instance, digest
from tests.support.sending import SLOT_BYTES, Sender, grant
from transfer.errors import TransferFailed
from transfer.header import HEADER_BYTES

# bodies: none, one byte, around a page and around a slot, and over many slots
BODIES = [0, 1, 4095, 4096, 4097, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 1 << 20]
SIZES = [HEADER_BYTES + body for body in BODIES]


def untouched(nbytes: int) -> str:
    return digest([memoryview(bytes([FILL]) * nbytes)])


@pytest.mark.parametrize("nbytes", SIZES)
async def test_every_size_arrives(sender: Sender, receiver: Instance, nbytes: int) -> None:
    await sender.send(nbytes, grant(receiver.address))
    slots = list(range(receiver.address.slots))
    assert receiver.call("digest", slots=slots, nbytes=nbytes) == sender.digest(nbytes)


async def test_nothing_beside_the_payload_is_written(sender: Sender, receiver: Instance) -> None:
    nbytes = SLOT_BYTES + 1
    await sender.send(nbytes, grant(receiver.address, [3, 5]))
    assert receiver.call("digest", slots=[3, 5], nbytes=nbytes) == sender.digest(nbytes)
    others = [slot for slot in range(receiver.address.slots) if slot not in (3, 5)]
    expected = untouched(len(others) * SLOT_BYTES)
    assert receiver.call("digest", slots=others) == expected


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ([2, 3, 4], [9, 10, 11]),
        ([2, 4, 6], [11, 9, 7]),
        ([6, 3, 4], [0, 1, 5]),
        ([2, 3, 4], [8, 1, 20]),
    ],
    ids=["adjacent", "apart and backwards", "partly adjacent", "scattered"],
)
async def test_slots_need_not_be_neighbours(
    sender: Sender, receiver: Instance, source: list[int], target: list[int]
) -> None:
    nbytes = 3 * SLOT_BYTES - 17
    await sender.send(nbytes, grant(receiver.address, target), source)
    found = receiver.call("digest", slots=target, nbytes=nbytes)
    assert found == sender.digest(nbytes, source)


async def test_the_source_may_be_reused_after_send(sender: Sender, receiver: Instance) -> None:
    nbytes = 20 * SLOT_BYTES
    sent = sender.digest(nbytes)
    await sender.send(nbytes, grant(receiver.address))
    for segment in sender.pool.segments(sender.slots):
        segment[:] = bytes(len(segment))
    assert receiver.call("digest", slots=list(range(20)), nbytes=nbytes) == sent


async def test_many_sends_at_once_do_not_mix(sender: Sender, receiver: Instance) -> None:
    pairs = [(sender.slots[i], receiver.address.slots - 1 - i) for i in range(16)]
    await asyncio.gather(
        *(
            sender.send(SLOT_BYTES, grant(receiver.address, [there]), [here])
            for here, there in pairs
        )
    )
    for here, there in pairs:
        found = receiver.call("digest", slots=[there])
        assert found == sender.digest(SLOT_BYTES, [here])


@pytest.mark.parametrize(
    ("slots", "nbytes"),
    [([0], SLOT_BYTES + 1), ([], 128), ([24], 128), ([-1], 128), ([1 << 60], 128), ([0, 0], 128)],
    ids=["too small", "no slot", "past the inbox", "negative", "far away", "twice"],
)
async def test_a_grant_that_does_not_fit_is_refused(
    sender: Sender, receiver: Instance, slots: list[int], nbytes: int
) -> None:
    with pytest.raises(TransferFailed, match="does not fit") as failed:
        await sender.send(nbytes, grant(receiver.address, slots))
    assert not failed.value.may_land
    everything = list(range(receiver.address.slots))
    assert receiver.call("digest", slots=everything) == untouched(24 * SLOT_BYTES)


async def test_an_expired_grant_is_refused_before_a_byte_is_written(
    sender: Sender, receiver: Instance
) -> None:
    late = grant(receiver.address, seconds=5)
    with pytest.raises(TransferFailed, match="expired") as failed:
        await sender.transport.send(sender.slots, 128, late, time.monotonic() - 5)
    assert not failed.value.may_land
    assert receiver.call("digest", slots=[0]) == untouched(SLOT_BYTES)


async def test_a_cancelled_send_has_ended_when_it_returns(
    sender: Sender, receiver: Instance
) -> None:
    await sender.send(128, grant(receiver.address, [0]))
    slots = list(range(1, 24))
    sending = asyncio.create_task(sender.send(23 * SLOT_BYTES, grant(receiver.address, slots)))
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait([sending])
    found = receiver.call("digest", slots=slots)
    sender.shuffle()
    await sender.send(128, grant(receiver.address, [0]))  # the peer still serves
    assert receiver.call("digest", slots=slots) == found


# ---------------------------------------------------------------- faults


async def test_a_peer_that_died_idle(kind: str, sender: Sender, receiver: Instance) -> None:
    with Instance(kind) as mortal:
        await sender.send(128, grant(mortal.address))
        mortal.kill()
        for _ in range(5):
            start = time.monotonic()
            with pytest.raises(TransferFailed) as failed:
                await sender.send(1 << 20, grant(mortal.address))
            assert time.monotonic() - start < 5
        # forgotten after the first failure, so it is known now that nothing was written
        assert not failed.value.may_land
    await sender.send(1 << 20, grant(receiver.address))
    found = receiver.call("digest", slots=list(range(24)), nbytes=1 << 20)
    assert found == sender.digest(1 << 20)


async def test_a_peer_that_was_never_there(kind: str, sender: Sender) -> None:
    with Instance(kind) as mortal:
        address = mortal.address
    start = time.monotonic()
    with pytest.raises(TransferFailed, match="cannot be reached") as failed:
        await sender.send(128, grant(address))
    assert not failed.value.may_land
    assert time.monotonic() - start < 5


async def test_a_peer_that_restarted_is_another_peer(kind: str, sender: Sender) -> None:
    with Instance(kind) as first:
        await sender.send(128, grant(first.address))
    with Instance(kind) as second:
        with pytest.raises(TransferFailed):
            await sender.send(1 << 20, grant(first.address))
        await sender.send(1 << 20, grant(second.address))
        found = second.call("digest", slots=list(range(24)), nbytes=1 << 20)
        assert found == sender.digest(1 << 20)


async def test_instances_come_and_go_during_transfers(
    kind: str, sender: Sender, receiver: Instance
) -> None:
    async def steady() -> None:
        for _ in range(30):
            await sender.send(1 << 20, grant(receiver.address))

    sending = asyncio.create_task(steady())
    for _ in range(2):
        with Instance(kind) as passing:
            await sender.send(1 << 20, grant(passing.address))
    await sending
    found = receiver.call("digest", slots=list(range(24)), nbytes=1 << 20)
    assert found == sender.digest(1 << 20)


async def test_a_sender_that_is_killed_leaves_the_receiver_usable(
    kind: str, sender: Sender, receiver: Instance
) -> None:
    everything = list(range(24))
    with Instance(kind, slots=1, outbox_slots=24) as doomed:
        granted = grant(receiver.address)
        packed = {"slots": everything[1:], "nbytes": 23 * SLOT_BYTES}
        doomed.start_call("send", grant=granted, **packed)
        doomed.kill()
    await sender.send(24 * SLOT_BYTES, grant(receiver.address))
    assert receiver.call("digest", slots=everything) == sender.digest(24 * SLOT_BYTES)


async def test_an_instance_ends_in_order(kind: str, sender: Sender) -> None:
    with Instance(kind) as leaving:
        await sender.send(1 << 20, grant(leaving.address))
        assert leaving.finish() == 0


async def test_an_instance_that_sent_ends_in_order(kind: str, receiver: Instance) -> None:
    with Instance(kind, slots=1, outbox_slots=4) as leaving:
        sent = leaving.call("send", slots=[1], nbytes=128, grant=grant(receiver.address))
        assert "seconds" in sent
        assert leaving.finish() == 0


async def test_an_instance_sends_to_itself(kind: str, sender: Sender) -> None:
    await sender.send(2 * SLOT_BYTES, grant(sender.transport.address(), [1, 0]))
    assert digest(sender.pool.segments([1, 0])) == sender.digest(2 * SLOT_BYTES)
