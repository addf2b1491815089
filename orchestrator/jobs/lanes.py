"""The pictures of one model's jobs, on their way to the core."""

from math import inf

from orchestrator.core.lines import Line
from orchestrator.jobs.case import Part
from orchestrator.jobs.limits import Limits


class Lane:
    """Held parts in the order of acceptance, and how many more the core may have.

    Each model has a lane of its own: what waits for roles that have not come, or for slow ones,
    holds up nobody else. `ahead`: parts that wait inside the core.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: Line[Part] = Line()
        self.ahead = 0
        self._closed_until = 0.0  # the core refused a request
        self._probing = False  # and has taken none since

    def __len__(self) -> int:
        return len(self._held)

    @property
    def empty(self) -> bool:
        """Nothing is held, and nothing waits in the core."""
        return not self._held and not self.ahead

    def hold(self, part: Part, order: float) -> None:
        self._held.put(order, part.key, part)

    def discard(self, part: Part) -> None:
        self._held.discard(part.key)

    def refused(self, now: float) -> None:
        """The core has taken none. From now on it is asked with one at a time, and not at once."""
        self._closed_until = now + self._limits.submit_again_s
        self._probing = True

    def taken(self) -> None:
        """The core has taken one."""
        self._probing = False

    def next(self, now: float) -> Part | None:
        """What the core should get now, taken out of the lane."""
        ahead = 1 if self._probing else self._limits.ahead
        if self.ahead >= ahead or now < self._closed_until:
            return None
        return self._held.pop_until(inf)
