"""One request's life: the states, the moves that are allowed between them, and its story."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.core.commands import Timings
from orchestrator.core.slots import Lease
from transfer.messages import Inputs, Role, StageReport

if TYPE_CHECKING:
    from orchestrator.core.instances import Instance


class State(StrEnum):
    """queued: waits for an instance of its first role.
    computing: an instance works on the stage.
    staged: the stage's payload waits in its sender's outbox for room in the next role.
    pushing: the sender was told to write it into granted slots.
    delivered: it lies in the next instance's slots, which waits for capacity to take it up.
    completed, failed, cancelled: the client has its answer. Instances may still have to confirm
    that they stopped; until then the request holds their capacity.
    """

    QUEUED = "queued"
    COMPUTING = "computing"
    STAGED = "staged"
    PUSHING = "pushing"
    DELIVERED = "delivered"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_UNWANTED = frozenset({State.FAILED, State.CANCELLED})
ALLOWED: dict[State, frozenset[State]] = {
    State.QUEUED: _UNWANTED | {State.COMPUTING},
    State.COMPUTING: _UNWANTED | {State.STAGED, State.DELIVERED, State.COMPLETED},
    State.STAGED: _UNWANTED | {State.PUSHING},
    State.PUSHING: _UNWANTED | {State.DELIVERED, State.STAGED},
    State.DELIVERED: _UNWANTED | {State.COMPUTING},
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
TERMINAL = frozenset(state for state, onward in ALLOWED.items() if not onward)
WAITING = frozenset({State.QUEUED, State.STAGED, State.DELIVERED})


class InvalidTransition(Exception):
    """A request was to make a move that the table does not allow: a bug of ours."""

    def __init__(self, request: str, story: str) -> None:
        super().__init__(story)
        self.request = request
        self.story = story


class Request:
    """What the machine knows of one request, and what is held for it.

    `worker` computes the current stage, or keeps its payload; None while queued, while delivered,
    and when nothing is held any more. `incoming` is the lease in which the stage's payload lies
    until it is read; `outgoing` the lease that the worker was granted for the next stage.
    `attempt` is what messages carry, `tries` what the client is told: an id that is used again
    goes on counting attempts.
    """

    __slots__ = (
        "asked_s",
        "attempt",
        "deadline",
        "id",
        "incoming",
        "inputs",
        "nbytes",
        "number",
        "outgoing",
        "pushes",
        "queue_s",
        "reports",
        "route",
        "since",
        "stage",
        "state",
        "step",
        "steps",
        "story",
        "submitted",
        "tries",
        "worker",
    )

    def __init__(
        self,
        id: str,
        number: int,
        attempt: int,
        inputs: Inputs,
        route: tuple[Role, ...],
        now: float,
        deadline_s: float,
    ) -> None:
        self.id = id
        self.number = number  # in order of acceptance
        self.attempt = attempt
        self.inputs = inputs
        self.route = route
        self.submitted = self.since = now
        self.asked_s = deadline_s
        self.deadline = now + deadline_s
        self.stage = 0
        self.state = State.QUEUED
        self.worker: Instance | None = None
        self.incoming: Lease | None = None
        self.outgoing: Lease | None = None
        self.nbytes = 0  # of the staged payload
        self.pushes = 0  # grants tried for it
        self.tries = 1
        self.step = self.steps = 0
        self.queue_s = 0.0
        self.reports: dict[Role, StageReport] = {}
        self.story: list[tuple[float, State, Role, str]] = []

    @property
    def role(self) -> Role:
        return self.route[self.stage]

    @property
    def last(self) -> bool:
        return self.stage + 1 == len(self.route)

    @property
    def next_role(self) -> Role:
        return self.route[self.stage + 1]

    @property
    def over(self) -> bool:
        """The client has its answer."""
        return self.state in TERMINAL

    def move(self, to: State, now: float, note: str = "") -> None:
        """The only way to change `state`. Raises `InvalidTransition` with the whole story."""
        if to not in ALLOWED[self.state]:
            raise InvalidTransition(self.id, f"{self.state} → {to} at {now:.3f}\n{self.tell()}")
        if self.state in WAITING:
            self.queue_s += now - self.since
        self.story.append((now, to, self.role, note))
        self.since = now
        self.state = to

    def tell(self) -> str:
        """The story so far, a line for each move, in seconds since the request came."""
        head = f"request {self.id}, attempt {self.attempt}, route {'→'.join(self.route)}"
        return "\n".join([head, *self._lines()])

    def _lines(self) -> Iterator[str]:
        yield "  +0.000 queued"
        for at, state, role, note in self.story:
            yield f"  +{at - self.submitted:.3f} {state} ({role}) {note}".rstrip()

    def report(self, role: Role, report: StageReport) -> None:
        """Keeps what a stage took. A payload that was staged is reported again when it is
        delivered: the larger figure of each counts."""
        known = self.reports.get(role, StageReport())
        self.reports[role] = StageReport(
            wait_s=max(known.wait_s, report.wait_s),
            read_s=max(known.read_s, report.read_s),
            compute_s=max(known.compute_s, report.compute_s),
            write_s=max(known.write_s, report.write_s),
            steps=max(known.steps, report.steps),
        )

    def timings(self, now: float) -> Timings:
        reports = self.reports.values()
        return Timings(
            queue_s=self.queue_s + sum(r.wait_s for r in reports),
            transfer_s=sum(r.read_s + r.write_s for r in reports),
            total_s=now - self.submitted,
            encoder_s=self._computed("encoder"),
            denoiser_s=self._computed("denoiser"),
            decoder_s=self._computed("decoder"),
            monolithic_s=self._computed("monolithic"),
        )

    def _computed(self, role: Role) -> float | None:
        if role not in self.route:
            return None
        return self.reports.get(role, StageReport()).compute_s
