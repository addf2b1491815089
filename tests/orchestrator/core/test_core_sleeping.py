"""Instances that sleep: no work while they do, none lost when they begin, no doubt afterwards."""

import pytest

from orchestrator.core.commands import Answers, Command, NoRoute
from orchestrator.core.events import AskInstances, Tick
from tests.support.bench import Bench, Scripted
from transfer.actions import Action, LoadLora, LoraFile, LoraLoaded, Sleep, Slept, Wake, Woken
from transfer.messages import Answered, Ask, RankInfo, Reload, StateChanged, Work
from transfer.results import PoolResult, RankError, RankResult

FAILED = PoolResult((RankResult(0, 1, False, None, RankError("raised", "ValueError", "no")),))
Trio = tuple[Scripted, Scripted, Scripted]


@pytest.fixture
def trio(bench: Bench) -> Trio:
    return bench.trio()


def told(commands: list[Command]) -> list[Answers]:
    return [command for command in commands if isinstance(command, Answers)]


def ask(bench: Bench, action: Action, *names: str, seconds: float = 60.0) -> list[Answers]:
    number = 1 + bench.machine.questions
    return told(bench.do(AskInstances(number, list(names), action, seconds)))


def is_now(leader: Scripted, state: str) -> None:
    leader.say(StateChanged(leader.epoch, state, "scripted", []))  # type: ignore[arg-type]


def does(leader: Scripted) -> list[Answers]:
    """What it was asked for, as an honest leader does it: its state comes before its answer."""
    asked = leader.take(Ask)
    sleeps = isinstance(asked.action, Sleep)
    is_now(leader, "sleeping" if sleeps else "ready")
    value = Slept(1, True, 0, 0) if sleeps else Woken(1, 0)
    result = PoolResult((RankResult(0, 1, True, value),))
    return told(leader.say(Answered(leader.epoch, asked.number, result)))


def fails(leader: Scripted) -> list[Answers]:
    asked = leader.take(Ask)
    return told(leader.say(Answered(leader.epoch, asked.number, FAILED)))


