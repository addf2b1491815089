"""The engine when something fails: who is told, and that nobody else loses anything by it."""

import asyncio

import pytest
from msgspec.structs import replace

from roles.calls import RankError
from roles.leader import engine as engine_module
from tests.support.engine_room import EngineRoom
from tests.support.scripted_orchestrator import work
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    Delivered,
    Delivery,
    ErrorInfo,
    Failed,
    Push,
    Staged,
)

# ---------------------------------------------------------------- failures


async def test_v10_one_request_s_error_is_its_own() -> None:
    async with EngineRoom() as room:
        room.ranks.errors[0, "bad"] = ErrorInfo("invalid_request", "too long", param="prompt")
        room.accept(room.work("bad", "denoiser", room.grant("bad")))
        room.accept(room.work("good", "denoiser", room.grant("good")))
        told = await room.hear(Failed)
        assert told.error == ErrorInfo(
            "invalid_request", "too long", param="prompt", instance="box", rank=0
        )
        assert told.released is not None
        assert (await room.hear(Delivered)).request == "good"
        await room.at_home()


async def test_an_error_of_one_rank_of_three_fails_the_request_at_once() -> None:
    async with EngineRoom(ranks=3) as room:
        room.ranks.errors[1, "r"] = ErrorInfo("rank_failed", "ValueError: scripted")
        room.accept(room.work("r", "denoiser"))
        told = await room.hear(Failed)
        assert (told.error.rank, told.error.kind) == (1, "rank_failed")
        await room.at_home()
        assert room.ranks.done == ["begin r", "drop r"]  # the other two have to forget it


async def test_a_rank_that_fails_a_whole_call_is_named() -> None:
    async with EngineRoom(ranks=2) as room:
        room.ranks.broken = RankError("raised", "KeyError", "'r'", "Traceback …")
        room.accept(room.work("r", "encoder"))
        told = await room.hear(Failed)
        assert told.error.message == "rank 1 (pid 1001) raised KeyError: 'r'"
        assert told.error.traceback == "Traceback …"


async def test_a_payload_that_is_not_the_announced_one_is_never_read() -> None:
    async with EngineRoom() as room:
        job = room.work("r", "denoiser")
        assert job.delivery is not None
        room.accept(replace(job, delivery=replace(job.delivery, checksum=1)))
        told = await room.hear(Failed)
        assert told.error.kind == "payload"
        assert "checksum" in told.error.message
        assert not room.ranks.done


async def test_a_delivery_outside_of_the_pool_is_never_read() -> None:
    async with EngineRoom() as room:
        for slots, nbytes in (([99], 500), ([0], 1 << 40), ([], 500), ([0], 0), ([0, 0], 500)):
            room.accept(work("r", "decoder", delivery=Delivery(1, slots, nbytes, 1)))
            assert (await room.hear(Failed)).error.kind == "payload"


async def test_work_beyond_the_capacity_is_refused() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "encode"
        for name in "abc":
            room.accept(room.work(name, "encoder"))
        told = await room.hear(Failed)
        assert told.request == "c"
        assert told.error.message == "box takes 2 requests as encoder at a time"


async def test_a_duplicate_is_counted_and_ignored() -> None:
    async with EngineRoom() as room:
        job = room.work("r", "encoder")
        room.accept(job)
        room.accept(job)
        await room.hear(Staged)
        assert room.engine.counters["duplicate"] == 1
        assert room.ranks.done.count("begin r") == 1


async def test_a_file_that_cannot_be_kept_fails_with_the_cause() -> None:
    async with EngineRoom() as room:
        room.publisher.failure = OSError(28, "No space left on device")
        room.accept(room.work("r", "decoder"))
        assert "No space left on device" in (await room.hear(Failed)).error.message
        await room.at_home()


async def test_a_deadline_that_nobody_enforced_is_enforced_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "GRACE_S", 0.0)
    async with EngineRoom() as room:
        room.accept(replace(room.work("r", "encoder"), seconds=0.1))
        await room.hear(Staged)
        assert (await room.hear(Failed)).error.kind == "deadline"
        await room.at_home()


# ---------------------------------------------------------------- ranks that die


async def test_a_death_fails_what_was_in_the_ranks_and_nothing_else() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("staged", "encoder"))
        await room.hear(Staged)
        room.accept(room.work("beside", "denoiser"))
        await room.hear(Accepted)
        room.ranks.hold = "step"
        room.accept(room.work("worked", "monolithic"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.accept(room.work("waiting", "encoder"))
        room.ranks.die()
        failed = [await room.hear(Failed) for _ in range(len(room.ranks.holding))]
        for told in failed:
            assert told.error.kind == "rank_died"
            assert told.error.rank == 0
            assert told.error.message.startswith("rank 0 (pid 1000) of box died of SIGKILL during")
            assert told.error.bystander == (told.request not in told.error.message.split(";")[0])
        assert len(room.lost) == 1
        room.ranks = type(room.ranks)()  # the next generation of ranks
        room.engine.door.attach(room.ranks)
        assert (await room.hear(Staged)).request == "waiting"
        room.engine.push(Push(5, "staged", 1, "encoder", 1, room.grant("staged")), 5)
        assert (await room.hear(Delivered)).request == "staged"


async def test_the_error_tells_the_step_and_the_request() -> None:
    async with EngineRoom() as room:
        room.ranks.steps, room.ranks.hold, room.ranks.skip = 9, "step", 4
        room.accept(room.work("r", "denoiser", room.grant("r")))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.die("died of SIGSEGV")
        told = await room.hear(Failed)
        cause = "rank 0 (pid 1000) of box died of SIGSEGV during step 5 of request r"
        assert told.error.message == cause
        assert told.released is not None
        assert room.lost == [cause]
        assert room.outbox.free_slots == 4


async def test_v9_an_idle_death_is_noticed() -> None:
    async with EngineRoom() as room:
        room.ranks.die()
        await asyncio.sleep(0)
        assert room.lost == ["rank 0 (pid 1000) of box died of SIGKILL"]


async def test_a_death_while_the_payload_is_stored_fails_the_request() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "store"
        room.accept(room.work("r", "encoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.die()
        assert "request r was in its memory" in (await room.hear(Failed)).error.message
        assert room.outbox.free_slots == 4


async def test_an_abort_is_answered_by_dead_ranks_too() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "step"
        room.accept(room.work("r", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.die()
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        await room.hear(Aborted)
        assert not any(isinstance(m, Failed) for m in room.said)


async def test_a_silent_rank_is_condemned() -> None:
    async with EngineRoom(ranks=2) as room:
        room.ranks.broken = RankError("silent", "RankSilent", "did not answer for 600 s")
        room.accept(room.work("r", "encoder"))
        told = await room.hear(Failed)
        assert told.error.message == (
            "rank 1 (pid 1001) of box did not answer for 600 s during the beginning of request r"
        )
        assert room.ranks.condemned == [(1, "did not answer for 600 s")]
