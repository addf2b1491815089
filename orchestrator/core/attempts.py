"""One attempt's life: the states, the moves that are allowed between them, and what it holds."""

from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.core.requests import Request
from orchestrator.core.slots import Lease
from transfer.messages import Priority, Role, Shelf

if TYPE_CHECKING:
    from orchestrator.core.instances import Instance
    from orchestrator.core.models import Model


class State(StrEnum):
    """queued: waits for an instance of its first role.
    computing: an instance works on the stage.
    staged: the stage's payload waits in its sender's outbox for room in the next role.
    pushing: the sender was told to write it into granted slots.
    delivered: it lies in the next instance's slots, which waits for capacity to take it up.
    completed, failed, cancelled: nobody wants anything more of it. Instances may still have to
    confirm that they stopped; until then the attempt holds their capacity.
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
    """An attempt was to make a move that the table does not allow: a bug of ours."""

    def __init__(self, request: str, story: str) -> None:
        super().__init__(story)
        self.request = request
        self.story = story


class Attempt:
    """What the machine knows of one attempt at a request, and what is held for it.

    `number` is what messages carry: it grows with each attempt, and over requests of the same id.
    `serial` is unique among all attempts. `worker` computes the current stage, or keeps its
    payload, under the attempt number `held`; None while queued, while delivered, and when nothing
    is held any more. `incoming` is the lease in which the stage's payload lies until it is read;
    `outgoing` the lease that the worker was granted for the next stage, `generation` the number of
    the last one that it was granted. `started`: an instance was given work for it. `origin`: the
    stage and the maker of the kept payload that it began with. `blamed`: receivers that could not
    be written to. `midway`: the payload at `worker` is a checkpoint of the next role, which that
    instance has made in that role. `restored`: it began with a checkpoint, and has made none since.
    `rest_of`: the stage of which it computes only what comes after a checkpoint; -1: of none.
    `copy`: it is a copy of a checkpoint on its way to another instance, or lies there, and becomes
    an attempt only if the one that runs is lost (see `core.copies`).
    `cost`: what its stage was predicted to take, in seconds, when it was given to its worker;
    `company`: others of the same shape were there, whose forwards it may have shared.
    """

    __slots__ = (
        "blamed",
        "company",
        "copy",
        "cost",
        "generation",
        "held",
        "incoming",
        "midway",
        "nbytes",
        "number",
        "origin",
        "outgoing",
        "pushes",
        "request",
        "rest_of",
        "restored",
        "serial",
        "since",
        "stage",
        "started",
        "state",
        "step",
        "steps",
        "worker",
    )

    def __init__(self, request: Request, number: int, serial: int, now: float) -> None:
        self.request = request
        self.number = number
        self.serial = serial
        self.since = now
        self.stage = 0
        self.state = State.QUEUED
        self.started = False
        self.worker: Instance | None = None
        self.incoming: Lease | None = None
        self.outgoing: Lease | None = None
        self.generation = 0
        self.held = number
        self.nbytes = 0  # of the staged payload
        self.pushes = 0  # grants tried for it
        self.origin: tuple[int, str] | None = None
        self.blamed: set[str] = set()
        self.midway = self.restored = self.copy = False
        self.rest_of = -1
        self.step = self.steps = 0
        self.cost = 0.0
        self.company = False

    def __repr__(self) -> str:
        return f"attempt {self.number} at {self.id}"

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def model(self) -> "Model":
        return self.request.model

    @property
    def priority(self) -> Priority:
        return self.request.inputs.priority

    @property
    def role(self) -> Role:
        return self.request.route[self.stage]

    @property
    def last(self) -> bool:
        return self.stage + 1 == len(self.request.route)

    @property
    def next_role(self) -> Role:
        return self.request.route[self.stage + 1]

    @property
    def post_role(self) -> Role:
        """The role in which its worker counts it."""
        return self.next_role if self.midway else self.role

    @property
    def shelf(self) -> Shelf:
        """Where its payload lies at its worker."""
        return "checkpoint" if self.midway else self.role

    @property
    def waits_for(self) -> Role:
        """The role in whose line it stands while queued or staged."""
        return self.next_role if self.state is State.STAGED else self.role

    @property
    def over(self) -> bool:
        """Nobody wants anything more of it."""
        return self.state in TERMINAL

    def move(self, to: State, now: float, note: str = "") -> None:
        """The only way to change `state`. Raises `InvalidTransition` with the whole story."""
        request = self.request
        if to not in ALLOWED[self.state]:
            move = f"{self}: {self.state} → {to} at {now:.3f}"
            raise InvalidTransition(request.id, f"{move}\n{request.tell()}")
        if self.state in WAITING and not self.copy:
            request.queue_s += now - self.since
        request.note(now, f"#{self.number} {to} ({self.role}) {note}")
        self.since = now
        self.state = to

    def resume(
        self, stage: int, worker: "Instance", held: int, nbytes: int, now: float, midway: bool
    ) -> None:
        """Begins with a payload that an earlier attempt has computed, or with a checkpoint of the
        stage after it: staged at its maker."""
        self.stage, self.worker, self.held, self.nbytes = stage, worker, held, nbytes
        self.state = State.STAGED
        self.origin = stage, worker.name
        self.midway = self.restored = midway
        self.request.note(now, f"#{self.number} resumed ({self.role}) from {worker}")
