"""Weights: of a component everybody has the same ones, and a request is made with one kind."""

import pytest

from orchestrator.core.commands import Answers, Command
from orchestrator.core.events import AskInstances, Tick
from orchestrator.core.view import WeightsView
from tests.support.bench import Bench, Scripted
from transfer.actions import (
    PutWeights,
    UpdateWeights,
    Weights,
    WeightsFile,
    WeightsUpdated,
)
from transfer.messages import Answered, Ask, RankInfo, Register, Reload, StateChanged, Work
from transfer.results import PoolResult, RankError, RankResult

FAILED = PoolResult((RankResult(0, 1, False, None, RankError("raised", "ValueError", "no")),))
NET = Weights("net", "/new/net", "d1")
PARTS = {"encoder": ["text", "vae"], "denoiser": ["net"], "decoder": ["vae"]}
Four = tuple[Scripted, Scripted, Scripted, Scripted]


@pytest.fixture
def four(bench: Bench) -> Four:
    """An encoder, a decoder and two denoisers. The VAE computes in the encoder, too."""
    return (
        bench.join("encoder-0", "encoder", parts=PARTS["encoder"]),
        bench.join("decoder-0", "decoder", parts=PARTS["decoder"]),
        bench.join("d0", "denoiser", parts=PARTS["denoiser"]),
        bench.join("d1", "denoiser", parts=PARTS["denoiser"]),
    )


def told(commands: list[Command]) -> list[Answers]:
    return [command for command in commands if isinstance(command, Answers)]


def update(
    bench: Bench, *names: str, seconds: float = 60.0, components: list[str] | None = None
) -> list[Answers]:
    action = UpdateWeights("/new", components=components or [])
    number = 1 + bench.machine.questions
    return told(bench.do(AskInstances(number, list(names), action, seconds)))


def does(leader: Scripted, digest: str = "d1", found: bool = True) -> list[Answers]:
    """What it was asked for."""
    asked = leader.take(Ask)
    if isinstance(asked.action, PutWeights):
        files = [WeightsFile(x.component, x.path, x.digest, 1) for x in asked.action.weights]
    else:
        mine = [x for x in asked.action.components if x in leader.info.parts and found]
        files = [WeightsFile(x, f"/new/{x}", digest, 1) for x in mine]
    result = PoolResult((RankResult(0, 1, True, WeightsUpdated(files, True)),))
    return told(leader.say(Answered(leader.epoch, asked.number, result)))


def fails(leader: Scripted) -> list[Answers]:
    asked = leader.take(Ask)
    return told(leader.say(Answered(leader.epoch, asked.number, FAILED)))


def end(bench: Bench, *denoisers: Scripted) -> None:
    """Of request r, which one of them denoises."""
    (leader,) = (each for each in denoisers if each.got(Work))
    work = leader.take(Work)
    assert work.request == "r"
    bench.cancel("r")
    leader.aborted(work, work.grant.generation if work.grant else None)
    bench.wait(0.1)


def says(leader: Scripted, *weights: Weights) -> None:
    leader.say(StateChanged(leader.epoch, "ready", "scripted", [], weights=list(weights)))


def test_all_that_compute_with_it_get_it(bench: Bench, four: Four) -> None:
    assert not update(bench, "d0", "d1")
    assert four[2].got(Ask)[0].action == UpdateWeights("/new", components=["net"])
    assert not four[0].got(Ask)
    does(four[2])
    (answer,) = does(four[3])
    assert (answer.undone, [x.ok for x in answer.instances.values()]) == (None, [True, True])
    assert bench.model.weights == {"net": NET}
    assert all(leader.seen.state == "ready" for leader in four)


def test_people_see_who_has_which_weights(bench: Bench, four: Four) -> None:
    update(bench, "d0", "d1")
    does(four[2])
    does(four[3])
    roles = bench.machine.view().roles
    for instance in roles["denoiser"]:
        assert instance.weights == [WeightsView("net", "d1", "/new/net")]
        assert [(rank.rank, rank.host) for rank in instance.ranks] == [(0, instance.host)]
    assert roles["encoder"][0].weights == []


def test_who_shares_a_component_gets_it_too(bench: Bench, four: Four) -> None:
    update(bench, "decoder-0")
    does(four[1])
    (answer,) = does(four[0])
    assert sorted(answer.instances) == ["decoder-0", "encoder-0"]
    assert list(bench.model.weights) == ["vae"]


def test_a_request_is_finished_with_what_it_began_with(bench: Bench, four: Four) -> None:
    encoder = four[0]
    bench.submit("r")
    work = encoder.take(Work)
    update(bench, "d0", "d1")
    bench.submit("s")
    assert not encoder.got(Work)
    encoder.delivers(work)
    bench.wait(0.1)
    assert not four[2].got(Ask)
    end(bench, *four[2:])
    does(four[2])
    assert not encoder.got(Work)
    does(four[3])
    assert encoder.take(Work).request == "s"


def test_requests_that_go_on_for_too_long_keep_it_from_beginning(bench: Bench, four: Four) -> None:
    bench.submit("r")
    update(bench, "d0", "d1", seconds=1.0)
    bench.now += 1.0
    (answer,) = told(bench.do(Tick()))
    error = answer.instances["d0"].error
    assert error is not None
    assert (error.type, error.message) == (
        "NotBegun",
        "nothing was changed: 1 requests are under way",
    )
    bench.submit("s")
    assert len(four[0].got(Work)) == 2


