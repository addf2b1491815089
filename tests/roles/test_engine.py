"""The engine among doubles: each attempt ends with exactly one message, and all comes home."""

import asyncio
from collections import Counter

import pytest
from msgspec.structs import replace

from roles import engine as engine_module
from roles.calls import Meanwhile, RankError, StepDone
from tests.support.engine_room import CAPACITY, EngineRoom, failure
from tests.support.scripted_orchestrator import work
from transfer.header import check_header
from transfer.messages import (
    Abort,
    Aborted,
    Accepted,
    CacheReport,
    Delivered,
    Delivery,
    ErrorInfo,
    Failed,
    Finished,
    Grant,
    Progressed,
    Push,
    PushFailed,
    Release,
    Role,
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


# ---------------------------------------------------------------- the end of an epoch


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


# ---------------------------------------------------------------- files in the making


async def test_the_next_is_decoded_while_files_are_made() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "collect"
        room.accept(room.work("a", "decoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.skip = 1
        room.accept(room.work("b", "decoder"))
        assert (await room.hear(Finished)).request == "b"
        room.ranks.go.set()
        assert (await room.hear(Finished)).request == "a"
        await room.at_home()


async def test_files_in_the_making_take_a_place() -> None:
    """Or decoded pictures without end would wait for a slow encoder."""
    async with EngineRoom() as room:
        room.ranks.hold = "collect"
        places = CAPACITY["decoder"]
        for number in range(places + 1):
            room.accept(room.work(f"r{number}", "decoder"))
        told = await room.hear(Failed)
        assert (told.request, told.error.kind) == (f"r{places}", "internal")
        room.ranks.go.set()
        for _ in range(places):
            await room.hear(Finished)
        await room.at_home()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_abort_while_files_are_made_ends_with_one_word(when: str) -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "collect"
        room.accept(room.work("r", "decoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        if when == "after":
            room.ranks.go.set()
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        assert (await room.hear(Aborted)).request == "r"
        room.ranks.go.set()
        await room.at_home()
        assert "drop r" in room.ranks.done
        assert not [m for m in room.said if isinstance(m, Finished | Failed)]


async def test_files_that_cannot_be_made_fail_their_own_request() -> None:
    async with EngineRoom() as room:
        room.ranks.bad_files = ErrorInfo("invalid_request", "image as wav", param="output_format")
        room.accept(room.work("r", "decoder"))
        told = await room.hear(Failed)
        assert (told.error.kind, told.error.param) == ("invalid_request", "output_format")
        await room.at_home()


async def test_a_rank_that_dies_making_files_dies_of_that_request() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "collect"
        room.accept(room.work("r", "decoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.die("died of SIGSEGV")
        error = (await room.hear(Failed)).error
        assert (error.kind, error.bystander) == ("rank_died", False)
        assert error.message.endswith("SIGSEGV during the making of the files of request r")
