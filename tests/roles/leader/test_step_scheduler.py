"""The step scheduler: pure, so every order of events can be tried."""

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.calls import Key, Measured
from roles.leader.batch_costs import BatchCosts, Line
from roles.leader.scheduler import Arrived, Ended, InvalidEvent, Plan, Ran, Scheduler, Spent
from tests.support.batching import Eager
from transfer.costs import Shape, Workload
from transfer.messages import Role

STEPPED = ("denoiser", "monolithic")


def key(name: str) -> Key:
    return (name, 1)


def scheduler(*names: str, role: Role = "denoiser", max_batch: int = 4) -> Scheduler:
    made = Scheduler(max_batch)
    for name in names:
        made.handle(Arrived(key(name), role))
    return made


def run(made: Scheduler, count: int) -> list[str]:
    """Runs plans whose requests never end; "unit name" for each."""
    told = []
    for _ in range(count):
        plan = made.plan()
        assert plan is not None
        told.append(f"{plan.unit} {plan.keys[0][0]}")
        made.handle(Ran(plan.keys[0]))
    return told


def test_nothing_to_do_is_no_plan() -> None:
    assert Scheduler(1).plan() is None


def test_a_denoiser_begins_and_steps() -> None:
    assert run(scheduler("a"), 4) == ["begin a", "step a", "step a", "step a"]


def test_seconds_of_a_step_are_learned_though_the_first_came_in_the_middle() -> None:
    made = Scheduler(1)
    shape = Shape("denoiser", 1, 1)
    made.handle(Arrived(key("a"), "denoiser", work=Workload(shape, 10)))
    made.plan()
    made.handle(Spent(key("a"), 0.1, step=7, steps=10))
    made.handle(Ran(key("a")))
    made.plan()
    made.handle(Spent(key("a"), 2.0, step=8, steps=10))
    assert made.predictions.step(shape) == pytest.approx(2.0)


def test_an_encoder_begins_and_encodes() -> None:
    assert run(scheduler("a", role="encoder"), 2) == ["begin a", "encode a"]


def test_an_encoder_that_has_read_its_prompt_goes_on_to_write() -> None:
    told = run(scheduler("a", role="encoder"), 5)
    assert told == ["begin a", "encode a", "step a", "step a", "step a"]


@pytest.mark.parametrize("schedule", ["sjf", "fifo"])
def test_prompts_are_read_one_by_one_between_the_tokens_of_others(schedule: Any) -> None:
    made = Scheduler(4, Eager(), schedule)
    told = []
    for name in ("a", "b", "c"):
        made.handle(Arrived(key(name), "encoder"))
    for _ in range(12):
        plan = made.plan()
        assert plan is not None
        told.append(f"{plan.unit} {''.join(name for name, _ in plan.keys)}")
        for each in plan.keys:
            made.handle(Ran(each, "k:" if plan.unit != "begin" else None))
    reads = [index for index, it in enumerate(told) if it.startswith("encode")]
    assert len(reads) == 3
    # from the first one on, no two units that are no steps follow each other
    after = told[reads[0] + 1 :]
    pairs = itertools.pairwise(unit.split()[0] for unit in after)
    assert all("step" in pair for pair in pairs)
    assert told[-1] == "step abc"


def test_what_is_written_counts_as_one_encode_however_long() -> None:
    made = Scheduler(2)
    shape = Shape("encoder", 1, 1)
    made.handle(Arrived(key("a"), "encoder", work=Workload(shape, 1)))
    for unit, seconds, step in (("begin", 0.5, 0), ("encode", 1.0, 1), ("step", 2.0, 40)):
        plan = made.plan()
        assert plan is not None
        assert plan.unit == unit
        made.handle(Spent(key("a"), seconds, step=step, steps=512, whole=False))
        made.handle(Ran(key("a")))
    made.plan()
    made.handle(Spent(key("a"), 3.0, step=90, steps=512))
    made.handle(Ended(key("a")))
    assert made.predictions.step(shape) == pytest.approx(6.0)


def test_a_decoder_begins_and_decodes() -> None:
    assert run(scheduler("a", role="decoder"), 2) == ["begin a", "decode a"]


