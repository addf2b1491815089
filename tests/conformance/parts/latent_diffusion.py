"""Parts of the Stable Diffusions: SD 1 and 2, SDXL, and whatever is made of them."""

from typing import Any

import transformers as hf
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

from tests.support.model_parts import SD_BETAS, clip, clip_tokenizer, unet, vae

# the UNet of SDXL, beside what `unet` makes of itself
XL = {
    "cross_attention_dim": 64,
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "transformer_layers_per_block": (1, 2),
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}


def sd(**config: Any) -> dict[str, Any]:
    """Parts of Stable Diffusion; `config` is the UNet's."""
    return {
        "vae": vae(),
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
        "unet": unet(**{"cross_attention_dim": 32, **config}),
        "scheduler": DDIMScheduler(clip_sample=False, **SD_BETAS),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
        "requires_safety_checker": False,
    }


def checked() -> dict[str, Any]:
    """Stable Diffusion with the checker that looks at the pictures once they are made."""
    vision = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 37}
    config = hf.CLIPConfig(
        vision_config={**vision, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    return {**sd(), "safety_checker": checker, "feature_extractor": clip_pictures()}


def sdxl(**config: Any) -> dict[str, Any]:
    """Parts of SDXL; `config` is the UNet's."""
    return {
        "vae": vae(),
        "text_encoder": clip(),
        "text_encoder_2": clip(projected=True),
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": clip_tokenizer(),
        "unet": unet(**{**XL, **config}),
        "scheduler": EulerDiscreteScheduler(timestep_spacing="leading", **SD_BETAS),
        "add_watermarker": False,
    }


def controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """One that fits the UNet, with zero convolutions that are not zero."""
    made = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=(8, 8, 16, 16), load_weights_from_unet=False
    )
    return awake(made)


def awake(model: Any) -> Any:
    """Draws again what is zero until it is trained, so that it tells in the pictures."""
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data.normal_(std=0.1)
    return model


def clip_vision(projection: int = 32, side: int = 32) -> hf.PreTrainedModel:
    config = hf.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        projection_dim=projection,
        num_attention_heads=4,
        num_hidden_layers=2,
        image_size=side,
        patch_size=side // 4,
    )
    return hf.CLIPVisionModelWithProjection(config).eval()


def clip_pictures(side: int = 32) -> hf.CLIPImageProcessor:
    return hf.CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
