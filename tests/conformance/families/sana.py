"""Sana, its ControlNet, Sprint, and perturbed attention."""

from typing import Any

import diffusers
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaControlNetModel,
    SanaTransformer2DModel,
    SCMScheduler,
)

from tests.conformance.case import Case
from tests.conformance.parts.pictures import picture
from tests.conformance.parts.texts import gemma2
from tests.conformance.parts.weights import awaken
from tests.support.model_parts import byte_tokenizer

TEXT = {
    "prompt": "a small dog",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
    "use_resolution_binning": False,
    "complex_human_instruction": None,
}
SPRINT = {**TEXT, "num_inference_steps": 2}

_SHAPE: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 4,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 4,
    "cross_attention_dim": 8,
    "caption_channels": 32,
    "sample_size": 32,
}


def deep_autoencoder() -> AutoencoderDC:
    """Factor 4, four latent channels."""
    return AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )


def sana(kind: str, scheduler: Any = None, config: Any = (), **more: Any) -> Any:
    """A pipeline of that class."""
    return getattr(diffusers, kind)(
        tokenizer=byte_tokenizer(512),
        text_encoder=gemma2(),
        vae=deep_autoencoder(),
        transformer=SanaTransformer2DModel(**_SHAPE, num_layers=2, **dict(config)),
        scheduler=scheduler
        or DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        **more,
    )


def sprint(kind: str) -> Any:
    config = {
        "guidance_embeds": True,
        "guidance_embeds_scale": 0.1,
        "qk_norm": "rms_norm_across_heads",
    }
    return sana(kind, SCMScheduler(prediction_type="trigflow", sigma_data=0.5), config)


CASES = [
    Case("SanaPipeline", "text to image", lambda: sana("SanaPipeline"), lambda: TEXT),
    Case(
        "SanaControlNetPipeline",
        "control image",
        lambda: sana(
            "SanaControlNetPipeline",
            controlnet=awaken(SanaControlNetModel(**_SHAPE, num_layers=1)),
        ),
        lambda: {**TEXT, "control_image": picture(1)},
    ),
    Case(
        "SanaSprintPipeline",
        "text to image",
        lambda: sprint("SanaSprintPipeline"),
        lambda: SPRINT,
    ),
    Case(
        "SanaSprintImg2ImgPipeline",
        "image to image",
        lambda: sprint("SanaSprintImg2ImgPipeline"),
        lambda: {**SPRINT, "image": picture(), "strength": 0.6},
    ),
    Case(
        "SanaPAGPipeline",
        "text to image",
        lambda: sana("SanaPAGPipeline", pag_applied_layers=["transformer_blocks.1"]),
        lambda: {**TEXT, "pag_scale": 2.0},
    ),
]
