"""Schedules and classes: who has the next turn, without a clock and without ranks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.calls import Key
from roles.leader.scheduler import Arrived, Ended, Ran, Scheduler, Spent
from roles.leader.turns import Schedule
from tests.support.batching import Eager
from transfer.costs import STRETCH, Shape, Workload
from transfer.messages import PRIORITIES, Priority, Role
from transfer.priority import YIELDS

STEP_S = 1.0  # of a shape of one unit


class Bench:
    """A scheduler, and ranks that take `STEP_S` for a step of a unit; each request ends in time."""

    def __init__(self, schedule: Schedule, max_batch: int = 4, shared: bool = False) -> None:
        self.made = Scheduler(max_batch, Eager() if shared else None, schedule)
        self.key = "k" if shared else None
        self.left: dict[Key, int] = {}
        self.size: dict[Key, int] = {}
        self.arrived: dict[Key, float] = {}
        self.clock = 0.0
        self.ended: list[str] = []
        self.told: list[str] = []

    def arrive(
        self,
        name: str,
        steps: int = 3,
        size: int = 1,
        role: Role = "denoiser",
        priority: Priority = "normal",
    ) -> None:
        key = (name, 1)
        self.left[key], self.size[key], self.arrived[key] = steps, size, self.clock
        work = Workload(Shape(role, size, 1), steps)
        self.made.handle(Arrived(key, role, priority, work))

    def turn(self) -> str | None:
        """One unit: "begin a", "step a+b"."""
        plan = self.made.plan()
        if plan is None:
            return None
        for key in plan.keys:
            self._ran(key, plan.unit, len(plan.keys))
        self.told.append(f"{plan.unit} {'+'.join(name for name, _ in plan.keys)}")
        return self.told[-1]

    def turns(self, count: int) -> list[str | None]:
        return [self.turn() for _ in range(count)]

    def begin(self) -> None:
        """Until the next turn is a step."""
        while any(not job.begun for job in self.made._jobs.values()):
            self.turn()
        self.told.clear()

    def finish(self) -> list[str]:
        while self.turn() is not None:
            pass
        return self.ended

    def _ran(self, key: Key, unit: str, batch: int) -> None:
        if unit == "begin":
            self.made.handle(Spent(key, 0.0))
            self.made.handle(Ran(key, self.key))
            return
        seconds = STEP_S * self.size[key]
        self.clock += seconds
        self.left[key] -= 1
        job = self.made._jobs[key]
        self.made.handle(Spent(key, seconds, job.step + 1, job.step + 1 + self.left[key], batch))
        if self.left[key] and unit == "step":
            self.made.handle(Ran(key, self.key))
        else:
            self.made.handle(Ended(key))
            self.ended.append(key[0])


def test_fifo_finishes_in_order_of_arrival() -> None:
    bench = Bench("fifo")
    for name, steps in (("long", 9), ("short", 1), ("middle", 4)):
        bench.arrive(name, steps)
    assert bench.finish() == ["long", "short", "middle"]


def test_sjf_finishes_the_shortest_first() -> None:
    bench = Bench("sjf")
    for name, steps in (("long", 9), ("short", 1), ("middle", 4)):
        bench.arrive(name, steps)
    bench.begin()
    assert bench.finish() == ["short", "middle", "long"]


def test_sjf_knows_sizes_before_anything_was_measured() -> None:
    bench = Bench("sjf")
    bench.arrive("large", steps=5, size=16)
    bench.arrive("small", steps=5, size=4)
    bench.begin()
    assert bench.turn() == "step small"


def test_a_short_one_that_comes_later_goes_first_and_the_long_one_goes_on_at_its_step() -> None:
    bench = Bench("sjf")
    bench.arrive("long", 9)
    bench.turns(5)
    bench.arrive("short", 2)
    assert bench.turns(5) == ["begin short", "step short", "step short", "step long", "step long"]
    assert bench.made._jobs["long", 1].step == 6
    assert bench.ended == ["short"]


def test_whoever_has_the_turn_takes_others_along_in_every_schedule() -> None:
    for schedule in ("fifo", "sjf", "round_robin"):
        bench = Bench(schedule, max_batch=2, shared=True)  # type: ignore[arg-type]
        for name in "abc":
            bench.arrive(name)
        bench.begin()
        assert bench.turn() == "step a+b", schedule


def test_nobody_of_another_class_is_taken_along() -> None:
    bench = Bench("sjf", shared=True)
    bench.arrive("low", priority="low")
    bench.begin()
    bench.arrive("high", priority="high")
    bench.begin()
    assert bench.turn() == "step high"


@pytest.mark.parametrize("schedule", ["fifo", "sjf", "round_robin"])
def test_a_higher_class_preempts_between_two_steps(schedule: Schedule) -> None:
    bench = Bench(schedule, max_batch=1)
    bench.arrive("low", 5, priority="low")
    bench.turns(3)
    bench.arrive("high", 4, priority="high")
    assert bench.turns(5) == ["begin high", *["step high"] * 4]
    assert bench.turns(3) == ["step low"] * 3  # it goes on at its third step
    assert bench.ended == ["high", "low"]


@pytest.mark.parametrize("schedule", ["fifo", "sjf", "round_robin"])
def test_a_lower_class_gets_one_turn_in_eight(schedule: Schedule) -> None:
    bench = Bench(schedule, max_batch=1)
    bench.arrive("low", 50, priority="low")
    bench.begin()
    bench.arrive("high", 500, priority="high")
    bench.begin()
    told = [turn for turn in bench.turns(80) if turn == "step low"]
    assert len(told) == 80 // (YIELDS + 1)


@pytest.mark.parametrize("schedule", ["fifo", "sjf", "round_robin"])
def test_v12_encoding_and_decoding_never_stall_the_denoising_batch(schedule: Schedule) -> None:
    """An instance of all roles: between two forwards there is one other unit for each request that
    waits at most, however many encodes and decodes come; and with the default one at all."""
    bench = Bench(schedule, shared=True)
    bench.arrive("a", 40)
    bench.arrive("b", 40)
    bench.begin()
    between, most = 0, 0
    for number in range(30):
        bench.arrive(f"e{number}", role="encoder")
        bench.arrive(f"d{number}", role="decoder")
        turn = bench.turn()
        assert turn is not None
        between = 0 if turn.startswith("step") else between + 1
        most = max(most, between)
    steps = [turn for turn in bench.told if turn.startswith("step")]
    assert steps
    assert set(steps) == {"step a+b"}
    if schedule != "round_robin":
        assert most == 1


# ---------------------------------------------------------------- nobody starves


arrivals = st.lists(
    st.tuples(
        st.integers(0, 12),  # turns before it comes
        st.integers(1, 12),  # steps
        st.integers(1, 9),  # seconds of a step
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(arrivals, st.integers(1, 3))
def test_sjf_lets_nobody_pass_who_comes_after_the_request_s_time(
    story: list[tuple[int, int, int]], max_batch: int
) -> None:
    bench = Bench("sjf", max_batch)
    for number, (pause, steps, size) in enumerate(story):
        _checked(bench, pause)
        bench.arrive(f"r{number}", steps, size)
    _checked(bench, 10_000)
    assert len(bench.ended) == len(story)


def _checked(bench: Bench, count: int) -> None:
    """Runs turns, each of which has to keep the promise."""
    for _ in range(count):
        waiting = [(job, job.due) for job in bench.made._jobs.values() if job.begun]
        turn = bench.turn()
        if turn is None:
            return
        unit, _, name = turn.partition(" ")
        for job, due in waiting if unit == "step" else []:
            assert due is None or bench.arrived[name, 1] <= due, f"{name} goes before {job}"


def test_a_long_request_ends_in_a_flood_of_short_ones() -> None:
    """They take all there is: without ageing it would never have a turn."""
    bench = Bench("sjf")
    bench.arrive("warm", 1)
    bench.finish()
    bench.arrive("long", 10)
    for number in range(1000):
        bench.arrive(f"short{number}", 1)
        bench.turns(2)
        if "long" in bench.ended:
            break
    waited = bench.clock - bench.arrived["long", 1]
    assert waited <= (STRETCH + 2) * 10 * STEP_S


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(PRIORITIES), st.integers(0, 6), st.integers(1, 8)), max_size=30
    ),
    st.sampled_from(["fifo", "sjf", "round_robin"]),
)
def test_everything_ends_once_in_every_class(
    story: list[tuple[Priority, int, int]], schedule: Schedule
) -> None:
    bench = Bench(schedule, max_batch=2, shared=True)
    for number, (priority, pause, steps) in enumerate(story):
        bench.turns(pause)
        bench.arrive(f"r{number}", steps, priority=priority)
    bench.finish()
    assert sorted(bench.ended) == sorted(f"r{number}" for number in range(len(story)))
