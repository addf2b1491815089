"""Bria, Fibo and its editing."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import (
    AutoencoderKLWan,
    BriaFiboTransformer2DModel,
    BriaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
)

from tests.conformance.case import Case
from tests.conformance.parts.pictures import mask, picture
from tests.conformance.parts.texts import language_model
from tests.support.model_parts import byte_tokenizer, t5, vae

TEXT = {
    "prompt": "a red circle",
    "negative_prompt": "blue",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}
EDIT = {**TEXT, "prompt": '{"text": "a circle", "edit_instruction": "make it red"}'}

_SHAPE: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "pooled_projection_dim": None,
    "axes_dims_rope": [0, 4, 4],
}


def bria() -> Any:
    return diffusers.BriaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(),
        text_encoder=t5(),
        tokenizer=byte_tokenizer(512),
        transformer=BriaTransformer2DModel(**_SHAPE, joint_attention_dim=32),
    )


def fibo(kind: str) -> Any:
    """A pipeline of that class. Its VAE has factor 16, of which 2 are patches."""
    vae = AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        dim_mult=[1, 2, 2, 2],
        in_channels=12,
        out_channels=12,
        is_residual=True,
        num_res_blocks=1,
        patch_size=2,
        scale_factor_spatial=16,
        temperal_downsample=[False, True, True],
        z_dim=16,
    )
    return getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=language_model(hf.SmolLM3Config, hf.SmolLM3ForCausalLM),
        tokenizer=byte_tokenizer(512),
        transformer=BriaFiboTransformer2DModel(
            **_SHAPE, joint_attention_dim=64, text_encoder_dim=32
        ),
    )


CASES = [
    Case("BriaPipeline", "text to image", bria, lambda: {**TEXT, "max_sequence_length": 48}),
    Case("BriaFiboPipeline", "text to image", lambda: fibo("BriaFiboPipeline"), lambda: TEXT),
    Case(
        "BriaFiboEditPipeline",
        "edit",
        lambda: fibo("BriaFiboEditPipeline"),
        lambda: {**EDIT, "image": picture()},
    ),
    Case(
        "BriaFiboEditPipeline",
        "edit with a mask",
        lambda: fibo("BriaFiboEditPipeline"),
        lambda: {**EDIT, "image": picture(), "mask": mask()},
    ),
]
