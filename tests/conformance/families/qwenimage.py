"""Qwen-Image, its ControlNets, its editing, its layers, and Qwen-Image 2.1."""

from typing import Any

import diffusers
from diffusers import (
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Transformer2DModel,
    QwenImageControlNetModel,
    QwenImageTransformer2DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.pictures import mask, picture
from tests.conformance.parts.processors import qwen_processor, vision_tokenizer
from tests.conformance.parts.texts import qwen2_5_vl, qwen3_vl
from tests.conformance.parts.weights import awaken

TEXT = {
    "prompt": "a red circle",
    "negative_prompt": "blue",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}
REDRAWN = {**TEXT, "num_inference_steps": 4, "strength": 0.7}
EDIT = {**TEXT, "height": 64, "width": 64, "num_inference_steps": 2}

_SHAPE: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "axes_dims_rope": (8, 4, 4),
}


def statistics(channels: int) -> dict[str, list[float]]:
    """Of latents with so many channels."""
    return {
        "latents_mean": [0.1 * n for n in range(channels)],
        "latents_std": [1 + 0.25 * n for n in range(channels)],
    }


def vae(halvings: int = 3, channels: int = 4, **config: Any) -> AutoencoderKLQwenImage:
    """Factor 2 for each halving; `channels`: of latents."""
    return AutoencoderKLQwenImage(
        base_dim=4 if halvings < 5 else 2,  # cheap for a megapixel
        z_dim=channels,
        dim_mult=[1] * halvings + [2],
        num_res_blocks=1,
        temperal_downsample=[False] * (halvings - 2) + [True, True],
        **statistics(channels),
        **config,
    )


def qwenimage(kind: str, config: Any = (), **more: Any) -> Any:
    """A pipeline of that class. `config`: of the transformer."""
    parts = {"vae": vae(), **more}
    return getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=qwen2_5_vl(),
        tokenizer=vision_tokenizer(2048),
        transformer=QwenImageTransformer2DModel(**{**_SHAPE, **dict(config)}, num_layers=2),
        **parts,
    )


def controlled(kind: str, **config: Any) -> Any:
    net = QwenImageControlNetModel(**_SHAPE, num_layers=1, **config)
    return qwenimage(kind, controlnet=awaken(net))


def editing(kind: str, config: Any = (), **more: Any) -> Any:
    """With a VAE of factor 32, for pictures of a megapixel are encoded."""
    processor = qwen_processor("Qwen2VLProcessor")
    return qwenimage(kind, config, **{"vae": vae(5), "processor": processor, **more})


def layered() -> Any:
    """Pictures have four channels, of which one is transparency; latents may not have as many, or
    diffusers takes the one for the other."""
    config = {
        "in_channels": 24,
        "out_channels": 6,
        "use_additional_t_cond": True,
        "use_layer3d_rope": True,
    }
    return editing("QwenImageLayeredPipeline", config, vae=vae(5, 6, input_channels=4))


def qwenimage21() -> Any:
    vae = AutoencoderKLQwenImage21(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True, True],
        **statistics(4),
    )
    transformer = QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    return diffusers.QwenImage21Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        # four latents lie on each token of a picture
        text_encoder=qwen3_vl(patch=16),
        processor=qwen_processor("Qwen3VLProcessor", patch=16),
        transformer=transformer,
    )


CASES = [
    Case(
        "QwenImagePipeline", "text to image", lambda: qwenimage("QwenImagePipeline"), lambda: TEXT
    ),
    Case(
        "QwenImageImg2ImgPipeline",
        "image to image",
        lambda: qwenimage("QwenImageImg2ImgPipeline"),
        lambda: {**REDRAWN, "image": picture()},
    ),
    Case(
        "QwenImageInpaintPipeline",
        "inpainting",
        lambda: qwenimage("QwenImageInpaintPipeline"),
        lambda: {**REDRAWN, "image": picture(), "mask_image": mask()},
    ),
    Case(
        "QwenImageControlNetPipeline",
        "control image",
        lambda: controlled("QwenImageControlNetPipeline"),
        lambda: {**TEXT, "control_image": picture(1)},
    ),
    Case(
        "QwenImageControlNetInpaintPipeline",
        "inpainting",
        # besides the latents of the picture, the mask, of which four make a token
        lambda: controlled("QwenImageControlNetInpaintPipeline", extra_condition_channels=4),
        lambda: {**TEXT, "control_image": picture(), "control_mask": mask()},
    ),
    Case(
        "QwenImageEditPipeline",
        "edit",
        lambda: editing("QwenImageEditPipeline"),
        lambda: {**EDIT, "image": picture()},
    ),
    Case(
        "QwenImageEditPlusPipeline",
        "edit with one picture",
        lambda: editing("QwenImageEditPlusPipeline"),
        lambda: {**EDIT, "image": picture()},
    ),
    Case(
        "QwenImageEditPlusPipeline",
        "edit with two pictures",
        lambda: editing("QwenImageEditPlusPipeline"),
        lambda: {**EDIT, "image": [picture(), picture(1, 48, 32)]},
    ),
    Case(
        "QwenImageEditInpaintPipeline",
        "inpainting",
        lambda: editing("QwenImageEditInpaintPipeline"),
        lambda: {
            "prompt": "make it red",
            "num_inference_steps": 2,
            "strength": 0.9,
            "image": picture(),
            "mask_image": mask(),
        },
        quirk="makes a megapixel, whatever the size of the picture",
    ),
    Case(
        "QwenImageLayeredPipeline",
        "image to layers",
        layered,
        lambda: {
            "prompt": "a red circle",
            "num_inference_steps": 2,
            "image": picture().convert("RGBA"),
            "layers": 2,
        },
    ),
    Case("QwenImage21Pipeline", "text to image", qwenimage21, lambda: TEXT),
    Case(
        "QwenImage21Pipeline",
        "edit",
        qwenimage21,
        lambda: {**TEXT, "image": picture(), "output_resolution": 32},
    ),
]
