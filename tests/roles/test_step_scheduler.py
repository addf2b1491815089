"""The step scheduler: pure, so every order of events can be tried."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.calls import Key
from roles.scheduler import Arrived, Ended, InvalidEvent, Plan, Ran, Scheduler
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


def test_an_encoder_begins_and_encodes() -> None:
    assert run(scheduler("a", role="encoder"), 2) == ["begin a", "encode a"]


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


# ---------------------------------------------------------------- any order of events


@dataclass
class Life:
    """What the test knows of one request."""

    role: Role
    left: int  # units until its end, begin included
    begun: bool = False
    overtaken: Counter[Key] = field(default_factory=Counter)  # others' turns since its own


class World:
    """Requests that arrive, take their turns and are aborted in any order."""

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.made = Scheduler(max_batch)
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
        (it,) = plan.keys
        assert it in runnable
        assert len(self.made.running) <= self.max_batch
        self.take_turn(it, runnable)
        life = self.live[it]
        life.left, life.begun = life.left - 1, True
        if life.left:
            self.made.handle(Ran(it))
        else:
            self.end(it)
        return True

    def can_run(self, it: Key) -> bool:
        life = self.live[it]
        return not life.begun or life.role not in STEPPED or it in self.made.running

    def take_turn(self, it: Key, runnable: list[Key]) -> None:
        for other, life in self.live.items():
            life.overtaken[it] += 1
            if other == it or other not in runnable:
                life.overtaken.clear()
            assert life.overtaken[it] <= 1, f"{other} waits while {it} takes two turns"


actions = st.one_of(
    st.tuples(
        st.just("arrive"),
        st.sampled_from(["encoder", "denoiser", "decoder", "monolithic"]),
        st.integers(1, 6),
    ),
    st.tuples(st.just("abort"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("tick"), st.just(0), st.just(0)),
)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 4), st.lists(actions, max_size=60))
def test_every_request_ends_once_and_turns_are_fair(
    max_batch: int, script: list[tuple[str, Any, int]]
) -> None:
    world = World(max_batch)
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
