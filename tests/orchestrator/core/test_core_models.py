"""Several models behind one orchestrator: each has its own route, and nothing crosses."""

import pytest
from msgspec.structs import replace

from orchestrator.core.commands import Answers, NoRoute, QueueFull
from orchestrator.core.events import AskInstances
from tests.support.bench import INPUTS, MODEL, OTHER, Bench, Scripted, Trio
from transfer.actions import Adapter, LoadLora, LoraFile, LoraLoaded, UpdateWeights
from transfer.messages import (
    SPLIT_ROUTE,
    Answered,
    Ask,
    Checkpointed,
    Push,
    Refused,
    Speed,
    Welcome,
    Work,
)
from transfer.results import PoolResult, RankResult

Two = tuple[Trio, Trio]


def trio_of(bench: Bench, name: str, **changes: object) -> Trio:
    """An encoder, a denoiser and a decoder of another model."""
    model = replace(OTHER, name=name, fingerprint=f"of {name}")
    encoder, denoiser, decoder = (
        bench.join(f"{name}-{role}", role, model=model, **changes) for role in SPLIT_ROUTE
    )
    return encoder, denoiser, decoder


@pytest.fixture
def two(bench: Bench, trio: Trio) -> Two:
    return trio, trio_of(bench, "other")


def runs(bench: Bench, those: Trio, id: str) -> None:
    """The request goes its whole way through these three."""
    encoder, denoiser, decoder = those
    work = encoder.take(Work)
    assert work.request == id
    encoder.delivers(work)
    work = denoiser.take(Work)
    denoiser.accepts(work)
    denoiser.delivers(work)
    work = decoder.take(Work)
    decoder.accepts(work)
    decoder.finishes(work)
    assert bench.results[id]


# ---------------------------------------------------------------- how many


def test_f17_one_more_than_may_be_served_is_refused() -> None:
    bench = Bench(max_models=1)
    trio = bench.trio()
    stray = bench.join("stray", "denoiser", model=OTHER)
    reason = stray.take(Refused).reason
    assert f"but this orchestrator serves {MODEL.name} ({MODEL.fingerprint})" in reason
    assert "no more than --max-models 1" in reason
    bench.submit("a")
    runs(bench, trio, "a")


def test_when_all_of_one_are_lost_another_may_take_its_place() -> None:
    bench = Bench(max_models=1)
    for each in bench.trio():
        bench.end(each)
    those = trio_of(bench, "other")
    bench.submit("a")
    runs(bench, those, "a")
    assert [model.name for model in bench.machine.books.registry.served] == ["other"]


# ---------------------------------------------------------------- routes


def test_each_request_goes_the_way_of_its_model(bench: Bench, two: Two) -> None:
    for number, (name, those) in enumerate((("demo", two[0]), ("other", two[1])) * 2):
        bench.submit(f"r{number}", model=name)
        runs(bench, those, f"r{number}")
    assert [model.name for model in bench.machine.models] == ["demo", "other"]
    assert not any(leader.got(Work) for those in two for leader in those)
    bench.assert_home()


def test_one_may_be_split_and_another_whole(bench: Bench, trio: Trio) -> None:
    whole = bench.join("m-0", "monolithic", model=OTHER)
    bench.submit("a", model="other")
    assert whole.take(Work).role == "monolithic"
    bench.submit("b", model="demo")
    runs(bench, trio, "b")


def test_a_model_that_lacks_a_role_stops_nobody_else(bench: Bench, trio: Trio) -> None:
    bench.join("other-encoder", "encoder", model=OTHER)
    bench.submit("a", model="other")
    assert bench.refused["a"] == NoRoute(["denoiser", "decoder"], [], "other")
    bench.submit("b", model="demo")
    runs(bench, trio, "b")
    assert bench.machine.missing("other") == bench.machine.missing() == ["denoiser", "decoder"]
    assert bench.machine.missing("demo") == []
    assert bench.machine.routes() == {"demo": [], "other": ["denoiser", "decoder"]}


def test_a_role_that_another_model_has_is_no_help(bench: Bench) -> None:
    bench.join("encoder-0", "encoder")
    bench.join("denoiser-0", "denoiser", model=OTHER)
    bench.join("decoder-0", "decoder", model=OTHER)
    assert bench.machine.missing() == ["encoder", "denoiser", "decoder"]
    bench.submit("a", model="demo")
    assert bench.refused["a"] == NoRoute(["denoiser", "decoder"], [], "demo")


