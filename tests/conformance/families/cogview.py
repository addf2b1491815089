"""CogView 3 and 4."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import (
    CogVideoXDDIMScheduler,
    CogView3PlusTransformer2DModel,
    CogView4Transformer2DModel,
    FlowMatchEulerDiscreteScheduler,
)

from tests.conformance.case import Case
from tests.conformance.parts.pictures import picture
from tests.conformance.parts.texts import language_model
from tests.support.model_parts import byte_tokenizer, t5, vae

TEXT = {
    "prompt": "a small dog",
    "negative_prompt": "bad",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}

_SHAPE: dict[str, Any] = {
    "patch_size": 2,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "text_embed_dim": 32,
    "time_embed_dim": 8,
    "condition_dim": 4,
}


def cogview3() -> Any:
    return diffusers.CogView3PlusPipeline(
        tokenizer=byte_tokenizer(512),
        text_encoder=t5(),
        vae=vae(),
        transformer=CogView3PlusTransformer2DModel(
            **_SHAPE, in_channels=4, pos_embed_max_size=8, sample_size=8
        ),
        scheduler=CogVideoXDDIMScheduler(),
    )


def cogview4(kind: str, in_channels: int = 4) -> Any:
    """A pipeline of that class. `in_channels`: of the transformer, which gives 4 of them."""
    return getattr(diffusers, kind)(
        tokenizer=byte_tokenizer(512),
        text_encoder=language_model(hf.GlmConfig, hf.GlmModel),
        vae=vae(),
        transformer=CogView4Transformer2DModel(
            **_SHAPE, in_channels=in_channels, rope_axes_dim=(8, 8), sample_size=8
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(
            base_shift=0.25,
            max_shift=0.75,
            base_image_seq_len=256,
            use_dynamic_shifting=True,
            time_shift_type="linear",
        ),
    )


CASES = [
    Case("CogView3PlusPipeline", "text to image", cogview3, lambda: TEXT),
    Case("CogView4Pipeline", "text to image", lambda: cogview4("CogView4Pipeline"), lambda: TEXT),
    Case(
        "CogView4ControlPipeline",
        "control image",
        lambda: cogview4("CogView4ControlPipeline", 8),
        lambda: {**TEXT, "control_image": picture(1)},
    ),
]
