"""Models that make pictures."""

from collections.abc import Mapping
from typing import Any

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler

from benchmarks.hops import autoencoders, texts
from benchmarks.hops.family import Family
from benchmarks.hops.hollow import model
from benchmarks.hops.words import seeing, words

SQUARE = {"width": 1024, "height": 1024}
ASKED = "1024x1024"
DEFAULTS = "the defaults of its class in diffusers"
PUBLISHED = "its published config.json"
SCRIPT = "its conversion script in diffusers"
MEGAPIXEL = {"image": (1024, 1024)}


def _flow(**config: Any) -> Any:
    return FlowMatchEulerDiscreteScheduler(**config)


def _shifting() -> Any:
    return _flow(use_dynamic_shifting=True)


def _sd15() -> Mapping[str, Any]:
    unet = model(diffusers.UNet2DConditionModel, sample_size=64, cross_attention_dim=768)
    return {
        **texts.with_clip(),
        "unet": unet,
        "vae": autoencoders.kl(4, sample_size=512),
        "scheduler": diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
    }


def _sdxl() -> Mapping[str, Any]:
    unet = model(
        diffusers.UNet2DConditionModel,
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return {
        **texts.with_clip(),
        "text_encoder_2": texts.clip_g(),
        "tokenizer_2": words(texts.CLIP_TOKENS),
        "unet": unet,
        "vae": autoencoders.kl(4, sample_size=1024, scaling_factor=0.13025),
        "scheduler": diffusers.EulerDiscreteScheduler(steps_offset=1),
    }


def _sd35() -> Mapping[str, Any]:
    transformer = model(
        diffusers.SD3Transformer2DModel,
        num_layers=38,
        num_attention_heads=38,
        caption_projection_dim=2432,
        pos_embed_max_size=192,
        qk_norm="rms_norm",
    )
    return {
        **texts.with_clip(projected=True),
        "text_encoder_2": texts.clip_g(),
        "tokenizer_2": words(texts.CLIP_TOKENS),
        **texts.with_t5("_3"),
        "transformer": transformer,
        "vae": autoencoders.kl(16, sample_size=1024, scaling_factor=1.5305, shift_factor=0.0609),
        "scheduler": _flow(shift=3.0),
    }


def _flux() -> Mapping[str, Any]:
    return {
        **texts.with_clip(),
        **texts.with_t5("_2"),
        "transformer": model(diffusers.FluxTransformer2DModel, guidance_embeds=True),
        "vae": autoencoders.flux(),
        "scheduler": _shifting(),
    }


def _flux2_dev() -> Mapping[str, Any]:
    return {
        "text_encoder": texts.mistral(),
        "tokenizer": words(512),
        "transformer": model(diffusers.Flux2Transformer2DModel),
        "vae": model(diffusers.AutoencoderKLFlux2),
        "scheduler": _shifting(),
    }


def _klein() -> Mapping[str, Any]:
    transformer = model(
        diffusers.Flux2Transformer2DModel,
        num_layers=5,
        num_single_layers=20,
        num_attention_heads=24,
        joint_attention_dim=7680,
        guidance_embeds=False,
    )
    return {
        "text_encoder": texts.qwen3("4B", headed=True),
        "tokenizer": words(512),
        "transformer": transformer,
        "vae": model(diffusers.AutoencoderKLFlux2),
        "scheduler": _shifting(),
        "is_distilled": True,
    }


def _qwen() -> dict[str, Any]:
    return {
        **texts.with_qwen_vl(),
        "transformer": model(diffusers.QwenImageTransformer2DModel),
        "vae": model(diffusers.AutoencoderKLQwenImage),
        "scheduler": _shifting(),
    }


def _qwen_edit() -> Mapping[str, Any]:
    return {**_qwen(), "processor": seeing("Qwen2VLProcessor")}


def _z_image() -> Mapping[str, Any]:
    return {
        "text_encoder": texts.qwen3("4B"),
        "tokenizer": words(32768),
        "transformer": model(diffusers.ZImageTransformer2DModel),
        "vae": autoencoders.flux(),
        "scheduler": _flow(shift=3.0),
    }


def _pixart() -> Mapping[str, Any]:
    transformer = model(
        diffusers.PixArtTransformer2DModel,
        caption_channels=4096,
        interpolation_scale=2,
        use_additional_conditions=False,
    )
    return {
        **texts.with_t5(),
        "transformer": transformer,
        "vae": autoencoders.kl(4, sample_size=1024, scaling_factor=0.13025),
        "scheduler": diffusers.DPMSolverMultistepScheduler(),
    }


def _sana() -> Mapping[str, Any]:
    return {
        "text_encoder": texts.gemma2(),
        "tokenizer": words(300),
        "transformer": model(diffusers.SanaTransformer2DModel),
        "vae": autoencoders.deep(),
        "scheduler": diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


FAMILIES = [
    Family(
        "Stable Diffusion 1.5",
        "StableDiffusionPipeline",
        _sd15,
        {"width": 512, "height": 512},
        "512x512",
        PUBLISHED,
    ),
    Family("SDXL", "StableDiffusionXLPipeline", _sdxl, SQUARE, ASKED, PUBLISHED),
    Family(
        "Stable Diffusion 3.5 Large", "StableDiffusion3Pipeline", _sd35, SQUARE, ASKED, PUBLISHED
    ),
    Family("Flux.1 dev", "FluxPipeline", _flux, SQUARE, ASKED, DEFAULTS),
    Family(
        "Flux.1 Kontext dev",
        "FluxKontextPipeline",
        _flux,
        SQUARE,
        f"{ASKED} from a picture",
        DEFAULTS,
        MEGAPIXEL,
    ),
    Family("Flux.2 dev", "Flux2Pipeline", _flux2_dev, SQUARE, ASKED, DEFAULTS),
    Family("Flux.2 klein 4B", "Flux2KleinPipeline", _klein, SQUARE, ASKED, SCRIPT),
    Family(
        "Qwen-Image",
        "QwenImagePipeline",
        _qwen,
        {**SQUARE, "negative_prompt": " "},
        ASKED,
        DEFAULTS,
    ),
    Family(
        "Qwen-Image-Edit",
        "QwenImageEditPipeline",
        _qwen_edit,
        {**SQUARE, "negative_prompt": " "},
        f"{ASKED} from a picture",
        DEFAULTS,
        MEGAPIXEL,
    ),
    Family("Z-Image", "ZImagePipeline", _z_image, SQUARE, ASKED, DEFAULTS),
    Family("PixArt-Sigma XL", "PixArtSigmaPipeline", _pixart, SQUARE, ASKED, PUBLISHED),
    Family("Sana 1.6B", "SanaPipeline", _sana, SQUARE, ASKED, DEFAULTS),
]