def test_an_overload_of_one_turns_nobody_else_away() -> None:
    bench = Bench(max_queue=1)
    bench.trio(capacity=1)
    others = trio_of(bench, "other")
    for id in ("a", "b", "c"):
        bench.submit(id, model="demo")
    assert isinstance(bench.refused["c"], QueueFull)
    bench.submit("d", model="other")
    runs(bench, others, "d")
    view = bench.machine.view()
    assert (view.models["demo"].requests.queued, view.models["other"].requests.queued) == (1, 0)
    assert view.models["other"].requests.completed == view.requests.completed == 1
    assert (view.requests.queued, view.requests.running) == (1, 1)


def test_an_id_that_is_under_way_is_under_way_for_all(bench: Bench, two: Two) -> None:
    bench.submit("a", model="demo")
    bench.submit("a", model="other")
    assert "a" in bench.refused
    assert not two[1][0].got(Work)


def test_costs_are_learned_apart(bench: Bench, two: Two) -> None:
    bench.submit("a", model="demo")
    runs(bench, two[0], "a")
    mine, others = (bench.machine.books.registry.models[x].forecast for x in ("demo", "other"))
    assert mine._costs.knows("denoiser")
    assert not others._costs.knows("denoiser")
    assert bench.model.expect("encoder") == 100
    assert bench.machine.books.registry.models["other"].expect("encoder") == 0


# ---------------------------------------------------------------- what nothing crosses


def test_a_failed_request_is_never_tried_at_another_model() -> None:
    bench = Bench(max_attempts=3)
    encoder, denoiser, decoder = bench.trio()
    others = trio_of(bench, "other")
    bench.submit("a", model="demo")
    encoder.delivers(encoder.take(Work))
    denoiser.take(Work)
    bench.end(denoiser)
    bench.beat(5.0, encoder, decoder, *others)
    assert not encoder.got(Push)  # the encoding waits for a denoiser of its own
    assert not any(leader.got(Work) for leader in others)
    again = bench.join("denoiser-1", "denoiser")
    push = encoder.take(Push)
    assert push.grant.receiver == again.name


def test_copies_of_checkpoints_stay_with_their_model(bench: Bench, trio: Trio) -> None:
    trio_of(bench, "other")
    encoder, denoiser, _ = trio
    bench.submit("a", model="demo")
    encoder.delivers(encoder.take(Work))
    work = denoiser.take(Work)
    denoiser.accepts(work)
    denoiser.steps(work, 5)
    denoiser.say(Checkpointed(denoiser.epoch, "a", work.attempt, "denoiser", 5, 100))
    assert not denoiser.got(Push)  # the only other denoiser has another model
    neighbour = bench.join("denoiser-1", "denoiser")
    denoiser.steps(work, 10)
    denoiser.say(Checkpointed(denoiser.epoch, "a", work.attempt, "denoiser", 10, 100))
    assert denoiser.take(Push).grant.receiver == neighbour.name


def test_previews_are_made_by_decoders_of_the_model(bench: Bench, trio: Trio) -> None:
    encoder, denoiser, decoder = trio
    others = trio_of(bench, "other")
    bench.submit("a", previews=3, model="demo")
    encoder.delivers(encoder.take(Work))
    work = denoiser.take(Work)
    denoiser.accepts(work)
    denoiser.steps(work, 10)
    preview = denoiser.take(Work)
    assert preview.preview_of == ("a", work.attempt)
    assert preview.grant.receiver == decoder.name != others[2].name


# ---------------------------------------------------------------- which model is meant


def test_without_a_name_the_only_model_is_meant(bench: Bench, trio: Trio) -> None:
    assert bench.machine.usual_model == MODEL
    bench.submit("a")
    runs(bench, trio, "a")


def test_of_several_one_has_to_be_named(bench: Bench, two: Two) -> None:
    assert bench.machine.usual_model is None
    bench.submit("a")
    assert bench.refused["a"] == NoRoute(list(SPLIT_ROUTE))


def test_a_stray_instance_of_another_model_changes_nothing_for_those_who_name_none(
    bench: Bench, trio: Trio
) -> None:
    """It counts only once it could be used; from then on, also while it cannot."""
    stray = bench.join("stray", "denoiser", model=OTHER)
    assert bench.machine.usual_model == MODEL
    others = [bench.join(f"o-{role}", role, model=OTHER) for role in ("encoder", "decoder")]
    assert bench.machine.usual_model is None
    bench.do_leave(stray, stray.epoch)
    assert bench.machine.usual_model is None
    for leader in others:
        bench.do_leave(leader, leader.epoch)
    assert bench.machine.usual_model == MODEL


