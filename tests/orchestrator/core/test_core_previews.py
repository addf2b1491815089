"""Previews in the core: when one is begun, how it goes, and that it harms nothing."""

import pytest
from msgspec.structs import replace

from orchestrator.core.commands import Completed
from tests.support.bench import PICTURE, Bench, Scripted, Trio
from transfer.messages import Abort, Delivered, Finished, Push, Release, StageReport, Work


def denoising(bench: Bench, trio: Trio, id: str = "a", count: int = 2) -> Work:
    """A request that asked for previews, and is with the denoiser now."""
    encoder, denoiser, _ = trio
    bench.submit(id, previews=count)
    encoder.delivers(encoder.take(Work))
    work: Work = denoiser.take(Work)
    denoiser.accepts(work)
    return work


def end(trio: Trio, work: Work) -> None:
    """The denoiser ends its stage, and the decoder the request."""
    _, denoiser, decoder = trio
    denoiser.delivers(work)
    last = decoder.take(Work)
    decoder.accepts(last)
    decoder.finishes(last)


def shown(trio: Trio) -> Work:
    """A preview goes all its way. Its work at the denoiser."""
    _, denoiser, decoder = trio
    look: Work = denoiser.take(Work)
    denoiser.delivers(look)
    decode = decoder.take(Work)
    decoder.accepts(decode)
    decoder.finishes(decode)
    return look


def test_a_preview_goes_from_the_denoisers_latents_to_whoever_asked() -> None:
    bench = Bench()
    trio = _, denoiser, decoder = bench.trio()
    work = denoising(bench, trio)
    denoiser.steps(work, 6)
    assert not denoiser.got(Work)
    denoiser.steps(work, 7)
    look = denoiser.take(Work)
    assert (look.preview_of, look.role, look.last) == (("a", 1), "denoiser", False)
    assert look.grant.receiver == "decoder-0"
    assert (work.previews, look.previews) == (2, 0)
    assert look.request != "a"
    denoiser.delivers(look)
    decode = decoder.take(Work)
    assert (decode.preview_of, decode.last) == (("a", 1), True)
    assert decode.inputs == replace(work.inputs, priority="low")
    decoder.accepts(decode)
    decoder.finishes(decode)
    assert [(p.request, p.media) for p in bench.previews] == [("a", [PICTURE])]
    assert not bench.results["a"]
    denoiser.steps(work, 14)
    shown(trio)
    end(trio, work)
    assert len(bench.previews) == 2
    assert isinstance(bench.result("a"), Completed)
    assert bench.result("a").attempts == 1
    assert list(bench.results) == ["a"]
    bench.assert_home()


def test_a_whole_pipelines_instance_makes_its_picture_itself() -> None:
    bench = Bench()
    whole = bench.join("whole-0", "monolithic", capacity=1)
    bench.submit("a", previews=2)
    work: Work = whole.take(Work)
    whole.steps(work, 7)
    look: Work = whole.take(Work)
    assert (look.preview_of, look.role, look.last) == (("a", 1), "monolithic", True)
    assert (look.grant, look.delivery) == (None, None)
    assert whole.seen.in_flight == 1
    whole.finishes(look)
    assert [(p.request, p.media) for p in bench.previews] == [("a", [PICTURE])]
    whole.steps(work, 14)
    last: Work = whole.take(Work)
    whole.finishes(work)
    assert whole.got(Abort)[0].request == last.request
    whole.aborted(last)
    assert isinstance(bench.result("a"), Completed)
    bench.assert_home()


def test_it_makes_none_while_others_wait_for_it() -> None:
    bench = Bench()
    whole = bench.join("whole-0", "monolithic", capacity=1)
    bench.submit("a", previews=2)
    work: Work = whole.take(Work)
    bench.submit("b")
    whole.steps(work, 7)
    assert not whole.got(Work)
    bench.cancel("b")
    assert not whole.got(Work)
    whole.steps(work, 8)
    assert whole.take(Work).preview_of == ("a", 1)


def test_it_takes_no_place_of_the_denoiser_and_is_no_request_to_anybody() -> None:
    bench = Bench()
    trio = _, denoiser, _ = bench.trio(capacity=1)
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    assert denoiser.got(Work)
    assert denoiser.seen.in_flight == 1
    requests = bench.machine.view().requests
    assert (requests.running, requests.queued) == (1, 0)
    shown(trio)
    end(trio, work)
    requests = bench.machine.view().requests
    assert (requests.completed, requests.failed, requests.cancelled) == (1, 0, 0)


