"""How instances are lost, drained and removed, and what their requests see of it."""

import pytest

from orchestrator.core.commands import Completed
from orchestrator.core.events import Disconnected, RemoveInstance
from tests.support.bench import Bench, Trio
from transfer.messages import (
    CacheReport,
    Close,
    Drain,
    Heartbeat,
    Left,
    Push,
    RegisterAgain,
    StateChanged,
    Work,
)

# ---------------------------------------------------------------- losing


def test_instance_that_misses_four_beats_is_lost(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    bench.submit("a")
    work = encoder.take(Work)
    bench.beat(4.0, denoiser, decoder)
    assert not bench.results["a"]
    bench.beat(0.1, denoiser, decoder)
    error = bench.error("a")
    assert (error.kind, error.instance) == ("instance_lost", "encoder-0")
    assert "computing (encoder)" in error.message
    assert encoder.seen.state == "failed"
    assert bench.machine.missing() == ["encoder"]
    # it may be alive, and about to write
    assert denoiser.seen.slots.quarantined == 1
    encoder.delivers(work)
    assert encoder.take(RegisterAgain)
    assert not denoiser.got(Work)


def test_any_word_is_a_sign_of_life(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    for _ in range(10):
        bench.wait(1.0)
        for leader in trio:
            leader.say(StateChanged(leader.epoch, "ready", "still here", []))
    assert encoder.seen.state == "ready"


def test_a_heartbeat_tells_of_the_encoder_s_cache(bench: Bench) -> None:
    leader = bench.join("e", "encoder", "decoder")
    encoder, decoder = (bench.machine.view().roles[role][0] for role in leader.info.roles)
    assert encoder.encodings is None
    told = CacheReport(hits=3, misses=2, entries=2, nbytes=4096, limit=8192)
    leader.say(Heartbeat(leader.epoch, told))
    encoder, decoder = (bench.machine.view().roles[role][0] for role in leader.info.roles)
    assert (encoder.encodings, decoder.encodings) == (told, None)


def test_whoever_is_not_healthy_gets_nothing(bench: Bench, trio: Trio) -> None:
    """Its ranks do not answer their self-test: requests wait for another, or until it is well."""
    encoder = trio[0]
    assert encoder.seen.healthy
    encoder.say(Heartbeat(encoder.epoch, healthy=False))
    assert (encoder.seen.state, encoder.seen.healthy) == ("ready", False)
    assert bench.machine.missing() == ["encoder"]
    other = bench.join("encoder-1", "encoder")
    bench.submit("a")
    assert not encoder.got(Work)
    assert other.take(Work).request == "a"
    encoder.say(Heartbeat(encoder.epoch))
    assert encoder.seen.healthy
    bench.submit("b")
    assert encoder.take(Work).request == "b"


def test_whoever_sleeps_is_not_tested(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    for state, healthy in (("sleeping", None), ("starting", False), ("draining", True)):
        encoder.say(StateChanged(encoder.epoch, state, "", []))  # type: ignore[arg-type]
        assert encoder.seen.healthy == healthy


def test_slots_of_a_lost_sender_come_home_when_it_is_proved_dead(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    bench.submit("a")
    bench.beat(5.0, denoiser, decoder)
    assert denoiser.seen.slots.quarantined == 1
    bench.end(encoder)
    bench.assert_home()
    assert bench.machine.view().roles["encoder"] == []


def test_slots_of_a_lost_sender_come_home_when_it_says_goodbye(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    bench.submit("a")
    bench.beat(5.0, denoiser, decoder)
    encoder.say(Left(encoder.epoch, "terminated"))
    bench.assert_home()
    assert not encoder.got(RegisterAgain)


def test_another_incarnation_proves_nothing_about_the_first(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    bench.submit("a")
    bench.beat(5.0, denoiser, decoder)
    second = bench.join("encoder-0", "encoder", incarnation="second", connection=b"c2")
    second.say(Heartbeat(second.epoch))
    assert denoiser.seen.slots.quarantined == 1
    bench.end(encoder)
    assert denoiser.seen.slots.quarantined == 0
    assert second.seen.state == "ready"


def test_proof_of_death_needs_no_missed_beats(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    bench.submit("a")
    encoder.delivers(encoder.take(Work))
    bench.end(denoiser)
    assert bench.error("a").kind == "instance_lost"
    assert decoder.seen.slots.quarantined == 0
    bench.assert_home()


@pytest.mark.parametrize("written", [False, True])
def test_what_was_on_its_way_to_a_lost_receiver_goes_to_another_one(
    bench: Bench, trio: Trio, written: bool
) -> None:
    encoder, denoiser, decoder = trio
    bench.submit("a")
    work = encoder.take(Work)
    bench.end(denoiser)
    if written:
        encoder.delivers(work)
    else:
        encoder.push_fails(work, work.grant, may_land=False)
    assert encoder.seen.in_flight == 0
    assert not bench.results["a"]
    other = bench.join("denoiser-1", "denoiser")
    encoder.delivers(work, grant=encoder.take(Push).grant)
    other.delivers(other.take(Work))
    decoder.finishes(decoder.take(Work))
    assert bench.result("a").attempts == 1
    bench.assert_home()


def test_broken_connection_is_a_loss(bench: Bench, trio: Trio) -> None:
    bench.submit("a")
    bench.do(Disconnected(b"encoder-0"))
    bench.do(Disconnected(b"encoder-0"))
    bench.do(Disconnected(b"nobody"))
    assert bench.error("a").kind == "instance_lost"


def test_loss_of_an_instance_that_a_cancelled_request_lingers_at(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.submit("a")
    bench.cancel("a")
    assert not bench.machine.idle
    bench.end(encoder)
    bench.assert_home()
    assert bench.error("a").kind == "cancelled"


def test_queued_requests_wait_for_an_instance_that_comes_back(bench: Bench) -> None:
    encoder, *_ = bench.trio(capacity=1)
    bench.submit("a")
    bench.submit("b")
    bench.end(encoder)
    assert not bench.results["b"]
    second = bench.join("encoder-0", "encoder", incarnation="second", connection=b"c2")
    assert second.take(Work).request == "b"


# ---------------------------------------------------------------- draining


def test_t15_an_instance_joins_and_takes_its_share(bench: Bench, trio: Trio) -> None:
    joined = bench.join("encoder-1", "encoder")
    for id in "ab":
        bench.submit(id)
    assert len(trio[0].got(Work)) == len(joined.got(Work)) == 1


def test_t15_draining_fails_nothing(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    other = bench.join("denoiser-1", "denoiser")
    bench.submit("promised")
    work = encoder.take(Work)
    assert work.grant.receiver == "denoiser-0"
    bench.drain("denoiser-0")
    assert denoiser.seen.state == "draining"
    # a payload is on its way, of which it does not know
    assert not denoiser.got(Drain)
    bench.submit("later")
    later = encoder.take(Work)
    assert later.grant.receiver == "denoiser-1"
    encoder.delivers(work)
    work = denoiser.take(Work)
    assert denoiser.take(Drain)
    denoiser.delivers(work)
    denoiser.say(Left(denoiser.epoch, "drained"))
    encoder.delivers(later)
    other.delivers(other.take(Work))
    for work in decoder.got(Work):
        decoder.finishes(work)
    assert isinstance(bench.result("later"), Completed)
    assert isinstance(bench.result("promised"), Completed)
    bench.assert_home()
    assert [x.name for x in bench.machine.view().roles["denoiser"]] == ["denoiser-1"]


def test_t15_instance_that_drains_by_itself_gets_no_work_and_is_told_when_nothing_comes(
    bench: Bench, trio: Trio
) -> None:
    encoder = trio[0]
    encoder.say(StateChanged(encoder.epoch, "draining", "SIGTERM", []))
    assert encoder.take(Drain)
    assert bench.machine.missing() == ["encoder"]
    # a word that crossed on the way does not bring it back
    encoder.say(StateChanged(encoder.epoch, "ready", "ranks are back", []))
    assert encoder.seen.state == "draining"


def test_drain_is_repeated_on_request_only(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.drain("encoder-0")
    bench.wait(1)
    assert len(encoder.got(Drain)) == 1
    bench.drain("encoder-0")
    bench.drain("unknown")
    assert len(encoder.got(Drain)) == 2


# ---------------------------------------------------------------- removing


def test_removed_instance_is_told_to_close_and_its_requests_fail(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, _ = trio
    bench.submit("a")
    bench.do(RemoveInstance("encoder-0"))
    assert encoder.take(Close)
    assert bench.error("a").kind == "instance_lost"
    assert bench.machine.view().roles["encoder"] == []
    # it has not said yet that it is gone
    assert denoiser.seen.slots.quarantined == 1
    encoder.say(Left(encoder.epoch, "removed"))
    bench.assert_home()


def test_removing_a_lost_instance_only_hides_it(bench: Bench, trio: Trio) -> None:
    denoiser, decoder = trio[1:]
    bench.submit("a")
    bench.beat(5.0, denoiser, decoder)
    assert bench.machine.knows("encoder-0")
    bench.do(RemoveInstance("encoder-0"))
    assert not bench.machine.knows("encoder-0")
    assert denoiser.seen.slots.quarantined == 1
    bench.do(RemoveInstance("encoder-0"))
    bench.do(RemoveInstance("unknown"))
