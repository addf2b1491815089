"""Stable Diffusion 3, its ControlNets, and perturbed attention."""

from typing import Any

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler, SD3ControlNetModel, SD3Transformer2DModel

from tests.conformance.case import Case
from tests.conformance.parts.autoencoders import kl
from tests.conformance.parts.pictures import mask, picture
from tests.conformance.parts.weights import awaken
from tests.support.model_parts import byte_tokenizer, clip, clip_tokenizer, t5

TEXT = {"prompt": "a cat", "height": 32, "width": 32, "num_inference_steps": 3}
REDRAWN = {**TEXT, "num_inference_steps": 4, "strength": 0.7}

_SHAPE: dict[str, Any] = {
    "sample_size": 32,
    "patch_size": 2,
    "in_channels": 4,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "caption_projection_dim": 32,
    "joint_attention_dim": 64,
    "pooled_projection_dim": 64,
    "out_channels": 4,
}


def sd3(kind: str, channels: int = 4, **more: Any) -> Any:
    """A pipeline of that class, with so many latent channels; the transformer has two blocks, of
    which one is dual as in 3.5."""
    shape = {**_SHAPE, "in_channels": channels, "out_channels": channels}
    transformer = SD3Transformer2DModel(
        **shape, num_layers=2, dual_attention_layers=(0,), qk_norm="rms_norm"
    )
    return getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=kl(latent_channels=channels),
        text_encoder=clip(projected=True),
        text_encoder_2=clip(projected=True),
        text_encoder_3=t5(64),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=byte_tokenizer(512),
        transformer=transformer,
        **more,
    )


def controlled(kind: str, **config: Any) -> Any:
    return sd3(kind, controlnet=awaken(SD3ControlNetModel(**_SHAPE, num_layers=1, **config)))


CASES = [
    Case(
        "StableDiffusion3Pipeline",
        "text to image",
        lambda: sd3("StableDiffusion3Pipeline"),
        lambda: TEXT,
    ),
    Case(
        "StableDiffusion3Img2ImgPipeline",
        "image to image",
        lambda: sd3("StableDiffusion3Img2ImgPipeline"),
        lambda: {**REDRAWN, "image": picture()},
    ),
    Case(
        "StableDiffusion3InpaintPipeline",
        "inpainting",
        lambda: sd3("StableDiffusion3InpaintPipeline", channels=16),
        lambda: {**REDRAWN, "image": picture(), "mask_image": mask()},
    ),
    Case(
        "StableDiffusion3ControlNetPipeline",
        "control image",
        lambda: controlled("StableDiffusion3ControlNetPipeline"),
        lambda: {**TEXT, "control_image": picture(1)},
    ),
    Case(
        "StableDiffusion3ControlNetInpaintingPipeline",
        "inpainting with a control image",
        lambda: controlled(
            "StableDiffusion3ControlNetInpaintingPipeline", extra_conditioning_channels=1
        ),
        lambda: {**TEXT, "control_image": picture(), "control_mask": mask()},
    ),
    Case(
        "StableDiffusion3PAGPipeline",
        "text to image",
        lambda: sd3("StableDiffusion3PAGPipeline", pag_applied_layers=["1"]),
        lambda: {**TEXT, "pag_scale": 2.0},
    ),
    Case(
        "StableDiffusion3PAGImg2ImgPipeline",
        "image to image",
        lambda: sd3("StableDiffusion3PAGImg2ImgPipeline", pag_applied_layers=["1"]),
        lambda: {**REDRAWN, "image": picture(), "pag_scale": 2.0},
    ),
]
