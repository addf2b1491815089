"""Writes of the engine that fail, and payloads that are kept for another one."""

import asyncio

import pytest
from msgspec.structs import replace

from tests.support.engine_room import EngineRoom, failure
from transfer.header import check_header
from transfer.messages import (
    Abort,
    Aborted,
    Delivered,
    Delivery,
    Grant,
    Push,
    PushFailed,
    Release,
    Role,
    Staged,
)

# ---------------------------------------------------------------- writes that fail


@pytest.mark.parametrize("may_land", [False, True])
async def test_a_failed_write_keeps_the_payload_for_the_next_grant(may_land: bool) -> None:
    async with EngineRoom() as room:
        room.sender.failures = [failure(may_land)]
        grant, second = room.grant("r"), room.grant("r")
        room.accept(room.work("r", "encoder", grant))
        told = await room.hear(PushFailed)
        assert (told.generation, told.may_land) == (grant.generation, may_land)
        assert "the wire broke" in told.error.message
        room.engine.push(Push(5, "r", 1, "encoder", 1, second), 5)
        assert (await room.hear(Delivered)).generation == second.generation
        await room.at_home()


async def test_a_write_that_fails_in_an_unknown_way_may_land() -> None:
    async with EngineRoom() as room:
        room.sender.failures = [ZeroDivisionError("scripted")]
        room.accept(room.work("r", "encoder", room.grant("r")))
        assert (await room.hear(PushFailed)).may_land


async def test_a_push_that_does_not_fit_is_not_written() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("r", "encoder"))
        await room.hear(Staged)
        room.engine.push(Push(5, "r", 1, "encoder", 1, room.grant("r", slots=0)), 5)
        told = await room.hear(PushFailed)
        assert not told.may_land
        assert "1000 bytes into a grant of 0" in told.error.message


async def test_a_push_for_nothing_is_given_back() -> None:
    async with EngineRoom() as room:
        grant = room.grant("r")
        room.engine.push(Push(5, "r", 1, "encoder", 1, grant), 5)
        told = await room.hear(PushFailed)
        assert (told.generation, told.may_land) == (grant.generation, False)


async def test_a_push_that_is_said_twice_is_written_once() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("r", "encoder"))
        await room.hear(Staged)
        room.sender.go.clear()
        push = Push(5, "r", 1, "encoder", 1, room.grant("r"))
        room.engine.push(push, 5)
        await room.sender.writing.wait()
        room.engine.push(push, 5)
        room.sender.go.set()
        await room.hear(Delivered)
        assert len(room.sender.sent) == 1
        assert not room.said


# ---------------------------------------------------------------- what was delivered is kept


async def _delivered(room: EngineRoom, name: str, role: Role = "encoder") -> None:
    room.accept(room.work(name, role, room.grant(name)))
    await room.hear(Delivered)


def _grant(room: EngineRoom, name: str, attempt: int) -> Grant:
    return replace(room.grant(name), attempt=attempt)


async def test_a_delivered_payload_can_go_elsewhere_for_a_later_attempt() -> None:
    async with EngineRoom() as room:
        await _delivered(room, "r")
        room.ranks.done.clear()
        grant = _grant(room, "r", 3)
        room.engine.push(Push(5, "r", 3, "encoder", 1, grant), 5)
        told = await room.hear(Delivered)
        assert (told.attempt, told.generation, told.checksum) == (3, grant.generation, 4711)
        assert not room.ranks.done  # nothing was computed again
        slots, nbytes, _ = room.sender.sent[1]
        (view,) = room.pool.segments(slots, nbytes)
        check_header(view, "r", 3, Delivery(grant.generation, [0], 1000, 4711))
        room.engine.push(Push(5, "r", 4, "encoder", 3, _grant(room, "r", 4)), 5)
        assert (await room.hear(Delivered)).attempt == 4
        await room.at_home()


async def test_a_kept_payload_can_be_aborted_and_fail_like_any_other() -> None:
    async with EngineRoom() as room:
        await _delivered(room, "r")
        room.sender.failures.append(failure(may_land=False))
        room.engine.push(Push(5, "r", 2, "encoder", 1, _grant(room, "r", 2)), 5)
        told = await room.hear(PushFailed)
        assert (told.attempt, told.nbytes) == (2, 1000)
        room.engine.abort(Abort(5, "r", 2, ""), 5)
        await room.hear(Aborted)
        assert (room.line.kept, room.outbox.free_slots) == (0, 4)


async def test_released_payloads_are_not_kept() -> None:
    async with EngineRoom() as room:
        await _delivered(room, "a")
        await _delivered(room, "b")
        assert (room.line.kept, room.outbox.free_slots) == (2, 2)
        room.engine.release(Release(5, [("denoiser", "a", 1), ("encoder", "unknown", 1)]))
        assert room.line.kept == 2
        room.engine.release(Release(5, [("encoder", "a", 1), ("encoder", "b", 1)]))
        assert (room.line.kept, room.outbox.free_slots) == (0, 4)


async def test_kept_payloads_make_room_the_oldest_first() -> None:
    async with EngineRoom() as room:
        for name in "abcde":
            await _delivered(room, name)
        assert room.line.kept == 4
        room.engine.push(Push(5, "a", 2, "encoder", 1, _grant(room, "a", 2)), 5)
        told = await room.hear(PushFailed)
        assert (told.attempt, told.nbytes, told.may_land, told.role) == (2, 0, False, "encoder")
        room.engine.push(Push(5, "b", 2, "encoder", 1, _grant(room, "b", 2)), 5)
        assert (await room.hear(Delivered)).request == "b"


async def test_what_was_aborted_is_not_kept() -> None:
    async with EngineRoom() as room:
        room.sender.go.clear()
        room.accept(room.work("r", "encoder", room.grant("r")))
        await asyncio.wait_for(room.sender.writing.wait(), 10)
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        room.sender.go.set()
        await room.hear(Aborted)
        assert (room.line.kept, room.outbox.free_slots) == (0, 4)
