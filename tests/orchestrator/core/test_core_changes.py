"""Adapters: everywhere or nowhere, and no work for an instance that has others than the rest."""

import pytest
from msgspec.structs import replace

from orchestrator.core.commands import Answers, Command
from orchestrator.core.events import AskInstances, Submit, Tick
from tests.support.bench import INPUTS, Bench, Scripted
from transfer.actions import Adapter, LoadLora, LoraFile, LoraLoaded, LoraUnloaded, UnloadLora
from transfer.messages import Answered, Ask, Lora, RankInfo, Reload, StateChanged, Work
from transfer.results import PoolResult, RankError, RankResult

A = Adapter("a", "/a", 1.0, "d1")
FAILED = PoolResult((RankResult(0, 1, False, None, RankError("raised", "ValueError", "no")),))


@pytest.fixture
def two(bench: Bench) -> tuple[Scripted, Scripted]:
    bench.join("encoder-0", "encoder")
    bench.join("decoder-0", "decoder")
    return bench.join("d0", "denoiser"), bench.join("d1", "denoiser")


def loading(bench: Bench, number: int = 1, seconds: float = 60.0) -> list[Answers]:
    action = LoadLora("a", "/a")
    return told(bench.do(AskInstances(number, ["d0", "d1"], action, seconds)))


def unloading(bench: Bench, number: int = 2, seconds: float = 60.0) -> list[Answers]:
    return told(bench.do(AskInstances(number, ["d0", "d1"], UnloadLora("a"), seconds)))


def told(commands: list[Command]) -> list[Answers]:
    return [command for command in commands if isinstance(command, Answers)]


def does(leader: Scripted, digest: str = "d1") -> list[Answers]:
    """What it was asked for."""
    asked = leader.take(Ask)
    value: LoraLoaded | LoraUnloaded = LoraUnloaded("a", True)
    if isinstance(asked.action, LoadLora):
        value = LoraLoaded(LoraFile("a", asked.action.path, digest, 1, []))
    result = PoolResult((RankResult(0, 1, True, value),))
    return told(leader.say(Answered(leader.epoch, asked.number, result)))


def fails(leader: Scripted) -> list[Answers]:
    asked = leader.take(Ask)
    return told(leader.say(Answered(leader.epoch, asked.number, FAILED)))


def load(bench: Bench, *leaders: Scripted) -> None:
    loading(bench)
    answers = [each for leader in leaders for each in does(leader)]
    assert answers[-1].instances["d0"].ok
    assert bench.machine.adapters("demo") == {"a": A}


def test_it_is_offered_when_all_have_it(bench: Bench, two: tuple[Scripted, Scripted]) -> None:
    assert not loading(bench)
    assert not does(two[0])
    assert not bench.machine.adapters("demo")
    (answer,) = does(two[1])
    assert (answer.number, answer.undone, list(answer.instances)) == (1, None, ["d0", "d1"])
    assert bench.machine.adapters("demo") == {"a": A}


def test_what_one_cannot_load_is_unloaded_by_the_other(
    bench: Bench, two: tuple[Scripted, Scripted]
) -> None:
    loading(bench)
    does(two[0])
    assert not fails(two[1])
    assert isinstance(two[0].inbox[-1].action, UnloadLora)
    assert not two[1].got(Ask)
    (answer,) = does(two[0])
    assert answer.undone
    assert [each.ok for each in answer.instances.values()] == [True, False]
    assert not bench.machine.adapters("demo")
    assert all(leader.seen.state == "ready" for leader in two)


def test_different_files_are_no_success(bench: Bench, two: tuple[Scripted, Scripted]) -> None:
    loading(bench)
    does(two[0], "d1")
    does(two[1], "d2")
    does(two[0])
    (answer,) = does(two[1])
    assert [each.error.type for each in answer.instances.values() if each.error] == [
        "FilesDiffer",
        "FilesDiffer",
    ]
    assert answer.undone
    assert not bench.machine.adapters("demo")


def test_who_cannot_go_back_begins_anew(bench: Bench, two: tuple[Scripted, Scripted]) -> None:
    loading(bench)
    does(two[0])
    fails(two[1])
    (answer,) = fails(two[0])
    assert answer.undone is False
    assert two[0].take(Reload)
    assert two[0].seen.state == "divergent"
    bench.submit("r")
    assert bench.count("instances_diverged") == 1


def test_what_it_said_before_it_was_told_to_begin_anew_is_no_beginning(
    bench: Bench, two: tuple[Scripted, Scripted]
) -> None:
    loading(bench)
    does(two[0])
    fails(two[1])
    fails(two[0])
    held = [Adapter("a", "/a", 1.0, "d1")]
    two[0].say(StateChanged(two[0].epoch, "ready", "registered", [], None, held))
    assert two[0].seen.state == "divergent"
    two[0].say(StateChanged(two[0].epoch, "divergent", "it was told to", []))
    two[0].say(StateChanged(two[0].epoch, "ready", "the ranks are there", []))
    assert two[0].seen.state == "ready"
    assert bench.machine.books.registry.by_name["d0"].holds == {}


