"""Ovis-Image and LongCat-Image: both like Flux, with language models that read the text."""

from typing import Any

import diffusers
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    LongCatImageTransformer2DModel,
    OvisImageTransformer2DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.autoencoders import deep, kl
from tests.conformance.parts.pictures import picture
from tests.conformance.parts.processors import qwen_processor, vision_tokenizer
from tests.conformance.parts.texts import qwen2_5_vl
from tests.support.model_parts import qwen3, vae

TEXT = {
    "prompt": 'a red circle, "round"',
    "negative_prompt": "blue",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}

_SHAPE: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "axes_dims_rope": (4, 4, 8),
}


def ovis() -> Any:
    return diffusers.OvisImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(shift_factor=0.1, scaling_factor=1.5),
        text_encoder=qwen3(),
        tokenizer=vision_tokenizer(512),
        transformer=OvisImageTransformer2DModel(**_SHAPE, out_channels=16, joint_attention_dim=32),
    )


def longcat(kind: str, megapixel: bool = False) -> Any:
    """A pipeline of that class. `megapixel`: that is what it makes of a picture."""
    return getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=deep(latent_channels=16) if megapixel else kl(latent_channels=16),
        text_encoder=qwen2_5_vl(),
        tokenizer=vision_tokenizer(1024),
        text_processor=qwen_processor("Qwen2VLProcessor"),
        transformer=LongCatImageTransformer2DModel(
            **{**_SHAPE, "in_channels": 64}, joint_attention_dim=16, pooled_projection_dim=16
        ),
    )


CASES = [
    Case("OvisImagePipeline", "text to image", ovis, lambda: TEXT),
    Case(
        "LongCatImagePipeline",
        "text to image",
        lambda: longcat("LongCatImagePipeline"),
        lambda: {**TEXT, "enable_prompt_rewrite": False},
    ),
    Case(
        "LongCatImageEditPipeline",
        "edit",
        lambda: longcat("LongCatImageEditPipeline", megapixel=True),
        lambda: {
            "prompt": "make it red",
            "negative_prompt": "",
            "image": picture(),
            "num_inference_steps": 2,
        },
        quirk="makes a megapixel, whatever the size of the picture",
    ),
]
