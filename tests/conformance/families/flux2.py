"""Flux.2, and Klein."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.pictures import mask, picture
from tests.conformance.parts.processors import vision_tokenizer
from tests.conformance.parts.texts import VOCABULARY
from tests.support.model_parts import qwen3_lm

TEXT = {
    "prompt": "a red circle",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
    "max_sequence_length": 512,  # bytes, with what the system is told
}


REDRAWN = {**TEXT, "height": 64, "width": 64, "num_inference_steps": 4, "strength": 0.7}


def vae(**config: Any) -> AutoencoderKLFlux2:
    """Factor 8, four latent channels, and statistics of the latents in buffers."""
    made = AutoencoderKLFlux2(
        **{
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (8, 8, 16, 16),
            "layers_per_block": 1,
            "latent_channels": 4,
            "norm_num_groups": 4,
            "sample_size": 32,
            **config,
        }
    )
    made.bn.running_mean.uniform_(-0.5, 0.5)
    made.bn.running_var.uniform_(0.5, 1.5)
    return made


def transformer(guidance: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=96,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )


def mistral3() -> hf.PreTrainedModel:
    """Deep enough for a pipeline that takes its 30th layer."""
    words = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 31,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": VOCABULARY,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = hf.Mistral3Config(
        text_config={"model_type": "mistral", **words},
        vision_config={"model_type": "pixtral", **vision},
        image_token_index=5,
    )
    return hf.Mistral3ForConditionalGeneration(config).eval()


def flux2(kind: str, guidance: bool = False, text_encoder: Any = None, **more: Any) -> Any:
    """A pipeline of that class."""
    return getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(),
        text_encoder=text_encoder or qwen3_lm(),
        tokenizer=vision_tokenizer(512),
        transformer=transformer(guidance),
        **more,
    )


def dev() -> Any:
    return flux2("Flux2Pipeline", guidance=True, text_encoder=mistral3())


def picture64(seed: int = 0) -> Any:
    """The smallest that it takes."""
    return picture(seed, 64, 64)


CASES = [
    Case("Flux2Pipeline", "text to image", dev, lambda: TEXT),
    Case("Flux2Pipeline", "edit", dev, lambda: {**TEXT, "image": picture64()}),
    Case(
        "Flux2Pipeline",
        "edit with two pictures",
        dev,
        lambda: {**TEXT, "image": [picture64(), picture64(1)]},
    ),
    Case(
        "Flux2KleinPipeline",
        "text to image",
        lambda: flux2("Flux2KleinPipeline"),
        lambda: {**TEXT, "guidance_scale": 3.0},
    ),
    Case(
        "Flux2KleinPipeline",
        "edit",
        lambda: flux2("Flux2KleinPipeline", is_distilled=True),
        lambda: {**TEXT, "image": picture64()},
    ),
    Case(
        "Flux2KleinKVPipeline",
        "text to image",
        lambda: flux2("Flux2KleinKVPipeline"),
        lambda: TEXT,
    ),
    Case(
        "Flux2KleinKVPipeline",
        "edit",
        lambda: flux2("Flux2KleinKVPipeline"),
        lambda: {**TEXT, "image": picture64()},
    ),
    Case(
        "Flux2KleinInpaintPipeline",
        "inpainting",
        lambda: flux2("Flux2KleinInpaintPipeline"),
        lambda: {
            **REDRAWN,
            "image": picture64(),
            "mask_image": mask(64, 64),
        },
    ),
    Case(
        "Flux2KleinInpaintPipeline",
        "inpainting with a reference",
        lambda: flux2("Flux2KleinInpaintPipeline"),
        lambda: {
            **REDRAWN,
            "image": picture64(),
            "image_reference": picture64(1),
            "mask_image": mask(64, 64),
        },
    ),
]
