"""Checkpoints: a request goes on in the middle of its denoising, elsewhere or where it was."""

from itertools import pairwise

import pytest

from orchestrator.core.commands import Completed
from tests.support.bench import Bench, Scripted
from transfer.messages import (
    Abort,
    Checkpointed,
    Delivered,
    Drain,
    ErrorInfo,
    Progressed,
    Push,
    PushFailed,
    Release,
    Shelf,
    StageReport,
    StateChanged,
    Work,
)

SMALL = {"slots": 1}
"""Room for a request, and none beside it for a copy of a checkpoint."""


@pytest.fixture
def bench() -> Bench:
    return Bench(max_attempts=3, backoff_s=1.0, max_backoff_s=8.0)


def _denoising(bench: Bench, encoder: Scripted, denoiser: Scripted, id: str = "a") -> Work:
    """A request that the denoiser computes, its encoding kept by the encoder."""
    bench.submit(id)
    encoder.delivers(encoder.take(Work), nbytes=300)
    work = denoiser.take(Work)
    assert isinstance(work, Work)
    denoiser.accepts(work)
    denoiser.say(Progressed(denoiser.epoch, id, work.attempt, "denoiser", 3, 10))
    return work


def _checkpoint(denoiser: Scripted, work: Work, step: int = 4, nbytes: int = 500) -> None:
    about = (denoiser.epoch, work.request, work.attempt, "denoiser")
    denoiser.say(Checkpointed(*about, step, nbytes))


def _pushed(leader: Scripted, push: Push, nbytes: int = 500) -> None:
    """What it keeps is written into the granted slots."""
    about = (leader.epoch, push.request, push.attempt, push.role, push.grant.generation)
    leader.say(Delivered(*about, nbytes, 1, StageReport()))


def _released(leader: Scripted) -> list[tuple[Shelf, str, int]]:
    return [kept for message in leader.got(Release) for kept in message.kept]


def _unused(work: Work) -> int | None:
    return None if work.grant is None else work.grant.generation


