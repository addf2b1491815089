"""Bria, Fibo and Fibo 2, with editing."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import (
    AutoencoderKLWan,
    BriaFibo2Transformer2DModel,
    BriaFiboTransformer2DModel,
    BriaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
)

from tests.conformance.case import Case
from tests.conformance.families import flux2
from tests.conformance.parts.pictures import mask, picture
from tests.conformance.parts.processors import qwen_processor
from tests.conformance.parts.texts import language_model, qwen3_vl
from tests.conformance.parts.weights import awaken
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


def fibo2() -> Any:
    transformer = BriaFibo2Transformer2DModel(
        in_channels=4,
        patch_size=2,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=48,
        injection_layer_ids=(1,),
        perceiver_num_layers=1,
        min_num_gist_tokens=4,
        max_num_gist_tokens=8,
        gist_step=4,
        gist_min_text_len=4,
        gist_max_text_len=16,
        axes_dims=(4, 6, 6),
        axes_lens=(64, 64, 64),
    )
    return diffusers.BriaFibo2Pipeline(
        transformer=awaken(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=flux2.vae(),
        text_encoder=qwen3_vl(layers=36),
        processor=qwen_processor("Qwen3VLProcessor"),
    )


CASES = [
    Case("BriaFibo2Pipeline", "text to image", fibo2, lambda: TEXT),
    Case(
        "BriaFibo2Pipeline",
        "edit",
        fibo2,
        lambda: {**TEXT, "prompt": "make it red", "image": picture()},
    ),
    Case(
        "BriaFibo2Pipeline",
        "edit with a mask",
        fibo2,
        lambda: {**TEXT, "prompt": "make it red", "image": picture(), "mask": mask()},
    ),
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
