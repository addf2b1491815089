"""What a step scheduler owes its requests, behaviour by behaviour, on the real one and its engine.

The list is that of vLLM-Omni's diffusion engine; the tests are ours. One more of it, that seed and
generator do not matter for compatibility, is in split/test_batching.py, on a real model.
"""

import asyncio

import pytest
from msgspec.structs import replace

from roles.calls import Drop, RankError
from roles.leader.scheduler import Arrived, Ended, InvalidEvent, Ran, Scheduler
from tests.support.batching import Eager
from tests.support.engine_room import EngineRoom
from transfer.messages import (
    Abort,
    Aborted,
    Delivered,
    ErrorInfo,
    Failed,
    Priority,
    Progressed,
    Staged,
    Work,
)


def of_class(work: Work, priority: Priority) -> Work:
    return replace(work, inputs=replace(work.inputs, priority=priority))


def begun(made: Scheduler, name: str, batch_key: str | None) -> None:
    made.handle(Arrived((name, 1), "denoiser"))
    while (plan := made.plan()) and plan.unit != "begin":
        _step(made, plan.keys, batch_key)
    made.handle(Ran((name, 1), batch_key))


def _step(made: Scheduler, keys: list[tuple[str, int]], batch_key: str | None) -> None:
    for key in keys:
        made.handle(Ran(key, batch_key))


async def test_waiting_then_running_then_finished_exactly_once() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("r", "denoiser", room.grant("r")))
        assert ("r", 1) not in room.scheduler.running
        await room.hear(Delivered)
        await room.at_home()
        assert room.ranks.done == ["begin r", "step r", "step r", "step r", "store r"]
        ends = [m for m in room.said if isinstance(m, Delivered | Staged | Failed | Aborted)]
        assert not ends  # the one that was heard was the only one
        assert ("r", 1) not in room.scheduler


async def test_a_running_request_is_rescheduled_and_never_begun_again() -> None:
    async with EngineRoom() as room:
        for name in ("a", "b"):
            room.accept(room.work(name, "denoiser"))
        await room.hear(Staged)
        await room.hear(Staged)
        assert sorted(x for x in room.ranks.done if x.startswith("begin")) == ["begin a", "begin b"]


def test_a_batch_holds_only_compatible_requests_up_to_the_cap() -> None:
    made = Scheduler(2, Eager(), "sjf")
    for name, key in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "x"), ("alone", None)):
        begun(made, name, key)
    shared = {"a": "x", "b": "y", "c": "x", "d": "x", "alone": None}
    seen = set()
    for _ in range(12):
        plan = made.plan()
        assert plan is not None
        assert len(plan.keys) <= 2
        assert len({shared[name] for name, _ in plan.keys}) == 1
        assert ("alone", 1) not in plan.keys or len(plan.keys) == 1
        seen |= set(plan.keys)
        for key in plan.keys:
            made.handle(Ended(key) if len(seen) < 5 else Ran(key, shared[key[0]]))
        if not len(made):
            break
    assert {name for name, _ in seen} == set(shared)


