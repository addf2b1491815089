"""One job as the desk keeps it: a case with a part for each picture."""

from enum import Enum, auto

from orchestrator.core.commands import Timings
from orchestrator.jobs.entries import Accepted, Ended
from orchestrator.jobs.model import Idempotency, Job, JobProgress, JobSpec, JobStatus, StoredFile
from transfer.messages import ErrorInfo, Media

# How far a picture is, for comparing the pictures of one job.
FAR = {"queued": 0, "encoder": 1, "monolithic": 2, "denoiser": 2, "decoder": 3}


class At(Enum):
    """Where a part is.

    held: waits at the desk. sent: the core has it, and no instance does. running: an instance
    computes it. storing: its files are on their way into durable storage. pausing: storing failed
    and is tried again soon. kept: they are there. leaving, dropping: nobody wants it any more, but
    the core, or the storage, has still to say that it is done with it.
    """

    HELD = auto()
    SENT = auto()
    RUNNING = auto()
    STORING = auto()
    PAUSING = auto()
    KEPT = auto()
    LEAVING = auto()
    DROPPING = auto()


class Part:
    """One picture: one request of the core, and what became of it.

    `attempts`: the latest that was begun, over all lives; `noted`: the latest that was written
    down. `runs`: submissions in this life that came to a result. `media`: the files where they
    were made, until they are released there. `shown`: how many previews there were in this life;
    `preview`: the files of the latest, while the core has the part.
    """

    def __init__(self, case: "Case", index: int, key: int) -> None:
        self.case = case
        self.index = index
        self.key = key
        self.at = At.HELD
        self.attempts = self.noted = 0
        self.runs = self.stores = self.shown = 0
        self.progress = JobProgress()
        self.timings: Timings | None = None
        self.media: list[Media] = []
        self.preview: list[Media] = []
        self.files: list[StoredFile] = []

    @property
    def request(self) -> str:
        return f"{self.case.id}-{self.index}"

    @property
    def begun(self) -> bool:
        return self.at not in (At.HELD, At.SENT)

    @property
    def far(self) -> tuple[bool, int, int]:
        return self.at is At.KEPT, FAR[self.progress.stage], self.progress.step


class Phase(Enum):
    """asked: the promise is being written; nobody has been told of the job. open: it is under way.
    ending: its end is decided, and being written. over: everybody may know."""

    ASKED = auto()
    OPEN = auto()
    ENDING = auto()
    OVER = auto()


class Case:
    """`askers` wait to hear that the job is accepted, `cancellers` that it is over,
    `forgetters` that nothing is kept of it. `events`: the
    number of the latest event. `waiting`: it is in the line by which positions are told.
    `wanted`: False when it was cancelled before its promise was on disk. `told`: what the latest
    event said. `over`: its last snapshot; parts and spec are dropped then."""

    def __init__(self, first: Accepted | Ended, events: int) -> None:
        self.id = first.job
        self.number = first.number
        self.created_at = first.created_at
        self.idempotency: Idempotency | None = first.idempotency
        self.described = first.spec.described if isinstance(first, Accepted) else first.described
        self.spec: JobSpec | None = first.spec if isinstance(first, Accepted) else None
        self.phase = Phase.ASKED
        self.parts: list[Part] = []
        self.askers: list[int] = []
        self.cancellers: list[int] = []
        self.forgetters: list[int] = []
        self.events = events
        self.waiting = False
        self.wanted = True
        self.told: object = None
        self.end: Ended | None = None
        self.over: Job | None = None

    def close(self, over: Job) -> None:
        """It is over, and only its last snapshot is still needed."""
        self.phase, self.over = Phase.OVER, over
        self.parts, self.spec, self.end = [], None, None

    @property
    def running(self) -> bool:
        return any(part.begun for part in self.parts)

    @property
    def progress(self) -> JobProgress:
        return min(self.parts, key=lambda part: part.far).progress

    @property
    def attempts(self) -> int:
        return max(part.attempts for part in self.parts)

    @property
    def timings(self) -> Timings | None:
        """Of the picture that took longest, of those that are there."""
        known = [part.timings for part in self.parts if part.timings is not None]
        return max(known, key=lambda timings: timings.total_s, default=None)

    def snapshot(self, position: int | None) -> Job:
        """`position`: where it is in the line, if it is in it."""
        if self.over is not None:
            return self.over
        running = self.running if self.end is None else self.end.attempts > 0
        return Job(
            id=self.id,
            status="running" if running else "queued",
            created_at=self.created_at,
            finished_at=None,
            position=position,
            progress=self.progress,
            attempts=self.attempts,
            timings=None,
            error=None,
            files=[],
            described=self.described,
        )

    def ended(self, status: JobStatus, error: ErrorInfo | None, now: float) -> Ended:
        """The last entry about it."""
        completed = status == "completed"
        return Ended(
            job=self.id,
            number=self.number,
            created_at=self.created_at,
            finished_at=now,
            status=status,
            described=self.described,
            progress=self.progress,
            attempts=self.attempts,
            idempotency=self.idempotency,
            timings=self.timings,
            error=error,
            files=[file for part in self.parts for file in part.files] if completed else [],
        )


def last_snapshot(ended: Ended) -> Job:
    return Job(
        id=ended.job,
        status=ended.status,
        created_at=ended.created_at,
        finished_at=ended.finished_at,
        position=None,
        progress=ended.progress,
        attempts=ended.attempts,
        timings=ended.timings,
        error=ended.error,
        files=ended.files,
        described=ended.described,
    )
