"""Attempts that count against an instance, by class, with the seconds that each will still take."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from transfer.costs import Shape
from transfer.messages import PRIORITIES, Priority, Role
from transfer.priority import RANK

if TYPE_CHECKING:
    from orchestrator.core.attempts import Attempt


class Crowd(dict["Attempt", None]):
    """In the order in which they came; `shapes` counts what they compute, for all crowds of a post.

    An attempt enters with the predicted seconds of the stage that it is here for. Entering, leaving
    and every question cost O(1).
    """

    def __init__(self, role: Role, shapes: Counter[Shape]) -> None:
        super().__init__()
        self._role: Role = role
        self._shapes = shapes
        self._costs: dict[Priority, dict[Attempt, float]] = {each: {} for each in PRIORITIES}
        self._seconds: dict[Priority, float] = dict.fromkeys(PRIORITIES, 0.0)

    def __setitem__(self, attempt: "Attempt", value: None) -> None:
        self.enter(attempt, 0.0)

    def enter(self, attempt: "Attempt", seconds: float) -> None:
        if attempt in self:
            return
        super().__setitem__(attempt, None)
        priority = attempt.priority
        self._costs[priority][attempt] = seconds
        self._seconds[priority] += seconds
        self._shapes[attempt.request.works[self._role].shape] += 1

    def __delitem__(self, attempt: "Attempt") -> None:
        super().__delitem__(attempt)
        self._left(attempt)

    def pop(self, attempt: "Attempt", *default: Any) -> Any:
        if attempt not in self:
            return super().pop(attempt, *default)
        del self[attempt]
        return None

    def revise(self, attempt: "Attempt", seconds: float) -> None:
        """It will take so long from now on."""
        costs, priority = self._costs[attempt.priority], attempt.priority
        if attempt in costs:
            self._seconds[priority] += seconds - costs[attempt]
            costs[attempt] = seconds

    def count(self, priority: Priority) -> int:
        return len(self._costs[priority])

    def first(self, priority: Priority) -> "Attempt | None":
        return next(iter(self._costs[priority]), None)

    def seconds(self, priority: Priority) -> float:
        """Of this class and those above: what is of a lower one gives way."""
        return sum(self._seconds[each] for each in PRIORITIES[: RANK[priority] + 1])

    def complaints(self) -> list[str]:
        """What does not add up."""
        found = []
        for each in PRIORITIES:
            total = sum(self._costs[each].values())
            if abs(total - self._seconds[each]) > 1e-6 * max(1.0, total):
                found.append(f"{total} s of class {each}, counted {self._seconds[each]}")
        if sum(len(costs) for costs in self._costs.values()) != len(self):
            found.append(f"{len(self)} attempts, {self._costs} by class")
        return found

    def _left(self, attempt: "Attempt") -> None:
        costs, priority = self._costs[attempt.priority], attempt.priority
        self._seconds[priority] -= costs.pop(attempt)
        if not costs:
            self._seconds[priority] = 0.0  # no rounding stays
        shape = attempt.request.works[self._role].shape
        self._shapes[shape] -= 1
        if not self._shapes[shape]:
            del self._shapes[shape]
