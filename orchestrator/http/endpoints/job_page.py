"""A job as clients see it: in replies, in lists and in events."""

import msgspec

from orchestrator.http.errors import ApiError, ErrorBody, failed
from orchestrator.http.seconds import rounded
from orchestrator.jobs.model import Job, JobProgress, JobStatus, StoredFile
from orchestrator.service import Timings
from transfer.made import RateFrom


class JobFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finished file; `url` is its content. `bytes`: its length. `seed`: what it was made with.
    `speed`: what made it faster and its pixels other ones. The others are those of its `kind`.

    image, video: `width`, `height` (pixels). video: `frames`, `fps`, and `fps_from`, who said so:
    request, pipeline, example (of the pipeline, in diffusers) or assumed (nobody did). audio, and
    video with sound: `sample_rate` (Hz), `channels`. audio: `samples` of each channel. actions:
    `shape`. custom: `name` of the pipeline's field, and `shape` of an array.
    """

    url: str
    kind: str
    mime: str
    bytes: int
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: float | None = None
    fps_from: RateFrom | None = None
    sample_rate: int | None = None
    channels: int | None = None
    samples: int | None = None
    shape: list[int] | None = None
    name: str | None = None
    speed: str | None = None
    seed: int | None = None


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds since 1970. `position`: jobs that wait before this one, or null when it
    does not wait. `error`: the reason of a failed one. `files`: of a completed one. `model`: which
    makes it."""

    id: str
    object: str = "job"
    type: str = "image"
    status: JobStatus
    created_at: int
    finished_at: int | None
    position: int | None
    progress: JobProgress
    attempts: int
    timings: Timings | None
    error: ErrorBody | None
    seed: int
    output_format: str
    files: list[JobFile]
    model: str


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """As OpenAI pages its lists: the next page begins `after` the `last_id` of this one."""

    object: str = "list"
    data: list[JobPage]
    first_id: str | None
    last_id: str | None
    has_more: bool


def page_of(job: Job, base: str) -> JobPage:
    """`base`: how clients reach us, without a slash at its end."""
    return JobPage(
        id=job.id,
        type=job.described.kind,
        status=job.status,
        created_at=int(job.created_at),
        finished_at=None if job.finished_at is None else int(job.finished_at),
        position=job.position,
        progress=job.progress,
        attempts=job.attempts,
        timings=rounded(job.timings) if job.timings else None,
        error=failed(job.error).body if job.error and job.status == "failed" else None,
        seed=job.described.seed,
        output_format=job.described.output_format,
        files=[_file(file, url_of(job, i, base)) for i, file in enumerate(job.files)],
        model=job.described.model,
    )


def list_of(jobs: list[Job], has_more: bool, base: str) -> JobList:
    return JobList(
        data=[page_of(job, base) for job in jobs],
        first_id=jobs[0].id if jobs else None,
        last_id=jobs[-1].id if jobs else None,
        has_more=has_more,
    )


def url_of(job: Job, index: int, base: str) -> str:
    """Where the content of the job's file of this index is."""
    return f"{base}/v1/jobs/{job.id}/content" + (f"?index={index}" if index else "")


def no_result(job: Job) -> ApiError:
    """Why a job without files has none. The SDK need not try again: a job ends once."""
    never = {"x-should-retry": "false"}
    if job.status == "failed" and job.error is not None:
        told = failed(job.error)
        return ApiError(told.status, told.message, param=told.param, code=told.code, headers=never)
    if job.status == "cancelled":
        return ApiError(409, f"{job.id} was cancelled", code="job_cancelled", headers=never)
    message = f"{job.id} is {job.status}; its events tell when it is completed"
    return ApiError(409, message, code="job_not_finished", headers=never)


def _file(file: StoredFile, url: str) -> JobFile:
    facts = msgspec.to_builtins(file.made)
    return JobFile(
        url=url, mime=file.mime, bytes=file.nbytes, speed=file.speed, seed=file.seed, **facts
    )
