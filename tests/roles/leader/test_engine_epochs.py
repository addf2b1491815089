"""The engine at the end of an epoch: everything is forgotten, and writes are waited for."""

import asyncio
from collections import Counter

from tests.support.engine_room import EngineRoom, failure
from transfer.messages import Abort, Staged


async def test_forgetting_drops_everything_and_says_nothing() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("staged", "encoder"))
        await room.hear(Staged)
        room.ranks.hold = "step"
        room.accept(room.work("worked", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.accept(room.work("waiting", "denoiser"))
        room.said.clear()
        await asyncio.wait_for(room.engine.forget(), 10)  # the held unit does not hold it up
        assert (room.line.kept, room.outbox.free_slots) == (0, 4)
        room.ranks.hold = None
        room.ranks.go.set()
        await room.at_home()
        assert not room.said


async def test_forgetting_waits_for_writes() -> None:
    async with EngineRoom() as room:
        room.sender.go.clear()
        room.sender.failures = [failure(may_land=True)]
        grant = room.grant("r")
        room.accept(room.work("r", "encoder", grant))
        await asyncio.wait_for(room.sender.writing.wait(), 10)
        forgetting = asyncio.create_task(room.engine.forget())
        await asyncio.sleep(0.01)
        assert not forgetting.done()
        room.sender.go.set()
        await asyncio.wait_for(forgetting, 10)
        assert not room.said
        assert room.engine.may_land == [grant.generation]  # which the next Register tells


async def test_the_same_attempt_in_the_next_epoch_is_another_one() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "step"
        job = room.work("r", "denoiser")
        room.accept(job)
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        await room.engine.forget()
        room.said.clear()
        room.engine.accept(job, 6)
        room.ranks.hold = None
        room.ranks.go.set()
        assert (await room.hear(Staged)).epoch == 6
        assert Counter(room.ranks.done)["step r"] == 4  # one of them the old epoch's


async def test_forgetting_while_an_abort_waits_for_the_ranks() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "step"
        room.accept(room.work("r", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.hold = "drop"
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        await asyncio.sleep(0)
        room.said.clear()
        await asyncio.wait_for(room.engine.forget(), 10)
        room.ranks.go.set()
        await room.at_home()
        assert not room.said
