"""What a rank says of a unit while it is at work on it."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from roles.calls import Key, StepDone
from roles.split.program import Denoising

INTERVAL_S = 0.1  # seconds; nobody watches more closely, and a message costs ten microseconds


class Underway(Protocol):
    """A request of the runner, as far as it is needed here."""

    @property
    def key(self) -> Key: ...

    @property
    def denoising(self) -> Denoising | None: ...


class Telling:
    """Tells of the steps of a turn that goes on, of all its requests at once, and every
    `INTERVAL_S` at most: between two of these a step costs a look at the clock.

    The first of a turn is told at once if nothing was said for so long. What is left out is told by
    the outcome of the turn.
    """

    def __init__(
        self,
        tell: Callable[[list[StepDone]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._due = clock()

    def __call__(self, group: Sequence[Underway]) -> None:
        """Each request of the group has completed another step."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + INTERVAL_S
        self._tell(
            [
                StepDone(*each.key, each.denoising.step, each.denoising.steps)
                for each in group
                if each.denoising is not None
            ]
        )
