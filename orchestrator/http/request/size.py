"""Which width and height a request asks for, and whether this model can make them."""

import re
from typing import NamedTuple

from orchestrator.http.errors import ApiError, bad_field
from orchestrator.http.options import HttpOptions
from orchestrator.http.request.schema import ImageRequest
from transfer.messages import ModelInfo

SMALLEST, LARGEST = 16, 4096  # of a side, in pixels
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)


class Size(NamedTuple):
    """Pixels. None: the request leaves this side to the pipeline."""

    width: int | None = None
    height: int | None = None


def requested_size(request: ImageRequest) -> Size:
    """From `size`, or from `width` and `height`; both only if they agree."""
    sides = Size(request.width, request.height)
    if request.size is None or request.size == "auto":
        return sides
    found = _SIZE.fullmatch(request.size)
    if found is None:
        raise bad_field("size", f"`size`: {request.size[:32]!r} is neither auto nor WIDTHxHEIGHT")
    size = Size(int(found[1]), int(found[2]))
    for name in ("width", "height"):
        if getattr(sides, name) not in (None, getattr(size, name)):
            raise bad_field(name, f"`{name}` contradicts `size` ({request.size}): give one of them")
    return size


def check_size(request: ImageRequest, size: Size, model: ModelInfo, options: HttpOptions) -> None:
    """Raises a 400 that says which sizes would do."""
    for name, side in size._asdict().items():
        if side is not None and not SMALLEST <= side <= LARGEST:
            raise _refuse(request, name, f"{name} {side}: {SMALLEST} to {LARGEST} are served")
        if side is not None and side % model.size_multiple:
            raise _refuse(request, name, _off_grid(size, name, model))
    _check_pixels(request, size, model, options)


def _check_pixels(
    request: ImageRequest, size: Size, model: ModelInfo, options: HttpOptions
) -> None:
    default = model.default_size or (SMALLEST, SMALLEST)
    pixels = (size.width or default[0]) * (size.height or default[1])
    asked = size != Size()
    if asked and pixels > options.max_pixels:
        raise _refuse(request, None, f"{pixels} pixels: at most {options.max_pixels} are served")
    frames = request.num_frames or _frames_otherwise(request) or 1
    if frames * pixels > options.max_video_pixels and (asked or frames > 1):
        message = f"{frames} frames of {pixels} pixels: at most {options.max_video_pixels} in all"
        raise bad_field("num_frames" if frames > 1 else "size", message)


def _frames_otherwise(request: ImageRequest) -> int | None:
    """What older pipelines call them."""
    given = request.parameters or {}
    found = next((given[name] for name in ("video_length", "frames") if name in given), None)
    return found if isinstance(found, int) else None


def _off_grid(size: Size, name: str, model: ModelInfo) -> str:
    multiple = model.size_multiple
    lower, upper = _snap(size, multiple, 0), _snap(size, multiple, multiple - 1)
    nearest = " or ".join(dict.fromkeys((_text(lower), _text(upper))))
    return (
        f"{name} {getattr(size, name)} is not a multiple of {multiple}, which {model.name} needs; "
        f"the nearest: {nearest}"
    )


def _snap(size: Size, multiple: int, add: int) -> Size:
    smallest = -(-SMALLEST // multiple) * multiple
    largest = max(LARGEST // multiple * multiple, smallest)

    def snap(side: int | None) -> int | None:
        if side is None:
            return None
        return min(max((side + add) // multiple * multiple, smallest), largest)

    return Size(snap(size.width), snap(size.height))


def _text(size: Size) -> str:
    if size.width is not None and size.height is not None:
        return f"{size.width}x{size.height}"
    return str(size.width or size.height)


def _refuse(request: ImageRequest, name: str | None, message: str) -> ApiError:
    """The field to blame is the one that the client wrote."""
    from_size = name is None or getattr(request, name) is None
    param = "size" if from_size and request.size is not None else name or "width"
    return bad_field(param, f"`{param}`: {message}")
