"""Dispatch policies: which instance, among those with room, is given the next request.

A policy is a function from a post (an instance in one role) and a class of requests to a number:
those with the lowest number are taken in turns, in registered endpoint order. `Turns` keeps them
sorted, so that a choice costs the same among ten instances and among thousands.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from math import log2
from typing import TYPE_CHECKING

from transfer.messages import Priority

if TYPE_CHECKING:
    from orchestrator.core.instances import Post

Policy = Callable[["Post", Priority], float]
SHADES = 4  # of backlogs between one and its double


def round_robin(post: "Post", priority: Priority) -> float:
    """Each in its turn, whatever it has to do."""
    return 0.0


def least_loaded(post: "Post", priority: Priority) -> float:
    """The lowest share of capacity that is taken or promised."""
    return post.load / post.capacity


def least_backlog(post: "Post", priority: Priority) -> float:
    """The fewest predicted seconds of work, of its class and those above. Backlogs within a fifth
    of each other count as equal, so that those instances take turns, and few numbers have to be
    kept in order."""
    seconds = post.backlog(priority)
    return 2.0 ** (round(SHADES * log2(seconds)) / SHADES) if seconds > 0.0 else 0.0


POLICIES: dict[str, Policy] = {
    "least_backlog": least_backlog,
    "least_loaded": least_loaded,
    "round_robin": round_robin,
}


class Turns:
    """Places that have room now, by policy number and endpoint order.

    For each number there is one integer whose bit i says that place i is there: the next place
    after the last one chosen is a shift and a mask, a few hundred nanoseconds for thousands.
    """

    def __init__(self) -> None:
        self._number: dict[int, float] = {}  # place → its policy number
        self._bits: dict[float, int] = {}
        self._numbers: list[float] = []

    def __len__(self) -> int:
        return len(self._number)

    def put(self, place: int, number: float) -> None:
        if self._number.get(place) == number:
            return
        self.discard(place)
        self._number[place] = number
        if number not in self._bits:
            insort(self._numbers, number)
        self._bits[number] = self._bits.get(number, 0) | 1 << place

    def discard(self, place: int) -> None:
        number = self._number.pop(place, None)
        if number is None:
            return
        self._bits[number] ^= 1 << place
        if not self._bits[number]:
            del self._bits[number]
            del self._numbers[bisect_left(self._numbers, number)]

    def after(self, last: int) -> Iterator[int]:
        """The places, best policy number first, each number's beginning after place `last`."""
        for number in self._numbers:
            bits = self._bits[number]
            later = bits >> (last + 1) << (last + 1)
            yield from _ones(later)
            yield from _ones(bits ^ later)


def _ones(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