def test_the_caller_is_told_in_time_while_it_is_still_being_undone(
    bench: Bench, two: tuple[Scripted, Scripted]
) -> None:
    loading(bench, seconds=2.0)
    does(two[0])
    bench.beat(1.0, *two)
    fails(two[1])
    two[0].take(Ask)  # and it does not answer
    assert not [x for x in bench.logs if "begins anew" in x.text]
    bench.now += 1.0
    commands = bench.do(AskInstances(9, ["encoder-0"], UnloadLora("a"), 1.0))
    (answer,) = told(commands) or told(bench.do(Tick()))
    assert (answer.number, answer.undone) == (1, None)


def test_a_new_instance_is_given_it_before_its_first_work(
    bench: Bench, two: tuple[Scripted, Scripted]
) -> None:
    load(bench, *two)
    late = bench.join("d2", "denoiser")
    assert late.seen.state == "warming"
    assert late.got(Ask)[0].action == LoadLora("a", "/a", 1.0)
    does(late)
    assert late.seen.state == "ready"


def test_new_ranks_are_given_it_again(bench: Bench, two: tuple[Scripted, Scripted]) -> None:
    load(bench, *two)
    ranks = [RankInfo(0, 7, "ready")]
    two[0].say(StateChanged(two[0].epoch, "starting", "rank 0 died", ranks))
    two[0].say(StateChanged(two[0].epoch, "ready", "the ranks are there", ranks))
    assert two[0].seen.state == "warming"
    does(two[0])
    assert two[0].seen.state == "ready"


def test_what_nobody_is_to_have_is_taken_away(bench: Bench, two: tuple[Scripted, Scripted]) -> None:
    load(bench, *two)
    stray = Adapter("b", "/b", 1.0, "d9")
    two[0].say(StateChanged(two[0].epoch, "ready", "its adapters", [], adapters=[A, stray]))
    assert two[0].take(Ask).action == UnloadLora("b")
    assert two[0].seen.state == "ready"  # it does no harm meanwhile


def test_an_orchestrator_that_knows_nothing_learns_it_from_the_first(bench: Bench) -> None:
    bench.join("d0", "denoiser", adapters=[A])
    assert bench.machine.adapters("demo") == {"a": A}
    second = bench.join("d1", "denoiser")
    assert second.take(Ask).action == LoadLora("a", "/a", 1.0)


def test_who_was_there_before_is_given_what_was_learned(bench: Bench) -> None:
    first = bench.join("d0", "denoiser")
    assert first.seen.state == "ready"
    bench.join("d1", "denoiser", adapters=[A])
    assert first.seen.state == "warming"
    does(first)
    assert first.seen.state == "ready"


def test_unloading_waits_for_those_who_have_it_on(
    bench: Bench, two: tuple[Scripted, Scripted]
) -> None:
    load(bench, *two)
    bench.do(Submit("r", replace(INPUTS, loras=[Lora("a")]), 60.0))
    unloading(bench)
    assert not two[0].got(Ask)
    assert not bench.machine.adapters("demo")  # new ones cannot have it on
    bench.cancel("r")
    bench.wait(0.1)
    does(two[0])
    (answer,) = does(two[1])
    assert (answer.number, answer.undone) == (2, None)
    assert not bench.model.adapters


def test_unloading_that_is_waited_for_too_long_is_left(
    bench: Bench, two: tuple[Scripted, Scripted]
) -> None:
    load(bench, *two)
    bench.do(Submit("r", replace(INPUTS, loras=[Lora("a")]), 60.0))
    unloading(bench, seconds=1.0)
    bench.now += 1.0
    (answer,) = told(bench.do(Tick()))
    for each in answer.instances.values():
        assert each.error is not None
        assert each.error.type == "NotBegun"
        assert [rank.error for rank in each.result.results] == [each.error]
    assert bench.machine.adapters("demo") == {"a": A}


def test_changes_are_made_one_after_the_other(bench: Bench, two: tuple[Scripted, Scripted]) -> None:
    loading(bench)
    unloading(bench)
    assert [len(leader.got(Ask)) for leader in two] == [1, 1]
    does(two[0])
    (first,) = does(two[1])
    does(two[0])
    (second,) = does(two[1])
    assert (first.number, second.number) == (1, 2)
    assert not bench.machine.adapters("demo")


def test_work_goes_only_to_who_has_it(bench: Bench, two: tuple[Scripted, Scripted]) -> None:
    """A message that has been on its way for long changes nothing of that."""
    load(bench, *two)
    two[0].say(StateChanged(two[0].epoch, "ready", "its adapters", []))
    assert not bench.machine.books.registry.by_name["d0"].available
    assert bench.machine.books.registry.by_name["d1"].available
    assert not two[0].got(Work)
