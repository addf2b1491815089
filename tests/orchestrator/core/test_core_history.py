"""What is known of the states that instances went through, until their last word and after."""

import pytest

from orchestrator.core.events import Received, RemoveInstance
from orchestrator.core.history import KEPT, LAST_WORD_S
from tests.support.bench import Bench, Scripted, Trio
from transfer.ends import RankEnd
from transfer.messages import Ended, Heartbeat, Left, RegisterAgain, StateChanged


def states(bench: Bench, name: str = "encoder-0") -> list[str]:
    return [each.state for each in bench.machine.view().history if each.name == name]


def last(bench: Bench) -> str:
    return bench.machine.view().history[-1].cause


def ends(leader: Scripted, state: str = "closed", epoch: int | None = None) -> None:
    ranks = [RankEnd(0, 7, "SIGKILL", "died of SIGKILL")]
    cause = "rank 0 (pid 7) had to be killed"
    leader.say(Ended(epoch or leader.epoch, state, cause, ranks, 4.25))  # type: ignore[arg-type]


def test_every_change_is_told_once_with_its_cause_and_its_age(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    for state in ("divergent", "divergent", "starting", "ready"):
        encoder.say(StateChanged(encoder.epoch, state, f"it is {state}", []))  # type: ignore[arg-type]
    assert states(bench) == ["ready", "divergent", "starting", "ready"]
    bench.beat(2.0, *trio)
    told = bench.machine.view().history[-1]
    assert (told.name, told.epoch, told.cause) == ("encoder-0", encoder.epoch, "it is ready")
    assert told.ago_s == pytest.approx(2.0)


def test_v5_an_instance_that_leaves_is_closing_until_its_last_word(
    bench: Bench, trio: Trio
) -> None:
    encoder = trio[0]
    encoder.say(StateChanged(encoder.epoch, "closing", "it was stopped", []))
    encoder.say(Left(encoder.epoch, "it was stopped"))
    assert states(bench) == ["ready", "closing"]
    ends(encoder)
    ends(encoder)  # each has one
    assert states(bench) == ["ready", "closing", "closed"]
    assert last(bench) == "rank 0 (pid 7) had to be killed (4.2 s)"
    counters = bench.machine.counters
    assert (counters["instances_closed"], counters["dropped_unknown_connection"]) == (1, 1)
    assert not encoder.got(RegisterAgain)
    bench.wait(LAST_WORD_S + 1)
    assert states(bench)[-1] == "closed"


def test_v5_whoever_is_closing_gets_no_work(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    encoder.say(StateChanged(encoder.epoch, "closing", "it was stopped", []))
    assert encoder.seen.state == "closing"
    assert bench.machine.missing() == ["encoder"]


def test_v5_without_a_last_word_it_has_failed(bench: Bench, trio: Trio) -> None:
    encoder, *others = trio
    encoder.say(Left(encoder.epoch, "it was stopped"))
    bench.beat(LAST_WORD_S - 1, *others)
    assert states(bench) == ["ready", "closing"]
    bench.beat(2.0, *others)
    assert states(bench) == ["ready", "closing", "failed"]
    assert "it has said nothing more for " in last(bench)


def test_one_that_is_removed_still_says_how_it_ended(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.do(RemoveInstance("encoder-0"))
    assert states(bench)[-1] == "closing"
    encoder.say(Left(encoder.epoch, "removed"))
    ends(encoder, "failed")
    assert states(bench) == ["ready", "closing", "failed"]


def test_one_that_cannot_promise_to_write_nothing_does_not_leave(bench: Bench, trio: Trio) -> None:
    """It says only how it ends: what it may still write into stays shut."""
    encoder, denoiser, _ = trio
    bench.submit("a")
    ends(encoder, "failed")
    assert states(bench) == ["ready", "closing", "failed"]
    assert denoiser.seen.slots.quarantined == 1
    bench.end(encoder)
    assert denoiser.seen.slots.quarantined == 0


def test_one_that_is_lost_has_failed_once(bench: Bench, trio: Trio) -> None:
    _, denoiser, decoder = trio
    bench.beat(2 * LAST_WORD_S, denoiser, decoder)
    assert states(bench) == ["ready", "failed"]


def test_the_last_word_of_an_older_epoch_is_nobody_s(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    ends(encoder, epoch=encoder.epoch + 1)
    assert encoder.seen.state == "ready"
    encoder.say(Left(encoder.epoch, "it was stopped"))
    ends(encoder, epoch=encoder.epoch + 1)
    assert states(bench) == ["ready", "closing"]


def test_v5_one_that_registers_again_over_the_same_connection_ends_twice(
    bench: Bench, trio: Trio
) -> None:
    """A `Register` that was under way when it left: both of its lives have an end."""
    encoder, denoiser, decoder = trio
    encoder.say(Left(encoder.epoch, "it was stopped"))
    encoder.register()
    encoder.say(Left(encoder.epoch, "it was stopped"))
    assert states(bench) == ["ready", "closing", "ready", "closing"]
    bench.beat(LAST_WORD_S + 2.0, denoiser, decoder)
    assert states(bench)[-2:] == ["failed", "failed"]


def test_strangers_have_no_last_word(bench: Bench, trio: Trio) -> None:
    before = bench.machine.view().history
    bench.do(Received(b"stranger", Ended(1, "closed", "nobody", [], 0.0)))
    assert bench.machine.view().history == before


def test_it_is_bounded(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    for turn in range(KEPT):
        for state in ("starting", "ready"):
            encoder.say(StateChanged(encoder.epoch, state, str(turn), []))  # type: ignore[arg-type]
    for turn in range(2 * KEPT):
        leader = bench.join(f"e{turn}", "encoder")
        leader.say(Heartbeat(leader.epoch))
        leader.say(Left(leader.epoch, "again"))
    assert len(bench.machine.view().history) == KEPT
    assert len(bench.machine.books.history.awaited) == KEPT