@pytest.mark.parametrize("stage", ["step", "store"])
async def test_aborting_shows_exactly_once(stage: str) -> None:
    async with EngineRoom() as room:
        room.ranks.hold = stage
        room.accept(room.work("r", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        for _ in range(2):
            room.engine.abort(Abort(5, "r", 1, ""), 5)
        room.ranks.go.set()
        await room.hear(Aborted)
        await room.at_home()
        assert not [m for m in room.said if isinstance(m, Aborted | Failed | Staged)]


async def test_an_error_in_a_mixed_batch_ends_only_its_request() -> None:
    async with EngineRoom() as room:
        room.ranks.batch_key = "k"
        room.ranks.hold, room.ranks.skip = "step", 1
        for name in ("good", "bad"):
            room.accept(room.work(name, "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        assert room.ranks.done[-1] in ("step good+bad", "begin bad", "step good")
        room.ranks.errors[0, "bad"] = ErrorInfo("rank_failed", "scripted")
        room.ranks.go.set()
        assert (await room.hear(Failed)).request == "bad"
        assert (await room.hear(Staged)).request == "good"


@pytest.mark.parametrize("schedule", ["sjf", "fifo", "round_robin"])
async def test_preemption_keeps_the_step_index(schedule: str) -> None:
    async with EngineRoom(schedule=schedule) as room:
        room.ranks.steps = 5
        room.ranks.hold, room.ranks.skip = "step", 2
        room.accept(of_class(room.work("low", "denoiser"), "low"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.accept(of_class(room.work("high", "denoiser"), "high"))
        room.ranks.go.set()
        assert (await room.hear(Staged)).request == "high"
        assert (await room.hear(Staged)).request == "low"
        told = [m.step for m in room.said if isinstance(m, Progressed) and m.request == "low"]
        assert told == [1, 2, 3, 4, 5]
        steps = [line for line in room.ranks.done if line.startswith("step")]
        assert steps[3:8] == ["step high"] * 5  # it gave way after the step that it was in
        assert room.ranks.done.count("begin low") == 1


@pytest.mark.parametrize(("step", "steps"), [(0, 0), (1, 3)])
async def test_a_missing_step_index_is_an_error(step: int, steps: int) -> None:
    """The rank says none, or one that was before: it goes on with something else."""
    async with EngineRoom() as room:
        room.ranks.lost = {3: (step, steps)}  # instead of the third step
        room.ranks.steps = 5
        room.accept(room.work("r", "denoiser"))
        told = (await room.hear(Failed)).error
        assert told.kind == "rank_failed"
        assert f"step {step} of {steps} after step 2" in told.message
        await room.at_home()


async def test_a_duplicate_active_id_is_refused() -> None:
    made = Scheduler(1)
    made.handle(Arrived(("r", 1), "denoiser"))
    with pytest.raises(InvalidEvent, match="arrived again"):
        made.handle(Arrived(("r", 1), "denoiser"))
    async with EngineRoom() as room:
        work = room.work("r", "encoder")
        for _ in range(2):
            room.accept(work)
        await room.hear(Staged)
        assert room.engine.counters["duplicate"] == 1


async def test_concurrent_requests_and_control_calls_never_swap_results() -> None:
    """Each has its own answer, whatever is asked of the ranks at the same time
    (over real sockets: test_worker_pool.py)."""
    async with EngineRoom() as room:
        calls = [room.engine.door._call(Drop(f"other{n}", n)) for n in range(20)]
        room.accept(room.work("a", "denoiser"))
        room.accept(room.work("e", "encoder"))
        results = await asyncio.gather(*calls)
        assert all(result.ok and result.results[0].value is None for result in results)
        assert {(await room.hear(Staged)).request for _ in range(2)} == {"a", "e"}


async def test_shutdown_fails_pending_calls() -> None:
    """They end with the ranks, and say why (of a pool that closes: test_worker_pool.py)."""
    async with EngineRoom() as room:
        room.ranks.hold = "step"
        room.accept(room.work("r", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        aside = asyncio.ensure_future(room.engine.door._call(Drop("other", 1)))
        room.ranks.die("it was closed")
        result = await asyncio.wait_for(aside, 10)
        assert result.lost
        assert result.failures[0].error == RankError("died", "RankDied", "it was closed")
        assert (await room.hear(Failed)).error.kind == "rank_died"


async def test_pause_waits_for_the_batch_freezes_the_queue_and_still_serves_control_calls() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "step"
        room.accept(room.work("a", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        pausing = asyncio.ensure_future(_paused(room))
        await asyncio.sleep(0)
        assert "step a" not in room.ranks.done
        assert not pausing.done()  # the batch is not over
        room.ranks.go.set()
        frozen = await asyncio.wait_for(pausing, 10)
        assert frozen == ["begin a", "pause", "step a", "drop other"]
        await room.hear(Staged, lambda m: m.request == "a")
        await room.hear(Staged, lambda m: m.request == "b")


async def _paused(room: EngineRoom) -> list[str]:
    """What the ranks had done at the end of a pause in which others wanted something."""
    async with room.engine.paused():
        room.accept(room.work("b", "denoiser"))
        room.accept(room.work("c", "denoiser"))
        assert (await room.engine.door._call(Drop("other", 1))).ok
        room.engine.abort(Abort(5, "c", 1, ""), 5)
        await room.hear(Aborted, lambda m: m.request == "c")  # V8: it blocks no abort
        return list(room.ranks.done)
