"""What states the instances went through, and why: for whoever asks afterwards."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from transfer.messages import InstanceState

KEPT = 100  # changes; and instances whose last word is awaited
LAST_WORD_S = 40.0  # for it: longer than a leader takes to close


@dataclass(frozen=True)
class Change:
    """`at`: on the machine's clock."""

    name: str
    epoch: int
    state: InstanceState
    cause: str
    at: float


class History:
    """`changes`: the latest, the oldest first.

    An instance that is out says later how it ended, over a connection at which nobody is registered
    any more: `depart`, then `whose`, or `silent` if it never does. A connection can have several of
    these, when a late `Register` came over it.
    """

    def __init__(self) -> None:
        self.changes: deque[Change] = deque(maxlen=KEPT)
        self._departed: OrderedDict[tuple[bytes, int], Change] = OrderedDict()

    def depart(self, connection: bytes, last: Change) -> None:
        """It is out; that was its last change so far."""
        self._departed[connection, last.epoch] = last
        if len(self._departed) > KEPT:
            self._departed.popitem(last=False)

    @property
    def awaited(self) -> list[Change]:
        """The last changes of those that still have to say how they ended."""
        return list(self._departed.values())

    def whose(self, connection: bytes, epoch: int) -> Change | None:
        """The last change of the instance whose last word has come; each has one."""
        return self._departed.pop((connection, epoch), None)

    def silent(self, now: float) -> Iterator[Change]:
        """Those from whom no last word will come any more, once each."""
        while self._departed:
            key, last = next(iter(self._departed.items()))
            if now - last.at <= LAST_WORD_S:
                return
            del self._departed[key]
            yield last
