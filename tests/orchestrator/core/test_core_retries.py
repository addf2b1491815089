"""What follows a failure: another attempt, elsewhere, from the latest payload that still exists."""

import pytest

from orchestrator.core.commands import Completed
from orchestrator.core.events import Submit
from tests.support.bench import INPUTS, Bench, Scripted
from transfer.messages import (
    Abort,
    Delivered,
    ErrorInfo,
    Failed,
    Finished,
    Grant,
    Heartbeat,
    Progressed,
    Push,
    Release,
    Role,
    StageReport,
    Work,
)


@pytest.fixture
def bench() -> Bench:
    return Bench(max_attempts=3, backoff_s=1.0, max_backoff_s=8.0)


def _released(leader: Scripted) -> list[tuple[Role, str, int]]:
    return [pair for message in leader.got(Release) for pair in message.kept]


def _fail(leader: Scripted, kind: str = "rank_failed") -> None:
    """It fails what it was given last, and gives back what it was granted."""
    work = leader.take(Work)
    leader.fails(work, kind, released=work.grant and work.grant.generation)


def _to_decoder(bench: Bench, encoder: Scripted, denoiser: Scripted, decoder: Scripted) -> Work:
    bench.submit("a")
    encoder.delivers(encoder.take(Work))
    work = denoiser.take(Work)
    denoiser.accepts(work)
    denoiser.delivers(work)
    work = decoder.take(Work)
    assert isinstance(work, Work)
    return work


# ---------------------------------------------------------------- from where


