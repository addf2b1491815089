"""`POST /v1/images/edits` and `/v1/images/variations`: generations that begin with pictures."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http.endpoints.images import Images
from orchestrator.http.errors import bad_field, unsupported
from orchestrator.http.ports import Service
from orchestrator.http.request.choice import chosen
from orchestrator.http.request.enclosed import Enclosed
from orchestrator.http.request.intake import Intake
from orchestrator.http.request.kind import MADE
from orchestrator.http.request.schema import EditRequest


class Edits:
    """Takes the pictures in, and has `images` do the rest."""

    def __init__(self, service: Service, images: Images, intake: Intake) -> None:
        self._service, self._images, self._intake = service, images, intake

    async def edit(self, request: Request) -> Response:
        return await self._answer(request, variation=False)

    async def vary(self, request: Request) -> Response:
        """As an edit whose prompt is empty, unless one is given."""
        return await self._answer(request, variation=True)

    async def _answer(self, request: Request, variation: bool) -> Response:
        sent = await self._intake.receive(request)
        if (reply := await self._images.again(request, sent)) is not None:
            return reply
        asked, media = await self._intake.read(sent, EditRequest)
        if variation and any(each.field.startswith("mask") for each in media):
            raise bad_field("mask", "`mask`: not for variations; see /v1/images/edits")
        if variation and asked.prompt is None:
            asked = msgspec.structs.replace(asked, prompt="")
        self._check(asked, media)
        key = sent.idempotency
        del sent  # the wait is long, and pictures are large
        uploads = await self._intake.keep(asked, media)
        del media
        return await self._images.generate_from(request, key, asked, uploads)

    def _check(self, asked: EditRequest, media: list[Enclosed]) -> None:
        model = chosen(self._service, asked.model)
        usual = "image" in model.media() or not model.media()
        if not any(each.field in ("image", "images") for each in media) and (usual or not media):
            raise bad_field("image", "`image` is missing", "missing_field")
        if model.modality != "image":
            raise unsupported(
                "model", f"`{model.name}` makes {MADE[model.modality]}, and no pictures"
            )