def test_a_monolithic_request_is_stepped() -> None:
    assert run(scheduler("a", role="monolithic"), 2) == ["begin a", "step a"]


def test_denoising_requests_take_turns() -> None:
    made = scheduler("a", "b")
    assert run(made, 6) == ["begin a", "begin b", "step a", "step b", "step a", "step b"]


def test_one_more_than_there_are_places_begins_and_waits() -> None:
    made = scheduler("a", "b", "c", max_batch=2)
    assert run(made, 7)[3:] == ["step a", "step b", "step a", "step b"]
    assert made.running == [key("a"), key("b")]


def test_a_free_place_goes_to_the_one_that_waits() -> None:
    made = scheduler("a", "b", max_batch=1)
    assert run(made, 3) == ["begin a", "begin b", "step a"]
    made.handle(Ended(key("a")))
    assert run(made, 1) == ["step b"]


def test_an_arrival_waits_one_turn_at_most() -> None:
    made = scheduler("a", "b")
    run(made, 3)
    made.handle(Arrived(key("c"), "denoiser"))
    assert run(made, 3) == ["step b", "step a", "begin c"]


def test_encoding_does_not_stop_the_denoising() -> None:
    made = scheduler("a", "b")
    run(made, 2)
    made.handle(Arrived(key("e"), "encoder"))
    made.handle(Arrived(key("f"), "encoder"))
    assert run(made, 4) == ["step a", "step b", "begin e", "begin f"]
    assert run(made, 4) == ["step a", "step b", "encode e", "encode f"]


def test_an_aborted_request_is_planned_no_more() -> None:
    made = scheduler("a", "b")
    run(made, 2)
    made.handle(Ended(key("a")))
    assert run(made, 2) == ["step b", "step b"]


def test_a_request_may_end_while_it_is_planned() -> None:
    made = scheduler("a", "b")
    plan = made.plan()
    assert plan == Plan("begin", ((key("a"),),))
    assert made.planned(key("a"))
    made.handle(Ended(key("a")))
    assert run(made, 1) == ["begin b"]


def test_a_duplicate_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="arrived again"):
        scheduler("a", "a")


def test_an_unknown_request_is_an_error_that_tells_the_state() -> None:
    with pytest.raises(InvalidEvent, match=r"no such request.*jobs.*'a'"):
        scheduler("a").handle(Ran(key("b")))


def test_an_outcome_without_a_plan_is_an_error() -> None:
    with pytest.raises(InvalidEvent, match="unplanned"):
        scheduler("a").handle(Ran(key("a")))


def test_a_plan_before_the_outcome_of_the_last_is_an_error() -> None:
    made = scheduler("a")
    made.plan()
    with pytest.raises(InvalidEvent, match="before the outcome"):
        made.plan()


# ---------------------------------------------------------------- shared forwards


def sharing(*names: str, max_batch: int = 4, costs: BatchCosts | None = None) -> Scheduler:
    """A scheduler whose requests have begun; all may share their forwards."""
    made = Scheduler(max_batch, Eager() if costs is None else costs)
    for name in names:
        made.handle(Arrived(key(name), "denoiser"))
    for name in names:
        assert made.plan() == Plan("begin", ((key(name),),))
        made.handle(Ran(key(name), "k"))
    return made


def turns(made: Scheduler, count: int, keys: dict[str, str | None] | None = None) -> list[str]:
    """Runs plans whose requests never end; the names of each."""
    told = []
    for _ in range(count):
        plan = made.plan()
        assert plan is not None
        told.append("+".join(name for name, _ in plan.keys))
        for it in plan.keys:
            made.handle(Ran(it, (keys or {}).get(it[0], "k")))
    return told


def test_requests_with_the_same_key_share_a_forward() -> None:
    assert turns(sharing("a", "b", "c"), 2) == ["a+b+c", "a+b+c"]


def test_a_group_has_as_many_as_there_are_places() -> None:
    assert turns(sharing("a", "b", "c", max_batch=2), 2) == ["a+b", "a+b"]


def test_what_runs_alone_takes_its_turn_between_groups() -> None:
    made = sharing("a", "b", "c")
    keys: dict[str, str | None] = {"b": None}
    assert turns(made, 5, keys) == ["a+b+c", "a+c", "b", "a+c", "b"]


