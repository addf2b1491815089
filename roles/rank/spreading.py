"""Whether a unit of work is sooner done over more threads, learned from those that ran. Pure.

More threads can be slower: where operators are short, waking the others and waiting for them takes
longer than the work that they share. It depends on the model, its size and the machine, so both
ways are tried, and the faster one is kept.
"""

from collections import OrderedDict, deque
from statistics import median

MAX_KINDS = 256  # of work; the least recently used are forgotten
MEASURES = 5  # of each number of threads; their median counts
ENOUGH = 2  # measures before a number is judged
AGAIN = 50  # decisions; then the number that loses is tried again
GAIN = 0.95  # more threads have to take less than this share of the time: others may want the cores


class _Kind:
    def __init__(self) -> None:
        self.seconds: dict[int, deque[float]] = {}
        self.decisions = 0

    def judged(self, threads: int) -> float | None:
        found = self.seconds.get(threads, ())
        return median(found) if len(found) >= ENOUGH else None


class Spreading:
    """What each kind of work took over how many threads. A kind is any string."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()

    def choose(self, kind: str, own: int, most: int) -> int:
        """How many to use: `own`, or `most`, which are free at this moment."""
        if most <= own:
            return own
        known = self._known(kind)
        known.decisions += 1
        wide, narrow = known.judged(most), known.judged(own)
        if wide is None:
            return most
        if narrow is None:
            return own
        pays = wide < GAIN * narrow
        if known.decisions % AGAIN == 0:
            pays = not pays
        return most if pays else own

    def learn(self, kind: str, threads: int, seconds: float) -> None:
        known = self._known(kind)
        known.seconds.setdefault(threads, deque(maxlen=MEASURES)).append(seconds)

    def _known(self, kind: str) -> _Kind:
        known = self._kinds.setdefault(kind, _Kind())
        self._kinds.move_to_end(kind)
        if len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        return known
