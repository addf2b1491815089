"""A pipeline's output as samples: what its fields are called says what they are."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from roles.samples import Actions, Audio, Custom, Image, Sample, Video
from roles.split.decoding.rates import Fps
from roles.split.finite import ADVICE, NotFinite
from roles.split.program import BadInput

PICTURES = ("images", "image")
VIDEOS = ("frames", "videos", "video")
SOUNDS = ("audios", "audio")
ONE_SOUND = ("sound",)  # without a dimension for several
_ACTIONS = ("actions", "action")
_MADE = {*PICTURES, *VIDEOS, *SOUNDS, *ONE_SOUND, *_ACTIONS}
_PLAIN = (bool, int, float, str)
_MOST_VALUES = 1 << 16  # in a tree of plain values


class Made(dict[str, Any]):
    """What a pipeline made, by name, as the fields of an output."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


def output_type(pipeline: Any) -> str | None:
    """What pictures and films are asked for as; None where the pipeline decides: what predicts
    numbers, such as depths or embeddings, has a processor that makes no pictures of them, and
    refuses to; what writes texts has other words for their forms."""
    known = inspect.signature(type(pipeline).__call__).parameters.get("output_type")
    processor = getattr(pipeline, "image_processor", None)
    numbers = processor is not None and not hasattr(processor, "numpy_to_pil")
    if known is None or known.default == "text" or (known.default != "pil" and numbers):
        return None
    return "pil"


class NothingMade(RuntimeError):
    """The pipeline ended well, and returned nothing."""


def samples(output: Any, params: dict[str, Any], fps: Fps, rate: int | None) -> list[Sample]:
    """The samples in what a pipeline returned; at least one, or `NothingMade`.

    A video and the sound that was made with it are one sample. Fields that are neither pictures,
    videos, sounds nor actions count only where there is none of these: what else is beside a
    picture are notes about it. `rate`: of the sound, in Hz; RuntimeError if there is a sound and
    nobody knows. Raises BadInput(param="size") if the pictures are not of the size that `params`
    asks for.
    """
    sounds = [_audio(sound, rate) for sound in _sounds(output)]
    videos = [Video(frames, fps.value, fps_from=fps.said_by) for frames in _videos(output)]
    if videos and len(videos) == len(sounds):
        pairs = zip(videos, sounds, strict=True)
        videos = [Video(v.frames, v.fps, None, v.fps_from, sound) for v, sound in pairs]
        sounds = []
    found: list[Sample] = [Image(_picture(picture)) for picture in _pictures(output)]
    found += videos
    found += sounds
    found += map(Actions, _actions(output))
    found = found or list(_others(output))
    if not found:
        raise NothingMade("the pipeline returned no picture, video, sound or action")
    for sample in found:
        _check_size(sample, params)
    return found


def _first(output: Any, names: tuple[str, ...]) -> Any:
    """The first of these fields that has something in it; () if none has."""
    for name in names:
        value = getattr(output, name, None)
        if value is not None and len(value):
            return value
    return ()


def _pictures(output: Any) -> list[Any]:
    value = getattr(output, "image", None)
    if isinstance(value, PillowImage.Image):
        return [value]
    return list(_each(_first(output, PICTURES)))


def _each(values: Iterable[Any]) -> Iterator[Any]:
    """Those in lists of lists too: the layers of a picture, the pictures of a grid."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _each(value)
        else:
            yield value


def _videos(output: Any) -> list[list[PillowImage.Image]]:
    value = _first(output, VIDEOS)
    if len(value) and _is_frame(value[0]):
        value = [value]
    return [[_picture(frame) for frame in video] for video in value if len(video)]


def _is_frame(value: Any) -> bool:
    return isinstance(value, PillowImage.Image) or getattr(value, "ndim", 0) == 3


def _picture(frame: Any) -> PillowImage.Image:
    if isinstance(frame, PillowImage.Image):
        return frame
    array = np.asarray(frame)
    _check(array)
    seen = np.clip(array, 0, 1)  # light beyond what a screen shows, in some
    return PillowImage.fromarray((seen * 255).round().astype("uint8"))


def _sounds(output: Any) -> list[Any]:
    value = _first(output, ONE_SOUND)
    several = [value] if len(value) else _first(output, SOUNDS)
    arrays = [_array(sound) for sound in several]
    return [array.reshape(-1, array.shape[-1]).astype("float32") for array in arrays if array.size]


def _audio(array: Any, rate: int | None) -> Audio:
    if rate is None:
        raise RuntimeError("nothing in this pipeline tells the sample rate of its sound")
    _check(array)
    return Audio(array, rate)


def _check(array: Any) -> None:
    if not np.isfinite(array).all():
        raise NotFinite(f"the pipeline made NaN or infinity in the place of numbers; {ADVICE}")


def _actions(output: Any) -> list[Any]:
    value = _first(output, _ACTIONS)
    if getattr(value, "ndim", 0) == 2:
        value = [value]
    arrays = [_array(action).astype("float32") for action in value]
    return [array for array in arrays if array.size]


def _array(value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


def _others(output: Any) -> Iterator[Custom]:
    fields = output if isinstance(output, Mapping) else {}
    for name, value in fields.items():
        if name not in _MADE and value is not None:
            plain = _plain(value)
            if plain is not None:
                yield Custom(name, plain)


def _plain(value: Any) -> Any:
    """An array, or a tree of plain values; None for what is empty, and what is neither."""
    if hasattr(value, "detach") or isinstance(value, np.ndarray):
        array = _array(value)
        return array if array.size and array.dtype.kind in "biuf" else None
    count = [0]
    return value if value not in ("", [], (), {}) and _is_plain(value, count) else None


def _is_plain(value: Any, count: list[int]) -> bool:
    count[0] += 1
    if count[0] > _MOST_VALUES:
        return False
    if isinstance(value, list | tuple):
        return all(_is_plain(item, count) for item in value)
    return isinstance(value, _PLAIN)


def _check_size(sample: Sample, params: dict[str, Any]) -> None:
    match sample:
        case Image():
            made = sample.pixels.size
        case Video():
            made = sample.frames[0].size
        case _:
            return
    asked = (params.get("width") or made[0], params.get("height") or made[1])
    # what enlarges is told the size of what it gets
    if made[0] % asked[0] or made[1] % asked[1]:
        words = "this model makes {}x{} where {}x{} is asked for".format(*made, *asked)
        raise BadInput(words, "size")
