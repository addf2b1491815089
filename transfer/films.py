"""Films from outside, decoded within bounds: at the door, and again where a pipeline begins."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from transfer.containers import check_codec, opened
from transfer.pictures import MOST_PIXELS, BadMedia

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL.Image import Image

FORMATS = ("mp4", "matroska")
CODECS = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "ffv1"})
MOST_FRAMES = 1024
SLACK = 1 << 20  # pixels
MOST_IN_ALL = 1 << 29  # pixels; whatever a door lets in


class Size(NamedTuple):
    """Pixels, and how many frames."""

    width: int
    height: int
    frames: int


class Bounds(NamedTuple):
    """`pixels`: of a frame; `in_all`: of all frames together."""

    pixels: int = MOST_PIXELS
    in_all: int = MOST_IN_ALL
    frames: int = MOST_FRAMES


WIDEST = Bounds()


def decode(data: bytes, *, mask: bool = False, bounds: Bounds = WIDEST) -> "list[Image]":
    """Every frame, turned as the file says: RGB, or L of a mask. Its sound is left. Raises
    `BadMedia`."""
    with opened(data, FORMATS, "film") as container:
        return [_picture(frame, "L" if mask else "RGB") for frame in _frames(container, bounds)]


def measure(data: bytes, bounds: Bounds = WIDEST) -> Size:
    """Decodes it and keeps nothing: what passes here can be decoded. Raises `BadMedia`."""
    found = Size(0, 0, 0)
    with opened(data, FORMATS, "film") as container:
        for frame in _frames(container, bounds):
            found = Size(frame.width, frame.height, found.frames + 1)
    return found


def _frames(container: "object", bounds: Bounds) -> "Iterator[VideoFrame]":
    """The size is checked before a frame is decoded, and again of each, since it may change."""
    from av.container import InputContainer

    assert isinstance(container, InputContainer)
    if not container.streams.video:
        raise BadMedia("there is no film in it")
    stream = container.streams.video[0]
    check_codec(stream, CODECS)
    _check(stream.codec_context.width, stream.codec_context.height, bounds)
    stream.codec_context.thread_count = 1
    # of what it allocates, edges included: should a frame be larger than the header says
    stream.codec_context.options = {"max_pixels": str(2 * bounds.pixels + SLACK)}
    pixels = count = 0
    for count, frame in enumerate(container.decode(stream), 1):
        _check(frame.width, frame.height, bounds)
        pixels += frame.width * frame.height
        if count > bounds.frames:
            raise BadMedia(f"it has more than {bounds.frames} frames")
        if pixels > bounds.in_all:
            raise BadMedia(f"more than {bounds.in_all} pixels in all its frames")
        yield frame
    if not count:
        raise BadMedia("it has no frames")


def _check(width: int, height: int, bounds: Bounds) -> None:
    if width * height > bounds.pixels:
        raise BadMedia(f"it has {width}x{height} pixels; {bounds.pixels} at most are taken")


def _picture(frame: "VideoFrame", mode: str) -> "Image":
    picture: Image = frame.to_image().convert(mode)  # type: ignore[no-untyped-call]
    turn = frame.rotation % 360
    return picture.rotate(turn, expand=True) if turn else picture
