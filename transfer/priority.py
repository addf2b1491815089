"""Classes of requests, and who goes first among them. Pure."""

from collections.abc import Collection

from transfer.messages import PRIORITIES, Priority

YIELDS = 7  # turns in a row that a class which waits leaves to higher ones

RANK: dict[Priority, int] = {priority: rank for rank, priority in enumerate(PRIORITIES)}
"""high before normal before low."""


class Precedence:
    """The highest class that waits goes first, but each class gets one turn in eight at least: so
    however much of the higher ones comes, nobody starves."""

    def __init__(self) -> None:
        self._yielded: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)

    def order(self, waiting: Collection[Priority]) -> list[Priority]:
        """Those that wait, in the order in which they should be tried."""
        due = [each for each in PRIORITIES if each in waiting]
        tired = [each for each in reversed(due) if self._yielded[each] >= YIELDS]
        return tired + [each for each in due if each not in tired]

    def took(self, chosen: Priority, waiting: Collection[Priority]) -> None:
        """This class had the turn, out of those that waited."""
        self._yielded[chosen] = 0
        if len(waiting) == 1:
            self._yielded = dict.fromkeys(PRIORITIES, 0)
            return
        for each in PRIORITIES:
            if each not in waiting:
                self._yielded[each] = 0
            elif RANK[each] > RANK[chosen]:
                self._yielded[each] += 1
