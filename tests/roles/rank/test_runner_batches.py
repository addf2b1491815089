"""Groups of requests in a rank: who shares a forward, and what is told of it."""

import contextlib
from collections.abc import Iterator

import pytest

from roles.calls import Begin, Key, Outcome, Run
from roles.rank.runner import Runner
from tests.support.batching_program import BatchingProgram
from transfer.messages import Inputs, Scalar
from transfer.pool import SlotPool


class Bench:
    def __init__(self) -> None:
        self.wanted = True
        self.program = BatchingProgram(room=8)
        self.pool = SlotPool.create(1, 1 << 16, 4)
        self.runner = Runner(self.program, self.pool, 0, 1, lambda: None, 60.0, lambda: self.wanted)

    def begin(self, *names: str, exact: bool = False, **params: Scalar) -> list[Outcome]:
        told = []
        for seed, name in enumerate(names):
            inputs = Inputs({"steps": 4, **params}, seed=10 * seed, exact=exact)
            told += self.runner.begin(Begin(name, 1, "monolithic", inputs, None)).outcomes
        return told

    def step(self, *names: str, share: int = 0) -> list[Outcome]:
        group: tuple[Key, ...] = tuple((name, 1) for name in names)
        return self.runner.run(Run("step", (group,), share=share)).outcomes

    def sizes(self) -> list[int]:
        """Of the forwards since the last question."""
        made, self.program.module.sizes = self.program.module.sizes, []
        return made

    def close(self) -> None:
        self.runner.close()
        self.pool.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with contextlib.closing(Bench()) as made:
        yield made


def test_a_request_tells_what_its_next_forward_may_be_shared_with(bench: Bench) -> None:
    one, other = bench.begin("a", "b")
    assert one.batch_key == other.batch_key
    assert one.batch_key is not None
    (exact,) = bench.begin("e", exact=True)
    assert exact.batch_key is None


def test_a_group_shares_its_forwards(bench: Bench) -> None:
    keys = {told.batch_key for told in bench.begin("a", "b", "c")}
    first = bench.step("a", "b", "c")
    assert bench.sizes() == [3, 1]  # the trial
    second = bench.step("a", "b", "c")
    assert bench.sizes() == [3]
    assert [told.step for told in first + second] == [1, 1, 1, 2, 2, 2]
    assert {told.batch_key for told in second} == keys
    assert [told.measured is None for told in second] == [False, True, True]
    measured = second[0].measured
    assert measured is not None
    assert (measured.size, measured.most) == (3, None)
    assert measured.seconds is not None
    assert measured.seconds > 0
    assert all(told.compute_s >= measured.seconds for told in second)


def test_a_turn_goes_on_until_somebody_ends(bench: Bench) -> None:
    bench.wanted = False
    bench.begin("a", steps=3)
    bench.begin("b", "c", steps=5)
    told = bench.step("a", "b", "c")
    assert [(each.step, each.done) for each in told] == [(3, True), (3, False), (3, False)]
    assert bench.sizes() == [3, 1, 3, 3]


def test_an_exact_request_is_never_merged_even_if_told_to(bench: Bench) -> None:
    bench.begin("a", "b")
    bench.begin("e", exact=True)
    assert [told.step for told in bench.step("a", "e", "b")] == [1, 1, 1]
    assert bench.sizes() == [1, 1, 1]


def test_out_of_memory_is_halved_and_told(bench: Bench) -> None:
    names = ("a", "b", "c", "d")
    bench.begin(*names)
    bench.program.module.room = 2
    told = bench.step(*names)
    assert bench.sizes() == [4, 2, 1, 2]
    assert [each.step for each in told] == [1] * 4
    measured = told[0].measured
    assert measured is not None
    assert (measured.size, measured.seconds, measured.most) == (4, None, 2)
    bench.wanted = False
    assert all(each.done for each in bench.step("a", "b"))  # the rank lives on


def test_a_bad_value_ends_its_own_request(bench: Bench) -> None:
    bench.begin("a", "b")
    bench.begin("bad", poison_at="2")
    bench.step("a", "b", "bad")
    bench.sizes()
    a, b, bad = bench.step("a", "b", "bad")
    assert bench.sizes() == [3, 1, 1, 1]
    assert (a.error, a.step, b.error, b.step) == (None, 2, None, 2)
    assert bad.error is not None
    assert bad.error.message == "ValueError: scripted: a bad value"
    assert a.measured is None  # nothing is to be learned of it
    bench.step("a", "b")
    assert bench.sizes() == [2]


def test_an_error_of_one_pipeline_is_its_own(bench: Bench) -> None:
    bench.begin("a")
    bench.begin("bad", raise_at="2")
    a, bad = bench.step("a", "bad")
    assert (a.error, a.step) == (None, 1)
    assert bad.error is not None
    assert bad.error.message == "RuntimeError: scripted at 2"


@pytest.mark.parametrize(("share", "sizes"), [(1, [1, 1]), (2, [2]), (0, [2])])
def test_branches_of_one_request_share_as_the_leader_says(
    share: int, sizes: list[int], bench: Bench
) -> None:
    (begun,) = bench.begin("a", branches=2)
    assert begun.branches == 2
    bench.step("a")  # the trial
    bench.sizes()
    (told,) = bench.step("a", share=share)
    assert bench.sizes() == sizes
    assert (told.step, told.branches) == (2, 2)
    assert told.measured is not None
    assert told.measured.size == sizes[0]


def test_branches_of_several_requests_are_one_forward(bench: Bench) -> None:
    bench.begin("a", "b", branches=2)
    bench.begin("c")
    bench.step("a", "b", "c")
    bench.sizes()
    told = bench.step("a", "b", "c", share=5)
    assert bench.sizes() == [5]
    assert [each.step for each in told] == [2, 2, 2]
    measured = told[0].measured
    assert measured is not None
    assert measured.size == 5


def test_an_error_in_a_branch_ends_its_own_request(bench: Bench) -> None:
    bench.begin("a", branches=2)
    bench.begin("bad", branches=2, poison_at="1")
    a, bad = bench.step("a", "bad")
    assert (a.error, a.step) == (None, 1)
    assert bad.error is not None
    assert bad.error.message == "ValueError: scripted: a bad value"


def test_a_request_that_is_gone_costs_the_others_nothing(bench: Bench) -> None:
    bench.begin("a", "b")
    gone, a, b = bench.step("gone", "a", "b")
    assert gone.error is not None
    assert (a.step, b.step) == (1, 1)
