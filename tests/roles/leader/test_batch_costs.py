"""Whether sharing a forward pays: learned from what ran, by events alone."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.calls import Measured
from roles.leader import batch_costs
from roles.leader.batch_costs import BatchCosts, Line

KEY = "form:values"


def live(
    costs: BatchCosts, seconds: Callable[[int], float], decisions: int, ready: int = 8
) -> list[int]:
    """Decides and runs; the sizes that were chosen."""
    chosen = []
    for _ in range(decisions):
        size = costs.size(KEY, ready)
        chosen.append(size)
        costs.learn(Measured(KEY, size, seconds(size)))
    return chosen


def overhead(size: int) -> float:
    return 1.0 + 0.1 * size


def arithmetic(size: int) -> float:
    return float(size)


def test_each_size_is_tried_twice_before_it_is_judged() -> None:
    assert live(BatchCosts(), overhead, 6) == [1, 1, 8, 8, 8, 8]


def test_where_overhead_dominates_it_pays() -> None:
    costs = BatchCosts()
    live(costs, overhead, 4)
    assert Counter(live(costs, overhead, 600))[8] >= 590


def test_where_arithmetic_dominates_requests_take_turns() -> None:
    costs = BatchCosts()
    live(costs, arithmetic, 4)
    assert Counter(live(costs, arithmetic, 600))[1] >= 590


def test_a_size_in_between_may_be_the_best() -> None:
    costs = BatchCosts()

    def seconds(size: int) -> float:
        return 1.0 if size <= 4 else 2.5

    live(costs, seconds, 10, ready=4)
    live(costs, seconds, 4)
    assert set(live(costs, seconds, 20)) == {4}


def test_a_little_gain_is_not_worth_it() -> None:
    costs = BatchCosts()
    assert set(live(costs, lambda size: 0.97 * size, 20)[4:]) == {1}


def prompt(seconds: dict[int, float]) -> BatchCosts:
    """Of those who want the first to be done soon; these sizes are judged."""
    costs = BatchCosts(prompt=True)
    for size, each in seconds.items():
        for _ in range(batch_costs.ENOUGH):
            costs.learn(Measured(KEY, size, each))
    return costs


@pytest.mark.parametrize(("together", "size"), [(1.4, 2), (1.6, 1)])
def test_two_share_if_the_sum_of_their_latencies_falls(together: float, size: int) -> None:
    """Alone the first ends after 1 and the second after 2; together both after `together`."""
    costs = prompt({1: 1.0, 2: together})
    assert [costs.size(KEY, 2) for _ in range(9)] == [size] * 9


def test_four_go_two_by_two_if_they_are_done_sooner_so_on_average() -> None:
    """1 + 2 + 3 + 4 = 10 one by one; 2·1.48 + 2·2.96 = 8.9 by two; 4·2.6 = 10.4 all together."""
    costs = prompt({1: 1.0, 2: 1.48, 4: 2.6})
    assert costs.size(KEY, 4) == 2
    assert costs.size(KEY, 4, Line(calls=4, behind=8)) == 4  # the throughput is for them too
    assert costs.size(KEY, 4, Line(calls=16)) == 4


def test_branches_of_one_request_share_as_soon_as_it_is_faster() -> None:
    """Neither is of any use without the other."""
    costs = prompt({1: 1.0, 2: 1.9})
    assert costs.size(KEY, 2, Line(calls=2, branches=2)) == 2
    assert costs.size(KEY, 2, Line(calls=2)) == 1


def test_sizes_in_between_are_tried_where_they_may_be_the_best() -> None:
    costs = BatchCosts(prompt=True)
    assert live(costs, arithmetic, 8) == [1, 1, 2, 2, 4, 4, 8, 8]


def test_one_slow_forward_does_not_decide() -> None:
    costs = BatchCosts()
    live(costs, overhead, 20)
    costs.learn(Measured(KEY, 8, 100.0))
    assert costs.size(KEY, 8) == 8


@pytest.mark.parametrize(
    ("before", "after", "size"), [(overhead, arithmetic, 1), (arithmetic, overhead, 8)]
)
def test_a_machine_that_changes_is_noticed(
    before: Callable[[int], float], after: Callable[[int], float], size: int
) -> None:
    costs = BatchCosts()
    live(costs, before, 20)
    live(costs, after, 16 * batch_costs.EXPLORE_EVERY)
    assert Counter(live(costs, after, 20))[size] >= 19


def test_a_ceiling_holds_for_every_key_of_the_form_and_is_tried_again_one_day() -> None:
    costs = BatchCosts()
    live(costs, overhead, 10)
    costs.learn(Measured(KEY, 8, None, most=2))
    other = "form:other"
    assert all(costs.size(other, 8) <= 2 for _ in range(batch_costs.RELAX_AFTER - 1))
    sizes = [costs.size(other, 8) for _ in range(3)]
    assert max(sizes) == 4


def test_what_cannot_be_shared_at_all_never_is_again() -> None:
    costs = BatchCosts()
    costs.learn(Measured(KEY, 2, None, most=1))
    assert set(live(costs, overhead, 3 * batch_costs.RELAX_AFTER)) == {1}


def test_memory_is_bounded() -> None:
    costs = BatchCosts()
    for number in range(3 * batch_costs.MAX_FORMS):
        costs.learn(Measured(f"{number}:x", 1, 1.0))
        costs.size("kept:x", 4)
    assert len(costs) == batch_costs.MAX_FORMS


events = st.one_of(
    st.tuples(st.just("size"), st.integers(1, 9)),
    st.tuples(st.just("ran"), st.integers(1, 9), st.floats(0.001, 10)),
    st.tuples(st.just("most"), st.integers(1, 9)),
)


@settings(deadline=None)
@given(st.lists(events, max_size=80))
def test_a_size_is_always_within_its_bounds(script: list[tuple[object, ...]]) -> None:
    costs, ceiling = BatchCosts(), 100
    for what, number, *more in script:
        assert isinstance(number, int)
        if what == "ran" and number <= ceiling:
            costs.learn(Measured(KEY, number, float(str(more[0]))))
        elif what == "most":
            ceiling = number
            costs.learn(Measured(KEY, number + 1, None, most=number))
        else:
            assert 1 <= costs.size(KEY, number) <= min(number, ceiling)
