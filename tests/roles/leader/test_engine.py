"""The engine among doubles: each attempt ends with exactly one message, and all comes home."""

import asyncio
from collections import Counter

import pytest

from roles.calls import Meanwhile, StepDone
from tests.support.engine_room import EngineRoom
from transfer.header import check_header
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    CacheReport,
    Delivered,
    Delivery,
    Failed,
    Finished,
    Progressed,
    Push,
    Staged,
)

# ---------------------------------------------------------------- the way through


async def test_an_encoder_delivers_into_its_grant() -> None:
    async with EngineRoom() as room:
        grant = room.grant("r")
        room.accept(room.work("r", "encoder", grant))
        told = await room.hear(Delivered)
        assert (told.epoch, told.request, told.attempt, told.role) == (5, "r", 1, "encoder")
        assert (told.generation, told.nbytes, told.checksum) == (grant.generation, 1000, 4711)
        assert room.ranks.done == ["begin r", "encode r", "store r"]
        (slots, nbytes, given) = room.sender.sent[0]
        assert (nbytes, given) == (1000, grant)
        (view,) = room.pool.segments(slots, 1000)
        check_header(view, "r", 1, Delivery(grant.generation, [0], 1000, 4711))
        await room.at_home()


async def test_it_knows_how_the_encoder_s_cache_stands() -> None:
    async with EngineRoom() as room:
        assert room.engine.encodings is None
        room.ranks.encodings = told = CacheReport(1, 2, 2, 4096, 8192)
        room.accept(room.work("r", "encoder"))
        await room.hear(Staged)
        room.ranks.encodings = None
        room.accept(room.work("d", "decoder"))
        await room.hear(Finished)
        assert room.engine.encodings == told


async def test_a_denoiser_frees_the_slots_and_tells_each_step() -> None:
    async with EngineRoom() as room:
        job = room.work("r", "denoiser", room.grant("r"))
        assert job.delivery is not None
        room.accept(job)
        assert (await room.hear(Accepted)).generation == job.delivery.generation
        told = await room.hear(Delivered)
        assert told.report.steps == 3
        assert told.report.read_s == pytest.approx(0.001)
        steps = [(m.step, m.steps) for m in room.said if isinstance(m, Progressed)]
        assert steps == [(1, 3), (2, 3), (3, 3)]
        await room.at_home()


async def test_steps_of_a_turn_are_told_before_it_is_over_and_once() -> None:
    async with EngineRoom() as room:
        room.ranks.steps, room.ranks.amid, room.ranks.hold = 9, 2, "step"
        room.accept(room.work("r", "denoiser", room.grant("r")))
        await room.ranks.held.wait()  # nothing of the turn is answered yet
        told = [(m.step, m.steps) for m in room.said if isinstance(m, Progressed)]
        assert told == [(1, 9), (2, 9)]
        room.ranks.go.set()
        await room.hear(Delivered)
        told = [(m.step, m.steps) for m in room.said if isinstance(m, Progressed)]
        assert told == [(step, 9) for step in range(1, 10)]
        await room.at_home()


async def test_nothing_is_told_of_steps_of_what_was_aborted_in_the_same_turn() -> None:
    async with EngineRoom() as room:
        room.ranks.steps, room.ranks.hold = 9, "step"
        room.accept(room.work("r", "denoiser"))
        await room.ranks.held.wait()
        room.engine.abort(Abort(5, "r", 1, "nobody wants it"), 5)
        room.engine._moved_on(Meanwhile(1, [StepDone("r", 1, 4, 9), StepDone("x", 1, 4, 9)]))
        room.ranks.go.set()
        await room.hear(Aborted)
        assert not any(isinstance(m, Progressed) for m in room.said)
        await room.at_home()


async def test_an_encoder_that_writes_tells_of_its_tokens_and_shares_them() -> None:
    async with EngineRoom() as room:
        room.ranks.writes, room.ranks.steps, room.ranks.batch_key = True, 4, "k:"
        room.accept(room.work("a", "encoder"))
        room.accept(room.work("b", "encoder"))
        ended = [await room.hear(Staged), await room.hear(Staged)]
        progress = [m for m in room.said if isinstance(m, Progressed)]
        told = Counter((m.role, m.request, m.step, m.steps) for m in progress)
        assert told == Counter(("encoder", n, step, 4) for n in "ab" for step in (1, 2, 3, 4))
        assert [each.report.steps for each in ended] == [0, 0]
        assert "step a+b" in room.ranks.done


