"""Which requests an instance keeps checkpoints of, and what becomes of these."""

import asyncio
from itertools import pairwise

import pytest

from roles.leader.attempt import Attempt
from tests.support.engine_room import SLOT_BYTES, EngineRoom
from transfer.header import check_header
from transfer.messages import (
    Abort,
    Aborted,
    Checkpointed,
    Delivered,
    Delivery,
    Failed,
    Grant,
    Push,
    PushFailed,
    Release,
    Staged,
)


async def _run(room: EngineRoom, steps: int, step_s: float = 1.0, request: str = "r") -> None:
    room.ranks.steps, room.ranks.step_s = steps, step_s
    room.accept(room.work(request, "denoiser"))


def _steps_kept(room: EngineRoom) -> list[int]:
    return [message.step for message in room.said if isinstance(message, Checkpointed)]


def _push(room: EngineRoom, held: int, attempt: int, grant: Grant) -> None:
    push = Push(5, "r", attempt, "encoder", held, grant, checkpoint=True)
    room.engine.push(push, 5)


def _grant(room: EngineRoom, attempt: int) -> Grant:
    grant = room.grant("r")
    return Grant(
        *[attempt if n == "attempt" else getattr(grant, n) for n in Grant.__struct_fields__]
    )


async def test_a_long_request_is_kept_every_few_seconds_of_compute() -> None:
    async with EngineRoom(checkpoint_s=3.0) as room:
        await _run(room, steps=12)
        staged = await room.hear(Staged)
        kept = _steps_kept(room)
        assert kept[0] in (4, 5)
        assert all(later - earlier >= 3 for earlier, later in pairwise(kept))
        assert kept[-1] <= 12 - 3 + 1
        assert room.line.kept == 1  # the later one has the place of the earlier
        room.engine.abort(Abort(5, "r", staged.attempt, ""), 5)
        await room.at_home()


@pytest.mark.parametrize(("steps", "every_s"), [(4, 3.0), (50, 0.0)])
async def test_short_requests_are_not_kept_nor_any_if_it_is_off(steps: int, every_s: float) -> None:
    async with EngineRoom(checkpoint_s=every_s) as room:
        await _run(room, steps)
        await room.hear(Staged)
        assert _steps_kept(room) == []
        assert not [call for call in room.ranks.done if call.startswith("checkpoint")]


async def test_only_denoisers_keep_checkpoints() -> None:
    async with EngineRoom(checkpoint_s=1.0) as room:
        room.ranks.steps, room.ranks.step_s = 20, 1.0
        room.accept(room.work("r", "monolithic"))
        room.engine.move_out()
        await asyncio.wait_for(room.engine.idle.wait(), 10)
        assert _steps_kept(room) == []


async def test_what_cannot_be_kept_is_asked_for_once() -> None:
    async with EngineRoom(checkpoint_s=1.0) as room:
        room.ranks.why_not = "OddPipeline: its loop carries something"
        await _run(room, steps=20)
        await room.hear(Staged)
        assert _steps_kept(room) == []
        assert not [call for call in room.ranks.done if call.startswith("checkpoint")]


async def test_a_checkpoint_outlives_the_ranks_and_is_pushed_for_another_attempt() -> None:
    async with EngineRoom(checkpoint_s=2.0) as room:
        room.ranks.hold, room.ranks.skip = "step", 6
        await _run(room, steps=20)
        await room.hear(Checkpointed)
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.die()
        await room.hear(Failed)
        assert room.line.kept == 1
        grant = _grant(room, 2)
        _push(room, 1, 2, grant)
        told = await room.hear(Delivered)
        assert (told.role, told.attempt, told.nbytes, told.checksum) == ("encoder", 2, 300, 4712)
        ((slots, nbytes, _),) = room.sender.sent
        (view,) = room.pool.segments(slots)
        check_header(view, "r", 2, Delivery(grant.generation, [0], nbytes, 4712))
        assert room.line.kept == 1  # for a later attempt
        room.engine.release(Release(5, [("checkpoint", "r", 1)]))
        assert room.line.kept == 1
        room.engine.release(Release(5, [("checkpoint", "r", 2)]))
        assert (room.line.kept, room.free("denoiser")) == (0, 4)


async def test_a_checkpoint_is_not_taken_for_what_was_delivered() -> None:
    async with EngineRoom(checkpoint_s=2.0) as room:
        await _run(room, steps=20)
        await room.hear(Checkpointed)
        room.engine.push(Push(5, "r", 2, "denoiser", 1, _grant(room, 2)), 5)
        assert (await room.hear(PushFailed)).nbytes == 0
        await room.hear(Staged)
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        await room.at_home()


