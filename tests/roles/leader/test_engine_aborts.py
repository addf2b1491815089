"""The engine told to stop: every abort is answered, once nothing of it goes on any more."""

import asyncio

import pytest

from tests.support.engine_room import EngineRoom, failure
from transfer.messages import Abort, Aborted, Delivered, Failed, Push, PushFailed, Staged

# ---------------------------------------------------------------- abort


@pytest.mark.parametrize("stage", ["begin", "step", "store"])
async def test_an_abort_is_answered_when_the_ranks_are_done_with_it(stage: str) -> None:
    async with EngineRoom() as room:
        room.ranks.hold = stage
        grant = room.grant("r")
        room.accept(room.work("r", "denoiser", grant))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.hold = "drop"
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        assert not any(isinstance(m, Aborted) for m in room.said)
        room.ranks.go.set()
        assert (await room.hear(Aborted)).released == grant.generation
        await room.at_home()
        assert not any(isinstance(m, Aborted | Failed | Delivered) for m in room.said)


async def test_an_abort_while_another_one_computes() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "step"
        room.accept(room.work("a", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.accept(room.work("b", "denoiser"))
        room.engine.abort(Abort(5, "b", 1, ""), 5)
        assert (await room.hear(Aborted)).request == "b"
        room.ranks.hold = None
        room.ranks.go.set()
        assert (await room.hear(Staged)).request == "a"
        assert "begin b" not in room.ranks.done


async def test_an_abort_of_a_staged_payload_frees_the_outbox() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("r", "encoder"))
        await room.hear(Staged)
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        assert (await room.hear(Aborted)).released is None
        await room.at_home()


async def test_a_push_that_an_abort_overtakes_gives_its_grant_back() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("r", "encoder"))
        await room.hear(Staged)
        grant = room.grant("r")
        room.engine.push(Push(5, "r", 1, "encoder", 1, grant), 5)
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        assert (await room.hear(Aborted)).released == grant.generation
        assert not room.sender.sent
        await room.at_home()


@pytest.mark.parametrize("fails", [None, False, True])
async def test_an_abort_during_a_write_waits_for_it(fails: bool | None) -> None:
    """The orchestrator frees the slots at `Aborted`, unless it has heard of a failure by then."""
    async with EngineRoom() as room:
        room.sender.go.clear()
        room.sender.failures = [] if fails is None else [failure(fails)]
        grant = room.grant("r")
        room.accept(room.work("r", "encoder", grant))
        await asyncio.wait_for(room.sender.writing.wait(), 10)
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        await asyncio.sleep(0.01)
        assert not room.said
        room.sender.go.set()
        told = await room.hear(Aborted)
        assert told.released == (grant.generation if fails is None else None)
        before = [(m.generation, m.may_land) for m in room.said if isinstance(m, PushFailed)]
        assert before == ([] if fails is None else [(grant.generation, fails)])
        assert room.engine.may_land == ([grant.generation] if fails else [])
        await room.at_home()


async def test_an_abort_while_the_file_is_published_discards_it() -> None:
    async with EngineRoom() as room:
        room.publisher.go.clear()
        room.accept(room.work("r", "decoder"))
        await asyncio.wait_for(room.publisher.publishing.wait(), 10)
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        await room.hear(Aborted)  # a slow store holds nobody up
        room.publisher.go.set()
        await room.at_home()
        while not room.publisher.discarded:
            await asyncio.sleep(0)


async def test_an_unknown_abort_is_answered_too() -> None:
    async with EngineRoom() as room:
        room.engine.abort(Abort(5, "never", 3, ""), 5)
        assert await room.hear(Aborted) == Aborted(5, "never", 3)


# ---------------------------------------------------------------- steps end when they have to


@pytest.mark.parametrize("what", ["a new request", "an abort"])
async def test_the_ranks_are_told_that_something_else_is_wanted(what: str) -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "step"
        room.accept(room.work("r", "denoiser", room.grant("r")))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        assert "pause" not in room.ranks.done
        if what == "an abort":
            room.engine.abort(Abort(5, "r", 1, ""), 5)
        else:
            room.accept(room.work("s", "encoder"))
        async with asyncio.timeout(10):
            while "pause" not in room.ranks.done:
                await asyncio.sleep(0)
        room.ranks.hold = None
        room.ranks.go.set()
        await room.hear(Aborted if what == "an abort" else Staged)
