"""What can happen to the desk. The outcomes of the core (Progress, Preview, Resolve, Reject) are
events too.

Times are the `now` that comes with each event.
"""

from orchestrator.core.commands import Preview, Progress, Reject, Resolve
from orchestrator.jobs.entries import Entry
from orchestrator.jobs.model import Idempotency, JobSpec, StoredFile
from transfer.messages import Record


class Recovered(Record, frozen=True):
    """What earlier lives wrote, in order: the first event of a life, before any other.
    `life` counts the times that this journal was opened, from 0."""

    entries: list[Entry]
    life: int


class JobAsked(Record, frozen=True):
    """`asker` waits for the answer. `job`: a new id, never used before, in case it is accepted."""

    asker: int
    job: str
    spec: JobSpec
    idempotency: Idempotency | None = None


class CancelAsked(Record, frozen=True):
    """`asker` waits until the job is over, one way or another."""

    asker: int
    job: str


class ForgetAsked(Record, frozen=True):
    """`asker` waits until nothing is kept of a job that is over. One that is not over is not
    forgotten: whoever asks cancels it first."""

    asker: int
    job: str


class Written(Record, frozen=True):
    """The entry of this ticket is on disk, and all those with lower tickets that did not fail."""

    ticket: int


class WriteFailed(Record, frozen=True):
    """The entry of this ticket is most likely not on disk, and will not get there by itself."""

    ticket: int
    reason: str


class Stored(Record, frozen=True):
    """The files of the request lie in durable storage under these keys."""

    request: str
    files: list[StoredFile]


class StoreFailed(Record, frozen=True):
    """The files could not be stored, and nothing of them is left there. `gone`: they can no longer
    be read where they were made; else it is the storage that failed."""

    request: str
    reason: str
    gone: bool


class Tick(Record, frozen=True):
    """Time has passed."""


Event = (
    Recovered
    | JobAsked
    | CancelAsked
    | ForgetAsked
    | Written
    | WriteFailed
    | Progress
    | Preview
    | Resolve
    | Reject
    | Stored
    | StoreFailed
    | Tick
)