async def test_an_abort_ends_a_text_at_its_token() -> None:
    async with EngineRoom() as room:
        room.ranks.writes, room.ranks.steps, room.ranks.hold = True, 512, "step"
        room.accept(room.work("r", "encoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.engine.abort(Abort(5, "r", 1, "nobody wants it"), 5)
        room.ranks.go.set()
        await room.hear(Aborted)
        await room.at_home()
        done = Counter(line.split()[0] for line in room.ranks.done)
        assert (done["step"], done["pause"], done["drop"]) == (1, 1, 1)


async def test_a_decoder_finishes_with_media() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("r", "decoder"))
        told = await room.hear(Finished)
        assert [media.id for media in told.media] == ["1000-9"]
        await room.at_home()
        assert room.ranks.done[-1] == "drop r"  # the rank may close the file


async def test_without_a_grant_the_payload_is_staged_and_pushed_later() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("r", "encoder"))
        staged = await room.hear(Staged)
        assert (staged.nbytes, staged.released) == (1000, None)
        grant = room.grant("r")
        room.engine.push(Push(5, "r", 1, "encoder", 1, grant), 5)
        assert (await room.hear(Delivered)).generation == grant.generation
        await room.at_home()


@pytest.mark.parametrize(("slots", "seconds"), [(0, 60.0), (1, 0.0)])
async def test_a_grant_that_is_too_small_or_too_late_is_given_back(
    slots: int, seconds: float
) -> None:
    async with EngineRoom() as room:
        grant = room.grant("r", slots, seconds)
        room.accept(room.work("r", "encoder", grant))
        assert (await room.hear(Staged)).released == grant.generation
        assert not room.sender.sent


async def test_t18_an_encoder_never_waits_for_a_denoiser() -> None:
    async with EngineRoom() as room:
        for number in range(4):  # its capacity is two at a time
            room.accept(room.work(f"r{number}", "encoder"))
            await room.hear(Staged)
        assert room.outbox.free_slots == 0


async def test_a_full_outbox_makes_the_next_payload_wait_in_the_ranks() -> None:
    async with EngineRoom() as room:
        room.ranks.nbytes = 4 * 4096
        room.accept(room.work("a", "encoder"))
        await room.hear(Staged)
        room.accept(room.work("b", "encoder"))
        room.ranks.hold = "store"
        room.engine.push(Push(5, "a", 1, "encoder", 1, room.grant("a", 4)), 5)
        await room.hear(Delivered)
        await asyncio.wait_for(room.ranks.held.wait(), 10)  # only now has b a place
        room.ranks.go.set()
        await room.hear(Staged, lambda m: m.request == "b")
        room.engine.abort(Abort(5, "b", 1, ""), 5)
        await room.hear(Aborted)
        await room.at_home()


async def test_a_payload_larger_than_the_outbox_fails_with_both_sizes() -> None:
    async with EngineRoom() as room:
        room.ranks.nbytes = 4 * 4096 + 1
        room.accept(room.work("r", "encoder", room.grant("r")))
        told = await room.hear(Failed)
        assert told.error.kind == "payload_too_large"
        assert "16385" in told.error.message
        assert "16384" in told.error.message
        assert told.released is not None
        await room.at_home()


async def test_requests_take_turns() -> None:
    async with EngineRoom() as room:
        room.accept(room.work("a", "denoiser"))
        room.accept(room.work("b", "denoiser"))
        await room.hear(Staged)
        await room.hear(Staged)
        steps = [line for line in room.ranks.done if line.startswith("step")]
        assert steps == ["step a", "step b"] * 3


async def test_requests_that_may_share_a_forward_do() -> None:
    async with EngineRoom() as room:
        room.ranks.batch_key = "k"
        room.accept(room.work("a", "denoiser"))
        room.accept(room.work("b", "denoiser"))
        await room.hear(Staged)
        await room.hear(Staged)
        steps = [line for line in room.ranks.done if line.startswith("step")]
        assert steps == ["step a+b"] * 3
        told = Counter((m.request, m.step) for m in room.said if isinstance(m, Progressed))
        assert told == Counter((name, step) for name in "ab" for step in (1, 2, 3))


async def test_an_abort_of_one_in_a_shared_forward_leaves_the_other() -> None:
    async with EngineRoom() as room:
        room.ranks.batch_key, room.ranks.hold = "k", "step"
        room.accept(room.work("a", "denoiser"))
        room.accept(room.work("b", "denoiser"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.engine.abort(Abort(5, "a", 1, ""), 5)
        room.ranks.go.set()
        await room.hear(Aborted, lambda m: m.request == "a")
        await room.hear(Staged, lambda m: m.request == "b")
        steps = [line for line in room.ranks.done if line.startswith("step")]
        assert steps == ["step a+b", "step b", "step b"]
