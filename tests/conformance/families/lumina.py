"""Lumina, Lumina 2, and AuraFlow."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import (
    AuraFlowTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.texts import gemma2, language_model
from tests.conformance.parts.weights import fill
from tests.support.model_parts import byte_tokenizer, t5, vae

TEXT = {
    "prompt": "a small dog",
    "negative_prompt": "bad",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}


def lumina() -> Any:
    return diffusers.LuminaPipeline(
        transformer=fill(
            LuminaNextDiT2DModel(
                sample_size=4,
                patch_size=2,
                in_channels=4,
                hidden_size=16,
                num_layers=2,
                num_attention_heads=2,
                num_kv_heads=1,
                multiple_of=16,
                cross_attention_dim=32,
            ),
            "pad_token",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(),
        text_encoder=language_model(hf.GemmaConfig, hf.GemmaModel),
        tokenizer=byte_tokenizer(256),
    )


def lumina2() -> Any:
    return diffusers.Lumina2Pipeline(
        transformer=Lumina2Transformer2DModel(
            sample_size=4,
            patch_size=2,
            in_channels=4,
            hidden_size=16,
            num_layers=2,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(4, 2, 2),
            axes_lens=(512, 64, 64),
            cap_feat_dim=32,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.06, scaling_factor=1.5),
        text_encoder=gemma2(),
        tokenizer=byte_tokenizer(256),
    )


def aura_flow() -> Any:
    return diffusers.AuraFlowPipeline(
        transformer=AuraFlowTransformer2DModel(
            sample_size=32,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            out_channels=4,
            pos_embed_max_size=256,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(),
        text_encoder=t5(umt5=True),
        tokenizer=byte_tokenizer(256),
    )


CASES = [
    Case("LuminaPipeline", "text to image", lumina, lambda: TEXT),
    Case("Lumina2Pipeline", "text to image", lumina2, lambda: TEXT),
    Case("AuraFlowPipeline", "text to image", aura_flow, lambda: TEXT),
]
