"""Room for payloads that have to go: one outbox for each role that sends."""

import pytest

from roles.leader.attempt import Attempt
from roles.leader.outbox import OutboxLine, outboxes
from tests.support.bench import INPUTS
from transfer.errors import PayloadTooLarge
from transfer.messages import Role, Work
from transfer.pool import SlotPool

SLOT_BYTES = 4096


def attempt(request: str, role: Role) -> Attempt:
    return Attempt(Work(1, request, 1, role, False, INPUTS, 60.0), epoch=1)


async def test_encodings_leave_room_for_what_was_denoised() -> None:
    with SlotPool.create(1, SLOT_BYTES, 4) as pool:
        line = OutboxLine(outboxes(pool, ("encoder", "denoiser", "decoder")))
        encodings = [attempt(name, "encoder") for name in "abc"]
        rooms = [line.reserve(each, SLOT_BYTES) for each in encodings]
        assert [room.done() for room in rooms] == [True, True, False]
        denoised = attempt("d", "denoiser")
        assert line.reserve(denoised, 2 * SLOT_BYTES).done()
        assert not set(denoised.slots) & {slot for each in encodings for slot in each.slots}
        line.leave(encodings[0])
        assert rooms[2].done()


async def test_a_role_alone_has_all_slots() -> None:
    with SlotPool.create(1, SLOT_BYTES, 4) as pool:
        line = OutboxLine(outboxes(pool, ("denoiser",)))
        assert line.reserve(attempt("a", "denoiser"), 4 * SLOT_BYTES).done()
        with pytest.raises(PayloadTooLarge):
            line.reserve(attempt("b", "denoiser"), 4 * SLOT_BYTES + 1)


async def test_one_that_sends_nothing_may_leave() -> None:
    with SlotPool.create(1, SLOT_BYTES, 0) as pool:
        OutboxLine(outboxes(pool, ("decoder",))).leave(attempt("a", "decoder"))