def test_what_a_rank_lost_goes_on_from_the_checkpoint_at_another_denoiser(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio()
    other = bench.join("denoiser-1", "denoiser", **SMALL)
    work = _denoising(bench, encoder, denoiser)
    _checkpoint(denoiser, work)
    denoiser.fails(work, "rank_died", released=_unused(work))
    push = denoiser.take(Push)
    assert (push.role, push.held, push.attempt, push.checkpoint) == ("encoder", 1, 2, True)
    assert push.grant.receiver == "denoiser-1"
    assert not encoder.got(Push)
    _pushed(denoiser, push)
    again = other.take(Work)
    assert (again.role, again.attempt, again.delivery.nbytes) == ("denoiser", 2, 500)
    other.accepts(again)
    other.delivers(again)
    last = decoder.take(Work)
    decoder.accepts(last)
    decoder.finishes(last)
    assert bench.result("a").attempts == 2
    bench.wait(0.1)
    assert _released(denoiser) == [("checkpoint", "a", 2)]
    assert ("encoder", "a", 1) in _released(encoder)
    bench.assert_home()


def test_it_goes_on_where_it_was_if_there_is_no_other_denoiser(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    work = _denoising(bench, encoder, denoiser)
    _checkpoint(denoiser, work)
    denoiser.fails(work, "rank_died", released=_unused(work))
    push = denoiser.take(Push)
    assert (push.grant.receiver, push.checkpoint) == ("denoiser-0", True)
    _pushed(denoiser, push)
    again = denoiser.take(Work)
    assert again.attempt == 2
    denoiser.accepts(again)
    # a later checkpoint has the same place, so there is nothing to release
    _checkpoint(denoiser, again, step=6)
    bench.wait(0.1)
    assert _released(denoiser) == []
    denoiser.delivers(again)
    bench.cancel("a")
    bench.wait(0.1)
    assert sorted(_released(denoiser)) == [("checkpoint", "a", 2), ("denoiser", "a", 2)]


def test_a_later_checkpoint_elsewhere_takes_the_place_of_the_first(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    other = bench.join("denoiser-1", "denoiser", **SMALL)
    work = _denoising(bench, encoder, denoiser)
    _checkpoint(denoiser, work)
    denoiser.fails(work, "rank_died", released=_unused(work))
    _pushed(denoiser, denoiser.take(Push))
    again = other.take(Work)
    other.accepts(again)
    _checkpoint(other, again, step=8)
    bench.wait(0.1)
    assert _released(denoiser) == [("checkpoint", "a", 2)]
    other.fails(again, "rank_died", released=_unused(again))
    bench.wait(1.5)
    push = other.take(Push)
    assert (push.held, push.attempt, push.checkpoint) == (2, 3, True)


@pytest.mark.parametrize("how", ["dead", "evicted"])
def test_without_its_checkpoint_it_goes_on_from_the_encoding(how: str, bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    other = bench.join("denoiser-1", "denoiser", **SMALL)
    work = _denoising(bench, encoder, denoiser)
    _checkpoint(denoiser, work)
    if how == "dead":
        bench.end(denoiser)
    else:
        denoiser.fails(work, "rank_died", released=_unused(work))
        push = denoiser.take(Push)
        about = (denoiser.epoch, "a", 2, "encoder", push.grant.generation)
        gone = ErrorInfo("transfer_failed", "the payload is not kept any more")
        denoiser.say(PushFailed(*about, False, 0, gone))
    push = encoder.take(Push)
    assert (push.role, push.checkpoint) == ("encoder", False)
    _pushed(encoder, push, nbytes=300)
    assert other.take(Work).delivery.nbytes == 300


@pytest.mark.parametrize("kind", ["rank_failed", "payload", "internal"])
def test_a_checkpoint_that_cannot_be_gone_on_from_is_let_go(kind: str, bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    others = [bench.join(f"denoiser-{i}", "denoiser", **SMALL) for i in (1, 2)]
    work = _denoising(bench, encoder, denoiser)
    _checkpoint(denoiser, work)
    denoiser.fails(work, "rank_died", released=_unused(work))
    _pushed(denoiser, denoiser.take(Push))
    taker = next(other for other in others if other.got(Work))
    again = taker.take(Work)
    taker.fails(again, kind, released=_unused(again))
    bench.wait(1.5)
    assert ("checkpoint", "a", 2) in _released(denoiser)
    assert encoder.take(Push).attempt == 3


def test_a_draining_denoiser_s_work_moves_at_its_next_checkpoint(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio()
    other = bench.join("denoiser-1", "denoiser", **SMALL)
    work = _denoising(bench, encoder, denoiser)
    bench.drain("denoiser-0")
    assert denoiser.take(Drain).more
    _checkpoint(denoiser, work)
    assert [message.attempt for message in denoiser.got(Abort)] == [1]
    push = denoiser.take(Push)
    assert (push.held, push.attempt, push.grant.receiver) == (1, 2, "denoiser-1")
    assert not denoiser.got(Drain)
    denoiser.aborted(work, released=_unused(work))
    assert not denoiser.got(Drain)  # the payload has still to go
    _pushed(denoiser, push)
    assert not denoiser.take(Drain).more
    again = other.take(Work)
    other.accepts(again)
    other.delivers(again)
    decoder.finishes(decoder.take(Work))
    result = bench.result("a")
    assert isinstance(result, Completed)
    assert bench.count("attempts_moved") == 1
    assert bench.count("attempts_failed") == 0


def test_it_stays_where_it_is_if_nobody_has_room(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    work = _denoising(bench, encoder, denoiser)
    denoiser.say(StateChanged(denoiser.epoch, "draining", "SIGTERM", []))
    _checkpoint(denoiser, work)
    assert not denoiser.got(Abort)
    assert [message.more for message in denoiser.got(Drain)] == [True]
    # one that comes later takes it, with the next checkpoint
    bench.join("denoiser-1", "denoiser", **SMALL)
    _checkpoint(denoiser, work, step=7)
    assert denoiser.take(Push).grant.receiver == "denoiser-1"


def test_moving_does_not_count_as_a_try(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    leaders = [denoiser, *(bench.join(f"denoiser-{i}", "denoiser", **SMALL) for i in range(1, 6))]
    work = _denoising(bench, encoder, denoiser)
    for leader, following in pairwise(leaders):
        for each in leaders:
            if each not in (leader, following):
                each.say(StateChanged(each.epoch, "starting", "busy", []))
        following.say(StateChanged(following.epoch, "ready", "its turn", []))
        bench.drain(leader.name)
        _checkpoint(leader, work)
        _pushed(leader, leader.take(Push))
        work = following.take(Work)
        following.accepts(work)
    assert work.attempt == 6
    bench.cancel("a")


def test_a_checkpoint_of_what_is_over_is_released(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    work = _denoising(bench, encoder, denoiser)
    bench.cancel("a")
    _checkpoint(denoiser, work)
    denoiser.aborted(work, released=_unused(work))
    bench.wait(0.1)
    assert _released(denoiser) == [("checkpoint", "a", 1)]
    bench.assert_home()


def test_a_late_checkpoint_of_a_failed_attempt_stays_with_the_retry(bench: Bench) -> None:
    """It has the place of the one that the next attempt begins with."""
    encoder, denoiser, _ = bench.trio()
    bench.join("denoiser-1", "denoiser", **SMALL)
    work = _denoising(bench, encoder, denoiser)
    _checkpoint(denoiser, work)
    bench.wait(1.0)
    denoiser.fails(work, "rank_died", released=_unused(work))
    _checkpoint(denoiser, work, step=5)
    bench.wait(0.1)
    assert _released(denoiser) == []


def test_nonsense_costs_the_request(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    work = _denoising(bench, encoder, denoiser)
    _checkpoint(denoiser, work, nbytes=0)
    assert bench.count("protocol_breaches") == 1


def test_the_rest_of_a_stage_tells_nothing_of_what_the_whole_takes(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    bench.join("denoiser-1", "denoiser", **SMALL)
    work = _denoising(bench, encoder, denoiser)
    shape = bench.machine.books.ledger.active["a"].works["denoiser"].shape
    _checkpoint(denoiser, work)
    denoiser.fails(work, "rank_died", released=_unused(work))
    push = denoiser.take(Push)
    _pushed(denoiser, push)
    other = bench.scripted[push.grant.receiver.encode()]
    again = other.take(Work)
    other.accepts(again)
    other.delivers(again, report=StageReport(compute_s=3.0, steps=10))
    costs = bench.model.forecast._costs
    assert not costs.measured(shape, 1)
