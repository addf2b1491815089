"""EasyAnimate."""

import diffusers
from diffusers import (
    AutoencoderKLMagvit,
    DiffusionPipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)

from tests.conformance.case import Absent, Case
from tests.conformance.parts.footage import BOTH
from tests.support.model_parts import byte_tokenizer, qwen_vl


def easyanimate(name: str) -> DiffusionPipeline:
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=16,
        num_layers=1,
        sample_width=16,
        sample_height=16,
        patch_size=2,
    )
    down, up = "SpatialTemporalDownBlock3D", "SpatialTemporalUpBlock3D"
    vae = AutoencoderKLMagvit(
        latent_channels=4,
        down_block_types=("SpatialDownBlock3D", down, down, down),
        up_block_types=("SpatialUpBlock3D", up, up, up),
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    )
    return getattr(diffusers, name)(
        vae=vae,
        text_encoder=qwen_vl(),
        tokenizer=byte_tokenizer(256),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


CASES = [
    Case(
        "EasyAnimatePipeline",
        "text to video",
        lambda: easyanimate("EasyAnimatePipeline"),
        lambda: BOTH,
    ),
]
ABSENT = [
    Absent(
        "EasyAnimateControlPipeline",
        "it calls its encode_prompt with the argument text_encoder_index, which that has not",
    ),
    Absent(
        "EasyAnimateInpaintPipeline",
        "it reads cache_mag_vae in the config of its VAE as soon as there is a mask, and "
        "AutoencoderKLMagvit has no such setting",
    ),
]
