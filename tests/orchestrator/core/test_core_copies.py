"""Copies of checkpoints: a request goes on although the denoiser that made them is gone."""

from typing import Any

import pytest

from orchestrator.core import integrity
from orchestrator.core.commands import Completed
from tests.support.bench import KIB, Bench, Scripted
from transfer.messages import (
    Abort,
    Aborted,
    Checkpointed,
    Delivered,
    Drain,
    ErrorInfo,
    HostInfo,
    Push,
    PushFailed,
    StageReport,
    StateChanged,
    Work,
)


@pytest.fixture
def bench() -> Bench:
    return Bench(max_attempts=3, backoff_s=1.0, max_backoff_s=8.0)


class Stage:
    """A request "a" that denoiser-0 computes, and denoiser-1, which has nothing to do."""

    def __init__(self, bench: Bench, id: str = "a", **other: Any) -> None:
        self.bench = bench
        self.encoder, self.maker, self.decoder = bench.trio()
        self.other = bench.join("denoiser-1", "denoiser", **other)
        self.work = self.begin(id)

    def begin(self, id: str) -> Work:
        self.bench.submit(id)
        self.encoder.delivers(self.encoder.take(Work), nbytes=300)
        work = self.maker.take(Work)
        assert isinstance(work, Work)
        self.maker.accepts(work)
        self.maker.steps(work, 1)
        return work

    def checkpoint(self, step: int = 4, nbytes: int = 500, work: Work | None = None) -> None:
        work = work or self.work
        about = (self.maker.epoch, work.request, work.attempt, "denoiser")
        self.maker.say(Checkpointed(*about, step, nbytes))

    def copied(self, nbytes: int = 500) -> Push:
        """The maker writes what it was told to."""
        push = self.maker.take(Push)
        assert push.copy
        self.maker.say(Delivered(*self._about(push), nbytes, 1, StageReport()))
        return push

    def not_copied(self, push: Push, may_land: bool) -> None:
        error = ErrorInfo("transfer_failed", "scripted")
        self.maker.say(PushFailed(*self._about(push), may_land, 500, error))

    def _about(self, push: Push) -> tuple[Any, ...]:
        about = (self.maker.epoch, push.request, push.attempt, push.role)
        return (*about, push.grant.generation)

    def home(self) -> None:
        """Nothing is left of a copy."""
        integrity.check(self.bench.machine.books)
        assert self.other.seen.slots.leased == self.other.seen.slots.quarantined == 0


def _finish(stage: Stage, denoiser: Scripted, work: Work) -> None:
    denoiser.accepts(work)
    denoiser.delivers(work)
    last = stage.decoder.take(Work)
    stage.decoder.accepts(last)
    stage.decoder.finishes(last)


