"""What is written down about a job, and how what was read again becomes its past."""

from collections.abc import Iterable, Iterator

from orchestrator.core.commands import Timings
from orchestrator.jobs.model import (
    Described,
    Idempotency,
    JobProgress,
    JobSpec,
    JobStatus,
    StoredFile,
)
from transfer.messages import ErrorInfo, Record


class Accepted(Record, frozen=True, tag="accepted"):
    """The promise: this job will end. `number` counts jobs in the order of acceptance."""

    job: str
    number: int
    created_at: float
    spec: JobSpec
    idempotency: Idempotency | None = None


class Attempted(Record, frozen=True, tag="attempted"):
    """An instance began with this attempt at picture `part`. What it says belongs to the attempt,
    so a later life of the orchestrator begins with a higher one."""

    job: str
    part: int
    attempts: int


class Kept(Record, frozen=True, tag="kept"):
    """Picture `part` lies in durable storage, while others of the job are still computed."""

    job: str
    part: int
    attempts: int
    timings: Timings
    files: list[StoredFile]


class Ended(Record, frozen=True, tag="ended"):
    """The one end of a job. It has all that is still told of it, and takes the place of every
    earlier entry of the job."""

    job: str
    number: int
    created_at: float
    finished_at: float
    status: JobStatus
    described: Described
    progress: JobProgress
    attempts: int
    idempotency: Idempotency | None = None
    timings: Timings | None = None
    error: ErrorInfo | None = None
    files: list[StoredFile] = []  # noqa: RUF012  # msgspec copies it


class Forgotten(Record, frozen=True, tag="forgotten"):
    """Nothing of the job is kept any more; this entry itself need not be kept either."""

    job: str


Entry = Accepted | Attempted | Kept | Ended | Forgotten


class Past:
    """What the journal tells of one job: its promise and what came of it, or its end."""

    def __init__(self, first: Accepted | Ended) -> None:
        self.first = first
        self.attempts: dict[int, int] = {}
        self.kept: dict[int, Kept] = {}

    def add(self, entry: Attempted | Kept) -> None:
        self.attempts[entry.part] = max(entry.attempts, self.attempts.get(entry.part, 0))
        if isinstance(entry, Kept):
            self.kept[entry.part] = entry

    def files(self) -> list[StoredFile]:
        """All that it refers to."""
        if isinstance(self.first, Ended):
            return self.first.files
        return [file for kept in self.kept.values() for file in kept.files]


class History:
    """The entries of earlier lives, read in the order in which they were written.

    `strays` are entries about jobs of which there is no promise and no end: nothing is made of
    them, for inventing a job is worse than losing a note about one.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._jobs: dict[str, Past] = {}
        self.strays: list[Entry] = []
        for entry in entries:
            self._add(entry)

    def __iter__(self) -> Iterator[Past]:
        """In the order of acceptance."""
        return iter(sorted(self._jobs.values(), key=lambda past: past.first.number))

    def _add(self, entry: Entry) -> None:
        match entry:
            case Accepted() | Ended():
                self._jobs[entry.job] = Past(entry)
            case Forgotten():
                self._jobs.pop(entry.job, None)
            case Attempted() | Kept():
                past = self._jobs.get(entry.job)
                if past is None or isinstance(past.first, Ended):
                    self.strays.append(entry)
                else:
                    past.add(entry)
