"""Every request that something is still held for, and the counts of those that are over."""

from collections import OrderedDict, deque

from orchestrator.core.lines import Line
from orchestrator.core.requests import Request, State
from transfer.messages import ROLES, Inputs, Role

RECENT = 64


class Ledger:
    """`active` are the requests whose clients wait, by id; `lingering` those whose clients have
    their answer while an instance has still to confirm that it stopped. `lines` are those that
    wait for room in each role, oldest first. `deadlines`, and `reminders` of unanswered Aborts,
    are in order of time.
    """

    def __init__(self, max_past: int) -> None:
        self.active: dict[str, Request] = {}
        self.lingering: dict[tuple[str, int], Request] = {}
        self.lines: dict[Role, Line[Request]] = {role: Line() for role in ROLES}
        self.deadlines: Line[Request] = Line()
        self.reminders: Line[Request] = Line()
        self.ended = {State.COMPLETED: 0, State.FAILED: 0, State.CANCELLED: 0}
        self.queued = 0
        self._max_past = max_past
        self._attempts: OrderedDict[str, int] = OrderedDict()  # of ids that are over
        self._accepted = 0
        self._ends: deque[float] = deque(maxlen=RECENT)

    @property
    def idle(self) -> bool:
        return not self.active and not self.lingering

    def open(
        self,
        id: str,
        inputs: Inputs,
        route: tuple[Role, ...],
        now: float,
        deadline_s: float,
        attempts: int = 0,
    ) -> Request:
        """A new request. The same id again goes on counting attempts where it stopped, here or in
        an earlier life (`attempts`), so that nothing that is said of an old attempt fits the new
        one."""
        self._accepted += 1
        attempt = max(self._attempts.pop(id, 0), attempts) + 1
        request = Request(id, self._accepted, attempt, inputs, route, now, deadline_s)
        request.tries += attempts
        self.active[id] = request
        self.deadlines.put(request.deadline, request.number, request)
        self.queued += 1
        return request

    def find(self, id: str, attempt: int) -> Request | None:
        request = self.active.get(id)
        if request is not None and request.attempt == attempt:
            return request
        return self.lingering.get((id, attempt))

    def close(self, request: Request, now: float) -> None:
        """The client has its answer."""
        self.deadlines.discard(request.number)
        for role in request.route:
            self.lines[role].discard(request.number)
        del self.active[request.id]
        self.lingering[request.id, request.attempt] = request
        self._attempts[request.id] = request.attempt
        if len(self._attempts) > self._max_past:
            self._attempts.popitem(last=False)
        self.ended[request.state] += 1
        self._ends.append(now)

    def drop(self, request: Request) -> None:
        """Nothing is held for it any more."""
        self.reminders.discard(request.number)
        del self.lingering[request.id, request.attempt]

    def retry_after(self) -> float:
        """Seconds in which the queue will have moved on, from the pace of the latest results."""
        if len(self._ends) < 2:
            return 1.0
        pace = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return min(60.0, max(1.0, pace * self.queued))