def test_the_declared_one_is_meant_before_and_after_others_come() -> None:
    bench = Bench(default_model="other")
    trio = bench.trio()
    assert bench.machine.usual_model is None
    assert bench.machine.routes() == {"demo": [], "other": list(SPLIT_ROUTE)}
    bench.submit("early")
    assert isinstance(bench.refused["early"], NoRoute)
    others = trio_of(bench, "other")
    assert bench.machine.missing() == []
    bench.submit("a")
    runs(bench, others, "a")
    bench.submit("b", model="demo")
    runs(bench, trio, "b")


def test_a_model_that_nobody_knows_yet_is_waited_for_by_name(bench: Bench, trio: Trio) -> None:
    """What the desk of jobs asks for again and again."""
    bench.submit("a", model="other")
    assert bench.refused["a"] == NoRoute(list(SPLIT_ROUTE), [], "other")
    others = trio_of(bench, "other")
    bench.submit("b", model="other")
    runs(bench, others, "b")


# ---------------------------------------------------------------- who belongs to which


def test_the_same_files_under_another_folder_s_name_are_the_same_model(bench: Bench) -> None:
    bench.join("encoder-0", "encoder")
    elsewhere = replace(MODEL, name="demo-v1")
    bench.join("denoiser-0", "denoiser", model=elsewhere)
    bench.join("decoder-0", "decoder")
    assert bench.machine.models == [MODEL]
    assert bench.machine.missing("demo-v1") == bench.machine.missing() == []
    bench.submit("a", model="demo-v1")
    assert bench.results == {}
    assert "a" not in bench.refused
    assert {x.model for x in bench.machine.view().roles["denoiser"]} == {"demo"}


def test_the_name_that_came_second_still_finds_it_after_a_restart(bench: Bench) -> None:
    """A job keeps the name that its model had; another host may be the first to register now."""
    bench.join("denoiser-0", "denoiser", model=replace(MODEL, name="demo-v1"))
    bench.join("encoder-0", "encoder")
    bench.join("decoder-0", "decoder")
    assert [model.name for model in bench.machine.models] == ["demo-v1"]
    bench.submit("a", model="demo")
    assert "a" not in bench.refused


def test_the_same_files_under_a_given_name_are_another_model(bench: Bench, trio: Trio) -> None:
    """Such as with other flags, which change the pixels."""
    fast = replace(MODEL, name="fast", named=True, speed=Speed("bfloat16"))
    bench.join("fast-0", "denoiser", model=fast)
    assert [model.name for model in bench.machine.models] == ["demo", "fast"]
    reason = bench.join("slow-1", "denoiser", model=replace(fast, speed=None)).take(Refused).reason
    assert "--model-name" in reason


def test_a_given_name_means_the_same_model_only_with_the_same_files(bench: Bench) -> None:
    bench.join("encoder-0", "encoder", model=replace(MODEL, named=True))
    assert bench.join("denoiser-0", "denoiser", model=replace(MODEL, named=True)).got(Welcome)
    stranger = replace(MODEL, named=True, fingerprint="beef")
    assert "f00d" in bench.join("decoder-0", "decoder", model=stranger).take(Refused).reason


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 1000])
def test_a_name_of_no_use_is_refused(bench: Bench, name: str) -> None:
    leader = bench.join("encoder-0", "encoder", model=replace(MODEL, name=name))
    assert "a model's name" in leader.take(Refused).reason


def test_a_name_may_go_over_to_another_model(bench: Bench, trio: Trio) -> None:
    bench.end(trio[1])
    moved = bench.join("denoiser-0", "denoiser", model=OTHER, incarnation="2")
    assert moved.seen.model == "other"
    assert bench.machine.missing("demo") == ["denoiser"]
    assert bench.machine.roster("denoiser", "other") == ["denoiser-0"]
    assert bench.machine.roster("denoiser", "demo") == []


def test_places_are_counted_by_model(bench: Bench, two: Two) -> None:
    second = bench.join("other-1", "denoiser", model=replace(OTHER, fingerprint="of other"))
    shown = bench.machine.view().roles["denoiser"]
    assert [(x.model, x.order) for x in shown] == [("demo", 0), ("other", 0), ("other", 1)]
    assert bench.machine.roster("denoiser") == ["denoiser-0", "other-denoiser", second.name]


# ---------------------------------------------------------------- models come and go


def test_one_that_everybody_left_is_listed_no_more_but_still_known(bench: Bench, two: Two) -> None:
    for leader in two[1]:
        bench.do_leave(leader, leader.epoch)
    assert [model.name for model in bench.machine.models] == ["demo"]
    assert bench.machine.missing() == []
    assert bench.machine.model("other") is not None
    bench.submit("a", model="other")
    assert bench.refused["a"] == NoRoute(list(SPLIT_ROUTE), [], "other")


