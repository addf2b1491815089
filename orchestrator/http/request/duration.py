"""From seconds to what a pipeline calls them: frames of a video, or an argument of its own."""

from typing import TypeVar

import msgspec

from orchestrator.http.errors import bad_field, unsupported
from orchestrator.http.request.schema import AudioRequest, ImageRequest, VideoRequest
from transfer.messages import ModelInfo

MOST_FRAMES, MOST_SECONDS = 1024, 600
LENGTHS = ("audio_length_in_s", "audio_end_in_s")  # of a sound, in seconds

T = TypeVar("T", bound=ImageRequest)


def with_seconds(asked: T, seconds: float | None, model: ModelInfo) -> T:
    """The request with its length in the model's words. Raises a 400 or 422 that names `seconds`.

    A video gets the number of frames nearest to it that the model can make.
    """
    if seconds is None:
        return asked
    if model.modality == "video":
        if asked.num_frames is not None:
            raise bad_field("seconds", "`seconds` contradicts `num_frames`: give one of them")
        return msgspec.structs.replace(asked, num_frames=_frames(asked, seconds, model))
    taken = {parameter.name for parameter in model.parameters}
    for name in LENGTHS:
        if name in taken:
            return msgspec.structs.replace(asked, **{name: seconds})
    raise unsupported("seconds", f"`seconds`: {model.pipeline} takes no length")


def seconds_of(asked: ImageRequest) -> float | None:
    """What it says under `seconds`, if it can say so. Raises a 400."""
    given = asked.seconds if isinstance(asked, VideoRequest | AudioRequest) else None
    seconds = None if given is None else float(given)
    if seconds is not None and not 0 < seconds <= MOST_SECONDS:
        raise bad_field("seconds", f"`seconds`: more than 0, and at most {MOST_SECONDS}")
    return seconds


def length_of(frames: int, fps: float) -> str:
    """Seconds, as OpenAI tells them."""
    return f"{round(frames / fps, 2):g}"


def frames_of(asked: ImageRequest, model: ModelInfo) -> int | None:
    """Of the request, or of its pipeline's default; None if neither says."""
    if asked.num_frames is not None:
        return asked.num_frames
    defaults = {parameter.name: parameter.default for parameter in model.parameters}
    found = defaults.get("num_frames")
    return found if isinstance(found, int) else None


def _frames(asked: ImageRequest, seconds: float, model: ModelInfo) -> int:
    fps = asked.fps or model.fps
    if not fps:
        raise bad_field("seconds", f"`seconds`: {model.name} has no frame rate; give num_frames")
    step = model.frames_step
    frames = max(round((seconds * fps - 1) / step), 0) * step + 1
    if frames > MOST_FRAMES:
        message = f"`seconds`: {frames} frames at {fps:g} a second; {MOST_FRAMES} at most"
        raise bad_field("seconds", message)
    return frames