def test_it_gets_no_work_until_it_is_woken(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    assert not ask(bench, Sleep(), "encoder-0")
    assert encoder.seen.state == "sleeping"  # before its ranks do
    (answer,) = does(encoder)
    assert (answer.undone, answer.instances["encoder-0"].ok) == (None, True)
    bench.submit("r")
    assert bench.refused["r"] == NoRoute(["encoder"], ["encoder"], "demo")
    ask(bench, Wake(), "encoder-0")
    assert len(does(encoder)) == 1
    assert encoder.seen.state == "ready"
    bench.submit("s")
    assert encoder.take(Work).request == "s"


def test_another_instance_gets_it_all(bench: Bench, trio: Trio) -> None:
    other = bench.join("encoder-1", "encoder")
    ask(bench, Sleep(), "encoder-0")
    does(trio[0])
    for request in "rs":
        bench.submit(request)
    assert [work.request for work in other.got(Work)] == ["r", "s"]
    assert not trio[0].got(Work)


def test_it_finishes_what_it_has(bench: Bench, trio: Trio) -> None:
    encoder = trio[0]
    bench.submit("r")
    work = encoder.take(Work)
    assert not ask(bench, Sleep(), "encoder-0")
    assert not encoder.got(Ask)
    encoder.delivers(work)
    bench.wait(0.1)
    assert len(does(encoder)) == 1
    assert trio[1].take(Work).request == "r"


def test_a_receiver_waits_for_what_it_was_promised(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, _ = trio
    bench.submit("r")
    work = encoder.take(Work)
    assert work.grant.receiver == "denoiser-0"
    ask(bench, Sleep(), "denoiser-0")
    bench.wait(0.1)
    assert not denoiser.got(Ask)
    encoder.delivers(work)
    assert denoiser.take(Work).request == "r"
    bench.wait(0.1)
    assert not denoiser.got(Ask)


def test_who_has_too_much_to_do_stays_awake(bench: Bench, trio: Trio) -> None:
    bench.submit("r")
    ask(bench, Sleep(), "encoder-0", seconds=1.0)
    assert trio[0].seen.state == "sleeping"
    bench.now += 1.0
    (answer,) = told(bench.do(Tick()))
    error = answer.instances["encoder-0"].error
    assert error is not None
    assert error.type == "NotBegun"
    assert error.message == "nothing was changed: 1 requests are under way there"
    assert [rank.error for rank in answer.instances["encoder-0"].result.results] == [error]
    assert trio[0].seen.state == "ready"
    bench.submit("s")
    assert len(trio[0].got(Work)) == 2


def test_who_cannot_sleep_goes_on(bench: Bench, trio: Trio) -> None:
    ask(bench, Sleep(), "encoder-0")
    (answer,) = fails(trio[0])
    assert answer.undone
    bench.submit("r")
    assert trio[0].take(Work).request == "r"


def test_who_stays_silent_is_woken(bench: Bench, trio: Trio) -> None:
    ask(bench, Sleep(), "encoder-0", seconds=1.0)
    assert trio[0].take(Ask).action == Sleep()
    bench.now += 1.0
    (answer,) = told(bench.do(Tick()))  # in time, though nobody knows how it ends
    assert answer.undone is None
    bench.submit("r")
    assert "r" in bench.refused
    assert trio[0].got(Ask)[0].action == Wake()
    does(trio[0])
    assert trio[0].seen.state == "ready"


def test_who_cannot_be_woken_after_that_begins_anew(bench: Bench, trio: Trio) -> None:
    ask(bench, Sleep(), "encoder-0", seconds=1.0)
    trio[0].take(Ask)
    bench.now += 1.0
    bench.do(Tick())
    fails(trio[0])
    assert trio[0].take(Reload)
    assert trio[0].seen.state == "divergent"
    assert bench.count("instances_diverged") == 1


def test_one_that_is_lost_is_answered_for(bench: Bench, trio: Trio) -> None:
    bench.submit("r")
    ask(bench, Sleep(), "encoder-0")
    bench.do_leave(trio[0], trio[0].epoch)
    (answer,) = told(bench.do(Tick()))
    error = answer.instances["encoder-0"].error
    assert error is not None
    assert error.type == "InstanceGone"
    assert not bench.machine.books.rests


def test_a_new_orchestrator_gives_a_sleeper_no_work(bench: Bench) -> None:
    """Its registration says so, before it says its state."""
    encoder = bench.join("encoder-0", "encoder", ranks=[RankInfo(0, 7, "sleeping")])
    bench.join("denoiser-0", "denoiser")
    bench.join("decoder-0", "decoder")
    assert encoder.seen.state == "sleeping"
    bench.submit("r")
    assert not encoder.got(Work)


def test_a_sleeper_is_given_an_adapter_when_it_is_woken(bench: Bench, trio: Trio) -> None:
    denoiser, other = trio[1], bench.join("denoiser-1", "denoiser")
    ask(bench, Sleep(), "denoiser-0")
    does(denoiser)
    ask(bench, LoadLora("a", "/a"), "denoiser-0", "denoiser-1")
    assert not denoiser.got(Ask)
    asked = other.take(Ask)
    loaded = LoraLoaded(LoraFile("a", "/a", "d1", 1, []))
    result = PoolResult((RankResult(0, 1, True, loaded),))
    (answer,) = told(other.say(Answered(other.epoch, asked.number, result)))
    assert list(answer.instances) == ["denoiser-1"]
    ask(bench, Wake(), "denoiser-0")
    does(denoiser)
    assert denoiser.seen.state == "warming"
    assert denoiser.take(Ask).action == LoadLora("a", "/a", 1.0)


def test_one_call_goes_at_a_time(bench: Bench, trio: Trio) -> None:
    ask(bench, Sleep(), "encoder-0")
    ask(bench, Wake(), "encoder-0")
    assert len(trio[0].got(Ask)) == 1
    does(trio[0])
    assert trio[0].got(Ask)[0].action == Wake()
    does(trio[0])
    assert trio[0].seen.state == "ready"
