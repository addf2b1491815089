"""Every request and attempt that something is still held for, and the counts of those over."""

from collections import OrderedDict
from typing import TYPE_CHECKING

from msgspec.structs import replace

from orchestrator.core.attempts import Attempt, State
from orchestrator.core.lines import Line
from orchestrator.core.requests import Request
from transfer.costs import Workload
from transfer.messages import Inputs, Role

if TYPE_CHECKING:
    from orchestrator.core.asking import Question
    from orchestrator.core.models import Model


class Ledger:
    """Over all models. `active` are the requests whose clients wait, by id; `lingering` the
    attempts that are over while an instance has still to confirm that it stopped.

    `deadlines` of requests, `backoffs` of attempts that have still to wait before they stand in
    line, `patience` of those in the wary lines, `stalls` of those that compute or write,
    `reminders` of unanswered Aborts, and deadlines of the `questions` of operators are in order of
    time. `previews` are requests too, which nobody waits for (see `core.previews`). `copying` are
    the copies of checkpoints that are being written (see `core.copies`).
    """

    def __init__(self, max_past: int) -> None:
        self.active: dict[str, Request] = {}
        self.previews: dict[str, Request] = {}
        self.lingering: dict[tuple[str, int], Attempt] = {}
        self.deadlines: Line[Request] = Line()
        self.backoffs: Line[Attempt] = Line()
        self.patience: Line[Attempt] = Line()
        self.stalls: Line[Attempt] = Line()
        self.reminders: Line[Attempt] = Line()
        self.copying: dict[Attempt, None] = {}
        self.questions: Line[Question] = Line()
        self.ended = {State.COMPLETED: 0, State.FAILED: 0, State.CANCELLED: 0}
        self._max_past = max_past
        self._attempts: OrderedDict[str, int] = OrderedDict()  # of ids that are over
        self._accepted = self._previewed = 0
        self._attempted = 0

    @property
    def idle(self) -> bool:
        return not (self.active or self.previews or self.lingering)

    @property
    def alarm(self) -> float | None:
        """When the next of deadlines, backoffs, patience, stalls and questions is due."""
        lines = (self.deadlines, self.backoffs, self.patience, self.stalls, self.questions)
        times = [line.first() for line in lines]
        return min((time for time in times if time is not None), default=None)

    def open(
        self,
        id: str,
        model: "Model",
        inputs: Inputs,
        route: tuple[Role, ...],
        now: float,
        deadline_s: float,
        attempts: int = 0,
        tries: int = 0,
        works: dict[Role, Workload] | None = None,
    ) -> Attempt:
        """A new request, and its first attempt, after so many in an earlier life, of which `tries`
        count. The same id again goes on numbering attempts where it stopped, so that nothing that
        is said of an old attempt fits the new one."""
        self._accepted += 1
        count = self._accepted
        request = Request(id, count, model, inputs, route, now, deadline_s, tries, works)
        self.active[id] = request
        model.active += 1
        self.deadlines.put(request.deadline, request.order, request)
        number = max(self._attempts.pop(id, 0), attempts) + 1
        return self._begin(request, number, now)

    def again(self, request: Request, now: float) -> Attempt:
        """The next attempt at a request, after the one before is over."""
        return self._begin(request, request.numbered + 1, now)

    def copy(self, request: Request, now: float) -> Attempt:
        """What may become the next attempt."""
        copy = request.copy = self._new(request, request.numbered + 1, now)
        copy.copy = True
        self.copying[copy] = None
        return copy

    def look(self, attempt: Attempt, now: float) -> Attempt:
        """A preview of what the attempt computes at this moment."""
        shown = attempt.request
        self._previewed += 1
        id, left = f"{shown.id}~{self._previewed}", max(0.0, shown.deadline - now)
        route = shown.route[attempt.stage :]
        inputs = replace(shown.inputs, priority="low")
        order, model = shown.order, shown.model
        request = Request(id, order, model, inputs, route, now, left, works=shown.works)
        request.preview_of = attempt
        self.previews[id] = request
        shown.preview = self._begin(request, 1, now)
        return shown.preview

    def _begin(self, request: Request, number: int, now: float) -> Attempt:
        request.attempt = self._new(request, number, now)
        return request.attempt

    def _new(self, request: Request, number: int, now: float) -> Attempt:
        self._attempted += 1
        request.numbered = number
        return Attempt(request, number, self._attempted, now)

    def find(self, id: str, number: int) -> Attempt | None:
        request = self.active.get(id) or self.previews.get(id)
        if request is not None and request.attempt is not None and request.attempt.number == number:
            return request.attempt
        if request is not None and request.copy is not None and request.copy.number == number:
            return request.copy
        return self.lingering.get((id, number))

    def step_out(self, attempt: Attempt) -> None:
        """The attempt waits for nothing any more."""
        model = attempt.request.model
        for line in (model.lines, model.wary):
            line[attempt.role].discard(attempt)
            if not attempt.last:
                line[attempt.next_role].discard(attempt)
        self.backoffs.discard(attempt.serial)
        self.patience.discard(attempt.serial)
        self.stalls.discard(attempt.serial)
        model.due.discard(attempt.serial)

    def linger(self, attempt: Attempt) -> None:
        """The attempt is over; an instance has still something of it."""
        self.lingering[attempt.id, attempt.number] = attempt

    def close(self, request: Request, state: State, now: float) -> None:
        """The client has its answer."""
        self.deadlines.discard(request.order)
        del self.active[request.id]
        self._attempts[request.id] = request.numbered
        if len(self._attempts) > self._max_past:
            self._attempts.popitem(last=False)
        self.ended[state] += 1
        request.model.close(state, now)

    def end_preview(self, request: Request) -> None:
        """It is shown, or nobody will see it."""
        assert request.preview_of is not None
        del self.previews[request.id]
        request.preview_of.request.preview = None

    def drop(self, attempt: Attempt) -> None:
        """Nothing is held for it any more."""
        self.reminders.discard(attempt.serial)
        self.lingering.pop((attempt.id, attempt.number), None)
