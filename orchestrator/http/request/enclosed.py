"""The media that come with a request: taken from a form or from data URLs, checked, and kept by
their content's hash."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from starlette.datastructures import UploadFile

from orchestrator.http.errors import ApiError, bad_field, retry_after, unsupported
from orchestrator.http.options import HttpOptions
from orchestrator.http.request import structured
from orchestrator.http.request.forms import Form
from orchestrator.http.request.schema import EditRequest, ImageReference, ImageRequest, VideoRequest
from transfer import containers, films, pictures, sounds
from transfer.messages import MediaKind, ModelInfo, Upload
from transfer.pictures import BadMedia
from transfer.threads import in_thread

MOST = 16  # files of a request
MASK = "mask_image"  # what pipelines call it


class Keeper(Protocol):
    """`orchestrator.uploads.Uploads`. `keep` blocks, and raises `NoRoom` or OSError."""

    def keep(self, data: bytes) -> str: ...


class NoRoom(Exception):
    """All that may be kept of uploads is in use, or was a short time ago."""


class Enclosed(msgspec.Struct, frozen=True):
    """Bytes that came under a client's name, the pipeline's argument that they are for, and as what
    it takes them."""

    field: str
    data: bytes
    param: str = ""
    kind: MediaKind = "picture"

    @property
    def mask(self) -> bool:
        return "mask" in re.split(r"[._]", self.param)


async def of_form(form: Form) -> list[Enclosed]:
    """The files of a form, in order."""
    return [
        Enclosed(name, await _read(file)) for name, files in form.files.items() for file in files
    ]


def of_references(asked: ImageRequest) -> list[Enclosed]:
    """What a JSON body brought along in fields of ours, in data URLs. Raises a 400."""
    found: list[tuple[str, ImageReference | None]] = []
    if isinstance(asked, EditRequest):
        found = [("images", each) for each in asked.images or ()] + [("mask", asked.mask)]
    if isinstance(asked, VideoRequest):
        found = [("input_reference", asked.input_reference)]
    return [_of_reference(field, each) for field, each in found if each is not None]


def of_field(field: str, value: Any) -> list[Enclosed]:
    """What a JSON body brought along in an argument of the pipeline that takes media: a data: URL,
    `{"image_url": …}`, or a list of those. Raises a 400."""
    found = []
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, Mapping):
            each = each.get("image_url")
        found.append(_decoded(field, each if isinstance(each, str) else None))
    return found


def named(enclosed: Sequence[Enclosed], model: ModelInfo) -> list[Enclosed]:
    """Each with its argument, and as what that takes it. Raises a 400 or 422 that names the
    field."""
    if len(enclosed) > MOST:
        raise bad_field(enclosed[0].field, f"{len(enclosed)} files; at most {MOST}")
    taken, found = model.media(), []
    for each in enclosed:
        param = _param(each.field, taken)
        kinds = structured.kinds_at(param, model)
        if not kinds:
            whose = f"{model.pipeline}, which serves `{model.name}`"
            raise unsupported(each.field, f"`{each.field}`: {whose}, takes {_told(taken)}")
        found.append(msgspec.structs.replace(each, param=param, kind=_kind(each.data, kinds)))
    for each in found:
        frames = "film" in structured.kinds_at(each.param, model)
        placed = each.param not in taken and not frames
        alone = each.mask or each.kind != "picture" or placed
        if alone and sum(other.param == each.param for other in found) > 1:
            raise bad_field(each.field, f"`{each.field}`: one at most")
    return found


def _kind(data: bytes, kinds: Sequence[MediaKind]) -> MediaKind:
    """A film, where that or a picture may come, is what has the first bytes of one."""
    if len(kinds) == 1:
        return kinds[0]
    return "film" if containers.format_of(data) in films.FORMATS else "picture"


async def kept(enclosed: Sequence[Enclosed], keeper: Keeper, options: HttpOptions) -> list[Upload]:
    """Each of them on the disk, under its hash, after it was decoded once. Raises `ApiError`."""
    sizes = [await in_thread(_size, each, options) for each in enclosed]
    _check_mask(enclosed, sizes)
    try:
        hashes = [await in_thread(keeper.keep, each.data) for each in enclosed]
    except NoRoom as error:
        headers = retry_after(60.0)
        raise ApiError(503, str(error), code="uploads_full", headers=headers) from error
    except OSError as error:
        message = f"the upload cannot be kept: {error.strerror}"
        raise ApiError(503, message, code="uploads_down", headers=retry_after(5.0)) from error
    return [
        Upload(each.param, hash, len(each.data), each.mask, each.kind)
        for each, hash in zip(enclosed, hashes, strict=True)
    ]


def _check_mask(enclosed: Sequence[Enclosed], sizes: Sequence[tuple[int, ...]]) -> None:
    """A mask of pixels is as large as the first picture."""
    first = next((i for i, each in enumerate(enclosed) if each.param == "image"), None)
    for each, size in zip(enclosed, sizes, strict=True):
        if each.param == MASK and first is not None and size != sizes[first]:
            message = "{}x{} pixels, the picture has {}x{}".format(*size, *sizes[first])
            raise bad_field(each.field, f"`{each.field}`: {message}")


def _size(each: Enclosed, options: HttpOptions) -> tuple[int, ...]:
    """Decodes it within the bounds. Raises a 400 that names the field."""
    pixels = options.max_pixels
    try:
        if each.kind == "film":
            return films.measure(each.data, films.Bounds(pixels, options.max_video_pixels))
        if each.kind == "sound":
            return sounds.measure(each.data)
        return pictures.decode(each.data, mask=each.mask, most_pixels=pixels).size
    except BadMedia as error:
        raise bad_field(each.field, f"`{each.field}`: {error}") from error


def _param(field: str, taken: Mapping[str, MediaKind]) -> str:
    """OpenAI's names are those of the pipeline's arguments that they most likely mean."""
    if field == "mask":
        return MASK if MASK in taken or "mask" not in taken else "mask"
    if field in ("images", "input_reference"):
        pictures = [name for name, kind in taken.items() if kind == "picture"]
        return "image" if "image" in pictures or not pictures else pictures[0]
    return field


def _told(taken: Mapping[str, MediaKind]) -> str:
    if not taken:
        return "no pictures, films or sounds at all"
    known = ", ".join(f"`{name}` (a {kind})" for name, kind in taken.items())
    return f"no such file; it takes {known}"


async def _read(file: UploadFile) -> bytes:
    return await file.read()


def _of_reference(field: str, reference: ImageReference) -> Enclosed:
    if reference.file_id is not None:
        message = f"`{field}`: no files are kept here; give an image_url of type data:"
        raise bad_field(field, message)
    return _decoded(field, reference.image_url)


def _decoded(field: str, url: str | None) -> Enclosed:
    """A server that fetches what strangers name can be sent anywhere, and one that opens it shows
    them its disk: this one does neither."""
    head, comma, data = (url or "").partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        message = f"`{field}`: only data: URLs in base64 are taken; or send the file in a form"
        raise bad_field(field, message)
    try:
        return Enclosed(field, base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise bad_field(field, f"`{field}`: not base64 ({error})") from None
