"""When previews are due."""

import pytest

from transfer.previews import passed


@pytest.mark.parametrize(
    ("count", "steps", "after"),
    [(1, 20, [10]), (2, 20, [7, 14]), (3, 20, [5, 10, 15]), (3, 2, [1]), (3, 1, []), (0, 20, [])],
)
def test_they_are_spread_evenly(count: int, steps: int, after: list[int]) -> None:
    due = [passed(step, steps, count) for step in range(steps + 1)]
    assert [step for step in range(1, steps) if due[step] > due[step - 1]] == after
