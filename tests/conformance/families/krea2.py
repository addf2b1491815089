"""Krea 2, Nucleus, Ernie and Ideogram 4: text from several layers of a language model."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import (
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Ideogram4Transformer2DModel,
    Krea2Transformer2DModel,
    NucleusMoEImageTransformer2DModel,
)
from diffusers.pipelines.ideogram4.pipeline_ideogram4 import QWEN3_VL_ACTIVATION_LAYERS

from tests.conformance.case import Case
from tests.conformance.families import flux2, qwenimage
from tests.conformance.parts.processors import qwen_processor, vision_tokenizer
from tests.conformance.parts.texts import language_model, qwen3_vl
from tests.conformance.parts.weights import awaken, fill

TEXT = {"prompt": "a red circle", "height": 32, "width": 32, "num_inference_steps": 3}
NEGATED = {**TEXT, "negative_prompt": "blue"}


def krea2() -> Any:
    return diffusers.Krea2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=qwenimage.vae(),
        text_encoder=qwen3_vl(kind=hf.Qwen3VLModel),
        tokenizer=vision_tokenizer(512),
        transformer=Krea2Transformer2DModel(
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=32,
            timestep_embed_dim=8,
            text_hidden_dim=16,
            num_text_layers=3,
            text_num_attention_heads=2,
            text_num_key_value_heads=1,
            text_intermediate_size=16,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 2, 2),
        ),
        text_encoder_select_layers=(0, 1, 2),
    )


def nucleus() -> Any:
    return diffusers.NucleusMoEImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=qwenimage.vae(),
        text_encoder=qwen3_vl(layers=8),
        processor=qwen_processor("Qwen3VLProcessor"),
        transformer=fill(
            NucleusMoEImageTransformer2DModel(
                patch_size=2,
                in_channels=16,
                out_channels=4,
                num_layers=5,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=16,
                axes_dims_rope=(8, 4, 4),
                num_experts=4,
                moe_intermediate_dim=16,
                capacity_factors=2.0,
            ),
            "gate_up_proj",
            "down_proj",
        ),
    )


def ernie() -> Any:
    return diffusers.ErnieImagePipeline(
        transformer=awaken(
            ErnieImageTransformer2DModel(
                hidden_size=32,
                num_attention_heads=2,
                num_layers=2,
                ffn_hidden_size=32,
                in_channels=16,
                out_channels=16,
                text_in_dim=32,
                rope_axes_dim=(4, 6, 6),
            )
        ),
        vae=flux2.vae(),
        text_encoder=language_model(hf.MistralConfig, hf.MistralModel),
        tokenizer=vision_tokenizer(512),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def ideogram4() -> Any:
    transformers = {
        name: Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            intermediate_size=32,
            adaln_dim=16,
            llm_features_dim=16 * len(QWEN3_VL_ACTIVATION_LAYERS),
            rope_theta=10_000,
            mrope_section=(2, 1, 1),
        )
        for name in ("transformer", "unconditional_transformer")
    }
    return diffusers.Ideogram4Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=flux2.vae(),
        text_encoder=qwen3_vl(max(QWEN3_VL_ACTIVATION_LAYERS) + 1, hf.Qwen3VLModel),
        tokenizer=vision_tokenizer(512),
        **transformers,
    )


CASES = [
    Case("Krea2Pipeline", "text to image", krea2, lambda: NEGATED),
    Case("NucleusMoEImagePipeline", "text to image", nucleus, lambda: NEGATED),
    Case("ErnieImagePipeline", "text to image", ernie, lambda: {**NEGATED, "use_pe": False}),
    Case(
        "Ideogram4Pipeline",
        "text to image",
        ideogram4,
        lambda: {
            **TEXT,
            "guidance_scale": 4.0,
            "guidance_schedule": None,
            "max_sequence_length": 256,
        },
    ),
]