def test_f1_when_its_maker_is_gone_a_request_goes_on_from_the_copy(bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint()
    push = stage.copied()
    assert (push.role, push.held, push.checkpoint) == ("encoder", stage.work.attempt, True)
    assert push.grant.receiver == "denoiser-1"
    assert not stage.other.got(Work)
    bench.end(stage.maker)
    again = stage.other.take(Work)
    assert again.attempt == push.attempt == push.grant.attempt > stage.work.attempt
    assert (again.delivery.generation, again.delivery.nbytes) == (push.grant.generation, 500)
    assert not stage.encoder.got(Push)
    _finish(stage, stage.other, again)
    assert isinstance(bench.result("a"), Completed)
    assert bench.result("a").attempts == 2
    bench.assert_home()


def test_an_attempt_that_began_with_a_copy_is_numbered_like_any_other(bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint()
    push = stage.copied()
    bench.end(stage.maker)
    again = stage.other.take(Work)
    stage.other.fails(again, "rank_died", released=again.grant and again.grant.generation)
    bench.wait(1.5)
    assert stage.encoder.take(Push).attempt == push.attempt + 1  # nothing later is left


def test_an_id_that_comes_back_has_no_number_of_a_copy(bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint()
    push = stage.copied()
    stage.maker.delivers(stage.work)
    last = stage.decoder.take(Work)
    stage.decoder.accepts(last)
    stage.decoder.finishes(last)
    stage.home()
    bench.submit("a")
    assert stage.encoder.take(Work).attempt > push.attempt


def test_what_lies_with_its_maker_is_nearer(bench: Bench) -> None:
    """A rank that dies leaves the checkpoint where it is, which any denoiser can be given."""
    stage = Stage(bench)
    stage.checkpoint()
    stage.copied()
    stage.maker.fails(stage.work, "rank_died", released=stage.work.grant.generation)
    push = stage.maker.take(Push)
    assert (push.checkpoint, push.copy) == (True, False)
    bench.end(stage.maker)  # before it could
    again = stage.other.take(Work)
    assert again.delivery.nbytes == 500
    assert bench.count("attempts_from_copies") == 1


@pytest.mark.parametrize("how", ["completed", "cancelled"])
def test_a_copy_goes_with_its_request(how: str, bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint()
    stage.copied()
    assert stage.other.seen.slots.leased == 1
    if how == "cancelled":
        bench.cancel("a")
        stage.maker.aborted(stage.work, stage.work.grant.generation)
    else:
        stage.maker.delivers(stage.work)
        last = stage.decoder.take(Work)
        assert stage.other.seen.slots.leased == 1  # until the latents are safe with their reader
        stage.decoder.accepts(last)
    stage.home()


def test_a_later_checkpoint_takes_the_place_of_a_copy(bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint(step=4)
    first = stage.copied()
    stage.checkpoint(step=8, nbytes=700)
    second = stage.copied(nbytes=700)
    assert second.attempt > first.attempt
    assert stage.other.seen.slots.leased == 1
    bench.end(stage.maker)
    assert stage.other.take(Work).delivery.nbytes == 700


def test_a_copy_under_way_is_finished_before_the_next_one(bench: Bench) -> None:
    """Over a slow link, none would ever arrive otherwise."""
    stage = Stage(bench)
    stage.checkpoint(step=4)
    push = stage.maker.take(Push)
    stage.checkpoint(step=5)
    stage.checkpoint(step=6)
    assert not stage.maker.got(Push)
    assert not stage.maker.got(Abort)
    about = (stage.maker.epoch, "a", push.attempt, "encoder", push.grant.generation)
    stage.maker.say(Delivered(*about, 500, 1, StageReport()))
    stage.copied()
    assert not stage.maker.got(Push)


def test_each_maker_sends_one_at_a_time(bench: Bench) -> None:
    stage = Stage(bench)
    bench.submit("b")
    stage.encoder.delivers(stage.encoder.take(Work), nbytes=300)
    other = stage.other.take(Work)
    stage.other.accepts(other)
    bench.submit("c")
    stage.encoder.delivers(stage.encoder.take(Work), nbytes=300)
    third = stage.maker.take(Work)
    stage.maker.accepts(third)
    stage.checkpoint()
    stage.checkpoint(work=third)
    assert [push.request for push in stage.maker.got(Push)] == ["a"]
    stage.copied()
    assert stage.copied().request == "c"


def test_whoever_needs_the_room_of_a_copy_has_it_at_once(bench: Bench) -> None:
    stage = Stage(bench, slots=2)
    stage.checkpoint()
    stage.copied()
    stage.maker.say(StateChanged(stage.maker.epoch, "starting", "scripted", []))
    bench.submit("b")
    work = stage.encoder.take(Work)
    stage.encoder.stages(work, 2 * KIB, work.grant and work.grant.generation)
    push = stage.encoder.take(Push)
    assert (push.request, len(push.grant.slots)) == ("b", 2)
    assert not stage.maker.got(Abort)  # it has nothing to do with it any more
    bench.end(stage.maker)
    assert bench.count("attempts_from_copies") == 0


def test_a_copy_under_way_gives_way_when_its_maker_says_so(bench: Bench) -> None:
    """Its slots are quarantined until then: a late write may land."""
    stage = Stage(bench, slots=2)
    stage.checkpoint()
    push = stage.maker.take(Push)
    bench.submit("b")
    work = stage.encoder.take(Work)
    if work.grant is not None:
        assert work.grant.receiver == "denoiser-0"
    stage.maker.say(StateChanged(stage.maker.epoch, "starting", "scripted", []))
    stage.encoder.stages(work, 2 * KIB, work.grant and work.grant.generation)
    assert not stage.encoder.got(Push)
    assert stage.maker.take(Abort).attempt == push.attempt
    assert stage.other.seen.slots.quarantined == 1
    stage.maker.say(Aborted(stage.maker.epoch, "a", push.attempt, push.grant.generation))
    assert stage.encoder.take(Push).grant.receiver == "denoiser-1"
    assert bench.count("copies_dropped") == 1


@pytest.mark.parametrize("slots", [1, 3])
def test_none_is_begun_without_as_much_room_beside_it(slots: int, bench: Bench) -> None:
    stage = Stage(bench, slots=slots)
    stage.checkpoint(nbytes=2 * KIB)
    assert not stage.maker.got(Push)


def test_none_is_begun_where_somebody_waits_for_slots(bench: Bench) -> None:
    stage = Stage(bench, slots=4)
    stage.maker.say(StateChanged(stage.maker.epoch, "starting", "scripted", []))
    bench.submit("b")
    work = stage.encoder.take(Work)
    stage.encoder.stages(work, 5 * KIB, work.grant and work.grant.generation)
    stage.checkpoint()
    assert not stage.maker.got(Push)


def test_a_write_that_fails_ends_a_copy_and_blames_nobody(bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint()
    push = stage.maker.take(Push)
    stage.not_copied(push, may_land=False)
    stage.maker.take(Abort)
    stage.maker.say(Aborted(stage.maker.epoch, "a", push.attempt))
    stage.home()
    stage.checkpoint(step=5)
    assert not stage.maker.got(Push)  # not at once to the same receiver
    bench.beat(31.0, stage.encoder, stage.maker, stage.other, stage.decoder)
    stage.checkpoint(step=6)
    assert stage.copied().grant.receiver == "denoiser-1"
    bench.end(stage.maker)
    assert stage.other.take(Work).request == "a"


def test_a_write_that_may_land_keeps_its_slots_until_its_makers_end(bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint()
    push = stage.maker.take(Push)
    stage.not_copied(push, may_land=True)
    stage.maker.take(Abort)
    stage.maker.say(Aborted(stage.maker.epoch, "a", push.attempt))
    assert stage.other.seen.slots.quarantined == 1
    bench.end(stage.maker)
    assert stage.other.seen.slots.quarantined == 0
    assert bench.count("attempts_from_copies") == 0


def test_a_copy_that_has_not_arrived_is_none(bench: Bench) -> None:
    """Its maker is silent, and may still write."""
    stage = Stage(bench)
    stage.checkpoint()
    push = stage.maker.take(Push)
    bench.beat(6.0, stage.encoder, stage.other, stage.decoder)
    assert stage.maker.seen.state == "failed"
    assert stage.other.seen.slots.quarantined == 1
    assert stage.encoder.take(Push).attempt > push.attempt
    bench.end(stage.maker)
    assert stage.other.seen.slots.quarantined == 0


@pytest.mark.parametrize("how", ["drained", "drains itself", "dead"])
def test_a_copy_goes_with_whoever_holds_it(how: str, bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint()
    stage.copied()
    match how:
        case "drained":
            bench.drain("denoiser-1")
            assert stage.other.take(Drain) == Drain()  # it waits for nothing
            stage.home()
        case "drains itself":
            stage.other.say(StateChanged(stage.other.epoch, "draining", "SIGTERM", []))
            stage.home()
        case "dead":
            bench.end(stage.other)
    bench.end(stage.maker)
    assert bench.count("copies_dropped") == 1
    assert bench.count("attempts_from_copies") == 0


@pytest.mark.parametrize("kind", ["rank_failed", "payload", "internal"])
def test_a_copy_that_cannot_be_gone_on_from_is_not_tried_again(kind: Any, bench: Bench) -> None:
    stage = Stage(bench)
    stage.checkpoint()
    stage.copied()
    stage.maker.fails(stage.work, "rank_died", released=stage.work.grant.generation)
    push = stage.maker.take(Push)  # what it is a copy of goes first
    about = (stage.maker.epoch, "a", push.attempt, "encoder", push.grant.generation)
    stage.maker.say(Delivered(*about, 500, 1, StageReport()))
    again = stage.other.take(Work)
    stage.other.accepts(again)
    assert stage.other.seen.slots.leased == 1
    stage.other.fails(again, kind, released=again.grant and again.grant.generation)
    assert stage.other.seen.slots.leased == 0
    bench.wait(1.5)
    assert stage.encoder.take(Push).held == 1
    assert bench.count("attempts_from_copies") == 0


def test_another_host_is_preferred(bench: Bench) -> None:
    stage = Stage(bench)
    far = HostInfo("elsewhere", "another boot", 99, 1)
    bench.join("denoiser-2", "denoiser", host=far)
    stage.checkpoint()
    assert stage.copied().grant.receiver == "denoiser-2"


def test_a_draining_denoiser_sends_no_copies(bench: Bench) -> None:
    stage = Stage(bench, capacity=1)
    bench.submit("b")
    stage.encoder.delivers(stage.encoder.take(Work), nbytes=300)
    assert stage.other.take(Work).request == "b"
    bench.drain("denoiser-0")
    stage.checkpoint()
    assert not stage.maker.got(Push)
