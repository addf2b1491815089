"""LTX 2: videos with their sound."""

from typing import Any

import diffusers
import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    LTX2LatentUpsamplePipeline,
)
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition

from tests.conformance.case import Absent, Case
from tests.conformance.parts.footage import BOTH, film, picture
from tests.support.video_pipelines import ltx2 as text_to_video

# no parts: what one of them has as an option
OPTIONS = ("processor", "prompt_enhancer", "duration_head", "audio_scheduler")


def ltx2(name: str, **parts: Any) -> DiffusionPipeline:
    usual = text_to_video().components
    given = {part: module for part, module in usual.items() if part not in OPTIONS}
    return getattr(diffusers, name)(**{**given, **parts})


def keyframes(name: str, **parts: Any) -> DiffusionPipeline:
    """Its transformer knows which of its tokens are keyframes."""
    config = text_to_video().transformer.config
    transformer = diffusers.LTX2VideoTransformer3DModel(
        **{name: value for name, value in config.items() if not name.startswith("_")}
        | {"vae_scale_factors": (2, 2, 2), "use_keyframes_abs_pos_embedding": True}
    )
    torch.nn.init.normal_(transformer.keyframes_abs_pos_embedding, std=0.1)
    parts = {"scheduler": FlowMatchEulerDiscreteScheduler(), **parts}
    return ltx2(name, transformer=transformer, **parts)


def upsampler() -> DiffusionPipeline:
    grows = LTX2LatentUpsamplerModel(in_channels=4, mid_channels=32, num_blocks_per_stage=1)
    return LTX2LatentUpsamplePipeline(vae=text_to_video().vae, latent_upsampler=grows)


def first() -> LTX2VideoCondition:
    return LTX2VideoCondition(frames=picture(), index=0)


def last() -> LTX2VideoCondition:
    return LTX2VideoCondition(frames=picture(seed=1), index=-1, strength=0.9)


SHORT = {**BOTH, "frame_rate": 25.0, "max_sequence_length": 32}
STEADY = {**SHORT, "spatio_temporal_guidance_blocks": [1]}
CANVAS = {
    "prompt": "a red cat",
    "height": 32,
    "width": 32,
    "num_frames": 9,
    "frame_rate": 25.0,
    "sigmas": [1.0, 0.5],
    "use_cross_timestep": False,
    "max_sequence_length": 32,
}
CASES = [
    Case("LTX2Pipeline", "text to video with sound", text_to_video, lambda: SHORT),
    Case(
        "LTX2Pipeline",
        "text to video, some blocks skipped",
        text_to_video,
        lambda: {**STEADY, "stg_scale": 2.0, "guidance_scale": 2.0},
    ),
    Case(
        "LTX2ImageToVideoPipeline",
        "image to video",
        lambda: ltx2("LTX2ImageToVideoPipeline"),
        lambda: {**STEADY, "image": picture()},
    ),
    Case(
        "LTX2ConditionPipeline",
        "text to video",
        lambda: ltx2("LTX2ConditionPipeline"),
        lambda: STEADY,
    ),
    Case(
        "LTX2ConditionPipeline",
        "first and last frame to video",
        lambda: ltx2("LTX2ConditionPipeline"),
        lambda: {**STEADY, "conditions": [first(), last()]},
    ),
    Case(
        "LTX2InContextPipeline",
        "video to video by reference",
        lambda: ltx2("LTX2InContextPipeline"),
        lambda: {**STEADY, "reference_conditions": [LTX2ReferenceCondition(film(5), 0.8)]},
    ),
    Case(
        "LTX2InContextPipeline",
        "text to video",
        lambda: ltx2("LTX2InContextPipeline"),
        lambda: STEADY,
    ),
    Case(
        "LTX2HDRPipeline",
        "text to video",
        lambda: ltx2("LTX2HDRPipeline"),
        lambda: SHORT,
    ),
    Case(
        "LTX2DFRPipeline",
        "text to video by keyframes",
        lambda: keyframes("LTX2DFRPipeline"),
        lambda: CANVAS,
    ),
    Case(
        "LTX2LatentUpsamplePipeline",
        "video to larger video",
        upsampler,
        lambda: {"video": film(5), "height": 32, "width": 32, "num_frames": 5},
    ),
]
ABSENT = [
    Absent(
        "LTX2DFRTemporalRefinePipeline",
        "it goes on from the latents of another pipeline, which no request can bring",
    ),
    Absent(
        "LTX2VideoDiffusionDecodePipeline",
        "it decodes the latents of another pipeline, which no request can bring",
    ),
]