def test_a_failed_encoder_is_followed_by_another_one(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio()
    other = bench.join("encoder-1", "encoder")
    bench.submit("a")
    _fail(encoder, "rank_died")
    work = other.take(Work)
    assert work.attempt == 2
    other.delivers(work)
    denoiser.delivers(denoiser.take(Work))
    decoder.finishes(decoder.take(Work))
    result = bench.result("a")
    assert isinstance(result, Completed)
    assert result.attempts == 2
    bench.assert_home()


def test_t6_a_dead_denoiser_s_request_goes_on_from_the_kept_encoding(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio()
    other = bench.join("denoiser-1", "denoiser")
    bench.submit("a")
    encoder.delivers(encoder.take(Work), nbytes=300)
    denoiser.accepts(denoiser.take(Work))
    bench.end(denoiser)
    push = encoder.take(Push)
    assert (push.attempt, push.held, push.role) == (2, 1, "encoder")
    assert push.grant.receiver == "denoiser-1"
    assert not encoder.got(Work)  # nothing is encoded again
    report = StageReport()
    encoder.say(Delivered(1, "a", 2, "encoder", push.grant.generation, 300, 1, report))
    work = other.take(Work)
    assert work.attempt == 2
    other.accepts(work)
    other.delivers(work)
    decoder.finishes(decoder.take(Work))
    assert bench.result("a").attempts == 2
    bench.wait(0.1)
    assert _released(encoder) == [("encoder", "a", 2)]
    assert _released(other) == [("denoiser", "a", 2)]
    bench.assert_home()


def test_a_dead_decoder_s_request_goes_on_from_the_kept_latents(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio()
    work = _to_decoder(bench, encoder, denoiser, decoder)
    decoder.accepts(work)
    bench.end(decoder)
    other = bench.join("decoder-1", "decoder")
    push = denoiser.take(Push)
    assert (push.held, push.attempt, push.grant.receiver) == (1, 2, "decoder-1")
    denoiser.delivers(work.__class__(**_fields(work, attempt=2, role="denoiser")), grant=push.grant)
    other.finishes(other.take(Work))
    assert bench.result("a").attempts == 2


def _fields(work: Work, **changes: object) -> dict[str, object]:
    return {name: getattr(work, name) for name in work.__struct_fields__} | changes


def test_what_is_gone_is_computed_again(bench: Bench) -> None:
    """The encoder needed the room, or has died as well."""
    encoder, denoiser, _ = bench.trio()
    bench.join("denoiser-1", "denoiser")
    bench.submit("a")
    first = encoder.take(Work)
    encoder.delivers(first)
    bench.end(denoiser)
    push = encoder.take(Push)
    resumed = Work(**_fields(first, attempt=2))  # type: ignore[arg-type]
    encoder.push_fails(resumed, push.grant, may_land=False, nbytes=0)
    encoder.aborted(resumed)
    again = encoder.take(Work)
    assert (again.attempt, again.delivery) == (3, None)
    assert bench.count("attempts_resumed") == 1


def test_with_both_dead_the_first_stage_begins_again(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    bench.submit("a")
    encoder.delivers(encoder.take(Work))
    bench.end(encoder)
    assert not bench.results["a"]  # the payload is at the denoiser already
    bench.end(denoiser)
    assert not bench.results["a"]
    other = bench.join("encoder-1", "encoder")
    assert other.take(Work).attempt == 2


# ---------------------------------------------------------------- how often, and where


def test_i8_a_poison_request_costs_at_most_max_attempts_workers(bench: Bench) -> None:
    encoders = [bench.join(f"encoder-{i}", "encoder") for i in range(5)]
    bench.join("denoiser-0", "denoiser")
    bench.join("decoder-0", "decoder")
    bench.submit("a")
    for _ in range(9):
        for encoder in encoders:
            if encoder.got(Work):
                _fail(encoder, "rank_died")
        bench.beat(1.0, *bench.scripted.values())
    error = bench.error("a")
    assert error.kind == "rank_died"
    assert "after 3 attempts" in error.message
    assert [line[:9] for line in error.history] == ["attempt 1", "attempt 2"]
    assert "encoder-0" in error.history[0]
    assert bench.count("attempts_failed") == 2
    bench.assert_home()


def test_i8_who_was_only_beside_a_poison_request_is_not_failed_with_it(bench: Bench) -> None:
    """As often as that happens, up to a bound: nothing is tried for ever."""
    encoder, _, _ = bench.trio()
    bench.submit("a", deadline_s=1000.0)
    allowed = bench.machine.books.config.max_spared + 3
    for number in range(1, allowed + 1):
        assert not bench.results["a"]
        work = encoder.take(Work)
        about = (encoder.epoch, "a", number, "encoder")
        error = ErrorInfo("rank_died", "scripted", bystander=True)
        encoder.say(Failed(*about, error, work.grant.generation))
        assert work.attempt == number
        bench.beat(9.0, *bench.scripted.values())
    assert f"after {allowed} attempts" in bench.error("a").message
    bench.assert_home()


@pytest.mark.parametrize("kind", ["invalid_request", "unsupported", "payload_too_large"])
def test_what_would_only_happen_again_is_not_tried_again(bench: Bench, kind: str) -> None:
    encoder, _, _ = bench.trio()
    bench.submit("a")
    _fail(encoder, kind)
    assert bench.error("a").kind == kind
    assert not bench.error("a").history


def test_the_second_retry_waits_and_the_next_one_longer() -> None:
    bench = Bench(max_attempts=4, backoff_s=1.0, max_backoff_s=8.0)
    encoder, *others = bench.trio()
    bench.submit("a")
    _fail(encoder)
    _fail(encoder)  # the first retry comes at once
    assert not encoder.got(Work)
    bench.beat(0.9, encoder, *others)
    assert not encoder.got(Work)
    assert bench.machine.alarm == pytest.approx(101.0)
    bench.beat(0.2, encoder, *others)
    _fail(encoder)
    bench.beat(1.9, encoder, *others)
    assert not encoder.got(Work)
    bench.beat(0.2, encoder, *others)
    assert encoder.take(Work).attempt == 4


def test_a_retry_prefers_an_instance_at_which_it_did_not_fail(bench: Bench) -> None:
    """Even if that one is busy; who comes after it is not held up."""
    encoder, *_ = bench.trio(capacity=1)
    other = bench.join("encoder-1", "encoder", capacity=1)
    bench.submit("a")
    bench.submit("b")
    _fail(encoder)
    bench.submit("c")
    assert encoder.take(Work).request == "c"
    assert other.got(Work)[0].request == "b"
    _fail(other, "invalid_request")
    assert other.take(Work).request == "a"


def test_with_nobody_else_it_is_tried_where_it_failed(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    bench.submit("a")
    _fail(encoder)
    assert encoder.take(Work).attempt == 2


def test_a_retry_keeps_its_place_in_the_line(bench: Bench) -> None:
    encoder, *_ = bench.trio(capacity=1)
    for id in "abc":
        bench.submit(id)
    _fail(encoder)
    assert encoder.take(Work).request == "a"


# ---------------------------------------------------------------- fences


def test_i2_an_old_attempt_that_finishes_after_all_is_not_heard(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio()
    other = bench.join("decoder-1", "decoder")
    work = _to_decoder(bench, encoder, denoiser, decoder)
    bench.do(_lost(decoder))
    assert not bench.results["a"]
    decoder.register()
    decoder.say(Finished(1, "a", 1, "decoder", [], StageReport()))
    assert bench.count("dropped_stale_epoch") == 1
    push = denoiser.take(Push)
    denoiser.delivers(Work(**_fields(work, attempt=2, role="denoiser")), grant=push.grant)  # type: ignore[arg-type]
    other.finishes(other.take(Work))
    assert bench.result("a").attempts == 2


def _lost(leader: Scripted):  # type: ignore[no-untyped-def]
    from orchestrator.core.events import Disconnected

    return Disconnected(leader.connection)


def test_cancel_while_a_retry_waits(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    bench.submit("a")
    _fail(encoder)
    _fail(encoder)
    assert bench.machine.view().requests.queued == 1
    bench.cancel("a")
    assert bench.error("a").kind == "cancelled"
    bench.beat(3.0, *bench.scripted.values())
    assert not encoder.got(Work)
    bench.assert_home()


def test_the_deadline_counts_over_all_attempts(bench: Bench) -> None:
    encoder, *others = bench.trio()
    bench.submit("a", deadline_s=3.0)
    _fail(encoder)
    bench.beat(3.1, encoder, *others)
    assert bench.error("a").kind == "deadline"
    assert len(bench.error("a").history) == 1
    assert encoder.take(Abort).attempt == 2


def test_cancelling_a_resumed_attempt_lets_go_of_what_was_kept(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    bench.submit("a")
    work = encoder.take(Work)
    encoder.delivers(work)
    bench.end(denoiser)  # and nobody else denoises: staged at the encoder
    bench.cancel("a")
    encoder.aborted(Work(**_fields(work, attempt=2)))  # type: ignore[arg-type]
    bench.wait(0.1)
    assert ("encoder", "a", 1) in _released(encoder)
    bench.assert_home()


def test_bystanders_of_a_poison_request_are_not_worn_out(bench: Bench) -> None:
    """One denoiser, a request that kills its ranks, and one that is in their memory each time."""
    encoder, denoiser, decoder = bench.trio()
    bench.submit("poison")
    bench.submit("good")
    for _ in range(2):
        encoder.delivers(encoder.take(Work))
    for attempt in (1, 2, 3):
        works = [denoiser.take(Work) for _ in denoiser.got(Work)]
        for work in works:
            denoiser.accepts(work)
        for work in sorted(works, key=lambda work: work.request):
            error = ErrorInfo("rank_died", "scripted", None, "denoiser-0")
            error = error.but(bystander=work.request == "good")
            about = (denoiser.epoch, work.request, work.attempt, "denoiser")
            denoiser.say(Failed(*about, error, work.grant and work.grant.generation))
        bench.beat(10.0, encoder, denoiser, decoder)
        for push in encoder.got(Push):
            encoder.inbox.remove(push)
            about = (1, push.request, push.attempt, "encoder", push.grant.generation)
            encoder.say(Delivered(*about, 100, 1, StageReport()))
        assert bool(bench.results["poison"]) == (attempt == 3)
    denoiser.delivers(denoiser.take(Work))
    decoder.finishes(decoder.take(Work))
    assert isinstance(bench.result("good"), Completed)


def test_an_instance_that_fails_everybody_is_the_last_choice() -> None:
    bench = Bench(max_attempts=3, policy="least_loaded")
    broken, *_ = bench.trio(capacity=8)
    good = bench.join("encoder-1", "encoder", capacity=8)
    for number in range(20):
        bench.submit(f"r{number}")
        if broken.got(Work):
            _fail(broken)
        if good.got(Work):
            work = good.take(Work)
            good.stages(work, released=work.grant and work.grant.generation)
    assert bench.count("attempts_failed") == 3


def test_a_small_instance_is_no_alternative_for_a_large_payload(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    bench.join("denoiser-1", "denoiser", slots=1)
    bench.submit("a")
    work = encoder.take(Work)
    encoder.stages(work, 4000, released=work.grant.generation)
    push = encoder.take(Push)
    assert push.grant.receiver == "denoiser-0"
    encoder.push_fails(work, push.grant, may_land=False, nbytes=4000)
    bench.beat(1.0, *bench.scripted.values())
    assert encoder.take(Push).grant.receiver == "denoiser-0"


def test_it_looks_for_another_instance_with_patience_but_not_for_ever() -> None:
    bench = Bench(max_attempts=3, patience_s=5.0)
    encoder, *others = bench.trio(capacity=1)
    busy = bench.join("encoder-1", "encoder", capacity=1)
    bench.submit("a")
    bench.submit("b")
    _fail(encoder)
    everybody = (encoder, busy, *others)
    bench.beat(4.0, *everybody)
    assert not encoder.got(Work)
    bench.beat(2.0, *everybody)
    assert encoder.take(Work).request == "a"


def test_a_receiver_that_died_unnoticed_costs_pauses_and_no_computing(bench: Bench) -> None:
    """Until its silence tells: every write is refused at once."""
    encoder, _, decoder = bench.trio()
    bench.submit("a", deadline_s=600.0)
    work = encoder.take(Work)
    encoder.push_fails(work, work.grant, may_land=False)
    for _ in range(40):
        for push in encoder.got(Push):
            encoder.inbox.remove(push)
            encoder.push_fails(work, push.grant, may_land=False)
        bench.beat(0.1, encoder, decoder)
    assert bench.count("pushes_failed") < 8
    other = bench.join("denoiser-1", "denoiser")
    bench.beat(9.0, encoder, decoder, other)
    assert encoder.take(Push).grant.receiver == "denoiser-1"
    assert not encoder.got(Work)


def test_a_sender_that_can_write_to_nobody_is_avoided(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    other = bench.join("encoder-1", "encoder")
    bench.submit("a", deadline_s=600.0)
    work = encoder.take(Work)
    encoder.push_fails(work, work.grant, may_land=False)
    while not other.got(Work):
        bench.beat(10.0, *bench.scripted.values())
        if encoder.got(Push):
            encoder.push_fails(work, encoder.take(Push).grant, may_land=False)
    assert other.take(Work).attempt == 2


def test_a_payload_that_is_wrong_twice_is_made_again_elsewhere(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    another = bench.join("encoder-1", "encoder")
    bench.submit("a")
    first = encoder.take(Work)
    encoder.delivers(first)
    _fail(denoiser, "payload")
    push = encoder.take(Push)  # once it may have been the way
    resumed = Work(**_fields(first, attempt=2))  # type: ignore[arg-type]
    encoder.delivers(resumed, grant=push.grant)
    _fail(denoiser, "payload")
    bench.beat(2.0, *bench.scripted.values())
    assert ("encoder", "a", 2) in _released(encoder)
    assert another.take(Work).attempt == 3


# ---------------------------------------------------------------- stalls


def test_who_waits_for_its_turn_has_not_stalled() -> None:
    bench = Bench(max_attempts=1, stall_s=10.0)
    encoder, *others = bench.trio()
    bench.submit("a", deadline_s=1000.0)
    bench.submit("b", deadline_s=1000.0)
    encoder.take(Work)
    for step in range(1, 12):
        encoder.say(Progressed(encoder.epoch, "a", 1, "encoder", step, 20))
        bench.beat(5.0, encoder, *others)
    assert not bench.results["b"]
    bench.beat(25.0, encoder, *others)  # and now nobody moves
    assert bench.error("b").kind == "stalled"


def test_a_write_that_nobody_hears_of_has_stalled() -> None:
    bench = Bench(max_attempts=1, stall_s=10.0)
    encoder, *others = bench.trio()
    bench.submit("a", deadline_s=1000.0)
    work = encoder.take(Work)
    encoder.stages(work, 100, released=work.grant.generation)
    assert encoder.got(Push)
    bench.beat(11.0, encoder, *others)
    assert bench.error("a").kind == "stalled"


def test_an_instance_that_makes_no_progress_is_given_up() -> None:
    bench = Bench(max_attempts=2, stall_s=10.0)
    encoder, denoiser, decoder = bench.trio()
    other = bench.join("denoiser-1", "denoiser")
    bench.submit("a", deadline_s=1000.0)
    encoder.delivers(encoder.take(Work))
    stuck = denoiser.take(Work)
    everybody = (encoder, denoiser, decoder, other)
    bench.beat(9.0, *everybody)
    denoiser.accepts(stuck)  # a sign of progress
    bench.beat(9.0, *everybody)
    assert not denoiser.got(Abort)
    bench.beat(2.0, *everybody)
    assert denoiser.take(Abort).attempt == 1
    assert denoiser.seen.in_flight == 1  # until it confirms
    push = encoder.take(Push)
    assert push.grant.receiver == "denoiser-1"


# ---------------------------------------------------------------- an earlier life


def test_attempts_of_an_earlier_life_count(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    bench.do(Submit("a", INPUTS, 60.0, attempts=2))
    work = encoder.take(Work)
    assert work.attempt == 3
    encoder.fails(work)
    assert "after 3 attempts" not in bench.error("a").message  # nothing is known of the others
    bench.do(Submit("b", INPUTS, 60.0, attempts=7))
    assert encoder.take(Work).attempt == 8  # one is always left


def test_kept_payloads_of_finished_requests_are_released_with_the_next_tick(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio()
    work = _to_decoder(bench, encoder, denoiser, decoder)
    decoder.accepts(work)
    decoder.finishes(work)
    for leader in (encoder, denoiser, decoder):
        leader.say(Heartbeat(leader.epoch))
    bench.wait(0.1)
    assert _released(encoder) == [("encoder", "a", 1)]
    assert _released(denoiser) == [("denoiser", "a", 1)]
    assert not decoder.got(Release)


def test_a_payload_that_is_gone_says_nothing_against_its_receiver(bench: Bench) -> None:
    encoder, taken, _ = bench.trio(slots=1)
    receiver = bench.join("denoiser-1", "denoiser", slots=1)
    _stage(bench, encoder, "a")
    assert _pushed(encoder).receiver == taken.name
    work = _stage(bench, encoder, "b")
    grant = _pushed(encoder)
    assert grant.receiver == receiver.name
    encoder.push_fails(work, grant, may_land=False, nbytes=0)
    encoder.stages(encoder.take(Work), 1000)
    assert _pushed(encoder).receiver == receiver.name


def test_whoever_avoids_an_instance_goes_there_if_the_others_will_have_no_slots(
    bench: Bench,
) -> None:
    """A failed write may still land in the only slot of the other denoiser, for as long as its
    sender's process lives: to wait for it would be to wait for a death."""
    encoder, avoided, _ = bench.trio(slots=1)
    other = bench.join("denoiser-1", "denoiser", slots=1)
    work = _stage(bench, encoder, "a")
    grant = _pushed(encoder)
    assert grant.receiver == avoided.name
    second = _stage(bench, encoder, "b")
    pinned = _pushed(encoder)
    assert pinned.receiver == other.name
    encoder.push_fails(work, grant, may_land=False)
    assert not encoder.got(Push)  # it waits for the other one
    encoder.push_fails(second, pinned, may_land=True)
    assert _pushed(encoder).receiver == avoided.name


def _stage(bench: Bench, encoder: Scripted, id: str) -> Work:
    bench.submit(id)
    work = encoder.take(Work)
    encoder.stages(work, 1000)
    assert isinstance(work, Work)
    return work


def _pushed(encoder: Scripted) -> Grant:
    """Where the encoder is told to write."""
    push = encoder.take(Push)
    assert isinstance(push, Push)
    return push.grant
