"""Predicted seconds and classes in the core: who is given what, and where."""

import itertools

import pytest

from orchestrator.core.events import Submit
from orchestrator.core.policies import least_backlog
from tests.support.bench import PICTURE, Bench
from transfer.costs import STRETCH
from transfer.messages import (
    Abort,
    Delivered,
    Finished,
    Inputs,
    Params,
    Priority,
    Progressed,
    Push,
    Role,
    StageReport,
    Work,
)

STEP_S = 0.1  # of a picture of 64 x 64; others in proportion
STEPS = 10


def inputs(side: int = 64, steps: int = STEPS, priority: Priority = "normal") -> Inputs:
    params: Params = {"prompt": "x", "width": side, "height": side, "num_inference_steps": steps}
    return Inputs(params, 7, priority=priority)


class Cluster(Bench):
    """Monolithic instances, so that each request is one stage with steps and a cost."""

    def __init__(self, *names: str, capacity: int = 8, **config: object) -> None:
        super().__init__(**config)
        self.leaders = {n: self.join(n, "monolithic", capacity=capacity) for n in names}
        self.numbers = itertools.count()

    def ask(self, side: int = 64, steps: int = STEPS, priority: Priority = "normal") -> str:
        id = f"r{next(self.numbers)}"
        self.do(Submit(id, inputs(side, steps, priority), 600.0))
        return id

    def where(self, id: str) -> str:
        for name, leader in self.leaders.items():
            if any(work.request == id for work in leader.got(Work)):
                return name
        return "nowhere"

    def work(self, id: str) -> Work:
        works = [work for leader in self.leaders.values() for work in leader.got(Work)]
        return next(work for work in works if work.request == id)

    def finish(self, id: str, share: float = 1.0) -> None:
        """It took what its size says, or a share of that, because forwards were shared."""
        leader, work = self.leaders[self.where(id)], self.work(id)
        width, steps = (work.inputs.params[n] for n in ("width", "num_inference_steps"))
        assert isinstance(width, int)
        assert isinstance(steps, int)
        seconds = STEP_S * steps * (width / 64) ** 2
        about = (leader.epoch, work.request, work.attempt, work.role)
        report = StageReport(compute_s=seconds, steps=steps, busy_s=share * seconds)
        leader.say(Finished(*about, [PICTURE], report))

    def step(self, id: str, step: int) -> None:
        leader, work = self.leaders[self.where(id)], self.work(id)
        steps = work.inputs.params["num_inference_steps"]
        assert isinstance(steps, int)
        about = (leader.epoch, work.request, work.attempt, work.role)
        leader.say(Progressed(*about, step, steps))

    def backlog(self, name: str) -> float:
        return self.seen(name).backlog_s

    def teach(self) -> None:
        """One request alone, so that seconds are known."""
        self.finish(self.ask())


# ---------------------------------------------------------------- V13


def test_v13_the_next_request_goes_where_the_fewest_seconds_wait() -> None:
    cluster = Cluster("a", "b")
    cluster.teach()
    large = cluster.ask(side=256, steps=50)  # as much as eighty small ones
    small = [cluster.ask() for _ in range(6)]
    assert {cluster.where(id) for id in small} == {"a", "b"} - {cluster.where(large)}


def test_v13_routing_knows_costs_before_anything_was_measured() -> None:
    cluster = Cluster("a", "b")
    large, *small = cluster.ask(side=256, steps=50), cluster.ask(), cluster.ask(), cluster.ask()
    assert cluster.where(large) not in {cluster.where(id) for id in small}


def test_v13_work_in_flight_is_corrected_by_its_steps() -> None:
    cluster = Cluster("a", "b")
    cluster.teach()
    long = cluster.ask(steps=40)
    assert cluster.backlog(cluster.where(long)) == pytest.approx(40 * STEP_S)
    cluster.ask(steps=20, side=65)  # at the other one, of another shape
    for step in range(1, 36):
        cluster.step(long, step)
    assert cluster.backlog(cluster.where(long)) == pytest.approx(5 * STEP_S)
    assert cluster.where(cluster.ask(side=66)) == cluster.where(long)
    assert cluster.where(cluster.ask(side=67)) == cluster.where(long)


def test_v13_the_instance_that_computes_the_shape_is_preferred_where_that_is_sooner() -> None:
    cluster = Cluster("a", "b")
    cluster.teach()
    one, other = cluster.ask(side=64, steps=12), cluster.ask(side=65, steps=12)
    assert cluster.where(one) != cluster.where(other)
    # a little more waits where the shape is; sharing its forwards makes up for it
    cluster.step(other, 4)
    mate = cluster.ask(side=64, steps=20)
    assert cluster.where(mate) == cluster.where(one)
    # but not for as much more
    assert cluster.where(cluster.ask(side=64, steps=20)) == cluster.where(other)


def test_v13_where_sharing_was_found_not_to_pay_nothing_is_preferred() -> None:
    cluster = Cluster("a", "b")
    cluster.teach()
    for _ in range(8):  # what was in company took as long as alone
        first = cluster.ask(steps=4)
        blocker = cluster.ask(side=256, steps=50)
        mate = cluster.ask(steps=4)
        assert cluster.where(mate) == cluster.where(first)
        for id in (first, mate, blocker):
            cluster.finish(id)
    one, other = cluster.ask(steps=12), cluster.ask(side=65, steps=12)
    cluster.step(other, 4)
    assert cluster.where(cluster.ask(steps=20)) == cluster.where(other)
    assert cluster.where(one) != cluster.where(other)


def test_v13_a_slow_instance_gets_less() -> None:
    cluster = Cluster("fast", "slow", capacity=100)
    cluster.teach()
    for _ in range(20):
        id = cluster.ask()
        cluster.finish(id, share=4.0 if cluster.where(id) == "slow" else 1.0)
    placed = [cluster.where(cluster.ask(side=64 + n, steps=20)) for n in range(20)]
    assert placed.count("fast") > 2 * placed.count("slow") > 0


