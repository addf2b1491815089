"""`POST /v1/images/generations` with an `Idempotency-Key`: a job underneath.

It goes on when its client goes, and a retry with the same key gets the same reply: the same
pictures, seed and timings, without computing them again.
"""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http.base import base_url
from orchestrator.http.endpoints.job_page import no_result, url_of
from orchestrator.http.gone import until_gone
from orchestrator.http.media.reading import Reading
from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import Jobs
from orchestrator.http.request.schema import ImageItem, ImageRequest, ImagesReply
from orchestrator.http.request.sent import Sent
from orchestrator.http.request.speed import speed_header
from orchestrator.http.request.submission import Submission
from orchestrator.http.seconds import timings_json
from orchestrator.http.streaming.streamed import StreamedImages
from orchestrator.jobs.model import Idempotency, Job
from transfer.made import size_of
from transfer.messages import Upload


class KeyedImages:
    """Waits for the job of a request, and replies with its files."""

    def __init__(self, jobs: Jobs, submission: Submission, options: HttpOptions) -> None:
        self._jobs, self._submission, self._options = jobs, submission, options

    async def again(self, request: Request, sent: Sent) -> Response | None:
        """The reply to a request that came before."""
        job = await self._submission.known(sent)
        return None if job is None else await self._reply(request, job)

    async def generate(
        self,
        request: Request,
        key: Idempotency,
        asked: ImageRequest,
        uploads: Sequence[Upload] = (),
    ) -> Response:
        """To one that is new."""
        job = await self._submission.submit(key, asked, uploads=uploads)
        return await self._reply(request, job)

    async def _reply(self, request: Request, job: Job) -> Response:
        job = await until_gone(request.receive, self._jobs.wait(job.id))
        if job.status != "completed":
            raise no_result(job)
        reply, headers = _describe(job), _headers(job)
        if not job.described.as_url:
            return await StreamedImages.begin(reply, headers, JobFiles(self._jobs, job))
        base = base_url(request, self._options)
        data = [ImageItem(url=url_of(job, i, base)) for i in range(len(job.files))]
        body = msgspec.json.encode(msgspec.structs.replace(reply, data=data))
        return Response(body, headers=headers, media_type="application/json")


class JobFiles:
    """The files of a completed job, which keeps them: a reply only reads them."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs, self._files = jobs, job.files

    @property
    def sizes(self) -> list[int]:
        return [file.nbytes for file in self._files]

    def open(self, index: int) -> Reading:
        file = self._files[index]
        return Reading(self._jobs.content(file), file.nbytes)

    async def release(self) -> None:
        pass


def _describe(job: Job) -> ImagesReply:
    size = size_of(job.files[0].made)
    return ImagesReply(
        created=int(job.created_at),
        size="{}x{}".format(*size) if size else "auto",
        quality=job.described.quality,
        output_format=job.described.output_format,
    )


def _headers(job: Job) -> dict[str, str]:
    headers = {"x-triptych-seed": str(job.described.seed), "x-triptych-job": job.id}
    if job.timings is not None:
        headers["x-triptych-timings"] = timings_json(job.timings)
    return headers | speed_header([file.speed for file in job.files])