def test_different_keys_take_turns_as_groups() -> None:
    made = sharing("a", "b", "c", "d")
    keys: dict[str, str | None] = {"a": "x", "b": "y", "c": "x", "d": "y"}
    turns(made, 1, keys)
    assert turns(made, 4, keys) == ["a+c", "b+d"] * 2


def test_without_costs_nothing_is_shared() -> None:
    made = scheduler("a", "b")
    run(made, 2)
    assert turns(made, 3) == ["a", "b", "a"]


def test_a_request_joins_between_two_steps_and_another_leaves() -> None:
    made = sharing("a", "b")
    assert turns(made, 1) == ["a+b"]
    made.handle(Arrived(key("c"), "denoiser"))
    assert turns(made, 3) == ["a+b", "c", "a+b+c"]
    made.handle(Ended(key("a")))
    assert turns(made, 1) == ["b+c"]


def test_a_request_that_ends_while_its_group_runs_leaves_the_others() -> None:
    made = sharing("a", "b")
    assert made.plan() == Plan("step", ((key("a"), key("b")),), share=2)
    made.handle(Ended(key("a")))
    with pytest.raises(InvalidEvent, match="before the outcome"):
        made.plan()
    made.handle(Ran(key("b"), "k"))
    assert turns(made, 1) == ["b"]


def test_what_was_measured_decides() -> None:
    made = sharing("a", "b", costs=BatchCosts())
    assert turns(made, 3) == ["a", "b", "a"]  # alone has to be measured first
    for size, seconds in ((1, 1.0), (1, 1.0), (2, 2.0), (2, 2.0)):
        made.handle(Measured("k", size, seconds))
    assert turns(made, 4) == ["b", "a", "b", "a"]
    for _ in range(7):
        made.handle(Measured("k", 2, 1.1))
    assert turns(made, 3) == ["b", "a+b", "a+b"]  # the round of before ends first
    made.handle(Measured("k", 2, None, most=1))
    assert turns(made, 2) == ["a", "b"]


def branching(costs: BatchCosts, **branches: int) -> Scheduler:
    """Requests with the same key, by the number of branches that each waits for."""
    made = Scheduler(4, costs)
    for name in branches:
        made.handle(Arrived(key(name), "denoiser"))
    for name, count in branches.items():
        made.plan()
        made.handle(Ran(key(name), "k", count))
    return made


class Sizes(BatchCosts):
    """Always the same size; notes how many calls were ready."""

    def __init__(self, chosen: int) -> None:
        super().__init__()
        self.chosen, self.ready = chosen, 0

    def size(self, key: str, ready: int, line: Line | None = None) -> int:
        self.ready = ready
        return min(self.chosen, ready)


@pytest.mark.parametrize(
    ("chosen", "names", "share"),
    [(1, "a", 1), (2, "a", 2), (3, "a", 3), (4, "ab", 4), (5, "abc", 5), (9, "abc", 5)],
)
def test_branches_are_calls_that_share_too(chosen: int, names: str, share: int) -> None:
    costs = Sizes(chosen)
    plan = branching(costs, a=2, b=2, c=1).plan()
    assert plan == Plan("step", (tuple(key(name) for name in names),), share)
    assert costs.ready == 5


def test_whether_the_branches_of_one_request_share_is_learned() -> None:
    for together, share in ((1.2, 2), (2.0, 1)):
        made, told = branching(BatchCosts(), a=2), []
        for _ in range(8):
            plan = made.plan()
            assert plan is not None
            told.append(plan.share)
            made.handle(Measured("k", plan.share, {1: 1.0, 2: together}[plan.share]))
            made.handle(Ran(key("a"), "k", 2))
        assert told == [1, 1, 2, 2, *[share] * 4]


def test_without_costs_branches_run_one_after_the_other() -> None:
    made = Scheduler(4)
    made.handle(Arrived(key("a"), "denoiser"))
    made.plan()
    made.handle(Ran(key("a"), "k", 2))
    assert made.plan() == Plan("step", ((key("a"),),), share=1)


# ---------------------------------------------------------------- any order of events


