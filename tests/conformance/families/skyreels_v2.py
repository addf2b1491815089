"""SkyReels 2: the whole film at once, or a chunk after the other."""

from typing import Any

import diffusers
from diffusers import DiffusionPipeline, SkyReelsV2Transformer3DModel, UniPCMultistepScheduler

from tests.conformance.case import Case
from tests.conformance.families.wan import SHORT, SIZES, text_parts
from tests.conformance.parts.footage import film, picture
from tests.conformance.parts.vision import clip_processor, clip_vision


def skyreels(name: str, transformer: Any = None, **parts: Any) -> DiffusionPipeline:
    scheduler = UniPCMultistepScheduler(flow_shift=8.0, use_flow_sigmas=True)
    transformer = transformer or SkyReelsV2Transformer3DModel(**SIZES)
    own = {"scheduler": scheduler, "transformer": transformer, **parts}
    return getattr(diffusers, name)(**{**text_parts(), **own})


def forcing(name: str) -> DiffusionPipeline:
    """Each frame has a timestep of its own."""
    transformer = SkyReelsV2Transformer3DModel(
        **SIZES, inject_sample_info=True, num_frame_per_block=1
    )
    return skyreels(f"SkyReelsV2DiffusionForcing{name}Pipeline", transformer)


def image_to_video() -> DiffusionPipeline:
    sizes = {**SIZES, "in_channels": 36, "image_dim": 16}
    eyes = {"image_encoder": clip_vision(projected=True), "image_processor": clip_processor()}
    return skyreels("SkyReelsV2ImageToVideoPipeline", SkyReelsV2Transformer3DModel(**sizes), **eyes)


LONG = {**SHORT, "num_frames": 13, "base_num_frames": 9, "overlap_history": 1}
CASES = [
    Case(
        "SkyReelsV2Pipeline",
        "text to video",
        lambda: skyreels("SkyReelsV2Pipeline"),
        lambda: SHORT,
    ),
    Case(
        "SkyReelsV2ImageToVideoPipeline",
        "image to video",
        image_to_video,
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "SkyReelsV2DiffusionForcingPipeline",
        "text to video",
        lambda: forcing(""),
        lambda: {**SHORT, "num_frames": 9, "base_num_frames": 9, "ar_step": 1},
    ),
    Case("SkyReelsV2DiffusionForcingPipeline", "long", lambda: forcing(""), lambda: LONG),
    Case(
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
        "image to video",
        lambda: forcing("ImageToVideo"),
        lambda: {**SHORT, "num_frames": 9, "image": picture(), "base_num_frames": 9},
    ),
    Case(
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        "video to video",
        lambda: forcing("VideoToVideo"),
        lambda: {**LONG, "num_frames": 17, "video": film(9)},
    ),
]
