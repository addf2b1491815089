"""Z-Image, its ControlNets, and Omni."""

from typing import Any

import diffusers
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.pictures import mask, picture
from tests.conformance.parts.visions import siglip2
from tests.conformance.parts.weights import awaken
from tests.support.model_parts import byte_tokenizer, qwen3, vae

TEXT = {
    "prompt": "a red circle",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
    "guidance_scale": 4.0,
}
REDRAWN = {**TEXT, "num_inference_steps": 4, "strength": 0.7}

_SHAPE = {"dim": 64, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}


def z_image(kind: str, siglip_feat_dim: int | None = None, **more: Any) -> Any:
    """A pipeline of that class."""
    transformer = ZImageTransformer2DModel(
        **_SHAPE,
        in_channels=4,
        n_layers=2,
        cap_feat_dim=32,
        siglip_feat_dim=siglip_feat_dim,
        axes_dims=[8, 12, 12],
        axes_lens=[512, 64, 64],
    )
    return getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0),
        vae=vae(shift_factor=0.1, scaling_factor=1.5, mid_block_add_attention=False),
        text_encoder=qwen3(),
        tokenizer=byte_tokenizer(2048),
        transformer=awaken(transformer),
        **more,
    )


def controlled(kind: str, channels: int) -> Any:
    """`channels`: of the latents that the ControlNet sees."""
    net = ZImageControlNetModel(
        **_SHAPE,
        control_layers_places=[0, 1],
        control_refiner_layers_places=[0],
        control_in_dim=channels,
        add_control_noise_refiner="control_noise_refiner",
    )
    return z_image(kind, controlnet=awaken(net))


CASES = [
    Case("ZImagePipeline", "text to image", lambda: z_image("ZImagePipeline"), lambda: TEXT),
    Case(
        "ZImageImg2ImgPipeline",
        "image to image",
        lambda: z_image("ZImageImg2ImgPipeline"),
        lambda: {**REDRAWN, "image": picture()},
    ),
    Case(
        "ZImageInpaintPipeline",
        "inpainting",
        lambda: z_image("ZImageInpaintPipeline"),
        lambda: {**REDRAWN, "image": picture(), "mask_image": mask()},
    ),
    Case(
        "ZImageControlNetPipeline",
        "control image",
        lambda: controlled("ZImageControlNetPipeline", 4),
        lambda: {**TEXT, "control_image": picture(1)},
    ),
    Case(
        "ZImageControlNetInpaintPipeline",
        "inpainting with a control image",
        # latents of the control image, the mask, and latents of the picture
        lambda: controlled("ZImageControlNetInpaintPipeline", 4 + 1 + 4),
        lambda: {
            **TEXT,
            "image": picture(),
            "mask_image": mask(),
            "control_image": picture(1),
        },
    ),
    Case(
        "ZImageOmniPipeline",
        "text to image",
        lambda: z_image("ZImageOmniPipeline", 16, **siglip2()),
        lambda: TEXT,
        quirk="with pictures it runs in bfloat16 only: diffusers casts them to that, whatever the "
        "dtype of the VAE is",
    ),
]