def test_what_one_cannot_read_is_put_back_by_the_other(bench: Bench, four: Four) -> None:
    update(bench, "d0", "d1")
    does(four[2])
    fails(four[3])
    assert four[2].got(Ask)[0].action == PutWeights([Weights("net")])
    (answer,) = does(four[2])
    assert answer.undone
    assert not bench.model.weights
    assert all(leader.seen.state == "ready" for leader in four)
    bench.submit("r")
    assert four[0].take(Work)


def test_who_cannot_go_back_begins_anew(bench: Bench, four: Four) -> None:
    update(bench, "d0", "d1")
    does(four[2])
    fails(four[3])
    (answer,) = fails(four[2])
    assert answer.undone is False
    assert four[2].take(Reload)
    assert four[2].seen.state == "divergent"


@pytest.mark.parametrize("other", ["digest", "nothing", "nowhere", "not that"])
def test_other_files_are_no_success(bench: Bench, four: Four, other: str) -> None:
    update(bench, "d0", "d1", components=["net"] if other == "not that" else None)
    does(four[2], found=other in ("digest", "nothing"))
    does(four[3], "d2", found=other == "digest")
    for leader in four[2:]:
        assert leader.got(Ask)[0].action == PutWeights([Weights("net")])
    does(four[2])
    (answer,) = does(four[3])
    errors = {x.error.type for x in answer.instances.values() if x.error}
    there = other in ("digest", "nothing")
    assert errors == {"FilesDiffer" if there else "FileNotFoundError"}
    assert answer.undone
    assert not bench.model.weights


def test_a_new_instance_gets_it_before_its_first_work(bench: Bench, four: Four) -> None:
    update(bench, "d0", "d1")
    does(four[2])
    does(four[3])
    late = bench.join("d2", "denoiser", parts=PARTS["denoiser"])
    assert late.seen.state == "warming"
    assert late.got(Ask)[0].action == PutWeights([NET])
    does(late)
    assert late.seen.state == "ready"


def test_new_ranks_get_it_again(bench: Bench, four: Four) -> None:
    update(bench, "d0", "d1")
    does(four[2])
    does(four[3])
    four[2].say(StateChanged(four[2].epoch, "starting", "rank 0 died", []))
    says(four[2])
    assert four[2].seen.state == "warming"
    assert four[2].take(Ask).action == PutWeights([NET])


def test_what_nobody_is_to_have_is_put_back(bench: Bench, four: Four) -> None:
    """Of a change that failed, and went on where nobody heard of it."""
    update(bench, "d0", "d1")
    fails(four[2])
    fails(four[3])
    says(four[2], NET)
    assert four[2].seen.state == "warming"
    assert four[2].take(Ask).action == PutWeights([Weights("net")])


def test_a_sleeper_gets_it_when_it_wakes(bench: Bench, four: Four) -> None:
    sleeping = [RankInfo(0, 1, "sleeping")]
    four[2].say(StateChanged(four[2].epoch, "sleeping", "asked", sleeping))
    update(bench, "d0", "d1")
    (answer,) = does(four[3])
    assert list(answer.instances) == ["d1"]
    assert not four[2].got(Ask)
    says(four[2])
    assert four[2].take(Ask).action == PutWeights([NET])


def test_if_all_sleep_nothing_is_begun(bench: Bench, four: Four) -> None:
    for leader in four[2:]:
        leader.say(StateChanged(leader.epoch, "sleeping", "asked", []))
    (answer,) = update(bench, "d0", "d1")
    error = answer.instances["d0"].error
    assert error is not None
    assert error.message == "nothing was changed: all that it concerns sleep; wake one first"
    assert not bench.model.changes


def test_an_orchestrator_that_knows_nothing_learns_it(bench: Bench) -> None:
    first = bench.join("d0", "denoiser", parts=["net"])
    bench.join("d1", "denoiser", parts=["net"], weights=[NET])
    assert bench.model.weights == {"net": NET}
    assert first.seen.state == "warming"
    assert first.take(Ask).action == PutWeights([NET])


def test_what_it_learns_late_does_not_change_what_has_begun(bench: Bench, four: Four) -> None:
    """The first denoiser of a new life had been restarted, with the model's own weights."""
    bench.submit("r")
    four[0].delivers(four[0].take(Work))
    late = bench.join("d2", "denoiser", parts=["net"], weights=[NET])
    bench.submit("s")
    assert late.seen.state == "warming"
    assert not four[0].got(Work)
    assert not any(leader.got(Ask) for leader in (*four, late))
    end(bench, *four[2:])
    for each in (*four[2:], late):
        assert each.got(Ask)[0].action == PutWeights([NET])
        does(each)
    assert four[0].take(Work).request == "s"
    assert bench.model.weights == {"net": NET}


def test_those_that_have_no_parts_say_so_themselves(bench: Bench) -> None:
    leader = bench.join("d0", "denoiser")
    update(bench, "d0")
    assert isinstance(leader.take(Ask).action, UpdateWeights)
    assert isinstance(leader.info, Register)
