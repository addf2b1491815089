"""The pictures that come with a request: taken from a form or from data URLs, checked, and kept by
their content's hash."""

import base64
import binascii
from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec
from starlette.datastructures import UploadFile

from orchestrator.http.errors import ApiError, bad_field, retry_after, unsupported
from orchestrator.http.forms import Form
from orchestrator.http.schema import EditRequest, ImageReference, ImageRequest
from transfer.messages import ModelInfo, Upload
from transfer.pictures import BadPicture, decode
from transfer.threads import in_thread

MOST_PICTURES = 16
MASK = "mask_image"  # what pipelines call it
T = TypeVar("T", bound=ImageRequest)


class Keeper(Protocol):
    """`orchestrator.uploads.Uploads`. `keep` blocks, and raises `NoRoom` or OSError."""

    def keep(self, data: bytes) -> str: ...


class NoRoom(Exception):
    """All that may be kept of uploads is in use, or was a short time ago."""


class Enclosed(msgspec.Struct, frozen=True):
    """Bytes that came under a client's name, and the pipeline's argument that they are for."""

    field: str
    param: str
    data: bytes

    @property
    def mask(self) -> bool:
        return self.param == MASK


async def of_form(form: Form) -> list[Enclosed]:
    """The files of a form, in order."""
    return [
        Enclosed(name, _param(name), await _read(file))
        for name, files in form.files.items()
        for file in files
    ]


def of_references(asked: EditRequest) -> list[Enclosed]:
    """What a JSON body brought along, in data URLs. Raises a 400."""
    found = [_fetched("images", "image", each) for each in asked.images or ()]
    if asked.mask is not None:
        found.append(_fetched("mask", MASK, asked.mask))
    return found


def of_reference(field: str, reference: ImageReference | None) -> list[Enclosed]:
    return [] if reference is None else [_fetched(field, _param(field), reference)]


def check_taken(enclosed: Sequence[Enclosed], model: ModelInfo) -> None:
    """Raises a 400 or 422 that names the field."""
    if len(enclosed) > MOST_PICTURES:
        raise bad_field(enclosed[0].field, f"{len(enclosed)} pictures; at most {MOST_PICTURES}")
    for each in enclosed:
        if each.param not in model.pictures:
            message = f"`{each.field}`: {model.pipeline}, which serves `{model.name}`, takes none"
            raise unsupported(each.field, message)
    if sum(each.mask for each in enclosed) > 1:
        raise bad_field("mask", "`mask`: one at most")


async def kept(enclosed: Sequence[Enclosed], keeper: Keeper, most_pixels: int) -> list[Upload]:
    """Each of them on the disk, under its hash, after it was decoded once. Raises `ApiError`."""
    sizes = [await in_thread(_size, each, most_pixels) for each in enclosed]
    masks = [size for each, size in zip(enclosed, sizes, strict=True) if each.mask]
    if masks and masks[0] != sizes[0]:
        message = "`mask`: {}x{} pixels, the picture has {}x{}".format(*masks[0], *sizes[0])
        raise bad_field("mask", message)
    try:
        hashes = [await in_thread(keeper.keep, each.data) for each in enclosed]
    except NoRoom as error:
        headers = retry_after(60.0)
        raise ApiError(503, str(error), code="uploads_full", headers=headers) from error
    except OSError as error:
        message = f"the upload cannot be kept: {error.strerror}"
        raise ApiError(503, message, code="uploads_down", headers=retry_after(5.0)) from error
    return [
        Upload(each.param, hash, len(each.data), each.mask)
        for each, hash in zip(enclosed, hashes, strict=True)
    ]


def _size(each: Enclosed, most_pixels: int) -> tuple[int, int]:
    try:
        return decode(each.data, mask=each.mask, most_pixels=most_pixels).size
    except BadPicture as error:
        raise bad_field(each.field, f"`{each.field}`: {error}") from error


def _param(name: str) -> str:
    return {"mask": MASK, "input_reference": "image"}.get(name, name)


async def _read(file: UploadFile) -> bytes:
    return await file.read()


def _fetched(field: str, param: str, reference: ImageReference) -> Enclosed:
    """A server that fetches what strangers name can be sent anywhere: this one does not."""
    url = reference.image_url
    if reference.file_id is not None or url is None:
        message = f"`{field}`: no files are kept here; give an image_url of type data:"
        raise bad_field(field, message)
    head, comma, data = url.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        message = f"`{field}`: only data: URLs in base64 are taken; or send the file in a form"
        raise bad_field(field, message)
    try:
        return Enclosed(field, param, base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise bad_field(field, f"`{field}`: not base64 ({error})") from None
