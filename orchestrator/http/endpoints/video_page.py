"""A video as OpenAI's clients see it: a job, in their words."""

import msgspec

from orchestrator.http.errors import failed
from orchestrator.http.request.duration import frames_of, length_of
from orchestrator.http.request.plan import Plan
from orchestrator.http.request.schema import VideoRequest
from orchestrator.jobs.model import Job, VideoAsked
from transfer.made import VideoMade, size_of
from transfer.messages import ModelInfo

STATUS = {"queued": "queued", "running": "in_progress", "completed": "completed"}
# Per cent that are done when a stage begins; the loop goes from its own to the decoder's.
BEGUN = {"queued": 0, "encoder": 1, "denoiser": 3, "monolithic": 3, "decoder": 95}


class VideoError(msgspec.Struct, frozen=True):
    code: str
    message: str


class VideoPage(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds since 1970, `seconds` a text. `status`: queued, in_progress, completed or
    failed; a cancelled one is failed, and its error's code is `cancelled`. `progress`: per cent.
    Its id is also that of the job under /v1/jobs, which tells more."""

    id: str
    object: str = "video"
    model: str
    status: str
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    prompt: str
    size: str
    seconds: str
    remixed_from_video_id: str | None
    error: VideoError | None


class VideoList(msgspec.Struct, frozen=True, kw_only=True):
    """As OpenAI pages its lists: the next page begins `after` the `last_id` of this one."""

    object: str = "list"
    data: list[VideoPage]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(msgspec.Struct, frozen=True):
    id: str
    object: str = "video.deleted"
    deleted: bool = True


def asked_of(
    asked: VideoRequest,
    timed: VideoRequest,
    plan: Plan,
    model: ModelInfo,
    remixed_from: str | None,
) -> VideoAsked:
    """What is kept of the request, for its pages and its remixes. `timed`: with its frames."""
    sides = [plan.inputs[0].params.get(name) for name in ("width", "height")]
    usual = model.default_size or (None, None)
    width, height = (side or other for side, other in zip(sides, usual, strict=True))
    frames, fps = frames_of(timed, model), asked.fps or model.fps
    fields = msgspec.structs.asdict(asked)
    given = {name: value for name, value in fields.items() if value is not None}
    return VideoAsked(
        prompt=asked.prompt or "",
        model=model.name,
        size=f"{width}x{height}" if width and height else "auto",
        seconds=length_of(frames, fps) if frames and fps else "0",
        request=msgspec.json.encode(given).decode(),
        remixed_from=remixed_from,
        uploads=plan.inputs[0].uploads,
    )


def video_of(job: Job, ttl_s: float) -> VideoPage:
    """`ttl_s`: for how long finished ones are kept. Of a job that was asked for as a video."""
    asked = job.described.video
    assert asked is not None
    size, seconds = asked.size, asked.seconds
    if job.files:
        made = job.files[0].made
        size = "{}x{}".format(*known) if (known := size_of(made)) else size
        seconds = length_of(made.frames, made.fps) if isinstance(made, VideoMade) else seconds
    finished = job.finished_at
    return VideoPage(
        id=job.id,
        model=asked.model,
        status=STATUS.get(job.status, "failed"),
        progress=_progress(job),
        created_at=int(job.created_at),
        completed_at=int(finished) if finished and job.status == "completed" else None,
        expires_at=int(finished + ttl_s) if finished and job.status == "completed" else None,
        prompt=asked.prompt,
        size=size,
        seconds=seconds,
        remixed_from_video_id=asked.remixed_from,
        error=_error(job),
    )


def videos_of(jobs: list[Job], has_more: bool, ttl_s: float) -> VideoList:
    return VideoList(
        data=[video_of(job, ttl_s) for job in jobs],
        first_id=jobs[0].id if jobs else None,
        last_id=jobs[-1].id if jobs else None,
        has_more=has_more,
    )


def _progress(job: Job) -> int:
    if job.status == "completed":
        return 100
    stage, step, steps = job.progress.stage, job.progress.step, job.progress.steps
    begun = BEGUN.get(stage, 0)
    if stage in ("denoiser", "monolithic") and steps:
        begun += round((BEGUN["decoder"] - begun) * min(step / steps, 1.0))
    return begun


def _error(job: Job) -> VideoError | None:
    if job.status == "cancelled":
        return VideoError("cancelled", f"{job.id} was cancelled")
    if job.status == "failed" and job.error is not None:
        told = failed(job.error)
        return VideoError(told.code or "failed", told.message)
    return None
