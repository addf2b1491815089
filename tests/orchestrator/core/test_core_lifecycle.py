"""A request's way through the roles, from admission to its result."""

from orchestrator.core.commands import Completed, DuplicateId, NoRoute, Progress, QueueFull
from tests.support.bench import INPUTS, KIB, PICTURE, Bench, Trio, to_denoiser
from transfer.messages import Delivery, Left, Progressed, Push, StageReport, StateChanged, Work


def test_way_of_a_request(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    bench.submit("a", deadline_s=60)
    work = encoder.take(Work)
    assert (work.role, work.last, work.inputs, work.seconds) == ("encoder", False, INPUTS, 60)
    assert work.delivery is None
    assert work.grant.receiver == "denoiser-0"
    bench.now += 1
    encoder.delivers(work, nbytes=500, checksum=42)
    work = denoiser.take(Work)
    assert work.delivery == Delivery(work.delivery.generation, [0], 500, 42)
    assert work.seconds == 59
    denoiser.accepts(work)
    denoiser.delivers(work)
    work = decoder.take(Work)
    assert work.last
    assert work.grant is None
    decoder.finishes(work)
    result = bench.result("a")
    assert isinstance(result, Completed)
    assert (result.media, result.attempts) == ([PICTURE], 1)
    bench.assert_home()


def test_capacity_is_free_as_soon_as_a_stage_is_over(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, _ = trio
    bench.submit("a")
    assert (encoder.seen.in_flight, denoiser.seen.in_flight) == (1, 0)
    encoder.delivers(encoder.take(Work))
    assert (encoder.seen.in_flight, denoiser.seen.in_flight) == (0, 1)


def test_slots_are_free_when_the_payload_is_read(bench: Bench, trio: Trio) -> None:
    denoiser = trio[1]
    work = to_denoiser(bench, trio)
    assert denoiser.seen.slots.leased == 1
    denoiser.accepts(work)
    assert denoiser.seen.slots.leased == 0


def test_timings_tell_where_the_seconds_went(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    bench.submit("a")
    bench.now += 5
    encoder.delivers(encoder.take(Work), report=StageReport(0.5, 0.0, 2.0, 0.25))
    denoiser.delivers(denoiser.take(Work), report=StageReport(0.0, 0.25, 3.0, 0.5))
    decoder.finishes(decoder.take(Work))
    result = bench.result("a")
    assert isinstance(result, Completed)
    timings = result.timings
    assert (timings.encoder_s, timings.denoiser_s, timings.decoder_s) == (2.0, 3.0, 1.0)
    assert (timings.queue_s, timings.transfer_s, timings.total_s) == (0.5, 1.0, 5.0)
    assert timings.monolithic_s is None


def test_waiting_for_an_instance_is_queue_time(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio(capacity=1)
    bench.submit("a")
    bench.submit("b")
    bench.now += 3
    first = encoder.take(Work)
    encoder.fails(first, released=first.grant.generation)
    encoder.delivers(encoder.take(Work))
    denoiser.delivers(denoiser.take(Work))
    decoder.finishes(decoder.take(Work))
    result = bench.result("b")
    assert isinstance(result, Completed)
    assert result.timings.queue_s == 3


def test_progress_is_told_once_per_step(bench: Bench, trio: Trio) -> None:
    denoiser = trio[1]
    work = to_denoiser(bench, trio)
    step = Progressed(denoiser.epoch, "a", 1, "denoiser", 1, 8)
    assert denoiser.say(step) == [Progress("a", 1, "denoiser", "denoiser-0", 1, 8)]
    assert denoiser.say(step) == []
    assert work.request == "a"


# ---------------------------------------------------------------- staged payloads


def test_payload_is_staged_while_the_next_role_is_full_and_pushed_oldest_first(
    bench: Bench,
) -> None:
    encoder, denoiser, _ = bench.trio(capacity=1)
    for id in "abc":
        bench.submit(id)
    first = encoder.take(Work)
    encoder.delivers(first)
    for _ in "bc":
        work = encoder.take(Work)
        # the one place of the denoiser is taken
        assert work.grant is None
        encoder.stages(work, nbytes=3000)
    assert encoder.seen.in_flight == 0
    assert not encoder.got(Push)
    work = denoiser.take(Work)
    denoiser.accepts(work)
    denoiser.delivers(work)
    push = encoder.take(Push)
    assert push.request == "b"
    assert len(push.grant.slots) == 3


def test_older_request_goes_first_even_if_it_was_staged_later(bench: Bench) -> None:
    encoder, *_ = bench.trio(capacity=3)
    for id in ("first", "old", "young"):
        bench.submit(id)
    first, old, young = (encoder.take(Work) for _ in range(3))
    # both want all eight slots, of which the first request holds one
    encoder.stages(young, nbytes=8 * KIB, released=young.grant.generation)
    encoder.stages(old, nbytes=8 * KIB, released=old.grant.generation)
    assert not encoder.got(Push)
    encoder.fails(first, released=first.grant.generation)
    assert encoder.take(Push).request == "old"
    assert not encoder.got(Push)


def test_a_promise_never_keeps_a_decoder_idle(bench: Bench) -> None:
    """A slow denoiser was promised the decoder's only place; a fast one goes first."""
    encoder = bench.join("encoder-0", "encoder", capacity=4)
    slow = bench.join("denoiser-0", "denoiser", capacity=1)
    fast = bench.join("denoiser-1", "denoiser", capacity=1)
    decoder = bench.join("decoder-0", "decoder", capacity=1)
    bench.submit("slow")
    bench.submit("fast")
    encoder.delivers(encoder.take(Work))
    encoder.delivers(encoder.take(Work))
    promised, unpromised = slow.take(Work), fast.take(Work)
    assert promised.grant is not None
    assert unpromised.grant is None
    fast.stages(unpromised)
    fast.delivers(unpromised, grant=fast.take(Push).grant)
    work = decoder.take(Work)
    assert work.request == "fast"
    slow.delivers(promised)
    assert not decoder.got(Work)  # its payload waits in the slots
    decoder.finishes(work)
    assert decoder.take(Work).request == "slow"


def test_t5_payload_larger_than_every_pool_fails_at_once(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.submit("a")
    work = encoder.take(Work)
    encoder.stages(work, nbytes=8 * KIB + 1, released=work.grant.generation)
    error = bench.error("a")
    assert error.kind == "payload_too_large"
    assert "8193 bytes" in error.message
    assert "8192" in error.message
    encoder.aborted(work)
    bench.assert_home()


def test_t5_what_waits_fails_when_the_only_pool_large_enough_leaves(bench: Bench) -> None:
    encoder = bench.join("encoder-0", "encoder")
    large = bench.join("large", "denoiser", slots=16, capacity=1)
    bench.join("small", "denoiser", slots=4, capacity=1)
    bench.join("decoder-0", "decoder")
    bench.submit("a")
    work = encoder.take(Work)
    bench.drain("large")
    encoder.stages(work, nbytes=10 * KIB, released=work.grant.generation)
    assert not encoder.got(Push)
    large.say(Left(large.epoch, "drained"))
    assert bench.error("a").kind == "payload_too_large"


def test_grant_size_is_learned_from_recent_payloads(bench: Bench) -> None:
    encoder, *_ = bench.trio(slots=16)
    bench.submit("a")
    work = encoder.take(Work)
    assert len(work.grant.slots) == 1
    encoder.stages(work, nbytes=3 * KIB, released=work.grant.generation)
    bench.submit("b")
    assert len(encoder.take(Work).grant.slots) == 3


def test_grants_that_are_given_back_again_and_again_end_the_request(
    bench: Bench, trio: Trio
) -> None:
    encoder = trio[0]
    bench.submit("a")
    work = encoder.take(Work)
    encoder.stages(work, released=work.grant.generation)
    for _ in range(bench.machine.books.config.max_pushes):
        encoder.stages(work, released=encoder.take(Push).grant.generation)
    assert bench.error("a").kind == "transfer_failed"
    encoder.aborted(work)
    bench.assert_home()


# ---------------------------------------------------------------- ids and admission


def test_t8_resubmitted_id_never_receives_what_the_old_attempt_made(
    bench: Bench, trio: Trio
) -> None:
    encoder, denoiser, _ = trio
    bench.submit("a", deadline_s=1)
    old = encoder.take(Work)
    bench.wait(1)
    bench.submit("a")
    new = encoder.take(Work)
    assert (old.attempt, new.attempt) == (1, 2)
    encoder.delivers(old)
    assert not denoiser.got(Work)
    encoder.delivers(old, attempt=2)  # nor if a liar gives it the new number
    assert not denoiser.got(Work)
    encoder.delivers(new)
    assert denoiser.take(Work).attempt == 2


def test_attempts_go_on_counting_after_everything_has_come_home(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.submit("a")
    work = encoder.take(Work)
    encoder.fails(work, released=work.grant.generation)
    bench.assert_home()
    bench.submit("a")
    assert encoder.take(Work).attempt == 2


def test_id_that_is_under_way_is_refused(bench: Bench, trio: Trio) -> None:
    bench.submit("a")
    bench.submit("a")
    assert bench.refused["a"] == DuplicateId()
    assert len(trio[0].got(Work)) == 1


def test_full_queue_refuses_and_says_when_to_come_back() -> None:
    bench = Bench(max_queue=2)
    bench.trio(capacity=1)
    for id in "abc":
        bench.submit(id)
    assert not bench.refused
    bench.submit("d")
    refusal = bench.refused["d"]
    assert isinstance(refusal, QueueFull)
    assert 1 <= refusal.retry_after_s <= 60


def test_empty_queue_of_no_length_still_lets_a_request_through() -> None:
    bench = Bench(max_queue=0)
    bench.trio(capacity=1)
    bench.submit("a")
    bench.submit("b")
    assert list(bench.refused) == ["b"]


def test_t12_nothing_is_accepted_before_every_role_has_a_ready_instance(bench: Bench) -> None:
    assert bench.machine.missing() == ["encoder", "denoiser", "decoder"]
    bench.join("encoder-0", "encoder")
    bench.join("decoder-0", "decoder")
    bench.submit("a")
    assert bench.refused["a"] == NoRoute(["denoiser"], [], "demo")
    bench.join("denoiser-0", "denoiser")
    assert bench.machine.missing() == []
    bench.submit("a")
    assert bench.machine.view().requests.running == 1


def test_t18_first_denoise_starts_after_the_first_encode(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio(capacity=1)
    for id in "abcd":
        bench.submit(id)
    encoder.delivers(encoder.take(Work))
    assert denoiser.take(Work).request == "a"
    assert encoder.take(Work).request == "b"


# ---------------------------------------------------------------- monolithic


def test_monolithic_route_when_nothing_is_split(bench: Bench) -> None:
    whole = bench.join("whole-0", "monolithic", slots=0)
    bench.submit("a")
    work = whole.take(Work)
    assert (work.role, work.last, work.grant, work.delivery) == ("monolithic", True, None, None)
    whole.finishes(work)
    result = bench.result("a")
    assert isinstance(result, Completed)
    assert result.timings.monolithic_s == 1.0
    assert result.timings.encoder_s is None
    bench.assert_home()


def test_split_route_is_preferred_when_it_is_complete(bench: Bench) -> None:
    whole = bench.join("whole-0", "monolithic")
    encoder, *_ = bench.trio()
    bench.submit("a")
    assert encoder.got(Work)
    assert not whole.got(Work)


def test_missing_monolithic_is_told_when_only_that_is_there(bench: Bench) -> None:
    whole = bench.join("whole-0", "monolithic")
    whole.say(StateChanged(whole.epoch, "warming", "a rank died", []))
    assert bench.machine.missing() == ["monolithic"]
