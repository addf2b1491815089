"""Messages that are late, repeated, foreign or wrong cost a counter and nothing else."""

import random

import pytest

from orchestrator.core.commands import Completed
from orchestrator.core.events import Received, Tick
from orchestrator.core.integrity import IntegrityError, check
from tests.support.bench import KIB, PICTURE, Bench, Scripted
from transfer.messages import (
    ROLES,
    Abort,
    Aborted,
    Accepted,
    Delivered,
    ErrorInfo,
    Failed,
    Finished,
    Heartbeat,
    Left,
    Progressed,
    Push,
    PushFailed,
    RegisterAgain,
    Staged,
    StageReport,
    StateChanged,
    Work,
)

REPORT = StageReport()
ERROR = ErrorInfo("internal", "scripted")


def _everything(epoch: int, request: str, attempt: int, role: str, generation: int) -> list[object]:
    """One of each message that leaders can say, about this."""
    about = (epoch, request, attempt, role)
    return [
        Heartbeat(epoch),
        StateChanged(epoch, "ready", "scripted", []),
        Accepted(*about, generation),
        Progressed(*about, 1, 4),
        Delivered(*about, generation, 10, 1, REPORT),
        Staged(*about, 10, generation, REPORT),
        PushFailed(*about, generation, True, 100, ERROR),
        Finished(*about, [PICTURE], REPORT),
        Failed(*about, ERROR, generation),
        Aborted(epoch, request, attempt, generation),
    ]


