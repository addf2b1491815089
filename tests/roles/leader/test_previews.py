"""Previews in a leader: beside the work, never in its way."""

import asyncio

from msgspec.structs import replace

from roles.leader.scheduler import Arrived, Ended, Plan, Ran, Scheduler
from tests.support.engine_room import EngineRoom, failure
from transfer.messages import (
    Abort,
    Aborted,
    Delivered,
    Failed,
    Finished,
    Progressed,
    PushFailed,
    Staged,
)


async def at_step(room: EngineRoom, request: str) -> None:
    """A request that stands after its first step, and goes on when `ranks.go` is set."""
    room.ranks.hold, room.ranks.skip = "step", 1
    room.accept(room.work(request, "denoiser", grant=room.grant(request)))
    await room.hear(Progressed)
    await asyncio.wait_for(room.ranks.held.wait(), 10)


async def test_a_preview_is_made_of_what_is_denoised_and_goes_where_it_is_granted_room() -> None:
    async with EngineRoom() as room:
        await at_step(room, "a")
        look = room.look("a")
        room.accept(look)
        told = await room.hear(Delivered)
        assert (told.request, told.generation) == ("a~1", look.grant.generation)
        assert room.sender.sent[0][2] == look.grant
        room.ranks.go.set()
        assert (await room.hear(Delivered)).request == "a"
        await room.at_home()
        assert [call for call in room.ranks.done if "a~1" in call] == ["peek a~1", "store a~1"]


async def test_nothing_is_kept_of_it_in_the_outbox() -> None:
    async with EngineRoom() as room:
        await at_step(room, "a")
        room.accept(room.look("a"))
        await room.hear(Delivered)
        assert room.line.kept == 0
        room.ranks.go.set()
        await room.hear(Delivered)
        assert room.line.kept == 1
        await room.at_home()


async def test_it_takes_no_place() -> None:
    async with EngineRoom(capacity={"denoiser": 1}) as room:
        await at_step(room, "a")
        room.accept(room.look("a"))
        await room.hear(Delivered)
        room.ranks.go.set()
        await room.hear(Delivered)
        await room.at_home()


async def test_where_a_pipeline_runs_whole_it_is_a_picture() -> None:
    async with EngineRoom(capacity={"monolithic": 1}) as room:
        room.ranks.hold, room.ranks.skip = "step", 1
        room.accept(room.work("a", "monolithic"))
        await room.hear(Progressed)
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.accept(room.look_at_whole("a"))
        told = await room.hear(Finished)
        assert (told.request, len(told.media)) == ("a~1", 1)
        room.ranks.go.set()
        assert (await room.hear(Finished)).request == "a"
        await room.at_home()
        done = [call for call in room.ranks.done if "a~1" in call]
        assert done == ["peek a~1", "collect a~1", "drop a~1"]


async def test_what_is_over_or_unknown_has_none() -> None:
    async with EngineRoom() as room:
        room.accept(room.look("a"))
        told = await room.hear(Failed)
        assert (told.request, told.error.kind, told.released) == ("a~1", "unsupported", 100)
        await room.at_home()


async def test_it_does_not_wait_for_room_in_the_outbox() -> None:
    """Whoever waits there would wait for it, and what is kept for a retry would go."""
    async with EngineRoom() as room:
        await at_step(room, "a")
        room.ranks.nbytes = 5 * 4096
        room.accept(room.look("a"))
        told = await room.hear(Failed)
        assert told.error.message == "the outbox has no room for a preview"
        room.ranks.nbytes = 1000
        room.ranks.go.set()
        await room.hear(Delivered)
        await room.at_home()


async def test_aborted_it_gives_everything_back() -> None:
    async with EngineRoom() as room:
        await at_step(room, "a")
        room.sender.go.clear()
        room.accept(room.look("a"))
        await asyncio.wait_for(room.sender.writing.wait(), 10)
        room.engine.abort(Abort(5, "a~1", 1, "the request is over"), 5)
        room.sender.go.set()
        assert (await room.hear(Aborted)).request == "a~1"
        room.ranks.go.set()
        await room.hear(Delivered)
        await room.at_home()


async def test_a_grant_that_is_too_small_or_a_write_that_fails_is_told() -> None:
    async with EngineRoom() as room:
        await at_step(room, "a")
        room.ranks.nbytes = 2 * 4096
        room.accept(room.look("a"))
        assert (await room.hear(Staged)).nbytes == 2 * 4096
        room.engine.abort(Abort(5, "a~1", 1, "no room"), 5)
        await room.hear(Aborted)
        room.ranks.nbytes = 1000
        room.sender.failures.append(failure(may_land=False))
        room.accept(room.look("a"))
        assert (await room.hear(PushFailed)).request == "a~1"
        room.engine.abort(Abort(5, "a~1", 1, "it failed"), 5)
        await room.hear(Aborted)
        room.ranks.go.set()
        await room.hear(Delivered)
        await room.at_home()


async def test_the_end_of_the_ranks_ends_it_too() -> None:
    async with EngineRoom() as room:
        await at_step(room, "a")
        room.ranks.hold = "peek"
        room.ranks.held.clear()
        room.accept(room.look("a"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.die()
        failed = {(await room.hear(Failed)).request for _ in range(2)}
        assert failed == {"a", "a~1"}


async def test_a_decoder_does_previews_last() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "begin"
        room.accept(room.work("first", "decoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.accept(replace(room.work("a~1", "decoder"), preview_of=("a", 1)))
        await asyncio.sleep(0)
        room.ranks.go.set()
        done = [(await room.hear(Finished)).request for _ in range(2)]
        assert done == ["first", "a~1"]
        await room.at_home()


def turn(scheduler: Scheduler, *keys: str) -> Plan:
    plan = scheduler.plan()
    assert plan is not None
    assert [name for name, _ in plan.keys] == list(keys), plan
    return plan


def test_spare_units_wait_for_all_but_steps() -> None:
    scheduler = Scheduler(2)
    scheduler.handle(Arrived(("a~1", 1), "decoder", spare=True))
    for name in ("one", "two"):
        scheduler.handle(Arrived((name, 1), "decoder"))
    for name in ("one", "two", "one", "two"):
        turn(scheduler, name)
        begun = scheduler._jobs[name, 1].begun
        scheduler.handle(Ended((name, 1)) if begun else Ran((name, 1)))
    turn(scheduler, "a~1")
    scheduler.handle(Ran(("a~1", 1)))
    scheduler.handle(Arrived(("steps", 1), "denoiser"))
    turn(scheduler, "steps")
    scheduler.handle(Ran(("steps", 1)))
    turns = set()
    for _ in range(2):
        plan = scheduler.plan()
        assert plan is not None
        turns.add(plan.keys[0][0])
        scheduler.handle(Ran(plan.keys[0]))
    assert turns == {"steps", "a~1"}