def test_one_whose_instances_were_lost_is_missed(bench: Bench, two: Two) -> None:
    for leader in two[1]:
        bench.do_disconnect(leader)
    assert bench.machine.routes() == {"demo": [], "other": list(SPLIT_ROUTE)}
    assert bench.machine.usual_model is None
    for leader in two[1]:
        bench.remove(leader.name)
    assert bench.machine.routes() == {"demo": []}
    assert bench.machine.usual_model == MODEL


def test_the_last_one_is_remembered(bench: Bench, trio: Trio) -> None:
    for leader in trio:
        bench.do_leave(leader, leader.epoch)
    assert bench.machine.models == [MODEL]
    assert bench.machine.missing() == list(SPLIT_ROUTE)


def test_so_many_models_are_remembered_and_no_more() -> None:
    bench = Bench(max_known_models=2)
    bench.join("a", "encoder")
    second = bench.join("b", "encoder", model=OTHER)
    third = replace(OTHER, name="third", fingerprint="3")
    assert "no more are allowed" in bench.join("c", "encoder", model=third).take(Refused).reason
    bench.do_leave(second, second.epoch)
    assert bench.join("c", "encoder", model=third, incarnation="2").got(Welcome)
    assert [model.name for model in bench.machine.models] == ["demo", "third"]
    assert bench.machine.model("other") is None


def test_other_weights_under_a_name_begin_anew(bench: Bench, trio: Trio) -> None:
    bench.model.adapters = {"a": Adapter("a", "/a", 1.0, "d1")}
    for leader in trio:
        bench.end(leader)
    tuned = replace(MODEL, fingerprint="tuned")
    fresh = [bench.join(f"n-{role}", role, model=tuned) for role in SPLIT_ROUTE]
    assert bench.machine.models == [tuned]
    assert not bench.machine.adapters("demo")
    bench.submit("a")
    assert fresh[0].take(Work)


# ---------------------------------------------------------------- changes of what they have


def loads(leader: Scripted) -> list[Answers]:
    asked = leader.take(Ask)
    value = LoraLoaded(LoraFile("a", asked.action.path, "d1", 1, []))
    answer = Answered(leader.epoch, asked.number, PoolResult((RankResult(0, 1, True, value),)))
    return [command for command in leader.say(answer) if isinstance(command, Answers)]


def test_adapters_are_of_one_model(bench: Bench, two: Two) -> None:
    bench.do(AskInstances(1, ["denoiser-0"], LoadLora("a", "/a"), 60.0))
    (answers,) = loads(two[0][1])
    assert answers.instances["denoiser-0"].ok
    assert list(bench.machine.adapters("demo")) == ["a"]
    assert bench.machine.adapters("other") == {}
    assert not any(leader.got(Ask) for leader in two[1])
    late = bench.join("other-1", "denoiser", model=replace(OTHER, fingerprint="of other"))
    assert not late.got(Ask)
    late = bench.join("demo-1", "denoiser")
    assert isinstance(late.take(Ask).action, LoadLora)


def test_nothing_is_changed_of_several_models_at_once(bench: Bench, two: Two) -> None:
    names = ["denoiser-0", "other-denoiser"]
    commands = bench.do(AskInstances(1, names, LoadLora("a", "/a"), 60.0))
    (answers,) = [command for command in commands if isinstance(command, Answers)]
    for answer in answers.instances.values():
        assert answer.error is not None
        assert "several models (demo, other)" in answer.error.message
    assert not any(leader.got(Ask) for those in two for leader in those)


def test_while_weights_of_one_change_requests_of_another_begin(bench: Bench) -> None:
    mine = bench.trio(parts=["net"])
    others = trio_of(bench, "other", parts=["net"])
    bench.submit("busy", model="demo")
    bench.do(AskInstances(1, ["denoiser-0"], UpdateWeights("/new"), 60.0))
    assert bench.machine.questions == 1
    bench.submit("a", model="demo")
    bench.submit("b", model="other")
    runs(bench, others, "b")
    runs(bench, mine, "busy")
    assert not mine[0].got(Work)  # it waits until they have changed
    bench.wait(0.1)  # the change begins
    assert [len(leader.got(Ask)) for leader in (*mine, *others)] == [1, 1, 1, 0, 0, 0]


def test_inputs_say_nothing_of_it(bench: Bench, two: Two) -> None:
    """A role is given what its pipeline takes; whose it is was decided before."""
    bench.submit("a", model="other")
    assert two[1][0].take(Work).inputs == INPUTS
