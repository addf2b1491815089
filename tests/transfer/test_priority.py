"""Classes: the higher one first, and no one never."""

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from transfer.messages import PRIORITIES, Priority
from transfer.priority import YIELDS, Precedence


def turns(made: Precedence, count: int, waiting: Collection[Priority]) -> list[Priority]:
    taken = []
    for _ in range(count):
        chosen = made.order(waiting)[0]
        made.took(chosen, waiting)
        taken.append(chosen)
    return taken


def test_the_highest_class_goes_first() -> None:
    assert Precedence().order({"low", "high", "normal"}) == ["high", "normal", "low"]


def test_one_turn_in_eight_is_left_to_a_lower_class() -> None:
    taken = turns(Precedence(), 2 * (YIELDS + 1), {"high", "low"})
    assert taken == (["high"] * YIELDS + ["low"]) * 2


def test_who_did_not_wait_has_not_given_way() -> None:
    made = Precedence()
    turns(made, YIELDS, {"high", "low"})
    turns(made, 1, {"high"})
    assert made.order({"high", "low"}) == ["high", "low"]


@given(st.lists(st.sets(st.sampled_from(PRIORITIES), min_size=1), max_size=80))
def test_nobody_waits_longer_than_the_bound(story: list[set[Priority]]) -> None:
    made = Precedence()
    waited: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
    for waiting in story:
        order = made.order(waiting)
        assert sorted(order) == sorted(waiting)
        made.took(order[0], waiting)
        for each in PRIORITIES:
            waits = each in waiting and each != order[0]
            waited[each] = waited[each] + 1 if waits else 0
            assert waited[each] <= YIELDS + 2  # two classes may both be due