def test_backlogs_that_are_about_equal_take_turns() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.teach()
    assert {cluster.where(cluster.ask(side=64 + n)) for n in range(3)} == {"a", "b", "c"}


def test_nothing_is_left_of_a_backlog_when_all_is_home() -> None:
    cluster = Cluster("a", "b")
    for number in range(10):
        cluster.ask(side=64 + number)
    for number in range(10):
        cluster.finish(f"r{number}")
    for name, leader in cluster.leaders.items():
        post = cluster.machine.books.registry.by_name[name].posts["monolithic"]
        assert post.backlog("low") == 0.0
        assert least_backlog(post, "low") == 0.0
        assert not post.shapes
        assert leader.got(Work)
    cluster.assert_home()


# ---------------------------------------------------------------- who goes first


def finish_first(cluster: Cluster, *names: str) -> list[str]:
    """The order in which those that wait are given work, one at a time."""
    order = []
    waiting = list(names)
    while waiting:
        running = next(work.request for work in _running(cluster))
        cluster.finish(running)
        placed = [id for id in waiting if cluster.where(id) != "nowhere"]
        order += placed
        waiting = [id for id in waiting if id not in placed]
    return order


def _running(cluster: Cluster) -> list[Work]:
    works = [work for leader in cluster.leaders.values() for work in leader.got(Work)]
    return [work for work in works if work.request in cluster.machine.books.ledger.active]


def test_the_shortest_that_waits_goes_first() -> None:
    cluster = Cluster("a", capacity=1)
    cluster.teach()
    cluster.ask()
    long, middle, short = cluster.ask(steps=50), cluster.ask(steps=20), cluster.ask(steps=5)
    assert finish_first(cluster, long, middle, short) == [short, middle, long]


def test_with_fifo_the_first_goes_first() -> None:
    cluster = Cluster("a", capacity=1, schedule="fifo")
    cluster.teach()
    cluster.ask()
    long, short = cluster.ask(steps=50), cluster.ask(steps=5)
    assert finish_first(cluster, long, short) == [long, short]


def test_who_comes_after_a_request_s_time_does_not_go_before_it() -> None:
    cluster = Cluster("a", capacity=1)
    cluster.teach()
    cluster.ask()
    long = cluster.ask(steps=50)
    cluster.beat(STRETCH * 50 * STEP_S + 1.0, *cluster.leaders.values())
    short = cluster.ask(steps=5)
    assert finish_first(cluster, long, short) == [long, short]


@pytest.mark.parametrize("schedule", ["fifo", "sjf"])
def test_higher_classes_have_places_of_their_own(schedule: str) -> None:
    cluster = Cluster("a", capacity=2, schedule=schedule)
    low = [cluster.ask(priority="low") for _ in range(3)]
    assert [cluster.where(id) for id in low] == ["a", "a", "nowhere"]
    assert cluster.where(cluster.ask(priority="normal")) == "a"
    assert cluster.where(cluster.ask(priority="high")) == "a"


def test_a_request_sees_no_backlog_of_lower_classes() -> None:
    cluster = Cluster("a", "b")
    cluster.teach()
    low = cluster.ask(side=256, priority="low")
    normal = cluster.ask(side=65)
    assert cluster.where(normal) != cluster.where(low)
    for side in (66, 67):  # to where only work of a lower class is
        assert cluster.where(cluster.ask(side=side, priority="high")) in ("a", "b")
    highs = {cluster.where(f"r{n}") for n in (3, 4)}
    assert highs == {"a", "b"}


def test_staged_payloads_are_pushed_by_class() -> None:
    bench = Bench()
    encoder, denoiser, _ = bench.trio(capacity=4, slots=2)
    works: dict[str, Work] = {}
    classes: list[Priority] = ["normal", "low", "high"]
    for id, priority in zip(("first", "low", "high"), classes, strict=True):
        bench.do(Submit(id, inputs(priority=priority), 60.0))
        works[id] = encoder.take(Work)
    encoder.stages(works["first"], nbytes=2048, released=_unused(works["first"]))
    push = encoder.take(Push)
    for id in ("low", "high"):  # no slot is left for them
        encoder.stages(works[id], nbytes=2048, released=_unused(works[id]))
    assert not encoder.got(Push)
    encoder.delivers(works["first"], 2048, grant=push.grant)
    denoiser.accepts(denoiser.take(Work))
    assert encoder.take(Push).request == "high"


def _unused(work: Work) -> int | None:
    return None if work.grant is None else work.grant.generation


def test_a_preempted_request_that_is_silent_has_not_stalled() -> None:
    cluster = Cluster("a", stall_s=10.0)
    low, high = cluster.ask(steps=50, priority="low"), cluster.ask(steps=50, priority="high")
    cluster.step(low, 1)
    for step in range(1, 40):
        cluster.beat(1.0, cluster.leaders["a"])
        cluster.step(high, step)
    assert not cluster.results
    assert not cluster.leaders["a"].got(Abort)


def test_a_stage_that_was_staged_is_learned_once() -> None:
    bench = Bench()
    encoder, *_ = bench.trio(capacity=1)
    bench.submit("a")
    work = encoder.take(Work)
    role: Role = "encoder"
    report = StageReport(compute_s=2.0, busy_s=2.0)
    assert work.grant is not None
    about = (encoder.epoch, work.request, work.attempt, role)
    encoder.say(Delivered(*about, work.grant.generation, 100, 1, report))
    costs = bench.model.forecast._costs
    assert costs.step(bench.machine.books.ledger.active["a"].works[role].shape) == 2.0
