"""The states of an instance: what follows what, and each change with its cause in the log."""

import logging
import os
import threading

from transfer.messages import InstanceState

log = logging.getLogger(__name__)

RANKS_KILLED = 4  # the exit code of an instance that has closed, but had to kill ranks for it
CLOSE_S = 30.0  # from the first moment of closing to the end of the process
FAILED = 1
_ORDER: dict[InstanceState, int] = {"draining": 1, "closing": 2, "closed": 3, "failed": 3}


class Lifecycle:
    """The state that an instance is in.

        starting ⇄ warming ⇄ ready ⇄ sleeping ⇄ divergent → draining → closing → closed | failed

    While it lives (the first five) it may go to and fro; what has begun to end never comes back.
    """

    def __init__(self, name: str) -> None:
        self.state: InstanceState = "starting"
        self._name = name

    def move(self, state: InstanceState, cause: str) -> bool:
        """Whether that changed the state; if not, it is the one already, or it is too late."""
        before = self.state
        if state == before or before in ("closed", "failed"):
            return False
        if _ORDER.get(state, 0) < _ORDER.get(before, 0):
            return False
        self.state = state
        level = logging.ERROR if state in ("divergent", "failed") else logging.INFO
        log.log(level, "%s is %s: %s (it was %s)", self._name, state, cause, before)
        return True


class Deadline:
    """The end of a process that does not end by itself, whatever it hangs in: a thread of its own
    waits for it. Its ranks end with it (`roles.lifeline`)."""

    def __init__(self, seconds: float = CLOSE_S) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """The closing begins. Once is enough."""
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, self._end)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """It has come to its end."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        log.critical("this process did not close within %g s: it ends now", self._seconds)
        os._exit(FAILED)
