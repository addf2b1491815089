"""Modular pipelines of families that have a classic form too, from the parts of that."""

from functools import partial

import numpy as np
from PIL import Image

from tests.conformance.case import Case
from tests.conformance.modular import of_classic
from tests.support import image_pipelines, video_pipelines

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (32, 32, 3), np.uint8))
TEXT = {"prompt": "a red circle", "height": 32, "width": 32, "num_inference_steps": 3}
NEGATIVE = {**TEXT, "negative_prompt": "blurry"}
FILM = {**NEGATIVE, "num_frames": 9, "max_sequence_length": 32}


def _case(pipeline, workflow, build, arguments):  # type: ignore[no-untyped-def]
    return Case(pipeline, workflow, of_classic(pipeline, build), partial(dict, arguments))


CASES = [
    _case(
        "FluxModularPipeline",
        "text to image",
        image_pipelines.flux,
        {**TEXT, "max_sequence_length": 32},
    ),
    _case(
        "Flux2KleinModularPipeline",
        "text to image",
        image_pipelines.flux2_klein,
        {**TEXT, "max_sequence_length": 64},
    ),
    _case("QwenImageModularPipeline", "text to image", image_pipelines.qwenimage, NEGATIVE),
    _case("StableDiffusionXLModularPipeline", "text to image", image_pipelines.sdxl, NEGATIVE),
    _case(
        "StableDiffusion3ModularPipeline",
        "text to image",
        image_pipelines.sd3,
        {**NEGATIVE, "max_sequence_length": 32},
    ),
    _case("ZImageModularPipeline", "text to image", image_pipelines.zimage, TEXT),
    _case(
        "ZImageModularPipeline",
        "text to image, guided",
        image_pipelines.zimage,
        {**NEGATIVE, "guidance_scale": 3.0},
    ),
    _case(
        "ZImageModularPipeline",
        "image to image",
        image_pipelines.zimage,
        {**TEXT, "image": PICTURE, "strength": 0.7},
    ),
    _case("WanModularPipeline", "text to video", video_pipelines.wan, FILM),
    _case("Wan22ModularPipeline", "text to video", video_pipelines.wan22, FILM),
    _case("LTXModularPipeline", "text to video", video_pipelines.ltx, {**FILM, "frame_rate": 24}),
    _case(
        "LTX2ModularPipeline",
        "text to video",
        video_pipelines.ltx2,
        {**FILM, "num_frames": 5, "frame_rate": 25.0},
    ),
]
