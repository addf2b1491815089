"""What operators ask: every instance answers once, is lost, or is late, and the caller knows."""

from msgspec.structs import replace

from orchestrator.core.commands import Answers, InstanceAnswer
from orchestrator.core.events import AskInstances, Disconnected, Tick
from tests.support.bench import Bench, Scripted
from transfer.actions import Health, HealthReport
from transfer.messages import Answered, Ask, Left, RankInfo, StateChanged
from transfer.results import PoolResult, RankError, RankResult

FINE = PoolResult((RankResult(0, 100, True, HealthReport("cpu", 1.0, False, 0, 1 << 20)),))
BAD = PoolResult((RankResult(0, 100, False, None, RankError("raised", "ValueError", "no")),))


def ask(bench: Bench, *names: str, seconds: float = 10.0, number: int = 1) -> list[Answers]:
    return answers(bench.do(AskInstances(number, list(names), Health(), seconds)))


def answers(commands: object) -> list[Answers]:
    assert isinstance(commands, list)
    return [command for command in commands if isinstance(command, Answers)]


def answer(leader: Scripted, result: PoolResult = FINE) -> list[Answers]:
    asked = leader.take(Ask)
    return answers(leader.say(Answered(leader.epoch, asked.number, result)))


def test_the_answer_is_complete_when_everybody_has_answered(bench: Bench) -> None:
    first, second = bench.join("d0", "denoiser"), bench.join("d1", "denoiser")
    assert not ask(bench, "d0", "d1")
    assert not answer(second, BAD)
    (told,) = answer(first)
    assert told.number == 1
    assert told.instances == {
        "d0": InstanceAnswer("ready", FINE),
        "d1": InstanceAnswer("ready", BAD),
    }
    assert list(told.instances) == ["d0", "d1"]  # as they were asked
    assert [x.ok for x in told.instances.values()] == [True, False]
    assert not bench.machine.books.questions


def test_a_leader_is_given_less_time_so_that_its_own_answer_is_in_time(bench: Bench) -> None:
    leader = bench.join("d0", "denoiser")
    ask(bench, "d0", seconds=10.0)
    ask(bench, "d0", seconds=1.0, number=2)
    assert [asked.seconds for asked in leader.got(Ask)] == [9.5, 0.9]


def test_who_is_silent_is_named_at_the_deadline(bench: Bench) -> None:
    first, second = bench.join("d0", "denoiser"), bench.join("d1", "denoiser")
    ranks = [RankInfo(0, 7, "ready"), RankInfo(1, 8, "ready")]
    second.say(StateChanged(second.epoch, "ready", "it grew", ranks))
    ask(bench, "d0", "d1", seconds=2.0)
    answer(first)
    assert bench.machine.alarm == bench.now + 2.0
    assert not answers(bench.do(Tick()))
    bench.now += 2.0
    (told,) = answers(bench.do(Tick()))
    assert told.instances["d0"].ok
    late = told.instances["d1"]
    assert late.error is not None
    assert (late.error.kind, late.error.type) == ("silent", "InstanceSilent")
    assert late.error.message == "instance d1 did not answer for 2 s"
    assert [(rank.rank, rank.pid, rank.ok) for rank in late.result.results] == [
        (0, 7, False),
        (1, 8, False),
    ]
    assert not answer(second)  # it is too late
    assert bench.machine.counters["dropped_late_answers"] == 1


def test_who_is_lost_is_answered_for_at_once(bench: Bench) -> None:
    first, second = bench.join("d0", "denoiser"), bench.join("d1", "denoiser")
    ask(bench, "d0", "d1", seconds=600.0)
    answer(first)
    (told,) = answers(bench.do(Disconnected(second.connection)))
    lost = told.instances["d1"]
    assert lost.error is not None
    assert (lost.state, lost.ok) == ("failed", False)
    assert lost.error.message == "instance d1 was lost: its connection broke"


def test_who_says_goodbye_is_answered_for_at_once(bench: Bench) -> None:
    leader = bench.join("d0", "denoiser")
    ask(bench, "d0")
    (told,) = answers(leader.say(Left(leader.epoch, "it was stopped")))
    assert not told.instances["d0"].ok


def test_a_new_life_of_an_instance_answers_for_nothing_of_the_old_one(bench: Bench) -> None:
    leader = bench.join("d0", "denoiser")
    ask(bench, "d0")
    again = replace(leader.info, last_epoch=leader.epoch)
    (told,) = answers(leader.say(again))
    assert not told.instances["d0"].ok
    assert not answer(leader)


def test_who_is_not_there_is_said_not_to_be(bench: Bench) -> None:
    (told,) = ask(bench, "d0")
    error = told.instances["d0"].error
    assert error is not None
    assert error.type == "InstanceGone"


def test_no_ranks_is_no_success(bench: Bench) -> None:
    leader = bench.join("d0", "denoiser")
    ask(bench, "d0")
    (told,) = answer(leader, PoolResult(()))
    assert not told.instances["d0"].ok


def test_nobody_answers_twice_or_for_another(bench: Bench) -> None:
    first, second = bench.join("d0", "denoiser"), bench.join("d1", "denoiser")
    ask(bench, "d0", "d1")
    assert not answers(first.say(Answered(first.epoch, 1, FINE)))
    assert not answers(first.say(Answered(first.epoch, 1, BAD)))
    assert not answers(second.say(Answered(second.epoch, 9, BAD)))
    (told,) = answers(second.say(Answered(second.epoch, 1, FINE)))
    assert all(each.ok for each in told.instances.values())
    assert bench.machine.counters["dropped_late_answers"] == 2
