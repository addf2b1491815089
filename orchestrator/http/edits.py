"""`POST /v1/images/edits` and `/v1/images/variations`: generations that begin with pictures."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http.choice import chosen
from orchestrator.http.enclosed import Enclosed
from orchestrator.http.errors import bad_field, unsupported
from orchestrator.http.images import Images
from orchestrator.http.intake import Intake
from orchestrator.http.ports import Service
from orchestrator.http.schema import EditRequest


class Edits:
    """Takes the pictures in, and has `images` do the rest."""

    def __init__(self, service: Service, images: Images, intake: Intake) -> None:
        self._service, self._images, self._intake = service, images, intake

    async def edit(self, request: Request) -> Response:
        asked, media = await self._intake.read(request, EditRequest)
        return await self._begin(request, asked, media)

    async def vary(self, request: Request) -> Response:
        """As an edit whose prompt is empty, unless one is given."""
        asked, media = await self._intake.read(request, EditRequest)
        if any(each.field.startswith("mask") for each in media):
            raise bad_field("mask", "`mask`: not for variations; see /v1/images/edits")
        if asked.prompt is None:
            asked = msgspec.structs.replace(asked, prompt="")
        return await self._begin(request, asked, media)

    async def _begin(self, request: Request, asked: EditRequest, media: list[Enclosed]) -> Response:
        model = chosen(self._service, asked.model)
        usual = "image" in model.media() or not model.media()
        if not any(each.field in ("image", "images") for each in media) and (usual or not media):
            raise bad_field("image", "`image` is missing", "missing_field")
        if model.modality != "image":
            raise unsupported("model", f"{model.name} makes {model.modality}, and no pictures")
        uploads = await self._intake.keep(asked, media)
        return await self._images.generate_from(request, asked, uploads)
