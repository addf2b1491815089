"""Attempts that count against an instance, by class, with the seconds that each will still take."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from transfer.costs import Shape
from transfer.messages import PRIORITIES, Priority, Role

if TYPE_CHECKING:
    from orchestrator.core.attempts import Attempt


class Tally:
    """Of all crowds of a post: how many compute each shape, and predicted seconds by class."""

    def __init__(self) -> None:
        self.shapes: Counter[Shape] = Counter()
        self._seconds: dict[Priority, float] = dict.fromkeys(PRIORITIES, 0.0)
        self._counts: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)

    def add(self, priority: Priority, shape: Shape, seconds: float) -> None:
        self.shapes[shape] += 1
        self._seconds[priority] += seconds
        self._counts[priority] += 1

    def take(self, priority: Priority, shape: Shape, seconds: float) -> None:
        self.shapes[shape] -= 1
        if not self.shapes[shape]:
            del self.shapes[shape]
        self._seconds[priority] -= seconds
        self._counts[priority] -= 1
        if not self._counts[priority]:
            self._seconds[priority] = 0.0  # no rounding stays

    def revise(self, priority: Priority, seconds: float) -> None:
        self._seconds[priority] += seconds

    @property
    def empty(self) -> bool:
        return not self.shapes and not any(self._seconds.values())

    def seconds(self, priority: Priority) -> float:
        """Of this class and those above: what is of a lower one gives way."""
        seconds = self._seconds
        total = seconds["high"]
        if priority != "high":
            total += seconds["normal"]
        return total + seconds["low"] if priority == "low" else total


class Crowd(dict["Attempt", None]):
    """In the order in which they came.

    An attempt enters with the predicted seconds of the stage that it is here for. Entering, leaving
    and every question cost O(1).
    """

    def __init__(self, role: Role, tally: Tally) -> None:
        super().__init__()
        self._role: Role = role
        self._tally = tally
        self._costs: dict[Priority, dict[Attempt, float]] = {each: {} for each in PRIORITIES}

    def __setitem__(self, attempt: "Attempt", value: None) -> None:
        self.enter(attempt, 0.0)

    def enter(self, attempt: "Attempt", seconds: float) -> None:
        if attempt in self:
            return
        super().__setitem__(attempt, None)
        priority = attempt.priority
        self._costs[priority][attempt] = seconds
        self._tally.add(priority, attempt.request.works[self._role].shape, seconds)

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
            self._tally.revise(priority, seconds - costs[attempt])
            costs[attempt] = seconds

    def count(self, priority: Priority) -> int:
        return len(self._costs[priority])

    def first(self, priority: Priority) -> "Attempt | None":
        return next(iter(self._costs[priority]), None)

    def costs(self, priority: Priority) -> float:
        """Seconds of one class, added up anew."""
        return sum(self._costs[priority].values())

    def _left(self, attempt: "Attempt") -> None:
        priority, shape = attempt.priority, attempt.request.works[self._role].shape
        self._tally.take(priority, shape, self._costs[priority].pop(attempt))
