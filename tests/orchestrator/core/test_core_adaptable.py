"""Adapters that change text encoders, too: encoders that have any take part like denoisers."""

import pytest
from msgspec.structs import replace

from orchestrator.core.commands import Answers, Command
from orchestrator.core.events import AskInstances, Submit, Tick
from tests.support.bench import INPUTS, Bench, Scripted
from transfer.actions import Adapter, LoadLora, LoraFile, LoraLoaded, LoraUnloaded, UnloadLora
from transfer.messages import Answered, Ask, Lora, RankInfo, Work
from transfer.results import PoolResult, RankError, RankResult

A = Adapter("a", "/a", 1.0, "d1")
FAILED = PoolResult((RankResult(0, 1, False, None, RankError("raised", "ValueError", "no")),))
TEXT, NET = ["text_encoder"], ["unet"]
SLEEPS = [RankInfo(0, 7, "sleeping")]
WITH_A = Submit("r", replace(INPUTS, loras=[Lora("a")]), 60.0)


@pytest.fixture
def pair(bench: Bench) -> tuple[Scripted, Scripted]:
    """An encoder whose texts adapters may change, and a denoiser."""
    bench.join("decoder-0", "decoder")
    encoder = bench.join("e0", "encoder", adaptable=TEXT)
    return encoder, bench.join("d0", "denoiser", adaptable=NET)


def asks(bench: Bench, name: str, action: LoadLora | UnloadLora, s: float = 60.0) -> list[Answers]:
    return told(bench.do(AskInstances(1, [name], action, s)))


def told(commands: list[Command]) -> list[Answers]:
    return [command for command in commands if isinstance(command, Answers)]


def does(leader: Scripted) -> list[Answers]:
    """What it was asked for."""
    asked = leader.take(Ask)
    value: LoraLoaded | LoraUnloaded = LoraUnloaded("a", True)
    if isinstance(asked.action, LoadLora):
        value = LoraLoaded(LoraFile("a", asked.action.path, "d1", 1, []))
    result = PoolResult((RankResult(0, 1, True, value),))
    return told(leader.say(Answered(leader.epoch, asked.number, result)))


def fails(leader: Scripted) -> list[Answers]:
    asked = leader.take(Ask)
    return told(leader.say(Answered(leader.epoch, asked.number, FAILED)))


def load(bench: Bench, *leaders: Scripted) -> None:
    asks(bench, "d0", LoadLora("a", "/a"))
    answers = [each for leader in leaders for each in does(leader)]
    assert all(each.ok for each in answers[-1].instances.values())


@pytest.mark.parametrize("target", ["e0", "d0"])
def test_both_are_asked_whoever_is_named(
    target: str, bench: Bench, pair: tuple[Scripted, Scripted]
) -> None:
    assert not asks(bench, target, LoadLora("a", "/a"))
    assert not does(pair[0])
    assert not bench.machine.adapters("demo")
    (answer,) = does(pair[1])
    assert list(answer.instances) == ["e0", "d0"]
    assert bench.machine.adapters("demo") == {"a": A}


def test_an_encoder_that_adapters_change_nothing_of_is_left_alone(bench: Bench) -> None:
    bench.join("decoder-0", "decoder")
    encoder, denoiser = bench.join("e0", "encoder"), bench.join("d0", "denoiser", adaptable=NET)
    load(bench, denoiser)
    assert not encoder.got(Ask)
    bench.do(WITH_A)
    assert encoder.take(Work)


def test_what_an_encoder_cannot_load_is_unloaded_by_the_denoiser(
    bench: Bench, pair: tuple[Scripted, Scripted]
) -> None:
    asks(bench, "d0", LoadLora("a", "/a"))
    does(pair[1])
    assert not fails(pair[0])
    assert isinstance(pair[1].inbox[-1].action, UnloadLora)
    (answer,) = does(pair[1])
    assert answer.undone
    assert not bench.machine.adapters("demo")


def test_a_new_encoder_is_given_it_before_its_first_work(
    bench: Bench, pair: tuple[Scripted, Scripted]
) -> None:
    load(bench, *pair)
    bench.end(pair[0])
    late = bench.join("e1", "encoder", adaptable=TEXT)
    assert late.seen.state == "warming"
    bench.do(WITH_A)
    assert "r" in bench.refused  # nobody could encode it at this moment
    assert late.got(Ask)[0].action == LoadLora("a", "/a", 1.0)
    does(late)
    assert late.seen.state == "ready"
    bench.do(WITH_A)
    assert late.take(Work).inputs.loras == [Lora("a")]


