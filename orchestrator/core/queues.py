"""Those who wait for room in one role, by class."""

from collections.abc import Iterator

from orchestrator.core.attempts import Attempt
from orchestrator.core.lines import Line
from transfer.messages import PRIORITIES, Priority
from transfer.priority import RANK, Precedence


class Queue:
    """A line for each class. The head of the highest one is tried first, and one turn in eight is
    left to each class below; nobody waits because the head of another class finds no room."""

    def __init__(self) -> None:
        self._lines: dict[Priority, Line[Attempt]] = {each: Line() for each in PRIORITIES}
        self._waiting: dict[Priority, None] = {}  # the classes whose lines are not empty
        self._precedence = Precedence()

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, attempt: Attempt) -> None:
        """Enters, behind those of its class that are due before it."""
        request = attempt.request
        self._lines[attempt.priority].put(request.due, attempt.serial, attempt, request.order)
        self._waiting[attempt.priority] = None

    def discard(self, attempt: Attempt) -> None:
        """Leaves, if it is in the line."""
        if (priority := attempt.priority) in self._waiting:
            self._lines[priority].discard(attempt.serial)
            if not self._lines[priority]:
                del self._waiting[priority]

    def heads(self) -> Iterator[Attempt]:
        """The first of each class, in the order in which they should be tried."""
        waiting = list(self._waiting)
        for priority in self._precedence.order(waiting) if len(waiting) > 1 else waiting:
            head = self._lines[priority].head()
            assert head is not None
            yield head

    def took(self, attempt: Attempt) -> None:
        """This one, which is in the line, is about to be given what it waits for."""
        self._precedence.took(attempt.priority, self._waiting)

    def ahead_of(self, priority: Priority) -> bool:
        """Whether anybody waits who goes before a newcomer of this class."""
        return any(RANK[each] <= RANK[priority] for each in self._waiting)
