"""Frames and samples per second of what a pipeline makes, from what the pipeline itself says."""

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from roles.split.request.inputs import Argument
from transfer.made import RateFrom

FPS_ARGUMENTS = ("fps", "frame_rate")
_RATES = ("sampling_rate", "output_sampling_rate", "sample_rate", "audio_sampling_rate")
_SOUND_PARTS = ("vocoder", "vae", "audio_vae", "sound_tokenizer")  # what makes it comes first
_EXPORT = re.compile(r"export_to_\w+\([^\n]*?\bfps=(\d+(?:\.\d+)?)")
_TEMPORAL = (
    "vae_scale_factor_temporal",
    "vae_temporal_compression_ratio",
    "vae_scale_factor_time",
    "temporal_compression_ratio",
)


class Fps(NamedTuple):
    value: float
    said_by: RateFrom


def fps_of(pipeline: Any, arguments: Mapping[str, Argument]) -> Fps:
    """Of a video whose request says nothing: the default of the pipeline's argument, or what it
    says of itself, else what its own example in diffusers writes its file with, else diffusers'
    default for files."""
    for name in FPS_ARGUMENTS:
        if name in arguments and arguments[name].default:
            return Fps(float(arguments[name].default), "pipeline")
    if isinstance(always := getattr(pipeline, "fps", None), int | float):
        return Fps(float(always), "pipeline")
    example = _EXPORT.search(type(pipeline).__call__.__doc__ or "")
    if example:
        return Fps(float(example[1]), "example")
    return Fps(_file_default(), "assumed")


def asked_fps(params: Mapping[str, Any], of_file: float | None, otherwise: Fps) -> Fps:
    """Of one request. `of_file`: what it asks for where its pipeline has no argument for it.
    `otherwise`: what `fps_of` says."""
    given = next((params[name] for name in FPS_ARGUMENTS if params.get(name)), of_file)
    return Fps(float(given), "request") if given else otherwise


def sample_rate(pipeline: Any) -> int | None:
    """Samples per second of the sound that a pipeline makes, in Hz, by the config of its vocoder,
    VAE, or whichever component has one; None if none tells."""
    components = dict(getattr(pipeline, "components", None) or vars(pipeline))
    names = [n for n in _SOUND_PARTS if n in components]
    for name in dict.fromkeys((*names, *components)):
        for rate in _RATES:
            if isinstance(found := _setting(components[name], rate), int) and found > 0:
                return found
    return None


def frames_step(pipeline: Any) -> int:
    """A video has a multiple of so many frames, and one: what a latent frame stands for."""
    found = (getattr(pipeline, name, None) for name in _TEMPORAL)
    return next((int(step) for step in found if isinstance(step, int) and step > 0), 1)


def _setting(part: Any, name: str) -> Any:
    """A component's config is a dict in diffusers, an object in transformers."""
    config = getattr(part, "config", None)
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def _file_default() -> float:
    from diffusers.utils.export_utils import export_to_video

    return float(inspect.signature(export_to_video).parameters["fps"].default)
