"""A role that does one work after the other, and whose outbox has an end.

    python -m benchmarks.scripted.slow_role ORCHESTRATOR ROLE CAPACITY MS

Each work takes MS milliseconds of nothing. As many payloads as CAPACITY may wait in the outbox for
a grant; after that a work keeps its place until there is room, as with a real leader, so that what
waits for the next role holds up this one, and in the end the door. The rest is as
`benchmarks.scripted.role` does it.
"""

import sys
import threading
import time
from collections import deque

from benchmarks.scripted.role import ScriptedRole, end_with_input
from transfer.messages import Abort, Push, Work, from_orchestrator


class SlowRole(ScriptedRole):
    """`due`: what is being worked on, with the time at which it will be done; `full`: what is done
    and finds no room; `outbox`: what waits there for a grant."""

    def __init__(self, orchestrator: str, role: str, capacity: int, seconds: float) -> None:
        super().__init__(orchestrator, role, capacity)  # type: ignore[arg-type]
        self.seconds = seconds
        self.due: deque[tuple[float, Work]] = deque()
        self.free_at = 0.0
        self.full: deque[Work] = deque()
        self.outbox: set[tuple[str, int]] = set()

    @property
    def patience_s(self) -> float:
        beat = super().patience_s
        return min(beat, max(0.0, self.due[0][0] - time.monotonic())) if self.due else beat

    def turn(self) -> None:
        while self.due and self.due[0][0] <= time.monotonic():
            self.full.append(self.due.popleft()[1])
        while self.full and (self.full[0].grant or self.full[0].last or self.has_room):
            work = self.full.popleft()
            if not (work.grant or work.last):
                self.outbox.add((work.request, work.attempt))
            super().work(work)

    @property
    def has_room(self) -> bool:
        return len(self.outbox) < self.capacity

    def obey(self, frame: bytes) -> None:
        message = from_orchestrator.decode(frame)
        if isinstance(message, Abort | Push):
            key = (message.request, message.attempt)
            self.outbox.discard(key)
            self.due = deque(e for e in self.due if (e[1].request, e[1].attempt) != key)
            self.full = deque(e for e in self.full if (e.request, e.attempt) != key)
        super().obey(frame)

    def work(self, work: Work) -> None:
        self.free_at = max(self.free_at, time.monotonic()) + self.seconds
        self.due.append((self.free_at, work))


if __name__ == "__main__":
    threading.Thread(target=end_with_input, daemon=True).start()
    SlowRole(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) / 1000).serve()