def test_without_being_asked_there_are_none() -> None:
    bench = Bench()
    trio = _, denoiser, _ = bench.trio()
    work = denoising(bench, trio, count=0)
    for step in range(1, 20):
        denoiser.steps(work, step)
    assert not denoiser.got(Work)


def test_the_decoder_does_everything_else_first() -> None:
    bench = Bench()
    trio = _, denoiser, decoder = bench.trio(capacity=3)
    first, second = denoising(bench, trio, "a"), denoising(bench, trio, "b")
    denoiser.delivers(second)
    real = decoder.take(Work)
    denoiser.steps(first, 7)
    assert not denoiser.got(Work)
    decoder.accepts(real)
    decoder.finishes(real)
    assert denoiser.take(Work).preview_of == ("a", 1)


def test_of_those_that_were_late_only_the_latest_is_made() -> None:
    bench = Bench()
    trio = _, denoiser, decoder = bench.trio()
    work, other = denoising(bench, trio, "a", count=3), denoising(bench, trio, "b", count=0)
    denoiser.delivers(other)
    real = decoder.take(Work)
    decoder.accepts(real)
    for step in (5, 10, 15):
        denoiser.steps(work, step)
    decoder.finishes(real)
    shown(trio)
    for step in (16, 19):
        denoiser.steps(work, step)
    assert not denoiser.got(Work)
    assert len(bench.previews) == 1


def test_one_at_a_time() -> None:
    bench = Bench()
    trio = _, denoiser, _ = bench.trio()
    work, other = denoising(bench, trio, "a", count=3), denoising(bench, trio, "b", count=3)
    denoiser.steps(work, 5)
    denoiser.steps(other, 5)
    denoiser.steps(work, 10)
    assert [w.preview_of for w in denoiser.got(Work)] == [("a", 1)]
    shown(trio)
    assert shown(trio).preview_of == ("b", 1)


def test_none_is_made_when_the_denoising_is_over() -> None:
    bench = Bench()
    trio = _, denoiser, decoder = bench.trio()
    work, other = denoising(bench, trio, "a"), denoising(bench, trio, "b", count=0)
    denoiser.delivers(other)
    busy = decoder.take(Work)
    denoiser.steps(work, 7)  # due, but the decoder is at work
    denoiser.delivers(work)
    decoder.accepts(busy)
    decoder.finishes(busy)
    assert not denoiser.got(Work)


def test_it_ends_with_what_it_shows() -> None:
    bench = Bench()
    trio = _, denoiser, decoder = bench.trio()
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    look = denoiser.take(Work)
    denoiser.delivers(look)
    decode = decoder.take(Work)
    decoder.accepts(decode)
    end(trio, work)
    assert decoder.take(Abort).request == look.request
    decoder.finishes(decode)
    assert bench.discarded == [PICTURE]
    assert not bench.previews
    bench.assert_home()


@pytest.mark.parametrize("stage", ["looking", "writing", "parked", "decoding"])
def test_cancelling_the_request_ends_its_preview_wherever_it_is(stage: str) -> None:
    bench = Bench()
    trio = _, denoiser, decoder = bench.trio(capacity=1)
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    look = denoiser.take(Work)
    if stage == "parked":
        denoiser.delivers(look)
        bench.cancel("a")
        assert decoder.take(Work)
    elif stage == "decoding":
        denoiser.delivers(look)
        decode = decoder.take(Work)
        decoder.accepts(decode)
        bench.cancel("a")
    else:
        bench.cancel("a")
    assert bench.error("a").kind == "cancelled"
    aborted = {message.request for message in denoiser.got(Abort)}
    if stage in ("looking", "writing"):
        assert aborted == {"a", look.request}
        assert decoder.seen.slots.quarantined
        generation = None if stage == "writing" else look.grant.generation
        if generation is None:
            denoiser.delivers(look)  # it was written before the Abort came
        else:
            denoiser.take(Abort)
            denoiser.aborted(look, generation)
    else:
        assert aborted == {"a"}
        decoder.aborted(look)
    denoiser.inbox.append(Abort(denoiser.epoch, "a", 1, ""))
    denoiser.aborted(work, work.grant.generation)
    bench.wait(0.1)
    bench.assert_home()


def test_a_retry_does_not_show_again_what_was_shown() -> None:
    bench = Bench(max_attempts=3)
    trio = _, denoiser, _ = bench.trio()
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    shown(trio)
    denoiser.fails(work, released=work.grant.generation)
    bench.wait(0.1)
    _, again = retried(bench, trio)
    denoiser.steps(again, 7)
    assert not denoiser.got(Work)
    denoiser.steps(again, 14)
    assert shown(trio).preview_of == ("a", 2)


