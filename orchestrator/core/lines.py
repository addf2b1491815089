"""Things in order, any of which may step out."""

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")
Heap = list[tuple[float, int, int, int, T]]  # (order, tie, entry, key, item)


class Line(Generic[T]):
    """A priority queue by number (a sequence number, or a time), lowest first; among equals the
    lower `tie` first.

    Each item has a number of its own as key, by which it can leave from anywhere. Entering,
    leaving and looking at the head cost O(log n) amortised: who has left stays in the heap as a
    ghost until it comes to the head, or until ghosts are the majority.
    """

    def __init__(self) -> None:
        self._heap: Heap[T] = []
        self._entered: dict[int, int] = {}  # key → the entry that counts
        self._count = 0

    def __len__(self) -> int:
        return len(self._entered)

    def __contains__(self, key: int) -> bool:
        return key in self._entered

    def put(self, order: float, key: int, item: T, tie: int = 0) -> None:
        """Enters; an item that is already in the line moves to its new order."""
        self._count += 1
        self._entered[key] = self._count
        heappush(self._heap, (order, tie, self._count, key, item))
        if len(self._heap) > 2 * len(self._entered) + 64:
            self._heap = [x for x in self._heap if self._entered.get(x[3]) == x[2]]
            heapify(self._heap)

    def discard(self, key: int) -> None:
        """Leaves, if it is in the line."""
        self._entered.pop(key, None)

    def head(self) -> T | None:
        """Who comes next; stays in the line."""
        heap = self._heap
        while heap:
            if self._entered.get(heap[0][3]) == heap[0][2]:
                return heap[0][4]
            heappop(heap)
        return None

    def pop_until(self, limit: float) -> T | None:
        """Takes out the head if its order is at most `limit`."""
        item = self.head()
        if item is None or self._heap[0][0] > limit:
            return None
        self.discard(heappop(self._heap)[3])
        return item

    def first(self) -> float | None:
        """The order of the head."""
        return None if self.head() is None else self._heap[0][0]
