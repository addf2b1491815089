"""Flux and what was made of it."""

from typing import Any

import diffusers
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxTransformer2DModel,
)
from diffusers.pipelines.flux import ReduxImageEncoder

from tests.conformance.case import Case
from tests.conformance.parts.autoencoders import deep
from tests.conformance.parts.pictures import mask, picture
from tests.conformance.parts.visions import siglip
from tests.conformance.parts.weights import awaken
from tests.support.model_parts import byte_tokenizer, clip, clip_tokenizer, t5, vae

TEXT = {"prompt": "a red circle", "num_inference_steps": 3, "max_sequence_length": 32}
SIZED = {**TEXT, "height": 32, "width": 32}
EDIT = {**TEXT, "num_inference_steps": 2}
REDRAWN = {**SIZED, "num_inference_steps": 4, "strength": 0.7}

_SHAPE: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "axes_dims_rope": (4, 4, 8),
}


def texts() -> dict[str, Any]:
    """CLIP's and T5's encoders, with their tokenizers."""
    return {
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": byte_tokenizer(512),
    }


def flux(
    kind: str, in_channels: int = 16, guidance: bool = False, megapixel: bool = False, **more: Any
) -> Any:
    """A pipeline of that class. `in_channels`: of the transformer, which gives 16 of them;
    `megapixel`: that is what it makes of a picture."""
    transformer = FluxTransformer2DModel(
        **{**_SHAPE, "in_channels": in_channels},
        out_channels=16,
        guidance_embeds=guidance,
    )
    return getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=deep() if megapixel else vae(shift_factor=0.1, scaling_factor=1.5),
        transformer=transformer,
        **texts(),
        **more,
    )


def controlled(kind: str) -> DiffusionPipeline:
    return flux(kind, controlnet=awaken(FluxControlNetModel(**_SHAPE)))


def redux() -> DiffusionPipeline:
    embedder = ReduxImageEncoder(redux_dim=16, txt_in_features=32)
    return diffusers.FluxPriorReduxPipeline(image_embedder=embedder, **siglip(), **texts())


CASES = [
    Case("FluxPipeline", "text to image", lambda: flux("FluxPipeline"), lambda: SIZED),
    Case(
        "FluxPipeline",
        "text to image with true guidance",
        lambda: flux("FluxPipeline", guidance=True),
        lambda: {**SIZED, "negative_prompt": "blue", "true_cfg_scale": 3.0},
    ),
    Case(
        "FluxImg2ImgPipeline",
        "image to image",
        lambda: flux("FluxImg2ImgPipeline"),
        lambda: {**REDRAWN, "image": picture()},
    ),
    Case(
        "FluxInpaintPipeline",
        "inpainting",
        lambda: flux("FluxInpaintPipeline"),
        lambda: {**REDRAWN, "image": picture(), "mask_image": mask()},
    ),
    Case(
        "FluxFillPipeline",
        "inpainting",
        lambda: flux("FluxFillPipeline", 16 + 16 + 256, guidance=True),
        lambda: {**SIZED, "image": picture(), "mask_image": mask()},
    ),
    Case(
        "FluxControlPipeline",
        "control image",
        lambda: flux("FluxControlPipeline", 32, guidance=True),
        lambda: {**SIZED, "control_image": picture(1)},
    ),
    Case(
        "FluxControlImg2ImgPipeline",
        "image to image with a control image",
        lambda: flux("FluxControlImg2ImgPipeline", 32),
        lambda: {**REDRAWN, "image": picture(), "control_image": picture(1)},
    ),
    Case(
        "FluxControlInpaintPipeline",
        "inpainting with a control image",
        lambda: flux("FluxControlInpaintPipeline", 32),
        lambda: {
            **REDRAWN,
            "image": picture(),
            "mask_image": mask(),
            "control_image": picture(1),
        },
    ),
    Case(
        "FluxControlNetPipeline",
        "control image",
        lambda: controlled("FluxControlNetPipeline"),
        lambda: {**SIZED, "control_image": picture(1)},
    ),
    Case(
        "FluxControlNetImg2ImgPipeline",
        "image to image with a control image",
        lambda: controlled("FluxControlNetImg2ImgPipeline"),
        lambda: {**REDRAWN, "image": picture(), "control_image": picture(1)},
    ),
    Case(
        "FluxControlNetInpaintPipeline",
        "inpainting with a control image",
        lambda: controlled("FluxControlNetInpaintPipeline"),
        lambda: {
            **REDRAWN,
            "image": picture(),
            "mask_image": mask(),
            "control_image": picture(1),
        },
    ),
    Case(
        "FluxKontextPipeline",
        "edit",
        lambda: flux("FluxKontextPipeline", megapixel=True),
        lambda: {**EDIT, "image": picture(0, 64, 64), "max_area": 64 * 64},
    ),
    Case(
        "FluxKontextPipeline",
        "text to image",
        lambda: flux("FluxKontextPipeline", megapixel=True),
        lambda: {**EDIT, "max_area": 64 * 64},
    ),
    Case(
        "FluxKontextInpaintPipeline",
        "inpainting",
        lambda: flux("FluxKontextInpaintPipeline", megapixel=True),
        lambda: {**EDIT, "image": picture(0, 64, 64), "mask_image": mask(64, 64)},
        quirk="makes a megapixel, whatever the size of the picture",
    ),
    Case(
        "FluxKontextInpaintPipeline",
        "inpainting with a reference",
        lambda: flux("FluxKontextInpaintPipeline", megapixel=True),
        lambda: {
            **EDIT,
            "image": picture(0, 64, 64),
            "image_reference": picture(1, 64, 64),
            "mask_image": mask(64, 64),
        },
        quirk="makes a megapixel, whatever the size of the picture",
    ),
    Case(
        "FluxPriorReduxPipeline",
        "image to embeddings",
        redux,
        lambda: {"image": picture(), "prompt": "a red circle"},
    ),
]
