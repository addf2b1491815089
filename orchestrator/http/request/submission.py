"""From a body to a job: the checks of the door."""

from collections.abc import Sequence

from orchestrator.http.endpoints.video_page import asked_of
from orchestrator.http.errors import bad_field
from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import Jobs, Service
from orchestrator.http.request.choice import chosen
from orchestrator.http.request.duration import seconds_of, with_seconds
from orchestrator.http.request.kind import check_kind
from orchestrator.http.request.plan import Plan, make_plan
from orchestrator.http.request.schema import ImageRequest, JobRequest, VideoRequest
from orchestrator.http.request.sent import Sent
from orchestrator.jobs.model import Described, Idempotency, Job, JobSpec, VideoAsked
from transfer.messages import ModelInfo, Upload


class Submission:
    """Hands in what `POST /v1/jobs` and a keyed `POST /v1/images/generations` ask for."""

    def __init__(self, service: Service, jobs: Jobs, options: HttpOptions) -> None:
        self._service, self._jobs, self._options = service, jobs, options

    async def known(self, sent: Sent) -> Job | None:
        """The job that exists already, if the request has a key that was used before. That needs
        neither model nor media: clients come back sooner than the roles may, and perhaps another
        model has come. Raises what `Jobs.recall` does."""
        if sent.idempotency is None:
            return None
        return await self._jobs.recall(sent.idempotency)

    async def submit(
        self,
        key: Idempotency | None,
        asked: ImageRequest,
        *,
        uploads: Sequence[Upload] = (),
        remixed_from: str | None = None,
    ) -> Job:
        """The job, which is durable now. Raises `ApiError`, and what `Jobs.submit` does."""
        if asked.stream:
            message = "`stream`: a job's events are at /v1/jobs/{id}/events; leave it out"
            if key is not None and not isinstance(asked, JobRequest):
                message = "`stream`: not with an Idempotency-Key, as events cannot be sent again"
            raise bad_field("stream", message)
        model = chosen(self._service, asked.model)
        check_kind(asked, model)
        timed = with_seconds(asked, seconds_of(asked), model)
        plan = make_plan(timed, model, self._options, self._service.adapters(model.name), uploads)
        video = None
        if isinstance(asked, VideoRequest) and isinstance(timed, VideoRequest):
            video = asked_of(asked, timed, plan, model, remixed_from)
        return await self._jobs.submit(self._spec(plan, model, video), key)

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
