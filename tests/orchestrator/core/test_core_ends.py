"""Every other way in which a request can end: failures, cancelling, and bugs of ours."""

import pytest

from orchestrator.core.attempts import InvalidTransition, State
from orchestrator.core.commands import Completed
from orchestrator.core.events import Broken
from tests.support.bench import KIB, Bench, Scripted, Trio, to_denoiser
from transfer.messages import Abort, Aborted, Finished, Push, StageReport, Work

# ---------------------------------------------------------------- failures


def test_failed_stage_frees_everything(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.submit("a")
    work = encoder.take(Work)
    encoder.fails(work, released=work.grant.generation)
    error = bench.error("a")
    assert (error.kind, error.instance) == ("rank_failed", "encoder-0")
    bench.assert_home()


def test_t1_failed_push_is_an_error_and_its_slots_stay_closed() -> None:
    bench = Bench(max_pushes=1)
    encoder, denoiser, _ = bench.trio()
    bench.submit("a")
    work = encoder.take(Work)
    encoder.push_fails(work, work.grant, may_land=True)
    assert (encoder.seen.in_flight, denoiser.seen.slots.quarantined) == (0, 1)
    encoder.push_fails(work, encoder.take(Push).grant, may_land=True)
    assert bench.error("a").kind == "transfer_failed"
    assert "scripted" in bench.error("a").message
    assert not denoiser.got(Work)
    encoder.aborted(work)
    # not even the sender knows whether something still lands
    assert denoiser.seen.slots.quarantined == 2
    bench.end(encoder)
    assert denoiser.seen.slots.quarantined == 0


def test_failed_push_that_cannot_land_frees_the_slots_and_goes_elsewhere(
    bench: Bench, trio: Trio
) -> None:
    encoder, denoiser, _ = trio
    other = bench.join("denoiser-1", "denoiser")
    bench.submit("a")
    work = encoder.take(Work)
    encoder.push_fails(work, work.grant, may_land=False)
    assert denoiser.seen.slots.leased == denoiser.seen.slots.quarantined == 0
    encoder.delivers(work, grant=encoder.take(Push).grant)
    assert other.take(Work).attempt == 1


def test_a_grant_that_is_not_given_back_stays_closed(bench: Bench, trio: Trio) -> None:
    """An aborted write whose end the sender does not know: it says Aborted, and gives nothing
    back."""
    encoder, denoiser, _ = trio
    bench.submit("a")
    work = encoder.take(Work)
    bench.cancel("a")
    encoder.aborted(work, released=None)
    assert denoiser.seen.slots.quarantined == 1


def test_t3_deadline_answers_at_once_and_capacity_returns_when_confirmed(
    bench: Bench, trio: Trio
) -> None:
    encoder, denoiser, _ = trio
    bench.submit("a", deadline_s=2)
    work = encoder.take(Work)
    bench.wait(1.9)
    assert not bench.results["a"]
    bench.wait(0.1)
    assert bench.error("a").kind == "deadline"
    assert (encoder.seen.in_flight, denoiser.seen.slots.quarantined) == (1, 1)
    encoder.aborted(work, released=work.grant.generation)
    assert (encoder.seen.in_flight, denoiser.seen.slots.quarantined) == (0, 0)
    encoder.say(Aborted(encoder.epoch, "a", 1, work.grant.generation))  # once, not twice
    bench.assert_home()


def test_unanswered_abort_is_repeated(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.submit("a")
    work = encoder.take(Work)
    bench.cancel("a")
    encoder.take(Abort)
    bench.beat(bench.machine.books.config.abort_again_s + 0.1, *trio)
    encoder.aborted(work, released=work.grant.generation)
    bench.beat(30, *trio)
    assert not encoder.got(Abort)
    bench.assert_home()


def test_finished_without_media_is_the_senders_error(bench: Bench, trio: Trio) -> None:
    denoiser, decoder = trio[1:]
    work = to_denoiser(bench, trio)
    denoiser.delivers(work)
    work = decoder.take(Work)
    decoder.say(Finished(decoder.epoch, "a", 1, "decoder", [], StageReport()))
    assert bench.error("a").kind == "internal"
    bench.assert_home()


def test_delivery_of_more_than_was_granted_is_the_senders_error(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, _ = trio
    bench.submit("a")
    work = encoder.take(Work)
    encoder.delivers(work, nbytes=KIB + 1)
    assert bench.error("a").kind == "internal"
    assert not denoiser.got(Work)
    encoder.aborted(work, released=work.grant.generation)
    bench.assert_home()


# ---------------------------------------------------------------- cancelling


def test_cancel_while_queued(bench: Bench) -> None:
    encoder, *_ = bench.trio(capacity=1)
    bench.submit("a")
    bench.submit("b")
    bench.cancel("b")
    assert bench.error("b").kind == "cancelled"
    assert not encoder.got(Abort)
    assert bench.machine.view().requests.queued == 0


def test_cancel_while_staged(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio(capacity=1)
    bench.submit("a")
    encoder.delivers(encoder.take(Work))
    bench.submit("b")
    work = encoder.take(Work)
    encoder.stages(work)
    bench.cancel("b")
    encoder.aborted(work)
    denoiser.delivers(denoiser.take(Work))
    decoder.finishes(decoder.take(Work))
    assert not encoder.got(Push)
    bench.assert_home()


@pytest.mark.parametrize("answer", ["delivers", "gives back"])
def test_cancel_while_pushing(bench: Bench, trio: Trio, answer: str) -> None:
    encoder, denoiser, _ = trio
    bench.submit("a")
    work = encoder.take(Work)
    encoder.stages(work, released=work.grant.generation)
    push = encoder.take(Push)
    bench.cancel("a")
    assert denoiser.seen.slots.quarantined == 1
    if answer == "delivers":
        encoder.delivers(work, grant=push.grant)
    else:
        encoder.aborted(work, released=push.grant.generation)
    assert not denoiser.got(Work)
    bench.assert_home()


def test_cancel_while_delivered_and_waiting_for_capacity(bench: Bench) -> None:
    """The receiver has not been told of the request, and is not told now."""
    denoiser = _parked(bench)
    assert denoiser.seen.slots.leased == 2
    bench.cancel("promised")
    assert denoiser.seen.slots.leased == 1
    assert not denoiser.got(Abort)


def test_delivered_payload_is_taken_up_when_there_is_capacity(bench: Bench) -> None:
    denoiser = _parked(bench)
    first = denoiser.take(Work)
    assert not denoiser.got(Work)
    denoiser.fails(first)
    work = denoiser.take(Work)
    assert (first.request, work.request) == ("pushed", "promised")
    assert work.delivery is not None


def _parked(bench: Bench) -> Scripted:
    """A promise is overtaken by a push, and its payload waits in the denoiser's slots."""
    encoder = bench.join("encoder-0", "encoder", capacity=2)
    denoiser = bench.join("denoiser-0", "denoiser", capacity=1)
    bench.join("decoder-0", "decoder")
    bench.submit("promised")
    bench.submit("pushed")
    promised, pushed = encoder.take(Work), encoder.take(Work)
    assert pushed.grant is None
    encoder.stages(pushed)
    encoder.delivers(pushed, grant=encoder.take(Push).grant)
    encoder.delivers(promised)
    return denoiser


def test_cancel_while_computing_the_last_stage_loses_to_a_result_that_came_first(
    bench: Bench, trio: Trio
) -> None:
    denoiser, decoder = trio[1:]
    work = to_denoiser(bench, trio)
    denoiser.delivers(work)
    decoder.finishes(decoder.take(Work))
    bench.cancel("a")
    assert isinstance(bench.result("a"), Completed)


def test_result_that_comes_after_the_cancel_is_not_shown(bench: Bench, trio: Trio) -> None:
    denoiser, decoder = trio[1:]
    work = to_denoiser(bench, trio)
    denoiser.delivers(work)
    bench.cancel("a")
    decoder.finishes(decoder.take(Work))
    assert bench.error("a").kind == "cancelled"
    bench.assert_home()


def test_cancel_twice_and_of_nothing(bench: Bench, trio: Trio) -> None:
    bench.submit("a")
    bench.cancel("a")
    bench.cancel("a")
    bench.cancel("unknown")
    assert bench.error("a").kind == "cancelled"


# ---------------------------------------------------------------- bugs of ours


def test_invalid_transition_tells_the_whole_story(bench: Bench, trio: Trio) -> None:
    to_denoiser(bench, trio)
    attempt = bench.machine.books.ledger.active["a"].attempt
    with pytest.raises(InvalidTransition) as raised:
        attempt.move(State.PUSHING, bench.now)
    story = raised.value.story
    assert "computing → pushing" in story
    for part in ("accepted", "encoder-0 (epoch 1)", "delivered", "denoiser-0 (epoch 1)"):
        assert part in story


def test_broken_request_fails_and_is_logged(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.submit("a")
    work = encoder.take(Work)
    bench.do(Broken("a", "the story"))
    assert bench.error("a").kind == "internal"
    assert bench.count("invalid_transitions") == 1
    assert any("the story" in line.text for line in bench.logs)
    encoder.aborted(work, released=work.grant.generation)
    bench.assert_home()
