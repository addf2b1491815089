"""The plain pipeline beside a case: what a user of diffusers calls, and what he gets."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from roles.split.decoding.outputs import output_type
from roles.split.describe import modality
from tests.support.splitting import Arrays

SOUNDS = ("audio", "audios", "sound")
FILMS = ("frames", "video", "videos")
MADE = {"image", "images", "action", "actions", *SOUNDS, *FILMS}  # the rest are notes about it


def load(kind: Any, folder: Path, dtype: str) -> Any:
    pipeline = kind.from_pretrained(folder, dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def made_by(pipeline: Any, arguments: Mapping[str, Any], seed: int) -> Arrays:
    """All pictures, frames and sounds that it makes."""
    known = inspect.signature(type(pipeline).__call__).parameters
    given = dict(arguments)
    if "generator" in known:
        given["generator"] = torch.Generator("cpu").manual_seed(seed)
    if modality(pipeline) != "audio" and (shown := output_type(pipeline)):
        given.setdefault("output_type", shown)
    torch.manual_seed(seed)  # some draw from the global generator
    output = pipeline(**given)
    fields = {name: output[name] for name in output.keys()}  # noqa: SIM118
    made = {name: value for name, value in fields.items() if name in MADE}
    return [each for name, value in (made or fields).items() for each in _read(name, value)]


def _read(name: str, value: Any) -> Iterator[Any]:
    """The arrays of one field. Some give numbers between 0 and 1 for pictures, whatever they are
    asked for; of sounds, which come in many shapes, each is `[channels, samples]`;
    films of numbers are frames of bytes, as nobody can look at anything else."""
    if name == "images" and isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = VaeImageProcessor.numpy_to_pil(value)
    for array in _arrays(value):
        if name in SOUNDS:
            each = array if array.ndim > 1 else array[None]
            yield from (sound.reshape(-1, sound.shape[-1]) for sound in each)
        elif name in FILMS and array.ndim == 5:
            seen = (np.clip(array, 0, 1) * 255).round().astype("uint8")
            yield from seen.reshape(-1, *array.shape[2:])
        else:
            yield array


def arrays(value: Any) -> Arrays:
    """All arrays in what a pipeline gave, in order."""
    return list(_arrays(value))


def _arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value.float().cpu().numpy()
    elif isinstance(value, (Image.Image, np.ndarray)):
        yield np.asarray(value)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _arrays(one)