def test_requests_go_to_encoders_that_have_it(
    bench: Bench, pair: tuple[Scripted, Scripted]
) -> None:
    load(bench, *pair)
    late = bench.join("e1", "encoder", adaptable=TEXT)
    for number in range(2):
        bench.do(replace_id(f"r{number}"))
    assert len(pair[0].got(Work)) == 2
    assert not late.got(Work)


def replace_id(id: str) -> Submit:
    return Submit(id, WITH_A.inputs, 60.0)


def test_what_nobody_is_to_have_is_taken_from_encoders_too(
    bench: Bench, pair: tuple[Scripted, Scripted]
) -> None:
    load(bench, *pair)
    stray = Adapter("b", "/b", 1.0, "d9")
    late = bench.join("e1", "encoder", adaptable=TEXT, adapters=[A, stray])
    assert late.take(Ask).action == UnloadLora("b")
    assert late.seen.state == "ready"


def test_an_orchestrator_that_knows_nothing_learns_it_from_an_encoder(bench: Bench) -> None:
    bench.join("e0", "encoder", adaptable=TEXT, adapters=[A])
    assert bench.machine.adapters("demo") == {"a": A}
    assert bench.join("d0", "denoiser").take(Ask).action == LoadLora("a", "/a", 1.0)


def test_it_does_not_learn_what_is_being_undone(
    bench: Bench, pair: tuple[Scripted, Scripted]
) -> None:
    """Who has it still, and registers again meanwhile, does not bring it back."""
    asks(bench, "d0", LoadLora("a", "/a"))
    does(pair[0])
    fails(pair[1])
    late = bench.join("e1", "encoder", adaptable=TEXT, adapters=[A])
    assert not bench.machine.adapters("demo")
    (answer,) = does(pair[0])
    assert answer.undone
    assert late.take(Ask).action == UnloadLora("a")
    assert not bench.model.adapters


def test_unloading_is_asked_of_both(bench: Bench, pair: tuple[Scripted, Scripted]) -> None:
    load(bench, *pair)
    asks(bench, "d0", UnloadLora("a"))
    assert not does(pair[0])
    (answer,) = does(pair[1])
    assert list(answer.instances) == ["e0", "d0"]
    assert not bench.model.adapters


@pytest.mark.parametrize("sleeper", ["e1", "d1"])
def test_some_of_those_who_can_tell_whether_it_fits_have_to_be_awake(
    sleeper: str, bench: Bench
) -> None:
    """Of each kind: an encoder knows nothing of a denoiser's layers."""
    for name, parts in (("e", TEXT), ("d", NET)):
        role = "encoder" if name == "e" else "denoiser"
        ranks = SLEEPS if sleeper.startswith(name) else [RankInfo(0, 7, "ready")]
        bench.join(f"{name}1", role, adaptable=parts, ranks=ranks)  # type: ignore[arg-type]
    (answer,) = asks(bench, "d1", LoadLora("a", "/a"))
    (error,) = {each.error.message for each in answer.instances.values() if each.error}
    assert error == "nothing was changed: all that it concerns sleep; wake one first"


def test_who_sleeps_is_left_out_if_another_one_is_awake(
    bench: Bench, pair: tuple[Scripted, Scripted]
) -> None:
    asleep = bench.join("e1", "encoder", adaptable=TEXT, ranks=SLEEPS)
    load(bench, *pair)
    assert not asleep.got(Ask)


def test_without_anybody_who_denoises_it_waits_for_one(bench: Bench) -> None:
    encoder = bench.join("e0", "encoder", adaptable=TEXT)
    assert not asks(bench, "e0", LoadLora("a", "/a"), 1.0)
    assert not encoder.got(Ask)
    denoiser = bench.join("d0", "denoiser", adaptable=NET)
    bench.do(Tick())
    assert not does(encoder)
    (answer,) = does(denoiser)
    assert all(each.ok for each in answer.instances.values())


def test_it_waits_no_longer_than_the_caller(bench: Bench) -> None:
    encoder = bench.join("e0", "encoder", adaptable=TEXT)
    asks(bench, "e0", LoadLora("a", "/a"), 1.0)
    bench.now += 1.0
    (answer,) = told(bench.do(Tick()))
    error = answer.instances["e0"].error
    assert error is not None
    assert error.message == "nothing was changed: no instance denoises"
    assert not encoder.got(Ask)
