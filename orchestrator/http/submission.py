"""From a body to a job: the checks of the door, and the client's own name for its request."""

import hashlib
from collections.abc import Sequence

import msgspec
from starlette.requests import Request

from orchestrator.http.choice import chosen
from orchestrator.http.doors import caller_of
from orchestrator.http.duration import seconds_of, with_seconds
from orchestrator.http.errors import ApiError, bad_field
from orchestrator.http.kind import check_kind
from orchestrator.http.options import HttpOptions
from orchestrator.http.plan import Plan, make_plan
from orchestrator.http.ports import Jobs, Service
from orchestrator.http.schema import ImageRequest, JobRequest, VideoRequest
from orchestrator.http.video_page import asked_of
from orchestrator.jobs.model import Described, Idempotency, Job, JobSpec, VideoAsked
from transfer.messages import ModelInfo, Upload

MAX_KEY = 255  # characters


class Submission:
    """Hands in what `POST /v1/jobs` and a keyed `POST /v1/images/generations` ask for."""

    def __init__(self, service: Service, jobs: Jobs, options: HttpOptions) -> None:
        self._service, self._jobs, self._options = service, jobs, options

    async def submit(
        self,
        request: Request,
        asked: ImageRequest,
        *,
        uploads: Sequence[Upload] = (),
        remixed_from: str | None = None,
    ) -> Job:
        """The job: durable, and the one that exists already if the request has a key that was
        used before. Raises `ApiError`, and what `Jobs.submit` does."""
        if asked.stream:
            message = "`stream`: a job's events are at /v1/jobs/{id}/events; leave it out"
            if "idempotency-key" in request.headers and not isinstance(asked, JobRequest):
                message = "`stream`: not with an Idempotency-Key, as events cannot be sent again"
            raise bad_field("stream", message)
        idempotency = idempotency_of(request, asked, uploads)
        if idempotency is not None:
            # Known jobs need no model: their clients come back sooner than the roles may.
            job = await self._jobs.recall(idempotency)
            if job is not None:
                return job
        model = chosen(self._service, asked.model)
        check_kind(asked, model)
        timed = with_seconds(asked, seconds_of(asked), model)
        plan = make_plan(timed, model, self._options, self._service.adapters(model.name), uploads)
        video = None
        if isinstance(asked, VideoRequest) and isinstance(timed, VideoRequest):
            video = asked_of(asked, timed, plan, model, remixed_from)
        return await self._jobs.submit(self._spec(plan, model, video), idempotency)

    def _spec(self, plan: Plan, model: ModelInfo, video: VideoAsked | None) -> JobSpec:
        described = Described(
            plan.seed,
            plan.output_format,
            plan.quality,
            plan.as_url,
            model.modality,
            video,
            plan.model,
        )
        limit = self._options.request_timeout_s
        return JobSpec(plan.inputs, described, limit, previews=plan.previews)


def idempotency_of(
    request: Request, asked: ImageRequest, uploads: Sequence[Upload] = ()
) -> Idempotency | None:
    """The header `Idempotency-Key`, if there is one. Raises a 400 for one that is no key.

    Two callers who draw the same key mean two jobs: with API keys on, each has its own.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        message = f"`Idempotency-Key`: 1 to {MAX_KEY} printable ASCII characters"
        raise ApiError(400, message, param="Idempotency-Key", code="invalid_value")
    if (caller := caller_of(request.scope)) is not None:
        key = hashlib.sha256(f"{caller} {key}".encode()).hexdigest()
    return Idempotency(key, _digest(request, asked, uploads))


def _digest(request: Request, asked: ImageRequest, uploads: Sequence[Upload]) -> bytes:
    """Equal for bodies that mean the same: their order, their spaces and their nulls do not count,
    nor do fields that a later version of this server adds."""
    fields = msgspec.structs.asdict(asked).items()
    body = msgspec.json.encode({k: v for k, v in fields if v is not None}, order="deterministic")
    head = f"{request.method} {request.url.path}\n".encode()
    enclosed = msgspec.json.encode(uploads) if uploads else b""
    return hashlib.sha256(head + body + enclosed).digest()
