"""`POST /v1/images/generations`, from the body to the reply. Streaming it out is streamed.py; a
request with an Idempotency-Key goes to keyed.py."""

import asyncio
import logging
import time
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http.base import base_url
from orchestrator.http.endpoints.keyed import KeyedImages
from orchestrator.http.gone import until_gone
from orchestrator.http.media.files import Files
from orchestrator.http.media.shelf import Shelf
from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import MediaSource, Service
from orchestrator.http.request.choice import chosen
from orchestrator.http.request.duration import seconds_of, with_seconds
from orchestrator.http.request.intake import Intake
from orchestrator.http.request.kind import check_kind
from orchestrator.http.request.plan import Plan, make_plan
from orchestrator.http.request.schema import AudioRequest, ImageItem, ImageRequest, ImagesReply
from orchestrator.http.request.sent import Sent
from orchestrator.http.request.speed import speed_header
from orchestrator.http.seconds import timings_json
from orchestrator.http.streaming.making import MAKES, Making
from orchestrator.http.streaming.showing import Showing
from orchestrator.http.streaming.streamed import StreamedImages
from orchestrator.jobs.model import Idempotency
from orchestrator.metrics import Metrics
from orchestrator.service import Completed
from transfer.errors import MediaError
from transfer.made import size_of
from transfer.messages import Media, ModelInfo, Upload

log = logging.getLogger(__name__)


class Images:
    """Generates for a client that waits, and stops when the client does not wait any more."""

    def __init__(
        self,
        service: Service,
        intake: Intake,
        keyed: KeyedImages,
        source: MediaSource,
        shelf: Shelf,
        metrics: Metrics,
        options: HttpOptions,
    ) -> None:
        self._service = service
        self._intake = intake
        self._keyed = keyed
        self._source = source
        self._shelf = shelf
        self._metrics = metrics
        self._options = options

    async def generate(self, request: Request) -> Response:
        return await self._answer(request, ImageRequest, self._options.max_body_bytes)

    async def generate_audio(self, request: Request) -> Response:
        return await self._answer(request, AudioRequest)

    async def again(self, request: Request, sent: Sent) -> Response | None:
        """The reply to a request that came before, under the same Idempotency-Key."""
        return await self._keyed.again(request, sent)

    async def _answer(
        self, request: Request, kind: type[ImageRequest], limit: int | None = None
    ) -> Response:
        sent = await self._intake.receive(request, limit)
        if (reply := await self.again(request, sent)) is not None:
            return reply
        asked, media = await self._intake.read(sent, kind)
        key = sent.idempotency
        del sent  # the wait is long, and bodies are large
        uploads = await self._intake.keep(asked, media)
        del media
        return await self.generate_from(request, key, asked, uploads)

    async def generate_from(
        self,
        request: Request,
        key: Idempotency | None,
        asked: ImageRequest,
        uploads: Sequence[Upload] = (),
    ) -> Response:
        """From pictures that are kept by now."""
        options = self._options
        if key is not None:
            return await self._keyed.generate(request, key, asked, uploads)
        model = chosen(self._service, asked.model)
        check_kind(asked, model)
        asked = with_seconds(asked, seconds_of(asked), model)
        plan = make_plan(asked, model, options, self._service.adapters(model.name), uploads)
        if plan.stream:
            making = Making(self._service, self._source, self._metrics)
            return await Showing.begin(request, plan, making, model, options.ping_s)
        files = Files(self._source)
        try:
            return await until_gone(request.receive, self._reply(request, plan, model, files))
        except BaseException:
            await files.release()
            raise

    async def _reply(
        self, request: Request, plan: Plan, model: ModelInfo, files: Files
    ) -> Response:
        """Makes the pictures again if their decoder died before their first byte was read: the
        same seeds, the same pixels."""
        for _ in range(MAKES - 1):
            try:
                return await self._made(request, plan, model, files)
            except MediaError as error:
                log.warning("%s; the request is computed again", error)
                await files.release()
        return await self._made(request, plan, model, files)

    async def _made(self, request: Request, plan: Plan, model: ModelInfo, files: Files) -> Response:
        results = await self._run(plan, request.state.request_id, files)
        files.arrange([media for result in results for media in result.media])
        headers = {
            "x-triptych-timings": _slowest(results),
            "x-triptych-seed": str(plan.seed),
            **speed_header([media.speed for media in files.media]),
        }
        if spared := {media.decoded_in for media in files.media} - {None}:
            headers["x-triptych-decoded-in"] = "tiles" if "tiles" in spared else "slices"
        reply = _describe(plan, files.media[0], model)
        if plan.as_url:
            return await self._linked(request, reply, headers, files)
        return await StreamedImages.begin(reply, headers, files)

    async def _run(self, plan: Plan, request_id: str, files: Files) -> list[Completed]:
        """All pictures at once, each a request of its own; the first error cancels the others."""
        count = len(plan.inputs)
        if count == 1:
            return [await self._one(plan, 0, request_id, files)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(plan, i, f"{request_id}-{i}", files))
                    for i in range(count)
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _one(self, plan: Plan, i: int, request_id: str, files: Files) -> Completed:
        inputs, model = plan.inputs[i], plan.model
        result = await self._service.generate(inputs, request_id=request_id, model=model)
        files.add(result.media)
        self._metrics.generated(result)
        return result

    async def _linked(
        self, request: Request, reply: ImagesReply, headers: dict[str, str], files: Files
    ) -> Response:
        base = base_url(request, self._options)
        ids = await self._keep_all(files)
        await files.release()
        data = [ImageItem(url=f"{base}/v1/media/{id}") for id in ids]
        body = msgspec.json.encode(msgspec.structs.replace(reply, data=data))
        return Response(body, headers=headers, media_type="application/json")

    async def _keep_all(self, files: Files) -> list[str]:
        """All or none: nobody would ever learn the links of a reply that is not sent."""
        ids: list[str] = []
        try:
            for media in files.media:
                ids.append(await self._keep(media, files))
        except BaseException:
            await self._shelf.drop(ids)
            raise
        return ids

    async def _keep(self, media: Media, files: Files) -> str:
        if media.store_key is not None and self._options.media_store is not None:
            id = await self._shelf.adopt(media)
            files.disown(media)
            return id
        reading = files.read(media, large=True)
        try:
            return await self._shelf.keep(media, reading)
        finally:
            await reading.close()


def _describe(plan: Plan, media: Media, model: ModelInfo) -> ImagesReply:
    size = size_of(media.made) or model.default_size
    return ImagesReply(
        created=int(time.time()),
        size=f"{size[0]}x{size[1]}" if size else "auto",
        quality=plan.quality,
        output_format=plan.output_format,
    )


def _slowest(results: list[Completed]) -> str:
    """The seconds of the picture that was waited for longest, as JSON, in microsecond steps."""
    slowest = max((result.timings for result in results), key=lambda each: each.total_s)
    return timings_json(slowest)
