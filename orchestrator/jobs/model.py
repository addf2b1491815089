"""What a job is, to those who ask for one and to those who look at it."""

from typing import Literal

from orchestrator.core.commands import Timings
from transfer.made import Made
from transfer.messages import ErrorInfo, Inputs, Media, Record, Upload

JobStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
OVER: frozenset[JobStatus] = frozenset({"completed", "failed", "cancelled"})


class VideoAsked(Record, frozen=True):
    """What `/v1/videos` tells of a video beside its job. `request`: the body that it was asked for
    with, as JSON: what a remix of it begins with."""

    prompt: str
    model: str
    size: str
    seconds: str
    request: str
    remixed_from: str | None = None
    uploads: list[Upload] = []  # noqa: RUF012  # msgspec copies it


class Described(Record, frozen=True):
    """What the reply with the result needs to say, decided when the job was asked for. `video`: of
    what was asked for as one. `model`: whose instances make it, in every life of the orchestrator;
    empty in journals of before there could be several."""

    seed: int
    output_format: str
    quality: str
    as_url: bool
    kind: Literal["image", "video", "audio"] = "image"
    video: VideoAsked | None = None
    model: str = ""


class JobSpec(Record, frozen=True):
    """What is asked for: one picture for each of `inputs`.

    `deadline_s`: what each picture may take from when the cluster takes it up, in seconds. Waiting
    before that is not counted, and a picture that is computed again gets it again. `previews`: how
    many of each picture half done are wanted, at most.
    """

    inputs: list[Inputs]
    described: Described
    deadline_s: float
    previews: int = 0


class Idempotency(Record, frozen=True):
    """`key` (at most 255 characters) is the client's name for its request; `digest` is the SHA-256
    of the method, the path and the canonical body that it was used with."""

    key: str
    digest: bytes


class StoredFile(Record, frozen=True):
    """A finished file in durable storage. `key` is for `Jobs.content` alone; the rest is as in
    `transfer.messages.Media`."""

    key: str
    made: Made
    mime: str
    nbytes: int
    speed: str | None = None
    seed: int | None = None


class JobProgress(Record, frozen=True):
    """Where the slowest picture of the job is. `stage`: "queued" or the role that computes;
    `steps` is 0 where the stage counts none."""

    stage: str = "queued"
    step: int = 0
    steps: int = 0


class Job(Record, frozen=True):
    """A job as it is at one moment. Times are Unix seconds.

    `position`: jobs of its model that wait before this one, 0 for the next; None when it does not
    wait.
    `attempts`: the most that any of its pictures took. `files`: one or more for each picture, in
    order, when it is completed.
    """

    id: str
    status: JobStatus
    created_at: float
    finished_at: float | None
    position: int | None
    progress: JobProgress
    attempts: int
    timings: Timings | None
    error: ErrorInfo | None
    files: list[StoredFile]
    described: Described

    @property
    def over(self) -> bool:
        return self.status in OVER


class Shown(Record, frozen=True):
    """A picture half done: the `number`-th preview, from 0, of the job's picture `index`. The file
    lies where it was made, until there is a later one or the picture is done (`Jobs.preview`)."""

    index: int
    number: int
    media: Media


class JobEvent(Record, frozen=True):
    """Something happened to a job. Numbers grow within a job, over restarts too, and begin at 1.
    `shown`: what there is to see; only of those called "preview"."""

    number: int
    name: Literal["queued", "progress", "preview", "completed", "failed", "cancelled"]
    job: Job
    shown: Shown | None = None


class KeyConflict(Exception):
    """Nothing was accepted: the idempotency key was used before, with another body."""

    def __init__(self, key: str, id: str) -> None:
        super().__init__(f"the idempotency key {key!r} was used before, with another body")
        self.key = key
        self.id = id


class JournalDown(Exception):
    """Nothing was accepted: it could not be written down. Running jobs go on; try again later."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the job could not be written to the journal: {reason}")
        self.reason = reason
