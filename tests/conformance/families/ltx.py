"""LTX."""

from typing import Any

import diffusers
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    LTXEulerAncestralRFScheduler,
    LTXLatentUpsamplePipeline,
)
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition

from tests.conformance.case import Case
from tests.conformance.parts.footage import BOTH, film, picture
from tests.support.video_pipelines import ltx as text_to_video


def ltx(name: str, **parts: Any) -> DiffusionPipeline:
    return getattr(diffusers, name)(**{**text_to_video().components, **parts})


def upsampler() -> DiffusionPipeline:
    grows = LTXLatentUpsamplerModel(in_channels=8, mid_channels=32, num_blocks_per_stage=1)
    return LTXLatentUpsamplePipeline(vae=text_to_video().vae, latent_upsampler=grows)


def condition() -> DiffusionPipeline:
    return ltx("LTXConditionPipeline", scheduler=FlowMatchEulerDiscreteScheduler())


def long() -> DiffusionPipeline:
    return ltx("LTXI2VLongMultiPromptPipeline", scheduler=LTXEulerAncestralRFScheduler())


def first() -> LTXVideoCondition:
    return LTXVideoCondition(image=picture(), frame_index=0)


def last() -> LTXVideoCondition:
    return LTXVideoCondition(image=picture(seed=1), frame_index=8, strength=0.9)


# the VAE halves four times
SHORT = {**BOTH, "num_frames": 9, "frame_rate": 24, "max_sequence_length": 32}
CASES = [
    Case("LTXPipeline", "text to video", text_to_video, lambda: SHORT),
    Case(
        "LTXPipeline",
        "text to video, noise before decoding",
        text_to_video,
        lambda: {**SHORT, "decode_timestep": 0.05, "decode_noise_scale": 0.025},
    ),
    Case(
        "LTXImageToVideoPipeline",
        "image to video",
        lambda: ltx("LTXImageToVideoPipeline"),
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "LTXConditionPipeline",
        "image to video",
        condition,
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "LTXConditionPipeline",
        "video to video",
        condition,
        lambda: {**SHORT, "video": film(9), "strength": 0.8, "denoise_strength": 0.9},
    ),
    Case(
        "LTXConditionPipeline",
        "first and last frame to video",
        condition,
        lambda: {**SHORT, "conditions": [first(), last()]},
    ),
    Case(
        "LTXI2VLongMultiPromptPipeline",
        "image to long video",
        long,
        lambda: {
            **SHORT,
            "num_frames": 33,
            "cond_image": picture(),
            "guidance_scale": 2.0,
            "temporal_tile_size": 24,
            "temporal_overlap": 8,
            "decode_horizontal_tiles": 1,
            "decode_vertical_tiles": 1,
        },
    ),
    Case(
        "LTXLatentUpsamplePipeline",
        "video to larger video",
        upsampler,
        lambda: {"video": film(9), "height": 32, "width": 32},
    ),
]
