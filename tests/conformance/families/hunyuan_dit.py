"""HunyuanDiT, its ControlNet, and perturbed attention."""

from typing import Any

import diffusers
from diffusers import DDPMScheduler, HunyuanDiT2DControlNetModel, HunyuanDiT2DModel

from tests.conformance.case import Case
from tests.conformance.parts.pictures import picture
from tests.conformance.parts.texts import bert
from tests.conformance.parts.weights import awaken
from tests.support.model_parts import byte_tokenizer, t5, vae

TEXT = {
    "prompt": "a small dog",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
    "use_resolution_binning": False,
}

_SHAPE: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "hidden_size": 16,
    "cross_attention_dim": 32,
    "cross_attention_dim_t5": 32,
    "pooled_projection_dim": 16,
    "activation_fn": "gelu-approximate",
    "text_len": 77,
    "text_len_t5": 256,
}


def hunyuan_dit(kind: str, **more: Any) -> Any:
    """A pipeline of that class."""
    return getattr(diffusers, kind)(
        vae=vae(),
        text_encoder=bert(),
        tokenizer=byte_tokenizer(77),
        text_encoder_2=t5(),
        tokenizer_2=byte_tokenizer(256),
        transformer=HunyuanDiT2DModel(**_SHAPE, num_layers=2),
        scheduler=DDPMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **more,
    )


def controlnet() -> Any:
    return awaken(HunyuanDiT2DControlNetModel(**_SHAPE, transformer_num_layers=2))


CASES = [
    Case(
        "HunyuanDiTPipeline",
        "text to image",
        lambda: hunyuan_dit("HunyuanDiTPipeline"),
        lambda: TEXT,
    ),
    Case(
        "HunyuanDiTControlNetPipeline",
        "control image",
        lambda: hunyuan_dit("HunyuanDiTControlNetPipeline", controlnet=controlnet()),
        lambda: {**TEXT, "control_image": picture(1)},
    ),
    Case(
        "HunyuanDiTPAGPipeline",
        "text to image",
        lambda: hunyuan_dit("HunyuanDiTPAGPipeline", pag_applied_layers=["blocks.1"]),
        lambda: {**TEXT, "pag_scale": 2.0},
    ),
]
