"""`POST /v1/images/edits` and `/v1/images/variations`: generations that begin with pictures."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http import enclosed
from orchestrator.http.body import read_body
from orchestrator.http.enclosed import Enclosed, Keeper
from orchestrator.http.errors import bad_field, not_ready, unsupported
from orchestrator.http.forms import is_form, read_form
from orchestrator.http.images import Images
from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import Service
from orchestrator.http.schema import EditRequest, ImageRequest, decode_edit, from_fields


class Edits:
    """Takes the pictures in, and has `images` do the rest."""

    def __init__(
        self, service: Service, images: Images, keeper: Keeper, options: HttpOptions
    ) -> None:
        self._service, self._images = service, images
        self._keeper, self._options = keeper, options

    async def edit(self, request: Request) -> Response:
        asked, pictures = await self._read(request, prompt=None)
        return await self._begin(request, asked, pictures)

    async def vary(self, request: Request) -> Response:
        """As an edit whose prompt is empty, unless one is given."""
        asked, pictures = await self._read(request, prompt="")
        if any(each.mask for each in pictures):
            raise bad_field("mask", "`mask`: not for variations; see /v1/images/edits")
        return await self._begin(request, asked, pictures)

    async def _read(
        self, request: Request, prompt: str | None
    ) -> tuple[EditRequest, list[Enclosed]]:
        options = self._options
        if not is_form(request):
            body = await read_body(request, options.max_upload_bytes, options.body_s)
            asked = decode_edit(body)
            return asked, enclosed.of_references(asked)
        form = await read_form(request, options.max_upload_bytes, options.body_s)
        try:
            if prompt is not None:
                form.fields.setdefault("prompt", prompt)
            return from_fields(form.fields, EditRequest), await enclosed.of_form(form)
        finally:
            await form.close()

    async def _begin(
        self, request: Request, asked: EditRequest, pictures: list[Enclosed]
    ) -> Response:
        if not any(each.param == "image" for each in pictures):
            raise bad_field("image", "`image` is missing", "missing_field")
        model = self._service.model()
        if model is None:
            raise not_ready(self._service.missing())
        if model.modality != "image":
            raise unsupported("model", f"{model.name} makes {model.modality}, and no pictures")
        enclosed.check_taken(pictures, model)
        uploads = await enclosed.kept(pictures, self._keeper, self._options.max_pixels)
        return await self._images.generate_from(request, plain(asked), uploads)


def plain(asked: EditRequest) -> ImageRequest:
    """Without what is kept by now, so that a retry with the same pictures is the same request."""
    return msgspec.structs.replace(asked, images=None, mask=None)