@dataclass
class Life:
    """What the test knows of one request."""

    role: Role
    left: int  # units until its end, begin included
    begun: bool = False
    batch_key: str | None = None
    overtaken: Counter[Key] = field(default_factory=Counter)  # others' turns since its own
    ahead: Counter[Key] = field(default_factory=Counter)  # others' turns less its own


class World:
    """Requests that arrive, take their turns and are aborted in any order. `shares`: the keys of
    their forwards, one after the other; none: nothing is shared."""

    def __init__(self, max_batch: int, shares: list[str | None]) -> None:
        self.max_batch = max_batch
        self.sharing = bool(shares)
        self.shares = itertools.cycle(shares or [None])
        self.made = Scheduler(max_batch, Eager() if shares else None)
        self.live: dict[Key, Life] = {}
        self.ended: list[Key] = []

    def arrive(self, it: Key, role: Role, steps: int) -> None:
        self.live[it] = Life(role, left=1 + (steps if role in STEPPED else 1))
        self.made.handle(Arrived(it, role))

    def abort(self, pick: int) -> None:
        if self.live:
            self.end(list(self.live)[pick % len(self.live)])

    def end(self, it: Key) -> None:
        self.made.handle(Ended(it))
        del self.live[it]
        self.ended.append(it)

    def tick(self) -> bool:
        runnable = [it for it in self.live if self.can_run(it)]
        plan = self.made.plan()
        assert (plan is not None) == bool(runnable)
        if plan is None:
            return False
        assert set(plan.keys) <= set(runnable)
        assert len(self.made.running) <= self.max_batch
        self.check_group(plan)
        self.take_turns(plan.keys, runnable)
        for it in plan.keys:
            life = self.live[it]
            life.left, life.begun = life.left - 1, True
            life.batch_key = next(self.shares)
            if life.left:
                self.made.handle(Ran(it, life.batch_key))
            else:
                self.end(it)
        return True

    def check_group(self, plan: Plan) -> None:
        assert len(plan.groups) == 1
        if len(plan.keys) > 1:
            assert self.sharing
            assert plan.unit == "step"
            assert len(plan.keys) == len(set(plan.keys)) <= self.max_batch
            (shared,) = {self.live[it].batch_key for it in plan.keys}
            assert shared is not None

    def can_run(self, it: Key) -> bool:
        life = self.live[it]
        return not life.begun or life.role not in STEPPED or it in self.made.running

    def take_turns(self, group: list[Key], runnable: list[Key]) -> None:
        """Nobody starves: see the scheduler's promise."""
        for other, life in self.live.items():
            if other not in runnable:
                life.overtaken.clear()
                life.ahead.clear()
                continue
            life.overtaken.update(group)
            life.ahead.update(group)
            if other in group:
                life.overtaken.clear()
                life.ahead.subtract(runnable)
            for it in group:
                most = 2 if self.sharing else 1
                assert life.overtaken[it] <= most, f"{other} waits while {it} takes {most + 1}"
                assert life.ahead[it] <= 2, f"{it} has taken more turns than {other}"
        for life in self.live.values():  # who cannot run now is compared anew when he can
            for it in set(life.ahead) - set(runnable):
                del life.ahead[it]


actions = st.one_of(
    st.tuples(
        st.just("arrive"),
        st.sampled_from(["encoder", "denoiser", "decoder", "monolithic"]),
        st.integers(1, 6),
    ),
    st.tuples(st.just("abort"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("tick"), st.just(0), st.just(0)),
)


shares = st.lists(st.sampled_from(["x", "x", "y", None]), max_size=7)


@settings(deadline=None, max_examples=500)
@given(st.integers(1, 4), st.lists(actions, max_size=60), shares)
def test_every_request_ends_once_and_turns_are_fair(
    max_batch: int, script: list[tuple[str, Any, int]], shares: list[str | None]
) -> None:
    world = World(max_batch, shares)
    for number, (what, a, b) in enumerate(script):
        if what == "arrive":
            world.arrive(key(f"r{number}"), a, b)
        elif what == "abort":
            world.abort(a)
        else:
            world.tick()
    while world.tick():
        pass
    assert len(world.made) == 0
    assert len(world.ended) == len(set(world.ended)) == sum(a[0] == "arrive" for a in script)
