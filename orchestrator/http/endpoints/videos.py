"""`/v1/videos`: OpenAI's videos. Each is a job underneath, and has the job's id."""

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import cast, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http.endpoints.job_page import no_result
from orchestrator.http.endpoints.pages import json_response
from orchestrator.http.endpoints.video_page import VideoDeleted, video_of, videos_of
from orchestrator.http.errors import ApiError, bad_field, unsupported
from orchestrator.http.media.download import HEADERS, Download
from orchestrator.http.media.reading import Reading
from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import Jobs
from orchestrator.http.request.decoding import decode
from orchestrator.http.request.intake import Intake
from orchestrator.http.request.schema import RemixRequest, VideoRequest
from orchestrator.http.request.submission import Submission
from orchestrator.jobs.model import Job
from transfer.errors import MediaError
from transfer.threads import in_thread

LIMIT, MOST = 20, 100  # videos in one page of the list
POLL_MS = "1000"  # what a client waits before it looks again
VARIANTS = ("video", "thumbnail", "spritesheet")


class Videos:
    """The handlers of `/v1/videos`. `jobs` keeps finished ones for `options.job_ttl_s`."""

    def __init__(
        self, jobs: Jobs, submission: Submission, intake: Intake, options: HttpOptions
    ) -> None:
        self._jobs, self._submission = jobs, submission
        self._intake, self._options = intake, options

    async def create(self, request: Request) -> Response:
        sent = await self._intake.receive(request)
        job = await self._submission.known(sent)
        if job is None:
            asked, media = await self._intake.read(sent, VideoRequest)
            uploads = await self._intake.keep(asked, media)
            job = await self._submission.submit(sent.idempotency, asked, uploads=uploads)
        return self._page(job)

    async def remix(self, request: Request) -> Response:
        """Another video, asked for as the first one was, but for the prompt: of the same model, and
        with its seed, so that what the prompts share stays alike."""
        sent = await self._intake.receive(request, self._options.max_body_bytes)
        known = await self._submission.known(sent)
        if known is not None:
            return self._page(known)
        remix = decode(sent.body or b"", RemixRequest)
        job = await self._found(request)
        assert job.described.video is not None
        before = msgspec.json.decode(job.described.video.request, type=VideoRequest)
        seed = job.described.seed if remix.seed is None else remix.seed
        model = job.described.model or before.model
        asked = msgspec.structs.replace(before, prompt=remix.prompt, seed=seed, model=model)
        uploads = job.described.video.uploads
        key = sent.idempotency
        video = await self._submission.submit(key, asked, uploads=uploads, remixed_from=job.id)
        return self._page(video)

    async def list(self, request: Request) -> Response:
        query = request.query_params
        after, limit, order = query.get("after"), query.get("limit"), query.get("order", "desc")
        if limit is not None and not (
            limit.isdecimal() and len(limit) < 9 and int(limit) in range(1, MOST + 1)
        ):
            raise bad_field("limit", f"`limit`: 1 to {MOST}")
        if order not in ("asc", "desc"):
            raise bad_field("order", "`order`: asc or desc")
        many = LIMIT if limit is None else int(limit)
        try:
            jobs, more = await self._jobs.page(
                many, after, None, videos=True, ascending=order == "asc"
            )
        except KeyError:
            raise bad_field("after", f"`after`: there is no video {after!r:.80}") from None
        return json_response(videos_of(jobs, more, self._options.job_ttl_s))

    async def show(self, request: Request) -> Response:
        return self._page(await self._found(request))

    async def cancel(self, request: Request) -> Response:
        job = await self._found(request)
        return self._page(await self._jobs.cancel(job.id))

    async def delete(self, request: Request) -> Response:
        """One that is being made is cancelled first."""
        job = await self._found(request)
        try:
            await self._jobs.forget(job.id)
        except KeyError:
            raise _unknown(job.id) from None
        return json_response(VideoDeleted(job.id))

    async def content(self, request: Request) -> Response:
        job = await self._found(request)
        variant = request.query_params.get("variant", "video")
        if variant not in VARIANTS:
            raise bad_field("variant", f"`variant`: one of {', '.join(VARIANTS)}")
        if job.status != "completed":
            raise no_result(job)
        if variant != "video":
            return await self._still(request, job, variant)
        file = job.files[0]
        download = Download(file.mime, file.nbytes, self._jobs.local_path(file))
        try:
            return await download.response(request.method, lambda: self._jobs.content(file))
        except FileNotFoundError as error:
            raise MediaError(f"the file of {job.id} is gone") from error

    async def _still(self, request: Request, job: Job, variant: str) -> Response:
        from orchestrator.http.media import stills  # slow to import, and seldom asked for

        kind = cast(stills.Variant, variant)
        assert kind in get_args(stills.Variant)
        file = job.files[0]
        try:
            path = self._jobs.local_path(file)
            if path is not None:
                still = await in_thread(stills.still_of, path, kind)
            else:
                with NamedTemporaryFile(prefix="triptych-") as copy:
                    reading = Reading(self._jobs.content(file), file.nbytes)
                    try:
                        while pieces := await reading.several():
                            await in_thread(copy.writelines, pieces)
                    finally:
                        await reading.close()
                    copy.flush()
                    still = await in_thread(stills.still_of, Path(copy.name), kind)
        except FileNotFoundError as error:
            raise MediaError(f"the file of {job.id} is gone") from error
        except stills.NoStill as error:
            message = f"`variant`: there is no {variant} of a file of type {file.mime}"
            raise unsupported("variant", message) from error
        body = b"" if request.method == "HEAD" else still
        headers = {**HEADERS, "content-length": str(len(still))}
        return Response(body, headers=headers, media_type=stills.MIMES[kind])

    async def _found(self, request: Request) -> Job:
        id = request.path_params["id"]
        job = await self._jobs.find(id)
        if job is None or job.described.video is None:
            raise _unknown(id)
        return job

    def _page(self, job: Job) -> Response:
        reply = json_response(video_of(job, self._options.job_ttl_s))
        if not job.over:
            reply.headers["openai-poll-after-ms"] = POLL_MS
        return reply


def _unknown(id: str) -> ApiError:
    message = f"there is no video {id[:64]!r}; finished ones are kept for a while only"
    return ApiError(404, message, code="video_not_found")