async def test_everything_that_runs_is_kept_when_the_instance_drains() -> None:
    async with EngineRoom() as room:
        room.ranks.hold, room.ranks.skip = "step", 3
        await _run(room, steps=20, request="a")
        room.accept(room.work("b", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.engine.move_out()
        room.ranks.hold = None
        room.ranks.go.set()
        told = [await room.hear(Checkpointed) for _ in range(2)]
        assert {message.request for message in told} == {"a", "b"}
        for name in "ab":
            room.engine.abort(Abort(5, name, 1, ""), 5)
            await room.hear(Aborted)
        assert room.line.kept == 2  # they are to be pushed
        await room.at_home()


async def test_what_was_aborted_while_it_was_stored_is_not_kept() -> None:
    async with EngineRoom(checkpoint_s=2.0) as room:
        room.ranks.hold = "checkpoint"
        await _run(room, steps=200)
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        await room.hear(Aborted)
        assert room.free("denoiser") == 3  # it is still being written there
        room.ranks.go.set()
        async with asyncio.timeout(10):
            while room.free("denoiser") < 4:
                await asyncio.sleep(0)
        await room.at_home()
        assert _steps_kept(room) == []


async def test_payloads_take_the_room_of_checkpoints() -> None:
    async with EngineRoom(checkpoint_s=2.0) as room:
        await _run(room, steps=20, request="long")
        await room.hear(Checkpointed)
        await room.hear(Staged)
        room.ranks.steps, room.ranks.step_s = 1, 0.0
        for name in "abc":
            room.accept(room.work(name, "denoiser"))
            await room.hear(Staged)
        assert room.line.kept == 0
        for name in ("long", "a", "b", "c"):
            room.engine.abort(Abort(5, name, 1, ""), 5)
        await room.at_home()


async def test_checkpoints_take_half_of_the_outbox_at_most() -> None:
    async with EngineRoom(checkpoint_s=2.0) as room:
        first = room.line.spare(2000)
        assert first is not None
        assert room.line.spare(100_000) is None
        room.line.give_back(first)
        await room.at_home()


# ---------------------------------------------------------------- copies


def _copy(room: EngineRoom, held: int, attempt: int) -> Grant:
    grant = _grant(room, attempt)
    push = Push(5, "r", attempt, "encoder", held, grant, checkpoint=True, copy=True)
    room.engine.push(push, 5)
    return grant


async def test_a_checkpoint_of_which_a_copy_was_made_is_still_kept() -> None:
    async with EngineRoom(checkpoint_s=2.0) as room:
        room.ranks.hold, room.ranks.skip = "step", 6
        await _run(room, steps=20)
        await room.hear(Checkpointed)
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        grant = _copy(room, 1, 2)
        told = await room.hear(Delivered)
        assert (told.role, told.attempt, told.nbytes, told.checksum) == ("encoder", 2, 300, 4712)
        ((slots, nbytes, _),) = room.sender.sent
        (view,) = room.pool.segments(slots)
        check_header(view, "r", 2, Delivery(grant.generation, [0], nbytes, 4712))
        assert room.line.kept == 1
        room.ranks.die()
        await room.hear(Failed)
        _push(room, 1, 3, _grant(room, 3))
        assert (await room.hear(Delivered)).attempt == 3
        room.engine.release(Release(5, [("checkpoint", "r", 3)]))
        assert (room.line.kept, room.free("denoiser")) == (0, 4)


async def test_there_is_no_copy_of_what_is_not_kept_any_more() -> None:
    async with EngineRoom(checkpoint_s=2.0) as room:
        _copy(room, 1, 2)
        assert (await room.hear(PushFailed)).nbytes == 0
        await room.at_home()


@pytest.mark.parametrize("end", ["released", "evicted", "aborted"])
async def test_what_is_being_copied_keeps_its_slots_until_that_has_ended(end: str) -> None:
    async with EngineRoom() as room:
        room.engine.move_out()  # one checkpoint, and no other one soon
        room.ranks.hold, room.ranks.skip = "step", 6
        await _run(room, steps=20, step_s=0.1)
        await room.hear(Checkpointed)
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.sender.go.clear()
        _copy(room, 1, 2)
        await asyncio.wait_for(room.sender.writing.wait(), 10)
        if end == "evicted":
            other = Attempt(room.work("s", "denoiser"), 5)
            waiting = room.line.reserve(other, 4 * SLOT_BYTES)
            assert not waiting.done()
        room.engine.release(Release(5, [("checkpoint", "r", 1)]))
        assert (room.line.kept, room.free("denoiser")) == (0, 3)
        if end == "aborted":
            room.engine.abort(Abort(5, "r", 2, ""), 5)
            await asyncio.sleep(0)
        assert room.free("denoiser") == 3
        room.sender.go.set()
        await room.hear(Aborted if end == "aborted" else Delivered)
        if end == "evicted":
            assert waiting.done()
            room.line.leave(other)
        assert room.free("denoiser") == 4
        room.ranks.die()
        await room.hear(Failed)