def test_t2_strangers_are_told_to_register_and_change_nothing(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    bench.submit("a")
    grant = encoder.take(Work).grant
    for role in ROLES:
        for message in _everything(1, "a", 1, role, grant.generation):
            commands = bench.do(Received(b"stranger", message))
            assert [c.message for c in commands] == [RegisterAgain()]
    assert bench.do(Received(b"stranger", Left(1, "bye"))) == []
    assert bench.count("dropped_unknown_connection") == 40
    assert not bench.results["a"]


@pytest.mark.parametrize("wrong", ["epoch", "attempt", "request"])
def test_t2_wrong_epoch_attempt_or_request_changes_nothing(bench: Bench, wrong: str) -> None:
    encoder, denoiser, _ = bench.trio()
    bench.submit("a")
    grant = encoder.take(Work).grant
    fields = {"epoch": 1, "request": "a", "attempt": 1} | {wrong: "b" if wrong == "request" else 2}
    for message in _everything(**fields, role="encoder", generation=grant.generation)[2:]:
        encoder.say(message)
    assert not bench.results["a"]
    assert not denoiser.got(Work)
    assert bench.machine.counters.total() > 8


def test_t2_other_instances_and_other_roles_change_nothing(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    other = bench.join("encoder-1", "encoder")
    bench.submit("a")
    generation = encoder.take(Work).grant.generation
    for message in _everything(1, "a", 1, "encoder", generation)[2:]:
        other.say(message)
    for message in _everything(1, "a", 1, "denoiser", generation)[2:-1]:
        encoder.say(message)
    assert not bench.results["a"]
    assert not denoiser.got(Work)


def test_t2_wrong_generation_moves_nothing(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    bench.submit("a")
    work = encoder.take(Work)
    wrong = work.grant.generation + 1
    encoder.delivers(work, generation=wrong)
    encoder.say(PushFailed(1, "a", 1, "encoder", wrong, False, 100, ERROR))
    encoder.say(Accepted(1, "a", 1, "encoder", wrong))
    assert bench.count("dropped_unexpected") == 3
    assert not denoiser.got(Work)
    assert not bench.results["a"]


def test_t2_everything_twice(bench: Bench) -> None:
    """A whole life in which each message comes twice."""
    encoder, denoiser, decoder = bench.trio()
    bench.submit("a")
    work = encoder.take(Work)
    for _ in range(2):
        encoder.stages(work, released=work.grant.generation)
    push = encoder.take(Push)
    for _ in range(2):
        encoder.delivers(work, grant=push.grant)
    encoder.stages(work, released=work.grant.generation)
    work = denoiser.take(Work)
    for _ in range(2):
        denoiser.accepts(work)
    for _ in range(2):
        denoiser.delivers(work)
    work = decoder.take(Work)
    for _ in range(2):
        decoder.finishes(work)
    assert isinstance(bench.result("a"), Completed)
    assert not encoder.inbox[1:]
    bench.assert_home()


def test_t2_accepted_that_comes_after_delivered(bench: Bench) -> None:
    encoder, denoiser, decoder = bench.trio()
    bench.submit("a")
    encoder.delivers(encoder.take(Work))
    work = denoiser.take(Work)
    denoiser.delivers(work)
    denoiser.accepts(work)
    decoder.finishes(decoder.take(Work))
    bench.assert_home()


def test_t2_repeated_staged_is_not_the_answer_to_a_later_push(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    bench.submit("a")
    work = encoder.take(Work)
    encoder.stages(work, released=work.grant.generation)
    encoder.take(Push)
    encoder.stages(work, released=work.grant.generation)
    assert not encoder.got(Push)
    assert bench.count("dropped_unexpected") == 1


def test_t4_slot_sizes_are_conserved_over_1000_mixed_requests(bench: Bench) -> None:
    """Payloads of 1 byte to all slots, delivered at once or pushed, some of which fail."""
    encoder, denoiser, decoder = bench.trio()
    dice = random.Random(4)
    for number in range(1000):
        bench.submit(f"r{number}")
        _hand_on(encoder, encoder.take(Work), dice.randint(1, 8 * KIB))
        work = denoiser.take(Work)
        denoiser.accepts(work)
        if dice.random() < 0.1:
            denoiser.fails(work, released=work.grant and work.grant.generation)
            assert bench.error(f"r{number}").kind == "rank_failed"
            continue
        _hand_on(denoiser, work, dice.choice([1, KIB, KIB + 1, 8 * KIB]))
        work = decoder.take(Work)
        decoder.accepts(work)
        decoder.finishes(work)
        assert isinstance(bench.result(f"r{number}"), Completed)
    bench.wait(1.0)
    bench.assert_home()
    assert [leader.seen.slots.total for leader in (denoiser, decoder)] == [8, 8]


def _hand_on(sender: Scripted, work: Work, nbytes: int) -> None:
    """Delivers into the grant that came with the work, or stages and is granted what it needs."""
    grant = work.grant
    if grant is None or nbytes > len(grant.slots) * KIB:
        sender.stages(work, nbytes, released=grant and grant.generation)
        grant = sender.take(Push).grant
        assert len(grant.slots) == -(-nbytes // KIB)
    assert grant.pool.slot_bytes == KIB
    sender.delivers(work, nbytes, grant=grant)


def test_work_on_something_unknown_is_aborted(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    encoder.say(Progressed(1, "forgotten", 3, "encoder", 1, 4))
    assert encoder.take(Abort).attempt == 3
    encoder.say(Aborted(1, "forgotten", 3))
    assert not encoder.got(Abort)


def test_t2_storm_of_random_messages_from_everybody(bench: Bench) -> None:
    """Liars included: whatever they say, the books stay in order and every request ends once."""
    dice = random.Random(2)
    leaders: list[Scripted] = [*bench.trio(), bench.join("whole", "monolithic")]
    for turn in range(1500):
        if dice.random() < 0.05:
            bench.submit(f"r{turn}", deadline_s=dice.choice([0.5, 5.0]))
        for leader in leaders:
            if leader.got(RegisterAgain):
                leader.register()
            leader.inbox.clear()
        liar = dice.choice(leaders)
        request = f"r{dice.randint(max(0, turn - 50), turn)}"
        generation = dice.randint(1, 1 + bench.count("grants_promised"))
        messages = _everything(liar.epoch, request, 1, dice.choice(ROLES), generation)
        liar.say(dice.choice(messages))
        bench.now += 0.01
    for leader in leaders:
        bench.end(leader)
    bench.wait(10.0)
    assert bench.machine.idle
    assert all(len(results) == 1 for results in bench.results.values())


def test_integrity_check_sees_a_slot_that_is_gone(bench: Bench) -> None:
    bench.trio()
    books = bench.machine.books
    books.registry.by_name["denoiser-0"].slots._free.pop()
    with pytest.raises(IntegrityError, match="denoiser-0"):
        check(books)


def test_idle_service_counts_and_logs_what_does_not_add_up() -> None:
    bench = Bench()
    bench.trio()
    slots = bench.machine.books.registry.by_name["denoiser-0"].slots
    slots._free.pop()
    commands = bench.machine.handle(Tick(), bench.now)
    assert bench.count("integrity_violations") > 0
    assert any("denoiser-0" in getattr(command, "text", "") for command in commands)
    bench.machine.handle(Tick(), bench.now)
    assert bench.count("integrity_violations") == len(commands)
