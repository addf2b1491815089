"""A pipeline's output as samples."""

from typing import Any

import numpy as np
from PIL import Image as PillowImage

from roles.samples import Audio, Image, Sample, Video
from roles.split.program import BadInput

_FPS = 16.0


def samples(output: Any, params: dict[str, Any], fps: float | None, rate: int) -> list[Sample]:
    """The samples in what a pipeline returned; at least one, or RuntimeError.

    Raises BadInput(param="size") if the pictures are not of the size that `params` asks for.
    """
    found: list[Sample] = []
    found += map(Image, _pictures(output))
    found += (Video(frames, float(fps or _FPS)) for frames in _videos(output))
    found += (Audio(sound, rate) for sound in _sounds(output))
    if not found:
        raise RuntimeError("the pipeline returned no picture, video or sound")
    for sample in found:
        _check_size(sample, params)
    return found


def _pictures(output: Any) -> list[PillowImage.Image]:
    return list(getattr(output, "images", None) or ())


def _videos(output: Any) -> list[list[PillowImage.Image]]:
    frames = getattr(output, "frames", None)
    if frames is None:
        return []
    return [[_picture(frame) for frame in video] for video in frames]


def _picture(frame: Any) -> PillowImage.Image:
    if isinstance(frame, PillowImage.Image):
        return frame
    return PillowImage.fromarray((np.asarray(frame) * 255).round().astype("uint8"))


def _sounds(output: Any) -> list[Any]:
    named = (getattr(output, name, None) for name in ("audios", "audio"))
    sounds = next((value for value in named if value is not None), ())
    arrays = [np.asarray(s.float().cpu() if hasattr(s, "cpu") else s) for s in sounds]
    return [array.reshape(-1, array.shape[-1]).astype("float32") for array in arrays]


def _check_size(sample: Sample, params: dict[str, Any]) -> None:
    if isinstance(sample, Audio):
        return
    made = (sample.pixels if isinstance(sample, Image) else sample.frames[0]).size
    asked = (params.get("width") or made[0], params.get("height") or made[1])
    if made != asked:
        words = "this model makes {}x{} where {}x{} is asked for".format(*made, *asked)
        raise BadInput(words, "size")
