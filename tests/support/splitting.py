"""Driving split models as a rank does, and the plain pipeline beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from roles.samples import Actions, Audio, Custom, Image, Sample, Video
from roles.split.program import Call, Denoising, Program
from transfer.messages import Inputs
from transfer.payload import pack, unpack

Arrays = list[np.ndarray[Any, Any]]


def call(params: dict[str, Any], seed: int = 0, request: str = "r", exact: bool = False) -> Call:
    return Call(request, Inputs(params=params, seed=seed, exact=exact))


def drive(denoising: Denoising) -> Any:
    """Runs a denoising to its end, each forward alone."""
    denoising.start()
    while not denoising.done:
        assert denoising.pending
        denoising.resume([call.run() for call in denoising.pending])
    return denoising.result()


def cross(value: Any) -> Any:
    """The value after it has been packed, written, and read elsewhere."""
    packed = pack(value)
    memory = memoryview(bytearray(packed.nbytes))
    checksum = packed.write([memory])
    return unpack([memory], packed.nbytes, checksum)


def through_roles(
    encoder: Program, denoiser: Program, decoder: Program, request: Call
) -> list[Sample]:
    records = cross(encoder.encode(request))
    latents = cross(drive(denoiser.denoise(request, records)))
    return decoder.decode(request, latents)


def plain(
    folder: Path, params: dict[str, Any], seed: int = 0, dtype: str = "auto", **given: Any
) -> Arrays:
    """What a diffusers user gets: pictures or frames, then sounds. `given`: to
    `from_pretrained`."""
    options = {} if dtype == "auto" else {"dtype": getattr(torch, dtype)}
    return drawn(DiffusionPipeline.from_pretrained(folder, **options, **given), params, seed)


def drawn(pipeline: Any, params: dict[str, Any], seed: int = 0) -> Arrays:
    """What a plain pipeline makes."""
    pipeline.set_progress_bar_config(disable=True)
    pictures = {} if "audio_end_in_s" in params else {"output_type": "pil"}
    output = pipeline(**params, **pictures, generator=torch.Generator("cpu").manual_seed(seed))
    found = list(output.get("images", ())) + list(*output.get("frames", ()))
    sounds = [*output.get("audios", ()), *output.get("audio", ())]
    return [np.asarray(each) for each in found] + [each.float().numpy() for each in sounds]


def arrays(samples: list[Sample]) -> Arrays:
    """All pictures, frames, sounds and other arrays in some samples, in order."""
    found: Arrays = []
    for sample in samples:
        match sample:
            case Image(pixels):
                found.append(np.asarray(pixels))
            case Video(frames, sound=sound):
                found += map(np.asarray, frames)
                found += [sound.array] if sound is not None else []
            case Audio(array) | Actions(array) | Custom(value=np.ndarray() as array):
                found.append(array)
    return found


def same(one: Arrays, other: Arrays) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))
