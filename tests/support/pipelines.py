"""Tiny random pipelines in the ordinary folder format, made here: no hub, a second each.

    folder = build("flux", tmp_path / "flux")
    call = PARAMS["flux"]            # what suits its size: the pipeline's own keyword arguments

The weights are random, so the pictures are noise; what matters is that they are the same noise.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from tests.support import image_pipelines, video_pipelines

_IMAGE = {"prompt": "a red circle", "height": 32, "width": 32, "num_inference_steps": 3}
_VIDEO = {**_IMAGE, "num_frames": 9, "negative_prompt": "blurry"}

# what to ask each of them for
PARAMS: dict[str, dict[str, Any]] = {
    "flux": {**_IMAGE, "max_sequence_length": 32},
    "qwenimage": {**_IMAGE, "negative_prompt": "blurry", "true_cfg_scale": 3.0},
    "sd15": {**_IMAGE, "negative_prompt": "blurry"},
    "sd15_ancestral": _IMAGE,
    "sdxl": {**_IMAGE, "negative_prompt": "blurry"},
    "sd3": {**_IMAGE, "negative_prompt": "blurry", "max_sequence_length": 32},
    "flux2_klein": {**_IMAGE, "max_sequence_length": 64},
    "wan": {**_VIDEO, "max_sequence_length": 32},
    "wan22": {**_VIDEO, "max_sequence_length": 32},
    "ltx": {**_VIDEO, "frame_rate": 24, "max_sequence_length": 32},
    "ltx2": {**_VIDEO, "num_frames": 5, "frame_rate": 25.0, "max_sequence_length": 32},
    "zimage": {**_IMAGE, "guidance_scale": 3.0, "max_sequence_length": 64},
    "pixart": {**_IMAGE, "use_resolution_binning": False, "clean_caption": False},
    "lcm": _IMAGE,
    "animatediff": {**_VIDEO, "num_frames": 4, "decode_chunk_size": 3},
    "stable_audio": {"prompt": "a bell", "audio_end_in_s": 2.0, "num_inference_steps": 3},
    "ddim": {"num_inference_steps": 3},
}
UNSPLITTABLE = {"ddim"}


def builder(name: str) -> Callable[[], DiffusionPipeline]:
    """What makes the pipeline of that name, its weights from torch's global generator."""
    found = getattr(image_pipelines, name, None) or getattr(video_pipelines, name)
    return found  # type: ignore[no-any-return]


def build(name: str, folder: Path, dtype: torch.dtype = torch.float32, seed: int = 0) -> Path:
    """Makes the pipeline of that name, with the same weights for the same seed, and saves it."""
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        pipeline = builder(name)()
    finally:
        torch.set_rng_state(before)
    if dtype != torch.float32:
        pipeline.to(dtype)
    pipeline.save_pretrained(folder)
    return folder
