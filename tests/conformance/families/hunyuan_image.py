"""HunyuanImage 2.1 and its refiner."""

from typing import Any

import diffusers
from diffusers import (
    AdaptiveProjectedMixGuidance,
    AutoencoderKLHunyuanImage,
    AutoencoderKLHunyuanImageRefiner,
    FlowMatchEulerDiscreteScheduler,
    HunyuanImageTransformer2DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.pictures import picture
from tests.conformance.parts.processors import vision_tokenizer
from tests.conformance.parts.texts import qwen2_5_vl
from tests.support.model_parts import byte_tokenizer, t5

TEXT = {"prompt": 'a sign that says "open"', "height": 32, "width": 32}

_SHAPE: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": 16,
}


def hunyuan_image(distilled: bool = False) -> Any:
    """`distilled`: guidance is an input of the transformer."""
    guiders = {
        "guider": AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2),
        "ocr_guider": AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=3),
    }
    return diffusers.HunyuanImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        vae=AutoencoderKLHunyuanImage(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            block_out_channels=(32, 32, 32, 32),
            layers_per_block=1,
            scaling_factor=0.476986,
            spatial_compression_ratio=8,
            sample_size=128,
        ),
        text_encoder=qwen2_5_vl(),
        tokenizer=vision_tokenizer(2048),
        text_encoder_2=t5(),
        tokenizer_2=byte_tokenizer(128),
        transformer=HunyuanImageTransformer2DModel(
            **_SHAPE,
            in_channels=4,
            out_channels=4,
            patch_size=(1, 1),
            guidance_embeds=distilled,
            text_embed_2_dim=32,
            rope_axes_dim=(4, 4),
        ),
        **({} if distilled else guiders),
    )


def refiner() -> Any:
    """Takes the latents of the picture beside its own; two frames of them lie on each other."""
    return diffusers.HunyuanImageRefinerPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=4.0),
        vae=AutoencoderKLHunyuanImageRefiner(
            latent_channels=4,
            block_out_channels=(32, 32, 32, 32),
            layers_per_block=1,
            spatial_compression_ratio=8,
            temporal_compression_ratio=4,
        ),
        text_encoder=qwen2_5_vl(),
        tokenizer=vision_tokenizer(2048),
        transformer=HunyuanImageTransformer2DModel(
            **_SHAPE,
            in_channels=16,
            out_channels=8,
            patch_size=(1, 1, 1),
            guidance_embeds=True,
            rope_axes_dim=(2, 2, 4),
        ),
    )


CASES = [
    Case(
        "HunyuanImagePipeline",
        "text to image",
        hunyuan_image,
        lambda: {**TEXT, "num_inference_steps": 5},
    ),
    Case(
        "HunyuanImagePipeline",
        "text to image by a distilled model",
        lambda: hunyuan_image(distilled=True),
        lambda: {**TEXT, "num_inference_steps": 3, "distilled_guidance_scale": 3.5},
    ),
    Case(
        "HunyuanImageRefinerPipeline",
        "image to image",
        refiner,
        lambda: {**TEXT, "image": picture(), "num_inference_steps": 3},
    ),
]
