"""`/v1/jobs`: generations that outlive the connection that asked for them."""

import asyncio
from typing import cast, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http.base import base_url
from orchestrator.http.endpoints.job_page import list_of, no_result, page_of
from orchestrator.http.endpoints.job_previews import JobPreviews
from orchestrator.http.endpoints.pages import json_response
from orchestrator.http.errors import ApiError, bad_field
from orchestrator.http.media.download import Download
from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import Jobs, Service
from orchestrator.http.request.intake import Intake
from orchestrator.http.request.schema import JobRequest
from orchestrator.http.request.submission import Submission
from orchestrator.http.streaming.event_stream import EventStream
from orchestrator.jobs.model import Job, JobStatus
from transfer.errors import MediaError

LIMIT, MOST = 20, 100  # jobs in one page of the list
STATUSES: tuple[str, ...] = get_args(JobStatus)


class JobDesk:
    """The handlers of `/v1/jobs`. `leaving` is set when the server is about to end."""

    def __init__(
        self,
        service: Service,
        jobs: Jobs,
        submission: Submission,
        intake: Intake,
        options: HttpOptions,
        leaving: asyncio.Event,
    ) -> None:
        self._jobs, self._submission, self._options = jobs, submission, options
        self._previews = JobPreviews(service, jobs)
        self._intake = intake
        self._leaving = leaving

    async def create(self, request: Request) -> Response:
        sent = await self._intake.receive(request)
        job = await self._submission.known(sent)
        if job is None:
            asked, media = await self._intake.read(sent, JobRequest)
            uploads = await self._intake.keep(asked, media)
            job = await self._submission.submit(sent.idempotency, asked, uploads=uploads)
        reply = json_response(page_of(job, self._base(request)), 202)
        reply.headers["location"] = f"/v1/jobs/{job.id}"
        return reply

    async def list(self, request: Request) -> Response:
        query = request.query_params
        after = query.get("after")
        try:
            jobs, has_more = await self._jobs.page(
                _limit(query.get("limit")), after, _status(query.get("status"))
            )
        except KeyError:
            raise bad_field("after", f"`after`: there is no job {after!r:.80}") from None
        return json_response(list_of(jobs, has_more, self._base(request)))

    async def show(self, request: Request) -> Response:
        return json_response(page_of(await self._found(request), self._base(request)))

    async def cancel(self, request: Request) -> Response:
        id = request.path_params["id"]
        try:
            job = await self._jobs.cancel(id)
        except KeyError:
            raise _unknown(id) from None
        return json_response(page_of(job, self._base(request)))

    async def events(self, request: Request) -> Response:
        job = await self._found(request)
        base, after = self._base(request), _last_event(request)
        if job.over and after and await self._knows_the_end(job, after):
            # The one way to tell a browser's EventSource not to connect again.
            return Response(status_code=204)
        return EventStream(
            self._jobs.events(job.id, after),
            lambda job: msgspec.json.encode(page_of(job, base)),
            self._previews.write,
            self._leaving,
            self._options.ping_s,
        )

    async def content(self, request: Request) -> Response:
        job = await self._found(request)
        if job.status != "completed":
            raise no_result(job)
        index = _index(request.query_params.get("index"))
        if index >= len(job.files):
            last = len(job.files) - 1
            message = f"`index`: {job.id} has no file {index}; the first is 0, the last {last}"
            raise ApiError(404, message, param="index", code="file_not_found")
        file = job.files[index]
        download = Download(file.mime, file.nbytes, self._jobs.local_path(file))
        try:
            return await download.response(request.method, lambda: self._jobs.content(file))
        except FileNotFoundError as error:
            raise MediaError(f"the file {index} of {job.id} is gone") from error

    async def _found(self, request: Request) -> Job:
        id = request.path_params["id"]
        job = await self._jobs.find(id)
        if job is None:
            raise _unknown(id)
        return job

    async def _knows_the_end(self, job: Job, after: int) -> bool:
        """Of a job that is over, what is kept ends with its last event, and comes at once."""
        events = self._jobs.events(job.id, after)
        try:
            event = await anext(events, None)
        finally:
            await events.aclose()
        return event is None or event.number <= after

    def _base(self, request: Request) -> str:
        return base_url(request, self._options)


def _unknown(id: str) -> ApiError:
    message = f"there is no job {id[:64]!r}; finished ones are kept for a while only"
    return ApiError(404, message, code="job_not_found")


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not (text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MOST):
        raise bad_field("limit", f"`limit`: 1 to {MOST}")
    return int(text)


def _status(text: str | None) -> JobStatus | None:
    if text is not None and text not in STATUSES:
        raise bad_field("status", f"`status`: one of {', '.join(STATUSES)}")
    return cast(JobStatus | None, text)


def _index(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isdecimal() and len(text) < 9):
        raise bad_field("index", "`index`: 0 for the first file, 1 for the second, …")
    return int(text)


def _last_event(request: Request) -> int:
    """The number after which the client wants events; 0: all that are kept."""
    text = request.headers.get("last-event-id", "") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise bad_field("Last-Event-ID", "`Last-Event-ID`: the number of an event, as its id said")
    return int(text)