def retried(bench: Bench, trio: Trio) -> tuple[Scripted, Work]:
    """The encoder pushes what it keeps to the denoiser once more."""
    encoder, denoiser, _ = trio
    push = encoder.take(Push)
    about = (encoder.epoch, push.request, push.attempt, push.role, push.grant.generation)
    encoder.say(Delivered(*about, 100, 1, StageReport()))
    work = denoiser.take(Work)
    denoiser.accepts(work)
    return denoiser, work


@pytest.mark.parametrize("how", ["fails", "stages", "push_fails", "aborts"])
def test_one_that_cannot_be_made_costs_nothing_but_itself(how: str) -> None:
    bench = Bench()
    trio = _, denoiser, _ = bench.trio()
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    look = denoiser.take(Work)
    if how == "fails":
        denoiser.fails(look, released=look.grant.generation)
    elif how == "stages":
        denoiser.stages(look, 5000, released=look.grant.generation)
        denoiser.aborted(look)
    elif how == "push_fails":
        denoiser.push_fails(look, look.grant, may_land=False)
        denoiser.aborted(look)
    else:
        denoiser.inbox.append(Abort(1, look.request, 1, ""))
        denoiser.aborted(look, look.grant.generation)
    assert bench.count("previews_dropped") == 1
    end(trio, work)
    assert isinstance(bench.result("a"), Completed)
    assert bench.result("a").attempts == 1
    assert not bench.previews
    bench.wait(0.1)
    bench.assert_home()


def test_after_a_failure_the_request_has_no_more() -> None:
    """What broke a decoder once would break the next one, too (I8)."""
    bench = Bench()
    trio = _, denoiser, decoder = bench.trio()
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    denoiser.delivers(denoiser.take(Work))
    decode = decoder.take(Work)
    decoder.accepts(decode)
    decoder.fails(decode, "rank_died")
    denoiser.steps(work, 14)
    assert not denoiser.got(Work)
    end(trio, work)
    assert isinstance(bench.result("a"), Completed)


def test_one_that_was_larger_than_expected_is_granted_enough_the_next_time() -> None:
    bench = Bench()
    trio = _, denoiser, _ = bench.trio(slots=16)
    work = denoising(bench, trio, count=3)
    denoiser.steps(work, 5)
    look = shown(trio)
    assert len(look.grant.slots) == 7  # nothing was known: half of what was free
    denoiser.steps(work, 10)
    look = denoiser.take(Work)
    assert len(look.grant.slots) == 1
    denoiser.stages(look, 3100, released=look.grant.generation)
    denoiser.aborted(look)
    denoiser.steps(work, 15)
    assert len(denoiser.take(Work).grant.slots) == 4


def test_the_decoders_death_costs_the_request_nothing() -> None:
    bench = Bench()
    trio = _, denoiser, decoder = bench.trio()
    spare = bench.join("decoder-1", "decoder")
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    look = denoiser.take(Work)
    there = decoder if look.grant.receiver == "decoder-0" else spare
    other = spare if there is decoder else decoder
    denoiser.delivers(look)
    there.accepts(there.take(Work))
    bench.end(there)
    assert not bench.results["a"]
    denoiser.delivers(work)
    if work.grant.receiver == there.name:
        push = denoiser.take(Push)
        denoiser.delivers(work, grant=push.grant)
    last = other.take(Work)
    other.accepts(last)
    other.finishes(last)
    assert bench.result("a").attempts == 1
    bench.wait(0.1)
    bench.assert_home()


def test_the_denoisers_death_ends_its_preview() -> None:
    bench = Bench(max_attempts=2)
    trio = _, denoiser, decoder = bench.trio()
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    look = denoiser.take(Work)
    denoiser.delivers(look)
    decode = decoder.take(Work)
    decoder.accepts(decode)
    bench.end(denoiser)
    assert decoder.take(Abort).request == look.request
    about = (decoder.epoch, decode.request, decode.attempt, decode.role)
    decoder.say(Finished(*about, [PICTURE], StageReport()))
    assert bench.discarded == [PICTURE]
    assert not bench.machine.books.ledger.previews


def test_nothing_is_kept_of_a_preview() -> None:
    bench = Bench()
    trio = _, denoiser, _ = bench.trio()
    work = denoising(bench, trio)
    denoiser.steps(work, 7)
    look = shown(trio)
    end(trio, work)
    bench.wait(0.1)
    kept = [name for message in denoiser.got(Release) for _, name, _ in message.kept]
    assert look.request not in kept
